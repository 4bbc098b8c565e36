"""Every cell of the lifecycle table: what it allows, and that what it refuses changes nothing at all.

The tests are made from EXPECTED, which is written by hand and compared with the table in lifecycle.py first.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from jobqueue.engine.engine import Engine
from jobqueue.engine.events import Kind
from jobqueue.engine.lifecycle import TABLE, Rule, Trigger, describe, markdown
from jobqueue.engine.purging import Purge
from jobqueue.errors import LostRace, NotRetryable
from jobqueue.model import JobChange, Outcome, Status, Verdict, Want
from tests.factories import FAILED, NOW, STATES, SUCCEEDED, Placed, bring, dequeue, enqueue, make_engine, make_spec, token_of

from .invariants import fingerprint, invariants

S, Q, P, C = Status.SCHEDULED, Status.QUEUED, Status.IN_PROGRESS, Status.CONCLUDED
LOST, OVER, KEEP, HELD, NOTHING = "lease_lost", "not_in_progress", "not_retryable", "in_progress", "nothing"

EXPECTED: dict[Trigger, tuple[str | set[Status], ...]] = {
    #                       scheduled  queued   in_progress  concluded
    Trigger.DUE: ({Q}, NOTHING, NOTHING, NOTHING),
    Trigger.DEQUEUE: (NOTHING, {P}, NOTHING, NOTHING),
    Trigger.EXTEND: (LOST, LOST, {P}, OVER),
    Trigger.RELEASE: (LOST, LOST, {Q, S, C}, OVER),
    Trigger.UNDELIVERED: (NOTHING, NOTHING, {Q, C}, NOTHING),
    Trigger.CONCLUDE: (LOST, LOST, {C, S}, OVER),
    Trigger.CONCLUDE_LATE: ({C}, {C}, LOST, OVER),
    Trigger.LEASE_EXPIRED: (NOTHING, NOTHING, {Q, C}, NOTHING),
    Trigger.CANCEL: ({C}, {C}, {P}, OVER),
    Trigger.EXPIRE: ({C}, {C}, NOTHING, NOTHING),
    Trigger.RETRY: (KEEP, KEEP, KEEP, {Q}),
    Trigger.DEAD_LETTER: (NOTHING, NOTHING, {Q}, NOTHING),
    Trigger.REDRIVE: ({Q}, {Q}, NOTHING, NOTHING),
    Trigger.EDIT: ({S, Q}, {Q, S}, HELD, OVER),
    Trigger.LET_RUN: ({Q, S, C}, NOTHING, NOTHING, NOTHING),
    Trigger.PURGE: ({C}, {C}, {C}, NOTHING),
    Trigger.FORGET: (NOTHING, NOTHING, NOTHING, {C}),
}
COLUMNS = (S, Q, P, C)
CODES = {Rule.LEASE_LOST: LOST, Rule.NOT_IN_PROGRESS: OVER, Rule.NOT_RETRYABLE: KEEP, Rule.IN_PROGRESS: HELD, Rule.NOTHING: NOTHING}

LEASE = 300.0
"""The default lease, in seconds."""


def status_of(state: str) -> Status:
    return P if state == "cancelling" else Status(state) if state in ("scheduled", "queued", "in_progress") else C


def expected(trigger: Trigger, state: str) -> str | set[Status]:
    """The cell of a state; the one place where an outcome makes a difference is that a success is not retried."""
    if trigger is Trigger.RETRY and state == "succeeded":
        return KEEP
    return EXPECTED[trigger][COLUMNS.index(status_of(state))]


def cells(*kinds: str | type) -> list[tuple[Trigger, str]]:
    """(trigger, state) of the cells that are one of `kinds`: codes, or `set` for those that move the job."""
    return [(t, s) for t in Trigger for s in STATES if (c := expected(t, s)) in kinds or (set in kinds and isinstance(c, set))]


def token(placed: Placed) -> str:
    """The best token there is: of the live lease, else the one that ended the job, else an earlier attempt's."""
    best = placed.token or placed.earlier
    assert best is not None
    return best


LATE = Verdict(outcome=Outcome.SUCCEEDED, result=b'"late"', late=True)


def conclude_late(engine: Engine, placed: Placed) -> object:
    """By the token of the last lease, which has run out if the job waits."""
    job, was = placed.job, placed.job.status
    if was is P or was is C:
        return engine.conclude(NOW, job.id, placed.earlier if was is P and placed.earlier else token(placed), LATE)
    if was is S:
        engine.edit(NOW, job.id, JobChange(delay=0.0))
    last = token_of(dequeue(engine))
    engine.extend(NOW, job.id, last, 0.0)
    if was is S:
        engine.edit(NOW, job.id, JobChange(delay=9.0))
    assert job.status is was
    engine.take_events()
    return engine.conclude(NOW, job.id, last, LATE)


