"""Keeps every lease of a worker alive with heartbeats, each of which extends all leases in one call and receives the server's replies.

A heartbeat is sent well before any lease ends: after at most a third of its length, and at least every five seconds, which is how soon a
worker learns of a cancel. Progress and log lines are sent with an additional heartbeat, at most twice a second. If the end of a lease
passes because the server was unreachable too long, the lease is lost: another worker may have the job by then.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence

from jobqueue.backend.base import Extend
from jobqueue.clock import Clock, Timer
from jobqueue.errors import CallerError, Full, LostRace, QueueError, Unavailable, Unconfirmed, UnknownJob
from jobqueue.joblog import LogPart
from jobqueue.limits import KIB, Limits
from jobqueue.worker.bell import Bell, Outage
from jobqueue.worker.lines import PART_BYTES, part_bytes
from jobqueue.worker.runs import Run
from jobqueue.worker.sources import Source

BEAT_SECONDS_MAX = 5.0
PROGRESS_SECONDS = 0.5
_BATCH = Limits().batch_jobs_max

_logger = logging.getLogger("jobqueue.worker")


LINES_BYTES = 256 * KIB
"""About how many bytes of log lines fit in one heartbeat; the rest is sent with the next."""


def _parts(runs: Sequence[Run]) -> list[LogPart | None]:
    """The log lines to send for each of these runs."""
    room = LINES_BYTES
    parts: list[LogPart | None] = []
    for run in runs:
        part = run.lines.part(min(room, PART_BYTES)) if run.lines and room > 0 else None
        room -= part_bytes(part)
        parts.append(part)
    return parts


def _item(run: Run, note: tuple[float, str | None] | None, part: LogPart | None) -> Extend:
    progress, message = (None, None) if note is None else note
    return Extend(run.leased.id, run.leased.token, None, progress, message, part)


class Leases:
    """The live leases of a worker, by token. on_cancel and on_lost are called with a run whose job was cancelled or whose lease is lost."""

    def __init__(
        self,
        source: Source,
        clock: Clock,
        outage: Outage,
        seconds: float,
        on_cancel: Callable[[Run], None],
        on_lost: Callable[[Run], None],
    ) -> None:
        self._source = source
        self._clock = clock
        self._outage = outage
        self._on_cancel = on_cancel
        self._on_lost = on_lost
        self._bell = Bell(clock)
        self.live: dict[str, Run] = {}
        """By token; changed only here."""
        self._notes: dict[str, Run] = {}
        self._notes_from = 0.0
        """When the next heartbeat for progress and lines can be sent."""
        self._expiry: Timer | None = None
        self.seconds = seconds
        self.beat_seconds = min(seconds / 3, BEAT_SECONDS_MAX)

    def __len__(self) -> int:
        return len(self.live)

    def __iter__(self) -> Iterator[Run]:
        return iter(list(self.live.values()))

    def add(self, run: Run) -> None:
        """Start to keep a lease alive."""
        self.live[run.leased.token] = run
        if self._expiry is None:
            self._expiry = self._clock.call_at(run.expires_at, self._expire)

    def drop(self, run: Run) -> None:
        """Stop: the worker no longer holds the lease."""
        self.live.pop(run.leased.token, None)
        if self._notes:
            self._notes.pop(run.leased.token, None)

    def note(self, run: Run) -> None:
        """Send the run's progress soon."""
        if run.leased.token in self.live:
            self._notes[run.leased.token] = run
            self._bell.ring()

    def note_lines(self, run: Run) -> None:
        """Send the run's log lines within half a second: with its outcome, if that comes first."""
        if not self._notes:
            self._notes_from = max(self._notes_from, self._clock.now() + PROGRESS_SECONDS)
        self.note(run)

    def _expire(self) -> None:
        """Drop leases that have run out, and set the timer again."""
        self._expiry = None
        now = self._clock.now()
        for run in self:
            if run.expires_at <= now:
                self._lose(run)
        if self.live:
            self._expiry = self._clock.call_at(min(run.expires_at for run in self.live.values()), self._expire)

    def _lose(self, run: Run) -> None:
        self.drop(run)
        self._on_lost(run)

    async def beat(self) -> None:
        """Send heartbeats until cancelled."""
        next_beat = self._clock.now() + self.beat_seconds
        failures = 0
        while True:
            await self._bell.wait(min(next_beat, self._notes_from) if self._notes else next_beat)
            now = self._clock.now()
            if now >= next_beat:
                runs = list(self.live.values())
            elif self._notes and now >= self._notes_from:
                runs = list(self._notes.values())
            else:
                continue
            try:
                for start in range(0, len(runs), _BATCH):
                    await self._extend(runs[start : start + _BATCH])
            except QueueError as error:
                failures += 1
                next_beat = self._notes_from = self._clock.now() + min(self._outage.failed(error, failures), self.beat_seconds)
                continue
            if runs:
                self._outage.over()
            failures = 0
            self._notes_from = now + PROGRESS_SECONDS
            if now >= next_beat:
                next_beat = now + self.beat_seconds

    async def _extend(self, runs: list[Run]) -> None:
        sent = [run.note for run in runs]
        parts = _parts(runs)
        items = [_item(run, note, part) for run, note, part in zip(runs, sent, parts, strict=True)]
        expires_at = self._clock.now() + self.seconds
        replies = await self._source.extend(items)
        for run, note, part, reply in zip(runs, sent, parts, replies, strict=True):
            if part is not None and run.lines is not None and not isinstance(reply, Full | Unavailable | Unconfirmed):
                run.lines.sent(part)
            self._settle(run, note, reply, expires_at)

    def _settle(self, run: Run, note: tuple[float, str | None] | None, reply: bool | QueueError, expires_at: float) -> None:
        token = run.leased.token
        if token not in self.live:
            # The run was reported or lost during the call.
            return
        if isinstance(reply, LostRace | UnknownJob):
            # For a run whose outcome is being reported this does not matter: the answer to that report says how it went.
            if not run.is_over:
                self._lose(run)
            return
        if run.note is note:
            run.note = None
            if not run.lines:
                self._notes.pop(token, None)
        if isinstance(reply, CallerError):
            # Only the progress or the log lines can be at fault: the next heartbeat goes without them, in time.
            _logger.warning("the server refused the progress of job %s: %s", run.leased.id, reply)
            return
        if isinstance(reply, QueueError):
            raise reply
        run.extended(expires_at)
        if reply:
            self._on_cancel(run)

    def close(self) -> None:
        """Cancel the timer."""
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
