"""Schedules on a virtual clock: every slot at most once and, by its rule, at least once; over changes of clocks, steps and overlaps."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from jobqueue.engine.calendar import Cron, Every, latest, slot_text, zone
from jobqueue.engine.engine import Engine
from jobqueue.engine.timetable import SLOTS_MAX
from jobqueue.errors import BadRequest, QueueFull, TooManySchedules, UnknownSchedule
from jobqueue.limits import Limits
from jobqueue.model import CONCLUDED, FAILED, SUCCEEDED, Job, JobSpec, Lease, Verdict, Want
from jobqueue.policy import Backoff
from jobqueue.schedule import Schedule, ScheduleChange

from .invariants import invariants

JOB = JobSpec(payload=b"1")
DAY = 86_400.0


def at(text: str, name: str = "UTC") -> float:
    """A local time as seconds since the epoch."""
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(name)).timestamp()


class World:
    """An engine, its clock and the wall's. ids: of all jobs that were ever made, in order."""

    def __init__(self, start: str | float = "2026-11-26T00:00:30", limits: Limits | None = None) -> None:
        self.engine = Engine(limits)
        self.now = at(start) if isinstance(start, str) else start
        self.skew = 0.0
        self.ids: list[str] = []

    @property
    def utc(self) -> float:
        return self.now + self.skew

    def put(self, name: str = "s", **rules: object) -> bool:
        self.engine.schedules.see(self.now, self.skew)
        return self.engine.schedules.put(name, Schedule(**{"job": JOB, "overlap": "allow"} | rules))  # type: ignore[arg-type]

    def change(self, name: str = "s", **rules: object) -> None:
        self.engine.schedules.see(self.now, self.skew)
        self.engine.schedules.change(name, ScheduleChange(**rules))  # type: ignore[arg-type]

    def until(self, when: str | float) -> list[str]:
        """Let time pass until it is so late by the engine's clock; the ids of jobs made meanwhile."""
        end = at(when) if isinstance(when, str) else when
        before = len(self.ids)
        while True:
            if self.engine.schedules.skew == self.skew:
                # Years of looking at clocks that nobody sets.
                self.engine.deadlines.drop(self.engine.schedules)
            due = self.engine.next_deadline()
            if due is None or due > end:
                break
            self.now = max(self.now, due)
            self.engine.tick(self.now, skew=self.skew)
            self.note()
        self.now = end
        invariants(self.engine)
        return self.ids[before:]

    def late(self, seconds: float) -> list[str]:
        """Nobody is there for so long; then everything that is due is done."""
        self.now += seconds
        return self.until(self.now)

    def step(self, seconds: float) -> None:
        """Set the wall clock."""
        self.skew += seconds

    def note(self) -> None:
        self.ids += [event.job.id for event in self.engine.take_events() if event.kind == "enqueued" and event.job is not None]

    def take(self) -> Job:
        (job,) = self.engine.dequeue(self.now, Want())
        return job

    def end(self, job: Job, verdict: Verdict | None = None) -> None:
        lease = job.hold
        assert isinstance(lease, Lease)
        self.engine.conclude(self.now, job.id, lease.token, verdict or Verdict(outcome=SUCCEEDED))
        self.note()


def names(*slots: str) -> list[str]:
    return [f"s@{slot}" for slot in slots]


def test_each_slot_makes_one_job_named_after_it() -> None:
    """A schedule by cron makes a job at each of its times, with the template's fields, and says which comes next."""
    world = World()
    world.put(cron="0 */6 * * *", job=JobSpec(payload=b'"x"', queue="q", type="t", tags=("a",)))
    assert world.until("2026-11-26T18:00:00") == names("2026-11-26T06:00:00Z", "2026-11-26T12:00:00Z", "2026-11-26T18:00:00Z")
    job = world.engine.job("s@2026-11-26T06:00:00Z")
    assert (job.payload, job.queue, job.type, job.tags, job.schedule, job.created_at) == (
        b'"x"', "q", "t", ("a",), "s", at("2026-11-26T06:00:00")
    )  # fmt: skip
    stats = world.engine.schedules.stats(world.engine.schedules.table("s"))
    assert [slot_text(slot) for slot in stats.next] == [
        "2026-11-27T00:00:00Z", "2026-11-27T06:00:00Z", "2026-11-27T12:00:00Z", "2026-11-27T18:00:00Z", "2026-11-28T00:00:00Z"
    ]  # fmt: skip
    assert (stats.made_total, stats.last_at, stats.last_job) == (3, at("2026-11-26T18:00:00"), "s@2026-11-26T18:00:00Z")
    assert len(stats.running) == 3


