"""Log lines that handlers write for their jobs: kept here until the server has them, and sent along with other requests.

Lines are sent with heartbeats, at most twice a second, and with the attempt's outcome, so they need no requests of their own. They stay
here until a request with them is answered. Each request says how many lines were sent before, so the server stores each line once, however
often it is sent.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from contextvars import ContextVar
from itertools import islice
from typing import Protocol

from jobqueue.joblog import LEVELS, LINE_CHARS_MAX, LINES_MAX, Level, LogLine, LogPart
from jobqueue.limits import CONTROL_BUT_LINES, KIB

PART_BYTES = 32 * KIB
"""About how many bytes of one job's lines fit in one request."""

PENDING_MAX = 5_000
"""The most lines of a job that wait to be sent. Further lines are dropped, and one line says how many."""


class Speaker(Protocol):
    """The part of RunningJob that is used here."""

    def log(self, text: str, level: Level = "info", *, at: float | None = None) -> None:
        """See RunningJob."""


CURRENT: ContextVar[Speaker | None] = ContextVar("jobqueue_job", default=None)
"""The job whose handler runs in this context."""


def line_of(text: str, level: Level, at: float | None = None) -> LogLine:
    """A line in the form that the server accepts: a text that is too long is cut, and invalid characters become U+FFFD. Raises
    ValueError.
    """
    if not isinstance(text, str):
        raise ValueError(f"text: {text!r} is not text")
    if level not in LEVELS:
        raise ValueError(f"level: {level!r} is none of {', '.join(LEVELS)}")
    if len(text) > LINE_CHARS_MAX:
        text = text[: LINE_CHARS_MAX - 1] + "…"
    if CONTROL_BUT_LINES.search(text) is not None:
        text = CONTROL_BUT_LINES.sub("\ufffd", text.replace("\r\n", "\n"))
    return LogLine(text, level, time.time() if at is None else at)


class Lines:
    """What one attempt logged and the server does not have yet. `add` can be called in any thread, the rest only on the worker's loop."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[LogLine] = deque()
        self._sent = 0
        """How many lines the server has."""
        self._left_out = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, line: LogLine) -> bool:
        """Add a line. Returns whether it is the first that waits, so that the worker must be notified."""
        with self._lock:
            if len(self._waiting) >= PENDING_MAX:
                self._left_out += 1
                return False
            if self._left_out:
                self._waiting.append(
                    LogLine(f"{self._left_out} lines left out: they were logged faster than they could be sent", "warning", line.at)
                )
                self._left_out = 0
            self._waiting.append(line)
            return len(self._waiting) == 1

    def part(self, room: int = PART_BYTES) -> LogPart | None:
        """The oldest lines, as many as fit in one request; None if there are none, or no room."""
        with self._lock:
            lines: list[LogLine] = []
            for line in islice(self._waiting, LINES_MAX):
                room -= 4 * len(line.text) if not line.text.isascii() else len(line.text)
                if room < 0 and (lines or room < -4 * LINE_CHARS_MAX):
                    break
                lines.append(line)
            return LogPart(tuple(lines), self._sent) if lines else None

    def sent(self, part: LogPart) -> None:
        """The server has stored these lines, or will never accept them."""
        with self._lock:
            assert part.offset is not None
            for _ in range(part.offset + len(part.lines) - self._sent):
                self._waiting.popleft()
                self._sent += 1


def part_bytes(part: LogPart | None) -> int:
    """About how many bytes a part takes in a request."""
    return 0 if part is None else sum(4 * len(line.text) + 60 for line in part.lines)


class JobLogHandler(logging.Handler):
    """Sends log records that are made while a handler works on a job to the job's log: `logging.getLogger().addHandler(JobLogHandler())`.

    A record belongs to the job in whose context it was made: in the handler itself, in tasks that it starts, and in threads of
    asyncio.to_thread. A thread that the handler starts itself has no context unless it is given one. Other records are ignored.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """See logging.Handler."""
        job = CURRENT.get()
        if job is None:
            return
        try:
            job.log(self.format(record), _level(record.levelno), at=record.created)
        except Exception:
            self.handleError(record)


def _level(number: int) -> Level:
    steps: tuple[tuple[int, Level], ...] = (
        (logging.CRITICAL, "critical"),
        (logging.ERROR, "error"),
        (logging.WARNING, "warning"),
        (logging.INFO, "info"),
    )
    return next((level for least, level in steps if number >= least), "debug")
