"""Sessions of one server each, in turns."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

import uvloop

from bench.peers.servers import cpu_ns, memory_bytes
from bench.process import CORES, ROOT, BenchError, bare
from bench.requests import ENQUEUE
from bench.sqs.raw import BODY, Blocking, Load, Target, make_queue
from bench.sqs.servers import OURS, Peer, Running, has_boto, running
from bench.wire import Blocking as Plain

WAIT_SECONDS = 20
"""For which a receive may be held, the most that SQS allows."""

STANDS_SECONDS = 0.02
"""Within which a receive is surely held."""


RAW = (("raw, single", "bench", 1), ("raw, batches of 10", "bench", 10), ("raw, FIFO, single", "bench.fifo", 1))
BOTO = (("boto3, single", 1), ("boto3, batches of 10", 10))
WAYS = tuple(name for name, *_ in RAW) + tuple(name for name, _ in BOTO)


class Plan(NamedTuple):
    """How much. seconds: of each load; pickups: at most, in pickup_seconds at most; held_seconds: how long one more receive is held before
    something is sent; messages: for the memory of one, in fill_seconds at most; boto: which of its ways.
    """

    rounds: int
    seconds: float
    connections: int
    pickups: int
    pickup_seconds: float
    held_seconds: float
    messages: int
    fill_seconds: float
    boto: tuple[tuple[str, int], ...]


FULL = Plan(2, 1.0, 16, 60, 2.0, 6.0, 100_000, 20.0, BOTO)
QUICK = Plan(1, 0.1, 4, 5, 0.5, 0.1, 500, 0.5, BOTO[1:])


class Way(NamedTuple):
    """How messages went through: messages a second, and the server's CPU for each, in microseconds."""

    rate: float
    server_us: float


