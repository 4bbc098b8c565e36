"""What `http/answers.py` relies on in the loops, and what it promises on top of them."""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import struct
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from types import SimpleNamespace

import pytest

from jobqueue.http import answers, server
from jobqueue.http.answers import PROBLEM, Answer
from jobqueue.http.body import body_at_once, read_body
from jobqueue.http.request import Request
from tests.api.harness import GUARD, Reply, request, serving, until

LARGE = b"x" * (16 << 20)
"""More than any socket buffers on both sides take in."""

Handler = Callable[[Request], Awaitable[Answer]]


async def constant(_: Request) -> Answer:
    """A small answer."""
    return Answer(200, b'{"a":1}')


async def delivered_to(asked: Request, answer: Answer) -> bool:
    """Deliver an answer as the handlers of held requests do."""
    done = answer.deliver_now(asked)
    return await answer.deliver(asked) if done is None else done


def connection_of(reply: Reply) -> str | None:
    """The Connection header."""
    return reply.headers.get("connection")


async def test_an_answer_is_written_whole() -> None:
    """Status line, every header once, the body's length and its bytes."""

    async def handler(_: Request) -> Answer:
        answer = Answer(409, b"{}", PROBLEM, b"X-A: 1\r\n")
        answer.add_header(b"X-B: 2\r\n")
        return answer

    async with serving(handler) as site:
        wire = await site.wire()
        reply = await wire.ask(request("GET", "/"))
    assert (reply.status, reply.body) == (409, b"{}")
    assert list(reply.headers) == ["content-type", "date", "cache-control", "x-content-type-options", "content-length", "x-a", "x-b"]
    assert (reply.headers["content-type"], reply.headers["content-length"]) == ("application/problem+json", "2")


@pytest.mark.parametrize(
    ("version", "lines", "connection", "stays"),
    [
        ("1.1", [], None, True),
        ("1.1", ["Connection: keep-alive"], None, True),
        ("1.1", ["Connection: close"], "close", False),
        ("1.0", [], "close", False),
        ("1.0", ["Connection: keep-alive"], "keep-alive", True),
        ("1.0", ["Connection: close"], "close", False),
    ],
)
async def test_the_connection_is_kept_as_the_client_asks(version: str, lines: list[str], connection: str | None, stays: bool) -> None:
    """HTTP/1.1 keeps it unless told, HTTP/1.0 closes it unless told, and the answer says so."""
    async with serving(constant) as site:
        wire = await site.wire()
        asked = request("GET", "/", None, *lines, version=version)
        assert connection_of(await wire.ask(asked)) == connection
        if stays:
            assert connection_of(await wire.ask(asked)) == connection
        else:
            assert await wire.rest() == b""


async def test_an_http_1_0_client_needs_no_host() -> None:
    """Host came with HTTP/1.1."""
    async with serving(constant) as site:
        wire = await site.wire()
        assert (await wire.ask(b"GET / HTTP/1.0\r\n\r\n")).body == b'{"a":1}'


async def test_an_answer_may_close_the_connection() -> None:
    """close=True, whatever the client asked; what was pipelined behind it is not served."""
    served = 0

    async def handler(_: Request) -> Answer:
        nonlocal served
        served += 1
        return Answer(200, b"{}", close=True)

    async with serving(handler) as site:
        wire = await site.wire()
        wire.send(request("GET", "/") * 2)
        assert connection_of(await wire.reply()) == "close"
        assert await wire.rest() == b""
    assert served == 1


async def test_a_head_has_the_length_of_the_body_it_leaves_out() -> None:
    """And the next answer starts where it should."""
    async with serving(constant) as site:
        wire = await site.wire()
        wire.send(request("HEAD", "/") + request("GET", "/"))
        head, got = await wire.reply(head=True), await wire.reply()
    assert (head.headers["content-length"], head.body) == ("7", b"")
    assert got.body == b'{"a":1}'


