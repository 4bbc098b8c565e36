"""An engine restored from what was stored is the engine it was; what contradicts itself is refused."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import msgspec
import pytest

from jobqueue.engine.engine import Engine
from jobqueue.engine.events import Kind
from jobqueue.engine.restore import TOTALS, Inconsistent, Stored, StoredQueue, restore
from jobqueue.errors import QueueFull, TooManyQueues
from jobqueue.model import Details, Job, Outcome, Status
from jobqueue.policy import QueuePolicy
from tests.factories import NOW, STATES, bring, dequeue, drain_ids, enqueue, make_engine, token_of

from .invariants import fingerprint, invariants
from .storing import stored_queues


class Record:
    """What a journal would have stored of an engine: the latest state of each job, in the order of the changes."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.jobs: dict[int, Stored] = {}
        self.changes = 0

    def note(self) -> None:
        """Store what has happened since the last note."""
        for event in self.engine.take_events():
            if event.job is None:
                continue
            self.changes += 1
            if event.kind is Kind.FORGOTTEN:
                self.jobs.pop(event.job.number, None)
            else:
                self.jobs[event.job.number] = Stored(fresh(event.job), self.changes)

    def restored(self, into: Engine | None = None) -> Engine:
        """Another engine, with what was noted."""
        into = into or make_engine()
        queues = stored_queues(self.engine)
        jobs = [Stored(fresh(stored.job), stored.change) for _, stored in sorted(self.jobs.items())]
        restore(into, queues, jobs, self.engine.jobs.next_number, self.engine.jobs.next_number)
        return into


def fresh(job: Job) -> Job:
    """A copy that stands nowhere."""
    return msgspec.structs.replace(job, slot=-1)


def same(one: Engine, other: Engine) -> bool:
    """Whether two engines are alike in all that a restart must keep; not in where in the heap of due times a job stands."""
    prints = [fingerprint(engine) for engine in (one, other)]
    for print_ in prints:
        del print_["random"]
        for job in print_["jobs"].values():
            del job["slot"]
        # Jobs of several queues that were taken under one attempt_id come back in any order.
        print_["attempts"] = {attempt: sorted(jobs) for attempt, jobs in print_["attempts"].items()}
        print_["queues"] = dict(sorted(print_["queues"].items()))
        for queue in print_["queues"].values():
            queue["lanes"] = [lane or None for lane in queue["lanes"]]
    assert prints[0].keys() == prints[1].keys()
    assert [name for name in prints[0] if prints[0][name] != prints[1][name]] == []
    return True


@pytest.mark.parametrize("worked", [True, False])
def test_every_state_is_restored(worked: bool) -> None:
    """Jobs in every state, queues and counters are as they were, and the restored engine keeps every invariant."""
    engine = make_engine()
    record = Record(engine)
    for state in STATES:
        bring(engine, state, queue=state, id=state, worked=worked)
    engine.put_policy("empty", msgspec.structs.replace(engine.default_policy, paused=True, max_jobs=7))
    # `bring` takes the events away: what they told is in the jobs.
    ended = [job for outcome in Outcome for job in engine.history.jobs(outcome)]
    for job in [*(job for job in engine.jobs.all() if job.conclusion is None), *ended]:
        record.changes += 1
        record.jobs[job.number] = Stored(fresh(job), record.changes)
    engine.take_events()
    restored = record.restored()
    invariants(restored)
    assert same(engine, restored)


@pytest.mark.parametrize("seed", range(20))
def test_after_any_history_the_order_is_as_it_was(seed: int) -> None:
    """After random operations a restored engine hands out, brings back and forgets in the very order of the one that went on."""
    luck = Random(seed)
    engine = make_engine(seed, history_jobs_max=4)
    record = Record(engine)
    now = NOW
    for _ in range(200):
        now += luck.random()
        act = luck.random()
        leased = [job for job in engine.jobs.all() if job.lease is not None]
        if act < 0.4:
            enqueue(engine, now, priority=luck.randrange(2), queue=luck.choice("ab"), delay=luck.choice((None, None, 5.0)))
        elif act < 0.7 or not leased:
            for queue in "ab":
                if engine.available(queue):
                    dequeue(engine, now, queue, lease_seconds=luck.choice((2.0, 50.0)), attempt_id=luck.choice((None, "x")))
        elif act < 0.8:
            job = luck.choice(leased)
            engine.release(now, job.id, token_of(job), luck.choice((0.0, 3.0)))
        elif act < 0.9:
            engine.cancel(now, luck.choice(leased).id)
        else:
            engine.tick(now)
        record.note()
    restored = record.restored(make_engine(seed, history_jobs_max=4))
    invariants(restored)
    assert same(engine, restored)
    for both in (engine, restored):
        for job in list(both.jobs.all()):
            if job.lease is not None:
                both.release(now, job.id, token_of(job))
        both.tick(now + 100)
    assert drain_ids(restored, now + 100, "a", "b") == drain_ids(engine, now + 100, "a", "b")


def test_a_job_that_comes_back_goes_ahead_of_those_behind_it() -> None:
    """One came back before the stop, one after: they leave in their own order, and before those that never left."""
    engine = make_engine()
    record = Record(engine)
    for job_id in ("1", "2", "3"):
        enqueue(engine, id=job_id)
    first, second = dequeue(engine), dequeue(engine)
    engine.release(NOW, first.id, token_of(first))
    record.note()
    restored = record.restored()
    restored.release(NOW, "2", token_of(second))
    assert drain_ids(restored) == ["1", "2", "3"]


