"""`python -m bench takeover`: how long a takeover takes with a standby and without, and what a standby costs.

For each store and each number of jobs: two servers, the jobs, `kill -9` of the one that owns the queue, and the time until the other one
answers for a job, as its client sees it. Before that a load of single calls at the owner, with the CPU of both per job life. The stores are
started as the tests start them: Valkey with no replica (`--acknowledge 0`), PostgreSQL with fsync. Compare ratios.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple

from bench.process import ROOT, BenchError, Server
from jobqueue import AsyncClient
from jobqueue.client.types import NewJob
from jobqueue.errors import QueueError

PAYLOAD = "x" * 198
BATCH = 1_000
LIVES = 3_000
AT_ONCE = 16
ANSWER_SECONDS_MAX = 300.0
FLAGS = ("--peer-port", "0", "--max-jobs", "3000000", "--max-payload-total-bytes", "4GiB", "--log-level", "error")


class Row(NamedTuple):
    """One takeover. CPU in microseconds for a job's life, enqueue, dequeue and conclude; memory in MiB."""

    store: str
    jobs: int
    standby: bool
    seconds: float
    owner_cpu: float
    other_cpu: float
    other_mib: float


@contextlib.contextmanager
def _serving(*flags: str) -> Iterator[Server]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JOBQUEUE_")}
    command = [sys.executable, "-m", "jobqueue", "serve", "--host", "127.0.0.1", "--port", "0", *FLAGS, *flags]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise BenchError(f"{' '.join(command)} did not start")
        yield Server(process, int(line.rpartition(":")[2]))
    finally:
        process.kill()
        process.wait()


def _client(server: Server) -> AsyncClient:
    return AsyncClient(f"http://127.0.0.1:{server.port}")


async def _shows(client: AsyncClient, metric: str) -> bool:
    with contextlib.suppress(QueueError):
        return metric in (await client.metrics()).splitlines()
    return False


async def _until(client: AsyncClient, *metrics: str) -> None:
    deadline = time.monotonic() + ANSWER_SECONDS_MAX
    while not all([await _shows(client, metric) for metric in metrics]):
        if time.monotonic() > deadline:
            raise BenchError(f"never: {metrics}")
        await asyncio.sleep(0.2)


async def _fill(client: AsyncClient, jobs: int) -> str:
    """Enqueue so many, on a queue that the load does not use; one of them."""
    made = ""
    for start in range(0, jobs, BATCH):
        for reply in await client.enqueue_batch([NewJob(PAYLOAD, queue="kept")] * min(BATCH, jobs - start)):
            if isinstance(reply, QueueError):
                raise reply
            made = reply.id
    return made


async def _live(client: AsyncClient, lives: int) -> None:
    async def one() -> None:
        for _ in range(lives // AT_ONCE):
            await client.enqueue(PAYLOAD)
            job = await client.dequeue(wait=5)
            if job is not None:
                await client.conclude(job.id, job.lease.token, "succeeded")

    await asyncio.gather(*(one() for _ in range(AT_ONCE)))


async def _measured(store: str, flags: tuple[str, ...], jobs: int, standby: bool) -> Row:
    with _serving(*flags) as owner:
        async with _client(owner) as client:
            await _until(client, "jobqueue_owner 1.0")
            job_id = await _fill(client, jobs)
            with _serving(*flags, *([] if standby else ["--no-standby"])) as other:
                async with _client(other) as asking:
                    if standby:
                        await _until(client, "jobqueue_standby_known 1.0", "jobqueue_standby_behind 0.0")
                    else:
                        await _until(asking, "jobqueue_owner_known 1.0")
                    await _live(client, LIVES // 4)
                    before = owner.cpu_ns(), other.cpu_ns()
                    await _live(client, LIVES)
                    owner_cpu, other_cpu = owner.cpu_ns() - before[0], other.cpu_ns() - before[1]
                    if standby:
                        await _until(client, "jobqueue_standby_behind 0.0")
                    owner.process.kill()
                    seconds = await _answered(asking, job_id)
                    return Row(store, jobs, standby, seconds, owner_cpu / LIVES / 1e3, other_cpu / LIVES / 1e3, other.rss_bytes() / 2**20)


async def _answered(client: AsyncClient, job_id: str) -> float:
    began = time.monotonic()
    while time.monotonic() - began < ANSWER_SECONDS_MAX:
        with contextlib.suppress(QueueError):
            await client.job(job_id)
            return time.monotonic() - began
        await asyncio.sleep(0.02)
    raise BenchError("nobody took over")


@contextlib.contextmanager
def _place(store: str) -> Iterator[tuple[str, ...]]:
    """An empty store of a kind; the flags for it."""
    if store == "valkey":
        from tests.valkey import Node

        node = Node()
        try:
            yield "--store", node.url, "--acknowledge", "0"
        finally:
            node.remove()
    else:
        from tests.postgres import PostgresServer

        server = PostgresServer("listen_addresses = '127.0.0.1'\nmax_connections = 60\nmax_wal_size = 4GB\n")
        try:
            yield "--store", server.url()
        finally:
            server.close()


def main(arguments: list[str]) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench takeover", description="Takeovers with a standby and without.")
    parser.add_argument("--jobs", default="10000,100000,1000000", help="how many, separated by commas")
    parser.add_argument("--stores", default="valkey,postgres", help="which")
    options = parser.parse_args(arguments)
    print("| store | jobs | standby | takeover, s | owner's CPU a life, µs | the other's, µs | the other's memory after, MiB |", flush=True)
    print("|---|---|---|---|---|---|---|", flush=True)
    for jobs in map(int, options.jobs.split(",")):
        for store in options.stores.split(","):
            for standby in (False, True):
                with _place(store) as flags:
                    row = asyncio.run(_measured(store, flags, jobs, standby))
                print(
                    f"| {row.store} | {row.jobs:,} | {'yes' if row.standby else 'no'} | {row.seconds:.2f} | {row.owner_cpu:.0f}"
                    f" | {row.other_cpu:.0f} | {row.other_mib:.0f} |",
                    flush=True,
                )
    return 0