@dataclass
class Found:
    """Of each server: ways by name; pickups, the round trips of its own and bare ones beside them, and those after a long hold, in
    microseconds; bytes for a message and how many there were; what could not be measured, and why.
    """

    ways: dict[str, dict[str, list[Way]]] = field(default_factory=dict)
    pickups: dict[str, list[float]] = field(default_factory=dict)
    trips: dict[str, list[float]] = field(default_factory=dict)
    late: dict[str, list[float]] = field(default_factory=dict)
    memory: dict[str, tuple[float, int]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    bare: dict[str, list[float]] = field(default_factory=dict)

    def in_trips(self, key: str) -> float:
        """How long a pickup takes, in round trips."""
        return middle(self.pickups[key]) / middle(self.bare[key])


@contextlib.contextmanager
def _server(peer: Peer) -> Iterator[Running]:
    with tempfile.TemporaryDirectory(prefix="bench-sqs-") as name, running(peer, Path(name, "data")) as server:
        yield server


def _raw(server: Running, target: Target, batch: int, plan: Plan) -> Way:
    load = Load(target, batch, fifo=target.queue_url.endswith(".fifo"))
    uvloop.run(load.run(plan.connections, plan.seconds / 10))
    before = cpu_ns(server.pid)
    count, seconds = uvloop.run(load.run(plan.connections, plan.seconds))
    if not count:
        raise BenchError("no message went through")
    return Way(count / seconds, (cpu_ns(server.pid) - before) / count / 1_000)


@contextlib.contextmanager
def _acting(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "bench.sqs.boto", *arguments]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise BenchError("boto3 cannot speak to it")
        yield process
    finally:
        process.kill()
        process.communicate()


def _go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def _boto(server: Running, target: Target, batch: int, plan: Plan) -> Way:
    with (
        _acting("receive", server.url, target.queue_url, str(batch)) as worker,
        _acting("send", server.url, target.queue_url, str(batch), str(plan.seconds)) as producer,
    ):
        assert worker.stdout is not None
        assert producer.stdout is not None
        before, began = cpu_ns(server.pid), time.monotonic()
        _go(worker)
        _go(producer)
        sent = int(producer.stdout.readline() or 0)
        done = 0
        while done < sent:
            line = worker.stdout.readline()
            if not line:
                raise BenchError("a client with boto3 has ended by itself")
            done = int(line)
        if not sent:
            raise BenchError("boto3 could send nothing")
        return Way(sent / (time.monotonic() - began), (cpu_ns(server.pid) - before) / sent / 1_000)


def _pickup(target: Target, waiting: Blocking, sending: Blocking, held: float) -> float:
    receive = target.request("ReceiveMessage", {"MaxNumberOfMessages": 1, "WaitTimeSeconds": WAIT_SECONDS})
    waiting.send(receive)
    time.sleep(held)
    message = target.request("SendMessage", {"MessageBody": BODY})
    began = time.perf_counter_ns()
    sending.send(message)
    answer = waiting.receive()
    took = (time.perf_counter_ns() - began) / 1_000
    sending.receive()
    handle = json.loads(answer.body)["Messages"][0]["ReceiptHandle"]
    sending.ask(target.request("DeleteMessage", {"ReceiptHandle": handle}), "DeleteMessage")
    return took


def _pickups(server: Running, target: Target, plan: Plan, found: Found, key: str, last: bool) -> None:
    waiting, sending = Blocking(server.port), Blocking(server.port)
    send = target.request("SendMessage", {"MessageBody": BODY})
    pickups, trips, bares = (each.setdefault(key, []) for each in (found.pickups, found.trips, found.bare))
    _pickup(target, waiting, sending, STANDS_SECONDS)
    with bare("/jobs/enqueue") as beside:
        os.sched_setaffinity(beside.process.pid, CORES)
        plain = Plain(beside.port)
        until = time.monotonic() + plan.pickup_seconds
        for _ in range(plan.pickups):
            if time.monotonic() > until:
                break
            pickups.append(_pickup(target, waiting, sending, STANDS_SECONDS))
            bares.append(_trip(lambda: plain.ask(ENQUEUE, 200)))
            trips.append(_trip(lambda: sending.ask(send, "SendMessage")))
            _taken(target, sending)
        plain.close()
    if last:
        # Some servers close a connection that has been idle for some seconds.
        sending.close()
        found.late.setdefault(key, []).append(_pickup(target, waiting, sending, plan.held_seconds))
    waiting.close()
    sending.close()


def _taken(target: Target, connection: Blocking) -> None:
    """Have a message gone. PurgeQueue would do, but for servers that allow one a minute, as AWS does."""
    receive = target.request("ReceiveMessage", {"MaxNumberOfMessages": 1, "WaitTimeSeconds": 1})
    for message in connection.ask(receive, "ReceiveMessage").get("Messages", []):
        connection.ask(target.request("DeleteMessage", {"ReceiptHandle": message["ReceiptHandle"]}), "DeleteMessage")


def _trip(ask: Callable[[], object]) -> float:
    """A round trip, as cold as a pickup is."""
    time.sleep(STANDS_SECONDS)
    began = time.perf_counter_ns()
    ask()
    return (time.perf_counter_ns() - began) / 1_000


def _session(peer: Peer, plan: Plan, found: Found, last: bool) -> None:
    with _server(peer) as server:
        targets = {name: make_queue(server.port, server.url, name) for name in ("bench", "bench.fifo", "pickup")}
        ways = found.ways.setdefault(peer.key, {})
        for name, queue, batch in RAW:
            ways.setdefault(name, []).append(_raw(server, targets[queue], batch, plan))
        if has_boto():
            for name, batch in plan.boto:
                ways.setdefault(name, []).append(_boto(server, targets["bench"], batch, plan))
        _pickups(server, targets["pickup"], plan, found, peer.key, last)


def _memory(peer: Peer, plan: Plan, found: Found) -> None:
    with _server(peer) as server:
        load = Load(make_queue(server.port, server.url, "bench"), 10)
        uvloop.run(load.fill(plan.connections, 1_000, plan.fill_seconds))
        before = memory_bytes(server.pid)
        count = uvloop.run(load.fill(plan.connections, plan.messages, plan.fill_seconds))
        found.memory[peer.key] = (memory_bytes(server.pid) - before) / count, count


def measure(peers: Sequence[Peer], plan: Plan) -> Found:
    """All of it. A server that fails is left out from then on; `failures` says why."""
    found = Found()

    def attempt(peer: Peer, what: str, act: Callable[[], None]) -> None:
        if peer.key in found.failures:
            return
        print(f"{peer.name}: {what}", flush=True)
        try:
            act()
        except (BenchError, OSError, KeyError, ValueError) as error:
            found.failures[peer.key] = f"{type(error).__name__}: {error}" if not isinstance(error, BenchError) else str(error)
            print(f"{peer.name}: {found.failures[peer.key]}", flush=True)

    for number in range(plan.rounds):
        turned = [*peers[number % len(peers) :], *peers[: number % len(peers)]]
        for peer in turned:
            last = number == plan.rounds - 1
            attempt(peer, f"round {number + 1}", partial(_session, peer, plan, found, last))
    # A quick look starts others only once.
    for peer in peers if plan.rounds > 1 else [peer for peer in peers if peer.key in OURS]:
        attempt(peer, "memory", partial(_memory, peer, plan, found))
    return found


def middle(values: Sequence[float]) -> float:
    """The median."""
    return statistics.median(values)
