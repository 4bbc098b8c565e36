"""Making queues that are not there yet, their names in pages, their times, and what goes with them, of every backend."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from jobqueue.backend.base import SentSpec
from jobqueue.backend.requests.queues import DeleteQueue, MakeQueue, QueueNames
from jobqueue.backend.restricted import RestrictedBackend
from jobqueue.errors import BadRequest, Forbidden, TooManyQueues, UnknownQueue
from jobqueue.model import Outcome, Status
from jobqueue.policy import PerKey, PolicyChange, QueuePolicy

from .conftest import MakeBackend
from .rig import FAILED, Rig, raised, spec, token

KEPT = QueuePolicy(delay=5.0, expires_in=60.0, tags={"team": "a"}, attributes={"Name": "a\nb"})


async def test_a_queue_is_made_once(rig: Rig) -> None:
    """With its policy; the next who asks is told what there is, and changes nothing."""
    made = await rig.backend.ask(MakeQueue(name="q", policy=KEPT))
    assert (made.created, made.stats.name, made.stats.policy) == (True, "q", KEPT)
    await rig.advance(1)
    again = await rig.backend.ask(MakeQueue(name="q"))
    assert (again.created, again.stats.policy, again.stats.modified_at) == (False, KEPT, made.stats.modified_at)
    assert (await rig.backend.queue("q")) == again.stats


@pytest.mark.one_partition("each partition has its own bound of queues")
async def test_a_queue_that_may_not_be_is_not_made(make_backend: MakeBackend) -> None:
    """For its name, its policy, or the bound on queues; one that is there is answered all the same."""
    rig = await make_backend(queues_max=1)
    for asked, field in ((MakeQueue(name="a b"), "queue"), (MakeQueue(name="q", policy=QueuePolicy(delay=-1.0)), "delay")):
        error = await raised(rig.backend.ask(asked))
        assert isinstance(error, BadRequest)
        assert error.field == field
    assert (await rig.backend.ask(MakeQueue(name="q" * 80))).created
    assert isinstance(await raised(rig.backend.ask(MakeQueue(name="r"))), TooManyQueues)
    assert not (await rig.backend.ask(MakeQueue(name="q" * 80))).created
    assert await rig.backend.ask(QueueNames()) == (["q" * 80], None)


async def test_names_come_in_pages(rig: Rig) -> None:
    """In order, those of a prefix alone if one is asked for; queues that come and go between two pages are there or not."""
    for name in ("b", "a.2", "a.1", "a.10", "c"):
        await rig.backend.ask(MakeQueue(name=name))
    ask = rig.backend.ask
    assert await ask(QueueNames()) == (["a.1", "a.10", "a.2", "b", "c"], None)
    assert await ask(QueueNames(limit=2)) == (["a.1", "a.10"], "a.10")
    assert await ask(QueueNames(after="a.10", limit=3)) == (["a.2", "b", "c"], None)
    assert await ask(QueueNames(prefix="a.", limit=3)) == (["a.1", "a.10", "a.2"], None)
    assert await ask(QueueNames(prefix="a.1", limit=1)) == (["a.1"], "a.1")
    assert await ask(QueueNames(prefix="x")) == ([], None)
    await rig.backend.delete_queue("b")
    await rig.put("j", queue="bb")
    assert await ask(QueueNames(after="a.2")) == (["bb", "c"], None)
    assert [stats.name for stats in (await rig.backend.queue_page("a.10", 2))[0]] == ["a.2", "bb"]


async def test_somebody_sees_and_makes_queues_of_their_own(rig: Rig) -> None:
    """Names of others' queues are left out, and pages are as full as without; a queue of another name is not theirs to make."""
    for name in ("a.1", "b.1", "a.2", "b.2", "a.3"):
        await rig.backend.ask(MakeQueue(name=name))
    theirs = RestrictedBackend(rig.backend, "t", lambda name: name.startswith("a."))
    assert await theirs.ask(QueueNames(limit=2)) == (["a.1", "a.2"], "a.2")
    assert await theirs.ask(QueueNames(after="a.2", limit=2)) == (["a.3"], None)
    assert await theirs.ask(QueueNames(prefix="b")) == ([], None)
    assert (await theirs.ask(MakeQueue(name="a.4"))).created
    for asked, field in ((MakeQueue(name="b.1"), "queue"), (MakeQueue(name="a.5", policy=QueuePolicy(dead_letter="b.1")), "dead_letter")):
        error = await raised(theirs.ask(asked))
        assert isinstance(error, Forbidden)
        assert error.field == field


async def test_a_queue_has_times(rig: Rig) -> None:
    """UTC: when it was made, by a job too, and when somebody last changed its policy."""
    start = rig.utc()
    await rig.put("j")
    await rig.advance(5)
    await rig.backend.set_paused("default", True)
    await rig.advance(5)
    await rig.put("k")
    stats = await rig.backend.queue("default")
    assert (stats.created_at, stats.modified_at) == (start, start + 5)


