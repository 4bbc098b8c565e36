"""How late the event loop is: what every request waits for beside its own work."""

from __future__ import annotations

import asyncio
import time

from jobqueue.histogram import Histogram

LAG_EVERY_SECONDS = 1.0
"""How often to look: seldom enough to cost an idle server nothing that could be measured."""


class LagMeter:
    """Sets a timer again and again and counts how late each rings. lags: where to count, in seconds. Wants a running loop."""

    def __init__(self, lags: Histogram, every_seconds: float = LAG_EVERY_SECONDS) -> None:
        self._lags = lags
        self._every = every_seconds
        self._loop = asyncio.get_running_loop()
        self._set()

    def _set(self) -> None:
        # Not loop.time(): uvloop's stands still while a turn lasts.
        self._due = time.perf_counter() + self._every
        self._timer = self._loop.call_later(self._every, self._ring)

    def _ring(self) -> None:
        self._lags.observe(time.perf_counter() - self._due)
        self._set()

    def close(self) -> None:
        """Stop looking."""
        self._timer.cancel()
