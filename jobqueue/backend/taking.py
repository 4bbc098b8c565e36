"""One dequeue on the local backend, from taking a place in line to the last byte of the answer (promise 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobqueue.backend.waiters import Waiter
from jobqueue.model import Job, Want

if TYPE_CHECKING:
    from jobqueue.backend.local import LocalBackend


class LocalTaking:
    """See base.Taking."""

    __slots__ = ("_backend", "_held", "_stood", "_wait", "_want")

    def __init__(self, backend: LocalBackend, want: Want, wait: float) -> None:
        self._backend = backend
        self._want = want
        self._wait = wait
        self._stood = False
        self._held: list[Job] = []
        """Jobs this request took and has not delivered. A replay takes none: their leases were delivered before, perhaps."""

    async def __aenter__(self) -> list[Job]:
        backend, want = self._backend, self._want
        replayed = backend.replay(want)
        if replayed:
            jobs = replayed
        else:
            jobs = self._held = backend.take(want)
            if not jobs and self._wait > 0:
                jobs = self._held = await self._stand(backend.stand(want, self._wait))
        if jobs and backend.journal is not None:
            try:
                await backend.journal.committed(backend.ticket)
            except BaseException:
                self._undo()
                raise
        return jobs

    async def _stand(self, waiter: Waiter[list[Job]]) -> list[Job]:
        try:
            jobs = await waiter.wait()
        except BaseException:
            # Cancelled: out of line, or already handed jobs in this very turn of the loop, which then go to the next in line.
            self._backend.leave(waiter)
            if waiter.answer:
                self._held = waiter.answer
                self._undo()
            raise
        self._stood = True
        return jobs

    async def __aexit__(self, *exc_info: object) -> None:
        if self._held:
            self._undo()

    def delivered(self) -> None:
        """See base.Taking.delivered."""
        if self._stood and self._held:
            self._backend.picked_up(self._held)
        self._held = []

    def _undo(self) -> None:
        held, self._held = self._held, []
        self._backend.put_back(held)