ACTS: dict[Trigger, Callable[[Engine, Placed], object]] = {
    Trigger.DEQUEUE: lambda engine, placed: engine.dequeue(NOW, Want()),
    Trigger.EXTEND: lambda engine, placed: engine.extend(NOW, placed.job.id, token(placed), 60.0, 0.5, "half"),
    Trigger.RELEASE: lambda engine, placed: engine.release(NOW, placed.job.id, token(placed)),
    Trigger.UNDELIVERED: lambda engine, placed: engine.put_back(NOW, placed.job.id, token(placed)),
    Trigger.CONCLUDE: lambda engine, placed: engine.conclude(NOW, placed.job.id, token(placed), FAILED),
    Trigger.CONCLUDE_LATE: conclude_late,
    Trigger.LEASE_EXPIRED: lambda engine, placed: engine.tick(NOW + LEASE),
    Trigger.CANCEL: lambda engine, placed: engine.cancel(NOW, placed.job.id),
    Trigger.RETRY: lambda engine, placed: engine.retry(NOW, placed.job.id),
    Trigger.EDIT: lambda engine, placed: engine.edit(NOW, placed.job.id, JobChange(description="new")),
    Trigger.PURGE: lambda engine, placed: Purge(engine, placed.job.queue).step(NOW, [placed.job]),
}
"""How to pull each trigger; those that need a job made for it (DUE, EXPIRE, FORGET, LET_RUN, dead letters) have their own tests."""


def test_table_is_as_expected() -> None:
    """lifecycle.py says of every trigger and status what EXPECTED says."""
    assert set(TABLE) == set(Trigger) == set(EXPECTED)
    for trigger, row in TABLE.items():
        assert tuple(row) == COLUMNS
        for cell, wanted in zip(row.values(), EXPECTED[trigger], strict=True):
            assert (set(cell.to) if cell.rule is Rule.ALLOWED else CODES[cell.rule]) == wanted, trigger


def test_docs_table_shows_every_cell() -> None:
    """The generated table has a row for every trigger and a column for every status, none of them empty."""
    head, _, *rows = markdown().splitlines()
    assert head == "| event | scheduled | queued | in_progress | concluded |"
    assert [row.split(" | ")[0] for row in rows] == [f"| {trigger.value}" for trigger in Trigger]
    assert all(len(row.strip("| ").split(" | ")) == 5 and "|  |" not in row for row in rows)


@pytest.mark.parametrize(("trigger", "state"), cells(LOST, OVER, KEEP, HELD))
def test_illegal_cell_raises_its_code_and_changes_nothing(trigger: Trigger, state: str) -> None:
    """A refused request raises the very error of its cell, and not a field of anything is different afterwards."""
    engine = make_engine()
    placed = bring(engine, state)
    wanted = expected(trigger, state)
    if wanted == OVER and placed.token is None and trigger not in (Trigger.CANCEL, Trigger.EDIT):
        wanted = LOST  # no worker ended the job, so the token at hand is an earlier attempt's
    before = fingerprint(engine)
    with pytest.raises(LostRace) as caught:
        ACTS[trigger](engine, placed)
    assert caught.value.code == wanted
    assert fingerprint(engine) == before
    assert engine.events == []


@pytest.mark.parametrize(("trigger", "state"), [cell for cell in cells(NOTHING) if cell[0] in ACTS])
def test_empty_cell_does_nothing(trigger: Trigger, state: str) -> None:
    """What cannot concern a job in this status leaves it, and everything else, alone."""
    engine = make_engine()
    placed = bring(engine, state)
    before = fingerprint(engine)
    assert not ACTS[trigger](engine, placed)
    assert fingerprint(engine) == before
    invariants(engine)


@pytest.mark.parametrize(("trigger", "state"), [cell for cell in cells(set) if cell[0] in ACTS])
def test_allowed_cell_moves_the_job_where_the_table_says(trigger: Trigger, state: str) -> None:
    """What is allowed leads to one of the cell's statuses, tells of it in an event and keeps every invariant."""
    engine = make_engine()
    placed = bring(engine, state)
    wanted = expected(trigger, state)
    ACTS[trigger](engine, placed)
    assert isinstance(wanted, set)
    assert placed.job.status in wanted
    if state == "cancelling" and trigger not in (Trigger.EXTEND, Trigger.CANCEL):
        assert placed.job.outcome is Outcome.CANCELLED
    assert [event.job for event in engine.take_events()] == [placed.job]
    invariants(engine)


@pytest.mark.parametrize("state", STATES)
def test_run_at_moves_only_a_scheduled_job(state: str) -> None:
    """When the time a job was put off to comes, it is queued if it still is scheduled; in every other status nothing happens."""
    engine = make_engine()
    job = enqueue(engine, delay=50.0, expires_in=40.0 if state == "expired" else None, lease_seconds=1_000.0)
    due = NOW + 50.0
    if state == "scheduled":
        engine.take_events()
        engine.tick(due - 0.001)
        assert (job.status, engine.events) == (S, [])
        engine.tick(due)
        assert (job.status, [event.kind for event in engine.take_events()]) == (Q, [Kind.QUEUED])
        return
    if state == "cancelled":
        engine.cancel(NOW, job.id)
    elif state == "expired":
        engine.tick(NOW + 40.0)
    else:
        engine.tick(due)
    if state in ("in_progress", "cancelling", "succeeded", "failed"):
        dequeue(engine, due)
    if state == "cancelling":
        engine.cancel(due, job.id)
    elif state in ("succeeded", "failed"):
        engine.conclude(due, job.id, token_of(job), SUCCEEDED if state == "succeeded" else FAILED)
        if state == "failed":
            engine.cancel(due, job.id)  # else it waits for its backoff, which is a run_at of its own
    assert job.status is status_of(state)
    before = fingerprint(engine)
    engine.tick(due)
    assert fingerprint(engine) == before


