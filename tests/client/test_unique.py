"""Unique jobs, by either client: a job of another id than was sent is no error."""

from __future__ import annotations

import math

import pytest

import jobqueue
from jobqueue import BadRequest, Duplicate, Enqueued, NewJob, Unique

from .rig import Face

KEEP = Unique("k")


async def test_another_id_may_be_answered(api: Face) -> None:
    """`created` is False then, whether the client has made the id that was sent or not; its own is told as made."""
    made = await api.enqueue(1, unique=KEEP)
    assert made.created
    for said in ({}, {"id": "mine"}):
        kept = await api.enqueue(2, unique=KEEP, **said)
        assert (kept.id, kept.created) == (made.id, False)


async def test_so_it_may_in_a_batch(api: Face) -> None:
    """Of like items the first makes the job; a refused one is an error in its place that names it."""
    refuse = Unique("k", on_conflict="refuse")
    made = await api.enqueue_batch([NewJob(1, unique=KEEP), NewJob(2, unique=KEEP), NewJob(3, unique=refuse), NewJob(4, id="d")])
    first, second, refused, other = made
    assert isinstance(first, Enqueued)
    assert isinstance(second, Enqueued)
    assert (first.created, second.created, second.id) == (True, False, first.id)
    assert isinstance(refused, Duplicate)
    assert refused.job_id == first.id
    assert isinstance(other, Enqueued)
    assert other.id == "d"


async def test_a_refusal_names_the_holder(api: Face) -> None:
    """In `job_id`, of an enqueue and of a retry."""
    await api.enqueue(1, id="a", unique=KEEP)
    with pytest.raises(Duplicate) as refused:
        await api.enqueue(2, unique=Unique("k", on_conflict="refuse"))
    assert (refused.value.job_id, refused.value.field) == ("a", "unique.key")
    await api.cancel("a")
    await api.enqueue(1, id="b", unique=KEEP)
    with pytest.raises(jobqueue.LostRace) as lost:
        await api.retry("a")
    assert lost.value.job_id == "b"


async def test_a_job_shows_its_key(api: Face) -> None:
    """With its terms; None of a job that has none. A job that follows says whom."""
    made = await api.enqueue(1, id="a", unique=Unique("k", for_=60, on_conflict="replace", max_wait=5))
    shown = (await api.job("a")).unique
    assert shown is not None
    assert (shown.key, shown.until, shown.for_, shown.on_conflict, shown.max_wait, shown.holds) == (
        "k",
        "concluded",
        60,
        "replace",
        5,
        True,
    )
    assert shown.held_until is not None
    assert (shown.held_until - made.created_at).total_seconds() == 60
    await api.enqueue(1, id="plain")
    assert (await api.job("plain")).unique is None
    await api.dequeue(worker="w")
    await api.enqueue(2, id="b", unique=Unique("k", on_conflict="follow"))
    job = await api.job("b")
    assert job.run_at is None
    assert job.waiting_for is not None
    assert [(reason.reason, reason.job, reason.worker) for reason in job.waiting_for] == [("unique", "a", "w")]


async def test_bad_terms_are_refused(api: Face) -> None:
    """By the server, and what JSON cannot carry here."""
    for unique, field in (
        (Unique("k", max_wait=5), "unique.max_wait"),
        (Unique(""), "unique.key"),
        (Unique("k", for_=math.inf), "unique.for"),
    ):
        with pytest.raises(BadRequest) as refused:
            await api.enqueue(1, unique=unique)
        assert refused.value.field == field
