"""Held and streaming requests whose tokens change: each is asked again at once, in every API."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest

from jobqueue.api.access.access import Access
from jobqueue.api.access.auth import Keys
from jobqueue.api.access.grants import Grant, Scope, digest_of, grant
from jobqueue.api.mounts import Mounts
from jobqueue.model import JobSpec

from .conftest import Serve
from .harness import Api, Wire, request, until

BOTH = (Scope.READ, Scope.DEQUEUE)

HELD = {
    "POST /jobs/dequeue": b'{"wait":50,"queue":"mail.in"}',
    "POST /batch/dequeue": b'{"wait":50,"queue":["mail.in","mail.out"]}',
    "GET /jobs/job?wait=50": None,
    "GET /jobs/job/log?wait=50": None,
    "GET /groups/group?wait=50": None,
    "GET /events?queue=mail.in": None,
    "GET /classic/jobs/dequeue?wait=50": None,
    "POST /classic/jobs/dequeue?wait=50": None,
    "GET /simplequeue/jobs/next?wait=50": None,
    "GET /workpool/result/job?wait=50": None,
}
"""One request of every route that may be held or stream."""


def scoped(name: str, *scopes: Scope, queues: Iterable[str] = ()) -> Grant:
    """A token that reads as its name."""
    return grant(name, digest_of(name), scopes, queues)


async def holding(serve: Serve, asked: str, grants: Iterable[Grant]) -> tuple[Api, Keys, Wire]:
    """A server on which the token `old` holds a request open, and a job that nobody takes."""
    known = Keys(grants)
    api = await serve(access=Access(known))
    sent = b'{"payload":1,"id":"job","queue":"mail.waiting"}'
    headers = {"Authorization": "Bearer ops", "Content-Type": "application/json"}
    assert (await api.send("POST", "/jobs/enqueue", sent, headers)).status == 201
    assert (await api.send("POST", "/groups", b'{"id":"group","queue":"mail.in"}', headers)).status == 201
    wire = await api.site.wire()
    method, path = asked.split()
    wire.send(request(method, path, HELD[asked], "Authorization: Bearer old"))
    await until(lambda: len(known.held) == 1)
    return api, known, wire


OPS = scoped("ops", Scope.ADMIN)


def test_every_route_that_may_be_held_is_tried_here() -> None:
    """A route that is held and is not asked again would be one that a revoked token goes on with."""
    routes = [route for route in Mounts().routes([]) if route.held]
    tried = {
        (
            method,
            path.partition("?")[0]
            .replace("/jobs/job", "/jobs/{id}")
            .replace("result/job", "result/{id}")
            .replace("/groups/group", "/groups/{id}"),
        )
        for method, path in map(str.split, HELD)
    }
    assert {(route.method, route.path) for route in routes if route.template != "/jobs"} == tried


@pytest.mark.parametrize("asked", HELD)
async def test_a_revoked_token_is_done_with_at_once(serve: Serve, asked: str) -> None:
    """What waits is 401, what streams ends; neither stands in line afterwards, and nothing is handed to it."""
    api, known, wire = await holding(serve, asked, [scoped("old", *BOTH), OPS])
    known.replace([OPS])
    if "events" in asked:
        assert b"event: " not in await wire.rest()
    else:
        assert (await wire.reply()).status == 401
    stats = api.backend.totals()
    assert (stats.waiters, stats.listeners, stats.leases, known.held) == (0, 0, 0, set())


@pytest.mark.parametrize("asked", HELD)
async def test_a_token_that_may_no_longer_is_done_with_at_once(serve: Serve, asked: str) -> None:
    """Also when its line is still there with fewer scopes, or with other queues."""
    for left in (scoped("old", Scope.ENQUEUE), scoped("old", *BOTH, queues=["sms.*"])):
        api, known, wire = await holding(serve, asked, [scoped("old", *BOTH), OPS])
        known.replace([left, OPS])
        if "events" in asked:
            assert b"event: " not in await wire.rest()
        else:
            assert (await wire.reply()).status == 403
        assert (api.backend.totals().waiters, known.held) == (0, set())


@pytest.mark.parametrize("asked", HELD)
async def test_who_may_still_waits_on(serve: Serve, asked: str) -> None:
    """A file that is read again ends nothing of a token that still allows it, whatever else is in its line."""
    api, known, wire = await holding(serve, asked, [scoped("old", *BOTH), OPS])
    waiting = api.backend.totals().waiters
    known.replace([scoped("old", *BOTH, queues=["mail.*", "default"]), OPS])
    known.replace([scoped("old", *BOTH), OPS, scoped("new", Scope.READ)])
    await asyncio.sleep(0)
    assert (len(known.held), api.backend.totals().waiters) == (1, waiting)
    await wire.close()
    await until(lambda: not known.held)


async def test_a_job_that_was_handed_to_a_revoked_token_goes_to_the_next(serve: Serve) -> None:
    """Handed out and revoked in one turn of the loop: the job is put back, its attempt not counted."""
    api, known, wire = await holding(serve, "POST /jobs/dequeue", [scoped("old", *BOTH), OPS])
    sent = api.backend.enqueue(JobSpec(payload=b"1", queue="mail.in"))
    with pytest.raises(StopIteration):
        sent.send(None)
    known.replace([OPS])
    assert (await wire.reply()).status == 401
    stats = await api.backend.queue("mail.in")
    assert (stats.queued, stats.in_progress) == (1, 0)
