"""Taking: order, preference, leases, attempt_id replay, and undoing a take whose answer was not delivered."""

from __future__ import annotations

from itertools import permutations
from random import Random

import msgspec
import pytest

from jobqueue.engine.events import Kind
from jobqueue.model import Job, Outcome, Status, Want
from jobqueue.policy import QueuePolicy
from tests.factories import FAILED, FORGED, NOW, SUCCEEDED, bring, dequeue, drain_ids, enqueue, make_engine, token_of

from .invariants import fingerprint, invariants

AGAIN = Want(attempt_id="a", limit=10)
"""The dequeue that is asked again, its answer having been lost."""


def test_first_in_first_out() -> None:
    """A thousand jobs of one queue and priority leave in the order they came, in takes of any size."""
    engine = make_engine()
    made = [enqueue(engine, NOW + n / 1_000.0).id for n in range(1_000)]
    taken: list[str] = []
    random = Random(0)
    while batch := engine.dequeue(NOW + 1.0, Want(limit=random.randint(1, 50))):
        taken += [job.id for job in batch]
    assert taken == made


def test_urgent_first_and_first_in_first_out_inside_each_priority() -> None:
    """All ten priorities: 0 leaves first, 9 last, each in its own order."""
    engine = make_engine()
    priorities = [*range(10), *reversed(range(10)), *range(10)]
    made = [enqueue(engine, id=str(n), priority=priority) for n, priority in enumerate(priorities)]
    wanted = [job.id for job in sorted(made, key=lambda job: (job.priority, job.number))]
    assert [job.id for job in engine.queue("default").jobs()] == wanted
    assert drain_ids(engine) == wanted


def test_urgent_newcomer_passes_and_returned_job_leads_its_own_priority_only() -> None:
    """A redelivered job goes to the front of its priority, not of the queue."""
    engine = make_engine()
    job = enqueue(engine, id="returned")
    enqueue(engine, id="waiting")
    engine.release(NOW, job.id, token_of(dequeue(engine)))
    enqueue(engine, id="urgent", priority=0)
    assert drain_ids(engine) == ["urgent", "returned", "waiting"]


@pytest.mark.parametrize("names", list(permutations("abc")))
def test_queues_are_emptied_in_order_of_preference(names: tuple[str, ...]) -> None:
    """The first queue of the list is emptied before the second is touched, whatever their priorities and ages."""
    engine = make_engine()
    for n in range(2):
        for name in "cab":
            enqueue(engine, queue=name, id=f"{name}{n}", priority=9 if name == names[0] else 0)
    assert drain_ids(engine, NOW, *names) == [f"{name}{n}" for name in names for n in range(2)]


def test_limit_is_spread_over_the_queues_and_never_passed() -> None:
    """A take of three from queues of two: all of the first, one of the second; unknown and repeated names are harmless."""
    engine = make_engine()
    for name in "ab":
        for n in range(2):
            enqueue(engine, queue=name, id=f"{name}{n}")
    taken = engine.dequeue(NOW, Want(queues=("a", "nowhere", "a", "b"), limit=3))
    assert [job.id for job in taken] == ["a0", "a1", "b0"]
    assert "nowhere" not in engine.queues
    assert engine.dequeue(NOW, Want(queues=("nowhere",))) == []


def test_paused_queue_hands_out_nothing_and_accepts_everything() -> None:
    """A paused queue is passed over; what it took in meanwhile comes out in order when it is resumed."""
    engine = make_engine()
    engine.put_policy("a", QueuePolicy(paused=True))
    for n in range(2):
        enqueue(engine, queue="a", id=f"a{n}")
    enqueue(engine, queue="b", id="b")
    assert not engine.available("a")
    assert drain_ids(engine, NOW, "a", "b") == ["b"]
    engine.set_paused("a", False)
    assert engine.available("a")
    assert drain_ids(engine, NOW, "a") == ["a0", "a1"]


def test_available_is_what_a_dequeue_would_find() -> None:
    """Only a queue that is known, not paused and has a queued job is available."""
    engine = make_engine()
    assert not engine.available("a")
    enqueue(engine, queue="a", delay=10.0)
    assert not engine.available("a")
    engine.tick(NOW + 10.0)
    assert engine.available("a")
    dequeue(engine, NOW + 10.0, "a")
    assert not engine.available("a")


def test_lease_is_the_dequeues_else_the_jobs_else_the_queues() -> None:
    """Three places may say how long a lease holds; the nearest to the worker wins."""
    engine = make_engine()
    engine.put_policy("default", QueuePolicy(lease_seconds=30.0))
    for asked, own, holds in ((None, None, 30.0), (None, 20.0, 20.0), (10.0, 20.0, 10.0), (10.0, None, 10.0)):
        enqueue(engine, lease_seconds=own)
        lease = dequeue(engine, lease_seconds=asked, worker="w").lease
        assert lease is not None
        assert (lease.seconds, lease.expires_at, lease.started_at, lease.worker) == (holds, NOW + holds, NOW, "w")
        assert (lease.cancel_requested, lease.replayed) == (False, False)


