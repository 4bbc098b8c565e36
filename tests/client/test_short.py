"""Clients ask for short answers to batches, and fill in what they know: what they return is as a whole answer would have said it."""

from __future__ import annotations

import enum
import json
from typing import Any

import msgspec
import pytest

from jobqueue import Conclude, Enqueued, NewJob, errors
from jobqueue.client.problems import UnexpectedAnswer
from jobqueue.unique import Unique

from .conftest import Connect
from .rig import HOLD, Face, canned, proxied, together

AT = "2026-11-22T07:30:20.786Z"
JOBS = [
    NewJob(1),
    NewJob(2, id="a", queue="q", type="t", priority=0, key="k", tags=["x", "y"]),
    NewJob(3, id='b"created":', unique=Unique("u")),
    NewJob(4, id="later", delay=60),
    NewJob(5, id="expiring", expires_in=60),
    NewJob(6, id="waiting", after=["a"]),
    NewJob(7, id="bad", priority=12),
    NewJob(2, id="a", queue="q", type="t", priority=0, key="k", tags=["x", "y"]),
    NewJob(8, id="other", unique=Unique("u")),
]


async def as_listed(api: Face, made: Enqueued) -> Enqueued:
    """The same job as the server shows it."""
    job = await api.job(made.id)
    names = [name for name in Enqueued.__struct_fields__ if name != "created"]
    return Enqueued(**{name: getattr(job, name) for name in names}, created=made.created)


async def test_a_batch_of_enqueues_is_told_in_full(connect: Connect, url: str) -> None:
    """Each job as the server has it: those made, those that wait, that expire, that were there; and a bad one its error."""
    async with proxied(url) as proxy:
        made = await connect(proxy.url).enqueue_batch(JOBS)
    assert [request.headers.get("prefer") for request in proxy.seen] == ["return=minimal"]
    assert isinstance(made.pop(6), errors.BadRequest)
    assert [job.created for job in made] == [True] * 6 + [False] * 2
    assert made[-1].id == made[2].id
    assert made == [await as_listed(connect(url), job) for job in made]


async def test_enqueues_that_share_a_request_are_told_in_full(connect: Connect, url: str) -> None:
    """Each as it would have been alone."""
    async with proxied(url, HOLD) as proxy:
        face = connect(proxy.url)
        calls = [
            lambda job=job: face.enqueue(**{name: getattr(job, name) for name in job.__struct_fields__ if getattr(job, name) is not None})
            for job in JOBS
        ]
        made = await together(face, proxy, calls)
    assert [request.headers.get("prefer") for request in proxy.seen] == [None, "return=minimal"]
    assert isinstance(made.pop(6), errors.BadRequest)
    assert made == [await as_listed(connect(url), job) for job in made]


async def leased(api: Face) -> list[Any]:
    """Five jobs in progress, one of them in its second attempt, one that was due later."""
    await api.enqueue_batch([NewJob(at, id=str(at)) for at in range(5)])
    first = await api.dequeue(wait=0)
    await api.conclude(first.id, first.lease.token, "failed", retry_delay=0)
    found: list[Any] = await api.dequeue_batch(limit=5, wait=0)
    if len(found) < 5:
        found += await api.dequeue_batch(limit=1)
    return found


def ends(jobs: list[Any]) -> list[Conclude]:
    return [
        Conclude(jobs[0].id, jobs[0].lease.token, "succeeded", result=1),
        Conclude(jobs[1].id, jobs[1].lease.token, "failed", retry=False),
        Conclude(jobs[2].id, jobs[2].lease.token, "failed", retry_delay=60),
        Conclude(jobs[3].id, "no such lease", "succeeded"),
        Conclude(jobs[4].id, jobs[4].lease.token, "succeeded"),
    ]


@pytest.mark.parametrize("shared", [False, True])
async def test_concludes_are_told_in_full(connect: Connect, url: str, shared: bool) -> None:
    """How each job stands, in a batch and by calls that share a request: ended, to be tried again, or its lease lost."""
    direct = connect(url)
    jobs = await leased(direct)
    async with proxied(url, HOLD) as proxy:
        face = connect(proxy.url)
        if shared:
            calls = [
                lambda item=item: face.conclude(
                    item.id, item.lease, item.outcome, result=item.result, retry=item.retry, retry_delay=item.retry_delay
                )
                for item in ends(jobs)
            ]
            told = await together(face, proxy, calls)
        else:
            proxy.stalled.set()
            told = await face.conclude_batch(ends(jobs))
    assert proxy.seen[-1].target == "/batch/conclude"
    assert proxy.seen[-1].headers.get("prefer") == "return=minimal"
    assert isinstance(told.pop(3), errors.LeaseLost)
    assert sorted(one.attempts for one in told) == [1, 1, 1, 2]
    for one in told:
        job = await direct.job(one.id)
        assert msgspec.structs.asdict(one) == {name: getattr(job, name) for name in one.__struct_fields__}


async def test_calls_that_are_no_batch_ask_for_nothing(connect: Connect, url: str) -> None:
    """The answer to a single call, and to a batch of which all is wanted, is whole."""
    async with proxied(url) as proxy:
        face = connect(proxy.url)
        await face.enqueue(1)
        await face.dequeue_batch(limit=1, wait=0)
        await face.extend_batch([])
        await face.release_batch([])
    assert [request.headers.get("prefer") for request in proxy.seen] == [None] * 4


