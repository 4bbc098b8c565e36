"""Builds an engine from the rows of another server's groups and keeps it up to date (engine/follow.py), ready to take over.

A Twin receives every group when the group is handed to the writer, and a notice when it is committed. It applies committed groups and keeps
the rest, so that it can be brought to whatever state a store turns out to have: the counters' row, which is different in every group,
identifies the last group. A Twin that never received that group does not have these counters, and is not ready.

It begins with rows that were read while more groups were being written. All groups that were handed over up to the end of the reading are
applied on top. Then it does not matter what the reading saw of a group, since each row is as the last group made it. For this the owner is
asked, after the reading, for the number of its last group (`begin`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from jobqueue.backend.loading import CannotOpen, JobRows, LooseRows, load, offset_of
from jobqueue.backend.rows import Counters, decode_counters, decode_job
from jobqueue.backend.snapshots import shifted
from jobqueue.backend.things import (
    claims_of,
    decode_named,
    groups_of,
    in_their_order,
    logs_of,
    queues_of,
    quiet_of,
    samples_of,
    schedules_of,
    tasks_of,
    windows_of,
)
from jobqueue.clock import SKEW_STEP_SECONDS, Clock
from jobqueue.engine import follow
from jobqueue.engine.engine import Engine
from jobqueue.engine.restore import Inconsistent, Stored

ROW_BYTES = 200
"""The memory that a row takes in addition to its content, roughly."""


class RowChanges:
    """The rows of one group, or of several in a row: the last state of each. None as a state or as a queue's row: it was deleted."""

    __slots__ = ("counters", "payloads", "queues", "size", "states")

    def __init__(
        self,
        states: dict[int, bytes | None] | None = None,
        payloads: dict[int, bytes] | None = None,
        queues: dict[str, bytes | None] | None = None,
        counters: bytes | None = None,
    ) -> None:
        self.states = {} if states is None else states
        self.payloads = {} if payloads is None else payloads
        self.queues = {} if queues is None else queues
        self.counters = counters
        self.size = sum(len(row) for rows in (self.states, self.payloads, self.queues) for row in rows.values() if row is not None)
        self.size += ROW_BYTES * (len(self.states) + len(self.payloads) + len(self.queues))

    def __bool__(self) -> bool:
        return self.counters is not None

    def add(self, later: RowChanges) -> None:
        """Merge later changes. size stays an upper bound."""
        self.payloads.update(later.payloads)
        self.states.update(later.states)
        for number, state in later.states.items():
            if state is None:
                self.payloads.pop(number, None)
        self.queues.update(later.queues)
        if later.counters is not None:
            self.counters = later.counters
        self.size += later.size


class Overlaid:
    """Rows with changes applied on top. A Rows."""

    def __init__(self, rows: LooseRows, changes: RowChanges) -> None:
        self._rows = rows
        self._changes = changes
        self._jobs: list[JobRows] | None = None

    @property
    def path(self) -> str:
        """See Rows.path."""
        return self._rows.path

    def counters(self) -> bytes | None:
        """See Rows.counters."""
        return self._rows.counters() if self._changes.counters is None else self._changes.counters

    def queues(self) -> Iterable[tuple[str, bytes]]:
        """See Rows.queues."""
        found: dict[str, bytes | None] = {**dict(self._rows.queues()), **self._changes.queues}
        return [(name, row) for name, row in sorted(found.items()) if row is not None]

    def count(self) -> int:
        """See Rows.count."""
        return len(self._all())

    def jobs(self) -> Iterable[JobRows]:
        """See Rows.jobs. Rows that were returned are released."""
        jobs, self._jobs = self._all(), None
        return jobs

    def _all(self) -> list[JobRows]:
        if self._jobs is None:
            self._jobs = list(self._put_over())
        return self._jobs

    def _put_over(self) -> Iterator[JobRows]:
        states, payloads = self._changes.states, self._changes.payloads
        new = iter(sorted(states))
        upcoming = next(new, None)
        for number, state, payload in self._rows.jobs():
            while upcoming is not None and upcoming < number:
                yield from self._one(upcoming, states[upcoming], payloads.get(upcoming))
                upcoming = next(new, None)
            if upcoming == number:
                yield from self._one(number, states[number], payloads.get(number, payload))
                upcoming = next(new, None)
            else:
                yield from self._one(number, state, payload)
        while upcoming is not None:
            yield from self._one(upcoming, states[upcoming], payloads.get(upcoming))
            upcoming = next(new, None)

    def _one(self, number: int, state: bytes | None, payload: bytes | None) -> Iterator[JobRows]:
        if state is None:
            return
        if payload is None:
            raise CannotOpen(f"{self.path}: is damaged: job number {number} has no payload")
        yield JobRows(number, state, payload)


