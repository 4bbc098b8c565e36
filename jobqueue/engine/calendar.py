"""The slots of a schedule: by a cron expression in a time zone, or at a fixed interval.

Pure: nothing here reads a clock. Times are UTC, seconds since the epoch.

Cron expressions are those of Debian's crontab(5), and changes of the clocks are handled as in cron(8): an expression with a fixed minute
and hour runs at the end of a skipped hour, and once in a repeated hour; one whose minute or hour begins with a star follows elapsed time.

The library cronsim parses expressions and says which days they match. It is not used for the times within a day: where clocks are set back
by half an hour (Lord Howe Island), it skips some, as of 2.8. croniter has its own rules for both hours, and needs python-dateutil.
"""

from __future__ import annotations

import contextlib
import math
from bisect import bisect_left
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Protocol
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from jobqueue.schedule import SLOT_SECONDS_MAX

SEARCH_SECONDS = SLOT_SECONDS_MAX
"""How far ahead a slot is searched: four years, including a leap day. Every date that exists occurs within them, except around 2100."""

NICKNAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}

_FIELDS = 5
_STEPS = 8
"""How many slots are tried one by one before the period is halved."""
_QUARTER = 900


class Calendar(Protocol):
    """What determines the slots of a schedule."""

    def after(self, at: float) -> float | None:
        """The first slot later than `at`; None when there is none within SEARCH_SECONDS."""


class Every:
    """A slot at a fixed interval, counted from `first`, which is a slot itself."""

    def __init__(self, seconds: float, first: float) -> None:
        self.seconds = seconds
        self.first = first

    def after(self, at: float) -> float | None:
        """See Calendar."""
        if at < self.first:
            return self.first
        slot = self.first + (math.floor((at - self.first) / self.seconds) + 1) * self.seconds
        # Rounding errors in a division of large numbers must not give the same slot twice.
        return slot if slot > at else slot + self.seconds


def _wrong(parts: list[str], error: str) -> str:
    """What is wrong with five fields that CronSim rejects: which field is invalid, or that no month has this day."""
    if error == "Bad day-of-month":
        with contextlib.suppress(CronSimError):
            CronSim(" ".join((*parts[:3], "1", parts[4])), datetime.fromtimestamp(0, UTC))
            return "never occurs: none of its months has such a day"
    return f"its {error.removeprefix('Bad ').replace('-', ' ')} cannot be read"


class Cron:
    """The times of a cron expression in a time zone. Raises ValueError, which says what is wrong, for an invalid expression."""

    def __init__(self, expression: str, zone: ZoneInfo) -> None:
        self.expression = NICKNAMES.get(expression.strip().lower(), expression)
        self.zone = zone
        if self.expression.lstrip().startswith("@"):
            raise ValueError(f"{expression.strip()} is none of {', '.join(NICKNAMES)}")
        parts = self.expression.split()
        if len(parts) != _FIELDS:
            raise ValueError(f"has {len(parts)} fields; minute, hour, day of the month, month and day of the week are 5")
        try:
            self._read = CronSim(self.expression, datetime.fromtimestamp(0, UTC))
        except CronSimError as error:
            raise ValueError(_wrong(parts, str(error))) from None
        self._minutes = sorted(self._read.minutes)
        self._hours = sorted(self._read.hours)
        self._fixed = not (parts[0].startswith("*") or parts[1].startswith("*"))

    def after(self, at: float) -> float | None:
        """See Calendar."""
        return self._after_fixed(at) if self._fixed else self._after_elapsed(at)

    def _matches(self, day: date) -> bool:
        return day.month in self._read.months and self._read.match_day(day)

    def _after_fixed(self, at: float) -> float | None:
        """For a fixed minute and hour: each local time is one slot."""
        day = datetime.fromtimestamp(math.floor(at), self.zone).date()
        # The end of a skipped hour can be on the next day.
        last = day + timedelta(seconds=SEARCH_SECONDS)
        day -= timedelta(days=1)
        while day <= last:
            if self._matches(day):
                for hour in self._hours:
                    if self._instant(day, hour, self._minutes[-1]) <= at:
                        continue
                    for minute in self._minutes:
                        slot = self._instant(day, hour, minute)
                        if slot > at:
                            return slot
            day += timedelta(days=1)
        return None

    def _instant(self, day: date, hour: int, minute: int) -> float:
        """When this local time occurs: for the first time, or at the end of a skipped hour."""
        there = datetime.combine(day, time(hour, minute), self.zone)
        while datetime.fromtimestamp(there.timestamp(), self.zone).replace(tzinfo=None) != there.replace(tzinfo=None):
            there += timedelta(minutes=1)
        return there.timestamp()

    def _after_elapsed(self, at: float) -> float | None:
        """For elapsed time: a quarter of an hour at a time, since no zone changes its clocks within one."""
        quarter = math.floor(at / _QUARTER) * _QUARTER
        end = at + SEARCH_SECONDS
        matched: tuple[date, bool] | None = None
        while quarter <= end:
            local = datetime.fromtimestamp(quarter, self.zone)
            day = local.date()
            if matched is None or matched[0] != day:
                matched = day, self._matches(day)
            if not matched[1]:
                # Up to the last hour before midnight, since clocks can change until then.
                quarter += max(_QUARTER, (22 - local.hour) * 3_600)
                continue
            if local.hour in self._read.hours:
                first = local.minute
                for minute in self._minutes[bisect_left(self._minutes, first) :]:
                    if minute >= first + 15:
                        break
                    slot = quarter + (minute - first) * 60 - local.second
                    if slot > at:
                        return float(slot)
            quarter += _QUARTER
        return None


@lru_cache(1_000)
def zone(name: str) -> ZoneInfo:
    """A time zone by its name in the IANA database. Raises ValueError for an unknown name."""
    try:
        return ZoneInfo(name)
    except (OSError, KeyError, ValueError):
        # ZoneInfoNotFoundError is a KeyError; names of directories and malformed names raise the others.
        raise ValueError(f"{name[:80]!r} is not a time zone of the IANA database, such as Europe/Berlin") from None


def slot_text(slot: float) -> str:
    """A slot as it is written in the id of its job: UTC, to the second, or to the millisecond if it has a fraction."""
    text = datetime.fromtimestamp(slot, UTC).isoformat(timespec="milliseconds" if slot % 1 else "seconds")
    return text.removesuffix("+00:00") + "Z"


def slot_of(name: str, job_id: str) -> float | None:
    """The slot of a job that the schedule with this name made; None if it was run manually."""
    try:
        return datetime.fromisoformat(job_id[len(name) + 1 :]).timestamp()
    except ValueError:
        return None


def latest(after: Callable[[float], float | None], at: float, since: float) -> float | None:
    """The last slot in (since, at], None if there is none. Calls `after` some dozens of times, however many slots there are."""
    width = 60.0
    while (slot := after(max(since, at - width))) is None or slot > at:
        if at - width <= since:
            return None
        width *= 2
    for _ in range(_STEPS):
        following = after(slot)
        if following is None or following > at:
            return slot
        slot = following
    high = at
    while high - slot > 1.0:
        middle = (slot + high) / 2
        found = after(middle)
        if found is None or found > at:
            high = middle
        else:
            slot = found
    while (following := after(slot)) is not None and following <= at:
        slot = following
    return slot
