"""Writes log lines to a file descriptor in a separate thread, so that logging never waits for the reader of the log.

A pipe that nobody reads is full after 64 KiB, and then a write to it blocks; if the event loop wrote the log, every request would block
too. Here logging only adds the line to a queue, which is bounded in bytes. Beyond that, lines are dropped and counted; once there is room
again, a line reports how many.

Never hold a lock while writing. Never use sys.stderr's own buffer: if a thread hung in it, its lock would prevent the interpreter from
exiting.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import select
import threading
import weakref

from jobqueue.limits import MIB

WAITING_BYTES_MAX = 4 * MIB
"""The most text waiting to be written: some 20,000 lines. A longer line is accepted if nothing else waits."""

FLUSH_SECONDS = 1.0
"""How long the process waits at its end for the remaining lines to be written."""

WRITE_BYTES_MAX = 64 * 1_024
"""The most bytes in one write."""


class LogSink(logging.Handler):
    """A handler that writes lines to a descriptor, which it does not own, in a thread that starts with the first line."""

    def __init__(self, descriptor: int, waiting_bytes_max: int = WAITING_BYTES_MAX) -> None:
        super().__init__()
        self.dropped_total = 0
        """Lines that were dropped."""
        self._descriptor = descriptor
        self._max = waiting_bytes_max
        self._unsaid = 0
        self._reset()
        _sinks.add(self)

    def _reset(self) -> None:
        """Start empty: no waiting lines, no thread. Also called in a forked process, which has neither the thread nor usable locks."""
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._guard = threading.RLock()
        """Held only to update the counters, for a few instructions. Reentrant, since a signal handler can log in the middle of them."""
        self._waiting = 0
        self._thread: threading.Thread | None = None
        self._written = threading.Event()

    # Called by the threads that log.

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a record, or drop it. Never waits."""
        try:
            text = self.format(record)
        except Exception:
            self.handleError(record)
            return
        self.say(text)

    def say(self, text: str) -> None:
        """The same for a finished line."""
        line = f"{text}\n".encode("utf-8", "backslashreplace")
        with self._guard:
            if self._waiting and self._waiting + len(line) > self._max:
                self.dropped_total += 1
                self._unsaid += 1
                return
            self._waiting += len(line)
            self._written.clear()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="jobqueue-log", daemon=True)
                self._thread.start()
        self._lines.put(line)

    def flush(self) -> None:
        """Wait until everything is written, at most FLUSH_SECONDS."""
        if self._waiting:
            self._written.wait(FLUSH_SECONDS)

    def close(self) -> None:
        """Write what is left, as `flush` does. The thread keeps running until the process ends."""
        self.flush()
        super().close()

    # Runs in the writing thread.

    def _run(self) -> None:
        while True:
            lines = [self._lines.get()]
            size = len(lines[0])
            with contextlib.suppress(queue.Empty):
                while size < WRITE_BYTES_MAX:
                    lines.append(self._lines.get_nowait())
                    size += len(lines[-1])
            lost = 0 if self._write(b"".join(lines)) else len(lines)
            with self._guard:
                self.dropped_total += lost
                self._unsaid += lost
                self._waiting -= size
                unsaid, self._unsaid = (0, self._unsaid) if lost else (self._unsaid, 0)
                if not self._waiting and not unsaid:
                    self._written.set()
            if unsaid:
                self._report(unsaid)

    def _report(self, count: int) -> None:
        """Write a line that says how many were dropped, after the lines that waited."""
        text = f"{count} lines of this log are missing, since nothing read it"
        self.say(self.format(logging.LogRecord("jobqueue.log", logging.WARNING, __file__, 0, text, None, None)))

    def _write(self, data: bytes) -> bool:
        """Write all of it, however long that takes. False: the reader is gone, or the disk is full."""
        left = memoryview(data)
        while left:
            try:
                left = left[os.write(self._descriptor, left) :]
            except BlockingIOError:
                # Another process that shares the open file made it non-blocking.
                select.select((), (self._descriptor,), ())
            except OSError:
                return False
        return True


_sinks: weakref.WeakSet[LogSink] = weakref.WeakSet()


def _forked() -> None:
    for sink in _sinks:
        sink._reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
