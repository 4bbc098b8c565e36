"""The base class of requests, and the interfaces that they are carried out with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any, ClassVar, Generic, Protocol, TypeVar, get_args

import msgspec

from jobqueue.backend.tasks import Tasks
from jobqueue.backend.workers import Workers
from jobqueue.clock import Clock
from jobqueue.engine.engine import Engine
from jobqueue.errors import Forbidden, QueueError
from jobqueue.joblog import LogPart
from jobqueue.limits import Limits
from jobqueue.model import Job, JobSpec, QueueStats

R = TypeVar("R")
T = TypeVar("T")


class Owner(Protocol):
    """What requests need of the local backend, which carries them out. A request is one synchronous step of the engine, then `commit`."""

    engine: Engine
    clock: Clock
    limits: Limits
    tasks: Tasks
    draining: bool
    workers: Workers

    def dismiss_worker(self, name: str) -> None:
        """Answer the waiting dequeues of a worker that has become quiet."""

    def check_open(self, adding: bool = False) -> None:
        """Raise Draining or StorageUnavailable if changes are refused. adding: whether the request adds to what is stored."""

    def check_storage(self) -> None:
        """Raise StorageUnavailable if the storage fails."""

    def dated(self, part: LogPart) -> LogPart:
        """Lines for a log, each with a time."""

    def snapshot(self, job: Job) -> Job:
        """The job as it is now, its times in UTC."""

    async def commit(self, now: float) -> None:
        """Act on what the engine has just done, and return when it is stored. Raises Unconfirmed."""

    def queue_stats(self, name: str) -> QueueStats:
        """A queue as it is now, its times in UTC. Raises UnknownQueue."""

    async def sliced(self, slices: Iterator[Sequence[T]], step: Callable[[float, Sequence[T]], int]) -> int:
        """Carry out `step` for each slice, one slice in each turn of the loop, each with its own commit. Returns the sum of the results.
        Raises Unconfirmed.
        """

    def dismiss_queue(self, name: str) -> None:
        """Answer the dequeues that wait only for this queue."""

    async def told(self, key: str, wait: float) -> None:
        """Return when the shell has announced something under this key and it is stored, when the wait has passed, or when the server
        drains.

        Raises TooManyWaiters, StorageUnavailable.
        """

    async def one(self, now: float, job: Job) -> Job:
        """The job as it is now, once that is stored."""


PAGE = 500
"""At least this many are read to find those that a token limited to some queues can see: with a page of one, each name that it cannot see
would cost a pass over all names."""


class Guard(Protocol):
    """The checks for a caller whose token is limited to some queues."""

    def sees(self, queue: str) -> bool:
        """Whether the caller can use a queue."""

    def allow(self, queue: str, field: str = "queue") -> None:
        """Raise Forbidden if the caller named, in `field`, a queue that they cannot use."""

    async def beneath(self, request: Request[R]) -> R:
        """Carry out a request without any check."""

    async def job(self, job_id: str, wait: float = 0.0) -> Job:
        """A job that the caller can read. Raises UnknownJob."""


class Front(Protocol):
    """What requests need of a backend over several partitions. Partitions are numbered from 0 to count - 1."""

    count: int

    def index_of(self, queue: str) -> int:
        """The partition of a queue."""

    def check_together(self, field: str, queue: str, other: str) -> None:
        """Raise Unsupported, naming the field, unless both queues are in one partition."""

    async def at(self, index: int, request: Request[R]) -> R:
        """Carry out a request in one partition."""

    async def for_queue(self, queue: str, request: Request[R]) -> R:
        """Carry out a request in the partition of a queue."""

    async def for_job(self, job_id: str, request: Request[R]) -> R:
        """Carry out a request in the partition that has this job. Raises UnknownJob."""

    async def everywhere(self, request: Request[R]) -> list[R]:
        """Carry out a request in all partitions at the same time. Raises the error of any."""

    async def found(self, request: Request[R], unknown: type[QueueError]) -> tuple[int, R]:
        """Carry out a request that changes nothing in all partitions, and return the first answer that is not the error `unknown`, with its
        partition. Raises `unknown` only if all partitions answered that.
        """


class Request(msgspec.Struct, Generic[R], frozen=True, kw_only=True, tag_field="ask"):
    """One operation; R is the type of its answer. A subclass has a `tag`, which identifies it between servers.

    changes: whether it may have changed something if its answer is lost; a draining server refuses such a request. held: whether it has a
    `wait`, in seconds, during which it is held. hands_in: whether a draining server accepts it nevertheless, since it reports a worker's
    work. knows: what an owner must support for it (store/known.py).
    """

    changes: ClassVar[bool] = False
    held: ClassVar[bool] = False
    hands_in: ClassVar[bool] = False
    knows: ClassVar[int] = 2

    async def serve(self, owner: Owner) -> R:
        """Carry it out. Raises the errors that `Backend.ask` names."""
        raise TypeError(f"{type(self).__name__} says nothing about how it is carried out")

    async def guarded(self, guard: Guard) -> R:
        """Carry it out for a caller limited to some queues, with `guard.beneath`. Also raises Forbidden."""
        raise TypeError(f"{type(self).__name__} says nothing about who may ask it")

    async def spread(self, front: Front) -> R:
        """Carry it out on a store with several partitions: in one of them, or in all, with the answers put together. Also raises
        Unsupported.
        """
        raise TypeError(f"{type(self).__name__} says nothing about partitions")

    def needs(self) -> int:
        """What an owner must support for this request."""
        return self.knows

    def specs(self) -> Iterator[JobSpec]:
        """The jobs that it describes, so that it is not sent to an owner that would make them differently."""
        return iter(())

    @property
    def new_work(self) -> bool:
        """Whether a draining server refuses it."""
        return self.changes and not self.hands_in

    @property
    def wait_seconds(self) -> float:
        """How long it is held at most."""
        wait: float = getattr(self, "wait", 0.0)
        return wait

    def waiting(self, wait: float) -> Request[R]:
        """The same request with another wait."""
        return msgspec.structs.replace(self, wait=wait)


PARTITIONS_LEVEL = 7
"""What an owner must support to be one of several (store/known.py)."""


class BetweenServers(Request[R], Generic[R], frozen=True):
    """A request that servers send each other, about one partition; no client makes it."""

    knows = PARTITIONS_LEVEL

    async def guarded(self, guard: Guard) -> R:
        raise Forbidden("this is for servers only")

    async def spread(self, front: Front) -> R:
        raise Forbidden("this is for one partition only")


@cache
def answer_of(kind: type[Request[Any]]) -> Any:
    """The type of a request's answers."""
    for base in kind.__mro__:
        # typing.get_original_bases exists from Python 3.12 on.
        for original in base.__dict__.get("__orig_bases__", ()):
            if arguments := get_args(original):
                return arguments[0]
    raise TypeError(f"{kind.__name__} does not say what it is answered with")
