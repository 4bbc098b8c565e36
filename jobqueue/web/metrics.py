"""GET /metrics: the server's counts in the Prometheus text format, or in OpenMetrics when the client accepts that.

Nothing is counted here. The engine, the backend and the routes keep plain ints; a scrape reads them and lets prometheus-client write
them down. Two things bound what a scrape costs. Queues may be ten thousand, so only the QUEUES_SHOWN busiest have series of their own and
the rest are summed under `queue="(other)"`, which no queue can be called. And lines are written a slice a turn of the loop, so
that a scrape delays no request by more than the reading of the counts takes (30 to 55 ms at 10,000 queues, a tenth at 1,000).
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import aiohttp
import msgspec
from aiohttp import hdrs
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.openmetrics import exposition as openmetrics

from jobqueue import __version__
from jobqueue.backend.base import BackendStats
from jobqueue.limits import Limits
from jobqueue.model import QueueStats
from jobqueue.web.answers import Answer
from jobqueue.web.connections import Connection, Server
from jobqueue.web.request import Request
from jobqueue.web.routes import Route

if TYPE_CHECKING:
    from jobqueue.web.app import App

QUEUES_SHOWN = 1_000
"""Queues with series of their own: at 14 lines each, about 1 MB a scrape."""

OTHER = "(other)"
"""The queue label of all the rest. Parentheses are not allowed in a queue's name, so none can be mistaken for it."""

SLICE = 250
"""Lines written in one turn of the loop, about 3 ms."""

TEXT = b"text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = openmetrics.CONTENT_TYPE_LATEST.encode()
_EOF = b"# EOF\n"

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


class Metrics:
    """One server's metrics, in a registry of its own. utc: the time now, seconds since the epoch."""

    def __init__(self, queues_shown: int = QUEUES_SHOWN, utc: Callable[[], float] = time.time) -> None:
        self._queues_shown = queues_shown
        self._utc = utc
        self._started = utc()
        self._rest = Rest()
        self._machine = CollectorRegistry()
        ProcessCollector(registry=self._machine)
        PlatformCollector(registry=self._machine)
        GCCollector(registry=self._machine)

    async def scrape(self, app: App, request: Request, _: str) -> Answer:
        """GET /metrics."""
        accept = ",".join(request.headers.getall(hdrs.ACCEPT, ()))
        modern = "application/openmetrics-text" in accept.lower()
        queues, stats = await app.backend.queues(), app.backend.stats()
        await asyncio.sleep(0)
        families = itertools.chain(
            self._queues(queues),
            _bounds(stats, app.limits, _server(request)),
            _requests([*app.router.routes, app.unmatched]),
            self._about(),
            self._machine.collect(),
        )
        parts = []
        for family in families:
            for part in _written(family, openmetrics.generate_latest if modern else generate_latest):
                parts.append(part)
                await asyncio.sleep(0)
        if modern:
            parts.append(_EOF)
        return Answer(200, b"".join(parts), OPENMETRICS if modern else TEXT)

    def _queues(self, queues: Sequence[QueueStats]) -> Iterator[Metric]:
        """What there is for each queue."""
        shown, rest = queues, list[QueueStats]()
        if len(queues) > self._queues_shown:
            shown = heapq.nlargest(self._queues_shown, queues, key=lambda queue: queue.enqueued_total + queue.dequeued_total)
            names = {queue.name for queue in shown}
            rest = [queue for queue in queues if queue.name not in names]
        self._rest.note(shown, rest)
        yield _gauge("jobqueue_queues_summed", 'Queues without series of their own, summed under queue="(other)".', len(rest))

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

    def _about(self) -> Iterator[Metric]:
        """The server itself."""
        info = GaugeMetricFamily("jobqueue_build_info", "1, with the versions as labels.", labels=("version", "python", "aiohttp"))
        info.add_metric((__version__, platform.python_version(), aiohttp.__version__), 1)
        yield info
        yield _gauge("jobqueue_start_time_seconds", "When the server started, seconds since the epoch.", self._started)
        yield _gauge("jobqueue_uptime_seconds", "How long the server has run.", max(0.0, self._utc() - self._started))