@pytest.mark.parametrize(
    ("name", "day", "fixed", "slots_of_the_day"),
    [
        ("Europe/Berlin", "2026-03-29", ["2026-03-29T01:00:00Z"], 46),
        ("Europe/Berlin", "2026-10-25", ["2026-10-25T00:30:00Z"], 50),
        ("America/New_York", "2026-03-08", ["2026-03-08T07:00:00Z"], 46),
        ("America/New_York", "2026-11-01", ["2026-11-01T07:30:00Z"], 50),
        ("Australia/Lord_Howe", "2026-10-04", ["2026-10-03T15:30:00Z"], 47),
        ("Australia/Lord_Howe", "2026-04-05", ["2026-04-04T16:00:00Z"], 49),
    ],
)
def test_on_days_on_which_clocks_change_fixed_times_run_once_and_stars_follow_elapsed_time(
    name: str, day: str, fixed: list[str], slots_of_the_day: int
) -> None:
    """Half past two exists no time, or twice, or as ever: it runs once. Every half hour stays every half hour, however long the day is."""
    world = World(at(day, name) - 1)
    world.put("fixed", cron="30 2 * * *", timezone=name)
    world.put("stars", cron="*/30 * * * *", timezone=name)
    local = datetime.fromisoformat(day)
    end = local.replace(day=local.day + 1, tzinfo=ZoneInfo(name)).timestamp() - 1
    made = world.until(end)
    assert [one.partition("@")[2] for one in made if one.startswith("fixed")] == fixed
    stars = [datetime.fromisoformat(one.partition("@")[2]).timestamp() for one in made if one.startswith("stars")]
    assert len(stars) == slots_of_the_day
    assert {b - a for a, b in pairwise(stars)} == {1_800.0}


def test_leap_days() -> None:
    """The 29th of February comes every four years; what is to run then is not refused, and runs."""
    world = World("2026-01-01T00:00:00")
    world.put(cron="0 12 29 2 *")
    assert world.until("2033-01-01T00:00:00") == names("2028-02-29T12:00:00Z", "2032-02-29T12:00:00Z")


@pytest.mark.parametrize(
    ("missed", "catch_up", "made"),
    [("skip", DAY, 0), ("last", DAY, 1), ("last", 600.0, 0), ("all", DAY, 3), ("all", 4_000.0, 1)],
)
def test_missed_slots_run_by_their_rule(missed: str, catch_up: float, made: int) -> None:
    """The server was away for three slots, the last of them 1,000 s ago."""
    world = World("2026-11-26T00:00:00")
    world.put(cron="0 * * * *", missed=missed, catch_up=catch_up)
    ids = world.late(3 * 3_600.0 + 1_000.0)
    assert ids == names("2026-11-26T01:00:00Z", "2026-11-26T02:00:00Z", "2026-11-26T03:00:00Z")[3 - made :]
    assert world.until("2026-11-26T04:00:00") == names("2026-11-26T04:00:00Z")


@pytest.mark.parametrize("missed", ["skip", "last", "all"])
def test_a_slot_that_is_a_little_late_is_not_missed(missed: str) -> None:
    """A ticker that comes seconds late, as after a takeover, loses nothing, whatever becomes of missed slots."""
    world = World("2026-11-26T00:59:00")
    world.put(cron="0 * * * *", missed=missed)
    assert world.late(90.0) == names("2026-11-26T01:00:00Z")


def test_a_hundred_missed_slots_at_most() -> None:
    """Of a month of minutes, all means the last hundred."""
    world = World("2026-11-01T00:00:00")
    world.put(every=60.0, missed="all", catch_up=30 * DAY)
    ids = world.late(30 * DAY)
    assert len(ids) == SLOTS_MAX
    assert (ids[0], ids[-1]) == ("s@2026-11-30T22:21:00Z", "s@2026-12-01T00:00:00Z")


