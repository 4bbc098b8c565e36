"""simplequeue: what its calls do, each rule as one conversation."""

from __future__ import annotations

import asyncio
import json
import socket
from unittest import mock
from urllib.parse import quote

import pytest

from jobqueue.model import Job, JobFilter, JobSpec, Verdict, Want
from tests.api.harness import Api, request, until

from .conftest import Serve
from .dialogue import Speaker


async def test_a_job_goes_from_submit_to_complete(simplequeue: Speaker) -> None:
    """The whole life of a job, in the words of the system it comes from."""
    await simplequeue.talk("""
        > POST /jobs/submit {"jobId": "a", "description": "first", "data": {"n": 1}}
        < 201 {"jobId": "a", "state": "submitted", "description": "first", "data": {"n": 1}}
        > GET /jobs/a
        < 200 {"jobId": "a", "state": "submitted", "description": "first", "data": {"n": 1}}
        > GET /jobs/next
        < 200 {"jobId": "a", "state": "running", "description": "first", "data": {"n": 1}}
        > GET /jobs
        < 200 [{"jobId": "a", "state": "running", "description": "first", "data": {"n": 1}}]
        > POST /jobs/complete {"jobId": "a", "status": "succeeded"}
        < 200 {"jobId": "a", "state": "succeeded", "description": "first", "data": {"n": 1}}
        > GET /jobs/a
        < 200 {"jobId": "a", "state": "succeeded", "description": "first", "data": {"n": 1}}
        > GET /jobs/next
        < 204
    """)


async def test_description_and_data_are_optional(simplequeue: Speaker) -> None:
    """A job shows what it was given and nothing else; unknown fields are ignored."""
    await simplequeue.talk("""
        > POST /jobs/submit {"jobId": "a"}
        < 201 {"jobId": "a", "state": "submitted"}
        > POST /jobs/submit {"jobId": "b", "description": ""}
        < 201 {"jobId": "b", "state": "submitted", "description": ""}
        > POST /jobs/submit {"jobId": "c", "data": {}, "priority": 1}
        < 201 {"jobId": "c", "state": "submitted", "data": {}}
        > POST /jobs/submit {"jobId": "d", "description": null}
        < 201 {"jobId": "d", "state": "submitted"}
        > GET /jobs
        < 200 [{"jobId": "a", "state": "submitted"}, {"jobId": "b", "state": "submitted", "description": ""}, \
{"jobId": "c", "state": "submitted", "data": {}}, {"jobId": "d", "state": "submitted"}]
    """)


async def test_data_comes_back_as_it_was_sent(simplequeue: Speaker) -> None:
    """To the last digit and the last space: it is never parsed."""
    data = '{ "big" : 123456789012345678901234567890, "small":1.10, "text":"\\u00e9é🎈", "again":1, "again":2, "deep":[[{}]] }'
    (reply,) = await simplequeue.together(f'> POST /jobs/submit {{"jobId": "a", "data":  {data} }}', 1)
    assert reply.status == 201
    assert reply.body == f'{{"jobId":"a","state":"submitted","data":{data}}}'.encode()
    (reply,) = await simplequeue.together("> GET /jobs/next", 1)
    assert data.encode() in reply.body


@pytest.mark.parametrize("kind", ["", "application/x-www-form-urlencoded", "text/plain", "application/json; charset=utf-8", "x"])
async def test_a_body_may_be_of_any_declared_type(simplequeue: Speaker, kind: str) -> None:
    """What `curl -d` and bare sockets send is read as the JSON it is."""
    await simplequeue.talk(f"""
        > POST /jobs/submit {{"jobId": "a"}}
          Content-Type: {kind}
        < 201 {{"jobId": "a", "state": "submitted"}}
        > GET /jobs/next
        < 200 {{"jobId": "a", "state": "running"}}
        > POST /jobs/complete {{"jobId": "a", "status": "failed"}}
          Content-Type: {kind}
        < 200 {{"jobId": "a", "state": "failed"}}
    """)