async def test_a_204_has_neither_length_nor_type() -> None:
    """RFC 9110, section 8.6; the connection stays in step."""

    async def handler(_: Request) -> Answer:
        return Answer(204, content_type=b"")

    async with serving(handler) as site:
        wire = await site.wire()
        wire.send(request("POST", "/") * 2)
        for _ in range(2):
            reply = await wire.reply()
            assert reply.status == 204
            assert not {"content-length", "content-type", "transfer-encoding"} & set(reply.headers)


async def test_date_follows_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Made once a second, never older than that, for every status and type."""
    clock = SimpleNamespace(time=lambda: 1_000_000_000.999)
    monkeypatch.setattr(answers, "time", clock)
    async with serving(constant) as site:
        wire = await site.wire()
        first = await wire.ask(request("GET", "/"))
        again = await wire.ask(request("GET", "/"))
        clock.time = lambda: 1_000_000_001.0
        later = await wire.ask(request("GET", "/"))
    assert first.headers["date"] == again.headers["date"] == formatdate(1_000_000_000, usegmt=True)
    assert later.headers["date"] == formatdate(1_000_000_001, usegmt=True)


async def test_pipelined_requests_are_answered_in_order() -> None:
    """Even when a later one would be done earlier."""
    turn = asyncio.Event()

    async def handler(asked: Request) -> Answer:
        if asked.head.path == "/0":
            await turn.wait()
        return Answer(200, asked.head.path.encode())

    async with serving(handler) as site:
        wire = await site.wire()
        wire.send(b"".join(request("GET", f"/{n}") for n in range(50)))
        await until(lambda: site.server.requests_count == 1)
        turn.set()
        assert [(await wire.reply()).body for _ in range(50)] == [b"/%d" % n for n in range(50)]


async def test_one_connection_serves_many_requests() -> None:
    """Keep-alive goes on, bodies read or not as long as they came whole."""

    async def handler(asked: Request) -> Answer:
        return Answer(200, body_at_once(asked, 100, any_type=True) or await read_body(asked, 100) if asked.head.path == "/read" else b"")

    async with serving(handler) as site:
        wire = await site.wire()
        for n in range(100):
            assert (await wire.ask(request("POST", "/read", b"%d" % n))).body == b"%d" % n
            assert (await wire.ask(request("POST", "/leave", b"%d" % n))).body == b""
        assert len(site.server.open) == 1


async def test_a_body_that_was_not_read_closes_the_connection() -> None:
    """Its rest would be taken for the next request."""
    async with serving(constant) as site:
        wire = await site.wire()
        wire.send(request("POST", "/", None, "Content-Length: 40") + b"GET /")
        assert connection_of(await wire.reply()) == "close"
        wire.send(b"smuggled HTTP/1.1\r\nHost: x\r\n\r\n" + b" " * 40)
        assert await wire.rest() == b""
        assert site.server.requests_count == 1


async def test_an_answer_is_written_once() -> None:
    """A handler that delivered its answer itself returns it all the same."""

    async def handler(asked: Request) -> Answer:
        answer = Answer(200, b"once")
        assert await delivered_to(asked, answer)
        answer.write_now(asked)
        return answer

    async with serving(handler) as site:
        wire = await site.wire()
        for _ in range(2):
            assert (await wire.ask(request("GET", "/"))).body == b"once"
        wire.finish()
        assert await wire.rest() == b""


# Writing: the loop must try at once, and "paused" must mean "not all sent".


async def test_a_write_is_in_the_kernel_when_it_returns() -> None:
    """A small answer is delivered in one call, and the client can read it before the loop turns again."""
    client = socket.socket()
    seen: list[bytes] = []

    async def handler(asked: Request) -> Answer:
        assert asked.connection.transport is not None
        assert asked.connection.transport.get_write_buffer_limits() == (0, 0)
        answer = Answer(200, b"now")
        assert answer.deliver_now(asked) is True
        assert asked.connection.transport.get_write_buffer_size() == 0
        seen.append(client.recv(4096, socket.MSG_DONTWAIT))
        return answer

    with client:
        async with serving(handler) as site:
            client.connect((site.host, site.port))
            client.sendall(request("GET", "/"))
            await until(lambda: bool(seen))
    assert seen[0].endswith(b"\r\n\r\nnow")


async def test_an_answer_larger_than_the_buffers_is_delivered_as_it_is_read() -> None:
    """It pauses, drains as the client reads, and is delivered when all of it is in the kernel."""
    paused: list[bool] = []
    delivered: list[bool] = []

    async def handler(asked: Request) -> Answer:
        answer = Answer(200, LARGE)
        assert answer.deliver_now(asked) is None
        paused.append(asked.connection.writing_paused)
        delivered.append(await answer.deliver(asked))
        assert not asked.connection.writing_paused
        return answer

    async with serving(handler) as site:
        wire = await site.wire()
        wire.send(request("GET", "/"))
        await until(lambda: bool(paused))
        assert (paused, delivered) == ([True], [])
        assert (await wire.reply()).body == LARGE
        await until(lambda: bool(delivered))
        assert delivered == [True]
        assert (await wire.ask(request("GET", "/"))).status == 200


async def test_a_client_that_does_not_read_is_cut_off() -> None:
    """After write_seconds the connection is aborted, its buffer freed, and the answer was not delivered: False, or cancelled."""
    delivered: list[bool] = []

    async def handler(asked: Request) -> Answer:
        answer, done = Answer(200, LARGE), False
        try:
            done = await delivered_to(asked, answer)
        finally:
            delivered.append(done)
        return answer

    async with serving(handler, write_seconds=0.01) as site:
        with socket.create_connection((site.host, site.port)) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.sendall(request("GET", "/"))
            await until(lambda: bool(delivered))
            assert delivered == [False]
            await until(lambda: not site.server.open)


class Buffered(asyncio.Transport):
    """A transport whose client reads what was written in the next turn of the loop, and not at once."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self.protocol = protocol
        self.closing = False
        protocol.connection_made(self)

    def write(self, data: bytes | bytearray | memoryview[int]) -> None:
        self.protocol.pause_writing()
        asyncio.get_running_loop().call_later(0, self.protocol.resume_writing)

    def is_closing(self) -> bool:
        return self.closing

    def abort(self) -> None:
        self.closing = True
        asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    close = abort

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 1

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


