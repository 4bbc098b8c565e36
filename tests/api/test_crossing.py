"""A client that closes while its answer is on the way to it: the job goes back, as if that had been seen before (docs/decisions/0039)."""

from __future__ import annotations

import asyncio
import socket
import sys

import pytest

from jobqueue.model import JobSpec
from tests import servers

from .conftest import Serve
from .harness import Api, answered, request, until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux, whose SIOCOUTQ tells what is not acknowledged")

WAITING = [
    request("POST", "/jobs/dequeue", b'{"wait":20}'),
    request("POST", "/jobs/dequeue?wait=20"),
    request("POST", "/batch/dequeue", b'{"wait":20,"limit":10}'),
    request("POST", "/classic/jobs/dequeue?wait=20"),
    request("GET", "/simplequeue/jobs/next?wait=20"),
]


async def held(api: Api, asked: bytes) -> socket.socket:
    """A client of plain sockets that waits."""
    standing = api.backend.totals().waiters
    client = socket.create_connection((api.site.host, api.site.port))
    client.sendall(asked)
    await until(lambda: api.backend.totals().waiters == standing + 1)
    return client


@pytest.mark.parametrize("asked", WAITING, ids=["one", "query", "batch", "classic", "simplequeue"])
async def test_jobs_whose_answer_crossed_the_end_go_back_at_once(api: Api, asked: bytes) -> None:
    """In their old places, their attempts not counted; the next waiter is handed the first."""
    client = await held(api, asked)
    next_one = None if b"classic" in asked or b"simple" in asked else await api.hold("/jobs/dequeue", wait=20)
    api.site.close_after_the_look(client)
    job = (await api.backend.enqueue(JobSpec(payload=b"1", type="TIME_CRITICAL"))).job
    await until(lambda: api.backend.totals().undelivered_total == 1)
    if next_one is None:
        assert (await api.job(job.id))["attempts"] == 0
        assert api.backend.totals().leases == 0
    else:
        handed = (await answered(next_one)).json
        assert (handed["id"], handed["attempts"]) == (job.id, 1)


async def test_a_whole_batch_goes_back_in_order(api: Api) -> None:
    """All that one answer held."""
    for number in range(3):
        await api.enqueue(number, id=f"j{number}")
    client = socket.create_connection((api.site.host, api.site.port))
    api.site.close_after_the_look(client)
    client.sendall(request("POST", "/batch/dequeue", b'{"wait":0,"limit":3}'))
    await until(lambda: api.backend.totals().undelivered_total == 3)
    jobs = (await api.post("/batch/dequeue", wait=0, limit=10)).json["jobs"]
    assert [(job["id"], job["attempts"]) for job in jobs] == [("j0", 1), ("j1", 1), ("j2", 1)]


async def test_a_client_that_closes_each_connection_after_its_answer_keeps_its_job(api: Api) -> None:
    """As curl does: it concludes by another connection."""
    await api.enqueue(id="j")
    wire = await api.site.wire()
    job = (await wire.ask(request("POST", "/jobs/dequeue", b'{"wait":0}'))).json
    await wire.close()
    await until(lambda: all(connection.idle for connection in api.site.server.open))
    for _ in range(10):
        await asyncio.sleep(0)
    reply = await api.post("/jobs/j/conclude", lease=job["lease"]["token"], outcome="succeeded")
    assert (reply.status, api.backend.totals().undelivered_total) == (200, 0)


async def test_jobs_that_were_handed_out_again_stay(api: Api) -> None:
    """Under an attempt_id an earlier answer may have arrived: the lease decides, as it does where an answer cannot be written."""
    await api.enqueue(id="j")
    token = (await api.take(attempt_id="a"))["lease"]["token"]
    client = socket.create_connection((api.site.host, api.site.port))
    api.site.close_after_the_look(client)
    client.sendall(request("POST", "/jobs/dequeue", b'{"wait":0,"attempt_id":"a"}'))
    await until(lambda: client.fileno() < 0)
    await until(lambda: all(connection.idle for connection in api.site.server.open))
    await servers.settled()
    assert api.backend.totals().undelivered_total == 0
    assert (await api.post("/jobs/j/extend", lease=token)).status == 200


async def test_a_job_taken_by_a_token_goes_back(serve: Serve) -> None:
    """The server gives it back in that token's name."""
    api = await serve(token="t")
    await api.enqueue(id="j")
    client = socket.create_connection((api.site.host, api.site.port))
    api.site.close_after_the_look(client)
    client.sendall(request("POST", "/jobs/dequeue", b'{"wait":0}', "Authorization: Bearer t"))
    await until(lambda: api.backend.totals().undelivered_total == 1)
    assert (await api.job("j"))["status"] == "queued"
