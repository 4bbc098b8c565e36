"""What `Client` can do with workers. Made from `async_workers.py` by `python -m tests.client.generate`: change that one."""

from __future__ import annotations

from jobqueue.client import worker_types
from jobqueue.client.sending import once, place, query
from jobqueue.client.sync_transport import SyncTransport
from jobqueue.client.worker_types import WorkerInfo


class SyncWorkers(SyncTransport):
    """Operations on workers. AsyncClient describes what is common to all operations."""

    def workers(self, *, queue: str | None = None) -> list[WorkerInfo]:
        """The workers whose dequeues have more than a name, by name.

        queue: str, only those that ask for it.

        Returns a list of WorkerInfo.
        """
        found: list[WorkerInfo] = []
        cursor: str | None = None
        while True:
            page = self._run(once("GET", query("/workers", queue=queue, cursor=cursor), worker_types.workers))
            found += page.workers
            cursor = page.cursor
            if cursor is None:
                return found

    def quiet_worker(self, name: str) -> WorkerInfo:
        """Stop giving jobs to a worker, also after a restart of the server. It finishes the jobs that it has. name: str.

        Returns WorkerInfo. Raises UnknownWorker.
        """
        return self._run(once("POST", place("workers", name, "/quiet"), worker_types.worker))

    def resume_worker(self, name: str) -> WorkerInfo:
        """Give jobs to a worker again. name: str.

        Returns WorkerInfo. Raises UnknownWorker (it is not listed now; if it was quiet, it no longer is).
        """
        return self._run(once("POST", place("workers", name, "/resume"), worker_types.worker))
