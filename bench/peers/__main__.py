"""`python -m bench peers`, or `python -m bench.peers`: see docs/performance.md."""

from __future__ import annotations

import argparse
import resource
import sys
from collections.abc import Sequence

from bench import results
from bench.peers import plots, report, summary
from bench.peers.roster import KEYS, PEERS
from bench.peers.run import DURABLE, MEMORY, measure
from bench.peers.sessions import FULL, PARTS, QUICK


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0 even if peers could not be started, which the report says."""
    parser = argparse.ArgumentParser(prog="python -m bench peers", description="The same work on this server and on others, in turns.")
    parser.add_argument("--quick", action="store_true", help="small numbers, one round, a minute or two")
    parser.add_argument("--only", metavar="PEER,...", help=f"only these: {', '.join(KEYS)}")
    parser.add_argument("--what", metavar="PART,...", help=f"only these parts: {', '.join(PARTS)}; pickups are measured with the next two")
    options = parser.parse_args(arguments)
    wanted = KEYS if options.only is None else tuple(options.only.split(","))
    if unknown := set(wanted) - set(KEYS):
        parser.error(f"no such peers: {', '.join(sorted(unknown))}; there are {', '.join(KEYS)}")
    parts = PARTS if options.what is None else tuple(options.what.split(","))
    if unknown := set(parts) - set(PARTS):
        parser.error(f"no such parts: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    plan = (QUICK if options.quick else FULL)._replace(parts=parts)
    found = measure([peer for peer in PEERS if peer.key in wanted], plan)
    whole = not options.quick and options.only is None and options.what is None
    drawn: list[str] = []
    if whole:
        try:
            drawn = plots.peers(found)
        except Exception as error:
            print(f"no plots: {error!r}", file=sys.stderr)
    text = report.markdown(found, drawn)
    print(text)
    if whole and any(("jobqueue", what) in found.failures for what in (MEMORY, DURABLE)):
        print("ours could not be measured: nothing is written", file=sys.stderr)
        return 1
    if whole:
        results.write("peers", text)
        summary.show(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
