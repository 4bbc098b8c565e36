"""Logs requests that were refused because their token is missing or unknown. Rarely, so that guessing tokens does not fill the disk."""

from __future__ import annotations

import logging
from collections.abc import Callable

from jobqueue.errors import Unauthorized

_logger = logging.getLogger("jobqueue.api")

PAUSE_SECONDS = 10.0
"""The least time between two lines. Requests refused in between are counted in the next line."""


class Unknown:
    """Requests that were answered 401. clock: seconds of a monotonic clock."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._next = 0.0
        self._unsaid = 0

    def note(self, address: str, error: Unauthorized) -> None:
        """Record a request that was refused."""
        now = self._clock()
        if now < self._next:
            self._unsaid += 1
            return
        self._next = now + PAUSE_SECONDS
        more = f"; {self._unsaid} more were refused since the last line" if self._unsaid else ""
        self._unsaid = 0
        _logger.info("refused a request from %s: %s%s", address or "a Unix socket", error, more)
