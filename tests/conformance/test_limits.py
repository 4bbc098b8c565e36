"""Promise 11: limits of a queue and of a key, fairness, and what they hold back, shown."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from jobqueue.errors import BadRequest, UnknownQueue
from jobqueue.model import Job
from jobqueue.policy import PerKey, PolicyChange, QueuePolicy, Rate

from .conftest import MakeBackend
from .rig import FAILED, SUCCEEDED, Held, Rig, raised, spec, token, want


async def limited(rig: Rig, **fields: object) -> None:
    """Give the default queue a policy."""
    await rig.backend.put_policy("default", QueuePolicy(**fields))  # type: ignore[arg-type]
    await rig.idle()


async def ids(rig: Rig, limit: int = 10, **fields: object) -> list[str]:
    """What a dequeue takes that does not wait."""
    return [job.id for job in await rig.take_all(limit=limit, **fields)]


def handed(line: Sequence[Held]) -> list[list[str]]:
    """What each of those who stood was handed."""
    return [waiter.ids for waiter in line]


async def held(rig: Rig) -> tuple[int, dict[str, int]]:
    """How many jobs of the default queue are held back, and by what."""
    stats = await rig.backend.queue("default")
    return stats.held, dict(stats.held_by)


# Concurrency.


async def test_a_queue_has_no_more_in_progress_than_it_may(rig: Rig) -> None:
    """A batch is cut at the limit, and whoever asks then gets nothing until a lease has ended."""
    await limited(rig, concurrency=2)
    await rig.put_all("a", "b", "c", "d")
    one, two = await rig.take_all(limit=10)
    assert await ids(rig) == []
    assert await held(rig) == (2, {"concurrency": 2})
    await rig.backend.conclude("a", token(one), SUCCEEDED)
    assert await ids(rig) == ["c"]
    await rig.backend.release("b", token(two), 0)
    assert await ids(rig) == ["b"]
    assert (await rig.backend.queue("default")).in_progress == 2


async def test_a_key_has_no_more_in_progress_than_it_may(rig: Rig) -> None:
    """Each key has its own slots; jobs without a key take none, and a queue's limit counts all of them."""
    await limited(rig, concurrency=5, per_key=PerKey(concurrency=2))
    await rig.put_all("a1", "a2", "a3", key="a")
    await rig.put_all("none1", "none2", "none3")
    await rig.put_all("b1", key="b")
    assert await ids(rig, 4) == ["a1", "a2", "none1", "none2"]
    assert await held(rig) == (1, {"concurrency": 1})
    assert await ids(rig) == ["none3"]
    assert await held(rig) == (2, {"concurrency": 2})


@pytest.mark.one_partition("a batch has jobs of one partition")
async def test_other_queues_are_not_held_back(rig: Rig) -> None:
    """A dequeue of several queues passes over the one that is full and takes from the next."""
    await limited(rig, concurrency=1)
    await rig.put_all("a", "b")
    await rig.put("c", queue="other")
    assert [job.id for job in await rig.take_all("default", "other", limit=10)] == ["a", "c"]


async def test_a_lease_says_that_it_takes_what_others_may_wait_for(rig: Rig) -> None:
    """`limited` is true where there is a limit or an order, and nowhere else."""
    for name, policy in {
        "plain": QueuePolicy(),
        "fair": QueuePolicy(fair=True),
        "slots": QueuePolicy(concurrency=3),
        "ordered": QueuePolicy(per_key=PerKey(order="fifo")),
    }.items():
        await rig.backend.put_policy(name, policy)
        await rig.idle()
        await rig.put(name, queue=name)
        lease = (await rig.take(name)).lease
        assert lease is not None
        assert lease.limited is (name in ("slots", "ordered"))


async def test_a_limit_that_is_lowered_ends_no_lease(rig: Rig) -> None:
    """Nothing is handed out until enough leases have ended by themselves."""
    await limited(rig, concurrency=3)
    await rig.put_all("a", "b", "c", "d")
    one, two, three = await rig.take_all(limit=3)
    await rig.backend.change_policy("default", PolicyChange(concurrency=1))
    waiter = await rig.stand()
    for job in (one, two):
        await rig.backend.conclude(job.id, token(job), SUCCEEDED)
        await rig.idle()
        assert not waiter.answered
    await rig.backend.conclude("c", token(three), SUCCEEDED)
    await rig.idle()
    assert waiter.ids == ["d"]


# What frees: each way hands exactly the freed slot to exactly the oldest waiter.


