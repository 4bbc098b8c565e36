"""GET /metrics: the server's counts in the Prometheus text format, or in OpenMetrics if the client accepts that.

Nothing is counted here. The engine, the backend and the routes keep plain ints; a scrape reads them and lets prometheus-client format them.
`metrics_queues.py` and `metrics_server.py` make the families. Two measures limit the cost of a scrape. There can be ten thousand queues, so
only the QUEUES_SHOWN busiest have their own series; the rest are summed under `queue="(other)"`, which cannot be a queue's name. And lines
are written one slice per turn of the loop, so that a scrape delays no request by more than it takes to read the counts (30 to 55 ms at
10,000 queues, a tenth at 1,000).
"""

from __future__ import annotations

import asyncio
import itertools
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.openmetrics import exposition as openmetrics

from jobqueue import __version__
from jobqueue.api.observe.merged import merged, said
from jobqueue.api.observe.metrics_queues import QUEUES_SHOWN, Queues
from jobqueue.api.observe.metrics_schedules import schedules
from jobqueue.api.observe.metrics_server import (
    bounds,
    cluster,
    connections,
    draining,
    gauge,
    lag,
    log_lines,
    pool,
    requests,
    storage,
    times,
)
from jobqueue.api.routes import Route
from jobqueue.api.site import Site
from jobqueue.errors import StorageUnavailable
from jobqueue.http.answers import Answer
from jobqueue.http.heads import ACCEPT
from jobqueue.http.plain import AIOHTTP_VERSION
from jobqueue.http.request import Accepting, Request

SLICE = 250
"""Lines written in one turn of the loop, about 3 ms."""

TEXT = b"text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = openmetrics.CONTENT_TYPE_LATEST.encode()
_EOF = b"# EOF\n"
_PROCESSES = "Processes of this port that are included in this scrape."


class Metrics:
    """One server's metrics, in their own registry. routes: those to report; utc: the current time, seconds since the epoch."""

    def __init__(self, routes: Sequence[Route], queues_shown: int = QUEUES_SHOWN, utc: Callable[[], float] = time.time) -> None:
        self._queues = Queues(queues_shown, utc)
        self._routes = routes
        self._utc = utc
        self._started = utc()
        self._machine = CollectorRegistry()
        ProcessCollector(registry=self._machine)
        PlatformCollector(registry=self._machine)
        GCCollector(registry=self._machine)

    async def scrape(self, site: Site, request: Request, _: str) -> Answer:
        """GET /metrics."""
        accept = ",".join(request.head.headers.getall(ACCEPT, ()))
        modern = "application/openmetrics-text" in accept.lower()
        held = await self._held(site)
        await asyncio.sleep(0)
        own = self._own(site, request.connection.server)
        if site.siblings is not None:
            others = await site.siblings()
            own = itertools.chain(merged(own, others), (gauge("jobqueue_processes", _PROCESSES, 1 + len(others)),))
        parts = []
        for family in itertools.chain(held, own):
            for part in _written(family, openmetrics.generate_latest if modern else generate_latest):
                parts.append(part)
                await asyncio.sleep(0)
        if modern:
            parts.append(_EOF)
        return Answer(200, b"".join(parts), OPENMETRICS if modern else TEXT)

    def _own(self, site: Site, server: Accepting) -> Iterator[Metric]:
        """What this process itself counts."""
        return itertools.chain(
            connections(server),
            draining(site.draining),
            lag(site.lag.timings()),
            cluster(site.backend.cluster()),
            requests(self._routes),
            pool(site.pool() if site.pool is not None else {}),
            log_lines(site.log_lines_dropped()),
            self._about(),
            self._machine.collect(),
        )

    def own(self, site: Site, server: Accepting) -> bytes:
        """The same, for another process on the same port that was asked."""
        return said(self._own(site, server))

    async def _held(self, site: Site) -> Iterable[Metric]:
        """Metrics of jobs and queues; nothing while another server has them and cannot be reached.

        This server's own counts are especially useful at such times.
        """
        try:
            stats = await site.stats()
            queues = await site.backend.queues()
        except StorageUnavailable:
            return ()
        return itertools.chain(
            self._queues.families(queues),
            bounds(stats, site.limits),
            times(stats),
            schedules(stats.schedules, site.limits),
            storage(stats.storage, site.limits),
        )

    def _about(self) -> Iterator[Metric]:
        """Information about the server itself."""
        info = GaugeMetricFamily("jobqueue_build_info", "1, with the versions as labels.", labels=("version", "python", "aiohttp"))
        info.add_metric((__version__, platform.python_version(), AIOHTTP_VERSION), 1)
        yield info
        yield gauge("jobqueue_start_time_seconds", "When the server started, seconds since the epoch.", self._started)
        yield gauge("jobqueue_uptime_seconds", "How long the server has run.", max(0.0, self._utc() - self._started))


class _One:
    """A registry of one family, as prometheus-client's writers need it."""

    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterable[Metric]:
        return (self._family,)


def _written(family: Metric, write: Callable[[_One], bytes]) -> Iterator[bytes]:
    """A family's text, SLICE lines at a time. The first has the heading too."""
    for start in range(0, max(1, len(family.samples)), SLICE):
        part = Metric(family.name, family.documentation, family.type, family.unit)
        part.samples = family.samples[start : start + SLICE]
        text = write(_One(part)).removesuffix(_EOF)
        while start and text.startswith(b"# "):
            text = text.partition(b"\n")[2]
        yield text
