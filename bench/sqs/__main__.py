"""`python -m bench sqs`, or `python -m bench.sqs`: see docs/performance.md."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from bench import results
from bench.sqs.measure import FULL, QUICK, measure
from bench.sqs.report import markdown
from bench.sqs.servers import KEYS, OURS, PEERS


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0 even if others could not be started, which the report says; 1 if ours could not be measured."""
    parser = argparse.ArgumentParser(prog="python -m bench sqs", description="Amazon SQS's API beside other servers that speak it.")
    parser.add_argument("--quick", action="store_true", help="small numbers, one round, in half a minute at most")
    parser.add_argument("--only", metavar="SERVER,...", help=f"only these: {', '.join(KEYS)}")
    options = parser.parse_args(arguments)
    # A quick look is at whether it measures; of the others it wants one, which pip has.
    wanted = ("jobqueue", "jobqueue-data", "moto") if options.quick else KEYS
    if options.only is not None:
        wanted = tuple(options.only.split(","))
    if unknown := set(wanted) - set(KEYS):
        parser.error(f"no such servers: {', '.join(sorted(unknown))}; there are {', '.join(KEYS)}")
    peers, plan = [peer for peer in PEERS if peer.key in wanted], QUICK if options.quick else FULL
    found = measure(peers, plan)
    text = markdown(found, plan, peers)
    print(text)
    if not options.quick and options.only is None:
        results.write("sqs", text)
    return int(any(key in found.failures for key in OURS))


if __name__ == "__main__":
    sys.exit(main())
