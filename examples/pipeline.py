"""Count what is in Python's standard library with a job queue: split, map, reduce, started by a schedule.

    python examples/pipeline.py

A schedule makes a job every few seconds (a real one might do so every night), and skips a slot while the previous run is under way. The job
*splits* the library's source files into parts: it opens a group, enqueues a job for each part as a member, and closes the group. Each of
these jobs *maps* its files to what is in them: lines, functions, classes. When the last one has succeeded, the server enqueues the group's
callback, exactly once, even if servers and workers die meanwhile. The callback *reduces* the results of the parts to one result.

Two worker processes do all the work, and one of them is killed with SIGKILL while the parts are under way. At the end the example counts
the same files without a queue, and compares. The exit code is 0 only if both counts agree and every part was counted once.

The example starts its own server; with `--url` it uses a server that is already running, with the token in JOBQUEUE_TOKEN if that is set.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import multiprocessing
import subprocess
import sys
import sysconfig
import time
from collections import Counter
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, TypedDict

import jobqueue

QUEUE = "pipeline"
SCHEDULE = "stocktaking"
EVERY_SECONDS = 2.0
PARTS = 24
WORKERS = 2
LEASE_SECONDS = 2.0
"""How long the parts of the killed worker wait until another worker gets them."""
PATIENCE_SECONDS = 120.0

LIBRARY = Path(sysconfig.get_path("stdlib"))


class WentWrong(Exception):
    """The example failed. str() is a message for people."""


class Limits(TypedDict):
    """The payload of the job that splits. limit: the maximum number of files."""

    limit: int


class Part(TypedDict):
    """The payload of a job that maps: paths relative to the library's folder."""

    files: list[str]


class Whole(TypedDict):
    """The payload of the job that reduces. group: the group of the jobs that mapped."""

    group: str


# The work itself, which does not depend on a queue.


def sources(limit: int) -> list[str]:
    """Return the library's source files, by path."""
    files = (path.relative_to(LIBRARY) for path in LIBRARY.rglob("*.py"))
    return [str(path) for path in sorted(files) if not {"site-packages", "test", "tests", "idlelib"} & set(path.parts)][:limit]


def stock(files: list[str]) -> Counter[str]:
    """Count what is in some files."""
    counts: Counter[str] = Counter()
    for name in files:
        text = (LIBRARY / name).read_bytes()
        counts.update(files=1, lines=text.count(b"\n"))
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                counts["functions"] += 1
            elif isinstance(node, ast.ClassDef):
                counts["classes"] += 1
    return counts


# The worker.


def worker(url: str) -> None:
    """Run a worker; the main function of a worker process."""
    work = jobqueue.Worker(url, queues=[QUEUE], concurrency=2, lease_seconds=LEASE_SECONDS, wait=2)
    client = jobqueue.Client(url)

    @work.handler("split")
    def split(job: jobqueue.RunningJob[Limits]) -> str:
        files = sources(job.payload["limit"])
        # The name is derived from the run, so that a run whose worker died continues with the existing group.
        group = job.id.replace("@", ":")
        client.groups.create(group, queue=QUEUE, on_succeeded=jobqueue.NewJob({"group": group}, queue=QUEUE, type="reduce", priority=0))
        parts = [
            jobqueue.NewJob({"files": files[at::PARTS]}, id=f"{group}-{at}", queue=QUEUE, type="map", group=group, max_attempts=10)
            for at in range(PARTS)
        ]
        for reply in client.enqueue_batch(parts):
            if isinstance(reply, jobqueue.GroupClosed):
                # An earlier attempt has already done all of this.
                break
            if isinstance(reply, jobqueue.QueueError):
                raise reply
        client.groups.close(group)
        return group

    @work.handler("map")
    def count(job: jobqueue.RunningJob[Part]) -> dict[str, int]:
        return dict(stock(job.payload["files"]))

    @work.handler("reduce")
    def reduce(job: jobqueue.RunningJob[Whole]) -> dict[str, int]:
        total: Counter[str] = Counter()
        for part in client.all_jobs(group=job.payload["group"]):
            total.update(client.job(part.id).result)
            total["parts"] += 1
        return dict(total)

    work.run()


