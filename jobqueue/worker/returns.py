"""When a job that a worker gives back may come again: the later, the more often it was given back.

A released job keeps its place in line, so without a delay the worker that gave it back is the first to get it again, thousands of times a
second. What is remembered of a job is this worker's alone and goes with it; that bounds how often jobs go round, and is no promise.
"""

from __future__ import annotations

import logging
from collections import OrderedDict

from jobqueue.worker.bell import Random
from jobqueue.worker.endings import Ending, failed
from jobqueue.worker.running import Leased

RELEASE_SECONDS_MIN = 0.1
"""The least delay of a job whose handler raised Release, and what it begins with where Release said none."""

UNHANDLED_SECONDS_MIN = 1.0
"""The first delay of a job that there is no handler for."""

RETURN_SECONDS_MAX = 60.0
"""Delays that the worker chooses double up to this."""

UNHANDLED_SECONDS = 3_600.0
"""How long a job without a handler is given back before it fails for good, unless the worker is told otherwise."""

JOBS_REMEMBERED_MAX = 10_000
"""Jobs that are remembered; the one that was not given back for longest is forgotten, and begins anew."""

WARN_SECONDS = 60.0
"""Of each type without a handler the log hears at most so often."""

TYPES_WARNED_MAX = 1_000

_logger = logging.getLogger("jobqueue.worker")


class _Returned:
    """A job that was given back: how often, and since when."""

    __slots__ = ("since", "times")

    def __init__(self, now: float) -> None:
        self.since = now
        self.times = 0

    def delay(self, first: float) -> float:
        self.times += 1
        return min(RETURN_SECONDS_MAX, first * 2.0 ** min(self.times - 1, 32))


class Returns:
    """The jobs that a worker gave back. names: the types it has handlers for; unhandled_seconds: see UNHANDLED_SECONDS."""

    def __init__(self, names: list[str], unhandled_seconds: float, chance: Random) -> None:
        self._names = names
        self._unhandled_seconds = unhandled_seconds
        self._chance = chance
        self._jobs: OrderedDict[str, _Returned] = OrderedDict()
        self._warned: dict[str | None, float] = {}

    def __len__(self) -> int:
        return len(self._jobs)

    def _returned(self, job_id: str, now: float) -> _Returned:
        returned = self._jobs.get(job_id)
        if returned is None:
            returned = self._jobs[job_id] = _Returned(now)
            if len(self._jobs) > JOBS_REMEMBERED_MAX:
                self._jobs.popitem(last=False)
        else:
            self._jobs.move_to_end(job_id)
        return returned

    def forget(self, job_id: str) -> None:
        """The job came to an end here."""
        self._jobs.pop(job_id, None)

    def released(self, leased: Leased, delay: float | None, now: float) -> Ending:
        """A handler released the job, after `delay` seconds if it said so."""
        if delay is not None:
            return Ending(None, max(delay, RELEASE_SECONDS_MIN))
        return Ending(None, self._returned(leased.id, now).delay(RELEASE_SECONDS_MIN))

    def unhandled(self, leased: Leased, now: float) -> Ending:
        """There is no handler for the job here. During a roll-out there may be one elsewhere."""
        returned = self._returned(leased.id, now)
        jobs = "jobs without a type" if leased.type is None else f"jobs of type {leased.type!r}"
        text = f"this worker has no handler for {jobs}; it has handlers for {', '.join(map(repr, self._names))}"
        if now - returned.since >= self._unhandled_seconds:
            self.forget(leased.id)
            _logger.error("job %s failed for good after %.0f s: %s", leased.id, now - returned.since, text)
            return failed("UnknownHandler", text, retry=False)
        self._warn(leased, text, now)
        delay = returned.delay(UNHANDLED_SECONDS_MIN)
        # Not all at the same moment again.
        return Ending(None, self._chance.uniform(delay, delay * 1.5))

    def _warn(self, leased: Leased, text: str, now: float) -> None:
        if self._warned.get(leased.type, float("-inf")) + WARN_SECONDS <= now:
            if len(self._warned) >= TYPES_WARNED_MAX:
                self._warned.clear()
            self._warned[leased.type] = now
            _logger.warning("job %s is given back: %s", leased.id, text)