@pytest.mark.parametrize("state", [state for state in STATES if state != "expired"])
def test_expires_at_ends_only_a_waiting_job(state: str) -> None:
    """When expires_at passes, a scheduled or queued job ends as expired; a lease or an end decides otherwise."""
    engine = make_engine()
    placed = bring(engine, state, expires_in=1_000.0, lease_seconds=4_000.0)
    before = fingerprint(engine)
    engine.tick(NOW + 999.999)
    assert fingerprint(engine) == before
    engine.tick(NOW + 1_000.0)
    if state in ("scheduled", "queued"):
        assert placed.job.outcome is Outcome.EXPIRED
        assert placed.job.conclusion is not None
        assert placed.job.conclusion.concluded_at == NOW + 1_000.0
        assert [event.kind for event in engine.take_events()] == [Kind.CONCLUDED]
    else:
        assert fingerprint(engine) == before
    invariants(engine)


def one_of_each(engine: Engine) -> None:
    for outcome in ("succeeded", "failed", "cancelled"):
        bring(engine, outcome, worked=False)
    bring(engine, "expired", worked=False, expires_in=0.001)  # so soon that its tick does nothing to any other job


@pytest.mark.parametrize("state", STATES)
def test_full_history_forgets_the_oldest_of_its_outcome_and_no_live_job(state: str) -> None:
    """Two more ends of every outcome push a concluded job out of a history of two; a live job is not touched by any number."""
    engine = make_engine(history_jobs_max=2)
    placed = bring(engine, state, queue="watched")
    before = fingerprint(engine)["jobs"][placed.job.id]
    one_of_each(engine)
    assert placed.job.id in engine.jobs.by_id
    one_of_each(engine)
    if status_of(state) is C:
        assert placed.job.id not in engine.jobs.by_id
        assert engine.history.counts()[Outcome(state)][0] == 2
    else:
        assert fingerprint(engine)["jobs"][placed.job.id] == before
    invariants(engine)


@pytest.mark.parametrize("state", ["failed", "cancelled", "expired"])
def test_retry_starts_a_job_over_at_the_back_of_its_queue(state: str) -> None:
    """A job that did not succeed is queued again behind those that wait, as of now: no attempts, no error, no expiry, no end."""
    engine = make_engine()
    placed = bring(engine, state, expires_in=100.0)
    waiting = enqueue(engine, id="waiting")
    engine.take_events()
    job = engine.retry(NOW + 200.0, placed.job.id)
    assert job is placed.job
    assert (job.status, job.attempts, job.error, job.run_at, job.expires_at, job.conclusion) == (Q, 0, None, NOW + 200.0, None, None)
    assert [event.kind for event in engine.take_events()] == [Kind.QUEUED]
    assert engine.queue("default").jobs() == [waiting, job]
    assert engine.queue("default").retried_total == 1
    engine.tick(NOW + 1_000.0)
    assert job.status is Q
    invariants(engine)


def test_a_second_retry_finds_the_job_queued() -> None:
    """Of two retries one does it; the other is refused and changes nothing."""
    engine = make_engine()
    placed = bring(engine, "failed")
    engine.retry(NOW, placed.job.id)
    before = fingerprint(engine)
    with pytest.raises(NotRetryable):
        engine.retry(NOW, placed.job.id)
    assert fingerprint(engine) == before


@pytest.mark.parametrize(("trigger", "state"), [(Trigger.CANCEL, "succeeded"), (Trigger.RETRY, "queued"), (Trigger.RETRY, "succeeded")])
def test_refusal_says_where_the_job_is(trigger: Trigger, state: str) -> None:
    """The message names the status, and how a concluded job ended."""
    engine = make_engine()
    placed = bring(engine, state)
    with pytest.raises(LostRace, match=describe(placed.job).replace("(", r"\(").replace(")", r"\)")):
        ACTS[trigger](engine, placed)


def test_move_refuses_what_the_table_does_not_name() -> None:
    """The one assignment of a status asks the table: a queued job does not become concluded by becoming due."""
    engine = make_engine()
    job = enqueue(engine)
    with pytest.raises(AssertionError, match="does not lead"):
        engine.move(job, Trigger.DUE, C)
    assert job.status is Q


def test_forgotten_id_is_free_again() -> None:
    """Once history has forgotten a job, its id makes a new job."""
    engine = make_engine(history_jobs_max=0)
    placed = bring(engine, "succeeded", id="a")
    job, created = engine.enqueue(NOW, make_spec(id="a", payload=b"2"))
    assert created
    assert job is not placed.job
    invariants(engine)
