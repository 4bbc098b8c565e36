"""The table that README.md shows, and the places that show what a run found: written by the run, so that they cannot say anything else."""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable
from pathlib import Path

from bench.peers.figures import batch, latency, loads, p50_us, rate, single
from bench.peers.roster import PEERS, PYTHON, Peer
from bench.peers.run import Findings
from bench.peers.sessions import EndToEnd, Session
from bench.process import ROOT

BESIDE = ("beanstalkd", "nats", "bunqueue")
"""Those that have a column; Python's queues share one, of the best."""
HALF = 0.5

Value = Callable[[str], float | None]


def _rates(measured: dict[str, list[Session]], way: Callable[[Session], EndToEnd | None]) -> Value:
    def of(key: str) -> float | None:
        given = rate(measured.get(key, []), way)
        return given.median if given else None

    return of


def _pickups(measured: dict[str, list[Session]]) -> Value:
    return lambda key: p50_us([session.pickups for session in measured[key]]).median if key in measured else None


def _late(measured: dict[str, list[Session]]) -> Value:
    def of(key: str) -> float | None:
        found = loads(measured.get(key, []), HALF)
        return latency(found).p99 if found else None

    return of


def in_short(found: Findings) -> str:
    """In Markdown: a row for each kind of work, ours, the best of Python's queues by name, and some brokers."""
    rows: tuple[tuple[str, Value, Callable[..., float], str], ...] = (
        ("jobs/s from enqueue to handler, one call a job", _rates(found.memory, single), max, ",.0f"),
        ("the same in batches of 100", _rates(found.memory, batch), max, ",.0f"),
        ("one call a job, each answer after a fsync", _rates(found.durable, single), max, ",.0f"),
        ("the same in batches of 100", _rates(found.durable, batch), max, ",.0f"),
        ("µs from enqueue to an idle worker's handler", _pickups(found.memory), min, ",.0f"),
        ("the same after a fsync", _pickups(found.durable), min, ",.0f"),
        ("µs from when a job is due to its handler, p99, at half of the jobs/s above", _late(found.memory), min, ",.0f"),
        ("bytes of server memory for a queued job", lambda key: _median(found.queued.get(key)), min, ",.0f"),
        (
            "KiB of server memory for an idle worker",
            lambda key: _median([c.bytes_each / 1_024 for c in found.crowds.get(key, [])]),
            min,
            ".1f",
        ),
    )
    python = [peer for peer in PEERS if peer.kind == PYTHON]
    beside = [peer for key in BESIDE for peer in PEERS if peer.key == key]
    heads = ["", "jobqueue", f"best of {', '.join(peer.name for peer in python)}", *(peer.name for peer in beside)]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for what, value, better, form in rows:
        mine = value("jobqueue")
        cells = [what, f"**{mine:{form}}**" if mine is not None else "", _best(python, value, better, form)]
        cells += [f"{theirs:{form}}" if (theirs := value(peer.key)) is not None else "" for peer in beside]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _median(values: list[float] | None) -> float | None:
    return statistics.median(values) if values else None


def _best(peers: list[Peer], value: Value, better: Callable[..., float], form: str) -> str:
    known = {peer.name: given for peer in peers if (given := value(peer.key)) is not None}
    if not known:
        return ""
    name = better(known, key=lambda name: known[name])  # type: ignore[call-overload]
    return f"{known[name]:{form}} ({name})"


SHOWN = {ROOT / "README.md": "In short", ROOT / "docs/performance.md": "How ours stands"}
"""Which section of the peers' part of results.md each of these pages shows."""


def section(text: str, heading: str) -> str:
    """What stands beneath a heading, up to the next."""
    found = re.search(rf"^#+ {heading}\n\n(.*?)(?=\n\n#|\Z)", text, re.DOTALL | re.MULTILINE)
    assert found is not None, heading
    return found[1].strip()


def shown(page: str) -> str:
    """What a page shows of a run."""
    return page.partition("<!-- measured -->\n")[2].partition("\n<!-- end of measured -->")[0]


def replaced(page: str, text: str) -> str:
    """The page, showing another text."""
    before, mark, rest = page.partition("<!-- measured -->\n")
    _, end, after = rest.partition("\n<!-- end of measured -->")
    assert end, "the page has no place for it"
    return before + mark + text + end + after


def show(results: str) -> None:
    """Write what a run found into the pages that show it."""
    for path, heading in SHOWN.items():
        path.write_text(replaced(path.read_text(encoding="utf-8"), section(results, heading)), encoding="utf-8")
        print(f"written to {Path(path).relative_to(ROOT)}")
