"""What a server remembers of a partition that changes hands as planned, and how it finds out that a server is dead."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable

from jobqueue.clock import Clock

GIVE_SECONDS = 2.0
"""How long a server does not claim what it has given to another one, which then has it, or has failed."""

PROBE_SECONDS = 1.0

Probe = Callable[[str], Awaitable[bool]]
"""Whether the peer port of an address refuses connections. False if it does not answer."""


class Gift:
    """heir: the server that this reign is given to, once that is agreed. granted: the epoch of the owner that has given the partition to
    this server; 0 if none has.
    """

    def __init__(self, clock: Clock) -> None:
        self.heir: str | None = None
        self.granted = 0
        self._clock = clock
        self._given = 0
        self._until = -math.inf

    def given(self, epoch: int) -> None:
        """The reign of this epoch has ended, and its heir can claim."""
        self._given, self._until = epoch, self._clock.now() + GIVE_SECONDS

    def was_given(self, epoch: int) -> bool:
        """Whether the reign of this epoch was given away."""
        return epoch == self._given

    def waits(self, epoch: int) -> bool:
        """Whether the heir of this epoch still has time to claim."""
        return epoch == self._given and self._clock.now() < self._until


async def refuses(address: str) -> bool:
    """Whether the machine reports that nobody listens at `host:port`. A time-out proves nothing."""
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    except ConnectionRefusedError:
        return True
    except (OSError, TimeoutError, ValueError):
        return False
    writer.close()
    return False
