"""Promise 10: jobs of one key, one after the other, in order; what holds a key, and what lets it go."""

from __future__ import annotations

import pytest

from jobqueue.errors import BadRequest, IdConflict, LeaseLost, NotRetryable, UnknownQueue
from jobqueue.model import JobFilter, Outcome, Status, Verdict
from jobqueue.policy import Backoff, Order, PerKey, QueuePolicy

from .conftest import MakeBackend
from .rig import FAILED, FAILED_FOR_GOOD, SUCCEEDED, Rig, raised, spec, token, want


async def ordered(rig: Rig, order: Order = "fifo", **fields: object) -> None:
    """Have the default queue keep an order by key."""
    await rig.backend.put_policy("default", QueuePolicy(per_key=PerKey(order=order), **fields))  # type: ignore[arg-type]
    await rig.idle()


async def ids(rig: Rig, limit: int = 10) -> list[str]:
    """What a dequeue takes that does not wait."""
    return [job.id for job in await rig.take_all(limit=limit)]


# What a key is.


async def test_a_key_is_part_of_the_job(rig: Rig) -> None:
    """Every view of a job says its key, from the enqueue to history; one without has none."""
    made = await rig.put("j", key="acme")
    leased = await rig.take()
    ended = await rig.backend.conclude("j", token(leased), SUCCEEDED)
    read, numbered = await rig.backend.job("j"), await rig.backend.numbered(made.number)
    (listed,), _ = await rig.backend.jobs(JobFilter())
    assert {job.key for job in (made, leased, ended, read, numbered, listed)} == {"acme"}
    assert (await rig.put("plain")).key is None


async def test_a_repeated_enqueue_compares_the_key(rig: Rig) -> None:
    """The same id with another key, or with none, is another job: IdConflict names the field."""
    await rig.put("j", key="a")
    assert not (await rig.backend.enqueue(spec("j", key="a"))).created
    for key in ("b", None):
        error = await raised(rig.backend.enqueue(spec("j", key=key)))
        assert isinstance(error, IdConflict)
        assert error.field == "key"


@pytest.mark.parametrize("key", ["", "k" * 129, "line\nbreak", "\x00", "\ud800"])
async def test_a_key_out_of_bounds_is_refused(rig: Rig, key: str) -> None:
    """A key is 1 to 128 printable characters; anything else raises BadRequest naming the field, and makes no job."""
    error = await raised(rig.backend.enqueue(spec("j", key=key)))
    assert isinstance(error, BadRequest)
    assert error.field == "key"
    assert (await rig.backend.stats()).jobs_live == 0


async def test_jobs_are_listed_by_key(rig: Rig) -> None:
    """A listing shows the jobs of one key, live and concluded, and no others."""
    await rig.finish("a1", key="a")
    await rig.put_all("a2", "a3", key="a")
    await rig.put("b", key="b")
    await rig.put("none")
    found, _ = await rig.backend.jobs(JobFilter(key="a"))
    assert [job.id for job in found] == ["a3", "a2", "a1"]
    found, _ = await rig.backend.jobs(JobFilter(key="a", status=Status.QUEUED, after=0))
    assert [job.id for job in found] == ["a2", "a3"]


async def test_a_queue_that_minds_no_keys_hands_out_as_ever(rig: Rig) -> None:
    """Without a policy for keys, jobs of one key go to as many workers as ask."""
    await rig.put_all("a1", "a2", "a3", key="a")
    assert await ids(rig) == ["a1", "a2", "a3"]


# fifo.


async def test_jobs_of_a_key_run_one_after_the_other(rig: Rig) -> None:
    """The next job of a key goes when the one before is concluded; other keys, and jobs without one, do not wait for it."""
    await ordered(rig)
    await rig.put_all("a1", "a2", key="a")
    await rig.put_all("none1", "none2")
    await rig.put("b1", key="b")
    taken = {}
    for _ in range(4):
        job = await rig.take()
        taken[job.id] = job
    assert list(taken) == ["a1", "none1", "none2", "b1"]
    assert await ids(rig) == []
    await rig.backend.conclude("a1", token(taken["a1"]), SUCCEEDED)
    assert await ids(rig) == ["a2"]


