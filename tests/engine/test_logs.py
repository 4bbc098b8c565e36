"""Jobs' logs in the engine: what they count, what they cost to be stored, and that they go with their job."""

from __future__ import annotations

import pytest

from jobqueue.backend.rows import BadRow, decode_job, encode_job
from jobqueue.backend.things import decode_named, encode_named
from jobqueue.engine import follow
from jobqueue.engine.engine import Engine
from jobqueue.engine.events import Kind
from jobqueue.engine.logs import CHUNK_BYTES, CHUNK_OVERHEAD_BYTES
from jobqueue.engine.restore import Inconsistent, restore
from jobqueue.errors import QueueFull
from jobqueue.joblog import LINE_CHARS_MAX, LOG_BYTES_MAX, LogLine, LogPart
from jobqueue.model import Job, Outcome, Verdict
from tests.factories import NOW, dequeue, enqueue, make_engine, token_of

from .invariants import fingerprint, invariants
from .storing import stored_queues

SUCCEEDED = Verdict(outcome=Outcome.SUCCEEDED)


def leased(engine: Engine, **fields: object) -> Job:
    job = enqueue(engine, **fields)
    dequeue(engine)
    return job


def say(engine: Engine, job: Job, *texts: str) -> list[str]:
    """Put lines into a job's log; the names of what is to be stored for it."""
    engine.take_events()
    engine.append_log(NOW, job.id, token_of(job), LogPart(tuple(LogLine(text, at=NOW) for text in texts)))
    invariants(engine)
    return [event.queue for event in engine.take_events() if event.kind is Kind.THING_CHANGED]


def test_a_log_counts_with_its_job() -> None:
    """With what live jobs hold, then with what history holds; when history forgets the job, the log goes too."""
    engine = make_engine(history_jobs_max=1)
    before = engine.live_bytes
    job = leased(engine)
    say(engine, job, "x" * 1_000)
    assert engine.live_bytes - before > 1_000
    assert engine.live_bytes - before - len(job.payload) < 1_000 + CHUNK_OVERHEAD_BYTES + 50
    engine.conclude(NOW, job.id, token_of(job), SUCCEEDED)
    assert engine.live_bytes == 0
    assert engine.history.counts()[Outcome.SUCCEEDED][1] > 1_000
    invariants(engine)
    engine.take_events()
    other = leased(engine)
    engine.conclude(NOW, other.id, token_of(other), SUCCEEDED)
    assert not engine.logs
    gone = [event.queue for event in engine.take_events() if event.kind is Kind.THING_CHANGED]
    assert gone == [f"log/{job.number}/1"]
    assert encode_named(engine, gone[0]) is None
    assert engine.history.counts()[Outcome.SUCCEEDED][1] < 100
    invariants(engine)


def test_a_line_costs_one_chunk_to_be_stored() -> None:
    """Whatever the log holds: a chunk that is full is not written again, but to be deleted."""
    engine = make_engine()
    job = leased(engine)
    for at in range(2_000):
        names = say(engine, job, f"line {at} " + "x" * 50)
        rows = [encode_named(engine, name) for name in names]
        assert 1 <= len([row for row in rows if row is not None]) <= 2
        assert sum(len(row) for row in rows if row is not None) <= CHUNK_BYTES + 200
    log = engine.logs.by_job[job.number]
    assert LOG_BYTES_MAX - 2 * CHUNK_BYTES < log.size <= LOG_BYTES_MAX
    assert log.state.lines == 2_000
    assert log.read(0, 5_000)[0].text.startswith(f"line {log.state.dropped} ")


