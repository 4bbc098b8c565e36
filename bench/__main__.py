"""`python -m bench`: measure other queues beside this one, the budgets, what size costs, what many servers do, how far
partitions go, what keys cost, and other servers of SQS; write bench/results.md.

`python -m bench peers`, `budgets`, `growth`, `scale`, `partitions`, `flow` and `sqs` do one of these, `python -m bench where` tells what an
enqueue is made of, and `python -m bench load` puts load on a server that is running. --quick takes about three minutes in all and shows
that the measuring works; its numbers are rougher and its sizes smaller. Only a full run writes results.md, so that the file never mixes the
two. The exit code says whether everything could be measured, not whether budgets are met: a busy machine must not fail a build.
"""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
from collections.abc import Callable

from bench.results import PARTS

PROGRAMS = {
    "peers": "bench.peers.__main__",
    "budgets": "bench.budgets",
    "growth": "bench.growth",
    "scale": "bench.scale",
    "partitions": "bench.partitions",
    "flow": "bench.flow",
    "sqs": "bench.sqs.__main__",
    "where": "bench.where",
    "load": "bench.running",
    "takeover": "bench.takeover",
    "traffic": "bench.traffic",
}


def main() -> int:
    """The exit code."""
    if sys.argv[1:2] and sys.argv[1] in PROGRAMS:
        program: Callable[[list[str]], int] = importlib.import_module(PROGRAMS[sys.argv[1]]).main
        return program(sys.argv[2:])
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure other queues beside this one, the budgets, what size costs, what servers and partitions do, keys, and SQS.",
        epilog=f"One of these alone, what an enqueue is made of, or load on a running server: python -m bench {'|'.join(PROGRAMS)}.",
    )
    parser.add_argument("--quick", action="store_true", help="smaller sizes and fewer rounds, about three minutes")
    parser.add_argument("--only", metavar="ROW,...", help="only these rows of the budgets")
    options = parser.parse_args()
    flags = ["--quick"] if options.quick else []
    if options.only is not None:
        program = importlib.import_module(PROGRAMS["budgets"]).main
        return program([*flags, "--only", options.only])
    return max(_measure(part, flags) for part in PARTS)


def _measure(part: str, flags: list[str]) -> int:
    """Run one part, in a process of its own, since some keep to one core; its exit code. With --quick, a part that could not be measured is
    tried once more: on a machine that does other things too, a server may have been starved for longer than it may be silent."""
    command = [sys.executable, "-m", "bench", part, *flags]
    status = subprocess.call(command)
    if status and flags:
        print(f"bench: {part} could not be measured; once more", file=sys.stderr)
        status = subprocess.call(command)
    if status:
        print(f"bench: {part} could not be measured", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
