"""What `Client` can do in batches. Made from `async_batches.py` by `python -m tests.client.generate`: change that one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from jobqueue.client import calls, reading, short
from jobqueue.client.retrying import WAIT_SECONDS
from jobqueue.client.sending import Items, encoded, once
from jobqueue.client.sync_transport import SyncTransport
from jobqueue.client.types import Conclude, Concluded, Enqueued, Extend, Extended, GiveBack, JobInfo, LeasedJob, NewJob
from jobqueue.client.worker_types import About
from jobqueue.errors import QueueError
from jobqueue.model import DEFAULT_QUEUE


class SyncBatches(SyncTransport):
    """Operations on many jobs. AsyncClient describes what is common to all operations."""

    def enqueue_batch(self, jobs: Iterable[NewJob]) -> list[Enqueued | QueueError]:
        """Submit many jobs, up to 1000 in one request.

        jobs: an iterable of NewJob. Those without an id get one, as with enqueue.

        Returns a list with an Enqueued for each, in order, or the QueueError that enqueue would have raised. A failed item does not
        affect the others, and its error is not raised. Raises TooLarge for a request above 4 MiB.
        """
        return self._run(calls.enqueue_batch(jobs))

    def dequeue_batch(
        self,
        queue: str | Sequence[str] = DEFAULT_QUEUE,
        *,
        limit: int,
        wait: float = WAIT_SECONDS,
        lease_seconds: float | None = None,
        worker: str | None = None,
        attempt_id: str | None = None,
        about: About | None = None,
    ) -> list[LeasedJob]:
        """Take up to `limit` jobs, or wait for the first.

        limit: int from 1 to 1000. The other parameters are those of dequeue.

        Returns a list of LeasedJob as soon as there is one, with all that are available then; empty if the wait ended without a job. If
        the worker is quiet, returns a Quiet, an empty list, at once. Raises TooManyWaiters.
        """
        return self._taken(calls.dequeue_batch(queue, limit, wait, lease_seconds, worker, attempt_id, about))

    def conclude_batch(self, items: Iterable[Conclude]) -> list[Concluded | QueueError]:
        """Finish many attempts, up to 1000 in one request.

        items: an iterable of Conclude.

        Returns a list with a Concluded for each, in order, or the QueueError that conclude would have raised. Raises TooLarge for a
        request above 4 MiB.
        """
        given = list(items)
        return self._run(once("POST", "/batch/conclude", short.concluded_batch(given), encoded(Items(given))))

    def extend_batch(self, items: Iterable[Extend]) -> list[Extended | QueueError]:
        """Extend many leases, up to 1000 in one request.

        items: an iterable of Extend.

        Returns a list with an Extended for each, in order, or the QueueError that extend would have raised.
        """
        return self._run(once("POST", "/batch/extend", reading.extended_batch, encoded(Items(list(items)))))

    def release_batch(self, items: Iterable[GiveBack]) -> list[JobInfo | QueueError]:
        """Release many jobs, up to 1000 in one request. A server that is older than this operation: UnexpectedAnswer.

        items: an iterable of GiveBack.

        Returns a list with a JobInfo for each, in order, or the QueueError that release would have raised.
        """
        return self._run(once("POST", "/batch/release", reading.job_info_batch, encoded(Items(list(items)))))
