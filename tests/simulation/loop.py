"""An event loop whose time is its own: it stands still while anything is ready to run, then jumps to the next timer.

No sockets, no threads, no system calls, so the same program runs the same way each time, and an hour takes as long as what happens in it.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import itertools
import sys
import time as real_time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

BOOT = 1_000.0
"""What the machine's monotonic clock shows when the loop's time is 0."""

EPOCH = 1_800_000_000.0
"""What the machine's wall clock shows when the loop's time is 0 and nobody has set it."""


class Standstill(Exception):
    """The program cannot go on: nothing is ready and no timer is set, or the server does not start."""


class _Timer(asyncio.TimerHandle):
    """A timer that comes after those that were set before it for the same moment.

    asyncio leaves their order to its heap, which depends on when cancelled timers are swept out of it, and so on what the garbage
    collector finds when.
    """

    __slots__ = ("number",)

    number: int

    def __lt__(self, other: object) -> bool:
        assert isinstance(other, _Timer)
        mine: tuple[float, int] = (self._when, self.number)  # type: ignore[attr-defined] # as BaseEventLoop reads it
        return mine < (other._when, other.number)  # type: ignore[attr-defined]


class VirtualLoop(asyncio.BaseEventLoop):
    """asyncio's own loop on virtual time.

    quiet: called whenever nothing is left to run at this instant, before time moves on. errors: what callbacks and forgotten tasks raised.
    wall_offset: by how much the wall clock was set, in seconds. turn_seconds: how long each turn takes that has something to do;
    busy_at: when one last took as long as that.
    """

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._numbers = itertools.count()
        self._selector = self
        self._clock_resolution = 1e-7
        self.quiet: Callable[[], None] = lambda: None
        self.errors: list[str] = []
        self.wall_offset = 0.0
        self.turn_seconds = 0.0
        self.busy_at = -1e9
        self.set_exception_handler(lambda _, context: self.errors.append(f"{context['message']}: {context.get('exception')!r}"))

    def time(self) -> float:
        """Seconds since the simulation began."""
        return self._now

    def call_at(self, when: float, callback: Any, *args: Any, context: contextvars.Context | None = None) -> asyncio.TimerHandle:
        """See AbstractEventLoop."""
        timer = _Timer(when, callback, args, self, context)
        timer.number = next(self._numbers)
        heapq.heappush(self._scheduled, timer)  # type: ignore[attr-defined] # BaseEventLoop's heap of timers
        timer._scheduled = True  # type: ignore[attr-defined] # so that it is counted when it is cancelled
        return timer

    def stall(self, seconds: float) -> None:
        """Let time pass while nothing runs, as when the process is stopped. To be called from a callback."""
        self._now += seconds

    # What BaseEventLoop asks of a loop with a selector.

    def select(self, timeout: float | None) -> list[Any]:
        """Instead of waiting for the network, move time on to the next timer."""
        if timeout is None:
            raise Standstill("everything waits and no timer is set")
        if timeout > 0:
            self.quiet()
            self._now = max(self._now, self._scheduled[0]._when)  # type: ignore[attr-defined] # BaseEventLoop's heap of timers
        elif self.turn_seconds:
            self._now += self.turn_seconds
            self.busy_at = self._now
        return []

    def _process_events(self, events: list[Any]) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """Nothing sleeps that could be woken."""


async def passing(seconds: float) -> None:
    """Return when this much virtual time has passed."""
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    timer = loop.call_later(seconds, lambda: None if future.done() else future.set_result(None))
    try:
        await future
    finally:
        timer.cancel()


class Times:
    """What the server gets for the module `time`."""

    gmtime = staticmethod(real_time.gmtime)

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def time(self) -> float:
        """The wall clock."""
        return EPOCH + self._loop.time() + self._loop.wall_offset

    def monotonic(self) -> float:
        """The monotonic clock."""
        return BOOT + self._loop.time()

    perf_counter = monotonic


@contextmanager
def virtual_time(loop: VirtualLoop, times: Times | None = None) -> Iterator[None]:
    """The server's modules see the loop's time in place of the machine's, for as long as it lasts. times: other clocks than that."""
    changed = [
        module
        for name, module in sorted(sys.modules.items())
        if name.startswith("jobqueue.") and getattr(module, "time", None) is real_time
    ]
    times = times or Times(loop)
    for module in changed:
        module.time = times  # type: ignore[attr-defined]
    asyncio.set_event_loop(loop)
    try:
        yield
    finally:
        asyncio.set_event_loop(None)
        for module in changed:
            module.time = real_time  # type: ignore[attr-defined]
