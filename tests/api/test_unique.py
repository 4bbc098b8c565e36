"""Unique jobs over HTTP: what is answered, shown and counted."""

from __future__ import annotations

import json
from typing import Any

from .harness import Api, assert_problem


async def put(api: Api, job_id: str, **unique: Any) -> Any:
    """Enqueue a job of the unique key "k"."""
    return await api.send("POST", "/jobs/enqueue", json.dumps({"id": job_id, "payload": job_id, "unique": {"key": "k", **unique}}).encode())


async def test_the_holder_is_answered(api: Api) -> None:
    """200, under its own id, and at its own place."""
    assert (await put(api, "a/b c")).status == 201
    for said in ({"id": "b"}, {}):
        reply = await api.post("/jobs/enqueue", payload=1, **said, unique={"key": "k"})
        assert (reply.status, reply.json["id"], reply.json["created"]) == (200, "a/b c", False)
        assert reply.headers["location"] == "/jobs/-?id=a%2Fb%20c"


async def test_a_refusal_names_the_holder(api: Api) -> None:
    """A program finds it in `job_id`, of a batch's item too."""
    await put(api, "a")
    reply = await put(api, "b", on_conflict="refuse")
    assert_problem(reply, 409, "duplicate", "unique.key")
    assert reply.json["job_id"] == "a"
    item = {"payload": 1, "unique": {"key": "k", "on_conflict": "refuse"}}
    batch = await api.send("POST", "/batch/enqueue", json.dumps({"jobs": [item]}).encode())
    assert batch.json["jobs"][0]["error"]["job_id"] == "a"


async def test_a_job_shows_its_key(api: Api) -> None:
    """Its terms, whether it holds the key, and until when that is held; other jobs have no such field."""
    await put(api, "a", **{"for": 60, "until": "started"})
    shown = (await api.send("GET", "/jobs/a")).json["unique"]
    assert shown == {
        "key": "k",
        "until": "started",
        "for": 60.0,
        "on_conflict": "keep",
        "max_wait": None,
        "holds": True,
        "held_until": "2027-01-15T08:01:00.000Z",
    }
    await api.send("POST", "/jobs/dequeue", b"{}")
    assert (await api.send("GET", "/jobs/a")).json["unique"]["holds"] is False
    await api.send("POST", "/jobs/enqueue", b'{"id":"plain","payload":1}')
    assert "unique" not in (await api.send("GET", "/jobs/plain")).json


async def test_who_follows_says_whom(api: Api) -> None:
    """It is scheduled for no time, and waits for a job by name."""
    await put(api, "a")
    await api.send("POST", "/jobs/dequeue", b'{"worker":"w"}')
    reply = await put(api, "b", on_conflict="follow")
    assert (reply.status, reply.json["status"], reply.json["run_at"]) == (201, "scheduled", None)
    shown = (await api.send("GET", "/jobs/b")).json
    assert shown["waiting_for"] == [{"reason": "unique", "key": "k", "job": "a", "worker": "w"}]
    assert shown["unique"]["holds"] is False


async def test_what_became_of_duplicates_is_counted(api: Api) -> None:
    """By what became of them, and how many keys are held for a time."""
    await put(api, "a", **{"for": 60})
    for how in ("keep", "replace", "refuse", "refuse"):
        await put(api, "b", on_conflict=how)
    text = (await api.send("GET", "/metrics")).body.decode()
    for became, count in {"kept": 1, "replaced": 1, "refused": 2, "followed": 0, "superseded": 0}.items():
        assert f'jobqueue_duplicates_total{{became="{became}"}} {count}.0' in text
    assert "jobqueue_unique_windows 1.0" in text
    assert "jobqueue_unique_windows_limit 1e+06" in text
