"""Every point at which a server can stop while an id is claimed, and what repeats find then.

The scripts of `SCRIPTS` are carried out once as they are, and then again and again, each time with one thing going wrong at one of the
messages: it is lost, its answer is lost, either server dies before or after it, or it arrives late, after any of the messages that follow.
docs/decisions/0044-partitions.md has the table of these points.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Iterator
from typing import Any, NamedTuple

import pytest

from jobqueue.backend.requests.bulk import ForgetJob
from jobqueue.backend.store.claiming import Claiming
from jobqueue.backend.store.sweeping import AGE_SECONDS, REST_SECONDS, Sweeping
from jobqueue.clock import ManualClock
from jobqueue.errors import IdConflict, QueueError, StorageUnavailable, Unconfirmed
from jobqueue.limits import Limits
from jobqueue.model import JobSpec
from jobqueue.partition import Place, home_of, partition_of

from .partitions import LOST, UNANSWERED, FrontDied, Operation, Partition, ways

COUNT = 3
QUEUES = [next(name for name in map("q{}".format, range(100)) if partition_of(name, COUNT) == index) for index in range(COUNT)]
"""A queue of each partition."""

ID = next(name for name in map("x{}".format, range(100)) if home_of(name, COUNT) == 0)
"""Its home is partition 0, so jobs of queue 0 need no claim, and those of queues 1 and 2 do."""

FATES = ("lost", "killed first", "killed uncommitted", "unanswered", "killed after", "front dies first", "front dies after")
"""What can happen to a message, besides being late. killed: the partition that it is sent to."""


class Fault(NamedTuple):
    """step: which message of a script; fate: what happens to it; until: for a late one, the message before which it arrives."""

    step: int
    fate: str
    until: int = 0


class World:
    """Three partitions, and fronts that come and go. steps: messages so far."""

    def __init__(self, fault: Fault | None = None) -> None:
        self.clock = ManualClock()
        self.partitions = [Partition(Place(index, COUNT), Limits(), self.clock) for index in range(COUNT)]
        self.fault = fault
        self.steps = 0
        self.trace: list[str] = []
        self.late: tuple[Partition, Operation] | None = None
        self.ways = ways(self.partitions, self.carry)
        self.sweeping = Sweeping(self.ways, lambda _: True, self.clock)
        self.made: dict[str, int] = {}
        """The number of the job that each queue's enqueue was answered with, until it is forgotten."""

    async def carry(self, partition: Partition, name: str, operation: Operation) -> Any:
        fault, step = self.fault, self.steps
        self.steps += 1
        self.trace.append(f"{name}@{partition.place.index}")
        if fault is not None and self.late is not None and step == fault.until:
            await self.deliver()
        fate = fault.fate if fault is not None and fault.step == step else "well"
        if fate == "lost":
            raise LOST
        if fate == "front dies first":
            raise FrontDied
        if fate == "late":
            self.late = partition, operation
            raise UNANSWERED
        if fate == "killed first":
            partition.restart()
        elif fate == "killed uncommitted":
            partition.disk.stand_still()
            await _begun(operation())
            partition.restart()
            raise UNANSWERED
        try:
            return await partition.carry_out(operation)
        finally:
            self.one_job()
            if fate == "killed after":
                partition.restart()
            if fate == "front dies after":
                raise FrontDied
            if fate == "unanswered":
                raise UNANSWERED

    async def deliver(self) -> None:
        """The late message arrives. Nobody waits for its answer."""
        late, self.late = self.late, None
        if late is not None:
            with contextlib.suppress(QueueError):
                await late[0].carry_out(late[1])
            self.one_job()

    def having(self) -> list[Partition]:
        """The partitions that have a job of the id."""
        return [partition for partition in self.partitions if partition.job(ID) is not None]

    def one_job(self) -> None:
        assert len(self.having()) <= 1, f"two jobs have the id: {self.trace}"

    async def do(self, what: str, index: int) -> None:
        """Carry out one line of a script; whoever asked is told of errors, or nothing."""
        try:
            if what == "enqueue":
                reply = await Claiming(self.ways, Limits(), _no_pause).enqueue(spec(index))
                assert self.made.setdefault(QUEUES[index], reply.job.number) == reply.job.number
            elif what == "batch":
                items = [spec(index), JobSpec(payload=b"1", queue=QUEUES[index]), spec((index + 1) % COUNT)]
                replies = await Claiming(self.ways, Limits(), _no_pause).enqueue_batch(items)
                assert len(replies) == len(items)
            elif what == "forget":
                await self.forget()
            else:
                self.clock.advance(max(AGE_SECONDS, REST_SECONDS) + 1)
                await self.sweeping.turn()
        except (IdConflict, StorageUnavailable, Unconfirmed, FrontDied):
            pass
        self.one_job()

    async def forget(self) -> None:
        """The job ends, and history forgets it."""
        self.made.clear()
        for partition in self.having():
            await partition.local.cancel(ID)
            await partition.local.ask(ForgetJob(id=ID))

    async def settle(self) -> None:
        """When nothing goes wrong any more: every repeat is answered for good, by the one job that there is."""
        await self.deliver()
        for partition in self.partitions:
            # What is stored fits together, or this raises.
            partition.restart()
        before = self.having()
        claiming = Claiming(self.ways, Limits(), _no_pause)
        for index in (1, 2, 0):
            try:
                reply = await claiming.enqueue(spec(index))
            except IdConflict:
                assert self.having() != [self.partitions[index]]
            else:
                assert self.having() == [self.partitions[index]]
                assert reply.created == (before == [])
                assert self.made.get(QUEUES[index], reply.job.number) == reply.job.number
            before = self.having()
            assert len(before) == 1, "the id is refused, and no job has it"
        self.clock.advance(REST_SECONDS + 1)
        await self.sweeping.turn()
        assert self.having() == before


