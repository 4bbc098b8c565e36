"""Heads that were met before: known by their bytes, told alike, and never taken for what they are not."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any, cast

import pytest
from aiohttp.http import RawRequestMessage
from hypothesis import given, settings
from hypothesis import strategies as st

from jobqueue.api.app import refused
from jobqueue.errors import QueueError
from jobqueue.http import connections, heads
from jobqueue.http import serving as serving_module
from jobqueue.http.answers import Answer
from jobqueue.http.body import body_at_once, read_body
from jobqueue.http.connections import Connection, Server
from jobqueue.http.heads import Head, Heads
from jobqueue.http.request import Request
from tests.api.harness import GUARD, request, serving, until

from .conftest import Serve

BODY_BYTES_MAX = 10_000
TOLD = (
    *("method", "version", "raw_path", "path", "path_qs", "rel_url", "url", "scheme", "host", "remote", "forwarded", "query", "headers"),
    *("raw_headers", "cookies", "content_length", "content_type", "charset", "keep_alive", "can_read_body", "body_exists", "if_none_match"),
)


async def echo(asked: Request) -> Answer:
    """What was asked, as the server understood it."""
    try:
        body = body_at_once(asked, BODY_BYTES_MAX, any_type=True)
        if body is None:
            body = await read_body(asked, BODY_BYTES_MAX, GUARD, any_type=True)
    except QueueError as error:
        return Answer(400, str(error).encode())
    fields = asked.head.fields
    said = [asked.head.method, asked.head.path, sorted(asked.head.headers.items()), fields.host, fields.origin, fields.json, body]
    return Answer(200, repr(said).encode())


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of requests that aiohttp parsed."""
    paths: list[str] = []

    def noting(message: RawRequestMessage) -> Head:
        paths.append(message.path)
        return heads.head_of(message)

    for module in (connections, serving_module):
        monkeypatch.setattr(module, "head_of", noting)
    return paths


async def test_a_head_that_was_met_before_is_not_parsed_again(parsed: list[str]) -> None:
    """On any connection, behind any request line of the plain kind; one of other bytes is."""
    async with serving(echo) as site:
        one, other = await site.wire(), await site.wire()
        first = await one.ask(request("POST", "/a", b"12345"))
        assert [await wire.ask(request("POST", "/a", b"12345")) for wire in (other, one, other)] == [first] * 3
        assert b"'/b?x=%20', " in (await other.ask(request("POST", "/b?x=%20", b"54321"))).body
        assert b"b'54321'" in (await other.ask(request("POST", "/b", b"54321"))).body
        assert parsed == ["/a", "/a"]
        longer = (await one.ask(request("POST", "/c", b"666666"))).body
        assert b"('Content-Length', '6')" in longer
        assert b"b'666666'" in longer
        assert b"('Cookie', 'a=b')" in (await one.ask(request("POST", "/d", b"54321", "Cookie: a=b"))).body
        assert parsed == ["/a", "/a", "/d"]
        assert site.server.requests_count == 8


async def test_a_known_request_is_told_as_a_parsed_one(parsed: list[str]) -> None:
    """Whatever BaseRequest offers reads the same, its body included."""
    told: list[list[Any]] = []

    async def handler(asked: Request) -> Answer:
        told.append([getattr(asked, name) for name in TOLD])
        told[-1].append(await asked.content.read())
        return Answer(200, b"")

    async with serving(handler) as site:
        wire = await site.wire()
        for body in (b"12345", b"12345", b"12345", b"1", b"12345"):
            await wire.ask(request("POST", "/a%2Fb/c?x=1&x=%20&y", body, "Cookie: a=b", "Forwarded: for=x", "If-None-Match: *"))
    assert told[0] == told[1] == told[2] == told[4]
    assert told[0][-1] == b"12345"
    assert told[3][TOLD.index("content_length")] == 1
    assert (b"Content-Length", b"1") in told[3][TOLD.index("raw_headers")]
    assert len(parsed) == 2


