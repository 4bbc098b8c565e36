"""Workers, by either client."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest

from jobqueue import About, BadRequest, Quiet, UnknownWorker

from .rig import Face

ABOUT = About(host="alpha", concurrency=8, version="1.2", started=datetime(2027, 1, 15, 8, tzinfo=UTC))


async def test_a_worker_is_listed_and_made_quiet(api: Face) -> None:
    """A quiet one is told at once, however long it would wait; resumed it has its job."""
    assert await api.dequeue(wait=0, worker="w/1", about=ABOUT) is None
    (worker,) = await api.workers(queue="default")
    assert (worker.name, worker.state, worker.quiet, worker.started, worker.instances) == ("w/1", "idle", False, ABOUT.started, 1)
    assert await api.workers(queue="other") == []
    assert (await api.quiet_worker("w/1")).quiet
    await api.enqueue(1, id="a")
    assert isinstance(await api.dequeue_batch(limit=2, wait=math.inf, worker="w/1", about=ABOUT), Quiet)
    assert await api.dequeue(wait=math.inf, worker="w/1", about=ABOUT) is None
    assert not (await api.resume_worker("w/1")).quiet
    assert (await api.dequeue(worker="w/1", about=ABOUT)).id == "a"
    assert [each.state for each in await api.workers()] == ["busy"]


async def test_what_is_refused(api: Face) -> None:
    """A worker that nobody knows, and one without a name."""
    with pytest.raises(UnknownWorker):
        await api.quiet_worker("none")
    with pytest.raises(BadRequest) as refused:
        await api.dequeue(wait=0, about=ABOUT)
    assert refused.value.field == "worker"
