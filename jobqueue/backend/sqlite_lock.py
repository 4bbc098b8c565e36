"""One server a file: a lock beside the database, held for as long as the process lives.

A file of its own, `jobs.db.lock`, and not SQLite's locks: those must let a backup read while the server serves. flock, because the kernel
gives it up when the process dies, however it dies, and because it also keeps two servers of one process apart. The file stays when
the server has gone: deleting it would let two servers hold locks on two files of one name. Network file systems may not keep
such locks, and SQLite must not be used on them either.
"""

from __future__ import annotations

import fcntl
import os
import socket


class Locked(Exception):
    """Another server uses the file. str() says which."""


class FileLock:
    """The lock on one database. Raises Locked, or OSError when there can be no such file."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._fd, 1_000).decode("utf-8", "replace").strip()
            os.close(self._fd)
            raise Locked(f"{path}: is in use by another server ({holder or 'which is just starting'})") from None
        except BaseException:
            os.close(self._fd)
            raise
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)

    def release(self) -> None:
        """Let another server have the file."""
        os.close(self._fd)
