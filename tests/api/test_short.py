"""Batches that are answered in short: `Prefer: return=minimal`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from .harness import NOW, Api, Reply, at, check_problem
from .test_batches import FORGED, taken


async def shortly(api: Api, path: str, preference: str = "return=minimal", **body: Any) -> Reply:
    """POST with a preference."""
    headers = {"Content-Type": "application/json", "Prefer": preference}
    return await api.send("POST", path, json.dumps(body).encode(), headers)


@pytest.mark.parametrize(
    ("preference", "applied"),
    [
        ("return=minimal", True),
        ('RETURN="minimal"', True),
        ("respond-async, return = minimal; foo=1", True),
        ("return=minimal, return=representation", True),
        ("return=representation, return=minimal", False),
        ("return", False),
        ("minimal", False),
        ("", False),
    ],
)
async def test_a_preference_is_read_as_its_rfc_says(api: Api, preference: str, applied: bool) -> None:
    """In any case, among others, quoted, with parameters; the first of one name counts; what says nothing of it changes nothing."""
    reply = await shortly(api, "/batch/enqueue", preference, jobs=[{"id": "j", "payload": 1}])
    assert (reply.status, reply.headers.get("preference-applied")) == (200, "return=minimal" if applied else None)
    assert (reply.json["jobs"] == [{"id": "j"}]) is applied


async def test_preferences_may_come_in_several_headers(api: Api) -> None:
    """They count as one list."""
    body = b'{"jobs":[{"id":"j","payload":1}]}'
    head = f"POST /batch/enqueue HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    wire = await api.site.wire()
    reply = await wire.ask(head.encode() + b"Prefer: wait=5\r\nPrefer: return=minimal\r\n\r\n" + body)
    assert reply.json == {"created_at": NOW, "jobs": [{"id": "j"}]}


async def test_an_enqueue_in_short_has_ids_and_tells_the_rest_whole(api: Api) -> None:
    """Jobs that are made and queued by their ids; those that wait or expire, that were there, and that failed, as ever."""
    await api.enqueue(id="known")
    jobs = [
        {"payload": 1, "id": "a", "type": "t", "key": "k", "tags": ["x"], "priority": 1},
        {"payload": 1, "id": "later", "delay": 9},
        {"payload": 1, "id": "expires", "expires_in": 9},
        {"payload": 1, "id": "known"},
        {"payload": 1, "priority": 99},
        {"payload": 1, "id": "a", "type": "t", "key": "k", "tags": ["x"], "priority": 1},
        {"payload": 1},
    ]
    made, later, expires, known, bad, again, own = (await shortly(api, "/batch/enqueue", jobs=jobs)).json["jobs"]
    assert made == {"id": "a"}
    assert list(own) == ["id"]
    assert (later["status"], later["run_at"], later["created"]) == ("scheduled", at(9), True)
    assert (expires["status"], expires["expires_at"], expires["created"]) == ("queued", at(9), True)
    assert (known["id"], known["created"]) == ("known", False)
    assert (again["id"], again["created"]) == ("a", False)
    check_problem(bad["error"], 400, "bad_request", "priority")
    for job_id in ("a", own["id"]):
        job = await api.job(job_id)
        assert (job["status"], job["created_at"], job["run_at"], job["expires_at"]) == ("queued", NOW, None, None)


async def test_an_enqueue_in_short_says_when_even_if_it_made_nothing(api: Api) -> None:
    """A client reads one shape."""
    for jobs in ([], [{}]):
        reply = await shortly(api, "/batch/enqueue", jobs=jobs)
        assert isinstance(reply.json["created_at"], str)
        assert len(reply.json["jobs"]) == len(jobs)


async def test_an_id_is_encoded_as_the_text_that_it_is(api: Api) -> None:
    """Also in short."""
    job_id = 'a"\\\u00e9'
    reply = await shortly(api, "/batch/enqueue", jobs=[{"id": job_id, "payload": 1}])
    assert reply.json["jobs"] == [{"id": job_id}]


async def test_a_conclude_in_short_tells_what_did_not_come_out_as_said(api: Api) -> None:
    """An end with the outcome that was sent is an id, with attempts and run_at where there were several; a retry and a cancel are whole."""
    tokens = await taken(api, "a", "b", "c", "d")
    await api.post("/jobs/c/cancel")
    await api.post("/jobs/d/release", lease=tokens["d"], delay=9)
    api.clock.advance(9)
    (again,) = (await api.post("/batch/dequeue", wait=0)).json["jobs"]
    await api.post("/jobs/d/conclude", lease=again["lease"]["token"], outcome="failed", retry_delay=5)
    api.clock.advance(5)
    (last,) = (await api.post("/batch/dequeue", wait=0)).json["jobs"]
    jobs = [
        {"id": "a", "lease": tokens["a"], "outcome": "succeeded", "result": 1},
        {"id": "a", "lease": tokens["a"], "outcome": "succeeded", "result": 1},
        {"id": "b", "lease": tokens["b"], "outcome": "failed", "retry_delay": 5},
        {"id": "c", "lease": tokens["c"], "outcome": "succeeded"},
        {"id": "d", "lease": last["lease"]["token"], "outcome": "failed", "retry": False},
        {"id": "none", "lease": FORGED, "outcome": "succeeded"},
    ]
    reply = await shortly(api, "/batch/conclude", jobs=jobs)
    assert reply.headers["preference-applied"] == "return=minimal"
    a, repeat, b, c, d, none = reply.json["jobs"]
    assert a == repeat == {"id": "a"}
    assert b == {"id": "b", "status": "scheduled", "outcome": None, "attempts": 1, "run_at": at(19)}
    assert c == {"id": "c", "status": "concluded", "outcome": "cancelled", "attempts": 1, "run_at": None}
    assert d == {"id": "d", "attempts": 2, "run_at": at(14)}
    check_problem(none["error"], 404, "unknown_job")
    whole = (await api.post("/batch/conclude", jobs=[jobs[4]])).json["jobs"][0]
    assert whole == {"id": "d", "status": "concluded", "outcome": "failed", "attempts": 2, "run_at": at(14)}


async def test_a_release_in_short_tells_what_has_ended(api: Api) -> None:
    """A job that waits again is an id, with the time where it waits for one; one that was to be cancelled is whole."""
    tokens = await taken(api, "a", "b", "c")
    await api.post("/jobs/c/cancel")
    jobs = [
        {"id": "a", "lease": tokens["a"]},
        {"id": "b", "lease": tokens["b"], "delay": 9},
        {"id": "c", "lease": tokens["c"]},
        {"id": "a", "lease": tokens["a"]},
    ]
    a, b, c, lost = (await shortly(api, "/batch/release", jobs=jobs)).json["jobs"]
    assert (a, b) == ({"id": "a"}, {"id": "b", "run_at": at(9)})
    assert (c["status"], c["outcome"]) == ("concluded", "cancelled")
    check_problem(lost["error"], 409, "lease_lost")


async def test_a_batch_that_waits_for_its_storage_is_answered_in_short_too(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that is held lets go of its headers, and what it prefers is known by then."""
    tokens = await taken(api, "a", "b")

    def late(operation: Callable[[Any], Awaitable[Any]]) -> Callable[[Any], Awaitable[Any]]:
        async def asked(items: Any) -> Any:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            return await operation(items)

        return asked

    for name in ("enqueue_batch", "conclude_batch", "release_batch"):
        monkeypatch.setattr(api.backend, name, late(getattr(api.backend, name)))
    for path, item in (
        ("/batch/enqueue", {"payload": 1, "id": "c"}),
        ("/batch/conclude", {"id": "a", "lease": tokens["a"], "outcome": "succeeded"}),
        ("/batch/release", {"id": "b", "lease": tokens["b"]}),
    ):
        reply = await shortly(api, path, jobs=[item])
        assert (reply.headers.get("preference-applied"), reply.json["jobs"]) == ("return=minimal", [{"id": item["id"]}])


async def test_other_answers_know_no_short_form(api: Api) -> None:
    """A batch of extends, a single enqueue and an error do not say that they are short."""
    tokens = await taken(api, "a")
    for path, body in (
        ("/batch/extend", {"jobs": [{"id": "a", "lease": tokens["a"]}]}),
        ("/jobs/enqueue", {"payload": 1}),
        ("/batch/enqueue", {"jobs": 1}),
    ):
        assert "preference-applied" not in (await shortly(api, path, **body)).headers
