"""A signal that many tasks can wait for, each with a time limit, on an injected clock."""

from __future__ import annotations

import asyncio

from jobqueue.clock import Clock


class Signal:
    """Something has changed: the waiting tasks check again, in the order in which they came."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiting: dict[asyncio.Future[None], None] = {}

    def notify(self) -> None:
        """Wake all tasks that wait now."""
        waiting, self._waiting = self._waiting, {}
        for future in waiting:
            _settle(future)

    async def wait(self, until: float) -> None:
        """Return at the next `notify`, or at the engine time `until`."""
        if self._clock.now() >= until:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[future] = None
        timer = self._clock.call_at(until, lambda: _settle(future))
        try:
            await future
        finally:
            timer.cancel()
            self._waiting.pop(future, None)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
