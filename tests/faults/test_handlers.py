"""Handlers that do what they should not, inside the server and in a worker process."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import jobqueue
from jobqueue import Client, NewJob, Outcome

from .handlers import EXITS
from .process import Process

MODULE = "tests.faults.handlers:handlers"
PATIENCE_SECONDS = 60
ROOT = str(Path(jobqueue.__file__).parents[1])
LOOK = ("look on the loop", "look in a thread", "look in a process")
WAYS = ("itself", "gather", "wait_for", "TaskGroup", "create_task", "create_task, not awaited")


@contextlib.contextmanager
def pool(loop: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A server that runs the handlers itself: its URL and the process they run in."""
    server = Process("--pool", MODULE, loop=loop)
    try:
        yield f"http://127.0.0.1:{server.port}", server.process
    finally:
        server.close()


@contextlib.contextmanager
def worker() -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A server and a worker process."""
    server = Process()
    url = f"http://127.0.0.1:{server.port}"
    command = [sys.executable, "-m", "jobqueue", "work", MODULE, "--url", url]
    working = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": ROOT}, stderr=subprocess.DEVNULL)
    try:
        yield url, working
    finally:
        working.kill()
        working.wait()
        server.close()


Where = Callable[[], contextlib.AbstractContextManager[tuple[str, subprocess.Popen[bytes]]]]
everywhere = pytest.mark.parametrize(
    "where", [lambda: pool("uvloop"), lambda: pool("asyncio"), worker], ids=["pool", "pool-asyncio", "work"]
)


@everywhere
def test_63_context_leak(where: Where) -> None:
    """A handler sets a ContextVar every tenth job: no other job sees it, in any executor."""
    with where() as (url, _), Client(url) as client:
        made = client.enqueue_batch([NewJob(number, type=kind) for number in range(60) for kind in LOOK])
        found = [client.job(job.id, wait=PATIENCE_SECONDS).result for job in made]  # type: ignore[union-attr]
    assert found == ["nobody"] * 180


@everywhere
def test_64_exit_in_child_task(where: Where) -> None:
    """SystemExit and KeyboardInterrupt from wherever a handler may raise them: one failed attempt each, and nothing ends but that."""
    with where() as (url, process), Client(url) as client:
        kept = client.enqueue(1, queue="kept")
        for name in EXITS:
            jobs = [NewJob([way, name], type="exit", max_attempts=1) for way in WAYS]
            jobs += [NewJob(name, type=f"exit in a {place}", max_attempts=1) for place in ("thread", "process")]
            for made in client.enqueue_batch(jobs):
                job = client.job(made.id, wait=PATIENCE_SECONDS)  # type: ignore[union-attr]
                assert (job.outcome, job.attempts, job.error) == (Outcome.FAILED, 1, {"type": name, "message": "no"})
        assert client.enqueue(None, type="exit in a callback", wait=PATIENCE_SECONDS) == "went on"
        assert client.enqueue(None, type="who", wait=PATIENCE_SECONDS) == process.pid
        assert client.job(kept.id).outcome is None
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_SECONDS) == 0
