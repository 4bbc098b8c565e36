"""A server that knows keys beside an owner that does not: what the owner would leave out is refused, the rest goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from jobqueue.backend.store import frames
from jobqueue.backend.store import messages as m
from jobqueue.backend.store.moved import Moved
from jobqueue.errors import StorageUnavailable
from jobqueue.limits import Limits
from jobqueue.model import JobFilter, PerKey, PolicyChange, QueuePolicy
from tests.conformance.remote import RemoteRig
from tests.conformance.rig import raised, spec


@asynccontextmanager
async def beside(monkeypatch: pytest.MonkeyPatch, knows: int) -> AsyncIterator[RemoteRig]:
    """A front whose owner says in its hello that it knows so much."""
    monkeypatch.setattr(frames, "KNOWS", knows)
    rig = RemoteRig(Limits())
    try:
        yield rig
    finally:
        await rig.close()


async def test_an_owner_that_knows_no_keys_is_asked_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """What such an owner would carry out without its keys or limits is refused as unavailable, and changes nothing."""
    async with beside(monkeypatch, 0) as rig:
        backend = rig.backend
        await rig.put("j")
        for asked in (
            backend.enqueue(spec("a", key="k")),
            backend.enqueue_batch([spec("b"), spec("c", key="k")]),
            backend.put_policy("default", QueuePolicy(concurrency=1)),
            backend.put_policy("default", QueuePolicy(per_key=PerKey(max_jobs=1))),
            backend.put_policy("default", QueuePolicy(fair=True)),
            backend.change_policy("default", PolicyChange(max_attempts=1)),
            backend.set_key_paused("default", "k", True),
            backend.keys("default", "", 10),
            backend.waiting_for([1]),
            backend.jobs(JobFilter(key="k")),
        ):
            error = await raised(asked)
            assert type(error) is StorageUnavailable
            assert not isinstance(error, Moved)
            assert "of an older version" in error.detail
        assert (await backend.queue("default")).policy == QueuePolicy()
        assert (await backend.stats()).jobs_live == 1


async def test_an_owner_that_knows_no_keys_serves_all_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain jobs, plain policies and plain listings go on beside it."""
    async with beside(monkeypatch, 0) as rig:
        await rig.backend.enqueue_batch([spec("a"), spec("b")])
        await rig.backend.put_policy("default", QueuePolicy(max_jobs=9, paused=False))
        found, _ = await rig.backend.jobs(JobFilter(queue="default"))
        assert [job.id for job in found] == ["b", "a"]
        assert [job.id for job in await rig.take_all(limit=2)] == ["a", "b"]


async def test_an_owner_that_knows_keys_is_asked_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two servers of this version speak of keys."""
    async with beside(monkeypatch, 1) as rig:
        await rig.backend.put_policy("default", QueuePolicy(per_key=PerKey(order="fifo")))
        assert (await rig.put("a", key="k")).key == "k"


def test_a_hello_of_before_knows_nothing() -> None:
    """A server of before says nothing of it."""
    hello = m.decode_first(m.encode((m.HELLO, 0, m.VERSION, "old", b"n" * 16)))
    assert isinstance(hello, m.Hello)
    assert hello.knows == 0
