"""Rows that are divided into partitions, and joined again: nothing is lost, changed or torn apart."""

from __future__ import annotations

import asyncio
import math
import struct
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobqueue.backend.base import SentSpec
from jobqueue.backend.group import Group
from jobqueue.backend.joining import Joining
from jobqueue.backend.loading import CannotOpen, Source, load
from jobqueue.backend.rows import RESTORING, decode_counters, decode_job
from jobqueue.backend.splitting import Spanning, split
from jobqueue.backend.things import decode_samples, encode_samples
from jobqueue.clock import ManualClock
from jobqueue.engine import samples
from jobqueue.engine.claims import CLAIM
from jobqueue.engine.engine import Engine
from jobqueue.engine.events import K_THING_CHANGED, Event
from jobqueue.engine.tasks import Task, TaskStats
from jobqueue.group import GroupSpec
from jobqueue.model import JobSpec, Outcome, Want
from jobqueue.partition import ALONE, Place, home_of, partition_of
from jobqueue.policy import QueuePolicy
from jobqueue.schedule import Schedule
from jobqueue.unique import Unique
from tests.conformance.durable import kept as kept_of
from tests.engine.invariants import invariants
from tests.factories import NOW, SUCCEEDED, enqueue, token_of
from tests.moving import ALL, FAMILIES, Kept, Life, contents, lived

places = st.integers(1, 9)
FEW = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))


def engine_of(rows: Source, place: Place = ALONE) -> Engine:
    """The engine that a server makes of rows."""
    engine = Engine(ALL, place=place)
    row = rows.counters()
    assert row is not None
    # The time line goes on from where it ended.
    load(rows, engine, ManualClock(decode_counters(row).at))
    return engine


def whole(engine: Engine) -> dict[str, Any]:
    """What an engine has, but for what a move changes: the next number, and in which order jobs of different queues changed."""
    found = kept_of(engine)
    for name in ("next", "listing", "order of ids"):
        del found[name]
    found["history"] = {outcome: sorted(ids) for outcome, ids in found["history"].items()}
    for queue in found["queues"].values():
        queue["lanes"] = [lane and list(lane) for lane in queue["lanes"]]
    return found


def joined(parts: list[Any]) -> Kept:
    """The partitions in one."""
    target = Kept()
    joining = Joining("memory", target, len(parts))
    for index, part in enumerate(parts):
        for number, state, payload in part.jobs():
            group = Group()
            group.put(number, state)
            group.put_payload(number, payload)
            joining.take(index, group)
        joining.end(index, part.counters(), dict(part.queues()), part.count())
    assert joining.finish() == target.count()
    assert joining.contents == contents(target)
    return target


def stored(part: Source) -> Kept:
    """A partition's rows as a store holds them."""
    kept = Kept()
    group = Group()
    for number, state, payload in part.jobs():
        group.put(number, state)
        group.put_payload(number, payload)
    group.queue_rows = dict(part.queues())
    group.counters = part.counters() or b""
    kept.write(group)
    return kept


@FEW
@given(st.integers(0, 10_000), st.integers(0, 150), places, places)
def test_partitions_hold_together_what_one_held(seed: int, steps: int, first: int, second: int) -> None:
    """From one to P, back to one, to P', and back again: equal jobs, queues, schedules and groups; and each partition is an engine in which
    everything fits.
    """
    rows = lived(seed, steps)
    before = contents(rows)
    expected = whole(engine_of(rows))
    for count in (first, second):
        number = engine_of(rows).jobs.next_number
        parts = [stored(part) for part in split(rows, count)]
        for index, part in enumerate(parts):
            check_part(part, Place(index, count), number)
        check_claims(parts)
        rows = joined(parts)
        assert contents(rows) == before
        assert str(contents(rows)) == str(before)
        assert whole(engine_of(rows)) == expected


def check_part(part: Source, place: Place, number: int) -> None:
    """One partition, whose next number is not below this one."""
    engine = engine_of(part, place)
    invariants(engine)
    engine.resume(engine.now)
    engine.graph.check()
    engine.groups.check()
    assert all(partition_of(job.queue, place.count) == place.index for job in engine.jobs.all())
    assert engine.jobs.next_number >= number
    if place.count > 1:
        assert engine.jobs.next_number % place.count == place.first % place.count


def check_claims(parts: list[Kept]) -> None:
    """Each id whose home is elsewhere is claimed there, for its partition, and no other is."""
    count = len(parts)
    claimed = {
        (name.removeprefix(CLAIM), home, *msgspec.msgpack.decode(row))
        for home, part in enumerate(parts)
        for name, row in part.named.items()
        if name.startswith(CLAIM)
    }
    expected = set()
    for index, part in enumerate(parts):
        for number, state, _ in part.jobs():
            job_id = decode_job(number, state, b"").job.id
            if home_of(job_id, count) != index:
                expected.add((job_id, home_of(job_id, count), index))
    assert {each[:3] for each in claimed} == expected
    for _, home, _, number in claimed:
        assert number % count == (home + 1) % count
        assert number < decode_counters(parts[home].row or b"").next_number


