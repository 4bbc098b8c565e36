"""Several partitions behind the whole application: what clients see of them, over sockets, on each way of serving."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from jobqueue.api.app import build_app
from jobqueue.backend.base import Backend
from jobqueue.backend.store.partitioned import PartitionedBackend
from jobqueue.limits import Limits
from jobqueue.partition import partition_of
from tests import ways
from tests.api.harness import GUARD, Reply, Site, Wire, assert_problem, request, until
from tests.conformance.partitioned import COUNT, PartitionedRig

A, B, C = ({partition_of(f"q{number}", COUNT): f"q{number}" for number in range(100)}[index] for index in range(COUNT))
"""A queue in each partition."""


class Served:
    """A server over three partitions, and a connection to it."""

    def __init__(self, backend: PartitionedBackend, site: Site, wire: Wire) -> None:
        self.backend = backend
        self.site = site
        self.wire = wire

    async def ask(self, method: str, path: str, **body: Any) -> Reply:
        return await self.wire.ask(request(method, path, json.dumps(body).encode() if body else None))


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    """A server over three partitions in one process, without tokens."""
    backend = cast(PartitionedBackend, PartitionedRig(Limits()).backend)
    app = build_app(cast(Backend, backend), Limits())
    site = await Site.start(ways.server(app, idle_seconds=60.0, write_seconds=GUARD))
    yield Served(backend, site, await site.wire())
    app.drain()
    await site.close()
    await backend.close()


async def test_the_life_of_a_job_in_each_partition(served: Served) -> None:
    """Whoever chose the id; a worker that takes jobs of all three queues finishes them all."""
    for number, queue in enumerate((A, B, C)):
        assert (await served.ask("POST", "/jobs/enqueue", id=f"j{number}", queue=queue, payload=1)).status == 201
        assert (await served.ask("POST", "/jobs/enqueue", queue=queue, payload=2)).status == 201
    for _ in range(6):
        job = (await served.ask("POST", "/jobs/dequeue", queue=[C, B, A], wait=5)).json
        ended = await served.ask("POST", f"/jobs/{job['id']}/conclude", lease=job["lease"]["token"], outcome="succeeded")
        assert ended.status == 200
    assert (await served.ask("GET", "/stats")).status == 200
    assert (await served.backend.stats()).jobs_live == 0


async def test_a_held_dequeue_of_all_queues_wakes(served: Served) -> None:
    """For a job of any partition."""
    worker = await served.site.wire()
    for queue in (B, C, A):
        worker.send(request("POST", "/jobs/dequeue", json.dumps({"queue": [A, B, C], "wait": 50}).encode()))
        await until(lambda: sum(local.totals().waiters for local in served.backend.backends) == COUNT)  # type: ignore[attr-defined]
        await served.ask("POST", "/jobs/enqueue", queue=queue, payload=1)
        assert (await worker.reply()).json["queue"] == queue


async def test_a_worker_that_hangs_up_stands_nowhere(served: Served) -> None:
    """Its places in all partitions are free."""
    worker = await served.site.wire()
    worker.send(request("POST", "/jobs/dequeue", json.dumps({"queue": [A, B, C], "wait": 50}).encode()))
    await until(lambda: sum(local.totals().waiters for local in served.backend.backends) == COUNT)  # type: ignore[attr-defined]
    await worker.close()
    await until(lambda: sum(local.totals().waiters for local in served.backend.backends) == 0)  # type: ignore[attr-defined]


async def test_pages_of_jobs_have_cursors_of_text(served: Served) -> None:
    """Of all queues; a list of one queue has numbers, as with one partition."""
    for queue in (A, B, C, A):
        await served.ask("POST", "/jobs/enqueue", queue=queue, payload=1)
    seen, cursor = [], ""
    while True:
        page = (await served.ask("GET", f"/jobs?limit=2{cursor}")).json
        seen += [job["id"] for job in page["jobs"]]
        if page["cursor"] is None:
            break
        assert isinstance(page["cursor"], str)
        cursor = f"&cursor={page['cursor']}"
    assert len(set(seen)) == len(seen) == 4
    page = (await served.ask("GET", f"/jobs?limit=1&queue={A}")).json
    assert isinstance(page["cursor"], int)
    assert len((await served.ask("GET", f"/jobs?queue={A}&cursor={page['cursor']}")).json["jobs"]) == 1
    for wrong in ("1.2", "x", "1.2.3.4"):
        assert_problem(await served.ask("GET", f"/jobs?cursor={wrong}"), 400, "bad_request", "cursor")


async def test_what_joins_partitions_is_not_supported(served: Served) -> None:
    """501, with the field; in a batch as the error of its item."""
    assert_problem(await served.ask("PUT", f"/queues/{A}", dead_letter=B), 501, "unsupported", "dead_letter")
    await served.ask("POST", "/jobs/enqueue", id="parent", queue=A, payload=1)
    assert_problem(await served.ask("POST", "/jobs/enqueue", queue=B, payload=1, after=["parent"]), 501, "unsupported", "after")
    assert_problem(await served.ask("PATCH", "/jobs/parent", queue=B), 501, "unsupported", "queue")
    items = [{"queue": B, "payload": 1, "after": ["parent"]}, {"queue": B, "payload": 1}]
    replies = (await served.ask("POST", "/batch/enqueue", jobs=items)).json["jobs"]
    assert [reply.get("error", {}).get("code") for reply in replies] == ["unsupported", None]


async def test_the_dialects_list_all_jobs(served: Served) -> None:
    """Page by page, where a dialect lists them."""
    for queue in (A, B, C):
        await served.ask("POST", "/jobs/enqueue", queue=queue, payload=1)
    assert len((await served.ask("GET", "/simplequeue/jobs")).json) == 3
