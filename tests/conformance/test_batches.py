"""Batch operations: each item's reply in its place, and no item harms another."""

from __future__ import annotations

from jobqueue.backend.base import Conclude, Enqueued, Extend, Release
from jobqueue.errors import BadRequest, IdConflict, LeaseLost, NotInProgress, QueueFull, UnknownJob
from jobqueue.model import Job, Outcome, Status, Verdict

from .conftest import MakeBackend
from .rig import FAILED, SUCCEEDED, Rig, spec, token

PASSED = BadRequest("payload", "is not JSON")
"""An error that whoever read the request found; the backend passes it through."""


async def test_enqueue_answers_each_item_in_its_place(rig: Rig) -> None:
    """Good items are enqueued in order, repeats and bad ones answered where they stand, an error passed in comes out as it is."""
    await rig.put("known")
    replies = await rig.backend.enqueue_batch(
        [spec("a"), PASSED, spec("known"), spec("known", payload=b"2"), spec("bad", priority=99), spec("a"), spec("b")]
    )
    a, passed, repeat, conflict, bad, again, b = replies
    assert isinstance(a, Enqueued)
    assert (a.job.id, a.created) == ("a", True)
    assert passed is PASSED
    assert isinstance(repeat, Enqueued)
    assert not repeat.created
    assert isinstance(conflict, IdConflict)
    assert isinstance(bad, BadRequest)
    assert bad.field == "priority"
    assert isinstance(again, Enqueued)
    assert not again.created
    assert isinstance(b, Enqueued)
    assert [job.id for job in await rig.take_all(limit=10)] == ["known", "a", "b"]


async def test_a_batch_of_errors_alone_comes_back(rig: Rig) -> None:
    """Whatever it was to do: there is nothing to send anywhere, and each item has its error."""
    backend = rig.backend
    for ask in (backend.enqueue_batch, backend.conclude_batch, backend.extend_batch, backend.release_batch):
        assert await ask([PASSED, PASSED]) == [PASSED, PASSED]


async def test_enqueue_fills_what_room_there_is(make_backend: MakeBackend) -> None:
    """Items beyond a bound are answered QueueFull, those before it stay enqueued."""
    rig = await make_backend(jobs_max=2)
    replies = await rig.backend.enqueue_batch([spec("a"), spec("b"), spec("c")])
    assert [type(reply) for reply in replies] == [Enqueued, Enqueued, QueueFull]
    assert (await rig.backend.stats()).jobs_live == 2


async def test_enqueue_replies_show_jobs_before_any_worker_had_them(rig: Rig) -> None:
    """A batch that is handed to a waiter at once answers its jobs as they stood: queued, without a lease."""
    waiter = await rig.stand(limit=10)
    replies = await rig.backend.enqueue_batch([spec("a"), spec("b")])
    assert [(reply.job.status, reply.job.lease) for reply in replies if isinstance(reply, Enqueued)] == [(Status.QUEUED, None)] * 2
    await rig.idle()
    assert waiter.ids == ["a", "b"]


async def test_conclude_answers_each_item_in_its_place(rig: Rig) -> None:
    """Each conclude of a batch succeeds or fails by itself; one that is there twice is a repeat."""
    await rig.put_all("a", "b", "c")
    a, b, c = await rig.take_all(limit=3)
    replies = await rig.backend.conclude_batch(
        [
            Conclude("a", token(a), SUCCEEDED),
            PASSED,
            Conclude("b", token(a), SUCCEEDED),
            Conclude("no", token(a), SUCCEEDED),
            Conclude("a", token(a), SUCCEEDED),
            Conclude("a", token(a), FAILED),
            Conclude("c", token(c), FAILED),
        ]
    )
    assert [type(reply) for reply in replies] == [Job, BadRequest, LeaseLost, UnknownJob, Job, NotInProgress, Job]
    assert replies[1] is PASSED
    assert [reply.status for reply in replies if isinstance(reply, Job)] == [Status.CONCLUDED, Status.CONCLUDED, Status.SCHEDULED]
    assert (await rig.backend.job("b")).lease == b.lease
    assert (await rig.backend.queue("default")).succeeded_total == 1


