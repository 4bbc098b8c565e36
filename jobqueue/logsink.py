"""Where log lines go: to a descriptor, by a thread of their own, so that nobody who logs ever waits for whoever reads the log.

A pipe that nobody reads is full after 64 KiB, and a write to it stands still until somebody does; so would the loop, with every request.
Here a line is put in line and that is all. What waits is bounded by bytes. Beyond that lines are dropped, and counted; once there is room
again a line says how many.

Never: a lock held while writing; sys.stderr's own buffer, whose lock a thread that hangs in it would keep from the interpreter's end.
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
"""Text that may wait to be written: some 20,000 lines. A longer line goes if nothing else waits."""

FLUSH_SECONDS = 1.0
"""How long the end of the process waits for the lines that are left."""

WRITE_BYTES_MAX = 64 * 1_024
"""Written at a time."""


class LogSink(logging.Handler):
    """A handler that writes lines to a descriptor, which it does not own, in a thread that starts with the first line."""

    def __init__(self, descriptor: int, waiting_bytes_max: int = WAITING_BYTES_MAX) -> None:
        super().__init__()
        self.dropped_total = 0
        """Lines that were never written."""
        self._descriptor = descriptor
        self._max = waiting_bytes_max
        self._unsaid = 0
        self._reset()
        _sinks.add(self)

    def _reset(self) -> None:
        """As new: no line waits, no thread runs. A forked process begins so: it has neither the thread nor its locks."""
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._guard = threading.RLock()
        """Held for the counters alone, for a few instructions. A signal's handler may log in the middle of them."""
        self._waiting = 0
        self._thread: threading.Thread | None = None
        self._written = threading.Event()

    # Whoever logs.

    def emit(self, record: logging.LogRecord) -> None:
        """Put a record in line, or drop it. Never waits."""
        try:
            text = self.format(record)
        except Exception:
            self.handleError(record)
            return
        self.say(text)

    def say(self, text: str) -> None:
        """The same for a line as it stands."""
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
        """Wait until all is written, FLUSH_SECONDS at most."""
        if self._waiting:
            self._written.wait(FLUSH_SECONDS)

    def close(self) -> None:
        """Write what is left, as `flush` does. The thread goes on waiting; it ends with the process."""
        self.flush()
        super().close()

    # The thread.

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
        """Say how many lines are missing, after the ones that waited."""
        text = f"{count} lines of this log are missing: nobody read it"
        self.say(self.format(logging.LogRecord("jobqueue.log", logging.WARNING, __file__, 0, text, None, None)))

    def _write(self, data: bytes) -> bool:
        """Write all of it, however long that takes. False: there is nobody to read it any more, or no room."""
        left = memoryview(data)
        while left:
            try:
                left = left[os.write(self._descriptor, left) :]
            except BlockingIOError:
                # Somebody who shares the open file made it non-blocking.
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
