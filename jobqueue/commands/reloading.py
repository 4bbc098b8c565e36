"""`work --reload`: run the same command again as a child, and start it anew when a source file changes. For development.

Files are looked at twice a second. A library that is told of changes by the kernel would do it sooner, but it is a compiled dependency
of every installation for a flag that a developer uses.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import click

from jobqueue.commands.output import plain

POLL_SECONDS = 0.5
FILES_MAX = 5_000
CHILD = "_JOBQUEUE_RELOADED"
"""Set for the child, which is to work and not to watch."""

_PASSED_OVER = frozenset({"__pycache__", "node_modules"})


def is_child() -> bool:
    """Whether this process is the one that works."""
    return CHILD in os.environ


def folder_of(module: str) -> Path:
    """Where the sources lie that "package.module:attribute" belongs to: its package, or the folder its file is in, else this folder."""
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    try:
        spec = find_spec(module.partition(":")[0].partition(".")[0])
    except (ImportError, ValueError):
        spec = None
    if spec is None or spec.origin is None:
        return Path(here)
    return Path(spec.origin).parent


def sources(folder: Path) -> Iterator[Path]:
    """Python files below a folder, without hidden folders and environments."""
    count = 0
    for path, folders, files in os.walk(folder):
        folders[:] = [
            name for name in folders if name[0] != "." and name not in _PASSED_OVER and not Path(path, name, "pyvenv.cfg").exists()
        ]
        for name in files:
            if name.endswith(".py"):
                yield Path(path, name)
                count += 1
        if count > FILES_MAX:
            return


def snapshot(folder: Path) -> dict[Path, tuple[int, int]]:
    """The state of every source file: when it was written, and its size."""
    found = {}
    for path in sources(folder):
        try:
            stat = path.stat()
        except OSError:  # it is just being replaced
            continue
        found[path] = (stat.st_mtime_ns, stat.st_size)
    return found


def changed(before: dict[Path, tuple[int, int]], after: dict[Path, tuple[int, int]]) -> Path | None:
    """A file that was written, made or removed in between."""
    return next((path for path in sorted(before.keys() | after.keys()) if before.get(path) != after.get(path)), None)


class Supervisor:
    """Keeps the child running. Signals are passed on to it, which is in a group of its own so that Ctrl-C reaches it once."""

    def __init__(self, module: str) -> None:
        self._folder = folder_of(module)
        self._child: subprocess.Popen[bytes] | None = None
        self._stopping = False

    def run(self) -> int:
        """Until SIGTERM or SIGINT; the child's exit code."""
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, self._stop)
        seen = snapshot(self._folder)
        child = self._start()
        while True:
            code = self._poll(child)
            if self._stopping and code is not None:
                return code
            now = snapshot(self._folder)
            path = changed(seen, now)
            if path is None or self._stopping:
                continue
            seen = now
            click.echo(f"{plain(str(path))} has changed, starting again", err=True)
            child.terminate()
            child.wait()
            child = self._start()

    def _poll(self, child: subprocess.Popen[bytes]) -> int | None:
        """The child's exit code, once it has ended. One that ended by itself is left so until a file changes."""
        if child.returncode is not None:
            time.sleep(POLL_SECONDS)
            return child.returncode
        try:
            return child.wait(POLL_SECONDS)
        except subprocess.TimeoutExpired:
            return None

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "jobqueue", *sys.argv[1:]]
        self._child = child = subprocess.Popen(command, env={**os.environ, CHILD: "1"}, process_group=0)
        if self._stopping:  # a signal came before there was anybody to pass it on to
            child.terminate()
        return child

    def _stop(self, number: int, _: object) -> None:
        self._stopping = True
        if self._child is not None:
            self._child.send_signal(number)