WHOLE = {
    "id": "a", "queue": "q", "type": None, "priority": 5, "status": "queued", "created_at": AT, "run_at": None, "expires_at": None,
    "created": True,
}  # fmt: skip
PROBLEM = {"type": "t", "title": "t", "status": 400, "code": "bad_request", "detail": "no"}


def answer(body: dict[str, Any]) -> bytes:
    return canned(200, json.dumps(body, separators=(",", ":")).encode())


async def test_an_older_server_answers_whole(connect: Connect, url: str) -> None:
    """It passes over what is preferred; its answers are read as before, alone or with errors between them."""
    whole = {"id": "a", "status": "scheduled", "outcome": None, "attempts": 3, "run_at": AT}
    async with proxied(url, answer({"jobs": [WHOLE, {"error": PROBLEM}]}), answer({"jobs": [whole, {"error": PROBLEM}]})) as proxy:
        face = connect(proxy.url)
        made = await face.enqueue_batch([NewJob(1, id="a"), NewJob(1, id="b")])
        told = await face.conclude_batch([Conclude("a", "x", "failed"), Conclude("b", "x", "failed")])
    assert (made[0].queue, made[0].created) == ("q", True)
    assert (str(told[0].status), told[0].outcome, told[0].attempts) == ("scheduled", None, 3)
    assert all(isinstance(results[1], errors.BadRequest) for results in (made, told))


async def test_what_a_newer_server_adds_is_passed_over(connect: Connect, url: str) -> None:
    """Fields of a short item that are not known here."""
    async with proxied(
        url, answer({"created_at": AT, "jobs": [{"id": "a", "new": 1}]}), answer({"jobs": [{"id": "a", "new": 1}]})
    ) as proxy:
        face = connect(proxy.url)
        (made,) = await face.enqueue_batch([NewJob(1, id="a", queue="q")])
        (told,) = await face.conclude_batch([Conclude("a", "x", "failed")])
    assert (made.id, made.queue, made.created) == ("a", "q", True)
    assert (told.id, str(told.outcome), told.attempts, told.run_at) == ("a", "failed", 1, None)


@pytest.mark.parametrize(
    "body",
    [
        {"jobs": [{"id": "a"}, {"id": "b"}]},
        {"created_at": AT, "jobs": [{"id": "a"}]},
        {"created_at": AT, "jobs": [{"id": "a"}, {"ID": "b"}]},
        {"created_at": AT, "jobs": [{"id": "a"}, {"id": "b", "created": True}]},
        {"created_at": "yesterday", "jobs": [{"id": "a"}, {"id": "b"}]},
    ],
)
async def test_a_short_answer_that_lacks_something_is_no_answer(connect: Connect, url: str, body: dict[str, Any]) -> None:
    """Without the time, of other jobs than were sent, or with items that are neither short nor whole, it says nothing of any job."""
    async with proxied(url, *[answer(body)] * 5) as proxy:
        with pytest.raises(UnexpectedAnswer):
            await connect(proxy.url).enqueue_batch([NewJob(1, id="a"), NewJob(1, id="b")])
    async with proxied(url, HOLD, *[answer(body)] * 15) as proxy:
        face = connect(proxy.url)
        made = await together(face, proxy, [lambda at=at: face.enqueue(1, id=at) for at in ("first", "a", "b")])
    assert any(isinstance(one, UnexpectedAnswer) for one in made[1:])


class Name(enum.StrEnum):
    """What a program may have its names in."""

    MAIL = "mail"


class Urgency(enum.IntEnum):
    """And its priorities."""

    HIGH = 1


async def test_what_is_filled_in_is_plain(api: Face) -> None:
    """Enumerations that were given come back as the str and int that they are to the server, and a list of tags as a tuple."""
    (made,) = await api.enqueue_batch([NewJob(1, queue=Name.MAIL, type=Name.MAIL, key=Name.MAIL, priority=Urgency.HIGH, tags=[Name.MAIL])])
    assert [type(value) for value in (made.queue, made.type, made.key, made.priority, made.tags[0])] == [str, str, str, int, str]
    assert made == await as_listed(api, made)


class Said(enum.Enum):
    """An outcome as a program may have it: no str, and one as JSON."""

    WELL = "succeeded"


async def test_an_outcome_may_be_of_any_enumeration(api: Face) -> None:
    """One that is no str ends a job as its value does, and what the client returns says so."""
    outcome: Any = Said.WELL
    await api.enqueue_batch([NewJob(at) for at in range(2)])
    first, second = await api.dequeue(), await api.dequeue()
    (told,) = await api.conclude_batch([Conclude(first.id, first.lease.token, outcome)])
    assert [told.outcome, (await api.conclude(second.id, second.lease.token, outcome)).outcome] == ["succeeded"] * 2


async def test_a_job_that_cannot_have_been_made_as_it_was_sent_is_an_unexpected_answer(connect: Connect, url: str) -> None:
    """A server that claims to have made jobs with a priority that is no number is not believed."""
    answer = canned(200, b'{"created_at":"2027-01-15T08:00:00.000Z","jobs":[{"id":"j0"},{"id":"j1"}]}')
    async with proxied(url, HOLD, answer) as proxy:
        face = connect(proxy.url)
        calls = [lambda: face.enqueue(0), *(lambda at=at: face.enqueue(at, id=f"j{at}", priority="high") for at in range(2))]
        made = await together(face, proxy, calls)
    assert [str(error).partition(":")[0] for error in made[1:]] == ["the answer cannot be read"] * 2
    assert all(isinstance(error, UnexpectedAnswer) for error in made[1:])
