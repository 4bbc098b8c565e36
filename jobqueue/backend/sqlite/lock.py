"""One server a data file: which file it is, the locks on it, and whether it is still where it was.

A file has many names: symbolic links, `..`, hard links, a folder or the file itself mounted a second time. Everything here goes by the real
path and by the file's device and inode, never by the name that was given. SQLite keeps its log and the index of it beside that path.

Two locks, both given up by the kernel when the process dies, however it dies:

- `flock` on `jobs.db.lock` beside the file. It names its holder, keeps two servers of one process apart, and older servers know it. The
  lock file stays when the server has gone: deleting it would let two servers hold locks on two files of one name.
- Where there is such a thing (Linux), an open-file-description lock on one byte of the data file itself, far beyond SQLite's own: it
  finds the server that came to the same file by another mount, where the lock file is another one.

A file with hard links, or one that is mounted without its folder, is refused instead: SQLite would keep a log beside each name, and read
the wrong one when it comes by another. Who only reads the file is refused for the same reason.

Closing any descriptor of a file drops the POSIX locks that this process has on it, SQLite's included. So the descriptor here stays open
until SQLite has closed the file, and a file that this process has open is refused before it is opened again. Network file systems may
not keep such locks, and SQLite must not be used on them either.

New files are made here, for their owner alone (0600): SQLite gives its log and index the mode of the database.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
import struct
from collections.abc import Iterator

MODE = 0o600
"""Of every file we make: payloads are in all of them but the lock."""

LOG = ("-wal", "-shm")
"""What SQLite adds to the name for its log and the index of that."""

_LOCK_BYTE = 0x4000_0000 + 1_024
"""Beyond SQLite's own lock bytes, which are the 512 from 0x4000_0000 on. Locks do not keep anybody from reading or writing there."""

_FLOCK = struct.Struct("hhqqi4x")
"""struct flock where off_t has 64 bits."""

_WAL_MODE_AT = 18
"""The byte of a database's header that is 2 when it has a log (sqlite.org/fileformat2.html, section 1.3)."""

_NO_SUCH_LOCKS = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})

_Identity = tuple[int, int]
_mine: set[_Identity] = set()
"""Data files that this process serves."""


class Locked(Exception):
    """Another server uses the file. str() says which."""


class Unusable(Exception):
    """This can be no server's data file. str() says why."""


def _identity(found: os.stat_result) -> _Identity:
    return found.st_dev, found.st_ino


class FileLock:
    """The lock on one data file, which is made if there is none.

    path: the file without links, which everything else must use. Raises Locked, Unusable, or OSError when there can be no such file or
    when it may not be written.
    """

    def __init__(self, path: str) -> None:
        self.path = os.path.realpath(path)
        self._files: list[tuple[str, _Identity]] = []
        with contextlib.ExitStack() as undo:
            with contextlib.suppress(FileNotFoundError):
                self._check(os.stat(self.path))
            lock = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, MODE)
            undo.callback(os.close, lock)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.read(lock, 1_000).decode("utf-8", "replace").strip()
                raise Locked(f"is in use by another server ({holder or 'which is just starting'})") from None
            # NONBLOCK: what is no file may wait for somebody at its other end.
            data = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, MODE)
            undo.callback(os.close, data)
            found = os.fstat(data)
            self._check(found)
            self.shared = bool(found.st_mode & (stat.S_IROTH | stat.S_IWOTH))
            """Whether every user of the machine may read or write it."""
            _lock_byte(data)
            elsewhere = _log_elsewhere(self.path)
            if elsewhere is not None:
                raise Unusable(elsewhere)
            for suffix in LOG:
                # SQLite would open them for reading alone, and fail at the first write.
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
            raise Unusable("is no plain file")
        if found.st_nlink > 1:
            raise Unusable(_hard_links(found))

    def watch(self) -> None:
        """From now on the log and its index belong to it too; they exist once SQLite has written."""
        for suffix in LOG:
            path = self.path + suffix
            with contextlib.suppress(FileNotFoundError):
                self._files.append((path, _identity(os.stat(path))))

    def lost(self) -> str | None:
        """What is no longer where it was, for people; None when all is. A call costs some microseconds and may come from any thread."""
        for path, identity in self._files:
            try:
                found = os.stat(path)
            except OSError as error:
                return f"{path} is gone: it was deleted, moved or unmounted while the server used it ({error.strerror})"
            if _identity(found) != identity:
                return f"{path} is another file now: it was replaced while the server used it"
        return None

    def release(self) -> None:
        """Let another server have the file. After SQLite has closed it."""
        self._undo.close()


def _hard_links(found: os.stat_result) -> str:
    return f"has {found.st_nlink} names (hard links), each with a log of its own; remove all but the one that its log (-wal) stands beside"


def _log_elsewhere(path: str) -> str | None:
    """Why the log beside `path` may not be the file's, or not its only one; None when it is."""
    found = os.stat(path)
    if found.st_nlink > 1:
        return _hard_links(found)
    mount = _mount(path)
    if mount is not None and mount != _mount(os.path.dirname(path)):
        return "is mounted without its folder, so that its log (-wal) would stand beside the mount; mount the folder"
    return None


def _mount(path: str) -> bytes | None:
    """Which mount a real path leads to, as the kernel numbers them; None where it does not say.

    Not the device: a file or a folder can be mounted a second time from the same one.
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
    """Why what a real path leads to cannot be read whole, though it is a data file; None when it can.

    Only a file in WAL mode has a log. A backup is none, and may have as many names as its keeper likes.
    """
    elsewhere = _log_elsewhere(path)
    if elsewhere is None:
        return None
    with open(path, "rb") as stream:
        return elsewhere if stream.read(_WAL_MODE_AT + 1)[_WAL_MODE_AT:] == b"\x02" else None


@contextlib.contextmanager
def nobody_serves(path: str) -> Iterator[bool]:
    """Whether no server has this file, for somebody who only reads it. If so, none can start on it for as long as the context lasts."""
    with contextlib.ExitStack() as stack:
        try:
            lock = os.open(f"{os.path.realpath(path)}.lock", os.O_RDONLY | os.O_CLOEXEC)
            stack.callback(os.close, lock)
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        except OSError:
            # No server was ever here, or one of a user whose lock we may not see.
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
        # A kernel or a file system that has no such locks, as elsewhere; the lock file is left.
        if error.errno not in _NO_SUCH_LOCKS:
            raise
