"""Nothing of a job or a queue is forgotten on the way to the file and back."""

from __future__ import annotations

import msgspec
import pytest

from jobqueue.backend.group import Group
from jobqueue.backend.rows import (
    BadRow,
    Counters,
    decode_counters,
    decode_job,
    decode_queue,
    encode_counters,
    encode_job,
    encode_queue,
)
from jobqueue.engine.deadlines import Deadlines
from jobqueue.engine.flow import FlowQueue
from jobqueue.engine.queues import QueueState
from jobqueue.engine.restore import TOTALS
from jobqueue.limits import Limits
from jobqueue.model import NOTHING, PLAIN, Conclusion, Details, Extra, Header, Job, Lease, Outcome, Status
from jobqueue.past import Attempt, Origin
from jobqueue.policy import Backoff, Keep, Pause, PerKey, QueuePolicy, Rate
from jobqueue.unique import Claim, Unique

DERIVED = {"slot", "prolonged", "limited", "log", "parents", "attempts_max"}
"""What an engine finds out by itself when it is restored, and what a restart begins anew."""

WHOLE = Job(
    id="ä 😀",
    number=7,
    queue="q",
    priority=3,
    payload=b'{"a": 1}',
    created_at=1_800_000_000.123456,
    status=Status.IN_PROGRESS,
    type="t",
    details=Details(
        description="two\nlines",
        max_attempts=9,
        backoff=Backoff(0.5, 3.0, 60.0),
        lease_seconds=12.5,
        asked=(1.5, None, 60.0),
        run_at=1_800_000_001.5,
        expires_at=1_800_000_060.0,
        error=b'"broken"',
        traceparent="00-" + "1" * 32 + "-" + "2" * 16 + "-01",
        past=(Attempt(2, "worker", 1.5, 2.5, "failed", b"[2]"), Attempt(3, None, 3.5, 4.5, "lease_expired", None, "last")),
        seq=11,
        key="k",
        holds=True,
        extra=Extra(
            ("a", "b"),
            Origin("elsewhere", 6.5, "failed", 3),
            "nightly",
            "home",
            True,
            ("p",),
            "hold",
            "g",
            7.5,
            claim=Claim(Unique("u", "started", 8.5, "replace", 9.5), "free", 10.5),
            headers=(Header("n", b"5", "Number"), Header("t", b"a")),
        ),
    ),
    attempts=4,
    hold=Lease("t" * 32, 1.0, 2.0, 3.0, "worker", "attempt", 0.25, "half", True, True, who="token"),
)

ENDED = msgspec.structs.replace(WHOLE, hold=Conclusion(Outcome.FAILED, 5.0, b"[1]", "u" * 32, Outcome.SUCCEEDED, "worker", 4.0, True))


def test_every_field_is_stored() -> None:
    """A job that has something in every field comes back with all of it."""
    for struct in (WHOLE, WHOLE.details, WHOLE.details.extra, WHOLE.lease, ENDED.conclusion, WHOLE.backoff):
        blank = {field.name: field.default for field in msgspec.structs.fields(type(struct))}
        assert all(getattr(struct, name) != default for name, default in blank.items() if name not in DERIVED), (
            "the example leaves no default"
        )
    for job in (WHOLE, ENDED):
        stored = decode_job(7, encode_job(job, 123), job.payload)
        assert stored.change == 123
        assert msgspec.structs.asdict(stored.job) == msgspec.structs.asdict(job)


def test_an_ordinary_job_is_stored() -> None:
    """What nobody said stays unsaid."""
    job = Job("j", 1, "default", 5, b"1", 2.0, Status.QUEUED)
    stored = decode_job(1, encode_job(job, 1), b"1").job
    assert msgspec.structs.asdict(stored) == msgspec.structs.asdict(job)
    assert stored.details is PLAIN


def test_a_row_that_says_two_things_is_refused() -> None:
    """A job is leased or concluded, never both."""
    row = msgspec.msgpack.decode(encode_job(WHOLE, 123))
    ended = msgspec.msgpack.decode(encode_job(ENDED, 123))
    both = [one if one is not None else other for one, other in zip(row, ended, strict=True)]
    with pytest.raises(BadRow, match="both leased and concluded"):
        decode_job(7, msgspec.msgpack.encode(both), b"")


@pytest.mark.parametrize("fields", [1, 4, 7])
def test_a_row_of_an_older_server_is_read(fields: int) -> None:
    """A file from before jobs had tags, a key, or a trace, past attempts and a lease's owner opens, and such a job has none of them."""
    row = msgspec.msgpack.decode(encode_job(WHOLE, 123))
    older = decode_job(7, msgspec.msgpack.encode(row[:-fields]), WHOLE.payload).job
    assert older.details.extra is NOTHING
    if fields >= 4:
        assert (older.key, older.details.holds) == (None, False)
    if fields == 7:
        assert (older.traceparent, older.past, older.lease and older.lease.who) == (None, (), "")
    assert (older.id, older.attempts, older.error) == (WHOLE.id, WHOLE.attempts, WHOLE.error)