@FEW
@given(st.integers(0, 10_000), st.integers(0, 60), st.integers(2, 6), places)
def test_partitions_that_ran_become_one(seed: int, steps: int, first: int, second: int) -> None:
    """Rows of P engines, each with its own numbers and order of changes, are joined and divided anew."""
    parts = [lived(seed + index, steps, Place(index, first)) for index in range(first)]
    before = [contents(part) for part in parts]
    rows = joined(parts)
    invariants(engine_of(rows))
    assert contents(rows).counts == {kind: sum(each.counts[kind] for each in before) for kind in before[0].counts}
    expected = contents(rows)
    again = [stored(part) for part in split(rows, second)]
    for index, part in enumerate(again):
        check_part(part, Place(index, second), engine_of(rows).jobs.next_number)
    assert contents(joined(again)) == expected


def rows_of(act: Callable[[Engine], object]) -> Kept:
    """The rows of an engine in which this happened."""
    life = Life(0)
    act(life.engine)
    return asyncio.run(life.live(0))


def after_another(engine: Engine) -> None:
    enqueue(engine, id="first", queue="a")
    enqueue(engine, id="second", queue="b", after=("first",))


def in_a_group(engine: Engine) -> None:
    engine.groups.create(GroupSpec(id="g", queue="a"), NOW, lambda: "g")
    enqueue(engine, id="member", queue="b", group="g")


def calling_back(engine: Engine) -> None:
    engine.groups.create(GroupSpec(id="g", queue="a", on_succeeded=JobSpec(payload=b"1", queue="b")), NOW, lambda: "g")


def to_dead_letters(engine: Engine) -> None:
    engine.put_policy("a", QueuePolicy(dead_letter="b"), NOW)


def of_a_schedule(engine: Engine) -> None:
    engine.schedules.see(NOW, 0.0)
    engine.schedules.put("s", Schedule(job=JobSpec(payload=b"1", queue="b"), every=1.0))
    engine.tick(NOW + 1.0)
    engine.schedules.put("s", Schedule(job=JobSpec(payload=b"1", queue="a"), every=1.0))


def redriving(engine: Engine) -> None:
    stats = TaskStats(id="t", kind="redrive", queue="a", to="b", rate=None, state="running", total=1, done=0, started_at=NOW)
    engine.tasks["t"] = Task(number=1, stats=stats)
    engine.events.append(Event(K_THING_CHANGED, "task/t"))


SPANNING = {
    after_another: "job 'second' in queue 'b': after: 'first', in queue 'a', is in another partition",
    in_a_group: "job 'member' in queue 'b': group: 'g', of queue 'a', is in another partition",
    calling_back: "group 'g' of queue 'a': on_succeeded.queue: 'b' is in another partition",
    to_dead_letters: "queue 'a': dead_letter: 'b' is in another partition",
    of_a_schedule: "in queue 'b': schedule: 's', now of queue 'a', is in another partition",
    redriving: "task 't' of queue 'a': to: 'b' is in another partition",
}


@pytest.mark.parametrize("act", SPANNING)
def test_what_would_span_partitions_is_refused(act: Callable[[Engine], object]) -> None:
    """The error names the job, queue or schedule and the field, and says how to mend it; with one partition nothing is refused."""
    assert partition_of("a", 2) != partition_of("b", 2)
    rows = rows_of(act)
    with pytest.raises(Spanning) as refused:
        split(rows, 2)
    assert SPANNING[act] in str(refused.value)
    assert "names are the same up to a colon" in str(refused.value)
    (part,) = split(rows, 1)
    assert contents(part) == contents(rows)
    assert part.counters() == rows.counters()


def test_of_many_faults_some_are_shown() -> None:
    """The error says how many more there are."""

    def many(engine: Engine) -> None:
        for number in range(9):
            enqueue(engine, id=f"a{number}", queue="a")
            enqueue(engine, id=f"b{number}", queue="b", after=(f"a{number}",))

    with pytest.raises(Spanning, match="and 4 more"):
        split(rows_of(many), 2)


def made(life: Life, now: float = NOW, **fields: Any) -> None:
    """A job in the first queue of the engine's partition; its id is claimed."""
    life.engine.enqueue(now, SentSpec(payload=b"1", queue=life.families[0], claim=1, **fields))


async def ended(life: Life, job_id: str, now: float) -> None:
    """A job of the engine ends now, as the last that changed."""
    (job,) = life.engine.dequeue(now, Want(queues=(life.families[0],)))
    assert job.id == job_id
    life.engine.conclude(now, job_id, token_of(job), SUCCEEDED)
    life.note()


