"""`python -m bench`: measure every budget, print the table, write bench/results.md.

--quick takes less than a minute and shows that the measuring works; its numbers are rougher and its sizes smaller. Only a full run
writes results.md, so that the file never mixes the two. The exit code says whether everything could be measured, not whether the budgets
are met: a busy machine must not fail a build.

`python -m bench peers` measures the same work on other queues, `python -m bench growth` what size costs, `python -m bench where` what an
enqueue is made of; each takes --quick.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Awaitable, Callable

import uvloop

from bench import access, depth, durable, held, herd, report, requests
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
    (durable.KEYS, durable.rows),
)
KEYS = tuple(key for keys, _ in PARTS for key in keys)
MORE = {"peers": "bench.peers.__main__", "growth": "bench.growth", "where": "bench.where"}
OTHERS = (
    "Other queues beside this one: python -m bench peers. What size costs: python -m bench growth. "
    "What an enqueue is made of: python -m bench where."
)


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


def main() -> int:
    """The exit code."""
    if sys.argv[1:2] and sys.argv[1] in MORE:
        program: Callable[[list[str]], int] = importlib.import_module(MORE[sys.argv[1]]).main
        return program(sys.argv[2:])
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Measure the budgets of the design against a bare aiohttp handler.", epilog=OTHERS
    )
    parser.add_argument("--quick", action="store_true", help="smaller sizes and fewer rounds, under a minute")
    parser.add_argument("--only", metavar="ROW,...", help=f"only these rows: {', '.join(KEYS)}")
    options = parser.parse_args()
    wanted = set(KEYS if options.only is None else options.only.split(","))
    if unknown := wanted - set(KEYS):
        parser.error(f"no such rows: {', '.join(sorted(unknown))}; there are {', '.join(KEYS)}")
    print(OTHERS)
    prepare()
    print(report.machine())
    try:
        rows = uvloop.run(measure(QUICK if options.quick else FULL, wanted))
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    print(report.terminal(rows))
    if not options.quick and options.only is None:
        report.RESULTS.write_text(report.markdown(rows), encoding="utf-8")
        print(f"written to {report.RESULTS}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
