"""The table: budgets beside what was measured, on the screen and in bench/results.md."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import statistics
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

LOAD = os.getloadavg()[0]
HEADINGS = ("what", "budget", "measured", "bare", "ratio", "spread", "met")

HOW = """\
`python -m bench budgets` starts `jobqueue serve` with its defaults and a bare aiohttp handler (`bench/bare.py`: an
`aiohttp.web.Application` on uvloop that reads the body and returns a constant `web.Response`). Both get the same bytes in turns, in an
order that changes with every round, over 32 keep-alive connections with one outstanding request each. Servers are pinned to one core, the
load generator to the others.

- *B* is the server CPU of one request to the bare handler: user and system time from the process's own CPU clock, in nanoseconds.
- A ratio is the median of the rounds' ratios; each round's ratio is to the *B* of that round. The spread is the smallest and the largest.
- The server recognizes header lines that were sent before (docs/decisions/0012). Real clients send the same lines again and again, and so
  does this load. "never met before" is the cost of a request whose lines are new each time.
- The cost of a batch is that of its enqueue, its dequeue and its conclude together, per job, in units of a bare enqueue.
- Memory is the growth of `Rss` in `/proc/<pid>/smaps_rollup`. The bare value for a held request is that of a bare handler that sleeps.
- Pickup: one held dequeue, one producer; from sending the enqueue to having read the dequeue's answer, compared with a bare round trip.
- Stalls are measured from outside: the longest gap between two answers to a prober that sends GET /healthz again 5 ms after each answer.
  All waits end within about 2 ms of each other; clients disconnect when the process that holds all their connections gets SIGKILL. The
  measured value is the worst of the rounds; the bare value is that of as many requests that sleep in the bare handler; the spread shows
  the smaller numbers of requests. "linear" compares the CPU per request, without the prober's, at the largest and the smallest number: 1.0
  is linear, 4.0 would be quadratic.
- Depth compares two servers, filled through the batch API, in turns.
- Durability compares wall time with `--data`, on a file in the folder for temporary files, with wall time in memory, in turns, neither
  pinned to a core. Batches of 100 go through their whole life (enqueue, dequeue, conclude) over 32 connections; p99 is that of an enqueue's
  answer. There, "bare" is the memory mode."""


class Row(NamedTuple):
    """One line of the table. key: what `--only` selects it by; the rest is text as it is shown."""

    key: str
    what: str
    budget: str
    measured: str
    bare: str
    ratio: str
    spread: str
    met: bool

    def cells(self) -> tuple[str, ...]:
        """As shown."""
        return (self.what, self.budget, self.measured, self.bare, self.ratio, self.spread, "yes" if self.met else "NO")


def compared(key: str, what: str, budget: float, ours_ns: Sequence[float], bare_ns: Sequence[float]) -> Row:
    """A row from the rounds' CPU costs in nanoseconds: ours against the bare handler's, at most `budget` B."""
    ratios = [ours / bare for ours, bare in zip(ours_ns, bare_ns, strict=True)]
    ratio = statistics.median(ratios)
    return Row(
        key,
        what,
        f"≤ {budget} B",
        micros(statistics.median(ours_ns)),
        micros(statistics.median(bare_ns)),
        f"{ratio:.2f} B",
        f"{min(ratios):.2f} to {max(ratios):.2f}",
        ratio <= budget,
    )


def micros(ns: float) -> str:
    """A time in microseconds."""
    return f"{ns / 1_000:.1f} µs"


def terminal(rows: Sequence[Row]) -> str:
    """The table in columns."""
    lines = [HEADINGS, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines)


def machine() -> str:
    """What it ran on."""
    model = next(
        (line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")),
        platform.machine(),
    )
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("aiohttp", "uvloop", "msgspec"))
    system = f"{platform.system()} {platform.release()}, Python {platform.python_version()}, {versions}"
    # Whatever else runs shares caches and cores with the servers: a number above 1 or so says how far to trust the rest.
    return f"{model}, {os.cpu_count()} cores, load average {LOAD:.1f} at the start, {system}"


REASONS = {
    "batch": "What remains for each job is the work that every job needs: its checks, its number, its place in the queue, its answer and "
    "its place in history, each a few calls in Python.",
    "dequeue": "It takes a job that was made thousands of requests before, so its parts are in no cache. In one process that takes "
    "each job soon after it was made, a dequeue costs 2 % more than an enqueue.",
    "conclude": "Like a dequeue, and it also forgets the oldest job in history, which nothing has touched for longer still. In one "
    "process that concludes each job soon after it was taken, a conclude costs 6 % more than an enqueue.",
    "access": "A line of JSON for each request, by Python's `logging`, costs as much as three requests. `sampled` writes one in a hundred.",
    "durable": "Jobs in memory became cheaper by more than commits did: the same ratio was 0.50 when both made half as many jobs a second.",
    "plain": "aiohttp creates a new request and a new answer for each request: that is the cost of B itself.",
    "held": "Most of it is the connection, its socket and its parser, which belong to aiohttp and asyncio.",
}
"""Why what is wanted is not met, by the row's key."""
UNKNOWN = "Not known yet; `python -m bench where` and py-spy show where the time goes."


def _why(rows: Sequence[Row]) -> str:
    return "\n".join(f"- **{row.what}**: {REASONS.get(row.key, UNKNOWN)}" for row in rows if not row.met)


def markdown(rows: Sequence[Row]) -> str:
    """Their part of results.md: the table, why what is not met is not, and how it is measured."""
    table = ["| " + " | ".join(line) + " |" for line in (HEADINGS, ["---"] * len(HEADINGS), *(row.cells() for row in rows))]
    return "\n".join(
        (
            "# Budgets and what was measured",
            "",
            f"{datetime.now(UTC):%Y-%m-%d}. {machine()}.",
            "",
            *table,
            "",
            *([f"Not met, and why:\n\n{why}", ""] if (why := _why(rows)) else []),
            "## How",
            "",
            HOW,
            "",
        )
    )
