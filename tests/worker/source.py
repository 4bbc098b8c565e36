"""A Source that does what a test tells it to, and remembers what it was told."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from jobqueue.backend.base import Extend
from jobqueue.errors import QueueError
from jobqueue.model import Want
from jobqueue.worker.running import Leased
from jobqueue.worker.sources import Concluded, Released

Plan = deque[Any]
"""What the next calls come to: an error for the whole, or by job what is answered; nothing left: all is well."""


class Scripted:
    """Hands out what `give` is told, and holds any call while its gate is closed."""

    prefetch = 0

    def __init__(self) -> None:
        self.ready: deque[Leased] = deque()
        self.wants: list[Want] = []
        self.concluded: list[list[Concluded]] = []
        self.extended: list[list[Extend]] = []
        self.released: list[list[Released]] = []
        self.takes: Plan = deque()
        self.concludes: Plan = deque()
        self.extends: Plan = deque()
        self.releases: Plan = deque()
        self.concluding = asyncio.Event()
        self.concluding.set()
        self.closed = False
        self.quiet = False
        self._came = asyncio.Event()
        self._number = 0

    def give(self, count: int = 1, job_type: str = "work") -> list[str]:
        """Make jobs there are to take; their ids."""
        made = []
        for _ in range(count):
            self._number += 1
            leased = Leased(
                id=f"job-{self._number}",
                token=f"token-{self._number}",
                queue="default",
                payload=b"null",
                attempts=1,
                created_at=datetime.now(UTC),
                type=job_type,
            )
            self.ready.append(leased)
            made.append(leased.id)
        self._came.set()
        return made

    async def take(self, want: Want, wait: float) -> list[Leased]:
        self.wants.append(want)
        if self.takes:
            error = self.takes.popleft()
            assert isinstance(error, QueueError)
            raise error
        while not self.ready and wait > 0:
            self._came.clear()
            await self._came.wait()
        return [self.ready.popleft() for _ in range(min(want.limit, len(self.ready)))]

    async def conclude(self, items: Sequence[Concluded]) -> list[QueueError | None]:
        self.concluded.append(list(items))
        await self.concluding.wait()
        errors = self._next(self.concludes)
        return [errors.get(item.id) for item in items]

    async def extend(self, items: Sequence[Extend]) -> list[bool | QueueError]:
        self.extended.append(list(items))
        errors = self._next(self.extends)
        return [errors.get(item.id, False) for item in items]

    async def release(self, items: Sequence[Released]) -> list[QueueError | None]:
        self.released.append(list(items))
        errors = self._next(self.releases)
        return [errors.get(item.id) for item in items]

    def _next(self, plan: Plan) -> dict[str, Any]:
        planned: dict[str, Any] | QueueError = plan.popleft() if plan else {}
        if isinstance(planned, QueueError):
            raise planned
        return planned

    async def close(self) -> None:
        self.closed = True