def spec(index: int) -> JobSpec:
    return JobSpec(payload=b"1", id=ID, queue=QUEUES[index])


async def _no_pause(_seconds: float) -> None: ...


async def _begun(work: Awaitable[Any]) -> None:
    """Run something until it waits for the disk, and leave it."""
    with contextlib.suppress(QueueError):
        next(work.__await__(), None)


Script = tuple[tuple[str, int], ...]

SCRIPTS: dict[str, Script] = {
    "claimed": (("enqueue", 1), ("enqueue", 1)),
    "another queue": (("enqueue", 1), ("enqueue", 2), ("enqueue", 1)),
    "the home's queue": (("enqueue", 1), ("enqueue", 0), ("enqueue", 1)),
    "the home first": (("enqueue", 0), ("enqueue", 1), ("enqueue", 0)),
    "forgotten": (("enqueue", 1), ("forget", 0), ("enqueue", 1), ("enqueue", 2)),
    "forgotten, another queue": (("enqueue", 1), ("forget", 0), ("enqueue", 2), ("enqueue", 1)),
    "forgotten, the home's queue": (("enqueue", 1), ("forget", 0), ("enqueue", 0), ("enqueue", 1)),
    "forgotten, swept": (("enqueue", 1), ("forget", 0), ("sweep", 0), ("sweep", 0), ("enqueue", 2), ("enqueue", 1)),
    "swept while it is there": (("enqueue", 1), ("sweep", 0), ("sweep", 0), ("enqueue", 1), ("forget", 0), ("enqueue", 2)),
    "batches": (("batch", 1), ("batch", 2), ("batch", 0)),
    "back and forth": (("enqueue", 1), ("forget", 0), ("enqueue", 2), ("forget", 0), ("enqueue", 1), ("forget", 0), ("enqueue", 0)),
}


async def run(script: Script, fault: Fault | None = None) -> World:
    world = World(fault)
    try:
        for what, index in script:
            await world.do(what, index)
        world.fault = None
        await world.settle()
    except AssertionError as error:
        raise AssertionError(f"{error}; {fault} in {world.trace}") from error
    return world


def faults(steps: int) -> Iterator[Fault]:
    """Everything that can go wrong at one message of a script that sends so many."""
    for step in range(steps):
        for fate in FATES:
            yield Fault(step, fate)
        for until in range(step + 1, steps + 1):
            yield Fault(step, "late", until)


@pytest.mark.parametrize("name", SCRIPTS)
async def test_whatever_goes_wrong_at_any_message_one_job_has_the_id(name: str) -> None:
    """After each fault, no two jobs ever have the id, repeats return the job that has it, and without one it can be used."""
    script = SCRIPTS[name]
    steps = (await run(script)).steps
    assert steps > len(script)
    for fault in faults(steps):
        await run(script, fault)


async def test_without_faults_the_messages_are_few() -> None:
    """One claim and one enqueue; for an id whose home is the queue's partition, or without an id, the enqueue alone."""
    world = World()
    claiming = Claiming(world.ways, Limits(), _no_pause)
    await claiming.enqueue(spec(1))
    await claiming.enqueue(JobSpec(payload=b"1", queue=QUEUES[2]))
    await claiming.enqueue(JobSpec(payload=b"1", id=ID + "!", queue=QUEUES[home_of(ID + "!", COUNT)]))
    assert world.trace == ["ClaimIds@0", "Enqueue@1", "Enqueue@2", f"Enqueue@{home_of(ID + '!', COUNT)}"]
