"""Jobs that are after others: when they run, what becomes of them when one of those does not succeed, and how that is bounded."""

from __future__ import annotations

import json

import pytest

from jobqueue.engine.engine import Engine
from jobqueue.engine.why import waiting_for
from jobqueue.errors import BadRequest, IdConflict, QueueFull, UnknownParent
from jobqueue.model import Job, Outcome, Status, Verdict
from jobqueue.policy import QueuePolicy
from jobqueue.reason import Reason
from tests.factories import FINALLY_FAILED, NOW, SUCCEEDED, dequeue, drain_ids, enqueue, make_engine, token_of

from .invariants import fingerprint, invariants

FAILED_AGAIN = Verdict(outcome=Outcome.FAILED, error=b'"again"', retry_delay=0.0)


def end(engine: Engine, job_id: str, verdict: Verdict = SUCCEEDED, now: float = NOW, queue: str = "default") -> Job:
    """Have the job that comes next end, which is this one."""
    job = dequeue(engine, now, queue)
    assert job.id == job_id
    return engine.conclude(now, job_id, token_of(job), verdict)


def family(engine: Engine, after_failure: str = "cancel", **fields: object) -> Job:
    """A parent and its child."""
    enqueue(engine, id="parent")
    return enqueue(engine, id="child", after=("parent",), after_failure=after_failure, **fields)


def look(engine: Engine, now: float = NOW) -> None:
    """Let the ticker do what is to be done in slices, and see that all is as it should be."""
    while (due := engine.next_deadline()) is not None and due <= now:
        engine.tick(now)
    invariants(engine)
    engine.graph.check()


def test_a_child_waits_until_its_parent_has_succeeded() -> None:
    """It is scheduled for no time, says for whom it waits, and is queued in the step of the parent's end."""
    engine = make_engine()
    child = family(engine)
    assert (child.status, child.run_at, child.held_back) == (Status.SCHEDULED, None, True)
    assert waiting_for(engine, child, 0) == [Reason(kind="jobs", jobs=("parent",))]
    look(engine)
    end(engine, "parent", now=NOW + 5)
    assert (child.status, child.run_at) == (Status.QUEUED, NOW + 5)
    look(engine)
    assert drain_ids(engine) == ["child"]


def test_a_child_of_parents_that_have_succeeded_is_queued_at_once() -> None:
    """There is nothing to wait for."""
    engine = make_engine()
    enqueue(engine, id="parent")
    end(engine, "parent")
    child = enqueue(engine, id="child", after=("parent",))
    assert child.status is Status.QUEUED
    look(engine)


def test_attempts_do_not_count_and_conclusions_do() -> None:
    """While a parent's attempts fail its child waits (sidekiq#5740, sidekiq#1697)."""
    engine = make_engine()
    child = family(engine, "run")
    for _ in range(4):
        end(engine, "parent", FAILED_AGAIN)
        look(engine)
        assert child.held_back
    end(engine, "parent", FAILED_AGAIN)
    assert child.status is Status.QUEUED
    look(engine)


def test_a_dead_letter_is_no_end() -> None:
    """Its child waits until it has ended in the dead-letter queue."""
    engine = make_engine()
    engine.put_policy("default", QueuePolicy(lease_seconds=10, max_attempts=1, dead_letter="dead"))
    child = family(engine)
    end(engine, "parent", FINALLY_FAILED)
    look(engine)
    assert child.held_back
    end(engine, "parent", queue="dead")
    assert child.status is Status.QUEUED
    look(engine)


@pytest.mark.parametrize("outcome", ["failed", "cancelled", "expired"])
def test_whatever_is_no_success_cancels_a_child_and_its_children(outcome: str) -> None:
    """Cascading, in the same step, each with an error that names the first that did not succeed (oban#799, rq#1093)."""
    engine = make_engine()
    enqueue(engine, id="parent", expires_in=10.0 if outcome == "expired" else None)
    enqueue(engine, id="child", after=("parent",))
    enqueue(engine, id="grandchild", after=("child",))
    if outcome == "failed":
        end(engine, "parent", FINALLY_FAILED)
    elif outcome == "cancelled":
        engine.cancel(NOW, "parent")
    else:
        engine.tick(NOW + 10)
    for name in ("child", "grandchild"):
        job = engine.job(name)
        assert job.outcome is Outcome.CANCELLED
        assert json.loads(job.error or b"") == {"after": "parent", "outcome": outcome}
    look(engine)


@pytest.mark.parametrize(("after_failure", "outcome"), [("cancel", Outcome.CANCELLED), ("run", None), ("hold", None)])
def test_a_parent_that_has_failed_before_its_child_came(after_failure: str, outcome: Outcome | None) -> None:
    """It counts as if it had failed now."""
    engine = make_engine()
    enqueue(engine, id="parent")
    end(engine, "parent", FINALLY_FAILED)
    child = enqueue(engine, id="child", after=("parent",), after_failure=after_failure)
    assert child.outcome is outcome
    assert child.held_back is (after_failure == "hold")
    look(engine)


