"""Job ids and lease tokens. Seedable, so that a test or a simulation repeats itself.

Job ids are UUIDs of version 7 (RFC 9562, section 5.7) with the 12-bit counter of its section 6.2, method 1: they sort
by time, and those of one millisecond in order of creation. Lease tokens carry 128 random bits: they fence other
workers out, so they must not be guessable (RFC 9562 says the same of no UUID, which is why a token is none).
"""

from __future__ import annotations

import os
from collections.abc import Callable

_POOL_BYTES = 4_096
"""Random bytes are asked for in this many at once: one system call serves about 200 tokens."""

_COUNTER_MAX = 0xFFF

_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}
"""The variant's two bits are 10; the two below them are random."""


class Ids:
    """Makes ids and tokens from `entropy`, a function from a number of bytes to that many random bytes."""

    def __init__(self, entropy: Callable[[int], bytes] = os.urandom) -> None:
        self._entropy = entropy
        self._pool = ""
        self._at = 0
        self._last_ms = -1
        self._counter = 0
        self._head = ""

    def _take(self, digits: int) -> str:
        """So many random hexadecimal digits."""
        at = self._at
        end = at + digits
        if end > len(self._pool):
            self._pool = self._entropy(_POOL_BYTES).hex()
            at, end = 0, digits
        self._at = end
        return self._pool[at:end]

    def token(self) -> str:
        """A lease token: 32 hexadecimal digits, 128 random bits."""
        return self._take(32)

    def job_id(self, now: float) -> str:
        """A UUIDv7 for engine time `now` (seconds); greater than every one made before it."""
        ms = int(now * 1_000)
        if ms > self._last_ms:
            # The counter's top bit starts at 0, so that at least 2,048 ids of one millisecond stay in order.
            self._begin(ms, int(self._take(2), 16) << 3)
        elif self._counter == _COUNTER_MAX:
            self._begin(self._last_ms + 1, 0)
        else:
            self._counter += 1
        tail = self._take(16)
        return f"{self._head}{self._counter:03x}-{_VARIANT[tail[0]]}{tail[1:4]}-{tail[4:]}"

    def _begin(self, ms: int, counter: int) -> None:
        """Start on another millisecond."""
        self._last_ms = ms
        self._counter = counter
        self._head = f"{ms >> 16:08x}-{ms & 0xFFFF:04x}-7"
