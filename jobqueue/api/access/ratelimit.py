"""How often somebody may ask: a token bucket for each, and the headers that tell how full it is.

A bucket is one float: the time at which it will be full again. Taking a request out puts that time further ahead by the seconds that one
request takes to flow back; when it would lie further ahead than the whole bucket takes to fill, the bucket is empty. A bucket whose time
has passed is full, which is what a new one is, so it need not be kept.

Headers: draft-ietf-httpapi-ratelimit-headers. RateLimit-Policy tells the bucket's size (q) and how many seconds it takes to fill (w),
RateLimit what is left (r) and in how many seconds it will be full again (t).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import NamedTuple

from jobqueue.errors import RateLimited

BUCKETS_MAX = 10_000
"""Buckets kept that are not full, about 150 bytes each."""

_SLACK = 1e-6
"""Seconds by which sums of floats may be off."""


class Rate(NamedTuple):
    """That many requests in `seconds` on average, and up to `burst` at once."""

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
        self._policy = b'RateLimit-Policy: "requests";q=%d;w=%d\r\n' % (rate.burst, math.ceil(self._whole - _SLACK))
        self._said = f"{rate.requests} requests in {rate.seconds:g} s, {rate.burst} at once"

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, key: str) -> tuple[bytes, RateLimited | None]:
        """Take one request out of a bucket: header lines for the answer, and the error if it was empty."""
        now = self._clock()
        full_at = max(self._full_at.get(key, now), now)
        ahead = full_at + self._each - now
        if ahead > self._whole + _SLACK:
            wait = ahead - self._whole
            lines = b'%bRateLimit: "requests";r=0;t=%d\r\n' % (self._policy, math.ceil(full_at - now - _SLACK))
            return lines, RateLimited(f"too many requests; {self._said}, are allowed", max(1, math.ceil(wait - _SLACK)))
        if len(self._full_at) >= BUCKETS_MAX and key not in self._full_at:
            self._forget(now)
        self._full_at[key] = now + ahead
        left = int((self._whole - ahead + _SLACK) / self._each)
        return b'%bRateLimit: "requests";r=%d;t=%d\r\n' % (self._policy, left, math.ceil(ahead - _SLACK)), None

    def _forget(self, now: float) -> None:
        """Make room: full buckets first, then the half that was made first.

        Whose bucket goes before it is full has a full one again. The alternative would be to refuse newcomers, which would let a crowd of
        addresses lock out everybody else.
        """
        kept = [(key, full_at) for key, full_at in self._full_at.items() if full_at > now]
        self._full_at = dict(kept if len(kept) < BUCKETS_MAX else kept[len(kept) // 2 :])