async def test_a_key_is_held_in_every_priority(rig: Rig) -> None:
    """A more urgent job of a key waits for the one that is in progress, and goes before the less urgent ones then."""
    await ordered(rig)
    await rig.put("slow", key="a", priority=9)
    slow = await rig.take()
    await rig.put("later", key="a", priority=9)
    await rig.put("urgent", key="a", priority=0)
    assert await ids(rig) == []
    await rig.backend.conclude("slow", token(slow), SUCCEEDED)
    assert await ids(rig, 1) == ["urgent"]


async def test_a_key_is_held_through_a_backoff(rig: Rig) -> None:
    """A failed attempt keeps its key until the next one, even from more urgent jobs, and goes first when its time has come."""
    await ordered(rig)
    await rig.put("a1", key="a", priority=5, backoff=Backoff(base=0, factor=1, cap=0), max_attempts=3)
    await rig.put("a2", key="a", priority=0)
    await rig.put("b", key="b", priority=9)
    first = await rig.take()
    assert first.id == "a2"
    await rig.backend.conclude("a2", token(first), SUCCEEDED)
    await rig.backend.conclude("a1", token(await rig.take()), Verdict(outcome=Outcome.FAILED, retry_delay=10))
    await rig.put("a3", key="a", priority=0)
    assert await ids(rig) == ["b"]
    await rig.advance(10)
    again = await rig.take()
    assert (again.id, again.attempts) == ("a1", 2)
    assert await ids(rig) == []
    await rig.backend.conclude("a1", token(again), SUCCEEDED)
    assert await ids(rig) == ["a3"]


async def test_a_key_is_held_through_a_delayed_release(rig: Rig) -> None:
    """A job that was released with a delay keeps its key, and is the next of it."""
    await ordered(rig)
    await rig.put_all("a1", "a2", key="a")
    await rig.backend.release("a1", token(await rig.take()), 10)
    await rig.put("a0", key="a", priority=0)
    assert await ids(rig) == []
    await rig.advance(10)
    assert await ids(rig, 1) == ["a1"]


async def test_a_released_job_is_the_next_of_its_key(rig: Rig) -> None:
    """A job that was released at once goes before more urgent ones of its key."""
    await ordered(rig)
    await rig.put("a1", key="a")
    job = await rig.take()
    await rig.put("a0", key="a", priority=0)
    await rig.backend.release("a1", token(job), 0)
    assert await ids(rig, 1) == ["a1"]


async def test_a_lost_lease_keeps_its_key(rig: Rig) -> None:
    """A job whose lease ended is the next of its key; the worker that lost it cannot conclude it."""
    await ordered(rig)
    await rig.put("a1", key="a")
    job = await rig.take(lease_seconds=10)
    await rig.put("a0", key="a", priority=0)
    await rig.advance(10)
    again = await rig.take()
    assert (again.id, again.attempts) == ("a1", 2)
    assert await ids(rig) == []
    assert isinstance(await raised(rig.backend.conclude("a1", token(job), SUCCEEDED)), LeaseLost)
    assert await ids(rig) == []


async def test_a_delayed_job_holds_nothing(rig: Rig) -> None:
    """A job that is not due yet keeps no other of its key back, and its place begins when it is."""
    await ordered(rig)
    await rig.put("later", key="a", delay=10)
    await rig.put("now", key="a")
    job = await rig.take()
    assert job.id == "now"
    await rig.put("next", key="a")
    await rig.advance(10)
    await rig.backend.conclude("now", token(job), SUCCEEDED)
    job = await rig.take()
    assert job.id == "next"
    await rig.backend.conclude("next", token(job), SUCCEEDED)
    assert await ids(rig) == ["later"]


