"""What several processes count, told as one server's."""

from __future__ import annotations

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from jobqueue.api.observe.merged import merged, said


def families(count: int, memory: float, started: float, owner: int, seen: list[tuple[str, int]]) -> list[Metric]:
    requests = CounterMetricFamily("jobqueue_http_requests", "Requests.", labels=("route",))
    requests.add_metric(("/a",), count)
    times = HistogramMetricFamily("jobqueue_lag_seconds", "Lag.")
    times.add_metric((), [(end, float(value)) for end, value in seen], 1.5)
    return [
        requests,
        times,
        GaugeMetricFamily("process_resident_memory_bytes", "Memory.", value=memory),
        GaugeMetricFamily("jobqueue_start_time_seconds", "Start.", value=started),
        GaugeMetricFamily("jobqueue_owner", "Owner.", value=owner),
    ]


def test_amounts_are_added_up_and_the_rest_is_not() -> None:
    """Counters, histograms and amounts of all; the first start; whether any of them owns the queue."""
    own = families(3, 10.0, 200.0, 0, [("1.0", 2), ("+Inf", 4)])
    other = families(4, 5.0, 100.0, 1, [("1.0", 1), ("+Inf", 1)])
    found = {(sample.name, *sample.labels.values()): sample.value for family in merged(own, [said(other)]) for sample in family.samples}
    assert found == {
        ("jobqueue_http_requests_total", "/a"): 7,
        ("jobqueue_lag_seconds_bucket", "1.0"): 3,
        ("jobqueue_lag_seconds_bucket", "+Inf"): 5,
        ("jobqueue_lag_seconds_count",): 5,
        ("jobqueue_lag_seconds_sum",): 3.0,
        ("process_resident_memory_bytes",): 15.0,
        ("jobqueue_start_time_seconds",): 100.0,
        ("jobqueue_owner",): 1,
    }


def test_what_only_one_has_counted_is_told_too() -> None:
    """A route that one of them was never asked for, and a family that it has not."""
    own = CounterMetricFamily("jobqueue_http_requests", "Requests.", labels=("route",))
    own.add_metric(("/a",), 1)
    other = CounterMetricFamily("jobqueue_http_requests", "Requests.", labels=("route",))
    other.add_metric(("/b",), 2)
    more = CounterMetricFamily("jobqueue_pool_jobs", "Jobs.", value=5)
    found = list(merged([own], [said([other, more])]))
    assert [family.name for family in found] == ["jobqueue_http_requests", "jobqueue_pool_jobs"]
    assert [(sample.labels, sample.value) for sample in found[0].samples] == [({"route": "/a"}, 1), ({"route": "/b"}, 2)]
    assert found[1].type == "counter"