async def test_next_is_the_oldest_submitted_job(simplequeue: Speaker) -> None:
    """First in, first out; an empty queue is 204 and changes nothing."""
    for name in "cab":
        await simplequeue.talk(f"""
            > POST /jobs/submit {{"jobId": "{name}"}}
            < 201 {{"jobId": "{name}", "state": "submitted"}}
        """)
    for name in "cab":
        await simplequeue.talk(f"""
            > GET /jobs/next
            < 200 {{"jobId": "{name}", "state": "running"}}
        """)
    await simplequeue.refused("""
        > GET /jobs/next
        < 204
          Retry-After:
    """)
    assert simplequeue.api.backend.totals().waiters == 0


# The same id again.


async def test_an_id_submitted_at_once_fifty_times_is_queued_once(simplequeue: Speaker) -> None:
    """Exactly one is told 201, every other 200, and one worker gets it."""
    replies = await simplequeue.together('> POST /jobs/submit {"jobId": "a", "data": {"n": 1}}', 50)
    assert sorted(reply.status for reply in replies) == [200] * 49 + [201]
    assert {reply.body for reply in replies} == {b'{"jobId":"a","state":"submitted","data":{"n": 1}}'}
    await simplequeue.talk("""
        > GET /jobs
        < 200 [{"jobId": "a", "state": "submitted", "data": {"n": 1}}]
        > GET /jobs/next
        < 200 {"jobId": "a", "state": "running", "data": {"n": 1}}
        > GET /jobs/next
        < 204
    """)


@pytest.mark.parametrize(
    "again", ['{"jobId": "a", "data": {"n": 1}}', '{"jobId": "a", "data": {"n": 2}, "description": "other"}', '{"jobId": "a"}']
)
@pytest.mark.parametrize("end", ["succeeded", "failed"])
async def test_an_id_submitted_again_shows_the_job_as_it_stands(simplequeue: Speaker, again: str, end: str) -> None:
    """In every state, with the same content or other: 200, the first content, and nothing is queued."""
    await simplequeue.talk("""
        > POST /jobs/submit {"jobId": "a", "data": {"n": 1}}
        < 201 {"jobId": "a", "state": "submitted", "data": {"n": 1}}
    """)
    await simplequeue.refused(f"""
        > POST /jobs/submit {again}
        < 200 {{"jobId": "a", "state": "submitted", "data": {{"n": 1}}}}
    """)
    await simplequeue.talk("""
        > GET /jobs/next
        < 200 {"jobId": "a", "state": "running", "data": {"n": 1}}
    """)
    await simplequeue.refused(f"""
        > POST /jobs/submit {again}
        < 200 {{"jobId": "a", "state": "running", "data": {{"n": 1}}}}
        > GET /jobs/next
        < 204
    """)
    await simplequeue.talk(f"""
        > POST /jobs/complete {{"jobId": "a", "status": "{end}"}}
        < 200 {{"jobId": "a", "state": "{end}", "data": {{"n": 1}}}}
    """)
    await simplequeue.refused(f"""
        > POST /jobs/submit {again}
        < 200 {{"jobId": "a", "state": "{end}", "data": {{"n": 1}}}}
        > GET /jobs/next
        < 204
    """)


async def test_a_forgotten_id_is_free_again(serve: Serve) -> None:
    """Once history has let go of a job, its id makes a new one."""
    simplequeue = Speaker(await serve(history_jobs_max=0), "/simplequeue")
    for _ in range(2):
        await simplequeue.talk("""
            > POST /jobs/submit {"jobId": "a"}
            < 201 {"jobId": "a", "state": "submitted"}
            > GET /jobs/next
            < 200 {"jobId": "a", "state": "running"}
            > POST /jobs/complete {"jobId": "a", "status": "succeeded"}
            < 200 {"jobId": "a", "state": "succeeded"}
            > GET /jobs/a
            < 404 {"error": "no job has the id 'a': it never existed, or history has forgotten it"}
        """)


# Ids.

NAMES = {
    "next": "%6Eext",
    "submit": "submit",
    "complete": "complete",
    "stats": "stats",
    "a/b": "a%2Fb",
    "/": "%2F",
    "a b": "a%20b",
    "+": "+",
    "100%": "100%25",
    "%2F": "%252F",
    "?": "%3F",
    "#": "%23",
    ".": ".",
    "..": "%2E%2E",
    "🎈": "%F0%9F%8E%88",
    "é": "%c3%A9",
    '"quoted"': "%22quoted%22",
    "it's": "it's",
    "\\": "%5C",
    "<b>": "<b>",
    "0": "0",
    "-1": "-1",
    "null": "null",
    "a" * 128: "a" * 128,
    "🎈" * 128: "%F0%9F%8E%88" * 128,
}


