"""`python -m tests.faults.many`: the exit code is 1 if anything was lost, undone or doubly leased."""

from __future__ import annotations

import argparse
import functools
import signal
import sys
import time
from pathlib import Path

from .rounds import run
from .stands import STANDS


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults.many",
        description="Three servers on a store under load: kill or stop a process each round, and ask for all that was acknowledged.",
    )
    parser.add_argument("--store", choices=STANDS, default="valkey")
    parser.add_argument("--partitions", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", metavar="TEXT", help="only cases whose names have this in them")
    parser.add_argument("--logs", type=Path, metavar="FOLDER", help="where to leave what the servers log")
    options = parser.parse_args()
    # So that whoever ends this leaves no server behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    began = time.monotonic()
    say = functools.partial(print, file=sys.stderr, flush=True)
    outcome = run(options.store, options.rounds, options.seed, say, options.only, options.logs, options.partitions)
    print(f"python -m tests.faults.many --store {options.store} --partitions {options.partitions}", end=" ")
    print(f"--rounds {options.rounds} --seed {options.seed}")
    print(f"{time.monotonic() - began:.0f} s. {outcome.summary()}", outcome.checked, "", outcome.table(), sep="\n")
    return 0 if outcome.well else 1


if __name__ == "__main__":
    sys.exit(main())