def test_no_slot_runs_twice_when_the_clock_is_set_back() -> None:
    """The hour that comes again makes no jobs, and the one after it does."""
    world = World("2026-11-26T00:00:30")
    world.put(every=600.0, starts_at=at("2026-11-26T00:00:00"))
    first = world.until("2026-11-26T03:00:00")
    world.step(-3_600.0)
    assert world.until(world.now + 3_500.0) == []
    again = world.until(world.now + 3_600.0)
    assert len(first) == 18
    assert again == names(*(f"2026-11-26T0{3 + n // 6}:{n % 6}0:00Z" for n in range(1, 6)), "2026-11-26T04:00:00Z")[: len(again)]
    assert len({*first, *again}) == len(first) + len(again)


def test_a_clock_that_is_put_forward_makes_the_slots_between_missed() -> None:
    """Nobody set a timer for it, and it is noticed within seconds."""
    world = World("2026-11-26T00:00:30")
    world.put(cron="0 * * * *")
    world.step(5 * 3_600.0)
    assert world.until(world.now + 30.0) == names("2026-11-26T05:00:00Z")


@pytest.mark.parametrize(("missed", "first"), [("last", ["2026-11-26T08:00:00Z"]), ("skip", []), ("all", None)])
def test_a_clock_that_was_wrong_and_is_set_right_stalls_nothing(missed: str, first: list[str] | None) -> None:
    """A machine whose clock is eight hours ahead until it has asked for the time: the slots of these hours run all the same, each once."""
    world = World("2026-11-26T00:00:30")
    world.put(cron="0 * * * *", missed=missed)
    world.step(8 * 3_600.0 + 120.0)
    ahead = world.until(world.now + 60.0)
    if first is not None:
        assert ahead == names(*first)
    world.step(-8 * 3_600.0 - 120.0)
    later = world.until("2026-11-26T10:00:00")
    assert sorted(ahead + later) == names(*(f"2026-11-26T{hour:02}:00:00Z" for hour in range(1, 11)))


@given(
    steps=st.lists(st.tuples(st.integers(0, 5_000), st.integers(-9_000, 9_000)), max_size=8),
    missed=st.sampled_from(["skip", "last", "all"]),
)
def test_whatever_is_done_to_the_clock_no_slot_runs_twice(steps: list[tuple[int, int]], missed: str) -> None:
    """Even when history forgets at once what ran."""
    world = World(at("2026-11-26T00:00:30"), Limits(history_jobs_max=0))
    world.put(every=600.0, missed=missed)
    for seconds, step in steps:
        world.step(float(step))
        world.late(float(seconds))
        while world.engine.live:
            world.end(world.take())
    assert len(set(world.ids)) == len(world.ids)
    # However it was set, it goes on once time has caught up.
    assert world.until(world.now + 80_000.0)


def test_overlap_skip_leaves_slots_out_while_a_run_is_live_backoff_included() -> None:
    """A run that failed and waits for its next attempt is still running."""
    world = World()
    world.put(every=60.0, overlap="skip", job=JobSpec(payload=b"1", backoff=Backoff(base=1_000.0, cap=1_000.0)))
    world.engine.random.uniform = lambda _low, high: high  # type: ignore[method-assign]
    world.until(world.now + 70.0)
    world.end(world.take(), Verdict(outcome=FAILED))
    assert world.until(world.now + 900.0) == []
    world.until(world.now + 100.0)
    world.end(world.take())
    assert len(world.until(world.now + 60.0)) == 1
    assert world.engine.schedules.table("s").skipped_total == 16


def test_overlap_queue_runs_slots_one_after_the_other() -> None:
    """Slots wait for the run before them, a hundred of them at most, and none is lost."""
    world = World("2026-11-26T00:00:00")
    world.put(every=60.0, overlap="queue")
    assert world.until(world.now + 200.0) == names("2026-11-26T00:01:00Z")
    for minute in (2, 3):
        world.end(world.take())
        assert world.until(world.now) == names(f"2026-11-26T00:0{minute}:00Z")
    world.until(world.now + 60.0 * (SLOTS_MAX + 5))
    assert len(world.engine.schedules.table("s").waiting) == SLOTS_MAX