@pytest.mark.parametrize("name", NAMES)
async def test_an_id_is_any_text_that_json_and_a_path_carry(simplequeue: Speaker, name: str) -> None:
    """Slashes, spaces, line ends, emoji, the names of routes, up to 128 characters: submitted, found, taken, completed, listed."""
    shown = json.dumps(name)
    await simplequeue.talk(f"""
        > POST /jobs/submit {{"jobId": {shown}}}
        < 201 {{"jobId": {shown}, "state": "submitted"}}
        > GET /jobs/{NAMES[name]}
        < 200 {{"jobId": {shown}, "state": "submitted"}}
        > GET /jobs/{quote(name, safe="")}x
        < {"404" if len(name) < 128 else "400"} {{"error": "…"{"" if len(name) < 128 else ', "field": "jobId"'}}}
        > GET /jobs/next
        < 200 {{"jobId": {shown}, "state": "running"}}
        > POST /jobs/complete {{"status": "succeeded", "jobId": {shown}}}
        < 200 {{"jobId": {shown}, "state": "succeeded"}}
        > GET /jobs
        < 200 [{{"jobId": {shown}, "state": "succeeded"}}]
    """)


async def test_a_route_and_a_job_of_its_name_do_not_shadow_each_other(simplequeue: Speaker) -> None:
    """GET /jobs/next takes, /jobs/%6Eext looks at the job `next`, which may itself be taken."""
    await simplequeue.talk("""
        > POST /jobs/submit {"jobId": "first"}
        < 201 {"jobId": "first", "state": "submitted"}
        > POST /jobs/submit {"jobId": "next"}
        < 201 {"jobId": "next", "state": "submitted"}
        > GET /jobs/%6eext
        < 200 {"jobId": "next", "state": "submitted"}
        > GET /jobs/next
        < 200 {"jobId": "first", "state": "running"}
        > GET /jobs/nex%74
        < 200 {"jobId": "next", "state": "submitted"}
        > GET /jobs/next
        < 200 {"jobId": "next", "state": "running"}
        > GET /jobs/next
        < 204
        > GET /jobs/submit
        < 404 {"error": "no job has the id 'submit': …"}
    """)


async def test_ids_differ_by_their_characters(simplequeue: Speaker) -> None:
    """Case, spaces and composition matter: nothing is folded."""
    names = ["a", "A", " a", "a ", "\u00e9", "e\u0301", "1", "01", "1.0"]
    for name in names:
        await simplequeue.talk(f"""
            > POST /jobs/submit {{"jobId": "{name}"}}
            < 201 {{"jobId": "{name}", "state": "submitted"}}
        """)
    (reply,) = await simplequeue.together("> GET /jobs", 1)
    assert [job["jobId"] for job in reply.json] == names


# Listing.


@pytest.mark.parametrize("number", [0, 1, 2, 3, 4, 7])
async def test_every_job_is_listed_oldest_first(serve: Serve, number: int) -> None:
    """However many pages the server reads them in; concluded ones too."""
    simplequeue = Speaker(await serve(page_jobs_max=2, page_jobs_default=2, page_scan_max=2), "/simplequeue")
    for index in range(number):
        await simplequeue.together(f'> POST /jobs/submit {{"jobId": "{index}"}}', 1)
    if number:
        await simplequeue.talk("""
            > GET /jobs/next
            < 200 {"jobId": "0", "state": "running"}
            > POST /jobs/complete {"jobId": "0", "status": "failed"}
            < 200 {"jobId": "0", "state": "failed"}
        """)
    reply = await simplequeue.api.get("/simplequeue/jobs")
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    assert reply.json == [{"jobId": str(index), "state": "submitted" if index else "failed"} for index in range(number)]


