"""Unique keys under any sequence of operations: against a plain model of who holds what, and against what its rows say after a restart."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from jobqueue.backend.rows import decode_job, encode_job, encode_queue
from jobqueue.backend.things import decode_named, encode_named
from jobqueue.engine.engine import Engine
from jobqueue.engine.events import K_THING_CHANGED
from jobqueue.engine.purging import Purge
from jobqueue.engine.restore import restore
from jobqueue.engine.unique import name_of
from jobqueue.errors import Duplicate, NotRetryable
from jobqueue.limits import Limits
from jobqueue.model import CONCLUDED, IN_PROGRESS, QUEUED, SCHEDULED, Job, JobChange, JobSpec, Outcome, Verdict, Want
from jobqueue.policy import QueuePolicy
from jobqueue.unique import OnConflict, Unique, Until
from tests.factories import token_of

from .invariants import invariants
from .unique_invariants import unique_fingerprint

LIMITS = Limits(history_jobs_max=2)
FINAL = Verdict(outcome=Outcome.FAILED, retry=False)
GOOD = Verdict(outcome=Outcome.SUCCEEDED)
LATE = Verdict(outcome=Outcome.SUCCEEDED, late=True)

Place = tuple[str, str]


def _unique(key: str, until: Until, for_: float | None, on_conflict: OnConflict) -> Unique:
    return Unique(key, until, 10.0 if until == "enqueued" and for_ is None else for_, on_conflict)


uniques = st.builds(
    _unique,
    key=st.sampled_from("kk2"),
    until=st.sampled_from(["started", "concluded", "concluded", "enqueued", "enqueued"]),
    for_=st.sampled_from([None, None, 10.0, 40.0]),
    on_conflict=st.sampled_from(["keep", "replace", "follow", "follow", "refuse"]),
)
pick = st.integers(0, 9)


@dataclass
class Key:
    """What is to be true of a key: ids of who holds it and who waits, and until when it is held for whom."""

    holder: str | None = None
    follower: str | None = None
    until: float = 0.0
    first: str | None = None


@dataclass
class Model:
    """Who holds what, by the words of docs/semantics.md. It is told what happened to jobs, and asks the engine for their status alone."""

    keys: dict[Place, Key] = field(default_factory=dict)
    terms: dict[str, Unique] = field(default_factory=dict)
    where: dict[str, str] = field(default_factory=dict)

    def key(self, job_id: str) -> Key:
        return self.keys.setdefault((self.where[job_id], self.terms[job_id].key), Key())

    def over(self, now: float) -> None:
        """Times that are over."""
        for key in self.keys.values():
            if key.first is not None and key.until <= now:
                key.first = None
                self.free(key, now)

    def free(self, key: Key, now: float) -> None:
        if key.holder is None and key.first is None and key.follower is not None:
            job_id, key.follower = key.follower, None
            self.has(key, job_id)
            self.opens(key, job_id, now)

    def has(self, key: Key, job_id: str) -> None:
        """A key is a job's from now on; until enqueued for a time alone."""
        key.holder = None if self.terms[job_id].until == "enqueued" else job_id

    def opens(self, key: Key, job_id: str, now: float) -> None:
        seconds = self.terms[job_id].for_
        if seconds is not None:
            key.until, key.first = now + seconds, job_id

    def let_go(self, job_id: str, now: float) -> None:
        key = self.key(job_id)
        if key.follower == job_id:
            key.follower = None
        if key.holder == job_id:
            key.holder = None
            self.free(key, now)

    def takes(self, job_id: str) -> None:
        """It lives again, here."""
        key = self.key(job_id)
        if key.holder is None and key.first in (None, job_id):
            self.has(key, job_id)

    def purged(self, queue: str) -> None:
        """All that lives in a queue has ended, and nothing is held there."""
        for (where, _), key in self.keys.items():
            if where == queue:
                key.holder = key.follower = key.first = None


