"""Fault 68: standard error is a pipe that nobody reads."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import select
import signal
import subprocess
import sys
from pathlib import Path

from .process import _ROOT
from .wire import PATIENCE_SECONDS, Client, call, request

REQUESTS = 3_000
"""Whose lines take several times what a pipe holds."""


class Unread:
    """A command whose standard error is a pipe that is full and stays so."""

    def __init__(self, *command: str, folder: Path) -> None:
        self.out, into = os.pipe()
        os.set_blocking(into, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(into, b"\n" * 4_096)
        os.set_blocking(into, True)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("JOBQUEUE_")} | {"PYTHONPATH": _ROOT}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "jobqueue", *command], stdout=subprocess.PIPE, stderr=into, cwd=folder, env=environment
        )
        os.close(into)

    def port(self) -> int:
        assert self.process.stdout is not None
        assert select.select([self.process.stdout], [], [], PATIENCE_SECONDS)[0], "the server does not start"
        match = re.search(rb":(\d+)$", self.process.stdout.readline().strip())
        assert match is not None
        return int(match[1])

    def end(self) -> int:
        """Ask it to stop; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_SECONDS)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        os.close(self.out)


async def test_68_blocked_log(tmp_path: Path) -> None:
    """A server that logs every request into a pipe that nobody reads serves on, says how many lines it lost, and stops when asked."""
    server = Unread("serve", "--port", "0", "--access-log", "on", folder=tmp_path)
    try:
        port = await asyncio.to_thread(server.port)
        client = await Client.connect(port)
        for _ in range(REQUESTS // 100):
            await client.send(request("GET", "/queues") * 100)
            for _ in range(100):
                assert (await client.answer()).status == 200
        client.rst()
        metrics = (await call(port, "GET", "/metrics")).body.decode()
        assert "jobqueue_log_lines_dropped_total 0.0" in metrics
        assert await asyncio.to_thread(server.end) == 0
    finally:
        server.close()


async def test_68_a_server_that_cannot_start_ends_all_the_same(tmp_path: Path) -> None:
    """The reason cannot be told to anybody, and the exit code says that there is one."""
    server = Unread("serve", "--port", "0", "--data", str(tmp_path), folder=tmp_path)
    try:
        assert await asyncio.to_thread(server.process.wait, PATIENCE_SECONDS) == 1
    finally:
        server.close()


async def test_68_a_worker_works_on(tmp_path: Path) -> None:
    """`jobqueue work` logs into such a pipe as well, and its jobs and its end do not wait for it."""
    server = Unread("serve", "--port", "0", folder=tmp_path)
    worker = None
    try:
        port = await asyncio.to_thread(server.port)
        url = f"http://127.0.0.1:{port}"
        worker = Unread("work", "--exec", "true", "--url", url, "--log-level", "debug", folder=tmp_path)
        for number in range(5):
            assert (await call(port, "POST", "/jobs/enqueue", {"payload": 1, "id": f"j{number}"})).status == 201
        for number in range(5):
            assert (await call(port, "GET", f"/jobs/j{number}?wait=20")).json["outcome"] == "succeeded"
        assert await asyncio.to_thread(worker.end) == 0
        assert await asyncio.to_thread(server.end) == 0
    finally:
        if worker is not None:
            worker.close()
        server.close()
