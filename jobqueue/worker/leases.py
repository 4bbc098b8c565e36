"""Keeps every lease of a worker alive: heartbeats that extend all in one call, and word from the server on them.

A beat comes well before any lease ends, at a third of its length at most, and at least every five seconds, which is how soon a worker
learns of a cancel. Progress goes out with a beat of its own, twice a second at most. A lease whose end passes, because the server was
away too long, is lost: somebody else may have the job by then.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

from jobqueue.backend.base import Extend
from jobqueue.clock import Clock, Timer
from jobqueue.errors import CallerError, LostRace, QueueError, UnknownJob
from jobqueue.limits import Limits
from jobqueue.worker.bell import Bell, Outage
from jobqueue.worker.runs import Run
from jobqueue.worker.sources import Source

BEAT_SECONDS_MAX = 5.0
PROGRESS_SECONDS = 0.5
_BATCH = Limits().batch_jobs_max

_logger = logging.getLogger("jobqueue.worker")


class Leases:
    """The live leases of a worker, by token. on_cancel and on_lost are told of a run whose job was cancelled, whose lease is gone."""

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
        self._live: dict[str, Run] = {}
        self._notes: dict[str, Run] = {}
        self._expiry: Timer | None = None
        self.seconds = seconds
        self.beat_seconds = min(seconds / 3, BEAT_SECONDS_MAX)

    def __len__(self) -> int:
        return len(self._live)

    def __contains__(self, token: str) -> bool:
        return token in self._live

    def __iter__(self) -> Iterator[Run]:
        return iter(list(self._live.values()))

    def add(self, run: Run) -> None:
        """Hold a lease."""
        self._live[run.leased.token] = run
        if self._expiry is None:
            self._expiry = self._clock.call_at(run.expires_at, self._expire)

    def drop(self, run: Run) -> None:
        """The lease is not ours any more."""
        self._live.pop(run.leased.token, None)
        self._notes.pop(run.leased.token, None)

    def note(self, run: Run) -> None:
        """Send the run's progress soon."""
        if run.leased.token in self._live:
            self._notes[run.leased.token] = run
            self._bell.ring()

    def _expire(self) -> None:
        """Lose what has run out, and set the timer anew."""
        self._expiry = None
        now = self._clock.now()
        for run in self:
            if run.expires_at <= now:
                self._lose(run)
        if self._live:
            self._expiry = self._clock.call_at(min(run.expires_at for run in self._live.values()), self._expire)

    def _lose(self, run: Run) -> None:
        self.drop(run)
        self._on_lost(run)

    async def beat(self) -> None:
        """Beat until cancelled."""
        next_beat = self._clock.now() + self.beat_seconds
        notes_from = 0.0
        failures = 0
        while True:
            await self._bell.wait(min(next_beat, notes_from) if self._notes else next_beat)
            now = self._clock.now()
            if now >= next_beat:
                runs = list(self._live.values())
            elif self._notes and now >= notes_from:
                runs = list(self._notes.values())
            else:
                continue
            try:
                for start in range(0, len(runs), _BATCH):
                    await self._extend(runs[start : start + _BATCH])
            except QueueError as error:
                failures += 1
                next_beat = notes_from = self._clock.now() + min(self._outage.failed(error, failures), self.beat_seconds)
                continue
            if runs:
                self._outage.over()
            failures = 0
            notes_from = now + PROGRESS_SECONDS
            if now >= next_beat:
                next_beat = now + self.beat_seconds

    async def _extend(self, runs: list[Run]) -> None:
        sent = [run.note for run in runs]
        items = [Extend(run.leased.id, run.leased.token, None, *(note or (None, None))) for run, note in zip(runs, sent, strict=True)]
        expires_at = self._clock.now() + self.seconds
        replies = await self._source.extend(items)
        for run, note, reply in zip(runs, sent, replies, strict=True):
            self._settle(run, note, reply, expires_at)

    def _settle(self, run: Run, note: tuple[float, str | None] | None, reply: bool | QueueError, expires_at: float) -> None:
        token = run.leased.token
        if token not in self._live:
            # Handed in, or lost, while the call was on its way.
            return
        if isinstance(reply, LostRace | UnknownJob):
            # Of a run whose ending is on its way this is no news: the ending's own answer will say how that went.
            if not run.is_over:
                self._lose(run)
            return
        if run.note is note:
            run.note = None
            self._notes.pop(token, None)
        if isinstance(reply, CallerError):
            # What is at fault can only be the progress: the next beat goes without it, in time.
            _logger.warning("the server refused the progress of job %s: %s", run.leased.id, reply)
            return
        if isinstance(reply, QueueError):
            raise reply
        run.extended(expires_at)
        if reply:
            self._on_cancel(run)

    def close(self) -> None:
        """Let go of the timer."""
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
