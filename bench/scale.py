"""`python -m bench scale`: what many servers on one store cost, beside one server in memory and one with `--data`.

All of them stand at the same time and take turns, so every figure is of one run. CPU is that of each process, by its own clock. --quick
only prints.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import uvloop

from bench import results
from bench.load import Load, load_on
from bench.pickup import Pickup, measure_pickup
from bench.process import CORES, ROOT, BenchError, Server, ours, prepare
from bench.report import machine
from bench.requests import BATCH, BATCH_DEQUEUE, BATCH_ENQUEUE, DEQUEUE, ENQUEUE
from bench.stores import STORES, Store, servers_on
from bench.wire import request

SERVERS = 3
VERDICT = {"outcome": "succeeded", "result": 1}


class Plan(NamedTuple):
    """Sizes. singles and batches: in a round; pickups: of each kind; waiters: of the crowd."""

    rounds: int
    singles: int
    batches: int
    pickups: int
    waiters: int


FULL = Plan(rounds=7, singles=2_000, batches=60, pickups=600, waiters=1_000)
QUICK = Plan(rounds=1, singles=200, batches=6, pickups=40, waiters=50)


class Costs(NamedTuple):
    """What all calls of a kind took in one round. seconds: by the clock on the wall; the rest is CPU in nanoseconds."""

    calls: int
    seconds: float
    owner: int
    fronts: int
    store: int
    standby: int


class Way:
    """One way to ask: which servers are sent the calls, who owns, who else takes part, and what was found, a Costs each round, by kind."""

    def __init__(
        self,
        setup: str,
        asked: str,
        owner: Server,
        servers: Sequence[Server],
        store: Store | None = None,
        standby: Server | None = None,
    ) -> None:
        self.setup = setup
        self.asked = asked
        self.owner = owner
        self.servers = servers
        self.store = store
        self.standby = standby if standby not in servers else None
        self._fronts = [server for server in servers if server is not owner]
        self.found: dict[str, list[Costs]] = {}

    async def send(self, kind: str, load: Load, requests: Sequence[bytes], expect: int, keep: bool) -> list[bytes]:
        """Send requests and note what they took; the answers' bodies."""
        before = self._cpu()
        started = time.perf_counter()
        bodies = await load.send(requests, expect)
        seconds = time.perf_counter() - started
        if keep:
            spent = [after - first for first, after in zip(before, self._cpu(), strict=True)]
            self.found.setdefault(kind, []).append(Costs(len(requests), seconds, *spent))
        return bodies

    def _cpu(self) -> tuple[int, int, int, int]:
        return (
            self.owner.cpu_ns(),
            sum(server.cpu_ns() for server in self._fronts),
            0 if self.store is None else self.store.cpu_ns(),
            0 if self.standby is None else self.standby.cpu_ns(),
        )

    async def round(self, plan: Plan, keep: bool) -> None:
        """Jobs through their whole life, by single calls, then by batches."""
        async with load_on(self.servers[0], others=self.servers[1:]) as load:
            await self.send("enqueue", load, [ENQUEUE] * plan.singles, 201, keep)
            jobs = [json.loads(body) for body in await self.send("dequeue", load, [DEQUEUE] * plan.singles, 200, keep)]
            concludes = [request("POST", f"/jobs/{job['id']}/conclude", VERDICT | {"lease": job["lease"]["token"]}) for job in jobs]
            await self.send("conclude", load, concludes, 200, keep)
            await self.send("batch enqueue", load, [BATCH_ENQUEUE] * plan.batches, 200, keep)
            batches = []
            for body in await self.send("batch dequeue", load, [BATCH_DEQUEUE] * plan.batches, 200, keep):
                items = [VERDICT | {"id": job["id"], "lease": job["lease"]["token"]} for job in json.loads(body)["jobs"]]
                batches.append(request("POST", "/batch/conclude", {"jobs": items}))
            await self.send("batch conclude", load, batches, 200, keep)

    # What came of it.

    def micros(self, kind: str, of: Callable[[Costs], float]) -> float:
        """Microseconds of something a call, the median of the rounds."""
        return statistics.median(of(costs) / costs.calls / 1_000 for costs in self.found[kind])

    def per_second(self, kinds: Sequence[str], jobs_a_call: int = 1) -> float:
        """Whole lives of jobs a second, the median of the rounds."""
        rounds = zip(*(self.found[kind] for kind in kinds), strict=True)
        return statistics.median(each[0].calls * jobs_a_call / sum(costs.seconds for costs in each) for each in rounds)


