"""Every error of the server as an exception, and what cannot be sent or read."""

from __future__ import annotations

import math
import pickle
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

import msgspec
import pytest

import jobqueue
from jobqueue import Backoff, Conclude, Extend, NewJob, errors
from jobqueue.api.problems import PROBLEMS, describe
from jobqueue.api.problems import Problem as Sent
from jobqueue.client import calls
from jobqueue.client.exchange import Answer
from jobqueue.client.problems import KINDS, Problem, error_of
from jobqueue.client.retrying import Hold, Retrying, carried_through
from jobqueue.client.servers import Servers
from jobqueue.client.types import Job
from jobqueue.errors import QueueError

from .conftest import Connect
from .rig import Face, canned, proxied

WITHOUT_A_CLASS = {
    "not_found",
    "method_not_allowed",
    "request_timeout",
    "unsupported_media_type",
    "internal_error",
    "http_version",
}
"""Codes of what no client of ours asks for, and of the server's own faults."""

PARTICULAR: list[QueueError] = [
    errors.BadRequest("priority", "12 is out of range"),
    errors.BadRequest(None, "the body is empty"),
    errors.UnknownJob("a"),
    errors.UnknownQueue("q"),
    errors.IdConflict("a", "payload"),
    errors.TooLarge("payload", "too much"),
    errors.QueueNotEmpty("q", 3),
    errors.LeaseLost("a"),
    errors.NotInProgress("a", "concluded"),
    errors.NotRetryable("a", "queued"),
    errors.NotForgettable("a", "is queued, and only a concluded job can be forgotten"),
    errors.Duplicate("k", "a"),
    errors.Unsupported("after", "the job is in another partition"),
    errors.StorageUnavailable("no room"),
    errors.StorageUnconfirmed("no room, and it may have been stored"),
]
MADE = [*PARTICULAR, *(kind("what happened") for code, kind in KINDS.items() if code not in {error.code for error in PARTICULAR})]
"""Every error, made as the server makes it."""


def shown(error: QueueError) -> tuple[Any, ...]:
    return type(error), str(error), error.code, error.detail, error.field


@pytest.mark.parametrize("error", MADE, ids=lambda error: error.code)
def test_an_error_arrives_as_it_was_raised(error: QueueError) -> None:
    """Class, words, code and field survive the wire."""
    body = msgspec.json.encode(describe(error))
    assert shown(error_of(msgspec.json.decode(body, type=Problem))) == shown(error)


@pytest.mark.parametrize("error", MADE, ids=lambda error: error.code)
def test_an_error_survives_pickling(error: QueueError) -> None:
    """Errors cross processes, constructors with several arguments notwithstanding."""
    assert shown(pickle.loads(pickle.dumps(error))) == shown(error)
    told = type(error).told(error.detail, error.field)
    assert shown(pickle.loads(pickle.dumps(told))) == shown(error)


def test_every_code_of_the_server_has_a_class_or_is_known_to_have_none() -> None:
    """A new code needs a decision."""
    assert set(PROBLEMS) == set(KINDS) | WITHOUT_A_CLASS


@pytest.mark.parametrize("code", sorted(PROBLEMS))
async def test_every_code_of_the_server_is_raised(connect: Connect, code: str) -> None:
    """By its class where it has one, else as UnexpectedAnswer with status and code."""
    status, title = PROBLEMS[code]
    body = msgspec.json.encode(Sent(f"urn:jobqueue:problem:{code}", title, status, code, "what happened", "priority"))
    async with proxied("http://127.0.0.1:1", canned(status, body, "Retry-After: 60")) as proxy:
        with pytest.raises(QueueError) as raised:
            await connect(proxy.url).enqueue(1)
    error = raised.value
    assert (error.code, error.detail, error.field) == (code, "what happened", "priority")
    if code in WITHOUT_A_CLASS:
        assert isinstance(error, jobqueue.UnexpectedAnswer)
        assert error.status == status
    else:
        assert type(error) is KINDS[code]
    if isinstance(error, jobqueue.Full | jobqueue.Unavailable):
        assert error.retry_after == 60


async def test_a_code_of_a_newer_server_is_kept(connect: Connect) -> None:
    """Unknown codes and unknown fields break nothing; the class's own code stays what it is."""
    body = b'{"type":"urn","title":"t","status":418,"code":"teapot","detail":"short and stout","more":[1]}'
    async with proxied("http://127.0.0.1:1", canned(418, body)) as proxy:
        with pytest.raises(jobqueue.UnexpectedAnswer, match="stout") as raised:
            await connect(proxy.url).queues()
    assert (raised.value.status, raised.value.code) == (418, "teapot")
    assert jobqueue.UnexpectedAnswer.code == "unexpected_answer"


