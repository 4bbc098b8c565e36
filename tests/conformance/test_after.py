"""Jobs that are after others, of every backend."""

from __future__ import annotations

import json

import pytest

from jobqueue.backend.base import Enqueued
from jobqueue.errors import BadRequest, QueueFull, TooLarge, UnknownParent
from jobqueue.model import JobFilter, Outcome, Parent, Status, Verdict
from jobqueue.reason import Reason

from .conftest import MakeBackend
from .rig import FAILED, FAILED_FOR_GOOD, SUCCEEDED, Rig, raised, spec, token


async def test_a_child_is_handed_out_when_its_parents_have_succeeded(rig: Rig) -> None:
    """To whoever waits for it, in the step of the last end, and no sooner; with what its parents had as results."""
    await rig.put_all("one", "two")
    child = await rig.put("child", after=("one", "two"), queue="default:other")
    assert (child.status, child.run_at) == (Status.SCHEDULED, None)
    assert await rig.backend.waiting_for([child.number]) == [[Reason(kind="jobs", jobs=("one", "two"))]]
    waiter = await rig.stand("default:other")
    for name, result in (("one", b'{"n":1}'), ("two", None)):
        assert not waiter.answered
        job = await rig.take()
        assert job.id == name
        await rig.backend.conclude(name, token(job), Verdict(outcome=Outcome.SUCCEEDED, result=result))
        await rig.idle()
    (job,) = waiter.jobs
    assert job.id == "child"
    succeeded = Outcome.SUCCEEDED
    assert job.details.extra.parents == (Parent("one", succeeded, b'{"n":1}'), Parent("two", succeeded))


async def test_a_failure_that_is_tried_again_is_no_end(rig: Rig) -> None:
    """The child waits on."""
    await rig.put("parent", max_attempts=2)
    await rig.put("child", after=("parent",), after_failure="run", queue="default:other")
    job = await rig.take()
    await rig.backend.conclude("parent", token(job), FAILED)
    assert (await rig.backend.job("child")).held_back


@pytest.mark.parametrize("after_failure", ["cancel", "run", "hold"])
async def test_what_becomes_of_a_child_whose_parent_fails(rig: Rig, after_failure: str) -> None:
    """It is cancelled, its own children too; or it runs; or it waits until a retry has succeeded."""
    await rig.put("parent")
    await rig.put("child", after=("parent",), after_failure=after_failure, queue="default:other")
    await rig.put("grandchild", after=("child",), queue="default:other")
    job = await rig.take()
    await rig.backend.conclude("parent", token(job), FAILED_FOR_GOOD)
    await rig.idle()
    child, grandchild = await rig.backend.job("child"), await rig.backend.job("grandchild")
    if after_failure == "cancel":
        assert child.outcome is grandchild.outcome is Outcome.CANCELLED
        assert json.loads(grandchild.error or b"") == {"after": "parent", "outcome": "failed"}
        return
    assert grandchild.held_back
    if after_failure == "hold":
        assert child.held_back
        await rig.backend.retry("parent")
        assert (await rig.backend.job("child")).held_back
        await rig.backend.conclude("parent", token(await rig.take()), SUCCEEDED)
    job = await rig.take("default:other")
    assert job.id == "child"
    await rig.backend.conclude("child", token(job), SUCCEEDED)
    assert (await rig.take("default:other")).id == "grandchild"


async def test_a_batch_may_be_a_graph(rig: Rig) -> None:
    """Items are after earlier ones of the same batch, not after later ones."""
    replies = await rig.backend.enqueue_batch(
        [
            spec("a"),
            spec("b", after=("a",)),
            spec("c", after=("d",)),
            spec("d", after=("a", "b")),
            spec("e", after=("a",), after_failure="run"),
        ]
    )
    errors = [reply for reply in replies if isinstance(reply, UnknownParent)]
    assert [error.field for error in errors] == ["after"]
    assert isinstance(replies[2], UnknownParent)
    order = []
    while jobs := await rig.take_all():
        order.append(jobs[0].id)
        await rig.backend.conclude(jobs[0].id, token(jobs[0]), SUCCEEDED)
    assert order == ["a", "b", "e", "d"]


