"""The metrics of schedules."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, Metric

from jobqueue.api.observe.metrics_server import gauge
from jobqueue.limits import Limits
from jobqueue.schedule import ScheduleTotals


def schedules(totals: ScheduleTotals, limits: Limits) -> Iterator[Metric]:
    """All schedules together: a series for each could be ten thousand."""
    yield gauge("jobqueue_schedules", "Schedules.", totals.count)
    yield gauge("jobqueue_schedules_limit", "Bound of jobqueue_schedules.", limits.schedules_max)
    yield gauge("jobqueue_schedules_failing", "Schedules that could not make a job for their last slot.", totals.failing)
    yield CounterMetricFamily("jobqueue_schedule_runs", "Jobs that schedules made.", value=totals.made_total)
    yield CounterMetricFamily(
        "jobqueue_schedule_slots_skipped", "Skipped slots: an earlier run was live, or no job could be made.", value=totals.skipped_total
    )
