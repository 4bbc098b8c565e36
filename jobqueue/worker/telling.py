"""One line in the worker's log for every attempt that failed, however it ended, with its traceback at debug level.

All endings pass through here: of handlers on the loop, in threads and in processes, of commands, and those that did not come from a
handler. A traceback is formatted where the exception is, which can be a handler's process, and is passed on as text: to the log, and to the
server, which stores it with the attempt.
"""

from __future__ import annotations

import contextlib
import logging
import traceback

import msgspec

from jobqueue.limits import CONTROL, KIB, Limits
from jobqueue.past import shortened
from jobqueue.worker.endings import Ending, name_of, of_exception
from jobqueue.worker.running import Leased

TRACE_BYTES_MAX = Limits().past_traceback_bytes_max
"""How much of a traceback is kept: its beginning, and more of its end, where the last frames and the error are."""

PIECE_BYTES_MAX = 2 * KIB
"""How much is kept of one piece, a frame or an exception's text, so that a long text leaves room for the frames."""

NO_TRACE = "(its traceback is not available)"

_decode = msgspec.json.Decoder().decode
_logger = logging.getLogger("jobqueue.worker")


def with_trace(ending: Ending, error: BaseException) -> Ending:
    """The ending, with the traceback of the exception if it is a failure. Raises nothing."""
    if ending.verdict is None:
        return ending
    try:
        # Text that JSON cannot contain, such as a lone surrogate from a file name, is escaped.
        pieces = [piece.encode("utf-8", "backslashreplace").decode() for piece in traceback.format_exception(error)]
        text = shortened("".join(shortened(piece, PIECE_BYTES_MAX) for piece in pieces), TRACE_BYTES_MAX)
    except BaseException:
        # The exception's class, its causes and its notes can run code when they are formatted.
        text = f"{name_of(error)} {NO_TRACE}"
    return msgspec.structs.replace(ending, verdict=msgspec.structs.replace(ending.verdict, traceback=text))


def concluded(error: BaseException) -> Ending:
    """The ending of an attempt that raised, with its traceback. Raises nothing."""
    return with_trace(of_exception(error), error)


def tell_failed(leased: Leased, ending: Ending, *, cancelled: bool = False) -> None:
    """Log an attempt that failed; at info level if it was cancelled on request. Raises nothing, even if the program's log handlers do."""
    # A log handler of the program can raise anything, which must not end the worker.
    with contextlib.suppress(BaseException):
        _tell(leased, ending, cancelled)


def _tell(leased: Leased, ending: Ending, cancelled: bool) -> None:
    verdict = ending.verdict
    assert verdict is not None
    error = _decode(verdict.error or b"{}")
    who = plain(leased.id), "no type" if leased.type is None else plain(leased.type), leased.attempts
    if cancelled:
        _logger.info("job %s (%s), attempt %d was cancelled on request", *who)
        return
    how = "failed" if verdict.retry else "failed for good"
    attempt = str(leased.attempts) if leased.max_attempts is None else f"{leased.attempts} of {leased.max_attempts}"
    _logger.warning(
        "job %s (%s), attempt %s %s: %s: %s", *who[:2], attempt, how, plain(error.get("type", "")), plain(error.get("message", ""))
    )
    if verdict.traceback:
        _logger.debug("job %s (%s), attempt %d:\n%s", *who, verdict.traceback.rstrip())


def plain(text: str) -> str:
    """The text on one line, whatever it contains."""
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
