"""Which values are allowed: every bound just inside and just outside, and the error that names the field."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from jobqueue.engine import checks
from jobqueue.errors import BadRequest, TooLarge
from jobqueue.limits import Limits
from jobqueue.model import JobSpec, Want
from jobqueue.policy import Backoff, QueuePolicy
from tests.factories import NOW, make_spec

LIMITS = Limits()
DAYS_30 = 30 * 86_400.0
HALF_DAY = 12 * 3_600.0

Check = Callable[[Any], None]


def of_spec(field: str) -> Check:
    return lambda value: checks.spec(make_spec(**{field: value}), LIMITS)


def of_want(field: str) -> Check:
    return lambda value: checks.want(Want(**{field: value}), LIMITS)


def of_policy(field: str) -> Check:
    return lambda value: checks.policy(QueuePolicy(**{field: value}), LIMITS)


def of_backoff(field: str, check: Callable[[str], Check]) -> Check:
    return lambda value: check("backoff")(msgspec.structs.replace(Backoff(), **{field: value}))


NUMBERS: dict[str, tuple[str, Check, float, float, bool]] = {
    # what: the field the error names, the check, the least and the greatest allowed, whether it counts whole things
    "priority": ("priority", of_spec("priority"), 0, 9, True),
    "delay": ("delay", of_spec("delay"), 0.0, DAYS_30, False),
    "expires_in": ("expires_in", of_spec("expires_in"), 0.001, DAYS_30, False),
    "max_attempts": ("max_attempts", of_spec("max_attempts"), 1, 1_000, True),
    "lease_seconds": ("lease_seconds", of_spec("lease_seconds"), 1.0, HALF_DAY, False),
    "backoff.base": ("backoff.base", of_backoff("base", of_spec), 0.0, DAYS_30, False),
    "backoff.factor": ("backoff.factor", of_backoff("factor", of_spec), 1.0, 100.0, False),
    "backoff.cap": ("backoff.cap", of_backoff("cap", of_spec), 0.0, DAYS_30, False),
    "limit of a dequeue": ("limit", of_want("limit"), 1, 1_000, True),
    "lease_seconds of a dequeue": ("lease_seconds", of_want("lease_seconds"), 1.0, HALF_DAY, False),
    "lease_seconds of a policy": ("lease_seconds", of_policy("lease_seconds"), 1.0, HALF_DAY, False),
    "max_attempts of a policy": ("max_attempts", of_policy("max_attempts"), 1, 1_000, True),
    "max_jobs of a policy": ("max_jobs", of_policy("max_jobs"), 1, 1_000_000, True),
    "backoff.base of a policy": ("backoff.base", of_backoff("base", of_policy), 0.0, DAYS_30, False),
    "backoff.factor of a policy": ("backoff.factor", of_backoff("factor", of_policy), 1.0, 100.0, False),
    "backoff.cap of a policy": ("backoff.cap", of_backoff("cap", of_policy), 0.0, DAYS_30, False),
}

TEXTS: dict[str, tuple[str, Check, int, int, bool]] = {
    # what: the field, the check, the fewest and the most characters, whether it may have several lines
    "id": ("id", of_spec("id"), 1, 128, False),
    "description": ("description", of_spec("description"), 0, 1_024, True),
    "worker": ("worker", of_want("worker"), 1, 128, False),
    "attempt_id": ("attempt_id", of_want("attempt_id"), 1, 128, False),
}


def refused(check: Check, value: Any, field: str) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        check(value)
    assert caught.value.field == field
    assert str(caught.value).startswith(f"{field}: ")
    return caught.value


@pytest.mark.parametrize("what", NUMBERS)
def test_number_is_allowed_up_to_both_its_bounds(what: str) -> None:
    """Both bounds and what lies between are allowed; a hair outside is a bad request that names the field and the bounds."""
    field, check, low, high, whole = NUMBERS[what]
    for inside in (low, high, (low + high) // 2 if whole else (low + high) / 2):
        check(inside)
    for outside in (low - 1, high + 1) if whole else (math.nextafter(low, -math.inf), math.nextafter(high, math.inf)):
        assert f"{low:.15g} to {high:.15g}" in str(refused(check, outside, field))


@pytest.mark.parametrize("what", NUMBERS)
def test_what_is_no_number_is_out_of_every_range(what: str) -> None:
    """NaN, infinities and integers too large for a float, or to be printed, are bad requests, never another error."""
    field, check, _, _, whole = NUMBERS[what]
    for value in (10**400, -(10**400), 10**6_000) if whole else (math.nan, math.inf, -math.inf, 10**400, -(10**400)):
        refused(check, value, field)


@pytest.mark.parametrize("what", TEXTS)
def test_text_has_a_length_in_characters(what: str) -> None:
    """The shortest and the longest are allowed, one character more or less is not; characters count, not bytes."""
    field, check, low, high, _ = TEXTS[what]
    for inside in ("x" * low, "é" * high, "\U0001f600" * high):
        check(inside)
    refused(check, "x" * (high + 1), field)
    if low:
        refused(check, "", field)


@pytest.mark.parametrize("what", TEXTS)
def test_text_holds_no_control_character(what: str) -> None:
    """NUL, CR LF, ESC, DEL, C1 and lone surrogates are refused wherever they stand; slashes, spaces and any script are not."""
    field, check, _, _, lines = TEXTS[what]
    for fine in ("../x", "a b", "next", "日本語", "a\u00a0b"):
        check(fine)
    for control in ("\x00", "\x1b", "\x7f", "\x85", "\ud800"):
        for text in (control, f"a{control}", f"{control}a", f"a{control}b"):
            refused(check, text, field)
    for line in ("a\nb", "a\r\nb", "a\tb"):
        if lines:
            check(line)
        else:
            refused(check, line, field)


def test_error_does_not_repeat_a_long_name() -> None:
    """A name of a million characters is cut in the message."""
    with pytest.raises(BadRequest) as caught:
        checks.name("queue", "x" * 1_000_000)
    assert len(str(caught.value)) < 300


def test_dequeue_names_one_to_32_queues() -> None:
    """No queue and one too many are refused by number, a bad one by name."""
    check = of_want("queues")
    check(("a",))
    check(tuple(f"q{n}" for n in range(32)))
    refused(check, (), "queue")
    refused(check, tuple(f"q{n}" for n in range(33)), "queue")
    refused(check, ("a", "b c"), "queue")


def test_delay_and_run_at_exclude_each_other() -> None:
    """One of them is enough, even a delay of nothing."""
    with pytest.raises(BadRequest) as caught:
        checks.spec(make_spec(delay=0.0, run_at=NOW), LIMITS)
    assert caught.value.field == "run_at"


def test_run_at_may_be_as_far_ahead_as_the_longest_delay() -> None:
    """The past and 30 days ahead are allowed; more, and what is no time, is not."""
    for fine in (NOW - 1e9, NOW, NOW + DAYS_30):
        checks.run_at(fine, NOW, LIMITS)
    for bad in (NOW + DAYS_30 + 1.0, math.inf, -math.inf, math.nan):
        refused(lambda value: checks.run_at(value, NOW, LIMITS), bad, "run_at")


@pytest.mark.parametrize("field", ["payload", "result", "error"])
def test_json_has_a_size_in_bytes(field: str) -> None:
    """The largest is allowed, one byte more is `too_large` and names the field."""
    checks.json_size(field, b"x" * (1 << 20), LIMITS)
    with pytest.raises(TooLarge) as caught:
        checks.json_size(field, b"x" * ((1 << 20) + 1), LIMITS)
    assert caught.value.field == field


def test_bounds_are_the_limits_own() -> None:
    """Smaller limits move every bound with them."""
    small = Limits(
        payload_bytes_max=4, delay_seconds_max=400.0, expires_seconds_max=5.0, max_attempts_max=5, id_chars_max=3, text_chars_max=2
    )
    checks.spec(JobSpec(payload=b"1234", id="abc", description="ab", delay=400.0, expires_in=5.0, max_attempts=5), small)
    for field, value in {"id": "abcd", "description": "abc", "delay": 401.0, "expires_in": 5.1, "max_attempts": 6}.items():
        refused(lambda value, field=field: checks.spec(make_spec(**{field: value}), small), value, field)  # type: ignore[misc]


def test_nothing_said_is_nothing_to_check() -> None:
    """A job of a payload alone and a dequeue of the default queue pass."""
    checks.spec(make_spec(), LIMITS)
    checks.want(Want(), LIMITS)
    checks.policy(QueuePolicy(), LIMITS)
