"""The types for a job's log: the lines that its workers wrote while they worked on it.

A line is text with one or more lines (for example a traceback). Times are UTC, seconds since the epoch.
"""

from __future__ import annotations

from typing import Literal, get_args

import msgspec

from jobqueue.limits import KIB

Level = Literal["debug", "info", "warning", "error", "critical"]

LEVELS: tuple[Level, ...] = get_args(Level)

LOG_BYTES_MAX = 64 * KIB
"""The most bytes in a job's log; beyond it, the oldest lines are dropped."""

LINE_CHARS_MAX = 4 * KIB

LINES_MAX = 1_000
"""The most lines in one request for a job, and in one page."""


class LogLine(msgspec.Struct, frozen=True, gc=False):
    """A line as a worker sends it. at: its time, None for the time when the server receives it."""

    text: str
    level: Level = "info"
    at: float | None = None


class LogPart(msgspec.Struct, frozen=True, gc=False):
    """Some lines of one lease, in order.

    offset: how many lines the worker has sent under this lease before these. The server skips the lines that it already has, so a part that
    is sent again adds nothing. None: all of them are new.
    """

    lines: tuple[LogLine, ...]
    offset: int | None = None


class LoggedLine(msgspec.Struct, frozen=True, gc=False):
    """A stored line. number: its position in the log, from 1; attempt: the attempt that wrote it."""

    number: int
    at: float
    level: Level
    attempt: int
    text: str


class LogState(msgspec.Struct, frozen=True, gc=False):
    """A job's log as a whole. lines: how many lines were written; dropped: how many of them, the oldest, were dropped."""

    lines: int
    dropped: int
