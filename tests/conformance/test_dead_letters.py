"""Dead letters, of every backend: where they go, who is told, and how they come back."""

from __future__ import annotations

import asyncio

from jobqueue.backend.base import Conclude, Listen
from jobqueue.backend.requests.tasks import Redrive
from jobqueue.errors import BadRequest, UnknownQueue
from jobqueue.model import Outcome, Status
from jobqueue.past import Origin
from jobqueue.policy import PolicyChange, QueuePolicy

from .conftest import MakeBackend
from .redriving import redriven
from .rig import FAILED, FAILED_FOR_GOOD, SUCCEEDED, Rig, raised, spec, token


async def bury(rig: Rig, job_id: str, queue: str = "default") -> None:
    """A job that failed for good in a queue whose dead letters go to `dead`."""
    await rig.backend.put_policy(queue, QueuePolicy(max_attempts=1, dead_letter="default:dead"))
    await rig.finish(job_id, FAILED, queue=queue)


async def test_a_dead_letter_waits_in_another_queue(rig: Rig) -> None:
    """It is live there under its id and number, with what went wrong, and says where it comes from; the answer to the conclude says so."""
    await rig.backend.put_policy("default", QueuePolicy(dead_letter="default:dead"))
    made = await rig.put("j", payload=b"[1]")
    taken = await rig.take()
    at = rig.utc()
    said = await rig.backend.conclude("j", token(taken), FAILED_FOR_GOOD)
    job = await rig.backend.job("j")
    for shown in (said, job):
        assert (shown.id, shown.number, shown.queue, shown.status, shown.attempts) == ("j", made.number, "default:dead", Status.QUEUED, 0)
        assert (shown.payload, shown.error, len(shown.past)) == (b"[1]", FAILED_FOR_GOOD.error, 1)
        assert shown.origin == Origin("default", at, "failed", 1)
    stats = await rig.backend.queue("default")
    assert (stats.failed_total, stats.dead_lettered_total) == (1, 1)
    assert (await rig.backend.queue("default:dead")).moved_in_total == 1
    assert (await rig.take("default:dead")).attempts == 1


async def test_a_lease_that_runs_out_for_good_makes_one(rig: Rig) -> None:
    """So does a worker that died, and whoever waits on that queue is handed it in the same step."""
    await rig.backend.put_policy("default", QueuePolicy(max_attempts=1, dead_letter="default:dead"))
    await rig.put("j")
    await rig.take(lease_seconds=5)
    waiter = await rig.stand("default:dead")
    await rig.advance(5)
    assert waiter.ids == ["j"]
    job = await rig.backend.job("j")
    assert job.origin is not None
    assert (job.status, job.origin.reason, job.error) == (Status.IN_PROGRESS, "lease_expired", b'"lease_expired"')


async def test_who_waits_for_a_result_is_answered_when_it_ends(rig: Rig) -> None:
    """A failure that moves the job is no end; that of its work there is."""
    await rig.backend.put_policy("default", QueuePolicy(max_attempts=1, dead_letter="default:dead"))
    await rig.put("j")
    waiting = asyncio.create_task(rig.backend.job("j", 100))
    await rig.idle()
    taken = await rig.take()
    await rig.backend.conclude("j", token(taken), FAILED)
    await rig.idle()
    assert not waiting.done()
    taken = await rig.take("default:dead")
    await rig.backend.conclude("j", token(taken), SUCCEEDED)
    job = await waiting
    assert (job.outcome, job.queue, job.conclusion and job.conclusion.result) == (Outcome.SUCCEEDED, "default:dead", SUCCEEDED.result)


async def test_a_repeated_enqueue_is_answered_the_dead_letter(rig: Rig) -> None:
    """Its producer does not know where it is by now."""
    await bury(rig, "j")
    again = await rig.backend.enqueue_batch([spec("j")])
    assert [(one.job.queue, one.created) for one in again if not isinstance(one, Exception)] == [("default:dead", False)]


