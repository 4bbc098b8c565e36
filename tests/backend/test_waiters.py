"""One Condition per waiter: settling, cancelling, and both in one turn of the loop; the registry's order and cost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ClassVar

import pytest

from jobqueue.backend.waiters import Registry, Waiter, check_room
from jobqueue.errors import TooManyWaiters

Line = Registry[list[int]]


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def standing(line: Line, *keys: str, until: float = 60.0) -> Waiter[list[int]]:
    waiter: Waiter[list[int]] = Waiter(keys or ("q",))
    line.add(waiter, until)
    return waiter


async def test_a_waiter_settled_before_it_waits_does_not_sleep() -> None:
    """An answer given between taking a place and waiting is returned without a turn of the loop."""
    line: Line = Registry([])
    waiter = standing(line)
    line.settle(waiter, [1])
    waiting = waiter.wait()
    with pytest.raises(StopIteration) as done:
        waiting.send(None)
    assert done.value.value == [1]


async def test_a_waiter_settled_while_its_task_has_not_started_is_answered() -> None:
    """A task that is to wait but has not run yet finds its answer."""
    line: Line = Registry([])
    waiter = standing(line)
    task = asyncio.create_task(waiter.wait())
    line.settle(waiter, [1])
    assert await task == [1]


async def test_a_waiter_settled_while_it_waits_is_woken() -> None:
    """Settling wakes the one task that waits, and no other."""
    line: Line = Registry([])
    waiters = [standing(line) for _ in range(100)]
    tasks = [asyncio.create_task(waiter.wait()) for waiter in waiters]
    await turns()
    line.settle(waiters[37], [1])
    await turns()
    assert [n for n, task in enumerate(tasks) if task.done()] == [37]
    assert tasks[37].result() == [1]
    line.settle_all()
    await asyncio.gather(*tasks)


@pytest.mark.parametrize("order", ["cancel first", "settle first"])
async def test_a_cancel_in_the_turn_of_the_answer_leaves_it_to_be_undone(order: str) -> None:
    """Whichever comes first in the turn, the task is cancelled, the answer is still at the waiter, and the line is empty."""
    line: Line = Registry([])
    waiter = standing(line)
    task = asyncio.create_task(waiter.wait())
    await turns()
    calls: list[Callable[[], object]] = [task.cancel, lambda: line.settle(waiter, [1])]
    for call in calls if order == "cancel first" else reversed(calls):
        asyncio.get_running_loop().call_soon(call)
    await turns()
    assert task.cancelled()
    assert waiter.answer == [1]
    assert (len(line), line.count("q"), line.keys()) == (0, 0, [])


async def test_a_cancel_before_the_task_started_to_wait_ends_it() -> None:
    """A task cancelled before its first step never waits; the answer given in that turn is at the waiter."""
    line: Line = Registry([])
    waiter = standing(line)
    task = asyncio.create_task(waiter.wait())
    task.cancel()
    line.settle(waiter, [1])
    await turns()
    assert task.cancelled()
    assert waiter.answer == [1]


async def test_a_waiter_woken_for_nothing_waits_on() -> None:
    """Only an answer ends the wait, not a notification of the Condition by itself."""
    waiter: Waiter[list[int]] = Waiter(("q",))
    task = asyncio.create_task(waiter.wait())
    await turns()
    async with waiter._condition:
        waiter._condition.notify_all()
    await turns()
    assert not task.done()
    waiter.settle([1])
    assert await task == [1]


async def test_a_waiter_is_settled_once() -> None:
    """A second answer is a bug in the caller and is refused; the first one stands."""
    line: Line = Registry([])
    waiter = standing(line)
    line.settle(waiter, [1])
    with pytest.raises(AssertionError):
        line.settle(waiter, [2])
    assert await waiter.wait() == [1]


async def test_ten_thousand_waiters_are_woken_in_the_order_of_settling() -> None:
    """A herd that is answered in one turn runs in the order in which it was answered, nobody twice."""
    line: Line = Registry([])
    woken: list[int] = []

    async def wait(n: int, waiter: Waiter[list[int]]) -> None:
        assert await waiter.wait() == [n]
        woken.append(n)

    waiters = [standing(line) for _ in range(10_000)]
    tasks = [asyncio.create_task(wait(n, waiter)) for n, waiter in enumerate(waiters)]
    await turns()
    for n in range(10_000):
        oldest = line.oldest("q")
        assert oldest is waiters[n]
        line.settle(oldest, [n])
    await asyncio.gather(*tasks)
    assert woken == list(range(10_000))
    assert len(line) == 0


async def test_ten_thousand_waiters_that_vanish_leave_nothing() -> None:
    """Waiters cancelled together, each leaving the line, leave the registry empty and its heap no longer than its bound."""
    line: Line = Registry([])

    async def wait(n: int) -> None:
        waiter = standing(line, "a", f"own-{n}", until=float(n))
        try:
            await waiter.wait()
        finally:
            line.remove(waiter)

    tasks = [asyncio.create_task(wait(n)) for n in range(10_000)]
    await turns()
    assert (len(line), line.count("a")) == (10_000, 10_000)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (len(line), line.keys()) == (0, [])
    assert line.deadlines.entries <= 64


async def test_lines_keep_the_order_of_arrival_under_every_key() -> None:
    """A waiter stands in each of its lines behind those that came before it, and leaves all of them when it is settled."""
    line: Line = Registry([])
    both, only_b, only_a = standing(line, "a", "b"), standing(line, "b"), standing(line, "a")
    assert (line.oldest("a"), line.oldest("b"), line.oldest("c")) == (both, both, None)
    line.settle(both, [1])
    assert (line.oldest("a"), line.oldest("b")) == (only_a, only_b)
    assert (line.count("a"), line.count("b"), line.count("c"), len(line)) == (1, 1, 0, 2)


async def test_a_key_named_twice_is_one_place() -> None:
    """A waiter that names a queue twice stands in its line once."""
    line: Line = Registry([])
    waiter = standing(line, "a", "a")
    assert (line.count("a"), len(line)) == (1, 1)
    line.remove(waiter)
    assert line.keys() == []


async def test_removing_twice_is_harmless() -> None:
    """Leaving a line one has left, or never stood in, changes nothing."""
    line: Line = Registry([])
    waiter, other = standing(line), standing(line)
    line.remove(waiter)
    line.remove(waiter)
    line.remove(Waiter(("q", "never")))
    assert (len(line), line.oldest("q")) == (1, other)


async def test_waits_end_in_the_order_of_their_ends_and_no_more_than_told() -> None:
    """expire answers those whose time has passed with the empty answer, earliest first, at most its limit."""
    line: Line = Registry([])
    late, early, middle, never = (standing(line, until=until) for until in (30.0, 10.0, 20.0, 99.0))
    assert line.expire(30.0, 2) == 2
    assert [waiter.answer for waiter in (early, middle, late, never)] == [[], [], None, None]
    assert line.expire(30.0, 2) == 1
    assert line.expire(30.0, 2) == 0
    assert (late.answer, never.answer, len(line)) == ([], None, 1)


async def test_everyone_is_settled_oldest_first_and_once() -> None:
    """settle_all answers each waiter once, however many lines it stands in, the oldest of a line first."""
    line: Line = Registry([])
    waiters = [standing(line, "a", "b"), standing(line, "a"), standing(line, "b")]
    woken: list[int] = []

    async def wait(n: int) -> None:
        assert await waiters[n].wait() == []
        woken.append(n)

    tasks = [asyncio.create_task(wait(n)) for n in (2, 1, 0)]
    await turns()
    line.settle_all()
    await asyncio.gather(*tasks)
    assert woken.index(0) < woken.index(1)
    assert sorted(woken) == [0, 1, 2]
    assert (len(line), line.keys()) == (0, [])


class CountedWaiter(Waiter[list[int]]):
    """Counts how often a container looks at a waiter."""

    looks: ClassVar[int] = 0

    def __hash__(self) -> int:
        CountedWaiter.looks += 1
        return id(self)

    def __eq__(self, other: object) -> bool:
        CountedWaiter.looks += 1
        return self is other


@pytest.mark.parametrize("place", ["front", "middle", "back"])
async def test_leaving_costs_the_same_in_a_long_line(place: str) -> None:
    """To take one waiter out, a registry looks at as many waiters among ten thousand as among ten."""
    costs = []
    for count in (10, 10_000):
        line: Line = Registry([])
        waiters = [CountedWaiter(("q",)) for _ in range(count)]
        for waiter in waiters:
            line.add(waiter, 60.0)
        CountedWaiter.looks = 0
        line.remove(waiters[{"front": 0, "middle": count // 2, "back": -1}[place]])
        costs.append(CountedWaiter.looks)
        assert line.count("q") == count - 1
    assert costs[0] == costs[1] > 0


def test_there_is_room_up_to_the_bound() -> None:
    """As many as the bound may stand; the next is refused."""
    check_room(9, 10)
    with pytest.raises(TooManyWaiters):
        check_room(10, 10)
