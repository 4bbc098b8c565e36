"""Measures one peer: a session is a server, a worker and a producer, all new, each a process of its own, none pinned to a core."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import select
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from bench import node
from bench.peers.marks import EACH, EVERY, FIFO, MARK
from bench.peers.open_loop import Load, Marks, keep_timetable
from bench.peers.roster import Peer
from bench.peers.servers import Running, cpu_ns, memory_bytes, running
from bench.process import ROOT, BenchError, Unavailable

READY_SECONDS = 30.0
RUN_SECONDS_MAX = 60.0
WARM = 20
"""Pickups before those that count."""
PROBE = 200
"""Jobs that go through first, to see how many can be measured."""


ALL = 1_000_000_000
"""Told one by one, all of them."""
SIZE = 200
"""Of a payload as JSON text, unless another is asked for."""
PARTS = ("pickup", "ends", "open", "crowd", "queued", "crews", "payloads")
"""What can be measured alone."""


class Plan(NamedTuple):
    """How much is measured.

    rounds: of everything; pickups: in each; jobs_max: end to end, if they go through in seconds_max, and
    else as many as take about `seconds`; crowd: idle workers, and crowd_pickups by one of them; queued: jobs, at most, for the memory of
    one; shares: loads of an open loop that all peers get, leader_shares: those that leaders get in later rounds, each for open_seconds;
    crews: producers and as many workers; sizes: of payloads in bytes; grid_seconds: for each of those; leaders: how many peers have later
    rounds, crews and payloads for their speed; budget_seconds: no further round is begun that would go beyond; parts: of PARTS.
    """

    rounds: int
    pickups: int
    jobs_max: int
    seconds_max: float
    seconds: float
    crowd: int
    crowd_pickups: int
    queued: int
    shares: tuple[float, ...]
    leader_shares: tuple[float, ...]
    open_seconds: float
    crews: tuple[int, ...]
    sizes: tuple[int, ...]
    grid_seconds: float
    leaders: int
    budget_seconds: float
    parts: tuple[str, ...] = PARTS


KIB = 1_024
FULL = Plan(
    rounds=3, pickups=100, jobs_max=20_000, seconds_max=5.0, seconds=2.0, crowd=1_000, crowd_pickups=50, queued=100_000,
    shares=(0.5,), leader_shares=(0.25, 0.5, 0.75, 0.9), open_seconds=2.0, crews=(4, 16), sizes=(KIB, 16 * KIB, 256 * KIB),
    grid_seconds=1.5, leaders=5, budget_seconds=680.0,
)  # fmt: skip
QUICK = Plan(
    rounds=1, pickups=5, jobs_max=200, seconds_max=0.1, seconds=0.1, crowd=50, crowd_pickups=5, queued=200,
    shares=(0.5,), leader_shares=(0.5,), open_seconds=0.2, crews=(2,), sizes=(16 * KIB,),
    grid_seconds=0.1, leaders=2, budget_seconds=100.0,
)  # fmt: skip


class EndToEnd(NamedTuple):
    """Jobs a second, and CPU microseconds for each job: the server's, the producer's and the worker's."""

    rate: float
    server_us: float
    producer_us: float
    worker_us: float
    jobs: int


class Session(NamedTuple):
    """What one session found. single, batch: by one call a job, and by batches where there are any. pickups: in nanoseconds."""

    single: EndToEnd | None
    batch: EndToEnd | None
    pickups: list[int]
    loads: list[Load] = []  # noqa: RUF012 (it is never changed)


class Crowd(NamedTuple):
    """A thousand idle workers: pickups in nanoseconds, and the server's memory for each worker."""

    pickups: list[int]
    bytes_each: float


def _interpreter(peer: Peer) -> list[str]:
    if peer.runtime == "python":
        return [sys.executable, "-W", "ignore", "-m", "bench.peers.actor"]
    return [node.program(peer.runtime), str(Path(__file__).with_name("actor.mjs"))]


def need(peer: Peer) -> None:
    """Raises Unavailable, which names the library that a peer needs and that is not installed."""
    for name in peer.needs:
        if peer.runtime != "python":
            node.package(name)
            continue
        try:
            importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            raise Unavailable(f"{name} is not installed; it is in jobqueue[bench]") from None