def test_run_runs_whatever_the_outcome() -> None:
    """A clean-up runs after a failure."""
    engine = make_engine()
    child = family(engine, "run")
    engine.cancel(NOW, "parent")
    assert child.status is Status.QUEUED
    look(engine)


def test_hold_waits_until_the_parent_has_succeeded_after_all() -> None:
    """A retry by hand lets it go on, and the parent is not forgotten until then (oban#722, rq#675)."""
    engine = make_engine(history_jobs_max=1)
    child = family(engine, "hold")
    end(engine, "parent", FINALLY_FAILED)
    for number in range(3):
        enqueue(engine, id=f"other-{number}", priority=0)
        end(engine, f"other-{number}", FINALLY_FAILED)
    look(engine)
    assert child.held_back
    assert engine.job("parent").outcome is Outcome.FAILED
    engine.retry(NOW, "parent")
    look(engine)
    end(engine, "parent")
    assert child.status is Status.QUEUED
    look(engine)


def test_a_retry_counts_back() -> None:
    """A child that waits for others too waits again for a parent that lives again."""
    engine = make_engine()
    enqueue(engine, id="one")
    enqueue(engine, id="two")
    child = enqueue(engine, id="child", after=("one", "two"), after_failure="run")
    end(engine, "one", FINALLY_FAILED)
    assert waiting_for(engine, child, 0) == [Reason(kind="jobs", jobs=("two",))]
    engine.retry(NOW, "one")
    assert waiting_for(engine, child, 0) == [Reason(kind="jobs", jobs=("one", "two"))]
    end(engine, "two")
    look(engine)
    assert child.held_back
    end(engine, "one")
    assert child.status is Status.QUEUED
    look(engine)


def test_a_retried_child_waits_for_nobody() -> None:
    """Whoever retries it has said that it is to run."""
    engine = make_engine()
    child = family(engine)
    end(engine, "parent", FINALLY_FAILED)
    engine.retry(NOW, "child")
    assert child.status is Status.QUEUED
    look(engine)


def test_parents_are_kept_until_their_last_child_has_ended() -> None:
    """However short history is; then they are forgotten like others. What is kept takes room."""
    engine = make_engine(history_jobs_max=1, jobs_max=10)
    family(engine)
    enqueue(engine, id="child-2", after=("parent",))
    end(engine, "parent", Verdict(outcome=Outcome.SUCCEEDED, result=b"42"))
    for number in range(3):
        enqueue(engine, id=f"other-{number}", priority=0)
        end(engine, f"other-{number}")
    assert engine.jobs_max == 9
    for child in ("child", "child-2"):
        look(engine)
        job = dequeue(engine)
        parents, _ = engine.graph.parents(job, 1_000)
        assert [(each.id, each.outcome, each.result) for each in parents] == [("parent", Outcome.SUCCEEDED, b"42")]
        engine.conclude(NOW, child, token_of(job), SUCCEEDED)
    assert engine.jobs_max == 10
    enqueue(engine, id="last")
    end(engine, "last")
    assert "parent" not in engine.jobs.by_id
    look(engine)


def test_results_are_handed_over_as_far_as_there_is_room() -> None:
    """What does not fit is left out, and it is said that it was."""
    engine = make_engine()
    for name in ("one", "two"):
        enqueue(engine, id=name)
        end(engine, name, Verdict(outcome=Outcome.SUCCEEDED, result=b'"0123456789"'))
    child = enqueue(engine, id="child", after=("one", "two"))
    parents, left = engine.graph.parents(child, 20)
    assert [(each.result, each.left_out) for each in parents] == [(b'"0123456789"', False), (None, True)]
    assert left == 8


def test_a_delay_is_reckoned_from_the_enqueue_on() -> None:
    """A child whose delay is over when its parent ends is queued, else it waits for the rest."""
    engine = make_engine()
    child = family(engine, delay=10.0)
    end(engine, "parent", now=NOW + 4)
    assert (child.status, child.run_at) == (Status.SCHEDULED, NOW + 10)
    look(engine, NOW + 4)
    engine.tick(NOW + 10)
    assert child.status is Status.QUEUED


def test_a_child_that_waits_expires() -> None:
    """And its own children are told."""
    engine = make_engine()
    child = family(engine, expires_in=5.0)
    enqueue(engine, id="grandchild", after=("child",))
    engine.tick(NOW + 5)
    assert child.outcome is Outcome.EXPIRED
    assert engine.job("grandchild").outcome is Outcome.CANCELLED
    look(engine, NOW + 5)


