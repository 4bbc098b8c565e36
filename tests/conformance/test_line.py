"""The line of waiters: who is served when, who leaves it, and what stands in more than one."""

from __future__ import annotations

import pytest

from jobqueue.errors import BadRequest
from jobqueue.model import Want
from jobqueue.policy import QueuePolicy

from .rig import Rig, raised, spec, token, want


async def test_waiters_are_served_in_the_order_in_which_they_came(rig: Rig) -> None:
    """Fifty waiters and fifty jobs meet in order, one each."""
    line = [await rig.stand() for _ in range(50)]
    await rig.put_all(*(f"j{n}" for n in range(50)))
    await rig.idle()
    assert [waiter.ids for waiter in line] == [[f"j{n}"] for n in range(50)]


async def test_a_job_wakes_nobody_else(rig: Rig) -> None:
    """One job answers one waiter of a hundred; the rest stand on."""
    line = [await rig.stand() for _ in range(100)]
    await rig.put("j")
    await rig.idle()
    assert [waiter.answered for waiter in line] == [True] + [False] * 99
    assert (await rig.backend.stats()).waiters == 99


async def test_the_oldest_waiter_is_handed_a_job_before_enqueue_returns(rig: Rig) -> None:
    """Right after an enqueue its job is leased to the waiter: a newcomer in the same turn of the loop cannot pass it."""
    waiter = await rig.stand()
    await rig.put("j")
    assert await rig.take_all() == []
    await rig.idle()
    assert waiter.ids == ["j"]


async def test_a_newcomer_does_not_pass_an_older_waiter(rig: Rig) -> None:
    """A waiter that comes while an older one stands is served after it, whatever comes between."""
    older = await rig.stand()
    newer = rig.hold()
    await rig.put("first")
    await rig.idle()
    assert (older.ids, newer.ids) == (["first"], [])
    await rig.put("second")
    await rig.idle()
    assert newer.ids == ["second"]


async def test_a_newcomer_does_not_pass_an_older_waiter_at_a_put_back(rig: Rig) -> None:
    """A job whose answer failed goes to the oldest waiter, not to a dequeue that comes in the same turn."""
    await rig.put("j")
    taking = rig.backend.dequeue(want(), 0)
    await taking.__aenter__()
    older = await rig.stand()
    await taking.__aexit__(None, None, None)
    assert await rig.take_all() == []
    await rig.idle()
    assert older.ids == ["j"]


async def test_without_a_wait_the_answer_comes_at_once(rig: Rig) -> None:
    """A dequeue with wait 0 finds what is there or nothing, and never stands in line."""
    nobody = rig.hold(wait=0)
    await rig.idle()
    assert (nobody.answered, nobody.jobs) == (True, [])
    assert (await rig.backend.stats()).waiters == 0
    await rig.put("j")
    assert (await rig.take()).id == "j"


async def test_a_wait_that_passes_is_answered_empty(rig: Rig) -> None:
    """A waiter is answered [] when its wait ends and not before, and the next job is for who still stands."""
    short, long = await rig.stand(wait=10), await rig.stand(wait=30)
    await rig.advance(9)
    assert not short.answered
    await rig.advance(1)
    assert (short.answered, short.jobs, long.answered) == (True, [], False)
    assert (await rig.backend.stats()).waiters == 1
    await rig.put("j")
    await rig.idle()
    assert long.ids == ["j"]


async def test_waits_that_end_together_are_all_answered(rig: Rig) -> None:
    """A thousand waits that end in one instant leave nobody standing."""
    line = [rig.hold(wait=10) for _ in range(1_000)]
    await rig.idle()
    assert (await rig.backend.stats()).waiters == 1_000
    await rig.advance(10)
    assert all(waiter.answered and waiter.jobs == [] for waiter in line)
    assert (await rig.backend.stats()).waiters == 0


async def test_a_job_due_as_the_wait_ends_is_delivered_or_there(rig: Rig) -> None:
    """When a job falls due in the instant in which the only wait ends, it is handed out or available, never lost."""
    await rig.put("j", delay=10)
    waiter = await rig.stand(wait=10)
    await rig.advance(10)
    assert waiter.answered
    assert waiter.ids + [job.id for job in await rig.take_all()] == ["j"]


async def test_a_cancelled_waiter_is_out_of_line(rig: Rig) -> None:
    """Cancelling one that waits takes it out of line at once and disturbs nobody else's place."""
    line = [await rig.stand() for _ in range(4)]
    line[1].task.cancel()
    await rig.idle()
    assert line[1].task.cancelled()
    assert (await rig.backend.stats()).waiters == 3
    await rig.put_all("a", "b", "c")
    await rig.idle()
    assert [waiter.ids for waiter in line] == [["a"], [], ["b"], ["c"]]