def test_overlap_cancel_stops_the_run_before() -> None:
    """One that waits is cancelled; one that a worker has is asked to stop, and the slot runs when it has: never two at once."""
    world = World("2026-11-26T00:00:00")
    world.put(every=60.0, overlap="cancel")
    world.until(world.now + 60.0)
    assert world.until(world.now + 60.0) == names("2026-11-26T00:02:00Z")
    assert world.engine.job("s@2026-11-26T00:01:00Z").outcome == "cancelled"
    job = world.take()
    assert world.until(world.now + 120.0) == []
    assert job.lease is not None
    assert job.lease.cancel_requested
    world.end(job)
    assert world.until(world.now) == names("2026-11-26T00:04:00Z")


def test_a_retried_run_counts_as_running_again() -> None:
    """A slot is left out for it."""
    world = World("2026-11-26T00:00:00")
    world.put(every=60.0, overlap="skip")
    world.until(world.now + 60.0)
    world.end(world.take(), Verdict(outcome=FAILED, retry=False))
    world.engine.retry(world.now, "s@2026-11-26T00:01:00Z")
    assert world.until(world.now + 60.0) == []


def test_a_slot_without_room_runs_when_there_is_some() -> None:
    """A full server loses no slot; what holds it up is shown, and is gone afterwards."""
    world = World("2026-11-26T00:00:00", Limits(jobs_max=1))
    world.engine.enqueue(world.now, JOB)
    world.put(cron="1 0 * * *")
    assert [one for one in world.until("2026-11-26T00:02:00") if "@" in one] == []
    table = world.engine.schedules.table("s")
    assert "its limit of" in str(table.problem)
    world.end(world.take())
    assert world.until(world.now + 5.0) == names("2026-11-26T00:01:00Z")
    assert (table.problem, table.waiting) == (None, ())


def test_what_is_put_again_as_it_is_stays_as_it_is() -> None:
    """A deploy that sends its schedules oftener than they are due delays none and doubles none."""
    world = World("2026-11-26T00:00:00")
    assert world.put(every=600.0) is True
    for _ in range(20):
        world.until(world.now + 60.0)
        assert world.put(every=600.0) is False
    assert world.ids == names("2026-11-26T00:10:00Z", "2026-11-26T00:20:00Z")


def test_another_payload_keeps_the_times() -> None:
    """Only a change of its times makes a schedule begin anew."""
    world = World("2026-11-26T00:00:00")
    world.put(every=600.0)
    world.until(world.now + 540.0)
    world.change(job=JobSpec(payload=b"2"))
    assert world.until(world.now + 60.0) == names("2026-11-26T00:10:00Z")
    assert world.engine.job("s@2026-11-26T00:10:00Z").payload == b"2"


def test_a_new_or_changed_schedule_begins_now() -> None:
    """Nothing runs that would have been due before."""
    world = World("2026-11-26T12:00:00")
    world.put(cron="0 11 * * *", missed="all")
    world.change(cron="0 10 * * *")
    assert world.until("2026-11-27T11:30:00") == names("2026-11-27T10:00:00Z")
    world.change(every=3_600.0)
    table = world.engine.schedules.table("s")
    assert (table.schedule.cron, world.until("2026-11-27T12:30:00")) == (None, names("2026-11-27T12:30:00Z"))


def test_pause_and_resume() -> None:
    """What came while it was paused was not missed, and does not run."""
    world = World("2026-11-26T00:00:00")
    world.put(cron="0 * * * *", missed="all")
    world.change(paused=True)
    assert world.until("2026-11-26T05:30:00") == []
    assert world.engine.schedules.stats(world.engine.schedules.table("s")).next == ()
    world.change(paused=False)
    assert world.until("2026-11-26T06:00:00") == names("2026-11-26T06:00:00Z")


def test_starts_and_ends() -> None:
    """There are no slots before and after; both bounds may be one."""
    world = World("2026-11-26T00:00:00")
    world.put(cron="0 * * * *", starts_at=at("2026-11-26T02:00:00"), ends_at=at("2026-11-26T04:00:00"))
    assert world.until("2026-11-27T00:00:00") == names("2026-11-26T02:00:00Z", "2026-11-26T03:00:00Z", "2026-11-26T04:00:00Z")
    assert world.engine.next_deadline() is None or world.engine.schedules.stats(world.engine.schedules.table("s")).next == ()


