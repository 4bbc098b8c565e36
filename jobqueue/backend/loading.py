"""From rows to an engine: what every durable backend does when it starts, whatever kept the rows."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, Protocol

from jobqueue.backend.rows import RESTORING, BadRow, Counters, decode_counters, decode_job, decode_queue
from jobqueue.backend.shell import shifted
from jobqueue.clock import SKEW_STEP_SECONDS, Clock
from jobqueue.engine.engine import Engine
from jobqueue.engine.restore import Inconsistent, Stored, restore

_logger = logging.getLogger("jobqueue.storage")

PROGRESS_JOBS = 10_000
"""Jobs read between two reports."""

Progress = Callable[[int, int], object]
"""Called with the jobs read so far and with how many there are."""


class CannotOpen(Exception):
    """What keeps the jobs cannot be used. str() says why; nothing was changed."""


class JobRows(NamedTuple):
    """A job's rows."""

    number: int
    state: bytes
    payload: bytes


class Rows(Protocol):
    """All rows of one moment, each checked already as far as its store can. Any method may raise CannotOpen."""

    @property
    def path(self) -> str:
        """What the store is called in errors."""

    def counters(self) -> bytes | None:
        """The counters' row, None in a new store."""

    def queues(self) -> Iterable[tuple[str, bytes]]:
        """Every queue's name and row."""

    def count(self) -> int:
        """How many jobs there are."""

    def jobs(self) -> Iterable[JobRows]:
        """Every job's rows, in order of number."""


class LooseRows(Protocol):
    """All rows, read while somebody went on writing them: each is as it was at some moment meanwhile. Any method may raise CannotOpen."""

    @property
    def path(self) -> str:
        """See Rows."""

    def counters(self) -> bytes | None:
        """See Rows."""

    def queues(self) -> Iterable[tuple[str, bytes]]:
        """See Rows."""

    def jobs(self) -> Iterable[tuple[int, bytes, bytes | None]]:
        """Every job's number, state and payload, in order of number. The payload is None where the two were not seen together."""


def no_progress(_done: int, _total: int) -> None:
    """Report nothing."""


def check_whole(path: str, counters: bytes | None) -> None:
    """Whether a store's counters say that it holds half of a restore. Raises CannotOpen."""
    if counters == RESTORING:
        raise CannotOpen(f"{path}: a restore into it is under way, or was broken off: let `jobqueue restore` finish, or run it again")


class _Reader:
    """Reads jobs, keeping count."""

    def __init__(self, rows: Rows, offset: float, progress: Progress) -> None:
        self.change = 0
        self._rows = rows
        self._offset = offset
        self._progress = progress

    def jobs(self) -> Iterator[Stored]:
        """Every job, its times on the engine's line."""
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
    """Fill an empty engine; the journal's offset and last change. Raises CannotOpen."""
    # Millions of objects are made here that all stay: the collector would walk them again and again.
    collecting = gc.isenabled()
    gc.disable()
    try:
        row = rows.counters()
        check_whole(rows.path, row)
        counters = Counters(1, 1, clock.skew(), "") if row is None else decode_counters(row)
        offset = offset_of(counters, clock)
        reader = _Reader(rows, offset, progress)
        queues = (decode_queue(name, state) for name, state in rows.queues())
        restore(engine, queues, reader.jobs(), counters.next_number, counters.next_seq)
    except (Inconsistent, BadRow) as error:
        raise CannotOpen(f"{rows.path}: is damaged: {error}") from error
    finally:
        if collecting:
            gc.enable()
    return offset, reader.change


def offset_of(counters: Counters, clock: Clock) -> float:
    """Engine time minus the line that the stored times are on.

    The wall clock says how much time has passed since the rows were written, and may have been set meanwhile. On the same boot of the
    machine its uptime says it better. Otherwise all that is certain is that it was not less than none.
    """
    by_wall = counters.skew - clock.skew()
    uptime = clock.uptime()
    if uptime is not None and uptime.boot == counters.boot:
        offset = clock.now() - counters.at - max(0.0, uptime.seconds - counters.up)
    else:
        offset = min(by_wall, clock.now() - counters.at)
    if abs(offset - by_wall) <= SKEW_STEP_SECONDS:
        # Two clocks never agree to the microsecond, and an offset has to be taken off every time that is stored.
        return by_wall
    _logger.warning(
        "the wall clock was set by about %.0f s while no server ran; delays and leases go on as if it had not been", offset - by_wall
    )
    return offset
