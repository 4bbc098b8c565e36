"""Lines of a job's log, as a worker writes them and as clients return them."""

from __future__ import annotations

from datetime import datetime

import msgspec

from jobqueue.joblog import Level
from jobqueue.model import Outcome, Status


class LogLine(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A line to add to a job's log. time: with a time zone; None for the time at which the server receives the line."""

    text: str
    level: Level = "info"
    time: datetime | None = None


class LoggedLine(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A line of a job's log. number: its number in the job's log, from 1; attempt: the attempt that wrote it, from 1."""

    number: int
    time: datetime
    level: str
    attempt: int
    text: str


class LogState(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The size of a job's log. lines: how many were added; dropped: how many of the oldest lines were dropped."""

    id: str
    lines: int
    dropped: int


class LogPage(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Lines of a job's log, in order. after: the number of the last line, which you pass to get the lines after it; dropped: how many of
    the oldest lines were dropped.

    status, outcome: of the job. ended: the job is concluded, and these are the last lines.
    """

    id: str
    status: Status
    outcome: Outcome | None
    lines: list[LoggedLine]
    after: int
    dropped: int
    ended: bool
