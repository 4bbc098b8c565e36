"""Whatever a handler or what it started raises is one failed attempt, and the worker goes on."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextvars import Context
from typing import Any

import pytest
import uvloop

from jobqueue.model import Outcome
from jobqueue.worker.endings import NO_TEXT, Release, Retry, failed, of_exception
from jobqueue.worker.exits import Fence, run_through
from jobqueue.worker.handlers import Registry
from jobqueue.worker.running import RunningJob
from jobqueue.worker.runs import Reason

from .rig import OUTSIDE, Rig, error_of, soon


@pytest.fixture(params=OUTSIDE, ids=["", "outside"][: len(OUTSIDE)])
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    rig = Rig(request.param)
    yield rig
    await rig.close()


class Own(BaseException):
    """Neither an Exception nor one of Python's exits."""


async def leave(error: BaseException) -> None:
    await asyncio.sleep(0)
    raise error


async def by_gather(error: BaseException) -> None:
    await asyncio.gather(leave(error), asyncio.Event().wait())


async def by_gather_that_keeps_exceptions(error: BaseException) -> None:
    await asyncio.gather(leave(error), asyncio.Event().wait(), return_exceptions=True)


async def by_wait_for(error: BaseException) -> None:
    await asyncio.wait_for(leave(error), 60)


async def by_shield(error: BaseException) -> None:
    await asyncio.shield(leave(error))


async def by_task_group(error: BaseException) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(leave(error))
        group.create_task(leave(error))


async def by_a_task(error: BaseException) -> None:
    await asyncio.create_task(leave(error))


async def by_a_task_that_nobody_awaits(error: BaseException) -> None:
    task = asyncio.create_task(leave(error))
    await asyncio.Event().wait()
    await task


async def by_a_grandchild(error: BaseException) -> None:
    await asyncio.create_task(by_task_group(error))


async def by_an_empty_context(error: BaseException) -> None:
    await asyncio.create_task(leave(error), context=Context())


async def by_a_thread_of_its_own(error: BaseException) -> None:
    await asyncio.to_thread(throw, error)


async def by_another_thread_into_the_loop(error: BaseException) -> None:
    loop = asyncio.get_running_loop()
    await asyncio.to_thread(lambda: asyncio.run_coroutine_threadsafe(leave(error), loop).exception(20))
    await asyncio.Event().wait()


async def by_itself(error: BaseException) -> None:
    await leave(error)


def throw(error: BaseException) -> None:
    raise error


WAYS = [function for name, function in sorted(globals().items()) if name.startswith("by_")]


@pytest.mark.parametrize("error", [SystemExit("no"), KeyboardInterrupt("no")], ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
async def test_an_exit_is_one_failed_attempt_from_wherever_it_comes(rig: Rig, way: Callable[..., Any], error: BaseException) -> None:
    """Out of any task that the handler started, awaited or not, and the worker does the next job."""
    handlers = Registry()
    calls = []

    @handlers.handler("leave")
    async def handler(job: RunningJob) -> None:
        calls.append(job.attempts)
        await way(error)

    @handlers.handler("work")
    async def work(job: RunningJob) -> str:
        return "fine"

    worker = await rig.start(handlers)
    job = await rig.done(await rig.put("leave", max_attempts=2))
    assert (job.outcome, job.attempts, calls) == (Outcome.FAILED, 2, [1, 2])
    assert error_of(job) == {"type": type(error).__name__, "message": "no"}
    assert await rig.succeeded(await rig.put("work")) == "fine"
    assert worker.error is None
    await rig.idle()
    assert worker.running == 0


@pytest.mark.parametrize("error", [GeneratorExit("no"), Own("no"), StopAsyncIteration("no")], ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("plain", [True, False])
async def test_any_other_base_exception_is_a_failed_attempt(rig: Rig, error: BaseException, plain: bool) -> None:
    """GeneratorExit too, by which Python otherwise clears a coroutine away."""
    handlers = Registry()

    if plain:
        handlers.handler("work")(lambda job: throw(error))
    else:

        @handlers.handler("work")
        async def work(job: RunningJob) -> None:
            await leave(error)

    worker = await rig.start(handlers)
    job = await rig.done(await rig.put("work", max_attempts=2))
    assert (job.attempts, error_of(job)) == (2, {"type": type(error).__name__, "message": "no"})
    await rig.idle()
    assert worker.running == 0


class Mute(Exception):
    def __str__(self) -> str:
        raise SystemExit("not even that")


class Odd(Exception):
    def __str__(self) -> str:
        return 5  # type: ignore[return-value] # noqa: PLE0307 # what it is about

    __repr__ = __str__


class Faceless(Exception):
    """Whoever asks what it is, and that does isinstance, is told no."""

    @property
    def __class__(self) -> Any:
        raise SystemExit("no")


class Disguised(Exception):
    """It says that it is a Release, which would be tried again for ever."""

    __class__ = Release  # type: ignore[assignment]


class Nameless(type):
    def __getattribute__(cls, name: str) -> Any:
        raise RuntimeError("nothing is told")


class Anonymous(Exception, metaclass=Nameless):
    """Its class will not say what it is called."""


class Sly(str):
    """A text whose own methods are not to be asked."""

    def __getitem__(self, _: object) -> str:
        raise RuntimeError("not mine")

    encode = __getitem__  # type: ignore[assignment]


class Long(Exception):
    def __str__(self) -> str:
        return Sly("x" * 10_000)


class Causes(Retry):
    @property
    def __cause__(self) -> Any:  # type: ignore[override]
        raise RuntimeError("no cause")


class Unmade(Release):
    def __init__(self) -> None:
        self.delay = float("nan")


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (Mute, ("Mute", NO_TEXT)),
        (Odd, ("Odd", NO_TEXT)),
        (lambda: Anonymous("x"), ("Anonymous", "x")),
        (lambda: Faceless("x"), ("Faceless", "x")),
        (lambda: Disguised("x"), ("Disguised", "x")),
        (Long, ("Long", "x" * 4_096)),
        (Causes, ("Causes", NO_TEXT)),
        (Unmade, ("ValueError", "Unmade: delay: nan is out of range; 0 to 2592000 seconds is allowed")),
    ],
    ids=["Mute", "Odd", "Anonymous", "Faceless", "Disguised", "Long", "Causes", "Unmade"],
)
@pytest.mark.parametrize("plain", [True, False])
async def test_an_exception_that_cannot_be_shown_is_a_failed_attempt(
    rig: Rig, make: Callable[[], BaseException], expected: tuple[str, str], plain: bool
) -> None:
    """Its class's true name, and its text or a stand-in for it."""
    handlers = Registry()
    if plain:
        handlers.handler("work")(lambda job: throw(make()))
    else:

        @handlers.handler("work")
        async def work(job: RunningJob) -> None:
            raise make()

    worker = await rig.start(handlers)
    job = await rig.done(await rig.put("work", max_attempts=2))
    assert (job.attempts, error_of(job)) == (2, {"type": expected[0], "message": expected[1]})
    await rig.idle()
    assert worker.running == 0