def test_jitter_holds_a_run_back_by_less_than_it_says_and_always_by_as_much() -> None:
    """The job is made at its slot; the same slot waits for the same time wherever it is made."""
    waits = []
    for _ in range(2):
        world = World("2026-11-26T00:00:00")
        world.put(every=60.0, jitter=30.0)
        jobs = [world.engine.job(one) for one in world.until(world.now + 600.0)]
        waits.append([job.run_at - job.created_at for job in jobs if job.run_at is not None])
    assert waits[0] == waits[1]
    assert len(set(waits[0])) > 5
    assert 0 < min(waits[0]) <= max(waits[0]) < 30.0


def test_run_now_and_delete() -> None:
    """A run by hand is beside all slots, paused or not; what a deleted schedule made stays."""
    world = World("2026-11-26T00:00:00")
    world.put(cron="0 * * * *", overlap="skip", paused=True)
    world.engine.schedules.see(world.now, world.skew)
    job, _ = world.engine.schedules.run("s")
    other, _ = world.engine.schedules.run("s")
    assert (job.id, other.id) == ("s@run-1", "s@run-2")
    world.change(paused=False)
    assert world.until("2026-11-26T01:00:00") == ["s@run-1", "s@run-2"], "noted late, and no slot beside them"
    world.engine.schedules.delete("s")
    assert world.until("2026-11-26T03:00:00") == []
    with pytest.raises(UnknownSchedule):
        world.engine.schedules.table("s")
    assert world.engine.live == 2


def test_backfill_runs_past_slots_in_order() -> None:
    """Those that are there already are not made again; each waits for the one before unless runs may overlap."""
    world = World("2026-11-26T12:00:00")
    world.put(cron="0 * * * *", overlap="skip")
    world.engine.schedules.see(world.now, world.skew)
    ids = world.engine.schedules.backfill("s", at("2026-11-26T08:00:00"), at("2026-11-26T10:30:00"))
    assert ids == names("2026-11-26T08:00:00Z", "2026-11-26T09:00:00Z", "2026-11-26T10:00:00Z")
    assert world.engine.schedules.backfill("s", at("2026-11-26T08:00:00"), at("2026-11-26T10:30:00")) == ids
    done = []
    for _ in range(3):
        job = world.take()
        done.append(job.id)
        world.end(job)
        world.until(world.now)
    assert done == ids
    assert world.engine.live == 0


def test_backfill_refuses_what_is_too_much() -> None:
    """More than a hundred slots, the future, and what would make more than a hundred wait."""
    world = World("2026-11-26T12:00:00")
    world.put(cron="* * * * *", overlap="queue")
    world.engine.schedules.see(world.now, world.skew)
    for start, end in (("2026-11-26T08:00:00", "2026-11-26T10:30:00"), ("2026-11-26T11:00:00", "2026-11-26T12:00:01")):
        with pytest.raises(BadRequest) as refused:
            world.engine.schedules.backfill("s", at(start), at(end))
        assert refused.value.field == "to"
    world.engine.schedules.backfill("s", at("2026-11-26T08:00:00"), at("2026-11-26T09:00:00"))
    with pytest.raises(QueueFull):
        world.engine.schedules.backfill("s", at("2026-11-26T10:00:00"), at("2026-11-26T11:00:00"))


@pytest.mark.parametrize(
    ("rules", "field"),
    [
        ({}, "cron"),
        ({"cron": "* * * * *", "every": 5.0}, "cron"),
        ({"cron": "0 0 30 2 *"}, "cron"),
        ({"cron": "* * * *"}, "cron"),
        ({"cron": "0 0 * * *", "timezone": "Mars/Olympus"}, "timezone"),
        ({"every": 0.5}, "every"),
        ({"every": math.nan}, "every"),
        ({"every": 60.0, "job": JobSpec(payload=b"1", id="x")}, "job.id"),
        ({"every": 60.0, "job": JobSpec(payload=b"1", run_at=1.0)}, "job.run_at"),
        ({"every": 60.0, "job": JobSpec(payload=b"1", priority=10)}, "job.priority"),
        ({"every": 60.0, "job": JobSpec(payload=b"1", queue="no name")}, "job.queue"),
        ({"every": 60.0, "ends_at": 5.0}, "ends_at"),
        ({"every": 60.0, "jitter": -1.0}, "jitter"),
        ({"every": 60.0, "catch_up": -1.0}, "catch_up"),
    ],
)
def test_what_is_refused_names_its_field_and_changes_nothing(rules: dict[str, object], field: str) -> None:
    """New or changed: nothing is there that was not before."""
    world = World()
    with pytest.raises(BadRequest) as refused:
        world.put(**rules)
    assert refused.value.field == field
    assert world.engine.schedules.tables == {}
    world.put(cron="5 5 * * *")
    was = world.engine.schedules.table("s").stored
    with pytest.raises(BadRequest):
        world.put(**rules)
    assert world.engine.schedules.table("s").stored == was