async def test_a_known_request_may_be_held(parsed: list[str]) -> None:
    """It is carried on by the connection's task, and what is behind it waits for it."""
    go = asyncio.Event()

    async def handler(asked: Request) -> Answer:
        if asked.head.path == "/held":
            await go.wait()
        return Answer(200, asked.head.path.encode())

    async with serving(handler) as site:
        wire = await site.wire()
        for _ in range(2):
            await wire.ask(request("GET", "/a"))
        wire.send(request("GET", "/held"))
        await until(lambda: parsed == ["/a", "/a"] and not next(iter(site.server.open)).idle)
        wire.send(request("GET", "/b"))
        go.set()
        assert [(await wire.reply()).body for _ in range(2)] == [b"/held", b"/b"]
        assert (await wire.ask(request("GET", "/c"))).body == b"/c"


async def test_a_known_request_waits_for_a_slow_reader(parsed: list[str]) -> None:
    """An answer larger than what the kernel takes is written to its end."""

    async def handler(asked: Request) -> Answer:
        return Answer(200, b"x" * 8_000_000)

    async with serving(handler) as site:
        wire = await site.wire()
        for _ in range(4):
            assert len((await wire.ask(request("GET", "/a"))).body) == 8_000_000
    assert parsed == ["/a", "/a"]


async def test_a_packet_that_only_looks_like_a_request_teaches_nothing(parsed: list[str]) -> None:
    """Not the end of a head, not a body: what follows with the same bytes is understood as itself."""
    plain = request("GET", "/x")
    async with serving(echo) as site:
        for start in (b"GET /a HTTP/1.1\r\nX-Evil: ", b"POST /a HTTP/1.1\r\nHost: evil\r\nContent-Length: %d\r\n\r\n" % len(plain)):
            wire = await site.wire()
            wire.send(start)
            arrived = len(parsed)
            await until(lambda: bool(site.server.open))
            # The server must have read it: a connection that is asked for after it was is served after it.
            assert (await (await site.wire()).ask(request("GET", "/y", None, f"X-A: {arrived}"))).status == 200
            wire.send(plain)
            await wire.reply()
            said = (await (await site.wire()).ask(plain)).body
            assert said == b"['GET', '/x', [('Host', 'test')], 'test', None, False, b'']"


