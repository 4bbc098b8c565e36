"""Lines of a job's log, as clients send them: alone, with an extend, or with a conclude."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from jobqueue.joblog import Level, LogLine, LogPart


class LineBody(msgspec.Struct, forbid_unknown_fields=True, gc=False, kw_only=True):
    """A line of a job's log."""

    text: str
    level: Level = "info"
    time: Annotated[datetime, Meta(tz=True)] | None = None


Line = str | LineBody
"""A plain string is a line of level info, written now."""


def _line(sent: Line) -> LogLine:
    if isinstance(sent, str):
        return LogLine(sent)
    return LogLine(sent.text, sent.level, None if sent.time is None else sent.time.timestamp())


def part_of(lines: Sequence[Line], offset: int | None) -> LogPart:
    """Log lines as the backend takes them."""
    return LogPart(tuple(map(_line, lines)), offset)


def said(lines: Sequence[Line], offset: int | None) -> LogPart | None:
    """The same for a request that need not have any lines."""
    return part_of(lines, offset) if lines or offset is not None else None
