"""Ids and names that a proxy or a client would take for a part of a path, and lists that come in pages."""

from __future__ import annotations

import asyncio

import pytest

from jobqueue import AsyncClient, Client
from jobqueue.client.sending import place
from tests.api.harness import start

IDS = ["a/b", ".", "..", "-", "a b", "100%", "%2F", "?id=x&y#z", "a;b", "\\", "é", "plain"]


@pytest.mark.parametrize(
    ("job_id", "path"),
    [
        ("plain", "/jobs/plain/cancel"),
        ("a b", "/jobs/a%20b/cancel"),
        ("é", "/jobs/%C3%A9/cancel"),
        ("-", "/jobs/-/cancel"),
        ("a/b", "/jobs/-/cancel?id=a%2Fb"),
        ("100%", "/jobs/-/cancel?id=100%25"),
        ("..", "/jobs/-/cancel?id=%2E%2E"),
    ],
)
def test_what_is_undone_on_the_way_goes_into_the_query(job_id: str, path: str) -> None:
    """All else stays in the path, which older servers know."""
    assert place("jobs", job_id, "/cancel") == path


async def test_both_clients_reach_every_id() -> None:
    """Looked at, waited for, cancelled and retried, by either client."""
    api = await start()
    url = f"http://{api.site.host}:{api.site.port}"

    def by_the_other() -> None:
        with Client(url) as client:
            for job_id in IDS:
                assert client.job(job_id, wait=0.01).id == job_id
                assert client.retry(job_id).id == job_id

    async with AsyncClient(url) as client:
        for job_id in IDS:
            await client.enqueue(1, id=job_id)
            assert (await client.job(job_id)).id == job_id
            assert (await client.cancel(job_id)).id == job_id
        await asyncio.to_thread(by_the_other)
        leased = await client.dequeue_batch(limit=len(IDS))
        for job in leased:
            assert (await client.extend(job.id, job.lease.token)).id == job.id
            assert (await client.conclude(job.id, job.lease.token, "succeeded", result=1)).id == job.id
    await api.close()


async def test_all_queues_are_listed_page_by_page() -> None:
    """However many pages the server makes of them; their names may be anything that a name may be."""
    api = await start(page_queues_max=2)
    names = [".", "..", "a", "b", "c:d"]
    async with AsyncClient(f"http://{api.site.host}:{api.site.port}") as client:
        for name in names:
            await client.put_queue(name)
        assert [queue.name for queue in await client.queues()] == names
        assert (await client.queue("..")).name == ".."
    await api.close()
