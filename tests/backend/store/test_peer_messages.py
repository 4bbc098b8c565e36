"""What servers send each other arrives as it was: every error, every type of the model."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from jobqueue import errors
from jobqueue.about import About
from jobqueue.backend.base import BackendStats, Conclude, Extend, Notice, SentSpec, StorageStats
from jobqueue.backend.store import messages as m
from jobqueue.backend.store.moved import Moved
from jobqueue.backend.store.shapes import KINDS, ErrorRow, error_of, error_row, job_of, job_row
from jobqueue.engine.events import Kind
from jobqueue.errors import BadRequest, QueueError, StorageUnavailable
from jobqueue.histogram import Timings
from jobqueue.joblog import LogLine, LogPart
from jobqueue.model import (
    Conclusion,
    Details,
    Extra,
    Header,
    Job,
    JobFilter,
    KeyStats,
    Lease,
    Outcome,
    Parent,
    QueueStats,
    Status,
    Verdict,
    Want,
)
from jobqueue.partition import ClaimVoid
from jobqueue.past import Attempt, Failures, Origin
from jobqueue.policy import Backoff, Keep, Pause, PerKey, PolicyChange, QueuePolicy, Rate
from jobqueue.reason import Reason
from jobqueue.schedule import ScheduleTotals
from jobqueue.unique import Claim, Unique

BACKOFF = Backoff(2.0, 3.0, 40.0)
KEPT = Keep(7.5, 8), Keep(count=9)
POLICY = QueuePolicy(
    12.5,
    7,
    BACKOFF,
    100,
    True,
    8,
    Rate(9, 60.0, 2),
    PerKey("halt", 1, Rate(3, 4.5, 2), 6),
    True,
    {"k": 2.5},
    "dead",
    Keep(7.5, 8),
    Keep(count=9),
    1.5,
    60.0,
    {"tag": "t"},
    {"Name": "n"},
)
FAILURES = Failures(1, 2, 3, 4, 5, 6, 7)
TIMINGS = Timings((0.5, 1.0), (1, 2, 3), 4.5)
LEASE = Lease("token", 5.0, 6.0, 7.0, "worker", "attempt", 0.5, "message", True, True, True, "who", True, 5)
CONCLUSION = Conclusion(Outcome.CANCELLED, 8.0, b"[1]", "token", Outcome.SUCCEEDED, "worker", 9.0, True)


def full(value: Any) -> Any:
    """A struct of which no field has its default."""
    for name, default in zip(reversed(value.__struct_fields__), reversed(value.__struct_defaults__), strict=False):
        assert getattr(value, name) != default, name
    return value


PAUSE = full(Pause(19.5, "ann"))
CLAIM = Claim(Unique("k"), "waits")
HEADER = full(Header("h", b"\xff", "Binary.x"))
PARENT = Parent("p", Outcome.SUCCEEDED, b"1", left_out=True)
DETAILS = Details(
    "description",
    3,
    BACKOFF,
    30.0,
    (1.0, None, 2.0),
    10.0,
    11.0,
    b'"error"',
    "00-aa-bb-01",
    (full(Attempt(1, "worker", 1.0, 2.0, "failed", b'"first"', "t", "trace")), Attempt(2, None, 3.0, 4.0, "lease_expired", None, "last")),
    77,
    "key",
    True,
    full(Extra(("t",), full(Origin("o", 1.0, "failed", 3)), "s", "h", True, ("p",), "run", "g", 4.5, 7, CLAIM, (full(PARENT),), (HEADER,))),
)


def subclasses(kind: type[QueueError]) -> list[type[QueueError]]:
    return [kind, *(each for below in kind.__subclasses__() for each in subclasses(below))]


OURS = sorted(
    {kind for kind in subclasses(QueueError) if kind.__module__ in (errors.__name__, ClaimVoid.__module__, Moved.__module__)},
    key=lambda kind: kind.__name__,
)


@pytest.mark.parametrize("kind", OURS)
def test_every_error_arrives_as_itself(kind: type[QueueError]) -> None:
    """Its class, its words and each of its fields."""
    error = kind.told("what went wrong", "priority")
    error.job_id = "j"
    for name, value in (("retry_after", 17), ("max", 55.5), ("ids", ("a", "b"))):
        if hasattr(error, name):
            setattr(error, name, value)
    row = m.decode_answer(m.encode((m.FAILED, 1, error_row(error))))
    assert isinstance(row, m.Failed)
    arrived = error_of(row.error)
    assert type(arrived) is kind
    assert vars(arrived) == vars(error)
    assert (str(arrived), arrived.args) == (str(error), error.args)


def test_no_error_is_left_out() -> None:
    """All that one server can send to another are known by their names."""
    assert set(KINDS.values()) == set(OURS)


def test_an_error_of_one_server_alone_arrives_as_the_nearest_that_both_know() -> None:
    """A subclass goes as its base; a name that only the other server knows is StorageUnavailable."""

    class Odd(BadRequest):
        pass

    assert error_row(Odd("field", "odd"))[0] == "BadRequest"
    arrived = error_of(ErrorRow("OfTomorrow", "no room"))
    assert type(arrived) is StorageUnavailable
    assert "OfTomorrow" in str(arrived)


@pytest.mark.parametrize("hold", [None, LEASE, CONCLUSION], ids=["waiting", "leased", "concluded"])
def test_a_job_arrives_as_it_was(hold: Lease | Conclusion | None) -> None:
    """Every field but its place in a ring, which is the owner's."""
    job = Job("id", 5, "queue", 3, b"{}", 1.5, Status.SCHEDULED, "type", full(DETAILS), 4, hold and full(hold))
    row = m.decode_answer(m.encode((m.GOT_JOB, 1, job_row(job))))
    assert isinstance(row, m.GotJob)
    arrived = job_of(row.job)
    assert [getattr(arrived, name) for name in Job.__struct_fields__] == [getattr(job, name) for name in Job.__struct_fields__]
    assert type(arrived.hold) is type(hold)


