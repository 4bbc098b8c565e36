"""Shares of the server's bounds move to the partitions that need them, and never add up to more."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from jobqueue.backend.local import LocalBackend
from jobqueue.backend.requests.shares import GetShare, SetShare
from jobqueue.backend.store.sharing import Lending, Sharing, divided, due
from jobqueue.clock import ManualClock
from jobqueue.engine.engine import Engine
from jobqueue.engine.shares import Share, base
from jobqueue.errors import QueueFull, StorageUnavailable
from jobqueue.limits import Limits
from jobqueue.model import JobSpec, Outcome, Verdict, Want
from jobqueue.partition import Place, partition_of

COUNT = 3
LIMITS = Limits(jobs_max=120)
QUEUES = {partition_of(f"q{number}", COUNT): f"q{number}" for number in range(100)}
"""A queue in each partition."""


class Away:
    """A partition that can be out of reach."""

    def __init__(self, local: LocalBackend) -> None:
        self.local = local
        self.away = False
        self.late: list[Any] = []
        self.deaf = False

    async def ask(self, request: Any) -> Any:
        if self.away:
            raise StorageUnavailable("away")
        if self.deaf and isinstance(request, SetShare):
            # It arrives, but much later.
            self.late.append(request)
            raise StorageUnavailable("no answer")
        return await self.local.ask(request)


def locals_of(limits: Limits = LIMITS) -> list[LocalBackend]:
    clock = ManualClock()
    return [LocalBackend(engine=Engine(limits, place=Place(index, COUNT)), clock=clock) for index in range(COUNT)]


def shares(parts: list[LocalBackend]) -> list[int]:
    return [part.engine.share.jobs for part in parts]


async def fill(part: LocalBackend, index: int, most: int = 10_000) -> int:
    """Enqueue until there is no room."""
    for count in range(most):
        try:
            await part.enqueue(JobSpec(payload=b"1", queue=QUEUES[index]))
        except QueueFull:
            return count
    return most


async def test_a_partition_begins_with_its_base() -> None:
    """A quarter of the bounds, divided equally: nobody can have lent it."""
    parts = locals_of()
    assert shares(parts) == [10, 10, 10]
    assert await fill(parts[0], 0) == 10


async def test_what_nobody_uses_goes_where_it_is_needed() -> None:
    """In a turn or two one partition gets all but the others' base; and when it is idle again, another one does."""
    parts = locals_of()
    sharing = Sharing(parts, LIMITS)
    await sharing.turn()
    assert shares(parts) == [40, 40, 40]
    assert await fill(parts[1], 1) == 40
    await sharing.turn()
    assert shares(parts) == [10, 100, 10]
    assert await fill(parts[1], 1) == 60
    # Its jobs end, and another partition is full.
    for _ in range(100):
        taking = parts[1].dequeue(Want(queues=(QUEUES[1],)), 0)
        async with taking as (job,):
            taking.delivered()
        assert job.lease is not None
        await parts[1].conclude(job.id, job.lease.token, Verdict(outcome=Outcome.SUCCEEDED))
    await fill(parts[2], 2)
    await sharing.turn()
    assert shares(parts) == [10, 10, 100]


async def test_what_is_used_stays() -> None:
    """A share is never less than what the partition holds, whatever it is told."""
    (part, *_) = locals_of()
    await fill(part, 0)
    held = await part.ask(SetShare(turn=(1, 1), share=Share(1, 1)))
    assert (held.share.jobs, held.used.jobs) == (10, 10)
    assert held.share.bytes == held.used.bytes


async def test_an_older_turn_has_no_effect() -> None:
    """What a deposed owner, or an earlier turn, has sent can arrive late."""
    (part, *_) = locals_of()
    await part.ask(GetShare(turn=(2, 1)))
    assert (await part.ask(SetShare(turn=(1, 9), share=Share(99, 99_999)))).share.jobs == 10
    assert (await part.ask(SetShare(turn=(2, 1), share=Share(99, 99_999)))).share.jobs == 99


async def test_one_that_cannot_be_asked_keeps_what_it_has() -> None:
    """Before it is known what it has, nobody gets more; afterwards the others share the rest."""
    parts = locals_of()
    fronts = [Away(part) for part in parts]
    sharing = Sharing(fronts, LIMITS)  # type: ignore[arg-type]
    fronts[0].away = True
    await sharing.turn()
    assert shares(parts) == [10, 10, 10]
    fronts[0].away = False
    await sharing.turn()
    fronts[0].away = True
    await fill(parts[1], 1)
    await sharing.turn()
    assert shares(parts) == [40, 70, 10]


