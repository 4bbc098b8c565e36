"""A handler that forks: of the two processes that come out of `os.fork`, one is the worker's.

The other is the handler's own affair for as long as it stays in the handler. Were it to return from there it would go on as a second
worker: answer for the job, take the next one, write to sockets that both hold. So it ends there, as a script does at its end.

A fork of an async handler leaves the handler whenever it awaits, too. It ends then, at the next turn of what is its copy of the loop; what
else was due in the turn of the fork still runs there, so async handlers had better not fork. `multiprocessing` and `subprocess` are fine:
what they fork never comes back.

A fork in a thread that the handler lent from a pool goes back to that pool and waits there. Nothing tells us where it leaves the handler's
code, so that is not handled.
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

_forks = 0
"""How many forks lie between this process and the one that began: asking for the process's number is a system call, this is none."""


_loop: asyncio.AbstractEventLoop | None = None
"""The loop whose handler forks, while it does."""


def _forking() -> None:
    global _loop  # noqa: PLW0603
    _loop = None
    if ATTEMPT.get() is not None:
        with contextlib.suppress(RuntimeError):  # in a thread
            _loop = asyncio.get_running_loop()


def _forked() -> None:
    global _forks  # noqa: PLW0603 # a process has one
    _forks += 1
    if _loop is not None:
        _loop.call_soon(leave, RuntimeError("a fork of an async handler cannot await: the loop is its parent's"))


os.register_at_fork(before=_forking, after_in_child=_forked)


class OnlyHere:
    """A context that only the process that entered it leaves; a fork that was made inside ends at its end.

    Its exit code is 0, the code of a SystemExit, or after any other exception 1, with the traceback on standard error. `atexit` and
    `finally` further out are not run: they are the parent's.
    """

    __slots__ = ("_forks",)

    def __enter__(self) -> None:
        self._forks = _forks

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if _forks != self._forks:
            leave(error)

    def check(self) -> None:
        """As at the end, while the context goes on."""
        if _forks != self._forks:
            leave(None)


def leave(error: BaseException | None) -> NoReturn:
    """End this process, a fork, with what came out of the code it ran."""
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
