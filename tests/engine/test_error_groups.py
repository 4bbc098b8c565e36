"""Failed attempts in groups: what is alike, what is counted, and that it is bounded."""

from __future__ import annotations

import msgspec
import pytest

from jobqueue.engine.engine import Engine
from jobqueue.engine.error_groups import LINE_CHARS_MAX, TYPE_CHARS_MAX, alike, kind_of
from jobqueue.engine.restore import add
from jobqueue.model import Job, Outcome, Verdict
from jobqueue.policy import QueuePolicy
from tests.factories import NOW, dequeue, enqueue, make_engine, token_of


def fail(engine: Engine, message: str, now: float = NOW, queue: str = "q", retry: bool = False, **fields: object) -> Job:
    """A job whose one attempt fails so."""
    job = enqueue(engine, queue=queue, **fields)
    error = msgspec.json.encode({"type": "Timeout", "message": message})
    token = token_of(dequeue(engine, now, queue=queue))
    engine.conclude(now, job.id, token, Verdict(outcome=Outcome.FAILED, error=error, retry=retry, retry_delay=60.0 if retry else None))
    return job


def counted(engine: Engine, queue: str | None = None) -> dict[str, tuple[int, int]]:
    return {group.line: (group.attempts, group.jobs) for group in engine.failing.errors.seen(queue)}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("timeout after 31 s for user 17", "timeout after 2.5 s for user 4,018"),
        ("no order 3f2504e0-4f89-11d3-9a0c-0305e82c3301", "no order 00000000-4f89-11d3-9a0c-0305e82c33ff"),
        ("object at 0x7f3a10", "object at 0xDEADBEEF"),
        ("bad hash deadbeef01", "bad hash 0123456789abcdef"),
        ("no 01ARZ3NDEKTSV4RRFFQ69G5FAV", "no 01BX5ZZKBKACTAV9WEVGEMMVRZ"),
        ("mail to ann@example.com failed", "mail to b.c+d@example.org failed"),
        ("at 12:30:01 it broke", "at 23:59:59 it broke"),
        ("first\nsecond 1", "\n  first\nother"),
        ("a  b\tc", "a b c"),
    ],
)
def test_what_varies_is_alike(one: str, other: str) -> None:
    """Numbers, ids, addresses, times, and what stands below the first line."""
    assert alike(one) == alike(other)


@pytest.mark.parametrize(
    ("one", "other"), [("no such user", "no such order"), ("timed out", "timeout"), ("bad defaced word", "bad decades word"), ("a 1", "a")]
)
def test_words_are_not(one: str, other: str) -> None:
    """Also such as could be hexadecimal."""
    assert alike(one) != alike(other)


@pytest.mark.parametrize(
    ("error", "kind", "line"),
    [
        (None, "", ""),
        (b'"lease_expired"', "", "lease_expired"),
        (b'{"type":"E","message":"m 1\\nmore"}', "E", "m <n>"),
        (b'{"type":"E"}', "E", ""),
        (b'{"type":7,"message":"m"}', "", "m"),
        (b'{"why":1}', "", '{"why":<n>}'),
        (b"1e999", "", "<n>e<n>"),
        (b'"' + b"\\u0000" * 3 + b'"', "", "\x00\x00\x00"),
        (b"[" * 2_000, "", "[" * LINE_CHARS_MAX),
        (b'{"type":"' + b"T" * 500 + b'","message":"' + b"m" * 500 + b'"}', "T" * TYPE_CHARS_MAX, "m" * LINE_CHARS_MAX),
    ],
)
def test_any_error_has_a_kind(error: bytes | None, kind: str, line: str) -> None:
    """Whatever JSON it is; both parts are bounded."""
    found = kind_of(error)
    assert (found.type, found.line) == (kind, line)
    assert len(found.id) == 16


def test_attempts_and_jobs_are_counted_by_error() -> None:
    """With when they failed so first and last, and the last job; those that were met last come first."""
    engine = make_engine()
    fail(engine, "no mail 1", NOW, retry=True)
    fail(engine, "other", NOW + 1)
    last = fail(engine, "no mail 2", NOW + 2)
    first, second = engine.failing.errors.seen("q")
    assert (first.type, first.line, first.attempts, first.jobs) == ("Timeout", "no mail <n>", 2, 1)
    assert (first.first_at, first.last_at, first.job) == (NOW, NOW + 2, last.id)
    assert (second.line, second.attempts, second.jobs) == ("other", 1, 1)


def test_a_lease_that_runs_out_is_an_error_and_a_cancel_is_none() -> None:
    """The worker said nothing; of a job that was to be cancelled the attempt counts for nothing."""
    engine = make_engine()
    enqueue(engine, queue="q")
    job = enqueue(engine, queue="q")
    for each in (dequeue(engine, queue="q", lease_seconds=10.0), dequeue(engine, queue="q", lease_seconds=10.0)):
        assert each.lease is not None
    engine.cancel(NOW, job.id)
    engine.tick(NOW + 11)
    assert counted(engine) == {"lease_expired": (1, 0)}


def test_groups_are_bounded_by_queue_and_in_all() -> None:
    """For a new one that one goes that was not met for the longest time."""
    engine = make_engine(queue_error_groups_max=2, error_groups_max=3)
    for message in ("a", "b", "a", "c"):
        fail(engine, message)
    assert counted(engine) == {"c": (1, 1), "a": (2, 2)}
    fail(engine, "a", queue="r")
    fail(engine, "b", queue="r")
    assert counted(engine, "q") == {"c": (1, 1)}
    assert len(engine.failing.errors) == 3
    fail(engine, "z", queue="s")
    assert (counted(engine, "q"), len(engine.failing.errors)) == ({}, 3)
    fail(engine, "z", queue="q")
    assert len(engine.failing.errors) == 3


def test_a_queue_that_is_deleted_takes_its_groups_along() -> None:
    """One that is made anew begins with none."""
    engine = make_engine()
    fail(engine, "a")
    fail(engine, "a", queue="r")
    engine.delete_queue("q")
    assert [group.queue for group in engine.failing.errors.seen()] == ["r"]


def test_what_jobs_know_is_counted_again_at_a_restart() -> None:
    """Of each attempt its queue, its error and whether it ended the job, as it was counted when it failed; a long error too."""
    engine = make_engine()
    engine.put_policy("dying", QueuePolicy(max_attempts=1, dead_letter="dead"), NOW)
    fail(engine, "no mail 1", NOW, retry=True)
    fail(engine, "no mail 2", NOW + 1)
    fail(engine, "x" * 2_000, NOW + 2)
    fail(engine, "dies", NOW + 3, queue="dying")
    job = enqueue(engine, queue="q")
    token = token_of(dequeue(engine, queue="q"))
    engine.cancel(NOW, job.id)
    engine.conclude(NOW, job.id, token, Verdict(outcome=Outcome.FAILED, error=b'"stopped"'))
    again = make_engine()
    for stored in engine.jobs.walk():
        add(again, stored, engine.jobs.next_number, engine.jobs.next_number)
    assert again.failing.errors.seen() == engine.failing.errors.seen()
    assert len(again.failing.errors) == 3


def test_an_engine_that_follows_counts_each_attempt_once() -> None:
    """However often a job is told of."""
    engine = make_engine()
    job = fail(engine, "a", retry=True)
    errors = make_engine().failing.errors
    errors.learn(job)
    errors.learn(job, job.past[-1].ended_at)
    assert [group.attempts for group in errors.seen()] == [1]
