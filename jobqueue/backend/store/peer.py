"""The owner's side of the links: carries out the requests of other servers on its backend, each under the number that they gave it.

If the backend needs no task (`Backend.at_once`), a request is answered where it was read, without a task. A dequeue that was answered with
jobs stays open until the front reports that they are delivered, or that they are not, which puts them back (promise 3).

If a front's link ends, its waiters leave the line, and jobs of which no byte was sent are put back. Jobs that were sent stay leased: the
front may have delivered them, and its message about that may be lost with the link. Putting them back could give one job to two workers. A
front that is still alive gives back the jobs that it could not deliver (front.py). If the front died, a client that repeats its
`attempt_id` at another server, as our clients do, gets the same jobs; for other clients the jobs return when their leases end, as after a
kill of a single server.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any

import msgspec

from jobqueue.backend.base import Backend, Enqueued, Listening, Taking
from jobqueue.backend.store import messages as m
from jobqueue.backend.store.asking import decode_request, encode_answer
from jobqueue.backend.store.feed import Feeds, LinkSink
from jobqueue.backend.store.frames import BadFrame, Identity, Link, logger
from jobqueue.backend.store.moved import Moved
from jobqueue.backend.store.shapes import error_row, held_bytes, job_row
from jobqueue.clock import Clock, SystemClock
from jobqueue.errors import BadRequest, QueueError, StorageUnavailable, StorageUnconfirmed, TooLarge
from jobqueue.limits import MIB, Limits
from jobqueue.model import Job
from jobqueue.resuming import resumed

PART_BYTES = MIB
"""The approximate size of one part of a batch's answer."""

NOTICES_MAX = 500
"""Events in one answer."""

LINKS_MAX = 256
"""Links open at the same time for each partition, including those that have not proven anything yet."""

_TLS_SECONDS = 5.0

_CANCEL_TURNS = 3
"""Turns of the loop after which a cancelled request has ended: its task is cancelled, gets the exception, and has cleaned up."""

_Serving = Coroutine[Any, Any, None]


