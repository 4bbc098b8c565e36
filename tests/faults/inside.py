"""A server in this process, on the test's own loop: for faults that must hit a certain turn of the loop."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import heapq
import inspect
import itertools
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any

import pytest
import uvloop

from jobqueue.api.app import App, build_app
from jobqueue.backend.base import StorageStats
from jobqueue.backend.journal import Journal
from jobqueue.backend.local import LocalBackend
from jobqueue.clock import Clock, SystemClock, Uptime
from jobqueue.engine.engine import Engine
from jobqueue.engine.events import Event
from jobqueue.histogram import Timings
from jobqueue.http.server import Server
from jobqueue.limits import Limits
from tests import ways

from .ledger import Api

Test = Callable[..., Coroutine[Any, Any, None]]


LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


def on_loops(*names: str) -> Callable[[Test], Callable[..., None]]:
    """Run an async test on each of these loops, a new one each time, and not on pytest's."""

    def decorate(test: Test) -> Callable[..., None]:
        @functools.wraps(test)
        def run(new_loop: Callable[[], asyncio.AbstractEventLoop], **arguments: Any) -> None:
            with asyncio.Runner(loop_factory=new_loop) as runner:
                runner.run(test(**arguments))

        signature = inspect.signature(test)
        new_loop = inspect.Parameter("new_loop", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        run.__signature__ = signature.replace(parameters=[new_loop, *signature.parameters.values()])  # type: ignore[attr-defined]
        return pytest.mark.parametrize("new_loop", [LOOPS[name] for name in names], ids=names)(run)

    return decorate


on_both_loops = on_loops("asyncio", "uvloop")
"""For what hits a certain turn of the loop: the two order reads, callbacks and lost connections differently."""


class _Timer:
    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None

    def run(self) -> None:
        if self.callback is not None:
            self.callback()


class HandClock:
    """Time that a test moves by hand, while due timers run in turns of the loop, as real ones do; never inside `advance`."""

    def __init__(self) -> None:
        self._now = 1_800_000_000.0
        self._count = itertools.count()
        self._timers: list[tuple[float, int, _Timer]] = []

    def now(self) -> float:
        return self._now

    def skew(self) -> float:
        return 0.0

    def uptime(self) -> Uptime | None:
        return None

    def call_at(self, when: float, callback: Callable[[], None]) -> _Timer:
        timer = _Timer(callback)
        if when <= self._now:
            asyncio.get_running_loop().call_soon(timer.run)
        else:
            heapq.heappush(self._timers, (when, next(self._count), timer))
        return timer

    def advance(self, seconds: float) -> None:
        """Let time pass; what is due runs in the next turn of the loop."""
        self._now += seconds
        while self._timers and self._timers[0][0] <= self._now:
            asyncio.get_running_loop().call_soon(heapq.heappop(self._timers)[2].run)


class GateJournal:
    """A journal whose commits take as long as the gate is shut."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.pending = 0
        self._tickets = 0

    def append(self, events: Sequence[Event]) -> int:
        self._tickets += len(events)
        return self._tickets

    def check(self, adding: bool) -> None:
        pass

    async def committed(self, ticket: int) -> None:
        self.pending += 1
        try:
            await self.gate.wait()
        finally:
            self.pending -= 1

    def stats(self) -> StorageStats:
        return StorageStats(False, Timings(), 0)

    async def close(self) -> None:
        self.gate.set()


class _Faults(logging.Handler):
    """Keeps whatever must not be logged."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        # That the storage fails is ours to cause, and the server's to log.
        if (record.levelno >= logging.ERROR and record.name != "jobqueue.storage") or record.exc_info:
            self.seen.append(logging.Formatter().format(record))


class Inside(Api):
    """The books on a server in this process, and the server itself."""

    def __init__(self, port: int, app: App, server: Server, backend: LocalBackend, **options: Any) -> None:
        super().__init__(port, **options)
        self.app = app
        self.server = server
        self.backend = backend


@contextlib.asynccontextmanager
async def serving(
    limits: Limits | None = None,
    *,
    clock: Clock | None = None,
    journal: Journal | None = None,
    engine: Engine | None = None,
    **options: Any,
) -> AsyncIterator[Inside]:
    """A server on the running loop; `options` are those of App.server. Leaving it checks that it is intact and logged no fault."""
    limits = limits or Limits()
    backend = LocalBackend(limits, engine=engine, clock=clock or SystemClock(), journal=journal)
    app = build_app(backend, limits)
    server = ways.server(app, **options)
    loop = asyncio.get_running_loop()
    faults = _Faults()
    unhandled: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: unhandled.append(context))
    logging.getLogger().addHandler(faults)
    listener = await loop.create_server(server, "127.0.0.1", 0, backlog=1_024)
    pass_time = functools.partial(clock.advance, 1.0) if isinstance(clock, HandClock) else None
    api = Inside(listener.sockets[0].getsockname()[1], app, server, backend, pass_time=pass_time)
    if isinstance(clock, HandClock):
        api.use_clock(clock.now)
    try:
        yield api
        await api.intact()
        assert backend.totals().leases == 0
    finally:
        api.close()
        listener.close()
        app.drain()
        await server.shutdown()
        await backend.close()
        logging.getLogger().removeHandler(faults)
    assert not faults.seen, "\n".join(faults.seen)
    assert not unhandled, unhandled


async def turns(count: int) -> None:
    """Give the loop so many turns."""
    for _ in range(count):
        await asyncio.sleep(0)
