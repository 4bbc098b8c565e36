"""What every worker's handler does: nothing, but be counted.

Some of the counts are told to the run, each as one monotonic time in nanoseconds, through a FIFO. Linux's monotonic clock is
the same in every process, so a time taken here can be compared with one taken by the producer.
"""

from __future__ import annotations

import os
import struct
import time

FIFO, EACH = "BENCH_MARKS", "BENCH_MARKS_EACH"
"""Environment: the FIFO's path; up to which count every job is told. After that every `EVERY`th is."""
EVERY = 100
MARK = struct.Struct("q")
DIGITS = 19


class _Marks:
    def __init__(self) -> None:
        self.count = 0
        self.each = int(os.environ.get(EACH, "0"))
        self.fifo = os.open(os.environ[FIFO], os.O_WRONLY) if FIFO in os.environ else -1


_marks = _Marks()


def due(payload: str | bytes) -> int | None:
    """When a job of an open loop was due, by the monotonic clock in nanoseconds: the digits that its payload begins with."""
    return int(payload[:DIGITS]) if payload[:1].isdigit() else None


def handled(payload: str | bytes) -> None:
    """A job's handler has begun. One of an open loop tells how long after it was due, and is not counted."""
    now = time.monotonic_ns()
    was_due = due(payload)
    if was_due is not None:
        os.write(_marks.fifo, MARK.pack(now - was_due))
        return
    _marks.count += 1
    if _marks.count <= _marks.each or (_marks.count - _marks.each) % EVERY == 0:
        os.write(_marks.fifo, MARK.pack(now))
