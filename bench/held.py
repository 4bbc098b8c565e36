"""What a held dequeue costs: memory, CPU while nothing happens, and how soon it is answered."""

from __future__ import annotations

import asyncio
import contextlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from bench.crowd import HEALTHZ, QUEUE
from bench.plan import Plan
from bench.process import ROOT, BenchError, Server, bare, ours
from bench.report import Row
from bench.requests import ENQUEUE
from bench.wire import PAYLOAD, Blocking, request

KEYS = ("held", "idle", "pickup")
HOLD_SECONDS = 55
IDLE_SECONDS = 2.0
IDLE_SHARE_MAX = 0.005
"""CPU of one core that counts as none."""
PICKUP_QUEUE = "pickup"


class Crowd:
    """A crowd that stands: see crowd.py. end: when its waits end, on the monotonic clock."""

    def __init__(self, process: subprocess.Popen[str], end: float) -> None:
        self.process = process
        self.end = end

    def answers(self) -> dict[str, int]:
        """Wait for every answer; how many of each status."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        found: dict[str, int] = json.loads(self.process.stdout.readline())["answers"]
        return found


@contextlib.contextmanager
def crowd(server: Server, count: int, path: str, seconds: float, *, together: bool = False) -> Iterator[Crowd]:
    """So many requests held by a server; killed at the end of the context."""
    command = [sys.executable, "-m", "bench.crowd", str(server.port), str(count), path, str(seconds), *(["together"] if together else [])]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise BenchError("the crowd did not come together")
        yield Crowd(process, json.loads(line)["end"])
    finally:
        process.kill()
        process.communicate()


def waiters(connection: Blocking) -> int:
    """How many dequeues the server holds for the crowd's queue."""
    answer = connection.ask(request("GET", f"/queues/{QUEUE}"), 200)
    stats: dict[str, Any] = json.loads(answer.body)
    number: int = stats["waiters"]
    return number


def await_waiters(connection: Blocking, count: int) -> None:
    """Wait until the server has read all of a crowd's requests: its last round trip may have overtaken some. Raises BenchError."""
    deadline = time.monotonic() + 5.0
    while (held := waiters(connection)) != count:
        if time.monotonic() > deadline:
            raise BenchError(f"{held} requests are held, not {count}")
        time.sleep(0.01)


def make_queue(server: Server) -> None:
    """Make the crowd's queue: one that only has waiters is none yet, and cannot be asked about."""
    connection = Blocking(server.port)
    connection.ask(request("PUT", f"/queues/{QUEUE}", {}), 200)
    connection.close()


def _kib_each(server: Server, count: int, path: str) -> tuple[float, float]:
    """KiB of memory for each of `count` held requests, and the share of a core that holding them takes."""
    connection = Blocking(server.port)
    with crowd(server, 100, path, HOLD_SECONDS):
        pass
    for _ in range(100):
        connection.ask(HEALTHZ, 200)
    before = server.rss_bytes()
    with crowd(server, count, path, HOLD_SECONDS):
        if path != "/hold":
            await_waiters(connection, count)
        grown = server.rss_bytes() - before
        cpu = server.cpu_ns()
        time.sleep(IDLE_SECONDS)
        share = (server.cpu_ns() - cpu) / 1e9 / IDLE_SECONDS
    return grown / count / 1_024, share


def memory_rows(plan: Plan) -> list[Row]:
    """Memory, and CPU while idle."""
    with ours() as server:
        make_queue(server)
        each, share = _kib_each(server, plan.held, "/jobs/dequeue")
    with bare() as server:
        bare_each, bare_share = _kib_each(server, plan.held, "/hold")
    return [
        Row(
            "held", f"held dequeue, memory each at {plan.held:,}", "≤ 8 KiB", f"{each:.1f} KiB", f"{bare_each:.1f} KiB",
            f"{each / bare_each:.2f}", "", each <= 8,
        ),
        Row(
            "idle", f"CPU of {plan.held:,} held dequeues while nothing happens", "none", f"{share:.2%} of a core", f"{bare_share:.2%}",
            "", "", share <= IDLE_SHARE_MAX,
        ),
    ]  # fmt: skip


def pickup_row(plan: Plan) -> Row:
    """From an enqueue's first byte to the held dequeue's answer, against a bare round trip."""
    dequeue = request("POST", "/jobs/dequeue", {"queue": PICKUP_QUEUE, "wait": HOLD_SECONDS})
    enqueue = request("POST", "/jobs/enqueue", {"queue": PICKUP_QUEUE, "payload": PAYLOAD})
    pickups: list[int] = []
    trips: list[int] = []
    with ours() as server, bare("/jobs/enqueue") as bare_server:
        worker, producer, trip = Blocking(server.port), Blocking(server.port), Blocking(bare_server.port)
        for _ in range(plan.pickups):
            worker.send(dequeue)
            # Two turns of the server's loop later the dequeue stands.
            producer.ask(HEALTHZ, 200)
            producer.ask(HEALTHZ, 200)
            started = time.perf_counter_ns()
            producer.send(enqueue)
            answer = worker.receive()
            pickups.append(time.perf_counter_ns() - started)
            producer.receive()
            job = json.loads(answer.body)
            verdict = {"lease": job["lease"]["token"], "outcome": "succeeded"}
            producer.ask(request("POST", f"/jobs/{job['id']}/conclude", verdict), 200)
            trip.ask(ENQUEUE, 200)
            started = time.perf_counter_ns()
            trip.ask(ENQUEUE, 200)
            trips.append(time.perf_counter_ns() - started)
    ours_p50, bare_p50 = statistics.median(pickups), statistics.median(trips)
    p99 = statistics.quantiles(pickups, n=100)[98]
    return Row(
        "pickup", "pickup by a held dequeue, p50", "≤ 3 round trips", f"{ours_p50 / 1_000:.0f} µs", f"{bare_p50 / 1_000:.0f} µs",
        f"{ours_p50 / bare_p50:.2f}", f"p99 {p99 / 1_000:.0f} µs", ours_p50 <= 3 * bare_p50,
    )  # fmt: skip


async def rows(plan: Plan) -> list[Row]:
    """The rows of this file. Nothing else runs in this process, so blocking it is fine."""
    return [*await asyncio.to_thread(memory_rows, plan), await asyncio.to_thread(pickup_row, plan)]