def test_numbers_and_places_go_on_where_they_were() -> None:
    """A number is never given again, though every job that had one is forgotten."""
    engine = make_engine(history_jobs_max=0)
    record = Record(engine)
    for _ in range(3):
        enqueue(engine)
        job = dequeue(engine)
        engine.cancel(NOW, job.id)
        engine.release(NOW, job.id, token_of(job))
    record.note()
    assert record.jobs == {}
    assert enqueue(record.restored()).number == 4


def test_places_of_a_server_that_counted_them_apart_are_kept() -> None:
    """Of two counters the greater goes on, so that no place is given twice and newcomers stand last."""
    engine = make_engine()
    record = Record(engine)
    for job_id in ("1", "2"):
        enqueue(engine, id=job_id)
    record.note()
    for number, seq in ((1, 71), (2, 70)):
        stored = record.jobs[number]
        record.jobs[number] = Stored(msgspec.structs.replace(stored.job, details=Details(seq=seq)), stored.change)
    into = make_engine()
    queues = [StoredQueue("default", engine.default_policy, (2, *[0] * (len(TOTALS) - 1)))]
    restore(into, queues, [record.jobs[1], record.jobs[2]], 3, 72)
    invariants(into)
    enqueue(into, id="3")
    assert drain_ids(into) == ["2", "1", "3"]


def test_restored_jobs_share_the_names_of_their_queue_and_type() -> None:
    """What comes from a file is text of its own for every job; a million jobs do not keep it."""
    engine = make_engine()
    record = Record(engine)
    for _ in range(3):
        enqueue(engine, type="t")
    record.note()
    for number, stored in record.jobs.items():
        job = msgspec.structs.replace(stored.job, queue="".join(["defa", "ult"]), type="".join(["t", "1"]))
        record.jobs[number] = Stored(job, stored.change)
    jobs = list(record.restored().jobs.all())
    assert len({id(job.queue) for job in jobs}) == len({id(job.type) for job in jobs}) == 1


def test_a_narrower_history_forgets_the_oldest() -> None:
    """What no longer fits into history is forgotten at once, and events say so."""
    engine = make_engine()
    record = Record(engine)
    for job_id in ("a", "b", "c"):
        enqueue(engine, id=job_id)
        engine.cancel(NOW, job_id)
    record.note()
    restored = record.restored(make_engine(history_jobs_max=1))
    assert list(restored.jobs.by_id) == ["c"]
    assert [(event.kind, event.job and event.job.id) for event in restored.take_events()] == [
        (Kind.FORGOTTEN, "a"),
        (Kind.FORGOTTEN, "b"),
    ]


def test_narrower_bounds_drop_no_live_job() -> None:
    """A server with less room than it has jobs and queues keeps them all, and takes no more."""
    engine = make_engine()
    record = Record(engine)
    for name in "abcde":
        enqueue(engine, queue=name)
    record.note()
    restored = record.restored(make_engine(jobs_max=2, queues_max=2))
    assert (restored.live, len(restored.queues)) == (5, 5)
    with pytest.raises(QueueFull):
        enqueue(restored, queue="a")
    with pytest.raises(TooManyQueues):
        restored.put_policy("f", QueuePolicy())


Damage = Callable[[Record], object]


def _with(number: int, /, **fields: object) -> Damage:
    def damage(record: Record) -> None:
        stored = record.jobs[number]
        record.jobs[number] = Stored(msgspec.structs.replace(stored.job, **fields), stored.change)

    return damage


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (_with(1, status=Status.IN_PROGRESS), "its lease says otherwise"),
        (_with(1, status=Status.CONCLUDED), "its conclusion says otherwise"),
        (_with(2, hold=None), "its lease says otherwise"),
        (_with(2, attempts=0), "its attempts are 0"),
        (_with(1, priority=10), "its priority is 10"),
        (_with(1, status=Status.SCHEDULED), "scheduled for no time"),
        (_with(1, details=Details(seq=0)), "no place in its queue"),
        (_with(1, details=Details(seq=1_000)), "was never given"),
        (_with(1, details=Details(seq=4)), "has its place in the queue"),
        (_with(1, id="2"), "has its id"),
        (_with(2, number=1), "given twice or never"),
        (_with(4, number=1_000), "given twice or never"),
        (_with(1, queue="elsewhere"), "is not stored"),
        (lambda record: record.jobs.pop(1), "neither here nor has ended"),
        (lambda record: setattr(record.engine.queues["default"], "retried_total", -1), "counts below zero"),
        (lambda record: _with(3, hold=record.jobs[2].job.hold)(record), "lease's token"),
    ],
)
def test_what_contradicts_itself_is_refused(damage: Damage, reason: str) -> None:
    """Each rule that a stored job can break is checked, and the refusal says which job and what."""
    engine = make_engine()
    record = Record(engine)
    for job_id in ("2", "3", "1", "4"):
        enqueue(engine, id=job_id)
    # Numbers by the order of enqueue: 2 and 3 are leased, so renumber what the test calls them.
    dequeue(engine)
    dequeue(engine)
    record.note()
    names = {"2": 2, "3": 3, "1": 1, "4": 4}
    record.jobs = {
        names[stored.job.id]: Stored(msgspec.structs.replace(stored.job, number=names[stored.job.id]), stored.change)
        for stored in record.jobs.values()
    }
    assert record.restored().live == 4
    damage(record)
    with pytest.raises(Inconsistent, match=reason):
        record.restored()


def test_each_outcome_has_its_own_history() -> None:
    """Jobs that ended go to the history of their outcome, in the order in which they ended."""
    engine = make_engine()
    record = Record(engine)
    for job_id in ("a", "b", "c"):
        enqueue(engine, id=job_id)
    for job_id in ("b", "c", "a"):
        engine.cancel(NOW, job_id)
    record.note()
    assert [job.id for job in record.restored().history.jobs(Outcome.CANCELLED)] == ["b", "c", "a"]