async def frees(rig: Rig, how: str, job: Job) -> None:
    """Let the one lease of the default queue go."""
    if how == "succeeded":
        await rig.backend.conclude(job.id, token(job), SUCCEEDED)
    elif how == "backoff":
        await rig.backend.conclude(job.id, token(job), FAILED)
    elif how == "released with a delay":
        await rig.backend.release(job.id, token(job), 30)
    elif how == "lease ended":
        await rig.advance(10)
    elif how == "cancelled":
        await rig.backend.cancel(job.id)
        await rig.backend.release(job.id, token(job), 0)
    elif how == "widened":
        await rig.backend.change_policy("default", PolicyChange(concurrency=2))
    else:
        assert how == "taken off"
        await rig.backend.change_policy("default", PolicyChange(concurrency=None))
    await rig.idle()


WAYS = ["succeeded", "backoff", "released with a delay", "lease ended", "cancelled", "widened", "taken off"]


@pytest.mark.parametrize("how", WAYS)
async def test_what_frees_a_slot_wakes_the_oldest_waiter(rig: Rig, how: str) -> None:
    """However a slot becomes free, the job that was held back goes to the one that has waited longest, and nobody else is woken."""
    await limited(rig, concurrency=1, max_attempts=1 if how == "lease ended" else 5)
    await rig.put("a", priority=0)
    job = await rig.take(lease_seconds=10)
    line = [await rig.stand() for _ in range(4)]
    await rig.put("b")
    await rig.idle()
    assert handed(line) == [[], [], [], []]
    await frees(rig, how, job)
    assert handed(line) == [["b"], [], [], []]
    assert [waiter.answered for waiter in line] == [True, False, False, False]
    assert (await rig.backend.stats()).waiters == 3


@pytest.mark.parametrize("how", ["succeeded", "cancelled", "lease ended"])
async def test_what_frees_a_key_wakes_the_oldest_waiter(rig: Rig, how: str) -> None:
    """The same for a key's only slot."""
    await limited(rig, per_key=PerKey(concurrency=1), max_attempts=1)
    await rig.put("a1", key="a")
    job = await rig.take(lease_seconds=10)
    line = [await rig.stand() for _ in range(3)]
    await rig.put_all("a2", "a3", key="a")
    await rig.idle()
    assert handed(line) == [[], [], []]
    await frees(rig, how, job)
    assert handed(line) == [["a2"], [], []]


async def test_an_undelivered_answer_gives_its_slot_to_the_next(rig: Rig) -> None:
    """What could not be written goes to the oldest waiter, its attempt not counted, and takes the slot with it."""
    await limited(rig, concurrency=1)
    await rig.put_all("a", "b")
    taking = rig.backend.dequeue(want(), 0)
    await taking.__aenter__()
    line = [await rig.stand(), await rig.stand()]
    await taking.__aexit__(None, None, None)
    await rig.idle()
    assert handed(line) == [["a"], []]
    assert line[0].jobs[0].attempts == 1


async def test_a_waiter_that_goes_with_a_slot_passes_it_on(rig: Rig) -> None:
    """A waiter that is handed what a slot freed, and vanishes in that turn, leaves it to the next in line."""
    await limited(rig, concurrency=1)
    await rig.put_all("a", "b")
    job = await rig.take()
    gone, waiter = await rig.stand(), await rig.stand()
    await rig.backend.conclude("a", token(job), SUCCEEDED)
    gone.task.cancel()
    await rig.idle()
    assert gone.ids + waiter.ids == ["b"]
    assert (await rig.backend.queue("default")).in_progress == 1


async def test_a_wide_limit_hands_out_as_many_as_it_frees(rig: Rig) -> None:
    """A policy that widens a limit by three answers three waiters, at once and in order."""
    await limited(rig, concurrency=1)
    await rig.put_all("a", "b", "c", "d", "e")
    await rig.take()
    line = [await rig.stand() for _ in range(5)]
    await rig.backend.change_policy("default", PolicyChange(concurrency=4))
    await rig.idle()
    assert handed(line) == [["b"], ["c"], ["d"], [], []]


async def test_a_herd_at_one_slot_is_served_one_by_one(rig: Rig) -> None:
    """Each end of the one lease wakes exactly one of a hundred waiters, in their order."""
    await limited(rig, concurrency=1)
    line = [await rig.stand() for _ in range(100)]
    await rig.backend.enqueue_batch([spec(f"j{n}") for n in range(100)])
    await rig.idle()
    for n in range(5):
        assert handed(line) == [[f"j{m}"] if m <= n else [] for m in range(100)]
        assert sum(waiter.answered for waiter in line) == n + 1
        await rig.backend.conclude(f"j{n}", token(line[n].jobs[0]), SUCCEEDED)
        await rig.idle()


