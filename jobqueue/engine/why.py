"""Why a job is not in progress: what it waits for, as data. Reads a few counts, and never looks at other jobs one by one."""

from __future__ import annotations

from jobqueue.engine.engine import Engine
from jobqueue.engine.flow import FlowQueue
from jobqueue.engine.keys import KeyState
from jobqueue.engine.queues import QueueState
from jobqueue.model import QUEUED, SCHEDULED, Block, Job
from jobqueue.reason import Reason


def waiting_for(engine: Engine, job: Job, waiters: int) -> list[Reason]:
    """Everything that keeps a job from being handed out now; [] for a job that is in progress or concluded. Times are engine time.

    waiters: how many requests wait for its queue. A job that waits only for its turn has the reason `line`, and also `workers` if nobody
    takes from the queue.
    """
    if job.held_back:
        return _held_back(engine, job)
    if job.status is SCHEDULED:
        return [Reason(kind="time", until=job.run_at)]
    if job.status is not QUEUED:
        return []
    queue = engine.queues[job.queue]
    reasons = [Reason(kind="paused")] if queue.policy.paused else []
    if isinstance(queue, FlowQueue):
        reasons += _limits(queue)
        reasons += _key(queue, job)
    if reasons:
        return reasons
    reasons.append(Reason(kind="line", ahead=_ahead(queue, job)))
    if not waiters:
        reasons.append(Reason(kind="workers", used=queue.in_progress))
    return reasons


def _held_back(engine: Engine, job: Job) -> list[Reason]:
    """What a job waits for that is scheduled, but for no time."""
    parents = engine.graph.waits_for(job)
    reasons = [Reason(kind="jobs", jobs=parents)] if parents else []
    holder, window = engine.uniques.ahead_of(job)
    if holder is None and window is None:
        return reasons
    assert job.unique is not None
    lease = None if holder is None else holder.lease
    reasons.append(
        Reason(
            kind="unique",
            key=job.unique.key,
            job=holder.id if holder is not None else window.id if window is not None else None,
            worker=None if lease is None else lease.worker,
            until=None if window is None else window.ends_at,
        )
    )
    return reasons


def _limits(queue: FlowQueue) -> list[Reason]:
    reasons = []
    concurrency, rate = queue.policy.concurrency, queue.policy.rate
    if concurrency is not None and queue.in_progress >= concurrency:
        reasons.append(Reason(kind="concurrency", used=queue.in_progress, total=concurrency))
    if rate is not None and queue.bucket.waits:
        reasons.append(Reason(kind="rate", until=queue.bucket.next_at(rate)))
    return reasons


def _key(queue: FlowQueue, job: Job) -> list[Reason]:
    state = queue.states.get(job.key) if queue.keyed else None
    if state is None or state.key is None:
        return []
    block = queue.block_of(state)
    if block is None and queue.ordered and state.queued and state.peek()[2] is not job:
        # Nothing holds the key back, but another of its jobs goes first.
        return [Reason(kind="key", key=state.key, block="order", job=state.peek()[2].id)]
    return [] if block is None else [_blocked(queue, state, block)]


def _blocked(queue: FlowQueue, state: KeyState, block: Block) -> Reason:
    rule = queue.rule
    if block == "concurrency":
        return Reason(kind="concurrency", key=state.key, used=len(state.running), total=rule.concurrency)
    if block == "rate":
        assert rule.rate is not None
        return Reason(kind="rate", key=state.key, until=state.bucket.next_at(rule.rate))
    holder = state.holder(block)
    if holder is None:
        return Reason(kind="key", key=state.key, block=block)
    lease = holder.lease
    until = holder.run_at if lease is None and holder.status is SCHEDULED else None if lease is None else lease.expires_at
    return Reason(kind="key", key=state.key, block=block, job=holder.id, worker=None if lease is None else lease.worker, until=until)


def _ahead(queue: QueueState, job: Job) -> int:
    """About how many queued jobs go before this one: places of jobs that have left from between count too."""
    ahead = sum(0 if lane is None else len(lane) for lane in queue.lanes[: job.priority])
    lane = queue.lanes[job.priority]
    assert lane is not None
    return ahead + lane.before(job)
