"""Several machines on one virtual loop: each has its own clocks, and stands still, sleeps or dies alone.

What runs on a machine runs in its context: a task or callback begun there is the machine's too. So the loop knows whose a timer is, and
`time` whose clock is asked for, without any of the server's code knowing. A machine that stands still rings no timer and reads nothing that
arrives; what the loop had ready in that instant still runs, as it might have a moment before.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from typing import Any

from .loop import BOOT, EPOCH, Times, VirtualLoop

_HERE: contextvars.ContextVar[Machine | None] = contextvars.ContextVar("machine", default=None)

GRAIN = 1e-6
AT_ONCE_MAX = 200
"""Timers that are due at once, in one instant, before time passes all the same, by a GRAIN."""

NOWHERE = contextvars.Context()
"""Of timers that are no machine's: the network's."""


def here() -> Machine | None:
    """The machine whose code runs."""
    return _HERE.get()


class Machine:
    """One of them. offset: its wall clock less the true time; slept: how long its monotonic clock has stood still.

    dead: its process has ended: nothing of it is to be run any more, but its tasks unwind.
    """

    def __init__(self, loop: VirtualLoop, host: str, offset: float = 0.0) -> None:
        self.loop = loop
        self.host = host
        self.offset = offset
        self.slept = 0.0
        self.stopped = self.dead = False
        self.stopped_at = 0.0
        self.tasks: dict[asyncio.Task[Any], None] = {}
        self.life: Any = None
        """The server that runs there."""
        self._held: list[Callable[[], object]] = []
        self.context = contextvars.Context()
        self.context.run(_HERE.set, self)

    @property
    def running(self) -> bool:
        """Whether its code runs at all."""
        return not (self.stopped or self.dead)

    def monotonic(self) -> float:
        """Its monotonic clock, but for where it began."""
        return self.loop.time() - self.slept

    def stop(self) -> None:
        """SIGSTOP."""
        self.stopped, self.stopped_at = True, self.loop.time()

    def go_on(self, asleep: bool = False) -> None:
        """SIGCONT. asleep: the machine itself slept, so that its monotonic clock has stood still."""
        if asleep:
            self.slept += self.loop.time() - self.stopped_at
        self.stopped = False
        held, self._held = self._held, []
        for each in held:
            self.loop.call_soon(each, context=NOWHERE)

    def when_running(self, callback: Callable[[], object]) -> None:
        """Call back, from no context in particular, once it does not stand still."""
        if self.stopped:
            self._held.append(callback)
        else:
            callback()

    async def end(self) -> None:
        """Let what is left of a process unwind, whose machine is dead. It happens to nobody."""
        for _ in range(20):
            for task in list(self.tasks):
                task.cancel()
            await asyncio.sleep(0)


class MachineLoop(VirtualLoop):
    """The loop on which they run. network: makes connections for whoever asks the loop for them."""

    network: Any = None
    _at_once = 0
    _at_once_at = -1.0

    def call_at(self, when: float, callback: Any, *args: Any, context: contextvars.Context | None = None) -> asyncio.TimerHandle:
        """See AbstractEventLoop. A timer of a machine rings by the machine's monotonic clock, and not while it stands still."""
        machine = _HERE.get() if context is None else context.get(_HERE)
        if machine is None:
            return super().call_at(when, callback, *args, context=context)
        if when <= self.time():
            # Some code asks for a timer at a moment that its own clock, of another grain, has not reached yet: time has to pass.
            self._at_once = self._at_once + 1 if self.time() == self._at_once_at else 1
            self._at_once_at = self.time()
            if self._at_once > AT_ONCE_MAX:
                when = self.time() + GRAIN
        due = when - self.time() + machine.monotonic()
        whole = contextvars.copy_context() if context is None else context
        cell: list[asyncio.TimerHandle] = []

        def ring() -> None:
            if machine.dead or cell[0].cancelled():
                return
            left = due - machine.monotonic()
            if left > 1e-6:
                super(MachineLoop, self).call_at(self.time() + left, arrived, context=NOWHERE)
                return
            self.call_soon(run, context=whole)

        def run() -> None:
            if not cell[0].cancelled():
                callback(*args)

        def arrived() -> None:
            machine.when_running(ring)

        cell.append(super().call_at(when, arrived, context=NOWHERE))
        return cell[0]

    def create_task(self, coro: Any, **how: Any) -> asyncio.Task[Any]:
        """See AbstractEventLoop."""
        machine = _HERE.get()
        if machine is not None and machine.life is not None:
            coro = machine.life.inherits(coro)
        task = super().create_task(coro, **how)
        if machine is not None:
            machine.tasks[task] = None
            task.add_done_callback(lambda done: machine.tasks.pop(done, None) and None, context=NOWHERE)
        return task

    def remove_reader(self, fd: Any) -> bool:
        """See AbstractEventLoop. There are no descriptors."""
        return False

    async def create_connection(self, factory: Any, host: Any = None, port: Any = None, **_: Any) -> Any:
        """See AbstractEventLoop."""
        return await self.network.connect(factory, host, port)

    async def create_server(self, factory: Any, host: Any = None, port: Any = None, **_: Any) -> Any:
        """See AbstractEventLoop."""
        return self.network.listen(factory, port)


class MachineTimes(Times):
    """What the servers get for the module `time`: the clocks of the machine that asks."""

    CLOCK_BOOTTIME = 7

    def time(self) -> float:
        """The wall clock."""
        machine = _HERE.get()
        return EPOCH + self._loop.time() + (0.0 if machine is None else machine.offset)

    def monotonic(self) -> float:
        """The monotonic clock."""
        machine = _HERE.get()
        return BOOT + (self._loop.time() if machine is None else machine.monotonic())

    perf_counter = monotonic

    def clock_gettime(self, which: int) -> float:
        """The machine's uptime, which goes on while it sleeps."""
        assert which == self.CLOCK_BOOTTIME
        return BOOT + self._loop.time()