def test_there_is_a_bound_on_schedules() -> None:
    """The next is refused until one is deleted; those that there are can still be changed."""
    world = World(limits=Limits(schedules_max=2))
    for name in "ab":
        world.put(name, every=60.0)
    with pytest.raises(TooManySchedules):
        world.put("c", every=60.0)
    world.put("a", every=61.0)
    world.engine.schedules.delete("a")
    assert world.put("c", every=60.0)


def test_ten_thousand_that_are_due_at_once_are_made_in_slices() -> None:
    """No step of the ticker makes more than a few dozen, and all of them are made."""
    world = World("2026-11-26T00:00:00")
    for n in range(10_000):
        world.put(f"s{n}", cron="30 4 1 1 *" if n % 2 else "0 1 * * *", overlap="skip", catch_up=366 * DAY)
    world.engine.take_events()
    world.now = at("2027-01-01T04:30:00")
    most = 0
    while world.engine.schedules.tables and (due := world.engine.next_deadline()) is not None and due <= world.now:
        world.engine.tick(world.now, 500)
        made = sum(event.kind == "enqueued" for event in world.engine.take_events())
        most = max(most, made)
    assert most <= 50
    assert world.engine.live == 10_000


@given(
    every=st.one_of(st.none(), st.integers(1, 5_000)),
    expression=st.sampled_from(["* * * * *", "*/7 3 * * *", "0 0 * * 1", "* * 1 * *", "5,6,59 0-4 1-15 * *", "0 12 29 2 *"]),
    back=st.floats(0.0, 40 * DAY),
    start=st.integers(1_700_000_000, 1_800_000_000),
)
def test_the_last_slot_of_a_time(every: int | None, expression: str, back: float, start: int) -> None:
    """Found in a few dozen steps, it is the one that a walk over all of them ends at."""
    calendar = Cron(expression, zone("Europe/Berlin")) if every is None else Every(float(every), float(start - 1_000_000))
    asked = 0

    def after(when: float) -> float | None:
        nonlocal asked
        asked += 1
        return calendar.after(when)

    found = latest(after, float(start), start - back)
    assert asked < 120
    if found is None:
        slot = calendar.after(start - back)
        assert slot is None or slot > start
    else:
        assert start - back < found <= start
        assert calendar.after(math.nextafter(found, -math.inf)) == found
        following = calendar.after(found)
        assert following is None or following > start


def test_a_change_takes_the_other_kind_of_time_away() -> None:
    """Cron for every, and back; what is not set stays."""
    schedule = Schedule(job=JOB, cron="* * * * *", jitter=3.0)
    changed = ScheduleChange(every=5.0).of(schedule)
    assert (changed.cron, changed.every, changed.jitter) == (None, 5.0, 3.0)
    assert ScheduleChange(cron="* * * * *").of(changed) == schedule
    kept: UnsetType = UNSET
    assert ScheduleChange(cron=kept).of(schedule) == replace(schedule)


def test_a_run_of_a_deleted_schedule_ends_quietly() -> None:
    """What it made concludes as any job does."""
    world = World("2026-11-26T00:00:00")
    world.put(every=60.0, overlap="queue")
    world.until(world.now + 150.0)
    world.engine.schedules.delete("s")
    job = world.take()
    world.end(job)
    assert world.until(world.now + 600.0) == []
    assert (job.status, world.engine.schedules.runs) == (CONCLUDED, {})
    assert datetime.fromtimestamp(job.created_at, UTC).minute == 1
