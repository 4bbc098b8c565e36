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
`aiohttp.web.Application` on uvloop that reads the body and returns a constant `web.Response`). Both are sent the same bytes in turns, the
order changing with every round, over 32 keep-alive connections with one request outstanding on each. Servers are pinned to one core, the
load to the others.

- *B* is the server CPU of one request to the bare handler: user and system time from the process's own CPU clock, in nanoseconds.
- A ratio is the median of the rounds' ratios, each to the *B* of its own round; the spread is their least and greatest.
- The server knows header lines that were sent before (docs/decisions/0012), and clients do send the same ones again and again, as these
  do. "never met before" is what a request costs whose lines are new each time.
- A batch's cost is that of its enqueue, its dequeue and its conclude together, for each job, in units of a bare enqueue.
- Memory is the growth of `Rss` in `/proc/<pid>/smaps_rollup`. A held request's bare value is a bare handler that sleeps.
- Pickup: one held dequeue, one producer; from sending the enqueue to having read the dequeue's answer, against a bare round trip.
- Stalls are seen from outside: the longest gap between two answers to a prober that asks GET /healthz again 5 ms after each answer.
  All waits end within about 2 ms of each other; clients vanish by SIGKILL of the process that holds all their connections. The
  measured value is the worst of the rounds, the bare one that of as many requests asleep in the bare handler; the spread shows the
  smaller herds. "linear" compares the CPU for each request, the prober's taken off, at the greatest and the least number: 1.0 is
  linear, 4.0 would be quadratic.
- Depth compares two servers, filled through the batch API, in turns.
- Durability compares wall time, with `--data` on a file in the folder of temporary files against memory, in turns, neither pinned to a
  core. Batches of 100 go through their whole life (enqueue, dequeue, conclude) over 32 connections; p99 is that of an enqueue's answer.
  "bare" is the memory mode there."""


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


def markdown(rows: Sequence[Row]) -> str:
    """Their part of results.md."""
    table = ["| " + " | ".join(line) + " |" for line in (HEADINGS, ["---"] * len(HEADINGS), *(row.cells() for row in rows))]
    return "\n".join(
        (
            "# Budgets and what was measured",
            "",
            f"{datetime.now(UTC):%Y-%m-%d}. {machine()}.",
            "",
            *table,
            "",
            "## How",
            "",
            HOW,
            "",
        )
    )
