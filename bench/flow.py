"""`python -m bench flow`: what keys, limits and fairness cost, and what they give, as tables and a plot.

What a hand-out costs by how many keys there are, and what a job with a key weighs; whom a slot that becomes free wakes; how long others
wait behind a tenant with a long backlog. --quick only prints.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import uvloop

from bench import fairness, keyed, results, slots
from bench.fairness import EVERY_SECONDS, JOB_SECONDS, TENANTS, WEIGHTS, WORKER_COUNTS, WORKERS, Waits
from bench.keyed import FAIR, HELD, ORDERED, PLAIN, Cost, Memory
from bench.peers.plots import lines
from bench.process import BenchError, prepare
from bench.report import machine
from bench.scale import table
from bench.slots import Woken

SHARE_OFF_MAX = 0.05
"""By how much what weights give may differ from what they say."""


class Plan(NamedTuple):
    """Sizes, of each part."""

    keyed: keyed.Plan
    slots: slots.Plan
    fairness: fairness.Plan


FULL = Plan(
    keyed.Plan((1, 10, 100, 1_000, 10_000, 100_000), jobs=100_000, held=100_000, turns=25, calls=1_000, filled=200_000),
    slots.Plan((10, 100, 1_000, 10_000), freed=500),
    fairness.Plan(backlog=10_000, jobs=100, hand_outs=10_000),
)
QUICK = Plan(
    keyed.Plan((1, 100), jobs=1_000, held=1_000, turns=3, calls=100, filled=5_000),
    slots.Plan((100,), freed=50),
    fairness.Plan(backlog=1_000, jobs=20, hand_outs=1_000),
)


class Found(NamedTuple):
    """What came of it. waits: by whether the queue is fair; shares: hand-outs of weight 3 for
    each of weight 1, by how many workers there are."""

    costs: Mapping[str, Sequence[Cost]]
    memory: Sequence[Memory]
    woken: Sequence[Woken]
    waits: Mapping[bool, Waits]
    shares: Mapping[int, float]


async def measure(plan: Plan) -> Found:
    """All of it."""
    return Found(
        keyed.hand_outs(plan.keyed),
        await keyed.memory(plan.keyed),
        [await slots.woken(plan.slots, waiters) for waiters in plan.slots.waiters],
        {fair: fairness.waits(plan.fairness, fair) for fair in (False, True)},
        {workers: fairness.share(plan.fairness, workers) for workers in WORKER_COUNTS},
    )


def _costs(found: Found, plan: keyed.Plan) -> str:
    plain = found.costs[PLAIN][0]
    rows = [["any, in a plain queue", f"{plain.enqueue:.1f}", f"{plain.hand_out:.1f}", "", ""]]
    for at, keys in enumerate(plan.keys):
        ordered, held, fair = (found.costs[kind][at] for kind in (ORDERED, HELD, FAIR))
        cells = [f"{cost.hand_out:.1f} ({cost.ratio:.2f} ×)" for cost in (ordered, held, fair)]
        rows.append([f"{keys:,}", f"{ordered.enqueue:.1f}", *cells])
    return table(["keys", "enqueue, µs", "hand-out in order, µs", f"the same, one more key holds up {plan.held:,} jobs", "fair"], rows)


def _memory(found: Found) -> str:
    plain = found.memory[0].bytes
    return table(
        ["a queued job", "bytes beyond its payload", "more than one without a key"],
        [[each.what, f"{each.bytes:.0f}", f"{each.bytes - plain:.0f}" if each is not found.memory[0] else ""] for each in found.memory],
    )


def _woken(found: Found) -> str:
    rows = []
    for each in found.woken:
        ran = f"{each.least}" if each.least == each.most else f"{each.least} to {each.most}"
        rows.append([f"{each.waiters:,}", ran, f"{each.p50:.0f}", f"{each.p99:.0f}"])
    return table(
        ["dequeues held at `concurrency` 1", "tasks that ran when the slot became free", "CPU until one had the job, µs, p50", "p99"], rows
    )


def _waits(found: Found) -> str:
    rows = [
        [
            "with `fair`" if fair else "without",
            f"{each.jobs_p50:,.0f}",
            f"{each.jobs_p99:,.0f}",
            f"{each.seconds_p50:.2f}",
            f"{each.seconds_p99:.2f}",
        ]
        for fair, each in found.waits.items()
    ]
    return table(["the other nine wait", "jobs handed out before theirs, p50", "p99", "seconds, p50", "p99"], rows)


def _shares(found: Found, plan: fairness.Plan) -> str:
    rows = []
    for workers, share in found.shares.items():
        off = share / (WEIGHTS["three"] / WEIGHTS["one"]) - 1
        rows.append([str(workers), f"1 : {share:.3f}", f"{off:+.2%}", "yes" if abs(off) <= SHARE_OFF_MAX else "NO"])
    return table([f"workers, {plan.hand_outs:,} hand-outs", "weights 1 : 3 give", "off", f"within {SHARE_OFF_MAX:.0%}"], rows)


HOW = """\
A hand-out is a dequeue with its conclude, by the engine alone, in one process, with {jobs:,} available jobs. Figures are medians of
{turns} turns of {calls:,} hand-outs each, and medians of their ratios to a turn of a plain queue next to them. The key that holds up jobs
has one job in progress, and all its jobs are older than any other job. Memory is that of a server process, with {filled:,} jobs enqueued
over HTTP. Tasks that ran: every step of every waiting task is counted, for each of {freed} times that the slot became free, including the
{settled} turns of the loop after it. CPU is from the conclude until the next request has the job, in the process of the backend, without
HTTP. Fairness: {tenants} tenants. The first has {backlog:,} jobs in the queue before the others begin; the others send {sent} jobs each,
one every {every} s on average. {workers} workers take {job} s for a job, {rate:.0f} jobs per second. Weights: two tenants with more jobs
queued than are handed out; jobs take from half of that time to one and a half times as long. Time is simulated there, not measured, so
the figures do not depend on the machine. With as many keys as jobs, each key has one job and is forgotten with it: there is no next job
to look for, so a hand-out costs less again."""


def told(found: Found, plan: Plan) -> str:
    """Its part of results.md."""
    how = HOW.format(
        **plan.keyed._asdict(),
        freed=plan.slots.freed,
        settled=slots.SETTLED_TURNS,
        tenants=TENANTS,
        backlog=plan.fairness.backlog,
        sent=plan.fairness.jobs,
        every=EVERY_SECONDS,
        workers=WORKERS,
        job=JOB_SECONDS,
        rate=WORKERS / JOB_SECONDS,
    )
    return "\n\n".join(
        [
            "# Keys, limits and fairness",
            f"{datetime.now(UTC):%Y-%m-%d}. {machine()}. To get these: `python -m bench flow`.",
            _costs(found, plan.keyed),
            _memory(found),
            _woken(found),
            _waits(found),
            _shares(found, plan.fairness),
            how,
        ]
    )


def plot(found: Found, plan: keyed.Plan) -> str | None:
    """The plot's file."""
    plain = found.costs[PLAIN][0]
    series = {PLAIN: [(keys, plain.hand_out) for keys in plan.keys]}
    series |= {kind: [(cost.keys, cost.hand_out) for cost in found.costs[kind]] for kind in (ORDERED, HELD, FAIR)}
    return lines("flow-keys", "keys", "µs of CPU, a hand-out and its conclude", series)


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench flow", description="What keys, limits and fairness cost, and what they give.")
    parser.add_argument("--quick", action="store_true", help="small sizes, nothing written")
    options = parser.parse_args(arguments)
    plan = QUICK if options.quick else FULL
    prepare()
    try:
        found = uvloop.run(measure(plan))
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    text = told(found, plan)
    if not options.quick and (name := plot(found, plan.keyed)) is not None:
        text += f"\n\n![{Path(name).stem}]({name})"
    print(text)
    if not options.quick:
        results.write("flow", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
