"""Tasks: a redrive that goes on after it was answered, is looked at, and is stopped."""

from __future__ import annotations

from jobqueue.backend.requests.groups import CreateGroup
from jobqueue.backend.requests.tasks import CancelTask, GetTask, ListTasks, Redrive
from jobqueue.backend.tasks import KEPT_MAX, RUNNING_MAX
from jobqueue.engine.filters import Matching
from jobqueue.engine.tasks import TaskStats
from jobqueue.errors import BadRequest, TooManyTasks, UnknownJob, UnknownQueue, UnknownTask
from jobqueue.group import GroupSpec
from jobqueue.model import JobFilter, JobSpec
from jobqueue.policy import QueuePolicy
from jobqueue.unique import Unique

from .redriving import redriven
from .rig import FAILED, SUCCEEDED, Rig, raised, token


async def bury(rig: Rig, *ids: str, error: bytes = b'"broken"', **fields: object) -> None:
    """Jobs that failed for good in the default queue, whose dead letters go to `dead`."""
    await rig.backend.put_policy("default", QueuePolicy(max_attempts=1, dead_letter="default:dead"))
    for each in ids:
        await rig.finish(each, FAILED, **fields)


async def at_rest(rig: Rig, task: TaskStats) -> TaskStats:
    """The task once nothing more happens without time."""
    await rig.idle()
    return await rig.backend.ask(GetTask(id=task.id))


async def test_a_redrive_is_a_task_that_ends(rig: Rig) -> None:
    """It says how many it is for and how many it has moved, and is remembered when it is over."""
    await bury(rig, "a", "b")
    began = await rig.backend.ask(Redrive(queue="default:dead"))
    assert (began.kind, began.queue, began.to, began.rate, began.total) == ("redrive", "default:dead", None, None, 2)
    over = await at_rest(rig, began)
    assert (over.state, over.total, over.done, over.error) == ("done", 2, 2, None)
    assert over.ended_at is not None
    assert await rig.backend.ask(ListTasks()) == [over]
    assert [job.id for job in await rig.take_all(limit=9)] == ["a", "b"]


async def test_a_rate_is_kept(rig: Rig) -> None:
    """So many a second, the first at once, in their order."""
    await bury(rig, "a", "b", "c")
    task = await rig.backend.ask(Redrive(queue="default:dead", rate=0.5))
    for done in (1, 2, 3):
        assert (await at_rest(rig, task)).done == done
        await rig.advance(1)
        assert (await at_rest(rig, task)).done == done
        await rig.advance(1)
    assert (await at_rest(rig, task)).state == "done"


async def test_a_task_is_cancelled(rig: Rig) -> None:
    """It moves nothing more, what it moved stays moved, and cancelling it again changes nothing."""
    await bury(rig, "a", "b", "c")
    task = await rig.backend.ask(Redrive(queue="default:dead", rate=0.1))
    assert (await at_rest(rig, task)).done == 1
    over = await rig.backend.ask(CancelTask(id=task.id))
    assert (over.state, over.done, over.total) == ("cancelled", 1, 3)
    await rig.advance(60)
    assert await rig.backend.ask(CancelTask(id=task.id)) == over == await at_rest(rig, task)
    assert (await rig.backend.queue("default:dead")).queued == 2


async def test_a_redrive_of_some(rig: Rig) -> None:
    """By type, key, tag, error or time; a dry run counts them and moves none."""
    await bury(rig, "a", type="t", tags=("x",))
    await bury(rig, "b")
    counted = await rig.backend.ask(Redrive(queue="default:dead", matching=Matching(type="t", tag="x", error="broken"), dry_run=True))
    assert (counted.id, counted.state, counted.total, counted.done) == ("", "done", 1, 0)
    assert await rig.backend.ask(ListTasks()) == []
    assert await redriven(rig, "default:dead", matching=Matching(type="t")) == 1
    assert [job.id for job in await rig.take_all(limit=9)] == ["a"]


async def test_what_leaves_meanwhile_is_not_moved(rig: Rig) -> None:
    """A dead letter that a worker has by then, or that was cancelled; those for which there is no room stay, and the task ends."""
    await bury(rig, "a", "b", "c", "d")
    task = await rig.backend.ask(Redrive(queue="default:dead", rate=0.1))
    assert (await at_rest(rig, task)).done == 1
    assert (await rig.take("default:dead")).id == "b"
    await rig.backend.cancel("c")
    await rig.backend.put_policy("default", QueuePolicy(max_jobs=1))
    await rig.advance(60)
    over = await at_rest(rig, task)
    assert (over.state, over.done, over.total) == ("done", 1, 4)
    assert (await rig.backend.queue("default:dead")).queued == 1


async def test_as_many_run_as_may(rig: Rig) -> None:
    """One more is refused, and changes nothing; of those that are over the newest are remembered."""
    await bury(rig, *(f"a{number}" for number in range(RUNNING_MAX + 2)))
    tasks = [await rig.backend.ask(Redrive(queue="default:dead", to="default:there", rate=0.001)) for _ in range(RUNNING_MAX)]
    assert isinstance(await raised(rig.backend.ask(Redrive(queue="default:dead"))), TooManyTasks)
    await rig.idle()
    for task in tasks[1:]:
        await rig.backend.ask(CancelTask(id=task.id))
    for _ in range(KEPT_MAX):
        await at_rest(rig, await rig.backend.ask(Redrive(queue="default:dead", matching=Matching(tag="none"))))
    known = {stats.id for stats in await rig.backend.ask(ListTasks())}
    assert len(known) == KEPT_MAX
    assert not known & {task.id for task in tasks[1:-1]}


