"""How an attempt ends: what a handler may raise to say so, and what is told to the server of a result or an exception.

A failure's error is {"type": the exception's class, "message": its text}. No traceback: it would show a producer the inside of the
worker, and the worker's log has it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from typing import Any, cast

import msgspec

from jobqueue.limits import Limits
from jobqueue.model import FAILED, SUCCEEDED, Verdict
from jobqueue.worker.options import within

DELAY_SECONDS_MAX = Limits().delay_seconds_max
MESSAGE_CHARS_MAX = 4_096
"""What is kept of an exception's text."""

NAME_CHARS_MAX = 256
"""What is kept of its class's name."""

NO_TEXT = "(its text cannot be had)"

_encode = msgspec.json.Encoder().encode


def _checked(delay: object) -> float:
    """A delay in seconds. Raises ValueError that names it."""
    return within("delay", delay, 0, DELAY_SECONDS_MAX, " seconds")


class Retry(Exception):
    """Raise it in a handler: the attempt failed and counts, and the job is to be tried again while it has attempts left.

    delay: seconds until then; None leaves it to the job's backoff. Without a reason, what is being handled is the error. Raises ValueError
    for a delay that is no number of 0 to 30 days.
    """

    delay: float | None = None

    def __init__(self, reason: str = "", *, delay: float | None = None) -> None:
        super().__init__(reason)
        self.delay = None if delay is None else _checked(delay)


class Release(Exception):
    """Raise it in a handler: the job goes back to its queue, to be taken again after `delay` seconds, and the attempt does not count.

    Without a delay the worker chooses one, longer each time the same job is released: see `returns.py`. Raises ValueError as Retry.
    """

    delay: float = 0.0

    def __init__(self, *, delay: float = 0.0) -> None:
        super().__init__(f"released for {delay} seconds")
        self.delay = _checked(delay)


class Discard(Exception):
    """Raise it in a handler: the job failed for good, whatever attempts are left."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)


class Ending(msgspec.Struct, frozen=True, gc=False):
    """What to tell the server. Without a verdict: release, after `delay` seconds; None leaves them to the worker."""

    verdict: Verdict | None = None
    delay: float | None = None


RELEASED = Ending(None, 0.0)
_DONE = Ending(Verdict(outcome=SUCCEEDED))


def failed(kind: str, message: str, *, retry: bool = True, delay: float | None = None) -> Ending:
    """A failure whose error is `kind` and `message`."""
    # Text that no JSON can carry, a lone surrogate of a file's name for one, is shown escaped.
    plain = message[:MESSAGE_CHARS_MAX].encode("utf-8", "backslashreplace").decode()
    return Ending(Verdict(outcome=FAILED, error=_encode({"type": kind, "message": plain}), retry=retry, retry_delay=delay))


_name_of = type.__dict__["__name__"].__get__
"""The name that a class was made with, whatever its metaclass says."""


def name_of(error: BaseException) -> str:
    """The name of an exception's class; no code of the class runs."""
    name: str = _name_of(type(error))
    return name[:NAME_CHARS_MAX]


def is_a(error: BaseException, *kinds: type[BaseException]) -> bool:
    """Whether an exception is of one of these classes. isinstance also asks it for its `__class__`, which may raise anything."""
    return issubclass(type(error), kinds)


def text_of(error: BaseException) -> str:
    """An exception's text; a stand-in where asking for it raises anything at all."""
    try:
        # A str of a class of its own has methods of its own: here only str's are called.
        return str.__getitem__(str(error), slice(MESSAGE_CHARS_MAX))
    except BaseException:
        return NO_TEXT


def of_exception(error: BaseException) -> Ending:
    """What an exception out of a handler says. Whatever is wrong with the exception itself, it is a failed attempt."""
    try:
        return _said(error)
    except BaseException:
        return failed(name_of(error), NO_TEXT)


def _delay_of(error: BaseException) -> float | None:
    given = cast(Retry | Release, error).delay if is_a(error, Retry, Release) else None
    return None if given is None else _checked(given)


def _said(error: BaseException) -> Ending:
    try:
        # Asked again: it may have been set since, or by a class that made itself without asking.
        delay = _delay_of(error)
    except ValueError as wrong:
        return failed("ValueError", f"{name_of(error)}: {wrong}")
    if is_a(error, Release):
        return Ending(None, delay or None)
    cause = error
    if is_a(error, Retry, Discard) and not text_of(error):
        cause = error.__cause__ or error.__context__ or error
    return failed(name_of(cause), text_of(cause), retry=not is_a(error, Discard), delay=delay)


def of_result(value: Any) -> Ending:
    """A success with what the handler returned, None for nothing; a final failure if that cannot be JSON."""
    if value is None:
        return _DONE
    if isinstance(value, Generator | AsyncGenerator):
        return failed("TypeError", "the handler returned a generator, of which nothing has run; it must return a value", retry=False)
    try:
        return Ending(Verdict(outcome=SUCCEEDED, result=_encode(value)))
    except BaseException as error:
        # Whatever an object's own conversion raises comes here too.
        return failed(name_of(error), f"the result cannot be encoded as JSON: {text_of(error)}", retry=False)
