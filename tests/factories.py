"""Builders for tests: a seeded engine with small bounds, jobs, and a job brought into any state of its life.

Times are plain numbers; nothing here reads a clock, waits or opens anything.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, NamedTuple

from jobqueue.engine.engine import Engine
from jobqueue.ids import Ids
from jobqueue.limits import Limits
from jobqueue.model import Job, JobSpec, Outcome, Status, Verdict, Want

NOW = 1_800_000_000.0
"""Where tests start their time; what `ManualClock` starts at too."""

SUCCEEDED = Verdict(outcome=Outcome.SUCCEEDED)
FAILED = Verdict(outcome=Outcome.FAILED)
FINALLY_FAILED = Verdict(outcome=Outcome.FAILED, error=b'"broken"', retry=False)

FORGED = "f" * 32
"""A token nobody was ever given."""

STATES = ("scheduled", "queued", "in_progress", "cancelling", "succeeded", "failed", "cancelled", "expired")
"""Every status, with `cancelling` for a job in progress that a cancel was requested of, and each outcome for concluded."""

_FAR = 5_000.0
"""Longer than any lease `bring` takes out."""


def entropy(seed: int = 0) -> Callable[[int], bytes]:
    """Random bytes that repeat themselves from run to run."""
    return Random(seed).randbytes


def make_engine(seed: int = 0, **limits: Any) -> Engine:
    """An engine whose ids, tokens and backoffs repeat themselves; `limits` are the fields of Limits that matter to the test."""
    return Engine(Limits(**limits), Ids(entropy(seed)), Random(seed))


def make_spec(payload: bytes = b"1", **fields: Any) -> JobSpec:
    """A job to enqueue."""
    return JobSpec(payload=payload, **fields)


def loose_jobs(count: int) -> list[Job]:
    """Queued jobs `1` to `count` that are in no container."""
    return [
        Job(id=str(n), number=n, queue="default", priority=5, payload=b"1", created_at=NOW, status=Status.QUEUED)
        for n in range(1, count + 1)
    ]


def enqueue(engine: Engine, now: float = NOW, **fields: Any) -> Job:
    """Enqueue one job made of `fields`."""
    return engine.enqueue(now, make_spec(**fields))[0]


def dequeue(engine: Engine, now: float = NOW, queue: str = "default", **fields: Any) -> Job:
    """Take the one job that must be there."""
    (job,) = engine.dequeue(now, Want(queues=(queue,), **fields))
    return job


def drain_ids(engine: Engine, now: float = NOW, *queues: str) -> list[str]:
    """Take every job of the queues (default: `default`) and name them in the order they came."""
    return [job.id for job in engine.dequeue(now, Want(queues=queues or ("default",), limit=10_000))]


def token_of(job: Job) -> str:
    """The token of the job's live lease."""
    assert job.lease is not None
    return job.lease.token


class Placed(NamedTuple):
    """A job in a known state. token: its live lease's, or the one a worker ended it with; earlier: that of an attempt before."""

    job: Job
    spec: JobSpec
    token: str | None
    earlier: str | None


def bring(engine: Engine, state: str, now: float = NOW, worked: bool = True, **fields: Any) -> Placed:
    """Enqueue a job and bring it into one of STATES, at engine time `now` throughout but for `expired`, which ticks at now + 5,000.

    worked: whether a worker has held it and given it back before, so that there is a token of an earlier attempt; `expired`
    and `cancelled` are then reached from the queue. Other jobs of the same queue must not be queued.
    """
    if state == "scheduled" and not worked:
        fields.setdefault("delay", _FAR)
    if state == "expired":
        fields.setdefault("expires_in", _FAR)
    spec = make_spec(**fields)
    job = engine.enqueue(now, spec)[0]
    earlier = None
    if worked:
        earlier = token_of(dequeue(engine, now, job.queue))
        engine.release(now, job.id, earlier, _FAR if state == "scheduled" else 0.0)
    token = None
    if state in ("in_progress", "cancelling", "succeeded", "failed"):
        token = token_of(dequeue(engine, now, job.queue))
    if state in ("cancelling", "cancelled"):
        engine.cancel(now, job.id)
    elif state == "succeeded":
        engine.conclude(now, job.id, token or "", SUCCEEDED)
    elif state == "failed":
        engine.conclude(now, job.id, token or "", FINALLY_FAILED)
    elif state == "expired":
        engine.tick(now + (spec.expires_in or 0.0))
    reached = job.outcome or ("cancelling" if job.lease is not None and job.lease.cancel_requested else job.status)
    assert reached == state
    engine.take_events()
    return Placed(job, spec, token, earlier)
