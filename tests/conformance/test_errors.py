"""Errors in groups and listings by when jobs ended, on every backend, and over a restart."""

from __future__ import annotations

import msgspec

from jobqueue.backend.requests.bulk import BulkJobs
from jobqueue.backend.requests.errors import ListErrors
from jobqueue.engine.filters import Matching
from jobqueue.errors import UnknownQueue
from jobqueue.model import Outcome, Verdict
from jobqueue.policy import QueuePolicy

from .rig import Rig, going_on, raised, token


async def fail(rig: Rig, job_id: str, message: str, queue: str = "default", **fields: object) -> None:
    """A job whose attempt fails so, for good unless there is more to say."""
    await rig.put(job_id, queue=queue)
    job = await rig.take(queue)
    error = msgspec.json.encode({"type": "Timeout", "message": message})
    said = Verdict(outcome=Outcome.FAILED, error=error, **(fields or {"retry": False}))  # type: ignore[arg-type] # as they are
    await rig.backend.conclude(job_id, token(job), said)


async def test_failures_are_counted_by_error(rig: Rig) -> None:
    """By queue or for all, those first that were met last; a backend that starts anew counts those that its jobs know of."""
    await rig.backend.put_policy("dying", QueuePolicy(max_attempts=1, dead_letter="dying:dead"))
    await fail(rig, "a", "after 31 s", retry_delay=60.0)
    await rig.advance(1)
    await fail(rig, "b", "after 32 s")
    await rig.advance(1)
    await fail(rig, "c", "it died", "dying", retry_delay=0.0)
    found = await rig.backend.ask(ListErrors())
    assert [(each.queue, each.type, each.line, each.attempts, each.jobs, each.job) for each in found] == [
        ("dying", "Timeout", "it died", 1, 1, "c"),
        ("default", "Timeout", "after <n> s", 2, 1, "b"),
    ]
    assert found[1].last_at - found[1].first_at == 1
    assert await rig.backend.ask(ListErrors(queue="default")) == found[1:]
    assert isinstance(await raised(rig.backend.ask(ListErrors(queue="none"))), UnknownQueue)


async def test_jobs_are_chosen_by_their_error(rig: Rig) -> None:
    """In listings and by what is done to many."""
    await fail(rig, "a", "after 31 s")
    await fail(rig, "b", "no such host")
    await fail(rig, "c", "after 32 s")
    _, group = [each.id for each in sorted(await rig.backend.ask(ListErrors()), key=lambda each: -each.attempts)]
    wanted = Matching(error_group=group, outcome=Outcome.FAILED)
    assert [job.id for job in (await rig.backend.jobs(wanted.at(0)))[0]] == ["b"]
    done = await rig.backend.ask(BulkJobs(action="retry", matching=wanted))
    assert (done.done, (await rig.backend.job("b")).outcome, (await rig.backend.job("a")).outcome) == (1, None, Outcome.FAILED)


async def test_jobs_are_listed_by_when_they_ended(rig: Rig) -> None:
    """A page at a time."""
    await rig.put_all("old", "new")
    old, new = await rig.take_all(limit=2)
    for job in (new, old):
        await rig.advance(1)
        await rig.backend.conclude(job.id, token(job), Verdict(outcome=Outcome.FAILED, retry=False))
    wanted = msgspec.structs.replace(Matching(outcome=Outcome.FAILED).at(0), by_end=True, limit=1)
    (first,), cursor = await rig.backend.jobs(wanted)
    (second,), _ = await rig.backend.jobs(msgspec.structs.replace(wanted, **going_on(cursor)))
    assert (first.id, second.id) == ("old", "new")
