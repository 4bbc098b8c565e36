"""Runs one seed after the other, and says what came of it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable

from .cluster import ClusterWorld, cluster_plan_of, simulate_cluster
from .world import World, simulate

COMMAND = "python -m tests.simulation"
FAULTS_SHOWN = 10
LINES_SHOWN = 60


def report(world: World) -> str:
    """What is wrong with a world, and how to see it again; "" when all is well."""
    faults = world.history.faults
    if not faults:
        return ""
    shown = "\n".join(f"  {fault}" for fault in faults[:FAULTS_SHOWN])
    more = f"\n  and {len(faults) - FAULTS_SHOWN} more" if len(faults) > FAULTS_SHOWN else ""
    how = ""
    if isinstance(world, ClusterWorld):
        how = " --cluster" if world.plan == cluster_plan_of(world.seed) else f" --cluster --partitions {world.plan.partitions}"
    return f"seed {world.seed}: {len(faults)} faults\n{shown}{more}\nreplay: {COMMAND}{how} --seed {world.seed}"


def around_the_fault(world: World) -> list[str]:
    """The history up to the first fault."""
    lines = world.history.lines
    first = next((n for n, line in enumerate(lines) if " FAULT " in line), len(lines) - 1)
    return lines[max(0, first - LINES_SHOWN) : first + 1]


def many(seeds: Iterable[int], seconds: float, whole: bool = False, cluster: bool = False, partitions: int | None = None) -> int:
    """Run seeds until they or the seconds of real time run out, or one fails. The exit code.

    cluster: in worlds of several servers; partitions: of a store with so many, whatever the seeds say.
    """
    began = time.perf_counter()
    count = requests = 0
    virtual = 0.0
    for seed in seeds:
        world = simulate_cluster(seed, partitions) if cluster else simulate(seed)
        count += 1
        requests += len(world.asks)
        virtual += world.loop.time()
        if whole:
            print("\n".join(world.history.lines))
        if complaint := report(world):
            if not whole:
                print("\n".join(around_the_fault(world)))
            print(f"{complaint}\nfound after {count} seeds, {requests} requests, {time.perf_counter() - began:.1f} s")
            return 1
        if time.perf_counter() - began >= seconds:
            break
        if sys.stderr.isatty():
            print(f"\r{count} seeds, {requests} requests", end="", file=sys.stderr, flush=True)
    print(f"{count} seeds, {requests} requests, {virtual:.0f} simulated s in {time.perf_counter() - began:.1f} s: no fault")
    return 0
