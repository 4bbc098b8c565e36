"""How AsyncClient's calls pass over connections: whole and in pieces, kept and closed, and what is not an answer."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import ssl
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trustme
from aiohttp import ServerDisconnectedError

import jobqueue
from jobqueue import AsyncClient, Retrying
from jobqueue.client import connections
from jobqueue.client.connections import HEAD_BYTES_MAX, HEADS_MAX, Connection, Heads
from jobqueue.client.problems import Answer

from .rig import DROP, GUARD, PASS, STALL, canned, closed, proxied

ONCE = Retrying(tries=1)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
PLAIN = HEAD + b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 13\r\n\r\n" + b'{"queues":[]}'
ZIPPED = gzip.compress(b'{"queues":[]}')

ANSWERS = {
    "plain": PLAIN,
    "in lower case": PLAIN.replace(b"Content-Length", b"content-length"),
    "without a body": b"HTTP/1.1 204 No Content\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n",
    "empty": HEAD + b"Content-Length: 0\r\n\r\n",
    "chunked": HEAD + b'Transfer-Encoding: chunked\r\n\r\n6\r\n{"queu\r\n7;x=y\r\nes":[]}\r\n0\r\nTrailer: x\r\n\r\n',
    "compressed": HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s" % (len(ZIPPED), ZIPPED),
    "after another that is not the last word": b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + PLAIN,
    "with lines that end in LF alone": b'HTTP/1.1 200 OK\nContent-Length: 13\n\n{"queues":[]}',
    "a problem": b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7\r\nContent-Length: 2\r\n\r\n{}",
    "of HTTP/1.0": b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\n{}",
}


class Wire(asyncio.Transport):
    """The other end of a Connection: keeps what is written, says what it is told."""

    def __init__(self, heads: Heads) -> None:
        super().__init__()
        self.connection = Connection(heads, asyncio.get_running_loop())
        self.written = b""
        self.unsent = 0
        self.gone = False
        self.connection.connection_made(self)

    def write(self, data: Any) -> None:
        self.written += data

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert (high, low) == (0, None)

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def is_closing(self) -> bool:
        return self.gone

    def close(self) -> None:
        self.gone = True

    def abort(self) -> None:
        self.gone = True

    async def answered(self, *pieces: bytes, ended: bool = False) -> Answer:
        """What the connection makes of these pieces, as the answer to a request."""
        exchange = asyncio.ensure_future(self.connection.exchange(b"GET", GUARD))
        await asyncio.sleep(0)
        for piece in pieces:
            self.connection.data_received(piece)
            await asyncio.sleep(0)
        if ended:
            self.connection.connection_lost(None)
        async with asyncio.timeout(GUARD):
            return await exchange

    @property
    def is_of_use(self) -> bool:
        return not (self.gone or self.connection.should_close)


# Reading.


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
async def test_an_answer_is_the_same_however_it_comes(answer: bytes) -> None:
    """In one piece, cut in two anywhere, byte by byte, and all that again with its head met before."""
    body = b'{"queues":[]}' if b"queu" in answer or ZIPPED in answer else b"{}" if answer.endswith(b"{}") else b""
    wire = Wire(Heads())
    first = await wire.answered(answer)
    assert first.body == body
    cuts = [[answer], [bytes([byte]) for byte in answer], *([answer[:at], answer[at:]] for at in range(1, len(answer)))]
    for pieces in cuts:
        again = await wire.answered(*pieces)
        assert (again.status, again.body, again.headers.get("Retry-After")) == (first.status, body, first.headers.get("Retry-After"))
        assert wire.is_of_use


async def test_a_head_that_was_met_before_is_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though its date, its place and its length are others; one that differs otherwise is parsed."""
    parsed: list[bytes] = []
    parse = Connection.set_response_params
    monkeypatch.setattr(Connection, "set_response_params", lambda self, **options: (parsed.append(self._first), parse(self, **options))[1])
    wire = Wire(Heads())

    def made(at: int, *lines: str) -> bytes:
        return canned(201, b"1" * at, f"Date: Sun, 06 Nov 1994 08:49:{at:02} GMT", f"Location: /jobs/{at}", *lines)

    for at in range(1, 13):
        found = await wire.answered(made(at))
        assert (found.status, found.body) == (201, b"1" * at)
    assert parsed == [made(1)]
    found = await wire.answered(made(3, "Retry-After: 2"))
    assert found.headers["retry-after"] == "2"
    assert parsed == [made(1), made(3, "Retry-After: 2")]


