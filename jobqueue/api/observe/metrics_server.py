"""The metrics of the whole server: limits, storage, requests, and times."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.utils import floatToGoString

from jobqueue.api.bounds import Bound, held, unwritten
from jobqueue.api.bounds import connections as within
from jobqueue.api.routes import Route
from jobqueue.backend.base import BackendStats, ClusterStats, StorageStats
from jobqueue.histogram import Timings
from jobqueue.http.request import Accepting
from jobqueue.limits import Limits


def gauge(name: str, text: str, value: float) -> Metric:
    """A number that can fall."""
    return GaugeMetricFamily(name, text, value=value)


def histogram(name: str, text: str, labels: Sequence[str], found: Iterable[tuple[Sequence[str], Timings]]) -> Metric:
    """Timings by labels, cumulative as Prometheus requires."""
    family = HistogramMetricFamily(name, text, labels=labels)
    for values, timings in found:
        ends = [*map(floatToGoString, timings.bounds), "+Inf"]
        family.add_metric(values, list(zip(ends, itertools.accumulate(timings.counts), strict=True)), timings.total)
    return family


def _against(found: Iterable[Bound]) -> Iterator[Metric]:
    for bound in found:
        yield gauge(f"jobqueue_{bound.name}", f"{bound.text}.", bound.used)
        yield gauge(f"jobqueue_{bound.name}_limit", f"Bound of jobqueue_{bound.name}.", bound.limit)


def bounds(stats: BackendStats, limits: Limits) -> Iterator[Metric]:
    """Jobs, queues and waiting requests, with their limits."""
    yield from _against(held(stats, limits))
    yield gauge("jobqueue_leases", "Live leases.", stats.leases)
    yield CounterMetricFamily(
        "jobqueue_jobs_undelivered", "Jobs put back because the answer could not be delivered.", value=stats.undelivered_total
    )
    left_out = CounterMetricFamily(
        "jobqueue_texts_left_out", "Texts from workers that were left out because there was no room.", labels=("what",)
    )
    left_out.add_metric(("error",), stats.errors_left_out_total)
    left_out.add_metric(("message",), stats.messages_left_out_total)
    left_out.add_metric(("log line",), stats.log_lines_left_out_total)
    yield left_out
    yield GaugeMetricFamily("jobqueue_job_logs", "Jobs that have a log.", value=stats.logs)
    yield CounterMetricFamily("jobqueue_job_log_lines", "Lines taken into jobs' logs.", value=stats.log_lines_total)
    yield CounterMetricFamily("jobqueue_job_log_lines_dropped", "Of these, dropped from full logs.", value=stats.log_lines_dropped_total)
    workers = GaugeMetricFamily("jobqueue_workers", "Listed workers, by state.", labels=("state",))
    for state in ("busy", "idle", "quiet", "silent"):
        workers.add_metric((state,), stats.workers.get(state, 0))
    yield workers
    yield CounterMetricFamily(
        "jobqueue_dead_letters_refused",
        "Failed jobs that stayed in history because their dead-letter queue had no room.",
        value=stats.dead_letters_refused_total,
    )
    yield CounterMetricFamily(
        "jobqueue_failed_jobs_forgotten",
        "Failed jobs that history no longer had room for.",
        value=stats.failed_forgotten_total,
    )
    duplicates = CounterMetricFamily("jobqueue_duplicates", "Enqueues whose unique key was held, by result.", labels=("became",))
    for became, count in stats.duplicates.items():
        duplicates.add_metric((became,), count)
    yield duplicates
    yield CounterMetricFamily("jobqueue_leases_expired", "Leases that ran out without a conclude.", value=stats.leases_expired_total)
    jobs = GaugeMetricFamily("jobqueue_history_jobs", "Concluded jobs remembered, by outcome.", labels=("outcome",))
    size = GaugeMetricFamily("jobqueue_history_bytes", "Bytes of concluded jobs remembered, by outcome.", labels=("outcome",))
    for outcome, (count, octets) in stats.history.items():
        jobs.add_metric((outcome.value,), count)
        size.add_metric((outcome.value,), octets)
    yield from (jobs, size)
    yield gauge("jobqueue_history_jobs_limit", "The limit of concluded jobs remembered, per outcome.", limits.history_jobs_max)
    yield gauge("jobqueue_history_bytes_limit", "The limit of bytes of concluded jobs remembered, per outcome.", limits.history_bytes_max)


def connections(server: Accepting) -> Iterator[Metric]:
    """This server's connections, with their limits."""
    yield from _against(within(server))


def draining(now: bool) -> Iterator[Metric]:
    """Whether this server shuts down."""
    yield gauge("jobqueue_draining", "1 while the server shuts down.", int(now))


