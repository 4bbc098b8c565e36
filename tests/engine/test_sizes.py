"""What a job counts against the bounds on bytes: everything in it that somebody else chose the size of, and nothing twice."""

from __future__ import annotations

from typing import Any, get_type_hints

import msgspec
import pytest

from jobqueue.engine.engine import Engine
from jobqueue.engine.sizes import ERROR_LEFT_OUT, LEASE_EXPIRED, details_bytes, job_bytes, lease_bytes, names_bytes, shown_bytes
from jobqueue.errors import QueueFull
from jobqueue.model import Conclusion, Details, Job, JobSpec, Lease, Outcome, Status, Verdict, Want
from jobqueue.past import Attempt
from jobqueue.policy import QueuePolicy
from tests.engine.invariants import invariants
from tests.factories import NOW, dequeue, enqueue, make_engine, token_of

EXCUSED = {
    "Job.id": "at most 128 characters, part of what every job takes",
    "Job.queue": "one text for all jobs of the queue",
    "Lease.token": "32 characters, made here",
    "Lease.who": "a token's name, which the operator chose",
    "Conclusion.token": "32 characters, made here",
    "Attempt.token": "32 characters, made here, of the newest attempt only",
}
"""Texts of a job that are not counted, and why."""

FIELDS = [
    (struct, name)
    for struct in (Job, Details, Attempt, Lease, Conclusion)
    for name, hint in get_type_hints(struct).items()
    if any(kind in str(hint) for kind in ("str", "bytes")) and not any(kind in str(hint) for kind in ("Attempt,", "Literal"))
]

BASE: dict[type[msgspec.Struct], msgspec.Struct] = {
    Job: Job("j", 1, "q", 5, b"1", NOW, Status.QUEUED),
    Details: Details(),
    Attempt: Attempt(1, None, NOW, NOW, "failed", None),
    Lease: Lease("t", NOW, 1.0, NOW),
    Conclusion: Conclusion(Outcome.FAILED, NOW),
}


def job_of(part: msgspec.Struct) -> Job:
    """A job that has this in it."""
    job: Any = BASE[Job]
    if isinstance(part, Job):
        return part
    if isinstance(part, Attempt):
        part = Details(past=(part,))
    changed: Job = msgspec.structs.replace(job, **{"details" if isinstance(part, Details) else "hold": part})
    return changed


@pytest.mark.parametrize(("struct", "name"), FIELDS, ids=[f"{struct.__name__}.{name}" for struct, name in FIELDS])
def test_every_text_of_a_job_counts(struct: type[msgspec.Struct], name: str) -> None:
    """A hundred bytes more in any text make a job a hundred bytes larger, but for the texts that are excused, which make none."""
    hint = str(get_type_hints(struct)[name])
    text: str | bytes = b"x" * 100 if "bytes" in hint else "x" * 100
    empty: str | bytes = b"" if "bytes" in hint else ""
    with_text, without = (job_of(msgspec.structs.replace(BASE[struct], **{name: value})) for value in (text, empty))
    assert job_bytes(with_text) - job_bytes(without) == (0 if f"{struct.__name__}.{name}" in EXCUSED else 100)


def test_all_texts_were_looked_at() -> None:
    """The list of texts above is not empty where it matters, and each excuse is for one of them."""
    names = {f"{struct.__name__}.{name}" for struct, name in FIELDS}
    assert {
        "Job.payload",
        "Job.type",
        "Details.description",
        "Details.error",
        "Attempt.error",
        "Lease.message",
        "Conclusion.result",
    } <= names
    assert set(EXCUSED) <= names


def test_texts_count_as_utf8() -> None:
    """A character counts as many bytes as it has in UTF-8, in memory and on the wire."""
    assert details_bytes(Details(description="ä😀")) == 6
    assert lease_bytes(Lease("t", NOW, 1.0, NOW, "ä", "😀", None, "é")) == 8
    assert names_bytes(Want(worker="ä", attempt_id="😀")) == 6


def test_a_listing_counts_what_it_shows() -> None:
    """Errors, descriptions and progress messages, no payload and no result."""
    job = Job("j", 1, "q", 5, b"x" * 50, NOW, Status.IN_PROGRESS, None, Details(description="dd", error=b"eee"))
    assert shown_bytes(job) == 5
    job.hold = Lease("t", NOW, 1.0, NOW, message="mmmm")
    assert shown_bytes(job) == 9
    job.hold = Conclusion(Outcome.FAILED, NOW, result=b"r" * 50)
    assert shown_bytes(job) == 5


def fail(engine: Engine, job: Job, error: bytes, **more: Any) -> None:
    engine.conclude(NOW, job.id, token_of(job), Verdict(outcome=Outcome.FAILED, error=error, **more))