async def test_an_answer_that_was_read_in_a_stall_is_delivered() -> None:
    """When a process that stood still for longer than write_seconds finds that the client has read all, that counts."""
    delivered: list[bool] = []

    async def handler(asked: Request) -> Answer:
        answer = Answer(200, b"{}")
        delivered.append(await delivered_to(asked, answer))
        return answer

    # At 0 the time is over in the next turn of the loop, and in that one, before it, the client has read everything.
    async with serving(handler, write_seconds=0.0) as site:
        connection = Buffered(site.server())
        connection.protocol.data_received(request("GET", "/"))
        await until(lambda: bool(delivered))
        assert delivered == [True]
        assert not connection.closing
        connection.abort()


async def test_an_undelivered_ordinary_answer_ends_the_connection_quietly(caplog: pytest.LogCaptureFixture) -> None:
    """The same without delivering."""

    async def handler(_: Request) -> Answer:
        return Answer(200, LARGE)

    async with serving(handler, write_seconds=0.01) as site:
        with socket.create_connection((site.host, site.port)) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.sendall(request("GET", "/"))
            await until(lambda: bool(site.server.open))
            await until(lambda: not site.server.open)
    assert not [record for record in caplog.records if record.levelname not in ("DEBUG", "INFO")]


# Delivering: what the client's end has done that the loop has not read yet.


