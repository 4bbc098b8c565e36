"""Any bytes in any packets are answered alike, whichever way they are served: plain, plain with heads that came before known, fast with no
head known, fast with each one known.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobqueue.api.app import refused
from jobqueue.errors import QueueError
from jobqueue.http import connections
from jobqueue.http.answers import Answer
from jobqueue.http.body import body_at_once, read_body
from jobqueue.http.fast import parser_for
from jobqueue.http.request import Request
from jobqueue.http.server import Server
from tests import ways
from tests.api.harness import GUARD, request

BODY_BYTES_MAX = 10_000
QUIET_TURNS = 16
"""Turns of the loop in which nothing is written after which nothing more will be."""


@pytest.fixture(params=["all"], autouse=True)
def way(request: pytest.FixtureRequest) -> str:
    """These tests run all ways side by side."""
    return str(request.param)


async def echo(asked: Request) -> Answer:
    """What was asked, as the server understood it."""
    try:
        body = body_at_once(asked, BODY_BYTES_MAX, any_type=True)
        if body is None:
            body = await read_body(asked, BODY_BYTES_MAX, any_type=True)
    except QueueError as error:
        return Answer(400, str(error).encode())
    fields = asked.head.fields
    said = [asked.head.method, asked.head.path, asked.head.version, sorted(asked.head.headers.items()), fields.host, fields.json, body]
    if asked.head.path == "/suspends":
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    return Answer(200, repr(said).encode())


class Pipe(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__({"peername": ("192.0.2.1", 1)})
        self.written = b""
        self.closed = False

    def write(self, data: Any) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close

    def can_write_eof(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


async def settled(pipe: Pipe) -> None:
    """Wait until the connection has done what it does with what it was given."""
    quiet, seen = 0, -1
    while quiet < QUIET_TURNS:
        await asyncio.sleep(0)
        quiet = quiet + 1 if len(pipe.written) == seen else 0
        seen = len(pipe.written)


async def transcript(packets: Sequence[bytes], way: str) -> tuple[bytes, bool]:
    """What a connection answers to packets, its dates left out, and whether it serves on."""
    made = Server(echo, refused, parser=parser_for(ways.http(way)), connections_max=10, idle_seconds=60.0, write_seconds=GUARD)
    server = ways.prepared(made, way)
    connection, pipe = server(), Pipe()
    connection.connection_made(pipe)
    for packet in packets:
        if not pipe.closed:
            connection.data_received(packet)
        await settled(pipe)
    going_on = not (pipe.closed or connection._closing)
    connection.connection_lost(None)
    await asyncio.sleep(0)
    assert (server.unread_bytes, server.unsent_bytes, len(server.open)) == (0, 0, 0)
    return b"\n".join(line for line in pipe.written.split(b"\r\n") if not line.startswith(b"Date: ")), going_on


UPGRADE = b"GET /a HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
H2C = b"GET /a HTTP/1.1\r\nHost: test\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQ\r\n\r\n"
CHUNKS = b"POST /d HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"

PIECES = [
    request("GET", "/a"),
    request("GET", "/b"),
    request("POST", "/a", b"12345"),
    request("POST", "/suspends", b"12345"),
    request("POST", "/c", request("GET", "/x")),
    request("POST", "/a", b"12345", "X-A: 1"),
    b"GET /a HTTP/1.1\r\nHost: test\r\nX-A: ",
    b"POST /a HTTP/1.1\r\nHost: test\r\nContent-Length: 33\r\n\r\n",
    CHUNKS + b"5\r\n12345\r\n0\r\n\r\n",
    CHUNKS + b"5;a=b\r\n12345\r\n0\r\n\r\n",
    CHUNKS + b"5\r\n12345\r\n0\r\nX-T: 1\r\n\r\n",
    CHUNKS + b"0\r\n\r\n",
    CHUNKS + b"x\r\n",
    b"GET /a HTTP/1.1\r\nHost: test\r\nHost: test\r\n\r\n",
    b"GET /a HTTP/1.1\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n12345",
    b"POST /a HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: test\r\nContent-Length: \0\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: test\r\nContent-Length: +5\r\n\r\n12345",
    b"POST /a HTTP/1.1\r\nHost: test\r\nContent-Length: 5 \r\n\r\n12345",
    b"POST /a HTTP/1.1\r\nHost: test\r\nContent-Length: 00005\r\n\r\n12345",
    b"POST /a HTTP/1.1\r\nhost: test\r\nCONTENT-LENGTH: 5\r\n\r\n12345",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET /a HTTP/1.1\nHost: test\n\n",
    b"GET /a\r\n\r\n",
    b"GET http://other/a HTTP/1.1\r\nHost: test\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: test\r\n\r\n",
    b"CONNECT a:1 HTTP/1.1\r\nHost: test\r\n\r\n",
    b"get /a HTTP/1.1\r\nHost: test\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01",
    request("HEAD", "/a"),
    request("POST", "/a", b"12345", "Expect: 100-continue"),
    UPGRADE,
    H2C,
    request("GET", "/a", None, "Connection: close"),
    request("GET", "/a", None, version="1.0"),
    request("GET", "/a", None, "Connection: keep-alive", version="1.0"),
    b"\r\n",
    b"12345",
    b"GET",
]


async def check(packets: Sequence[bytes]) -> None:
    """That packets are answered alike on all ways."""
    wanted = await transcript(packets, "plain")
    for way in ("learnt", "cold", "warm"):
        assert await transcript(packets, way) == wanted, way


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The moment in which a small body is waited for is over when it begins, so that no way waits for what another does not."""
    monkeypatch.setattr(connections, "PART_SECONDS", 0.0)


