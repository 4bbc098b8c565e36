"""Ends a process that runs other people's code, whatever that code does.

Signals: the first SIGTERM or SIGINT asks to stop, the second to hurry, and the third ends the process at once. asyncio's own signal
handlers run on the loop, so they would not run if a handler blocks the loop. Here signals go to a thread, which notifies the loop, and ends
the process if the loop no longer runs once the grace period is over.

The loop: asyncio waits without limit for tasks that it cancelled and for the threads of `asyncio.to_thread`. Here both are waited for up to
LINGER_SECONDS, then abandoned.

The interpreter: at exit it joins every thread that is not a daemon. LINGER_SECONDS after the main thread is over, threads that handlers
started are ended with `os._exit`. In that case functions registered with `atexit` do not run; a process that ends by itself ends as usual.
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
"""How long to wait for tasks and threads that were told to end: as long as an interrupted handler has to clean up."""

STALL_SECONDS = 5.0
"""A loop that has not run for this long after the grace period is considered blocked for good."""

FLUSH_SECONDS = 1.0
"""Time for writing the log before the process ends at once, since its reader may be gone."""

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_TURNED = 0
_CLOSED = -1
_STOP = -2
_HURRY = -3

_logger = logging.getLogger("jobqueue.process")


class Signals:
    """Handles SIGTERM, SIGINT and others while the context lasts, in the main thread with its loop running.

    stop: set by the first; hurry: set by the second. grace_seconds: time for running work after the first. running: what the second signal
    stops waiting for, for the log. hangup: SIGHUP also asks to stop, unless it is ignored. Some terminals send it twice when they are
    closed, so it never ends the waiting. last: the process ends after the context, so later signals are ignored; otherwise a signal would
    kill the process and make its exit code that of a failure when all work is done. led: another process says when to hurry (`hurry_soon`).
    Signals only ask to stop, since this process may get a signal of its own as well.
    """

    def __init__(self, grace_seconds: float, running: str, *, hangup: bool = False, last: bool = False, led: bool = False) -> None:
        self.stop = asyncio.Event()
        self.hurry = asyncio.Event()
        self._grace_seconds = grace_seconds
        self._running = running
        self._last = last
        self._led = led
        self._loop = asyncio.get_running_loop()
        # Its put can be called in a signal handler that interrupts another put; the methods of an Event or a Lock cannot.
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
            signal.signal(number, signal.SIG_IGN if self._last else before)
        self._inbox.put(_CLOSED)

    def stop_soon(self) -> None:
        """Act as on a first signal; no effect after one."""
        self._inbox.put(_STOP)

    def hurry_soon(self) -> None:
        """Act as on a second signal."""
        self._inbox.put(_HURRY)

    def _hurry(self) -> None:
        _logger.warning("second signal: not waiting for %s", self._running)
        self.hurry.set()

    # Runs in the thread. It does not log, since that can block.

    def _watch(self) -> None:
        count = 0
        look_at: float | None = None
        asked = False
        while True:
            try:
                said = self._inbox.get(timeout=None if look_at is None else max(0.0, look_at - time.monotonic()))
            except queue.Empty:
                if asked:
                    leave(
                        1,
                        "the event loop is blocked, perhaps by a handler; exiting without releasing jobs; their leases will end",
                    )
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
            if count and (said in (_STOP, signal.SIGHUP) or (self._led and said != _HURRY)):
                continue
            count = 2 if said == _HURRY else count + 1
            if count == 1:
                look_at = time.monotonic() + self._grace_seconds
                self._tell(self.stop.set)
            elif count == 2:
                look_at = time.monotonic()
                self._tell(self._hurry)
            else:
                leave(1, "third signal: exiting at once without releasing jobs; their leases will end")

    def _tell(self, callback: Callable[[], object]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed, and this thread is about to be told so
            self._loop.call_soon_threadsafe(callback)


def close(loop: asyncio.AbstractEventLoop) -> None:
    """End what is left on a loop that has run, and close it. What does not end within LINGER_SECONDS is abandoned and logged."""
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
        _logger.warning(
            "abandoning %d tasks that did not end after they were cancelled: %s", len(left), _names(task.get_name() for task in left)
        )
        for task in left:
            # Otherwise each would be reported again when it is garbage-collected.
            task._log_destroy_pending = False  # type: ignore[attr-defined] # as asyncio itself does
    # The threads of its executor are told to end when they are idle, and are not waited for.
    loop.close()


def _until(loop: asyncio.AbstractEventLoop, waiting: Coroutine[Any, Any, T]) -> T:
    """Wait for something on a loop, even though asyncio lets any SystemExit propagate out of the loop."""
    task = loop.create_task(waiting)
    while True:
        try:
            return loop.run_until_complete(task)
        except SystemExit:
            if task.done():
                raise


def lasting_threads() -> set[threading.Thread]:
    """The threads that the interpreter waits for at exit."""
    return {thread for thread in threading.enumerate() if not thread.daemon}


def end_without(threads: Iterable[threading.Thread], code: int) -> None:
    """Let the process end with this exit code LINGER_SECONDS after its main thread, even if these threads continue."""
    left = [thread for thread in threads if thread is not threading.main_thread()]
    if not left:
        return
    over = threading.Event()
    # Joining the main thread is not enough: it counts as alive until the threads of every executor are joined.
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
        leave(code, f"exiting although {len(left)} threads have not ended: {_names(thread.name for thread in left)}")


def _names(names: Iterable[str]) -> str:
    first, *more = sorted(names)
    return ", ".join([first, *more[:9], *(["..."] if more[9:] else [])])


_last: list[Callable[[], None]] = []


def before_leaving(callback: Callable[[], None]) -> None:
    """Register a function to be called, in any thread, when the process ends with `leave`. It must not block."""
    _last.append(callback)


def leave(code: int, why: str) -> NoReturn:
    """End the process at once, whatever runs. The reason, and earlier log lines, are written if that is possible."""
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
