"""Faults 24 and 25: a server that is told to stop."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable

import pytest

from jobqueue.worker.shutdown import Signals

from .ledger import Api
from .process import Process
from .wire import Client, request, until

HELD = 1_000

EXIT_SECONDS_MAX = 2.0
"""A promise, and so a bound on real time: with 1,000 requests held the server is gone within this."""

signals = pytest.mark.parametrize(("loop", "name"), [("uvloop", signal.SIGTERM), ("asyncio", signal.SIGTERM), ("uvloop", signal.SIGINT)])

SLOW_BODY = b"POST /jobs/enqueue HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"


async def _exit_code(process: Process, since: float) -> tuple[int, float]:
    """The exit code and the seconds from `since` to the exit."""
    code = await asyncio.to_thread(process.wait)
    return code, time.monotonic() - since


async def _draining(port: int) -> None:
    """Wait until the server no longer accepts connections."""

    async def refused() -> bool:
        try:
            (await Client.connect(port)).rst()
        except ConnectionError:
            return True
        return False

    await until(refused, "the server stops listening")


@signals
async def test_24_drain(start: Callable[..., Process], on: Callable[..., Api], loop: str, name: signal.Signals) -> None:
    """With 1,000 requests held a signal to stop answers every one with 204 and Retry-After, and the server is gone within 2 s."""
    process = start(loop=loop)
    api = on(process, ends=True)
    clients = [await api.connect() for _ in range(HELD)]
    for client in clients:
        await client.send(api.poll())
    await api.stats()
    await api.stand(HELD)
    signalled = time.monotonic()
    process.signal(name)
    exiting = asyncio.create_task(_exit_code(process, signalled))
    answers = [await client.answer() for client in clients]
    code, seconds = await exiting
    assert {(answer.status, answer.headers["retry-after"], answer.headers["connection"]) for answer in answers} == {(204, "1", "close")}
    assert code == 0
    assert seconds < EXIT_SECONDS_MAX
    print(f"{loop}: exit after {seconds:.2f} s")
    assert [await client.closed() for client in clients] == [b""] * HELD


async def test_24_drain_of_every_kind(start: Callable[..., Process], on: Callable[..., Api]) -> None:
    """Held batches and waits for results are answered too, idle connections are closed, and what was sent before the signal is done."""
    process = start()
    api = on(process, ends=True)
    await api.put("j")
    job = await api.take()
    idle, batch, result, late = [await api.connect() for _ in range(4)]
    assert (await idle.call("GET", "/healthz")).status == 200
    await batch.send(request("POST", "/batch/dequeue", {"queue": api.queue, "limit": 5}))
    await result.send(request("GET", f"/jobs/{api.full('j')}?wait=30"))
    await api.stand(1)
    conclude = request("POST", f"/jobs/{api.full('j')}/conclude", {"lease": job["lease"]["token"], "outcome": "succeeded"})
    await late.send(conclude[:-5])
    # A round trip on another connection, so that the server has begun to read it.
    assert (await idle.call("GET", "/healthz")).status == 200
    process.signal(signal.SIGTERM)
    answer = await batch.answer()
    assert (answer.status, answer.json, answer.headers["retry-after"]) == (200, {"jobs": []}, "1")
    answer = await result.answer()
    assert (answer.status, answer.json["status"], answer.headers["retry-after"]) == (200, "in_progress", "1")
    # A worker may still hand in what it did.
    await late.send(conclude[-5:])
    answer = await late.answer()
    assert (answer.status, answer.json["outcome"]) == (200, "succeeded")
    assert await idle.closed() == b""
    assert (await _exit_code(process, 0.0))[0] == 0


async def test_24_drain_takes_no_new_work(start: Callable[..., Process], on: Callable[..., Api]) -> None:
    """An enqueue or a dequeue that arrives while the server drains is told 503, with Retry-After, and no connection is accepted."""
    process = start()
    api = on(process, ends=True)
    slow, put, take = [await api.connect() for _ in range(3)]
    enqueue, dequeue = request("POST", "/jobs/enqueue", {"payload": 1}), request("POST", "/jobs/dequeue", {})
    await slow.send(SLOW_BODY)
    # Their last byte comes only after the signal: idle connections would be closed.
    await put.send(enqueue[:-1])
    await take.send(dequeue[:-1])
    assert (await api.call("GET", "/healthz")).status == 200
    process.signal(signal.SIGTERM)
    await _draining(process.port)
    for client, rest in ((put, enqueue[-1:]), (take, dequeue[-1:])):
        await client.send(rest)
        answer = await client.answer()
        assert (answer.status, answer.code, answer.headers["retry-after"]) == (503, "draining", "1")
    slow.rst()
    assert (await _exit_code(process, 0.0))[0] == 0


async def test_24_drain_waits_for_a_slow_request_no_longer_than_told(start: Callable[..., Process], on: Callable[..., Api]) -> None:
    """A request that does not arrive holds the exit up for --drain-timeout and not for ever."""
    process = start("--drain-timeout", "0.5")
    api = on(process, ends=True)
    slow = await api.connect()
    await slow.send(SLOW_BODY)
    assert (await api.call("GET", "/healthz")).status == 200
    signalled = time.monotonic()
    process.signal(signal.SIGTERM)
    code, seconds = await _exit_code(process, signalled)
    assert code == 0
    assert 0.4 <= seconds < 5.0
    await slow.closed()


async def test_24_drain_of_no_time_answers_what_is_held(start: Callable[..., Process], on: Callable[..., Api]) -> None:
    """--drain-timeout 0 waits for no request that is still to arrive, yet those that are held get their answers."""
    process = start("--drain-timeout", "0")
    api = on(process, ends=True)
    held = [await api.connect() for _ in range(20)]
    for client in held:
        await client.send(api.poll(wait=30))
    await api.stand(20)
    process.signal(signal.SIGTERM)
    assert {(await client.answer()).status for client in held} == {204}
    assert (await _exit_code(process, 0.0))[0] == 0


@signals
async def test_25_double_sigterm(start: Callable[..., Process], on: Callable[..., Api], loop: str, name: signal.Signals) -> None:
    """A second signal while a drain waits for a request that does not arrive ends the server at once, and says so in one line."""
    process = start("--drain-timeout", "60s", loop=loop)
    api = on(process, ends=True)
    slow, held = await api.connect(), await api.connect()
    await slow.send(SLOW_BODY)
    await held.send(api.poll())
    await api.stats()
    await api.stand(1)
    process.signal(signal.SIGTERM)
    assert (await held.answer()).status == 204
    await _draining(process.port)
    assert process.process.poll() is None
    signalled = time.monotonic()
    process.signal(name)
    code, seconds = await _exit_code(process, signalled)
    assert seconds < EXIT_SECONDS_MAX
    assert code in (0, 1)
    lines = process.clean()
    assert sum("second signal" in line for line in lines) == 1
    assert len(lines) <= 4
    await slow.closed()


async def test_25_double_sigterm_in_one_burst(start: Callable[..., Process], on: Callable[..., Api]) -> None:
    """Five signals in a row end the server once: every held request is still answered or closed, and nothing but log lines is logged."""
    process = start()
    api = on(process, ends=True)
    held = [await api.connect() for _ in range(50)]
    for client in held:
        await client.send(api.poll())
    await api.stats()
    await api.stand(50)
    signalled = time.monotonic()
    for _ in range(5):
        process.signal(signal.SIGTERM)
    code, seconds = await _exit_code(process, signalled)
    assert seconds < EXIT_SECONDS_MAX
    assert code in (0, 1)
    for client in held:
        rest = await client.closed()
        assert rest == b"" or rest.startswith(b"HTTP/1.1 204 ")


@pytest.mark.parametrize(("last", "after"), [(True, signal.SIG_IGN), (False, signal.SIG_DFL)])
async def test_25_a_signal_when_all_is_drained(last: bool, after: signal.Handlers) -> None:
    """It does not kill a server that is ending anyway; a program that goes on after its worker is ended by it as ever."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with Signals(1, "requests in flight", last=last):
            pass
        assert signal.getsignal(signal.SIGTERM) is after
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
