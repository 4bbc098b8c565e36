"""Job ids and lease tokens. The source of randomness can be seeded, so that a test or a simulation is repeatable.

Job ids are UUIDs of version 7 (RFC 9562, section 5.7) with the 12-bit counter of its section 6.2, method 1: they sort by time, and within a
millisecond by order of creation. Lease tokens have 128 random bits: they keep other workers out, so they must not be guessable (RFC 9562
says that UUIDs must not be assumed to be, so tokens are not UUIDs).
"""

from __future__ import annotations

import os
from collections.abc import Callable

from jobqueue.partition import ALONE, NODE_MASK, Place

_POOL = 256
"""For how many ids, or half as many tokens, random bytes are requested and converted to text at once, in C."""

_COUNTER_MAX = 0xFFF

_DIGITS = "0123456789abcdef"
_BYTES = [f"{byte:02x}" for byte in range(256)]

_CLEAR = int.from_bytes(b"\x3f\xff" * _POOL)
_VARIANT = int.from_bytes(b"\x80\x00" * _POOL)
"""The two variant bits are 10; the fourteen bits after them, and the 48 node bits, are random. With several partitions, the remainder of
the fourteen names the partition (partition.py)."""


class Ids:
    """Makes ids and tokens from `entropy`, a function that returns a given number of random bytes. place: the partition that is to be the
    home of the ids."""

    def __init__(self, entropy: Callable[[int], bytes] = os.urandom, place: Place = ALONE) -> None:
        self._entropy = entropy
        self.place = place
        self._tokens: list[str] = []
        self._starts = bytearray()
        self._variants: list[str] = []
        self._nodes: list[str] = []
        self._last_ms = -1
        self._counter = 0
        self._head = ""

    def token(self) -> str:
        """A new lease token: 32 hexadecimal digits, 128 random bits."""
        if not self._tokens:
            self._tokens = self._entropy(8 * _POOL).hex("-", 16).split("-")
            self._tokens.reverse()
        return self._tokens.pop()

    def job_id(self, now: float) -> str:
        """A UUIDv7 for engine time `now` (seconds); greater than all previous ones."""
        if not self._nodes:
            self._fill()
        ms = int(now * 1_000)
        if ms > self._last_ms:
            # The counter's top bit starts at 0, so that at least 2,048 ids within a millisecond stay in order.
            self._begin(ms, self._starts.pop() << 3)
        elif self._counter == _COUNTER_MAX:
            self._begin(self._last_ms + 1, 0)
        else:
            self._counter += 1
        counter = self._counter
        return f"{self._head}{_BYTES[counter >> 4]}{_DIGITS[counter & 15]}-{self._variants.pop()}-{self._nodes.pop()}"

    def _fill(self) -> None:
        """The random parts of the next ids, with the variant bits set in all of them at once."""
        self._starts = bytearray(self._entropy(_POOL))
        bits = int.from_bytes(self._entropy(2 * _POOL)) & _CLEAR | _VARIANT
        self._variants = bits.to_bytes(2 * _POOL).hex("-", 2).split("-")
        if self.place.count > 1:
            self._variants = [_placed(int(variant, 16), self.place) for variant in self._variants]
        self._nodes = self._entropy(6 * _POOL).hex("-", 6).split("-")

    def _begin(self, ms: int, counter: int) -> None:
        """Start the next millisecond."""
        self._last_ms = ms
        self._counter = counter
        self._head = f"{ms >> 16:08x}-{ms & 0xFFFF:04x}-7"


def _placed(variant: int, place: Place) -> str:
    """The variant and the bits after it, with other bits near them that name the partition."""
    bits = variant & NODE_MASK
    bits += place.index - bits % place.count
    if bits > NODE_MASK:
        bits -= place.count
    return f"{bits | 0x8000:04x}"
