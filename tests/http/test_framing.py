"""Where a body in chunks ends, and what becomes of one whose end cannot be told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from jobqueue.api.app import refused
from jobqueue.errors import QueueError
from jobqueue.http.answers import Answer
from jobqueue.http.body import AHEAD_BYTES_MAX, body_at_once, read_body
from jobqueue.http.framing import LINE_BYTES_MAX, Chunked
from jobqueue.http.request import Request
from tests.api.harness import assert_problem, request, serving, until

HEAD = b"POST /a HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"

ODD = [
    b"05\r\n12345\r\n00\r\n\r\n",
    b"0000000000000005\r\n12345\r\n0\r\n\r\n",
    b"5;a\r\n12345\r\n0;b\r\n\r\n",
    b'5 ; a = b;c="d\\"e; f"\r\n12345\r\n0\r\n\r\n',
    b"5\r\n12345\r\n0\r\nX-A: b\r\nX-C:\r\n\r\n",
    b"5\r\n12345\r\n0\r\nContent-Length: 50\r\nTransfer-Encoding: chunked\r\nHost: c\r\n\r\n",
    b"1\r\n1\r\n2\r\n23\r\nA\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n",
]
"""Chunks as the grammar allows them."""

BAD = [
    b"\r\n5\r\n12345\r\n0\r\n\r\n",
    b" 5\r\n12345\r\n0\r\n\r\n",
    b"5 \r\n12345\r\n0\r\n\r\n",
    b"+5\r\n12345\r\n0\r\n\r\n",
    b"0x5\r\n12345\r\n0\r\n\r\n",
    b"\xd9\xa5\r\n12345\r\n0\r\n\r\n",
    b"5\n12345\r\n0\r\n\r\n",
    b"5\r12345\r\n0\r\n\r\n",
    b"5\r\n12345\n0\r\n\r\n",
    b"5\r\n123456\r\n0\r\n\r\n",
    b"5;\r\n12345\r\n0\r\n\r\n",
    b"5;a\nb\r\n12345\r\n0\r\n\r\n",
    b"5;a\0b\r\n12345\r\n0\r\n\r\n",
    b"5;" + b"a" * LINE_BYTES_MAX + b"\r\n12345\r\n0\r\n\r\n",
    b"00000000000000005\r\n12345\r\n0\r\n\r\n",
    b"10000000000000005\r\n12345\r\n0\r\n\r\n",
    b"5\r\n12345\r\n0\r\n\n",
    b"5\r\n12345\r\n0\r\nX\r\n\r\n",
    b"5\r\n12345\r\n0\r\nX : a\r\n\r\n",
    b"5\r\n12345\r\n0\r\n X: a\r\n\r\n",
    b"5\r\n12345\r\n0\r\nX: \0\r\n\r\n",
    b"5\r\n12345\r\n0\r\n" + b"X: a\r\n" * LINE_BYTES_MAX + b"\r\n",
]
"""What is no chunk, at the first, at a later one or behind the last."""


async def reading(asked: Request) -> Answer:
    """A handler that reads the body and says it."""
    try:
        body = body_at_once(asked, 1 << 20, any_type=True)
        if body is None:
            body = await read_body(asked, 1 << 20, any_type=True)
    except QueueError as error:
        return refused(error)
    return Answer(200, b"%d %b" % (len(body), body[:100]))


@pytest.mark.parametrize("chunks", ODD)
async def test_chunks_as_the_grammar_allows_them_end_where_they_do(chunks: bytes) -> None:
    """In one packet or byte by byte, and the request behind them is served on the same connection."""
    behind = request("GET", "/b")
    async with serving(reading) as site:
        said = set()
        for packets in ([HEAD + chunks + behind], [HEAD, chunks, behind], [HEAD, *(bytes([byte]) for byte in chunks + behind)]):
            wire = await site.wire()
            for packet in packets:
                wire.send(packet)
                await asyncio.sleep(0)
            said.add((await wire.reply()).body)
            assert (await wire.reply()).body == b"0 "
        assert len(said) == 1


@pytest.mark.parametrize("later", [False, True], ids=["with the head", "while it is read"])
@pytest.mark.parametrize("chunks", BAD)
async def test_what_is_no_chunk_is_refused_as_soon_as_it_has_come(chunks: bytes, later: bool) -> None:
    """It is not waited for until the request's deadline; nothing behind it is served."""
    async with serving(reading, request_seconds=1e6) as site:
        wire = await site.wire()
        if later:
            wire.send(HEAD + b"3\r\n")
            await until(lambda: site.server.requests_count > 0)
            wire.send(b"abc\r\n")
        wire.send((b"" if later else HEAD) + chunks + request("GET", "/b"))
        assert_problem(await wire.reply(), 400, "bad_request")
        assert await wire.rest() == b""


