"""A real server process, started as an operator starts it, with its log kept and read."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

import jobqueue
from tests import ways

from .wire import PATIENCE_SECONDS, lines_of, until

_ROOT = str(Path(jobqueue.__file__).parents[1])

_ASYNCIO = "import sys; sys.modules['uvloop'] = None; "
"""Makes `import uvloop` fail, as on a machine that has none."""

_LISTEN = "0A"
"""A listening socket, in /proc/net/tcp."""

_WAY = "from tests import ways; ways.install({!r}); "

_BOOT = "from jobqueue.cli import main; main()"

LOG_LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (DEBUG|INFO|WARNING) jobqueue(\.\w+)* [^\x00-\x1f\x7f]+")
"""What a well-formed line of the log looks like: below ERROR, printable, one line."""

on_each_server = pytest.mark.parametrize("process", ["uvloop", "asyncio"], indirect=True)
"""Run a test against a server on each kind of loop: where connections end, and where a loop stands still, they differ."""


class Process:
    """`jobqueue serve --port 0` with `flags`. loop: "uvloop" or "asyncio"; before: Python to run first, in the server's process."""

    def __init__(self, *flags: str, loop: str = "uvloop", before: str = "") -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 # closed by `close`
        self._read = 0
        # An empty folder, so that no .env is found; no variable of ours, so that nothing else is set.
        self._folder = tempfile.TemporaryDirectory()
        paths = os.pathsep.join(path for path in (_ROOT, os.environ.get("PYTHONPATH", "")) if path)
        way = ways.current
        environment = {name: value for name, value in os.environ.items() if not name.startswith("JOBQUEUE_")} | {"PYTHONPATH": paths}
        first = before + (_ASYNCIO if loop == "asyncio" else "") + ("" if way == "auto" else _WAY.format(way))
        run = ["-c", first + _BOOT] if first else ["-m", "jobqueue"]
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", *run, "serve", "--port", "0", *([] if way == "auto" else ["--http", ways.http(way)]), *flags],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._log,
            cwd=self._folder.name,
            env=environment,
        )
        try:
            self.port = self._find_port()
        except BaseException:
            self.close()
            raise

    def _find_port(self) -> int:
        stdout = self.process.stdout
        assert stdout is not None
        assert select.select([stdout], [], [], PATIENCE_SECONDS)[0], "the server does not start"
        line = stdout.readline().decode()
        match = re.fullmatch(r"jobqueue serves https?://127\.0\.0\.1:(\d+)\n", line)
        assert match is not None, f"{line!r}, {self.log()}"
        return int(match[1])

    def signal(self, name: signal.Signals) -> None:
        """Send the process a signal."""
        self.process.send_signal(name)

    def wait(self, seconds: float = PATIENCE_SECONDS) -> int:
        """Wait for the process to end; its exit code."""
        return self.process.wait(seconds)

    def rss(self) -> int:
        """Resident memory in bytes."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def cpu_seconds(self) -> float:
        """Processor time used so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def connections(self) -> int:
        """Connections it holds: its sockets but for the listener, and those a loop talks to itself through."""
        inodes = set()
        for link in Path(f"/proc/{self.process.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                inodes.add(str(link.readlink()).removeprefix("socket:[").removesuffix("]"))
        rows = (line.split() for line in Path(f"/proc/{self.process.pid}/net/tcp").read_text().splitlines()[1:])
        local = f":{self.port:04X}"
        return sum(row[9] in inodes and row[1].endswith(local) and row[3] != _LISTEN for row in rows)

    def log(self) -> str:
        """What the server logged since this was last asked."""
        # Not seek and read: the child writes through the same open file and would write where we left it.
        size = os.fstat(self._log.fileno()).st_size
        text = os.pread(self._log.fileno(), size - self._read, self._read)
        self._read = size
        return text.decode("utf-8", "backslashreplace")

    async def said(self, text: str) -> str:
        """Wait until the log has a text, since it is written a little after the answer; all that was logged since the last time."""
        found = ""

        def there() -> bool:
            nonlocal found
            found += self.log()
            # Not in the middle of a line, whose rest would look like a line of its own.
            return text in found and found.endswith("\n")

        await until(there, f"{text!r} in the log")
        return found

    def clean(self) -> list[str]:
        """The new lines of the log, each well-formed: no traceback, no warning of Python's, nothing of ERROR."""
        lines = list(lines_of(self.log()))
        for line in lines:
            assert LOG_LINE.fullmatch(line), "\n".join(lines)
        return lines

    def close(self) -> None:
        """Kill the process if it still runs, and let go of everything."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        self._log.close()
        self._folder.cleanup()

    def end(self) -> None:
        """Stop as an operator would; it must exit with 0 and a clean log."""
        try:
            self.process.terminate()
            code = self.wait()
            self.clean()
            assert code == 0
        finally:
            self.close()


def stop(pid: int) -> None:
    """SIGSTOP a process and wait until it stands."""
    os.kill(pid, signal.SIGSTOP)
    end = time.monotonic() + PATIENCE_SECONDS
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
        assert time.monotonic() < end
        time.sleep(0.001)


def go_on(pid: int) -> None:
    """SIGCONT a process."""
    os.kill(pid, signal.SIGCONT)
