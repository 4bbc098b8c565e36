"""When a job that a worker released can be taken again: the more often it was released, the later.

A released job keeps its place in line, so without a delay the worker that released it would get it again at once, thousands of times a
second. The count for a job is kept by this worker alone and ends with it. It limits how often jobs go round, but is not a guarantee.
"""

from __future__ import annotations

import logging
from collections import OrderedDict

from jobqueue.worker.bell import Random
from jobqueue.worker.endings import Ending, failed
from jobqueue.worker.running import Leased

RELEASE_SECONDS_MIN = 0.1
"""The least delay after a handler raised Release, and the first delay if the handler gave none."""

UNHANDLED_SECONDS_MIN = 1.0
"""The first delay of a job without a handler."""

RETURN_SECONDS_MAX = 60.0
"""The delays that the worker chooses double up to this."""

UNHANDLED_SECONDS = 3_600.0
"""The default for how long a job without a handler is released before it fails for good."""

JOBS_REMEMBERED_MAX = 10_000
"""The number of jobs remembered. The one whose last release is the oldest is forgotten, and starts again."""

WARN_SECONDS = 60.0
"""The least time between two log lines about the same type without a handler."""

TYPES_WARNED_MAX = 1_000

_logger = logging.getLogger("jobqueue.worker")


class _Returned:
    """A job that was released: how often, and since when."""

    __slots__ = ("since", "times")

    def __init__(self, now: float) -> None:
        self.since = now
        self.times = 0

    def delay(self, first: float) -> float:
        self.times += 1
        return min(RETURN_SECONDS_MAX, first * 2.0 ** min(self.times - 1, 32))


class Returns:
    """The jobs that a worker released. names: the types it has handlers for; unhandled_seconds: see UNHANDLED_SECONDS."""

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
        """The job ended here."""
        self._jobs.pop(job_id, None)

    def released(self, leased: Leased, delay: float | None, now: float) -> Ending:
        """A handler released the job, with this delay if it gave one."""
        if delay is not None:
            return Ending(None, max(delay, RELEASE_SECONDS_MIN))
        return Ending(None, self._returned(leased.id, now).delay(RELEASE_SECONDS_MIN))

    def unhandled(self, leased: Leased, now: float) -> Ending:
        """The job has no handler here. During a roll-out another worker may have one."""
        returned = self._returned(leased.id, now)
        jobs = "jobs without a type" if leased.type is None else f"jobs of type {leased.type!r}"
        text = f"this worker has no handler for {jobs}; it has handlers for {', '.join(map(repr, self._names))}"
        if now - returned.since >= self._unhandled_seconds:
            self.forget(leased.id)
            return failed("UnknownHandler", text, retry=False)
        self._warn(leased, text, now)
        delay = returned.delay(UNHANDLED_SECONDS_MIN)
        # Random, so that the jobs do not all return at the same moment.
        return Ending(None, self._chance.uniform(delay, delay * 1.5))

    def _warn(self, leased: Leased, text: str, now: float) -> None:
        if self._warned.get(leased.type, float("-inf")) + WARN_SECONDS <= now:
            if len(self._warned) >= TYPES_WARNED_MAX:
                self._warned.clear()
            self._warned[leased.type] = now
            _logger.warning("job %s is released: %s", leased.id, text)