async def test_a_batch_takes_several_of_a_key_in_order(rig: Rig) -> None:
    """One dequeue may take several jobs of a key; the key is free when all of them are concluded."""
    await ordered(rig)
    await rig.put_all("a1", "a2", "a3", "a4", key="a")
    batch = await rig.take_all(limit=3)
    assert [job.id for job in batch] == ["a1", "a2", "a3"]
    for job in batch:
        assert await ids(rig) == []
        await rig.backend.conclude(job.id, token(job), SUCCEEDED)
    assert await ids(rig) == ["a4"]


async def test_what_comes_back_of_a_batch_goes_before_the_rest(rig: Rig) -> None:
    """Jobs of a batch that come back wait for those that are still in progress, then go before all others of the key, in their order."""
    await ordered(rig)
    await rig.put_all("a1", "a2", "a3", key="a")
    one, two, three = await rig.take_all(limit=3)
    await rig.put("a0", key="a", priority=0)
    await rig.backend.release("a3", token(three), 0)
    await rig.backend.release("a2", token(two), 0)
    assert await ids(rig) == []
    await rig.backend.conclude("a1", token(one), SUCCEEDED)
    assert await ids(rig) == ["a2", "a3", "a0"]


async def test_an_undelivered_answer_frees_its_keys(rig: Rig) -> None:
    """An answer that could not be written leaves the key as it was: the more urgent job that came meanwhile goes first."""
    await ordered(rig)
    await rig.put("a1", key="a")
    taking = rig.backend.dequeue(want(), 0)
    await taking.__aenter__()
    await rig.put("a0", key="a", priority=0)
    await taking.__aexit__(None, None, None)
    job = await rig.take()
    assert (job.id, job.attempts) == ("a0", 1)


async def test_an_undelivered_batch_goes_to_the_next_in_line(rig: Rig) -> None:
    """The oldest waiter is handed what came back, in order, and nobody else anything."""
    await ordered(rig)
    await rig.put_all("a1", "a2", key="a")
    taking = rig.backend.dequeue(want(limit=2), 0)
    await taking.__aenter__()
    line = [await rig.stand(limit=2), await rig.stand(limit=2)]
    await taking.__aexit__(None, None, None)
    await rig.idle()
    (left,) = [waiter for waiter in line if not waiter.answered]
    assert left is line[1]
    assert line[0].ids in (["a1"], ["a1", "a2"])
    assert [job.attempts for job in line[0].jobs] == [1] * len(line[0].jobs)


@pytest.mark.parametrize("how", ["cancelled", "expired", "cancel requested"])
async def test_any_end_frees_the_key(rig: Rig, how: str) -> None:
    """A job that holds its key and is cancelled or expires lets it go, and halts nothing."""
    await ordered(rig, "halt")
    await rig.put("a1", key="a", expires_in=20)
    await rig.put("a2", key="a")
    job = await rig.take()
    if how == "cancel requested":
        await rig.backend.cancel("a1")
        await rig.backend.conclude("a1", token(job), FAILED)
    else:
        await rig.backend.release("a1", token(job), 30)
        assert await ids(rig) == []
        if how == "cancelled":
            await rig.backend.cancel("a1")
        else:
            await rig.advance(20)
    assert await ids(rig) == ["a2"]


async def test_a_queued_job_that_leaves_by_itself_holds_up_nothing(rig: Rig) -> None:
    """Jobs that are cancelled while they stand behind others of their key are skipped."""
    await ordered(rig)
    await rig.put_all("a1", "a2", "a3", "a4", key="a")
    job = await rig.take()
    await rig.backend.cancel("a2")
    await rig.backend.cancel("a4")
    await rig.backend.conclude("a1", token(job), SUCCEEDED)
    job = await rig.take()
    assert job.id == "a3"
    await rig.backend.conclude("a3", token(job), SUCCEEDED)
    assert await ids(rig) == []