# Rates. Somebody stands all the while, so that no server is started anew in between: that would empty the bucket.


async def test_a_rate_hands_out_evenly(rig: Rig) -> None:
    """One every ten seconds, to the oldest waiter, however many wait and however many jobs there are."""
    line = [await rig.stand(wait=1000) for _ in range(5)]
    await limited(rig, rate=Rate(6, 60))
    await rig.backend.enqueue_batch([spec(f"j{n}") for n in range(5)])
    await rig.idle()
    for n in range(1, 5):
        assert [waiter.answered for waiter in line] == [True] * n + [False] * (5 - n)
        assert await held(rig) == (5 - n, {"rate": 5 - n})
        await rig.advance(9)
        assert not line[n].answered
        await rig.advance(1)
    assert handed(line) == [[f"j{n}"] for n in range(5)]


async def test_a_burst_goes_at_once_after_a_rest(rig: Rig) -> None:
    """A full bucket lets `burst` jobs go at once, then one at a time; it is full again after burst times as long."""
    line = [await rig.stand(wait=1000) for _ in range(10)]
    await limited(rig, rate=Rate(6, 60, 3))
    await rig.backend.enqueue_batch([spec(f"j{n}") for n in range(5)])
    await rig.idle()
    assert sum(waiter.answered for waiter in line) == 3
    await rig.advance(20)
    assert sum(waiter.answered for waiter in line) == 5
    await rig.advance(30)
    await rig.backend.enqueue_batch([spec(f"k{n}") for n in range(5)])
    await rig.idle()
    assert sum(waiter.answered for waiter in line) == 8


async def test_each_key_has_its_own_rate(rig: Rig) -> None:
    """A key whose rate is used up holds back its own jobs alone."""
    line = [await rig.stand(wait=1000) for _ in range(5)]
    await limited(rig, per_key=PerKey(rate=Rate(1, 10)))
    await rig.put_all("a1", "a2", key="a")
    await rig.put_all("b1", key="b")
    await rig.put_all("none1", "none2")
    await rig.idle()
    assert [waiter.ids[0] for waiter in line if waiter.answered] == ["a1", "b1", "none1", "none2"]
    assert await held(rig) == (1, {"rate": 1})
    await rig.advance(10)
    assert line[4].ids == ["a2"]


async def test_an_undelivered_hand_out_gives_its_share_of_the_rate_back(rig: Rig) -> None:
    """A rate counts hand-outs that were delivered: one that was not leaves the next one free at once."""
    await rig.stand("elsewhere", wait=1000)
    await limited(rig, rate=Rate(1, 100))
    await rig.put("a")
    taking = rig.backend.dequeue(want(), 0)
    await taking.__aenter__()
    waiter = await rig.stand(wait=1000)
    await taking.__aexit__(None, None, None)
    await rig.idle()
    assert waiter.ids == ["a"]


async def test_a_release_gives_nothing_of_the_rate_back(rig: Rig) -> None:
    """What a worker was handed counts, whatever it does with it."""
    await rig.stand("elsewhere", wait=1000)
    await limited(rig, rate=Rate(1, 100))
    await rig.put("a")
    job = await rig.take()
    await rig.backend.release("a", token(job), 0)
    assert await ids(rig) == []
    await rig.advance(100)
    assert await ids(rig) == ["a"]


async def test_a_newcomer_does_not_pass_those_who_wait_for_a_rate(rig: Rig) -> None:
    """Whoever comes after the moment at which the next may go, and before anybody was handed it, stands behind those who waited."""
    waiter = await rig.stand(wait=1000)
    await limited(rig, rate=Rate(1, 10))
    await rig.put_all("a", "b")
    await rig.idle()
    assert waiter.ids == ["a"]
    older = await rig.stand(wait=1000)
    newer: list[Held] = []
    await rig.advance(10, lambda: newer.append(rig.hold(wait=1000)))
    await rig.idle()
    assert (older.ids, newer[0].ids) == (["b"], [])


async def test_a_wall_clock_step_moves_no_rate(rig: Rig) -> None:
    """A rate's time is that of leases: setting the clock forward lets nothing go."""
    await rig.stand("elsewhere", wait=1000)
    await limited(rig, rate=Rate(1, 10))
    await rig.put_all("a", "b")
    assert await ids(rig) == ["a"]
    rig.step_wall_clock(100)
    assert await ids(rig) == []
    await rig.advance(10)
    assert await ids(rig) == ["b"]


