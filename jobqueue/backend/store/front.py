"""The link to an owner, on the side that sends requests: each request has a number, and a future for its answer.

If jobs were sent over the link and cannot be given to any client, a message refuses them. If the link ends, that message can be lost with
it, and the owner keeps the jobs leased; so they are given back in another way, which does no harm if they have been put back already.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple, TypeVar, cast

import msgspec

from jobqueue.backend.store import messages as m
from jobqueue.backend.store.frames import BadFrame, Identity, Link, logger
from jobqueue.backend.store.known import check_known
from jobqueue.backend.store.moved import Moved
from jobqueue.backend.store.shapes import Item, JobRow, error_of, job_of
from jobqueue.clock import Clock
from jobqueue.errors import BadRequest, QueueError, StorageUnconfirmed
from jobqueue.limits import Limits
from jobqueue.model import Job

A = TypeVar("A", bound=m.Message)

DISMISSED: Final[Any] = m.GotJobs(0, [])
"""The answer to held requests when this server drains; for a dequeue it is the same as any answer without jobs."""

REFUSED_SECONDS = 10.0
"""How long a refusal can be on its way: longer than a link survives whose other side does not read."""

_HELD = frozenset({m.DEQUEUE, m.JOB, m.ASK_HELD})


class _Asked(NamedTuple):
    future: asyncio.Future[Any]
    kind: type[m.Message]
    op: int


class FrontLink(Link):
    """A link to the owner at `address`. ready: done when both sides are proven, or when it is certain that there will be no link.

    taken: numbers of dequeues whose jobs are not delivered yet, and of listeners. return_jobs: called with jobs that were not delivered, if
    the owner may not know that.
    """

    def __init__(
        self,
        identity: Identity,
        limits: Limits,
        clock: Clock,
        address: str,
        return_jobs: Callable[[Sequence[Job]], object] = lambda _jobs: None,
        partition: int = 0,
    ) -> None:
        super().__init__(identity, limits, clock, front=True, decode=m.decode_answer, partition=partition)
        self.address = address
        self._return_jobs = return_jobs
        self._refused: deque[tuple[float, Sequence[JobRow]]] = deque()
        """Jobs that were refused, and when, while the owner may not have read the refusal."""
        self._left: deque[tuple[float, int]] = deque()
        """Dequeues that no client waits for any more, and since when, while their answers can still come. Those of lists contain jobs
        too."""
        self.ready: asyncio.Future[None] = self.loop.create_future()
        self.asked: dict[int, _Asked] = {}
        self.taken: set[int] = set()
        self._newest = 0
        self._given = 0
        """The number of the last request that the kernel may have received."""
        self._parts: dict[int, list[Item]] = {}
        self._retiring = False

    @property
    def newest(self) -> int:
        """The number of the last request."""
        return self._newest

    async def ask(self, kind: type[A], op: int, *arguments: Any) -> A:
        """Send a request, and wait for an answer of this kind. Raises what the owner raised, Moved, Unconfirmed, BadRequest, TooLarge, and
        StorageUnavailable if the owner does not support the request.
        """
        if self.broken is not None:
            raise Moved(f"the link to the server that owns the queue ended: {self.broken}")
        check_known(self.knows, op, arguments)
        n = self._newest = self._newest + 1
        try:
            self.send((op, n, *arguments))
        except (UnicodeEncodeError, OverflowError) as error:
            raise BadRequest(_unsayable(arguments), "holds what cannot be sent: half a surrogate pair, or a number too large") from error
        future = self.loop.create_future()
        self.asked[n] = _Asked(future, kind, op)
        if self.broken is not None:
            # By the send just now, which found too much unwritten data.
            del self.asked[n]
            raise Moved(f"the link to the server that owns the queue ended: {self.broken}")
        try:
            return cast(A, await future)
        except QueueError:
            raise
        except BaseException:
            # The caller has gone. The answer may be here already, or on its way.
            self.asked.pop(n, None)
            self._parts.pop(n, None)
            if op == m.DEQUEUE:
                self._left.append((self.clock.now(), n))
                while self._left[0][0] < self.clock.now() - REFUSED_SECONDS:
                    self._left.popleft()
            answered = future.done() and not future.cancelled() and future.exception() is None
            answer = future.result() if answered else None
            self.refuse(n, answer.jobs if op == m.DEQUEUE and isinstance(answer, m.GotJobs) else ())
            raise

    def refuse(self, n: int, jobs: Sequence[JobRow] = ()) -> None:
        """Give up the answer to a request. jobs: those of an answer that has come nevertheless, and that no client was given."""
        self.send((m.CANCEL, n))
        self.taken.discard(n)
        if jobs:
            if self.broken is not None:
                self._return_jobs([job_of(row) for row in jobs])
            else:
                now = self.clock.now()
                self._refused.append((now, jobs))
                while self._refused[0][0] < now - REFUSED_SECONDS:
                    self._refused.popleft()
        self.finished()

    def opened(self) -> None:
        """See Link."""
        logger.info("link to %s at %s", self.peer, self.address)
        if not self.ready.done():
            self.ready.set_result(None)

    def flushed(self) -> None:
        """See Link."""
        self._given = self._newest

    def got(self, message: Any) -> None:
        """See Link."""
        n = message.n
        asked = self.asked.get(n)
        kind = type(message)
        if asked is None or asked.future.done():
            # Answered before the owner knew that the request was given up.
            if kind is m.GotListener:
                self.refuse(n)
            elif (
                kind is m.GotJobs
                and message.jobs
                and (any(n == left for _, left in self._left) if asked is None else asked.op == m.DEQUEUE)
            ):
                self.refuse(n, message.jobs)
            return
        if kind is m.GotPart:
            if message.more:
                self._parts.setdefault(n, []).extend(message.items)
                return
            earlier = self._parts.pop(n, None)
            if earlier is not None:
                message = m.GotPart(n, earlier + message.items, False)
        del self.asked[n]
        if kind is asked.kind:
            if kind is m.GotListener or (asked.op == m.DEQUEUE and message.jobs):
                self.taken.add(n)
            asked.future.set_result(message)
        elif kind is m.Failed:
            asked.future.set_exception(error_of(message.error))
        else:
            self.asked[n] = asked
            raise BadFrame(f"answered a request ({asked.op}) with a {kind.__name__}")
        if self._retiring:
            self.finished()

    def lost(self, reason: str) -> None:
        """Every request that waits for an answer gets an error that says what may have happened to it."""
        if not self.ready.done():
            self.ready.set_result(None)
        asked, self.asked = self.asked, {}
        self._parts.clear()
        self.taken.clear()
        refused, self._refused = self._refused, deque()
        for at, jobs in refused:
            if at >= self.clock.now() - REFUSED_SECONDS:
                self._return_jobs([job_of(row) for row in jobs])
        for n, (future, _, op) in asked.items():
            if future.done():
                continue
            if n > self._given:
                future.set_exception(Moved("the link to the server that owns the queue broke before this was sent"))
            elif op in m.CHANGES:
                future.set_exception(StorageUnconfirmed("the link to the server that owns the queue broke; the change may have been made"))
            else:
                future.set_exception(Moved("the link to the server that owns the queue broke"))

    def fail_unmade(self) -> None:
        """There will be no link: it could not be set up."""
        if self.broken is None:
            self.broken = "it was never made"
            if self.transport is not None:
                self.transport.abort()

    def dismiss(self) -> None:
        """Answer all held requests, because this server drains. Listeners get the events that have happened first."""
        for n, (future, _, op) in list(self.asked.items()):
            if op == m.NOTICES:
                # Events on their way to the listener must not be lost: the owner would count them as delivered.
                self.send((m.DISMISS, n))
            elif op in _HELD and not future.done():
                del self.asked[n]
                self.send((m.CANCEL, n))
                future.set_result(DISMISSED)

    def retire(self) -> None:
        """Send no new requests; end when all requests are answered."""
        self._retiring = True
        self.finished()

    def finished(self) -> None:
        """A request is finished; end if the link is retired and this was the last."""
        if self._retiring and not self.asked and not self.taken:
            self.close()


def _unsayable(arguments: Iterable[Any]) -> str | None:
    """The name of the field that cannot be encoded, if it has one."""
    for each in arguments:
        fields = msgspec.structs.asdict(each) if isinstance(each, msgspec.Struct) else {}
        for name, value in fields.items():
            try:
                m.encode(value)
            except (UnicodeEncodeError, OverflowError):
                return name
        if isinstance(each, list):
            return _unsayable(each)
    return None
