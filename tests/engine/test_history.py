"""The bounded history: by count, by bytes, each outcome by itself, and never a live job."""

from __future__ import annotations

from jobqueue.engine.engine import Engine
from jobqueue.engine.events import Kind
from jobqueue.engine.sizes import job_bytes
from jobqueue.model import Outcome, Verdict
from tests.factories import NOW, bring, dequeue, enqueue, make_engine, token_of

from .invariants import invariants


def remembered(engine: Engine, outcome: Outcome) -> list[str]:
    return [job.id for job in engine.history.jobs(outcome)]


def succeed(engine: Engine, job_id: str, result: bytes | None = None, **fields: object) -> None:
    job = enqueue(engine, id=job_id, **fields)
    engine.conclude(NOW, job.id, token_of(dequeue(engine)), Verdict(outcome=Outcome.SUCCEEDED, result=result))


def test_oldest_of_the_class_is_forgotten_first() -> None:
    """One job over the count pushes out the job of its outcome that ended first, with an event, and its id is unknown."""
    engine = make_engine(history_jobs_max=3)
    for n in range(5):
        engine.take_events()
        succeed(engine, str(n))
    assert remembered(engine, Outcome.SUCCEEDED) == ["2", "3", "4"]
    assert set(engine.jobs.by_id) == {"2", "3", "4"}
    last = [(event.kind, event.job and event.job.id) for event in engine.take_events()][-2:]
    assert last == [(Kind.CONCLUDED, "4"), (Kind.FORGOTTEN, "1")]
    invariants(engine)


def test_flood_of_successes_forgets_no_failure() -> None:
    """Each outcome has a history of its own."""
    engine = make_engine(history_jobs_max=2)
    for state in ("failed", "cancelled", "expired"):
        bring(engine, state, id=state, **({"expires_in": 1.0} if state == "expired" else {}))
    for n in range(100):
        succeed(engine, str(n))
    assert [remembered(engine, outcome) for outcome in Outcome] == [["98", "99"], ["failed"], ["cancelled"], ["expired"]]
    invariants(engine)


def test_bytes_are_bounded_to_the_byte() -> None:
    """All that clients sent counts, each attempt's error too; a history that is exactly full forgets nothing, one byte more its oldest."""
    engine = make_engine(history_bytes_max=30)
    succeed(engine, "a", payload=b"x" * 10)
    succeed(engine, "b", payload=b"x" * 5, result=b"1" * 3, description="xy")
    succeed(engine, "c", payload=b"x" * 10)
    assert engine.history.counts()[Outcome.SUCCEEDED] == (3, 30)
    succeed(engine, "d", payload=b"x")
    assert remembered(engine, Outcome.SUCCEEDED) == ["b", "c", "d"]
    assert engine.history.counts()[Outcome.SUCCEEDED] == (3, 21)
    failed = enqueue(engine, id="e", payload=b"x")
    engine.conclude(NOW, failed.id, token_of(dequeue(engine)), Verdict(outcome=Outcome.FAILED, error=b"22", retry=False))
    assert engine.history.counts()[Outcome.FAILED] == (1, 5)
    invariants(engine)


def test_job_larger_than_the_history_is_forgotten_at_once() -> None:
    """A concluded job that alone exceeds the byte bound is answered and forgotten, and the bound holds."""
    engine = make_engine(history_bytes_max=9)
    succeed(engine, "small", payload=b"x")
    job = enqueue(engine, id="large", payload=b"x" * 10)
    reply = engine.conclude(NOW, job.id, token_of(dequeue(engine)), Verdict(outcome=Outcome.SUCCEEDED))
    assert reply.outcome is Outcome.SUCCEEDED
    assert "large" not in engine.jobs.by_id
    assert engine.history.counts()[Outcome.SUCCEEDED][1] <= 9
    invariants(engine)


def test_no_history_at_all_remembers_nothing_and_works() -> None:
    """With history_jobs_max 0 every way to end a job answers, tells of the end and forgets."""
    for state in ("succeeded", "failed", "cancelled", "expired"):
        engine = make_engine(history_jobs_max=0)
        placed = bring(engine, state)
        assert placed.job.outcome == state
        assert engine.jobs.by_id == {}
        assert engine.live == engine.live_bytes == 0
        invariants(engine)


def test_flood_of_ends_touches_no_live_job() -> None:
    """Thousands of ended jobs come and go; every live one, whatever its status, is there in the end."""
    engine = make_engine(history_jobs_max=3, history_bytes_max=50)
    live = [bring(engine, state, queue=state).job for state in ("scheduled", "queued", "in_progress", "cancelling")]
    for n in range(500):
        succeed(engine, str(n))
        engine.cancel(NOW, enqueue(engine).id)
    assert [engine.job(job.id) for job in live] == live
    assert engine.live == 4
    assert all(count <= 3 and held <= 50 for count, held in engine.history.counts().values())
    invariants(engine)


def test_retried_job_leaves_history_with_its_bytes() -> None:
    """What is retried no longer counts, from the middle of the history as well, and counts anew when it ends again."""
    engine = make_engine(history_jobs_max=3)
    for name in ("a", "b", "c"):
        bring(engine, "failed", id=name, payload=b"x" * 10)
    size = job_bytes(engine.job("b"))
    engine.retry(NOW, "b")
    assert remembered(engine, Outcome.FAILED) == ["a", "c"]
    assert engine.history.counts()[Outcome.FAILED] == (2, 2 * size)
    bring(engine, "failed", id="d", queue="other")
    engine.cancel(NOW, "b")
    assert remembered(engine, Outcome.FAILED) == ["a", "c", "d"]
    assert remembered(engine, Outcome.CANCELLED) == ["b"]
    invariants(engine)
