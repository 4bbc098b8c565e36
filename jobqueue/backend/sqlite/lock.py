"""One server per data file: finds the real file, holds the locks on it, and checks whether it is still where it was.

A file can have many names: symbolic links, `..`, hard links, a folder or the file itself mounted a second time. Everything here uses the
real path and the file's device and inode, never the name that was given. SQLite keeps its log and the log's index beside the real path.

There are two locks. The kernel releases both when the process dies, for whatever reason:

- `flock` on `jobs.db.lock` beside the file. The lock file names its holder, the lock also separates two servers in one process, and older
  servers use it too. The lock file remains when the server has ended: deleting it would let two servers hold locks on two files with the
  same name.
- Where supported (Linux), an open-file-description lock on one byte of the data file itself, far beyond SQLite's own lock bytes. It detects
  a server that opened the same file through another mount, where the lock file is a different file.

A file with hard links, or one that is mounted without its folder, is refused: SQLite would keep a log beside each name, and read the wrong
one when the file is opened by another name. A program that only reads such a file is refused for the same reason.

Closing any descriptor of a file drops the POSIX locks that this process has on it, including SQLite's. So the descriptor here stays open
until SQLite has closed the file, and a file that this process has open is refused before it is opened again. Network file systems may not
support such locks; SQLite must not be used on them anyway.

New files are created here, accessible only to their owner (0600, whatever the umask): SQLite gives its log and index the mode of the
database.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
import struct
import time
from collections.abc import Iterator

MODE = 0o600
"""The mode of every file that we make: all of them but the lock contain payloads."""

LOG = ("-wal", "-shm")
"""The suffixes of SQLite's log and of the log's index."""

_LOCK_BYTE = 0x4000_0000 + 1_024
"""Beyond SQLite's own lock bytes, which are the 512 from 0x4000_0000 on. A lock does not prevent reading or writing there."""

_FLOCK = struct.Struct("hhqqi4x")
"""struct flock on systems where off_t has 64 bits."""

_WAL_MODE_AT = 18
"""The byte of a database's header that is 2 if the database has a log (sqlite.org/fileformat2.html, section 1.3)."""

_NO_SUCH_LOCKS = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})

CALM_SECONDS = 2.5
"""If a folder has not changed for this long, the next change gives it another time. Some file systems count in steps of 2 s."""

LOOK_SECONDS = 1.0
"""How often all files are looked at, although their folder has not changed."""

_Identity = tuple[int, int]
_mine: set[_Identity] = set()
"""Data files that are served by this process."""


class Locked(Exception):
    """Another server uses the file. str() names it."""


class Unusable(Exception):
    """This file cannot be used as a data file. str() gives the reason."""


def _identity(found: os.stat_result) -> _Identity:
    return found.st_dev, found.st_ino


