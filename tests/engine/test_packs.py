"""Packs: jobs deep in a queue are one record, and nobody can tell."""

from __future__ import annotations

import tracemalloc
import weakref
from collections.abc import Iterator
from mmap import mmap
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from jobqueue.engine import catalogue, packs
from jobqueue.engine.engine import Engine
from jobqueue.engine.packs import PAYLOAD_BYTES_MAX, Pack, Packing
from jobqueue.engine.purging import Purge
from jobqueue.engine.restore import Stored, restore
from jobqueue.ids import Ids
from jobqueue.model import Job, JobChange, JobFilter, Outcome, Status, Want
from jobqueue.partition import Place
from jobqueue.policy import PerKey, QueuePolicy
from tests.factories import NOW, SUCCEEDED, drain_ids, enqueue, make_engine, make_spec, token_of
from tests.packing import TINY

from .invariants import fingerprint, invariants, look
from .storing import stored_queues
from .test_flow_machine import FlowMachine
from .test_graph_machine import GraphMachine
from .test_machine import EngineMachine, live_long
from .test_unique_machine import UniqueMachine

SMALL = Packing(size=4, deep=8, behind=2)


def engine_with(packing: Packing, **limits: Any) -> Engine:
    engine = make_engine(**{"jobs_max": 100_000, **limits})
    engine.jobs.packing = packing
    return engine


def filled(count: int, packing: Packing = SMALL, **fields: Any) -> Engine:
    """An engine with jobs "1" to "count", each with a payload, a time and a type of its own."""
    engine = engine_with(packing)
    for n in range(1, count + 1):
        enqueue(engine, NOW + n, **{"id": str(n), "payload": b"%d" % n, "type": f"t{n % 3}", **fields})
    engine.take_events()
    return engine


def packed(engine: Engine) -> int:
    """How many jobs are in packs, by their ids; the rings and the catalogue agree."""
    by_id = {job_id for job_id, item in engine.jobs.by_id.items() if isinstance(item, Pack)}
    spans = [lane.span() for queue in engine.queues.values() for lane in queue.lanes if lane is not None]
    assert sum(isinstance(item, Pack) for span in spans for item in span) == len(by_id)
    return len(by_id)


def seen(job: Job) -> tuple[Any, ...]:
    return job.id, job.number, job.payload, job.created_at, job.type, job.status, job.attempts, job.queue, job.priority


def test_jobs_deep_in_a_queue_are_packed() -> None:
    """Those before them and the last few are not; and a queue that is not deep has no packs."""
    engine = filled(100)
    assert 100 - SMALL.deep - SMALL.behind - 2 * SMALL.size < packed(engine) <= 100 - SMALL.deep - SMALL.behind
    first = list(engine.jobs.by_id.values())[: SMALL.deep]
    assert not any(isinstance(item, Pack) for item in first)
    assert packed(filled(SMALL.deep + SMALL.behind)) == 0
    invariants(engine)


def test_a_packed_job_is_found_by_its_id_and_by_its_number() -> None:
    """With all that it was made of; and it is one object from then on."""
    engine, plain = filled(60), filled(60, packs.NEVER)
    assert packed(engine)
    for n in (1, 20, 37, 60):
        assert seen(engine.job(str(n))) == seen(plain.job(str(n)))
        assert engine.job(str(n)) is engine.numbered(n) is engine.jobs.find(str(n))
    assert engine.jobs.find("61") is None
    invariants(engine)


def test_jobs_leave_in_their_order_and_whole() -> None:
    """A queue that is emptied hands out what one without packs does, byte for byte."""
    engine, plain = filled(500), filled(500, packs.NEVER)
    assert packed(engine) > 400
    for _ in range(50):
        ours = engine.dequeue(NOW, Want(limit=10))
        theirs = plain.dequeue(NOW, Want(limit=10))
        assert [seen(job) for job in ours] == [seen(job) for job in theirs]
        invariants(engine)
    assert packed(engine) == 0


def test_listings_and_counts_do_not_open_packs() -> None:
    """They show each job, as without packs, and leave all as it is."""
    engine, plain = filled(300), filled(300, packs.NEVER)
    before = packed(engine)
    for wanted in (JobFilter(), JobFilter(type="t1"), JobFilter(before=150), JobFilter(after=40), JobFilter(status=Status.QUEUED)):
        assert [seen(job) for job in engine.page(wanted)[0]] == [seen(job) for job in plain.page(wanted)[0]]
    assert [seen(job) for job in engine.jobs.walk()] == [seen(job) for job in plain.jobs.walk()]
    assert [seen(job) for job in engine.jobs.all()] == [seen(job) for job in plain.jobs.all()]
    assert [seen(job) for job in engine.jobs.following(100, 50)] == [seen(job) for job in plain.jobs.following(100, 50)]
    for at in (NOW, NOW + 100.5, NOW + 1_000):
        assert engine.jobs.not_before(at) == plain.jobs.not_before(at)
        assert engine.jobs.all_before(at) == plain.jobs.all_before(at)
    assert engine.queue("default").stats() == plain.queue("default").stats()
    assert packed(engine) == before


