"""What holds jobs back, shown: the keys of a queue by what they hold up, and what a job waits for."""

from __future__ import annotations

import pytest

from jobqueue.errors import BadRequest, UnknownQueue
from jobqueue.model import JobFilter
from jobqueue.policy import PerKey, QueuePolicy, Rate
from jobqueue.reason import Reason

from .rig import Rig, raised, token


async def limited(rig: Rig, **fields: object) -> None:
    """Give the default queue a policy."""
    await rig.backend.put_policy("default", QueuePolicy(**fields))  # type: ignore[arg-type]
    await rig.idle()


# The listing of keys.


async def test_keys_are_listed_by_what_they_hold_up(rig: Rig) -> None:
    """The key that holds most back comes first, then those with most queued; pages join without a gap or a repeat."""
    await limited(rig, per_key=PerKey(order="fifo"))
    for name, count in {"small": 2, "big": 4, "middle": 3}.items():
        await rig.put_all(*(f"{name}{n}" for n in range(count)), key=name)
    await rig.put("later", key="idle", delay=10)
    assert [(await rig.take()).key for _ in range(3)] == ["small", "big", "middle"]
    await rig.put_all("free1", "free2", key="free")
    found, cursor = [], ""
    while True:
        page, after = await rig.backend.keys("default", cursor, 2)
        assert len(page) <= 2
        found += page
        if after is None:
            break
        cursor = after
    assert [stats.key for stats in found] == ["big", "middle", "small", "free", "idle"]
    big, *_, free, idle = found
    assert (big.queued, big.in_progress, big.block, big.holder) == (3, 1, "order", "big0")
    assert (free.queued, free.block, free.holder) == (2, None, None)
    assert (idle.queued, idle.scheduled, idle.in_progress) == (0, 1, 0)
    assert (await rig.backend.queue("default")).keys == 5


async def test_keys_that_do_not_matter_are_not_listed(rig: Rig) -> None:
    """A plain queue lists none, an unknown one raises, and so does a cursor that no page gave."""
    await rig.put("a1", key="a")
    assert await rig.backend.keys("default", "", 10) == ([], None)
    assert isinstance(await raised(rig.backend.keys("nowhere", "", 10)), UnknownQueue)
    await limited(rig, per_key=PerKey(order="fifo"))
    for cursor in ("rubbish", "[1]", "{}"):
        error = await raised(rig.backend.keys("default", cursor, 10))
        assert isinstance(error, BadRequest)
        assert error.field == "cursor"


# What a job waits for.


async def why(rig: Rig, *job_ids: str) -> list[list[Reason]]:
    """What each of them waits for."""
    return await rig.backend.waiting_for([(await rig.backend.job(job_id)).number for job_id in job_ids])


async def test_what_is_not_waiting_waits_for_nothing(rig: Rig) -> None:
    """Jobs in progress, concluded and unknown have no reasons, each in its place among others."""
    await rig.finish("done")
    await rig.put("running")
    await rig.take()
    await rig.put("queued")
    done, taken, last = [(await rig.backend.job(job_id)).number for job_id in ("done", "running", "queued")]
    none, gone, running, queued = await rig.backend.waiting_for([done, 1 << 62, taken, last])
    assert (none, gone, running) == ([], [], [])
    assert [reason.kind for reason in queued] == ["line", "workers"]


async def test_a_job_waits_for_its_time(rig: Rig) -> None:
    """A delayed job says until when, as the wall clock shows it."""
    await rig.put("j", delay=10)
    job = await rig.backend.job("j")
    assert await why(rig, "j") == [[Reason(kind="time", until=job.run_at)]]


async def test_a_job_waits_in_line_and_for_workers(rig: Rig) -> None:
    """How many are ahead, by priority and age; and that nobody stands for its queue, while nobody does."""
    await rig.put_all("a", "b", "c")
    await rig.put("urgent", priority=0)
    reasons = await why(rig, "urgent", "a", "c")
    assert [[reason.ahead for reason in each if reason.kind == "line"] for each in reasons] == [[0], [1], [3]]
    assert [each[-1].kind for each in reasons] == ["workers"] * 3


async def test_a_job_waits_for_a_paused_queue_and_whatever_else(rig: Rig) -> None:
    """A pause is one reason among all that hold."""
    await limited(rig, concurrency=1)
    await rig.put_all("a", "b")
    await rig.take()
    await rig.backend.set_paused("default", True)
    assert await why(rig, "b") == [[Reason(kind="paused"), Reason(kind="concurrency", used=1, total=1)]]


async def test_a_job_waits_for_slots_of_its_key(rig: Rig) -> None:
    """Used and total, of the key that is named."""
    await limited(rig, per_key=PerKey(concurrency=2))
    await rig.put_all("a1", "a2", "a3", key="a")
    await rig.take_all(limit=2)
    assert await why(rig, "a3") == [[Reason(kind="concurrency", key="a", used=2, total=2)]]


async def test_a_job_waits_for_a_rate(rig: Rig) -> None:
    """The next slot of the queue's rate, or of the key's, by the wall clock."""
    await rig.stand("elsewhere", wait=1000)
    await limited(rig, rate=Rate(1, 10))
    await rig.put_all("a", "b", key="k")
    await rig.take()
    assert await why(rig, "b") == [[Reason(kind="rate", until=pytest.approx(rig.utc() + 10))]]
    await limited(rig, per_key=PerKey(rate=Rate(1, 20)))
    await rig.put("c", key="k")
    await rig.take()
    (reason,) = (await why(rig, "c"))[0]
    assert (reason.kind, reason.key, reason.until) == ("rate", "k", pytest.approx(rig.utc() + 20))


async def test_a_job_waits_for_the_one_before_it(rig: Rig) -> None:
    """Which job holds the key, its worker and when its lease ends; or when its next attempt is; or which failure halts it; or a pause."""
    await limited(rig, per_key=PerKey(order="halt"), max_attempts=2)
    await rig.put_all("a1", "a2", "a3", key="a")
    assert await why(rig, "a2") == [[Reason(kind="key", key="a", block="order", job="a1")]]
    job = await rig.take(worker="w", lease_seconds=10)
    reason = Reason(kind="key", key="a", block="order", job="a1", worker="w", until=pytest.approx(rig.utc() + 10))
    assert await why(rig, "a2", "a3") == [[reason], [reason]]
    await rig.backend.release("a1", token(job), 30)
    assert await why(rig, "a2") == [[Reason(kind="key", key="a", block="order", job="a1", until=pytest.approx(rig.utc() + 30))]]
    await rig.advance(30)
    for _ in range(2):
        await rig.take(lease_seconds=10)
        await rig.advance(10)
    assert await why(rig, "a2") == [[Reason(kind="key", key="a", block="halted", job="a1")]]
    (listed,) = [found for found in (await rig.backend.jobs(JobFilter(key="a", limit=10)))[0] if found.id == "a1"]
    assert [found.conclusion is not None and found.conclusion.halts for found in (listed, await rig.backend.job("a1"))] == [True, True]
    await rig.backend.set_key_paused("default", "a", True)
    ((paused,),) = await why(rig, "a2")
    assert (paused.kind, paused.key, paused.block) == ("key", "a", "paused")
