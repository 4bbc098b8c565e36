"""Heads that were met before: known by their bytes, told alike, and never taken for what they are not.

How any bytes in any packets are answered on all ways of serving is test_alike.py's.
"""

from __future__ import annotations

import asyncio

import pytest

from jobqueue.errors import QueueError
from jobqueue.http import connections, heads
from jobqueue.http.answers import Answer
from jobqueue.http.body import body_at_once, read_body
from jobqueue.http.fast import Parser
from jobqueue.http.heads import Head
from jobqueue.http.request import Request
from tests import ways
from tests.api.harness import request, serving, until

from .conftest import Serve

BODY_BYTES_MAX = 10_000


@pytest.fixture(autouse=True)
def way(monkeypatch: pytest.MonkeyPatch) -> str:
    """As a server does by itself: what it knows is what these tests are about."""
    monkeypatch.setattr(ways, "current", "auto")
    return "auto"


async def echo(asked: Request) -> Answer:
    """What was asked, as the server understood it."""
    try:
        body = body_at_once(asked, BODY_BYTES_MAX, any_type=True)
        if body is None:
            body = await read_body(asked, BODY_BYTES_MAX, any_type=True)
    except QueueError as error:
        return Answer(400, str(error).encode())
    fields = asked.head.fields
    said = [asked.head.method, asked.head.path, sorted(asked.head.headers.items()), fields.host, fields.origin, fields.json, body]
    return Answer(200, repr(said).encode())


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of requests that aiohttp's parser was asked about."""
    paths: list[str] = []
    parse = Parser.parse

    def noting(parser: Parser, raw: bytes) -> Head | None:
        paths.append(raw.split(b" ")[1].decode())
        return parse(parser, raw)

    # Trying the parser parses too, before any request.
    monkeypatch.setattr(Parser, "_try", lambda _: None)
    monkeypatch.setattr(Parser, "parse", noting)
    return paths


async def test_a_head_that_was_met_before_is_not_parsed_again(parsed: list[str]) -> None:
    """On any connection, behind any request line of the plain kind; one of other bytes is."""
    async with serving(echo) as site:
        one, other = await site.wire(), await site.wire()
        replies = [await wire.ask(request("POST", "/a", b"12345")) for wire in (one, other, one, other)]
        assert [(reply.status, reply.body) for reply in replies] == [(200, replies[0].body)] * 4
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
    """Method, target, every header and the body are the same; Content-Length is the request's own."""
    async with serving(echo) as site:
        wire = await site.wire()
        told = []
        for body in (b"12345", b"12345", b"12345", b"1", b"12345"):
            told.append((await wire.ask(request("POST", "/a%2Fb/c?x=1&x=%20&y", body, "Cookie: a=b", "If-None-Match: *"))).body)
    assert told[0] == told[1] == told[2] == told[4]
    assert b"('Content-Length', '1')" in told[3]
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


