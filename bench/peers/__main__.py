"""`python -m bench peers`, or `python -m bench.peers`: see docs/performance.md."""

from __future__ import annotations

import argparse
import resource
import sys
from collections.abc import Sequence

from bench import results
from bench.peers import plots, report
from bench.peers.roster import KEYS, PEERS
from bench.peers.run import measure
from bench.peers.sessions import FULL, QUICK


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0 even if peers could not be started, which the report says."""
    parser = argparse.ArgumentParser(prog="python -m bench peers", description="The same work on this server and on others, in turns.")
    parser.add_argument("--quick", action="store_true", help="small numbers, one round, under two minutes")
    parser.add_argument("--only", metavar="PEER,...", help=f"only these: {', '.join(KEYS)}")
    options = parser.parse_args(arguments)
    wanted = KEYS if options.only is None else tuple(options.only.split(","))
    if unknown := set(wanted) - set(KEYS):
        parser.error(f"no such peers: {', '.join(sorted(unknown))}; there are {', '.join(KEYS)}")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    found = measure([peer for peer in PEERS if peer.key in wanted], QUICK if options.quick else FULL)
    whole = not options.quick and options.only is None
    text = report.markdown(found, plots.peers(found) if whole else [])
    print(text)
    if whole:
        results.write("peers", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
