"""A backend that does everything late and in ways that need a task, and one that fails as a database's client library does.

Both are the local backend underneath, so whatever differs is the manner, which the contract allows (`Backend.at_once`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from jobqueue.backend.base import Backend, Taking
from jobqueue.backend.local import LocalBackend
from jobqueue.limits import Limits
from jobqueue.model import Job, Want

from .rig import LocalRig

LATE_SECONDS = 60.0
"""Far more than any operation takes: what is asked of asyncio.timeout is a task."""


class _SlowTaking:
    """A dequeue that goes somewhere first."""

    def __init__(self, slow: SlowBackend, taking: Taking) -> None:
        self._slow = slow
        self._taking = taking

    @property
    def quiet(self) -> bool:
        return self._taking.quiet

    def at_once(self) -> list[Job] | None:
        """See Taking."""
        return None

    def leave(self) -> None:
        """See Taking."""

    async def __aenter__(self) -> list[Job]:
        await self._slow.somewhere("dequeue")
        return await self._taking.__aenter__()

    async def __aexit__(self, *exc_info: object) -> None:
        await self._taking.__aexit__(*exc_info)

    def delivered(self) -> None:
        self._taking.delivered()


class SlowBackend:
    """Every operation asks for the current task before anything else, and suspends before it does anything.

    failing: raised in place of an operation, by its name.
    """

    at_once = False

    def __init__(self, backend: LocalBackend) -> None:
        self.backend = backend
        self.failing: dict[str, Callable[[], BaseException]] = {}
        self.tasks: list[asyncio.Task[Any]] = []

    async def somewhere(self, operation: str) -> None:
        """The way to a database and back."""
        async with asyncio.timeout(LATE_SECONDS):
            task = asyncio.current_task()
            assert task is not None
            self.tasks.append(task)
            await asyncio.sleep(0)
            await asyncio.gather(asyncio.sleep(0))
            if operation in self.failing:
                raise self.failing[operation]()

    def dequeue(self, want: Want, wait: float) -> Taking:
        return _SlowTaking(self, self.backend.dequeue(want, wait))

    def __getattr__(self, name: str) -> Any:
        operation = getattr(self.backend, name)
        if not asyncio.iscoroutinefunction(getattr(Backend, name, None)) or name == "close":
            return operation

        async def late(*args: Any, **kwargs: Any) -> Any:
            await self.somewhere(name)
            return await operation(*args, **kwargs)

        return late


class SlowRig(LocalRig):
    """The slow backend on a clock of its own."""

    TURNS = 40

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits)
        self.backend = SlowBackend(self.backend)  # type: ignore[arg-type,assignment]