def test_a_queue_is_stored() -> None:
    """A queue's policy, with something in every field, and every one of its totals come back."""
    limits = Rate(7, 8.0, 2), PerKey("fifo", 1, Rate(9, 10.0, 3), 11), True, {"k": 0.5}, "dead", Keep(13.5, 14), Keep(15.5)
    policy = QueuePolicy(1.5, 2, Backoff(3.0, 4.0, 5.0), 6, True, 12, *limits, 16.5, 17.5, {"tag": "t"}, {"Name": "n"})
    assert all(getattr(policy, field.name) != field.default for field in msgspec.structs.fields(QueuePolicy))
    queue = FlowQueue("q", policy, Limits(), Deadlines())
    queue.created_at, queue.modified_at, queue.pause = 18.5, 19.5, Pause(22.5, "ann")
    queue.paused = {"a": Pause(23.5, "ben"), "b": None}
    for number, total in enumerate(TOTALS, 100):
        setattr(queue, f"{total}_total", number)
    stored = decode_queue("q", encode_queue(queue))
    assert (stored.name, stored.policy) == ("q", queue.policy)
    assert stored.totals == tuple(range(100, 100 + len(TOTALS)))
    assert (stored.created_at, stored.modified_at, stored.pause) == (18.5, 19.5, queue.pause)
    assert stored.paused_keys == queue.paused
    moved = decode_queue("q", encode_queue(queue, 3.0), 5.0)
    assert (moved.created_at, moved.modified_at, moved.pause) == (20.5, 21.5, Pause(24.5, "ann"))
    assert moved.paused_keys == {"a": Pause(25.5, "ben"), "b": None}
    row = msgspec.msgpack.decode(encode_queue(queue))
    row[5] = row[5][:8]
    older = decode_queue("q", msgspec.msgpack.encode(row))
    assert older.totals == (*range(100, 108), 0, 0, 0, 111), "files of older servers count fewer things"
    row[5] = row[5][:7]
    with pytest.raises(BadRow, match="counts 7 things"):
        decode_queue("q", msgspec.msgpack.encode(row))
    older = decode_queue("q", msgspec.msgpack.encode(msgspec.msgpack.decode(encode_queue(queue))[:23]))
    assert (older.policy.paused, older.pause, older.paused_keys) == (True, None, {"a": None, "b": None}), "nor do they say who paused"
    counted = {name for name in QueueState.__slots__ if name.endswith("_total")}
    assert {f"{total}_total" for total in TOTALS} == counted


def test_counters_are_stored() -> None:
    """So are the counters."""
    counters = Counters(1, 2, 0.5, "always")
    assert decode_counters(encode_counters(counters)) == counters


@pytest.mark.parametrize("state", [b"", b"\xc1", b"\x90", b"\x93\x01\x02\x03", b"\x93\xa1\xff\xa1\xff\x01"])
def test_a_row_that_cannot_be_read_is_named(state: bytes) -> None:
    """Bytes that are no job, queue or counters raise BadRow that says which row it was."""
    with pytest.raises(BadRow, match="number 7"):
        decode_job(7, state, b"")
    with pytest.raises(BadRow, match="'q'"):
        decode_queue("q", state)
    with pytest.raises(BadRow, match="counters"):
        decode_counters(state)


def test_a_group_holds_the_latest_state_of_each_job() -> None:
    """However often a job changes, a group has one row for it, and knows how much it holds."""
    group = Group()
    assert not group
    group.put_payload(1, b"x" * 1_000)
    group.put(1, b"a" * 100)
    once = group.size
    group.put(1, b"b" * 100)
    assert (group.states, group.size) == ({1: b"b" * 100}, once)
    group.forget(1)
    assert (group.states, group.payloads) == ({1: None}, {})
    assert group.size < once - 1_000


def test_what_could_not_be_written_goes_before_what_came_after() -> None:
    """Two groups become one: the later state of a job counts, and a job that was forgotten since needs no payload."""
    failed, later = Group(), Group()
    for number in (1, 2, 3):
        failed.put_payload(number, b"p%d" % number)
        failed.put(number, b"old")
    failed.queues = {"a"}
    later.put(2, b"new")
    later.forget(3)
    later.put_payload(4, b"p4")
    later.put(4, b"new")
    later.queues = {"b"}
    whole = later.after(failed)
    assert whole.states == {1: b"old", 2: b"new", 3: None, 4: b"new"}
    assert whole.payloads == {1: b"p1", 2: b"p2", 4: b"p4"}
    assert whole.queues == {"a", "b"}
