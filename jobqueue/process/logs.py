"""Logs: one line for each event, for people or as JSON, with a limit on tracebacks.

A JSON line has time, level, logger and message, then the event's additional fields, and then the traceback of an exception. Payloads and
tokens are never logged.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TextIO

import msgspec

from jobqueue.logsink import LogSink

TRACEBACKS_MAX = 5
"""The most tracebacks from one place in the code within TRACEBACK_SECONDS; further lines have none."""

TRACEBACK_SECONDS = 60.0

PLACES_MAX = 1_000
"""The number of places remembered; more than the code has."""

_CONSOLE = "%(asctime)s %(levelname)s %(name)s %(message)s"
_encode = msgspec.json.Encoder(enc_hook=str).encode


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON. Fields passed as `extra={"fields": {...}}` are added to it."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        event: dict[str, object] = {"time": at, "level": record.levelname.lower(), "logger": record.name, "message": record.getMessage()}
        event.update({name: value for name, value in getattr(record, "fields", {}).items() if name not in event})
        if record.exc_info:
            event["traceback"] = self.formatException(record.exc_info)
        elif record.exc_text:
            event["traceback"] = record.exc_text
        # A lone surrogate, for example from a file name, must not make the line fail.
        clean = {name: value.encode("utf-8", "replace").decode() if isinstance(value, str) else value for name, value in event.items()}
        return _encode(clean).decode()


class TracebackLimit(logging.Filter):
    """Removes the traceback from a record if its place had enough of them recently; the line says so. clock: seconds, monotonic.

    The place is where the exception was raised, so that a defect that affects every request does not fill the disk.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._seen: dict[object, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Always True: no line is lost."""
        if not record.exc_info or record.exc_info[1] is None:
            return True
        kind, error, at = record.exc_info
        while at is not None and at.tb_next is not None:
            at = at.tb_next
        place = (record.name, kind, None if at is None else (at.tb_frame.f_code.co_filename, at.tb_lineno))
        now = self._clock()
        since, count = self._seen.get(place, (now, 0))
        if now - since >= TRACEBACK_SECONDS:
            since, count = now, 0
        if place not in self._seen and len(self._seen) >= PLACES_MAX:
            self._seen.clear()
        self._seen[place] = (since, count + 1)
        if count >= TRACEBACKS_MAX:
            record.exc_info = record.exc_text = None
            record.msg, record.args = f"{record.getMessage()}: {type(error).__name__}, as before; its traceback is left out", None
        return True


def set_up(level: str, form: str, stream: TextIO | None = None) -> None:
    """Log to standard error from now on, replacing the root logger's handlers. form: json or console.

    If standard error is a file descriptor, logging never waits for its reader (logsink.py); an in-memory stream is written at once.
    """
    stream = sys.stderr if stream is None else stream
    handler: logging.Handler
    try:
        handler = LogSink(stream.fileno())
    except (OSError, ValueError, AttributeError):
        handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter() if form == "json" else logging.Formatter(_CONSOLE))
    handler.addFilter(TracebackLimit())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def _sink() -> LogSink | None:
    """The sink of the root logger, after set_up."""
    return next((handler for handler in logging.getLogger().handlers if isinstance(handler, LogSink)), None)


def dropped() -> int:
    """The number of lines that were never written because nobody read them."""
    sink = _sink()
    return 0 if sink is None else sink.dropped_total


def flush() -> None:
    """Wait until everything logged is written, for a limited time."""
    sink = _sink()
    if sink is not None:
        sink.flush()


def say(text: str) -> None:
    """Write a last line to standard error, unformatted, after the lines already logged. Waits for those for a limited time."""
    sink = _sink()
    if sink is None:
        print(text, file=sys.stderr)
        return
    sink.say(text)
    sink.flush()
