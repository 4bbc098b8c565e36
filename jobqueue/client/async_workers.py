"""What the clients can do with workers, for asyncio: each operation, what it takes, sends, answers and raises.

`sync_workers.py` is made from this file by `python -m tests.client.generate`.
"""

from __future__ import annotations

from jobqueue.client import worker_types
from jobqueue.client.async_transport import AsyncTransport
from jobqueue.client.sending import once, place, query
from jobqueue.client.worker_types import WorkerInfo


class AsyncWorkers(AsyncTransport):
    """Operations on workers. AsyncClient describes what is common to all operations."""

    async def workers(self, *, queue: str | None = None) -> list[WorkerInfo]:
        """The workers whose dequeues have more than a name, by name.

        queue: str, only those that ask for it.

        Returns a list of WorkerInfo.
        """
        found: list[WorkerInfo] = []
        cursor: str | None = None
        while True:
            page = await self._run(once("GET", query("/workers", queue=queue, cursor=cursor), worker_types.workers))
            found += page.workers
            cursor = page.cursor
            if cursor is None:
                return found

    async def quiet_worker(self, name: str) -> WorkerInfo:
        """Stop giving jobs to a worker, also after a restart of the server. It finishes the jobs that it has. name: str.

        Returns WorkerInfo. Raises UnknownWorker.
        """
        return await self._run(once("POST", place("workers", name, "/quiet"), worker_types.worker))

    async def resume_worker(self, name: str) -> WorkerInfo:
        """Give jobs to a worker again. name: str.

        Returns WorkerInfo. Raises UnknownWorker (it is not listed now; if it was quiet, it no longer is).
        """
        return await self._run(once("POST", place("workers", name, "/resume"), worker_types.worker))
