"""How the clients use connections: kept and closed, over TLS, to a name with several addresses."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import trustme

import jobqueue
from jobqueue import AsyncClient, Retrying
from jobqueue.client import async_connections, sync_connections
from jobqueue.testing import server

from .conftest import Connect
from .rig import DROP, GUARD, PASS, STALL, canned, closed, proxied

ONCE = Retrying(tries=1)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
PLAIN = HEAD + b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 13\r\n\r\n" + b'{"queues":[]}'


@contextlib.asynccontextmanager
async def speaking(
    *answers: bytes, context: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[tuple[str, list[bytes]]]:
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

    listener = await asyncio.start_server(accept, host, 0, ssl=context)
    try:
        yield f"http{'s' if context else ''}://127.0.0.1:{listener.sockets[0].getsockname()[1]}", asked
    finally:
        listener.close()
        await asyncio.gather(*serving, return_exceptions=True)


async def test_an_answer_that_stops_half_way_is_given_up(connect: Connect, url: str) -> None:
    """After the time-out, and the next call has a connection of its own."""
    async with proxied(url, PLAIN[:-1]) as proxy:
        api = connect(proxy.url, timeout=0.2, retrying=ONCE)
        with pytest.raises(jobqueue.ConnectionFailed, match="time"):
            await api.queues()
        assert await api.queues() == []
        assert len(proxy.serving) == 2


async def test_a_connection_is_kept_until_an_answer_ends_it(connect: Connect, url: str) -> None:
    """Calls one after the other share one."""
    plan = (PASS, PASS, canned(200, b'{"queues":[]}', "Connection: close"), PASS)
    async with proxied(url, *plan) as proxy:
        api = connect(proxy.url, retrying=ONCE)
        for _ in range(3):
            await api.queues()
        assert len(proxy.serving) == 1
        await api.queues()
        assert len(proxy.serving) == 2


async def test_a_call_that_is_cancelled_takes_its_connection_away(url: str) -> None:
    """Its answer may still be on its way; the next call has another."""
    async with proxied(url, PASS, STALL) as proxy, AsyncClient(proxy.url, retrying=ONCE) as client, AsyncClient(url) as other:
        await client.queues()
        cancelled = asyncio.create_task(client.queues())
        while len(proxy.seen) < 2:
            await other.queues()
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        await client.queues()
        assert len(proxy.serving) == 2


@pytest.mark.parametrize("uses", [1, 3])
async def test_a_connection_that_nobody_uses_is_closed(connect: Connect, url: str, monkeypatch: pytest.MonkeyPatch, uses: int) -> None:
    """After a while, so that it is not found closed by the other side. Client looks when it uses another, AsyncClient by a timer."""
    async with proxied(url) as proxy:
        api = connect(proxy.url)
        await asyncio.gather(*(api.queues() for _ in range(uses)))
        made = len(proxy.serving)
        first = set(proxy.serving)
        monkeypatch.setattr(sync_connections, "IDLE_SECONDS", -1.0)
        monkeypatch.setattr(async_connections, "IDLE_SECONDS", -1.0)
        await api.queues()
        assert len(proxy.serving) == made + 1
        async with asyncio.timeout(GUARD):
            await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)


async def test_a_connection_that_grew_old_is_closed_by_itself(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """AsyncClient needs no other call for it."""
    monkeypatch.setattr(async_connections, "IDLE_SECONDS", 0.001)
    async with proxied(url) as proxy, AsyncClient(proxy.url) as client:
        await asyncio.gather(*(client.queues() for _ in range(3)))
        async with asyncio.timeout(GUARD):
            await asyncio.gather(*proxy.serving)
        assert len(proxy.serving) == 3


async def test_a_connection_that_the_server_closed_is_replaced(connect: Connect, url: str) -> None:
    """An answer may be the last without saying so; the call that finds out is sent again."""
    async with proxied(url, PASS, DROP) as proxy:
        api = connect(proxy.url)
        for _ in range(3):
            await api.queues()
        assert len(proxy.serving) == 2
        assert len(proxy.seen) == 4


async def test_a_connection_that_was_closed_while_nobody_used_it_takes_no_request(connect: Connect, url: str) -> None:
    """It is seen before something is sent, so that also what may not be repeated works after a restart."""
    async with proxied(url) as proxy:
        api = connect(proxy.url)
        await api.put_queue("q")
        for task in proxy.serving:
            task.cancel()
        await asyncio.gather(*proxy.serving, return_exceptions=True)
        assert await api.purge("q") == 0
        assert [request.target for request in proxy.seen] == ["/queues/q", "/queues/q/purge"]


async def test_both_clients_send_the_same_lines(connect: Connect, url: str) -> None:
    """Few of them, and a length wherever there may be a body."""
    async with proxied(url) as proxy:
        api = connect(proxy.url, "a-token")
        await api.queues()
        await api.enqueue(1)
        for operation in ("cancel", "delete_queue"):
            with contextlib.suppress(jobqueue.QueueError):
                await getattr(api, operation)("x")
    every = {
        "host": proxy.url.removeprefix("http://"),
        "accept-encoding": "gzip",
        "authorization": "Bearer a-token",
        "content-type": "application/json",
        "user-agent": f"jobqueue-client/{jobqueue.__version__}",
    }
    lengths = [None, str(len(proxy.seen[1].body)), "0", "0"]
    assert [request.headers for request in proxy.seen] == [every | ({"content-length": n} if n else {}) for n in lengths]


async def test_calls_over_tls_are_answered_too(connect: Connect) -> None:
    """With a certificate that the context trusts; another is a connection that failed, and one of another name too."""
    authority = trustme.CA()
    context, trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.configure_trust(trusting)
    async with speaking(PLAIN[:50], PLAIN[50:], context=context) as (url, asked):
        api = connect(url, ssl_context=trusting, retrying=ONCE)
        assert await api.queues() == []
        await api.close()  # the server waits for the end of its TLS
        assert asked[0].startswith(b"GET /queues HTTP/1.1\r\nHost: 127.0.0.1:")
        for other in (connect(url, retrying=ONCE), connect(url.replace("127.0.0.1", "localhost"), ssl_context=trusting, retrying=ONCE)):
            with pytest.raises(jobqueue.ConnectionFailed, match=r"(?i)certificate") as raised:
                await other.queues()
            assert raised.value.sent is False


async def test_a_body_that_ends_with_tls_alone_is_whole_by_what_it_says(connect: Connect) -> None:
    """An answer without a length, whose end somebody else may have made, is taken if its JSON is whole, and else refused."""
    authority = trustme.CA()
    context, trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.configure_trust(trusting)
    async with speaking(HEAD + b"\r\n", PLAIN[-13:-1], context=context) as (url, _):
        with pytest.raises((jobqueue.UnexpectedAnswer, jobqueue.ConnectionFailed)):
            await connect(url, ssl_context=trusting, retrying=ONCE).queues()


async def test_large_bodies_pass_over_tls_both_ways(connect: Connect, tmp_path: Path) -> None:
    """More than a socket or a TLS record holds at once."""
    authority = trustme.CA()
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "pem"))
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with server(tls_cert=str(tmp_path / "pem"), tls_key=str(tmp_path / "pem")) as url:
        api = connect(url.replace("http:", "https:"), ssl_context=trusting)
        payload = "x" * 200_000
        made = await api.enqueue_batch([jobqueue.NewJob(payload) for _ in range(4)])
        assert [job.payload == payload for job in await api.dequeue_batch(limit=10)] == [True] * len(made)


async def test_every_address_of_a_name_is_tried(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """One after the other, until one is there; a name that has none is a connection that failed, and nothing was sent."""
    real = socket.getaddrinfo

    def look_up(host: str, port: int, *args: Any, **options: Any) -> Any:
        if host == "queue.test" and not options.get("flags"):
            return [*real("127.0.0.2", 1, type=socket.SOCK_STREAM), *real("127.0.0.1", port, type=socket.SOCK_STREAM)]
        if host.endswith(".test"):
            raise socket.gaierror(-2, "Name or service not known")
        return real(host, port, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    async with speaking(PLAIN) as (url, asked):
        port = int(url.rpartition(":")[2])
        assert await connect(f"http://queue.test:{port}").queues() == []
        assert f"Host: queue.test:{port}\r\n".encode() in asked[0]
    with pytest.raises(jobqueue.ConnectionFailed, match=r"nobody\.test: .*not known") as raised:
        await connect(f"http://nobody.test:{port}", retrying=ONCE).queues()
    assert raised.value.sent is False


@pytest.mark.skipif(not socket.has_ipv6, reason="needs IPv6")
async def test_an_ipv6_address_stands_in_brackets(connect: Connect) -> None:
    """In the URL and in the Host line; a zone is for this machine alone."""
    async with speaking(PLAIN, host="::1") as (url, asked):
        port = url.rpartition(":")[2]
        assert await connect(f"http://[::1]:{port}").queues() == []
        assert f"Host: [::1]:{port}\r\n".encode() in asked[0]


async def test_names_are_looked_up_beside_a_full_executor(url: str) -> None:
    """A program that keeps every thread of its loop's executor busy does not keep its client from its server."""
    loop = asyncio.get_running_loop()
    free = threading.Event()
    executor = ThreadPoolExecutor(1)
    loop.set_default_executor(executor)
    busy = loop.run_in_executor(None, free.wait, GUARD)
    try:
        async with AsyncClient(url.replace("127.0.0.1", "localhost"), retrying=ONCE) as client:
            assert await client.queues() == []
    finally:
        free.set()
        await busy


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