class Twin:
    """An engine that follows one reign. number: of the last group that was handed over before the first one that it receives.

    applied: the number of the last group that is in the engine; received: of the last group that it received; loaded: whether it has begun.
    A call that raises Inconsistent or BadRow leaves the Twin unusable.
    """

    def __init__(self, engine: Engine, clock: Clock, reign: str, number: int) -> None:
        self.engine = engine
        self.reign = reign
        self.received = self.applied = number
        self.loaded = False
        self.offset = 0.0
        self.change = 0
        self.counters: bytes | None = None
        self._clock = clock
        self._committed = number
        self._window: RowChanges | None = RowChanges()
        """All changes that were handed over, until the rows are read."""
        self._gathered = RowChanges()
        """Changes that are committed and not applied."""
        self._pending: dict[int, RowChanges] = {}
        """Changes that are not known to be committed, by number."""
        self._abandoned = False
        self._applying: Iterator[None] | None = None

    # Messages from the owner.

    def handed(self, number: int, changes: RowChanges) -> None:
        """A group was handed to the owner's writer. Raises Inconsistent for a gap."""
        if number != self.received + 1:
            raise Inconsistent(f"group {number} came after group {self.received}")
        self.received = number
        if self._window is not None:
            self._window.add(changes)
        self._pending[number] = changes

    def committed(self, number: int) -> None:
        """The group of this number is committed. It contains everything of earlier groups that were not. Raises Inconsistent."""
        if number <= self._committed:
            return
        if number not in self._pending:
            raise Inconsistent(f"group {number} was committed, and never handed over")
        if self._window is None:
            self._gathered.add(self._pending[number])
        self._committed = number
        self._pending = {later: changes for later, changes in self._pending.items() if later > number}

    @property
    def behind(self) -> int:
        """Groups that were handed over and not applied."""
        return self.received - self.applied

    @property
    def held_bytes(self) -> int:
        """The size of the waiting changes, roughly."""
        held = self._gathered.size + sum(changes.size for changes in self._pending.values())
        return held if self._window is None else held + self._window.size

    # The start.

    def begin(self, number: int, rows: LooseRows) -> Callable[[], None]:
        """Take all rows, now that they are read. `number` is the last group of which the reading may have seen anything.

        Call the returned function once, in any thread, while this Twin continues to receive groups; then there is an engine. It raises
        CannotOpen. `begin` itself raises Inconsistent.
        """
        if number != self.received or self._window is None:
            raise Inconsistent(f"group {number} was handed over, and {self.received} is the last that came")
        window, self._window = self._window, None
        # Up to that number, everything is in the window, committed or not.
        self._pending.clear()
        self.applied = self._committed = number
        whole = Overlaid(rows, window)

        def fill() -> None:
            follow.begin(self.engine)
            self.counters = whole.counters()
            self.offset, self.change = load(whole, self.engine, self._clock, self._go_on)
            self.loaded = True

        return fill

    def abandon(self) -> None:
        """Make the thread that fills it stop soon."""
        self._abandoned = True

    def _go_on(self, _done: int, _total: int) -> None:
        if self._abandoned:
            raise CannotOpen("it is not wanted any more")

    # Following.

    def steps(self) -> Iterator[None]:
        """Apply all that is committed, with a pause after a fixed number of jobs. A caller that stops in between continues with another
        call.
        """
        while True:
            if self._applying is None:
                if not self._gathered:
                    return
                changes, self._gathered = self._gathered, RowChanges()
                self._applying = self._apply(changes, self._committed)
            for _ in self._applying:
                yield
            self._applying = None

    def _apply(self, changes: RowChanges, number: int) -> Iterator[None]:
        assert changes.counters is not None
        named = decode_named(((name, row) for name, row in changes.queues.items() if row is not None), self.offset)
        gone = [name for name, row in changes.queues.items() if row is None]
        yield from follow.follow(
            self.engine,
            follow.Changes(
                self._decoded(changes),
                [number for number, state in changes.states.items() if state is None],
                named.queues,
                queues_of(gone),
                decode_counters(changes.counters).next_number,
                named.schedules,
                schedules_of(gone),
                named.logs,
                logs_of(gone),
                named.windows,
                windows_of(gone),
                named.groups,
                named.tallies,
                groups_of(gone),
                named.claims,
                claims_of(gone),
                named.floors,
            ),
        )
        for worker in quiet_of(gone):
            self.engine.quiet.pop(worker, None)
        self.engine.quiet.update(sorted(named.quiet, key=lambda told: told[1]))
        for task_id in tasks_of(gone):
            self.engine.tasks.pop(task_id, None)
        self.engine.tasks.update(in_their_order(named.tasks))
        self.engine.samples.forget(samples_of(gone))
        self.engine.samples.restore(named.samples)
        self.applied, self.counters = number, changes.counters

    def _decoded(self, changes: RowChanges) -> Iterator[Stored]:
        for number, state in changes.states.items():
            if state is None:
                continue
            payload = changes.payloads.get(number)
            if payload is None:
                job = self.engine.jobs.numbered(number)
                if job is None:
                    raise Inconsistent(f"job number {number} has changed, and never came")
                payload = job.payload
            stored = decode_job(number, state, payload)
            if self.offset:
                shifted(stored.job, self.offset)
            self.change = max(self.change, stored.change)
            yield stored

    # Taking over from the owner.

    def ready(self, counters: bytes | None, jobs: int | None) -> str | None:
        """Bring the engine to the state of the store, given the counters' row, and the number of its jobs if that is known. Returns why it
        cannot, or None.

        After this the engine no longer follows another server. Raises Inconsistent, BadRow.
        """
        if not self.loaded:
            return "it had not read all rows yet"
        for _ in self.steps():
            pass
        if counters != self.counters:
            number = next((number for number, changes in self._pending.items() if changes.counters == counters), None)
            if number is None:
                return f"it knows groups up to {self.received}, and the store is at another one"
            self.committed(number)
            for _ in self.steps():
                pass
        if jobs is not None and jobs != len(self.engine.jobs.by_id):
            return f"it has {len(self.engine.jobs.by_id)} jobs and the store {jobs}"
        at = Counters(1, 1, self._clock.skew(), "") if counters is None else decode_counters(counters)
        if abs(offset_of(at, self._clock) - self.offset) > SKEW_STEP_SECONDS:
            return "the clocks were set meanwhile"
        follow.end(self.engine)
        return None