def _age(queue: QueueStats, now: float) -> float:
    return 0.0 if queue.oldest_queued_at is None else max(0.0, now - queue.oldest_queued_at)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _server(request: Request) -> Server | None:
    """The server that accepted the connection on which this request came."""
    connection = request.protocol
    manager = connection._manager if isinstance(connection, Connection) else None
    return manager if isinstance(manager, Server) else None


def _bounds(stats: BackendStats, limits: Limits, server: Server | None) -> Iterator[Metric]:
    """What is bounded, against its bound."""
    for name, text, value, limit in (
        ("jobs_live", "Jobs that are not concluded", stats.jobs_live, limits.jobs_max),
        ("payload_bytes", "Payload bytes of jobs that are not concluded", stats.payload_bytes, limits.payload_total_bytes_max),
        ("queues", "Queues", stats.queues, limits.queues_max),
        ("waiters", "Requests held open: dequeues and waits for a result", stats.waiters, limits.waiters_max),
    ):
        yield _gauge(f"jobqueue_{name}", f"{text}.", value)
        yield _gauge(f"jobqueue_{name}_limit", f"Bound of jobqueue_{name}.", limit)
    if server is not None:
        yield _gauge("jobqueue_connections", "Open connections.", len(server.open))
        yield _gauge("jobqueue_connections_limit", "Bound of jobqueue_connections.", server.connections_max)
    yield _gauge("jobqueue_leases", "Live leases.", stats.leases)
    yield _gauge("jobqueue_draining", "1 while the server shuts down.", int(stats.draining))
    yield CounterMetricFamily(
        "jobqueue_jobs_undelivered", "Jobs put back because the answer could not be delivered.", value=stats.undelivered_total
    )
    jobs = GaugeMetricFamily("jobqueue_history_jobs", "Concluded jobs remembered, by outcome.", labels=("outcome",))
    size = GaugeMetricFamily("jobqueue_history_bytes", "Bytes of concluded jobs remembered, by outcome.", labels=("outcome",))
    for outcome, (count, octets) in stats.history.items():
        jobs.add_metric((outcome.value,), count)
        size.add_metric((outcome.value,), octets)
    yield from (jobs, size)
    yield _gauge("jobqueue_history_jobs_limit", "Concluded jobs remembered: how many of each outcome may be.", limits.history_jobs_max)
    yield _gauge(
        "jobqueue_history_bytes_limit", "Bytes of concluded jobs remembered: how many of each outcome may be.", limits.history_bytes_max
    )


def _requests(routes: Iterable[Route]) -> Iterator[Metric]:
    """Answers by route. The template of a path is the label, never the path: an id is in no label."""
    counts = CounterMetricFamily("jobqueue_http_requests", "Requests answered; HEAD counts as GET.", labels=("method", "route", "status"))
    seconds = CounterMetricFamily(
        "jobqueue_http_request_seconds", "Time from a request's head to its answer, held time included.", labels=("method", "route")
    )
    for route in routes:
        for status, count in sorted(route.counts.items()):
            counts.add_metric((route.method, route.path, str(status)), count)
        if route.counts:
            seconds.add_metric((route.method, route.path), route.seconds)
    yield from (counts, seconds)


class _One:
    """A registry of one family, as prometheus-client's writers want it."""

    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterable[Metric]:
        return (self._family,)


def _written(family: Metric, write: Callable[[_One], bytes]) -> Iterator[bytes]:
    """A family's text, SLICE lines at a time. The heading comes with the first."""
    for start in range(0, max(1, len(family.samples)), SLICE):
        part = Metric(family.name, family.documentation, family.type, family.unit)
        part.samples = family.samples[start : start + SLICE]
        text = write(_One(part)).removesuffix(_EOF)
        while start and text.startswith(b"# "):
            text = text.partition(b"\n")[2]
        yield text
