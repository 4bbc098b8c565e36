"""The process of a producer or of workers: `python -m bench.peers.actor ROLE MODULE ADDRESS [COUNT]`, started by `sessions`.

- `prepare`: makes what the peer needs on its server (a stream, a schema), and ends. COUNT is 1 for the durable set-up.
- `work`: one worker, until it is killed.
- `crowd`: COUNT idle workers in this one process, until it is killed; prints "ready" when all wait.
- `produce`: prints "ready", then does what it reads, a line each, and prints a line of JSON when done: `single N BYTES` and
  `batch N BYTES`; `pickup N`, which enqueues N jobs one by one, each when the one before has been picked up, and prints the nanoseconds
  that each took from just before its enqueue to its handler's start; `open N`, which is followed by N lines, each at the moment when a job
  is due and with that moment, and enqueues each at once, whatever became of those before.

actor.mjs is the same for libraries of JavaScript.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import random
import select
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from bench.peers.marks import DIGITS, FIFO, MARK, handled

QUOTES = 2
PAYLOAD = "x" * (200 - QUOTES)
"""200 bytes as JSON text."""
BATCH = 100
PICKUP_SECONDS_MAX = 10.0
PAUSE_SECONDS = (0.008, 0.016)
"""Between two pickups, at random, so that the worker waits again and nothing falls into step with a poller."""


class Producer(Protocol):
    """What a peer's module makes of its client library. Those that block do so within these."""

    async def one(self, payload: str) -> None:
        """Enqueue a job."""

    async def many(self, payload: str, count: int) -> None:
        """Enqueue several by what the library has for that; not called where it has nothing."""


class Module(Protocol):
    """What a peer's module has. ABREAST: how many single calls run at once; 1 for a library that blocks."""

    ABREAST: int

    def producer(self, address: str) -> AbstractAsyncContextManager[Producer]:
        """Connected."""

    def work(self, address: str) -> None:
        """Run a worker for ever."""


class Lines:
    """Lines of a pipe, without a buffer that another reader would miss."""

    def __init__(self, fd: int) -> None:
        self.fd, self._rest, self._whole = fd, b"", deque[bytes]()

    def more(self) -> deque[bytes]:
        """Those that are there, after a read, which blocks if nothing is. An empty one when the pipe has ended."""
        # A loop that watches it may have made it one that does not block.
        select.select([self.fd], [], [])
        part = os.read(self.fd, 65_536)
        *whole, self._rest = (self._rest + part).split(b"\n")
        self._whole.extend(whole if part else [b""])
        return self._whole

    def next(self) -> str:
        """The next one; it blocks."""
        while not self._whole:
            self.more()
        return self._whole.popleft().decode()


async def single(producer: Producer, abreast: int, count: int, payload: str) -> None:
    """One call a job."""
    left: Iterator[int] = iter(range(count))

    async def some() -> None:
        for _ in left:
            await producer.one(payload)

    await asyncio.gather(*(some() for _ in range(min(abreast, count))))


async def batch(producer: Producer, abreast: int, count: int, payload: str) -> None:
    """One call for `BATCH` jobs."""
    left = iter(range(0, count, BATCH))

    async def some() -> None:
        for start in left:
            await producer.many(payload, min(BATCH, count - start))

    # A few calls in flight keep both sides busy; more would only queue.
    await asyncio.gather(*(some() for _ in range(min(abreast, 4))))


async def opened(producer: Producer, abreast: int, count: int, lines: Lines) -> None:
    """One call for each line, when it comes. A library that blocks makes them one after the other, as late as that is."""
    if abreast == 1:
        for _ in range(count):
            await producer.one(lines.next() + PAYLOAD[DIGITS:])
        return
    calls: set[asyncio.Task[None]] = set()
    failed: list[BaseException] = []
    loop, all_begun = asyncio.get_running_loop(), asyncio.Event()
    begun = 0

    def done(call: asyncio.Task[None]) -> None:
        # Kept, they would be looked at by the garbage collector again and again, in stalls that grow with the rate.
        calls.discard(call)
        if (error := call.exception()) is not None:
            failed.append(error)

    def begin() -> None:
        nonlocal begun
        there = lines.more()
        while there and begun < count:
            call: asyncio.Task[None] = loop.create_task(producer.one(there.popleft().decode() + PAYLOAD[DIGITS:]))  # type: ignore[arg-type]
            calls.add(call)
            call.add_done_callback(done)
            begun += 1
        if begun == count:
            loop.remove_reader(lines.fd)
            all_begun.set()

    loop.add_reader(lines.fd, begin)
    await all_begun.wait()
    if calls:
        await asyncio.wait(calls)
    if failed:
        raise failed[0]


async def pickup(producer: Producer, count: int, fifo: int) -> list[int]:
    """Nanoseconds of each pickup."""
    found = []
    for _ in range(count):
        await asyncio.sleep(random.uniform(*PAUSE_SECONDS))
        started = time.monotonic_ns()
        await producer.one(PAYLOAD)
        if not select.select([fifo], [], [], PICKUP_SECONDS_MAX)[0]:
            raise TimeoutError(f"a job was not picked up within {PICKUP_SECONDS_MAX:.0f} s")
        found.append(MARK.unpack(os.read(fifo, MARK.size))[0] - started)
    return found


async def produce(module: Any, address: str) -> None:
    """Do what standard input says."""
    fifo = os.open(os.environ[FIFO], os.O_RDWR) if FIFO in os.environ else -1
    async with module.producer(address) as producer:
        print("ready", flush=True)
        lines = Lines(sys.stdin.fileno())
        while line := (await asyncio.to_thread(lines.next)).split():
            what, count = line[0], int(line[1])
            answer: object = None
            if what == "pickup":
                answer = await pickup(producer, count, fifo)
            elif what == "open":
                await opened(producer, module.ABREAST, count, lines)
            else:
                payload = "x" * (int(line[2]) - QUOTES)
                await (single if what == "single" else batch)(producer, module.ABREAST, count, payload)
            print(json.dumps(answer), flush=True)


def main() -> None:
    """See above."""
    role, name, address, *rest = sys.argv[1:]
    module: Any = importlib.import_module(f"bench.peers.{name}")
    if role == "produce":
        if getattr(module, "UVLOOP", False):
            import uvloop

            uvloop.run(produce(module, address))
        else:
            asyncio.run(produce(module, address))
    elif role == "work":
        module.work(address)
    elif role == "crowd":
        module.crowd(address, int(rest[0]), handled)
    elif role == "prepare":
        asyncio.run(module.prepare(address, durable=rest == ["1"]))


if __name__ == "__main__":
    main()
