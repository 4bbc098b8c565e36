"""What /metrics tells of the whole server: bounds, storage, requests, and how long things took."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.utils import floatToGoString

from jobqueue.api.routes import Route
from jobqueue.backend.base import BackendStats, ClusterStats, StorageStats
from jobqueue.histogram import Timings
from jobqueue.http.request import Accepting
from jobqueue.limits import Limits


def gauge(name: str, text: str, value: float) -> Metric:
    """One number that may fall."""
    return GaugeMetricFamily(name, text, value=value)


def histogram(name: str, text: str, labels: Sequence[str], found: Iterable[tuple[Sequence[str], Timings]]) -> Metric:
    """Timings by labels, cumulated as Prometheus wants them."""
    family = HistogramMetricFamily(name, text, labels=labels)
    for values, timings in found:
        ends = [*map(floatToGoString, timings.bounds), "+Inf"]
        family.add_metric(values, list(zip(ends, itertools.accumulate(timings.counts), strict=True)), timings.total)
    return family


def bounds(stats: BackendStats, limits: Limits) -> Iterator[Metric]:
    """What is bounded of jobs, queues and those who wait, against its bound."""
    for name, text, value, limit in (
        ("jobs_live", "Jobs that are not concluded", stats.jobs_live, limits.jobs_max),
        ("payload_bytes", "Bytes that jobs hold which are not concluded, texts included", stats.live_bytes, limits.payload_total_bytes_max),
        ("queues", "Queues", stats.queues, limits.queues_max),
        ("waiters", "Requests held open: dequeues and waits for a result", stats.waiters, limits.waiters_max),
        ("listeners", "Listeners of /events", stats.listeners, limits.listeners_max),
    ):
        yield gauge(f"jobqueue_{name}", f"{text}.", value)
        yield gauge(f"jobqueue_{name}_limit", f"Bound of jobqueue_{name}.", limit)
    yield gauge("jobqueue_leases", "Live leases.", stats.leases)
    yield CounterMetricFamily(
        "jobqueue_jobs_undelivered", "Jobs put back because the answer could not be delivered.", value=stats.undelivered_total
    )
    left_out = CounterMetricFamily("jobqueue_texts_left_out", "What workers said that there was no room for.", labels=("what",))
    left_out.add_metric(("error",), stats.errors_left_out_total)
    left_out.add_metric(("message",), stats.messages_left_out_total)
    yield left_out
    yield CounterMetricFamily("jobqueue_leases_expired", "Leases that ran out without a conclude.", value=stats.leases_expired_total)
    jobs = GaugeMetricFamily("jobqueue_history_jobs", "Concluded jobs remembered, by outcome.", labels=("outcome",))
    size = GaugeMetricFamily("jobqueue_history_bytes", "Bytes of concluded jobs remembered, by outcome.", labels=("outcome",))
    for outcome, (count, octets) in stats.history.items():
        jobs.add_metric((outcome.value,), count)
        size.add_metric((outcome.value,), octets)
    yield from (jobs, size)
    yield gauge("jobqueue_history_jobs_limit", "Concluded jobs remembered: how many of each outcome may be.", limits.history_jobs_max)
    yield gauge(
        "jobqueue_history_bytes_limit", "Bytes of concluded jobs remembered: how many of each outcome may be.", limits.history_bytes_max
    )


def connections(server: Accepting) -> Iterator[Metric]:
    """What is bounded of this server's connections, against its bound."""
    for name, text, value, limit in (
        ("connections", "Open connections", len(server.open), server.connections_max),
        (
            "unread_bytes",
            "Bytes of requests under way and not served yet",
            server.unread_bytes,
            server.unread_bytes_max,
        ),
        ("unsent_bytes", "Bytes of answers that clients have not read", server.unsent_bytes, server.unsent_bytes_max),
    ):
        yield gauge(f"jobqueue_{name}", f"{text}.", value)
        yield gauge(f"jobqueue_{name}_limit", f"Bound of jobqueue_{name}.", limit)


def draining(now: bool) -> Iterator[Metric]:
    """Whether this server shuts down."""
    yield gauge("jobqueue_draining", "1 while the server shuts down.", int(now))


