"""Count the lines, words and characters of Python's standard library with a job queue.

    python examples/wordcount.py

One producer enqueues each .py file of this Python's standard library as a job. Four worker processes block on dequeue, count, and
conclude each job with its counts. The producer waits for the results and compares their sum with a direct count.

The example starts its own server; with `--url` it uses a server that is already running, with the token in JOBQUEUE_TOKEN if that is set.
With `--workers 0` you start the workers elsewhere. The exit code is 0 only if both counts agree.

The example shows three things. The producer makes the ids, and every dequeue has an `attempt_id`, so every request here is safe to repeat
if its answer was lost. The worker handles 204, a lost lease, and a job that it cannot do. The producer never has more than IN_FLIGHT jobs
unfinished, so it reads each result long before the server removes it from history.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import os
import subprocess
import sys
import sysconfig
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp

QUEUE = "wordcount"
WAIT_SECONDS = 20
"""How long the server holds a dequeue, or a request for a result, before it answers that there is nothing yet."""
IN_FLIGHT = 64
"""Jobs enqueued whose results are not read yet: enough to keep every worker busy."""
PAUSES_SECONDS = (0.1, 0.2, 0.5, 1, 2)
"""Pauses between the attempts of one request."""
BUSY = (429, 503)
"""The server is full or shutting down: ask again later."""


class WentWrong(Exception):
    """An error that a repeat will not fix. str() is a message for people."""


def count(text: str) -> dict[str, int]:
    """Count what `wc` counts."""
    return {"lines": text.count("\n"), "words": len(text.split()), "characters": len(text)}


# HTTP.


def session(url: str) -> aiohttp.ClientSession:
    """Return an HTTP client for the server at `url`. Its time-out must be longer than the wait."""
    headers = {"Content-Type": "application/json"}
    if token := os.environ.get("JOBQUEUE_TOKEN"):
        headers["Authorization"] = f"Bearer {token}"
    return aiohttp.ClientSession(url, headers=headers, timeout=aiohttp.ClientTimeout(total=WAIT_SECONDS + 10))


async def call(http: aiohttp.ClientSession, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    """Send one request, again while the server is unreachable or busy. Return the answer's status and its decoded body."""
    data = None if body is None else json.dumps(body, ensure_ascii=False).encode()
    for pause in (*PAUSES_SECONDS, None):
        try:
            async with http.request(method, path, data=data) as response:
                text = await response.read()
                if pause is None or response.status not in BUSY:
                    return response.status, json.loads(text) if text else None
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, TimeoutError) as error:
            if pause is None:
                raise WentWrong(f"{method} {path}: {error or type(error).__name__}") from error
        await asyncio.sleep(pause)
    raise AssertionError("the last attempt returns or raises")


# The worker.


def do(payload: Any) -> dict[str, Any]:
    """Return the body with which to conclude a job."""
    try:
        return {"outcome": "succeeded", "result": count(payload["text"])}
    except (TypeError, KeyError, AttributeError) as error:
        # Not a job for this worker. Another attempt would not help, so the failure is final.
        return {"outcome": "failed", "error": f"not a file to count: {error!r}", "retry": False}


async def work(url: str) -> None:
    """Take jobs and run them until the process is stopped."""
    async with session(url) as http:
        while True:
            wanted = {"queue": QUEUE, "wait": WAIT_SECONDS, "attempt_id": uuid.uuid4().hex}
            status, job = await call(http, "POST", "/jobs/dequeue", wanted)
            if status == 204:
                continue
            if status != 200:
                raise WentWrong(f"dequeue answered {status}: {job}")
            done = {"lease": job["lease"]["token"], **do(job["payload"])}
            status, answer = await call(http, "POST", f"/jobs/{quote(job['id'], safe='')}/conclude", done)
            # 404 and 409: this worker no longer has the job (the lease ran out, or the job was cancelled). Take the next one.
            if status not in (200, 404, 409):
                raise WentWrong(f"conclude answered {status}: {answer}")


def worker(url: str) -> None:
    """Run a worker; the main function of a worker process."""
    with contextlib.suppress(KeyboardInterrupt):
        try:
            asyncio.run(work(url))
        except WentWrong as error:
            sys.exit(f"wordcount worker: {error}")


# The producer.


class Tally:
    """The producer's results so far. direct: its own counts; counted: those of the workers; skipped: files left out, by reason."""

    def __init__(self, files: int) -> None:
        self.files = files
        self.started = time.perf_counter()
        self.done = 0
        self.skipped: Counter[str] = Counter()
        self.direct: Counter[str] = Counter()
        self.counted: Counter[str] = Counter()

    def __str__(self) -> str:
        rate = self.done / (time.perf_counter() - self.started)
        return f"{self.done + sum(self.skipped.values()):,}/{self.files:,} files  {self.counted['words']:,} words  {rate:,.0f} jobs/s"