@pytest.mark.parametrize(
    "answer",
    [
        canned(200, b"<html>welcome to the hotel</html>"),
        canned(200, b"\xff"),
        canned(200, b""),
        canned(200, b'{"queues": 3}'),
        canned(200, b'{"queues": [{"name": "q"}]}'),
        canned(404, b"not here"),
        canned(400, b'{"error": "\xff"}'),
        canned(302, b"", "Location: /elsewhere"),
        canned(500, b"[]"),
    ],
)
async def test_an_answer_of_something_else_says_so(connect: Connect, answer: bytes) -> None:
    """Not JSON, not ours, redirects: all are UnexpectedAnswer with the status, and nothing is followed or sent again."""
    async with proxied("http://127.0.0.1:1", answer) as proxy:
        with pytest.raises(jobqueue.UnexpectedAnswer) as raised:
            await connect(proxy.url).queues()
    assert raised.value.status == int(answer.split()[1])
    assert len(proxy.seen) == 1


async def test_an_answer_that_breaks_off_is_a_lost_connection(connect: Connect) -> None:
    """Half an answer counts as none."""
    half = b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\nConnection: close\r\n\r\n{"queues"'
    async with proxied("http://127.0.0.1:1", half, "drop", b"nonsense\r\n\r\n", "drop", "drop") as proxy:
        with pytest.raises(jobqueue.ConnectionFailed):
            await connect(proxy.url, timeout=0.2).queues()
    assert len(proxy.seen) == 5


def test_a_failed_job_tells_how_it_ended() -> None:
    """Its words have the outcome and the error, shortened; it survives pickling."""
    job = msgspec.json.decode(
        msgspec.json.encode(
            dict.fromkeys(Job.__struct_encode_fields__)
            | {
                "id": "a",
                "number": 1,
                "queue": "q",
                "priority": 5,
                "status": "concluded",
                "outcome": "failed",
                "attempts": 2,
                "cancel_requested": False,
                "halts": False,
                "past": [],
                "tags": [],
                "after": [],
                "after_failure": "cancel",
                "headers": {},
            }
            | {"created_at": "2026-11-22T07:30:20.786Z", "error": {"why": "x" * 1_000}, "payload": 1}
        ),
        type=Job,
    )
    error = jobqueue.JobFailed(job)
    assert str(error).startswith('job \'a\' ended as failed after 2 attempts: {"why":"xxx')
    assert len(str(error)) < 300
    again = pickle.loads(pickle.dumps(error))
    assert (again.outcome, again.error, str(again)) == ("failed", {"why": "x" * 1_000}, str(error))
    late = pickle.loads(pickle.dumps(jobqueue.WaitTimeout("a", 1.5)))
    assert (late.job_id, late.waited) == ("a", 1.5)


# What cannot be sent.


class Strange:
    def __repr__(self) -> str:
        return "Strange()"


RING: list[Any] = []
RING.append(RING)


@pytest.mark.parametrize("value", [Strange(), {"a": [Strange()]}, "\ud800", RING, {(1, 2): Strange()}, range(3)])
async def test_what_json_cannot_carry_is_refused_by_field(api: Face, value: Any) -> None:
    """Wherever a value of the caller's goes, BadRequest names it before anything is sent."""
    asked = [
        (api.enqueue(value), "payload"),
        (api.enqueue_batch([NewJob(1), NewJob(value)]), "jobs[1].payload"),
        (api.conclude("a", "b", "succeeded", result=value), "result"),
        (api.conclude("a", "b", "failed", error=value), "error"),
        (api.conclude_batch([Conclude("a", "b", "failed", error=value)]), "jobs[0].error"),
    ]
    for asking, field in asked:
        with pytest.raises(jobqueue.BadRequest) as raised:
            await asking
        assert raised.value.field == field
        assert await api.all_jobs() == []


@pytest.mark.parametrize("number", [Decimal("NaN"), Decimal("sNaN"), Decimal(-1), Fraction(-1, 3), math.nan, -(10**400)])
async def test_odd_numbers_of_seconds_are_refused_by_name(connect: Connect, url: str, number: Any) -> None:
    """A wait or a time-out of whatever class that is none is the error of any other bad one."""
    with pytest.raises(ValueError, match="timeout"):
        connect(url, timeout=number)
    api = connect(url)
    for asking in (api.dequeue(wait=number), api.job("a", wait=number), api.enqueue(1, wait=number)):
        with pytest.raises(jobqueue.BadRequest) as raised:
            await asking
        assert raised.value.field == "wait"
    assert await api.all_jobs() == []


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
async def test_numbers_that_json_has_not_are_refused(connect: Connect, url: str, number: float) -> None:
    """By field, in every call and class, before anything is sent: JSON would say null, which means the default."""
    backoff = {name: {"backoff": Backoff(**{name: number})} for name in ("base", "factor", "cap")}
    for field in ("delay", "expires_in", "lease_seconds"):
        with pytest.raises(jobqueue.BadRequest, match=field):
            NewJob(1, **{field: number})
    for make in (lambda: Extend("a", "b", progress=number), lambda: Extend("a", "b", lease_seconds=number)):
        with pytest.raises(jobqueue.BadRequest, match="is not a finite number"):
            make()
    with pytest.raises(jobqueue.BadRequest, match="retry_delay"):
        Conclude("a", "b", "failed", retry_delay=number)
    async with proxied(url) as proxy:
        api = connect(proxy.url)
        asked = [
            *((api.enqueue(1, **{field: number}), field) for field in ("delay", "expires_in", "lease_seconds", "max_attempts", "priority")),
            *((api.enqueue(1, **given), f"backoff.{name}") for name, given in backoff.items()),
            *((api.enqueue_batch([NewJob(1), NewJob(1, **given)]), f"jobs[1].backoff.{name}") for name, given in backoff.items()),
            *((api.put_queue("q", **given), f"backoff.{name}") for name, given in backoff.items()),
            *((api.put_queue("q", **{field: number}), field) for field in ("lease_seconds", "max_attempts", "max_jobs")),
            (api.dequeue(lease_seconds=number), "lease_seconds"),
            (api.dequeue_batch(limit=number), "limit"),
            (api.dequeue_batch(limit=1, lease_seconds=number), "lease_seconds"),
            (api.conclude("a", "b", "failed", retry_delay=number), "retry_delay"),
            (api.extend("a", "b", lease_seconds=number), "lease_seconds"),
            (api.extend("a", "b", progress=number), "progress"),
            (api.release("a", "b", delay=number), "delay"),
            (api.jobs(limit=number), "limit"),
            (api.jobs(cursor=number), "cursor"),
            (api.all_jobs(limit=number), "limit"),
        ]
        for asking, field in asked:
            with pytest.raises(jobqueue.BadRequest, match="is not a finite number") as raised:
                await asking
            assert raised.value.field == field
        assert proxy.seen == []


async def test_waits_that_are_none_are_refused(connect: Connect, url: str) -> None:
    """By both clients, before anything is sent; infinite ones are fine."""
    async with proxied(url) as proxy:
        api = connect(proxy.url)
        for asking, field in (
            (api.dequeue(wait=math.nan), "wait"),
            (api.job("a", wait=-1), "wait"),
            (api.enqueue(1, wait=math.nan), "wait"),
        ):
            with pytest.raises(jobqueue.BadRequest) as raised:
                await asking
            assert raised.value.field == field
        assert proxy.seen == []


@pytest.mark.parametrize(("operation", "field"), [("job", "id"), ("cancel", "id"), ("queue", "queue"), ("purge", "queue")])
@pytest.mark.parametrize("name", ["", "\ud800"])
async def test_a_name_that_makes_no_path_is_refused(api: Face, operation: str, field: str, name: str) -> None:
    """An empty one would ask for something else."""
    with pytest.raises(jobqueue.BadRequest) as raised:
        await getattr(api, operation)(name)
    assert raised.value.field == field


async def test_values_out_of_bounds_are_the_servers_to_refuse(api: Face) -> None:
    """The client has no bounds of its own to differ in; the field comes back."""
    for fields, field in (
        ({"priority": 10}, "priority"),
        ({"queue": "no name"}, "queue"),
        ({"id": ""}, "id"),
        ({"run_at": datetime(2030, 1, 1)}, "run_at"),  # noqa: DTZ001 # the fault in question
        ({"delay": -1}, "delay"),
        ({"max_attempts": 0}, "max_attempts"),
        ({"lease_seconds": "long"}, "lease_seconds"),
    ):
        with pytest.raises(jobqueue.BadRequest) as raised:
            await api.enqueue(1, **fields)
        assert raised.value.field == field
    with pytest.raises(jobqueue.BadRequest) as raised:
        await api.conclude("a", "b", "failed", result=1)
    assert raised.value.field == "result"
    with pytest.raises(jobqueue.BadRequest) as raised:
        await api.jobs(status="\ud800")
    assert raised.value.field == "status"


@pytest.mark.parametrize("last", ["storage_unavailable", "draining", "rate_limited", "too_many_connections"])
def test_a_try_that_is_refused_says_nothing_of_the_one_before(last: str) -> None:
    """When the first try may have been stored and the others are refused, what is raised still says that it may."""
    alone = Servers(["http://a"], 10.0, lambda: 0.0, lambda: 0.0)
    steps = carried_through(calls.enqueue_batch([NewJob(1)]), Retrying(tries=3, random=lambda: 0.0), Hold(1.0), alone)
    first = describe(errors.StorageUnconfirmed("it may have been stored"))
    told = [first, *[msgspec.structs.replace(first, code=last, status=PROBLEMS[last].status, unconfirmed=False)] * 2]

    def drive() -> None:
        step = next(steps)
        for problem in told:
            while isinstance(step, float):
                step = next(steps)
            step = steps.send(Answer(problem.status, {"retry-after": "1"}, msgspec.json.encode(problem)))

    with pytest.raises(errors.Unconfirmed, match="may have been") as raised:
        drive()
    assert len(raised.value.ids) == 1