def reset(client: socket.socket) -> None:
    """End a connection by RST."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


ON_LINUX = pytest.mark.skipif(not hasattr(select, "POLLRDHUP"), reason="needs Linux, whose poll(2) has POLLRDHUP")

GONE: dict[str, Callable[[socket.socket], None]] = {
    "FIN": socket.socket.close,
    "RST": reset,
    "half-close": lambda client: client.shutdown(socket.SHUT_WR),
}


@pytest.mark.parametrize("end", sorted(GONE))
async def test_an_answer_to_a_client_that_hung_up_is_not_delivered(end: str) -> None:
    """FIN, RST or a half-close that arrived before the write, even in the very same turn of the loop; nothing is written."""
    client = socket.socket()
    seen: list[bool] = []

    async def handler(asked: Request) -> Answer:
        seen.append(asked.connection.has_hung_up())
        GONE[end](client)
        answer = Answer(200, b"lost")
        seen.append(await delivered_to(asked, answer))
        seen.append(asked.connection.has_hung_up())
        return answer

    with client:
        async with serving(handler) as site:
            client.connect((site.host, site.port))
            client.sendall(request("GET", "/"))
            await until(lambda: len(seen) == 3)
            assert seen == [False, False, True]
            await until(lambda: not site.server.open)
            if end == "half-close":
                with contextlib.suppress(ConnectionResetError):
                    assert client.recv(100) == b""


async def test_looking_leaves_the_socket_as_it_was() -> None:
    """Neither is it closed nor is a byte taken: a request pipelined behind is served, and answers are delivered."""
    checks: list[bool] = []

    async def handler(asked: Request) -> Answer:
        checks.append(any(asked.connection.has_hung_up() for _ in range(100)))
        answer = Answer(200, asked.head.path.encode())
        checks.append(not await delivered_to(asked, answer))
        return answer

    async with serving(handler) as site:
        wire = await site.wire()
        wire.send(request("GET", "/1") + request("GET", "/2"))
        assert [(await wire.reply()).body for _ in range(2)] == [b"/1", b"/2"]
        assert (await wire.ask(request("GET", "/3"))).body == b"/3"
    assert checks == [False] * 6


@pytest.mark.parametrize("told", [pytest.param(True, marks=ON_LINUX), False])
async def test_bytes_behind_a_request_hide_the_end_only_where_the_kernel_does_not_tell(told: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """On Linux a FIN behind them is seen; elsewhere the kernel takes the answer, it counts as delivered, the lease is the backstop."""
    if not told:
        monkeypatch.setattr(server, "_GONE", 0)
    client = socket.socket()
    seen: list[bool] = []

    async def handler(asked: Request) -> Answer:
        client.sendall(b"GET ")
        client.close()
        answer = Answer(200, b"hidden")
        seen.append(await delivered_to(asked, answer))
        return answer

    with client:
        async with serving(handler) as site:
            client.connect((site.host, site.port))
            client.sendall(request("GET", "/"))
            await until(lambda: bool(seen))
            await until(lambda: not site.server.open)
    assert seen == [not told]


async def test_a_handler_is_cancelled_when_its_client_goes() -> None:
    """What a held dequeue relies on: FIN and RST reach it as a cancellation, and delivering after it is False."""
    for end in sorted(GONE):
        held = asyncio.Event()
        delivered: list[bool] = []

        async def handler(asked: Request, held: asyncio.Event = held, delivered: list[bool] = delivered) -> Answer:
            held.set()
            try:
                await asyncio.Event().wait()
            finally:
                delivered.append(await delivered_to(asked, Answer(200, b"late")))
            raise AssertionError("unreachable")

        async with serving(handler) as site:
            with socket.create_connection((site.host, site.port)) as client:
                client.sendall(request("GET", "/"))
                async with asyncio.timeout(GUARD):
                    await held.wait()
                GONE[end](client)
                await until(lambda delivered=delivered: bool(delivered))  # type: ignore[misc]
        assert delivered == [False], end
