"""A server under measurement: its process, and what the kernel says it used.

CPU is the process's own CPU-time clock, in nanoseconds, user and system, all threads (POSIX clock_getcpuclockid): what
/proc/<pid>/stat says in hundredths of a second. Memory is Rss of /proc/<pid>/smaps_rollup, which is exact where statm lags behind.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
STOP_SECONDS = 20
CORES = sorted(os.sched_getaffinity(0))
"""Those this run may use, before `prepare` gives most of them to the load."""

_libc = ctypes.CDLL(None, use_errno=True)


class BenchError(Exception):
    """The measurement itself went wrong; str() says how."""


class Unavailable(BenchError):
    """Cannot be measured here, however often it is tried: something is not installed, or cannot do what is asked."""


def _cpu_clock(pid: int) -> int:
    clock = ctypes.c_int()
    error = _libc.clock_getcpuclockid(pid, ctypes.byref(clock))
    if error:
        raise BenchError(f"no CPU clock for process {pid}: {os.strerror(error)}")
    return clock.value


class Server:
    """A running server on 127.0.0.1."""

    def __init__(self, process: subprocess.Popen[str], port: int, token: str | None = None) -> None:
        self.process = process
        self.port = port
        self.token = token
        self._clock = _cpu_clock(process.pid)

    def cpu_ns(self) -> int:
        """CPU time used since the process started, in nanoseconds."""
        return time.clock_gettime_ns(self._clock)

    def rss_bytes(self) -> int:
        """Resident memory."""
        for line in Path(f"/proc/{self.process.pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Rss:"):
                return int(line.split()[1]) * 1_024
        raise BenchError("smaps_rollup names no Rss")


def prepare() -> None:
    """Once, before anything starts: as many descriptors as allowed, and the load on another core than the servers."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    os.sched_setaffinity(0, CORES[:-1] or CORES)


@contextlib.contextmanager
def _running(
    arguments: list[str], environment: dict[str, str], token: str | None, quiet: bool = False, end: int = signal.SIGTERM
) -> Iterator[Server]:
    errors = subprocess.DEVNULL if quiet else None
    process = subprocess.Popen([sys.executable, *arguments], cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True)
    try:
        os.sched_setaffinity(process.pid, CORES[-1:])
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise BenchError(f"{' '.join(arguments)} did not start")
        yield Server(process, int(line.rpartition(":")[2]), token)
        if process.poll() is not None:
            raise BenchError(f"{' '.join(arguments)} ended by itself with {process.returncode}")
    finally:
        process.send_signal(end)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def bare(*paths: str) -> contextlib.AbstractContextManager[Server]:
    """The bare handler on fixed paths."""
    return _running(["-m", "bench.bare", *paths], dict(os.environ), None)


def ours(
    *flags: str, token: str | None = None, quiet: bool = False, end: int = signal.SIGTERM
) -> contextlib.AbstractContextManager[Server]:
    """`jobqueue serve` with its defaults, or with `flags`. quiet: throw its log away. end: the signal that ends it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JOBQUEUE_")}
    if token is not None:
        environment["JOBQUEUE_TOKEN"] = token
    command = ["-m", "jobqueue", "serve", "--host", "127.0.0.1", "--port", "0", "--log-level", "warning", *flags]
    return _running(command, environment, token, quiet, end)
