"""Rate limits: a token bucket for each client, and the headers that report how full it is.

A bucket is one float: the time at which it will be full again. Taking a request out moves that time ahead by the seconds that one request
takes to flow back; if the time would then be further ahead than a whole bucket takes to fill, the bucket is empty. A bucket whose time has
passed is full, like a new one, so it need not be kept.

Headers: draft-ietf-httpapi-ratelimit-headers. RateLimit-Policy has the bucket's size (q) and the seconds it takes to fill (w), RateLimit
what is left (r) and the seconds until it is full again (t).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import NamedTuple

from jobqueue.errors import RateLimited

BUCKETS_MAX = 10_000
"""The number of buckets kept that are not full, about 150 bytes each."""

_SLACK = 1e-6
"""Tolerance for the rounding of sums of floats, in seconds."""


class Rate(NamedTuple):
    """This many requests in `seconds` on average, and up to `burst` at once."""

    requests: int
    seconds: float
    burst: int


class Limiter:
    """One bucket for each key. clock: seconds of a monotonic clock."""

    def __init__(self, rate: Rate, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._each = rate.seconds / rate.requests
        self._whole = self._each * rate.burst
        self._full_at: dict[str, float] = {}
        policy = b'RateLimit-Policy: "requests";q=%d;w=%d\r\n' % (rate.burst, math.ceil(self._whole - _SLACK))
        self._lines = policy + b'RateLimit: "requests";r='
        """The header lines up to the number of requests left."""
        self._said = f"{rate.requests} requests in {rate.seconds:g} s, {rate.burst} at once"

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, key: str) -> tuple[bytes, RateLimited | None]:
        """Take one request out of a bucket: header lines for the answer, and the error if it was empty."""
        now = self._clock()
        full_at = self._full_at.get(key, now)
        if full_at < now:  # noqa: PLR1730 # a third of the cost of max()
            full_at = now
        ahead = full_at + self._each - now
        if ahead > self._whole + _SLACK:
            wait = ahead - self._whole
            lines = b"%b0;t=%d\r\n" % (self._lines, math.ceil(full_at - now - _SLACK))
            return lines, RateLimited(f"too many requests; {self._said}, are allowed", max(1, math.ceil(wait - _SLACK)))
        if len(self._full_at) >= BUCKETS_MAX and key not in self._full_at:
            self._forget(now)
        self._full_at[key] = now + ahead
        left = int((self._whole - ahead + _SLACK) / self._each)
        return b"%b%d;t=%d\r\n" % (self._lines, left, math.ceil(ahead - _SLACK)), None

    def _forget(self, now: float) -> None:
        """Make room: remove full buckets first, then the older half.

        A client whose bucket is removed before it is full has a full one again. The alternative, to refuse new clients, would let a large
        number of addresses lock out everybody else.
        """
        kept = [(key, full_at) for key, full_at in self._full_at.items() if full_at > now]
        self._full_at = dict(kept if len(kept) < BUCKETS_MAX else kept[len(kept) // 2 :])