async def test_a_connection_on_which_the_count_is_lost_is_parsed_from_then_on(parsed: list[str]) -> None:
    """A chunked body has no length to count by. A body that comes by itself has."""
    async with serving(echo) as site:
        wire = await site.wire()
        for _ in range(2):
            await wire.ask(request("GET", "/a"))
        for _ in range(3):
            wire.send(request("POST", "/b", b"12345")[:-5])
            await until(lambda: not next(iter(site.server.open)).idle)
            assert b"b'12345'" in (await wire.ask(b"12345")).body
        await wire.ask(request("GET", "/c"))
        assert parsed == ["/a", "/a", "/b", "/b"]
        await wire.ask(b"POST /d HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
        await wire.ask(request("GET", "/e"))
        assert parsed[-1] == "/e"


@pytest.mark.parametrize("late", [False, True])
async def test_a_body_that_comes_by_itself_is_waited_for_a_moment(late: bool, parsed: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """In any number of packets, its head being known; when the moment is over, aiohttp reads what is to come."""
    async with serving(echo) as site:
        wire = await site.wire()
        whole = request("POST", "/a", b"1234567")
        for _ in range(2):
            await wire.ask(whole)
        # Never, or before anything else could come.
        monkeypatch.setattr(serving_module, "PART_SECONDS", 0.0 if late else 3_600.0)
        wire.send(whole[:-7])
        if late:
            await until(lambda: len(parsed) == 3)
        else:
            await until(lambda: not next(iter(site.server.open)).idle)
        wire.send(whole[-7:-3])
        # A packet of its own: the server has seen what was sent before when it answers another client.
        await (await site.wire()).ask(request("GET", "/b"))
        assert b"b'1234567'" in (await wire.ask(whole[-3:])).body
        assert (await wire.ask(request("GET", "/c"))).status == 200
        assert parsed[:2] + parsed[2:].count("/a") * ["/a"] == ["/a"] * (3 if late else 2)


async def test_a_client_that_goes_before_its_body_leaves_nothing(parsed: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The part that came is dropped, and nothing is done."""
    monkeypatch.setattr(serving_module, "PART_SECONDS", 3_600.0)
    async with serving(echo) as site:
        wire = await site.wire()
        for _ in range(2):
            await wire.ask(request("POST", "/a", b"12345"))
        wire.send(request("POST", "/a", b"12345")[:-1])
        await until(lambda: not next(iter(site.server.open)).idle)
        await wire.close()
        await until(lambda: not site.server.open)
        assert parsed == ["/a", "/a"]
        assert site.server.requests_count == 2


@pytest.mark.parametrize(
    "odd",
    [
        request("GET", "/a", None, "Connection: close"),
        request("GET", "/a", None, version="1.0"),
        request("GET", "http://test/a"),
        request("GET", "//a"),
        request("OPTIONS", "/a"),
        request("HEAD", "/a"),
        request("POST", "/a", b"1", "Content-Encoding: gzip"),
        request("POST", "/a", b"1", "Expect: 100-continue"),
        request("GET", "/a", None, "X-Long: " + "x" * 1_100),
        b"POST /a HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"\r\n" + request("GET", "/a"),
        request("GET", "/a") + b"\r\n",
        request("GET", "/a") + request("GET", "/b")[:9],
    ],
)
async def test_only_plain_requests_are_kept(odd: bytes) -> None:
    """What ends a connection, is of another version or is out of the ordinary is parsed each time."""
    async with serving(echo) as site:
        for _ in range(3):
            wire = await site.wire()
            wire.send(odd)
            assert (await wire.reply(head=odd[:4] == b"HEAD")).status in (200, 400)
        assert len(site.server.heads) == 0


async def test_a_client_that_never_says_the_same_is_not_looked_up_for_ever(parsed: list[str]) -> None:
    """After STRANGE_MAX new heads its connection is parsed without; another one is not concerned."""
    async with serving(echo) as site:
        wire, other = await site.wire(), await site.wire()
        for _ in range(3):
            await wire.ask(request("GET", "/known"))
        assert len(parsed) == 2
        for number in range(heads.STRANGE_MAX + 1):
            await wire.ask(request("GET", "/strange", None, f"X-Number: {number}"))
        parsed.clear()
        for asking in (wire, other):
            await asking.ask(request("GET", "/known"))
        assert parsed == ["/known"]


@pytest.mark.parametrize(("times", "kept"), [(1, 0), (2, 10)])
def test_what_is_kept_is_bounded(times: int, kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes once is not kept, and what comes twice pushes others out, who are learnt again."""
    monkeypatch.setattr(heads, "SECTIONS_MAX", 10)
    monkeypatch.setattr(heads, "ONCE_MAX", 10)
    sizes = []

    async def run() -> None:
        async with serving(echo) as site:
            wire = await site.wire()
            for number in range(50):
                asked = request("GET", "/a", None, f"X-Number: {number // times}")
                assert f"'{number // times}')" in (await wire.ask(asked)).body.decode()
                sizes.append(len(site.server.heads))

    asyncio.run(run())
    assert max(sizes) == kept


# Any bytes in any packets: the same answers as where nothing is ever known.


class Pipe:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.written = b""
        self.closed = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("192.0.2.1", 1) if name == "peername" else default

    def write(self, data: bytes) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


class NothingKnown(Heads):
    """Parses everything."""

    def find(self, data: bytes) -> int:
        return heads.UNKNOWN


async def transcript(packets: Sequence[bytes], known: Heads) -> bytes:
    """What a connection answers to packets, its dates left out."""
    server = Server(echo, refused, connections_max=10, idle_seconds=60.0, write_seconds=GUARD)
    server.heads = known
    connection, pipe = cast(Connection, server()), Pipe()
    connection.connection_made(cast(asyncio.Transport, pipe))
    for packet in packets:
        # What a connection does with a packet takes a few turns of the loop, in aiohttp's task.
        for _ in range(12):
            await asyncio.sleep(0)
        if not pipe.closed:
            connection.data_received(packet)
    for _ in range(12):
        await asyncio.sleep(0)
    connection.connection_lost(None)
    server.pre_shutdown()
    await server.shutdown(GUARD)
    return b"\n".join(line for line in pipe.written.split(b"\r\n") if not line.startswith(b"Date: "))


UPGRADE = b"GET /a HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"

PIECES = st.sampled_from(
    [
        request("GET", "/a"),
        request("GET", "/b"),
        request("POST", "/a", b"12345"),
        request("POST", "/c", request("GET", "/x")),
        request("POST", "/a", b"12345", "X-A: 1"),
        b"GET /a HTTP/1.1\r\nHost: test\r\nX-A: ",
        b"POST /a HTTP/1.1\r\nHost: test\r\nContent-Length: 33\r\n\r\n",
        b"POST /d HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n0\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: test\r\nHost: test\r\n\r\n",
        b"POST /a HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n12345",
        UPGRADE,
        request("GET", "/a", None, "Connection: close"),
        request("GET", "/a", None, version="1.0"),
        b"\r\n",
        b"12345",
        b"GET",
    ]
)


async def check(packets: Sequence[bytes]) -> None:
    """That packets are answered alike on connections one after the other that share what is known, and where nothing is."""
    known = Heads([("GET", "/a")])
    wanted = await transcript(packets, NothingKnown())
    for _ in range(4):
        assert await transcript(packets, known) == wanted


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
        [UPGRADE, request("GET", "/a")],
        [request("GET", "/a"), request("GET", "/a") + request("GET", "/b")],
        [request("POST", "/a", b"1234567"), request("POST", "/a", b"12345"), request("POST", "/a", b"12345") + request("GET", "/a")],
        [request("POST", "/a", b"1"), b"POST /a HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nContent-Length: \r\n\r\n"],
        [request("POST", "/a", b"1"), b"POST /a HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nContent-Length: +1\r\n\r\n1"],
        [request("POST", "/a", b"1"), b"POST /a HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nContent-Length: 0001\r\n\r\n1"],
        [request("POST", "/a", b"1", "Content-Length: 1")],
        [
            request("GET", "/a"),
            b"POST /b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n21\r\n",
            request("GET", "/a"),
            b"\r\n0\r\n\r\n",
        ],
    ],
)
async def test_what_looks_like_a_known_request_and_is_none(packets: Sequence[bytes]) -> None:
    """A head's end, a body, a part of either: where the parser does not stand before a request, nothing is known."""
    await check(packets)


@settings(max_examples=600)
@given(st.lists(PIECES, min_size=1, max_size=5), st.sets(st.integers(0, 4), max_size=3), st.data())
def test_whatever_comes_is_answered_as_if_nothing_were_known(pieces: list[bytes], joined: set[int], data: st.DataObject) -> None:
    """Requests whole, cut, joined and broken; on connections one after the other that share what is known."""
    stream = b"".join(pieces)
    # Most packets end where a request does.
    usual = {end for number, end in enumerate(itertools.accumulate(map(len, pieces))) if number not in joined}
    cuts = data.draw(st.sets(st.integers(1, len(stream)), max_size=2))
    at = [0, *sorted(usual | cuts | {len(stream)})]
    packets = [stream[start:end] for start, end in itertools.pairwise(at)]

    asyncio.run(check(packets))


async def test_a_known_head_asks_for_access_all_the_same(serve: Serve) -> None:
    """A token that was revoked is refused with the very bytes that were let in before."""
    api = await serve(token="secret", send_token=False)
    wire = await api.site.wire()
    asked = request("GET", "/jobs", None, "Authorization: Bearer secret")
    for _ in range(4):
        assert (await wire.ask(asked)).status == 200
    assert api.app.access.keys is not None
    api.app.access.keys.replace([])
    assert (await wire.ask(asked)).status == 401
