"""The engine against a naive oracle: any sequence of operations, compared job by job after every step."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from jobqueue.engine.engine import Engine
from jobqueue.engine.events import Kind
from jobqueue.engine.purging import Purge
from jobqueue.errors import QueueError, UnknownQueue
from jobqueue.model import JobChange, JobSpec, Outcome, Verdict, Want
from jobqueue.policy import Backoff, QueuePolicy
from tests.factories import FORGED, make_engine

from .editing import any_change, changes, edit
from .invariants import fingerprint, invariants
from .oracle import WAITS, Item, Oracle

QUEUES = ("a", "b", "c")
STEP = 1 / 65536
"""Every operation has a moment of its own, exact in binary, so that due times set by different operations are never equal."""

queues = st.sampled_from(QUEUES)
seconds = st.integers(1, 20).map(float)
perhaps = st.none() | seconds | st.just(0.0)
pick = st.integers(0, 15)
backoffs = st.sampled_from([Backoff(1.0, 2.0, 10.0), Backoff(4.0, 3.0, 30.0), Backoff(0.0, 1.0, 0.0)])
specs = st.builds(
    JobSpec,
    payload=st.sampled_from([b"1", b"22", b"x" * 30]),
    id=st.none() | st.sampled_from(["one", "two", "three"]),
    queue=queues,
    type=st.sampled_from([None, None, "mail"]),
    description=st.sampled_from([None, None, "ä" * 5]),
    priority=st.sampled_from([5, 5, 5, 0, 9]),
    delay=st.none() | st.integers(0, 20).map(float),
    expires_in=st.sampled_from([None, 5.0, 25.0]),
    max_attempts=st.none() | st.integers(1, 3),
    backoff=st.none() | backoffs,
    lease_seconds=perhaps,
)
ALL = ("purge_all", "delete_with_all")
"""What ends all that lives in a queue."""

letters = st.sampled_from([None, None, "a", "b", "c"])
verdicts = st.sampled_from(
    [
        Verdict(outcome=Outcome.SUCCEEDED),
        Verdict(outcome=Outcome.SUCCEEDED, result=b"[1,2]"),
        Verdict(outcome=Outcome.FAILED),
        Verdict(outcome=Outcome.FAILED, error=b'"why"'),
        Verdict(outcome=Outcome.FAILED, error=b'"' + b"y" * 45 + b'"'),
        Verdict(outcome=Outcome.FAILED, error=b'"why"', retry=False),
    ]
)
policies = st.builds(
    QueuePolicy,
    lease_seconds=seconds,
    max_attempts=st.sampled_from([1, 1, 2, 3, None]),
    backoff=backoffs,
    max_jobs=st.sampled_from([None, None, None, 2, 30]),
    paused=st.sampled_from([False, False, False, True]),
    dead_letter=letters,
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
            payload_total_bytes_max=250,
            queues_max=2,
            history_jobs_max=3,
            history_bytes_max=90,
            answer_bytes_max=60,
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

    def known(self, which: int, likely: list[Item]) -> str:
        """The id of a job: mostly one of those the operation is for, else any, or none."""
        items = likely if likely and which > 1 else list(self.oracle.items.values())
        return items[-1 - which % len(items)].id if items else "nobody"

    def lease(self, which: int) -> tuple[str, str]:
        """A job and a token: mostly a live one, else any ever given, or none."""
        held = [(item.id, item.hold.token) for item in self.oracle.live() if item.hold]
        tokens = held if held and which > 1 else self.tokens
        return tokens[-1 - which % len(tokens)] if tokens else ("nobody", FORGED)

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
        item = self.oracle.items.get(self.known(which, []))
        if item is not None:
            self.enqueue(msgspec.structs.replace(item.spec, id=item.id))

    @rule(
        names=st.sampled_from([("a",), ("b",), ("a", "b"), ("b", "c", "a"), ("c", "a", "c")]),
        limit=st.sampled_from([1, 1, 2, 3, 30]),
        lease=perhaps,
        attempt=st.sampled_from([None, "x", "x", "y"]),
        whose=st.sampled_from([(None, ""), (None, ""), ("w1", ""), ("w1", "token"), (None, "token")]),
    )
    def dequeue(
        self, names: tuple[str, ...], limit: int, lease: float | None, attempt: str | None, whose: tuple[str | None, str] = (None, "")
    ) -> None:
        now = self.moment()
        queues = tuple(dict.fromkeys(names)) if attempt is not None else names
        want = Want(queues=queues, limit=limit, lease_seconds=lease, attempt_id=attempt, worker=whose[0], who=whose[1])
        if attempt is not None:
            again = self.engine.replay(want)
            assert [job.id for job in again] == self.oracle.replay(want)
            if again:
                return
        jobs = self.engine.dequeue(now, want)
        taken = self.oracle.dequeue(now, queues, limit)
        assert [job.id for job in jobs] == [item.id for item in taken]
        for job, item in zip(jobs, taken, strict=True):
            assert job.lease is not None
            self.oracle.lease(item, now, job.lease.token, want)
            assert all(job.lease.token != token for _, token in self.tokens)
            self.tokens.append((job.id, job.lease.token))

    # What a worker may do, or anyone with a token.

    @rule(which=pick)
    def put_back(self, which: int) -> None:
        now, (job_id, token) = self.moment(), self.lease(which)
        assert self.engine.put_back(now, job_id, token) == self.oracle.put_back(now, job_id, token)

    @rule(which=pick, lease=perhaps, message=st.sampled_from([None, None, "half", "m" * 40]))
    def extend(self, which: int, lease: float | None, message: str | None = None) -> None:
        now, (job_id, token) = self.moment(), self.lease(which)
        assert self.ask("extend", now, job_id, token, lease, None, message)[0] == self.oracle.extend(now, job_id, token, lease, message)

    @rule(which=pick, delay=st.sampled_from([0.0, 0.0, 3.0, 12.0]))
    def release(self, which: int, delay: float) -> None:
        now, (job_id, token) = self.moment(), self.lease(which)
        assert self.ask("release", now, job_id, token, delay)[0] == self.oracle.release(now, job_id, token, delay)

    @rule(which=pick, verdict=verdicts)
    def conclude(self, which: int, verdict: Verdict) -> None:
        now, (job_id, token) = self.moment(), self.lease(which)
        code, job = self.ask("conclude", now, job_id, token, verdict)
        said = self.oracle.conclude(now, job_id, token, verdict)
        if said == "retry":
            assert code is None
            assert 0.0 <= job.run_at - now <= self.oracle.ceiling(self.oracle.items[job_id])
            self.oracle.back_off(job_id, job.run_at)
        else:
            assert code == said

    @rule(which=pick, result=st.sampled_from([None, b"[1,2]"]))
    def conclude_late(self, which: int, result: bytes | None) -> None:
        """Mostly by the token of a lease that ran out last."""
        late = [(item.id, item.late) for item in self.oracle.live() if item.late is not None]
        job_id, token = late[-1 - which % len(late)] if late and which > 2 else self.lease(which)
        now, verdict = self.moment(), Verdict(outcome=Outcome.SUCCEEDED, result=result, late=True)
        assert self.ask("conclude", now, job_id, token, verdict)[0] == self.oracle.conclude(now, job_id, token, verdict)

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
        job_id = self.known(which, self.oracle.live())
        assert self.ask("cancel", self.moment(), job_id)[0] == self.oracle.cancel(job_id)

    @rule(which=pick)
    def retry(self, which: int) -> None:
        now, job_id = self.moment(), self.known(which, [item for item in self.oracle.items.values() if item.outcome])
        assert self.ask("retry", now, job_id)[0] == self.oracle.retry(now, job_id)

    @rule(which=pick, change=changes)
    def edit(self, which: int, change: JobChange) -> None:
        now, job_id = self.moment(), self.known(which, [item for item in self.oracle.live() if item.status != "in_progress"])
        assert self.ask("edit", now, job_id, change)[0] == edit(self.oracle, now, job_id, change)

    @rule(
        what=st.sampled_from(["put_policy", "pause", "resume", "resume", "purge", "retry_failed", "redrive", "delete_queue", *ALL]),
        name=queues,
        policy=policies,
    )
    def administer(self, what: str, name: str, policy: QueuePolicy) -> None:
        """One rule for all of them, so that they do not undo what the others build."""
        if what == "put_policy":
            self.put_policy(name, policy)
        elif what in ("pause", "resume"):
            self.set_paused(name, what == "pause")
        else:
            getattr(self, what)(name)

    def put_policy(self, name: str, policy: QueuePolicy) -> None:
        code, made = self.ask("put_policy", name, policy)
        if self.oracle.circle(name, policy):
            assert code == "bad_request"
            return
        if name not in self.oracle.queues and len(self.oracle.queues) >= self.engine.limits.queues_max:
            assert code == "too_many_queues"
            return
        assert (code, made) == (None, name not in self.oracle.queues)
        self.oracle.queues[name] = policy

    def set_paused(self, name: str, paused: bool) -> None:
        code, _ = self.ask("set_paused", name, paused)
        assert (code == "unknown_queue") == (name not in self.oracle.queues)
        if code is None:
            self.oracle.queues[name] = msgspec.structs.replace(self.oracle.queues[name], paused=paused)

    def delete_queue(self, name: str) -> None:
        code, _ = self.ask("delete_queue", name)
        if name not in self.oracle.queues:
            assert code == "unknown_queue"
        elif self.oracle.live(name):
            assert code == "queue_not_empty"
        else:
            assert code is None
            del self.oracle.queues[name]

    def purge(self, name: str) -> None:
        if name not in self.oracle.queues:
            assert self.ask("waiting", name, 3)[0] == "unknown_queue"
            return
        jobs = [job for part in self.engine.waiting(name, 3) for job in part]
        ids = [job.id for job in jobs]
        assert sorted(ids) == sorted(item.id for item in self.oracle.live(name) if item.status != "in_progress")
        assert self.engine.purge(self.moment(), name, jobs) == len(ids)
        for job_id in ids:
            assert self.oracle.cancel(job_id) is None

    def purge_all(self, name: str) -> None:
        """In slices of two, as one step."""
        if name not in self.oracle.queues:
            with pytest.raises(UnknownQueue):
                Purge(self.engine, name)
            return
        live = {item.id for item in self.oracle.live(name)}
        now, begun, work = self.moment(), len(self.engine.events), Purge(self.engine, name)
        assert sum(work.step(now, part) for part in (*work.windows(2), *work.jobs(2))) == len(live)
        ended = [event for event in self.engine.events[begun:] if event.kind in (Kind.CONCLUDED, Kind.CHANGED)]
        assert {event.job.id for event in ended if event.job is not None and event.kind is Kind.CONCLUDED} == live
        for event in ended:
            assert event.job is not None
            if event.kind is Kind.CONCLUDED:
                self.oracle.purge(event.job.id)
            else:
                self.given_up(event.job.id)

    def given_up(self, job_id: str) -> None:
        """A failed job halts its key no more."""
        raise AssertionError("no key is halted here")

    def delete_with_all(self, name: str) -> None:
        self.purge_all(name)
        self.delete_queue(name)

    def retry_failed(self, name: str) -> None:
        if name not in self.oracle.queues:
            assert self.ask("failed", name, 3)[0] == "unknown_queue"
            return
        jobs = [job for part in self.engine.failed(name, 3) for job in part]
        ids = [item.id for item in self.oracle.history["failed"] if item.spec.queue == name]
        assert [job.id for job in jobs] == ids
        now, retried = self.moment(), 0
        while retried < len(ids) and self.oracle.retry(now, ids[retried]) is None:
            retried += 1
        assert self.engine.retry_failed(now, name, jobs) == retried

    def redrive(self, name: str) -> None:
        if name not in self.oracle.queues:
            assert self.ask("dead_letters", name, None, 3)[0] == "unknown_queue"
            return
        to = self.oracle.elsewhere(name)
        jobs = [job for part in self.engine.dead_letters(name, to, 3) for job in part]
        ids = [job.id for job in jobs]
        waiting = [item for item in self.oracle.live(name) if item.status != "in_progress" and item.origin is not None]
        assert sorted(ids) == sorted(item.id for item in waiting)
        now = self.moment()
        moved = [self.oracle.redrive(now, job_id, to) for job_id in ids]
        assert self.engine.redrive(now, name, jobs, to) == sum(moved)

    # Time.

    def tick(self, now: float) -> None:
        self.engine.take_events()
        self.engine.tick(now)
        events = self.engine.take_events()
        order = [event.job.id for event in events if event.job is not None and event.kind not in (Kind.FORGOTTEN, Kind.DEAD_LETTERED)]
        self.oracle.tick(now, order)
        upcoming = self.engine.next_deadline()
        assert upcoming is None or upcoming > now, "a ticker would spin"

    @rule(passing=st.sampled_from([1.0, 3.0, 10.0, 30.0, 120.0]))
    def time_passes(self, passing: float) -> None:
        """As the ticker does it: at every next_deadline on the way."""
        end = self.now + passing
        while (due := self.engine.next_deadline()) is not None and due <= end:
            self.now = max(self.now, due)
            self.tick(self.now)
        self.tick(end)
        self.now = end

    @rule(passing=st.sampled_from([5.0, 40.0]), tick=st.booleans())
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
                tuple((attempt.number, attempt.started_at, attempt.ended, attempt.error, attempt.worker) for attempt in job.past),
                None if job.conclusion is None else job.conclusion.result,
                (job.queue, job.home, job.priority, job.payload, job.description),
                None if job.origin is None else (job.origin.queue, job.origin.at, job.origin.reason, job.origin.attempts),
                job.past[-1].token if job.status in WAITS and job.past else None,
                None
                if job.lease is None
                else (job.lease.token, job.lease.expires_at, job.lease.cancel_requested, job.lease.replayed, job.lease.message),
            )
            for job in engine.jobs.all()
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
    max_examples=120,
    stateful_step_count=50,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)


class TestEngineAgainstOracle(EngineMachine.TestCase):
    """Both agree after every step of every sequence Hypothesis thinks of."""


def live_long(machine: EngineMachine, random: Random, steps: int) -> None:
    """What Hypothesis does in short and clever sequences, in a long and blind one: counters, heaps and rings that grow old."""

    def which() -> int:
        return random.randrange(16)

    def enqueue() -> None:
        spec = JobSpec(
            payload=random.choice([b"", b"1", b"x" * 30]),
            id=random.choice([None, None, None, "one", "two"]),
            queue=random.choice("aaab"),
            priority=random.choice([5, 5, 5, 0]),
            delay=random.choice([None, None, 0.0, 3.0, 20.0]),
            expires_in=random.choice([None, None, 5.0, 25.0, 60.0]),
            max_attempts=random.choice([None, None, 1, 2, 3]),
            backoff=random.choice([None, Backoff(4.0, 3.0, 30.0)]),
            lease_seconds=random.choice([None, 2.0, 15.0]),
        )
        machine.enqueue(spec)

    def dequeue() -> None:
        lease, attempt = random.choice([None, 0.0, 1.0, 20.0]), random.choice([None, "x", "y"])
        whose = random.choice([(None, ""), (None, ""), ("w1", ""), (None, "token")])
        machine.dequeue(random.choice([("a",), ("a", "b"), ("b", "c", "a")]), random.choice([1, 1, 2, 5]), lease, attempt, whose)

    def conclude() -> None:
        outcome, retry = random.choice([Outcome.SUCCEEDED, Outcome.FAILED, Outcome.FAILED]), random.random() < 0.9
        result, error = (b"[1,2]", None) if outcome is Outcome.SUCCEEDED else (None, random.choice([None, b"1", b"[" + b" " * 40 + b"]"]))
        machine.conclude(which(), Verdict(outcome=outcome, result=result, error=error, retry=retry))

    def administer() -> None:
        what = random.choice(["put_policy", "pause", "resume", "resume", "purge", "retry_failed", "redrive", "delete_queue", *ALL])
        backoff, letters = Backoff(1.0, 2.0, 10.0), random.choice([None, *QUEUES])
        policy = QueuePolicy(5.0, random.choice([1, 3, None]), backoff, random.choice([None, None, 3, 20]), dead_letter=letters)
        machine.administer(what, random.choice("abc"), policy)

    operations: dict[Callable[[], None], int] = {
        enqueue: 30,
        dequeue: 20,
        conclude: 10,
        administer: 2,
        lambda: machine.enqueue_again(which()): 2,
        lambda: machine.enqueue_many("a", 20): 1,
        lambda: machine.put_back(which()): 5,
        lambda: machine.extend(which(), random.choice([None, 0.0, 1.0, 20.0]), random.choice([None, None, "half", "m" * 40])): 5,
        lambda: machine.conclude_late(which(), None): 3,
        lambda: machine.release(which(), random.choice([0.0, 0.0, 3.0, 30.0])): 5,
        lambda: machine.everybody_gives_back(random.random() < 0.5, random): 1,
        lambda: machine.cancel(which()): 4,
        lambda: machine.retry(which()): 4,
        lambda: machine.edit(which(), any_change(random)): 4,
        lambda: machine.time_passes(random.choice([1.0, 3.0, 10.0])): 8,
        lambda: machine.ticker_is_late(random.choice([1.0, 5.0, 30.0]), random.random() < 0.5): 4,
    }
    for operation in random.choices(list(operations), list(operations.values()), k=steps):
        operation()
        machine.same_as_the_oracle()
        machine.everything_that_is_always_true()


@pytest.mark.parametrize("seed", range(6))
def test_engine_agrees_with_the_oracle_all_its_life(seed: int) -> None:
    """Six long lives of a thousand operations each, the same in every run: both agree to the end."""
    machine = EngineMachine()
    machine.start(seed)
    live_long(machine, Random(seed), 1_000)
    assert len(machine.tokens) > 60
    assert machine.engine.jobs.next_number > 100