async def test_a_share_that_may_have_arrived_counts() -> None:
    """If it is not known whether a partition got more, nobody else gets that room."""
    parts = locals_of()
    fronts = [Away(part) for part in parts]
    sharing = Sharing(fronts, LIMITS)  # type: ignore[arg-type]
    await sharing.turn()
    await fill(parts[1], 1)
    fronts[1].deaf = True
    await sharing.turn()
    assert shares(parts) == [10, 40, 10]
    fronts[1].away = True
    await fill(parts[2], 2)
    await sharing.turn()
    assert shares(parts) == [10, 40, 10]
    for request in fronts[1].late:
        await parts[1].ask(request)
    assert sum(shares(parts)) <= LIMITS.jobs_max


@given(st.lists(st.tuples(st.integers(0, 1_000), st.integers(0, 1_000)), min_size=2, max_size=8), st.integers(0, 10_000))
def test_a_division_gives_out_what_there_is(parts: list[tuple[int, int]], more: int) -> None:
    """Nobody gets less than it uses or than the base, and together they get no more than all, if what they had was no more."""
    least = 50
    used = [use for use, _ in parts]
    had = [max(least, use + free) for use, free in parts]
    total = sum(had) + more
    new = divided(total, least, had, used)
    assert sum(new) <= total
    assert all(share >= max(least, use) for share, use in zip(new, used, strict=True))
    if all(use < 0.9 * share for share, use in zip(had, used, strict=True)):
        assert due(total, had, used) is (sum(had) < 0.99 * total)


@given(st.data())
def test_shares_never_add_up_to_more_than_the_bound(data: st.DataObject) -> None:
    """Whatever is used, out of reach, answered late or begun anew, in whatever order."""

    async def run() -> None:
        parts = locals_of()
        fronts = [Away(part) for part in parts]
        epoch = 1
        sharing = Sharing(fronts, LIMITS, epoch)  # type: ignore[arg-type]
        for _ in range(data.draw(st.integers(1, 12))):
            index = data.draw(st.integers(0, COUNT - 1))
            match data.draw(st.sampled_from(["fill", "purge", "away", "deaf", "late", "driver", "owner", "turn", "turn"])):
                case "fill":
                    await fill(parts[index], index, data.draw(st.integers(1, 120)))
                case "purge" if QUEUES[index] in parts[index].engine.queues:
                    await parts[index].purge(QUEUES[index])
                case "away":
                    fronts[index].away = not fronts[index].away
                case "deaf":
                    fronts[index].deaf = not fronts[index].deaf
                case "late":
                    late, fronts[index].late = fronts[index].late, []
                    for request in late:
                        await parts[index].ask(request)
                case "driver":
                    epoch += 1
                    sharing = Sharing(fronts, LIMITS, epoch)  # type: ignore[arg-type]
                case "owner":
                    # A new owner has the same jobs, and the base of its share.
                    parts[index].engine.share_turn = (0, 0)
                    fronts[index].late.clear()
                    await parts[index].ask(SetShare(turn=(0, 0), share=base(LIMITS, COUNT)))
                case _:
                    await sharing.turn()
            assert sum(shares(parts)) <= LIMITS.jobs_max
            assert sum(part.engine.live for part in parts) <= LIMITS.jobs_max
        for part in parts:
            await part.close()

    asyncio.run(run())


def test_small_bounds_have_no_base() -> None:
    """Then a partition waits for its share."""
    assert base(Limits(jobs_max=5), COUNT).jobs == 0
    assert base(Limits(jobs_max=5), 1) == (5, Limits().payload_total_bytes_max)


async def test_the_owner_of_the_first_partition_moves_shares_each_second() -> None:
    """Nobody else does; a new epoch of ownership goes on from what the partitions have."""
    parts = locals_of()
    clock = ManualClock()
    epoch: int | None = None
    lending = Lending(parts, LIMITS, lambda: epoch, clock)
    running = asyncio.create_task(lending.run())

    async def second() -> None:
        for _ in range(10):
            await asyncio.sleep(0)
        clock.advance(1)
        for _ in range(30):
            await asyncio.sleep(0)

    await second()
    assert shares(parts) == [10, 10, 10]
    epoch = 1
    await second()
    assert shares(parts) == [40, 40, 40]
    await fill(parts[0], 0)
    await second()
    assert shares(parts) == [100, 10, 10]
    epoch = 2
    await second()
    assert (shares(parts), parts[2].engine.share_turn[0]) == ([100, 10, 10], 2)
    running.cancel()
