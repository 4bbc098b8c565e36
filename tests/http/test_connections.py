"""How many connections there may be, and how a request is served at once or in a task."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest

from jobqueue.http import peers
from jobqueue.http.answers import Answer
from jobqueue.http.body import AHEAD_BYTES_MAX
from jobqueue.http.peers import OVER_MAX
from jobqueue.http.request import Request
from jobqueue.resuming import resumed
from tests.api.harness import GUARD, Api, Wire, answered, assert_problem, request, serving, until

from .conftest import Serve

Probe = Callable[[Request], Awaitable[Answer]]


async def refused(wire: Wire) -> None:
    """That a connection was cut without a word."""
    wire.send(request("GET", "/healthz"))
    assert await wire.rest() == b""


# The cap.


async def test_over_the_cap_only_health_is_served(serve: Serve) -> None:
    """429 on what costs anything, 200 on what a load balancer asks; those within the cap notice nothing."""
    api = await serve(connections_max=2)
    within = [await api.site.wire() for _ in range(2)]
    for wire in within:
        assert (await wire.ask(request("GET", "/jobs"))).status == 200
    over = await api.site.wire()
    assert_problem(await over.ask(request("GET", "/jobs")), 429, "too_many_connections")
    assert_problem(await over.ask(request("POST", "/jobs/enqueue", b'{"payload":1}')), 429, "too_many_connections")
    assert_problem(await over.ask(request("POST", "/jobs/dequeue")), 429, "too_many_connections")
    for path in ("/healthz", "/readyz"):
        assert (await over.ask(request("GET", path))).status == 200
    assert_problem(await over.ask(request("GET", "/none")), 404, "not_found")
    assert (await within[0].ask(request("GET", "/jobs"))).json["jobs"] == []


async def test_far_over_the_cap_connections_are_cut(serve: Serve) -> None:
    """Beyond the reserve nothing is answered, so descriptors do not run out."""
    api = await serve(connections_max=1)
    wires = [await api.site.wire() for _ in range(1 + OVER_MAX)]
    for wire in wires:
        assert (await wire.ask(request("GET", "/healthz"))).status == 200
    for _ in range(3):
        await refused(await api.site.wire())
    assert (await wires[-1].ask(request("GET", "/healthz"))).status == 200


async def test_when_connections_end_new_ones_are_served_again(serve: Serve) -> None:
    """The cap counts what is open now."""
    api = await serve(connections_max=1)
    wires = [await api.site.wire() for _ in range(1 + OVER_MAX)]
    await until(lambda: len(api.site.server.open) == len(wires))
    await refused(await api.site.wire())
    for wire in wires:
        await wire.close()
    await until(lambda: not api.site.server.open)
    fresh = await api.site.wire()
    assert (await fresh.ask(request("GET", "/jobs"))).status == 200


async def test_a_connection_over_the_cap_may_not_stay(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is cut after OVER_SECONDS, so that idle ones do not lock the reserve."""
    monkeypatch.setattr(peers, "OVER_SECONDS", 0.01)
    api = await serve(connections_max=1)
    within = await api.site.wire()
    assert (await within.ask(request("GET", "/jobs"))).status == 200
    over = await api.site.wire()
    assert await over.rest() == b""
    assert (await within.ask(request("GET", "/jobs"))).status == 200


async def test_the_cap_is_checked_before_the_token(serve: Serve) -> None:
    """A full server says so to everyone alike."""
    api = await serve(connections_max=1, token="secret", send_token=False)
    await api.site.wire()
    await until(lambda: len(api.site.server.open) == 1)
    over = await api.site.wire()
    assert_problem(await over.ask(request("GET", "/jobs")), 429, "too_many_connections")


# Serving at once: outside any task, as far as it goes without suspending.


def task_name() -> str | None:
    """The running task's name, None outside any."""
    task = asyncio.current_task()
    return None if task is None else task.get_name()


async def test_a_request_that_never_suspends_needs_no_task(way: str) -> None:
    """On the fast way it is answered in the very call that parsed it, and so are those pipelined behind it, in order."""
    tasks: list[str | None] = []

    async def handler(asked: Request) -> Answer:
        tasks.append(task_name())
        return Answer(200, asked.head.path.encode())

    async with serving(handler) as site:
        wire = await site.wire()
        wire.send(b"".join(request("GET", f"/{n}") for n in range(5)))
        assert [(await wire.reply()).body for _ in range(5)] == [b"/%d" % n for n in range(5)]
        assert [task is None for task in tasks] == [way != "plain"] * 5
        assert site.server.requests_count == 5


