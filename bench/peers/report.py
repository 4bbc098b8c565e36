"""What was found, as tables in Markdown, and how ours stands beside the others: plainly, where it is behind too."""

from __future__ import annotations

import importlib.metadata
import statistics
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from bench.peers.roster import OURS, PEERS, PYTHON, Peer
from bench.peers.run import DURABLE, MEMORY, Findings
from bench.peers.servers import TOLD, version
from bench.peers.sessions import EndToEnd, Session, percentile
from bench.process import BenchError
from bench.report import machine

FACTOR_PYTHON, FACTOR_PICKUP = 3.0, 3.0

HOW = """\
`python -m bench peers` starts every server itself, on loopback, and for each measurement a new server, a new worker process and a new
producer process. All run on the same cores, pinned to none. The peers take turns, and the order is turned about with every round. A figure
is the median of the rounds, with their least and greatest; all payloads are 200 bytes.

- **End to end**: from the producer's first call to the last job's handler, one producer process and one worker process, the handler
  counting and nothing else. {jobs_max:,} jobs; where these would take more than {seconds_max:g} s, as many as take about {seconds:g} s,
  by what 200 jobs took just before. "Batch" enqueues 100 in one call, where the library has such a call. Libraries that block make one
  call at a time, those for asyncio 16.
- **CPU** is user and system time from the processes' CPU clocks, for each job of the single calls: the server's with all its processes,
  and the producer's and the worker's together.
- **Pickup**: from just before the enqueue to the handler's first line, both by the one monotonic clock. The worker is idle; the next job is
  enqueued 8 to 16 ms after the last was picked up. p99 is over all rounds together.
- **{crowd:,} idle workers**: connections that wait, held by one process, which needs its own CPU to be woken.
- **Memory** is the growth of the server's `Pss`, all its processes together, by {queued:,} queued jobs with their payloads, where enqueuing
  is slow fewer; two peers at a time. For an idle worker, by the {crowd:,}.
"""

REASONS = {
    "beanstalkd": "beanstalkd is a C program that reads a line of text and answers one. Here each job is three HTTP requests, or shares "
    "of some, in a Python server: head, JSON, checks, an answer with its head. What closes most of it is batches, which the Worker makes "
    "by itself. What would close the rest is a parser and a core that are not Python.",
    "python": "Single calls cost an HTTP request for each enqueue, and a Worker that keeps up takes jobs one or a few at a time, so its "
    "own requests are shared by few jobs. Batches take that away. See docs/performance.md for where the server's CPU goes.",
    "pickup": "A pickup is two HTTP answers and two clients in Python, all of them cold after the pause before it. Taken apart, of some "
    "1,050 µs: 170 the producer until its bytes are made, 300 the server's own work, 250 the worker from the answer's bytes to its "
    "handler; the rest is the kernel's, which wakes three sleeping processes. What would close it is a client and a server that are not "
    "Python.",
    "python, durable": "Each call waits for a commit of its own or shares one with the few calls that are made at the same time: 16 of the "
    "producer's, and the Worker's. Batches take that away, and so do more producers (results.md has 100 of them).",
    "pickup, durable": "The job and its hand-out are one commit, which is then waited for: a thread is woken, SQLite writes the pages of "
    "three tables and a fsync ends, the loop is woken. Redis and beanstalkd append a line to a file. What would close it is a log of our "
    "own; what SQLite gives for it is a file that any tool can read, check and back up.",
    "queued": "A job here is an object in Python with its times, attempts and place. Those that take less keep one encoded string, and "
    "no index by which a job can be found, cancelled or listed.",
    "idle": "A held request is a connection of aiohttp with its parser, a task and a waiter; with Redis it is one C structure.",
}


class Range(NamedTuple):
    """A median and between what it lies."""

    median: float
    least: float
    greatest: float

    def text(self, form: str = ",.0f") -> str:
        """As it stands in a table."""
        return f"{self.median:{form}} ({self.least:{form}}–{self.greatest:{form}})"


def ranged(values: Sequence[float]) -> Range:
    """Of the rounds' values."""
    return Range(statistics.median(values), min(values), max(values))


def rate(found: Sequence[Session], way: Callable[[Session], EndToEnd | None]) -> Range | None:
    """Jobs a second, if it was measured."""
    rates = [end.rate for session in found if (end := way(session)) is not None]
    return ranged(rates) if rates else None


def p50_us(found: Sequence[list[int]]) -> Range:
    """Of the rounds' medians, in microseconds."""
    return ranged([statistics.median(pickups) / 1_000 for pickups in found])


