"""What the checks share. A plugin of pytest's in each set's own environment: it may import what every set has, which is pytest alone."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PATIENCE_SECONDS = 120.0
"""Longer than anything takes, for this only ends what hangs."""

_numbers = itertools.count(1)


@pytest.fixture
def queue_name(request: pytest.FixtureRequest) -> str:
    """A name that no other check, set or run has."""
    plain = "".join(letter if letter.isalnum() else "-" for letter in request.node.name)[:40]
    return f"{os.environ.get('CHECKS_SET', 'set')}-{plain}-{os.getpid()}-{next(_numbers)}"


def until(reached: Callable[[], object], what: str, seconds: float = PATIENCE_SECONDS) -> None:
    """Look until something is so. It is seen from outside only, in files that other processes write and in answers of the server."""
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end, f"not so in {seconds:.0f} s: {what}"
        time.sleep(0.05)


class Program:
    """A process of its own group, whose output is kept in a file."""

    def __init__(self, command: list[str], log: Path, cwd: Path, env: dict[str, str]) -> None:
        self.log = log
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, cwd=cwd, env=env, start_new_session=True
            )

    def kill(self) -> None:
        """kill -9 it with all of its children."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(PATIENCE_SECONDS)

    def stop(self, by: signal.Signals = signal.SIGTERM) -> int:
        """End it as an operator does; its exit code."""
        self.process.send_signal(by)
        return self.process.wait(PATIENCE_SECONDS)

    def said(self) -> str:
        """Its output so far."""
        return self.log.read_text(errors="replace")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Program]]:
    """Start programs of this environment, by their names in its `bin`. What runs at the end is killed; if the check fails, it shows it."""
    started: list[Program] = []

    def begin(*words: str, **environment: str) -> Program:
        command = [str(Path(sys.executable).with_name(words[0])), *words[1:]]
        started.append(Program(command, tmp_path / f"{len(started)}-{words[0]}.log", HERE, {**os.environ, **environment}))
        return started[-1]

    yield begin
    for program in started:
        program.kill()
        print(f"--- {program.log.name}\n{program.said()[-6000:]}")


def lines(path: Path) -> list[str]:
    """The lines of a file that programs write into; none if it is not there yet."""
    return path.read_text().split("\n")[:-1] if path.exists() else []