async def test_what_is_no_redrive_is_refused(rig: Rig) -> None:
    """By its field; a queue and a task that are not there are unknown."""
    await rig.put("a")
    for rate in (0.0, -1.0, 1e6, float("nan")):
        error = await raised(rig.backend.ask(Redrive(queue="default", rate=rate)))
        assert isinstance(error, BadRequest)
        assert error.field == "rate"
    assert isinstance(await raised(rig.backend.ask(Redrive(queue="no"))), UnknownQueue)
    for asked in (GetTask(id="no"), CancelTask(id="no")):
        assert isinstance(await raised(rig.backend.ask(asked)), UnknownTask)


async def test_a_redrive_that_is_to_be_alone(rig: Rig) -> None:
    """Is refused while another of its queue runs, and not for one of another queue, nor for one that is over."""
    await bury(rig, "a", "b")
    await rig.backend.put_policy("other", QueuePolicy())
    task = await rig.backend.ask(Redrive(queue="default:dead", rate=0.1, alone=True))
    error = await raised(rig.backend.ask(Redrive(queue="default:dead", alone=True)))
    assert (type(error), error.field) == (TooManyTasks, "queue")
    assert (await rig.backend.ask(Redrive(queue="other", alone=True))).total == 0
    await rig.backend.ask(CancelTask(id=task.id))
    assert (await at_rest(rig, await rig.backend.ask(Redrive(queue="default:dead", alone=True)))).state == "done"


async def test_a_task_goes_on_at_the_next_server(rig: Rig) -> None:
    """It moves what was there when it began, at its rate, and no dead letter that came later; and is known when it is over."""
    await bury(rig, "a", "b", "c")
    began = await rig.backend.ask(Redrive(queue="default:dead", to="default:there", rate=0.5, matching=Matching(error="broken")))
    assert (await at_rest(rig, began)).done == 1
    await rig.advance(1)
    await bury(rig, "d")
    for done in (2, 3):
        await rig.advance(1)
        assert (await at_rest(rig, began)).done == done
        await rig.advance(1)
    over = await at_rest(rig, began)
    assert (over.id, over.state, over.done, over.total, over.started_at) == (began.id, "done", 3, 3, began.started_at)
    assert [job.id for job in await rig.take_all("default:there", limit=9)] == ["a", "b", "c"]
    assert (await rig.backend.queue("default:dead")).queued == 1


async def test_a_task_whose_queue_goes_is_over(rig: Rig) -> None:
    """There is nothing more to move."""
    await bury(rig, "a", "b")
    task = await rig.backend.ask(Redrive(queue="default:dead", rate=0.5))
    assert (await at_rest(rig, task)).done == 1
    await rig.backend.cancel("b")
    await rig.backend.put_policy("default", QueuePolicy())
    await rig.backend.delete_queue("default:dead")
    await rig.advance(2)
    over = await at_rest(rig, task)
    assert (over.state, over.done, over.total) == ("done", 1, 2)


async def test_a_redrive_as_new_jobs(rig: Rig) -> None:
    """Each has an id and a number of its own and is made when it is moved, with the content that it had; nobody knows it by its old id."""
    await bury(rig, "a", payload=b'{"n":1}', type="t", tags=("x",), priority=3, description="one")
    before = await rig.backend.job("a")
    await rig.advance(5)
    assert await redriven(rig, "default:dead", as_new=True) == 1
    assert isinstance(await raised(rig.backend.job("a")), UnknownJob)
    job = await rig.take()
    assert job.id != "a"
    assert job.number > before.number
    assert job.created_at == rig.utc()
    assert (job.payload, job.type, job.details.extra.tags, job.priority) == (b'{"n":1}', "t", ("x",), 3)
    assert (job.details.description, job.attempts, job.details.error, job.origin, job.home) == ("one", 1, None, None, "default")
    await rig.backend.conclude(job.id, token(job), SUCCEEDED)
    assert (await rig.backend.job(job.id)).number == job.number
    again = await rig.backend.enqueue(JobSpec(id="a", payload=b"2"))
    assert again.created


async def test_a_new_job_has_the_unique_key_of_the_old_one(rig: Rig) -> None:
    """Where the key is for a job that is not done yet; what it held for a time from its enqueue stays with that enqueue."""
    await bury(rig, "a", unique=Unique("k"))
    await bury(rig, "b", unique=Unique("w", until="enqueued", for_=60.0))
    assert await redriven(rig, "default:dead", as_new=True) == 2
    moved = [job for job in (await rig.backend.jobs(JobFilter(queue="default", limit=9)))[0] if job.outcome is None]
    keys = {None if job.unique is None else job.unique.key: job.id for job in moved}
    assert keys.keys() == {"k", None}
    met = await rig.backend.enqueue(JobSpec(payload=b"1", unique=Unique("k")))
    assert (met.job.id, met.created) == (keys["k"], False)
    held = await rig.backend.enqueue(JobSpec(payload=b"1", unique=Unique("w", until="enqueued", for_=60.0)))
    assert (held.job.id, held.created) == ("b", False)


async def test_what_others_know_by_its_id_keeps_it(rig: Rig) -> None:
    """A member of a group, and a job that another is after, are moved as they are."""
    await rig.backend.put_policy("default", QueuePolicy(max_attempts=1, dead_letter="default:dead"))
    group = await rig.backend.ask(CreateGroup(spec=GroupSpec(queue="default")))
    await rig.finish("member", FAILED, group=group[0].id)
    await rig.put("parent")
    await rig.put("child", after=("parent",))
    await rig.backend.conclude("parent", token(await rig.take()), FAILED)
    assert await redriven(rig, "default:dead", as_new=True) == 2
    assert [job.id for job in await rig.take_all(limit=9)] == ["member", "parent"]
