"""The engine against a naive oracle: any sequence of operations, compared job by job after every step."""

from __future__ import annotations

from random import Random
from typing import Any

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from jobqueue.engine.engine import Engine
from jobqueue.engine.events import Kind
from jobqueue.errors import QueueError
from jobqueue.model import Backoff, JobSpec, Outcome, QueuePolicy, Verdict, Want
from tests.factories import make_engine

from .invariants import fingerprint, invariants
from .oracle import Oracle

QUEUES = ("a", "b", "c")
STEP = 1 / 1024
"""Every operation has a moment of its own, exact in binary, so that due times set by different operations are never equal."""

queues = st.sampled_from(QUEUES)
seconds = st.integers(1, 20).map(float)
perhaps = st.none() | seconds
pick = st.integers(0, 7)
backoffs = st.sampled_from([Backoff(1.0, 2.0, 10.0), Backoff(4.0, 3.0, 30.0), Backoff(0.0, 1.0, 0.0)])
specs = st.builds(
    JobSpec,
    payload=st.sampled_from([b"1", b"22", b"x" * 30]),
    id=st.none() | st.sampled_from(["one", "two", "three"]),
    queue=queues,
    priority=st.sampled_from([5, 5, 5, 0, 9]),
    delay=st.none() | st.integers(0, 20).map(float),
    expires_in=st.none() | st.integers(5, 40).map(float),
    max_attempts=st.none() | st.integers(1, 3),
    backoff=st.none() | backoffs,
    lease_seconds=perhaps,
)
verdicts = st.sampled_from(
    [
        Verdict(outcome=Outcome.SUCCEEDED),
        Verdict(outcome=Outcome.SUCCEEDED, result=b"[1,2]"),
        Verdict(outcome=Outcome.FAILED),
        Verdict(outcome=Outcome.FAILED, error=b'"why"'),
        Verdict(outcome=Outcome.FAILED, error=b'"why"', retry=False),
    ]
)
policies = st.builds(
    QueuePolicy,
    lease_seconds=seconds,
    max_attempts=st.integers(1, 3),
    backoff=backoffs,
    max_jobs=st.sampled_from([None, None, None, 2, 30]),
    paused=st.sampled_from([False, False, False, True]),
)


