"""What a server needs of a store: to be the only one that writes, to have its rows back, and to find the other servers.

Whoever claims gets an epoch, a number that grows with each claim. The store itself refuses a write under any epoch but the last, so a
server that is no longer the owner acknowledges nothing, whatever its clock says. The lease, in seconds, only says when another may claim
without being asked to; the store's own clock counts it.

Every method has a deadline of its own and raises NotNow when it passes, when the connection breaks, or when the store says that it
cannot now; a method that changes something may have been carried out then. None of them repeats by itself what may have been done.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple, Protocol

from jobqueue.backend.group import Fatal, Group, Writer
from jobqueue.backend.loading import LooseRows, Rows


class Fenced(Fatal):
    """Another server has claimed since: what was asked under the old epoch was refused and changed nothing."""


class Owner(NamedTuple):
    """Who owns the queue. seconds: what is left of its lease by the store's clock, negative when it has passed."""

    name: str
    address: str
    epoch: int
    seconds: float


class Member(NamedTuple):
    """A server on the store. seconds: since it last said that it is there, by the store's clock."""

    name: str
    address: str
    seconds: float


class Whole(NamedTuple):
    """What a store held at one moment beside its jobs. jobs: how many there were."""

    counters: bytes | None
    queues: dict[str, bytes]
    jobs: int


class Standing(NamedTuple):
    """Which group a store took last, by its row of counters; and how many jobs it has, None where counting them takes long."""

    counters: bytes | None
    jobs: int | None


class Store(Protocol):
    """One queue's place in a store."""

    @property
    def path(self) -> str:
        """What it is called in messages and /stats: its URL without a password."""

    async def open(self) -> None:
        """Connect, check version, settings and rights, and bring what we install there up to date. Raises CannotOpen, NotNow."""

    async def claim(self, name: str, address: str, seconds: float, force: bool = False) -> Owner:
        """Own the queue if nobody does, the owner's lease has passed, `name` is the owner already (under a new epoch), or by `force`.

        force: the owner is known to be dead, or agreed. The answer is who owns it now: `name` if the claim was granted. Raises NotNow.
        """

    async def owner(self) -> Owner | None:
        """Who owns it; None while nobody ever did or the last one released it. Raises NotNow."""

    async def renew(self, epoch: int, seconds: float) -> None:
        """Hold it for `seconds` from now. Every commit does this too. Raises Fenced, NotNow."""

    async def release(self, epoch: int) -> None:
        """Let anybody claim at once. Raises Fenced, NotNow."""

    async def rows(self, epoch: int) -> Rows:
        """All rows, read into memory, as they are for the owner of this epoch. Raises Fenced, NotNow, CannotOpen."""

    async def standing(self, epoch: int) -> Standing:
        """Where it stands, for the owner of this epoch, at once. Raises Fenced, NotNow, CannotOpen."""

    async def beside(self) -> LooseRows:
        """All rows, read into memory while another server goes on writing, which need not wait for it. Raises NotNow, CannotOpen."""

    async def counters(self) -> bytes | None:
        """The row of counters as it is now, whoever owns the queue; None in a new store. Raises NotNow, CannotOpen."""

    async def moment(self, apply: Callable[[Group], Awaitable[object]]) -> Whole:
        """All rows as they were at one moment after the call, whoever owns the queue and writes meanwhile; nobody waits for it.

        apply: called with groups of jobs, one after the other. Written in that order to an empty place they leave the jobs of that moment;
        a later one may change or delete what an earlier one held. Raises NotNow, CannotOpen, and what `apply` does.
        """

    def writer(self, epoch: int, seconds: float, renewed: Callable[[float], object]) -> Writer:
        """What commits groups under an epoch, each holding the queue for `seconds` more. Fenced is its Fatal.

        renewed: called after each commit with when it was sent, by `time.monotonic()`: the lease is good from then on.
        """

    async def announce(self, name: str, address: str) -> list[Member]:
        """Say that a server is there; every server that said so in the last minute, itself included. Raises NotNow."""

    async def depart(self, name: str) -> None:
        """Take a server off the list. Raises NotNow."""

    async def now(self) -> float:
        """The store's wall clock: seconds since the epoch, UTC. Raises NotNow."""

    async def close(self) -> None:
        """Let go of every connection. Calling it again changes nothing."""


class Inspected(Store, Protocol):
    """A store that somebody can look at who is no server on it (`jobqueue check`)."""

    async def inspect(self) -> None:
        """Look at what `open` looks at, and change nothing. Raises NotNow; CannotOpen, also where no server has been on it yet."""

    async def members(self) -> list[Member]:
        """The servers that said in the last minute that they are there. Raises NotNow."""