async def test_a_final_failure_lets_a_fifo_key_go_on(rig: Rig) -> None:
    """With fifo, unlike halt, the next job goes after a failure too; a retry by hand joins the back of its key."""
    await ordered(rig)
    await rig.put_all("a1", "a2", key="a")
    await rig.backend.conclude("a1", token(await rig.take()), FAILED_FOR_GOOD)
    await rig.backend.retry("a1")
    job = await rig.take()
    assert job.id == "a2"
    await rig.backend.conclude("a2", token(job), SUCCEEDED)
    assert await ids(rig) == ["a1"]


# halt.


async def fail(rig: Rig, how: str = "said") -> None:
    """Make a1, the next job of the default queue, fail for good."""
    job = await rig.take(lease_seconds=10)
    assert job.id == "a1"
    if how == "lease":
        await rig.advance(10)
    else:
        await rig.backend.conclude("a1", token(job), FAILED_FOR_GOOD if how == "said" else FAILED)
    assert (await rig.backend.job("a1")).outcome is Outcome.FAILED


@pytest.mark.parametrize("how", ["said", "attempts", "lease"])
async def test_a_final_failure_halts_the_key(rig: Rig, how: str) -> None:
    """However a job fails for good, no other of its key is handed out after it; other keys go on."""
    await ordered(rig, "halt")
    await rig.put("a1", key="a", max_attempts=1)
    await rig.put("a2", key="a", priority=0, delay=1)
    await fail(rig, how)
    await rig.advance(1)
    await rig.put("b", key="b")
    await rig.put("none")
    assert await ids(rig) == ["b", "none"]


async def test_a_retried_job_goes_first_and_lets_its_key_go_on(rig: Rig) -> None:
    """A retry of what halts a key puts it in its old place, before more urgent ones; when it succeeds the key goes on."""
    await ordered(rig, "halt")
    await rig.put_all("a1", "a2", key="a")
    await fail(rig)
    await rig.put("a0", key="a", priority=0)
    await rig.backend.retry("a1")
    job = await rig.take()
    assert (job.id, job.attempts) == ("a1", 1)
    assert await ids(rig) == []
    await rig.backend.conclude("a1", token(job), SUCCEEDED)
    assert await ids(rig) == ["a0", "a2"]


async def test_a_retried_job_that_fails_again_halts_again(rig: Rig) -> None:
    """A key that a retry did not cure stands still again."""
    await ordered(rig, "halt")
    await rig.put_all("a1", "a2", key="a")
    await fail(rig)
    await rig.backend.retry("a1")
    await fail(rig)
    assert await ids(rig) == []
    await rig.backend.retry_failed("default")
    assert await ids(rig, 1) == ["a1"]


async def test_a_cancel_gives_up_what_halts_a_key(rig: Rig) -> None:
    """A cancelled one stays failed, and the key goes on. It no longer halts anything, so a retry joins the back."""
    await ordered(rig, "halt")
    await rig.put_all("a1", "a2", key="a")
    await fail(rig)
    assert (await rig.backend.cancel("a1")).outcome is Outcome.FAILED
    job = await rig.take()
    assert job.id == "a2"
    await rig.backend.retry("a1")
    await rig.backend.conclude("a2", token(job), SUCCEEDED)
    assert await ids(rig) == ["a1"]


async def test_a_halted_key_that_is_resumed_goes_on(rig: Rig) -> None:
    """Resuming the key gives up the job that halts it, as a cancel does."""
    await ordered(rig, "halt")
    await rig.put_all("a1", "a2", key="a")
    await fail(rig)
    (before,), _ = await rig.backend.keys("default", "", 10)
    assert (before.key, before.block, before.holder, before.queued) == ("a", "halted", "a1", 1)
    after = await rig.backend.set_key_paused("default", "a", False)
    assert (after.block, after.holder) == (None, None)
    assert (await rig.backend.job("a1")).outcome is Outcome.FAILED
    assert await ids(rig) == ["a2"]


