"""When slots are, over changes of the clocks in three zones and over leap days."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import given, settings
from hypothesis import strategies as st

from jobqueue.engine.calendar import NICKNAMES, SEARCH_SECONDS, Cron, Every, zone

ZONES = ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe")
"""Forward and back at 1:00 UTC; at 2:00 local; by half an hour, in the other half of the year."""

CHANGES = {
    "Europe/Berlin": ("2026-03-29", "2026-10-25"),
    "America/New_York": ("2026-03-08", "2026-11-01"),
    "Australia/Lord_Howe": ("2026-10-04", "2026-04-05"),
}
MINUTE = timedelta(minutes=1)


def at(text: str, name: str = "UTC", fold: int = 0) -> float:
    """A local time as seconds since the epoch."""
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(name), fold=fold).timestamp()


def slots(calendar: Cron | Every, after: float, until: float) -> list[float]:
    """All slots of a time."""
    found = []
    slot = calendar.after(after)
    while slot is not None and slot <= until:
        found.append(slot)
        slot = calendar.after(slot)
    return found


def by_hand(expression: str, name: str, after: float, until: float) -> list[float]:
    """The same, by looking at every minute. What a field matches is asked of the library, on a day without a zone."""
    fixed = not any(field.startswith("*") for field in expression.split()[:2])
    there = ZoneInfo(name)
    found = set()

    def matches(local: datetime) -> bool:
        return next(CronSim(expression, local - timedelta(seconds=1))) == local

    def local_minutes() -> Iterator[datetime]:
        local = datetime.fromtimestamp(after - 86_400, there).replace(tzinfo=None, second=0)
        while local.replace(tzinfo=there).timestamp() < until + 86_400:
            yield local
            local += MINUTE

    if fixed:
        for local in local_minutes():
            if matches(local):
                exists = local
                while datetime.fromtimestamp(exists.replace(tzinfo=there).timestamp(), there).replace(tzinfo=None) != exists:
                    exists += MINUTE
                found.add(exists.replace(tzinfo=there).timestamp())
    else:
        instant = after - after % 60
        while instant <= until:
            if matches(datetime.fromtimestamp(instant, there).replace(tzinfo=None)):
                found.add(instant)
            instant += 60
    return sorted(slot for slot in found if after < slot <= until)


@pytest.mark.parametrize("name", ZONES)
@pytest.mark.parametrize("which", [0, 1], ids=["forward", "back"])
@pytest.mark.parametrize(
    "expression", ["30 2 * * *", "15,45 1-3 * * *", "*/20 * * * *", "10 */2 * * *", "0 3 * * 0", "*/7 2 * * *", "0 0 * * *"]
)
def test_slots_around_a_change_of_the_clocks(name: str, which: int, expression: str) -> None:
    """Each expression has the slots that looking at every minute finds, none twice, when clocks are put forward and back."""
    day = at(CHANGES[name][which], name)
    after, until = day - 86_400, day + 2 * 86_400
    found = slots(Cron(expression, zone(name)), after, until)
    assert found == by_hand(expression, name, after, until)
    assert all(earlier < later for earlier, later in pairwise(found))


def test_a_fixed_hour_that_is_left_out_runs_at_its_end() -> None:
    """Half past two does not exist on that day, so its slot is at three; the next day it is half past two again."""
    cron = Cron("30 2 * * *", zone("Europe/Berlin"))
    assert slots(cron, at("2026-03-28T12:00"), at("2026-03-30T12:00")) == [
        at("2026-03-29T03:00", "Europe/Berlin"),
        at("2026-03-30T02:30", "Europe/Berlin"),
    ]


def test_a_fixed_hour_that_is_repeated_runs_once() -> None:
    """Half past two is twice on that day, and its slot is the first."""
    cron = Cron("30 2 * * *", zone("Europe/Berlin"))
    assert slots(cron, at("2026-10-24T12:00"), at("2026-10-25T12:00")) == [at("2026-10-25T02:30", "Europe/Berlin")]
    # Asked between the two.
    assert cron.after(at("2026-10-25T02:10", "Europe/Berlin", fold=1)) == at("2026-10-26T02:30", "Europe/Berlin")


def test_a_wildcard_follows_elapsed_time() -> None:
    """Every half hour is every half hour, 48 a day, 46 on the day that is shorter and 50 on the one that is longer."""
    cron = Cron("*/30 * * * *", zone("Europe/Berlin"))
    for day, count in (("2026-03-28", 48), ("2026-03-29", 46), ("2026-10-25", 50)):
        begin = at(day, "Europe/Berlin")
        end = at((datetime.fromisoformat(day) + timedelta(days=1)).isoformat(), "Europe/Berlin")
        found = slots(cron, begin - 1, end - 1)
        assert len(found) == count
        assert {later - earlier for earlier, later in pairwise(found)} == {1_800.0}


def test_a_leap_day_comes_every_four_years() -> None:
    """The 29th of February is found from the day after the last one."""
    cron = Cron("0 12 29 2 *", zone("UTC"))
    assert slots(cron, at("2024-02-29T12:00"), at("2033-01-01")) == [at("2028-02-29T12:00"), at("2032-02-29T12:00")]


@pytest.mark.parametrize("expression", ["0 0 29 2 *", "* * 29 2 *"])
def test_what_comes_too_seldom_never_comes(expression: str) -> None:
    """Beyond four years there is no slot: 2100 has no 29th of February."""
    assert Cron(expression, zone("UTC")).after(at("2096-03-01")) is None
    assert Cron(expression, zone("UTC")).after(at("2100-03-01")) == at("2104-02-29")


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("", "has 0 fields"),
        ("* * * *", "has 4 fields"),
        ("0 0 * * * *", "has 6 fields"),
        ("60 * * * *", "minute"),
        ("* 24 * * *", "hour"),
        ("* * 0 * *", "day of month"),
        ("* * * 13 *", "month"),
        ("* * * * 8", "day of week"),
        ("*/0 * * * *", "minute"),
        ("5-1 * * * *", "minute"),
        ("0 0 31 2 *", "never occurs"),
        ("0 0 30,31 2 *", "never occurs"),
        ("0 0 32 2 *", "its day of month cannot be read"),
        ("@reboot", "is none of @yearly"),
        ("@every 5m", "is none of @yearly"),
    ],
)
def test_an_expression_that_cannot_be_read_says_why(expression: str, why: str) -> None:
    """What is wrong names the field."""
    with pytest.raises(ValueError, match=why):
        Cron(expression, zone("UTC"))


@pytest.mark.parametrize("name", sorted(NICKNAMES))
def test_nicknames_are_what_crontab_says(name: str) -> None:
    """A nickname has the slots of what it stands for."""
    begin = at("2026-11-26T23:00")
    assert Cron(f" {name.upper()} ", zone("UTC")).after(begin) == Cron(NICKNAMES[name], zone("UTC")).after(begin)


@pytest.mark.parametrize("name", ["", "Europe", "Europe/Nowhere", "../../etc/passwd", "/etc/localtime", "UTC\0", "é", "x" * 10_000])
def test_what_is_no_time_zone_is_refused(name: str) -> None:
    """Only names of the IANA database are time zones."""
    with pytest.raises(ValueError, match="is not a time zone"):
        zone(name)


@given(st.floats(1.0, 1e6), st.floats(0.0, 4e9), st.floats(0.0, 4e9))
def test_every_so_often_never_gives_a_slot_twice(seconds: float, first: float, begin: float) -> None:
    """Slots are later than what was asked for, and about so far apart."""
    every = Every(seconds, first)
    one = every.after(begin)
    assert one is not None
    two = every.after(one)
    assert two is not None
    assert begin < one < two
    assert one == first or two - one == pytest.approx(seconds, abs=1e-5)


@settings(deadline=None, max_examples=30)
@given(
    st.sampled_from(ZONES),
    st.integers(int(at("2026-01-01")), int(at("2027-12-31"))),
    st.sampled_from(["5 4 * * *", "*/9 1-4 * * *", "30 2 1 * 1", "0 */3 * * *"]),
)
def test_no_slot_is_missed_or_given_twice(name: str, begin: int, expression: str) -> None:
    """From any second on, a day's slots are those that looking at every minute finds."""
    found = slots(Cron(expression, zone(name)), begin, begin + 86_400)
    assert found == by_hand(expression, name, begin, begin + 86_400)


def test_the_search_ends() -> None:
    """It looks four years ahead, leap day included."""
    assert at("2032-02-29") - at("2028-02-29") < SEARCH_SECONDS