async def test_a_queue_delays_what_says_no_time(rig: Rig) -> None:
    """Its jobs wait for that long; one that says 0 does not."""
    await rig.backend.put_policy("default", QueuePolicy(delay=5.0))
    await rig.backend.enqueue_batch([spec("a"), spec("b", delay=0.0)])
    assert (await rig.backend.job("a")).status is Status.SCHEDULED
    assert [job.id for job in await rig.take_all(limit=5)] == ["b"]
    await rig.advance(5)
    await rig.idle()
    assert [job.id for job in await rig.take_all(limit=5)] == ["a"]


async def test_what_waits_too_long_expires(rig: Rig) -> None:
    """By a policy that came later too; whoever waits for the job is told."""
    await rig.put("a")
    await rig.advance(30)
    await rig.put("b")
    await rig.backend.change_policy("default", PolicyChange(expires_in=60.0))
    await rig.advance(30)
    await rig.idle()
    assert (await rig.backend.job("a")).outcome is Outcome.EXPIRED
    assert [job.id for job in await rig.take_all(limit=5)] == ["b"]
    stats = await rig.backend.queue("default")
    assert (stats.expired_total, stats.policy.expires_in) == (1, 60.0)


ORDERED = QueuePolicy(per_key=PerKey(order="fifo"))


async def test_a_queue_that_keeps_an_order_delays_what_is_there(rig: Rig) -> None:
    """A new delay counts from a job's creation, also a longer or shorter one than before; a job that has a time of its own, or came back,
    keeps it."""
    await rig.backend.put_policy("default", ORDERED)
    await rig.put("had", key="h")
    taken = await rig.take()
    await rig.backend.enqueue_batch([spec("a", key="k"), spec("own", key="o", delay=3.0), spec("b", key="k")])
    await rig.backend.release("had", token(taken), 2.0)
    await rig.backend.change_policy("default", PolicyChange(delay=10.0))
    await rig.idle()
    assert [(await rig.backend.job(name)).run_at for name in ("a", "b")] == [rig.utc() + 10] * 2
    assert await rig.take_all(limit=5) == []
    await rig.advance(3)
    assert [job.id for job in await rig.take_all(limit=5)] == ["had", "own"]
    await rig.backend.change_policy("default", PolicyChange(delay=5.0))
    await rig.idle()
    assert await rig.take_all(limit=5) == []
    await rig.advance(2)
    assert [job.id for job in await rig.take_all(limit=5)] == ["a", "b"]


async def test_a_queue_without_an_order_delays_only_what_comes(rig: Rig) -> None:
    """Jobs that are there keep their time."""
    await rig.put("a")
    await rig.backend.change_policy("default", PolicyChange(delay=10.0))
    await rig.idle()
    assert [job.id for job in await rig.take_all(limit=5)] == ["a"]


async def test_a_dead_letter_where_order_is_kept_is_as_old_as_its_stay(rig: Rig) -> None:
    """It expires so long after it came; where no order is kept, so long after it was made. A new value holds for those that are there."""
    for name, policy in (("dead", ORDERED), ("plain", QueuePolicy())):
        await rig.backend.put_policy(name, replace(policy, expires_in=60.0))
        await rig.backend.put_policy(f"{name}:of", QueuePolicy(max_attempts=1, dead_letter=name))
        await rig.put(f"in.{name}", queue=f"{name}:of", key="k")
    await rig.advance(50)
    for name in ("dead", "plain"):
        (job,) = await rig.take_all(f"{name}:of", limit=1)
        await rig.backend.conclude(job.id, token(job), FAILED)
    await rig.advance(30)
    await rig.idle()
    assert (await rig.backend.job("in.plain")).outcome is Outcome.EXPIRED
    assert (await rig.backend.job("in.dead")).status is Status.QUEUED
    await rig.backend.change_policy("dead", PolicyChange(expires_in=100.0))
    await rig.advance(40)
    assert (await rig.backend.job("in.dead")).status is Status.QUEUED
    await rig.advance(30)
    await rig.idle()
    assert (await rig.backend.job("in.dead")).outcome is Outcome.EXPIRED


def _there(name: str) -> SentSpec:
    return SentSpec(payload=b"1", id=name, queue="q", there=True)


async def test_a_job_for_a_queue_that_is_there_alone(rig: Rig) -> None:
    """No queue is made for it, alone or in a batch, nor once it was deleted."""
    gone = [await raised(rig.backend.enqueue(_there("a")))]
    await rig.backend.ask(MakeQueue(name="q"))
    assert (await rig.backend.enqueue(_there("a"))).created
    await rig.backend.ask(DeleteQueue(name="q"))
    replies = await rig.backend.enqueue_batch([_there("b"), spec("c", queue="r")])
    assert [type(error) for error in (*gone, replies[0])] == [UnknownQueue, UnknownQueue]
    assert await rig.backend.ask(QueueNames()) == (["r"], None)