@pytest.mark.parametrize("how", ["retry", "cancel", "resume"])
async def test_a_key_that_goes_on_wakes_one_waiter(rig: Rig, how: str) -> None:
    """Whatever becomes of what halts a key, the oldest waiter is handed the key's next job, and nobody else is woken."""
    await ordered(rig, "halt")
    await rig.put_all("a1", "a2", key="a")
    await fail(rig)
    line = [await rig.stand() for _ in range(3)]
    if how == "resume":
        await rig.backend.set_key_paused("default", "a", False)
    else:
        await getattr(rig.backend, how)("a1")
    await rig.idle()
    assert [waiter.ids for waiter in line] == [["a1"] if how == "retry" else ["a2"], [], []]
    assert [waiter.answered for waiter in line] == [True, False, False]


async def test_history_does_not_forget_what_halts_a_key(make_backend: MakeBackend) -> None:
    """A failed job that halts its key outlives a history full of others; given up, it is the next to be forgotten or stays."""
    rig = await make_backend(history_jobs_max=2)
    await ordered(rig, "halt")
    await rig.put_all("a1", "a2", key="a")
    await fail(rig)
    for n in range(5):
        await rig.finish(f"f{n}", FAILED_FOR_GOOD)
    assert (await rig.backend.job("a1")).outcome is Outcome.FAILED
    assert await ids(rig) == []
    assert (await rig.backend.stats()).history[Outcome.FAILED][0] == 2
    await rig.backend.cancel("a1")
    for n in range(5, 8):
        await rig.put(f"f{n}", priority=0)
        await rig.backend.conclude(f"f{n}", token(await rig.take()), FAILED_FOR_GOOD)
    found, _ = await rig.backend.jobs(JobFilter(outcome=Outcome.FAILED))
    assert [job.id for job in found] == ["f7", "f6"]
    assert await ids(rig) == ["a2"]


async def test_a_succeeded_job_cannot_be_retried_to_hold_its_key(rig: Rig) -> None:
    """What succeeded stays so: a retry is refused and the key goes on."""
    await ordered(rig, "halt")
    await rig.finish("a1", key="a")
    assert isinstance(await raised(rig.backend.retry("a1")), NotRetryable)
    await rig.put("a2", key="a")
    assert await ids(rig) == ["a2"]


async def test_a_policy_without_halt_lets_halted_keys_go_on(rig: Rig) -> None:
    """A queue that minds no keys any more is held up by none."""
    await ordered(rig, "halt")
    await rig.put_all("a1", "a2", "a3", key="a")
    await fail(rig)
    line = [await rig.stand() for _ in range(3)]
    await rig.backend.put_policy("default", QueuePolicy())
    await rig.idle()
    assert [waiter.ids for waiter in line] == [["a2"], ["a3"], []]
    assert (await rig.backend.job("a1")).outcome is Outcome.FAILED


async def test_a_queue_is_deleted_with_what_halts_its_keys(rig: Rig) -> None:
    """A failed job is no live job: its queue may be deleted, and the queue that is made anew under the name is not halted."""
    await ordered(rig, "halt")
    await rig.put("a1", key="a")
    await fail(rig)
    await rig.backend.delete_queue("default")
    await rig.idle()
    await ordered(rig, "halt")
    await rig.put("a2", key="a")
    assert await ids(rig) == ["a2"]


# Turning it on and off.


async def test_a_queue_that_begins_to_keep_an_order_minds_what_is_in_progress(rig: Rig) -> None:
    """Jobs that were handed out before the policy came hold their keys, however many there are of one."""
    await rig.put_all("a1", "a2", "a3", key="a")
    await rig.put("b1", key="b")
    one, two = await rig.take(), await rig.take()
    await ordered(rig)
    assert await ids(rig) == ["b1"]
    await rig.backend.conclude("a1", token(one), SUCCEEDED)
    assert await ids(rig) == []
    await rig.backend.conclude("a2", token(two), SUCCEEDED)
    assert await ids(rig) == ["a3"]


