"""Output whose reader has gone, as with `jobqueue list | head`."""

from __future__ import annotations

import os
import select


def drop_what_nobody_reads() -> bool:
    """Redirect stdout and stderr to nowhere if their reader has gone. Returns whether one had."""
    found = False
    for number in (1, 2):
        poll = select.poll()
        poll.register(number, 0)
        if any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0)):
            # Buffered output is discarded too.
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, number)
            os.close(null)
            found = True
    return found