@contextlib.contextmanager
def running_workers(url: str) -> Iterator[list[BaseProcess]]:
    """Run worker processes as long as the context lasts."""
    spawn = multiprocessing.get_context("spawn")
    processes: list[BaseProcess] = [spawn.Process(target=worker, args=(url,), daemon=True) for _ in range(WORKERS)]
    for process in processes:
        process.start()
    try:
        yield processes
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()


# Watching it.


def result_of(client: jobqueue.Client, job_id: str) -> Any:
    """Wait until a job has succeeded, and return its result."""
    job = client.job(job_id, wait=PATIENCE_SECONDS)
    if job.outcome != "succeeded":
        raise WentWrong(f"the job {job_id} is {job.outcome or job.status}: {job.error}")
    return job.result


def first_run(client: jobqueue.Client, deadline: float) -> str:
    """Return the id of the first job that the schedule makes."""
    while True:
        schedule = client.schedules.get(SCHEDULE)
        if schedule.last_job is not None:
            return schedule.last_job
        if time.monotonic() > deadline:
            raise WentWrong("the schedule has made no job")
        time.sleep(0.05)


def kill_in_the_middle(client: jobqueue.Client, group: str, victim: BaseProcess, deadline: float) -> None:
    """Kill a worker when a quarter of the parts has been counted."""
    while (known := client.groups.get(group)).succeeded < PARTS // 4:
        if time.monotonic() > deadline:
            raise WentWrong(f"{known.succeeded} of {PARTS} parts are counted")
        time.sleep(0.01)
    victim.kill()
    print(f"{known.succeeded} of {PARTS} parts are counted: worker {victim.pid} is killed", flush=True)


def run(client: jobqueue.Client, url: str, limit: int) -> dict[str, int]:
    """Run the pipeline over at most `limit` files, and return its counts."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    split = jobqueue.NewJob({"limit": limit}, queue=QUEUE, type="split", max_attempts=10)
    client.schedules.put(SCHEDULE, split, every=EVERY_SECONDS, overlap="skip")
    try:
        with running_workers(url) as workers:
            run_id = first_run(client, deadline)
            client.schedules.pause(SCHEDULE)
            print(f"the schedule made {run_id}", flush=True)
            group = result_of(client, run_id)
            kill_in_the_middle(client, group, workers[0], deadline)
            done = client.groups.wait(group, PATIENCE_SECONDS)
            if not done.concluded or done.on_succeeded is None or done.on_succeeded.job is None:
                raise WentWrong(f"the group is {done}")
            result: dict[str, int] = result_of(client, done.on_succeeded.job)
            return result
    finally:
        client.schedules.delete(SCHEDULE)


@contextlib.contextmanager
def own_server() -> Iterator[str]:
    """Run a server on a free port as long as the context lasts. Yields its URL."""
    command = [sys.executable, "-m", "jobqueue", "serve", "--host", "127.0.0.1", "--port", "0", "--log-level", "warning"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline().split()
        if not line:
            raise WentWrong("the server did not start")
        yield line[-1]
    finally:
        process.terminate()
        process.wait()


def main() -> int:
    """Run the example and return the exit code."""
    parser = argparse.ArgumentParser(description="Take stock of the standard library: split, map, reduce, begun by a schedule.")
    parser.add_argument("--url", help="a running server (default: start one)")
    parser.add_argument("--limit", type=int, default=400, help="files (default: 400)")
    options = parser.parse_args()
    try:
        with contextlib.nullcontext(options.url) if options.url else own_server() as url, jobqueue.Client(url) as client:
            found = run(client, url, options.limit)
    except (WentWrong, jobqueue.QueueError) as error:
        print(f"pipeline: {error}", file=sys.stderr)
        return 1
    expected = dict(stock(sources(options.limit))) | {"parts": PARTS}
    for what, count in sorted(found.items()):
        print(f"{count:>10,} {what}")
    print("the same as without a queue" if found == expected else f"WRONG: without a queue it is {expected}")
    return 0 if found == expected else 1


if __name__ == "__main__":
    sys.exit(main())
