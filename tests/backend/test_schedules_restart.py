"""Schedules over restarts: at every moment around a slot, and from the rows that each commit left."""

from __future__ import annotations

import pytest

from jobqueue.backend.group import Group
from jobqueue.backend.rows import BadRow, decode_job, encode_job
from jobqueue.backend.things import Named, decode_named, decode_schedule, encode_named, encode_schedule
from jobqueue.engine.engine import Engine
from jobqueue.engine.events import K_ENQUEUED, K_FORGOTTEN
from jobqueue.engine.restore import Stored as StoredJob
from jobqueue.engine.restore import restore
from jobqueue.engine.timetable import Stored
from jobqueue.limits import Limits
from jobqueue.model import SUCCEEDED, JobSpec, Lease, Verdict, Want
from jobqueue.policy import Backoff
from jobqueue.schedule import Schedule
from jobqueue.unique import Unique

NOW = 1_790_000_000.0
JOB = JobSpec(payload=b"1", lease_seconds=1.0)


class Disk:
    """The rows of an engine, each step's in one commit; `commits` are the rows after each."""

    def __init__(self) -> None:
        self.rows = Group()
        self.commits: list[tuple[dict[int, bytes], dict[int, bytes], dict[str, bytes], int]] = []
        self.change = 0

    def commit(self, engine: Engine) -> None:
        group = self.rows
        for event in engine.take_events():
            if event.job is None:
                group.queue_rows[event.queue] = encode_named(engine, event.queue)
            elif event.kind is K_FORGOTTEN:
                group.forget(event.job.number)
            else:
                self.change += 1
                group.put(event.job.number, encode_job(event.job, self.change))
                group.queue_rows[event.queue] = encode_named(engine, event.queue)
                if event.kind is K_ENQUEUED:
                    group.put_payload(event.job.number, event.job.payload)
        states = {number: row for number, row in group.states.items() if row is not None}
        named = {name: row for name, row in group.queue_rows.items() if row is not None}
        self.commits.append((states, dict(group.payloads), named, engine.jobs.next_number))

    def read(self) -> tuple[Named, list[StoredJob], int]:
        """What the last commit left: all that has a name, the jobs, and the next number."""
        states, payloads, rows, following = self.commits[-1]
        return decode_named(rows.items()), [decode_job(number, row, payloads[number]) for number, row in sorted(states.items())], following


def restarted(commit: tuple[dict[int, bytes], dict[int, bytes], dict[str, bytes], int], now: float) -> Engine:
    """An engine on the rows of a commit."""
    states, payloads, rows, following = commit
    engine = Engine(Limits(history_jobs_max=1))
    named = decode_named(rows.items())
    jobs = [decode_job(number, state, payloads[number]) for number, state in sorted(states.items())]
    restore(engine, named.queues, jobs, following, following, named.schedules)
    engine.resume(now)
    return engine


def lived(engine: Engine, disk: Disk, now: float, until: float, made: list[str]) -> None:
    """Run, with a worker that does each job at once."""
    while True:
        for job in engine.dequeue(now, Want(limit=10)):
            disk.commit(engine)
            assert isinstance(job.hold, Lease)
            engine.conclude(now, job.id, job.hold.token, Verdict(outcome=SUCCEEDED))
            disk.commit(engine)
        due = engine.next_deadline()
        if due is None or due > until:
            return
        now = max(now, due)
        engine.tick(now)
        made += [event.job.id for event in engine.events if event.kind is K_ENQUEUED and event.job is not None]
        disk.commit(engine)


@pytest.mark.parametrize("overlap", ["allow", "skip", "queue", "cancel"])
@pytest.mark.parametrize("away", [0.0, 30.0, 400.0])
def test_a_restart_at_any_moment_makes_each_slot_once(overlap: str, away: float) -> None:
    """Whatever commit is the last that there is: every slot since the schedule began has had its job, and none had two."""
    rules = {"job": JOB, "every": 60.0, "missed": "all", "overlap": overlap}
    first, disk, before = Engine(Limits(history_jobs_max=1)), Disk(), []
    first.schedules.see(NOW, 0.0)
    first.schedules.put("s", Schedule(**rules))  # type: ignore[arg-type]
    disk.commit(first)
    lived(first, disk, NOW, NOW + 200.0, before)
    assert len(before) == 3
    for at in range(len(disk.commits)):
        done = [name for name in before if _is_in(name, disk.commits[at])]
        after: list[str] = []
        now = NOW + 200.0 + away
        lived(restarted(disk.commits[at], now), Disk(), now, now + 120.0, after)
        # What the commits before this one made is not made again, and what they did not is.
        assert len({*after}) == len(after)
        assert not {*after} & {*done}
        if overlap in ("allow", "queue"):
            assert len(done) + len(after) == (320 + away) // 60


def test_restarts_that_come_oftener_than_the_interval_keep_no_slot_back() -> None:
    """The first slot is stored as a time, and the next is counted from it: not from a start, nor from when the server came to it."""
    engine, disk, made = Engine(Limits(history_jobs_max=1)), Disk(), []
    engine.schedules.see(NOW, 0.0)
    engine.schedules.put("s", Schedule(job=JOB, every=60.0))
    disk.commit(engine)
    for turn in range(1, 24):
        now = NOW + 13.0 * turn
        engine = restarted(disk.commits[-1], now)
        lived(engine, disk, now, now, made)
    assert [name.partition("@")[2][14:19] for name in made] == ["14:20", "15:20", "16:20", "17:20"]


def _is_in(job_id: str, commit: tuple[dict[int, bytes], dict[int, bytes], dict[str, bytes], int]) -> bool:
    slot = decode_schedule("s", commit[2]["schedule/s"]).last_at
    when = float(NOW + 60.0 * (1 + ["first", "second", "third"].index(_ORDER[job_id.partition("@")[2][14:16]])))
    return slot is not None and when <= slot


_ORDER = {"14": "first", "15": "second", "16": "third"}
"""NOW is at 13 minutes and 20 seconds; the slots are a minute apart."""


def test_a_schedule_is_stored_whole() -> None:
    """Something in every field comes back as it was; a row that cannot be read, and a kind that is not known, say so."""
    spec = JobSpec(
        payload=b"1", queue="q", type="t", description="d", priority=3, delay=1.0, expires_in=5.0, max_attempts=4,
        backoff=Backoff(1.0, 2.0, 3.0), lease_seconds=9.0, key="k", tags=("a", "b"),
        traceparent="00-" + "1" * 32 + "-" + "2" * 16 + "-01", unique=Unique("u", "started", 3.0, "replace", 4.0),
    )  # fmt: skip
    schedule = Schedule(
        job=spec, cron="* * * * *", every=2.0, timezone="Europe/Berlin", missed="all", catch_up=3.0, overlap="cancel", jitter=4.0,
        paused=True, starts_at=5.0, ends_at=6.0,
    )  # fmt: skip
    stored = Stored("s", schedule, 1.0, 2.0, (3.0, 4.0), (5.0, 6.0), (7.0, 8.0), 9.0, "s@x", 10, 11, "why")
    assert decode_schedule("s", encode_schedule(stored)) == stored
    with pytest.raises(BadRow, match="schedule 's'"):
        decode_schedule("s", b"\x90")
    with pytest.raises(BadRow, match="kind"):
        decode_named([("unheard/of", b"")])