def test_every_lease_has_a_token_of_its_own() -> None:
    """No token is given twice, to the same job least of all."""
    engine = make_engine()
    job = enqueue(engine)
    tokens = set()
    for _ in range(500):
        tokens.add(token_of(dequeue(engine)))
        engine.release(NOW, job.id, token_of(job))
    assert len(tokens) == 500


def test_attempts_count_up_and_are_told_of() -> None:
    """A dequeue counts an attempt, tells of it in one event, and is counted as redelivery from the second on."""
    engine = make_engine()
    job = enqueue(engine)
    for attempt in (1, 2, 3):
        engine.take_events()
        assert dequeue(engine, NOW + 300.0 * attempt).attempts == attempt
        assert [event.kind for event in engine.take_events()] == [Kind.DEQUEUED]
        engine.tick(NOW + 300.0 * (attempt + 1))
    stats = engine.queue("default").stats()
    assert (stats.dequeued_total, stats.redelivered_total) == (3, 2)
    assert job.attempts == 3


# attempt_id: the answer that was lost is asked for again.


def test_replay_answers_the_same_jobs_and_leases() -> None:
    """The same attempt_id finds the same jobs in the same order under the same tokens, and extends nothing."""
    engine = make_engine()
    for n in range(3):
        enqueue(engine, id=str(n))
    taken = engine.dequeue(NOW, Want(limit=2, attempt_id="a"))
    leases = [(token_of(job), job.lease and job.lease.expires_at) for job in taken]
    engine.take_events()
    for _ in range(3):
        again = engine.replay(AGAIN)
        assert again == taken
        assert [(token_of(job), job.lease and job.lease.expires_at) for job in again] == leases
    assert [event.kind for event in engine.take_events()] == [Kind.CHANGED] * 2, "once for each, to be stored"
    assert [job.attempts for job in taken] == [1, 1]
    assert engine.queue("default").queued == 1
    invariants(engine)


def test_unknown_attempt_replays_nothing_and_changes_nothing() -> None:
    """An attempt_id that took nothing is remembered nowhere."""
    engine = make_engine()
    assert engine.dequeue(NOW, Want(attempt_id="a")) == []
    bring(engine, "in_progress")
    before = fingerprint(engine)
    assert engine.replay(AGAIN) == []
    assert fingerprint(engine) == before
    assert engine.attempts == {}


def test_replay_shows_only_the_leases_that_still_live() -> None:
    """Of three jobs taken together the concluded one is not handed out again."""
    engine = make_engine()
    for n in range(3):
        enqueue(engine, id=str(n))
    engine.dequeue(NOW, Want(limit=3, attempt_id="a"))
    engine.conclude(NOW, "1", token_of(engine.job("1")), SUCCEEDED)
    assert [job.id for job in engine.replay(AGAIN)] == ["0", "2"]
    assert engine.replay(AGAIN)[0].lease is not None


ENDS = ("conclude", "fail", "release", "put_back", "expire", "cancel and release")


@pytest.mark.parametrize("end", ENDS)
def test_attempt_is_forgotten_when_its_leases_have_ended(end: str) -> None:
    """However a lease ends, its attempt_id lets go of it: nothing is replayed and the index is empty."""
    engine = make_engine()
    made = [enqueue(engine, id=str(n)) for n in range(2)]
    engine.dequeue(NOW, Want(limit=2, attempt_id="a"))
    for left, job in zip((["1"], []), made, strict=True):
        token = token_of(job)
        if end in ("conclude", "fail"):
            engine.conclude(NOW, job.id, token, SUCCEEDED if end == "conclude" else FAILED)
        elif end == "put_back":
            assert engine.put_back(NOW, job.id, token)
        elif end == "expire":
            engine.extend(NOW, "1", token_of(made[1]), 400.0 if job is made[0] else 1.0)
            engine.tick(NOW + 300.0)
        else:
            if end != "release":
                engine.cancel(NOW, job.id)
            engine.release(NOW, job.id, token)
        assert [one.id for one in engine.attempts.get(("a", None, "", "default"), {})] == left
        invariants(engine)
    assert engine.attempts == {}
    assert engine.replay(AGAIN) == []


def test_attempt_id_used_for_two_takes_replays_both() -> None:
    """An attempt_id that took jobs twice, whatever its reason, names all of them."""
    engine = make_engine()
    for n in range(2):
        enqueue(engine, id=str(n))
    dequeue(engine, attempt_id="a")
    dequeue(engine, attempt_id="a")
    assert [job.id for job in engine.replay(AGAIN)] == ["0", "1"]
    invariants(engine)


def test_attempt_id_is_its_workers_own() -> None:
    """Another worker, or a dequeue of other queues, that happens upon the same attempt_id is handed nobody's lease."""
    engine = make_engine()
    enqueue(engine, queue="a", id="one"), enqueue(engine, queue="b", id="two")
    dequeue(engine, queue="a", worker="w", attempt_id="x")
    dequeue(engine, queue="b", worker="w", attempt_id="x")
    before = fingerprint(engine)
    for want in (
        Want(queues=("a", "b"), attempt_id="x"),
        Want(queues=("a",), worker="v", attempt_id="x"),
        Want(worker="w", attempt_id="x"),
    ):
        assert engine.replay(want) == []
    assert fingerprint(engine) == before
    assert [job.id for job in engine.replay(Want(queues=("b",), worker="w", attempt_id="x"))] == ["two"]
    assert engine.put_back(NOW, "one", token_of(engine.job("one"))), "it was not handed out again"
    invariants(engine)


