"""What becomes of a request once it is held: it lets go of its head and body, its answer is as any other, and it leaves nothing behind."""

from __future__ import annotations

import asyncio
import gc
import socket
import types
import weakref
from collections.abc import Iterator

import pytest

from jobqueue.http.answers import Answer
from jobqueue.http.connections import Connection
from jobqueue.http.request import Request
from tests import ways

from .harness import Api, Reply, Wire, request, serving, until


async def held(api: Api, data: bytes) -> Wire:
    """A connection whose request is held."""
    standing = api.backend.totals().waiters
    wire = await api.site.wire()
    wire.send(data)
    await until(lambda: api.backend.totals().waiters == standing + 1)
    return wire


DEQUEUE = b'{"wait":50}'

WAYS = {
    "1.1": (request("POST", "/jobs/dequeue", DEQUEUE), None),
    "1.1, close": (request("POST", "/jobs/dequeue", DEQUEUE, "Connection: close"), "close"),
    "1.0": (request("POST", "/jobs/dequeue", DEQUEUE, version="1.0"), "close"),
    "1.0, keep-alive": (request("POST", "/jobs/dequeue", DEQUEUE, "Connection: keep-alive", version="1.0"), "keep-alive"),
}


@pytest.mark.parametrize("way", sorted(WAYS))
async def test_a_held_request_keeps_or_closes_its_connection_as_it_asked(api: Api, way: str) -> None:
    """The version and `Connection` are honoured when the answer comes at last; a connection that is kept serves on."""
    data, connection = WAYS[way]
    wire = await held(api, data)
    await api.enqueue(id="j", payload={"a": 1})
    reply = await wire.reply()
    assert (reply.status, reply.headers.get("connection"), reply.json["payload"]) == (200, connection, {"a": 1})
    if connection == "close":
        assert await wire.rest() == b""
    else:
        assert (await wire.ask(request("GET", "/jobs/j"))).json["status"] == "in_progress"


async def test_a_held_head_is_answered_without_a_body(api: Api) -> None:
    """HEAD waits as GET does, is told the length, and the connection stays in step."""
    token = await api.working("j")
    wire = await held(api, request("HEAD", "/jobs/j?wait=50"))
    await api.post("/jobs/j/conclude", lease=token, outcome="succeeded")
    reply: Reply = await wire.reply(head=True)
    whole = await wire.ask(request("GET", "/jobs/j"))
    assert (reply.status, reply.headers["content-length"]) == (200, str(len(whole.body)))


@pytest.mark.skipif(ways.current == "plain", reason="aiohttp itself holds the request until it is answered; runs on cold, warm and auto")
async def test_a_held_request_lets_go_of_its_head_and_body() -> None:
    """Nothing keeps the headers or the body while it waits; what is pipelined behind it is served whole afterwards."""
    go = asyncio.Event()
    headers: list[weakref.ref[object]] = []
    seen: list[tuple[int, bool]] = []

    async def handler(asked: Request) -> Answer:
        headers.append(weakref.ref(asked.head.headers))
        seen.append((len(asked.head.headers), bool(asked.whole)))
        if not go.is_set():
            await go.wait()
            seen.append((len(asked.head.headers), bool(asked.whole)))
        return Answer(200, asked.head.path.encode())

    async with serving(handler) as site:
        wire = await site.wire()
        # A head that is new is not kept to be known again (heads.py).
        wire.send(request("POST", "/held", DEQUEUE, "X-Request-ID: 1"))
        await until(lambda: bool(headers) and headers[0]() is None)
        wire.send(request("POST", "/behind", DEQUEUE, "X-Request-ID: 2"))
        go.set()
        assert [(await wire.reply()).body for _ in range(2)] == [b"/held", b"/behind"]
    assert seen == [(4, True), (0, False), (4, True)]


@pytest.fixture
def garbage() -> Iterator[list[object]]:
    """What only the collector could free, kept instead of freed, when the test calls gc.collect; what is older is not looked at."""
    gc.collect()
    gc.disable()
    gc.freeze()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield gc.garbage
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.unfreeze()
        gc.enable()


@pytest.mark.parametrize("ending", ["fin", "rst"])
async def test_a_client_that_hangs_up_while_held_leaves_no_garbage(api: Api, garbage: list[object], ending: str) -> None:
    """Everything is freed as it is let go of: a crowd that leaves does not set off a collection that stops the server."""
    clients = [socket.create_connection((api.site.host, api.site.port)) for _ in range(3)]
    for client in clients:
        client.sendall(request("POST", "/jobs/dequeue", DEQUEUE))
    await until(lambda: api.backend.totals().waiters == 3)
    gc.collect()
    garbage.clear()  # what making the connections left
    for client in clients:
        if ending == "rst":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
    await until(lambda: api.backend.totals().waiters == 0 and not api.site.server.open)
    for _ in range(5):
        await asyncio.sleep(0)
    gc.collect()
    # asyncio's own transports are cycles before Python 3.13, small ones; what a request is made of must not be in any.
    made_of = (BaseException, types.FrameType, types.TracebackType, types.CoroutineType, asyncio.Future, Connection, Request)
    assert [type(each) for each in garbage if isinstance(each, made_of)] == []