async def test_cancelled_waiters_in_a_row_pass_the_job_to_the_first_that_stands(rig: Rig) -> None:
    """Many clients that vanish in the turn of the hand-out lose no job: the first one left is handed it."""
    line = [await rig.stand() for _ in range(10)]
    for waiter in line[1:8]:
        waiter.task.cancel()
    await rig.put_all("a", "b")
    line[0].task.cancel()
    line[8].task.cancel()
    await rig.idle()
    # The first may have been answered before it vanished, where an enqueue takes its time.
    delivered = [*line[0].ids, *line[8].ids]
    first, *others = [job_id for job_id in ("a", "b") if job_id not in delivered]
    assert line[9].ids == [first]
    assert [job.id for job in await rig.take_all(limit=10)] == others
    assert sorted([*delivered, first, *others]) == ["a", "b"]


async def test_a_waiter_on_several_queues_is_answered_once(rig: Rig) -> None:
    """Jobs in two of its queues in one step give a waiter one answer; it then stands in neither line."""
    waiter = await rig.stand("a", "b")
    await rig.backend.enqueue_batch([spec("in-b", queue="b"), spec("in-a", queue="a")])
    await rig.idle()
    assert len(waiter.ids) == 1
    left = {"in-a", "in-b"} - set(waiter.ids)
    assert {job.id for job in await rig.take_all("a", "b", limit=10)} == left
    assert [(await rig.backend.queue(name)).waiters for name in ("a", "b")] == [0, 0]
    assert (await rig.backend.stats()).waiters == 0


async def test_a_waiter_stands_in_the_line_of_every_queue_it_names(rig: Rig) -> None:
    """First come is first served in each queue, also between waiters that share only some of theirs."""
    both, only_b = await rig.stand("a", "b"), await rig.stand("b")
    await rig.put("first", queue="b")
    await rig.put("second", queue="b")
    await rig.idle()
    assert (both.ids, only_b.ids) == (["first"], ["second"])


async def test_a_waiter_on_several_queues_passes_nobody_in_any_of_them(rig: Rig) -> None:
    """Jobs that come to two queues at once go to the older waiter of each, also when a younger one of the first prefers the second."""
    older = await rig.stand("b")
    younger = await rig.stand("b", "a")
    await rig.backend.enqueue_batch([spec("ja", queue="a"), spec("jb", queue="b")])
    await rig.idle()
    assert (older.ids, younger.ids) == (["jb"], ["ja"])


async def test_a_waiter_is_passed_by_jobs_of_other_queues(rig: Rig) -> None:
    """A job wakes nobody who does not wait for its queue, however long they stand."""
    older, newer = await rig.stand("a"), await rig.stand("b")
    await rig.put("j", queue="b")
    await rig.idle()
    assert (older.answered, newer.ids) == (False, ["j"])


async def test_queues_are_emptied_in_order_of_preference(rig: Rig) -> None:
    """A dequeue takes from the queue it names first, then from the next, regardless of age and priority."""
    await rig.put("b1", queue="b", priority=0)
    await rig.put("a1", queue="a", priority=9)
    await rig.put("a2", queue="a", priority=9)
    assert [job.id for job in await rig.take_all("a", "b", limit=2)] == ["a1", "a2"]
    await rig.put("a3", queue="a")
    assert [job.id for job in await rig.take_all("b", "a", limit=10)] == ["b1", "a3"]


async def test_a_batch_waiter_gets_several_at_once(rig: Rig) -> None:
    """A waiter with limit 100 is handed every job of one batch enqueue in one answer, and at most its limit."""
    greedy, modest, single = await rig.stand(limit=100), await rig.stand(limit=2), await rig.stand()
    await rig.backend.enqueue_batch([spec(f"j{n}") for n in range(5)])
    await rig.idle()
    assert greedy.ids == [f"j{n}" for n in range(5)]
    assert not modest.answered
    await rig.backend.enqueue_batch([spec(f"k{n}") for n in range(4)])
    await rig.idle()
    assert (modest.ids, single.ids) == (["k0", "k1"], ["k2"])
    assert [job.id for job in await rig.take_all(limit=10)] == ["k3"]


async def test_a_batch_waiter_does_not_wait_for_its_limit(rig: Rig) -> None:
    """One job answers a waiter that would take a hundred."""
    waiter = await rig.stand(limit=100)
    await rig.put("j")
    await rig.idle()
    assert waiter.ids == ["j"]


async def test_a_batch_enqueue_wakes_as_many_waiters_as_it_has_jobs(rig: Rig) -> None:
    """Three jobs in one batch go to the three oldest of five waiters, in order."""
    line = [await rig.stand() for _ in range(5)]
    await rig.backend.enqueue_batch([spec("a"), spec("b"), spec("c")])
    await rig.idle()
    assert [waiter.ids for waiter in line] == [["a"], ["b"], ["c"], [], []]
    assert [waiter.answered for waiter in line] == [True, True, True, False, False]