async def test_what_is_refused_is_not_there(rig: Rig) -> None:
    """A parent that nobody knows, one that is named twice."""
    await rig.put("parent")
    assert isinstance(await raised(rig.put("child", after=("nobody",))), UnknownParent)
    assert isinstance(await raised(rig.put("child", after=("parent", "parent"))), BadRequest)
    assert isinstance(await raised(rig.put("child", after_failure="run")), BadRequest)
    assert (await rig.backend.stats()).jobs_live == 1


async def test_edges_are_bounded(make_backend: MakeBackend) -> None:
    """And the refusal names the field."""
    rig = await make_backend(edges_max=2)
    await rig.put_all("a", "b")
    await rig.put("c", after=("a", "b"))
    error = await raised(rig.put("d", after=("a",)))
    assert isinstance(error, QueueFull)
    assert error.field == "after"


async def test_children_are_listed(rig: Rig) -> None:
    """By the id of their parent, also when they have ended."""
    await rig.put_all("a", "b")
    await rig.put("c", after=("a", "b"))
    await rig.put("d", after=("b",))
    await rig.backend.cancel("c")
    for parent, children in (("a", ["c"]), ("b", ["d", "c"]), ("c", [])):
        found, _ = await rig.backend.jobs(JobFilter(parent=parent))
        assert [job.id for job in found] == children


async def test_results_that_would_make_the_answer_too_large_are_left_out(make_backend: MakeBackend) -> None:
    """The child is handed out all the same, and says what is missing; the parent still has it."""
    rig = await make_backend(answer_bytes_max=1_000)
    for name in ("one", "two"):
        await rig.put(name)
        result = b'"' + b"x" * 600 + b'"'
        await rig.backend.conclude(name, token(await rig.take()), Verdict(outcome=Outcome.SUCCEEDED, result=result))
    await rig.put("child", after=("one", "two"))
    job = await rig.take()
    assert [(each.id, each.result is None, each.left_out) for each in job.details.extra.parents] == [
        ("one", False, False),
        ("two", True, True),
    ]
    end = (await rig.backend.job("two")).conclusion
    assert end is not None
    assert end.result is not None


async def test_a_parent_is_not_forgotten_before_its_child_has_ended(make_backend: MakeBackend) -> None:
    """However short history is, and over restarts."""
    rig = await make_backend(history_jobs_max=1)
    await rig.put("parent")
    await rig.backend.conclude("parent", token(await rig.take()), FAILED_FOR_GOOD)
    await rig.put("child", after=("parent",), after_failure="hold", queue="later")
    for name in ("a", "b", "c"):
        await rig.put(name)
        await rig.backend.conclude(name, token(await rig.take()), FAILED_FOR_GOOD)
    await rig.backend.retry("parent")
    await rig.backend.conclude("parent", token(await rig.take()), SUCCEEDED)
    assert (await rig.take("later")).id == "child"


async def test_the_edges_of_a_batch_are_bounded(make_backend: MakeBackend) -> None:
    """All of a batch is one step: items after more than may be are refused, each for itself, and can be sent again in another batch."""
    rig = await make_backend(batch_edges_max=3)
    await rig.put_all("a", "b")
    items = [spec("c", after=("a", "b")), spec("d", after=("a", "b")), spec("e"), spec("f", after=("a",))]
    replies = await rig.backend.enqueue_batch(items)
    assert [type(reply).__name__ for reply in replies] == ["Enqueued", "TooLarge", "Enqueued", "TooLarge"]
    refused = replies[1]
    assert isinstance(refused, TooLarge)
    assert refused.field == "after"
    (again,) = await rig.backend.enqueue_batch([items[1]])
    assert isinstance(again, Enqueued)
