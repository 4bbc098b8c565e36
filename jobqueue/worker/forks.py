"""A handler that forks: of the two processes that result from `os.fork`, only one is the worker's.

The child belongs to the handler as long as it stays in the handler. If it returned from there, it would act as a second worker: report the
job, take the next one, and write to sockets that both processes hold. So it ends at that point, as a script does at its end.

In an async handler, a fork also leaves the handler whenever it awaits. The child then ends at the next turn of its copy of the loop;
anything else that was due in the turn of the fork still runs there, so avoid forks in async handlers. `multiprocessing` and `subprocess`
are fine: their children never return into the handler.

A child that is forked in a thread that the handler borrowed from a pool returns to that pool and waits there. Nothing shows us where it
leaves the handler's code, so that case is not handled.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import traceback
from types import TracebackType
from typing import NoReturn, cast

from jobqueue.streams import flush_standard_streams
from jobqueue.worker.endings import is_a
from jobqueue.worker.exits import ATTEMPT

made = 0
"""How many forks lie between this process and the first one. Reading the process id would be a system call; this is not."""


_loop: asyncio.AbstractEventLoop | None = None
"""The loop whose handler is forking, while it does."""


def _forking() -> None:
    global _loop  # noqa: PLW0603
    _loop = None
    if ATTEMPT.get() is not None:
        with contextlib.suppress(RuntimeError):  # in a thread
            _loop = asyncio.get_running_loop()


def _forked() -> None:
    global made  # noqa: PLW0603 # a process has one
    made += 1
    if _loop is not None:
        _loop.call_soon(leave, RuntimeError("a fork of an async handler cannot await: the loop is its parent's"))


os.register_at_fork(before=_forking, after_in_child=_forked)


class OnlyHere:
    """A context that only the process that entered it leaves. A child that was forked inside ends at the context's end.

    Its exit code is 0, the code of a SystemExit, or 1 after any other exception, with the traceback on standard error. `atexit` and any
    `finally` further out do not run: they belong to the parent.
    """

    __slots__ = ("_made",)

    def __enter__(self) -> None:
        self._made = made

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if made != self._made:
            leave(error)

    def check(self) -> None:
        """The check that is made at the end, while the context is still active."""
        if made != self._made:
            leave(None)


def leave(error: BaseException | None) -> NoReturn:
    """End this process, a forked child, with the error that its code raised."""
    code = 0
    try:
        if error is not None and is_a(error, SystemExit):
            code = _code_of(cast(SystemExit, error))
        elif error is not None:
            code = 1
            traceback.print_exception(error)
        flush_standard_streams()
    finally:
        os._exit(code)


def _code_of(error: SystemExit) -> int:
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code & 0xFF
    print(error.code, file=sys.stderr)
    return 1
