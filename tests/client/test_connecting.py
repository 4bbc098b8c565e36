"""Where a client goes, how it gets in, how long it waits, and whom it can be shared with."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import jobqueue
from jobqueue import AsyncClient, Client, Retrying
from jobqueue.client import async_connections, sync_connections
from jobqueue.testing import server, server_in_thread

from .conftest import Connect
from .rig import DROP, STALL, Face, proxied

TOKEN = "a-token-of-this-test"


async def test_url_and_token_come_from_the_environment(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """JOBQUEUE_URL and JOBQUEUE_TOKEN are used when nothing is given, and arguments win."""
    async with server(token=TOKEN) as url:
        monkeypatch.setenv("JOBQUEUE_URL", url)
        monkeypatch.setenv("JOBQUEUE_TOKEN", TOKEN)
        assert await connect().queues() == []
        with pytest.raises(jobqueue.Unauthorized):
            await connect(token="another").queues()
        with pytest.raises(jobqueue.Unauthorized):
            await connect(token="").queues()
        with pytest.raises(jobqueue.ConnectionFailed):
            await connect("http://127.0.0.1:1").queues()
        assert await connect(token="").ready()
    monkeypatch.setenv("JOBQUEUE_URL", "")
    assert repr(connect().client).endswith(" of http://127.0.0.1:8080>")


async def test_a_client_needs_no_token_where_none_is_asked_for(connect: Connect, url: str) -> None:
    """One that is given is sent as a bearer token; none is sent without one."""
    async with proxied(url) as proxy:
        await connect(proxy.url, TOKEN).queues()
        await connect(proxy.url).queues()
    assert [request.headers.get("authorization") for request in proxy.seen] == [f"Bearer {TOKEN}", None]


async def test_the_token_is_shown_nowhere(connect: Connect) -> None:
    """Neither the client's repr nor an error has it."""
    api = connect("http://127.0.0.1:1", TOKEN)
    with pytest.raises(jobqueue.ConnectionFailed) as raised:
        await api.queues()
    parts: list[Any] = [api.client, raised.value, *vars(api.client).values()]
    assert not [part for part in parts if TOKEN in repr(part)]


@pytest.mark.parametrize("ending", ["", "/"])
async def test_a_base_url_may_have_a_prefix(connect: Connect, url: str, ending: str) -> None:
    """Every path goes behind it, with or without a slash at its end."""
    async with proxied(url, prefix="/in/here") as proxy:
        api = connect(proxy.url + ending)
        made = await api.enqueue(1, id="a/b")
        assert (await api.job("a/b")).id == made.id
    assert [request.target for request in proxy.seen] == ["/in/here/jobs/enqueue", "/in/here/jobs/-?id=a%2Fb"]