@pytest.mark.parametrize(
    ("learned", "then"),
    [
        # A second length, in whatever dress.
        (PLAIN, PLAIN.replace(b"\r\nDate", b"\r\nContent-Length: 12\r\nDate")),
        (PLAIN, PLAIN.replace(b"\r\nDate", b"\r\ncontent-length: 12\r\nDate")),
        (PLAIN, PLAIN.replace(b"\r\nDate", b"\r\nContent-Length: 12, 12\r\nDate")),
        # A length, and chunks.
        (PLAIN, PLAIN.replace(b"\r\nDate", b"\r\nTransfer-Encoding: chunked\r\nDate")),
        # A length that is none.
        (PLAIN, PLAIN.replace(b"Content-Length: 13", b"Content-Length: +13")),
        (PLAIN, PLAIN.replace(b"Content-Length: 13", b"Content-Length: 99999999999999999999")),
        # A line within a line that is left out.
        (PLAIN, PLAIN.replace(b" GMT", b" GMT\nTransfer-Encoding: chunked")),
        (PLAIN, PLAIN.replace(b" GMT", b"\0")),
    ],
)
async def test_a_known_head_lets_nothing_else_pass(learned: bytes, then: bytes) -> None:
    """What the parser refuses is refused as well after a head like it was kept."""
    fresh, knowing = Wire(Heads()), Wire(Heads())
    await knowing.answered(learned)
    failed = []
    for wire in (fresh, knowing):
        with pytest.raises(Exception, match=r".") as raised:
            await wire.answered(then, ended=True)
        failed.append(type(raised.value))
        assert not wire.is_of_use
    assert failed[0] is failed[1]


async def test_only_plain_heads_are_kept() -> None:
    """Not those whose length is told otherwise, that end the connection, or that are long; and no more than a few."""
    for name, answer in ANSWERS.items():
        heads = Heads()
        await Wire(heads).answered(answer)
        assert len(heads) == (name in {"plain", "without a body", "empty", "a problem"}), name
    heads = Heads()
    for answer in (
        canned(200, b"1", "Connection: close"),
        canned(304),
        canned(200, b"1", "X: " + "x" * HEAD_BYTES_MAX),
        b"HTTP/1.1 204 None\r\nContent-Length: 0\r\n\r\n",
    ):
        await Wire(heads).answered(answer)
        assert not len(heads), answer
    # What came in pieces, or with something behind it, was not seen whole.
    await Wire(heads).answered(PLAIN[:40], PLAIN[40:])
    await Wire(heads).answered(PLAIN + b"HTTP")
    assert not len(heads)
    await Wire(heads).answered(b"HTTP/1.1 103 Early Hints\r\n\r\n", ANSWERS["without a body"])
    assert not len(heads)
    wire = Wire(heads)
    for at in range(HEADS_MAX + 1):
        await wire.answered(canned(200, b"1", f"X: {at}"))
    assert len(heads) == 1


async def test_a_body_without_a_length_ends_with_the_connection() -> None:
    """It is whole then."""
    wire = Wire(Heads())
    found = await wire.answered(HEAD + b"\r\n", b'{"queues"', b":[]}", ended=True)
    assert found.body == b'{"queues":[]}'


async def test_what_comes_unasked_makes_a_connection_useless() -> None:
    """Nobody takes it for the answer to the next request."""
    for unasked in (b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n", b"?"):
        wire = Wire(Heads())
        await wire.answered(PLAIN)
        assert wire.is_of_use
        wire.connection.data_received(unasked)
        assert not wire.is_of_use
    wire = Wire(Heads())
    assert (await wire.answered(PLAIN + PLAIN)).body == b'{"queues":[]}'
    assert not wire.is_of_use


async def test_a_request_that_was_answered_before_it_was_sent_is_the_last() -> None:
    """What is left of it would stand where the next one should."""
    wire = Wire(Heads())
    wire.unsent = 1
    assert (await wire.answered(canned(413))).status == 413
    assert not wire.is_of_use


async def test_a_connection_that_was_lost_takes_no_request() -> None:
    """It says so at once."""
    wire = Wire(Heads())
    wire.gone = True
    with pytest.raises(ServerDisconnectedError):
        await wire.connection.exchange(b"GET", GUARD)
    assert wire.written == b""


# Over a socket.


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


@pytest.mark.parametrize(
    "answer",
    [
        *(b"", PLAIN[:-1], HEAD, b"HTTP/1.1 ", HEAD + b"Transfer-Encoding: chunked\r\n\r\n6\r\n{"),
        *(b"SSH-2.0-OpenSSH\r\n", HEAD + b"Content-Length: x\r\n\r\n", HEAD + b"Transfer-Encoding: chunked\r\n\r\nx\r\n"),
    ],
)
async def test_what_is_no_whole_answer_is_a_lost_connection(answer: bytes) -> None:
    """Cut in its head or body, or not HTTP at all."""
    async with speaking(answer) as (url, _), AsyncClient(url, retrying=ONCE) as client:
        with pytest.raises(jobqueue.ConnectionFailed, match=f"^GET {url}/queues: .+"):
            await client.queues()


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