async def test_listeners_are_told_of_it(rig: Rig) -> None:
    """Those of the queue that it failed in, and those of the queue that it waits in."""
    await rig.backend.put_policy("default", QueuePolicy(max_attempts=1, dead_letter="default:dead"))
    await rig.put("j")
    taken = await rig.take()
    async with rig.backend.listen(Listen()) as listening:
        await rig.idle()
        await rig.backend.conclude("j", token(taken), FAILED)
        await rig.idle()
        notices = await listening.notices(10, 0)
    assert notices is not None
    assert [(notice.kind, notice.queue) for notice in notices] == [
        ("queue_changed", "default:dead"),
        ("dead_lettered", "default"),
        ("queued", "default:dead"),
    ]


async def test_circles_are_refused(rig: Rig) -> None:
    """A policy whose dead letters would come back to its queue by themselves."""
    await rig.backend.put_policy("a", QueuePolicy(dead_letter="b"))
    for refused in (
        rig.backend.put_policy("b", QueuePolicy(dead_letter="a")),
        rig.backend.put_policy("c", QueuePolicy(dead_letter="c")),
        rig.backend.change_policy("a", PolicyChange(dead_letter="a")),
    ):
        error = await raised(refused)
        assert isinstance(error, BadRequest)
        assert error.field == "dead_letter"


async def test_a_job_without_a_place_there_is_history(make_backend: MakeBackend) -> None:
    """Where the dead-letter queue can take no more, it ends as failed, and nothing is refused."""
    rig = await make_backend(queues_max=1)
    await bury(rig, "j")
    job = await rig.backend.job("j")
    assert (job.outcome, job.queue, job.origin) == (Outcome.FAILED, "default", None)


async def test_attempts_without_a_bound(rig: Rig) -> None:
    """Null is none."""
    stats = await rig.backend.put_policy("default", QueuePolicy(max_attempts=None))
    assert stats.policy.max_attempts is None
    assert (await rig.backend.change_policy("default", PolicyChange(max_attempts=3))).policy.max_attempts == 3


async def test_redrive_moves_them_back(rig: Rig) -> None:
    """Each to where it failed, waiting workers are handed them, and what is no dead letter stays."""
    ids = [f"a{number}" for number in range(601)]
    await rig.backend.put_policy("default", QueuePolicy(max_attempts=1, dead_letter="default:dead"))
    await rig.put_all(*ids)
    await rig.backend.conclude_batch([Conclude(job.id, token(job), FAILED) for job in await rig.take_all(limit=1_000)])
    await bury(rig, "b", "default:other")
    await rig.put("own", queue="default:dead")
    waiter = await rig.stand("default:other")
    assert await redriven(rig, "default:dead") == 602
    await rig.idle()
    assert waiter.ids == ["b"]
    jobs = await rig.take_all(limit=1_000)
    assert [job.id for job in jobs] == ids
    assert {(job.origin, job.error, job.past, job.attempts) for job in jobs} == {(None, None, (), 1)}
    assert [job.id for job in await rig.take_all("default:dead", limit=10)] == ["own"]
    assert await redriven(rig, "default:dead") == 0
    assert (await rig.backend.queue("default:dead")).moved_out_total == 602


async def test_redrive_to_another_queue(rig: Rig) -> None:
    """One that is made for it; the queue itself and what is no name are refused, a queue that is not there is unknown."""
    await bury(rig, "j")
    assert await redriven(rig, "default:dead", "default:again") == 1
    assert (await rig.take("default:again")).id == "j"
    assert isinstance(await raised(rig.backend.ask(Redrive(queue="no"))), UnknownQueue)
    for to in ("default:dead", "no name"):
        error = await raised(rig.backend.ask(Redrive(queue="default:dead", to=to)))
        assert isinstance(error, BadRequest)
        assert error.field == "to"
