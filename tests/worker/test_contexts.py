"""No attempt sees what another has set: ContextVars, in every executor and through every way in which an attempt begins the next."""

from __future__ import annotations

import asyncio
import decimal
from collections.abc import AsyncIterator, Callable
from contextvars import ContextVar
from typing import Any

import pytest

from jobqueue.worker.handlers import Registry
from jobqueue.worker.running import RunningJob

from .processes import handlers as process_handlers
from .rig import OUTSIDE, Rig

WHO: ContextVar[str] = ContextVar("who", default="nobody")


@pytest.fixture(params=OUTSIDE, ids=["", "outside"][: len(OUTSIDE)])
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    rig = Rig(request.param)
    yield rig
    await rig.close()


def look(job: RunningJob[Any]) -> str:
    """What the attempt begins with; then it sets a value of its own and leaves it."""
    found = f"{WHO.get()} {decimal.getcontext().prec}"
    WHO.set(job.id)
    decimal.setcontext(decimal.Context(prec=5))
    return found


async def on_the_loop(job: RunningJob) -> str:
    return look(job)


async def on_the_loop_later(job: RunningJob) -> str:
    found = look(job)
    await asyncio.sleep(0)
    return found


def in_a_thread(job: RunningJob) -> str:
    return look(job)


def in_a_thread_and_awaited(job: RunningJob) -> Any:
    return on_the_loop_later(job)


@pytest.mark.parametrize("concurrency", [1, 4])
@pytest.mark.parametrize("function", [on_the_loop, on_the_loop_later, in_a_thread, in_a_thread_and_awaited])
async def test_no_job_begins_with_what_another_has_set(rig: Rig, function: Callable[..., Any], concurrency: int) -> None:
    """Each begins with what the worker was started with, whether it is begun by the worker or by the end of another."""
    WHO.set("main")
    precision = decimal.getcontext().prec
    handlers = Registry()
    handlers.handler("look")(function)
    jobs = [await rig.put("look") for _ in range(20)]
    await rig.start(handlers, concurrency=concurrency, prefetch=100)
    for job_id in jobs:
        assert await rig.succeeded(job_id) == f"main {precision}"
    assert await rig.succeeded(await rig.put("look")) == f"main {precision}"


async def test_no_job_in_a_process_begins_with_what_another_has_set(rig: Rig) -> None:
    """The process is the same, the context is not."""
    await rig.start(process_handlers, concurrency=1)
    found = [await rig.succeeded(await rig.put("look", number)) for number in range(3)]
    assert found == ["nobody"] * 3


async def test_what_a_handler_sets_is_seen_by_what_it_starts(rig: Rig) -> None:
    """A context is the attempt's own, tasks and threads of it included."""
    handlers = Registry()

    async def child() -> str:
        return WHO.get()

    @handlers.handler("work")
    async def work(job: RunningJob) -> list[str]:
        WHO.set("me")
        return [await asyncio.create_task(child()), await asyncio.to_thread(WHO.get)]

    await rig.start(handlers)
    assert await rig.succeeded(await rig.put()) == ["me", "me"]


async def test_what_a_handler_sets_does_not_reach_the_worker(rig: Rig) -> None:
    """What its end sets going, timers and the next job, goes on in the worker's own context."""
    handlers = Registry()
    seen: list[str] = []
    call_at = rig.clock.call_at

    def watched(when: float, callback: Callable[[], None]) -> Any:
        seen.append(WHO.get())
        return call_at(when, callback)

    rig.clock.call_at = watched  # type: ignore[method-assign]

    @handlers.handler("work", timeout=60)
    async def work(job: RunningJob) -> None:
        WHO.set("a handler")

    jobs = [await rig.put() for _ in range(5)]
    await rig.start(handlers, concurrency=1, prefetch=100)
    for job_id in jobs:
        await rig.succeeded(job_id)
    assert seen
    assert "a handler" not in seen
