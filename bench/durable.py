"""What durability costs: throughput and latency with `--data`, for each sync mode, against the same server in memory.

Wall time, not CPU: a commit costs waiting. So the servers may use every core, as they would, and the memory mode's rounds are run next to
those of each durable one. The file lies in the folder of temporary files: on a RAM disk every sync is free, so mind where that is.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from bench.load import CONNECTIONS
from bench.plan import Plan
from bench.process import CORES, BenchError, Server, ours
from bench.report import Row
from bench.requests import BATCH, BATCH_DEQUEUE, BATCH_ENQUEUE, ENQUEUE
from bench.wire import parse, request

KEYS = ("durable",)
PRODUCERS = 100
MODES = ("always", "interval", "off")
BATCH_SHARE_MIN, SINGLE_SHARE_MIN = 1 / 2, 1 / 3
PURGE = request("POST", "/queues/default/purge")


class _Worker(asyncio.Protocol):
    """A connection with one request outstanding, which notes how long each took."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def start(self, run: _Run) -> None:
        self.run = run
        self.buffer = bytearray()
        self.next()

    def next(self) -> None:
        data = next(self.run.left, None)
        if data is not None:
            self.sent = time.perf_counter()
            self.transport.write(data)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        answer = parse(self.buffer)
        if answer is None:
            return
        self.run.answered(answer.status, answer.body, time.perf_counter() - self.sent)
        self.buffer.clear()
        self.next()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.run.done.done():
            self.run.done.set_exception(BenchError(f"the server closed a connection: {exc}"))


class _Run:
    """A stretch of load."""

    def __init__(self, requests: Sequence[bytes]) -> None:
        self.left: Iterator[bytes] = iter(requests)
        self.missing = len(requests)
        self.bodies: list[bytes] = []
        self.seconds: list[float] = []
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def answered(self, status: int, body: bytes, seconds: float) -> None:
        if status not in (200, 201) and not self.done.done():
            self.done.set_exception(BenchError(f"got {status}: {body[:300]!r}"))
        self.bodies.append(body)
        self.seconds.append(seconds)
        self.missing -= 1
        if not self.missing and not self.done.done():
            self.done.set_result(None)


class _Figures:
    """What was measured of one server. rates: of jobs a second, one a round."""

    def __init__(self) -> None:
        self.batch_rates: list[float] = []
        self.single_rates: list[float] = []
        self.batch_seconds: list[float] = []
        self.single_seconds: list[float] = []


class _Load(NamedTuple):
    """Connections to one server: all of them for single enqueues, some for batches."""

    workers: list[_Worker]

    async def send(self, requests: Sequence[bytes], connections: int) -> tuple[float, _Run]:
        """Send all; the seconds it took, and the answers."""
        run = _Run(requests)
        started = time.perf_counter()
        for worker in self.workers[:connections]:
            worker.start(run)
        await run.done
        return time.perf_counter() - started, run

    async def round(self, plan: Plan, figures: _Figures) -> None:
        """Single enqueues by many producers; then batches through their whole life."""
        seconds, run = await self.send([ENQUEUE] * plan.requests, PRODUCERS)
        figures.single_rates.append(plan.requests / seconds)
        figures.single_seconds += run.seconds
        await self.send([PURGE], 1)
        count = plan.batches * 4
        total, run = await self.send([BATCH_ENQUEUE] * count, CONNECTIONS)
        figures.batch_seconds += run.seconds
        seconds, run = await self.send([BATCH_DEQUEUE] * count, CONNECTIONS)
        total += seconds
        concludes = []
        for body in run.bodies:
            items = [
                {"id": job["id"], "lease": job["lease"]["token"], "outcome": "succeeded", "result": 1} for job in json.loads(body)["jobs"]
            ]
            concludes.append(request("POST", "/batch/conclude", {"jobs": items}))
        seconds, _ = await self.send(concludes, CONNECTIONS)
        figures.batch_rates.append(count * BATCH / (total + seconds))


@contextlib.asynccontextmanager
async def _load_on(server: Server) -> AsyncIterator[_Load]:
    loop = asyncio.get_running_loop()
    workers = [(await loop.create_connection(_Worker, "127.0.0.1", server.port))[1] for _ in range(PRODUCERS)]
    try:
        yield _Load(workers)
    finally:
        for worker in workers:
            worker.run = _Run([])
            worker.run.done.set_result(None)
            worker.transport.close()


async def measure(plan: Plan, modes: Sequence[str] = MODES) -> dict[str, tuple[_Figures, _Figures]]:
    """For each mode, its figures and those of the memory mode's rounds beside them."""
    found = {}
    # The load keeps its core, and the servers may have all of them.
    for mode in modes:
        with (
            tempfile.TemporaryDirectory() as folder,
            ours() as memory,
            ours("--data", str(Path(folder, "jobs.db")), "--sync", mode) as disk,
        ):
            for server in (memory, disk):
                os.sched_setaffinity(server.process.pid, CORES)
            figures = (_Figures(), _Figures())
            async with _load_on(memory) as memory_load, _load_on(disk) as disk_load:
                for number in range(plan.rounds + 1):
                    pair = figures if number else (_Figures(), _Figures())
                    turns = [(memory_load, pair[1]), (disk_load, pair[0])]
                    for load, of_load in turns if number % 2 else reversed(turns):
                        await load.round(plan, of_load)
            found[mode] = figures
    return found


def _row(
    mode: str, what: str, share_min: float, rates: tuple[Sequence[float], Sequence[float]], times: tuple[list[float], list[float]]
) -> Row:
    shares = [disk / memory for disk, memory in zip(*rates, strict=True)]
    share = statistics.median(shares)
    p99 = [statistics.quantiles(seconds, n=100)[98] * 1_000 for seconds in times]
    bound = share_min if mode == "always" else 0.0
    return Row(
        "durable",
        f"{what}, --sync {mode}, against memory",
        f"≥ {bound:.2f} ×" if bound else "",
        f"{statistics.median(rates[0]):,.0f} jobs/s; p99 {p99[0]:.1f} ms",
        f"{statistics.median(rates[1]):,.0f} jobs/s; p99 {p99[1]:.1f} ms",
        f"{share:.2f} ×",
        f"{min(shares):.2f} to {max(shares):.2f}",
        share >= bound,
    )


async def rows(plan: Plan) -> list[Row]:
    """The rows of this file. "bare" is the memory mode here."""
    found = []
    for mode, (disk, memory) in (await measure(plan)).items():
        batch = (disk.batch_rates, memory.batch_rates), (disk.batch_seconds, memory.batch_seconds)
        single = (disk.single_rates, memory.single_rates), (disk.single_seconds, memory.single_seconds)
        found.append(_row(mode, f"batches of {BATCH}", BATCH_SHARE_MIN, *batch))
        found.append(_row(mode, f"single enqueues by {PRODUCERS} producers", SINGLE_SHARE_MIN, *single))
    return found
