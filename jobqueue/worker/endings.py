"""How an attempt ends: what a handler may raise to say so, and what is told to the server of a result or an exception.

A failure's error is {"type": the exception's class, "message": its text}. No traceback: it would show a producer the inside of the
worker, and the worker's log has it.
"""

from __future__ import annotations

from typing import Any

import msgspec

from jobqueue.limits import Limits
from jobqueue.model import FAILED, SUCCEEDED, Verdict

DELAY_SECONDS_MAX = Limits().delay_seconds_max
MESSAGE_CHARS_MAX = 4_096
"""What is kept of an exception's text."""

_encode = msgspec.json.Encoder().encode


def _check_delay(delay: float) -> None:
    if not 0.0 <= delay <= DELAY_SECONDS_MAX:
        raise ValueError(f"delay: {delay!r} is out of range; 0 to {DELAY_SECONDS_MAX:.0f} seconds is allowed")


class Retry(Exception):
    """Raise it in a handler: the attempt failed and counts, and the job is to be tried again while it has attempts left.

    delay: seconds until then; None leaves it to the job's backoff. Without a reason, what is being handled is the error.
    """

    def __init__(self, reason: str = "", *, delay: float | None = None) -> None:
        super().__init__(reason)
        if delay is not None:
            _check_delay(delay)
        self.delay = delay


class Release(Exception):
    """Raise it in a handler: the job goes back to its queue, after `delay` seconds if there are any, and the attempt does not count."""

    def __init__(self, *, delay: float = 0.0) -> None:
        super().__init__(f"released for {delay} seconds")
        _check_delay(delay)
        self.delay = delay


class Discard(Exception):
    """Raise it in a handler: the job failed for good, whatever attempts are left."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)


class Ending(msgspec.Struct, frozen=True, gc=False):
    """What to tell the server. Without a verdict: release, after `delay` seconds."""

    verdict: Verdict | None = None
    delay: float | None = None


RELEASED = Ending(None, 0.0)
_DONE = Ending(Verdict(outcome=SUCCEEDED))


def failed(kind: str, message: str, *, retry: bool = True, delay: float | None = None) -> Ending:
    """A failure whose error is `kind` and `message`."""
    # Text that no JSON can carry, a lone surrogate of a file's name for one, is shown escaped.
    plain = message[:MESSAGE_CHARS_MAX].encode("utf-8", "backslashreplace").decode()
    return Ending(Verdict(outcome=FAILED, error=_encode({"type": kind, "message": plain}), retry=retry, retry_delay=delay))


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return "(its text cannot be had)"


def of_exception(error: BaseException) -> Ending:
    """What an exception out of a handler says."""
    if isinstance(error, Release):
        return Ending(None, error.delay)
    cause = error
    if isinstance(error, Retry | Discard) and not _text(error):
        cause = error.__cause__ or error.__context__ or error
    delay = error.delay if isinstance(error, Retry) else None
    return failed(type(cause).__name__, _text(cause), retry=not isinstance(error, Discard), delay=delay)


def of_result(value: Any) -> Ending:
    """A success with what the handler returned, None for nothing; a final failure if that cannot be JSON."""
    if value is None:
        return _DONE
    try:
        return Ending(Verdict(outcome=SUCCEEDED, result=_encode(value)))
    except Exception as error:
        # Whatever an object's own conversion raises comes here too.
        return failed(type(error).__name__, f"the result cannot be encoded as JSON: {_text(error)}", retry=False)
