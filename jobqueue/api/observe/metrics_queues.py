"""The metrics of each queue, and of the queues that are summed."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import get_args

import msgspec
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from jobqueue.model import Block, QueueStats

QUEUES_SHOWN = 1_000
"""The number of queues with their own series: with 15 lines each, and up to 8 more where something holds jobs back, about 1 MB a scrape."""

OTHER = "(other)"
"""The queue label of all others. Parentheses are not allowed in a queue's name, so no queue can have this one."""

_OUTCOMES = ("succeeded", "failed", "cancelled", "expired")
_TOTALS = tuple(field for field in QueueStats.__struct_fields__ if field.endswith("_total"))
_FIRST_TOTAL = QueueStats.__struct_fields__.index(_TOTALS[0])
_BEHIND_TOTALS = _FIRST_TOTAL + len(_TOTALS)
_BLOCKS: tuple[Block, ...] = get_args(Block)


def _totals(queue: QueueStats) -> tuple[int, ...]:
    totals: tuple[int, ...] = msgspec.structs.astuple(queue)[_FIRST_TOTAL:_BEHIND_TOTALS]
    return totals


class Rest:
    """The counts of the queues without their own series, which never decrease.

    A plain sum would fall whenever a queue is deleted or gets its own series, and Prometheus takes a falling counter for one that restarted
    from 0. So each scrape adds what every such queue counted since the previous scrape.
    """

    def __init__(self) -> None:
        self.totals = [0] * len(_TOTALS)
        self._seen: dict[str, tuple[int, ...]] = {}

    def note(self, shown: Iterable[QueueStats], rest: Iterable[QueueStats]) -> None:
        """Add one scrape's numbers."""
        before = self._seen
        self._seen = {queue.name: _totals(queue) for queue in shown}
        for queue in rest:
            new = self._seen[queue.name] = _totals(queue)
            old = before.get(queue.name)
            if old == new:
                continue
            # A queue that was deleted and created again starts from 0.
            again = old is None or any(now < then for now, then in zip(new, old, strict=True))
            for at, count in enumerate(new):
                self.totals[at] += count if again or old is None else count - old[at]


class Queues:
    """The families with a queue label. shown: how many queues have their own series; utc: the current time, seconds since the epoch."""

    def __init__(self, shown: int, utc: Callable[[], float]) -> None:
        self._shown = shown
        self._utc = utc
        self._rest = Rest()

    def families(self, queues: Sequence[QueueStats]) -> Iterator[Metric]:
        """The families of each queue."""
        shown, rest = queues, list[QueueStats]()
        if len(queues) > self._shown:
            shown = heapq.nlargest(self._shown, queues, key=lambda queue: queue.enqueued_total + queue.dequeued_total)
            names = {queue.name for queue in shown}
            rest = [queue for queue in queues if queue.name not in names]
        self._rest.note(shown, rest)
        yield GaugeMetricFamily(
            "jobqueue_queues_summed", 'Queues without series of their own, summed under queue="(other)".', value=len(rest)
        )

        jobs = GaugeMetricFamily("jobqueue_jobs", "Jobs that are not concluded, by queue and status.", labels=("queue", "status"))
        for status in ("scheduled", "queued", "in_progress"):
            for queue in shown:
                jobs.add_metric((queue.name, status), getattr(queue, status))
            if rest:
                jobs.add_metric((OTHER, status), sum(getattr(queue, status) for queue in rest))
        yield jobs

        now = self._utc()
        age = GaugeMetricFamily(
            "jobqueue_oldest_queued_age_seconds",
            "Time since the oldest queued job was created or fell due; 0 if there is none.",
            labels=("queue",),
        )
        for queue in shown:
            age.add_metric((queue.name,), _age(queue, now))
        if rest:
            age.add_metric((OTHER,), max(_age(queue, now) for queue in rest))
        yield age

        for name, text, value in (
            (
                "jobqueue_queue_waiters",
                "Waiting dequeues by queue; a dequeue that waits on several queues is counted in each.",
                lambda q: q.waiters,
            ),
            (
                "jobqueue_queue_paused",
                "1 while the queue is paused; for (other), how many queues are paused.",
                lambda q: int(q.policy.paused),
            ),
            ("jobqueue_jobs_ready", "Queued jobs that a worker can take now: not held back, and in a queue that is not paused.", _ready),
        ):
            gauge = GaugeMetricFamily(name, text, labels=("queue",))
            for queue in shown:
                gauge.add_metric((queue.name,), value(queue))
            if rest:
                gauge.add_metric((OTHER,), sum(value(queue) for queue in rest))
            yield gauge
        yield from _held_back(shown, rest)
        yield from self._counted(shown)

    def _counted(self, shown: Iterable[QueueStats]) -> Iterator[Metric]:
        """What each queue counted since the server started, or since the queue was created."""
        other = dict(zip(_TOTALS, self._rest.totals, strict=True)) if any(self._rest.totals) else {}
        for what, text in (
            ("enqueued", "Jobs submitted."),
            ("dequeued", "Jobs handed to a worker, for the first time or again, including those put back undelivered."),
            ("redelivered", "Jobs handed to a worker again, after an earlier attempt."),
            ("retried", "Concluded jobs queued again by a retry."),
            ("dead_lettered", "Failed jobs that moved to another queue, a dead-letter queue; jobqueue_jobs_concluded has them as failed."),
            ("attempts_failed", "Attempts that failed or whose lease ran out, including the last one of a job."),
            ("moved_in", "Jobs that came from another queue."),
            ("moved_out", "Jobs that went to another queue without having failed."),
        ):
            counter = CounterMetricFamily(f"jobqueue_jobs_{what}", text, labels=("queue",))
            for queue in shown:
                counter.add_metric((queue.name,), getattr(queue, f"{what}_total"))
            if other:
                counter.add_metric((OTHER,), other[f"{what}_total"])
            yield counter
        counter = CounterMetricFamily("jobqueue_jobs_concluded", "Jobs concluded, by outcome.", labels=("queue", "outcome"))
        for outcome in _OUTCOMES:
            for queue in shown:
                counter.add_metric((queue.name, outcome), getattr(queue, f"{outcome}_total"))
            if other:
                counter.add_metric((OTHER, outcome), other[f"{outcome}_total"])
        yield counter