async def test_a_long_list_is_written_as_it_is_read(serve: Serve) -> None:
    """Of a list that its client does not read, the server looks at no more jobs than fill the connection; one that hangs up ends it."""
    api = await serve(page_jobs_max=10, page_jobs_default=10)
    for index in range(300):
        await api.backend.enqueue(JobSpec(payload=b'{"a":"%b"}' % (b"x" * 100_000), id=str(index)))
    looked: list[int] = []
    page = api.backend.jobs

    async def counted(wanted: JobFilter) -> tuple[list[Job], int | None]:
        looked.append(wanted.after or 0)
        return await page(wanted)

    with mock.patch.object(api.backend, "jobs", counted):
        wire = await api.site.wire()
        wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        wire._writer.transport.pause_reading()  # type: ignore[attr-defined] # a client that does not read
        wire.send(request("GET", "/simplequeue/jobs"))
        await until(lambda: len(looked) > 1)
        for _ in range(100):
            await asyncio.sleep(0)
        assert len(looked) < 15
        wire._writer.transport.resume_reading()  # type: ignore[attr-defined] # now it does
        answer = await wire.rest()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"Connection: close" in head
    assert b"Content-Length" not in head
    assert [job["jobId"] for job in json.loads(body)] == [str(index) for index in range(300)]


async def test_a_long_list_lets_others_be_served(serve: Serve) -> None:
    """Between its pages whoever asks for less is answered first."""
    simplequeue = Speaker(await serve(page_jobs_max=1, page_jobs_default=1), "/simplequeue")
    for index in range(300):
        await simplequeue.api.backend.enqueue(JobSpec(payload=b"null", id=str(index)))
    order: list[str] = []

    async def ask(path: str) -> None:
        assert (await simplequeue.api.get(f"/simplequeue{path}")).status == 200
        order.append(path)

    await asyncio.gather(ask("/jobs"), ask("/jobs/7"))
    assert order == ["/jobs/7", "/jobs"]


# Completing.


async def test_failed_is_final(simplequeue: Speaker) -> None:
    """No retry, whatever the queue's policy: the job is not handed out again, however long one waits."""
    await running(simplequeue)
    await simplequeue.talk("""
        > POST /jobs/complete {"jobId": "a", "status": "failed"}
        < 200 {"jobId": "a", "state": "failed"}
    """)
    simplequeue.api.clock.advance(86_400)
    await simplequeue.refused("""
        > GET /jobs/next
        < 204
        > GET /jobs/a
        < 200 {"jobId": "a", "state": "failed"}
    """)


async def running(simplequeue: Speaker) -> None:
    """Job `a`, taken."""
    await simplequeue.talk("""
        > POST /jobs/submit {"jobId": "a"}
        < 201 {"jobId": "a", "state": "submitted"}
        > GET /jobs/next
        < 200 {"jobId": "a", "state": "running"}
    """)


async def test_complete_before_next_is_409(simplequeue: Speaker) -> None:
    """A job that nobody runs cannot be finished; it stays submitted."""
    await simplequeue.talk("""
        > POST /jobs/submit {"jobId": "a"}
        < 201 {"jobId": "a", "state": "submitted"}
    """)
    await simplequeue.refused("""
        > POST /jobs/complete {"jobId": "a", "status": "succeeded"}
        < 409 {"error": "job 'a' is submitted; nothing was changed"}
        > GET /jobs/a
        < 200 {"jobId": "a", "state": "submitted"}
    """)


@pytest.mark.parametrize("first", ["succeeded", "failed"])
@pytest.mark.parametrize("second", ["succeeded", "failed"])
async def test_complete_twice_is_409(simplequeue: Speaker, first: str, second: str) -> None:
    """The first end stands."""
    await running(simplequeue)
    await simplequeue.talk(f"""
        > POST /jobs/complete {{"jobId": "a", "status": "{first}"}}
        < 200 {{"jobId": "a", "state": "{first}"}}
    """)
    await simplequeue.refused(f"""
        > POST /jobs/complete {{"jobId": "a", "status": "{second}"}}
        < 409 {{"error": "job 'a' is {first}; nothing was changed"}}
    """)


async def test_completing_at_once_twenty_times_succeeds_once(simplequeue: Speaker) -> None:
    """However many send it, one ends the job and the rest are refused."""
    await running(simplequeue)
    replies = await simplequeue.together('> POST /jobs/complete {"jobId": "a", "status": "succeeded"}', 20)
    assert sorted(reply.status for reply in replies) == [200] + [409] * 19


