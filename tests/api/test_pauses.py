"""Who paused a queue, a key or a schedule, and when, as the API says it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from jobqueue.api.access.access import Access
from jobqueue.api.access.auth import Keys
from jobqueue.api.access.grants import Scope, digest_of, grant

from .conftest import Serve
from .harness import Api


async def call(api: Api, method: str, path: str, who: str, body: object = None) -> Any:
    """What a token is answered."""
    reply = await api.send(method, path, None if body is None else json.dumps(body).encode(), {"Authorization": f"Bearer {who}"})
    assert reply.status == 200, reply
    return reply.json


@pytest.fixture
async def guarded(serve: Serve) -> Api:
    """A server that knows two tokens, of which one holds for some queues only."""
    held = {"ann": (), "ben": ("mail*",)}
    api = await serve(access=Access(Keys([grant(name, digest_of(name), [Scope.ADMIN], queues) for name, queues in held.items()])))
    await call(api, "PUT", "/queues/mail", "ann", {})
    return api


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [("POST", "/queues/mail/pause", None), ("PUT", "/queues/mail", {"paused": True}), ("PATCH", "/queues/mail", {"paused": True})],
)
async def test_a_pause_names_its_token(guarded: Api, method: str, path: str, body: object) -> None:
    """By whichever operation; a second pause changes nothing, and resuming forgets it."""
    first = await call(guarded, method, path, "ben", body)
    assert first["paused_by"] == "ben"
    assert first["paused_at"] == first["modified_at"]
    again = await call(guarded, "POST", "/queues/mail/pause", "ann")
    assert (again["paused_at"], again["paused_by"]) == (first["paused_at"], "ben")
    on = await call(guarded, "POST", "/queues/mail/resume", "ann")
    assert (on["paused_at"], on["paused_by"]) == (None, None)


async def test_a_key_names_its_token(guarded: Api) -> None:
    """In the answer and in the list."""
    await call(guarded, "PATCH", "/queues/mail", "ann", {"per_key": {"order": "fifo"}})
    key = await call(guarded, "POST", "/queues/mail/keys/acme/pause", "ben")
    assert (key["paused_by"], key["paused_at"] is None) == ("ben", False)
    assert (await call(guarded, "GET", "/queues/mail/keys", "ann"))["keys"] == [key]
    on = await call(guarded, "POST", "/queues/mail/keys/acme/resume", "ann")
    assert (on["paused_at"], on["paused_by"]) == (None, None)


async def test_a_schedule_names_its_token(guarded: Api) -> None:
    """Made so, or paused later."""
    body = {"job": {"payload": 1, "queue": "mail"}, "every": 3600, "paused": True}
    made = await call(guarded, "PUT", "/schedules/s", "ann", body)
    assert made["paused_by"] == "ann"
    on = await call(guarded, "POST", "/schedules/s/resume", "ann")
    assert (on["paused_at"], on["paused_by"]) == (None, None)
    again = await call(guarded, "POST", "/schedules/s/pause", "ben")
    assert again["paused_by"] == "ben"


async def test_without_tokens_there_is_a_time_and_no_name(api: Api) -> None:
    """Nobody is asked for one, so nobody is named."""
    await api.put("/queues/q")
    found = (await api.post("/queues/q/pause")).json
    assert (found["paused_at"] is None, found["paused_by"]) == (False, None)
