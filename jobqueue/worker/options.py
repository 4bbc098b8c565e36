"""A worker's parameters, checked: each raises ValueError that names the parameter and says what is allowed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import SupportsFloat

from jobqueue.limits import CONTROL, DAY, NAME, Limits

LIMITS = Limits()
"""The server's bounds unless it was told others; it has the last word."""

SECONDS_MAX = 30 * DAY
"""The longest of anything. What a server allows is for it to say, since it may be told so."""

SETTING_SECONDS_MAX = 3_650 * DAY
"""The longest of what the server does not hear of: what its own settings may be."""


def number(field: str, value: object) -> float:
    """What is given for a number, whatever its class, as a float that can be compared: NaN for a number that cannot be had."""
    if not isinstance(value, SupportsFloat):
        raise ValueError(f"{field}: {value!r} is not a number")
    try:
        return float(value)
    except OverflowError:
        # An int or a Fraction without end, of which only the sign counts.
        return math.inf if value > 0 else -math.inf  # type: ignore[operator]
    except Exception:
        # A Decimal's signalling NaN, for one.
        return math.nan


def within(field: str, value: object, low: float, high: float, unit: str = "") -> float:
    """A number between two bounds, both allowed; NaN is between no two."""
    found = number(field, value)
    if not low <= found <= high:
        raise ValueError(f"{field}: {value!r} is out of range; {low:g} to {high:.7g}{unit} is allowed")
    return found


def queue_names(names: Sequence[str]) -> tuple[str, ...]:
    """The queues to take from."""
    if isinstance(names, str) or not 1 <= len(names) <= LIMITS.dequeue_queues_max:
        raise ValueError(f"queues: {names!r} is not a list of 1 to {LIMITS.dequeue_queues_max} names")
    for name in names:
        if NAME.fullmatch(name) is None:
            raise ValueError(f"queues: {name!r} is not a queue's name; use 1 to 64 characters of A-Z a-z 0-9 . _ : -")
    return tuple(names)


def worker_name(name: str) -> str:
    """What a worker is called."""
    if not 1 <= len(name) <= LIMITS.id_chars_max or CONTROL.search(name) is not None:
        raise ValueError(f"name: {name!r} is not 1 to {LIMITS.id_chars_max} characters without controls")
    return name
