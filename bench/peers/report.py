"""What was found, as tables in Markdown, and how ours stands beside the others: plainly, where it is behind too."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from bench import node
from bench.peers import figures
from bench.peers.claims import standing
from bench.peers.figures import latency, loads, p50_us, p99_us, ranged, rate
from bench.peers.roster import OURS, PEERS, Peer
from bench.peers.run import DURABLE, MEMORY, Findings
from bench.peers.servers import TOLD, version
from bench.peers.sessions import SIZE, Session
from bench.peers.summary import in_short
from bench.process import BenchError
from bench.report import machine

HOW = """\
`python -m bench peers` starts every server itself, on loopback, and for each measurement a new server, a new worker process and a new
producer process. All run on the same cores, pinned to none. The peers take turns, and the order is reversed with every round. A figure is
the median of the rounds, with the smallest and the largest value; all payloads have 200 bytes unless stated otherwise. A whole run takes
a quarter of an hour. To keep it that short, some things are measured less often:

- **Rounds**: the first round measures all peers. Later rounds, up to {rounds}, measure the leaders: the {leaders} fastest by single calls
  in memory, ours, the best of the queues for Python at each kind of work, and those that a claim names. The rest have one figure and no
  range.
- **Producers and workers, payloads**: the {leaders} fastest by single calls, in memory, once. Only two edges of the grid are measured:
  the numbers of producers and workers with 200 bytes, and the sizes with one producer and one worker.
- **Loads**: half of the reached rate for all peers; the other loads only for the leaders, in their later rounds.

What is measured:

- **End to end**: from the producer's first call to the last job's handler, one producer process and one worker process; the
  handler only counts. {jobs_max:,} jobs; if these would take more than {seconds_max:g} s, as many as take about {seconds:g} s, estimated
  from 200 jobs just before. "Batch" enqueues 100 jobs in one call, if the library has such a call. Blocking libraries make one
  call at a time, those for asyncio and JavaScript 16.
- **CPU** is user and system time from the processes' CPU clocks, per job of the single calls: of the server with all its processes,
  of the producer and of the worker.
- **Under load**: an open loop. Jobs come due by a timetable, a Poisson process from a seed, the same for every peer at the same rate. The
  rate is a share of what the same session had just reached in a closed loop, for {open_seconds:g} s. A latency is from the time when the
  job was due to the first line of its handler, so a stall affects every job that came due during it (no coordinated omission). Another
  process keeps the timetable and wakes the producer, which is part of each latency. Over all rounds together; p99.9 if there are 1,000
  jobs or more.
- **Pickup**: from just before the enqueue to the handler's first line, both on the same monotonic clock. The worker is idle; the next job
  is enqueued 8 to 16 ms after the last was picked up. p99 is over all rounds together.
- **Several producers and workers**: each in its own process, which makes as many calls at once as it would alone, for about
  {grid_seconds:g} s.
- **{crowd:,} idle workers**: waiting connections, held by one process, which needs CPU of its own to wake up.
- **Memory** is the growth of the server's `Pss`, all its processes together, by {queued:,} queued jobs with their payloads, or fewer if
  enqueuing is slow; measured once, two peers at a time. For an idle worker, by {crowd:,} of them.
