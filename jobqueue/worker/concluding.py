"""Reports how attempts ended, many in one call. While a call is under way, the next batch collects; it is sent when the call returns.

What cannot be reported because the server is unreachable is kept and retried until it succeeds or the lease ends. A success whose lease has
ended is reported late, once: the server accepts it if no other worker received the job since.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence

import msgspec

from jobqueue.backend.base import Extend
from jobqueue.clock import Clock
from jobqueue.errors import BadRequest, CallerError, LeaseLost, LostRace, QueueError, TooLarge, UnknownJob
from jobqueue.joblog import LogPart
from jobqueue.limits import KIB, Limits
from jobqueue.model import SUCCEEDED
from jobqueue.worker.bell import Bell, Outage, sleep
from jobqueue.worker.endings import DONE, Ending, failed
from jobqueue.worker.lines import part_bytes
from jobqueue.worker.runs import Run
from jobqueue.worker.sources import Concluded, Released, Source
from jobqueue.worker.telling import tell_failed

BATCH_BYTES_MAX = 512 * KIB
"""The most bytes of results and errors in one call: half of a request's default limit. A single larger one is sent alone."""

RETURN_SECONDS = 10.0
"""The delay used for a release whose own delay the server refused."""

_BATCH = Limits().batch_jobs_max

_logger = logging.getLogger("jobqueue.worker")


class Counts(msgspec.Struct):
    """What a worker did since it was created. lost: attempts whose outcome did not count, because the lease had ended. unhandled: jobs that
    it took but had no handler for, counted each time; they were released, or finally failed for good.
    """

    taken: int = 0
    succeeded: int = 0
    failed: int = 0
    released: int = 0
    lost: int = 0
    unhandled: int = 0


class _Item:
    """An outcome to be reported. refused: the server refused the handler's outcome, and this failure is reported instead. late: the lease
    has ended, by this clock or the server's, and the outcome is reported nevertheless.
    """

    __slots__ = ("ending", "late", "refused", "run")

    def __init__(self, run: Run, ending: Ending, refused: bool = False) -> None:
        self.run = run
        self.ending = ending
        self.refused = refused
        self.late = False

    def may_be_late(self) -> bool:
        """Whether it can be reported once more now that its lease has ended; if so, it is marked late."""
        verdict = self.ending.verdict
        if self.late or verdict is None or verdict.outcome is not SUCCEEDED:
            return False
        self.late = True
        return True

    @property
    def size(self) -> int:
        verdict = self.ending.verdict
        if verdict is None or (self.ending is DONE and self.run.lines is None):
            return 0
        return len(verdict.result or verdict.error or b"") + len(verdict.traceback or "") + part_bytes(self.part())

    def part(self) -> LogPart | None:
        lines = self.run.lines
        return lines.part() if lines else None

    def concluded(self) -> Concluded:
        verdict, leased = self.ending.verdict, self.run.leased
        assert verdict is not None
        if self.late or self.run.lines is not None:
            part = self.part()
            if part is not None or self.late:
                verdict = msgspec.structs.replace(verdict, log=part, late=self.late)
        return Concluded(leased.id, leased.token, verdict)

    def released(self) -> Released:
        return Released(self.run.leased.id, self.run.leased.token, self.ending.delay or 0.0)


