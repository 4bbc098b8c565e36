"""What is always true of an engine, and a picture of all its state to compare before and after."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec

from jobqueue.engine.deadlines import Deadlines
from jobqueue.engine.engine import Engine
from jobqueue.engine.lane import Lane
from jobqueue.engine.packs import Pack
from jobqueue.engine.queues import QueueState
from jobqueue.engine.retention import KeptHistory
from jobqueue.engine.sizes import job_bytes, names_bytes
from jobqueue.model import Job, Outcome, Status

from .flow_invariants import flow_fingerprint, flow_invariants
from .unique_invariants import unique_fingerprint, unique_invariants

_TOTALS = ("enqueued", "dequeued", "redelivered", "succeeded", "failed", "cancelled", "expired", "retried", "moved_in", "moved_out")


def fingerprint(engine: Engine) -> dict[str, Any]:
    """Everything the engine knows, as plain values.

    Left out: which entries the deadline heap holds. They are its lazy housekeeping, which a tick that finds nothing due may do, and no
    operation's outcome depends on them.
    """
    return {
        "jobs": {
            job.id: {**msgspec.structs.asdict(job), "due": engine.deadlines.due(job), "lease ends": engine.lease_ends.due(job)}
            for job in engine.jobs.all()
        },
        "order of ids": list(engine.jobs.by_id),
        "listing": [job.id for job in engine.jobs.newest_first(None)],
        "next": engine.jobs.next_number,
        "queues": {name: _queue(queue) for name, queue in engine.queues.items()},
        "due": len(engine.deadlines),
        "lease ends": len(engine.lease_ends),
        "history": {outcome: [job.id for job in engine.history.jobs(outcome)] for outcome in Outcome},
        "history counts": engine.history.counts(),
        "attempts": {attempt: [job.id for job in jobs] for attempt, jobs in engine.attempts.items()},
        "live": engine.live,
        "live bytes": engine.live_bytes,
        "random": engine.random.getstate(),
        "pinned": [job.id for job in engine.pinned],
        "kept": sorted(job.id for job in engine.kept),
        "edges": {parent: sorted(engine.edges.of(parent)) for parent in engine.edges.children},
        "groups": {name: engine.groups.stats(group) for name, group in engine.groups.groups.items()},
        "events": list(engine.events),
        "unique": unique_fingerprint(engine),
        "schedules": _schedules(engine),
        "logs": {number: (log.state, log.read(0, 2**30)) for number, log in sorted(engine.logs.by_job.items())},
    }


def _schedules(engine: Engine) -> dict[str, Any]:
    schedules = engine.schedules
    # Of a slot that has no room the first reason is stored, and the last shown.
    tables = {name: table.stored._replace(problem=str(table.problem is None)) for name, table in sorted(schedules.tables.items())}
    return {"tables": tables, "runs": {name: set(ids) for name, ids in schedules.runs.items()}}


def look(lane: Lane) -> list[Job]:
    """The jobs of a lane in the order in which they leave, without opening a pack."""
    ring: list[Job] = []
    taken = Counter[Pack]()
    for place in lane.span():
        if isinstance(place, Pack):
            ring.append(place.look()[taken[place]])
            taken[place] += 1
        elif place is not None:
            ring.append(place)
    assert all(count == len(pack.look()) for pack, count in taken.items()), "a pack is in the ring with all its jobs"
    returned = [(seq, entry, job) for seq, entry, job in lane._heap if job.slot == entry]
    assert len(ring) == lane.live
    assert len(returned) == lane.returned
    return sorted([*ring, *(job for *_, job in returned)], key=lambda job: job.seq)


def _queue(queue: QueueState) -> dict[str, Any]:
    return {
        "stats": queue.stats(),
        "lanes": [None if lane is None else [job.id for job in look(lane)] for lane in queue.lanes],
        "ready": queue.ready,
        "scheduled": [job.id for job in queue.scheduled.values()],
        "flow": flow_fingerprint(queue),
    }


def invariants(engine: Engine) -> None:
    """Assert everything the docstring of `State` promises."""
    logged = {job.number: job.details.extra.log for job in engine.jobs.all() if job.details.extra.log}
    assert logged == {number: log.size for number, log in engine.logs.by_job.items()}
    places = Counter(job.id for job in [*engine.pinned, *engine.kept])
    for queue in engine.queues.values():
        _check_queue(engine, queue, places)
    for outcome in Outcome:
        _check_history(engine, outcome, places)
    jobs = list(engine.jobs.all())
    for job in jobs:
        there = engine.jobs.by_id[job.id]
        assert there is job or isinstance(there, Pack)
        if job.status is Status.IN_PROGRESS:
            places[job.id] += 1
        _check_job(engine, job)
    assert places == Counter(dict.fromkeys(engine.jobs.by_id, 1)), "each job is in exactly one place"
    numbers = [job.number for job in engine.jobs.newest_first(None)]
    assert numbers == sorted((job.number for job in jobs), reverse=True)
    live = [job for job in jobs if job.status is not Status.CONCLUDED]
    assert engine.live == len(live)
    assert engine.live <= engine.limits.jobs_max
    assert engine.live_bytes == sum(job_bytes(job) for job in live)
    # Whoever takes a job may give its name; nothing else goes beyond.
    names = sum(names_bytes(job.lease) for job in live if job.lease is not None)
    assert engine.live_bytes <= engine.limits.payload_total_bytes_max + names
    assert len(engine.queues) <= engine.limits.queues_max
    _check_deadlines(engine, engine.deadlines, live)
    _check_deadlines(engine, engine.lease_ends, live)
    _check_leases(engine, live)
    _check_shelves(engine)
    runs = {(job.schedule, job.id) for job in live if job.schedule is not None and job.home == job.queue}
    assert {(name, job_id) for name, ids in engine.schedules.runs.items() for job_id in ids} == runs
    assert engine.schedules.payload_bytes == sum(table.payload_bytes for table in engine.schedules.tables.values())
    flow_invariants(engine)
    unique_invariants(engine)
    engine.groups.check()


def _check_queue(engine: Engine, queue: QueueState, places: Counter[str]) -> None:
    queued = 0
    for priority, lane in enumerate(queue.lanes):
        jobs = [] if lane is None else look(lane)
        assert ((lane is not None and len(lane)) or 0) == len(jobs)
        assert bool(queue.ready >> priority & 1) == bool(jobs)
        # Not `peek`, which would open a pack at the front.
        assert lane is None or not jobs or lane.live == 0 or lane.span()[0] is not None, "the front is never a tombstone"
        assert [job.seq for job in jobs] == sorted({job.seq for job in jobs}), "a lane is in the order of its seqs"
        assert all(job.status is Status.QUEUED and job.priority == priority and job.queue == queue.name for job in jobs)
        places.update(job.id for job in jobs)
        queued += len(jobs)
    assert queue.queued == queued
    assert all(number == job.number and job.status is Status.SCHEDULED for number, job in queue.scheduled.items())
    places.update(job.id for job in queue.scheduled.values())
    leased = [job for job in engine.jobs.all() if job.queue == queue.name and job.status is Status.IN_PROGRESS]
    assert queue.in_progress == len(leased)
    totals = {name: getattr(queue, f"{name}_total") for name in _TOTALS}
    assert min(totals.values()) >= 0
    concluded = sum(totals[outcome.value] for outcome in Outcome)
    came = totals["enqueued"] + totals["retried"] + totals["moved_in"]
    assert came == queue.live + concluded + totals["moved_out"], "what came in is here, has ended or has gone on"
    assert queue.dead_lettered_total <= queue.failed_total


def _check_history(engine: Engine, outcome: Outcome, places: Counter[str]) -> None:
    jobs = engine.history.jobs(outcome)
    places.update(job.id for job in jobs)
    assert all(job.outcome is outcome for job in jobs)
    held = sum(job_bytes(job) for job in jobs)
    assert engine.history.counts()[outcome] == (len(jobs), held)
    assert len(jobs) <= engine.limits.history_jobs_max
    assert held <= engine.limits.history_bytes_max
    # One that halted its key, or that others were after, ended before it came here.
    parents = {parent for job in engine.jobs.all() for parent in job.details.extra.after}
    times = [job.conclusion.concluded_at for job in jobs if job.conclusion is not None and job.key is None and job.id not in parents]
    assert times == sorted(times), "history is in the order in which jobs ended"


def _check_shelves(engine: Engine) -> None:
    """What queues keep by rules of their own is what there is of them in history, and is due in time."""
    rules = {
        (queue.name, outcome): rule
        for queue in engine.queues.values()
        for outcome in Outcome
        if (rule := queue.policy.keep_succeeded if outcome is Outcome.SUCCEEDED else queue.policy.keep_failed) is not None
    }
    shelves = engine.history.shelves() if isinstance(engine.history, KeptHistory) else []
    assert {(shelf.queue, shelf.outcome): shelf.rule for shelf in shelves} == rules
    for shelf in shelves:
        jobs = [job for job in engine.history.jobs(shelf.outcome) if job.queue == shelf.queue]
        if shelf.filling:
            assert list(shelf.jobs) == jobs[len(jobs) - len(shelf.jobs) :]
            continue
        assert list(shelf.jobs) == jobs
        if not engine.follows and shelf.due_at() != float("inf"):
            due = engine.deadlines.due(shelf)
            assert due is not None, "what ages is due"
            assert due <= shelf.due_at(), "early, never late"


def _check_job(engine: Engine, job: Job) -> None:
    assert (job.lease is not None) == (job.status is Status.IN_PROGRESS)
    assert (job.conclusion is not None) == (job.status is Status.CONCLUDED)
    assert job.status is Status.CONCLUDED or job.queue in engine.queues
    assert job.attempts >= (job.lease is not None)
    assert engine.lease_ends.due(job) == (None if job.lease is None else job.lease.expires_at)
    if job.status is Status.SCHEDULED:
        assert job.run_at is not None or job.details.extra.may_hold_back
        due = min((at for at in (job.run_at, job.expires_at) if at is not None), default=None)
    else:
        due = job.expires_at if job.status is Status.QUEUED else None
    assert engine.deadlines.due(job) == due


def _check_deadlines(engine: Engine, deadlines: Deadlines[Any], live: list[Job]) -> None:
    timed = [(job, due) for job in live if (due := deadlines.due(job)) is not None]
    assert len(deadlines) == len(timed) + sum(not isinstance(item, Job) for item in deadlines._entries)
    # The one look behind the engine's face: a due time that is in no entry would show only when its moment is missed.
    held = {id(entry) for entry in deadlines._heap + deadlines._aside}
    for job, due in timed:
        entry = deadlines._entries[job]
        assert entry[0] <= due, "an entry comes up early, never late"
        assert id(entry) in held
    assert all(job in deadlines._entries for job in deadlines._later)
    upcoming = engine.next_deadline()
    assert not timed or (upcoming is not None and upcoming <= min(due for _, due in timed))
    assert deadlines.entries <= 2.5 * len(deadlines) + 80


def _check_leases(engine: Engine, live: list[Job]) -> None:
    leases = [job.lease for job in live if job.lease is not None]
    assert len({lease.token for lease in leases}) == len(leases), "no two leases share a token"
    held: dict[tuple[str, str | None, str, str], set[str]] = {}
    for job in live:
        if job.lease is not None and job.lease.attempt_id is not None:
            held.setdefault((job.lease.attempt_id, job.lease.worker, job.lease.who, job.queue), set()).add(job.id)
    assert {attempt: {job.id for job in jobs} for attempt, jobs in engine.attempts.items()} == held
