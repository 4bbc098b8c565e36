"""How an attempt ends: the exceptions that a handler can raise to say so, and what is reported to the server for a result or an exception.

A failure's error is {"type": the exception's class, "message": its text}. The traceback is sent beside it (telling.py): it is stored with
the attempt, but is not in the error that the next worker receives.
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
"""The most characters kept of an exception's text."""

NAME_CHARS_MAX = 256
"""The most characters kept of its class's name."""

NO_TEXT = "(its text is not available)"

_encode = msgspec.json.Encoder().encode


def _checked(delay: object) -> float:
    """A delay in seconds, checked. Raises ValueError that names it."""
    return within("delay", delay, 0, DELAY_SECONDS_MAX, " seconds")


class Retry(Exception):
    """Raise it in a handler to fail the attempt. The attempt counts, and the job is retried if it has attempts left.

    reason: the text of the error; without it, the exception that is being handled is reported as the error. delay: seconds until the next
    attempt; None uses the job's backoff. Raises ValueError for a delay that is not a number from 0 to 30 days.
    """

    delay: float | None = None

    def __init__(self, reason: str = "", *, delay: float | None = None) -> None:
        super().__init__(reason)
        self.delay = None if delay is None else _checked(delay)


class Release(Exception):
    """Raise it in a handler to return the job to its queue. The attempt does not count.

    delay: seconds until the job can be taken again. Without it the worker chooses a delay, which is longer each time the same job is
    released: see `returns.py`. Raises ValueError for a delay that is not a number from 0 to 30 days.
    """

    delay: float = 0.0

    def __init__(self, *, delay: float = 0.0) -> None:
        super().__init__(f"released for {delay} seconds")
        self.delay = _checked(delay)


class Discard(Exception):
    """Raise it in a handler to fail the job for good, even if it has attempts left."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)


class Ending(msgspec.Struct, frozen=True, gc=False):
    """What to report to the server. Without a verdict it is a release after `delay` seconds; None lets the worker choose the delay."""

    verdict: Verdict | None = None
    delay: float | None = None


RELEASED = Ending(None, 0.0)
DONE = Ending(Verdict(outcome=SUCCEEDED))
"""A success without a result."""


def failed(kind: str, message: str, *, retry: bool = True, delay: float | None = None) -> Ending:
    """A failure whose error has this type and message."""
    # Text that JSON cannot contain, such as a lone surrogate from a file name, is escaped.
    plain = message[:MESSAGE_CHARS_MAX].encode("utf-8", "backslashreplace").decode()
    return Ending(Verdict(outcome=FAILED, error=_encode({"type": kind, "message": plain}), retry=retry, retry_delay=delay))


_name_of = type.__dict__["__name__"].__get__
"""The name that a class was created with, whatever its metaclass returns."""


def name_of(error: BaseException) -> str:
    """The name of an exception's class, without running any code of the class."""
    name: str = _name_of(type(error))
    return name[:NAME_CHARS_MAX]


def is_a(error: BaseException, *kinds: type[BaseException]) -> bool:
    """Whether an exception is of one of these classes. isinstance also reads its `__class__`, which may raise anything."""
    return issubclass(type(error), kinds)


def text_of(error: BaseException) -> str:
    """An exception's text, or a stand-in if getting it raises an error."""
    try:
        # A subclass of str can override methods, so only str's own methods are called here.
        return str.__getitem__(str(error), slice(MESSAGE_CHARS_MAX))
    except BaseException:
        return NO_TEXT


def of_exception(error: BaseException) -> Ending:
    """The ending for an exception that a handler raised. If the exception object itself is broken, it is still a failed attempt."""
    try:
        return _said(error)
    except BaseException:
        return failed(name_of(error), NO_TEXT)


def _delay_of(error: BaseException) -> float | None:
    given = cast(Retry | Release, error).delay if is_a(error, Retry, Release) else None
    return None if given is None else _checked(given)


def _said(error: BaseException) -> Ending:
    try:
        # Checked again: it may have been set since, or the class may have skipped the check when it was created.
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
    """A success with what the handler returned, None for nothing; or a final failure if the value cannot be encoded as JSON."""
    if value is None:
        return DONE
    if isinstance(value, Generator | AsyncGenerator):
        return failed("TypeError", "the handler returned a generator, which has not run; it must return a value", retry=False)
    try:
        return Ending(Verdict(outcome=SUCCEEDED, result=_encode(value)))
    except BaseException as error:
        # An object's own conversion can raise anything, which is caught here too.
        return failed(name_of(error), f"the result cannot be encoded as JSON: {text_of(error)}", retry=False)