async def test_history_keeps_its_order() -> None:
    """The jobs that ended first are forgotten first, whichever partition they were in and whenever they were made."""
    lives = [Life(0, Place(index, 2)) for index in range(2)]
    for number in range(10):
        for index, life in enumerate(lives):
            made(life, id=f"{index}-{number}", priority=9 - number)
            life.note()
    expected: list[str] = []
    for number, index in enumerate((0, 0, 1, 0, 1, 1, 1, 0, 0, 1) * 2):
        job_id = f"{index}-{9 - sum(each.startswith(f'{index}-') for each in expected)}"
        await ended(lives[index], job_id, NOW + number)
        expected.append(job_id)
    rows = joined([await life.live(0) for life in lives])
    history = engine_of(rows).history.jobs(Outcome.SUCCEEDED)
    assert [job.id for job in history] == expected


async def test_another_time_line_is_joined() -> None:
    """The owners of two partitions disagreed about engine time: in the whole, all times are on one line, and UTC is what it was."""
    lives = [Life(0, Place(index, 2)) for index in range(2)]
    lives[0].clock.step_wall_clock(100.0)
    for life in lives:
        name = life.families[0]
        life.engine.put_policy(name, QueuePolicy(lease_seconds=70.0), NOW)
        made(life, id=name, delay=30.0, unique=Unique(key="u", for_=500.0))
    rows = joined([await life.live(0) for life in lives])
    row = decode_counters(rows.row or b"")
    found = {job.id: job.created_at + row.skew for job in engine_of(rows).jobs.all()}
    assert found == {lives[0].families[0]: NOW + 100.0, lives[1].families[0]: NOW}
    created = {name: queue.created_at for name, queue in engine_of(rows).queues.items()}
    assert {name: at and at + row.skew for name, at in created.items()} == found


def test_a_sum_over_all_queues_is_divided() -> None:
    """Each partition has the sum of its own queues' samples, and joined they are the sum of all."""
    step, names = 10, [next(name for name in FAMILIES if partition_of(name, 2) == index) for index in range(2)]
    rows = [sample(step, count) for count in (3, 5)]
    kept = rows_of(lambda engine: None)
    name = f"samples/{step}"
    kept.named[name] = encode_samples({"": samples.summed(rows), "/": b"", **dict(zip(names, rows, strict=True))})
    parts = [stored(part) for part in split(kept, 2)]
    for queue, row, part in zip(names, rows, parts, strict=True):
        assert decode_samples(name, part.named[name]) == {step: {queue: row, "": row, "/": b""}}
    assert decode_samples(name, joined(parts).named[name]) == decode_samples(name, kept.named[name])


def sample(step: int, count: int) -> bytes:
    return struct.pack("<7I5f", step, *[count] * 6, *[float(count)] * 3, math.nan, math.nan)


# What does not fit together.


async def two_with(job_id: str, *states: str) -> list[Kept]:
    """Two partitions that both have a job with this id, in these states."""
    parts = []
    for index, state in enumerate(states):
        life = Life(index, Place(index, 2))
        made(life, NOW + index, id=job_id)
        if state == "succeeded":
            await ended(life, job_id, NOW + index + 5)
        parts.append(await life.live(0))
    return parts


async def test_an_id_that_was_used_anew_counts_once() -> None:
    """Between the moments of two partitions a job was forgotten in one, and its id used in the other: the later job stays."""
    parts = await two_with("x", "succeeded", "queued")
    rows = joined(parts)
    assert [job.status for job in engine_of(rows).jobs.all()] == ["queued"]
    parts = await two_with("x", "succeeded", "succeeded")
    rows = joined(parts)
    assert [job.conclusion and job.conclusion.concluded_at for job in engine_of(rows).jobs.all()] == [NOW + 6]


async def test_two_live_jobs_of_one_id_are_refused() -> None:
    """Which of them should go only an operator can say."""
    with pytest.raises(CannotOpen, match=r"two jobs have the id 'x', number 1 in queue '\w+' and number 2 in queue '\w+'"):
        joined(await two_with("x", "queued", "queued"))


async def test_a_partition_with_what_belongs_elsewhere_is_damaged() -> None:
    """A job or a queue in the wrong partition, a number that two have, a job that was not read: each is named."""
    lives = [Life(0, Place(index, 2)) for index in range(2)]
    for life in lives:
        made(life, id="j" + life.families[0])
    parts = [await life.live(0) for life in lives]
    with pytest.raises(CannotOpen, match=r"job 'j\w+' of queue '\w+' is in partition 0, not in 1"):
        joined([parts[1], parts[0]])
    with pytest.raises(CannotOpen, match="job number 1 is in two partitions"):
        joined([parts[0], parts[0]])
    joining = Joining("memory", Kept(), 2)
    with pytest.raises(CannotOpen, match="partition 0 should have 1 jobs, and 0 could be read"):
        joining.end(0, None, {}, 1)
    with pytest.raises(CannotOpen, match="holds nothing yet"):
        joining.finish()
    with pytest.raises(CannotOpen, match="restore"):
        joining.end(0, RESTORING, {}, 0)