async def test_a_rate_that_widens_hands_out_sooner(rig: Rig) -> None:
    """A policy with a higher rate counts from its change on, for those who stand already; without one all go at once."""
    line = [await rig.stand(wait=1000) for _ in range(4)]
    await limited(rig, rate=Rate(1, 1000))
    await rig.put_all("a", "b", "c", "d")
    await rig.idle()
    await rig.backend.change_policy("default", PolicyChange(rate=Rate(1, 10)))
    await rig.advance(10)
    assert handed(line) == [["a"], ["b"], [], []]
    await rig.backend.change_policy("default", PolicyChange(rate=None))
    await rig.idle()
    assert handed(line) == [["a"], ["b"], ["c"], ["d"]]


async def test_what_a_rate_frees_with_nobody_there_keeps_nobody_waiting(rig: Rig) -> None:
    """A rate that lets jobs go while nobody stands changes nothing that is stored; whoever repeats an enqueue then is answered at once."""
    await rig.stand("elsewhere", wait=1000)
    await limited(rig, rate=Rate(1, 10))
    await rig.put_all("a", "b")
    await rig.take()
    await rig.advance(10)
    repeated = asyncio.ensure_future(rig.put("b"))
    await rig.idle()
    assert repeated.done()
    assert repeated.result().id == "b"


async def test_no_more_than_a_rate_in_any_case(rig: Rig) -> None:
    """Whatever a server remembers over a restart, no stretch of time has more hand-outs than limit × time ÷ per + burst."""
    await limited(rig, rate=Rate(6, 60, 2))
    await rig.backend.enqueue_batch([spec(f"j{n}") for n in range(20)])
    taken = 0
    for seconds in range(0, 60, 10):
        taken += len(await ids(rig))
        assert taken <= seconds / 10 + 2
        await rig.advance(10)


async def test_all_limits_hold_at_once(rig: Rig) -> None:
    """A job goes when each of them lets it: a key's order, its slots, the queue's slots and its rate; none is taken in vain."""
    line = [await rig.stand(wait=1000) for _ in range(4)]
    await limited(rig, concurrency=2, rate=Rate(1, 10), per_key=PerKey(order="fifo"))
    await rig.put_all("a1", "a2", key="a")
    await rig.put("b1", key="b")
    await rig.put("c1", key="c")
    await rig.idle()
    assert handed(line) == [["a1"], [], [], []]
    await rig.advance(10)
    assert handed(line) == [["a1"], ["b1"], [], []]
    await rig.advance(10)
    assert await held(rig) == (2, {"concurrency": 2})
    await rig.backend.conclude("b1", token(line[1].jobs[0]), SUCCEEDED)
    await rig.idle()
    assert handed(line) == [["a1"], ["b1"], ["c1"], []]


# max_jobs of a key.


async def test_a_key_holds_no_more_jobs_than_it_may(rig: Rig) -> None:
    """Beyond its bound an enqueue raises QueueFull for the field key and changes nothing; other keys, and jobs without, come in."""
    await limited(rig, per_key=PerKey(max_jobs=2))
    await rig.put("a1", key="a")
    await rig.put("a2", key="a", delay=10)
    full = await raised(rig.backend.enqueue(spec("a3", key="a")))
    assert (full.code, getattr(full, "field", None)) == ("queue_full", "key")
    replies = await rig.backend.enqueue_batch([spec("a4", key="a"), spec("b1", key="b"), spec("none")])
    assert [getattr(reply, "code", "ok") for reply in replies] == ["queue_full", "ok", "ok"]
    assert (await rig.backend.stats()).jobs_live == 4
    assert not (await rig.backend.enqueue(spec("a1", key="a"))).created
    await rig.backend.cancel("a1")
    await rig.put("a3", key="a")


async def test_a_queue_counts_no_more_keys_than_it_may(make_backend: MakeBackend) -> None:
    """Beyond the bound on keys a new one is refused, for the field key, and one that is there is not."""
    rig = await make_backend(keys_max=2)
    await limited(rig, per_key=PerKey(order="fifo"))
    await rig.put_all("a1", "a2", key="a")
    await rig.put("b1", key="b")
    full = await raised(rig.backend.enqueue(spec("c1", key="c")))
    assert (full.code, getattr(full, "field", None)) == ("queue_full", "key")
    await rig.put("a3", key="a")


