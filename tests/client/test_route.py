"""How the clients get to the server: what the environment says of proxies, and what they say to one."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ssl
from collections.abc import AsyncIterator

import pytest
import trustme

import jobqueue
from jobqueue import AsyncClient, Client, Retrying
from jobqueue.client.endpoint import Endpoint
from jobqueue.client.route import Route, proxy_for

from .conftest import Connect
from .rig import canned, closed

ONCE = Retrying(tries=1)
PROXY = {"http_proxy": "http://proxy.test:3128"}
ANSWER = canned(200, b'{"queues":[]}')
LET_IN = "Basic " + base64.b64encode(b"ann:p@ss:word").decode()


@pytest.mark.parametrize(
    ("scheme", "environ", "found"),
    [
        ("http", {}, None),
        ("http", {"http_proxy": ""}, None),
        ("http", PROXY, ("proxy.test", 3128)),
        ("https", PROXY, None),
        ("https", {"https_proxy": "http://proxy.test"}, ("proxy.test", 80)),
        ("https", {"HTTPS_PROXY": "proxy.test:3128"}, ("proxy.test", 3128)),
        ("http", {"http_proxy": "http://a", "HTTP_PROXY": "http://b"}, ("a", 80)),
        ("http", {"all_proxy": "http://a/"}, ("a", 80)),
        ("http", {"ALL_PROXY": "http://[::1]:8", "http_proxy": "http://b"}, ("b", 80)),
        ("http", {"ALL_PROXY": "http://[::1]:8"}, ("::1", 8)),
        ("http", {"HTTP_PROXY": "http://a"}, ("a", 80)),
        ("http", {"HTTP_PROXY": "http://a", "REQUEST_METHOD": "GET"}, None),
        ("https", {"HTTPS_PROXY": "http://a", "REQUEST_METHOD": "GET"}, ("a", 80)),
    ],
)
def test_the_environment_names_the_proxy(scheme: str, environ: dict[str, str], found: tuple[str, int] | None) -> None:
    """By scheme, the lower case first; what anyone who asks a CGI program can set is passed over."""
    proxy = proxy_for(scheme, "queue.test", 8080, environ)
    assert (proxy and proxy[0]) == found


@pytest.mark.parametrize(
    ("host", "listed", "exempt"),
    [
        ("queue.test", "*", True),
        ("queue.test", "queue.test", True),
        ("queue.test", "other, QUEUE.test.", True),
        ("a.queue.test", "queue.test", True),
        ("a.queue.test", ".queue.test", True),
        ("a.queue.test", "*.queue.test", True),
        ("myqueue.test", "queue.test", False),
        ("queue.test", "a.queue.test", False),
        ("queue.test", "queue.test:8080", True),
        ("queue.test", "queue.test:80", False),
        ("queue.test", "", False),
        ("queue.test", ".", False),
        ("10.1.2.3", "10.0.0.0/8", True),
        ("11.1.2.3", "10.0.0.0/8", False),
        ("10.1.2.3", "10.1.2.3", True),
        ("::1", "::1", True),
        ("::1", "[::1]:8080", True),
        ("::1", "[::1]:80", False),
        ("fd00::1", "fd00::/8", True),
    ],
)
@pytest.mark.parametrize("name", ["no_proxy", "NO_PROXY"])
def test_no_proxy_names_who_is_reached_without(name: str, host: str, listed: str, exempt: bool) -> None:
    """Names with all below them, addresses, networks, each with a port or without."""
    assert (proxy_for("http", host, 8080, PROXY | {name: listed}) is None) is exempt


@pytest.mark.parametrize("kind", [AsyncClient, Client])
@pytest.mark.parametrize("proxy", ["socks5://a", "https://a", "http://", "http://a:x", "http://user:secret@a b", "http://a:0"])
def test_what_is_no_proxy_is_refused(kind: type, proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the client is made, by the variable's name, and without its password. A server that is exempt never minds."""
    monkeypatch.setenv("all_proxy", proxy)
    with pytest.raises(ValueError, match=r"^all_proxy: must be http") as raised:
        kind("http://queue.test")
    assert "secret" not in str(raised.value)
    monkeypatch.setenv("no_proxy", "queue.test")
    kind("http://queue.test")


def test_a_route_shows_no_token() -> None:
    """Neither the server's nor the proxy's."""
    environ = {"https_proxy": "http://ann:secret@a"}
    (endpoint,) = Endpoint.find("https://queue.test/in", "the-token")
    route = Route.to(endpoint, environ)
    assert repr(route) == "Route('a', 80)"
    assert b"the-token" not in (route.connect or b"")
    assert b"Proxy-Auth" not in route.request("GET", "/queues", None)


# Through a proxy.