SPEC = full(
    SentSpec(
        payload=b"[1]",
        id="j",
        queue="q",
        type="t",
        description="d",
        priority=2,
        delay=1.0,
        run_at=2.0,
        expires_in=3.0,
        max_attempts=4,
        backoff=BACKOFF,
        lease_seconds=5.0,
        traceparent="00",
        key="k",
        tags=("t",),
        unique=full(Unique("u", "started", 6.0, "replace", 7.0)),
        after=("a", "b"),
        after_failure="hold",
        group="g",
        there=True,
        claim=7,
        headers=(HEADER,),
    )
)
LOG = LogPart((LogLine("text", "error", 1.5),), 3)
VERDICT = full(
    Verdict(outcome=Outcome.FAILED, result=b"1", error=b"2", retry=False, retry_delay=3.0, once=True, log=LOG, late=True, traceback="trace")
)
WANT = full(Want(queues=("a", "b"), limit=9, lease_seconds=1.0, worker="w", attempt_id="a", who="me", about=About(host="h", started=1.5)))
EXTEND = full(Extend("j", "t", 1.0, 0.5, "half", LOG))

CHANGE = PolicyChange(**{name: getattr(POLICY, name) for name in PolicyChange.__struct_fields__})

ASKED: list[tuple[Any, ...]] = [
    (m.ENQUEUE, 1, SPEC),
    (m.ENQUEUE_BATCH, 1, [SPEC, SentSpec(payload=b"")]),
    (m.DEQUEUE, 1, WANT, 2.5),
    (m.CONCLUDE, 1, "j", "t", VERDICT),
    (m.CONCLUDE_BATCH, 1, [Conclude("j", "t", VERDICT)]),
    (m.EXTEND, 1, EXTEND),
    (m.EXTEND_BATCH, 1, [EXTEND]),
    (m.RELEASE, 1, "j", "t", 1.0),
    (m.GIVE_BACK, 1, "j", "t"),
    (m.END, 1, "j"),
    (m.RETRY, 1, "j"),
    (m.JOB, 1, "j", 1.0),
    (m.NUMBERED, 1, 5),
    (m.JOBS, 1, Status.QUEUED, Outcome.FAILED, "q", "t", 10, 20, 30, True, "k", "tag", "w", "e", 1.5, 2.5, "g", "p", False, "eg", True),
    (m.QUEUE_PAGE, 1, "a", 10),
    (m.QUEUE, 1, "q"),
    (m.PUT_POLICY, 1, "q", full(POLICY), "ann"),
    (m.DELETE_QUEUE, 1, "q"),
    (m.SET_PAUSED, 1, "q", True, "ann"),
    (m.PURGE, 1, "q"),
    (m.RETRY_FAILED, 1, "q"),
    (m.CHANGE_POLICY, 1, "q", full(CHANGE), "ann"),
    (m.KEYS, 1, "q", '[0,0,"a"]', 10),
    (m.SET_KEY_PAUSED, 1, "q", "k", True, "ann"),
    (m.WHY, 1, [1, 2]),
    (m.LISTEN, 1, frozenset({"q"}), frozenset({"t"}), frozenset({Kind.FORGOTTEN}), "r-1"),
    (m.NOTICES, 1, 4, 100, 1.5),
    (m.STATS, 1),
    (m.CANCEL, 1),
    (m.DELIVERED, 1),
]


@pytest.mark.parametrize("message", ASKED, ids=lambda message: str(message[0]))
def test_every_request_arrives_as_it_was(message: tuple[Any, ...]) -> None:
    """All arguments, of their types."""
    arrived = m.decode_asked(m.encode(message))
    assert [getattr(arrived, name) for name in arrived.__struct_fields__] == list(message[1:])


