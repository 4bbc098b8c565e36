"""A worker's parameters, checked: each raises ValueError that names the parameter and says what is allowed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import SupportsFloat

from jobqueue.limits import CONTROL, DAY, NAME, Limits

LIMITS = Limits()
"""The server's default limits. The server checks again with its own."""

SECONDS_MAX = 30 * DAY
"""The longest duration that any server can accept. The server checks against its own limit, which can be configured."""

SETTING_SECONDS_MAX = 3_650 * DAY
"""The longest duration for settings that are not sent to the server."""

VERSION_CHARS_MAX = 64

JOBS_MAX = 1_000_000_000
"""The most jobs after which a worker, or one of its processes, can be told to end."""


def number(field: str, value: object) -> float:
    """A number of any class as a float that can be compared; NaN if it cannot be converted."""
    if not isinstance(value, SupportsFloat):
        raise ValueError(f"{field}: {value!r} is not a number")
    try:
        return float(value)
    except OverflowError:
        # An int or a Fraction too large for a float; only its sign matters.
        return math.inf if value > 0 else -math.inf  # type: ignore[operator]
    except Exception:
        # For example, a Decimal's signalling NaN.
        return math.nan


def within(field: str, value: object, low: float, high: float, unit: str = "") -> float:
    """A number between two bounds, inclusive; NaN is never within bounds."""
    found = number(field, value)
    if not low <= found <= high:
        raise ValueError(f"{field}: {value!r} is out of range; {low:g} to {high:.7g}{unit} is allowed")
    return found


def count(field: str, value: int | None) -> int | None:
    """A number of jobs; None for no limit."""
    return None if value is None else int(within(field, value, 1, JOBS_MAX))


def version_of(version: str | None) -> str | None:
    """The program's version, shown in the list of workers."""
    if version is not None and not 1 <= len(version) <= VERSION_CHARS_MAX:
        raise ValueError(f"version: {version!r} does not have 1 to {VERSION_CHARS_MAX} characters")
    return version


def queue_names(names: Sequence[str]) -> tuple[str, ...]:
    """The queues to take from."""
    if isinstance(names, str) or not 1 <= len(names) <= LIMITS.dequeue_queues_max:
        raise ValueError(f"queues: {names!r} is not a list of 1 to {LIMITS.dequeue_queues_max} names")
    for name in names:
        if NAME.fullmatch(name) is None:
            raise ValueError(f"queues: {name!r} is not a queue's name; use 1 to 80 characters of A-Z a-z 0-9 . _ : -")
    return tuple(names)


def worker_name(name: str) -> str:
    """The worker's name."""
    if not 1 <= len(name) <= LIMITS.id_chars_max or CONTROL.search(name) is not None:
        raise ValueError(f"name: {name!r} must have 1 to {LIMITS.id_chars_max} characters, without control characters")
    return name