@pytest.mark.parametrize(
    ("fields", "error", "field"),
    [
        ({"after": ("nobody",)}, UnknownParent, "after"),
        ({"id": "me", "after": ("me",)}, UnknownParent, "after"),
        ({"after": ("parent", "parent")}, BadRequest, "after"),
        ({"after": tuple(map(str, range(101)))}, BadRequest, "after"),
        ({"after": ("",)}, BadRequest, "after"),
        ({"after_failure": "run"}, BadRequest, "after_failure"),
        ({"after": ("parent", "other")}, QueueFull, "after"),
        ({"id": "child", "after": ("parent",), "after_failure": "run"}, IdConflict, "after_failure"),
        ({"id": "child", "after": ("other",)}, IdConflict, "after"),
    ],
)
def test_what_is_refused_changes_nothing(fields: dict[str, object], error: type[Exception], field: str) -> None:
    """Unknown parents, too many, too many edges in all, another job under the id."""
    engine = make_engine(edges_max=2)
    family(engine)
    enqueue(engine, id="other")
    before = fingerprint(engine)
    with pytest.raises(error) as caught:
        enqueue(engine, **fields)
    assert caught.value.field == field  # type: ignore[attr-defined]
    assert fingerprint(engine) == before


def test_a_repeated_enqueue_is_the_same_job() -> None:
    """Also when its parents are forgotten by then."""
    engine = make_engine(history_jobs_max=1)
    child = family(engine, "run")
    end(engine, "parent")
    engine.cancel(NOW, "child")
    enqueue(engine, id="other")
    end(engine, "other")
    assert "parent" not in engine.jobs.by_id
    assert enqueue(engine, id="child", after=("parent",), after_failure="run") is child


def steps(engine: Engine, now: float = NOW) -> list[int]:
    """How many events each turn of the ticker leaves, until nothing is due."""
    found = []
    while (due := engine.next_deadline()) is not None and due <= now:
        engine.take_events()
        engine.tick(now, 500)
        found.append(len(engine.events))
    return found


@pytest.mark.parametrize("verdict", [SUCCEEDED, FINALLY_FAILED])
def test_many_children_are_told_in_slices(verdict: Verdict) -> None:
    """No step does more than 500 of them, and the last is told like the first; children of theirs that are cancelled too."""
    engine = make_engine(history_jobs_max=20_000)
    enqueue(engine, id="parent")
    for number in range(3_000):
        enqueue(engine, id=f"child-{number}", after=("parent",))
        enqueue(engine, id=f"grandchild-{number}", after=(f"child-{number}",))
    engine.take_events()
    end(engine, "parent", verdict)
    assert len(engine.events) < 600
    assert max(steps(engine)) <= 1_100
    wanted = Status.QUEUED if verdict is SUCCEEDED else Status.CONCLUDED
    assert {engine.job(f"child-{number}").status for number in range(3_000)} == {wanted}
    if verdict is not SUCCEEDED:
        assert {engine.job(f"grandchild-{number}").outcome for number in range(3_000)} == {Outcome.CANCELLED}
    look(engine)


def test_a_parent_that_is_retried_while_its_children_are_cancelled() -> None:
    """Those that were not told yet wait on."""
    engine = make_engine(history_jobs_max=20_000)
    enqueue(engine, id="parent")
    for number in range(2_000):
        enqueue(engine, id=f"child-{number}", after=("parent",))
    end(engine, "parent", FINALLY_FAILED)
    engine.retry(NOW, "parent")
    look(engine)
    left = sum(engine.job(f"child-{number}").held_back for number in range(2_000))
    assert 1_000 < left < 2_000
    end(engine, "parent")
    look(engine)
    assert engine.queues["default"].queued == left


def test_a_long_chain_is_cancelled_without_recursion() -> None:
    """However long it is."""
    engine = make_engine(history_jobs_max=20_000)
    enqueue(engine, id="0")
    for number in range(1, 5_000):
        enqueue(engine, id=str(number), after=(str(number - 1),))
    engine.cancel(NOW, "0")
    look(engine)
    assert engine.live == 0
    assert json.loads(engine.job("4999").error or b"") == {"after": "0", "outcome": "cancelled"}


def test_parents_that_end_in_one_step_share_its_bound() -> None:
    """A batch, or a purge, ends a thousand that have 400 children each: no step looks at more than 500 edges for it."""
    engine = make_engine(history_jobs_max=10_000)
    for number in range(20):
        enqueue(engine, id=f"parent-{number}", queue="parents")
    parents = tuple(f"parent-{number}" for number in range(20))
    for _ in range(100):
        enqueue(engine, after=parents)
    for number in range(20):
        end(engine, f"parent-{number}", queue="parents")
    counted = sum(engine.graph.edges.counted(parent, child) for parent in parents for child in engine.graph.edges.of(parent))
    assert 0 < counted <= 600
    look(engine)
    assert engine.queues["default"].queued == 100