async def test_a_request_that_suspends_is_carried_on_by_a_task(way: str) -> None:
    """With everything it had done before; what it awaits, and what that raises, reaches it there."""
    tasks: list[str | None] = []
    go = asyncio.Event()

    async def fail() -> None:
        await asyncio.sleep(0)
        raise ValueError("passed on")

    async def handler(_: Request) -> Answer:
        tasks.append(task_name())
        await go.wait()
        tasks.append(task_name())
        await asyncio.sleep(0)
        with pytest.raises(ValueError, match="passed on"):
            await asyncio.gather(fail(), asyncio.sleep(0))
        async with asyncio.timeout(GUARD):
            await asyncio.sleep(0)
        return Answer(200, b"done")

    async with serving(handler) as site:
        wire = await site.wire()
        for _ in range(2):
            go.clear()
            wire.send(request("GET", "/"))
            await until(lambda: len(tasks) == 1)
            go.set()
            assert (await wire.reply()).body == b"done"
            first, second = tasks
            assert (first is None) is (way != "plain")
            assert second is not None
            tasks.clear()


async def test_what_is_pipelined_behind_a_held_request_waits_for_it() -> None:
    """Begun in order, answered in order, however the bytes are cut; quick ones before it are not held up."""
    go, begun = asyncio.Event(), []

    async def handler(asked: Request) -> Answer:
        begun.append(asked.head.path)
        if asked.head.path == "/held":
            await go.wait()
        return Answer(200, asked.head.path.encode())

    async with serving(handler) as site:
        wire = await site.wire()
        later = request("GET", "/later")
        wire.send(request("GET", "/quick") + request("GET", "/held") + later + later[:10])
        assert (await wire.reply()).body == b"/quick"
        await until(lambda: begun == ["/quick", "/held"])
        wire.send(later[10:])
        for _ in range(5):
            await asyncio.sleep(0)
        assert begun == ["/quick", "/held"]
        go.set()
        assert [(await wire.reply()).body for _ in range(3)] == [b"/held", b"/later", b"/later"]


async def test_a_client_that_goes_before_the_task_takes_over_ends_the_request() -> None:
    """The half-run request is closed where it stands, so whatever it holds it lets go of; nothing is left behind."""
    seen: list[str] = []

    async def handler(asked: Request) -> Answer:
        transport = asked.connection.transport
        assert transport is not None
        transport.abort()
        try:
            await asyncio.Event().wait()
        except GeneratorExit:
            seen.append("closed")
            raise
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise
        raise AssertionError("unreachable")

    async with serving(handler) as site:
        wire = await site.wire()
        wire.send(request("GET", "/"))
        await until(lambda: bool(seen))
        await until(lambda: not site.server.open)
    assert seen in (["closed"], ["cancelled"])


async def test_a_held_dequeue_whose_client_goes_at_once_leaves_no_trace(api: Api) -> None:
    """A request and its end in one packet's time: the place in line is given up, a job goes to the next."""
    for _ in range(20):
        with socket.create_connection((api.site.host, api.site.port)) as client:
            client.sendall(request("POST", "/jobs/dequeue"))
    held = await api.hold("/jobs/dequeue", worker="stays")
    await until(lambda: api.backend.totals().waiters == 1 and api.site.server.requests_count >= 20)
    await api.enqueue(id="j")
    assert (await answered(held)).json["attempts"] == 1
    assert (await api.job("j"))["worker"] == "stays"


async def test_a_defect_in_a_handler_is_the_servers_answer() -> None:
    """`App.handle` lets nothing through; if something did, the connection ends and others go on."""

    async def handler(asked: Request) -> Answer:
        await asyncio.sleep(0)
        if asked.head.path == "/reset":
            raise ConnectionResetError
        return Answer(200, b"ok")

    async with serving(handler) as site:
        broken, whole = await site.wire(), await site.wire()
        broken.send(request("GET", "/reset"))
        await broken.rest()
        assert (await whole.ask(request("GET", "/"))).body == b"ok"


async def test_a_request_that_asks_for_a_websocket_is_its_connections_last() -> None:
    """It is answered as any other; what aiohttp does with the bytes after it differs from release to release."""
    async with serving(_ok) as site:
        wire = await site.wire()
        reply = await wire.ask(request("GET", "/", None, "Connection: Upgrade", "Upgrade: websocket"))
        assert (reply.status, reply.headers["connection"]) == (200, "close")
        assert await wire.rest() == b""
        wire = await site.wire()
        for _ in range(2):
            assert (await wire.ask(request("GET", "/", None, "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c"))).status == 200


async def test_requests_far_ahead_of_their_answers_are_bounded() -> None:
    """A client that pipelines thousands behind a held request is read no further until they are served; all are, in order."""
    go = asyncio.Event()

    async def handler(asked: Request) -> Answer:
        if asked.head.path == "/0":
            await go.wait()
        return Answer(200, asked.head.path.encode())

    async with serving(handler) as site:
        wire = await site.wire()
        padding = "X: " + "x" * 5_000
        wire.send(b"".join(request("GET", f"/{n}", None, padding) for n in range(300)))
        await until(lambda: site.server.unread_bytes > AHEAD_BYTES_MAX)
        for _ in range(20):
            await asyncio.sleep(0)
        assert site.server.unread_bytes < 5 * AHEAD_BYTES_MAX
        go.set()
        assert [(await wire.reply()).body for _ in range(300)] == [b"/%d" % n for n in range(300)]
        assert site.server.unread_bytes == 0