@pytest.mark.parametrize("piece", PIECES, ids=range(len(PIECES)))
async def test_each_piece_alone_and_between_good_requests(piece: bytes) -> None:
    """Whole, behind a request, before one, byte by byte."""
    good = request("GET", "/good")
    for packets in ([piece], [good, piece], [good + piece], [piece + good], [piece, good], [bytes([byte]) for byte in piece + good]):
        await check(packets)


@pytest.mark.parametrize(
    "packets",
    [
        [
            request("GET", "/a"),
            b"POST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n",
            b"12345GET /c HTTP/1.1\r\nX-A: ",
            request("GET", "/a"),
        ],
        [request("GET", "/a"), b"POST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 33\r\n\r\n", request("GET", "/a"), request("GET", "/a")],
        [request("GET", "/a"), b"GET /b HTTP/1.1\r\nX-A: ", request("GET", "/a"), request("GET", "/a")],
        [
            request("GET", "/a"),
            b"POST /b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n21\r\n",
            request("GET", "/a"),
            b"\r\n0\r\n\r\n",
        ],
    ],
)
async def test_what_looks_like_a_request_and_is_none(packets: Sequence[bytes]) -> None:
    """A head's end, a body, a part of either."""
    await check(packets)


def _packets(pieces: list[bytes], joined: set[int], cuts: set[int]) -> list[bytes]:
    stream = b"".join(pieces)
    # Most packets end where a piece does.
    usual = {end for number, end in enumerate(itertools.accumulate(map(len, pieces))) if number not in joined}
    at = [0, *sorted(usual | {cut for cut in cuts if cut < len(stream)} | {len(stream)})]
    return [stream[start:end] for start, end in itertools.pairwise(at)]


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.sampled_from(PIECES), min_size=1, max_size=5),
    st.sets(st.integers(0, 4), max_size=3),
    st.sets(st.integers(1, 900), max_size=2),
)
def test_pieces_of_http_in_any_packets(pieces: list[bytes], joined: set[int], cuts: set[int]) -> None:
    """Requests whole, cut, joined and broken."""
    asyncio.run(check(_packets(pieces, joined, cuts)))


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(PIECES), st.integers(0, 200), st.binary(max_size=3), st.integers(0, 3))
def test_pieces_of_http_with_bytes_that_do_not_belong(piece: bytes, at: int, noise: bytes, gone: int) -> None:
    """Any bytes in place of any others, before a good request."""
    broken = piece[:at] + noise + piece[at + gone :]
    asyncio.run(check([broken, request("GET", "/good")]))
    asyncio.run(check([broken + request("GET", "/good")]))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=60), min_size=1, max_size=3))
def test_any_bytes(packets: list[bytes]) -> None:
    """No HTTP at all."""
    asyncio.run(check(packets))
