"""Queues with keys, limits and fairness against their oracle: the machine of test_machine.py, which changes the rules at any moment, lets
the ticker come to some of what is due, and starts the server anew.
"""

from __future__ import annotations

from random import Random

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule

from jobqueue.backend.rows import decode_job, decode_queue, encode_job, encode_queue
from jobqueue.engine import walks
from jobqueue.engine.engine import Engine
from jobqueue.engine.events import Event, Kind
from jobqueue.engine.flow import FlowQueue
from jobqueue.engine.follow import Changes, begin, end, follow
from jobqueue.engine.restore import Stored, StoredQueue, restore
from jobqueue.engine.why import waiting_for
from jobqueue.errors import QueueFull
from jobqueue.model import JobSpec, Lease, Outcome, Verdict
from jobqueue.policy import Backoff, PerKey, QueuePolicy, Rate
from tests.factories import make_engine

from .editing import any_change
from .flow_oracle import FlowOracle, Meter
from .invariants import fingerprint
from .oracle import Item
from .test_machine import ALL, EngineMachine, backoffs, letters, perhaps, queues

KEYS = ("k", "l", "m")
WAKING = (Kind.ENQUEUED, Kind.QUEUED, Kind.QUEUE_RESUMED, Kind.FREED)

keys = st.sampled_from([None, *KEYS, "k"])
specs = st.builds(
    JobSpec,
    payload=st.sampled_from([b"1", b"x" * 30]),
    id=st.none() | st.sampled_from(["one", "two"]),
    queue=st.sampled_from(["a", "a", "b"]),
    priority=st.sampled_from([5, 5, 5, 0]),
    delay=st.sampled_from([None, None, None, 3.0, 20.0]),
    expires_in=st.sampled_from([None, None, 5.0, 25.0]),
    max_attempts=st.sampled_from([None, 1, 2]),
    backoff=st.none() | backoffs,
    lease_seconds=perhaps,
    key=keys,
)
# Sums of these are exact, so that both reckon the very same moments.
rates = st.sampled_from([None, None, None, Rate(1, 4.0), Rate(2, 4.0, 2), Rate(4, 8.0, 3), Rate(1, 16.0)])
per_keys = st.none() | st.builds(
    PerKey,
    order=st.sampled_from(["none", "fifo", "halt"]),
    concurrency=st.sampled_from([None, 1]),
    rate=rates,
    max_jobs=st.sampled_from([None, None, 2, 5]),
)
policies = st.builds(
    QueuePolicy,
    lease_seconds=st.sampled_from([3.0, 15.0]),
    max_attempts=st.integers(1, 3),
    backoff=backoffs,
    max_jobs=st.sampled_from([None, None, None, 3]),
    paused=st.sampled_from([False, False, False, False, True]),
    concurrency=st.sampled_from([None, None, 1, 2]),
    rate=rates,
    per_key=per_keys | st.just(PerKey("none", 2)),
    fair=st.booleans(),
    weights=st.sampled_from([{}, {"k": 0.5, "l": 4.0}, {"m": 2.0}]),
    dead_letter=letters,
)