class FileLock:
    """The lock on one data file, which is created if it does not exist.

    path: the file without links; everything else must use this path. Raises Locked, Unusable, or OSError if the file cannot be created or
    written.
    """

    def __init__(self, path: str) -> None:
        self.path = os.path.realpath(path)
        self._files: list[tuple[str, _Identity]] = []
        self._folder: tuple[tuple[int, ...] | None, float, float] = (None, 0.0, 0.0)
        """What was found at the folder, since when that has not changed, and when the files were last looked at."""
        with contextlib.ExitStack() as undo:
            with contextlib.suppress(FileNotFoundError):
                self._check(os.stat(self.path))
            lock = _opened(f"{self.path}.lock", os.O_RDWR | os.O_CLOEXEC)
            undo.callback(os.close, lock)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.read(lock, 1_000).decode("utf-8", "replace").strip()
                raise Locked(f"is in use by another server ({holder or 'which is just starting'})") from None
            # NONBLOCK: opening something that is not a regular file can block until another process opens its other end.
            data = _opened(self.path, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
            undo.callback(os.close, data)
            found = os.fstat(data)
            self._check(found)
            self.shared = bool(found.st_mode & (stat.S_IROTH | stat.S_IWOTH))
            """Whether every user of the machine can read or write it."""
            _lock_byte(data)
            elsewhere = _log_elsewhere(self.path)
            if elsewhere is not None:
                raise Unusable(elsewhere)
            for suffix in LOG:
                # SQLite would open them read-only, and fail at the first write.
                with contextlib.suppress(FileNotFoundError):
                    os.close(os.open(self.path + suffix, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK))
            identity = _identity(found)
            _mine.add(identity)
            undo.callback(_mine.discard, identity)
            self._files.append((self.path, identity))
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
            self._undo = undo.pop_all()

    @staticmethod
    def _check(found: os.stat_result) -> None:
        if _identity(found) in _mine:
            raise Locked("is in use by another server (this process)")
        if stat.S_ISDIR(found.st_mode):
            raise Unusable("is a folder")
        if not stat.S_ISREG(found.st_mode):
            raise Unusable("is not a regular file")
        if found.st_nlink > 1:
            raise Unusable(_hard_links(found))

    def watch(self) -> None:
        """From now on also watch the log and its index; they exist once SQLite has written."""
        for suffix in LOG:
            path = self.path + suffix
            with contextlib.suppress(FileNotFoundError):
                self._files.append((path, _identity(os.stat(path))))

    def lost(self) -> str | None:
        """Which file is no longer where it was, as text for people; None if all are in place. A call takes some microseconds, and can be
        made in any thread.

        As long as their folder does not change, no name in it does, so one look at the folder is enough; all files are looked at once a
        second nevertheless, since a mount over one of them does not change the folder. Reading the times of the log with each commit is
        costly on Linux from 6.13 on: the kernel then gives the next write a new time, and the next sync has to write that too
        (docs/decisions/0045).
        """
        now = time.monotonic()
        folder, since, looked = self._folder
        try:
            found = os.stat(os.path.dirname(self.path))
            current = (*_identity(found), found.st_mtime_ns, found.st_ctime_ns)
        except OSError:
            current = None
        if current != folder:
            folder, since = current, now
        elif current is not None and looked - since > CALM_SECONDS and now - looked < LOOK_SECONDS:
            return None
        lost = self._displaced()
        self._folder = (folder if lost is None else None), since, now
        return lost

    def _displaced(self) -> str | None:
        for path, identity in self._files:
            try:
                found = os.stat(path)
            except OSError as error:
                return f"{path} does not exist any more: it was deleted, moved or unmounted while the server used it ({error.strerror})"
            if _identity(found) != identity:
                return f"{path} is a different file now: it was replaced while the server used it"
        return None

    def release(self) -> None:
        """Let another server use the file. Call this after SQLite has closed it."""
        self._undo.close()


def new_file(path: str, flags: int) -> int:
    """Create a file with MODE, whatever the umask; returns its descriptor. Raises FileExistsError if it exists."""
    made = os.open(path, flags | os.O_CREAT | os.O_EXCL, MODE)
    try:
        os.fchmod(made, MODE)
    except BaseException:
        os.close(made)
        raise
    return made


def _opened(path: str, flags: int) -> int:
    """Open a file, and create it if it does not exist; returns its descriptor. The mode of an existing file is not changed."""
    try:
        return new_file(path, flags)
    except FileExistsError:
        # CREAT is still needed: the name can be a link to a file that does not exist, or be removed meanwhile.
        return os.open(path, flags | os.O_CREAT, MODE)


def _hard_links(found: os.stat_result) -> str:
    return f"has {found.st_nlink} names (hard links), each with its own log; remove all but the one that is beside its log (-wal)"


def _log_elsewhere(path: str) -> str | None:
    """Why the log beside `path` may belong to another file, or not be this file's only log; None if all is well."""
    found = os.stat(path)
    if found.st_nlink > 1:
        return _hard_links(found)
    mount = _mount(path)
    if mount is not None and mount != _mount(os.path.dirname(path)):
        return "is mounted without its folder, so its log (-wal) would not be beside it; mount the folder"
    return None


def _mount(path: str) -> bytes | None:
    """The kernel's number of the mount to which a real path leads; None if the kernel does not report it.

    The device is not enough: a file or a folder can be mounted a second time from the same device.
    """
    path_only = getattr(os, "O_PATH", None)
    if path_only is None:
        return None
    # Closing such a descriptor drops no locks.
    descriptor = os.open(path, path_only | os.O_CLOEXEC)
    try:
        with open(f"/proc/self/fdinfo/{descriptor}", "rb") as lines:
            return next((line for line in lines if line.startswith(b"mnt_id:")), None)
    except OSError:
        return None
    finally:
        os.close(descriptor)


def unreadable(path: str) -> str | None:
    """Why the file at a real path cannot be read completely, although it is a data file; None if it can.

    Only a file in WAL mode has a log. A backup has none, and can have any number of names.
    """
    elsewhere = _log_elsewhere(path)
    if elsewhere is None:
        return None
    with open(path, "rb") as stream:
        return elsewhere if stream.read(_WAL_MODE_AT + 1)[_WAL_MODE_AT:] == b"\x02" else None


@contextlib.contextmanager
def nobody_serves(path: str) -> Iterator[bool]:
    """Whether no server has this file, for a program that only reads it. If so, no server can start on it while the context lasts."""
    with contextlib.ExitStack() as stack:
        try:
            lock = os.open(f"{os.path.realpath(path)}.lock", os.O_RDONLY | os.O_CLOEXEC)
            stack.callback(os.close, lock)
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        except OSError:
            # Either no server was ever here, or one of another user whose lock this process cannot read.
            yield not os.path.exists(f"{os.path.realpath(path)}.lock")
        else:
            yield True


def _lock_byte(descriptor: int) -> None:
    """Lock the data file itself. Raises Locked."""
    command = getattr(fcntl, "F_OFD_SETLK", None)
    if command is None or struct.calcsize("P") < 8:
        return
    try:
        fcntl.fcntl(descriptor, command, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, _LOCK_BYTE, 1, 0))
    except (BlockingIOError, PermissionError):
        raise Locked("is in use by another server, which knows it by another path") from None
    except OSError as error:
        # The kernel or file system does not support such locks; the lock file still protects.
        if error.errno not in _NO_SUCH_LOCKS:
            raise
