"""Unique keys when a server ends and another goes on from its rows: who holds, who waits, and times that outlive their job."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from jobqueue.backend.rows import BadRow
from jobqueue.backend.things import decode_named
from jobqueue.backend.windows import decode_window, encode_window
from jobqueue.engine.unique import Window, name_of, place_of
from jobqueue.limits import Limits
from jobqueue.model import QUEUED, SCHEDULED
from jobqueue.unique import Unique
from tests.backend.restarting import started_anew
from tests.conformance.durable import DurableRig
from tests.conformance.rig import SUCCEEDED, spec, token


@pytest.fixture
async def rig() -> AsyncIterator[DurableRig]:
    """A server on a file, with room for one job of each outcome in its history."""
    made = await DurableRig(Limits(history_jobs_max=1)).opened()
    yield made
    await made.close()


async def put(rig: DurableRig, job_id: str, **unique: Any) -> str:
    """Enqueue a job of the unique key "k/1"; the id that is answered."""
    return (await rig.backend.enqueue(spec(job_id, unique=Unique("k/1", **unique)))).job.id


async def done(rig: DurableRig) -> str:
    """Take the next job and conclude it."""
    (job,) = await rig.take_all(limit=1)
    await rig.backend.conclude(job.id, token(job), SUCCEEDED)
    return job.id


async def test_who_holds_and_who_waits_is_known(rig: DurableRig) -> None:
    """A holder in progress and its follower go on as they were."""
    await put(rig, "a")
    (job,) = await rig.take_all(limit=1)
    await put(rig, "b", on_conflict="follow")
    await started_anew(rig)
    assert await put(rig, "c") == "a"
    assert (await rig.backend.job("b")).status is SCHEDULED
    await rig.backend.conclude("a", token(job), SUCCEEDED)
    assert (await rig.backend.job("b")).status is QUEUED
    await started_anew(rig)
    assert await put(rig, "c") == "b"


async def test_a_key_that_was_let_go_stays_so(rig: DurableRig) -> None:
    """A job that was started, and one that has ended, hold nothing after the restart either."""
    await put(rig, "a", until="started")
    (job,) = await rig.take_all(limit=1)
    await rig.backend.release("a", token(job), 0.0)
    await started_anew(rig)
    assert await put(rig, "b") == "b"


@pytest.mark.parametrize("forgotten", [False, True])
async def test_a_time_outlives_the_server(rig: DurableRig, forgotten: bool) -> None:
    """Whether history still has the job or not; it ends when it was to end, and leaves no row."""
    await put(rig, "a", for_=100.0)
    await done(rig)
    if forgotten:
        await rig.put("other")
        await done(rig)
    await rig.advance(40)
    for _ in range(2):
        await started_anew(rig)
        assert await put(rig, "b") == "a"
    await rig.advance(59)
    assert await put(rig, "b") == "a"
    await rig.advance(1)
    assert rig.local.engine.uniques.windows == {}
    await started_anew(rig)
    await rig.advance(0)
    assert rig.local.engine.uniques.windows == {}
    assert await put(rig, "b") == "b"


async def test_who_waits_for_a_time_runs_after_a_restart(rig: DurableRig) -> None:
    """Also where that ended while no server ran."""
    await put(rig, "a", for_=100.0)
    await done(rig)
    await put(rig, "b", on_conflict="follow")
    await started_anew(rig)
    assert (await rig.backend.job("b")).status is SCHEDULED
    await rig.local.close()
    await rig.advance(200)
    rig.backend = rig.local = await rig.start()
    await rig.advance(0)
    assert await done(rig) == "b"


async def test_a_shorter_history_forgets_no_time(rig: DurableRig) -> None:
    """A job that history forgets for a setting leaves its time behind."""
    await put(rig, "a", for_=100.0)
    await done(rig)
    rig.limits = Limits(history_jobs_max=0)
    for _ in range(2):
        await started_anew(rig)
        assert await put(rig, "b") == "a"


def test_a_time_is_stored_whole() -> None:
    """On the line of stored times, under its queue and its key, whatever that has in it."""
    window = Window("q", "a/ä b", 100.0, "id", 7, 50.0, 3, "t", stored=True)
    name = name_of(window.place)
    assert place_of(name) == ("q", "a/ä b")
    again = decode_window(name, encode_window(window, 10.0), 10.0)
    assert {field: getattr(again, field) for field in Window.__struct_fields__} == {
        field: getattr(window, field) for field in Window.__struct_fields__
    }
    assert decode_named([(name, encode_window(window, 10.0))], 5.0).windows[0].ends_at == 95.0
    with pytest.raises(BadRow, match="unique key"):
        decode_named([(name, b"\x90")])