@pytest.mark.parametrize(
    "url",
    [
        *("", "localhost:8080", "//a", "ftp://a", "http://", "http://:80", "http://a:x", "http://a:0", "http://a:99999", "http://[::1"),
        *("http://a b", "http://é", "http://user:secret@a", "http://a?x=1", "http://a#b", "http://a/\r\nX: y"),
    ],
)
@pytest.mark.parametrize("kind", [AsyncClient, Client])
def test_what_is_no_base_url_is_refused(kind: type, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, saying where it came from and without repeating a secret."""
    with pytest.raises(ValueError, match=r"^url: ") as raised:
        kind(url)
    assert "secret" not in str(raised.value)
    if url:
        monkeypatch.setenv("JOBQUEUE_URL", url)
        with pytest.raises(ValueError, match=r"^JOBQUEUE_URL: "):
            kind()


@pytest.mark.parametrize("kind", [AsyncClient, Client])
def test_what_is_no_token_or_time_out_is_refused(kind: type, monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, by name, and the token is not repeated."""
    for token in ("two words", "line\nend", "é", "x" * 4_097):
        with pytest.raises(ValueError, match=r"^token: ") as raised:
            kind(token=token)
        assert token not in str(raised.value)
    monkeypatch.setenv("JOBQUEUE_TOKEN", "two words")
    with pytest.raises(ValueError, match=r"^JOBQUEUE_TOKEN: "):
        kind()
    for field in ("timeout", "max_wait"):
        for seconds in (0, -1, float("nan"), float("inf")):
            with pytest.raises(ValueError, match=f"^{field}: "):
                kind(token="", **{field: seconds})


# Time-outs.


def spied(exchange: Callable[..., Any], asked: list[tuple[float, float, float]]) -> Callable[..., Any]:
    """The same, which keeps what was asked: the wait, the seconds for all of it, the seconds to connect."""

    def spy(self: Any, request: Any, seconds: float, connect_seconds: float) -> Any:
        asked.append((request.wait, seconds, connect_seconds))
        return exchange(self, request, seconds, connect_seconds)

    return spy


@pytest.mark.parametrize("wait", [0, 0.5, 20, 55, 300])
async def test_the_time_out_is_longer_than_the_wait(api: Face, monkeypatch: pytest.MonkeyPatch, wait: float) -> None:
    """Whatever the server is asked to hold, the client waits for it and `timeout` longer; connecting has `timeout` alone."""
    asked: list[tuple[float, float, float]] = []
    for connections in (async_connections.Connections, sync_connections.Connections):
        monkeypatch.setattr(connections, "exchange", spied(connections.exchange, asked))
    await api.enqueue_batch([jobqueue.NewJob(1), jobqueue.NewJob(2)])
    asked.clear()
    job = await api.dequeue(wait=wait)
    await api.dequeue_batch(limit=1, wait=wait)
    await api.cancel(job.id)
    await api.conclude(job.id, job.lease.token, "succeeded")
    asked[2:] = []
    await api.job(job.id, wait=wait)
    assert asked == [(min(wait, 55), min(wait, 55) + 10, 10)] * 3


async def test_a_server_that_does_not_answer_is_a_lost_connection(connect: Connect, url: str) -> None:
    """After the time-out the request is given up, and sent again where that is safe."""
    async with proxied(url, STALL, "pass", STALL) as proxy:
        api = connect(proxy.url, timeout=0.2)
        assert (await api.enqueue(1)).created
        with pytest.raises(jobqueue.ConnectionFailed):
            await api.purge("default")
    assert len(proxy.seen) == 3


# Sharing.


async def test_a_client_that_is_closed_says_so(connect: Connect, url: str) -> None:
    """Used or not, once or twice."""
    for used in (True, False):
        api = connect(url)
        if used:
            await api.queues()
        await api.close()
        await api.close()
        with pytest.raises(RuntimeError, match="closed"):
            await api.queues()


async def test_any_number_of_tasks_may_share_an_async_client(url: str) -> None:
    """More dequeues are held than a connector has by default, and none keeps an enqueue waiting."""
    async with AsyncClient(url) as client:
        held = [asyncio.create_task(client.dequeue("q")) for _ in range(150)]
        await client.put_queue("q")
        while (await client.queue("q")).waiters < len(held):
            assert not any(task.done() for task in held)
        await client.enqueue_batch(jobqueue.NewJob(n, queue="q") for n in range(len(held)))
        jobs = await asyncio.gather(*held)
    assert sorted(job.payload for job in jobs if job is not None) == list(range(150))


def test_any_number_of_threads_may_share_a_client() -> None:
    """Each gets the answer to its own request, also when more are held than connections are kept."""
    with server_in_thread() as url, Client(url) as client, ThreadPoolExecutor(80) as threads:
        start = threading.Barrier(80)

        def ask(n: int) -> Any:
            start.wait(10)
            return client.enqueue(n, wait=30)

        asking = [threads.submit(ask, n) for n in range(80)]
        for _ in asking:
            job = client.dequeue()
            assert job is not None
            client.conclude(job.id, job.lease.token, "succeeded", result=job.payload * 10)
        assert [future.result() for future in asking] == [n * 10 for n in range(80)]


def test_a_process_may_fork_with_a_client() -> None:
    """Parent and child go on, each on connections and with ids of its own."""
    program = """
import os, sys, jobqueue
client = jobqueue.Client(sys.argv[1])
client.enqueue(0)
child = os.fork()
for n in range(100):
    made = client.enqueue([os.getpid(), n])
    assert made.created
    assert client.job(made.id).payload == [os.getpid(), n]
if not child:
    client.close()
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
# What of an id is no time, which is the same in both for a moment.
print(len({job.id[14:] for job in client.all_jobs()}))
"""
    with server_in_thread() as url:
        done = subprocess.run([sys.executable, "-W", "error", "-c", program, url], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("201\n", "")


async def test_a_call_that_is_cancelled_leaves_the_client_in_order(url: str) -> None:
    """The connection of a cancelled dequeue is given up, no waiter stays behind, and the next call works."""
    async with AsyncClient(url) as client:
        await client.put_queue("q")
        waiting = asyncio.create_task(client.dequeue("q"))
        while not (await client.queue("q")).waiters:
            assert not waiting.done()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        while (await client.queue("q")).waiters:
            pass
        assert (await client.enqueue(1, queue="q")).created


async def test_pauses_are_slept_by_default(url: str) -> None:
    """Without a sleep of the caller's the clients pause by themselves."""
    quick = Retrying(base=0.001)
    async with proxied(url, DROP, "pass", DROP) as proxy, AsyncClient(proxy.url, retrying=quick) as client:
        assert await client.queues() == []
        assert await asyncio.to_thread(Client(proxy.url, retrying=quick).queues) == []
    assert len(proxy.seen) == 4
