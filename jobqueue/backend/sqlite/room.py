"""Makes room at the end of the log in advance, so that a commit overwrites existing parts of the file.

If a file has grown, a sync also waits until the file system has written the new size and blocks. If the place was written before, a sync
waits only for the data, which takes about half as long (docs/decisions/0038). SQLite restarts its log after each checkpoint, so it reaches
this state by itself after the first 4,096 pages. This module gives it from the start: zeros are written behind the existing pages, one step
ahead.

SQLite ends a log at the first invalid page, and zeros are never valid: a page's number is not 0. So a log with room is an ordinary log,
both for a start after a crash and for every tool. `fallocate` is not used, because after it the file system still has to write which blocks
are in use: that gains only half as much.

Call it only in the thread that writes, between two commits. The descriptor is opened once: later, the log's name could lead to another file
(`lock.py`). SQLite locks nothing in the log, so closing it drops no lock.
"""

from __future__ import annotations

import contextlib
import os

STEP_BYTES = 1 << 20
"""Room made at a time: enough for some 60 small commits. It takes the thread some 4 ms, in which nobody waits unless a group comes just
then."""

LEAST_BYTES = STEP_BYTES // 4
"""When less room than this is left, more is made."""


class Room:
    """Room for the log at `path`, which must exist. bytes_max: the length that the log is to reach."""

    def __init__(self, path: str, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._end = os.fstat(self._descriptor).st_size

    def make(self, used: int) -> None:
        """Make room behind the first `used` bytes, if there is little left.

        If the disk is full, nothing is changed, and no further attempt is made. Raises OSError if the written data could not be synced:
        then nobody knows what part of the log is on the disk.
        """
        if self._end - used >= LEAST_BYTES or self._end >= self._bytes_max:
            return
        size = os.fstat(self._descriptor).st_size
        end = size + STEP_BYTES
        try:
            while size < end:
                size += os.pwrite(self._descriptor, bytes(end - size), size)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, end - STEP_BYTES)
            self._end = self._bytes_max
            return
        os.fsync(self._descriptor)
        self._end = end

    def close(self) -> None:
        """Close the log."""
        os.close(self._descriptor)
