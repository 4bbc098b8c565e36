"""The bounds: every one above nothing, no two that contradict each other, and the alphabets."""

from __future__ import annotations

import math
from typing import Any

import pytest

from jobqueue.limits import CONTROL, CONTROL_BUT_LINES, NAME, Limits

MAY_BE_ZERO = ("history_jobs_max", "history_bytes_max", "unused_queue_seconds")


@pytest.mark.parametrize("name", [name for name in Limits.__struct_fields__ if name not in MAY_BE_ZERO])
@pytest.mark.parametrize("value", [0, -1, -0.5, math.nan])
def test_bound_that_is_nothing_is_refused(name: str, value: float) -> None:
    """Zero, less and NaN are no bound."""
    with pytest.raises(ValueError, match=name):
        Limits(**{name: value})


@pytest.mark.parametrize("name", MAY_BE_ZERO)
def test_some_bounds_may_be_nothing_and_not_less(name: str) -> None:
    """A server may remember no concluded job, or keep every queue; fewer than none is refused, not found out when it comes to it."""
    assert getattr(Limits(**{name: 0}), name) == 0
    for wrong in (-1, math.nan):
        with pytest.raises(ValueError, match=name):
            Limits(**{name: wrong})


@pytest.mark.parametrize(
    ("small", "large", "number"),
    [
        ("payload_bytes_max", "body_bytes_max", 2_000_000),
        ("payload_bytes_max", "payload_total_bytes_max", 500_000),
        ("wait_seconds_default", "wait_seconds_max", 30.0),
        ("lease_seconds_min", "lease_seconds_default", 20.0),
        ("lease_seconds_default", "lease_seconds_max", 500.0),
        ("max_attempts_default", "max_attempts_max", 8),
        ("page_jobs_default", "page_jobs_max", 90),
        ("page_jobs_max", "page_scan_max", 5_000),
    ],
)
def test_small_bound_may_reach_its_large_one_and_not_pass_it(small: str, large: str, number: float) -> None:
    """Each pair may be equal; a hair more and the server does not start, with a message that names both."""
    room: dict[str, Any] = {"body_bytes_max": 10**7, "payload_total_bytes_max": 10**7, "page_scan_max": 10**5, "page_jobs_default": 1}
    room |= {small: number, large: number}
    assert Limits(**room)
    step = 1 if isinstance(number, int) else 0.001
    with pytest.raises(ValueError, match=f"{small}.*{large}"):
        Limits(**room | {small: number + step})


def test_names_are_80_characters_of_a_small_alphabet() -> None:
    """Letters and digits of ASCII, dot, underscore, colon, hyphen: 1 to 80 of them and nothing around them."""
    for good in ("a", "A9", "mail.send:v2_x-y", "x" * 80):
        assert NAME.fullmatch(good)
    for bad in ("", "x" * 81, "a b", "a\n", "a/b", "é", "a%b"):
        assert NAME.fullmatch(bad) is None


def test_control_characters_are_those_of_unicode_and_lone_surrogates() -> None:
    """C0, DEL, C1 and surrogates; of them a text with lines may hold tab, line feed and carriage return."""
    for character in map(chr, [*range(0x3100), *range(0xD7F0, 0xE010), 0xFFFF, 0x10000, 0x10FFFF]):
        code = ord(character)
        control = code < 0x20 or 0x7F <= code <= 0x9F or 0xD800 <= code <= 0xDFFF
        assert bool(CONTROL.search(character)) == control
        assert bool(CONTROL_BUT_LINES.search(character)) == (control and character not in "\t\n\r")