def test_a_class_of_any_name_has_an_ending() -> None:
    """A name longer than any that people write is cut."""
    error = type("E" * 1_000, (Exception,), {})("no")
    assert of_exception(error) == failed("E" * 256, "no")


async def test_a_task_that_outlives_its_handler_may_exit_too(rig: Rig) -> None:
    """Its job is done and stays so; the worker goes on."""
    handlers = Registry()
    gone = asyncio.Event()
    tasks = []

    async def later() -> None:
        await gone.wait()
        sys.exit("late")

    @handlers.handler("work")
    async def work(job: RunningJob) -> str:
        tasks.append(asyncio.create_task(later()))
        return "done"

    await rig.start(handlers)
    assert await rig.succeeded(await rig.put()) == "done"
    gone.set()
    await asyncio.wait(tasks)
    assert await rig.succeeded(await rig.put()) == "done"


async def test_a_handler_may_go_on_after_it_was_told_and_fails_all_the_same(rig: Rig) -> None:
    """As one does that swallows a time-out."""
    handlers = Registry()

    @handlers.handler("work")
    async def work(job: RunningJob) -> str:
        try:
            await by_a_task_that_nobody_awaits(SystemExit("no"))
        except asyncio.CancelledError:
            await asyncio.sleep(0)
        return "nevertheless"

    await rig.start(handlers)
    assert (await rig.failed(await rig.put(max_attempts=1)))["type"] == "SystemExit"


async def test_a_handler_that_is_interrupted_before_it_began_frees_its_slot(rig: Rig) -> None:
    """It does not run; a task that is cancelled before its first step runs none of its code, that of the worker neither."""
    if rig.outside:
        pytest.skip("here none is interrupted before it began")
    handlers = Registry()
    begun = []

    @handlers.handler("work")
    async def work(job: RunningJob) -> None:
        begun.append(job)

    worker = await rig.start(handlers)
    begin = worker._begin

    def begin_and_cancel(run: Any) -> None:
        begin(run)
        run.interrupt(Reason.CANCELLED)

    worker._begin = begin_and_cancel  # type: ignore[method-assign]
    assert (await rig.failed(await rig.put()))["type"] == "CancelledError"
    await rig.idle()
    assert (worker.running, begun) == (0, [])


