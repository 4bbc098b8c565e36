"""Faults 34 to 37: clients that are slow, that never read, or that are too many for the file descriptors."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator

import pytest

from .ledger import Api
from .process import Process
from .wire import Client, call, request, until

pytestmark = pytest.mark.long

LIMIT_SECONDS = 0.6
"""What the server of these tests gives a client: for a request's head, for its body, for reading an answer."""

SLACK_SECONDS = 8.0
"""Real time beyond the limit within which the server must have acted, busy machine or not."""

MIB = 1024 * 1024

_NO_SOCKETS = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)); "


@pytest.fixture(scope="module", params=["uvloop", "asyncio"])
def impatient(request: pytest.FixtureRequest) -> Iterator[Process]:
    """A server of little patience."""
    limit = str(LIMIT_SECONDS)
    process = Process("--idle-timeout", limit, "--body-timeout", limit, "--write-timeout", limit, loop=request.param)
    yield process
    process.end()


@pytest.fixture
async def api(impatient: Process) -> object:
    """A queue of the test's own on that server, found intact afterwards, with a clean log."""
    api = Api(impatient.port)
    try:
        yield api
        await api.intact()
    finally:
        api.close()
        impatient.clean()


async def _drip(client: Client, data: bytes) -> None:
    """A byte every 100 ms, until the server has had enough."""
    with contextlib.suppress(ConnectionError):
        for byte in data:
            await client.send(bytes([byte]))
            await asyncio.sleep(0.1)


async def _ended_in_time(started: float) -> None:
    seconds = time.monotonic() - started
    assert LIMIT_SECONDS * 0.9 <= seconds < LIMIT_SECONDS + SLACK_SECONDS


