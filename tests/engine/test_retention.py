"""What a queue keeps of its concluded jobs: in slices, over a restart, and where another engine is followed."""

from __future__ import annotations

from jobqueue.engine.engine import Engine
from jobqueue.engine.follow import Changes, begin, end, follow
from jobqueue.engine.restore import Stored, StoredQueue, restore
from jobqueue.engine.retention import SLICE, KeptHistory
from jobqueue.engine.unused import SLICE as LOOKED
from jobqueue.engine.unused import Unused
from jobqueue.model import SUCCEEDED as OK
from jobqueue.model import Job, JobSpec, Outcome, Want
from jobqueue.policy import Keep, PolicyChange, QueuePolicy
from tests.factories import NOW, SUCCEEDED, make_engine

from .invariants import invariants
from .storing import stored_queues

MANY = 5 * SLICE


def conclude(engine: Engine, count: int, now: float = NOW, queue: str = "default") -> list[Job]:
    """Jobs that have succeeded."""
    jobs = []
    for _ in range(count):
        engine.enqueue(now, JobSpec(payload=b"1", queue=queue))
        (job,) = engine.dequeue(now, Want(queues=(queue,)))
        assert job.lease is not None
        jobs.append(engine.conclude(now, job.id, job.lease.token, SUCCEEDED))
    return jobs


def kept(engine: Engine) -> int:
    """Jobs that are remembered."""
    return len(engine.history.jobs(OK))


def stored(engine: Engine) -> tuple[list[StoredQueue], list[Stored]]:
    """All of an engine, as if it had been written."""
    queues = stored_queues(engine)
    jobs = [Stored(job.__copy__(), job.number) for job in engine.jobs.oldest_first(0)]  # type: ignore[attr-defined] # see shell.py
    return queues, jobs


def test_without_a_rule_nothing_is_kept_account_of() -> None:
    """The plain history does what it did; from the first rule on another one does, with what the first had."""
    engine = make_engine()
    jobs = conclude(engine, 3)
    engine.put_policy("other", QueuePolicy(max_jobs=5))
    assert not isinstance(engine.history, KeptHistory)
    engine.put_policy("other", QueuePolicy(keep_failed=Keep(1.0)))
    assert isinstance(engine.history, KeptHistory)
    assert engine.history.jobs(OK) == jobs
    invariants(engine)


def test_what_ages_at_once_is_forgotten_in_slices() -> None:
    """A step forgets so many, however many are due, and says that more is due at once."""
    engine = make_engine()
    engine.put_policy("default", QueuePolicy(keep_succeeded=Keep(10.0)))
    conclude(engine, MANY)
    assert engine.next_deadline() is not None
    left = []
    while kept(engine):
        engine.tick(NOW + 10.0, limit=1)
        left.append(kept(engine))
        invariants(engine)
    assert left == list(range(MANY - SLICE, -1, -SLICE))


def test_a_narrower_count_cuts_in_slices_while_jobs_end() -> None:
    """What is over is forgotten by the ticker; each job that ends meanwhile pushes out two at most; then the count holds exactly."""
    engine = make_engine()
    engine.put_policy("default", QueuePolicy(keep_succeeded=Keep(count=MANY)))
    conclude(engine, MANY)
    engine.change_policy("default", PolicyChange(keep_succeeded=Keep(count=3)))
    conclude(engine, 1)
    assert kept(engine) == MANY - 1
    newest = conclude(engine, 5)[-3:]
    while kept(engine) > 3:
        before = kept(engine)
        engine.tick(NOW, limit=1)
        assert before - kept(engine) <= SLICE
    assert engine.history.jobs(OK) == newest
    invariants(engine)


def test_a_rule_finds_what_was_there_while_jobs_come_and_go() -> None:
    """In the order in which they ended, whatever leaves history, or comes to it, while they are looked for."""
    engine = make_engine(history_jobs_max=5_000)
    before = conclude(engine, 2_000)
    conclude(engine, 10, queue="other")
    engine.put_policy("default", QueuePolicy(keep_succeeded=Keep(10.0)))
    engine.tick(NOW, limit=1)
    after = conclude(engine, 20, NOW + 1.0)
    while engine.next_deadline() is not None and engine.next_deadline() <= NOW + 1.0:  # type: ignore[operator] # it is a number then
        engine.tick(NOW + 1.0)
    invariants(engine)
    assert isinstance(engine.history, KeptHistory)
    (shelf,) = engine.history.shelves()
    assert list(shelf.jobs) == [*before, *after]
    for _ in range(100):
        engine.tick(NOW + 10.5)
    assert [job for job in engine.history.jobs(OK) if job.queue == "default"] == after
    assert kept(engine) == 30