@pytest.mark.parametrize("late", [False, True])
async def test_a_body_that_comes_by_itself_is_waited_for_a_moment(late: bool, parsed: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """In any number of packets, its head being known; when the moment is over, its handler is called and reads what is to come."""
    async with serving(echo) as site:
        wire = await site.wire()
        whole = request("POST", "/a", b"1234567")
        for _ in range(2):
            await wire.ask(whole)
        # Never, or before anything else could come.
        monkeypatch.setattr(connections, "PART_SECONDS", 0.0 if late else 3_600.0)
        wire.send(whole[:-7])
        if late:
            await until(lambda: site.server.requests_count == 3)
        else:
            await until(lambda: not next(iter(site.server.open)).idle)
        wire.send(whole[-7:-3])
        # A packet of its own: the server has seen what was sent before when it answers another client.
        await (await site.wire()).ask(request("GET", "/b"))
        assert site.server.requests_count == (4 if late else 3)
        assert b"b'1234567'" in (await wire.ask(whole[-3:])).body
        assert (await wire.ask(request("GET", "/c"))).status == 200
        assert parsed.count("/a") == 2


async def test_a_client_that_goes_before_its_body_leaves_nothing(parsed: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The part that came is dropped, and nothing is done."""
    monkeypatch.setattr(connections, "PART_SECONDS", 3_600.0)
    async with serving(echo) as site:
        wire = await site.wire()
        for _ in range(2):
            await wire.ask(request("POST", "/a", b"12345"))
        wire.send(request("POST", "/a", b"12345")[:-1])
        await until(lambda: not next(iter(site.server.open)).idle)
        await wire.close()
        await until(lambda: not site.server.open)
        assert site.server.requests_count == 2
        assert site.server.unread_bytes == 0


@pytest.mark.parametrize(
    "odd",
    [
        request("GET", "/a", None, "Connection: close"),
        request("GET", "/a", None, version="1.0"),
        request("GET", "http://test/a"),
        request("GET", "//a"),
        request("OPTIONS", "/a"),
        request("HEAD", "/a"),
        request("POST", "/a", b"1", "Expect: 100-continue"),
        request("GET", "/a", None, "X-Long: " + "x" * 1_100),
        b"POST /a HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /a HTTP/1.1\r\nHost: test\r\nContent-Length: \0\r\n\r\n",
        b"POST /a HTTP/1.1\r\nHost: test\r\nContent-Length: #\r\n\r\n",
        b"POST /a HTTP/1.1\r\nHost: test\r\nContent-Length: \r\n\r\n",
        b"POST /a HTTP/1.1\r\nHost: test\r\nContent-Length: 0000000001\r\n\r\n1",
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
        for number in range(connections.STRANGE_MAX + 1):
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


@pytest.mark.parametrize(
    "length", [b"\0", b"#", b"", b" 5", b"+5", b"5 ", b"0x5", b"5_0", b"\xd9\xa5", "٥".encode(), b"\xb2", b"5, 5", b"-5"]
)
@pytest.mark.parametrize("name", [b"Content-Length", b"content-length"])
async def test_no_length_but_a_plain_number_is_known(name: bytes, length: bytes) -> None:
    """After requests with the same lines and a number there, what a parser refuses is refused; a space around one is a parser's matter."""
    async with serving(echo) as site:
        lines = b"POST /a HTTP/1.1\r\nHost: test\r\n%b: %b\r\n\r\n"
        for _ in range(3):
            wire = await site.wire()
            assert (await wire.ask(lines % (name, b"5") + b"12345")).status == 200
        assert len(site.server.heads) == 1
        reply = await (await site.wire()).ask(lines % (name, length) + b"12345")
        assert reply.status == (200 if length.strip() == b"5" else 400)
        assert len(site.server.heads) == 1


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


async def test_the_plain_way_learns_heads_from_what_aiohttp_made_of_them() -> None:
    """After two of a kind aiohttp is not given a third, which is told as they were; a head of other bytes it is given."""

    async def handler(asked: Request) -> Answer:
        answer = await echo(asked)
        answer.add_header(b"X-Whole: %r\r\n" % (asked.whole is not None))
        return answer

    async with serving(handler, parser=None) as site:
        wire = await site.wire()
        told = [await wire.ask(request("POST", "/a%2Fb?x=1", b"12345", "Cookie: a=b")) for _ in range(4)]
        assert [answer.headers["x-whole"] for answer in told] == ["False", "False", "True", "True"]
        assert len({answer.body for answer in told}) == 1
        other = await wire.ask(request("POST", "/a%2Fb?x=1", b"12345", "Cookie: a=c"))
        assert other.headers["x-whole"] == "False"


@pytest.mark.parametrize(("times", "kept"), [(1, 0), (2, 10)])
def test_whole_heads_that_are_kept_are_bounded(times: int, kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those with a query that came twice behind known lines are; each is told as itself."""
    monkeypatch.setattr(heads, "WHOLE_MAX", 10)
    sizes = []

    async def run() -> None:
        async with serving(echo) as site:
            wire = await site.wire()
            for _ in range(2):
                await wire.ask(request("GET", "/a"))
            for number in range(50):
                assert f"'/a?{number // times}'" in (await wire.ask(request("GET", f"/a?{number // times}"))).body.decode()
                sizes.append(site.server.heads.kept_whole)

    asyncio.run(run())
    assert max(sizes) == kept