async def test_two_consumers_racing_for_one_job(simplequeue: Speaker) -> None:
    """Exactly one gets it, again and again."""
    for number in range(10):
        await simplequeue.together(f'> POST /jobs/submit {{"jobId": "{number}"}}', 1)
        replies = await simplequeue.together("> GET /jobs/next", 2)
        assert sorted(reply.status for reply in replies) == [200, 204]
        assert [reply.json["jobId"] for reply in replies if reply.body] == [str(number)]


async def test_a_job_not_completed_in_five_minutes_is_submitted_again(simplequeue: Speaker) -> None:
    """Not a moment before, and ahead of younger jobs; who was late is refused."""
    await running(simplequeue)
    await simplequeue.talk("""
        > POST /jobs/submit {"jobId": "b"}
        < 201 {"jobId": "b", "state": "submitted"}
    """)
    simplequeue.api.clock.advance(299.999)
    await simplequeue.talk("""
        > GET /jobs/a
        < 200 {"jobId": "a", "state": "running"}
    """)
    simplequeue.api.clock.advance(0.001)
    await simplequeue.talk("""
        > POST /jobs/complete {"jobId": "a", "status": "succeeded"}
        < 409 {"error": "job 'a' is submitted; nothing was changed"}
        > GET /jobs/next
        < 200 {"jobId": "a", "state": "running"}
    """)


async def test_a_lease_that_ends_during_a_complete_is_409(simplequeue: Speaker, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the job changes hands between the look at it and its complete, the new consumer keeps it."""
    await running(simplequeue)
    backend = simplequeue.api.backend
    conclude = backend.conclude

    async def later(job_id: str, token: str, verdict: Verdict) -> Job:
        simplequeue.api.clock.advance(300)
        taking = backend.dequeue(Want(), 0)
        async with taking:
            taking.delivered()
        return await conclude(job_id, token, verdict)

    monkeypatch.setattr(backend, "conclude", later)
    await simplequeue.talk("""
        > POST /jobs/complete {"jobId": "a", "status": "succeeded"}
        < 409 {"error": "job 'a' is no longer running; nothing was changed"}
        > GET /jobs/a
        < 200 {"jobId": "a", "state": "running"}
    """)


# Between dialects.


@pytest.mark.parametrize(
    ("payload", "data"), [({"n": 1}, {"n": 1}), (5, {"payload": 5}), ("x", {"payload": "x"}), ([1, {}], {"payload": [1, {}]})]
)
async def test_a_native_payload_is_data_here(api: Api, simplequeue: Speaker, payload: object, data: object) -> None:
    """An object as it is, anything else inside one, since this system's clients expect one."""
    await api.enqueue(payload, id="a", description="d")
    await simplequeue.talk(f"""
        > GET /jobs/next
        < 200 {{"jobId": "a", "state": "running", "description": "d", "data": {json.dumps(data)}}}
        > POST /jobs/complete {{"jobId": "a", "status": "succeeded"}}
        < 200 {{"jobId": "a", "state": "succeeded", "description": "d", "data": {json.dumps(data)}}}
    """)
    assert (await api.job("a"))["outcome"] == "succeeded"


async def test_data_may_begin_with_space(api: Api, simplequeue: Speaker) -> None:
    """A backend takes any JSON text, so an object is known by its first character that is not a space."""
    await api.backend.enqueue(JobSpec(payload=b' \n{"n":1}', id="a"))
    await simplequeue.talk("""
        > GET /jobs/a
        < 200 {"jobId": "a", "state": "submitted", "data": {"n": 1}}
    """)


async def test_every_status_has_its_state(api: Api, simplequeue: Speaker) -> None:
    """A scheduled job is submitted; a cancelled or expired one failed."""
    await api.enqueue(None, id="later", delay=60)
    await api.enqueue(None, id="late", expires_in=1)
    await api.enqueue(None, id="off")
    assert (await api.post("/jobs/off/cancel")).status == 200
    api.clock.advance(1)
    await simplequeue.talk("""
        > GET /jobs
        < 200 [{"jobId": "later", "state": "submitted"}, {"jobId": "late", "state": "failed"}, {"jobId": "off", "state": "failed"}]
        > GET /jobs/next
        < 204
    """)
