"""Logs: one line an event, for people or as JSON, and no flood of tracebacks.

A line of JSON has time, level, logger and message; then what the event has beside these; then, of an exception, its traceback. Nothing
here knows of payloads or tokens, and nothing that logs puts them in.
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
"""Tracebacks of one place in the code within TRACEBACK_SECONDS; after that, lines without."""

TRACEBACK_SECONDS = 60.0

PLACES_MAX = 1_000
"""Places remembered; more than the code has."""

_CONSOLE = "%(asctime)s %(levelname)s %(name)s %(message)s"
_encode = msgspec.json.Encoder(enc_hook=str).encode


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON. What a caller passes as `extra={"fields": {...}}` stands beside the rest."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        event: dict[str, object] = {"time": at, "level": record.levelname.lower(), "logger": record.name, "message": record.getMessage()}
        event.update({name: value for name, value in getattr(record, "fields", {}).items() if name not in event})
        if record.exc_info:
            event["traceback"] = self.formatException(record.exc_info)
        elif record.exc_text:
            event["traceback"] = record.exc_text
        # A lone surrogate, from a file's name say, must not cost the line.
        clean = {name: value.encode("utf-8", "replace").decode() if isinstance(value, str) else value for name, value in event.items()}
        return _encode(clean).decode()


class TracebackLimit(logging.Filter):
    """Takes the traceback from records of a place that had enough of them lately; the line says so. clock: seconds, monotonic.

    The place is where the exception was raised, so that a defect met by every request does not fill the disk.
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
    """Log to standard error from now on, instead of whatever the root logger did. form: json or console.

    Where that is a descriptor, nobody who logs waits for whoever reads it (logsink.py); a text in memory is written at once.
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
    """Where the root logger's lines go, after set_up."""
    return next((handler for handler in logging.getLogger().handlers if isinstance(handler, LogSink)), None)


def dropped() -> int:
    """Lines that were logged and never written, because nobody read them."""
    sink = _sink()
    return 0 if sink is None else sink.dropped_total


def flush() -> None:
    """Wait until what was logged is written, but not for ever."""
    sink = _sink()
    if sink is not None:
        sink.flush()


def say(text: str) -> None:
    """A last line on standard error, as it stands, after those that were logged. Waits for them, but not for ever."""
    sink = _sink()
    if sink is None:
        print(text, file=sys.stderr)
        return
    sink.say(text)
    sink.flush()