class UniqueMachine(RuleBasedStateMachine):
    """Does something to the engine, and tells the model what that means."""

    @initialize()
    def start(self) -> None:
        self.now = 1_000.0
        self.engine = Engine(LIMITS)
        self.model = Model()
        self.count = 0
        self.rows: dict[str, bytes] = {}
        self.changes: dict[int, int] = {}
        self.change = 0
        for name in ("a", "b"):
            self.engine.put_policy(name, QueuePolicy(max_attempts=2, dead_letter="b" if name == "a" else None))

    def jobs(self, *statuses: object) -> list[Job]:
        return [job for job in self.engine.jobs.all() if job.status in statuses and job.unique is not None]

    def one(self, which: int, *statuses: object) -> Job | None:
        found = self.jobs(*statuses)
        return found[-1 - which % len(found)] if found else None

    def holder(self, key: Key, queue: str) -> Job | None:
        """The live job that has a key."""
        if key.holder is not None:
            return self.engine.job(key.holder)
        if key.first is None or self.model.terms[key.first].until != "enqueued" or self.model.where[key.first] != queue:
            return None
        job = self.engine.jobs.find(key.first)
        return None if job is None or job.status is CONCLUDED else job

    @rule(unique=uniques, queue=st.sampled_from("aab"), delay=st.sampled_from([None, None, 5.0]))
    def enqueue(self, unique: Unique, queue: str, delay: float | None) -> None:
        """Whatever comes is made, or answered by who holds the key; of those that wait for one key there is one."""
        self.count += 1
        job_id = f"j{self.count}"
        key = self.model.keys.setdefault((queue, unique.key), Key())
        held = key.holder or key.first
        holder = self.holder(key, queue)
        waits = holder is not None and holder.status is not IN_PROGRESS
        spec = JobSpec(payload=b'"%s"' % job_id.encode(), id=job_id, queue=queue, delay=delay, unique=unique)
        try:
            job, made = self.engine.enqueue(self.now, spec)
        except Duplicate as error:
            assert unique.on_conflict == "refuse"
            named = error.job_id
            assert named == held
            return
        keeps = held is not None and (unique.on_conflict == "keep" or (unique.on_conflict in ("follow", "replace") and waits))
        assert made is not keeps
        assert (job.id == held) if keeps else (job.id == job_id)
        if keeps:
            if unique.on_conflict == "replace":
                assert job.payload == spec.payload
            if unique.on_conflict != "keep" and job.past:
                assert job.past[-1].token is None, "it is to run"
            return
        assert held is None or unique.on_conflict in ("follow", "replace")
        self.model.terms[job_id], self.model.where[job_id] = unique, queue
        if held is None:
            self.model.has(key, job_id)
            self.model.opens(key, job_id, self.now)
        else:
            if key.follower is not None:
                assert self.engine.job(key.follower).outcome == "cancelled"
            key.follower = job_id
            assert job.held_back

    @rule(queue=st.sampled_from("ab"))
    def dequeue(self, queue: str) -> None:
        for job in self.engine.dequeue(self.now, Want(queues=(queue,))):
            if self.model.terms[job.id].until == "started" and self.model.key(job.id).holder == job.id:
                self.model.let_go(job.id, self.now)

    @rule(which=pick, how=st.sampled_from(["good", "failed", "released", "undelivered", "cancelled", "lapsed", "lapsed"]))
    def end_a_lease(self, which: int, how: str) -> None:
        job = self.one(which, IN_PROGRESS)
        if job is None:
            return
        last = job.attempts >= 2
        moves = (how == "failed" or (how == "lapsed" and last)) and job.queue == "a"
        if how == "released":
            self.engine.release(self.now, job.id, token_of(job), 0.0)
        elif how == "undelivered":
            self.engine.put_back(self.now, job.id, token_of(job))
            key = self.model.key(job.id)
            if self.model.terms[job.id].until == "started" and job.attempts == 0 and job.status is QUEUED and key.follower is None:
                self.model.takes(job.id)
        elif how == "lapsed":
            self.engine.extend(self.now, job.id, token_of(job), 0.0)
            if last:
                self.model.let_go(job.id, self.now)
        else:
            if how == "cancelled":
                self.engine.cancel(self.now, job.id)
            self.engine.conclude(self.now, job.id, token_of(job), GOOD if how == "good" else FINAL)
            self.model.let_go(job.id, self.now)
        if moves:
            self.model.where[job.id] = job.queue
            self.model.takes(job.id)

    @rule(which=pick)
    def end_late(self, which: int) -> None:
        """Who had a job that waits says that it succeeded."""
        late = [job for job in self.jobs(QUEUED, SCHEDULED) if job.past and job.past[-1].token is not None]
        if late:
            job = late[-1 - which % len(late)]
            token = job.past[-1].token
            assert token is not None
            self.engine.conclude(self.now, job.id, token, LATE)
            self.model.let_go(job.id, self.now)

    @rule(queue=st.sampled_from("ab"))
    def purge_all(self, queue: str) -> None:
        work = Purge(self.engine, queue)
        for part in (*work.windows(2), *work.jobs(2)):
            work.step(self.now, part)
        self.model.purged(queue)
        assert not self.engine.queue(queue).live

    @rule(which=pick, to=st.sampled_from("ab"))
    def edit(self, which: int, to: str) -> None:
        job = self.one(which, QUEUED, SCHEDULED)
        if job is None or job.queue == to:
            return
        self.engine.edit(self.now, job.id, JobChange(queue=to))
        self.model.let_go(job.id, self.now)
        self.model.where[job.id] = to
        self.model.takes(job.id)
        assert not job.held_back

    @rule(which=pick)
    def cancel(self, which: int) -> None:
        job = self.one(which, QUEUED, SCHEDULED)
        if job is not None:
            self.engine.cancel(self.now, job.id)
            self.model.let_go(job.id, self.now)

    @rule(which=pick)
    def retry(self, which: int) -> None:
        job = self.one(which, CONCLUDED)
        if job is None:
            return
        key = self.model.key(job.id)
        free = (key.holder is None and key.first in (None, job.id)) or self.model.terms[job.id].until == "enqueued"
        try:
            self.engine.retry(self.now, job.id)
        except NotRetryable:
            return
        except Duplicate as error:
            assert not free
            named = error.job_id
            assert named == (key.holder or key.first)
            return
        assert free
        self.model.takes(job.id)

    @rule(seconds=st.sampled_from([1.0, 10.0, 40.0]))
    def time_passes(self, seconds: float) -> None:
        end = self.now + seconds
        while (due := self.engine.next_deadline()) is not None and due <= end:
            self.now = max(self.now, due)
            self.engine.tick(self.now)
            self.model.over(self.now)
        self.now = end

    @invariant()
    def as_the_model_says(self) -> None:
        """Who holds, who waits, and until when."""
        if not hasattr(self, "engine"):
            return
        invariants(self.engine)
        uniques = self.engine.uniques
        keys = self.model.keys.items()
        assert {place: job.id for place, job in uniques.holders.items()} == {place: key.holder for place, key in keys if key.holder}
        assert {place: job.id for place, job in uniques.followers.items()} == {place: key.follower for place, key in keys if key.follower}
        assert {place: (window.id, window.ends_at) for place, window in uniques.windows.items()} == {
            place: (key.first, key.until) for place, key in keys if key.first
        }
        for job in self.jobs(SCHEDULED):
            # Nobody is stuck: what waits for no time waits for a key that is held.
            assert not job.held_back or job in uniques.followers.values()

    @invariant()
    def as_the_rows_say(self) -> None:
        """A server that starts on the rows knows the same."""
        if not hasattr(self, "engine"):
            return
        engine = self.engine
        for event in engine.take_events():
            if event.job is not None:
                self.change += 1
                self.changes[event.job.number] = self.change
            if event.kind is K_THING_CHANGED:
                row = encode_named(engine, event.queue)
                if row is None:
                    self.rows.pop(event.queue, None)
                else:
                    self.rows[event.queue] = row
        assert {*self.rows} == {name_of(window.place) for window in engine.uniques.windows.values() if window.stored}
        named = decode_named([*self.rows.items(), *((name, encode_queue(queue)) for name, queue in engine.queues.items())])
        jobs = sorted(engine.jobs.all(), key=lambda job: job.number)
        rows = [decode_job(job.number, encode_job(job, self.changes[job.number]), job.payload) for job in jobs]
        again = Engine(LIMITS)
        following = engine.jobs.next_number
        restore(again, named.queues, rows, following, following, windows=named.windows)
        again.resume(self.now)
        assert unique_fingerprint(again) == unique_fingerprint(engine)
        invariants(again)


UniqueMachine.TestCase.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)


class TestUniqueKeys(UniqueMachine.TestCase):
    """Whatever Hypothesis thinks of."""


def test_the_model_can_be_wrong() -> None:
    """A job that holds a key unknown to the model is noticed: what is compared is not empty."""
    machine = UniqueMachine()
    machine.start()
    machine.enqueue(Unique("k"), "a", None)
    machine.as_the_model_says()
    machine.model.keys["a", "k"].holder = None
    try:
        machine.as_the_model_says()
    except AssertionError:
        return
    raise AssertionError("nothing was compared")


def test_history_is_in_the_order_of_the_ends_after_a_restart() -> None:
    """A purge that ends the claim of a job in history does not move that job behind jobs that ended later."""
    machine = UniqueMachine()
    machine.start()
    machine.enqueue(delay=None, queue="b", unique=_unique("k", "started", 10.0, "replace"))
    machine.cancel(which=0)
    machine.time_passes(seconds=1.0)
    machine.enqueue(delay=None, queue="a", unique=_unique("k", "enqueued", 40.0, "replace"))
    machine.cancel(which=0)
    machine.as_the_rows_say()
    machine.purge_all(queue="b")
    machine.as_the_rows_say()