def _age(queue: QueueStats, now: float) -> float:
    return 0.0 if queue.oldest_queued_at is None else max(0.0, now - queue.oldest_queued_at)


def _ready(queue: QueueStats) -> int:
    return 0 if queue.policy.paused else queue.queued - queue.held


def _held_back(shown: Sequence[QueueStats], rest: Sequence[QueueStats]) -> Iterator[Metric]:
    """Families only for queues that hold jobs back, so that other queues have no series without information."""
    held = GaugeMetricFamily(
        "jobqueue_jobs_held",
        "Queued jobs that are held back, by queue and by what for: of their key a job before them (order), a failure (halted) or a pause "
        "(paused), else as many as may be in progress (concurrency) or a rate (rate), of the queue or of the key.",
        labels=("queue", "reason"),
    )
    for queue in shown:
        for reason in reasons(queue):
            held.add_metric((queue.name, reason), queue.held_by.get(reason, 0))
    others = {reason for queue in rest for reason in reasons(queue)}
    for reason in _BLOCKS:
        if reason in others:
            held.add_metric((OTHER, reason), sum(queue.held_by.get(reason, 0) for queue in rest))
    yield held

    values: tuple[tuple[str, str, Callable[[QueueStats], int | None]], ...] = (
        ("jobqueue_queue_slots", "Jobs in progress in a queue with a concurrency limit.", _slots),
        ("jobqueue_queue_slots_limit", "The concurrency limit of the queue.", lambda queue: queue.policy.concurrency),
        ("jobqueue_queue_keys", "Keys that the queue counts.", lambda queue: queue.keys if queue.policy.keyed else None),
    )
    for name, text, value in values:
        gauge = GaugeMetricFamily(name, text, labels=("queue",))
        for queue in shown:
            if (of_one := value(queue)) is not None:
                gauge.add_metric((queue.name,), of_one)
        found = [of_one for queue in rest if (of_one := value(queue)) is not None]
        if found:
            gauge.add_metric((OTHER,), sum(found))
        yield gauge


def _slots(queue: QueueStats) -> int | None:
    return None if queue.policy.concurrency is None else queue.in_progress


def reasons(queue: QueueStats) -> list[Block]:
    """The reasons for which a queue holds jobs back, now or by its policy at another time."""
    policy, rule = queue.policy, queue.policy.per_key
    may = set[str](queue.held_by)
    if policy.concurrency is not None or (rule is not None and rule.concurrency is not None):
        may.add("concurrency")
    if policy.rate is not None or (rule is not None and rule.rate is not None):
        may.add("rate")
    if rule is not None and rule.order != "none":
        may.update(("order", "halted") if rule.order == "halt" else ("order",))
    if policy.keyed:
        may.add("paused")
    return [block for block in _BLOCKS if block in may]
