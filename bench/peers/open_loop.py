"""An open loop: jobs that are due by a timetable, whatever became of those before.

A closed loop waits for an answer before it asks again, so while a server stalls nothing is sent, and nothing of the stall is measured
(coordinated omission). Here arrivals are a Poisson process made from a seed, the same for every peer at the same rate, and each latency
counts from when the job was due to its handler's first line: what comes late because somebody was busy is late.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import select
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from bench.peers.marks import DIGITS, MARK

SEED = 21
LEAD_NS = 50_000_000
"""Between the command and the first job."""
LOOK_SECONDS = 0.01
"""Between two looks at the marks: seldom, as a look takes CPU from those that are measured."""
SAMPLES_P999 = 1_000
"""Fewer have no p99.9."""
PR_SET_TIMERSLACK = 29


class Load(NamedTuple):
    """One load. share: of what was reached in a closed loop; offered: jobs a second; latencies: nanoseconds from due to handler."""

    share: float
    offered: float
    latencies: list[int]


def timetable(rate: float, count: int, seed: int = SEED) -> list[int]:
    """When each job is due, in nanoseconds from the beginning: gaps are exponential, so arrivals are independent of each other."""
    chance = random.Random(seed)
    moments, moment = [], 0.0
    for _ in range(count):
        moment += chance.expovariate(rate)
        moments.append(int(moment * 1e9))
    return moments


def pace(moments: Sequence[int], write: Callable[[bytes], object], clock: Callable[[], int], sleep: Callable[[float], None]) -> None:
    """Write a line for each job when it is due, with the moment: several at once where this or the reader was late."""
    begun = 0
    while begun < len(moments):
        now = clock()
        if moments[begun] > now:
            sleep((moments[begun] - now) / 1e9)
            continue
        end = begun
        while end < len(moments) and moments[end] <= now:
            end += 1
        write(b"".join(b"%0*d\n" % (DIGITS, moment) for moment in moments[begun:end]))
        begun = end


class Marks:
    """Collects what workers tell, in a thread, until there are `count`, `over` says that no more come, or `seconds` have passed."""

    def __init__(self, fifo: int, count: int, seconds: float, over: Callable[[], bool]) -> None:
        self.values: list[int] = []
        self._fifo, self._count, self._seconds, self._over = fifo, count, seconds, over
        self._thread = threading.Thread(target=self._collect, daemon=True)
        self._thread.start()

    def _collect(self) -> None:
        deadline = time.monotonic() + self._seconds
        while len(self.values) < self._count and time.monotonic() < deadline:
            if select.select([self._fifo], [], [], 0)[0]:
                # A pipe is read in whole marks: each was written at once, and 64 KiB are a multiple of one.
                self.values.extend(value for (value,) in MARK.iter_unpack(os.read(self._fifo, 65_536)))
            elif self._over():
                return
            time.sleep(LOOK_SECONDS)

    def all(self) -> list[int]:
        """Those that came, as many as were asked for unless something went wrong."""
        self._thread.join()
        return self.values


@contextlib.contextmanager
def exact_sleeps() -> Iterator[None]:
    """Sleeps of this thread end when they should, not up to 50 µs later, which is Linux's default."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_TIMERSLACK, 1_000, 0, 0, 0)
    try:
        yield
    finally:
        libc.prctl(PR_SET_TIMERSLACK, 0, 0, 0, 0)


def keep_timetable(rate: float, count: int, write: Callable[[bytes], object]) -> None:
    """Pace so many jobs, so many a second, from now on."""
    first = time.monotonic_ns() + LEAD_NS
    with exact_sleeps():
        pace([first + moment for moment in timetable(rate, count)], write, time.monotonic_ns, time.sleep)