class Conclusions:
    """The outcomes to be reported. on_settled is called with a run when nothing more will be reported about it."""

    def __init__(self, source: Source, clock: Clock, outage: Outage, counts: Counts, on_settled: Callable[[Run], None]) -> None:
        self._source = source
        self._clock = clock
        self._outage = outage
        self._counts = counts
        self._on_settled = on_settled
        self._bell = Bell(clock)
        self._pending: deque[_Item] = deque()

    def add(self, run: Run, ending: Ending) -> None:
        """Report an outcome soon."""
        if not self._pending:
            # Otherwise it is awake already, or will look again when its call returns.
            self._bell.ring()
        self._pending.append(_Item(run, ending))

    async def hand_in(self) -> None:
        """Report outcomes as they come, until cancelled."""
        failures = 0
        while True:
            await self._bell.wait()
            while self._pending:
                error = await self._send(self._batch())
                if error is None:
                    failures = 0
                    self._outage.over()
                else:
                    failures += 1
                    await sleep(self._clock, self._outage.failed(error, failures))

    def _batch(self) -> list[_Item]:
        """The oldest outcomes that fit in one call: either all verdicts or all releases."""
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
            if item.late or item.run.expires_at > now or item.may_be_late():
                batch.append(item)
            else:
                self._settled(item, False)
        return batch

    async def _send(self, batch: list[_Item]) -> QueueError | None:
        """Report a batch. Outcomes that failed for now become pending again, and the error is returned."""
        away: QueueError | None = None
        try:
            replies = await self._replies(batch)
        except QueueError as error:
            if isinstance(error, TooLarge | BadRequest) and len(batch) > 1:
                # One item makes the whole call fail.
                for item in batch:
                    away = await self._send([item]) or away
                return away
            replies = [error] * len(batch)
        for item, reply in zip(batch, replies, strict=True):
            if reply is None:
                self._settled(item, True)
            elif not self._settle(item, reply):
                away = reply
        return away

    async def _replies(self, batch: Sequence[_Item]) -> list[QueueError | None]:
        if not batch:
            return []
        for item in batch:
            if item.run.lines:
                await self._tell(item)
        if batch[0].ending.verdict is None:
            return await self._source.release([item.released() for item in batch])
        return await self._source.conclude([item.concluded() for item in batch])

    async def _tell(self, item: _Item) -> None:
        """Send the job's log lines that do not fit into the report of the outcome: the server accepts none after it."""
        lines, leased = item.run.lines, item.run.leased
        assert lines is not None
        while (part := lines.part()) is not None and (item.ending.verdict is None or len(part.lines) < len(lines)):
            (reply,) = await self._source.extend([Extend(leased.id, leased.token, None, None, None, part)])
            if isinstance(reply, QueueError) and not isinstance(reply, CallerError | LostRace | UnknownJob):
                raise reply
            lines.sent(part)

    def _settle(self, item: _Item, reply: QueueError) -> bool:
        """Whether the item, whose outcome was not accepted, is done; if not, it becomes pending again."""
        if isinstance(reply, LeaseLost) and item.may_be_late():
            self._pending.append(item)
            return True
        if isinstance(reply, LostRace | UnknownJob):
            self._settled(item, False)
            return True
        if item.late:
            # A late success is reported only once.
            self._settled(item, False)
            return isinstance(reply, CallerError)
        if not isinstance(reply, TooLarge | BadRequest):
            self._pending.append(item)
            return False
        leased = item.run.leased
        if item.run.lines:
            # Perhaps the log lines were refused: retry without them first.
            item.run.lines = None
            self._pending.append(item)
            return True
        verdict = item.ending.verdict
        if verdict is not None and verdict.traceback is not None:
            # A server older than this worker does not know the field.
            item.ending = msgspec.structs.replace(item.ending, verdict=msgspec.structs.replace(verdict, traceback=None))
            self._pending.append(item)
            return True
        if item.refused:
            # Even a bare failure was refused: the lease will run out.
            _logger.error("the server refused the outcome of job %s, whose lease will run out: %s", leased.id, reply)
            self._settled(item, False)
            return True
        if item.ending.verdict is None:
            # Not at once: the worker would take the job again and be refused again.
            _logger.error("the server refused the release of job %s, trying again with another delay: %s", leased.id, reply)
            ending = Ending(None, RETURN_SECONDS)
        else:
            ending = failed(type(reply).__name__, f"the server refused the attempt's ending: {reply}", retry=False)
            tell_failed(leased, ending)
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
