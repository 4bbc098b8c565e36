"""What /metrics tells of each queue, and of the many that are summed."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from jobqueue.model import QueueStats

QUEUES_SHOWN = 1_000
"""Queues with series of their own: at 14 lines each, about 1 MB a scrape."""

OTHER = "(other)"
"""The queue label of all the rest. Parentheses are not allowed in a queue's name, so none can be mistaken for it."""

_OUTCOMES = ("succeeded", "failed", "cancelled", "expired")
_TOTALS = tuple(field for field in QueueStats.__struct_fields__ if field.endswith("_total"))
_FIRST_TOTAL = QueueStats.__struct_fields__.index(_TOTALS[0])


def _totals(queue: QueueStats) -> tuple[int, ...]:
    totals: tuple[int, ...] = msgspec.structs.astuple(queue)[_FIRST_TOTAL:]
    return totals


class Rest:
    """What the queues without series of their own counted, never going down.

    A plain sum would fall whenever a queue is deleted or gets series of its own, and Prometheus takes a counter that falls for one that
    started again from 0. So each scrape adds what every such queue counted since the scrape before.
    """

    def __init__(self) -> None:
        self.totals = [0] * len(_TOTALS)
        self._seen: dict[str, tuple[int, ...]] = {}

    def note(self, shown: Iterable[QueueStats], rest: Iterable[QueueStats]) -> None:
        """Take in one scrape's numbers."""
        before = self._seen
        self._seen = {queue.name: _totals(queue) for queue in shown}
        for queue in rest:
            new = self._seen[queue.name] = _totals(queue)
            old = before.get(queue.name)
            if old == new:
                continue
            # A queue that was deleted and made again starts from 0.
            again = old is None or any(now < then for now, then in zip(new, old, strict=True))
            for at, count in enumerate(new):
                self.totals[at] += count if again or old is None else count - old[at]


class Queues:
    """The families that have a queue as a label. shown: how many queues have series of their own; utc: the time now, since the epoch."""

    def __init__(self, shown: int, utc: Callable[[], float]) -> None:
        self._shown = shown
        self._utc = utc
        self._rest = Rest()

    def families(self, queues: Sequence[QueueStats]) -> Iterator[Metric]:
        """What there is for each queue."""
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
            "Time since the oldest queued job was created or fell due; 0: none.",
            labels=("queue",),
        )
        for queue in shown:
            age.add_metric((queue.name,), _age(queue, now))
        if rest:
            age.add_metric((OTHER,), max(_age(queue, now) for queue in rest))
        yield age

        for name, text, value in (
            ("jobqueue_queue_waiters", "Held dequeues by queue; one that waits on several queues is counted in each.", lambda q: q.waiters),
            ("jobqueue_queue_paused", "1 while the queue is paused; for (other), how many are.", lambda q: int(q.policy.paused)),
        ):
            gauge = GaugeMetricFamily(name, text, labels=("queue",))
            for queue in shown:
                gauge.add_metric((queue.name,), value(queue))
            if rest:
                gauge.add_metric((OTHER,), sum(value(queue) for queue in rest))
            yield gauge
        yield from self._counted(shown)

    def _counted(self, shown: Iterable[QueueStats]) -> Iterator[Metric]:
        """What each queue counted since the server started, or since the queue was made."""
        other = dict(zip(_TOTALS, self._rest.totals, strict=True)) if any(self._rest.totals) else {}
        for what, text in (
            ("enqueued", "Jobs submitted."),
            ("dequeued", "Jobs handed to a worker, again or for the first time, those put back undelivered included."),
            ("redelivered", "Jobs handed to a worker again, after an earlier attempt."),
            ("retried", "Concluded jobs queued again by a retry."),
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
