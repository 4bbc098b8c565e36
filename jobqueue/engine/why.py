"""Why a job is not in progress: what it waits for, as data. Looks at a few counts, never at other jobs one by one."""

from __future__ import annotations

from jobqueue.engine.engine import Engine
from jobqueue.engine.flow import FlowQueue
from jobqueue.engine.keys import KeyState
from jobqueue.engine.queues import QueueState
from jobqueue.model import QUEUED, SCHEDULED, Block, Job, Reason


def waiting_for(engine: Engine, job: Job, waiters: int) -> list[Reason]:
    """All that keeps a job from being handed out now; [] for one that is in progress or concluded. Times are the engine's.

    waiters: how many stand for its queue. What only its place keeps back waits for the `line`, where nobody takes from the queue for
    `workers` too.
    """
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
        # Nothing keeps the key back, but another of its jobs goes first.
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
    """How many queued jobs go before this one, roughly: places of those that left from between count too."""
    ahead = sum(0 if lane is None else len(lane) for lane in queue.lanes[: job.priority])
    lane = queue.lanes[job.priority]
    assert lane is not None
    return ahead + lane.before(job)
