"""How the clients use connections: kept and closed, over TLS and through proxies, one name and several addresses."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator

import pytest
import trustme

import jobqueue
from jobqueue import AsyncClient, Retrying
from jobqueue.client import async_connections, sync_connections

from .conftest import Connect
from .rig import DROP, GUARD, PASS, STALL, canned, closed, proxied

ONCE = Retrying(tries=1)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
PLAIN = HEAD + b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 13\r\n\r\n" + b'{"queues":[]}'


@contextlib.asynccontextmanager
async def speaking(*answers: bytes, context: ssl.SSLContext | None = None) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that says this when a connection has asked something, and closes it after that; its URL, and what was asked."""
    asked: list[bytes] = []
    serving: list[asyncio.Task[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            asked.append(await reader.readuntil(b"\r\n\r\n"))
            for answer in answers:
                writer.write(answer)
                await writer.drain()
        finally:
            await closed(writer)

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.append(asyncio.create_task(serve(reader, writer)))

    listener = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context)
    try:
        yield f"http{'s' if context else ''}://127.0.0.1:{listener.sockets[0].getsockname()[1]}", asked
    finally:
        listener.close()
        await asyncio.gather(*serving)


async def test_an_answer_that_stops_half_way_is_given_up(url: str) -> None:
    """After the time-out, and the next call has a connection of its own."""
    async with proxied(url, PLAIN[:-1]) as proxy, AsyncClient(proxy.url, timeout=0.2, retrying=ONCE) as client:
        with pytest.raises(jobqueue.ConnectionFailed, match="Timeout on reading"):
            await client.queues()
        assert await client.queues() == []
        assert len(proxy.serving) == 2


async def test_a_connection_is_kept_until_an_answer_ends_it(url: str) -> None:
    """Calls one after the other share one; a call that is cancelled takes its own away."""
    plan = (PASS, PASS, canned(200, b'{"queues":[]}', "Connection: close"), PASS, STALL)
    async with proxied(url, *plan) as proxy, AsyncClient(proxy.url, retrying=ONCE) as client, AsyncClient(url) as other:
        for _ in range(3):
            await client.queues()
        assert len(proxy.serving) == 1
        await client.queues()
        assert len(proxy.serving) == 2
        cancelled = asyncio.create_task(client.queues())
        while len(proxy.seen) < 5:
            await other.queues()
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        await client.queues()
        assert len(proxy.serving) == 3


async def test_a_connection_that_nobody_uses_is_closed(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while, so that it is not kept for ever and not found closed by the other side."""
    monkeypatch.setattr(connections, "IDLE_SECONDS", 0.001)
    async with proxied(url) as proxy, AsyncClient(proxy.url) as client:
        await asyncio.gather(*(client.queues() for _ in range(3)))
        async with asyncio.timeout(GUARD):
            await asyncio.gather(*proxy.serving)
        assert len(proxy.serving) == 3
        await client.queues()
        assert len(proxy.serving) == 4


async def test_a_connection_that_the_server_closed_is_replaced(url: str) -> None:
    """An answer may be the last without saying so; the call that finds out is sent again."""
    async with proxied(url, PASS, DROP) as proxy, AsyncClient(proxy.url, retrying=Retrying(base=0.001)) as client:
        for _ in range(3):
            await client.queues()
        assert len(proxy.serving) == 2
        assert len(proxy.seen) == 4


async def test_requests_are_what_a_session_of_aiohttp_sends(url: str) -> None:
    """The same lines, and a length wherever there may be a body."""
    async with proxied(url) as proxy, AsyncClient(proxy.url, "a-token") as client:
        await client.queues()
        await client.enqueue(1)
        with contextlib.suppress(jobqueue.QueueError):
            await client.cancel("x")
        with contextlib.suppress(jobqueue.QueueError):
            await client.delete_queue("x")
    host = proxy.url.removeprefix("http://")
    every = {
        "host": host,
        "accept": "*/*",
        "accept-encoding": "gzip, deflate",
        "authorization": "Bearer a-token",
        "content-type": "application/json",
        "user-agent": f"jobqueue-client/{jobqueue.__version__}",
    }
    lengths = [None, str(len(proxy.seen[1].body)), "0", "0"]
    assert [request.headers for request in proxy.seen] == [every | ({"content-length": n} if n else {}) for n in lengths]


async def test_calls_over_tls_are_answered_too() -> None:
    """With a certificate that the context trusts; another is a connection that failed."""
    authority = trustme.CA()
    context, trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.configure_trust(trusting)
    async with speaking(PLAIN[:50], PLAIN[50:], context=context) as (url, asked):
        async with AsyncClient(url, ssl_context=trusting, retrying=ONCE) as client:
            assert await client.queues() == []
            assert asked[0].startswith(b"GET /queues HTTP/1.1\r\nHost: 127.0.0.1:")
        async with AsyncClient(url, retrying=ONCE) as client:
            with pytest.raises(jobqueue.ConnectionFailed, match=r"(?i)certificate"):
                await client.queues()


async def test_closing_a_client_ends_its_calls(url: str) -> None:
    """One that is held fails, and is not tried again."""
    async with AsyncClient(url) as client, AsyncClient(url) as other:
        await other.put_queue("q")
        held = asyncio.create_task(client.dequeue("q"))
        while not (await other.queue("q")).waiters:
            assert not held.done()
        await client.close()
        with pytest.raises(RuntimeError, match="closed"):
            await held