SINGLE = ("enqueue", "dequeue", "conclude")
BATCHES = ("batch enqueue", "batch dequeue", "batch conclude")


class Stand(NamedTuple):
    """All that is measured. fronts: the servers of dequeue and enqueue in pickups; missing: why a store could not be started."""

    ways: list[Way]
    fronts: dict[str, tuple[Server, Server]]
    missing: list[str]


@contextlib.contextmanager
def stand() -> Iterator[Stand]:
    """Start all, and end it."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-scale-"))
        memory = stack.enter_context(ours())
        file = stack.enter_context(ours("--data", str(Path(folder, "jobs.db"))))
        for server in (memory, file):
            os.sched_setaffinity(server.process.pid, CORES)
        found = Stand([Way("memory", "1 server", memory, [memory]), Way("`--data`", "1 server", file, [file])], {}, [])
        found.fronts.update({"memory": (memory, memory), "`--data`": (file, file)})
        for start in STORES:
            try:
                store = stack.enter_context(start())
                first, second, third = stack.enter_context(servers_on(store, SERVERS))
            except BenchError as error:
                found.missing.append(str(error))
                continue
            for asked, servers in (
                ("1 server, the owner", [first]),
                ("1 server, not the owner", [second]),
                ("2 servers", [first, second]),
                ("3 servers", [first, second, third]),
            ):
                found.ways.append(Way(store.name, asked, first, servers, store, third))
            found.fronts[store.name] = (second, third)
        yield found


async def measure(plan: Plan, found: Stand) -> None:
    """All rounds, after one that only warms up; in turns, the other way round every other time."""
    for number in range(plan.rounds + 1):
        for way in found.ways if number % 2 else reversed(found.ways):
            await way.round(plan, keep=number > 0)
        print(".", end="", file=sys.stderr, flush=True)


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """In Markdown."""
    return "\n".join("| " + " | ".join(row) + " |" for row in (headings, ["---"] * len(headings), *rows))


def costs(ways: Sequence[Way]) -> str:
    """CPU a call."""
    rows = []
    for way in ways:
        cells = [way.setup, way.asked]
        for kind in SINGLE:
            owner, fronts = way.micros(kind, lambda cost: cost.owner), way.micros(kind, lambda cost: cost.fronts)
            cells.append(f"{owner:.0f} + {fronts:.0f}" if fronts else f"{owner:.0f}")
        servers = sum(way.micros(kind, lambda cost: cost.owner + cost.fronts) for kind in BATCHES) / BATCH
        stores = sum(way.micros(kind, lambda cost: cost.store) for kind in BATCHES) / BATCH
        if way.store is None:
            rows.append([*cells, "", "", f"{servers:.0f}", ""])
        else:
            single = " / ".join(f"{way.micros(kind, lambda cost: cost.store):.0f}" for kind in SINGLE)
            followed = " / ".join(f"{way.micros(kind, lambda cost: cost.standby):.0f}" for kind in SINGLE) if way.standby else ""
            rows.append([*cells, followed, single, f"{servers:.0f}", f"{stores:.0f}"])
    return table(["CPU, µs", "asked", "enqueue", "dequeue", "conclude", "standby", "store", "batches, a job's life", "store"], rows)


def throughput(ways: Sequence[Way]) -> str:
    """Whole lives of jobs a second, beside those in memory."""
    single, batched = ([way.per_second(kinds, jobs) for way in ways] for kinds, jobs in ((SINGLE, 1), (BATCHES, BATCH)))
    rows = [
        [way.setup, way.asked, f"{one:,.0f}", f"{one / single[0]:.2f} ×", f"{many:,.0f}", f"{many / batched[0]:.2f} ×"]
        for way, one, many in zip(ways, single, batched, strict=True)
    ]
    return table(["jobs/s", "asked", "single calls", "of memory's", "batches of 100", "of memory's"], rows)


def pickups(found: dict[str, list[Pickup]]) -> str:
    """How soon a job is handed out, beside memory."""
    first = found["memory"]
    rows = []
    for name, measured in found.items():
        cells = [name]
        for pickup, base in zip(measured, first, strict=True):
            cells += [f"{pickup.p50:.2f} ({pickup.p50 / base.p50:.1f} ×)", f"{pickup.p99:.2f} ({pickup.p99 / base.p99:.1f} ×)"]
        rows.append(cells)
    headings = [heading for pickup in first for heading in (f"{pickup.waiters:,} waiting, p50", "p99")]
    return table(["pickup, ms", *headings], rows)


HOW = """\
All servers and stores run at the same time, on the same cores as the load, and get the same calls in turns, in reverse order every other
round; figures are medians of the rounds. 32 connections have one outstanding call each, and are spread evenly over the servers. If a call
goes to a server that does not own the queue, CPU is the owner's + that of the servers that pass the call on. The third server is the
standby: its CPU is the cost of following the owner or, if it gets calls too, the cost of both. The replicas of a store are not counted.
Since all servers share {cores} cores, more servers do not give more throughput here: look at the CPU to see what each could do on its own
machine. Pickup is from the first byte of an enqueue at one server to the answer of a dequeue that another server holds; the third is the
owner. Valkey is a primary with `appendonly yes` and one replica, `--acknowledge 1`; PostgreSQL has its default settings: `fsync` and
`synchronous_commit` on; `--data` is `--sync always`. Takeovers are from `python -m bench takeover`: two servers on a separate Valkey
without replicas, or on PostgreSQL; `kill -9` of the owner, and the time until the other server returns a job,
with a standby and without."""


def takeovers() -> str:
    """What `python -m bench takeover` prints, which has the machine to itself. Raises BenchError."""
    made = subprocess.run([sys.executable, "-m", "bench", "takeover"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if made.returncode:
        raise BenchError("bench takeover went wrong")
    return made.stdout.strip()


def report(found: Stand, picked: dict[str, list[Pickup]], plan: Plan, taken: str) -> str:
    """Its part of results.md. taken: the table of takeovers, empty if they were not measured."""
    head = f"{datetime.now(UTC):%Y-%m-%d}. {machine()}. Rounds: {plan.rounds}. To get these: `python -m bench scale`."
    missing = [f"Not measured: {reason}." for reason in found.missing]
    parts = [
        "# Many servers on a store",
        head,
        *missing,
        costs(found.ways),
        throughput(found.ways),
        pickups(picked),
        *([taken] if taken else []),
    ]
    return "\n\n".join([*parts, HOW.format(cores=len(CORES))])


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench scale", description="Measure many servers on one store beside one alone.")
    parser.add_argument("--quick", action="store_true", help="smaller sizes, a single round; only prints")
    options = parser.parse_args(arguments)
    plan = QUICK if options.quick else FULL
    prepare()
    try:
        with stand() as found:
            uvloop.run(measure(plan, found))
            picked = {
                name: [measure_pickup(at, by, waiters, plan.pickups) for waiters in (1, plan.waiters)]
                for name, (at, by) in found.fronts.items()
            }
        taken = "" if options.quick else takeovers()
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    print(file=sys.stderr)
    text = report(found, picked, plan, taken)
    print(text)
    if not options.quick:
        results.write("scale", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
