"""The bounds that every request is held to in one place, whichever way it is served: bytes of a head, time, bytes over all connections."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest

from jobqueue.api.app import refused
from jobqueue.errors import QueueError
from jobqueue.http import connections
from jobqueue.http.answers import Answer
from jobqueue.http.body import body_at_once, read_body
from jobqueue.http.connections import HEAD_BYTES_MAX
from jobqueue.http.request import Request
from tests.api.harness import assert_problem, request, serving, until

from .conftest import Serve

LARGE = b"x" * (16 << 20)
"""More than any socket buffers on both sides take in."""


async def reading(asked: Request) -> Answer:
    """A handler that reads the body."""
    body = body_at_once(asked, 1 << 20, any_type=True)
    if body is None:
        try:
            body = await read_body(asked, 1 << 20, any_type=True)
        except QueueError as error:
            return refused(error)
    return Answer(200, b"%d" % len(body))


async def passing(seconds: float) -> None:
    """Real time goes by."""
    loop, passed = asyncio.get_running_loop(), asyncio.Event()
    loop.call_later(seconds, passed.set)
    await passed.wait()


@pytest.mark.parametrize("sent", [HEAD_BYTES_MAX - 1, HEAD_BYTES_MAX, HEAD_BYTES_MAX + 1, 4 * HEAD_BYTES_MAX])
@pytest.mark.parametrize("pieces", [1, 7])
async def test_a_head_is_bounded_from_its_first_byte_to_its_empty_line(sent: int, pieces: int) -> None:
    """However many lines it has, and whether or not it ends: beyond the bound it is answered 400 and nothing is kept of it."""
    line = b"GET / HTTP/1.1\r\nHost: test\r\n"
    head = line + b"X: " + b"y" * 3_000 + b"\r\n"
    while len(head) + 3_005 < sent:
        head += b"X: " + b"y" * 3_000 + b"\r\n"
    head += b"Y: " + b"y" * max(0, sent - len(head) - 7)
    async with serving(reading) as site:
        wire = await site.wire()
        data = head + b"\r\n\r\n"
        step = len(data) // pieces + 1
        for start in range(0, len(data), step):
            wire.send(data[start : start + step])
            await asyncio.sleep(0)
        reply = await wire.reply()
        assert reply.status == (200 if len(data) <= HEAD_BYTES_MAX else 400)
        assert site.server.unread_bytes == 0


async def test_a_head_that_never_ends_is_refused_at_the_bound() -> None:
    """It is not collected: what comes after the answer is dropped."""
    async with serving(reading) as site:
        wire = await site.wire()
        wire.send(b"GET / HTTP/1.1\r\nHost: test\r\n")
        for _ in range(200):
            wire.send(b"X: " + b"y" * 3_000 + b"\r\n")
            await asyncio.sleep(0)
            assert site.server.unread_bytes <= HEAD_BYTES_MAX
        assert_problem(await wire.reply(), 400, "bad_request")
        assert await wire.rest() == b""


@pytest.mark.parametrize("until_head", [True, False], ids=["in the head", "in the body"])
async def test_a_request_has_one_deadline_from_its_first_byte(until_head: bool) -> None:
    """No later byte moves it, known head or not: a client that drips is answered 408 after request_seconds, not after its last byte."""
    whole = request("POST", "/a", b"x" * 100)
    async with serving(reading, request_seconds=0.3) as site:
        warm = await site.wire()
        for _ in range(3):
            await warm.ask(whole)
        wire = await site.wire()
        loop = asyncio.get_running_loop()
        at = 0 if until_head else len(whole) - 100
        wire.send(whole[: at + 1])
        started = loop.time()
        await until(lambda: any(each.deadline for each in site.server.open))
        connection = next(each for each in site.server.open if each.deadline)
        deadline = connection.deadline
        replying = asyncio.ensure_future(wire.reply())
        for byte in whole[at + 1 : at + 100]:
            if replying.done():
                break
            assert connection.deadline in (deadline, 0.0)
            wire.send(bytes([byte]))
            await passing(0.02)
        reply = await replying
        assert (reply.status, reply.headers["connection"]) == (408, "close")
        assert loop.time() - started < 1.5
        with contextlib.suppress(ConnectionError):
            assert await wire.rest() == b""


async def test_the_deadline_does_not_end_a_held_request() -> None:
    """It is for arriving alone."""
    go = asyncio.Event()

    async def handler(asked: Request) -> Answer:
        answer = await reading(asked)
        await go.wait()
        return answer

    async with serving(handler, request_seconds=0.05) as site:
        wire = await site.wire()
        wire.send(request("POST", "/a", b"123"))
        await passing(0.15)
        go.set()
        assert (await wire.reply()).body == b"3"
        assert (await wire.ask(request("POST", "/a", b"12"))).body == b"2"


async def test_unread_bytes_are_bounded_over_all_connections() -> None:
    """The connection that goes over the bound is refused; those before it are served, and what ends gives room again."""
    async with serving(reading) as site:
        site.server.unread_bytes_max = 50_000
        whole = request("POST", "/a", b"x" * 40_000)
        first, second = await site.wire(), await site.wire()
        first.send(whole[:-10_000])
        await until(lambda: site.server.unread_bytes > 29_000)
        second.send(whole[:-10_000])
        # Where its request is begun already, whose answer may be under way, it is cut.
        answer = await second.rest()
        assert answer.startswith(b"HTTP/1.1 429 ") or not answer
        assert (await first.ask(whole[-10_000:])).body == b"40000"
        await until(lambda: site.server.unread_bytes == 0)
        third = await site.wire()
        assert (await third.ask(whole)).body == b"40000"


async def test_unsent_bytes_are_bounded_over_all_connections() -> None:
    """Clients that do not read their answers are cut off, those who hold most first; others are served."""

    async def handler(asked: Request) -> Answer:
        return Answer(200, LARGE * (2 if asked.head.path == "/two" else 1) if asked.head.path != "/small" else b"small")

    async with serving(handler, write_seconds=60.0) as site:
        site.server.unsent_bytes_max = 5 * len(LARGE)
        clients: list[socket.socket] = []
        with contextlib.ExitStack() as stack:
            for path in ("/one", "/two", "/one", "/one", "/one", "/one"):
                client = stack.enter_context(socket.socket())
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
                client.connect((site.host, site.port))
                clients.append(client)
                before = site.server.requests_count
                client.sendall(request("GET", path))
                await until(lambda before=before: site.server.requests_count > before)  # type: ignore[misc]
                await asyncio.sleep(0)
                assert site.server.unsent_bytes <= site.server.unsent_bytes_max + 2 * len(LARGE)
            await until(lambda: site.server.unsent_bytes <= site.server.unsent_bytes_max and len(site.server.open) < len(clients))
            wire = await site.wire()
            assert (await wire.ask(request("GET", "/small"))).body == b"small"
        await until(lambda: len(site.server.open) == 1)
        assert site.server.unsent_bytes == 0


async def test_an_answer_that_was_cut_off_is_not_delivered(serve: Serve) -> None:
    """A job in it goes back to its place: over the bound is as if the client had gone."""
    api = await serve(payload_bytes_max=1 << 23, body_bytes_max=1 << 24)
    api.site.server.unsent_bytes_max = 1
    body = b'{"id":"j","payload":"%b"}' % (b"x" * (7 << 20))
    assert (await (await api.site.wire()).ask(request("POST", "/jobs/enqueue", body))).status == 201
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        client.connect((api.site.host, api.site.port))
        client.sendall(request("POST", "/jobs/dequeue"))
        await until(lambda: api.backend.totals().undelivered_total == 1)
    assert (api.backend.totals().leases, api.backend.totals().jobs_live) == (0, 1)


async def test_a_connection_that_is_refused_is_read_no_longer_than_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """It stays until its client has read the answer and closes, and no longer than LINGER_SECONDS."""
    monkeypatch.setattr(connections, "LINGER_SECONDS", 0.05)
    async with serving(reading) as site:
        wire = await site.wire()
        wire.send(b"no HTTP\n")
        assert (await wire.reply()).status == 400
        await until(lambda: not site.server.open)


async def test_an_endless_row_of_requests_gives_way_to_others() -> None:
    """Requests pipelined by the hundred in one packet are served in turns of SERVED_PER_TURN."""
    served: list[str] = []

    async def handler(asked: Request) -> Answer:
        served.append(asked.head.path)
        return Answer(200, b"")

    async with serving(handler) as site:
        greedy, other = await site.wire(), await site.wire()
        await other.ask(request("GET", "/first"))
        other.send(request("GET", "/other"))
        greedy.send(request("GET", "/greedy") * 1_000)
        assert (await other.reply()).status == 200
        assert served.count("/greedy") < 1_000
        for _ in range(1_000):
            assert (await greedy.reply()).status == 200
