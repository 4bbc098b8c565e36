"""What one turn of the loop has to write down when a slow commit is done."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from jobqueue.backend import group_journal
from jobqueue.backend.group import Finished, Group, NotNow
from jobqueue.backend.group_journal import GroupJournal
from jobqueue.backend.things import decode_named
from jobqueue.clock import ManualClock
from jobqueue.engine.engine import Engine
from jobqueue.limits import Limits
from jobqueue.model import JobSpec
from jobqueue.schedule import Schedule

SCHEDULES = 120


class SlowWriter:
    """A disk that is done with a group when the test says so."""

    def __init__(self) -> None:
        self.groups: list[Group] = []
        self._finished: list[Finished] = []

    def write(self, group: Group, finished: Finished) -> None:
        self.groups.append(group)
        self._finished.append(finished)

    def done(self, error: Exception | None = None) -> None:
        self._finished.pop(0)(error)

    async def close(self, tidy: bool) -> None:
        return


class Disk:
    """A journal on a slow disk, and how many rows of things each call of it made."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = ManualClock()
        self.engine = Engine(Limits())
        self.writer = SlowWriter()
        self.journal = GroupJournal(self.engine, self.clock, "always")
        self.journal.use(self.writer)
        self.made: list[str] = []
        encode = group_journal.encode_named

        def counted(engine: Engine, name: str, offset: float = 0.0) -> bytes | None:
            self.made.append(name)
            return encode(engine, name, offset)

        monkeypatch.setattr(group_journal, "encode_named", counted)

    def append(self) -> list[str]:
        """Store what the engine did last; the names of the rows that were made for it."""
        self.made.clear()
        self.journal.append(self.engine.take_events())
        return [name for name in self.made if "/" in name]

    def done(self, error: Exception | None = None) -> list[str]:
        """The disk is done with a group; the names of the rows that were made for the next one."""
        self.made.clear()
        self.writer.done(error)
        return [name for name in self.made if "/" in name]


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def put(disk: Disk, names: Sequence[str], every: float) -> None:
    for name in names:
        schedule = Schedule(job=JobSpec(payload=b"1", queue="q"), every=every)
        disk.engine.schedules.see(disk.clock.now(), 0.0)
        disk.engine.schedules.put(name, schedule)


async def test_schedules_that_came_due_during_a_commit_are_written_down_as_they_do(disk: Disk) -> None:
    """Not all in the turn in which the commit is done; and the rows are those of the last change."""
    names = [f"s{at}" for at in range(SCHEDULES)]
    put(disk, names, 60.0)
    disk.append()
    disk.journal._kick()
    due = 0
    for _ in range(2):
        disk.clock.advance(60.0)
        while disk.engine.deadlines.earliest <= disk.clock.now():
            disk.engine.tick(disk.clock.now(), 20)
            made = disk.append()
            assert len(made) <= 20
            due += len(made)
    assert due >= 2 * SCHEDULES
    assert disk.done() == []
    rows = disk.writer.groups[-1].queue_rows
    named = decode_named((name, row) for name, row in rows.items() if row is not None)
    assert {stored.name: stored for stored in named.schedules} == {
        table.name: table.stored for table in disk.engine.schedules.tables.values()
    }
    disk.done()


async def test_a_commit_that_failed_makes_no_row_twice_that_did_not_change(disk: Disk) -> None:
    """When it is tried again it has the rows that it had, and those of later changes in their place."""
    put(disk, ["a", "b"], 60.0)
    disk.append()
    disk.journal._kick()
    put(disk, ["b"], 90.0)
    disk.append()
    assert disk.done(NotNow("no room")) == []
    disk.made.clear()
    disk.clock.advance(group_journal.RETRY_SECONDS)
    assert [name for name in disk.made if "/" in name] == []
    rows = disk.writer.groups[-1].queue_rows
    named = decode_named((name, row) for name, row in rows.items() if row is not None)
    assert {stored.name: stored.schedule.every for stored in named.schedules} == {"a": 60.0, "b": 90.0}
    disk.done()
