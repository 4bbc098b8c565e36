"""Queues, listings, history and totals."""

from __future__ import annotations

import pytest

from jobqueue.backend.requests.queues import GetPolicy
from jobqueue.errors import BadRequest, QueueNotEmpty, UnknownJob, UnknownQueue
from jobqueue.model import JobFilter, Outcome, Status
from jobqueue.policy import Backoff, PerKey, QueuePolicy

from .conftest import MakeBackend
from .rig import FAILED_FOR_GOOD, Rig, going_on, raised, token, want


async def test_a_policy_is_kept_whole(rig: Rig) -> None:
    """Setting a policy makes the queue, and replaces the whole of an older policy."""
    policy = QueuePolicy(lease_seconds=30, max_attempts=2, backoff=Backoff(base=1, factor=3, cap=9), max_jobs=7, paused=True)
    assert (await rig.backend.put_policy("a", policy)).policy == policy
    assert (await rig.backend.queue("a")).policy == policy
    assert (await rig.backend.put_policy("a", QueuePolicy(max_jobs=3))).policy == QueuePolicy(max_jobs=3)


async def test_a_policy_can_be_asked_for_alone(rig: Rig) -> None:
    """It is what the queue shows; of a queue that is not there it is no default, and the queue is not made."""
    policy = QueuePolicy(lease_seconds=30, per_key=PerKey(order="fifo"), tags={"a": "b"}, attributes={"c": "d"})
    await rig.backend.put_policy("a", policy)
    assert await rig.backend.ask(GetPolicy(name="a")) == policy
    rig.backend.drain()
    assert await rig.backend.ask(GetPolicy(name="a")) == policy
    for name in ("b", "", "no name", "x" * 200):
        assert isinstance(await raised(rig.backend.ask(GetPolicy(name=name))), UnknownQueue)
    assert [stats.name for stats in await rig.backend.queues()] == ["a"]


@pytest.mark.parametrize(
    ("name", "policy", "field"),
    [
        ("no spaces", QueuePolicy(), "queue"),
        ("a", QueuePolicy(lease_seconds=0.5), "lease_seconds"),
        ("a", QueuePolicy(max_attempts=0), "max_attempts"),
        ("a", QueuePolicy(max_jobs=0), "max_jobs"),
        ("a", QueuePolicy(backoff=Backoff(factor=0)), "backoff.factor"),
    ],
)
async def test_a_policy_out_of_bounds_is_refused(rig: Rig, name: str, policy: QueuePolicy, field: str) -> None:
    """A bad name or value raises BadRequest naming the field, and makes no queue."""
    error = await raised(rig.backend.put_policy(name, policy))
    assert isinstance(error, BadRequest)
    assert error.field == field
    assert await rig.backend.queues() == []


async def test_a_bad_policy_leaves_the_old_one(rig: Rig) -> None:
    """A policy that is refused changes nothing of the queue it was meant for."""
    await rig.backend.put_policy("a", QueuePolicy(max_jobs=3))
    await raised(rig.backend.put_policy("a", QueuePolicy(max_attempts=0)))
    assert (await rig.backend.queue("a")).policy == QueuePolicy(max_jobs=3)


async def test_pausing_changes_nothing_else_and_may_be_repeated(rig: Rig) -> None:
    """Pause and resume touch only `paused`; doing either twice is the same as once."""
    policy = QueuePolicy(max_jobs=3)
    await rig.backend.put_policy("a", policy)
    for _ in range(2):
        assert (await rig.backend.set_paused("a", True)).policy == QueuePolicy(max_jobs=3, paused=True)
    for _ in range(2):
        assert (await rig.backend.set_paused("a", False)).policy == policy


async def test_a_worker_may_finish_in_a_paused_queue(rig: Rig) -> None:
    """Leases run on while their queue is paused; what is put back waits there."""
    await rig.put_all("a", "b")
    taking = rig.backend.dequeue(want(), 0)
    (job,) = await taking.__aenter__()
    taking.delivered()
    back = rig.backend.dequeue(want(), 0)
    await back.__aenter__()
    await rig.backend.set_paused("default", True)
    waiter = await rig.stand()
    await back.__aexit__(None, None, None)
    await rig.idle()
    assert not waiter.answered
    assert (await rig.backend.conclude("a", token(job), FAILED_FOR_GOOD)).outcome is Outcome.FAILED


async def test_what_no_queue_is_named_is_unknown(rig: Rig) -> None:
    """Reading, pausing, resuming and deleting a queue that is not there raise UnknownQueue and make none."""
    for attempt in (
        rig.backend.queue("no"),
        rig.backend.set_paused("no", True),
        rig.backend.set_paused("no", False),
        rig.backend.delete_queue("no"),
    ):
        assert isinstance(await raised(attempt), UnknownQueue)
    assert await rig.backend.queues() == []


async def test_an_empty_queue_can_be_deleted(rig: Rig) -> None:
    """A queue without live jobs goes, its concluded jobs stay; one with a queued, scheduled or leased job raises QueueNotEmpty."""
    await rig.finish("done", queue="a")
    await rig.backend.delete_queue("a")
    assert isinstance(await raised(rig.backend.queue("a")), UnknownQueue)
    assert (await rig.backend.job("done")).queue == "a"
    await rig.put("queued", queue="q")
    await rig.put("scheduled", queue="s", delay=60)
    await rig.put("leased", queue="l")
    await rig.take("l")
    for name in ("q", "s", "l"):
        assert isinstance(await raised(rig.backend.delete_queue(name)), QueueNotEmpty)
    assert [queue.name for queue in await rig.backend.queues()] == ["l", "q", "s"]