def p99_us(found: Sequence[list[int]]) -> float:
    """Over all rounds, in microseconds."""
    return percentile([pickup for pickups in found for pickup in pickups], 99) / 1_000


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """In Markdown."""
    lines = (headings, ["---"] * len(headings), *rows)
    # A reason may quote what a program wrote, bars and all.
    return "\n".join("| " + " | ".join(cell.replace("|", "/").replace("\n", " ") for cell in line) + " |" for line in lines)


def _single(session: Session) -> EndToEnd:
    return session.single


def _batch(session: Session) -> EndToEnd | None:
    return session.batch


def best(found: Sequence[Session]) -> float:
    """The greater median of the two ways."""
    rates = [given.median for way in (_single, _batch) if (given := rate(found, way)) is not None]
    return max(rates)


def _end_to_end_table(measured: dict[str, list[Session]], failed: dict[str, str]) -> str:
    rows = []
    for peer in sorted(PEERS, key=lambda peer: -best(measured[peer.key]) if peer.key in measured else 0.0):
        found = measured.get(peer.key)
        if found is None:
            if peer.key in failed:
                rows.append([peer.name, f"not measured: {failed[peer.key]}", "", "", "", ""])
            continue
        single, batch = rate(found, _single), rate(found, _batch)
        assert single is not None
        jobs = min(session.single.jobs for session in found)
        rows.append(
            [
                f"**{peer.name}**" if peer.kind == OURS else peer.name,
                single.text(),
                batch.text() if batch else "",
                ranged([session.single.server_us for session in found]).text(),
                ranged([session.single.client_us for session in found]).text(),
                f"{jobs:,}",
            ]
        )
    return table(("", "jobs/s, single calls", "jobs/s, batch", "server CPU, µs a job", "client CPU, µs a job", "jobs"), rows)


def _pickup_table(found: Findings) -> str:
    rows = []
    for peer in PEERS:
        cells = [f"**{peer.name}**" if peer.kind == OURS else peer.name]
        for measured in (found.memory, found.durable):
            pickups = [session.pickups for session in measured.get(peer.key, [])]
            cells += [p50_us(pickups).text(), f"{p99_us(pickups):,.0f}"] if pickups else ["not measured", ""]
        crowds = [crowd.pickups for crowd in found.crowds.get(peer.key, [])]
        if crowds:
            cells += [p50_us(crowds).text(), f"{p99_us(crowds):,.0f}"]
        else:
            cells += [peer.why_no_crowd or found.failures.get((peer.key, "crowd"), ""), ""]
        rows.append(cells)
    many = f"{found.plan.crowd:,} idle"
    return table(("µs", "1 idle, p50", "p99", "1 idle, durable, p50", "p99", f"{many}, p50", "p99"), rows)


def _memory_table(found: Findings) -> str:
    rows = []
    for peer in PEERS:
        each = found.queued.get(peer.key)
        crowds = [crowd.bytes_each / 1_024 for crowd in found.crowds.get(peer.key, [])]
        rows.append(
            [
                f"**{peer.name}**" if peer.kind == OURS else peer.name,
                ranged(each).text() if each else found.failures.get((peer.key, "queued"), "not measured"),
                f"{min(peer.queued, found.plan.queued):,}",
                ranged(crowds).text(".1f") if crowds else peer.why_no_crowd or found.failures.get((peer.key, "crowd"), ""),
            ]
        )
    return table(("", "bytes for each queued job", "jobs", "KiB for each idle worker"), rows)


def versions(peer: Peer) -> str:
    """Of the server and of the libraries, as far as they are installed."""
    told = []
    try:
        told.append(f"{peer.server} {version(peer.server)}".strip())
    except BenchError:
        told.append(f"{peer.server}: not installed")
    for name in peer.needs:
        try:
            told.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            told.append(f"{name}: not installed")
    return ", ".join(told)


def _set_up_table() -> str:
    rows = [[peer.name, versions(peer), peer.set_up, *TOLD[peer.server]] for peer in PEERS]
    return table(("", "versions", "producer; worker", "in memory", "durable"), rows)


class Claim(NamedTuple):
    """One comparison. key: of its reason, where ours is behind."""

    key: str
    text: str
    met: bool