class Middle:
    """A proxy: answers what it is asked for, passes on what it is told to connect, refuses who has no password."""

    def __init__(self, refusing: bool = False) -> None:
        self.asked: list[list[str]] = []
        self.refusing = refusing
        self.serving: set[asyncio.Task[None]] = set()
        self.upstream = 0

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.serving.add(asyncio.create_task(self._serve(reader, writer)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            try:
                while True:
                    lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]
                    self.asked.append(lines)
                    if self.refusing:
                        writer.write(canned(407, b"who are you?", 'Proxy-Authenticate: Basic realm="x"'))
                    elif lines[0].startswith("CONNECT "):
                        await self._pass_on(reader, writer)
                        return
                    else:
                        writer.write(ANSWER)
            finally:
                await closed(writer)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self.upstream)
        writer.write(b"HTTP/1.0 200 Connection established\r\n\r\n")

        async def copy(source: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ConnectionError):
                while data := await source.read(1 << 16):
                    to.write(data)
            to.close()

        try:
            await asyncio.gather(copy(reader, back), copy(there, writer))
        finally:
            back.transport.abort()


@contextlib.asynccontextmanager
async def listening(accept: object, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Its port."""
    listener = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls)  # type: ignore[arg-type]
    try:
        yield listener.sockets[0].getsockname()[1]
    finally:
        listener.close()


@contextlib.asynccontextmanager
async def in_between(middle: Middle, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    async with listening(middle.accept, tls) as port:
        yield port
        for task in middle.serving:
            task.cancel()
        await asyncio.gather(*middle.serving, return_exceptions=True)


async def test_a_proxy_is_asked_for_the_whole_url(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the server's name as Host, and a password where one is given; the connection is kept."""
    middle = Middle()
    async with in_between(middle) as port:
        monkeypatch.setenv("http_proxy", f"http://ann:p%40ss:word@127.0.0.1:{port}")
        api = connect("http://queue.test:8080/in", "the-token")
        for _ in range(2):
            assert await api.queues() == []
        with pytest.raises(jobqueue.UnexpectedAnswer):
            await api.listen().next()
    assert [lines[0] for lines in middle.asked] == [
        *["GET http://queue.test:8080/in/queues HTTP/1.1"] * 2,
        "GET http://queue.test:8080/in/events HTTP/1.1",
    ]
    assert {"Host: queue.test:8080", f"Proxy-Authorization: {LET_IN}", "Authorization: Bearer the-token"} <= set(middle.asked[0])
    assert len(middle.serving) == 2


async def test_a_proxy_connects_for_https(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told the server's name and port, and gets to see neither token nor request."""
    authority = trustme.CA()
    context, trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("queue.test").configure_cert(context)
    authority.configure_trust(trusting)
    upstream, middle = Middle(), Middle()
    async with in_between(upstream, context) as there, in_between(middle) as port:
        middle.upstream = there
        monkeypatch.setenv("HTTPS_PROXY", f"http://ann:p%40ss:word@127.0.0.1:{port}")
        api = connect("https://queue.test/in", "the-token", ssl_context=trusting, retrying=ONCE)
        for _ in range(2):
            assert await api.queues() == []
        assert middle.asked == [["CONNECT queue.test:443 HTTP/1.1", "Host: queue.test:443", f"Proxy-Authorization: {LET_IN}"]]
        assert [lines[0] for lines in upstream.asked] == ["GET /in/queues HTTP/1.1"] * 2
        assert {"Host: queue.test", "Authorization: Bearer the-token"} <= set(upstream.asked[0])
        assert not [line for line in upstream.asked[0] if line.startswith("Proxy")]
        with pytest.raises(jobqueue.ConnectionFailed, match=r"(?i)certificate"):
            await connect("https://other.test", ssl_context=trusting, retrying=ONCE).queues()
        await api.close()


async def test_a_proxy_that_refuses_is_named(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its status, over https as a connection that failed before anything was sent."""
    middle = Middle(refusing=True)
    async with in_between(middle) as port:
        monkeypatch.setenv("all_proxy", f"http://127.0.0.1:{port}")
        with pytest.raises(jobqueue.UnexpectedAnswer, match="407"):
            await connect("http://queue.test", retrying=ONCE).queues()
        with pytest.raises(jobqueue.ConnectionFailed, match="answered 407") as raised:
            await connect("https://queue.test", retrying=ONCE).queues()
        assert raised.value.sent is False


async def test_a_redirect_is_refused(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token goes to no other server than the one it was given for; the error says where it was sent."""

    async def redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(canned(308, b"", "Location: http://elsewhere.test/"))
        await closed(writer)

    async with listening(redirect) as port:
        with pytest.raises(jobqueue.UnexpectedAnswer, match=r"redirects are not followed.*http://elsewhere\.test/") as raised:
            await connect(f"http://127.0.0.1:{port}", "the-token").queues()
        assert raised.value.status == 308