def times(stats: BackendStats) -> Iterator[Metric]:
    """Times over all queues together: by queue there would be forty lines for each."""
    for name, text, timings in (
        ("time_in_queue", "Time from when a job was created, fell due or was retried to its first hand-out.", stats.time_in_queue),
        ("time_in_progress", "Time from a hand-out to its conclude, whatever the outcome.", stats.time_in_progress),
        (
            "pickup",
            "Time from the moment when a job becomes available to the end of the answer to a dequeue that waited for it.",
            stats.pickup,
        ),
    ):
        yield histogram(f"jobqueue_{name}_seconds", text, (), [((), timings)])


def lag(timings: Timings) -> Iterator[Metric]:
    """How late this server's event loop is."""
    text = "How late the event loop ran a timer that is set every second."
    yield histogram("jobqueue_loop_lag_seconds", text, (), [((), timings)])


def log_lines(dropped: int) -> Iterator[Metric]:
    """Log lines that were dropped."""
    yield CounterMetricFamily("jobqueue_log_lines_dropped", "Log lines that were dropped because nothing read the log.", value=dropped)


def storage(stats: StorageStats | None, limits: Limits) -> Iterator[Metric]:
    """The file that stores the jobs, if there is one."""
    if stats is None:
        return
    yield gauge("jobqueue_storage_failing", "1 while changes cannot be stored.", int(stats.failing))
    yield from _against([unwritten(stats, limits)])
    yield histogram("jobqueue_commit_seconds", "Duration of a commit.", (), [((), stats.commits)])


def cluster(seen: ClusterStats | None) -> Iterator[Metric]:
    """This server as one of several, if it is. The numbers of jobs and queues come from the owner, and are the same at each server."""
    if seen is None:
        return
    yield gauge("jobqueue_servers", "Servers on the store that announced themselves in the last minute.", len(seen.members))
    yield gauge("jobqueue_owner", "1 while this server is the owner, or owns a partition.", int(seen.name in seen.owners))
    known = "1 while there is an owner, or each partition has one, as far as this server knows."
    yield gauge("jobqueue_owner_known", known, int(None not in seen.owners))
    if seen.partitions:
        yield gauge("jobqueue_partitions", "Partitions of the store.", len(seen.partitions))
        yield gauge("jobqueue_owned_partitions", "Partitions that this server owns.", seen.owners.count(seen.name))
        yield gauge(
            "jobqueue_owned_partitions_without_standby", "Partitions that this server owns without a standby.", seen.without_standby
        )
        yield gauge("jobqueue_partitions_without_owner", "Partitions without an owner.", seen.owners.count(None))
    yield gauge("jobqueue_owner_possible", "0 while this server cannot become the owner; /stats says why.", int(seen.problem is None))
    yield gauge("jobqueue_owner_epoch", "How often ownership has changed.", seen.epoch)
    yield gauge(
        "jobqueue_standby_known", "1 while a server follows the owner closely enough to take over at once.", int(not seen.without_standby)
    )
    yield gauge("jobqueue_standby_behind", "How many commits the standby is behind.", seen.behind)
    for name, text, value in (
        ("owner_lease_left", "Time until another server can take over if the owner stays silent.", seen.lease_left_seconds),
        ("lease_renewed_age", "Time since this server, the owner, renewed its lease.", seen.renewed_seconds),
        ("owner_link", "How long the owner took to answer this server's last request for totals.", seen.link_seconds),
        ("clock_offset", "How far this server's clock is ahead of the store's.", seen.clock_seconds),
    ):
        if value is not None:
            yield gauge(f"jobqueue_{name}_seconds", text, value)


def requests(routes: Iterable[Route]) -> Iterator[Metric]:
    """Answers by route. The label is the template of a path, never the path: no label contains an id."""
    used = [route for route in routes if route.counts]
    counts = CounterMetricFamily("jobqueue_http_requests", "Requests answered; HEAD counts as GET.", labels=("method", "route", "status"))
    for route in used:
        for status, count in sorted(route.counts.items()):
            counts.add_metric((route.method, route.path, str(status)), count)
    yield counts
    yield histogram(
        "jobqueue_http_request_duration_seconds",
        "Time from a request's headers to its answer, waiting included.",
        ("method", "route"),
        [((route.method, route.path), route.latency.timings()) for route in used],
    )


def pool(counts: Mapping[str, int]) -> Iterator[Metric]:
    """The counts of the workers inside the server; nothing if there are none."""
    if counts:
        counter = CounterMetricFamily(
            "jobqueue_pool_jobs",
            "Jobs of the server's own workers: taken, how their attempts ended, lost with their lease, or without a handler.",
            labels=("what",),
        )
        for what, count in counts.items():
            counter.add_metric((what,), count)
        yield counter