async def test_an_idle_connection_is_closed() -> None:
    """After idle_seconds without a request, whether it ever sent one or not; requests served at once count."""
    async with serving(_ok, idle_seconds=0.05) as site:
        silent, served = await site.wire(), await site.wire()
        assert (await served.ask(request("GET", "/"))).status == 200
        assert await silent.rest() == b""
        assert await served.rest() == b""


async def test_a_connection_is_idle_again_after_a_held_request() -> None:
    """While a request is held there is no time-out; afterwards it is set anew."""
    go = asyncio.Event()

    async def handler(asked: Request) -> Answer:
        await go.wait()
        return Answer(200, b"late")

    async with serving(handler, idle_seconds=0.05) as site:
        wire = await site.wire()
        wire.send(request("GET", "/"))
        await until(lambda: site.server.requests_count == 1)
        # Longer than it may ask for nothing.
        loop, passed = asyncio.get_running_loop(), asyncio.Event()
        loop.call_later(0.1, passed.set)
        await passed.wait()
        assert len(site.server.open) == 1
        go.set()
        assert (await wire.reply()).body == b"late"
        assert await wire.rest() == b""


async def _ok(_: Request) -> Answer:
    return Answer(200, b"ok")


async def test_resumed_passes_everything_both_ways() -> None:
    """Values in, exceptions in, the result out, as if the coroutine had been awaited from the start."""
    loop = asyncio.get_running_loop()
    first, second = loop.create_future(), loop.create_future()
    answer = Answer(200)

    async def serving_one() -> Answer:
        assert await first == 1
        try:
            await second
        except OSError:
            return answer
        raise AssertionError("unreachable")

    coroutine = serving_one()
    waits_for = coroutine.send(None)

    async def carry_on() -> Answer:
        return await resumed(coroutine, waits_for)

    task = asyncio.create_task(carry_on())
    await asyncio.sleep(0)
    first.set_result(1)
    await asyncio.sleep(0)
    second.set_exception(OSError())
    assert await task is answer


async def test_resumed_passes_cancellation_on() -> None:
    """The coroutine sees it where it waits, and may clean up with awaits of its own."""
    seen: list[str] = []

    async def serving_one() -> Answer:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            seen.append("cleaned")
        raise AssertionError("unreachable")

    coroutine = serving_one()
    waits_for = coroutine.send(None)

    async def carry_on() -> Answer:
        return await resumed(coroutine, waits_for)

    task = asyncio.create_task(carry_on())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == ["cleaned"]


# A producer's answer, when its job goes to a worker that waits.


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The statuses of answers, in the order in which they are written."""
    statuses: list[int] = []
    write_now = Answer.write_now

    def noting(answer: Answer, asked: Request) -> None:
        if not answer.written:
            statuses.append(answer.status)
        write_now(answer, asked)

    monkeypatch.setattr(Answer, "write_now", noting)
    return statuses


ENQUEUE = request("POST", "/jobs/enqueue", b'{"payload":1}')


async def test_the_worker_that_waits_is_answered_before_the_producer(api: Api, written: list[int]) -> None:
    """It has the job as soon as can be; the producer has its answer right afterwards, as it has where nobody waits."""
    producer = await api.site.wire()
    assert (await producer.ask(ENQUEUE)).status == 201
    await api.take()
    held = await api.hold("/jobs/dequeue", wait=50)
    # Its connection's task has taken it over.
    await until(lambda: all(connection._half is None for connection in api.site.server.open))
    written.clear()
    assert (await producer.ask(ENQUEUE)).status == 201
    assert (await answered(held)).status == 200
    assert written == [200, 201]


@pytest.mark.parametrize("together", [True, False])
async def test_answers_keep_the_order_of_their_requests(api: Api, together: bool, written: list[int]) -> None:
    """What comes behind an enqueue, with it or by itself, is answered behind it."""
    producer = await api.site.wire()
    for _ in range(3):
        assert (await producer.ask(ENQUEUE)).status == 201
        await api.take()
        held = await api.hold("/jobs/dequeue", wait=50)
        if together:
            producer.send(ENQUEUE + request("GET", "/none"))
        else:
            producer.send(ENQUEUE)
            producer.send(request("GET", "/none"))
        assert [(await producer.reply()).status for _ in range(2)] == [201, 404]
        assert (await answered(held)).status == 200


async def test_a_producer_that_goes_before_its_answer_leaves_nothing(api: Api) -> None:
    """Its job is the worker's, and its connection is forgotten."""
    producer = await api.site.wire()
    held = await api.hold("/jobs/dequeue", wait=50)
    producer.send(ENQUEUE)
    await producer.close()
    assert (await answered(held)).status == 200
    await until(lambda: len(api.site.server.open) == 1)