def test_lines_for_which_there_is_no_room() -> None:
    """Alone they are refused, naming them; an extend and a conclude leave them out. A full log always has room for more."""
    engine = make_engine(payload_total_bytes_max=300_000, payload_bytes_max=300_000)
    job = leased(engine)
    for _ in range(30):
        say(engine, job, "x" * LINE_CHARS_MAX)
    enqueue(engine, payload=b'"' + b"x" * (engine.bytes_max - engine.live_bytes - 2) + b'"')
    say(engine, job, "x" * LINE_CHARS_MAX)
    other = dequeue(engine)
    part = LogPart((LogLine("no room", at=NOW),))
    before = fingerprint(engine)
    with pytest.raises(QueueFull) as refused:
        engine.append_log(NOW, other.id, token_of(other), part)
    assert refused.value.field == "lines"
    assert fingerprint(engine) == before
    engine.extend(NOW, other.id, token_of(other), log=part)
    engine.conclude(NOW, other.id, token_of(other), Verdict(outcome=Outcome.SUCCEEDED, log=part))
    assert engine.logs.left_out_total == 3
    assert engine.logs.state(other.number).lines == 0
    invariants(engine)


def test_a_retried_job_keeps_its_log() -> None:
    """Its lines say which attempt they are of."""
    engine = make_engine()
    job = leased(engine)
    say(engine, job, "first")
    engine.conclude(NOW, job.id, token_of(job), Verdict(outcome=Outcome.FAILED, retry=False))
    engine.retry(NOW, job.id)
    invariants(engine)
    dequeue(engine)
    say(engine, job, "again")
    assert [line.text for line in engine.logs.by_job[job.number].read(0, 10)] == ["first", "again"]


def rows_of(engine: Engine, names: set[str]) -> list[tuple[str, bytes]]:
    return [(name, row) for name in sorted(names) if (row := encode_named(engine, name)) is not None]


def test_an_engine_that_follows_has_the_logs() -> None:
    """Also of a job whose row is as it was, of one that ended, and of one that was forgotten; a log without a job is a contradiction."""
    engine, twin = make_engine(history_jobs_max=1), make_engine()
    follow.begin(twin)
    names: set[str] = set()
    known: set[int] = set()

    def step(*changed: Job) -> None:
        gone = []
        for event in engine.take_events():
            if event.kind is Kind.THING_CHANGED:
                names.add(event.queue)
            elif event.kind is Kind.FORGOTTEN and event.job is not None:
                gone.append(event.job.number)
        rows = rows_of(engine, names)
        queues = stored_queues(engine)
        stored = [decode_job(job.number, encode_job(job, job.number), job.payload) for job in changed]
        there = {name for name, _ in rows}
        for _ in follow.follow(
            twin,
            follow.Changes(
                stored, gone, queues, [], engine.jobs.next_number, logs=decode_named(rows).logs, logs_gone=sorted(names - there)
            ),
        ):
            pass
        known.update(job.number for job in changed)
        invariants(twin)
        assert fingerprint(twin)["logs"] == fingerprint(engine)["logs"]
        assert twin.live_bytes == engine.live_bytes

    job, other = leased(engine), leased(engine)
    step(job, other)
    engine.append_log(NOW, job.id, token_of(job), LogPart((LogLine("a", at=NOW),)))
    step()
    step(job)
    engine.append_log(NOW, job.id, token_of(job), LogPart((LogLine("b", at=NOW),)))
    engine.conclude(NOW, job.id, token_of(job), SUCCEEDED)
    step(job)
    engine.append_log(NOW, other.id, token_of(other), LogPart((LogLine("c", at=NOW),)))
    engine.conclude(NOW, other.id, token_of(other), SUCCEEDED)
    step(other)
    assert [*twin.logs.by_job] == [other.number]
    row = encode_named(engine, f"log/{other.number}/1")
    assert row is not None
    with pytest.raises(Inconsistent):
        restore(make_engine(), [], [], 5, 5, (), decode_named([("log/4/1", row)]).logs)
    for bad in (("log/4/1", row[:-1]), ("log/4", row), ("log/x/1", row)):
        with pytest.raises(BadRow):
            decode_named([bad])
