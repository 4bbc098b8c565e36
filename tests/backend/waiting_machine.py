"""A property test of held dequeues: workers, faults and time meet in every order within one turn of a real event loop.

Rules only schedule: `loop.call_soon` puts an operation, a cancellation or the passing of time into the next turn, in the order
in which Hypothesis draws them; other rules run a turn or run until idle. Faults must go through the loop: a task cancelled from outside
between turns never meets the hand-out that it races with, and the lost wake-up of python/cpython#112202 stays unfound.

The model is what the workers see: which requests stand, who holds which lease until when. It repeats nothing of the engine. What
must hold is checked after every turn (nobody stands for a queue that has a job to give) and whenever the loop is idle (the rest).
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from jobqueue.backend.base import Extend, StorageStats
from jobqueue.backend.local import LocalBackend
from jobqueue.engine.engine import Engine
from jobqueue.engine.events import Event
from jobqueue.errors import LeaseLost, NotInProgress, QueueError
from jobqueue.histogram import Timings
from jobqueue.ids import Ids
from jobqueue.model import Job, JobSpec, Outcome, Status, Verdict, Want
from jobqueue.policy import Backoff

from .clocks import TurnClock
from .turnloop import TurnLoop

QUEUES = ("a", "b")

EXTENSION_SECONDS = 5.0
"""What every extend asks for, which is less than some leases have left."""


class SlowJournal:
    """Commits everything, two turns of the loop later."""

    def __init__(self) -> None:
        self._ticket = 0

    def append(self, events: list[Event]) -> int:
        self._ticket += len(events)
        return self._ticket

    def check(self, adding: bool) -> None:
        pass

    async def committed(self, ticket: int) -> None:
        for _ in range(2):
            await asyncio.sleep(0)

    def stats(self) -> StorageStats:
        return StorageStats(False, Timings(), 0)

    async def close(self) -> None:
        pass


class Held:
    """A lease as the worker that was handed it knows it.

    order: that of the hand-out among all. live: nothing is known to have ended it but time. over: a worker ended it, so no replay
    brings it back. replayed: it was handed out again, so a failed write does not end it.
    """

    def __init__(self, job: Job) -> None:
        assert job.lease is not None
        self.job_id = job.id
        self.queue = job.queue
        self.token = job.lease.token
        self.expires_at = job.lease.expires_at
        self.order = int(self.token, 16)
        self.live = True
        self.over = False
        self.replayed = False

    def __repr__(self) -> str:
        return f"<lease {self.order} on {self.job_id} of {self.queue}>"


class Request:
    """One dequeue: held, handed jobs, writing its answer, over."""

    def __init__(self, want: Want, wait: float) -> None:
        self.want = want
        self.wait = wait
        self.arrival = 0
        self.until = 0.0
        self.leases: list[Held] = []
        self.handed: list[Held] = []
        self.answered = False
        self.written: asyncio.Future[None] | None = None
        self.task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<request {self.arrival} for {'+'.join(self.want.queues)}>"


class Watch:
    """One wait for a result."""

    def __init__(self, job_id: str, wait: float) -> None:
        self.job_id = job_id
        self.wait = wait
        self.until = 0.0


class Waiting(RuleBasedStateMachine):
    """Workers and producers of two queues on one backend."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = TurnLoop()
        self.clock = TurnClock()
        tokens = itertools.count(1)
        # Job ids are the machine's own, so each 16 bytes of entropy make one lease token: their order is that of the hand-outs.
        ids = Ids(lambda count: b"".join(next(tokens).to_bytes(16) for _ in range(count // 16)))
        self.engine = Engine(ids=ids)
        self.backend = LocalBackend(engine=self.engine, clock=self.clock)
        self.arrivals = itertools.count(1)
        self.numbers = itertools.count(1)
        self.requests: list[Request] = []
        self.watches: list[Watch] = []
        self.operations: list[asyncio.Task[None]] = []
        self.leases: dict[str, Held] = {}
        self.acknowledged: list[str] = []
        self.fresh: list[Request] = []
        self.busy = False

    @initialize(slow_disk=st.booleans())
    def start(self, slow_disk: bool) -> None:
        """Half of all runs commit to a journal, so that a request can be cancelled while its lease is being committed."""
        if slow_disk:
            self.backend.journal = SlowJournal()

    # What runs inside the loop.

    def soon(self, operation: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start an operation in the next turn, after whatever was put there before."""
        self.busy = True
        task = self.loop.create_task(operation)
        self.operations.append(task)
        return task

    async def request(self, request: Request) -> None:
        request.arrival = next(self.arrivals)
        request.until = self.clock.now() + request.wait
        request.written = self.loop.create_future()
        taking = self.backend.dequeue(request.want, request.wait)
        delivered = False
        try:
            async with taking as jobs:
                request.answered = True
                self.hand(request, jobs)
                if jobs:
                    await request.written
                    taking.delivered()
                    delivered = True
        finally:
            if not delivered:
                for lease in request.handed:
                    lease.live = lease.live and lease.replayed

    def hand(self, request: Request, jobs: list[Job]) -> None:
        """Note what a worker was handed."""
        for job in jobs:
            assert job.lease is not None
            lease = self.leases.setdefault(job.lease.token, Held(job))
            if job.lease.replayed:
                # Handed out again: from now on no failed write puts it back, so a first request that has failed lost nothing.
                lease.replayed = True
                lease.live = not lease.over
            else:
                assert not any(lease in other.handed for other in self.requests), f"{request} was handed {lease}, which another has"
                request.handed.append(lease)
            request.leases.append(lease)
        self.fresh.append(request)

    async def enqueue(self, specs: list[JobSpec]) -> None:
        for reply in await self.backend.enqueue_batch(specs):
            assert not isinstance(reply, QueueError)
            self.acknowledged.append(reply.job.id)

    def believed(self, lease: Held) -> bool:
        return lease.live and lease.expires_at > self.clock.now()

    async def work(self, lease: Held, operation: Callable[[], Awaitable[Job]], ends: bool) -> None:
        """A worker's operation under its lease, which must succeed if the lease is live as far as the worker can know."""
        believed = self.believed(lease)
        if ends:
            lease.live, lease.over = False, True
        else:
            # It is shorter from now on, perhaps, though the answer may wait for a slow disk.
            lease.expires_at = min(lease.expires_at, self.clock.now() + EXTENSION_SECONDS)
        try:
            job = await operation()
        except (LeaseLost, NotInProgress):
            assert not believed, f"a live lease of {lease.job_id} was refused"
            return
        if not ends:
            assert job.lease is not None
            lease.expires_at = job.lease.expires_at

    async def watched(self, watch: Watch) -> None:
        watch.until = self.clock.now() + watch.wait
        self.watches.append(watch)
        try:
            job = await self.backend.job(watch.job_id, watch.wait)
            assert job.id == watch.job_id
        finally:
            self.watches.remove(watch)

    async def ignore_races(self, operation: Callable[[], Awaitable[Any]]) -> None:
        try:
            await operation()
        except QueueError:
            return

    # Rules: the world.

    @rule(
        queues=st.sampled_from([("a",), ("b",), ("a", "b"), ("b", "a")]),
        wait=st.sampled_from([0.0, 2.0, 5.0, 60.0, 60.0]),
        limit=st.sampled_from([1, 1, 1, 3]),
        lease_seconds=st.sampled_from([2.0, 5.0, 300.0]),
        attempt_id=st.sampled_from([None, None, None, "x", "y"]),
    )
    def dequeue(self, queues: tuple[str, ...], wait: float, limit: int, lease_seconds: float, attempt_id: str | None) -> None:
        """A worker asks for jobs."""
        request = Request(Want(queues=queues, limit=limit, lease_seconds=lease_seconds, attempt_id=attempt_id), wait)
        request.task = self.soon(self.request(request))
        self.requests.append(request)

    @rule(queue=st.sampled_from(QUEUES), count=st.sampled_from([1, 1, 1, 2, 3]), delay=st.sampled_from([None, None, None, 2.0]))
    def submit(self, queue: str, count: int, delay: float | None) -> None:
        """A producer submits jobs."""
        backoff = Backoff(base=2, factor=1, cap=2)
        jobs = [JobSpec(payload=b"1", id=f"j{next(self.numbers)}", queue=queue, delay=delay, backoff=backoff) for _ in range(count)]
        self.soon(self.enqueue(jobs))

    def open_requests(self) -> list[Request]:
        return [request for request in self.requests if request.task is not None and not request.task.done()]

    def standing(self) -> list[Request]:
        return [request for request in self.open_requests() if request.arrival and not request.answered]

    @precondition(lambda self: self.open_requests())
    @rule(data=st.data())
    def vanish(self, data: st.DataObject) -> None:
        """A client goes while it waits, while its lease is committed, or while its answer is written."""
        request = data.draw(st.sampled_from(self.open_requests()), "who")
        assert request.task is not None
        self.busy = True
        self.loop.call_soon(request.task.cancel)

    @precondition(lambda self: self.standing())
    @rule(data=st.data(), cause=st.sampled_from(["submit", "resume", "time"]), gone_first=st.booleans())
    def vanish_at_a_hand_out(self, data: st.DataObject, cause: str, gone_first: bool) -> None:
        """A client goes in the very turn in which a job may be handed to it, just before that or just after."""
        request = data.draw(st.sampled_from(self.standing()), "who")
        queue = request.want.queues[0]
        assert request.task is not None
        self.busy = True
        if gone_first:
            self.loop.call_soon(request.task.cancel)
        if cause == "submit":
            self.submit(queue, 1, None)
        elif cause == "resume":
            self.pause_or_resume(queue, False)
        else:
            self.pass_time(2.0)
        if not gone_first:
            self.loop.call_soon(request.task.cancel)

    def writing(self) -> list[Request]:
        return [request for request in self.open_requests() if request.leases and request.written and not request.written.done()]

    @precondition(lambda self: self.writing())
    @rule(data=st.data(), good=st.booleans())
    def write(self, data: st.DataObject, good: bool) -> None:
        """The answer of a request is written, or cannot be."""
        written = data.draw(st.sampled_from(self.writing()), "who").written
        assert written is not None
        self.busy = True
        if good:
            self.loop.call_soon(lambda: None if written.done() else written.set_result(None))
        else:
            self.loop.call_soon(written.cancel)

    def delivered(self) -> list[Held]:
        return [lease for lease in self.leases.values() if lease.live]

    @precondition(lambda self: self.delivered())
    @rule(data=st.data(), what=st.sampled_from(["succeed", "fail", "release", "release later", "extend"]))
    def work_on(self, data: st.DataObject, what: str) -> None:
        """A worker concludes, releases or extends; its lease may be over by then."""
        lease = data.draw(st.sampled_from(self.delivered()), "lease")
        job_id, token = lease.job_id, lease.token
        operations: dict[str, Callable[[], Awaitable[Job]]] = {
            "succeed": lambda: self.backend.conclude(job_id, token, Verdict(outcome=Outcome.SUCCEEDED)),
            "fail": lambda: self.backend.conclude(job_id, token, Verdict(outcome=Outcome.FAILED)),
            "release": lambda: self.backend.release(job_id, token, 0.0),
            "release later": lambda: self.backend.release(job_id, token, 2.0),
            "extend": lambda: self.backend.extend(Extend(job_id, token, EXTENSION_SECONDS)),
        }
        self.soon(self.work(lease, operations[what], ends=what != "extend"))

    @rule(seconds=st.sampled_from([1.0, 2.0, 3.0, 60.0]))
    def pass_time(self, seconds: float) -> None:
        """Time passes inside a turn: what falls due does so between the other things of that turn."""
        self.busy = True
        self.loop.call_soon(self.clock.advance, seconds)

    @rule(queue=st.sampled_from(QUEUES), paused=st.sampled_from([False, False, True]))
    def pause_or_resume(self, queue: str, paused: bool) -> None:
        """An operator pauses or resumes a queue."""
        self.soon(self.ignore_races(lambda: self.backend.set_paused(queue, paused)))

    @precondition(lambda self: self.acknowledged)
    @rule(data=st.data(), what=st.sampled_from(["cancel", "retry", "redrive"]))
    def administer(self, data: st.DataObject, what: str) -> None:
        """An operator cancels or retries a job, or redrives a queue; what comes too late is refused."""
        job_id = data.draw(st.sampled_from(self.acknowledged), "job")
        operations: dict[str, Callable[[], Awaitable[object]]] = {
            "cancel": lambda: self.backend.cancel(job_id),
            "retry": lambda: self.backend.retry(job_id),
            "redrive": lambda: self.backend.retry_failed(self.engine.job(job_id).queue),
        }
        self.soon(self.ignore_races(operations[what]))

    @precondition(lambda self: self.acknowledged)
    @rule(data=st.data(), wait=st.sampled_from([2.0, 60.0]))
    def watch(self, data: st.DataObject, wait: float) -> None:
        """A producer waits for a result."""
        job_id = data.draw(st.sampled_from(self.acknowledged), "job")
        self.soon(self.watched(Watch(job_id, wait)))

    # Rules: the loop.

    @rule()
    def turn(self) -> None:
        """The loop makes one turn."""
        self.busy = self.loop.turn()
        self.check_nobody_stands_before_a_job()

    @rule()
    def run_until_idle(self) -> None:
        """The loop turns until nothing is left to do."""
        self.settle()

    def settle(self) -> None:
        while self.busy:
            self.turn()
        self.check_tasks()
        self.check_line()
        self.check_order()
        self.check_jobs()

    # What must hold.

    def check_nobody_stands_before_a_job(self) -> None:
        """Nobody waits for a queue that has a job to give."""
        for name in QUEUES:
            standing = self.backend._dequeues.count(name)
            assert not (standing and self.engine.available(name)), f"{standing} stand for {name}, which has a job to give"

    def check_tasks(self) -> None:
        """No operation raised anything but what it may, and none but those that hold a request is still running."""
        assert not self.loop.errors, self.loop.errors
        for task in self.operations:
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                raise error
        self.operations = [task for task in self.operations if not task.done()]
        holding = len(self.open_requests()) + len(self.watches)
        assert len(self.operations) == holding, f"{len(self.operations)} operations run for {holding} requests"

    def check_line(self) -> None:
        """Who stands for the workers stands for the backend; no wait is overdue; no wait for a result outlasts its job."""
        standing = self.standing()
        for request in standing:
            assert request.until > self.clock.now(), f"{request} waits although its wait has passed"
        for watch in self.watches:
            assert watch.until > self.clock.now(), f"a wait for the result of {watch.job_id} goes on although it has passed"
            assert self.engine.job(watch.job_id).status is not Status.CONCLUDED, f"{watch.job_id} has ended and its wait goes on"
        waiters = self.backend.totals().waiters
        assert waiters == len(standing) + len(self.watches), (
            f"{waiters} stand for the backend; for the workers {standing} and {self.watches}"
        )

    def check_order(self) -> None:
        """Nobody was handed a job of a queue for which an older request stood then, served later or not at all."""
        for request in self.fresh:
            for lease in request.handed:
                for older in self.requests:
                    if older.arrival >= request.arrival or older.wait == 0 or lease.queue not in older.want.queues:
                        continue
                    assert older.task is not None
                    passed = not older.answered and not older.task.done()
                    passed = passed or (bool(older.handed) and min(held.order for held in older.handed) > lease.order)
                    assert not passed, f"{request} was handed {lease.job_id} of {lease.queue} before {older}"
        self.fresh.clear()

    def check_jobs(self) -> None:
        """Every acknowledged job is there; one in progress is leased to one worker that knows; every lease a worker counts on holds."""
        for job_id in self.acknowledged:
            job = self.engine.job(job_id)
            if job.status is Status.IN_PROGRESS:
                assert job.lease is not None
                lease = self.leases.get(job.lease.token)
                assert job.lease.replayed or (lease is not None and lease.live), f"{job_id} is leased to nobody"
        holders: dict[str, Held] = {}
        for lease in self.leases.values():
            if self.believed(lease):
                assert lease.job_id not in holders, f"{lease.job_id} has two live leases"
                holders[lease.job_id] = lease
                held = self.engine.job(lease.job_id).lease
                assert held is not None, f"the lease on {lease.job_id} ended before its time"
                assert held.token == lease.token, f"the lease on {lease.job_id} was given away"

    def teardown(self) -> None:
        """Drain: every request is answered, and nothing is left of them."""
        try:
            self.settle()
            self.busy = True
            self.loop.call_soon(self.backend.drain)
            self.settle()
            assert not self.standing()
            assert self.backend.totals().waiters == 0
            for request in self.open_requests():
                assert request.task is not None
                request.task.cancel()
            self.soon(self.backend.close())
            self.settle()
            assert not asyncio.all_tasks(self.loop)
        finally:
            for task in asyncio.all_tasks(self.loop):
                task.cancel()
            self.loop.idle()
            self.loop.close()