class FlowMachine(EngineMachine):
    """See EngineMachine. Beside the jobs it compares what is held back and why, and whether whoever waits is told that something may go."""

    @initialize(seed=st.integers(0, 3))
    def start(self, seed: int) -> None:
        self.engine: Engine = make_engine(
            seed,
            jobs_max=40,
            payload_bytes_max=50,
            payload_total_bytes_max=600,
            queues_max=2,
            keys_max=4,
            paused_keys_max=2,
            history_jobs_max=3,
            history_bytes_max=200,
            answer_bytes_max=70,
        )
        self.begin()

    def begin(self) -> None:
        self.oracle: FlowOracle = FlowOracle(self.engine.limits, self.engine.default_policy)
        self.could: set[str] = set()
        self.changes: dict[int, int] = {}
        self.noted = 0
        self.stored: dict[int, bytes] = {}
        self.told: set[str] = set()
        self.follower = self.new_engine()
        begin(self.follower)
        self.dirty: set[int] = set()
        self.queues_were: set[str] = set()
        self.doomed: set[str] = set()
        """Jobs that halted keys of a queue when it was deleted: one of the same name may be there when they are given up."""

    def new_engine(self) -> Engine:
        return Engine(self.engine.limits, self.engine.ids, self.engine.random)

    def moment(self) -> float:
        """And whether keys are full whose jobs are not all counted yet, since only the engine knows how far it is."""
        walked = [queue for queue in self.engine.queues.values() if isinstance(queue, FlowQueue) and queue.upto >= 0]
        self.oracle.sorting = {queue.name: {key for key in KEYS if _full(queue, key)} for queue in walked}
        return super().moment()

    # What would be written down.

    def note(self, events: list[Event]) -> None:
        for event in events:
            if event.kind in WAKING:
                self.told.add(event.queue)
            if event.job is not None:
                self.noted += 1
                self.dirty.add(event.job.number)
                if event.kind is Kind.FORGOTTEN:
                    self.changes.pop(event.job.number, None)
                    self.stored.pop(event.job.number, None)
                else:
                    self.changes[event.job.number] = self.noted
                    self.stored[event.job.number] = encode_job(event.job, self.noted)

    def rows(self, numbers: set[int] | None = None) -> list[Stored]:
        rows = []
        for number in sorted(self.changes if numbers is None else numbers & self.changes.keys()):
            job = self.engine.jobs.numbered(number)
            assert job is not None
            if self.stored[number] != encode_job(job, self.changes[number]):
                # Of a replay nothing is written: held requests end with the server.
                lease = job.lease
                assert lease is not None
                assert lease.replayed
            rows.append(decode_job(number, encode_job(job, self.changes[number]), job.payload))
        return rows

    def stored_queues(self) -> list[StoredQueue]:
        return [decode_queue(name, encode_queue(queue)) for name, queue in self.engine.queues.items()]

    # Submitting and taking.

    @rule(spec=specs)
    def enqueue(self, spec: JobSpec) -> None:
        super().enqueue(spec)

    @rule(name=queues, count=st.sampled_from([3, 8]), key=keys)
    def enqueue_many(self, name: str, count: int, key: str | None = None) -> None:
        for _ in range(count):
            super().enqueue(JobSpec(payload=b"", queue=name, key=key))

    @rule(
        names=st.sampled_from([("a",), ("b",), ("a", "b"), ("b", "a", "b")]),
        limit=st.sampled_from([1, 1, 2, 3, 30]),
        lease=perhaps,
        attempt=st.sampled_from([None, None, "x"]),
        whose=st.sampled_from([(None, ""), ("w1", "")]),
    )
    def dequeue(
        self, names: tuple[str, ...], limit: int, lease: float | None, attempt: str | None, whose: tuple[str | None, str] = (None, "")
    ) -> None:
        running = {item.id for item in self.oracle.live() if item.hold}
        super().dequeue(names, limit, lease, attempt, whose)
        for name, policy in self.oracle.queues.items():
            leased = [item for item in self.oracle.live(name) if item.hold]
            new = [item for item in leased if item.id not in running]
            assert not new or policy.concurrency is None or len(leased) <= policy.concurrency
            for item in new:
                others = [one for one in leased if one.spec.key == item.spec.key and one is not item]
                assert not self.oracle.ordered(item) or all(one in new for one in others), "two live leases of an ordered key"

    # Rules.

    @rule(
        what=st.sampled_from(
            [
                "put_policy",
                "put_policy",
                "put_policy",
                "pause",
                "resume",
                "resume",
                "purge",
                "retry_failed",
                "redrive",
                "delete_queue",
                *ALL,
            ]
        ),
        name=queues,
        policy=policies,
    )
    def administer(self, what: str, name: str, policy: QueuePolicy) -> None:
        if policy.per_key is not None and policy.per_key.order != "none" and policy.per_key.concurrency == 2:
            policy = msgspec.structs.replace(policy, per_key=PerKey("none", 2))
        super().administer(what, name, policy)

    def put_policy(self, name: str, policy: QueuePolicy) -> None:
        was = self.oracle.queues.get(name, self.oracle.policy)
        super().put_policy(name, policy)
        if name in self.oracle.queues and self.oracle.queues[name] is policy:
            self.oracle.queues[name] = was
            self.oracle.set_policy(name, policy)

    def set_paused(self, name: str, paused: bool) -> None:
        super().set_paused(name, paused)

    def delete_queue(self, name: str) -> None:
        known = name in self.oracle.queues
        doomed = [item.id for item in self.oracle.pinned(name)]
        super().delete_queue(name)
        if known and name not in self.oracle.queues:
            self.oracle.queues[name] = self.oracle.policy
            self.oracle.gone(name)
            self.doomed.update(doomed)

    def given_up(self, job_id: str) -> None:
        self.oracle.give_up_halting(self.oracle.items[job_id])

    def retry_failed(self, name: str) -> None:
        if name not in self.oracle.queues:
            return
        jobs = [job for part in self.engine.failed(name, 3) for job in part]
        halting = sorted(self.oracle.pinned(name), key=lambda item: item.ended_turn)
        ids = [item.id for item in [*halting, *self.oracle.history["failed"]] if item.spec.queue == name]
        assert [job.id for job in jobs] == ids
        for job in jobs:
            now = self.moment()
            taken = self.engine.retry_failed(now, name, [job])
            assert taken == (self.oracle.retry(now, job.id) is None)
            if not taken:
                return

    @rule(name=st.sampled_from(["a", "b"]), key=st.sampled_from(KEYS), paused=st.sampled_from([True, False, False]))
    def pause_key(self, name: str, key: str, paused: bool) -> None:
        halting = [job for job in self.engine.pinned if job.queue == name and job.key == key]
        code, _ = self.ask("pause_key", name, key, paused)
        if name not in self.oracle.queues:
            assert code == "unknown_queue"
            return
        keys = self.oracle.paused_keys.setdefault(name, [])
        if paused and key not in keys:
            if len(keys) >= self.engine.limits.paused_keys_max:
                assert code == "queue_full"
                return
            self.oracle.comes(name, key)
            keys.append(key)
        elif not paused:
            if key in keys:
                keys.remove(key)
            # In which order they come into history is the engine's to say, and if the queue minds keys no more, when.
            events = [event.job for event in self.engine.events if event.kind is Kind.CHANGED and event.job is not None]
            assert {job.id for job in events} == {job.id for job in halting if self.oracle.keyed(name)}
            for job in events:
                self.oracle.give_up_halting(self.oracle.items[job.id])
        assert code is None

    # Time.

    def tick(self, now: float) -> None:
        while self.slice(now, 1_000):
            pass
        upcoming = self.engine.next_deadline()
        assert upcoming is None or upcoming > now, "a ticker would spin"
        assert all(queue not in self.busy() for queue in self.engine.queues)
        late = [item.id for item in self.oracle.live() if (at := item.due()) is not None and at <= now]
        assert not late
        assert not [name for name, meter in self.oracle.meters.items() if meter.due(self.rate_of(name)) <= now], "a rate came too late"

    def slice(self, now: float, looks: int) -> bool:
        """One turn of the ticker; whether there is more to do."""
        self.note(self.engine.take_events())
        self.engine.tick(now, looks)
        events = self.engine.take_events()
        self.note(events)
        for event in events:
            if event.job is None or event.kind in (Kind.FORGOTTEN, Kind.DEAD_LETTERED):
                continue
            if event.kind is Kind.CHANGED:
                item = self.oracle.items[event.job.id]
                queue = item.spec.queue
                assert item.id in self.doomed or queue not in self.oracle.queues or not self.oracle.keyed(queue)
                self.oracle.give_up_halting(item)
            else:
                self.oracle.due(now, event.job.id)
                self.oracle.settle()
        for name, meter in list(self.oracle.meters.items()):
            self.follow_meter(name, meter, now)
        for queue in self.engine.queues.values():
            if isinstance(queue, FlowQueue) and queue.restored_at is None:
                self.oracle.restarted.pop(queue.name, None)
        self.oracle.busy = self.busy()
        self.oracle.settle()
        upcoming = self.engine.next_deadline()
        return upcoming is not None and upcoming <= now

    def rate_of(self, name: tuple[str, str] | str) -> Rate | None:
        if isinstance(name, str):
            return self.oracle.queues[name].rate
        return self.oracle.rule(name[0]).rate

    def follow_meter(self, name: tuple[str, str] | str, meter: Meter, now: float) -> None:
        """Look at a rate if the ticker has."""
        queue = self.engine.queues.get(name if isinstance(name, str) else name[0])
        if not isinstance(queue, FlowQueue) or meter.due(self.rate_of(name)) > now:
            return
        thing = queue if isinstance(name, str) else queue.states.get(name[1])
        at = None if thing is None else self.engine.deadlines.due(thing)
        bucket = None if thing is None else (thing.bucket.full_at, thing.bucket.waits)
        walked = not meter.dirty or isinstance(name, str) or not queue.moving or bucket not in (None, (meter.full, meter.waits))
        if walked and (at is None or at > now):
            meter.look(self.rate_of(name), now)

    @rule(looks=st.sampled_from([1, 2, 3, 6]))
    def ticker_does_a_little(self, looks: int) -> None:
        """A turn that leaves some of it."""
        self.slice(self.moment(), looks)

    # Another server goes on.

    def take_over(self, other: Engine) -> None:
        self.engine = other
        now = self.moment()
        other.events, events = [], other.events
        other.resume(now)
        other.take_events()
        self.note([event for event in events if event.kind in (Kind.FORGOTTEN, Kind.CHANGED)])
        self.oracle.restart(now)
        self.could = set(other.queues)
        for item in self.oracle.live():
            lease = other.jobs.found(item.id).lease
            if item.hold is not None and lease is not None:
                item.hold.replayed = item.hold.replayed and lease.replayed

    @rule()
    def restart(self) -> None:
        """The server is started on what was written."""
        other = self.new_engine()
        restore(other, self.stored_queues(), self.rows(), self.engine.jobs.next_number, self.engine.jobs.next_number)
        self.take_over(other)
        self.follower = self.new_engine()
        begin(self.follower)
        self.dirty, self.queues_were = set(self.changes), set()

    @rule(takes_over=st.booleans())
    def follower_is_told(self, takes_over: bool) -> None:
        """A server that follows is told what has changed, is what restoring would give, and perhaps goes on."""
        follower = self.follower
        gone = [number for number in self.dirty if number not in self.changes and follower.jobs.numbered(number) is not None]
        names = set(self.engine.queues)
        changes = Changes(self.rows(self.dirty), gone, self.stored_queues(), sorted(self.queues_were - names), self.engine.jobs.next_number)
        for _ in follow(follower, changes):
            pass
        self.dirty, self.queues_were = set(), names
        other = self.new_engine()
        begin(other)
        restore(other, self.stored_queues(), self.rows(), self.engine.jobs.next_number, self.engine.jobs.next_number)
        prints = []
        for engine in (follower, other):
            one = fingerprint(engine)
            for left_out in ("order of ids", "due", "lease ends", "events", "history", "attempts"):
                del one[left_out]
            for queue in one["queues"].values():
                queue["lanes"] = [lane or None for lane in queue["lanes"]]
                if queue["flow"]:
                    for _, _, (running, _, _), _ in queue["flow"]["keys"].values():
                        running.sort()
                    del queue["flow"]["queue"]
            for job in one["jobs"].values():
                del job["slot"]
                if isinstance(job["hold"], Lease):
                    # Said by the rule there was when this was read, not when it was taken.
                    # And of a replay nobody was told.
                    job["hold"] = msgspec.structs.replace(job["hold"], limited=False, replayed=False, attempts_max=None)
            prints.append(one)
        assert prints[0] == prints[1]
        if takes_over:
            end(follower)
            self.take_over(follower)
            self.follower = self.new_engine()
            begin(self.follower)
            self.dirty, self.queues_were = set(self.changes), set()

    # Comparing.

    def busy(self) -> set[str]:
        return {name for name, queue in self.engine.queues.items() if isinstance(queue, FlowQueue) and queue.moving}

    @invariant()
    def everything_that_is_always_true(self) -> None:
        self.note(self.engine.take_events())
        super().everything_that_is_always_true()
        self.oracle.busy = self.busy()
        self.oracle.settle()
        could, self.could = self.could, {name for name in self.engine.queues if self.engine.available(name)}
        assert self.could - could <= self.told, "jobs may go, and whoever waits for them was not told"
        self.told = set()
        for name in self.oracle.queues:
            assert self.engine.available(name) == self.oracle.may_go(name)
            if name not in self.oracle.busy:
                self.same_queue(name)

    def same_queue(self, name: str) -> None:
        oracle, queue = self.oracle, self.engine.queues[name]
        stats = queue.stats()
        assert stats.held_by == oracle.held_by(name)
        assert stats.held == sum(stats.held_by.values())
        for item in oracle.live(name):
            reasons = waiting_for(self.engine, self.engine.jobs.found(item.id), 0)
            assert [(one.kind, one.key, one.block) for one in reasons] == oracle.reasons(item)
            for one in reasons:
                if one.job is not None:
                    self.holds_up(one.job, item, one.block)
                assert one.total is None or one.used is None or one.used >= one.total
        if not isinstance(queue, FlowQueue) or not queue.keyed:
            return
        assert stats.keys == len(oracle.known_keys(name))
        if queue.policy.fair:
            for key, state in queue.states.items():
                # One that is out begins where the others are by then.
                least = queue.passed if state.out else -1.0
                assert max(least, state.passed) == max(least, oracle.passed[name, key])
        for key in oracle.known_keys(name):
            shown = queue.key_stats(queue.states[key])
            live = [item.status for item in oracle.of_key(name, key)]
            assert [shown.queued, shown.scheduled, shown.in_progress] == [live.count(s) for s in ("queued", "scheduled", "in_progress")]
            assert shown.block == oracle.block(name, key)
            assert shown.paused == (key in oracle.paused_keys.get(name, []))
            if (name, key) in oracle.meters and oracle.meters[name, key].waits:
                rate = oracle.rule(name).rate
                assert rate is not None
                assert shown.next_at == oracle.meters[name, key].next(rate)

    def holds_up(self, job_id: str, item: Item, block: str | None) -> None:
        """Whether one job holds up another that is said to."""
        other = self.oracle.items[job_id]
        assert other.spec.key == item.spec.key
        if block == "halted":
            assert other.halts
        elif other.status == "queued":
            assert self.oracle.line(item.spec.queue, item.spec.key)[0] is other
        else:
            assert other.status == "in_progress" or other.holds