async def test_a_queue_counts_its_jobs(rig: Rig) -> None:
    """A queue's stats count its jobs by status and its operations since the start."""
    await rig.put_all("a", "b", "c", "d")
    await rig.put("later", delay=60)
    jobs = await rig.take_all(limit=3)
    await rig.backend.conclude("a", token(jobs[0]), FAILED_FOR_GOOD)
    await rig.backend.release("b", token(jobs[1]), 0)
    await rig.backend.cancel("b")
    await rig.backend.retry("b")
    queue = await rig.backend.queue("default")
    assert (queue.scheduled, queue.queued, queue.in_progress) == (1, 2, 1)
    assert (queue.enqueued_total, queue.dequeued_total, queue.failed_total, queue.cancelled_total, queue.retried_total) == (5, 3, 1, 1, 1)
    assert queue.oldest_queued_at is not None
    assert queue.oldest_queued_at <= rig.utc()
    totals = await rig.backend.stats()
    assert (totals.jobs_live, totals.leases, totals.queues, totals.live_bytes) == (4, 1, 1, 4 + rig.lease_bytes)


async def test_queues_are_listed_by_name(rig: Rig) -> None:
    """Every queue is listed once, in order of name."""
    for name in ("c", "a", "b"):
        await rig.put(queue=name)
    assert [queue.name for queue in await rig.backend.queues()] == ["a", "b", "c"]


@pytest.mark.parametrize("limit", [1, 2, 3, 4])
async def test_queues_are_listed_a_page_at_a_time(rig: Rig, limit: int) -> None:
    """Each page begins behind the one before; the last, full or not, says that there is no other."""
    for name in ("c", "a", "b"):
        await rig.put(queue=name)
    found: list[str] = []
    sizes: list[int] = []
    after: str | None = ""
    while after is not None:
        page, after = await rig.backend.queue_page(after, limit)
        found += [queue.name for queue in page]
        sizes.append(len(page))
    assert found == ["a", "b", "c"]
    assert sizes == {1: [1, 1, 1], 2: [2, 1]}.get(limit, [3])


async def test_jobs_are_listed_newest_first_and_paged(rig: Rig) -> None:
    """Following the cursors shows every job exactly once, newest first, jobs that are enqueued meanwhile aside."""
    await rig.put_all(*(f"j{n}" for n in range(25)))
    seen: list[str] = []
    cursor: int | None = None
    while True:
        page, cursor = await rig.backend.jobs(JobFilter(limit=10, **going_on(cursor)))
        seen += [job.id for job in page]
        if cursor is None:
            break
        await rig.put()
    assert seen == [f"j{n}" for n in reversed(range(25))]


async def test_a_listing_shows_what_it_is_asked_for(rig: Rig) -> None:
    """Status, outcome, queue and type each narrow a listing, alone and together."""
    await rig.put("failed", queue="a", type="t")
    await rig.backend.conclude("failed", token(await rig.take("a")), FAILED_FOR_GOOD)
    await rig.put("cancelled", queue="a")
    await rig.backend.cancel("cancelled")
    await rig.put("queued", queue="a", type="t")
    await rig.put("scheduled", queue="b", type="t", delay=60)

    async def ids(**fields: object) -> list[str]:
        return [job.id for job in (await rig.backend.jobs(JobFilter(**fields)))[0]]  # type: ignore[arg-type]

    assert await ids() == ["scheduled", "queued", "cancelled", "failed"]
    assert await ids(status=Status.CONCLUDED) == ["cancelled", "failed"]
    assert await ids(outcome=Outcome.FAILED) == ["failed"]
    assert await ids(queue="a") == ["queued", "cancelled", "failed"]
    assert await ids(type="t") == ["scheduled", "queued", "failed"]
    assert await ids(type="t", queue="a", status=Status.QUEUED) == ["queued"]
    assert await ids(outcome=Outcome.FAILED, status=Status.QUEUED) == []


async def test_history_forgets_the_oldest_of_its_class(make_backend: MakeBackend) -> None:
    """Each outcome remembers so many jobs; one more forgets its oldest, and never one of another outcome or a live one.

    An error counts as the job's and as its attempt's.
    """
    rig = await make_backend(history_jobs_max=2)
    await rig.put("live", queue="other")
    await rig.finish("failed", FAILED_FOR_GOOD)
    for n in range(4):
        await rig.finish(f"s{n}")
    for job_id in ("s0", "s1"):
        assert isinstance(await raised(rig.backend.job(job_id)), UnknownJob)
    listed, _ = await rig.backend.jobs(JobFilter())
    assert [job.id for job in listed] == ["s3", "s2", "failed", "live"]
    assert (await rig.backend.stats()).history == {
        Outcome.SUCCEEDED: (2, 2 * len(b'1"done"')),
        Outcome.FAILED: (1, len(b'1"broken""broken"')),
        Outcome.CANCELLED: (0, 0),
        Outcome.EXPIRED: (0, 0),
    }


async def test_history_is_bounded_in_bytes(make_backend: MakeBackend) -> None:
    """Concluded jobs of any size fill no more than history_bytes_max of an outcome class."""
    rig = await make_backend(history_bytes_max=250)
    for n in range(5):
        await rig.put(f"j{n}", payload=b"1" * 100)
        await rig.backend.cancel(f"j{n}")
    assert (await rig.backend.stats()).history[Outcome.CANCELLED] == (2, 200)


async def test_an_id_may_be_used_again_once_it_is_forgotten(make_backend: MakeBackend) -> None:
    """A job that history has forgotten leaves its id free for another."""
    rig = await make_backend(history_jobs_max=0)
    await rig.finish("j")
    await rig.put("j", payload=b"2")
    assert (await rig.take()).payload == b"2"
