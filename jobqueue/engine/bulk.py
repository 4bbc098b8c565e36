"""One operation on every job that a filter matches, a slice per step, in the order in which the jobs were created.

It covers the jobs that existed when it began, and reaches each once: numbers are never reused, and later numbers are not looked at. Only
jobs on which the operation is possible are matched. Jobs that are refused nevertheless, for example for lack of room, are counted by
reason.

The cursor has the whole position, so nothing has to be kept between two requests.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Literal

from msgspec import UNSET

from jobqueue.engine import checks
from jobqueue.engine.engine import Engine
from jobqueue.engine.filters import LOOKED_BYTES_MAX, Matching, fits, looked_bytes
from jobqueue.errors import BadRequest, QueueError
from jobqueue.model import CONCLUDED, QUEUED, SCHEDULED, SUCCEEDED, Job, JobChange

Action = Literal["cancel", "retry", "edit", "forget"]

SLICE = 500
"""Jobs changed in one step, and so in one commit."""

SLICE_LOOKS = 2_000
"""Jobs looked at in one step."""

SLICE_BYTES = 4 * 1024 * 1024
"""Bytes of new payloads written in one step, if an edit has a payload."""

PINNED = "pinned"
"""Why a job is not forgotten: its failure halts its key, or waiting jobs are after it."""

_CURSOR = re.compile(r"([0-9]{1,18})-([0-9]{1,18})")


class Bulk:
    """One operation on many jobs, starting at a cursor, or at the first job.

    change: for an edit; dry_run: only count the matching jobs. matched, done, refused: counts so far; looked: jobs looked at. Raises
    BadRequest, TooLarge.
    """

    def __init__(
        self,
        engine: Engine,
        now: float,
        skew: float,
        action: Action,
        matching: Matching,
        change: JobChange,
        cursor: str | None,
        dry_run: bool,
    ) -> None:
        if matching.empty:
            raise BadRequest("filter", "matches every job; give at least one filter, such as status")
        if action == "edit":
            _check_change(engine, now, skew, change)
        elif change != JobChange():
            raise BadRequest("edit", f"is not allowed with the action {action}")
        self._engine = engine
        self._action = action
        self._wanted = wanted = matching.at(skew)
        self._change = change
        self._dry_run = dry_run
        jobs = engine.jobs
        if cursor is None:
            self._after = 0 if wanted.created_after is None else jobs.all_before(wanted.created_after)
            self._upto = jobs.next_number
        else:
            found = _CURSOR.fullmatch(cursor)
            if found is None:
                raise BadRequest("cursor", "is not a cursor that this server returned")
            self._after, self._upto = int(found[1]), min(int(found[2]), jobs.next_number)
        if wanted.created_before is not None:
            self._upto = min(self._upto, jobs.not_before(wanted.created_before))
        size = 0 if change.payload is UNSET else len(change.payload)
        self._slice = max(1, min(SLICE, SLICE_BYTES // (size or 1)))
        self.matched = self.done = self.looked = 0
        self.refused: Counter[str] = Counter()
        self._looked_bytes = 0
        self.ended = False

    @property
    def cursor(self) -> str | None:
        """Where to continue; None at the end."""
        return None if self.ended else f"{self._after}-{self._upto}"

    @property
    def enough(self) -> bool:
        """Whether enough is done to answer the request."""
        return (
            self.ended
            or self.looked >= self._engine.limits.page_scan_max
            or self._looked_bytes > LOOKED_BYTES_MAX
            or (self.matched >= 2 * self._slice and not self._dry_run)
        )

    def step(self, now: float, skew: float) -> None:
        """Process one slice. skew: UTC minus engine time, for an edit's run_at."""
        found = self._find()
        self.matched += len(found)
        if self._dry_run:
            return
        for job in found:
            # Another job of the slice may have pushed it out of history, or been the one it waited for.
            there = self._engine.jobs.numbered(job.number)
            if there is None or not self._can(there):
                self.matched -= 1
                continue
            try:
                why = self._do(now, there, skew)
            except QueueError as error:
                why = error.code
            if why is None:
                self.done += 1
            else:
                self.refused[why] += 1

    def _find(self) -> list[Job]:
        """The next slice. All jobs are found before the first is changed, since a change can affect what the walk reads."""
        found: list[Job] = []
        size = 0
        most = min(SLICE_LOOKS, self._engine.limits.page_scan_max - self.looked)
        for looked, job in enumerate(self._engine.jobs.oldest_first(self._after)):
            if job.number >= self._upto:
                break
            if len(found) >= self._slice or looked >= most or size > LOOKED_BYTES_MAX:
                self.looked += looked
                self._looked_bytes += size
                return found
            self._after = job.number
            if self._can(job):
                size += looked_bytes(job, self._wanted)
                if fits(job, self._wanted):
                    found.append(job)
        self.ended = True
        return found

    def _can(self, job: Job) -> bool:
        """Whether the operation is possible on a job in its current state."""
        if self._action == "cancel":
            # A job whose worker was already asked to stop counts as done.
            return job.status is not CONCLUDED and (job.lease is None or not job.lease.cancel_requested)
        if self._action == "edit":
            return job.status is QUEUED or job.status is SCHEDULED
        return job.status is CONCLUDED and (self._action == "forget" or job.outcome is not SUCCEEDED)

    def _do(self, now: float, job: Job, skew: float) -> str | None:
        """Apply the operation to one job; None, or why it was not done. Also raises QueueError."""
        engine = self._engine
        if self._action == "cancel":
            engine.cancel(now, job.id)
        elif self._action == "retry":
            engine.retry(now, job.id)
        elif self._action == "edit":
            engine.edit(now, job.id, self._change, skew)
        elif job in engine.pinned or job in engine.kept:
            return PINNED
        else:
            engine.forget_one(job.id)
        return None


def _check_change(engine: Engine, now: float, skew: float, change: JobChange) -> None:
    """Raise an error if no job could get this change: BadRequest naming the field within `edit`, or TooLarge."""
    if change == JobChange():
        raise BadRequest("edit", "changes nothing")
    try:
        checks.change(change, engine.limits)
        if change.run_at is not UNSET:
            checks.run_at(change.run_at - skew, now, engine.limits)
    except BadRequest as error:
        raise BadRequest("edit" if error.field is None else f"edit.{error.field}", error.reason) from None
