"""A handler that forks: of the two processes that come out of `os.fork`, one is the worker's.

The other is the handler's own affair for as long as it stays in the handler. Were it to return from there it would go on as a second
worker: answer for the job, take the next one, write to sockets that both hold. So it ends there, as a script does at its end.
"""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from types import TracebackType
from typing import NoReturn

_forks = 0
"""How many forks lie between this process and the one that began: asking for the process's number is a system call, this is none."""


def _forked() -> None:
    global _forks  # noqa: PLW0603 # a process has one
    _forks += 1


os.register_at_fork(after_in_child=_forked)


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


def leave(error: BaseException | None) -> NoReturn:
    """End this process, a fork, with what came out of the code it ran."""
    code = 0
    try:
        if isinstance(error, SystemExit):
            code = _code_of(error)
        elif error is not None:
            code = 1
            traceback.print_exception(error)
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):  # closed, or nobody reads
                if stream is not None:
                    stream.flush()
    finally:
        os._exit(code)


def _code_of(error: SystemExit) -> int:
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code & 0xFF
    print(error.code, file=sys.stderr)
    return 1
