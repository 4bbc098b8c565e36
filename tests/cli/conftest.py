"""The command line against a real server: in this process where that shows it, as a process of its own where signals or pipes matter."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from jobqueue import Client
from jobqueue.cli import main
from jobqueue.testing import server_in_thread

GUARD = 30.0
"""Seconds after which a test that waits in vain gives up."""

ROOT = Path(__file__).parents[2]


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty folder, and no variables of ours."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("JOBQUEUE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(ROOT), *sys.path])))
    return tmp_path


@pytest.fixture
def url(alone: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An empty server, which JOBQUEUE_URL names."""
    with server_in_thread(min_lease=1.0) as found:
        monkeypatch.setenv("JOBQUEUE_URL", found)
        yield found


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    """A client of it."""
    with Client(url) as made:
        yield made


@pytest.fixture
def run(alone: Path) -> Callable[..., Result]:
    """Runs a command line in this process; `given` is what comes on stdin."""

    def invoke(*arguments: str, given: str | bytes | None = None, **environ: str) -> Result:
        return CliRunner().invoke(main, arguments, input=given, env=environ, catch_exceptions=False)

    return invoke


@pytest.fixture
def spawn(url: str) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts a command line as a process; those that still run in the end are killed, groups and all."""
    with contextlib.ExitStack() as stack:

        def start(*arguments: str, before: Sequence[str] = (), **options: Any) -> subprocess.Popen[bytes]:
            streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
            command = [*before, sys.executable, "-m", "jobqueue", *arguments]
            started = subprocess.Popen(command, start_new_session=True, **{**streams, **options})
            stack.callback(_end, started)
            return started

        yield start


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=GUARD)


@pytest.fixture
def terminal(spawn: Callable[..., subprocess.Popen[bytes]]) -> Callable[..., tuple[int, str]]:
    """Runs a command line on a terminal so wide; its exit code and what it wrote. Once `until` is written, `keys` are pressed.

    Without keys the terminal goes away then, and the command is not told by a signal either.
    """

    def show(columns: int, *arguments: str, until: bytes = b"", keys: bytes = b"", **environ: str) -> tuple[int, str]:
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        env = {**os.environ, "TERM": "xterm-256color", **environ}
        # Opened by the first of a session, a terminal is the one whose Ctrl-C it gets.
        before = ["sh", "-c", 'trap "" HUP; exec "$@" <"$0" >"$0" 2>&1', os.ttyname(theirs)]
        process = spawn(*arguments, before=before, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, env=env)
        os.close(theirs)
        written = b""
        gives_up = time.monotonic() + GUARD
        with contextlib.suppress(OSError):  # EIO: nobody has the other end any more
            while chunk := os.read(ours, 65_536) if select.select([ours], [], [], GUARD)[0] else b"":
                written += chunk
                # It may paint for ever and never end.
                assert time.monotonic() < gives_up, written[-2_000:]
                if until and until in written:
                    if not keys:
                        break
                    os.write(ours, keys)
                    until = b""
        os.close(ours)
        return process.wait(GUARD), written.decode()

    return show
