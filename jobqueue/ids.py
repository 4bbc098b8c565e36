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


class Ids:
    """Makes ids and tokens from `entropy`, a function from a number of bytes to that many random bytes."""

    def __init__(self, entropy: Callable[[int], bytes] = os.urandom) -> None:
        self._entropy = entropy
        self._pool = b""
        self._at = 0
        self._last_ms = 0
        self._counter = 0

    def _take(self, count: int) -> bytes:
        end = self._at + count
        if end > len(self._pool):
            self._pool = self._entropy(_POOL_BYTES)
            self._at, end = 0, count
        taken = self._pool[self._at : end]
        self._at = end
        return taken

    def token(self) -> str:
        """A lease token: 32 hexadecimal digits, 128 random bits."""
        return self._take(16).hex()

    def job_id(self, now: float) -> str:
        """A UUIDv7 for engine time `now` (seconds); greater than every one made before it."""
        ms = int(now * 1_000)
        random = self._take(9)
        if ms > self._last_ms:
            self._last_ms = ms
            # The top bit starts at 0, so that at least 2,048 ids of one millisecond stay in order.
            self._counter = random[8] << 3
        else:
            self._counter += 1
            if self._counter > _COUNTER_MAX:
                self._last_ms += 1
                self._counter = 0
        tail = random[:8].hex()
        variant = "89ab"[random[0] & 3]
        time = f"{self._last_ms:012x}"
        return f"{time[:8]}-{time[8:]}-7{self._counter:03x}-{variant}{tail[1:4]}-{tail[4:]}"
