"""Standard streams for a process that was started without some of them, as some supervisors and cron jobs do.

Otherwise the first files opened would get the numbers 0, 1 or 2: a listener that a library then prints to, or a data file that a child
process gets as its standard output. So each closed stream is opened on /dev/null before anything else is opened.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TextIO, cast


def open_standard_streams() -> None:
    """Make sure that 0, 1 and 2 are open, and that Python has a file object for each. Open streams are left as they are."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # It gets the lowest free number, and the lower ones are already open.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    sys.stdin = sys.stdin or _null("r")
    sys.stdout = sys.stdout or _null("w")
    sys.stderr = sys.stderr or _null("w")


def flush_standard_streams() -> None:
    """Flush stdout and stderr if possible, for places where the process may end without doing so."""
    for stream in (sys.stdout, sys.stderr):
        # The stream can be None or closed, or have no reader; and handlers can replace it by any object.
        with contextlib.suppress(Exception):
            stream.flush()


def _null(mode: str) -> TextIO:
    # Not by file descriptor: if the number was already in use before, that file is not ours to write to.
    return cast(TextIO, open(os.open(os.devnull, os.O_RDWR), mode, encoding="utf-8", closefd=False))