@pytest.mark.parametrize("n", [12, 47, 80])
def test_a_packed_job_can_be_changed(n: int) -> None:
    """It is cancelled, edited, or enqueued again under its id, wherever it is in its pack; the others stay in their places."""
    engine, plain = filled(100), filled(100, packs.NEVER)
    for each in (engine, plain):
        each.cancel(NOW, str(n))
        each.edit(NOW, str(n + 1), JobChange(payload=b"edited"), 0.0)
        each.edit(NOW, str(n + 2), JobChange(priority=0), 0.0)
        assert each.enqueue(NOW, make_spec(b"%d" % (n + 3), id=str(n + 3), type=f"t{(n + 3) % 3}"))[1] is False
    assert packed(engine)
    invariants(engine)
    assert drain_ids(engine) == drain_ids(plain)
    assert seen(engine.job(str(n + 1))) == seen(plain.job(str(n + 1)))


def test_only_plain_jobs_that_nothing_has_happened_to_are_packed() -> None:
    """Not those with details, large payloads or an attempt behind them; such jobs between others stay where they are."""
    engine = engine_with(SMALL)
    large = b"x" * (PAYLOAD_BYTES_MAX + 1)
    for n in range(200):
        enqueue(engine, id=str(n), payload=large if n % 7 == 0 else b"1", description="own" if n % 5 == 0 else None)
    assert packed(engine)
    for job_id, item in engine.jobs.by_id.items():
        assert not (isinstance(item, Pack) and (int(job_id) % 7 == 0 or int(job_id) % 5 == 0))
    invariants(engine)
    assert drain_ids(engine) == [str(n) for n in range(200)]


def test_jobs_of_several_queues_and_priorities_are_packed_too() -> None:
    """Their numbers are not consecutive, and each queue's jobs leave in their order."""
    engine = engine_with(Packing(size=2, deep=4, behind=1))
    for n in range(300):
        enqueue(engine, NOW + n, id=str(n), payload=b"%d" % n, queue="ab"[n % 2], priority=3 + n % 3)
    before = packed(engine)
    assert before
    invariants(engine)
    for jobs in (engine.jobs.oldest_first(0), engine.jobs.walk(), engine.jobs.all(), reversed(list(engine.jobs.newest_first(None)))):
        expected = [(str(n), b"%d" % n, NOW + n, "ab"[n % 2], 3 + n % 3) for n in range(300)]
        assert [(job.id, job.payload, job.created_at, job.queue, job.priority) for job in jobs] == expected
    assert packed(engine) == before
    for at, name in enumerate("ab"):
        wanted = sorted(range(at, 300, 2), key=lambda n: 3 + n % 3)
        assert drain_ids(engine, NOW + 300, name) == [str(n) for n in wanted]


def test_packs_outlive_a_sweep_of_the_ring() -> None:
    """A ring that is full of places of cancelled jobs is swept: the packs are where their jobs are then."""
    engine = filled(1_000)
    before = packed(engine)
    for n in range(500, 600):
        engine.cancel(NOW, str(n))
    for n in range(1_001, 1_400):
        enqueue(engine, id=str(n))
    invariants(engine)
    assert packed(engine) > before - 100 - 2 * SMALL.size
    assert drain_ids(engine) == [str(n) for n in range(1, 1_400) if not 500 <= n < 600]


@pytest.mark.parametrize("purge_all", [False, True])
def test_a_purge_that_is_suspended_ends_each_job_once(purge_all: bool) -> None:
    """While it runs, jobs come, are packed and unpacked, and are taken: what was there and was not taken is cancelled, and nothing else."""
    engine = filled(200)
    if purge_all:
        purge = Purge(engine, "default")
        slices: Iterator[Any] = purge.jobs(30)
    else:
        slices = engine.waiting("default", 30)
    taken, later = [], 200
    for part in slices:
        for _ in range(20):
            later += 1
            enqueue(engine, id=str(later))
        taken += [job.id for job in engine.dequeue(NOW, Want(limit=3))]
        engine.job(str(later - 15))
        if purge_all:
            purge.step(NOW, part)
        else:
            engine.purge(NOW, "default", part)
        invariants(engine)
    left = {job.id for job in engine.jobs.all() if job.status is Status.QUEUED}
    cancelled = {job.id for job in engine.history.jobs(Outcome.CANCELLED)}
    first = {str(n) for n in range(1, 201)}
    assert not left & first
    assert cancelled <= first
    assert cancelled | set(taken) >= first


