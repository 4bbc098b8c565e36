"""The standard streams of a process that was started without some of them, as some supervisors and cron jobs do.

Whatever is opened first would get number 0, 1 or 2: a listener that a library prints to, a data file that a child is given as its
standard output. So what is closed is opened on /dev/null before anything else is.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TextIO, cast


def open_standard_streams() -> None:
    """See to it that 0, 1 and 2 are open, and that Python has a file for each. What is open stays as it is."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # It gets the lowest number that is free, and those below are not.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    sys.stdin = sys.stdin or _null("r")
    sys.stdout = sys.stdout or _null("w")
    sys.stderr = sys.stderr or _null("w")


def flush_standard_streams() -> None:
    """Write what Python holds back for stdout and stderr, as far as that can be done, where the process may end without doing so."""
    for stream in (sys.stdout, sys.stderr):
        # None, closed, or nobody reads; and handlers may put there whatever they like.
        with contextlib.suppress(Exception):
            stream.flush()


def _null(mode: str) -> TextIO:
    # Not by the stream's number: where that was taken before we came, it is not ours to write to.
    return cast(TextIO, open(os.open(os.devnull, os.O_RDWR), mode, encoding="utf-8", closefd=False))