async def test_resuming_wakes_as_many_waiters_as_there_are_jobs(rig: Rig) -> None:
    """A queue that is resumed with two jobs serves its two oldest waiters."""
    await rig.backend.put_policy("default", QueuePolicy(paused=True))
    await rig.put_all("a", "b")
    line = [await rig.stand() for _ in range(3)]
    await rig.backend.set_paused("default", False)
    await rig.idle()
    assert [waiter.ids for waiter in line] == [["a"], ["b"], []]


async def test_leases_that_end_together_wake_one_waiter_each(rig: Rig) -> None:
    """Three leases that end in one instant serve three waiters, oldest job first."""
    await rig.put_all("a", "b", "c")
    await rig.take_all(limit=3, lease_seconds=10)
    line = [await rig.stand() for _ in range(4)]
    await rig.advance(10)
    assert [waiter.ids for waiter in line] == [["a"], ["b"], ["c"], []]


async def test_a_paused_queue_hands_out_nothing_and_takes_everything(rig: Rig) -> None:
    """While paused, a queue's jobs wait and its waiters stand; other queues of the same waiter still serve it."""
    await rig.backend.put_policy("a", QueuePolicy(paused=True))
    await rig.put("in-a", queue="a")
    assert await rig.take_all("a") == []
    waiter = await rig.stand("a", "b")
    await rig.put("in-b", queue="b")
    await rig.idle()
    assert waiter.ids == ["in-b"]
    assert (await rig.backend.queue("a")).queued == 1


async def test_a_queue_may_be_waited_for_before_it_exists(rig: Rig) -> None:
    """A waiter on an unknown queue neither makes it nor errs, and is handed its first job."""
    waiter = await rig.stand("later")
    assert await rig.backend.queues() == []
    await rig.put("j", queue="later")
    await rig.idle()
    assert waiter.ids == ["j"]


async def test_a_waiter_outlives_its_queue(rig: Rig) -> None:
    """Deleting an empty queue leaves its waiters standing; the queue made anew serves them."""
    await rig.backend.put_policy("a", QueuePolicy())
    waiter = await rig.stand("a")
    await rig.backend.delete_queue("a")
    await rig.put("j", queue="a")
    await rig.idle()
    assert waiter.ids == ["j"]


async def test_a_queue_counts_its_waiters(rig: Rig) -> None:
    """A queue's stats tell how many wait for it, those that wait for others too included."""
    await rig.backend.put_policy("a", QueuePolicy())
    await rig.stand("a")
    await rig.stand("b", "a")
    await rig.stand("b")
    assert (await rig.backend.queue("a")).waiters == 2
    assert (await rig.backend.stats()).waiters == 3


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"queues": ()}, "queue"),
        ({"queues": ("no spaces",)}, "queue"),
        ({"queues": ("q" * 81,)}, "queue"),
        ({"queues": tuple(f"q{n}" for n in range(33))}, "queue"),
        ({"limit": 0}, "limit"),
        ({"limit": 1_001}, "limit"),
        ({"lease_seconds": 0.5}, "lease_seconds"),
        ({"lease_seconds": 43_201.0}, "lease_seconds"),
        ({"lease_seconds": float("nan")}, "lease_seconds"),
        ({"worker": "w" * 129}, "worker"),
        ({"worker": "line\nbreak"}, "worker"),
        ({"attempt_id": ""}, "attempt_id"),
        ({"attempt_id": "a" * 129}, "attempt_id"),
        ({"attempt_id": "\ud800"}, "attempt_id"),
    ],
)
async def test_a_dequeue_that_asks_for_too_much_is_refused(rig: Rig, fields: dict[str, object], field: str) -> None:
    """What a dequeue may not ask for raises BadRequest naming the field, on entering, and takes no job."""
    await rig.put("j")
    taking = rig.backend.dequeue(Want(**fields), 30)  # type: ignore[arg-type]
    error = await raised(taking.__aenter__())
    assert isinstance(error, BadRequest)
    assert error.field == field
    assert (await rig.backend.stats()).waiters == 0
    assert (await rig.take()).attempts == 1


async def test_a_worker_name_is_kept_with_the_lease(rig: Rig) -> None:
    """The lease of a waiter that is handed a job says who holds it."""
    waiter = await rig.stand(worker="w1")
    await rig.put("j")
    await rig.idle()
    (job,) = waiter.jobs
    assert job.lease is not None
    assert job.lease.worker == "w1"
    assert len(token(job)) >= 22, "a token needs 128 random bits"