def test_a_queue_that_begins_to_use_keys_opens_its_packs() -> None:
    """The packs of other queues stay as they are."""
    engine = engine_with(SMALL)
    for n in range(200):
        enqueue(engine, id=str(n), queue="ab"[n >= 100])
    engine.put_policy("a", QueuePolicy(per_key=PerKey(order="strict")), NOW)
    for _ in range(5):
        engine.tick(NOW)
    invariants(engine)
    in_packs = [job_id for job_id, item in engine.jobs.by_id.items() if isinstance(item, Pack)]
    assert in_packs
    assert min(map(int, in_packs)) >= 100
    # Jobs without a key have no order among each other, so all can go.
    assert drain_ids(engine, NOW, "a") == [str(n) for n in range(100)]


def test_a_restored_engine_packs() -> None:
    """A restart costs a deep queue no memory."""
    engine, into = filled(1_500), engine_with(SMALL)
    jobs = [Stored(msgspec.structs.replace(job, slot=-1), 0) for job in engine.jobs.oldest_first(0)]
    restore(into, stored_queues(engine), jobs, engine.jobs.next_number, engine.jobs.next_number)
    assert packed(into) > 200
    invariants(into)
    assert drain_ids(into) == drain_ids(engine)


def test_a_job_deep_in_a_queue_takes_400_bytes_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 200 bytes of payload, with an id of 36 and a time of its own; without packs it takes half as much again."""
    mapped: list[weakref.ref[mmap]] = []
    make = packs._mapped

    def counted(size: int) -> mmap:
        made = make(size)
        mapped.append(weakref.ref(made))
        return made

    monkeypatch.setattr(packs, "_mapped", counted)
    engine = engine_with(Packing(deep=500, behind=100))
    enqueue(engine)
    tracemalloc.start()
    try:
        for n in range(20_000):
            enqueue(engine, NOW + n, payload=b"%0200d" % n)
            engine.events.clear()
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    areas = [memory for each in mapped if (memory := each()) is not None]
    assert (taken + sum(map(len, areas))) / 20_000 < 400
    del areas
    while jobs := engine.dequeue(NOW, Want(limit=1_000)):
        for job in jobs:
            engine.conclude(NOW, job.id, token_of(job), SUCCEEDED)
        engine.events.clear()
    del jobs
    assert len([each for each in mapped if each() is not None]) <= 1, "only the area for the next records stays"


def test_where_no_memory_can_be_mapped_jobs_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """An enqueue does not fail because of it."""

    def refuse(size: int) -> mmap:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(packs, "_mapped", refuse)
    engine = filled(100)
    assert packed(engine) == 0
    invariants(engine)
    assert drain_ids(engine) == [str(n) for n in range(1, 101)]


def test_a_partition_of_several_does_not_pack() -> None:
    """Its catalogue searches by number, which a pack has many of."""
    engine = Engine(ids=Ids(place=Place(0, 2)))
    assert engine.jobs.packing is packs.NEVER


@pytest.mark.parametrize("machine", [EngineMachine, FlowMachine, GraphMachine, UniqueMachine])
def test_with_packs_of_two_the_engine_agrees_with_its_oracle(machine: type[RuleBasedStateMachine], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is done, in any order, with every two waiting jobs packed."""
    monkeypatch.setattr(catalogue, "PACKING", TINY)
    run_state_machine_as_test(machine, settings=settings(machine.TestCase.settings, max_examples=20))  # type: ignore[attr-defined]


@pytest.mark.parametrize("seed", range(4))
def test_with_packs_of_two_they_agree_all_their_lives(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand operations, the same in every run."""
    monkeypatch.setattr(catalogue, "PACKING", TINY)
    machine = EngineMachine()
    machine.start(seed)
    live_long(machine, Random(seed), 1_000)
    assert fingerprint(machine.engine)["next"] > 100


def test_a_look_at_a_lane_opens_nothing() -> None:
    """What the invariants look with, so that they see packs."""
    engine = filled(100)
    before = packed(engine)
    (lane,) = [lane for lane in engine.queue("default").lanes if lane is not None]
    assert [job.id for job in look(lane)] == [str(n) for n in range(1, 101)]
    assert packed(engine) == before