class PeerServer:
    """Lets other servers use a backend, or those of several partitions. A protocol factory, for loop.create_server; `listen` does
    everything.

    backend: carries out the operations. While this server owns nothing, the backend raises Moved, which is sent over the link as it is.
    feeds: those of its reign, None while it owns nothing. more: backends and feeds of the partitions from 1 on.
    """

    def __init__(
        self,
        backend: Backend,
        identity: Identity,
        limits: Limits,
        *,
        clock: Clock | None = None,
        links_max: int = LINKS_MAX,
        feeds: Callable[[], Feeds | None] = lambda: None,
        more: Sequence[tuple[Backend, Callable[[], Feeds | None]]] = (),
    ) -> None:
        self.served = [(backend, feeds), *more]
        self.identity = identity
        self.limits = limits
        self.clock = clock or SystemClock()
        self.links: set[OwnerLink] = set()
        self.links_max = links_max * len(self.served)
        self._listener: asyncio.Server | None = None

    def __call__(self) -> OwnerLink:
        """Make the protocol of a new connection."""
        return OwnerLink(self)

    async def listen(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> int:
        """Start to listen. Returns the port. Raises OSError, and ValueError if nothing determines who can connect."""
        if self.identity.secret is None and (tls is None or tls.verify_mode is not ssl.CERT_REQUIRED):
            raise ValueError("servers need a secret, or TLS that asks for certificates, to know each other by")
        seconds = None if tls is None else _TLS_SECONDS
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(self, host, port, ssl=tls, ssl_handshake_timeout=seconds, ssl_shutdown_timeout=seconds)
        return int(self._listener.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop listening and end every link. Answers that were given before are written."""
        if self._listener is not None:
            # If listening ends before the loop's next turn, asyncio forgets a connection that it has just accepted (gh-109564): the other
            # server would wait in vain for a second. So it stops accepting first.
            for listening in self._listener.sockets:
                asyncio.get_running_loop().remove_reader(listening.fileno())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            self._listener.close()
        for link in list(self.links):
            link.close()
        # The operations that the links had open clean up.
        for _ in range(_CANCEL_TURNS):
            await asyncio.sleep(0)


class OwnerLink(Link):
    """One front's link."""

    def __init__(self, server: PeerServer) -> None:
        super().__init__(server.identity, server.limits, server.clock, front=False, decode=m.decode_asked)
        self._server = server
        self._backend, self._of_reign = server.served[0]
        self._newest = 0
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._takings: dict[int, Taking] = {}
        """Dequeues that were answered with jobs, until the front reports what happened to them."""
        self._unsent: set[int] = set()
        """Those of them whose answers wait for the end of this turn."""
        self._listenings: dict[int, Listening] = {}
        self._dismissed: set[int] = set()
        """Requests for notices that must be answered now."""
        self._sinks: dict[int, LinkSink] = {}

    @property
    def pending(self) -> int:
        """The number of requests that have not ended."""
        return len(self._tasks) + len(self._takings) + len(self._listenings)

    def connection_made(self, transport: Any) -> None:
        """See asyncio.Protocol."""
        server = self._server
        server.links.add(self)
        super().connection_made(transport)
        if len(server.links) > server.links_max:
            self.fail(f"would be one link too many (limit {server.links_max})")

    def lost(self, reason: str) -> None:
        """Everything that the front had open is cancelled; jobs that it cannot have received are put back."""
        self._server.links.discard(self)
        for n, taking in self._takings.items():
            if n not in self._unsent:
                taking.delivered()
        for n in [*self._takings, *self._listenings, *self._sinks, *self._tasks]:
            self._cancel(n)

    def flushed(self) -> None:
        """See Link."""
        self._unsent.clear()

    def opened(self) -> None:
        """See Link."""
        served = self._server.served
        if self.partition not in range(len(served)):
            raise BadFrame(f"asks for partition {self.partition} of a store that has {len(served)}")
        self._backend, self._of_reign = served[self.partition]
        logger.info("link from %s%s", self.peer, "" if len(served) == 1 else f", partition {self.partition}")

    def got(self, message: Any) -> None:
        """See Link."""
        kind, n = type(message), message.n
        if kind is m.Delivered:
            taking = self._takings.pop(n, None)
            if taking is not None:
                taking.delivered()
                self._begin(n, taking.__aexit__(None, None, None), m.DELIVERED)
        elif kind is m.CancelOp:
            self._cancel(n)
        elif kind is m.DismissOp:
            task = self._tasks.get(n)
            if task is not None:
                self._dismissed.add(n)
                self.loop.call_soon(task.cancel)
        elif kind is m.FollowedOp:
            if (sink := self._sinks.get(n)) is not None:
                sink.feeds.said(sink, message.behind, message.warm)
        else:
            if n <= self._newest:
                raise BadFrame(f"used the number {n} for two requests")
            self._newest = n
            backend = self._backend
            op, serve = _SERVES[kind]
            self._begin(n, serve(self, backend, message), op, backend.at_once)

    def misread(self, frame: Any, error: Exception) -> None:
        """If a field of a request has a value of the wrong type, only that request fails; anything else ends the link."""
        try:
            what, n = msgspec.msgpack.decode(frame, type=list[Any])[:2]
        except (msgspec.MsgspecError, ValueError, RecursionError):
            what = n = None
        if type(what) is not int or type(n) is not int or what not in _OPS or n <= self._newest:
            raise BadFrame(f"sent what cannot be read: {error}")
        self._newest = n
        self._failed(n, BadRequest(None, f"the request cannot be read: {error}"))

    # Running requests.

    def _begin(self, n: int, serving: _Serving, op: int, at_once: bool = True) -> None:
        """Run a request, to its end if it does not need to wait."""
        if at_once:
            try:
                waits_for = serving.send(None)
            except StopIteration:
                return
            except QueueError as error:
                self._failed(n, error)
                return
            except Exception:
                self._defect(n, op)
                return
            serving = resumed_in_full(serving, waits_for)
        self._tasks[n] = self.loop.create_task(self._rest(n, serving, op))

    async def _rest(self, n: int, serving: _Serving, op: int) -> None:
        try:
            await serving
        except QueueError as error:
            self._failed(n, error)
        except Exception:
            self._defect(n, op)
        finally:
            del self._tasks[n]

    def _cancel(self, n: int) -> None:
        """The answer is no longer needed. Does nothing if the request has ended."""
        taking, listening, task = self._takings.pop(n, None), self._listenings.pop(n, None), self._tasks.get(n)
        if taking is not None:
            self._begin(n, taking.__aexit__(None, None, None), m.CANCEL)
        elif (sink := self._sinks.pop(n, None)) is not None:
            sink.feeds.leave(sink)
        elif listening is not None:
            self._begin(n, listening.__aexit__(None, None, None), m.CANCEL)
        elif task is not None:
            # Not now: a task that is cancelled before its first step never runs, and its work would be left half done.
            self.loop.call_soon(task.cancel)

    def _failed(self, n: int, error: QueueError) -> None:
        self.send((m.FAILED, n, error_row(error)))

    def _defect(self, n: int, op: int) -> None:
        logger.exception("internal error in a request (%d) of the server %s", op, self.peer)
        kind = StorageUnconfirmed if op in m.CHANGES else StorageUnavailable
        self._failed(n, kind("internal error in the owner; see its log"))

    def _answer(self, message: tuple[Any, ...]) -> None:
        """Send an answer. If it is too large, the two servers do not have the same limits."""
        try:
            self.send(message)
        except TooLarge as error:
            logger.error("an answer to the server %s was too large: %s", self.peer, error)
            raise StorageUnconfirmed(f"the change may have been made, but its answer is too large: {error}") from None

    # The operations.

    async def _enqueue(self, backend: Backend, op: m.EnqueueOp) -> None:
        done = await backend.enqueue(op.spec)
        self._answer((m.GOT_ENQUEUED, op.n, job_row(done.job), done.created, done.handed_over))

    async def _enqueue_batch(self, backend: Backend, op: m.EnqueueBatchOp) -> None:
        self._parts(op.n, await backend.enqueue_batch(op.items))

    async def _dequeue(self, backend: Backend, op: m.DequeueOp) -> None:
        taking = backend.dequeue(op.want, op.wait)
        jobs = await taking.__aenter__()
        try:
            # From here on, a message of the front or the end of its link decides about the jobs, and nothing comes in between.
            rows = [job_row(job) for job in jobs]
            self._answer((m.GOT_JOBS, op.n, rows, None, True) if taking.quiet else (m.GOT_JOBS, op.n, rows))
        except BaseException:
            await taking.__aexit__(None, None, None)
            raise
        if not jobs or self.broken is not None:
            await taking.__aexit__(None, None, None)
        else:
            self._takings[op.n] = taking
            self._unsent.add(op.n)

    async def _conclude(self, backend: Backend, op: m.ConcludeOp) -> None:
        self._answer((m.GOT_JOB, op.n, job_row(await backend.conclude(op.id, op.token, op.verdict))))

    async def _conclude_batch(self, backend: Backend, op: m.ConcludeBatchOp) -> None:
        self._parts(op.n, await backend.conclude_batch(op.items))

    async def _extend(self, backend: Backend, op: m.ExtendOp) -> None:
        self._job_out(op.n, await backend.extend(op.item))

    async def _extend_batch(self, backend: Backend, op: m.ExtendBatchOp) -> None:
        self._parts(op.n, await backend.extend_batch(op.items))

    async def _release(self, backend: Backend, op: m.ReleaseOp) -> None:
        self._job_out(op.n, await backend.release(op.id, op.token, op.delay))

    async def _release_batch(self, backend: Backend, op: m.ReleaseBatchOp) -> None:
        self._parts(op.n, await backend.release_batch(op.items))

    async def _give_back(self, backend: Backend, op: m.GiveBackOp) -> None:
        self._answer((m.GOT_COUNT, op.n, int(await backend.give_back(op.id, op.token))))

    async def _end_job(self, backend: Backend, op: m.EndOp) -> None:
        self._job_out(op.n, await backend.cancel(op.id))

    async def _edit(self, backend: Backend, op: m.EditOp) -> None:
        self._job_out(op.n, await backend.edit(op.id, op.change))

    async def _retry(self, backend: Backend, op: m.RetryOp) -> None:
        self._job_out(op.n, await backend.retry(op.id))

    async def _job(self, backend: Backend, op: m.JobOp) -> None:
        self._job_out(op.n, await backend.job(op.id, op.wait))

    async def _numbered(self, backend: Backend, op: m.NumberedOp) -> None:
        self._job_out(op.n, await backend.numbered(op.number))

    async def _jobs(self, backend: Backend, op: m.JobsOp) -> None:
        wanted = op.wanted()
        found, cursor = await backend.jobs(wanted)
        size = 0
        for count, job in enumerate(found):
            size += held_bytes(job)
            if count and size > self.frame_bytes_max // 2:
                # Payloads are sent whether they are shown or not, and together they can be larger than a frame.
                found, cursor = found[:count], found[count - 1].number
                if wanted.by_end:
                    # Then a cursor is no number, and only the backend can make it.
                    found, cursor = await backend.jobs(msgspec.structs.replace(wanted, limit=count))
                break
        self._answer((m.GOT_JOBS, op.n, [job_row(job) for job in found], cursor))

    async def _queue_page(self, backend: Backend, op: m.QueuePageOp) -> None:
        page, cursor = await backend.queue_page(op.after, min(op.limit, self._server.limits.page_queues_max))
        self._answer((m.GOT_QUEUES, op.n, page, cursor))

    async def _queue(self, backend: Backend, op: m.QueueOp) -> None:
        self._answer((m.GOT_QUEUE, op.n, await backend.queue(op.name)))

    async def _put_policy(self, backend: Backend, op: m.PutPolicyOp) -> None:
        self._answer((m.GOT_QUEUE, op.n, await backend.put_policy(op.name, op.policy, op.by)))

    async def _delete_queue(self, backend: Backend, op: m.DeleteQueueOp) -> None:
        await backend.delete_queue(op.name)
        self._answer((m.DONE, op.n))

    async def _set_paused(self, backend: Backend, op: m.SetPausedOp) -> None:
        self._answer((m.GOT_QUEUE, op.n, await backend.set_paused(op.name, op.paused, op.by)))

    async def _change_policy(self, backend: Backend, op: m.ChangePolicyOp) -> None:
        self._answer((m.GOT_QUEUE, op.n, await backend.change_policy(op.name, op.change, op.by)))

    async def _keys(self, backend: Backend, op: m.KeysOp) -> None:
        page, after = await backend.keys(op.name, op.after, op.limit)
        self._answer((m.GOT_KEYS, op.n, page, after))

    async def _set_key_paused(self, backend: Backend, op: m.SetKeyPausedOp) -> None:
        self._answer((m.GOT_KEY, op.n, await backend.set_key_paused(op.name, op.key, op.paused, op.by)))

    async def _why(self, backend: Backend, op: m.WhyOp) -> None:
        self._answer((m.GOT_REASONS, op.n, await backend.waiting_for(op.numbers)))

    async def _ask(self, backend: Backend, op: m.AskOp) -> None:
        try:
            request = decode_request(op.request)
        except msgspec.ValidationError as error:
            raise BadRequest(None, f"the request cannot be read: {error}") from None
        self._answer((m.GOT_VALUE, op.n, encode_answer(request, await backend.ask(request))))

    async def _purge(self, backend: Backend, op: m.PurgeOp) -> None:
        self._answer((m.GOT_COUNT, op.n, await backend.purge(op.name)))

    async def _retry_failed(self, backend: Backend, op: m.RetryFailedOp) -> None:
        self._answer((m.GOT_COUNT, op.n, await backend.retry_failed(op.name)))

    async def _listen(self, backend: Backend, op: m.ListenOp) -> None:
        listening = backend.listen(op.wanted(), op.after)
        await listening.__aenter__()
        if self.broken is not None:
            await listening.__aexit__(None, None, None)
            return
        self._listenings[op.n] = listening
        self._answer((m.GOT_LISTENER, op.n, listening.cursor, listening.missed))

    async def _notices(self, backend: Backend, op: m.NoticesOp) -> None:
        listening = self._listenings.get(op.listener)
        if listening is None:
            raise StorageUnavailable("the listener has left")
        limit = min(op.limit, NOTICES_MAX)
        try:
            found = await listening.notices(limit, op.wait)
        except asyncio.CancelledError:
            if op.n not in self._dismissed:
                raise
            found = await listening.notices(limit, 0.0)
        finally:
            self._dismissed.discard(op.n)
        self._answer((m.GOT_NOTICES, op.n, found, listening.cursor))

    async def _stats(self, backend: Backend, op: m.StatsOp) -> None:
        # Requests that were cancelled just before must not be counted any more.
        for _ in range(_CANCEL_TURNS):
            await asyncio.sleep(0)
        self._answer((m.GOT_STATS, op.n, await backend.stats()))

    async def _check(self, backend: Backend, op: m.CheckOp) -> None:
        await backend.check()
        self._answer((m.DONE, op.n))

    async def _follow(self, _backend: Backend, op: m.FollowOp) -> None:
        feeds = self._feeds()
        sink = LinkSink(self, op.n, feeds)
        reign, number = feeds.join(sink, self.peer, op.standby)
        self._sinks[op.n] = sink
        self._answer((m.GOT_FOLLOWING, op.n, reign, number))
        feeds.begin(sink)

    async def _mark(self, _backend: Backend, op: m.MarkOp) -> None:
        self._answer((m.GOT_COUNT, op.n, self._feeds().number))

    def _feeds(self) -> Feeds:
        feeds = self._of_reign()
        if feeds is None:
            raise Moved("this server is not the owner")
        return feeds

    def _job_out(self, n: int, job: Job) -> None:
        self._answer((m.GOT_JOB, n, job_row(job)))

    def _parts(self, n: int, replies: Sequence[Enqueued | Job | QueueError]) -> None:
        """Send a batch's answer, in as many frames as it needs."""
        for items, more in _cut(replies):
            self._answer((m.GOT_PART, n, items, more))


async def resumed_in_full(serving: _Serving, waits_for: Any) -> None:
    """`resumed`, as a coroutine."""
    await resumed(serving, waits_for)


def _cut(replies: Sequence[Enqueued | Job | QueueError]) -> Iterable[tuple[list[tuple[Any, ...]], bool]]:
    """Split items into parts, each with whether more follow."""
    items: list[tuple[Any, ...]] = []
    size = 0
    for reply in replies:
        if size > PART_BYTES:
            yield items, True
            items, size = [], 0
        if isinstance(reply, QueueError):
            items.append((None, error_row(reply)))
            size += len(reply.detail) + 100
        elif isinstance(reply, Enqueued):
            items.append((job_row(reply.job), None, reply.created, reply.handed_over))
            size += held_bytes(reply.job)
        else:
            items.append((job_row(reply),))
            size += held_bytes(reply)
    yield items, False


_Serve = Callable[[OwnerLink, Backend, Any], _Serving]

_SERVES: dict[type[m.Message], tuple[int, _Serve]] = {
    m.EnqueueOp: (m.ENQUEUE, OwnerLink._enqueue),
    m.EnqueueBatchOp: (m.ENQUEUE_BATCH, OwnerLink._enqueue_batch),
    m.DequeueOp: (m.DEQUEUE, OwnerLink._dequeue),
    m.ConcludeOp: (m.CONCLUDE, OwnerLink._conclude),
    m.ConcludeBatchOp: (m.CONCLUDE_BATCH, OwnerLink._conclude_batch),
    m.ExtendOp: (m.EXTEND, OwnerLink._extend),
    m.ExtendBatchOp: (m.EXTEND_BATCH, OwnerLink._extend_batch),
    m.ReleaseOp: (m.RELEASE, OwnerLink._release),
    m.ReleaseBatchOp: (m.RELEASE_BATCH, OwnerLink._release_batch),
    m.GiveBackOp: (m.GIVE_BACK, OwnerLink._give_back),
    m.EndOp: (m.END, OwnerLink._end_job),
    m.RetryOp: (m.RETRY, OwnerLink._retry),
    m.EditOp: (m.EDIT, OwnerLink._edit),
    m.JobOp: (m.JOB, OwnerLink._job),
    m.NumberedOp: (m.NUMBERED, OwnerLink._numbered),
    m.JobsOp: (m.JOBS, OwnerLink._jobs),
    m.QueuePageOp: (m.QUEUE_PAGE, OwnerLink._queue_page),
    m.QueueOp: (m.QUEUE, OwnerLink._queue),
    m.PutPolicyOp: (m.PUT_POLICY, OwnerLink._put_policy),
    m.DeleteQueueOp: (m.DELETE_QUEUE, OwnerLink._delete_queue),
    m.SetPausedOp: (m.SET_PAUSED, OwnerLink._set_paused),
    m.PurgeOp: (m.PURGE, OwnerLink._purge),
    m.RetryFailedOp: (m.RETRY_FAILED, OwnerLink._retry_failed),
    m.ListenOp: (m.LISTEN, OwnerLink._listen),
    m.NoticesOp: (m.NOTICES, OwnerLink._notices),
    m.StatsOp: (m.STATS, OwnerLink._stats),
    m.ChangePolicyOp: (m.CHANGE_POLICY, OwnerLink._change_policy),
    m.KeysOp: (m.KEYS, OwnerLink._keys),
    m.SetKeyPausedOp: (m.SET_KEY_PAUSED, OwnerLink._set_key_paused),
    m.WhyOp: (m.WHY, OwnerLink._why),
    m.AskOp: (m.ASK, OwnerLink._ask),
    m.AskHeldOp: (m.ASK_HELD, OwnerLink._ask),
    m.AskChangeOp: (m.ASK_CHANGE, OwnerLink._ask),
    m.CheckOp: (m.CHECK, OwnerLink._check),
    m.FollowOp: (m.FOLLOW, OwnerLink._follow),
    m.MarkOp: (m.MARK, OwnerLink._mark),
}
_OPS = frozenset(op for op, _ in _SERVES.values())