async def test_a_queue_that_begins_to_mind_keys_serves_its_waiters(rig: Rig) -> None:
    """Jobs that come while the policy is new reach those who stand, one of each key."""
    line = [await rig.stand() for _ in range(4)]
    await rig.backend.put_policy("default", QueuePolicy(per_key=PerKey(order="fifo")))
    await rig.put_all("a1", "a2", key="a")
    await rig.put("b1", key="b")
    await rig.idle()
    assert [waiter.ids for waiter in line] == [["a1"], ["b1"], [], []]


# Pausing one.


async def test_a_paused_key_hands_out_nothing(rig: Rig) -> None:
    """While a key is paused its jobs wait, those that come too, and others go; resumed, it goes on in order."""
    await ordered(rig)
    await rig.put("a1", key="a")
    paused = await rig.backend.set_key_paused("default", "a", True)
    assert (paused.key, paused.block, paused.paused, paused.queued) == ("a", "paused", True, 1)
    await rig.put("a2", key="a")
    await rig.put("b", key="b")
    assert await ids(rig) == ["b"]
    resumed = await rig.backend.set_key_paused("default", "a", False)
    assert (resumed.block, resumed.paused) == (None, False)
    assert await ids(rig) == ["a1", "a2"]


async def test_a_key_of_a_plain_queue_can_be_paused(rig: Rig) -> None:
    """A queue without a policy for keys minds them while one is paused, jobs and all, and no longer."""
    await rig.put_all("a1", "a2", key="a")
    await rig.put("b1", key="b")
    for _ in range(2):
        await rig.backend.set_key_paused("default", "a", True)
    await rig.idle()
    assert await ids(rig) == ["b1"]
    line = [await rig.stand() for _ in range(3)]
    await rig.backend.set_key_paused("default", "a", False)
    await rig.idle()
    assert [waiter.ids for waiter in line] == [["a1"], ["a2"], []]


async def test_a_key_can_be_paused_before_it_has_jobs(rig: Rig) -> None:
    """A pause outlives the last job of its key, and is there before the first."""
    await ordered(rig)
    stats = await rig.backend.set_key_paused("default", "a", True)
    assert (stats.queued, stats.scheduled, stats.in_progress, stats.block, stats.paused) == (0, 0, 0, "paused", True)
    await rig.put("a1", key="a")
    assert await ids(rig) == []
    await rig.backend.cancel("a1")
    await rig.put("a2", key="a")
    assert await ids(rig) == []
    ((found,), _) = await rig.backend.keys("default", "", 10)
    assert (found.key, found.paused, found.queued) == ("a", True, 1)


async def test_a_worker_may_finish_a_job_of_a_paused_key(rig: Rig) -> None:
    """What was handed out before the pause is concluded as ever."""
    await ordered(rig)
    await rig.put_all("a1", "a2", key="a")
    job = await rig.take()
    await rig.backend.set_key_paused("default", "a", True)
    await rig.backend.conclude("a1", token(job), SUCCEEDED)
    assert await ids(rig) == []


async def test_pausing_a_key_is_refused_where_it_cannot_be(make_backend: MakeBackend) -> None:
    """UnknownQueue, a bad key, and too many of them are refused, and change nothing."""
    rig = await make_backend(paused_keys_max=1)
    assert isinstance(await raised(rig.backend.set_key_paused("nowhere", "a", True)), UnknownQueue)
    await ordered(rig)
    error = await raised(rig.backend.set_key_paused("default", "", True))
    assert isinstance(error, BadRequest)
    assert error.field == "key"
    await rig.backend.set_key_paused("default", "a", True)
    full = await raised(rig.backend.set_key_paused("default", "b", True))
    assert (full.code, getattr(full, "field", None)) == ("queue_full", "key")
    await rig.put("b1", key="b")
    assert await ids(rig) == ["b1"]
