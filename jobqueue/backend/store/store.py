"""What a server needs of a store: to be the only one that writes, to get its rows back, and to find the other servers.

Each claim gets an epoch, a number that increases with each claim. The store itself refuses writes under any epoch except the last, so a
server that is no longer the owner acknowledges nothing, whatever its clock shows. The lease, in seconds, only determines when another
server can claim without the owner's consent; the store's own clock measures it.

Every method has its own deadline. It raises NotNow when the deadline passes, when the connection breaks, or when the store reports that it
cannot act now; a method that changes something may have been carried out then. No method repeats automatically what may have been done.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple, Protocol

from jobqueue.backend.group import Fatal, Group, Writer
from jobqueue.backend.loading import LooseRows, Rows


class Fenced(Fatal):
    """Another server has claimed since: the operation under the old epoch was refused and changed nothing."""


class Owner(NamedTuple):
    """The owner of the queue. seconds: the rest of its lease by the store's clock, negative if it has passed."""

    name: str
    address: str
    epoch: int
    seconds: float


class Member(NamedTuple):
    """A server on the store. seconds: since it last announced itself, by the store's clock."""

    name: str
    address: str
    seconds: float


class Whole(NamedTuple):
    """The content of a store at one moment, except its jobs. jobs: how many there were."""

    counters: bytes | None
    queues: dict[str, bytes]
    jobs: int


class Standing(NamedTuple):
    """Which group a store took last, by its row of counters; and its number of jobs, None if counting them takes long."""

    counters: bytes | None
    jobs: int | None


class Store(Protocol):
    """The place of one partition in a store, which has at least one (stores.py). Its owner is here called the owner of the queue."""

    @property
    def path(self) -> str:
        """Its name in messages and /stats: its URL without a password."""

    async def open(self) -> None:
        """Connect, check version, settings and rights, and upgrade what we install there. Raises CannotOpen, NotNow."""

    async def claim(self, name: str, address: str, seconds: float, force: bool = False) -> Owner:
        """Own the queue if nobody does, if the owner's lease has passed, if `name` is the owner already (under a new epoch), or with
        `force`.

        force: the owner is known to be dead, or has agreed. Returns the owner after the call: `name` if the claim was granted. Raises
        NotNow.
        """

    async def owner(self) -> Owner | None:
        """The owner; None if there never was one, or if the last one released the queue. Raises NotNow."""

    async def renew(self, epoch: int, seconds: float) -> None:
        """Extend the lease to `seconds` from now. Every commit does this too. Raises Fenced, NotNow."""

    async def release(self, epoch: int) -> None:
        """Let any server claim at once. Raises Fenced, NotNow."""

    async def rows(self, epoch: int) -> Rows:
        """All rows, read into memory, as they are for the owner of this epoch. Raises Fenced, NotNow, CannotOpen."""

    async def standing(self, epoch: int) -> Standing:
        """The last group and the number of jobs, for the owner of this epoch; fast. Raises Fenced, NotNow, CannotOpen."""

    async def beside(self) -> LooseRows:
        """All rows, read into memory while another server continues to write, without making it wait. Raises NotNow, CannotOpen."""

    async def counters(self) -> bytes | None:
        """The row of counters as it is now, whoever owns the queue; None in a new store. Raises NotNow, CannotOpen."""

    async def moment(self, apply: Callable[[Group], Awaitable[object]]) -> Whole:
        """All rows as they were at one moment after the call, whoever owns the queue and writes meanwhile; no server waits for it.

        apply: called with groups of jobs, one after the other. Written in that order to an empty place, they give the jobs of that moment;
        a later one can change or delete what an earlier one contained. Raises NotNow, CannotOpen, and what `apply` raises.
        """

    def writer(self, epoch: int, seconds: float, renewed: Callable[[float], object]) -> Writer:
        """A Writer that commits groups under an epoch, each extending the lease by `seconds`. It reports Fenced as its Fatal.

        renewed: called after each commit with the time when it was sent, by `time.monotonic()`: the lease counts from then.
        """

    async def announce(self, name: str, address: str) -> list[Member]:
        """Announce a server. Returns every server that was announced in the last minute, including this one. Raises NotNow."""

    async def depart(self, name: str) -> None:
        """Take a server off the list. Raises NotNow."""

    async def now(self) -> float:
        """The store's wall clock: seconds since the epoch, UTC. Raises NotNow."""

    async def close(self) -> None:
        """Close every connection. Calling it again has no effect."""
