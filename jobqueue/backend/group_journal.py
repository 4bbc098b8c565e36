"""The journal of every durable backend: changes of the engine become rows, rows are committed, and each commit releases the requests that
wait for it (promise 7).

Everything here runs in the loop. A Writer commits, either to a SQLite file in a thread or to a store over the network. `append` reads the
jobs in the same step that changed them. While one group is being committed, the next one gathers, with one row for each job, whatever
happened to it. When the commit is done, one callback releases all requests that waited for it, and hands over the next group. So slow
storage makes groups larger, but answers stay correct.

If a commit fails for lack of room (NotNow), memory is ahead of the disk, and stays ahead: the rows wait, together with later ones, and are
tried again until they are committed. Nothing is undone, since later changes may depend on it. Requests that waited for the commit are
answered Unconfirmed; requests that come meanwhile are answered StorageUnavailable, before anything changes. If the disk cannot be trusted
(Fatal), nothing is acknowledged from then on, and `failed` returns.

A file that was deleted, moved or replaced while in use (`lost`) is treated like one without room: what is written to it can no longer be
found, so nothing is acknowledged. The commit is tried again, since a file that was moved away can be moved back. The server keeps running,
because it has the last access to the data: when a process ends, its deleted file is gone for good, and the next process would start with an
empty one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Callable, Sequence
from typing import Protocol

from jobqueue.backend.base import StorageStats
from jobqueue.backend.group import Fatal, Group, NotNow, Writer
from jobqueue.backend.rows import Counters, encode_counters, encode_job
from jobqueue.backend.snapshots import copied, later_at
from jobqueue.backend.things import AT_ONCE, encode_named
from jobqueue.clock import Clock, Timer, Uptime
from jobqueue.engine.engine import Engine
from jobqueue.engine.events import K_CHANGED, K_EDITED, K_ENQUEUED, K_FORGOTTEN, K_FREED, Event
from jobqueue.errors import QueueFull, StorageUnavailable, StorageUnconfirmed, Unconfirmed
from jobqueue.histogram import QUICK_SECONDS, Histogram
from jobqueue.model import Job

_logger = logging.getLogger("jobqueue.storage")

_NO_UPTIME = Uptime("", 0.0)

RETRY_SECONDS = 1.0
"""How long to wait after a commit that failed."""

SHARE_SECONDS = 0.002
"""How long changes wait for new jobs, to be in one commit with them, after a commit of at least SHARE_JOBS new jobs; but only if the
producers have come back that soon the last time. Without this, two kinds of commits take turns where 16 producers and a worker each wait
for their answers: new jobs arrive while conclusions are written, and conclusions while new jobs are (docs/decisions/0045)."""

SHARE_JOBS = 8


def unconfirmed(reason: str) -> str:
    """The error text for a change whose commit failed."""
    return f"the change is not stored yet, and may or may not be stored later; repeat the request to find out: {reason}"


class Feed(Protocol):
    """Receives every group, in order. It must not wait or raise."""

    def handed(self, group: Group, number: int) -> None:
        """A group is about to be handed to the writer. It does not change any more."""

    def committed(self, number: int) -> None:
        """The group of this number is committed and acknowledged. Earlier groups are committed too, or everything that they held is in
        it.
        """

    def over(self) -> None:
        """There will be no more groups."""


class GroupJournal:
    """A Journal for one engine. offset: engine time minus the time line of the file; change: the number of the last stored change.

    lost: returns what part of the file is no longer where it was, None if everything is in place; called once for each group, and can be
    called in any thread. reign: stored in every group together with its number, so that a store shows which group it took last.
    """

    def __init__(
        self,
        engine: Engine,
        clock: Clock,
        sync: str,
        *,
        offset: float = 0.0,
        change: int = 0,
        reign: str = "",
        lost: Callable[[], str | None] = lambda: None,
    ) -> None:
        self.lost = lost
        self.engine = engine
        self.clock = clock
        self.unwritten_bytes_max = engine.limits.unwritten_bytes_max
        self._writer: Writer | None = None
        self.sync = sync
        self.reign = reign
        self.number = 0
        """The number of the last group that was handed to the writer, from 1 on. A group that failed is repeated in the next one, which
        contains all of it."""
        self.committed_number = 0
        """The number of the last group that was committed."""
        self.feed: Feed | None = None
        self._offset = offset
        self._change = change
        self._gathering = Group()
        self._writing: Group | None = None
        self._ticket = self._handed = self._done = 0
        self._next: list[asyncio.Future[None]] = []
        """Requests that wait for the group that is gathering; _now: for the group that is being written."""
        self._now: list[asyncio.Future[None]] = []
        self._kicked = False
        self._retry: Timer | None = None
        self._released_at = -math.inf
        """When a commit of many new jobs was done: their producers may come back soon."""
        self._come_back = False
        """Whether they did the last time."""
        self.share_seconds = 0.0
        """SHARE_SECONDS if the storage is a file whose commits are synced."""
        self._sharing: Timer | None = None
        """Set while changes wait for new jobs."""
        self._failing: str | None = None
        self._broken: str | None = None
        self._breaking = asyncio.Event()
        self._commits = Histogram(QUICK_SECONDS)
        self._handed_at = 0.0
        self._last: tuple[float, float] | None = None
        """When the last group was committed, and how long this took."""
        self._closed = False
        self._gone: str | None = None
        """The result of `lost` when the group that is being written was handed over."""
        self._on_close: Callable[[], object] = lambda: None

    def use(self, writer: Writer, on_close: Callable[[], object] = lambda: None) -> None:
        """Set the writer, once. on_close is called when the writer has released the storage."""
        self._writer, self._on_close = writer, on_close

    # The Journal protocol; see there.

    @property
    def writing(self) -> Group | None:
        """The group that is being committed, with the number `number`."""
        return self._writing

    @property
    def unwritten_bytes(self) -> int:
        """The size of the changes that wait to be committed, roughly."""
        return self._gathering.held_bytes + (0 if self._writing is None else self._writing.held_bytes)

    def stats(self) -> StorageStats:
        """See Journal.stats. The time of a commit is from the hand-over until its result is known, for whole groups that were committed."""
        at, seconds = self._last or (None, None)
        at = later_at(at, self.clock.skew())
        return StorageStats(self._failing is not None, self._commits.timings(), self.unwritten_bytes, self._failing, at, seconds)

    def check(self, adding: bool) -> None:
        """See Journal.check."""
        if self._failing is not None:
            raise StorageUnavailable(f"changes cannot be stored: {self._failing}")
        if adding and self.unwritten_bytes > self.unwritten_bytes_max:
            raise QueueFull(f"the disk is too slow: {self.unwritten_bytes} bytes wait to be stored; {self.unwritten_bytes_max} are allowed")

    def append(self, events: Sequence[Event]) -> int:
        """See Journal.append."""
        group = self._gathering
        first = not group.payloads
        changed: dict[int, Job] = {}
        stored = len(events)
        for event in events:
            job = event.job
            if job is None:
                if event.kind is K_FREED:
                    # Nothing is written for it, so no request must wait for it.
                    stored -= 1
                else:
                    group.put_name(event.queue)
                    if event.queue.startswith(AT_ONCE):
                        group.queue_rows[event.queue] = encode_named(self.engine, event.queue, self._offset)
            elif event.kind is K_FORGOTTEN:
                changed.pop(job.number, None)
                group.forget(job.number)
            else:
                if event.kind is K_CHANGED or event.kind is K_EDITED:
                    # In this step, it came into history behind jobs that ended before it, or comes after jobs that were scheduled before
                    # it.
                    changed.pop(job.number, None)
                changed[job.number] = job
                group.queues.add(event.queue)
                if event.kind is K_ENQUEUED or event.kind is K_EDITED:
                    group.put_payload(job.number, job.payload)
        change, offset = self._change, self._offset
        for number, job in changed.items():
            change += 1
            group.put(number, encode_job(copied(job, -offset) if offset else job, change))
        self._change = change
        self._ticket += stored
        if first and group.payloads:
            self._come_back = self.clock.now() - self._released_at < self.share_seconds
        if not self._kicked and self._writing is None and self._failing is None:
            self._kicked = True
            # Not at once: all requests that the loop has read by now go into this group.
            asyncio.get_running_loop().call_soon(self._kick)
        return self._ticket

    async def committed(self, ticket: int) -> None:
        """See Journal.committed."""
        if ticket <= self._done:
            return
        if self._failing is not None:
            raise StorageUnconfirmed(unconfirmed(self._failing))
        future = asyncio.get_running_loop().create_future()
        (self._now if ticket <= self._handed else self._next).append(future)
        await future

    async def failed(self) -> str:
        """Return when the storage cannot be trusted any more, with the reason."""
        await self._breaking.wait()
        assert self._broken is not None
        return self._broken

    async def close(self) -> None:
        """See Journal.close. Changes that cannot be written even now were never acknowledged, and are lost."""
        # Stores the state of the clocks when the server stopped, however long ago the last change was.
        self._gathering.due = not self._closed
        self._closed = True
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
            self._hand_over()
        while self._broken is None and (self._writing is not None or (self._gathering and self._failing is None)):
            self._kick()
            future = asyncio.get_running_loop().create_future()
            self._now.append(future)
            with contextlib.suppress(Unconfirmed):
                await future
        if self._retry is not None:
            self._retry.cancel()
        if self.unwritten_bytes:
            _logger.error("closing without having stored everything; nothing of what is missing was acknowledged")
        if self._writer is not None:
            writer, self._writer = self._writer, None
            # Tidying up deletes the log by its name, which by now may belong to another file.
            tidy = self._broken is None and self.lost() is None
            # Changes that come while it closes, or later, are not stored.
            self.give_up("it is closed")
            await writer.close(tidy)
            self._on_close()

    # Groups.

    def _kick(self) -> None:
        self._kicked = False
        if self._writing is None and self._failing is None and self._gathering and not self._shares(self.clock.now()):
            self._hand_over()

    def _shares(self, now: float) -> bool:
        """Whether what has gathered waits for new jobs that will probably come."""
        if not self._come_back or self._gathering.payloads or self._closed:
            return False
        until = self._released_at + self.share_seconds
        if until <= now:
            self._come_back = False
            return False
        if self._sharing is None:
            self._sharing = self.clock.call_at(until, self._alone)
        return True

    def _alone(self) -> None:
        """No new jobs came."""
        self._sharing = None
        self._come_back = False
        self._kick()

    def _hand_over(self) -> None:
        """Give the gathered changes to the writer, which is idle."""
        engine, group = self.engine, self._gathering
        for name in group.queues - group.queue_rows.keys():
            group.queue_rows[name] = encode_named(engine, name, self._offset)
        skew = self.clock.skew() + self._offset
        boot, up = self.clock.uptime() or _NO_UPTIME
        at = self.clock.now() - self._offset
        number = self.number = self.number + 1
        following = engine.jobs.next_number
        group.counters = encode_counters(Counters(following, following, skew, self.sync, at, boot, up, self.reign, number))
        self._gathering, self._writing = Group(), group
        self._handed = self._ticket
        self._now, self._next = self._next, []
        if self._sharing is not None:
            self._sharing.cancel()
            self._sharing = None
        assert self._writer is not None
        if self.feed is not None:
            # Before the store receives it: a server that takes over then has at least what the store has.
            self.feed.handed(group, number)
        self._handed_at = self.clock.now()
        self._writer.write(group, self._finished)
        # Checked here and not in the thread: there it would wait for the GIL, and while the thread waits for the disk.
        self._gone = self.lost()

    def _finished(self, error: Exception | None) -> None:
        """A group is committed, or not."""
        group, self._writing = self._writing, None
        assert group is not None
        if self._broken is not None:
            # It was given up while this group was being committed. All waiting requests have been answered, whatever the result.
            return
        if error is None and self._gone is not None:
            error = NotNow(self._gone)
        if error is None:
            now = self.clock.now()
            self._last = now, now - self._handed_at
            self._commits.observe(now - self._handed_at)
            self._done = self._handed
            self.committed_number = self.number
            if self.feed is not None:
                self.feed.committed(self.number)
            if self._failing is not None:
                _logger.warning("changes can be stored again")
                self._failing = None
            if group.payloads:
                self._released_at = now if len(group.payloads) >= SHARE_JOBS else -math.inf
            waiting, self._now = self._now, []
            if self._gathering and not self._shares(now):
                self._hand_over()
            for future in waiting:
                if not future.done():
                    future.set_result(None)
            return
        self._gathering = self._gathering.after(group)
        if isinstance(error, Fatal):
            self.fatal(error)
            return
        self._fail(str(error))

    def _fail(self, reason: str) -> None:
        """Nothing can be stored for now."""
        if self._failing is None:
            _logger.error("changes cannot be stored, trying again every %g s: %s", RETRY_SECONDS, reason)
        self._refuse(reason)
        self._retry = self.clock.call_at(self.clock.now() + RETRY_SECONDS, self._try_again)

    def _try_again(self) -> None:
        lost = self.lost()
        if lost is not None:
            # Rows that nobody could find afterwards need not be written again.
            self._fail(lost)
            return
        self._retry = None
        self._hand_over()

    def displaced(self, reason: str) -> None:
        """The file is no longer where it was; this was detected while nothing was being written."""
        if self._writing is None and self._failing is None and self._writer is not None:
            self._fail(reason)

    def _refuse(self, reason: str) -> None:
        self._failing = reason
        waiting = self._now + self._next
        self._now, self._next = [], []
        for future in waiting:
            if not future.done():
                future.set_exception(StorageUnconfirmed(unconfirmed(reason)))

    def fatal(self, error: Exception | None) -> None:
        """The storage cannot be trusted any more: nothing is acknowledged from now on."""
        if self._broken is None:
            _logger.critical("the storage failed, nothing more is acknowledged: %s", error)
            self.give_up(str(error))

    def give_up(self, reason: str) -> None:
        """Acknowledge nothing and write nothing from now on: another server writes the rows, or will soon."""
        if self._broken is None:
            self._broken = reason
            if self._retry is not None:
                self._retry.cancel()
                self._retry = None
            self._refuse(reason)
            self._breaking.set()
            if self.feed is not None:
                self.feed.over()
