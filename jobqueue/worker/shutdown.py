"""The end of a process that runs other people's code: it comes, whatever that code does.

Signals: the first SIGTERM or SIGINT asks to stop, the second to hurry, the third ends the process there and then. Handlers that asyncio
offers run on the loop, so a loop that a handler blocks would never hear of them. Here a signal goes to a thread, which tells the loop, and
ends the process when the loop does not turn any more once the grace period is over.

The loop: asyncio waits without bound for tasks that it cancelled and for the threads of `asyncio.to_thread`. Here both are waited for for
LINGER_SECONDS, then left.

The interpreter: at its end it joins every thread that is no daemon. LINGER_SECONDS after the main thread is over, those that came with the
handlers are left to `os._exit`. What `atexit` has registered is not run then; what ends by itself ends as ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Coroutine, Iterable
from types import TracebackType
from typing import Any, NoReturn, TypeVar

from jobqueue.streams import flush_standard_streams

T = TypeVar("T")

LINGER_SECONDS = 2.0
"""What tasks and threads that were told to end are waited for: as long as an interrupted handler has to clean up."""

STALL_SECONDS = 5.0
"""A loop that has not turned for so long after the grace period is taken to be blocked for good."""

FLUSH_SECONDS = 1.0
"""What the log gets to be written before the process ends at once; nobody may be reading it."""

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_TURNED = 0
_CLOSED = -1

_logger = logging.getLogger("jobqueue.process")


class Signals:
    """SIGTERM, SIGINT and others for as long as the context lasts, in the main thread with its loop running.

    stop: set by the first; hurry: by the second. grace_seconds: how long what runs may take after the first. running: what the second ends
    the waiting for, for the log. hangup: SIGHUP asks to stop too, unless it is ignored. It comes twice from some terminals that are closed,
    so it never ends the waiting.
    """

    def __init__(self, grace_seconds: float, running: str, *, hangup: bool = False) -> None:
        self.stop = asyncio.Event()
        self.hurry = asyncio.Event()
        self._grace_seconds = grace_seconds
        self._running = running
        self._loop = asyncio.get_running_loop()
        # Its put may be called in a signal handler that interrupts another put; an Event's or a Lock's methods may not.
        self._inbox: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._before: dict[signal.Signals, Any] = {}
        self._numbers = list(_SIGNALS)
        if hangup and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            self._numbers.append(signal.SIGHUP)

    def __enter__(self) -> Signals:
        threading.Thread(target=self._watch, name="jobqueue-signals", daemon=True).start()
        for number in self._numbers:
            self._before[number] = signal.signal(number, lambda number, _: self._inbox.put(number))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)
        self._inbox.put(_CLOSED)

    def _hurry(self) -> None:
        _logger.warning("second signal: not waiting for %s", self._running)
        self.hurry.set()

    # In the thread. It does not log: that may block.

    def _watch(self) -> None:
        count = 0
        look_at: float | None = None
        asked = False
        while True:
            try:
                said = self._inbox.get(timeout=None if look_at is None else max(0.0, look_at - time.monotonic()))
            except queue.Empty:
                if asked:
                    leave(1, "the loop is blocked, by a handler say; left without giving jobs back: their leases end by themselves")
                asked = True
                look_at = time.monotonic() + STALL_SECONDS
                self._tell(lambda: self._inbox.put(_TURNED))
                continue
            if said == _CLOSED:
                return
            if said == _TURNED:
                asked = False
                look_at = time.monotonic() + STALL_SECONDS
                continue
            if said == signal.SIGHUP and count:
                continue
            count += 1
            if count == 1:
                look_at = time.monotonic() + self._grace_seconds
                self._tell(self.stop.set)
            elif count == 2:
                look_at = time.monotonic()
                self._tell(self._hurry)
            else:
                leave(1, "third signal: left at once, without giving jobs back: their leases end by themselves")

    def _tell(self, callback: Callable[[], object]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed, and we are told so in a moment
            self._loop.call_soon_threadsafe(callback)


def close(loop: asyncio.AbstractEventLoop) -> None:
    """End what is left on a loop that was run, and close it. What does not end within LINGER_SECONDS is left as it is, and logged."""
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    if left:
        done, _ = _until(loop, asyncio.wait(left, timeout=LINGER_SECONDS))
        for task in done:
            if not task.cancelled() and (error := task.exception()) is not None:
                loop.call_exception_handler(
                    {"message": "exception in a task that was cancelled at the end", "exception": error, "task": task}
                )
    # Not wait_for, which waits for what it has cancelled.
    _until(loop, asyncio.wait([loop.create_task(loop.shutdown_asyncgens())], timeout=LINGER_SECONDS))
    if left := asyncio.all_tasks(loop):
        _logger.warning("%d tasks that do not end though cancelled are left: %s", len(left), _names(task.get_name() for task in left))
        for task in left:
            # Or each would be reported once more when it is collected.
            task._log_destroy_pending = False  # type: ignore[attr-defined] # as asyncio itself does
    # The threads of its executor are told to end when they are idle, and not waited for.
    loop.close()


def _until(loop: asyncio.AbstractEventLoop, waiting: Coroutine[Any, Any, T]) -> T:
    """Wait for something on a loop, though asyncio lets a SystemExit of anything else out of it."""
    task = loop.create_task(waiting)
    while True:
        try:
            return loop.run_until_complete(task)
        except SystemExit:
            if task.done():
                raise


def lasting_threads() -> set[threading.Thread]:
    """Those that the interpreter waits for at its end."""
    return {thread for thread in threading.enumerate() if not thread.daemon}


def end_without(threads: Iterable[threading.Thread], code: int) -> None:
    """Let the process end, with this exit code, LINGER_SECONDS after its main thread though these threads go on."""
    left = [thread for thread in threads if thread is not threading.main_thread()]
    if not left:
        return
    over = threading.Event()
    # Joining the main thread is not enough: it is not taken to be over until the threads of every executor are joined.
    register = getattr(threading, "_register_atexit", None)
    if register is not None:
        register(over.set)
    threading.Thread(target=_end_without, args=(left, code, over.wait if register else threading.main_thread().join), daemon=True).start()


def _end_without(threads: list[threading.Thread], code: int, main_is_over: Callable[[], object]) -> None:
    main_is_over()
    ends_at = time.monotonic() + LINGER_SECONDS
    for thread in threads:
        thread.join(max(0.0, ends_at - time.monotonic()))
    if left := [thread for thread in threads if thread.is_alive()]:
        leave(code, f"left with {len(left)} threads that do not end: {_names(thread.name for thread in left)}")


def _names(names: Iterable[str]) -> str:
    first, *more = sorted(names)
    return ", ".join([first, *more[:9], *(["..."] if more[9:] else [])])


_last: list[Callable[[], None]] = []


def before_leaving(callback: Callable[[], None]) -> None:
    """Have something called when the process ends by `leave`, in any thread. It must not block."""
    _last.append(callback)


def leave(code: int, why: str) -> NoReturn:
    """End the process at once, whatever runs. Why, and what was logged before, is written if that is possible."""
    try:
        for callback in _last:
            with contextlib.suppress(Exception):
                callback()
        flusher = threading.Thread(target=_flush, args=(why,), name="jobqueue-flush", daemon=True)
        flusher.start()
        flusher.join(FLUSH_SECONDS)
    finally:
        os._exit(code)


def _flush(why: str) -> None:
    _logger.warning(why)
    logging.shutdown()
    flush_standard_streams()