def test_errors_of_jobs_that_wait_for_a_retry_fill_the_server() -> None:
    """Two thousand one-byte jobs with a large error each: what they hold is counted, stays within the bound, and stops new jobs."""
    engine = make_engine(payload_total_bytes_max=100_000, payload_bytes_max=10_000, jobs_max=10_000, max_attempts_default=10)
    for _ in range(100):
        job = enqueue(engine)
        dequeue(engine)
        fail(engine, job, b'"' + b"e" * 5_000 + b'"', retry_delay=1_000.0)
    assert 90_000 < engine.live_bytes <= 100_000
    kept = [job for job in engine.jobs.all() if job.error != ERROR_LEFT_OUT]
    assert len(kept) == 19
    assert engine.errors_left_out_total == 81
    invariants(engine)
    with pytest.raises(QueueFull, match=r"live jobs hold \d+ bytes; 100000 are allowed"):
        engine.enqueue(NOW, JobSpec(payload=b"x" * 6_000))


def test_a_failure_is_never_refused_for_its_error() -> None:
    """A full server takes the failure and says that it left the error out; the job goes on as any that failed."""
    engine = make_engine(payload_total_bytes_max=100, payload_bytes_max=100)
    job = enqueue(engine, payload=b"x" * 100)
    dequeue(engine)
    fail(engine, job, b'"why"')
    assert (job.status, job.error, [attempt.error for attempt in job.past]) == (Status.SCHEDULED, ERROR_LEFT_OUT, [None])
    invariants(engine)


def test_the_last_failure_keeps_its_error_however_full_the_server_is() -> None:
    """A job that is concluded is history's, which forgets older ones for it."""
    engine = make_engine(payload_total_bytes_max=100, payload_bytes_max=100, max_attempts_default=1)
    job = enqueue(engine, payload=b"x" * 100)
    dequeue(engine)
    fail(engine, job, b'"' + b"w" * 90 + b'"')
    assert (job.outcome, len(job.error or b"")) == (Outcome.FAILED, 92)
    assert engine.live_bytes == 0
    assert engine.history.counts()[Outcome.FAILED] == (1, 284)
    invariants(engine)


def test_an_extend_is_never_refused_for_its_message() -> None:
    """A full server extends the lease, and keeps the message that it had."""
    engine = make_engine(payload_total_bytes_max=110, payload_bytes_max=100)
    job = enqueue(engine, payload=b"x" * 100)
    token = token_of(dequeue(engine))
    for said, shown in (("ten chars.", "ten chars."), ("eleven char", "ten chars."), ("less", "less"), ("ten chars.", "ten chars.")):
        engine.extend(NOW, job.id, token, message=said)
        assert job.lease is not None
        assert job.lease.message == shown
        invariants(engine)
    assert engine.messages_left_out_total == 1


def test_leases_that_run_out_on_a_full_server_are_noted_without_names() -> None:
    """An expiry on a full server is noted, but not who had the lease: that would let the past of a job grow without bound."""
    engine = make_engine(payload_total_bytes_max=100, payload_bytes_max=100, max_attempts_default=9)
    job = enqueue(engine, payload=b"x" * 100)
    for number in range(1, 4):
        dequeue(engine, NOW + 400.0 * number, worker="w" * 20)
        assert engine.live_bytes == 120
        engine.tick(NOW + 400.0 * number + 350.0)
        assert (job.error, [attempt.worker for attempt in job.past]) == (LEASE_EXPIRED, [None] * number)
        invariants(engine)
    assert engine.errors_left_out_total == 0


def test_a_retry_needs_room_for_what_the_job_keeps() -> None:
    """A job out of history comes back with its payload, type and description, without its errors; refused where these have no room."""
    engine = make_engine(payload_total_bytes_max=100, payload_bytes_max=60)
    job = enqueue(engine, id="a", payload=b"x" * 40, description="d" * 20)
    dequeue(engine)
    fail(engine, job, b'"' + b"e" * 50 + b'"', retry=False)
    other = enqueue(engine, payload=b"y" * 41)
    with pytest.raises(QueueFull):
        engine.retry(NOW, "a")
    invariants(engine)
    engine.cancel(NOW, other.id)
    engine.retry(NOW, "a")
    assert engine.live_bytes == 60
    invariants(engine)


def test_a_bound_of_a_queue_and_the_bytes_are_two_things() -> None:
    """Each refusal says which bound was met."""
    engine = make_engine(payload_total_bytes_max=100, payload_bytes_max=100)
    engine.put_policy("q", QueuePolicy(max_jobs=1))
    enqueue(engine, queue="q")
    with pytest.raises(QueueFull, match="queue 'q' has reached its limit of 1 live jobs"):
        engine.enqueue(NOW, JobSpec(payload=b"1", queue="q"))
    with pytest.raises(QueueFull, match="hold 1 bytes; 100 are allowed"):
        engine.enqueue(NOW, JobSpec(payload=b"x" * 100))
