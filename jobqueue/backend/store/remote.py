"""The front's side of a link: a Backend whose operations are carried out by the server that owns the queue.

What is known when a link breaks decides which error is raised. A request that was never given to the kernel was not done: Moved. A change
that was given to it may have been done: Unconfirmed. Reads, waits, and dequeues (whose jobs the owner puts back) raise Moved. Nothing is
sent twice automatically; the next request makes a new link.

Two things are done here, since functions cannot be sent: which queues a caller sees (`sees` of lists and listeners), and the drain, which
answers the requests held by this server, refuses new ones here, and does not affect the owner.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Self, TypeVar

import msgspec

from jobqueue.backend.base import BackendStats, ClusterStats, Conclude, Enqueued, Extend, Listen, Notice, Release
from jobqueue.backend.requests.request import R, Request
from jobqueue.backend.snapshots import numbers_only
from jobqueue.backend.store import messages as m
from jobqueue.backend.store import parts as batches
from jobqueue.backend.store.asking import decode_answer, op_of
from jobqueue.backend.store.frames import Identity, Link, logger
from jobqueue.backend.store.front import DISMISSED, FrontLink
from jobqueue.backend.store.known import RELEASE_BATCHES
from jobqueue.backend.store.moved import Moved
from jobqueue.backend.store.shapes import FILTERS, Item, JobRow, job_of
from jobqueue.clock import Clock, SystemClock, Timer
from jobqueue.errors import Draining, QueueError, UnknownJob
from jobqueue.limits import Limits
from jobqueue.model import Job, JobChange, JobFilter, JobSpec, KeyStats, QueueStats, Verdict, Want
from jobqueue.policy import PolicyChange, QueuePolicy
from jobqueue.reason import Reason

CONNECT_SECONDS = 1.0
"""The time limit for connecting and the first exchange, including all requests that wait for it."""

CLOSE_SECONDS = 1.0
"""How long closing waits for answers that are on their way."""

RETRY_SECONDS = 0.1
"""After a failed attempt, requests are refused for this long without another attempt."""

QUEUES_SLICE = 500
PAGES_MAX = 20
"""Pages that are requested to fill one page for a caller who sees little of them."""

NUMBER_MAX = (1 << 63) - 1
"""The largest number that can be sent over the link; no job has a number near it."""

_TLS_SECONDS = 1.0

A = TypeVar("A", bound=m.Message)

Dial = Callable[[Callable[[], Link], str], Awaitable[object]]
"""Connects a protocol to an address. Raises OSError."""


Tls = Callable[[], ssl.SSLContext]
"""Called for each link, since certificates are renewed."""


def dialler(tls: Tls | None = None) -> Dial:
    """Makes a function that connects by TCP to an address of the form host:port; an IPv6 host can be in brackets or not."""

    async def dial(factory: Callable[[], Link], address: str) -> object:
        host, _, port = address.rpartition(":")
        if not (port.isascii() and port.isdigit()):
            raise OSError(f"{address!r} is not an address of the form host:port")
        host = host.strip("[]")
        loop = asyncio.get_running_loop()
        if tls is None:
            return await loop.create_connection(factory, host, int(port))
        return await loop.create_connection(
            factory, host, int(port), ssl=tls(), ssl_handshake_timeout=_TLS_SECONDS, ssl_shutdown_timeout=_TLS_SECONDS
        )

    return dial


class RemoteBackend:
    """A Backend at another server; the methods are documented at `Backend`. Needs a running loop.

    address: returns the owner's current address, host:port; None while there is no owner. Called for each request; when it changes, new
    requests go to the new owner, and running requests at the old one can finish. dial: connects, for tests. return_jobs: called with jobs
    that were not delivered and that a broken link may have left leased; without it, they return when their leases end. partition: of links.
    """

    at_once = True

    def __init__(
        self,
        address: Callable[[], str | None],
        identity: Identity,
        limits: Limits,
        *,
        clock: Clock | None = None,
        tls: Tls | None = None,
        dial: Dial | None = None,
        return_jobs: Callable[[Sequence[Job]], object] = lambda _jobs: None,
        partition: int = 0,
    ) -> None:
        if identity.secret is None and tls is None and dial is None:
            raise ValueError("servers need a secret, or TLS that asks for certificates, to know each other by")
        self.identity = identity
        self.limits = limits
        self.partition = partition
        self.clock = clock or SystemClock()
        self.draining = False
        self.link: FrontLink | None = None
        self._address = address
        self._dial = dial or dialler(tls)
        self._return_jobs = return_jobs
        self.links: list[FrontLink] = []
        self._connecting: asyncio.Task[FrontLink | str] | None = None
        self._refused: str | None = None
        """Why there is no link, since the last attempt."""
        self._refused_until = 0.0

    def __repr__(self) -> str:
        return f"<RemoteBackend {self.link!r}>"

    # The link.

    def _usable(self) -> FrontLink | None:
        link = self.link
        if link is None or link.broken is not None:
            return None
        if link.address != self._address():
            link.retire()
            self.link = None
            return None
        return link

    async def _linked(self) -> FrontLink:
        """A link to the owner, once it is ready. Raises Moved."""
        if self._connecting is None:
            address = self._address()
            if address is None:
                raise Moved("there is no owner at the moment")
            if self._refused is not None and self.clock.now() < self._refused_until:
                raise Moved(self._refused)
            self._connecting = asyncio.get_running_loop().create_task(self._connect(address))
        # Shielded: other requests wait for it too.
        made = await asyncio.shield(self._connecting)
        if isinstance(made, str):
            raise Moved(made)
        if made.broken is not None:
            raise Moved(f"the link to the server that owns the queue ended: {made.broken}")
        return made

    def _new_link(self, address: str) -> FrontLink:
        return FrontLink(self.identity, self.limits, self.clock, address, self._return_jobs, self.partition)

    async def _connect(self, address: str) -> FrontLink | str:
        """A new link, or the reason why there is none."""
        link = self._new_link(address)
        task = asyncio.current_task()
        assert task is not None
        timer: Timer = self.clock.call_at(self.clock.now() + CONNECT_SECONDS, partial(_cancel, task))
        try:
            await self._dial(lambda: link, address)
            await link.ready
            reason = link.broken
        except OSError as error:
            reason = str(error) or type(error).__name__
        except asyncio.CancelledError:
            reason = f"no answer within {CONNECT_SECONDS:g} s"
            link.close()
        finally:
            timer.cancel()
            self._connecting = None
        if reason is not None:
            link.fail_unmade()
            refused = f"the server at {address}, which owns the queue, cannot be reached: {reason}"
            if refused != self._refused:
                # Logged once, however often it is tried.
                logger.warning("%s", refused)
            self._refused = refused
            self._refused_until = self.clock.now() + RETRY_SECONDS
            return self._refused
        self._refused = None
        self.link = link
        self.links = [*(each for each in self.links if each.broken is None), link]
        return link

    async def _ask(self, kind: type[A], op: int, *arguments: Any) -> A:
        link = self._usable() or await self._linked()
        return await link.ask(kind, op, *arguments)

    def _check_open(self) -> None:
        if self.draining:
            raise Draining("the server is shutting down")

    # Submitting.

    async def enqueue(self, spec: JobSpec) -> Enqueued:
        self._check_open()
        return (await self._ask(m.GotEnqueued, m.ENQUEUE, spec)).enqueued()

    async def enqueue_batch(self, specs: Sequence[JobSpec | QueueError]) -> list[Enqueued | QueueError]:
        self._check_open()
        return batches.in_place(specs, await self._batch(m.ENQUEUE_BATCH, specs, batches.spec_bytes), batches.enqueued_of)

    async def _batch(
        self, op: int, items: Sequence[batches.BatchItem | QueueError], size: Callable[[batches.BatchItem], int]
    ) -> list[Item | QueueError]:
        """The replies to the requests of a batch, in order. If a request after the first fails, its items get the error one by one."""
        replies: list[Item | QueueError] = []
        for part in batches.parts([item for item in items if not isinstance(item, QueueError)], size):
            try:
                replies += (await self._ask(m.GotPart, op, part)).items
            except QueueError as error:
                if not replies:
                    raise
                replies += [error.bare()] * len(part)
        return replies

    def dequeue(self, want: Want, wait: float) -> RemoteTaking:
        return RemoteTaking(self, want, wait)

    # Working. These stay open while this server drains.

    async def conclude(self, job_id: str, token: str, verdict: Verdict) -> Job:
        return job_of((await self._ask(m.GotJob, m.CONCLUDE, job_id, token, verdict)).job)

    async def conclude_batch(self, items: Sequence[Conclude | QueueError]) -> list[Job | QueueError]:
        return batches.in_place(items, await self._batch(m.CONCLUDE_BATCH, items, batches.conclude_bytes), batches.job_reply)

    async def extend(self, item: Extend) -> Job:
        return job_of((await self._ask(m.GotJob, m.EXTEND, item)).job)

    async def extend_batch(self, items: Sequence[Extend | QueueError]) -> list[Job | QueueError]:
        return batches.in_place(items, await self._batch(m.EXTEND_BATCH, items, batches.extend_bytes), batches.job_reply)

    async def release(self, job_id: str, token: str, delay: float) -> Job:
        return job_of((await self._ask(m.GotJob, m.RELEASE, job_id, token, delay)).job)

    async def release_batch(self, items: Sequence[Release | QueueError]) -> list[Job | QueueError]:
        if (self._usable() or await self._linked()).knows < RELEASE_BATCHES:
            return await batches.one_by_one(lambda item: self.release(item.job_id, item.token, item.delay), items)
        return batches.in_place(items, await self._batch(m.RELEASE_BATCH, items, batches.release_bytes), batches.job_reply)

    async def give_back(self, job_id: str, token: str) -> bool:
        return bool((await self._ask(m.GotCount, m.GIVE_BACK, job_id, token)).count)

    async def cancel(self, job_id: str) -> Job:
        self._check_open()
        return job_of((await self._ask(m.GotJob, m.END, job_id)).job)

    async def retry(self, job_id: str) -> Job:
        self._check_open()
        return job_of((await self._ask(m.GotJob, m.RETRY, job_id)).job)

    async def edit(self, job_id: str, change: JobChange) -> Job:
        self._check_open()
        return job_of((await self._ask(m.GotJob, m.EDIT, job_id, change)).job)

    async def ask(self, request: Request[R]) -> R:
        if request.new_work:
            self._check_open()
        elif request.held and self.draining:
            request = request.waiting(0.0)
        answer = await self._ask_of(request)
        if answer is DISMISSED:
            answer = await self._ask_of(request.waiting(0.0))
        return decode_answer(request, answer.value)

    async def _ask_of(self, request: Request[Any]) -> m.GotValue:
        return await self._ask(m.GotValue, op_of(request), request)

    # Reading.

    async def job(self, job_id: str, wait: float = 0.0) -> Job:
        answer = await self._ask(m.GotJob, m.JOB, job_id, 0.0 if self.draining else max(0.0, wait))
        if answer is DISMISSED:
            answer = await self._ask(m.GotJob, m.JOB, job_id, 0.0)
        return job_of(answer.job)

    async def numbered(self, number: int) -> Job:
        if not -NUMBER_MAX < number < NUMBER_MAX:
            raise UnknownJob(str(number))
        return job_of((await self._ask(m.GotJob, m.NUMBERED, number)).job)

    async def jobs(self, wanted: JobFilter) -> tuple[list[Job], int | None]:
        numbers_only(wanted)
        sees = wanted.sees
        found: list[Job] = []
        before, after = wanted.before, wanted.after
        for _ in range(PAGES_MAX):
            answer = await self._ask(
                m.GotJobs,
                m.JOBS,
                wanted.status,
                wanted.outcome,
                wanted.queue,
                wanted.type,
                min(wanted.limit, self.limits.page_jobs_max) - len(found),
                None if before is None else max(-NUMBER_MAX, min(before, NUMBER_MAX)),
                None if after is None else max(-NUMBER_MAX, min(after, NUMBER_MAX)),
                wanted.payloads,
                *(getattr(wanted, name) for name in FILTERS),
            )
            found += [job_of(row) for row in answer.jobs if sees is None or sees(row.queue)]
            cursor = answer.next
            if sees is None or cursor is None or len(found) >= wanted.limit:
                break
            before, after = (cursor, None) if after is None else (None, cursor)
        return found, cursor

    async def queues(self) -> list[QueueStats]:
        found: list[QueueStats] = []
        cursor: str | None = ""
        while cursor is not None:
            page, cursor = await self.queue_page(cursor, QUEUES_SLICE)
            found += page
        return found

    async def queue_page(self, after: str, limit: int) -> tuple[list[QueueStats], str | None]:
        answer = await self._ask(m.GotQueues, m.QUEUE_PAGE, after, limit)
        return answer.page, answer.next

    async def queue(self, name: str) -> QueueStats:
        return (await self._ask(m.GotQueue, m.QUEUE, name)).stats

    # Queues.

    async def put_policy(self, name: str, policy: QueuePolicy, by: str | None = None) -> QueueStats:
        self._check_open()
        return (await self._ask(m.GotQueue, m.PUT_POLICY, name, policy, by)).stats

    async def delete_queue(self, name: str) -> None:
        self._check_open()
        await self._ask(m.Done, m.DELETE_QUEUE, name)

    async def change_policy(self, name: str, change: PolicyChange, by: str | None = None) -> QueueStats:
        self._check_open()
        return (await self._ask(m.GotQueue, m.CHANGE_POLICY, name, change, by)).stats

    async def keys(self, name: str, after: str, limit: int) -> tuple[list[KeyStats], str | None]:
        answer = await self._ask(m.GotKeys, m.KEYS, name, after, limit)
        return answer.page, answer.next

    async def set_key_paused(self, name: str, key: str, paused: bool, by: str | None = None) -> KeyStats:
        self._check_open()
        return (await self._ask(m.GotKey, m.SET_KEY_PAUSED, name, key, paused, by)).stats

    async def waiting_for(self, numbers: Sequence[int]) -> list[list[Reason]]:
        return (await self._ask(m.GotReasons, m.WHY, list(numbers))).reasons

    async def set_paused(self, name: str, paused: bool, by: str | None = None) -> QueueStats:
        self._check_open()
        return (await self._ask(m.GotQueue, m.SET_PAUSED, name, paused, by)).stats

    async def purge(self, name: str) -> int:
        self._check_open()
        return (await self._ask(m.GotCount, m.PURGE, name)).count

    async def retry_failed(self, name: str) -> int:
        self._check_open()
        return (await self._ask(m.GotCount, m.RETRY_FAILED, name)).count

    # Totals, drain and close.

    def listen(self, wanted: Listen, after: str | None = None) -> RemoteListening:
        return RemoteListening(self, wanted, after)

    async def check(self) -> None:
        self._check_open()
        await self._ask(m.Done, m.CHECK)

    async def stats(self) -> BackendStats:
        """The owner's totals, except whether it drains: that is this server's state."""
        stats = (await self._ask(m.GotStats, m.STATS)).stats
        return msgspec.structs.replace(stats, draining=self.draining)

    def cluster(self) -> ClusterStats | None:
        """None: the backend that contains this one answers."""
        return None

    def drain(self) -> None:
        """See Backend.drain. Requests held by this server are answered; the owner, and requests held by other servers, are not affected."""
        if not self.draining:
            self.draining = True
            for link in self.links:
                link.dismiss()

    async def close(self) -> None:
        self.drain()
        # A request whose wait for a result was ended reads the job once more.
        for _ in range(2):
            await asyncio.sleep(0)
        under_way = [asked.future for link in self.links for asked in link.asked.values()]
        if under_way:
            await asyncio.wait(under_way, timeout=CLOSE_SECONDS)
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.wait([self._connecting])
        for link in self.links:
            link.close()


class RemoteTaking:
    """One dequeue at the owner. See base.Taking."""

    __slots__ = ("_backend", "_jobs", "_link", "_n", "_wait", "_want", "quiet")

    def __init__(self, backend: RemoteBackend, want: Want, wait: float) -> None:
        self._backend = backend
        self._want = want
        self._wait = wait
        self._link: FrontLink | None = None
        """Set while the owner waits for a message about what happened to the jobs."""
        self._n = 0
        self._jobs: Sequence[JobRow] = ()
        self.quiet = False

    def at_once(self) -> list[Job] | None:
        """See base.Taking.at_once."""
        return None

    def leave(self) -> None:
        """See base.Taking.leave."""

    async def __aenter__(self) -> list[Job]:
        backend = self._backend
        backend._check_open()
        link = backend._usable() or await backend._linked()
        answer = await link.ask(m.GotJobs, m.DEQUEUE, self._want, self._wait)
        if not answer.jobs:
            self.quiet = answer.quiet
            return []
        # Also if the link broke in this same turn: the jobs are leased to this request.
        self._link, self._n, self._jobs = link, answer.n, answer.jobs
        return [job_of(row) for row in answer.jobs]

    async def __aexit__(self, *exc_info: object) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.refuse(self._n, self._jobs)

    def delivered(self) -> None:
        """See base.Taking.delivered."""
        link, self._link = self._link, None
        if link is not None:
            link.send((m.DELIVERED, self._n))
            link.taken.discard(self._n)
            link.finished()


class RemoteListening:
    """One listener at the owner. See base.Listening."""

    def __init__(self, backend: RemoteBackend, wanted: Listen, after: str | None) -> None:
        self._backend = backend
        self._wanted = wanted
        self._after = after
        self._link: FrontLink | None = None
        self._n = 0
        self.missed = False
        self.cursor = ""

    async def __aenter__(self) -> Self:
        backend, wanted = self._backend, self._wanted
        link = backend._usable() or await backend._linked()
        answer = await link.ask(m.GotListener, m.LISTEN, wanted.queues, wanted.types, wanted.kinds, self._after)
        self._link, self._n = link, answer.n
        self.cursor, self.missed = answer.cursor, answer.missed
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        link = self._link
        if link is not None:
            link.refuse(self._n)

    async def notices(self, limit: int, wait: float) -> list[Notice] | None:
        """See base.Listening. Raises Moved if the link has ended."""
        backend, link, sees = self._backend, self._link, self._wanted.sees
        assert link is not None
        until = backend.clock.now() + wait
        while True:
            draining = backend.draining
            left = 0.0 if draining else max(0.0, until - backend.clock.now())
            answer = await link.ask(m.GotNotices, m.NOTICES, self._n, limit, left)
            if answer.notices is None:
                return None
            self.cursor = answer.cursor
            found = [notice for notice in answer.notices if sees is None or sees(notice.queue)]
            if found:
                return found
            if not answer.notices and draining is backend.draining:
                return None if draining else []


def _cancel(task: asyncio.Task[Any]) -> None:
    task.cancel()
