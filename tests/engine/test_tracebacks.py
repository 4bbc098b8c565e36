"""Tracebacks of attempts: what is kept of them."""

from __future__ import annotations

import pytest

from jobqueue.model import Outcome, Verdict
from jobqueue.past import shortened
from tests.factories import NOW, dequeue, enqueue, make_engine, token_of

from .invariants import invariants


def failing(traceback: str | None, retry: bool = True) -> Verdict:
    return Verdict(outcome=Outcome.FAILED, error=b'"no"', traceback=traceback, retry=retry, retry_delay=0.0 if retry else None)


def test_a_traceback_is_kept_with_its_attempt() -> None:
    """Each attempt has its own; one whose worker sent none has none."""
    engine = make_engine()
    job = enqueue(engine, id="j", max_attempts=4)
    for traceback in ("first", None, "third"):
        engine.conclude(NOW, "j", token_of(dequeue(engine)), failing(traceback))
        engine.tick(NOW)
    assert [attempt.traceback for attempt in job.past] == ["first", None, "third"]
    invariants(engine)


@pytest.mark.parametrize(
    "text", ["x" * 5_000, "ä😀" * 1_000, "\n" * 5_000, "line\n" * 1_000, "é\n" + "y" * 5_000, "z" * 5_000 + "\nEnd: it"]
)
@pytest.mark.parametrize("most", [48, 100, 1_024])
def test_a_long_traceback_loses_its_middle(text: str, most: int) -> None:
    """What is left is within the bound, ends as the text did, and says that something is missing."""
    found = shortened(text, most)
    assert len(found.encode()) <= most
    if most > 48:
        assert "bytes left out" in found
        assert found[-8:] == text[-8:]
        assert found[:1] == text[:1]


def test_a_short_traceback_is_left_as_it_is() -> None:
    """Up to the bound in bytes."""
    assert shortened("ä" * 50, 100) == "ä" * 50
    assert shortened("ä" * 50, 99) != "ä" * 50


def test_the_engine_bounds_what_a_worker_sends() -> None:
    """Whatever its length: a failure is not refused for its traceback."""
    engine = make_engine(past_traceback_bytes_max=200)
    job = enqueue(engine, id="j")
    engine.conclude(NOW, "j", token_of(dequeue(engine)), failing("frame\n" * 10_000 + "ValueError: 1", retry=False))
    (attempt,) = job.past
    assert attempt.traceback is not None
    assert len(attempt.traceback) <= 200
    assert attempt.traceback.endswith("frame\nValueError: 1")


def test_a_full_server_leaves_the_traceback_out_first() -> None:
    """The error is kept where there is room for that."""
    engine = make_engine(payload_total_bytes_max=60, payload_bytes_max=60)
    job = enqueue(engine, id="j", payload=b"x" * 50)
    engine.conclude(NOW, "j", token_of(dequeue(engine)), failing("t" * 100))
    assert (job.error, job.past[0].error, job.past[0].traceback) == (b'"no"', b'"no"', None)
    invariants(engine)
