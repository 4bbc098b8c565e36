"""`python -m bench.client`: the client's CPU of one call, and of reading one answer, beside other ways to do the same.

A process of its own answers every request with the same bytes, those of an enqueue, so that nothing but the client is measured. The ways
take turns, and the least of several rounds counts. h11, httptools and urllib3 are measured where they are installed; the package needs
none of them (docs/decisions/0014-one-exchange.md).
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import multiprocessing
import socket
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import ClientSession
from uvloop import new_event_loop

from jobqueue import AsyncClient, Client
from jobqueue.client.exchange import Exchange

ROUNDS = 7
CALLS = 2_000

BODY = (
    b'{"id":"0199aaaa-0000-7000-8000-000000000000","queue":"default","type":null,"priority":5,"status":"queued",'
    b'"created_at":"2026-11-22T07:30:20.786Z","run_at":null,"expires_at":null,"created":true}'
)
ANSWER = (
    b"HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nCache-Control: no-store\r\n"
    b"X-Content-Type-Options: nosniff\r\nLocation: /jobs/0199aaaa-0000-7000-8000-000000000000\r\nContent-Length: %d\r\n\r\n" % len(BODY)
) + BODY

Ways = dict[str, Callable[[], None]]


def _answer(sock: socket.socket) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    got = b""
    while data := sock.recv(1 << 16):
        got += data
        head = got.find(b"\r\n\r\n") + 4
        at = got.lower().find(b"content-length: ")
        length = int(got[at + 16 : got.find(b"\r\n", at)]) if at >= 0 else 0
        if head >= 4 and len(got) >= head + length:
            got = got[head + length :]
            sock.sendall(ANSWER)


def _serve(ports: Any) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    ports.put(listener.getsockname()[1])
    while True:
        threading.Thread(target=_answer, args=(listener.accept()[0],), daemon=True).start()


def often(way: Callable[[], object]) -> Callable[[], None]:
    """CALLS times."""

    def all_of_them() -> None:
        for _ in range(CALLS):
            way()

    return all_of_them


def on(loop: asyncio.AbstractEventLoop, way: Callable[[], Awaitable[object]]) -> Callable[[], None]:
    """CALLS times, one after the other, on a loop."""

    async def all_of_them() -> None:
        for _ in range(CALLS):
            await way()

    return lambda: loop.run_until_complete(all_of_them())


def least(ways: Ways) -> dict[str, float]:
    """Microseconds of CPU of each, the ways taking turns."""
    found: dict[str, float] = {}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            began = time.process_time()
            way()
            spent = (time.process_time() - began) / CALLS * 1e6
            found[name] = min(found.get(name, spent), spent)
    return found


def parsers() -> Ways:
    """Ways to read one answer that came whole; those of h11 write the request too, since it has no other order."""
    exchange = Exchange()

    def ours() -> None:
        exchange.begin()
        assert exchange.feed(ANSWER) is not None

    ways: Ways = {"Exchange": often(ours)}
    if importlib.util.find_spec("httptools"):
        import httptools

        class Parsed:
            def __init__(self) -> None:
                self.headers: dict[str, str] = {}
                self.body = b""
                self.whole = False

            def on_header(self, name: bytes, value: bytes) -> None:
                self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

            def on_body(self, body: bytes) -> None:
                self.body += body

            def on_message_complete(self) -> None:
                self.whole = True

        def by_httptools() -> None:
            parsed = Parsed()
            httptools.HttpResponseParser(parsed).feed_data(ANSWER)
            assert parsed.whole

        ways["httptools"] = often(by_httptools)
    if importlib.util.find_spec("h11"):
        import h11

        connection = h11.Connection(h11.CLIENT)

        def by_h11() -> None:
            connection.send(h11.Request(method="POST", target="/jobs/enqueue", headers=[("Host", "a"), ("Content-Length", "0")]))
            connection.send(h11.EndOfMessage())
            connection.receive_data(ANSWER)
            while type(connection.next_event()) is not h11.EndOfMessage:
                pass
            connection.start_next_cycle()

        ways["h11"] = often(by_h11)
    return ways


def main() -> None:
    """Print both tables."""
    ports: Any = multiprocessing.Queue()
    server = multiprocessing.Process(target=_serve, args=(ports,), daemon=True)
    server.start()
    url = f"http://127.0.0.1:{ports.get()}"
    with contextlib.ExitStack() as stack:
        stack.callback(server.kill)
        uvloop, plain = new_event_loop(), asyncio.new_event_loop()
        client = stack.enter_context(Client(url))
        on_uvloop, on_asyncio, session = AsyncClient(url), AsyncClient(url), ClientSession(loop=uvloop)

        async def by_session() -> None:
            async with session.post(f"{url}/jobs/enqueue", json={"payload": 1}) as response:
                await response.json()

        ways: Ways = {
            "Client": often(lambda: client.enqueue(1)),
            "AsyncClient, uvloop": on(uvloop, lambda: on_uvloop.enqueue(1)),
            "AsyncClient, asyncio": on(plain, lambda: on_asyncio.enqueue(1)),
            "aiohttp's session, uvloop": on(uvloop, by_session),
        }
        if importlib.util.find_spec("urllib3"):
            from urllib3 import HTTPConnectionPool

            pool = HTTPConnectionPool("127.0.0.1", int(url.rpartition(":")[2]))
            ways["urllib3's pool"] = often(lambda: pool.urlopen("POST", "/jobs/enqueue", b'{"payload":1}').json())
        for title, found in (("one call", least(ways)), ("reading one answer", least(parsers()))):
            print(f"{title}: microseconds of CPU")
            for name, spent in found.items():
                print(f"  {name:28}{spent:8.1f}")
        for loop, closing in ((uvloop, on_uvloop.close()), (plain, on_asyncio.close()), (uvloop, session.close())):
            loop.run_until_complete(closing)


if __name__ == "__main__":
    main()
