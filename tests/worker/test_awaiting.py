"""What a handler returns is awaited if it can be, in whatever executor: a decorator may hide that a function is async."""

from __future__ import annotations

import asyncio
import functools
import threading
import types
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from jobqueue.model import Outcome
from jobqueue.worker.handlers import Registry
from jobqueue.worker.running import RunningJob

from .outside import until
from .processes import handlers as process_handlers
from .rig import OUTSIDE, Rig, error_of, soon


@pytest.fixture(params=OUTSIDE, ids=["", "outside"][: len(OUTSIDE)])
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    rig = Rig(request.param)
    yield rig
    await rig.close()


def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
    """As ordinary decorators are written, without a thought of async."""

    @functools.wraps(function)
    def wrapper(*given: Any, **named: Any) -> Any:
        return function(*given, **named)

    return wrapper


async def double(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


async def twofold(number: int) -> Any:
    return double(number)


@types.coroutine
def old_style(number: int) -> Any:
    yield
    return 2 * number


class Later:
    def __init__(self, number: int) -> None:
        self.number = number

    def __await__(self) -> Any:
        return double(self.number).__await__()


def awaitable(number: int) -> Later:
    return Later(number)


@pytest.mark.parametrize(
    "function", [decorated(double), decorated(decorated(double)), twofold, old_style, awaitable, functools.partial(decorated(double))]
)
async def test_an_awaitable_result_is_awaited(rig: Rig, function: Callable[..., Any]) -> None:
    """The job's result is what comes of it."""
    handlers = Registry()
    handlers.handler("double")(function)
    worker = await rig.start(handlers)
    assert await rig.succeeded(await rig.put("double", 4)) == 8
    assert worker.running == 0


async def test_an_awaitable_result_is_awaited_on_the_workers_loop(rig: Rig) -> None:
    """Where what it shares with other async handlers lives. Only the call is in a thread: the decorator may be one that blocks."""
    handlers = Registry()
    threads = []

    async def work(job: RunningJob) -> bool:
        threads.append(threading.get_ident())
        return asyncio.get_running_loop() is loop

    @handlers.handler("work")
    @functools.wraps(work)
    def call(job: RunningJob) -> Any:
        threads.append(threading.get_ident())
        return work(job)

    loop = asyncio.get_running_loop()
    await rig.start(handlers)
    assert await rig.succeeded(await rig.put()) is True
    assert threads[0] != threads[1] == threading.get_ident()


async def test_an_awaitable_result_of_a_process_is_awaited_there(rig: Rig) -> None:
    """On a loop that lasts as long."""
    await rig.start(process_handlers)
    assert await rig.succeeded(await rig.put("await", 4)) == 8
    assert await rig.failed(await rig.put("await", "no", max_attempts=1)) == {"type": "ValueError", "message": "no"}


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit("no")])
async def test_what_is_raised_while_it_is_awaited_is_the_jobs_error(rig: Rig, error: BaseException) -> None:
    """As of any handler."""
    handlers = Registry()

    @handlers.handler("work")
    @decorated
    async def work(job: RunningJob) -> None:
        await asyncio.sleep(0)
        raise error

    worker = await rig.start(handlers)
    assert await rig.failed(await rig.put(max_attempts=2)) == {"type": type(error).__name__, "message": "no"}
    await rig.idle()
    assert worker.running == 0


async def test_a_decorated_async_handler_is_timed_out_and_cancelled_as_any_async_one(rig: Rig) -> None:
    """It is sent CancelledError, and its slot is free."""
    handlers = Registry()
    begun, cancelled = asyncio.Event(), []

    @handlers.handler("work", timeout=10)
    @decorated
    async def work(job: RunningJob) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(job.id)
            raise

    worker = await rig.start(handlers)
    job_id = await rig.put(max_attempts=1)
    await soon(begun)
    await rig.advance(10)
    assert (await rig.failed(job_id))["type"] == "TimeoutError"
    assert (cancelled, worker.running) == ([job_id], 0)


async def test_a_job_that_is_interrupted_before_its_result_is_awaited_is_not_begun(rig: Rig) -> None:
    """Nothing of the coroutine runs, and nothing warns of it."""
    handlers = Registry()
    called, opened = threading.Event(), threading.Event()
    begun = []

    async def inner(job: RunningJob) -> None:
        begun.append(job)

    @handlers.handler("work", timeout=10)
    def work(job: RunningJob) -> Any:
        called.set()
        assert opened.wait(20)
        return inner(job)

    worker = await rig.start(handlers)
    job_id = await rig.put(max_attempts=1)
    assert await asyncio.to_thread(called.wait, 20)
    await rig.advance(10)
    assert (await rig.failed(job_id))["type"] == "TimeoutError"
    assert worker.running == 1
    opened.set()
    await until(lambda: not worker.running)
    assert not begun


def _numbers(job: RunningJob) -> Iterator[int]:
    yield 1


async def _numbers_async(job: RunningJob) -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize("function", [_numbers, _numbers_async])
async def test_a_generator_that_a_decorator_hides_fails_for_good_with_the_reason(rig: Rig, function: Callable[..., Any]) -> None:
    """Nothing of it has run, nor would it next time."""
    handlers = Registry()
    handlers.handler("work")(decorated(function))
    await rig.start(handlers)
    job = await rig.done(await rig.put())
    assert (job.outcome, job.attempts) == (Outcome.FAILED, 1)
    assert error_of(job) == {
        "type": "TypeError",
        "message": "the handler returned a generator, which has not run; it must return a value",
    }