async def test_what_is_fenced_looks_like_the_coroutine_it_is(rig: Rig) -> None:
    """A task shows its own coroutine's name; cancelled before it began it leaves no warning; others' tasks are left alone."""
    handlers = Registry()
    loop = asyncio.get_running_loop()
    before = loop.get_task_factory()

    @handlers.handler("work")
    async def work(job: RunningJob) -> list[str]:
        task = asyncio.create_task(leave(ValueError("own")), name="mine")
        stillborn = asyncio.create_task(leave(ValueError("own")))
        stillborn.cancel()
        shown = [task.get_name(), task.get_coro().__qualname__, str(len(task.get_stack()))]
        await asyncio.wait([task, stillborn])
        return [*shown, str(task.exception()), str(stillborn.cancelled())]

    worker = await rig.start(handlers)
    second = await rig.start(handlers)
    assert await rig.succeeded(await rig.put()) == ["mine", "leave", "1", "own", "True"]
    assert isinstance(loop.get_task_factory(), Fence)
    await rig.stop(worker)
    assert isinstance(loop.get_task_factory(), Fence)
    await rig.stop(second)
    assert loop.get_task_factory() is before
    gc.collect()


async def test_a_factory_of_the_programs_own_makes_the_tasks(rig: Rig) -> None:
    """The fence stands before it, and goes when the worker does."""
    made = []

    def factory(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        made.append(options)
        return asyncio.Task(coroutine, loop=loop, **options)

    loop = asyncio.get_running_loop()
    loop.set_task_factory(factory)
    handlers = Registry()

    @handlers.handler("work")
    async def work(job: RunningJob) -> None:
        await by_a_task(SystemExit("no"))

    worker = await rig.start(handlers)
    assert (await rig.failed(await rig.put(max_attempts=1)))["type"] == "SystemExit"
    await rig.stop(worker)
    assert made
    assert loop.get_task_factory() is factory
    loop.set_task_factory(None)


LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]


async def answered(begun: Callable[[], None]) -> str:
    """A main task that answers SIGINT and SIGTERM itself, as a server does; it ends at a SIGTERM."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        begun()
        await soon(stop)
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
    return "stopped"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("loops", LOOPS)
def test_an_exit_of_a_callback_does_not_end_the_loop_and_a_signal_does(loops: Callable[..., Any], number: signal.Signals) -> None:
    """Whatever exits, and however often, what runs goes on until it is told to end."""

    def begun() -> None:
        loop = asyncio.get_running_loop()
        loop.call_soon(sys.exit, 4)
        loop.call_soon(throw, KeyboardInterrupt())
        loop.call_later(0, sys.exit, 5)
        exiting = loop.create_task(leave(SystemExit(6)))
        exiting.add_done_callback(lambda task: signal.raise_signal(number) if task.exception() else None)

    assert run_through(answered(begun), loops) == "stopped"


@pytest.mark.parametrize("loops", LOOPS)
def test_an_exit_of_the_main_task_ends_the_loop(loops: Callable[..., Any]) -> None:
    """It is the program's own."""
    with pytest.raises(SystemExit, match="mine"):
        run_through(leave(SystemExit("mine")), loops)


@pytest.mark.parametrize("loops", LOOPS)
def test_a_loop_that_is_stopped_goes_on(loops: Callable[..., Any]) -> None:
    """Handlers share it with whoever waits for the main task."""

    async def main() -> str:
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return "done"

    assert run_through(main(), loops) == "done"


@pytest.mark.parametrize("loops", LOOPS)
def test_an_error_of_the_main_task_ends_the_loop(loops: Callable[..., Any]) -> None:
    """One that looks as if it were the loop's too."""
    with pytest.raises(RuntimeError, match="mine"):
        run_through(leave(RuntimeError("mine")), loops)


def test_a_key_pressed_before_signals_are_answered_ends_the_loop() -> None:
    """Ctrl-C while the program starts is one, and cancels the main task first, as in asyncio.run."""
    cancelled = []

    async def main() -> None:
        signal.raise_signal(signal.SIGINT)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    with pytest.raises(KeyboardInterrupt):
        run_through(main())
    assert cancelled


def test_in_another_thread_no_exit_is_the_keyboards() -> None:
    """Signals come to the main thread alone."""
    found = []

    async def main() -> str:
        asyncio.get_running_loop().call_soon(sys.exit, 4)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return "done"

    thread = threading.Thread(target=lambda: found.append(run_through(main())))
    thread.start()
    thread.join(20)
    assert found == ["done"]


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
@pytest.mark.parametrize(("leaving", "code"), [(lambda: "the child's", 0), (lambda: sys.exit(3), 3)], ids=["return", "exit"])
@pytest.mark.parametrize("plain", [True, False])
async def test_a_fork_that_leaves_a_handler_in_the_worker_itself_ends(rig: Rig, plain: bool, leaving: Callable[[], Any], code: int) -> None:
    """It does not go on as a second worker on the same sockets."""
    handlers = Registry()

    def fork(job: RunningJob) -> Any:
        pid = os.fork()
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) if pid else leaving()

    if plain:
        handlers.handler("work")(fork)
    else:

        @handlers.handler("work")
        async def work(job: RunningJob) -> Any:
            return fork(job)

    await rig.start(handlers)
    assert await rig.succeeded(await rig.put()) == code