def _full(queue: FlowQueue, key: str) -> bool:
    try:
        queue.check_room(key)
    except QueueFull:
        return True
    return False


FlowMachine.TestCase.settings = settings(
    max_examples=120, stateful_step_count=50, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)


@pytest.fixture(autouse=True)
def _small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Walks of a few jobs a turn, so that a machine of a few jobs sees them under way."""
    monkeypatch.setattr(walks, "SLICE", 2)


class TestFlowAgainstOracle(FlowMachine.TestCase):
    """Both agree after every step of every sequence Hypothesis thinks of."""


def _policy(random: Random) -> QueuePolicy:
    rates = [None, None, None, Rate(1, 4.0), Rate(2, 4.0, 2), Rate(4, 8.0, 3), Rate(1, 16.0)]
    order = random.choice(["none", "none", "fifo", "halt"])
    concurrency = random.choice([None, 1] if order != "none" else [None, 1, 2])
    per_key = PerKey(order, concurrency, random.choice(rates), random.choice([None, None, 2, 5]))
    return QueuePolicy(
        random.choice([3.0, 15.0]),
        random.choice([1, 2, 3]),
        Backoff(1.0, 2.0, 10.0),
        random.choice([None, None, None, 5]),
        random.random() < 0.1,
        random.choice([None, None, 1, 2]),
        random.choice(rates),
        random.choice([None, per_key, per_key]),
        random.random() < 0.5,
        random.choice([{}, {"k": 0.5, "l": 4.0}, {"m": 2.0}]),
        random.choice([None, None, "a", "b"]),
    )


def live_long(machine: FlowMachine, random: Random, steps: int) -> None:
    """What Hypothesis does in short and clever sequences, in a long and blind one."""

    def which() -> int:
        return random.randrange(16)

    def enqueue() -> None:
        machine.enqueue(
            JobSpec(
                payload=random.choice([b"", b"1", b"x" * 30]),
                id=random.choice([None, None, None, "one", "two"]),
                queue=random.choice("aaab"),
                priority=random.choice([5, 5, 5, 0]),
                delay=random.choice([None, None, None, 3.0, 20.0]),
                expires_in=random.choice([None, None, None, 5.0, 60.0]),
                max_attempts=random.choice([None, None, 1, 2]),
                backoff=random.choice([None, Backoff(4.0, 3.0, 30.0)]),
                lease_seconds=random.choice([None, 2.0, 15.0]),
                key=random.choice([None, *KEYS, "k"]),
            )
        )

    def dequeue() -> None:
        lease, attempt = random.choice([None, 0.0, 1.0, 20.0]), random.choice([None, None, "x"])
        machine.dequeue(random.choice([("a",), ("a", "b"), ("b", "a", "b")]), random.choice([1, 1, 2, 5]), lease, attempt)

    def conclude() -> None:
        outcome = random.choice([Outcome.SUCCEEDED, Outcome.SUCCEEDED, Outcome.FAILED])
        machine.conclude(which(), Verdict(outcome=outcome, retry=random.random() < 0.7))

    def administer() -> None:
        what = random.choice(["put_policy", "put_policy", "put_policy", "resume", "purge", "retry_failed", "redrive", "delete_queue", *ALL])
        machine.administer(what, random.choice("aab"), _policy(random))

    operations = {
        enqueue: 30,
        dequeue: 22,
        conclude: 14,
        administer: 3,
        lambda: machine.pause_key(random.choice("ab"), random.choice(KEYS), random.random() < 0.4): 3,
        lambda: machine.put_back(which()): 5,
        lambda: machine.extend(which(), random.choice([None, 0.0, 1.0, 20.0])): 3,
        lambda: machine.conclude_late(which(), None): 3,
        lambda: machine.release(which(), random.choice([0.0, 0.0, 3.0])): 5,
        lambda: machine.everybody_gives_back(random.random() < 0.5, random): 1,
        lambda: machine.cancel(which()): 4,
        lambda: machine.retry(which()): 5,
        lambda: machine.edit(which(), any_change(random)): 3,
        lambda: machine.time_passes(random.choice([1.0, 3.0, 10.0])): 8,
        lambda: machine.ticker_is_late(random.choice([1.0, 5.0, 30.0]), random.random() < 0.5): 4,
        lambda: machine.ticker_does_a_little(random.choice([1, 3, 6])): 4,
        machine.restart: 1,
        lambda: machine.follower_is_told(random.random() < 0.3): 2,
    }
    for operation in random.choices(list(operations), list(operations.values()), k=steps):
        operation()
        machine.same_as_the_oracle()
        machine.everything_that_is_always_true()


@pytest.mark.parametrize("seed", range(6))
def test_flow_agrees_with_the_oracle_all_its_life(seed: int) -> None:
    """Six long lives of a thousand operations each, the same in every run: both agree to the end."""
    machine = FlowMachine()
    machine.start(seed)
    live_long(machine, Random(seed), 1_000)
    assert len(machine.tokens) > 60