# Fairness.


async def test_a_fair_queue_serves_the_key_that_has_least_in_progress(rig: Rig) -> None:
    """One tenant's backlog does not stand before the others'; jobs without a key are one tenant more."""
    await limited(rig, fair=True)
    await rig.put_all(*(f"a{n}" for n in range(5)), key="a")
    await rig.put_all("b0", "b1", key="b")
    await rig.put("none")
    assert [(await rig.take()).id for _ in range(6)] == ["a0", "b0", "none", "a1", "b1", "a2"]


async def test_a_fair_queue_minds_priority_first(rig: Rig) -> None:
    """A more urgent job goes before any key's turn."""
    await limited(rig, fair=True)
    await rig.put("a1", key="a")
    await rig.take()
    await rig.put("b1", key="b", priority=5)
    await rig.put("a2", key="a", priority=0)
    assert (await rig.take()).id == "a2"


async def test_weights_share_out_what_is_in_progress(rig: Rig) -> None:
    """A key of weight 3 has three in progress for each of one that is not named."""
    await limited(rig, fair=True, weights={"a": 3.0})
    await rig.put_all(*(f"a{n}" for n in range(20)), key="a")
    await rig.put_all(*(f"b{n}" for n in range(20)), key="b")
    taken = [(await rig.take()).id[0] for _ in range(16)]
    assert (taken.count("a"), taken.count("b")) == (12, 4)


# Policies, one field at a time.


async def test_one_field_of_a_policy_can_be_changed(rig: Rig) -> None:
    """What is not named stays as it is, and what is None is taken off."""
    policy = QueuePolicy(lease_seconds=30, concurrency=5, rate=Rate(10, 60, 2), per_key=PerKey(order="halt", max_jobs=9), fair=True)
    await rig.backend.put_policy("default", policy)
    changed = await rig.backend.change_policy("default", PolicyChange(concurrency=7))
    assert changed.policy == QueuePolicy(
        lease_seconds=30, concurrency=7, rate=Rate(10, 60, 2), per_key=PerKey(order="halt", max_jobs=9), fair=True
    )
    changed = await rig.backend.change_policy("default", PolicyChange(rate=None, per_key=None, weights={"a": 2.0}))
    assert changed.policy == QueuePolicy(lease_seconds=30, concurrency=7, fair=True, weights={"a": 2.0})
    assert (await rig.backend.queue("default")).policy == changed.policy


async def test_a_change_that_is_refused_changes_nothing(rig: Rig) -> None:
    """An unknown queue and a value out of bounds raise, and the policy stays."""
    assert isinstance(await raised(rig.backend.change_policy("nowhere", PolicyChange(concurrency=1))), UnknownQueue)
    assert await rig.backend.queues() == []
    await limited(rig, concurrency=3)
    error = await raised(rig.backend.change_policy("default", PolicyChange(concurrency=0, fair=True)))
    assert isinstance(error, BadRequest)
    assert error.field == "concurrency"
    assert (await rig.backend.queue("default")).policy == QueuePolicy(concurrency=3)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"concurrency": 0}, "concurrency"),
        ({"concurrency": 1_000_001}, "concurrency"),
        ({"rate": Rate(0, 1)}, "rate.limit"),
        ({"rate": Rate(1, 0.5)}, "rate.per"),
        ({"rate": Rate(1, 86_401)}, "rate.per"),
        ({"rate": Rate(2, 1, 3)}, "rate.burst"),
        ({"per_key": PerKey(concurrency=10_001)}, "per_key.concurrency"),
        ({"per_key": PerKey(order="fifo", concurrency=2)}, "per_key.concurrency"),
        ({"per_key": PerKey(rate=Rate(1, float("nan")))}, "per_key.rate.per"),
        ({"per_key": PerKey(max_jobs=0)}, "per_key.max_jobs"),
        ({"weights": {"a": 0.0}}, "weights"),
        ({"weights": {"a": 101.0}}, "weights"),
        ({"weights": {"": 1.0}}, "weights"),
    ],
)
async def test_limits_out_of_bounds_are_refused(rig: Rig, fields: dict[str, object], field: str) -> None:
    """A limit that may not be raises BadRequest naming the field, and makes no queue."""
    error = await raised(rig.backend.put_policy("default", QueuePolicy(**fields)))  # type: ignore[arg-type]
    assert isinstance(error, BadRequest)
    assert error.field is not None
    assert error.field.startswith(field)
    assert await rig.backend.queues() == []
