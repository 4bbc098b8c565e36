"""What a queue's policy keeps of its concluded jobs, of every backend."""

from __future__ import annotations

import asyncio

import pytest

from jobqueue.errors import BadRequest, UnknownJob
from jobqueue.model import JobFilter, Outcome
from jobqueue.policy import Keep, PerKey, PolicyChange, QueuePolicy

from .rig import FAILED_FOR_GOOD, SUCCEEDED, Rig, raised, token

SHORT = Keep(60.0)


async def known(rig: Rig, *ids: str) -> list[str]:
    """Those of these jobs that are remembered."""
    found = []
    for job_id in ids:
        try:
            found.append((await rig.backend.job(job_id)).id)
        except UnknownJob:
            continue
    return found


async def cancelled(rig: Rig, *ids: str) -> None:
    for job_id in ids:
        await rig.put(job_id)
        await rig.backend.cancel(job_id)


async def test_what_is_too_old_is_forgotten(rig: Rig) -> None:
    """Each job for as long as its outcome and its queue say, to the second; those of other queues stay."""
    await rig.backend.put_policy("default", QueuePolicy(keep_succeeded=SHORT, keep_failed=Keep(120.0)))
    await rig.finish("s1")
    await rig.finish("f", FAILED_FOR_GOOD)
    await rig.finish("other", queue="other")
    await rig.advance(30)
    await rig.finish("s2")
    await rig.advance(29)
    assert await known(rig, "s1", "s2", "f", "other") == ["s1", "s2", "f", "other"]
    await rig.advance(1)
    assert await known(rig, "s1", "s2", "f", "other") == ["s2", "f", "other"]
    await rig.advance(30)
    assert await known(rig, "s2", "f", "other") == ["f", "other"]
    await rig.advance(30)
    assert await known(rig, "f", "other") == ["other"]
    assert (await rig.backend.stats()).history[Outcome.SUCCEEDED][0] == 1
    # As if it had never been: its id makes a new job.
    assert (await rig.put("s1")).number > 4


async def test_no_more_are_kept_than_may_be(rig: Rig) -> None:
    """The newest stay, in the very step; cancelled ones are counted by themselves, by the rule for what did not succeed."""
    await rig.backend.put_policy("default", QueuePolicy(keep_succeeded=Keep(count=2), keep_failed=Keep(count=1)))
    for job_id in ("a", "b", "c"):
        await rig.finish(job_id)
    await rig.finish("f", FAILED_FOR_GOOD)
    await cancelled(rig, "x", "y")
    assert await known(rig, "a", "b", "c", "f", "x", "y") == ["b", "c", "f", "y"]
    found, _ = await rig.backend.jobs(JobFilter(limit=10))
    assert [job.id for job in found] == ["y", "f", "c", "b"]


async def test_who_waits_for_the_result_of_a_job_that_is_not_kept_is_answered(rig: Rig) -> None:
    """With a count of 0 nothing is remembered, and what was asked before is answered all the same."""
    await rig.backend.put_policy("default", QueuePolicy(keep_succeeded=Keep(count=0)))
    await rig.put("j")
    waiting = asyncio.create_task(rig.backend.job("j", 100))
    await rig.idle()
    taken = await rig.take()
    said = await rig.backend.conclude("j", token(taken), SUCCEEDED)
    assert said.outcome is Outcome.SUCCEEDED
    told = (await waiting).conclusion
    assert told is not None
    assert told.result == b'"done"'
    assert await known(rig, "j") == []


async def test_a_rule_holds_for_what_there_is(rig: Rig) -> None:
    """Jobs from before it go too, and a wider rule brings nothing back."""
    for job_id in ("a", "b", "c", "d"):
        await rig.finish(job_id)
        await rig.advance(10)
    await rig.backend.change_policy("default", PolicyChange(keep_succeeded=Keep(count=3)))
    await rig.idle()
    assert await known(rig, "a", "b", "c", "d") == ["b", "c", "d"]
    await rig.backend.change_policy("default", PolicyChange(keep_succeeded=Keep(35.0, 2)))
    await rig.idle()
    assert await known(rig, "b", "c", "d") == ["c", "d"]
    await rig.advance(20)
    assert await known(rig, "c", "d") == ["d"]
    await rig.backend.change_policy("default", PolicyChange(keep_succeeded=None))
    await rig.advance(1_000)
    assert await known(rig, "d") == ["d"]
    assert (await rig.backend.queue("default")).policy.keep_succeeded is None