class EngineMachine(RuleBasedStateMachine):
    """Does the same to both and compares replies at once, everything else after the step."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000.0
        self.tokens: list[tuple[str, str]] = []

    @initialize(seed=st.integers(0, 3))
    def start(self, seed: int) -> None:
        self.engine: Engine = make_engine(
            seed,
            jobs_max=50,
            payload_bytes_max=50,
            payload_total_bytes_max=150,
            queues_max=2,
            history_jobs_max=3,
            history_bytes_max=70,
        )
        self.oracle = Oracle(self.engine.limits, self.engine.default_policy)

    def moment(self) -> float:
        self.now += STEP
        return self.now

    def ask(self, operation: str, *args: Any) -> tuple[str | None, Any]:
        """(None, the engine's reply), or (the error's code, None) once it is sure that a refusal changed nothing."""
        before = fingerprint(self.engine)
        try:
            return None, getattr(self.engine, operation)(*args)
        except QueueError as error:
            assert fingerprint(self.engine) == before, f"{operation} was refused and changed something"
            return error.code, None

    def known(self, which: int) -> str:
        """The id of a job both know, the newest first, or of none."""
        ids = list(self.oracle.items)
        return ids[-1 - which % len(ids)] if ids else "nobody"

    # Submitting and taking.

    @rule(spec=specs)
    def enqueue(self, spec: JobSpec) -> None:
        now = self.moment()
        code, reply = self.ask("enqueue", now, spec)
        said = self.oracle.enqueue(now, spec, reply[0].id if reply else "")
        assert said == (code or ("made" if reply[1] else "known"))

    @rule(name=queues, count=st.sampled_from([5, 20]))
    def enqueue_many(self, name: str, count: int) -> None:
        """Enough of one queue and priority for its ring to grow."""
        for _ in range(count):
            self.enqueue(JobSpec(payload=b"", queue=name))

    @rule(which=pick)
    def enqueue_again(self, which: int) -> None:
        item = self.oracle.items.get(self.known(which))
        if item is not None:
            self.enqueue(msgspec.structs.replace(item.spec, id=item.id))

    @rule(
        names=st.sampled_from([("a",), ("b",), ("a", "b"), ("b", "c", "a"), ("c", "a", "c")]),
        limit=st.sampled_from([1, 1, 2, 3, 30]),
        lease=perhaps,
        attempt=st.none() | st.sampled_from(["x", "y"]),
    )
    def dequeue(self, names: tuple[str, ...], limit: int, lease: float | None, attempt: str | None) -> None:
        now = self.moment()
        if attempt is not None:
            again = self.engine.replay(Want(queues=names, attempt_id=attempt))
            assert [job.id for job in again] == self.oracle.replay(attempt, names)
            if again:
                return
        jobs = self.engine.dequeue(now, Want(queues=names, limit=limit, lease_seconds=lease, attempt_id=attempt))
        taken = self.oracle.dequeue(now, names, limit)
        assert [job.id for job in jobs] == [item.id for item in taken]
        for job, item in zip(jobs, taken, strict=True):
            assert job.lease is not None
            self.oracle.lease(item, now, job.lease.token, lease, attempt)
            assert all(job.lease.token != token for _, token in self.tokens)
            self.tokens.append((job.id, job.lease.token))

    # What a worker may do, with any token ever given, the latest being the likeliest.

    @precondition(lambda self: self.tokens)
    @rule(which=pick)
    def put_back(self, which: int) -> None:
        now, (job_id, token) = self.moment(), self.tokens[-1 - which % len(self.tokens)]
        assert self.engine.put_back(now, job_id, token) == self.oracle.put_back(now, job_id, token)

    @precondition(lambda self: self.tokens)
    @rule(which=pick, lease=perhaps)
    def extend(self, which: int, lease: float | None) -> None:
        now, (job_id, token) = self.moment(), self.tokens[-1 - which % len(self.tokens)]
        assert self.ask("extend", now, job_id, token, lease)[0] == self.oracle.extend(now, job_id, token, lease)

    @precondition(lambda self: self.tokens)
    @rule(which=pick, delay=st.sampled_from([0.0, 0.0, 3.0, 12.0]))
    def release(self, which: int, delay: float) -> None:
        now, (job_id, token) = self.moment(), self.tokens[-1 - which % len(self.tokens)]
        assert self.ask("release", now, job_id, token, delay)[0] == self.oracle.release(now, job_id, token, delay)

    @precondition(lambda self: self.tokens)
    @rule(which=pick, verdict=verdicts)
    def conclude(self, which: int, verdict: Verdict) -> None:
        now, (job_id, token) = self.moment(), self.tokens[-1 - which % len(self.tokens)]
        code, job = self.ask("conclude", now, job_id, token, verdict)
        said = self.oracle.conclude(job_id, token, verdict)
        if said == "retry":
            assert code is None
            assert 0.0 <= job.run_at - now <= self.oracle.ceiling(self.oracle.items[job_id])
            self.oracle.back_off(job_id, job.run_at)
        else:
            assert code == said

    @rule(undelivered=st.booleans(), shuffle=st.randoms(use_true_random=False))
    def everybody_gives_back(self, undelivered: bool, shuffle: Random) -> None:
        """All leases end together, in any order: all clients vanish, or all workers stop."""
        held = [(item.id, item.hold.token) for item in self.oracle.live() if item.hold]
        shuffle.shuffle(held)
        for job_id, token in held:
            now = self.moment()
            if undelivered:
                assert self.engine.put_back(now, job_id, token) == self.oracle.put_back(now, job_id, token)
            else:
                self.engine.release(now, job_id, token)
                assert self.oracle.release(now, job_id, token, 0.0) is None

    # What anyone may do.

    @rule(which=pick)
    def cancel(self, which: int) -> None:
        job_id = self.known(which)
        assert self.ask("cancel", self.moment(), job_id)[0] == self.oracle.cancel(job_id)

    @rule(which=pick)
    def retry(self, which: int) -> None:
        now, job_id = self.moment(), self.known(which)
        assert self.ask("retry", now, job_id)[0] == self.oracle.retry(now, job_id)

    @rule(name=queues, policy=policies)
    def put_policy(self, name: str, policy: QueuePolicy) -> None:
        code, made = self.ask("put_policy", name, policy)
        if name not in self.oracle.queues and len(self.oracle.queues) >= self.engine.limits.queues_max:
            assert code == "too_many_queues"
            return
        assert (code, made) == (None, name not in self.oracle.queues)
        self.oracle.queues[name] = policy

    @rule(name=queues, paused=st.sampled_from([False, False, True]))
    def set_paused(self, name: str, paused: bool) -> None:
        code, _ = self.ask("set_paused", name, paused)
        assert (code == "unknown_queue") == (name not in self.oracle.queues)
        if code is None:
            self.oracle.queues[name] = msgspec.structs.replace(self.oracle.queues[name], paused=paused)

    @rule(name=queues)
    def delete_queue(self, name: str) -> None:
        code, _ = self.ask("delete_queue", name)
        if name not in self.oracle.queues:
            assert code == "unknown_queue"
        elif self.oracle.live(name):
            assert code == "queue_not_empty"
        else:
            assert code is None
            del self.oracle.queues[name]

    @rule(name=queues)
    def purge(self, name: str) -> None:
        if name not in self.oracle.queues:
            assert self.ask("waiting", name)[0] == "unknown_queue"
            return
        jobs = self.engine.waiting(name)
        ids = [job.id for job in jobs]
        assert sorted(ids) == sorted(item.id for item in self.oracle.live(name) if item.status != "in_progress")
        assert self.engine.purge(self.moment(), jobs) == len(ids)
        for job_id in ids:
            assert self.oracle.cancel(job_id) is None

    @rule(name=queues)
    def redrive(self, name: str) -> None:
        if name not in self.oracle.queues:
            assert self.ask("failed", name)[0] == "unknown_queue"
            return
        jobs = self.engine.failed(name)
        ids = [item.id for item in self.oracle.history["failed"] if item.spec.queue == name]
        assert [job.id for job in jobs] == ids
        now, retried = self.moment(), 0
        while retried < len(ids) and self.oracle.retry(now, ids[retried]) is None:
            retried += 1
        assert self.engine.redrive(now, jobs) == retried

    # Time.

    def tick(self, now: float) -> None:
        self.engine.take_events()
        self.engine.tick(now)
        order = [event.job.id for event in self.engine.take_events() if event.kind is not Kind.FORGOTTEN and event.job is not None]
        self.oracle.tick(now, order)

    @rule(passing=st.sampled_from([1.0, 3.0, 10.0, 30.0, 120.0]))
    def time_passes(self, passing: float) -> None:
        """As the ticker does it: at every next_deadline on the way."""
        end = self.now + passing
        while (due := self.engine.next_deadline()) is not None and due <= end:
            self.tick(due)
        self.tick(end)
        self.now = end

    @rule(passing=st.sampled_from([0.0, 5.0, 40.0]), tick=st.booleans())
    def ticker_is_late(self, passing: float, tick: bool) -> None:
        """One tick for all that was due meanwhile, or none yet: requests come between a due time and its tick."""
        self.now += passing
        if tick:
            self.tick(self.now)

    # Comparing.

    @invariant()
    def same_as_the_oracle(self) -> None:
        engine, oracle = self.engine, self.oracle
        assert {
            job.id: (
                str(job.status),
                None if job.outcome is None else job.outcome.value,
                job.attempts,
                job.run_at,
                job.expires_at,
                job.error,
                None if job.conclusion is None else job.conclusion.result,
                None if job.lease is None else (job.lease.token, job.lease.expires_at, job.lease.cancel_requested, job.lease.replayed),
            )
            for job in engine.jobs.by_id.values()
        } == oracle.view()
        assert {name: queue.policy for name, queue in engine.queues.items()} == oracle.queues
        for name in oracle.queues:
            assert [job.id for job in engine.queue(name).jobs()] == [item.id for item in oracle.waiting(name)]
        for outcome in Outcome:
            assert [job.id for job in engine.history.jobs(outcome)] == [item.id for item in oracle.history[outcome]]

    @invariant()
    def everything_that_is_always_true(self) -> None:
        invariants(self.engine)
        self.engine.take_events()


EngineMachine.TestCase.settings = settings(
    max_examples=150,
    stateful_step_count=50,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)


class TestEngineAgainstOracle(EngineMachine.TestCase):
    """Both agree after every step of every sequence Hypothesis thinks of."""