class Actor:
    """A process of actor.py."""

    def __init__(self, role: str, peer: Peer, address: str, *rest: str, environment: dict[str, str] | None = None) -> None:
        self.what = f"{peer.name}'s {role}"
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 (it is closed by stop)
        self.process = subprocess.Popen(
            [*_interpreter(peer), role, f"with_{peer.key}", address, *rest],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT), node.FOLDER: str(node.modules().parent)} | (environment or {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
        )

    @property
    def pid(self) -> int:
        """Its process."""
        return self.process.pid

    def broken(self, why: str) -> BenchError:
        """The error to raise, with the last line that it wrote."""
        self.errors.seek(0)
        lines = self.errors.read().decode(errors="replace").strip().splitlines()
        return BenchError(f"{self.what} {why}" + (f": {lines[-1][:200]}" if lines else ""))

    def hear(self, seconds: float) -> str:
        """The next line it prints. Raises BenchError."""
        assert self.process.stdout is not None
        line = b""
        deadline = time.monotonic() + seconds
        while not line.endswith(b"\n"):
            left = max(0.0, deadline - time.monotonic())
            if not select.select([self.process.stdout], [], [], left)[0]:
                raise self.broken(f"says nothing for {seconds:.0f} s")
            part = os.read(self.process.stdout.fileno(), 65_536)
            if not part:
                raise self.broken("ended")
            line += part
        return line.decode().strip()

    def tell(self, line: str) -> None:
        """Send it a line."""
        self.write(f"{line}\n".encode())

    def write(self, text: bytes) -> None:
        """Send it this."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(text)
            self.process.stdin.flush()
        except OSError as error:
            raise self.broken("ended") from error

    def stop(self) -> None:
        """Kill it. There is nothing it could still do that anybody wants."""
        self.process.kill()
        self.process.communicate()
        self.errors.close()


@contextlib.contextmanager
def acting(role: str, peer: Peer, address: str, *rest: str, environment: dict[str, str] | None = None) -> Iterator[Actor]:
    """An actor for as long as the context lasts."""
    actor = Actor(role, peer, address, *rest, environment=environment)
    try:
        yield actor
    finally:
        actor.stop()


@contextlib.contextmanager
def served(peer: Peer, folder: Path, *, durable: bool) -> Iterator[Running]:
    """The peer's server, prepared."""
    need(peer)
    with running(peer.server, folder, durable=durable) as server:
        if peer.prepared:
            with acting("prepare", peer, server.address, str(int(durable))) as actor:
                if actor.process.wait(READY_SECONDS):
                    raise actor.broken("failed")
        yield server


def _wait_for_marks(fifo: int, count: int, worker: Actor) -> int:
    """The time of the last of so many marks."""
    deadline = time.monotonic() + RUN_SECONDS_MAX
    moment = 0
    while count:
        if time.monotonic() > deadline:
            raise worker.broken(f"did not handle the jobs within {RUN_SECONDS_MAX:.0f} s")
        if select.select([fifo], [], [], 0.5)[0]:
            (moment,) = MARK.unpack(os.read(fifo, MARK.size))
            count -= 1
        elif worker.process.poll() is not None:
            raise worker.broken("ended")
    return moment


def _end_to_end(what: str, jobs: int, fifo: int, server: Running, producer: Actor, worker: Actor) -> EndToEnd:
    def cpu() -> tuple[int, ...]:
        return cpu_ns(server.pid), cpu_ns(producer.pid), cpu_ns(worker.pid)

    before = cpu()
    started = time.monotonic_ns()
    producer.tell(f"{what} {jobs} {SIZE}")
    ended = _wait_for_marks(fifo, jobs // EVERY, worker)
    producer.hear(RUN_SECONDS_MAX)
    server_us, producer_us, worker_us = ((after - was) / jobs / 1_000 for was, after in zip(before, cpu(), strict=True))
    return EndToEnd(jobs / ((ended - started) / 1e9), server_us, producer_us, worker_us, jobs)


def _open(share: float, rate: float, seconds: float, fifo: int, producer: Actor, worker: Actor) -> Load:
    """One load. Raises BenchError if jobs are lost."""
    count = max(PROBE // 10, int(share * rate * seconds))
    marks = Marks(fifo, count, RUN_SECONDS_MAX, lambda: worker.process.poll() is not None)
    producer.tell(f"open {count}")
    keep_timetable(share * rate, count, producer.write)
    latencies = marks.all()
    if len(latencies) < count:
        raise worker.broken(f"handled {len(latencies)} of {count} jobs of an open loop")
    producer.hear(RUN_SECONDS_MAX)
    return Load(share, share * rate, latencies)


@contextlib.contextmanager
def marks_in(folder: Path) -> Iterator[tuple[Path, int]]:
    """A FIFO for marks: where it lies, and it, open for reading."""
    path = folder / "marks"
    os.mkfifo(path)
    fifo = os.open(path, os.O_RDWR)
    try:
        yield path, fifo
    finally:
        os.close(fifo)


def sized(rate: float, plan: Plan) -> int:
    """How many jobs to send through a peer that did so many a second in a first try."""
    if rate * plan.seconds_max >= plan.jobs_max:
        return plan.jobs_max
    return max(PROBE, int(rate * plan.seconds) // EVERY * EVERY)


def session(peer: Peer, plan: Plan, *, durable: bool, shares: tuple[float, ...] = ()) -> Session:
    """One session. shares: loads of an open loop. Raises BenchError, which says why it could not be."""
    each = WARM + plan.pickups
    with (
        tempfile.TemporaryDirectory() as name,
        marks_in(Path(name)) as (path, fifo),
        served(peer, Path(name, "data"), durable=durable) as server,
    ):
        marks = {FIFO: str(path)}
        with (
            acting("work", peer, server.address, environment=marks | {EACH: str(each)}) as worker,
            acting("produce", peer, server.address, environment=marks) as producer,
        ):
            producer.hear(READY_SECONDS)
            producer.tell(f"pickup {each}")
            found: list[int] = json.loads(_said(producer, worker))
            ways: dict[str, EndToEnd] = {}
            asked = (("single",) * bool({"ends", "open"} & set(plan.parts))) + (("batch",) * (peer.batch and "ends" in plan.parts))
            for way in asked:
                probe = _end_to_end(way, PROBE, fifo, server, producer, worker)
                jobs = sized(probe.rate, plan)
                # Those that are too slow for more have been measured.
                ways[way] = probe if jobs == PROBE else _end_to_end(way, jobs, fifo, server, producer, worker)
            loads = []
            for share in shares if "open" in plan.parts else ():
                loads.append(_open(share, ways["single"].rate, plan.open_seconds, fifo, producer, worker))
            return Session(ways.get("single"), ways.get("batch"), found[WARM:], loads)


def _said(producer: Actor, worker: Actor) -> str:
    try:
        return producer.hear(RUN_SECONDS_MAX)
    except BenchError:
        if worker.process.poll() is not None:
            raise worker.broken("ended") from None
        raise


def crowd(peer: Peer, count: int, pickups: int) -> Crowd:
    """Pickups by one of many idle workers, in memory."""
    with (
        tempfile.TemporaryDirectory() as name,
        marks_in(Path(name)) as (path, _),
        served(peer, Path(name, "data"), durable=False) as server,
    ):
        marks = {FIFO: str(path)}
        with acting("produce", peer, server.address, environment=marks) as producer:
            producer.hear(READY_SECONDS)
            before = memory_bytes(server.pid)
            counting = marks | {EACH: str(WARM + pickups)}
            with acting("crowd", peer, server.address, str(count), environment=counting) as workers:
                workers.hear(READY_SECONDS)
                grown = memory_bytes(server.pid) - before
                producer.tell(f"pickup {WARM + pickups}")
                found: list[int] = json.loads(_said(producer, workers))
    return Crowd(found[WARM:], grown / count)


def queued_bytes(peer: Peer, jobs: int, *, durable: bool) -> float:
    """The server's memory for each of so many queued jobs, their 200 bytes included."""
    what = "batch" if peer.batch else "single"
    with (
        tempfile.TemporaryDirectory() as name,
        served(peer, Path(name, "data"), durable=durable) as server,
        acting("produce", peer, server.address) as producer,
    ):
        producer.hear(READY_SECONDS)
        producer.tell(f"{what} 200 {SIZE}")
        producer.hear(RUN_SECONDS_MAX)
        before = memory_bytes(server.pid)
        producer.tell(f"{what} {jobs} {SIZE}")
        producer.hear(2 * RUN_SECONDS_MAX)
        return (memory_bytes(server.pid) - before) / jobs


def percentile(values: list[Any], percent: int) -> float:
    """The p-th percentile."""
    return float(statistics.quantiles(values, n=100, method="inclusive")[percent - 1])