def test_dequeue_without_an_attempt_id_replays_nothing() -> None:
    """Leases taken without an attempt_id are nobody's to ask for again."""
    engine = make_engine()
    enqueue(engine)
    dequeue(engine)
    assert engine.replay(Want()) == []


# put_back: the answer could not be delivered.


def test_put_back_leaves_no_trace() -> None:
    """Undoing a take puts everything back: the place, the attempts, the counts, the attempt index, the due time. Totals only rise."""
    engine = make_engine()
    for n in range(3):
        enqueue(engine, id=str(n), expires_in=1_000.0)
    engine.take_events()
    before = fingerprint(engine)
    taken = engine.dequeue(NOW, Want(limit=2, attempt_id="a"))
    engine.take_events()
    for job in taken:
        assert engine.put_back(NOW, job.id, token_of(job))
    assert [event.kind for event in engine.take_events()] == [Kind.QUEUED] * 2
    after = fingerprint(engine)
    for job in after["jobs"].values():
        job["slot"] = before["jobs"][job["id"]]["slot"]  # it may stand elsewhere in memory, not in line
    stats = before["queues"]["default"]["stats"]
    before["queues"]["default"]["stats"] = msgspec.structs.replace(stats, dequeued_total=stats.dequeued_total + 2)
    assert after == before
    invariants(engine)


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_several_put_back_in_any_order_stand_in_their_old_order(order: tuple[int, ...]) -> None:
    """Four takes whose clients vanish in any order leave the queue as it was, newcomers behind."""
    engine = make_engine()
    made = [enqueue(engine, id=str(n)) for n in range(6)]
    taken: list[Job] = engine.dequeue(NOW, Want(limit=4))
    newcomer = enqueue(engine, id="new")
    for n in order:
        assert engine.put_back(NOW, taken[n].id, token_of(taken[n]))
        invariants(engine)
    assert engine.queue("default").jobs() == [*made, newcomer]


def test_released_expired_and_undelivered_jobs_come_back_in_their_old_order() -> None:
    """Three roads back, one order."""
    engine = make_engine()
    made = [enqueue(engine, id=str(n)) for n in range(5)]
    engine.dequeue(NOW, Want(limit=3, lease_seconds=10.0))
    engine.release(NOW, "2", token_of(made[2]))
    engine.put_back(NOW, "0", token_of(made[0]))
    engine.tick(NOW + 10.0)
    assert engine.queue("default").jobs() == made
    invariants(engine)


def test_put_back_refuses_what_was_replayed() -> None:
    """Once a lease was handed out again, a failed write of the first answer proves nothing: the lease stands."""
    engine = make_engine()
    enqueue(engine)
    job = dequeue(engine, attempt_id="a")
    engine.replay(AGAIN)
    before = fingerprint(engine)
    assert engine.put_back(NOW, job.id, token_of(job)) is False
    assert fingerprint(engine) == before
    engine.extend(NOW, job.id, token_of(job))
    assert engine.put_back(NOW, job.id, token_of(job)) is False


def test_put_back_of_a_lease_that_is_not_live_does_nothing() -> None:
    """A forged token, an ended lease, an unknown job: nothing to undo."""
    engine = make_engine()
    placed = bring(engine, "in_progress")
    concluded = bring(engine, "succeeded", queue="other")
    before = fingerprint(engine)
    for job_id, token in (
        (placed.job.id, FORGED),
        (placed.job.id, placed.earlier),
        (concluded.job.id, concluded.token),
        ("nobody", FORGED),
    ):
        assert engine.put_back(NOW, job_id, token or "") is False
    assert fingerprint(engine) == before


def test_put_back_of_a_job_to_be_cancelled_ends_it() -> None:
    """A cancel that came between take and failed write holds."""
    engine = make_engine()
    placed = bring(engine, "cancelling")
    assert engine.put_back(NOW, placed.job.id, placed.token or "")
    assert (placed.job.outcome, placed.job.attempts) == (Outcome.CANCELLED, 0)
    invariants(engine)


def test_delayed_redelivery_goes_to_the_front_and_a_delayed_newcomer_to_the_back() -> None:
    """When their times come, a job that failed once stands ahead of those that waited; one that was only delayed behind them."""
    engine = make_engine()
    failed = enqueue(engine, id="failed")
    engine.conclude(NOW, failed.id, token_of(dequeue(engine)), FAILED)
    delayed = enqueue(engine, id="delayed", delay=5.0)
    enqueue(engine, id="waiting")
    assert (failed.status, delayed.status) == (Status.SCHEDULED, Status.SCHEDULED)
    engine.tick(NOW + 5.0)
    assert drain_ids(engine, NOW + 5.0) == ["failed", "waiting", "delayed"]
