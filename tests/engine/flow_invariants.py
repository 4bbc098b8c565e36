"""What is always true of queues that hold jobs back, keys and all; looked at behind the engine's face, since a wrong count shows late."""

from __future__ import annotations

from collections import Counter
from typing import Any

from jobqueue.engine.engine import Engine
from jobqueue.engine.flow import FlowQueue
from jobqueue.engine.keys import KeyState, place_of
from jobqueue.engine.queues import QueueState
from jobqueue.engine.sizes import job_bytes
from jobqueue.model import Job, Status


def flow_fingerprint(queue: QueueState) -> Any:
    """All that such a queue knows beside its jobs."""
    if not isinstance(queue, FlowQueue):
        return None
    return {
        "keys": {
            key: (
                (state.live, state.queued, state.paused, state.block, state.block and state.counted, state.passed, state.out),
                (state.bucket.full_at, state.bucket.waits, state.bucket.low_at),
                [[job.id for job in jobs] for jobs in (state.running, state.away, state.halted)],
                state.entry and state.entry[0],
            )
            for key, state in queue.states.items()
        },
        "queue": (queue.keyed, queue.moving, queue.upto, queue.fresh_from, queue.passed, list(queue.paused), queue.restored_at),
        "bucket": (queue.bucket.full_at, queue.bucket.waits, queue.bucket.low_at),
    }


def flow_invariants(engine: Engine) -> None:
    """Assert it of every queue, and of what is pinned."""
    jobs = list(engine.jobs.all())
    halting = [job for job in jobs if job.conclusion is not None and job.conclusion.halts]
    assert {job.id for job in halting} == {job.id for job in engine.pinned}
    reserved = [group.reserved for group in engine.groups.groups.values()]
    held = [*halting, *engine.kept]
    assert engine.jobs_max == engine.share.jobs - len(held) - sum(count for count, _ in reserved)
    assert engine.bytes_max == engine.share.bytes - sum(map(job_bytes, held)) - sum(size for _, size in reserved)
    for queue in engine.queues.values():
        assert queue.flow == isinstance(queue, FlowQueue) == (queue.policy.limited or queue.policy.keyed or bool(queue.paused_keys))
        if isinstance(queue, FlowQueue):
            assert queue.moving >= 0
            assert not queue.taking
            assert queue.last is None
            _check_timer(engine, queue, queue.bucket.full_at, queue.bucket.waits)
            assert queue.keyed == (queue.policy.keyed or bool(queue.paused))
            if not queue.keyed:
                assert not queue.states
                assert not queue.ready_keys.live
            elif not queue.moving:
                _check_keys(engine, queue, [job for job in jobs if job.queue == queue.name])
        else:
            assert queue.may_go() == bool(queue.queued)


def _check_timer(engine: Engine, item: object, full_at: float, waits: bool) -> None:
    assert (engine.deadlines.due(item) is not None) == bool(full_at), "a bucket that is not full is among the due times, another is not"
    assert full_at or not waits


def _check_keys(engine: Engine, queue: FlowQueue, jobs: list[Job]) -> None:
    live = [job for job in jobs if job.status is not Status.CONCLUDED]
    halting = [job for job in engine.pinned if job.queue == queue.name]
    remembered = {key for key, state in queue.states.items() if state.bucket.full_at}
    assert set(queue.states) == {job.key for job in [*live, *halting]} | {*queue.paused} | remembered, "as long as need be"
    held = Counter[str]()
    for key, state in queue.states.items():
        of_key = [job for job in live if job.key == key]
        assert state.key == key
        assert state.queue == queue.name
        assert state.live == len(of_key)
        assert set(state.running) == {job for job in of_key if job.status is Status.IN_PROGRESS}
        assert set(state.away) == {job for job in of_key if job.status is Status.SCHEDULED and job.details.holds}
        assert set(state.halted) == {job for job in halting if job.key == key}
        assert state.paused == (key in queue.paused)
        _check_timer(engine, state, state.bucket.full_at, state.bucket.waits)
        _check_places(state, [job for job in of_key if job.status is Status.QUEUED])
        block = state.blocked(queue.rule, False) if state.queued else None
        assert state.block == block
        if block is not None:
            assert state.counted == state.queued
            held[block] += state.queued
        assert (state.entry is not None) == (state.queued > 0 and block is None), "a key that may go, and no other, is among those that may"
        if state.entry is not None:
            assert state.entry[0] == _rank(queue, state)
    assert held == Counter({block: count for block, count in queue.counted_by.items() if count})
    _check_ready(queue)


def _check_places(state: KeyState, queued: list[Job]) -> None:
    assert state.queued == len(queued)
    valid = [place for place in state.places if place[2].status is Status.QUEUED and place[2].seq == place[1]]
    assert sorted(valid) == sorted(place_of(job) for job in queued), "a queued job stands once among those of its key, in its place"
    assert len(state.places) <= 2 * state.queued + 65
    if queued:
        assert state.peek()[2] is min(queued, key=lambda job: place_of(job)[:2])


def _rank(queue: FlowQueue, state: KeyState) -> tuple[float, ...]:
    job = state.peek()[2]
    if not queue.policy.fair:
        return (job.priority, job.seq)
    weight = queue.weight(state.key)
    return (job.priority, len(state.running) / weight, state.passed + 1.0 / weight, job.seq)


def _check_ready(queue: FlowQueue) -> None:
    ready = queue.ready_keys
    counted = []
    for weight, line in ready._lines.items():
        entries = [entry for entry in line._heap + line._aside if entry[2].entry is entry]
        assert len(entries) == len({id(entry) for entry in entries}) == line.live
        assert all(entry[2].line is line for entry in entries)
        assert all(weight == (queue.weight(entry[2].key) if queue.policy.fair else 1.0) for entry in entries)
        first = min(entries, default=None)
        assert line.first() is first
        counted += entries
    assert len(counted) == ready.live
    assert {id(entry[2]) for entry in counted} == {id(state) for state in queue.states.values() if state.entry is not None}
    assert (ready.first() is None) == (not counted)
    # A hand-out takes out one entry and may enter another, so stale ones are never more than there were keys at once.
    assert ready.entries <= 2.5 * (len(queue.states) + 50) + 80 * max(1, len(ready._lines))