@pytest.mark.parametrize("served", [0, 1], ids=["first request", "second request"])
async def test_34_slow_headers(api: Api, served: int) -> None:
    """A client that sends a byte of its request every 100 ms is answered 408 at the limit and cut off."""
    client = await api.connect()
    for _ in range(served):
        assert (await client.call("GET", "/healthz")).status == 200
    started = time.monotonic()
    dripping = asyncio.create_task(_drip(client, b"POST /jobs/dequeue HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 100))
    assert (await client.answer()).code == "request_timeout"
    assert await client.closed() == b""
    await _ended_in_time(started)
    dripping.cancel()
    await asyncio.gather(dripping, return_exceptions=True)


async def test_34_slow_headers_do_not_hold_up_others(api: Api) -> None:
    """While fifty connections drip, everyone else is served; none of the fifty is left after the limit."""
    await api.stats()
    clients = [await api.connect() for _ in range(50)]
    for client in clients:
        await client.send(b"POST /jobs/enqueue HT")
    await api.put("j")
    assert (await api.take())["id"] == "j"
    for client in clients:
        assert (await client.answer()).status == 408
        assert await client.closed() == b""


async def test_35_slow_body(api: Api) -> None:
    """A body that comes byte by byte is answered 408 at the limit and the connection closed; nothing was enqueued."""
    client = await api.connect()
    await client.send(b"POST /jobs/enqueue HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n")
    started = time.monotonic()
    dripping = asyncio.create_task(_drip(client, b'{"queue": "%s", "payload": "' % api.queue.encode() + b"x" * 400))
    answer = await client.answer()
    await _ended_in_time(started)
    assert (answer.status, answer.code, answer.headers["connection"]) == (408, "request_timeout", "close")
    dripping.cancel()
    await asyncio.gather(dripping, return_exceptions=True)
    assert await api.counts() == (0, 0)


@pytest.mark.parametrize("path", ["/jobs/enqueue", "/jobs/dequeue", "/classic/jobs", "/nowhere"])
async def test_53_drip_known_head(api: Api, path: str) -> None:
    """A head that the server knows by heart buys no time: however the bytes after it are spaced, the request has until its limit."""
    client = await api.connect()
    for _ in range(4):
        body = b'{"queue": "%s", "wait": 0, "payload": 1}' % api.queue.encode()
        await client.send(request("POST", "/none", body))
        assert (await client.answer()).status == 404
    started = time.monotonic()
    head = b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 400\r\n\r\n" % path.encode()
    dripping = asyncio.create_task(_drip(client, head + b" " * 400))
    answer = await client.answer()
    assert await client.closed() == b""
    await _ended_in_time(started)
    assert answer.headers["connection"] == "close"
    assert answer.status == 408
    dripping.cancel()
    await asyncio.gather(dripping, return_exceptions=True)


async def test_52_unfinished_heads(api: Api, impatient: Process) -> None:
    """A hundred clients that send a megabyte of one head each are refused at the bound on a head; memory stays where it was."""
    await api.stats()
    before = impatient.rss()
    clients = [await api.connect() for _ in range(100)]
    filler = b"".join(b"X-%d: " % number + b"y" * 8_000 + b"\r\n" for number in range(130))

    async def flood(client: Client) -> bytes:
        with contextlib.suppress(ConnectionError):
            await client.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n" + filler)
        return await client.closed()

    for answer in await asyncio.gather(*map(flood, clients)):
        # A reset may overtake it.
        assert not answer or answer.startswith(b"HTTP/1.1 400 ")
    assert impatient.rss() - before < 32 * MIB
    impatient.clean()


async def test_35_slow_body_of_a_dequeue(api: Api) -> None:
    """A dequeue whose body does not come never stands in line, whatever else is in the queue."""
    await api.put("j")
    client = await api.connect()
    await client.send(
        b"POST /jobs/dequeue HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nContent-Type: application/json\r\n\r\n5\r\n{"
    )
    assert (await client.answer()).status == 408
    assert await api.counts() == (1, 0)


async def test_36_stalled_reader(api: Api) -> None:
    """A worker that asks for a large job and does not read it is cut off at the limit; the job goes back to its place uncounted."""
    await api.put("large", "x" * (256 * 1024 - 2))
    await api.put("next")
    client = await api.connect(sip=True)
    await client.send(api.poll())
    await api.reach(queued=1, in_progress=1)
    started = time.monotonic()
    await api.reach(queued=2, in_progress=0)
    assert time.monotonic() - started < LIMIT_SECONDS + SLACK_SECONDS
    assert [(job["id"], job["attempts"]) for job in await api.take_all()] == [("large", 1), ("next", 1)]


async def test_36_stalled_reader_memory(api: Api, impatient: Process) -> None:
    """Forty clients that ask for 256 KiB fifty times each, and read nothing, cost one answer each and not fifty; then they are gone."""
    await api.put("large", "x" * (256 * 1024 - 2))
    assert (await api.call("GET", f"/jobs/{api.full('large')}")).status == 200
    before = impatient.rss()
    clients = [await api.connect(sip=True) for _ in range(40)]
    highest = 0
    for client in clients:
        await client.send(request("GET", f"/jobs/{api.full('large')}") * 50)
        highest = max(highest, impatient.rss())

    async def none_left() -> bool:
        nonlocal highest
        highest = max(highest, impatient.rss())
        return impatient.connections() <= 1

    await until(none_left, "every stalled reader is cut off")
    print(f"grew by {(highest - before) / MIB:.1f} MiB")
    # All answers are 500 MiB, one for each is 10; what a request holds besides comes on top.
    assert highest - before < 60 * MIB


async def test_36_stalled_reader_that_sips(api: Api) -> None:
    """A slow reader is not a stalled one for the others: while it sips, they are served at once."""
    await api.put("large", "x" * (256 * 1024 - 2))
    client = await api.connect(sip=True)
    await client.send(api.poll(lease_seconds=60))
    await client.sip(100)
    await api.put("small")
    assert (await api.take())["id"] == "small"
    client.rst()
    await api.reach(queued=1, in_progress=1)


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
async def test_37_fd_exhaustion(start: Callable[..., Process], on: Callable[..., Api], loop: str) -> None:
    """With 64 file descriptors and 300 clients the server refuses most, still answers health checks, works on, and recovers by itself."""
    process = start(loop=loop, before=_NO_SOCKETS)
    lines: list[str] = []
    # The log is written behind the server's back, so a line may come a moment later.
    await until(lambda: lines.extend(process.clean()) or any("file descriptors" in line for line in lines), "it says so")
    api = on(process)
    await api.put("before")
    held = await api.connect()
    assert (await held.call("GET", "/healthz")).status == 200

    clients = []
    for _ in range(300):
        clients.append(await api.connect())
    cpu, began = process.cpu_seconds(), time.monotonic()

    async def healthy() -> bool:
        try:
            return (await call(process.port, "GET", "/healthz")).status == 200
        except ConnectionError:
            return False

    await until(healthy, "a health check gets through the crowd")
    # One that was there before the crowd works on, and what it may not do it is told.
    job = (await held.call("POST", "/jobs/dequeue", {"queue": api.queue, "lease_seconds": 60})).json
    api.took(job)
    refused = {answer.code for answer in await asyncio.gather(*(_try(process.port) for _ in range(20))) if answer is not None}
    assert refused <= {"too_many_connections"}
    spent, passed = process.cpu_seconds() - cpu, time.monotonic() - began
    assert spent < 0.5 * passed + 0.5, "the accept loop spins"

    for client in clients:
        client.fin()

    async def recovered() -> bool:
        try:
            return (await call(process.port, "POST", "/jobs/dequeue", {"queue": api.queue, "wait": 0})).status == 204
        except ConnectionError:
            return False

    await until(recovered, "new clients are served again")
    await api.put("after")
    assert len(process.clean()) < 20


async def _try(port: int) -> object:
    with contextlib.suppress(ConnectionError):
        return await call(port, "POST", "/jobs/dequeue", {"queue": "nothing", "wait": 0})
    return None


async def test_37_fd_exhaustion_by_waiters(start: Callable[..., Process], on: Callable[..., Api]) -> None:
    """When every descriptor is taken by a held dequeue, those that stand still get their jobs."""
    process = start(before=_NO_SOCKETS)
    process.clean()
    api = on(process)
    await api.stats()
    producer = await api.connect()
    assert (await producer.call("GET", "/healthz")).status == 200
    held = []
    for _ in range(100):
        client = await api.connect()
        with contextlib.suppress(ConnectionError):
            await client.send(api.poll())
        held.append(client)

    async def full() -> bool:
        return bool((await producer.call("GET", f"/queues/{api.queue}")).json["waiters"] == 31)

    await until(full, "as many stand as there may be connections")
    job_id = api.full("j")
    assert (await producer.call("POST", "/jobs/enqueue", {"id": job_id, "queue": api.queue, "payload": 1})).status == 201
    api.acknowledged.add(job_id)
    assert (await api.handed(held[0]))["id"] == "j"
    for client in held:
        client.rst()
    await until(lambda: process.connections() <= 1, "the crowd is gone")
