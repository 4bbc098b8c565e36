"""What every handler receives: the backend, the limits, and the server's settings that matter to handlers.

A handler depends on this only, and not on the application that calls it. A token for some queues only is served on a site whose backend is
restricted to them, so no handler has to check, and none can forget to.
"""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Self

from jobqueue.api.access.grants import Grant
from jobqueue.api.changes import QueueChanges
from jobqueue.api.machine import Machine
from jobqueue.backend.base import Backend, BackendStats
from jobqueue.engine import checks
from jobqueue.errors import StorageUnavailable
from jobqueue.histogram import QUICK_SECONDS, Histogram
from jobqueue.http.body import body_at_once, read_body
from jobqueue.http.request import Request
from jobqueue.limits import Limits
from jobqueue.model import Want
from jobqueue.policy import QueuePolicy


class Life:
    """The state of a server's life cycle, shared by all its sites. started: seconds of the monotonic clock; started_at: UTC."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.started_at = time.time()
        self.draining = False
        self.putting_back: set[asyncio.Task[None]] = set()
        """Work that remains for answers that did not arrive."""


class Site:
    """One server, as its handlers see it.

    prefixes: each API's prefix, by its name; secured: whether requests need a token; grant_of: the permissions of a request's token, None
    if the server has no tokens (raises Unauthorized). lag: how late the event loop was, in seconds. default_policy: for queues without
    their own. pool: the counts of the server's own workers, if it has any. log_lines_dropped: how many lines of its log were never written;
    siblings: gets the metrics of the other processes on the port, None if there are none. sqs_url: scheme and host of the queue URLs that
    the dialect sqs returns, "" for those that the request was sent to.
    """

    def __init__(
        self,
        backend: Backend,
        limits: Limits,
        *,
        prefixes: Mapping[str, str],
        secured: bool,
        grant_of: Callable[[Request], Grant | None],
    ) -> None:
        self.backend = backend
        self.limits = limits
        self.prefixes = prefixes
        self.location = f"Location: {prefixes['native']}/jobs/"
        """The Location header line, up to the job's path."""
        self.secured = secured
        self.grant_of = grant_of
        self.life = Life()
        self.pool: Callable[[], Mapping[str, int]] | None = None
        self.lag = Histogram(QUICK_SECONDS)
        self.log_lines_dropped: Callable[[], int] = lambda: 0
        self.siblings: Callable[[], Awaitable[Sequence[bytes]]] | None = None
        self.sqs_url = ""
        self.machine = Machine()
        """The process's memory and its data file's disk space."""
        self.wants: dict[bytes, tuple[Want, float]] = {}
        """The parsed form of earlier dequeue bodies, by their bytes (`api/native/longpoll.py`)."""
        self.changes = QueueChanges()
        self.default_policy = QueuePolicy(lease_seconds=limits.lease_seconds_default, max_attempts=limits.max_attempts_default)

    @property
    def draining(self) -> bool:
        """Whether the server is shutting down."""
        return self.life.draining

    @property
    def native_prefix(self) -> str:
        """The native API's prefix, "" at the root."""
        return self.prefixes["native"]

    async def stats(self) -> BackendStats:
        """The backend's totals. If it is known that no server owns the queue, or a partition, it raises at once instead of waiting. Raises
        StorageUnavailable.
        """
        cluster = self.backend.cluster()
        if cluster is not None and None in cluster.owners:
            several = f"partition {cluster.owners.index(None)} has no owner at the moment"
            raise StorageUnavailable(several if cluster.partitions else "there is no owner at the moment")
        return await self.backend.stats()

    def restricted(self, backend: Backend) -> Self:
        """The same site with a backend that shows less."""
        view = copy.copy(self)
        view.backend = backend
        return view

    async def read_body(self, request: Request) -> bytes:
        """A request's JSON body, b"" if it has none. Raises as `body.read_body` does."""
        body = body_at_once(request, self.limits.body_bytes_max)
        return await read_body(request, self.limits.body_bytes_max) if body is None else body

    def job_id(self, job_id: str) -> str:
        """A job id from a path or a batch item, checked. Raises BadRequest."""
        if not (job_id.isascii() and job_id.isprintable() and 0 < len(job_id) <= self.limits.id_chars_max):
            checks.job_id(job_id, self.limits)
        return job_id