async def test_a_retried_job_is_kept_from_its_new_end(rig: Rig) -> None:
    """While it lives it is nothing that is kept, and its age begins when it ends again."""
    await rig.backend.put_policy("default", QueuePolicy(keep_failed=SHORT))
    await rig.finish("j", FAILED_FOR_GOOD)
    await rig.advance(50)
    await rig.backend.retry("j")
    await rig.advance(50)
    taken = await rig.take()
    await rig.backend.conclude("j", token(taken), FAILED_FOR_GOOD)
    await rig.advance(50)
    assert await known(rig, "j") == ["j"]
    await rig.advance(10)
    assert await known(rig, "j") == []


async def test_what_halts_its_key_stays(rig: Rig) -> None:
    """However old it is, and whatever else failed; once it is given up it goes as any other."""
    rule = QueuePolicy(keep_failed=Keep(60.0, 1), per_key=PerKey(order="halt"))
    await rig.backend.put_policy("default", rule)
    await rig.finish("halts", FAILED_FOR_GOOD, key="k")
    await rig.finish("f", FAILED_FOR_GOOD)
    await rig.advance(100)
    assert await known(rig, "halts", "f") == ["halts"]
    await rig.backend.cancel("halts")
    await rig.idle()
    assert await known(rig, "halts") == []


async def test_a_deleted_queues_rule_is_gone(rig: Rig) -> None:
    """What it kept is remembered as the server's bounds say; a new queue of that name keeps by its own rule what there is of it."""
    await rig.backend.put_policy("default", QueuePolicy(keep_succeeded=SHORT))
    await rig.finish("j")
    await rig.backend.delete_queue("default")
    await rig.advance(100)
    assert await known(rig, "j") == ["j"]
    await rig.backend.put_policy("default", QueuePolicy(keep_succeeded=SHORT))
    await rig.idle()
    assert await known(rig, "j") == []


@pytest.mark.parametrize(
    ("field", "rule"),
    [
        ("keep_succeeded", Keep()),
        ("keep_succeeded.seconds", Keep(0.5)),
        ("keep_succeeded.seconds", Keep(float("nan"))),
        ("keep_succeeded.count", Keep(count=-1)),
        ("keep_succeeded.count", Keep(count=10**10)),
    ],
)
async def test_a_rule_out_of_bounds_is_refused(rig: Rig, field: str, rule: Keep) -> None:
    """It is named, and nothing is changed."""
    for name in ("keep_succeeded", "keep_failed"):
        error = await raised(rig.backend.put_policy("default", QueuePolicy(**{name: rule})))  # type: ignore[arg-type]
        assert isinstance(error, BadRequest)
        assert error.field == field.replace("keep_succeeded", name)
    assert await rig.backend.queues() == []


async def test_what_others_are_to_run_after_stays(rig: Rig) -> None:
    """For as long as one of them lives, however little is kept; then it goes as any other."""
    await rig.backend.put_policy("default", QueuePolicy(keep_succeeded=Keep(count=0)))
    await rig.put("first")
    await rig.put("second")
    await rig.put("child", queue="default:other", after=("first", "second"))
    taken = await rig.take()
    await rig.backend.conclude("first", token(taken), SUCCEEDED)
    await rig.advance(100)
    assert await known(rig, "first") == ["first"]
    taken = await rig.take()
    await rig.backend.conclude("second", token(taken), SUCCEEDED)
    await rig.idle()
    child = await rig.take("default:other")
    assert await known(rig, "first", "second") == ["first", "second"]
    await rig.backend.conclude("child", token(child), SUCCEEDED)
    await rig.idle()
    assert await known(rig, "first", "second") == []