@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize(
    "coding", ["", "gzip, chunked", ",chunked", "chunked, chunked", "identity", "gzip", "chunked\r\nTransfer-Encoding: chunked"]
)
async def test_no_other_transfer_coding_is_guessed_at(coding: str, version: str) -> None:
    """Only `chunked`, alone, says where a body ends; with anything else no byte behind the head is taken for a request."""
    async with serving(reading) as site:
        wire = await site.wire()
        wire.send(f"POST /a HTTP/{version}\r\nHost: test\r\nTransfer-Encoding: {coding}\r\n\r\n5\r\n12345\r\n0\r\n\r\n".encode())
        wire.send(request("GET", "/b"))
        assert_problem(await wire.reply(), 400, "bad_request")
        assert await wire.rest() == b""


async def test_chunks_mean_nothing_in_http_1_0() -> None:
    """A proxy of that version knows none: what is behind it may be another's (RFC 9112, section 6.1)."""
    async with serving(reading) as site:
        wire = await site.wire()
        wire.send(HEAD.replace(b"/1.1\r\n", b"/1.0\r\nConnection: keep-alive\r\n") + ODD[0] + request("GET", "/b"))
        assert_problem(await wire.reply(), 400, "bad_request")
        assert await wire.rest() == b""


class Pipe(asyncio.Transport):
    """A transport that knows whether it is read from."""

    def __init__(self) -> None:
        super().__init__({"peername": ("192.0.2.1", 1)})
        self.reading = True
        self.aborted: Callable[[BaseException | None], None] | None = None

    def write(self, data: Any) -> None:
        """Nobody looks."""

    def is_closing(self) -> bool:
        return False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def abort(self) -> None:
        if self.aborted is not None:
            self.aborted(None)

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


async def test_what_stands_behind_a_held_request_is_bounded_though_its_body_was_too_fast() -> None:
    """Reading stops for two reasons at once, the body and what is behind it; that the body is read by now is no reason to read on."""
    held = asyncio.Event()

    async def holding(asked: Request) -> Answer:
        answer = await reading(asked)
        await held.wait()
        return answer

    size, packet = AHEAD_BYTES_MAX + 1_000, 262_144
    data = HEAD + b"%x\r\n" % size + b"x" * size + b"\r\n0\r\n\r\n" + request("GET", "/b") * 20_000
    async with serving(holding) as site:
        connection, pipe = site.server(), Pipe()
        connection.connection_made(pipe)
        pipe.aborted = connection.connection_lost
        packets = [data[at : at + packet] for at in range(0, len(data), packet)]
        for _ in range(200):
            while packets and pipe.reading:
                connection.data_received(packets.pop(0))
            await asyncio.sleep(0)
        assert site.server.requests_count == 1
        assert not pipe.reading
        assert site.server.unread_bytes <= size + 2 * packet
        held.set()
        await until(lambda: pipe.reading)
        connection.connection_lost(None)


def test_extensions_and_trailers_go_no_further() -> None:
    """What is handed on is one chunk for all contents that came together, and the last one."""
    chunks = Chunked()
    data = b"2;a=b\r\n12\r\n3\r\n345\r\n0\r\nX: y\r\n\r\nGET"
    assert chunks.take(data) == (len(data) - 3, b"5\r\n12345\r\n0\r\n\r\n")
    assert chunks.whole
