"""A front without patience: for callers that have other partitions to ask while one has no owner."""

from __future__ import annotations

from jobqueue.backend.base import BackendStats, ClusterStats, Listen, Listening, Taking
from jobqueue.backend.requests.request import R, Request
from jobqueue.backend.store.held import ClusterListening, ClusterTaking, Front
from jobqueue.backend.store.moved import Moved
from jobqueue.backend.store.passing import Ask, Passing
from jobqueue.model import Job, Want


class HastyBackend(Passing):
    """A Backend that raises StorageUnavailable at once while there is no owner that can be reached, instead of waiting for one. Its methods
    are documented at `Backend`; whoever owns the front drains and closes it.
    """

    at_once = False

    def __init__(self, front: Front) -> None:
        self._front = front

    async def _pass(self, ask: Ask[R]) -> R:
        target = self._front.target()
        if target is None:
            raise self._front.nobody()
        try:
            return await ask(target)
        except Moved:
            self._front.moved(target)
            raise

    async def _change(self, ask: Ask[R]) -> R:
        self._front.check_open()
        return await self._pass(ask)

    async def _hold(self, request: Request[R], wait: float) -> R:
        return await self._pass(lambda to: to.ask(request.waiting(0.0) if self._front.draining else request))

    async def job(self, job_id: str, wait: float = 0.0) -> Job:
        return await self._pass(lambda to: to.job(job_id, 0.0 if self._front.draining else wait))

    def dequeue(self, want: Want, wait: float) -> Taking:
        return ClusterTaking(self._front, want, wait, hasty=True)

    def listen(self, wanted: Listen, after: str | None = None) -> Listening:
        return ClusterListening(self._front, wanted, after)

    async def check(self) -> None:
        self._front.check_open()
        await self._pass(lambda to: to.check())

    async def stats(self) -> BackendStats:
        return await self._pass(lambda to: to.stats())

    def cluster(self) -> ClusterStats | None:
        """None: the front answers."""
        return None

    def drain(self) -> None:
        """Does nothing; see the class."""

    async def close(self) -> None:
        """Does nothing; see the class."""