def times(stats: BackendStats) -> Iterator[Metric]:
    """How long things took, all queues together: by queue they would be forty lines for each."""
    for name, text, timings in (
        ("time_in_queue", "Time from when a job was created, fell due or was retried to its first hand-out.", stats.time_in_queue),
        ("time_in_progress", "Time from a hand-out to its conclude, whatever that said.", stats.time_in_progress),
        ("pickup", "Time from what made a job available to the end of the answer to a dequeue that was held for it.", stats.pickup),
    ):
        yield histogram(f"jobqueue_{name}_seconds", text, (), [((), timings)])


def lag(timings: Timings) -> Iterator[Metric]:
    """How busy this server's loop is."""
    text = "How late the event loop ran a timer that is set each second."
    yield histogram("jobqueue_loop_lag_seconds", text, (), [((), timings)])


def log_lines(dropped: int) -> Iterator[Metric]:
    """What the log could not keep."""
    yield CounterMetricFamily("jobqueue_log_lines_dropped", "Lines of the log that were never written: nobody read it.", value=dropped)


def storage(stats: StorageStats | None, limits: Limits) -> Iterator[Metric]:
    """The file that jobs are kept in, if there is one."""
    if stats is None:
        return
    yield gauge("jobqueue_storage_failing", "1 while changes cannot be stored.", int(stats.failing))
    yield gauge("jobqueue_unwritten_bytes", "Bytes of changes that wait for the disk.", stats.unwritten_bytes)
    yield gauge("jobqueue_unwritten_bytes_limit", "Bound of jobqueue_unwritten_bytes.", limits.unwritten_bytes_max)
    yield histogram("jobqueue_commit_seconds", "Time that a commit of everything that had gathered took.", (), [((), stats.commits)])


def cluster(seen: ClusterStats | None) -> Iterator[Metric]:
    """This server among many, if it is one of many. What is told of jobs and queues is the owner's, and the same at each of them."""
    if seen is None:
        return
    yield gauge("jobqueue_servers", "Servers on the store that said in the last minute that they are there.", len(seen.members))
    yield gauge("jobqueue_owner", "1 while this server owns the queue.", int(seen.owner == seen.name))
    yield gauge("jobqueue_owner_known", "1 while any server owns the queue, as far as this one knows.", int(seen.owner is not None))
    yield gauge("jobqueue_owner_possible", "0 while this server would not own the queue: /stats says why.", int(seen.problem is None))
    yield gauge("jobqueue_owner_epoch", "How often the queue has been claimed.", seen.epoch)
    yield gauge(
        "jobqueue_standby_known", "1 while a server follows the owner closely enough to take over at once.", int(seen.standby is not None)
    )
    yield gauge("jobqueue_standby_behind", "Commits that the standby has yet to follow.", seen.behind)
    for name, text, value in (
        ("owner_lease_left", "Time until another server may claim the queue if its owner is not heard of again.", seen.lease_left_seconds),
        ("lease_renewed_age", "Time since this server, the owner, renewed its lease.", seen.renewed_seconds),
        ("owner_link", "Time that the owner took to answer this server, as it was last asked for its totals.", seen.link_seconds),
        ("clock_offset", "How far this server's clock is ahead of the store's.", seen.clock_seconds),
    ):
        if value is not None:
            yield gauge(f"jobqueue_{name}_seconds", text, value)


def requests(routes: Iterable[Route]) -> Iterator[Metric]:
    """Answers by route. The template of a path is the label, never the path: an id is in no label."""
    used = [route for route in routes if route.counts]
    counts = CounterMetricFamily("jobqueue_http_requests", "Requests answered; HEAD counts as GET.", labels=("method", "route", "status"))
    for route in used:
        for status, count in sorted(route.counts.items()):
            counts.add_metric((route.method, route.path, str(status)), count)
    yield counts
    yield histogram(
        "jobqueue_http_request_duration_seconds",
        "Time from a request's head to its answer, held time included.",
        ("method", "route"),
        [((route.method, route.path), route.latency.timings()) for route in used],
    )


def pool(counts: Mapping[str, int]) -> Iterator[Metric]:
    """What the workers inside the server counted; nothing where there are none."""
    if counts:
        counter = CounterMetricFamily(
            "jobqueue_pool_jobs",
            "Jobs of the server's own workers: taken, how their attempts ended, lost with their lease, unhandled for want of a handler.",
            labels=("what",),
        )
        for what, count in counts.items():
            counter.add_metric((what,), count)
        yield counter
