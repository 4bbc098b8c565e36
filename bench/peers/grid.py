"""Several producers and workers, each a process of its own, and payloads of other sizes: by single calls, in memory."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench.peers.marks import EACH, FIFO
from bench.peers.open_loop import Marks
from bench.peers.roster import Peer
from bench.peers.servers import cpu_ns
from bench.peers.sessions import ALL, PROBE, READY_SECONDS, RUN_SECONDS_MAX, SIZE, Actor, acting, marks_in, served

JOBS_MAX = 20_000
BYTES_MAX = 192 * 1_048_576
"""Of payloads in one run: all of them may be queued at once."""
QUIET_SECONDS, QUIET_NS = 0.2, 5_000_000
"""Workers wait for jobs when they use less CPU than this each, on average, in that time."""
SETTLE_SECONDS = 10.0
"""Those of libraries that poll may never be quiet; by then they have begun."""


def _settle(workers: Sequence[Actor]) -> None:
    deadline = time.monotonic() + SETTLE_SECONDS
    before = 0
    while time.monotonic() < deadline:
        time.sleep(QUIET_SECONDS)
        now = sum(cpu_ns(worker.pid) for worker in workers)
        if now and now - before < QUIET_NS * len(workers):
            return
        before = now


def _rate(jobs: int, size: int, fifo: int, producers: Sequence[Actor], workers: Sequence[Actor]) -> float:
    """Jobs a second, from the first call to the last handler. Raises BenchError."""
    shares = [jobs // len(producers)] * len(producers)
    marks = Marks(fifo, sum(shares), RUN_SECONDS_MAX, lambda: any(worker.process.poll() is not None for worker in workers))
    started = time.monotonic_ns()
    for producer, share in zip(producers, shares, strict=True):
        producer.tell(f"single {share} {size}")
    for producer in producers:
        producer.hear(RUN_SECONDS_MAX)
    moments = marks.all()
    if len(moments) < sum(shares):
        ended = [worker for worker in workers if worker.process.poll() is not None]
        raise (ended or workers)[0].broken(f"and others handled {len(moments)} of {sum(shares)} jobs")
    return len(moments) / ((max(moments) - started) / 1e9)


def rates(peer: Peer, people: int, sizes: Sequence[int], seconds: float) -> list[float]:
    """Jobs a second by so many producers and as many workers, for each size of a payload in bytes. Raises BenchError."""
    with (
        tempfile.TemporaryDirectory() as name,
        marks_in(Path(name)) as (path, fifo),
        served(peer, Path(name, "data"), durable=False) as server,
        contextlib.ExitStack() as stack,
    ):
        told = {FIFO: str(path), EACH: str(ALL)}
        workers = [stack.enter_context(acting("work", peer, server.address, environment=told)) for _ in range(people)]
        producers = [stack.enter_context(acting("produce", peer, server.address, environment=told)) for _ in range(people)]
        for producer in producers:
            producer.hear(READY_SECONDS)
        _settle(workers)
        found = []
        for size in sizes:
            # Enough for each producer to make a call or two of each that it makes at once.
            probe = _rate(max(PROBE, 10 * people) if size <= SIZE else PROBE // 2, size, fifo, producers, workers)
            jobs = min(JOBS_MAX, BYTES_MAX // size, max(PROBE // 2, int(probe * seconds)))
            found.append(_rate(jobs, size, fifo, producers, workers))
        return found
