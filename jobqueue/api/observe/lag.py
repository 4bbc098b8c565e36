"""How late the event loop is, which adds to the time of every request."""

from __future__ import annotations

import asyncio
import time

from jobqueue.histogram import Histogram

LAG_EVERY_SECONDS = 1.0
"""How often to measure: rarely enough to cost an idle server nothing measurable."""


class LagMeter:
    """Sets a timer repeatedly and measures how late it fires. lags: where to record it, in seconds. Needs a running loop."""

    def __init__(self, lags: Histogram, every_seconds: float = LAG_EVERY_SECONDS) -> None:
        self._lags = lags
        self._every = every_seconds
        self._loop = asyncio.get_running_loop()
        self._set()

    def _set(self) -> None:
        # Not loop.time(): in uvloop that does not advance during a turn.
        self._due = time.perf_counter() + self._every
        self._timer = self._loop.call_later(self._every, self._ring)

    def _ring(self) -> None:
        self._lags.observe(time.perf_counter() - self._due)
        self._set()

    def close(self) -> None:
        """Stop measuring."""
        self._timer.cancel()
