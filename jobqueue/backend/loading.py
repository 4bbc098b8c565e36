"""Builds an engine from rows: what every durable backend does when it starts, whatever stored the rows."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

from jobqueue.backend.rows import RESTORING, BadRow, Counters, decode_counters, decode_job
from jobqueue.backend.snapshots import shifted
from jobqueue.backend.things import decode_named, in_their_order
from jobqueue.clock import SKEW_STEP_SECONDS, Clock
from jobqueue.engine.engine import Engine
from jobqueue.engine.restore import Inconsistent, Stored, restore

_logger = logging.getLogger("jobqueue.storage")

PROGRESS_JOBS = 10_000
"""Jobs read between two progress reports."""

Progress = Callable[[int, int], object]
"""Called with the number of jobs read so far, and the total number."""


class CannotOpen(Exception):
    """The storage of the jobs cannot be used. str() gives the reason; nothing was changed."""


class JobRows(NamedTuple):
    """A job's rows."""

    number: int
    state: bytes
    payload: bytes


class Rows(Protocol):
    """All rows at one moment, each checked already as far as its store can. Any method can raise CannotOpen."""

    @property
    def path(self) -> str:
        """The name of the store in errors."""

    def counters(self) -> bytes | None:
        """The counters' row, None in a new store."""

    def queues(self) -> Iterable[tuple[str, bytes]]:
        """The name and row of every queue, and of everything else that has a name (things.py)."""

    def count(self) -> int:
        """The number of jobs."""

    def jobs(self) -> Iterable[JobRows]:
        """Every job's rows, in order of number."""


class Source(Rows, Protocol):
    """Rows that can be looked up by number."""

    def these(self, numbers: Sequence[int]) -> Iterable[JobRows]:
        """The rows of these jobs, in order of number, without those that do not exist."""


class LooseRows(Protocol):
    """All rows, read while somebody continued to write them: each is as it was at some moment of the reading. Any method can raise
    CannotOpen.
    """

    @property
    def path(self) -> str:
        """See Rows."""

    def counters(self) -> bytes | None:
        """See Rows."""

    def queues(self) -> Iterable[tuple[str, bytes]]:
        """See Rows."""

    def jobs(self) -> Iterable[tuple[int, bytes, bytes | None]]:
        """Every job's number, state and payload, in order of number. The payload is None if the two were not read together."""


def no_progress(_done: int, _total: int) -> None:
    """Report nothing."""


def check_whole(path: str, counters: bytes | None) -> None:
    """Check that a store's counters do not mark it as half restored. Raises CannotOpen."""
    if counters == RESTORING:
        raise CannotOpen(f"{path}: a restore into it is running, or was interrupted: let `jobqueue restore` finish, or run it again")


class _Reader:
    """Reads jobs and counts them."""

    def __init__(self, rows: Rows, offset: float, progress: Progress) -> None:
        self.change = 0
        self._rows = rows
        self._offset = offset
        self._progress = progress

    def jobs(self) -> Iterator[Stored]:
        """Every job, with its times in engine time."""
        total = self._rows.count()
        self._progress(0, total)
        for done, (number, state, payload) in enumerate(self._rows.jobs(), 1):
            stored = decode_job(number, state, payload)
            if self._offset:
                shifted(stored.job, self._offset)
            self.change = max(self.change, stored.change)
            yield stored
            if done % PROGRESS_JOBS == 0 or done == total:
                self._progress(done, total)


def load(rows: Rows, engine: Engine, clock: Clock, progress: Progress = no_progress) -> tuple[float, int]:
    """Fill an empty engine. Returns the journal's offset and last change. Raises CannotOpen."""
    # Millions of objects are made here that all stay: the garbage collector would go through them again and again.
    collecting = gc.isenabled()
    gc.disable()
    try:
        row = rows.counters()
        check_whole(rows.path, row)
        counters = Counters(1, 1, clock.skew(), "") if row is None else decode_counters(row)
        offset = offset_of(counters, clock)
        reader = _Reader(rows, offset, progress)
        named = decode_named(rows.queues(), offset)
        jobs, following = reader.jobs(), counters.next_number
        things = named.schedules, named.logs, named.windows, named.groups, named.tallies, named.claims, named.floors
        restore(engine, named.queues, jobs, following, counters.next_seq, *things)
        engine.quiet = dict(sorted(named.quiet, key=lambda told: told[1]))
        engine.tasks = in_their_order(named.tasks)
        engine.samples.restore(named.samples)
    except (Inconsistent, BadRow) as error:
        raise CannotOpen(f"{rows.path}: is damaged: {error}") from error
    finally:
        if collecting:
            gc.enable()
    return offset, reader.change


def offset_of(counters: Counters, clock: Clock) -> float:
    """Engine time minus the time line of the stored times.

    The wall clock shows how much time has passed since the rows were written, but it may have been set meanwhile. If the machine has not
    been booted since, its uptime is more reliable. Otherwise the only certainty is that the time passed is not negative.
    """
    by_wall = counters.skew - clock.skew()
    uptime = clock.uptime()
    if uptime is not None and uptime.boot == counters.boot:
        offset = clock.now() - counters.at - max(0.0, uptime.seconds - counters.up)
    else:
        offset = min(by_wall, clock.now() - counters.at)
    if abs(offset - by_wall) <= SKEW_STEP_SECONDS:
        # Two clocks never agree to the microsecond, and an offset that is not 0 must be subtracted from every time that is stored.
        return by_wall
    _logger.warning("the wall clock was set by about %.0f s while no server ran; this does not change delays and leases", offset - by_wall)
    return offset