def read(file: Path) -> str:
    """Return a file's text. Raises UnicodeDecodeError if it is not UTF-8."""
    return file.read_bytes().decode()


async def handle(http: aiohttp.ClientSession, file: Path, tally: Tally) -> None:
    """Enqueue one file, wait for its result and add it to the sums."""
    try:
        text = read(file)
    except UnicodeDecodeError:
        tally.skipped["not UTF-8"] += 1
        return
    job_id = f"{QUEUE}-{uuid.uuid4().hex}"
    status, job = await call(http, "POST", "/jobs/enqueue", {"id": job_id, "queue": QUEUE, "payload": {"path": str(file), "text": text}})
    if status == 413:
        tally.skipped["larger than the server takes"] += 1
        return
    if status not in (200, 201):
        raise WentWrong(f"enqueue of {file} answered {status}: {job}")
    while job["status"] != "concluded":
        status, job = await call(http, "GET", f"/jobs/{job_id}?wait={WAIT_SECONDS}")
        if status != 200:
            raise WentWrong(f"waiting for {file} answered {status}: {job}")
    if job["outcome"] != "succeeded":
        raise WentWrong(f"the job for {file} ended as {job['outcome']}: {job['error']}")
    tally.direct.update(count(text))
    tally.counted.update(job["result"])
    tally.done += 1


async def produce(url: str, files: list[Path], workers: list[BaseProcess]) -> Tally:
    """Have every file counted, IN_FLIGHT at a time, printing progress once a second."""
    tally = Tally(len(files))
    queue = iter(files)

    async def lane(http: aiohttp.ClientSession) -> None:
        for file in queue:
            await handle(http, file, tally)

    async def watch() -> None:
        while True:
            await asyncio.sleep(1)
            print(tally, flush=True)
            if workers and not any(process.is_alive() for process in workers):
                raise WentWrong("every worker has ended")

    async with session(url) as http:
        try:
            async with asyncio.TaskGroup() as group:
                watching = group.create_task(watch())
                await asyncio.gather(*(group.create_task(lane(http)) for _ in range(IN_FLIGHT)))
                watching.cancel()
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
    print(tally, flush=True)
    return tally


# The main program.


def library(limit: int | None) -> list[Path]:
    """Return the standard library's source files, without the packages that pip installed."""
    root = Path(sysconfig.get_path("stdlib"))
    return sorted(file for file in root.rglob("*.py") if "site-packages" not in file.parts)[:limit]


@contextlib.contextmanager
def own_server() -> Iterator[str]:
    """Run a server on a free port as long as the context lasts. Yields its URL."""
    command = [sys.executable, "-m", "jobqueue", "serve", "--host", "127.0.0.1", "--port", "0", "--log-level", "warning"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        # The server's first line of output has its address.
        assert process.stdout is not None
        line = process.stdout.readline().split()
        if not line:
            raise WentWrong("the server did not start")
        yield line[-1]
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def running_workers(url: str, number: int) -> Iterator[list[BaseProcess]]:
    """Run worker processes as long as the context lasts. Stopping a waiting worker loses nothing: a held dequeue has no job yet."""
    # Spawned rather than forked: this is safe even if this process has threads, and works the same on every system.
    spawn = multiprocessing.get_context("spawn")
    processes: list[BaseProcess] = [spawn.Process(target=worker, args=(url,), daemon=True) for _ in range(number)]
    for process in processes:
        process.start()
    try:
        yield processes
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()


def report(tally: Tally) -> bool:
    """Print the results. Return whether the counts agree."""
    seconds = time.perf_counter() - tally.started
    for reason, number in tally.skipped.items():
        print(f"skipped {number} files: {reason}")
    for what, number in tally.direct.items():
        print(f"{what}: workers {tally.counted[what]:,}, direct {number:,}")
    agree = tally.done > 0 and tally.counted == tally.direct
    print(f"{tally.done:,} jobs in {seconds:.2f} s: {tally.done / seconds:,.0f} jobs/s; the totals {'agree' if agree else 'DIFFER'}")
    return agree


def main() -> int:
    """Run the example and return the exit code."""
    parser = argparse.ArgumentParser(description="Count the words of Python's standard library with a job queue.")
    parser.add_argument("--url", help="a running server (default: start one)")
    parser.add_argument("--workers", type=int, default=4, help="worker processes (default: 4)")
    parser.add_argument("--limit", type=int, help="count only this many files")
    options = parser.parse_args()
    try:
        with contextlib.nullcontext(options.url) if options.url else own_server() as url, running_workers(url, options.workers) as workers:
            tally = asyncio.run(produce(url, library(options.limit), workers))
    except WentWrong as error:
        print(f"wordcount: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0 if report(tally) else 1


if __name__ == "__main__":
    sys.exit(main())
