"""GET /metrics: how long things took, and what the storage does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics

from jobqueue.api.observe.lag import LagMeter
from jobqueue.backend.local import LocalBackend
from jobqueue.backend.sqlite.open import open_journal
from jobqueue.clock import ManualClock
from jobqueue.engine.engine import Engine
from jobqueue.histogram import QUICK_SECONDS, Histogram
from jobqueue.limits import Limits

from .harness import Api, until
from .test_metrics import key, samples

BOUNDS = (1.0, 2.0)


def test_a_value_at_a_bound_lies_below_it() -> None:
    """Bounds are the upper ends of their buckets, included; what is beyond all of them is counted last."""
    histogram = Histogram(BOUNDS)
    for value in (0.5, 1.0, 1.5, 2.0, 2.5, -3.0):
        histogram.observe(value)

    assert histogram.timings().counts == (3, 2, 1)
    assert histogram.timings().total == 7.5


def test_what_was_read_of_a_histogram_stays_as_it_was() -> None:
    """Timings are a copy: a value counted afterwards is not in them."""
    histogram = Histogram(BOUNDS)
    before = histogram.timings()
    histogram.observe(1.0)

    assert before.counts == (0, 0, 0)


def told(found: Mapping[tuple[str, frozenset[tuple[str, str]]], float], name: str, **labels: str) -> tuple[float, float]:
    """A histogram's count and sum."""
    return found[key(f"jobqueue_{name}_seconds_count", **labels)], found[key(f"jobqueue_{name}_seconds_sum", **labels)]


async def test_time_in_queue_runs_from_creation_to_the_first_hand_out(api: Api) -> None:
    """A job that was taken ten seconds after it came waited ten seconds; a second attempt is not counted again."""
    await api.enqueue(id="a", max_attempts=2)
    api.clock.advance(10)
    job = await api.take()
    await api.post("/jobs/a/conclude", lease=job["lease"]["token"], outcome="failed")
    api.clock.advance(300)
    await api.take()

    found = await samples(api)

    assert told(found, "time_in_queue") == (1, 10)
    assert found[key("jobqueue_time_in_queue_seconds_bucket", le="5.0")] == 0
    assert found[key("jobqueue_time_in_queue_seconds_bucket", le="15.0")] == 1
    assert found[key("jobqueue_time_in_queue_seconds_bucket", le="+Inf")] == 1


async def test_a_delay_is_no_time_in_queue(api: Api) -> None:
    """A delayed job waits from when it fell due."""
    await api.enqueue(delay=60)
    api.clock.advance(64)
    await api.take()

    assert told(await samples(api), "time_in_queue") == (1, 4)


async def test_time_in_progress_runs_from_hand_out_to_conclude(api: Api) -> None:
    """Each attempt that was concluded counts, failed or not; a lease that ran out is counted by itself."""
    token = await api.working("a")
    api.clock.advance(20)
    await api.post("/jobs/a/conclude", lease=token, outcome="failed")
    await api.working("b", queue="other", lease_seconds=30)
    api.clock.advance(30)

    found = await samples(api)

    assert told(found, "time_in_progress") == (1, 20)
    assert found[key("jobqueue_leases_expired_total")] == 1


async def test_pickup_counts_held_dequeues_alone(api: Api) -> None:
    """A job handed to a dequeue that stood for it is a pickup; one that existed already is none, nor is a wait that ended without."""
    await api.enqueue()
    await api.take()
    held = await api.hold("/jobs/dequeue", queue="work")
    await api.enqueue(queue="work")
    assert (await held).status == 200
    empty = await api.hold("/jobs/dequeue", queue="work", wait=5)
    api.clock.advance(5)
    assert (await empty).status == 204

    assert told(await samples(api), "pickup") == (1, 0)


async def test_latency_is_told_by_route(api: Api) -> None:
    """Every answered request is in exactly one bucket of its route, whatever its status."""
    for _ in range(3):
        await api.enqueue()
    await api.post("/jobs/enqueue", b"{")

    found = await samples(api)

    labels = {"method": "POST", "route": "/jobs/enqueue"}
    assert told(found, "http_request_duration", **labels)[0] == 4
    assert found[key("jobqueue_http_request_duration_seconds_bucket", le="+Inf", **labels)] == 4


async def test_histograms_are_openmetrics_too(api: Api) -> None:
    """The strict parser reads them: cumulated, with an infinite bucket that equals the count."""
    await api.concluded()

    reply = await api.send("GET", "/metrics", headers={"Accept": "application/openmetrics-text"})

    families = {family.name: family for family in parse_openmetrics(reply.body.decode())}
    (count,) = [sample.value for sample in families["jobqueue_time_in_progress_seconds"].samples if sample.name.endswith("_count")]
    assert count == 1


# Storage.


@pytest.fixture
async def durable(tmp_path: Path) -> AsyncIterator[LocalBackend]:
    limits = Limits()
    engine, clock = Engine(limits), ManualClock()
    backend = LocalBackend(engine=engine, clock=clock, journal=open_journal(str(tmp_path / "jobs.db"), engine, clock))
    yield backend
    await backend.close()


async def test_commits_are_timed(durable: LocalBackend, api: Api) -> None:
    """Each commit of a file is counted, its failures told, and what waits stands beside its bound."""
    api.app.site.backend = durable
    await api.enqueue()
    await api.enqueue()

    found = await samples(api)

    assert told(found, "commit")[0] == 2
    assert found[key("jobqueue_storage_failing")] == 0
    assert found[key("jobqueue_unwritten_bytes")] == 0
    assert found[key("jobqueue_unwritten_bytes_limit")] == Limits().unwritten_bytes_max


async def test_memory_has_no_commits(api: Api) -> None:
    """A server without a file tells nothing of one."""
    assert not [name for name, _ in await samples(api) if "commit" in name or "unwritten" in name or "storage" in name]


# The loop.


async def test_a_late_timer_is_lag() -> None:
    """The meter counts how late its timer rang, again and again, until it is closed."""
    lags = Histogram(QUICK_SECONDS)
    meter = LagMeter(lags, 0.001)
    time.sleep(0.02)  # noqa: ASYNC251 # the loop is held up, which is what is measured
    await until(lambda: sum(lags.counts) >= 3)
    meter.close()
    counted = sum(lags.counts)
    await asyncio.sleep(0.005)

    assert sum(lags.counts) == counted
    assert lags.total > 0.01


async def test_the_lag_is_told(api: Api) -> None:
    """What the meter counted is on the page."""
    api.app.site.lag.observe(0.3)

    assert told(await samples(api), "loop_lag") == (1, 0.3)
