"""An engine that follows another one's groups is at any point what restoring from the store's rows would give."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from random import Random

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule

from jobqueue.backend.following import RowChanges, Twin
from jobqueue.backend.group import Finished, Group, NotNow
from jobqueue.backend.group_journal import RETRY_SECONDS, GroupJournal
from jobqueue.backend.loading import load
from jobqueue.backend.rows import decode_counters, decode_job
from jobqueue.clock import ManualClock
from jobqueue.engine.engine import Engine
from jobqueue.engine.events import Event
from jobqueue.limits import Limits
from jobqueue.model import JobChange, JobSpec
from tests.conformance.durable import kept
from tests.engine.invariants import invariants
from tests.engine.test_machine import EngineMachine, live_long

from .memory import Rows, Shared

pauses = st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 2))


def changes_of(group: Group) -> RowChanges:
    """A group as it comes over a link."""
    return RowChanges(dict(group.states), dict(group.payloads), dict(group.queue_rows), group.counters)


class HeldWriter:
    """Commits when it is told to."""

    def __init__(self, shared: Shared) -> None:
        self.shared = shared
        self.group: Group | None = None
        self._finished: Finished | None = None

    def write(self, group: Group, finished: Finished) -> None:
        self.group, self._finished = group, finished

    def commit(self, stored: bool, told: bool) -> None:
        """stored: the store has it; told: the owner hears that."""
        group, finished, self.group = self.group, self._finished, None
        assert group is not None
        assert finished is not None
        if stored:
            self.shared.write(group)
        finished(None if told else NotNow("no answer"))

    async def close(self, tidy: bool) -> None:
        """Nothing to close."""


class Owner:
    """An engine with a journal, followed by a twin from when it joins. reading: rows that were read so far, a part of them at a time."""

    def __init__(self, engine: Engine) -> None:
        self.runner = asyncio.Runner()
        self.loop = self.runner.get_loop()
        self.clock = ManualClock()
        self.shared = Shared(self.clock)
        self.writer = HeldWriter(self.shared)
        self.engine = engine
        self.journal = GroupJournal(engine, self.clock, "store", reign="first")
        self.journal.use(self.writer)
        self.journal.feed = self
        self.twin: Twin | None = None
        self.began = 0
        """The group from which on the twin follows."""
        self.reading: tuple[dict[int, bytes], dict[int, bytes], dict[str, bytes]] | None = None

    # A Feed.

    def handed(self, group: Group, number: int) -> None:
        if self.twin is not None:
            self.twin.handed(number, changes_of(group))

    def committed(self, number: int) -> None:
        if self.twin is not None:
            self.twin.committed(number)

    def over(self) -> None:
        """Never comes."""

    def append(self, events: list[Event]) -> None:
        """Have events written, and let what can go on."""

        async def appended() -> None:
            if events:
                self.journal.append(events)
            await asyncio.sleep(0)

        self.loop.run_until_complete(appended())

    def commit(self, stored: bool = True, told: bool = True) -> None:
        async def committed() -> None:
            self.writer.commit(stored, told)
            self.clock.advance(RETRY_SECONDS)

        if self.writer.group is not None:
            self.loop.run_until_complete(committed())

    def join(self, engine: Engine) -> None:
        """Begin to follow; a group that is being written is told first."""
        journal = self.journal
        writing = journal.writing
        self.twin = Twin(engine, self.clock, "first", journal.number - (writing is not None))
        if writing is not None:
            self.twin.handed(journal.number, changes_of(writing))
        self.reading = {}, {}, {}

    def read(self, parts: int = 1, part: int = 0) -> None:
        """Read some of the rows that are there now."""
        assert self.reading is not None
        states, payloads, queues = self.reading
        states.update((number, row) for number, row in self.shared.states.items() if number % parts == part)
        payloads.update((number, row) for number, row in self.shared.payloads.items() if number % parts == (part + 1) % parts)
        queues.update(self.shared.queues)

    def begin(self) -> None:
        """Put what came meanwhile over the rows."""
        assert self.twin is not None
        assert self.reading is not None
        rows, self.reading = LooselyRead(*self.reading, self.shared.counters), None
        self.began = self.journal.number
        self.twin.begin(self.journal.number, rows)()

    @property
    def stored(self) -> int:
        """The number of the last group in the store."""
        return 0 if self.shared.counters is None else decode_counters(self.shared.counters).group

    @property
    def changes(self) -> int:
        """The greatest number of a change in the store."""
        return max((decode_job(number, row, b"").change for number, row in self.shared.states.items()), default=0)

    def restored(self, limits: Limits) -> Engine:
        """What a takeover without a twin gives."""
        engine = Engine(limits)
        load(Rows(self.shared), engine, self.clock)
        return engine

    def close(self) -> None:
        self.runner.close()


class LooselyRead:
    path = "memory"

    def __init__(self, states: dict[int, bytes], payloads: dict[int, bytes], queues: dict[str, bytes], counters: bytes | None) -> None:
        self._states, self._payloads, self._queues, self._counters = states, payloads, queues, counters

    def counters(self) -> bytes | None:
        return self._counters

    def queues(self) -> list[tuple[str, bytes]]:
        return list(self._queues.items())

    def jobs(self) -> Iterator[tuple[int, bytes, bytes | None]]:
        for number, state in sorted(self._states.items()):
            yield number, state, self._payloads.get(number)


class FollowingMachine(EngineMachine):
    """Any sequence of operations, of commits that come and do not come, and of takeovers.

    A twin joins, reads in two parts and begins each so many steps after the last; so none of it hangs on rare choices.
    """

    @initialize(seed=st.integers(0, 3), pauses=pauses)
    def start(self, seed: int, pauses: tuple[int, int, int] = (0, 1, 1)) -> None:
        super().start(seed)
        self.owner = Owner(self.engine)
        self.plan(*pauses)
        take = self.engine.take_events

        def noted() -> list[Event]:
            events = take()
            self.owner.append(events)
            return events

        self.engine.take_events = noted  # type: ignore[method-assign]

    def plan(self, before_joining: int, before_reading: int, before_beginning: int) -> None:
        owner = self.owner
        self.to_come: list[Callable[[], None] | None] = [None] * before_joining + [lambda: owner.join(Engine(self.engine.limits))]
        self.to_come += [None] * before_reading + [lambda: owner.read(2, 1)]
        self.to_come += [None] * before_beginning + [lambda: owner.read(2, 0), owner.begin]

    def teardown(self) -> None:
        if hasattr(self, "owner"):
            self.owner.close()

    @rule(how=st.sampled_from([(True, True), (True, True), (True, True), (True, False), (False, False)]))
    def commit(self, how: tuple[bool, bool]) -> None:
        self.owner.commit(*how)

    @rule(stored=st.booleans(), pauses=pauses)
    def take_over(self, stored: bool, pauses: tuple[int, int, int]) -> None:
        """The owner dies, with the last group in the store or not; here it then goes on, as if nothing had been."""
        owner, twin = self.owner, self.owner.twin
        if twin is None or not twin.loaded:
            return
        if stored:
            owner.commit(True, False)
        refused = twin.ready(owner.shared.counters, len(owner.shared.states))
        if refused is None:
            assert kept(twin.engine) == kept(owner.restored(self.engine.limits))
            assert twin.change >= owner.changes
        else:
            # It began with a group that was handed over and then never committed.
            assert owner.began > owner.stored
        owner.twin = None
        self.plan(*pauses)

    @invariant()
    def as_if_restored(self) -> None:
        self.engine.take_events()
        if self.to_come and (step := self.to_come.pop(0)) is not None:
            step()
        twin = self.owner.twin
        if twin is None or not twin.loaded:
            return
        for _ in twin.steps():
            pass
        if twin.counters == self.owner.shared.counters:
            invariants(twin.engine)
            assert kept(twin.engine) == kept(self.owner.restored(self.engine.limits))


FollowingMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=50, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)


class TestFollowing(FollowingMachine.TestCase):
    """Whatever Hypothesis thinks of."""


@pytest.mark.parametrize("seed", range(6))
def test_after_a_long_life_it_is_as_if_restored(seed: int) -> None:
    """The same in long and blind sequences, where rings, heaps and histories grow old."""
    luck = Random(f"following {seed}")
    machine = FollowingMachine()
    machine.start(seed, (0, 3, 3))
    try:
        for _ in range(500):
            live_long(machine, luck, 1)
            if luck.random() < 0.4:
                machine.commit(luck.choice([(True, True), (True, True), (True, True), (True, False), (False, False)]))
            if luck.random() < 0.02:
                machine.take_over(luck.random() < 0.5, (luck.randrange(4), luck.randrange(4), luck.randrange(4)))
            machine.as_if_restored()
        assert machine.owner.journal.number > 50
    finally:
        machine.teardown()


def test_an_edit_that_changes_nothing_is_followed() -> None:
    """A scheduled job that is edited stands behind the others: in the owner, in what follows it and after a restore."""
    owner = Owner(Engine(Limits()))
    try:
        owner.join(Engine(Limits()))
        owner.read()
        owner.begin()
        assert owner.twin is not None
        engine = owner.engine
        for name in ("a", "b"):
            engine.enqueue(1.0, JobSpec(payload=b"1", id=name, delay=10.0))
        for _ in range(2):
            engine.edit(2.0, "a", JobChange(description="the same"))
            owner.append(engine.take_events())
            owner.commit()
            for _ in owner.twin.steps():
                pass
            for one in (engine, owner.twin.engine, owner.restored(engine.limits)):
                assert [job.id for job in one.queue("default").scheduled.values()] == ["b", "a"]
            engine.edit(3.0, "b", JobChange(description="the same"))
            owner.append(engine.take_events())
            owner.commit()
    finally:
        owner.close()