"""


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """In Markdown."""
    lines = (headings, ["---"] * len(headings), *rows)
    # A reason may quote what a program wrote, bars and all.
    return "\n".join("| " + " | ".join(cell.replace("|", "/").replace("\n", " ") for cell in line) + " |" for line in lines)


def _name(peer: Peer) -> str:
    return f"**{peer.name}**" if peer.kind == OURS else peer.name


def _end_to_end_table(measured: dict[str, list[Session]], failed: dict[str, str]) -> str:
    rows = []
    for peer in sorted(PEERS, key=lambda peer: -figures.best(measured[peer.key]) if peer.key in measured else 0.0):
        found = measured.get(peer.key)
        if found is None:
            if peer.key in failed:
                rows.append([_name(peer), f"not measured: {failed[peer.key]}", "", "", "", "", ""])
            continue
        single, batch = rate(found, figures.single), rate(found, figures.batch)
        ends = [session.single for session in found if session.single is not None]
        if single is not None:
            rows.append(
                [
                    _name(peer),
                    single.text(),
                    batch.text() if batch else "",
                    ranged([end.server_us for end in ends]).text(),
                    ranged([end.producer_us for end in ends]).text(),
                    ranged([end.worker_us for end in ends]).text(),
                    f"{min(end.jobs for end in ends):,}",
                ]
            )
    return table(("", "jobs/s, single calls", "jobs/s, batch", "CPU, µs a job: server", "producer", "worker", "jobs"), rows)


def _load_table(measured: dict[str, list[Session]]) -> str:
    rows = []
    for peer in PEERS:
        found = measured.get(peer.key, [])
        for share in sorted({load.share for session in found for load in session.loads}):
            of = loads(found, share)
            took = latency(of)
            p999 = f"{took.p999:,.0f}" if took.p999 is not None else ""
            jobs = sum(len(load.latencies) for load in of)
            rows.append([_name(peer), f"{share:.0%}", f"{took.offered:,.0f}", f"{took.p50:,.0f}", f"{took.p99:,.0f}", p999, f"{jobs:,}"])
    return table(("", "load", "jobs/s", "p50, µs", "p99", "p99.9", "jobs"), rows)


def _grid_row(found: Findings, peer: Peer, measured: dict[int, float], wanted: dict[int, str]) -> list[str]:
    """wanted: by the number that is asked for, what its failure is kept by."""
    single = rate(found.memory.get(peer.key, []), figures.single)
    cells = [_name(peer), f"{single.median:,.0f}" if single else ""]
    for number, what in wanted.items():
        reason = found.failures.get((peer.key, what), "")
        cells.append(f"{measured[number]:,.0f}" if number in measured else f"not measured: {reason}")
    return cells


def _crews_table(found: Findings) -> str:
    wanted = {number: f"{number} producers" for number in found.plan.crews}
    tried = [peer for peer in PEERS if peer.key in found.crews or any((peer.key, what) in found.failures for what in wanted.values())]
    rows = [_grid_row(found, peer, found.crews.get(peer.key, {}), wanted) for peer in tried]
    return table(("jobs/s", "1 producer, 1 worker", *(f"{number} and {number}" for number in wanted)), rows)


def _sizes_table(found: Findings) -> str:
    wanted = dict.fromkeys(found.plan.sizes, "payloads")
    tried = [peer for peer in PEERS if peer.key in found.sizes or (peer.key, "payloads") in found.failures]
    rows = [_grid_row(found, peer, found.sizes.get(peer.key, {}), wanted) for peer in tried]
    return table(("jobs/s", f"{SIZE} bytes", *(f"{size // 1_024} KiB" for size in wanted)), rows)


def _pickup_table(found: Findings) -> str:
    rows = []
    for peer in PEERS:
        if not any(peer.key in kept for kept in (found.memory, found.durable, found.crowds)):
            if (peer.key, MEMORY) in found.failures:
                rows.append([_name(peer), "not measured", "", "not measured", "", "", ""])
            continue
        cells = [_name(peer)]
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
        if not peer.queued or not (peer.key in found.queued or peer.key in found.crowds or (peer.key, "queued") in found.failures):
            continue
        each = found.queued.get(peer.key)
        crowds = [crowd.bytes_each / 1_024 for crowd in found.crowds.get(peer.key, [])]
        rows.append(
            [
                _name(peer),
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
            told.append(f"{name} {importlib.metadata.version(name) if peer.runtime == 'python' else node.version(name)}")
        except BenchError:
            told.append(f"{name}: not installed")
        except importlib.metadata.PackageNotFoundError:
            told.append(f"{name}: not installed")
    return ", ".join(told)


def _set_up_table() -> str:
    rows = [[peer.name, versions(peer), peer.set_up, *TOLD[peer.server]] for peer in PEERS]
    return table(("", "versions", "producer; worker", "in memory", "durable"), rows)


def _tables(found: Findings, failed: dict[str, dict[str, str]]) -> Iterator[str]:
    """With their headings; none that has no rows, as where only a part was measured."""
    for heading, made in (
        ("End to end, in memory", _end_to_end_table(found.memory, failed[MEMORY])),
        ("End to end, durable", _end_to_end_table(found.durable, failed[DURABLE])),
        ("Under load, in memory", _load_table(found.memory)),
        ("Under load, durable", _load_table(found.durable)),
        ("Several producers and workers", _crews_table(found)),
        ("Payloads", _sizes_table(found)),
        ("Pickup", _pickup_table(found)),
        ("Memory", _memory_table(found)),
    ):
        if made.count("\n") > 1:
            yield f"## {heading}"
            yield made


def markdown(found: Findings, plots: Sequence[str]) -> str:
    """The peers' part of results.md."""
    plan = found.plan
    failed = {what: {key: reason for (key, of), reason in found.failures.items() if of == what} for what in (MEMORY, DURABLE)}
    told = f"{machine()}; {found.rounds} rounds, {found.seconds:.0f} s in all"
    parts = [
        "# Beside what a user would pick instead",
        f"{datetime.now(UTC):%Y-%m-%d}. {told}. To get these: `pip install .[bench]`, "
        "`apt-get install beanstalkd redis-server nodejs npm`, "
        f"`{node.INSTALL}` in a folder that `{node.FOLDER}` names, `python -m bench peers`; `--quick` for a look.",
        "## In short",
        in_short(found),
        "## How ours stands",
        standing(found),
        *_tables(found, failed),
        *(f"![{Path(plot).stem}]({plot})" for plot in plots),
        "## Set-ups",
        _set_up_table(),
        "## How it is measured",
        HOW.format(**plan._asdict()).strip(),
    ]
    return "\n\n".join(parts) + "\n"
