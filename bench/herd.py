"""Everything at once: many waits that end, many clients that vanish. How long the server hears nobody, and what it costs."""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import NamedTuple

from bench.crowd import HEALTHZ
from bench.held import Crowd, await_waiters, crowd, make_queue, waiters
from bench.plan import Plan
from bench.process import BenchError, Server, bare, ours
from bench.report import Row
from bench.wire import Blocking

KEYS = ("expire", "vanish")
PAUSE_SECONDS = 0.005
"""Between a probe's answer and the next probe: short beside any stall that matters, long enough not to be a load."""
PROBES_PER_LOOK = 10
CALM_SECONDS = 0.3
CALIBRATION_SECONDS = 0.5
BARE_SECONDS = 2.0
"""How long the bare handler is watched: it cannot be asked how many it holds."""
LINEAR_MAX = 1.5
STALL_MS_MAX = 150


class Event(NamedTuple):
    """What one herd did. stall_ms: the longest gap between two probes' answers; cpu_us: server CPU for each request of the herd."""

    stall_ms: float
    cpu_us: float


class Prober:
    """Asks for health and remembers the longest gap between two answers."""

    def __init__(self, server: Server) -> None:
        self._connection = Blocking(server.port)
        self.longest = 0.0
        self.probes = 0
        self._last = time.perf_counter()

    def probe(self) -> None:
        """Pause, then one probe."""
        time.sleep(PAUSE_SECONDS)
        self._connection.ask(HEALTHZ, 200)
        now = time.perf_counter()
        self.longest = max(self.longest, now - self._last)
        self._last = now
        self.probes += 1

    def for_seconds(self, seconds: float) -> None:
        """Probe for so long."""
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            self.probe()

    def until_gone(self) -> None:
        """Probe until no dequeue of the crowd is held, and then a little longer."""
        while True:
            for _ in range(PROBES_PER_LOOK):
                self.probe()
            if waiters(self._connection) == 0:
                break
        self.for_seconds(CALM_SECONDS)


def _herd(kind: str, count: int, *, on_bare: bool = False) -> Event:
    """One herd on a server of its own."""
    path = "/hold" if on_bare else "/jobs/dequeue"
    with bare() if on_bare else ours() as server:
        if not on_bare:
            make_queue(server)
        # The first herd of a process also pays for memory that later ones find there; a small one warms up.
        with crowd(server, 50, path, 0.1) as small:
            small.answers()
        prober = Prober(server)
        before, probes = server.cpu_ns(), prober.probes
        prober.for_seconds(CALIBRATION_SECONDS)
        each_probe = (server.cpu_ns() - before) / (prober.probes - probes)
        prober.longest = 0.0
        seconds = 1.5 + count / 2_000
        with crowd(server, count, path, seconds if kind == "expire" else 55, together=kind == "expire") as standing:
            used = _event(server, prober, standing, kind, count, on_bare=on_bare)
    return Event(prober.longest * 1_000, (used - each_probe * prober.probes) / count / 1_000)


def _event(server: Server, prober: Prober, standing: Crowd, kind: str, count: int, *, on_bare: bool) -> int:
    """Let it happen; nanoseconds of server CPU, the prober's included. The prober's counts are of this alone."""
    if kind == "expire" and time.monotonic() > standing.end - 0.3:
        raise BenchError("this machine is too slow just now to let so many waits end together")
    if not on_bare:
        await_waiters(Blocking(server.port), count)
    if kind == "expire":
        time.sleep(max(0.0, standing.end - time.monotonic() - 0.1))
    # A gap counts from here: the prober was silent while the crowd gathered.
    prober.probe()
    prober.longest, prober.probes = 0.0, 0
    before = server.cpu_ns()
    if kind == "vanish":
        standing.process.kill()
    if on_bare:
        prober.for_seconds(BARE_SECONDS)
    else:
        prober.until_gone()
    used = server.cpu_ns() - before
    if kind == "expire" and (answers := standing.answers()) != {"204": count}:
        raise BenchError(f"the waits ended with {answers}")
    return used


def _row(plan: Plan, kind: str, what: str) -> Row:
    events = {count: [_herd(kind, count) for _ in range(plan.herd_rounds)] for count in plan.herds}
    cpu = {count: statistics.median(event.cpu_us for event in found) for count, found in events.items()}
    stalls = {count: max(event.stall_ms for event in found) for count, found in events.items()}
    least, most = plan.herds[0], plan.herds[-1]
    on_bare = [_herd(kind, most, on_bare=True) for _ in range(plan.herd_rounds)]
    bare_stall, bare_cpu = max(event.stall_ms for event in on_bare), statistics.median(event.cpu_us for event in on_bare)
    growth = cpu[most] / cpu[least]
    return Row(
        kind,
        f"{most:,} {what}: longest stall",
        f"≤ {STALL_MS_MAX} ms; linear",
        f"{stalls[most]:.0f} ms; {cpu[most]:.0f} µs of CPU each",
        f"{bare_stall:.0f} ms; {bare_cpu:.0f} µs",
        f"{growth:.2f} (linear: 1)",
        "; ".join(f"{count:,}: {stalls[count]:.0f} ms, {cpu[count]:.0f} µs" for count in plan.herds[:-1]),
        stalls[most] <= STALL_MS_MAX and growth <= LINEAR_MAX,
    )


def _rows(plan: Plan) -> list[Row]:
    return [_row(plan, "expire", "waits ending in one instant"), _row(plan, "vanish", "clients vanishing")]


async def rows(plan: Plan) -> list[Row]:
    """The rows of this file. Nothing else runs in this process, so blocking it is fine."""
    return await asyncio.to_thread(_rows, plan)
