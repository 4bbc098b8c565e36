"""Whose an attempt_id is, by HTTP: it takes the same worker and the same token to be answered its jobs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from jobqueue.api.access.access import Access
from jobqueue.api.access.auth import Keys
from jobqueue.api.access.grants import Scope, digest_of, grant

from .conftest import Serve
from .harness import Api, Reply, answered

PATTERNS = {"restricted": {"one": ("mail.*",), "two": ("sms.*",)}, "not restricted": {"one": (), "two": ()}}


@pytest.fixture(params=sorted(PATTERNS))
async def api(serve: Serve, request: pytest.FixtureRequest) -> Api:
    held = PATTERNS[request.param]
    return await serve(access=Access(Keys([grant(name, digest_of(name), [Scope.ADMIN], queues) for name, queues in held.items()])))


async def ask(api: Api, token: str, path: str, body: Any) -> Reply:
    return await api.send("POST", path, json.dumps(body).encode(), {"Authorization": f"Bearer {token}"})


async def test_a_token_does_not_end_anothers_wait(api: Api) -> None:
    """Token two names the attempt_id and the worker of a dequeue that token one holds: that one goes on waiting, and is handed its job."""
    api._session.headers.update({"Authorization": "Bearer one"})
    held = await api.hold("/jobs/dequeue", queue="mail.x", attempt_id="x", worker="w")
    reply = await ask(api, "two", "/jobs/dequeue", {"queue": "sms.x", "attempt_id": "x", "worker": "w", "wait": 0})
    assert reply.status == 204
    assert (await ask(api, "one", "/jobs/enqueue", {"payload": 1, "queue": "mail.x", "id": "m"})).status == 201
    assert (await answered(held)).json["id"] == "m"


@pytest.mark.parametrize("path", ["/jobs/dequeue", "/batch/dequeue"])
async def test_a_token_is_not_answered_anothers_jobs(api: Api, path: str) -> None:
    """Whatever it asks for under the attempt_id and worker of another token's dequeue; that one is answered its own again."""
    for token, queue in (("one", "mail.x"), ("two", "sms.x")):
        assert (await ask(api, token, "/jobs/enqueue", {"payload": 1, "queue": queue})).status == 201

    async def take(token: str, *queues: str) -> Any:
        reply = await ask(api, token, path, {"queue": list(queues), "attempt_id": "x", "worker": "w", "wait": 0})
        if path.startswith("/jobs"):
            return reply.json if reply.status == 200 else None
        return (reply.json["jobs"] or [None])[0]

    mail = await take("one", "mail.x")
    sms = await take("two", "sms.x")
    assert (mail["queue"], sms["queue"]) == ("mail.x", "sms.x")
    assert (await take("one", "mail.x"))["lease"] == mail["lease"]
    assert (await take("two", "sms.x"))["lease"] == sms["lease"]
