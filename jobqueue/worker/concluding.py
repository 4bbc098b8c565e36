"""Hands in how attempts ended, many in a call: while one call is on its way the next batch collects, and goes out when it is back.

What cannot be handed in because the server is away is kept and tried again until it can, or until its lease ends.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence

import msgspec

from jobqueue.clock import Clock
from jobqueue.errors import BadRequest, LostRace, QueueError, TooLarge, UnknownJob
from jobqueue.limits import KIB, Limits
from jobqueue.model import SUCCEEDED
from jobqueue.worker.bell import Bell, Outage, sleep
from jobqueue.worker.endings import Ending, failed
from jobqueue.worker.runs import Run
from jobqueue.worker.sources import Concluded, Released, Source

BATCH_BYTES_MAX = 512 * KIB
"""Results and errors in one call, half of what a request may hold by default. A single larger one goes alone."""

RETURN_SECONDS = 10.0
"""The delay of a release whose own delay the server refused."""

_BATCH = Limits().batch_jobs_max

_logger = logging.getLogger("jobqueue.worker")


class Counts(msgspec.Struct):
    """What a worker did since it was made. lost: attempts whose ending did not count, since the lease had ended. unhandled: jobs taken that
    it had no handler for, each time anew; they were given back, or have failed for good in the end.
    """

    taken: int = 0
    succeeded: int = 0
    failed: int = 0
    released: int = 0
    lost: int = 0
    unhandled: int = 0


class _Item:
    """An ending on its way. refused: the server has refused what the handler gave, and this is the failure told instead."""

    __slots__ = ("ending", "refused", "run")

    def __init__(self, run: Run, ending: Ending, refused: bool = False) -> None:
        self.run = run
        self.ending = ending
        self.refused = refused

    @property
    def size(self) -> int:
        verdict = self.ending.verdict
        return 0 if verdict is None else len(verdict.result or verdict.error or b"")

    def concluded(self) -> Concluded:
        assert self.ending.verdict is not None
        return Concluded(self.run.leased.id, self.run.leased.token, self.ending.verdict)

    def released(self) -> Released:
        return Released(self.run.leased.id, self.run.leased.token, self.ending.delay or 0.0)


class Conclusions:
    """What is to be handed in. on_settled is told of a run when nothing more will be told of it."""

    def __init__(self, source: Source, clock: Clock, outage: Outage, counts: Counts, on_settled: Callable[[Run], None]) -> None:
        self._source = source
        self._clock = clock
        self._outage = outage
        self._counts = counts
        self._on_settled = on_settled
        self._bell = Bell(clock)
        self._pending: deque[_Item] = deque()

    def add(self, run: Run, ending: Ending) -> None:
        """Hand in an ending, soon."""
        self._pending.append(_Item(run, ending))
        self._bell.ring()

    async def hand_in(self) -> None:
        """Hand in whatever comes, until cancelled."""
        failures = 0
        while True:
            await self._bell.wait()
            while self._pending:
                batch = self._batch()
                error = await self._send(batch)
                if error is None:
                    failures = 0
                    self._outage.over()
                else:
                    failures += 1
                    await sleep(self._clock, self._outage.failed(error, failures))

    def _batch(self) -> list[_Item]:
        """The oldest that go into one call: all of them verdicts, or all of them releases."""
        batch: list[_Item] = []
        size = 0
        now = self._clock.now()
        releases = self._pending[0].ending.verdict is None
        while self._pending and len(batch) < _BATCH:
            item = self._pending[0]
            size += item.size
            if (item.ending.verdict is None) is not releases or (batch and size > BATCH_BYTES_MAX):
                break
            self._pending.popleft()
            if item.run.expires_at > now:
                batch.append(item)
            else:
                self._settled(item, False)
        return batch

    async def _send(self, batch: list[_Item]) -> QueueError | None:
        """Hand a batch in; what failed for now is pending again, and its error returned."""
        away: QueueError | None = None
        try:
            replies = await self._replies(batch)
        except QueueError as error:
            if isinstance(error, TooLarge | BadRequest) and len(batch) > 1:
                # One of them spoils the call for all.
                for item in batch:
                    away = await self._send([item]) or away
                return away
            replies = [error] * len(batch)
        for item, reply in zip(batch, replies, strict=True):
            if not self._settle(item, reply):
                away = reply
        return away

    async def _replies(self, batch: Sequence[_Item]) -> list[QueueError | None]:
        if not batch:
            return []
        if batch[0].ending.verdict is None:
            return await self._source.release([item.released() for item in batch])
        return await self._source.conclude([item.concluded() for item in batch])

    def _settle(self, item: _Item, reply: QueueError | None) -> bool:
        """Whether that was the last word; if not, the item is pending again."""
        if reply is None or isinstance(reply, LostRace | UnknownJob):
            self._settled(item, reply is None)
            return True
        if not isinstance(reply, TooLarge | BadRequest):
            self._pending.append(item)
            return False
        leased = item.run.leased
        _logger.error("the server refused how job %s ended: %s", leased.id, reply)
        if item.refused:
            # Not even a bare failure: the lease will end by itself.
            self._settled(item, False)
            return True
        if item.ending.verdict is None:
            # Not at once: the worker would have it again, and be refused again.
            ending = Ending(None, RETURN_SECONDS)
        else:
            ending = failed(type(reply).__name__, f"the server refused the attempt's ending: {reply}", retry=False)
        self._pending.append(_Item(item.run, ending, refused=True))
        return True

    def _settled(self, item: _Item, taken: bool) -> None:
        counts, verdict = self._counts, item.ending.verdict
        if not taken:
            counts.lost += 1
        elif verdict is None:
            counts.released += 1
        elif verdict.outcome is SUCCEEDED:
            counts.succeeded += 1
        else:
            counts.failed += 1
        self._on_settled(item.run)
