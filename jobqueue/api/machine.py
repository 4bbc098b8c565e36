"""The memory of a server's process, and the disk of its data file. Read on request, in a thread.

If the disk hangs, only this request is delayed: while one reading is under way, others get the values of the last one. Values that cannot
be read are None.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from pathlib import Path

import msgspec

WAIT_SECONDS = 1.0
"""How long an answer waits for a reading."""

_CGROUP = Path("/sys/fs/cgroup")
_UNBOUNDED = 1 << 60
"""cgroups version 1 use a number above this for no limit."""


class Disk(msgspec.Struct, frozen=True):
    """Where the data file is. file_bytes: of the file and the log beside it; free_bytes: for a process without privileges."""

    file_bytes: int
    free_bytes: int
    total_bytes: int


class Used(msgspec.Struct, frozen=True):
    """Of a machine. memory_bytes: what the process has of it in use; memory_limit_bytes: what the process may have, or the machine has.

    disk: None where jobs are in no file, or it cannot be read.
    """

    memory_bytes: int | None = None
    memory_limit_bytes: int | None = None
    disk: Disk | None = None


class Machine:
    """The resources of one process. data: the path of its file, None if it has none."""

    def __init__(self, data: str | None = None) -> None:
        self.data = data
        self._last = Used()
        self._looking: asyncio.Future[Used] | None = None

    async def look(self) -> Used:
        """The current values, or the last known ones if the current ones are not available soon."""
        if self._looking is None:
            self._looking = asyncio.get_running_loop().run_in_executor(None, used, self.data)
            self._looking.add_done_callback(self._looked)
        await asyncio.wait([self._looking], timeout=WAIT_SECONDS)
        return self._last

    def _looked(self, found: asyncio.Future[Used]) -> None:
        self._looking = None
        if not found.cancelled() and found.exception() is None:
            self._last = found.result()


def used(data: str | None) -> Used:
    """What this process uses of its machine."""
    return Used(_memory(), _memory_limit(), None if data is None else _disk(data))


def _disk(data: str) -> Disk | None:
    with contextlib.suppress(OSError):
        found = shutil.disk_usage(os.path.dirname(data) or ".")
        return Disk(sum(map(_size, (data, f"{data}-wal"))), found.free, found.total)
    return None


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0


def _memory() -> int | None:
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return None


def _memory_limit() -> int | None:
    """The smaller of the machine's memory and the limits of the control groups."""
    found = [limit for path in _limit_files() if (limit := _number(path)) is not None]
    with contextlib.suppress(OSError, ValueError):
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min((limit for limit in found if 0 < limit < _UNBOUNDED), default=None)


def _limit_files() -> list[Path]:
    """The files in which control groups of versions 2 and 1 give the memory limit: for the process's own group, and as seen in a
    container.
    """
    files = [_CGROUP / "memory.max", _CGROUP / "memory" / "memory.limit_in_bytes"]
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            number, _, place = line.partition(":")
            kinds, _, place = place.partition(":")
            if number == "0":
                files.append(_CGROUP / place.lstrip("/") / "memory.max")
            elif "memory" in kinds.split(","):
                files.append(_CGROUP / "memory" / place.lstrip("/") / "memory.limit_in_bytes")
    return files


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        # The file does not exist, or contains `max`.
        return None
