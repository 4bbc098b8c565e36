"""Disks that misbehave, as SQLite file systems: they forget what was not synced, are full, stand still, or fail to sync.

A `Disk` lies over the machine's own file system and keeps, for every file, what a power cut would leave of it. It can be used in this
process (`vfs=disk.name`) or in a server's, where `install` makes it the only one and a file tells it what to do.
"""

from __future__ import annotations

import itertools
import os
import threading
from pathlib import Path
from random import Random
from typing import Any

import apsw

_numbers = itertools.count()
_BASE = apsw.vfs_names()[0]
"""By name: "" is whatever is the default, which one of ours may be."""

_Change = tuple[int, bytes] | int
"""A write at an offset, or a truncation to a size."""


class Disk(apsw.VFS):
    """full: writes fail for want of room; broken: syncs fail; gate: syncs wait until it is set. syncs: how many there were."""

    def __init__(self, default: bool = False) -> None:
        self.name = f"disk{os.getpid()}-{next(_numbers)}"
        self.full = self.broken = False
        self.gate = threading.Event()
        self.gate.set()
        self.waiting = threading.Event()
        self.syncs = 0
        self._lock = threading.Lock()
        self._safe: dict[str, bytearray] = {}
        self._loose: dict[str, list[_Change]] = {}
        super().__init__(self.name, _BASE, makedefault=default)

    def xOpen(self, name: Any, flags: list[int]) -> _File:
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        with self._lock:
            if path not in self._safe:
                self._safe[path] = bytearray(Path(path).read_bytes() if os.path.exists(path) else b"")
                self._loose[path] = []
        return _File(self, path, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        super().xDelete(filename, syncdir)
        with self._lock:
            self._safe.pop(filename, None)
            self._loose.pop(filename, None)

    def changed(self, path: str, change: _Change) -> None:
        with self._lock:
            self._loose[path].append(change)

    def synced(self, path: str) -> None:
        with self._lock:
            for change in self._loose[path]:
                _apply(self._safe[path], change)
            self._loose[path].clear()
            self.syncs += 1

    def cut(self, folder: Path, luck: Random | None = None) -> None:
        """Write what a power cut at this moment leaves into a folder. luck: which unsynced writes are on the disk all the same, or half."""
        with self._lock:
            for path, safe in self._safe.items():
                left = bytearray(safe)
                for change in self._loose[path] if luck is not None else ():
                    if luck is not None and luck.random() < 0.5:
                        if isinstance(change, tuple) and luck.random() < 0.3:
                            change = (change[0], change[1][: luck.randrange(len(change[1]) + 1)])  # noqa: PLW2901 # torn
                        _apply(left, change)
                if luck is not None and luck.random() < 0.5 and os.path.exists(path):
                    # What was written to the file without us is zeros at its end: a log's room.
                    left.extend(bytes(max(0, os.path.getsize(path) - len(left))))
                (folder / Path(path).name).write_bytes(left)


def _apply(content: bytearray, change: _Change) -> None:
    if isinstance(change, int):
        del content[change:]
        return
    offset, data = change
    content.extend(bytes(max(0, offset - len(content))))
    content[offset : offset + len(data)] = data


class _File(apsw.VFSFile):
    def __init__(self, disk: Disk, path: str, name: Any, flags: list[int]) -> None:
        super().__init__(_BASE, name, flags)
        self._disk, self._path = disk, path

    def xWrite(self, data: bytes, offset: int) -> None:
        if self._disk.full:
            raise apsw.FullError("no room")
        super().xWrite(data, offset)
        self._disk.changed(self._path, (offset, bytes(data)))

    def xTruncate(self, newsize: int) -> None:
        super().xTruncate(newsize)
        self._disk.changed(self._path, newsize)

    def xSync(self, flags: int) -> None:
        disk = self._disk
        if not disk.gate.is_set():
            disk.waiting.set()
            disk.gate.wait()
        if disk.broken:
            error = apsw.IOError("the disk did not sync")
            error.extendedresult = apsw.SQLITE_IOERR_FSYNC
            raise error
        super().xSync(flags)
        disk.synced(self._path)


class _Told(Disk):
    """A disk that does what a file says: nothing, "full" or "broken"."""

    def __init__(self, orders: Path) -> None:
        self._orders = orders
        super().__init__(default=True)

    def _order(self) -> str:
        return self._orders.read_text() if self._orders.exists() else ""

    @property
    def full(self) -> bool:
        return self._order() == "full"

    @full.setter
    def full(self, value: bool) -> None:
        pass

    @property
    def broken(self) -> bool:
        return self._order() == "broken"

    @broken.setter
    def broken(self, value: bool) -> None:
        pass


INSTALLED: list[Disk] = []


def install(orders: str) -> None:
    """Make everything in this process use a disk that a file commands."""
    INSTALLED.append(_Told(Path(orders)))


def boot(orders: Path) -> str:
    """Python for `Process(before=...)` that installs one."""
    root = str(Path(__file__).parents[2])
    return f"import sys; sys.path.insert(0, {root!r}); from tests.faults.disks import install; install({str(orders)!r}); "
