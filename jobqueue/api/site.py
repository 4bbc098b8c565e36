"""What every handler is given: the backend, the bounds, and what the server's settings say.

A handler knows this and nothing of the application that calls it. A token that holds for some queues only is served on a site whose
backend is restricted to them, so no handler has to ask, and none can forget.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping
from typing import Self

from jobqueue.api.access.grants import Grant
from jobqueue.backend.base import Backend, BackendStats
from jobqueue.engine import checks
from jobqueue.errors import StorageUnavailable
from jobqueue.histogram import QUICK_SECONDS, Histogram
from jobqueue.http.body import body_at_once, read_body
from jobqueue.http.request import Request
from jobqueue.limits import Limits
from jobqueue.model import QueuePolicy


class Life:
    """How far a server is in its life, shared by all its sites. started: seconds of the monotonic clock."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.draining = False


class Site:
    """One server, as its handlers see it.

    prefixes: where each API stands, by its name; secured: whether a token is
    asked for; grant_of: what a request's token may do, None where nobody is asked for one (raises Unauthorized). lag: how late the event
    loop was, in seconds. default_policy: of a queue that has none of its own. pool: what the server's own workers counted, if it has any.
    log_lines_dropped: how many lines of its log were never written.
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
        self.secured = secured
        self.grant_of = grant_of
        self.life = Life()
        self.pool: Callable[[], Mapping[str, int]] | None = None
        self.lag = Histogram(QUICK_SECONDS)
        self.log_lines_dropped: Callable[[], int] = lambda: 0
        self.default_policy = QueuePolicy(lease_seconds=limits.lease_seconds_default, max_attempts=limits.max_attempts_default)

    @property
    def draining(self) -> bool:
        """Whether the server is shutting down."""
        return self.life.draining

    @property
    def native_prefix(self) -> str:
        """Where the native API stands, "" at the root."""
        return self.prefixes["native"]

    async def stats(self) -> BackendStats:
        """The backend's totals, without a wait where it is known that no server owns the queue. Raises StorageUnavailable."""
        cluster = self.backend.cluster()
        if cluster is not None and cluster.owner is None:
            raise StorageUnavailable("no server owns the queue now")
        return await self.backend.stats()

    def restricted(self, backend: Backend) -> Self:
        """The same site on a backend that shows less."""
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
