"""What becomes of keys, limits and walks over them when a server ends and another goes on from its file; and a herd at one slot."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from jobqueue.backend.waiters import Waiter
from jobqueue.engine.flow import FlowQueue
from jobqueue.engine.walks import SLICE
from jobqueue.limits import Limits
from jobqueue.model import Job, Outcome, Verdict, Want
from jobqueue.policy import PerKey, PolicyChange, QueuePolicy, Rate
from tests.backend.restarting import started_anew
from tests.conformance.durable import DurableRig
from tests.conformance.rig import FAILED_FOR_GOOD, SUCCEEDED, LocalRig, spec, token

WAITERS = 10_000


@pytest.fixture
async def rig() -> AsyncIterator[DurableRig]:
    """A server on a file."""
    made = await DurableRig(Limits()).opened()
    yield made
    await made.close()


async def restart(rig: DurableRig) -> FlowQueue:
    """End the server, start another on its file; its default queue."""
    await started_anew(rig)
    queue = rig.local.engine.queues["default"]
    assert isinstance(queue, FlowQueue)
    return queue


async def ids(rig: DurableRig, limit: int = 10) -> list[str]:
    """What a dequeue takes that does not wait."""
    return [job.id for job in await rig.take_all(limit=limit)]


async def test_a_rate_begins_empty(rig: DurableRig) -> None:
    """However long the bucket had been full, the new server hands out nothing before one interval has passed, then one each."""
    await rig.backend.put_policy("default", QueuePolicy(rate=Rate(1, 10, 1), per_key=PerKey(rate=Rate(2, 10, 2))))
    await rig.backend.enqueue_batch([spec(f"j{n}", key="k") for n in range(5)])
    await rig.advance(100)
    await restart(rig)
    line = [await rig.stand(wait=1000) for _ in range(3)]
    await rig.advance(9)
    assert not any(waiter.answered for waiter in line)
    await rig.advance(1)
    assert [waiter.answered for waiter in line] == [True, False, False]
    await rig.advance(10)
    assert [waiter.ids for waiter in line] == [["j0"], ["j1"], []]


async def test_a_key_that_comes_after_the_restart_begins_empty_too(rig: DurableRig) -> None:
    """Nobody knows whether its bucket had been used; a full one is known again after the time that it takes to fill."""
    await rig.backend.put_policy("default", QueuePolicy(per_key=PerKey(rate=Rate(1, 10))))
    await rig.put("a", key="a")
    assert await ids(rig) == ["a"]
    await rig.backend.conclude("a", token(await rig.backend.job("a")), SUCCEEDED)
    await restart(rig)
    await rig.put("a2", key="a")
    assert await ids(rig) == []
    await rig.advance(10)
    await rig.put("b", key="b")
    assert await ids(rig) == ["a2", "b"]


async def test_keys_are_held_by_what_held_them(rig: DurableRig) -> None:
    """What is in progress, between two attempts, halted and paused holds on, each known by its holder; slots are counted anew."""
    await rig.backend.put_policy("default", QueuePolicy(concurrency=3, per_key=PerKey(order="halt")))
    for key in ("running", "away", "halted", "paused", "free"):
        await rig.put_all(f"{key}1", f"{key}2", key=key)
    jobs = {}
    for _ in range(3):
        job = await rig.take(lease_seconds=1000)
        jobs[job.id] = job
    assert list(jobs) == ["running1", "away1", "halted1"]
    await rig.backend.conclude("away1", token(jobs["away1"]), Verdict(outcome=Outcome.FAILED, retry_delay=50))
    await rig.backend.conclude("halted1", token(jobs["halted1"]), FAILED_FOR_GOOD)
    await rig.backend.set_key_paused("default", "paused", True)
    before, _ = await rig.backend.keys("default", "", 10)
    queue = await restart(rig)
    assert (await rig.backend.keys("default", "", 10))[0] == before
    assert {stats.key: (stats.block, stats.holder) for stats in before} == {
        "running": ("order", "running1"),
        "away": ("order", "away1"),
        "halted": ("halted", "halted1"),
        "paused": ("paused", None),
        "free": (None, None),
    }
    assert queue.in_progress == 1
    assert await ids(rig) == ["free1", "free2"]
    assert (await rig.backend.queue("default")).held_by == {"concurrency": 5}
    await rig.backend.conclude("running1", token(jobs["running1"]), SUCCEEDED)
    assert await ids(rig, 1) == ["running2"]


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
async def test_a_walk_that_was_under_way_is_done_anew(rig: DurableRig, turns: int) -> None:
    """A server that ends while it sorts its jobs by key leaves nothing half done: the next one has sorted all, and keeps their order."""
    await rig.backend.enqueue_batch([spec(f"j{n}", key=f"k{n % 2}") for n in range(1_000)])
    await rig.backend.enqueue_batch([spec(f"i{n}", key=f"k{n % 2}") for n in range(1_000)])
    taken = await rig.take_all(limit=1)
    queue = await rig.local.put_policy("default", QueuePolicy(per_key=PerKey(order="fifo")))
    assert queue.queued == 1_999 > 3 * SLICE
    for _ in range(turns):
        rig.local.engine.tick(rig.clock.now(), SLICE)
    assert rig.local.engine.queues["default"].moving  # type: ignore[attr-defined]
    assert await ids(rig) == []
    after = await restart(rig)
    assert not after.moving
    assert await ids(rig, 1) == ["j1"]
    assert await ids(rig) == []
    await rig.backend.conclude("j0", token(taken[0]), SUCCEEDED)
    assert await ids(rig, 2) == ["j2", "j4"]


async def test_a_walk_away_from_keys_is_done_anew(rig: DurableRig) -> None:
    """What halted a key under a policy that is gone halts nothing, though the server ended before it had said so of each job."""
    await rig.backend.put_policy("default", QueuePolicy(concurrency=9, per_key=PerKey(order="halt")))
    await rig.put_all("a1", "a2", key="a")
    await rig.backend.conclude("a1", token(await rig.take()), FAILED_FOR_GOOD)
    rig.local.engine.change_policy("default", PolicyChange(per_key=None))
    await rig.local.commit(rig.clock.now())
    queue = await restart(rig)
    assert not queue.keyed
    assert not rig.local.engine.pinned
    assert await ids(rig) == ["a2"]
    assert (await rig.backend.job("a1")).outcome is Outcome.FAILED


async def test_ten_thousand_wait_for_one_slot() -> None:
    """Each end of the one lease wakes exactly one of all who wait, the oldest, and hands out exactly one job."""
    rig = LocalRig(Limits())
    local = rig.backend
    await local.put_policy("default", QueuePolicy(concurrency=1))
    await rig.idle()
    line: list[Waiter[list[Job]]] = [local.stand(Want(), 50) for _ in range(WAITERS)]  # type: ignore[attr-defined]
    await local.enqueue_batch([spec(f"j{n}") for n in range(1_000)])
    for served in range(20):
        (job,) = line[served].answer or [None]
        assert job is not None
        assert job.id == f"j{served}"
        assert sum(waiter.answer is not None for waiter in line) == served + 1
        assert (await local.queue("default")).in_progress == 1
        await local.conclude(job.id, token(job), SUCCEEDED)
    assert (await local.stats()).waiters == WAITERS - 21
    await rig.close()
