"""Servers and workers that are processes of their own, and waiting for what they do."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from inspect import isawaitable
from pathlib import Path
from typing import Any

from jobqueue import AsyncClient
from tests.faults.process import Process

from .rig import PATIENCE_SECONDS

ROOT = Path(__file__).parents[2]


def paths() -> dict[str, str]:
    """An environment in which tests and package are found."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT.parent), str(ROOT), os.environ.get("PYTHONPATH", "")])}


async def until(there: Callable[[], Any]) -> Any:
    """Wait for something outside this process; there: says what it is, at once or when awaited, once it is so."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            found = there()
            if found := (await found if isawaitable(found) else found):
                return found
            await asyncio.sleep(0.01)


async def stands(client: AsyncClient) -> None:
    """Wait until a worker stands in line: it does not between two of its requests."""

    async def there() -> int:
        return (await client.queue("default")).waiters

    await until(there)


async def left(client: AsyncClient) -> None:
    """Wait until no worker stands in line."""

    async def alone() -> bool:
        return not (await client.queue("default")).waiters

    await until(alone)


def gone(pid: int) -> bool:
    """Whether a process has ended."""
    with suppress(ProcessLookupError, FileNotFoundError):
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return True


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Outside:
    """Starts processes; none outlives the test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._servers: list[Process] = []
        self._workers: list[subprocess.Popen[bytes]] = []

    def server(self, *flags: str) -> Process:
        self._servers.append(Process("--min-lease", "0.2", *flags))
        return self._servers[-1]

    def worker(self, url: str, grace_seconds: float = 20) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-W", "error", "-m", "tests.worker.script", url, str(self.folder), str(grace_seconds)]
        self._workers.append(subprocess.Popen(command, env=paths(), stderr=subprocess.PIPE))
        return self._workers[-1]

    async def began(self, job_id: str, attempt: int = 1) -> None:
        """Wait until a worker's handler runs this attempt."""
        await until((self.folder / f"{job_id}-{attempt}").exists)

    async def ended(self, worker: subprocess.Popen[bytes]) -> tuple[int, str]:
        """Wait until a worker has ended; its exit code and its log."""
        _, log = await asyncio.to_thread(worker.communicate, timeout=PATIENCE_SECONDS)
        return worker.returncode, log.decode()

    def close(self) -> None:
        for worker in self._workers:
            if worker.poll() is None:
                worker.kill()
            worker.communicate()
        for server in self._servers:
            server.close()
