"""`python -m bench budgets`: measure every budget against a bare aiohttp handler, print the table.

--quick takes less than a minute.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Awaitable, Callable, Sequence

import uvloop

from bench import access, depth, durable, held, herd, report, requests, results, steps
from bench.plan import FULL, QUICK, Plan
from bench.process import BenchError, prepare
from bench.report import Row

Measure = Callable[[Plan], Awaitable[list[Row]]]

PARTS: tuple[tuple[tuple[str, ...], Measure], ...] = (
    (requests.KEYS, requests.rows),
    (access.KEYS, access.rows),
    (held.KEYS, held.rows),
    (herd.KEYS, herd.rows),
    (depth.KEYS, depth.rows),
    (steps.KEYS, steps.rows),
    (durable.KEYS, durable.rows),
)
KEYS = tuple(key for keys, _ in PARTS for key in keys)


async def measure(plan: Plan, wanted: set[str]) -> list[Row]:
    """The rows wanted, in the table's order."""
    rows: list[Row] = []
    for keys, part in PARTS:
        if not wanted.intersection(keys):
            continue
        print(f"measuring {', '.join(keys)} ...", end=" ", file=sys.stderr, flush=True)
        started = time.perf_counter()
        rows += [row for row in await part(plan) if row.key in wanted]
        print(f"{time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench budgets", description="Measure the budgets against a bare aiohttp handler.")
    parser.add_argument("--quick", action="store_true", help="smaller sizes and fewer rounds, under a minute")
    parser.add_argument("--only", metavar="ROW,...", help=f"only these rows: {', '.join(KEYS)}")
    options = parser.parse_args(arguments)
    wanted = set(KEYS if options.only is None else options.only.split(","))
    if unknown := wanted - set(KEYS):
        parser.error(f"no such rows: {', '.join(sorted(unknown))}; there are {', '.join(KEYS)}")
    prepare()
    print(report.machine())
    try:
        rows = uvloop.run(measure(QUICK if options.quick else FULL, wanted))
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    print(report.terminal(rows))
    if not options.quick and options.only is None:
        results.write("budgets", report.markdown(rows))
    return 0
