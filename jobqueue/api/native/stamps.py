"""Times in the native API's format."""

from __future__ import annotations

import time
from math import floor

_THOUSANDTHS = [f".{ms:03d}Z" for ms in range(1_000)]
_seconds: dict[int, str] = {}
_milliseconds: dict[int, str] = {}
_stamps: dict[float, str] = {}
"""The most recent ones: the jobs of a batch have most of their times in common, and a busy server sends many answers in a millisecond."""


def stamp(at: float) -> str:
    """RFC 3339 in UTC with milliseconds, rounded down."""
    known = _stamps.get(at)
    if known is not None:
        return known
    if len(_stamps) > 100:
        _stamps.clear()
    # The microsecond compensates for float rounding: 2**31 + 0.002 is stored as a slightly smaller number.
    total_ms = floor(at * 1_000 + 0.001)
    made = _stamps[at] = _milliseconds.get(total_ms) or _written(total_ms)
    return made


def _written(total_ms: int) -> str:
    second, ms = divmod(total_ms, 1_000)
    text = _seconds.get(second)
    if text is None:
        if len(_seconds) > 1_000:
            _seconds.clear()
        text = _seconds[second] = "{:04d}-{:02d}-{:02d}T{:02d}:{:02d}:{:02d}".format(*time.gmtime(second)[:6])
    if len(_milliseconds) > 100:
        _milliseconds.clear()
    made = _milliseconds[total_ms] = text + _THOUSANDTHS[ms]
    return made


def stamp_or_none(at: float | None) -> str | None:
    """The same for a time that can be None."""
    return None if at is None else stamp(at)