async def test_extend_answers_each_item_in_its_place(rig: Rig) -> None:
    """Each extend of a batch succeeds or fails by itself."""
    await rig.put_all("a", "b")
    a, b = await rig.take_all(limit=2, lease_seconds=10)
    await rig.advance(5)
    replies = await rig.backend.extend_batch(
        [Extend("a", token(a), 60.0), PASSED, Extend("b", token(b), 0.1), Extend("no", ""), Extend("b", token(b), progress=0.5)]
    )
    assert [type(reply) for reply in replies] == [Job, BadRequest, BadRequest, UnknownJob, Job]
    assert replies[1] is PASSED
    leases = [reply.lease for reply in replies if isinstance(reply, Job)]
    assert [lease and (lease.expires_at - rig.utc(), lease.progress) for lease in leases] == [(60, None), (10, 0.5)]


async def test_release_answers_each_item_in_its_place(rig: Rig) -> None:
    """Each release of a batch succeeds or fails by itself: a job is back at once or scheduled, or cancelled where that was asked for."""
    await rig.put_all("a", "b", "c", "d")
    a, b, c, d = await rig.take_all(limit=4)
    await rig.backend.cancel("c")
    replies = await rig.backend.release_batch(
        [
            Release("a", token(a)),
            PASSED,
            Release("b", token(b), 60.0),
            Release("d", token(a)),
            Release("no", token(a)),
            Release("c", token(c)),
            Release("a", token(a)),
            Release("d", token(d), -1.0),
        ]
    )
    assert [type(reply) for reply in replies] == [Job, BadRequest, Job, LeaseLost, UnknownJob, Job, LeaseLost, BadRequest]
    assert replies[1] is PASSED
    found = [(reply.id, reply.status, reply.attempts, reply.run_at) for reply in replies if isinstance(reply, Job)]
    assert found == [
        ("a", Status.QUEUED, 0, None),
        ("b", Status.SCHEDULED, 0, rig.utc() + 60),
        ("c", Status.CONCLUDED, 0, None),
    ]
    assert (await rig.backend.job("d")).lease == d.lease
    assert (await rig.backend.queue("default")).cancelled_total == 1


async def test_what_a_batch_gives_back_goes_to_who_waits(rig: Rig) -> None:
    """Jobs that are released together go to those who stand, in their old order."""
    await rig.put_all("a", "b")
    jobs = await rig.take_all(limit=2)
    line = [await rig.stand() for _ in range(3)]
    await rig.backend.release_batch([Release(job.id, token(job)) for job in reversed(jobs)])
    await rig.idle()
    assert sorted(str(waiter.ids) for waiter in line) == ["['a']", "['b']", "[]"]


async def test_empty_batches_are_answered_empty(rig: Rig) -> None:
    """A batch without items does nothing and answers nothing."""
    assert await rig.backend.enqueue_batch([]) == []
    assert await rig.backend.conclude_batch([]) == []
    assert await rig.backend.extend_batch([]) == []
    assert await rig.backend.release_batch([]) == []


async def test_a_batch_of_failures_retries_each(rig: Rig) -> None:
    """Concluding many jobs in one batch wakes those who wait for what it frees, one waiter per job."""
    await rig.put_all("a", "b", max_attempts=1)
    jobs = await rig.take_all(limit=2)
    await rig.backend.conclude_batch([Conclude(job.id, token(job), Verdict(outcome=Outcome.FAILED)) for job in jobs])
    line = [await rig.stand() for _ in range(3)]
    assert await rig.backend.retry_failed("default") == 2
    await rig.idle()
    assert [waiter.ids for waiter in line] == [["a"], ["b"], []]