def test_a_filter_arrives_whole() -> None:
    """But for `sees`, which the asking server applies."""
    fields = {
        "status": Status.QUEUED,
        "outcome": Outcome.FAILED,
        "queue": "q",
        "type": "t",
        "limit": 10,
        "before": 2,
        "after": 3,
        "payloads": True,
        "key": "k",
        "tag": "t",
        "worker": "w",
        "error": "e",
        "created_after": 1.0,
        "created_before": 2.0,
        "group": "g",
        "parent": "p",
        "retrying": True,
        "error_group": "eg",
        "by_end": True,
    }
    wanted = m.JobsOp(1, *fields.values()).wanted()  # type: ignore[arg-type]
    assert wanted == JobFilter(**fields)  # type: ignore[arg-type]
    assert set(JobFilter.__struct_fields__) - set(fields) == {"sees", "cursor"}


def test_totals_arrive_as_they_were() -> None:
    """Every counter, histogram and part."""
    stats = BackendStats(
        1,
        2,
        3,
        4,
        5,
        {outcome: (n, 2 * n) for n, outcome in enumerate(Outcome)},
        6,
        True,
        7,
        TIMINGS,
        TIMINGS,
        TIMINGS,
        StorageStats(True, TIMINGS, 8),
        9,
        FAILURES,
        10,
        *range(11, 17),
        {"busy": 18},
        17,
        {"kept": 18},
        ScheduleTotals(19, 20, 21, 22),
        23,
        24,
        25,
    )
    arrived = m.decode_answer(m.encode((m.GOT_STATS, 1, full(stats))))
    assert isinstance(arrived, m.GotStats)
    assert arrived.stats == stats


def test_queues_and_events_arrive_as_they_were() -> None:
    """A queue's numbers, a notice of a job and of a queue."""
    queue = full(
        QueueStats("q", POLICY, *range(1, 4), 1.5, *range(5, 14), 21, 22, 23, 24, 14, {"order": 14}, 15, 16.5, 17.5, 18.5, FAILURES, PAUSE)
    )
    arrived = m.decode_answer(m.encode((m.GOT_QUEUES, 1, [queue], "q")))
    assert arrived == m.GotQueues(1, [queue], "q")
    notice = Notice(
        cursor="r-1",
        kind=Kind.EXTENDED,
        at=1.0,
        queue="q",
        id="j",
        number=2,
        type="t",
        priority=3,
        status=Status.CONCLUDED,
        outcome=Outcome.EXPIRED,
        attempts=4,
        run_at=5.0,
        lease_expires_at=6.0,
        worker="w",
        progress=0.5,
        message="half",
        cancel_requested=True,
        policy=POLICY,
        key="k",
    )
    assert m.decode_answer(m.encode((m.GOT_NOTICES, 1, [full(notice)], "r-2"))) == m.GotNotices(1, [notice], "r-2")


def test_keys_and_reasons_arrive_as_they_were() -> None:
    """A key's state, and all that a job may wait for; a change of one field says nothing of the others."""
    stats = full(KeyStats("k", 1, 2, 3, "halted", True, "j", 4.5, PAUSE))
    assert m.decode_answer(m.encode((m.GOT_KEYS, 1, [stats], "next"))) == m.GotKeys(1, [stats], "next")
    assert m.decode_answer(m.encode((m.GOT_KEY, 1, stats))) == m.GotKey(1, stats)
    reason = full(Reason(kind="key", until=1.5, key="k", block="order", job="j", worker="w", used=2, total=3, ahead=4, jobs=("a",)))
    reasons = [[reason, Reason(kind="paused")], []]
    assert m.decode_answer(m.encode((m.GOT_REASONS, 1, reasons))) == m.GotReasons(1, reasons)
    for change in (PolicyChange(concurrency=None), PolicyChange(rate=Rate(1, 2.0)), PolicyChange()):
        assert m.decode_asked(m.encode((m.CHANGE_POLICY, 1, "q", change))) == m.ChangePolicyOp(1, "q", change)


def test_a_request_of_a_newer_server_is_read_without_what_is_new() -> None:
    """A further field of a spec, and a further element of a message, are passed over."""
    spec = msgspec.msgpack.encode([m.ENQUEUE, 1, {"payload": b"1", "of_tomorrow": True}, "more"])
    assert m.decode_asked(spec) == m.EnqueueOp(1, SentSpec(payload=b"1"))


def test_a_pause_of_an_older_server_has_no_name() -> None:
    """It sends none."""
    assert m.decode_asked(m.encode((m.SET_PAUSED, 1, "q", True))) == m.SetPausedOp(1, "q", True, None)