def claims(found: Findings) -> Iterator[Claim]:
    """How ours stands, as far as both sides were measured."""
    python = [peer for peer in PEERS if peer.kind == PYTHON]
    for what, measured in ((MEMORY, found.memory), (DURABLE, found.durable)):
        own = measured.get("jobqueue")
        if own is None:
            continue
        suffix = f", {DURABLE}" if what == DURABLE else ""
        for way, name in ((_single, "single calls"), (best, "the better of single calls and batches")):
            for claim in _rate_claims(f"End to end, {what}, {name}", measured, way):
                yield claim._replace(key=claim.key + (suffix if claim.key == "python" else ""))
        mine = p50_us([session.pickups for session in own]).median
        others = {peer.name: p50_us([s.pickups for s in measured[peer.key]]).median for peer in python if peer.key in measured}
        if others:
            name, quickest = min(others.items(), key=lambda item: item[1])
            text = f"Pickup p50, {what}: {mine:,.0f} µs, against {quickest:,.0f} µs for {name}, the quickest queue of Python's"
            yield Claim(f"pickup{suffix}", text, mine < quickest)
        if "beanstalkd" in measured:
            theirs = p50_us([session.pickups for session in measured["beanstalkd"]]).median
            text = f"Pickup p50, {what}: {mine / theirs:.1f} × beanstalkd's {theirs:,.0f} µs; wanted: at most {FACTOR_PICKUP:.0f} ×"
            yield Claim(f"pickup{suffix}", text, mine <= FACTOR_PICKUP * theirs)
    idle = {key: statistics.median(crowd.bytes_each / 1_024 for crowd in crowds) for key, crowds in found.crowds.items()}
    queued = {key: statistics.median(each) for key, each in found.queued.items()}
    for key, what, values, unit in (("queued", "a queued job", queued, "bytes"), ("idle", "an idle worker", idle, "KiB")):
        redis = {peer.name: values[peer.key] for peer in python if peer.server == "redis" and peer.key in values}
        if "jobqueue" in values and redis:
            smaller = {name: value for name, value in redis.items() if value < values["jobqueue"]}
            beside = ", ".join(f"{name} {value:,.0f}" for name, value in sorted(redis.items(), key=lambda item: item[1]))
            yield Claim(key, f"Memory of {what}: {values['jobqueue']:,.0f} {unit}; on Redis: {beside}", not smaller)


def _rate_claims(what: str, measured: dict[str, list[Session]], way: Callable[..., object]) -> Iterator[Claim]:
    def of(key: str) -> float:
        if way is best:
            return best(measured[key])
        given = rate(measured[key], _single)
        assert given is not None
        return given.median

    mine = of("jobqueue")
    python = {peer.name: of(peer.key) for peer in PEERS if peer.kind == PYTHON and peer.key in measured}
    if python:
        name, most = max(python.items(), key=lambda item: item[1])
        text = f"{what}: {mine:,.0f} jobs/s, {mine / most:.1f} × {name}'s {most:,.0f}, the best of Python's; wanted: {FACTOR_PYTHON:.0f} ×"
        yield Claim("python", text, mine >= FACTOR_PYTHON * most)
    if "beanstalkd" in measured:
        theirs = of("beanstalkd")
        text = f"{what}: {mine / theirs:.2f} × beanstalkd's {theirs:,.0f} jobs/s from a Python client; wanted: not behind"
        yield Claim("beanstalkd", text, mine >= theirs)


def _standing(found: Findings) -> str:
    lines = []
    behind = []
    for claim in claims(found):
        lines.append(f"- {'met' if claim.met else '**BEHIND**'}: {claim.text}")
        if not claim.met and claim.key not in behind:
            behind.append(claim.key)
    return "\n".join([*lines, "", *(f"Why, {key}: {REASONS[key]}\n" for key in behind)])


def markdown(found: Findings, plots: Sequence[str]) -> str:
    """The peers' part of results.md."""
    plan = found.plan
    failed = {what: {key: reason for (key, of), reason in found.failures.items() if of == what} for what in (MEMORY, DURABLE)}
    told = f"{machine()}; {found.rounds} rounds, {found.seconds:.0f} s in all"
    parts = [
        "# Beside what a user would pick instead",
        f"{datetime.now(UTC):%Y-%m-%d}. {told}. To get these: `pip install .[bench]`, `apt-get install beanstalkd redis-server`, "
        "`python -m bench peers`; `--quick` for a look.",
        "## How ours stands",
        _standing(found).strip(),
        "## End to end, in memory",
        _end_to_end_table(found.memory, failed[MEMORY]),
        "## End to end, durable",
        _end_to_end_table(found.durable, failed[DURABLE]),
        "## Pickup",
        _pickup_table(found),
        "## Memory",
        _memory_table(found),
        *(f"![{Path(plot).stem}]({plot})" for plot in plots),
        "## Set-ups",
        _set_up_table(),
        "## How it is measured",
        HOW.format(**plan._asdict()).strip(),
    ]
    return "\n\n".join(parts) + "\n"
