"""Processes that are started with standard streams closed."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobqueue import Client

GUARD = 30.0

ALL = "<&- >&- 2>&-"

Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def closed(spawn: Start) -> Start:
    """Starts a command line with some of its standard streams closed."""

    def start(which: str, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
        return spawn(*arguments, before=["sh", "-c", f'exec "$@" {which}', "sh"], **options)

    return start


def streams_of(process: subprocess.Popen[bytes]) -> list[str]:
    """What the three streams of a process are."""
    return [str(Path(f"/proc/{process.pid}/fd/{number}").readlink()) for number in range(3)]


def stop(process: subprocess.Popen[bytes]) -> int:
    process.terminate()
    return process.wait(GUARD)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def serves(client: Client, process: subprocess.Popen[bytes]) -> bool:
    """Wait until a server answers."""
    while process.poll() is None:
        if client.healthy():
            return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize("which", [ALL, "<&-", ">&-", "2>&-"])
def test_a_server_serves_and_ends_in_order(closed: Start, which: str) -> None:
    """Its sockets get other numbers than those of standard streams, which go nowhere."""
    port = free_port()
    process = closed(which, "serve", "--port", str(port))
    with Client(f"http://127.0.0.1:{port}") as client:
        assert serves(client, process)
        assert [name for name in streams_of(process) if not name.startswith("pipe:")] == ["/dev/null"] * (3 if which == ALL else 1)
        client.enqueue(1)
    assert stop(process) == 0


@pytest.mark.parametrize("which", [ALL, "<&-", ">&-", "2>&-"])
def test_a_worker_works_and_its_commands_have_their_streams(closed: Start, client: Client, which: str) -> None:
    """A command has the payload and its outputs whatever is closed in the worker."""
    process = closed(which, "work", "--exec", "cat; echo >&2")
    assert client.job(client.enqueue([1, 2]).id, wait=GUARD).result == [1, 2]
    assert stop(process) == 0


def test_handlers_of_a_script_have_streams(client: Client, url: str) -> None:
    """A process that calls Worker.run is no other: a handler may print, and start programs that do."""
    Path("script.py").write_text(
        "import subprocess, jobqueue\n"
        f"worker = jobqueue.Worker({url!r})\n"
        "@worker.handler('print')\n"
        "def handle(job):\n"
        "    print('hello')\n"
        "    return subprocess.call('echo hello', shell=True)\n"
        "worker.run()\n"
    )
    process = subprocess.Popen(["sh", "-c", f"exec {sys.executable} script.py {ALL}"])
    try:
        assert client.job(client.enqueue(0, type="print").id, wait=GUARD).result == 0
        process.send_signal(signal.SIGTERM)
        assert process.wait(GUARD) == 0
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["enqueue", "1"], 0),
        (["enqueue"], 2),
        (["list"], 0),
        (["stats", "--json"], 0),
        (["dequeue"], 3),
        (["queues"], 0),
        (["--help"], 0),
        (["--version"], 0),
        (["check", "absent.db"], 1),
        (["nonsense"], 2),
    ],
)
def test_every_verb_ends_as_with_streams(closed: Start, arguments: list[str], code: int) -> None:
    """With its exit code, and no crash on the way."""
    process = closed(ALL, *arguments)
    assert process.wait(GUARD) == code