def test_the_servers_bound_takes_jobs_off_their_shelf() -> None:
    """What history pushes out by itself is looked for nowhere any more."""
    engine = make_engine(history_jobs_max=5)
    engine.put_policy("default", QueuePolicy(keep_succeeded=Keep(10.0, 4)))
    conclude(engine, 4)
    conclude(engine, 4, queue="other")
    invariants(engine)
    engine.tick(NOW + 10.0)
    assert kept(engine) == 4
    invariants(engine)


def test_what_grew_too_old_while_no_server_ran_is_forgotten_after_the_start() -> None:
    """The rest is as it was, with its time."""
    engine = make_engine()
    engine.put_policy("default", QueuePolicy(keep_succeeded=Keep(60.0)))
    conclude(engine, 3)
    late = conclude(engine, 2, NOW + 50.0)
    again = make_engine()
    queues, jobs = stored(engine)
    restore(again, queues, jobs, engine.jobs.next_number, engine.jobs.next_number)
    invariants(again)
    again.resume(NOW + 70.0)
    again.tick(NOW + 70.0)
    assert [job.id for job in again.history.jobs(OK)] == [job.id for job in late]
    again.tick(NOW + 110.0)
    assert kept(again) == 0


def test_an_engine_that_follows_forgets_nothing_until_it_goes_on() -> None:
    """It is told what the other one forgot; once it decides, its rules hold, those too that came while it followed."""
    owner, twin = make_engine(), make_engine()
    owner.put_policy("default", QueuePolicy(keep_succeeded=Keep(60.0)))
    conclude(owner, 4)
    begin(twin)
    queues, jobs = stored(owner)
    restore(twin, queues, jobs, owner.jobs.next_number, owner.jobs.next_number)
    conclude(owner, 2, NOW + 10.0)
    owner.change_policy("default", PolicyChange(keep_succeeded=Keep(60.0, 5)))
    queues, jobs = stored(owner)
    for _ in follow(twin, Changes(jobs, [], queues, [], owner.jobs.next_number)):
        pass
    invariants(twin)
    assert kept(twin) == 6
    end(twin)
    twin.tick(NOW + 10.0)
    assert kept(twin) == 5
    twin.tick(NOW + 60.0)
    assert kept(twin) == 2
    invariants(twin)


def test_queues_are_looked_at_in_slices() -> None:
    """Of thousands that are unused no step looks at more than a slice; then it waits for as long as they have left."""
    engine = make_engine(queues_max=10_000)
    for number in range(2 * LOOKED + 100):
        conclude(engine, 1, queue=f"q{number}")
    unused = Unused(engine)
    unused.stir(NOW)
    seen: list[str] = []
    steps = []

    def standing(name: str) -> int:
        seen.append(name)
        return 0

    while unused.due <= NOW:
        unused.look(NOW, standing)
        steps.append(len(seen))
    assert steps == [LOOKED, 2 * LOOKED, 2 * LOOKED + 100]
    assert unused.due == NOW + engine.limits.unused_queue_seconds
    while unused.due <= NOW + engine.limits.unused_queue_seconds:
        unused.look(NOW + engine.limits.unused_queue_seconds, standing)
    assert engine.queues == {}
    assert unused.due == float("inf")
    assert engine.history.counts()[Outcome.SUCCEEDED][0] == 2 * LOOKED + 100


def test_it_does_not_look_all_the_time() -> None:
    """However often something happens, it looks once a minute."""
    engine = make_engine()
    conclude(engine, 1)
    engine.enqueue(NOW, JobSpec(payload=b"1"))
    unused = Unused(engine)
    looked = []
    for second in range(600):
        unused.stir(NOW + second)
        if unused.due <= NOW + second:
            unused.look(NOW + second, lambda _name: 0)
            looked.append(second)
    assert looked == list(range(0, 600, 60))
