"""The server process: sockets, signals, draining. Connects a backend, the HTTP edge and the event loop.

Shutting down, in order: stop listening; answer every held request; give requests in flight `drain_seconds` to finish; close the
connections; close the backend. A second signal skips the waiting.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import resource
import signal
import socket
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import msgspec

from jobqueue.api.app import App, build_app
from jobqueue.api.machine import Machine
from jobqueue.api.mounts import Mounts
from jobqueue.api.observe.lag import LagMeter
from jobqueue.api.observe.observing import AccessLog, Observer
from jobqueue.backend.base import Backend
from jobqueue.backend.loading import CannotOpen
from jobqueue.http.fast import CannotServeFast, parser_is_weak, proven
from jobqueue.http.peers import OVER_MAX
from jobqueue.http.server import Server
from jobqueue.process import logs
from jobqueue.process.certificates import CannotExpose
from jobqueue.process.config import Settings
from jobqueue.process.durable import open_backend, stopped, warn_of_lost
from jobqueue.process.exposure import HANDSHAKE_SECONDS, SHUTDOWN_SECONDS, CannotListenError, Exposure
from jobqueue.process.joined import Joined
from jobqueue.process.traces import CannotTrace, spans
from jobqueue.worker import shutdown
from jobqueue.worker.exits import run_through
from jobqueue.worker.handlers import HandlersError, load_handlers
from jobqueue.worker.shutdown import Signals
from jobqueue.worker.worker import Worker

_logger = logging.getLogger("jobqueue.process.server")

DESCRIPTORS_RESERVED = 24
"""File descriptors reserved for everything but client connections: the loop, the listener, standard streams, storage, libraries."""

DESCRIPTORS_EACH = 4
"""Descriptors reserved for the links about each partition, if there are several."""

STORAGE_FAILED = 3
"""Exit code after the storage became unreliable."""

BACKLOG = 1_024
"""Connections that the kernel queues until they are accepted."""

ACCEPTS_PER_TURN = 2
"""Connections accepted in one turn of asyncio's own loop, which uses the backlog as that number. It must be small, so that `Connection` can
refuse excess connections before they use up the file descriptors.
"""

GC_THRESHOLDS = (50_000, 20, 50)
"""The garbage collector's thresholds. With Python's defaults, ten thousand requests that start to wait cause full collections of 0.2 s that
find nothing.
"""

CONNECTIONS_FEW = 1_024
"""A connection limit below this, imposed by the file descriptors, causes a warning: many systems default to 1,024, which held requests soon
reach.
"""


def connection_cap(wanted: int, partitions: int = 1) -> int:
    """How many connections can be open: `wanted`, or what the file descriptors allow after the soft limit has been raised."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    reserved = DESCRIPTORS_RESERVED + OVER_MAX + (partitions * DESCRIPTORS_EACH if partitions > 1 else 0)
    needed = wanted + reserved
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if soft == resource.RLIM_INFINITY:
        return wanted
    cap = max(1, min(wanted, soft - reserved))
    if cap < wanted:
        _logger.log(
            logging.WARNING if cap < CONNECTIONS_FEW else logging.DEBUG,
            "file descriptors allow %d connections, not the %d of max-connections; see ulimit -n",
            cap,
            wanted,
        )
    return cap


def _address(host: str, port: int) -> dict[str, Any]:
    """Where to listen, for loop.create_server. For "::" it is a socket for both address families, which the loop does not create by itself.

    Raises OSError.
    """
    if host != "::" or not socket.has_dualstack_ipv6():
        return {"host": host, "port": port}
    return {"sock": socket.create_server((host, port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=ACCEPTS_PER_TURN)}


def _listen(listener: asyncio.Server) -> None:
    """Set the kernel's backlog, which differs from the one that the loop was given."""
    for sock in listener.sockets:
        with socket.socket(fileno=os.dup(sock.fileno())) as same:
            same.listen(BACKLOG)


@contextlib.asynccontextmanager
async def running(
    settings: Settings, hurry: asyncio.Event | None = None, exposure: Exposure | None = None, joined: Joined | None = None
) -> AsyncIterator[tuple[App, int]]:
    """A server that listens while the context lasts; yields the app and its port. exposure: already made from these settings. joined: for
    one of several processes on a port.

    On exit the server drains and closes; setting hurry ends the draining early. Raises CannotExpose, CannotOpen, CannotListenError,
    CannotServeFast, CannotTrace, HandlersError.
    """
    exposure = exposure or Exposure(settings)
    hurry = hurry or asyncio.Event()
    async with _backend(settings, exposure) as backend, _listening(settings, backend, hurry, exposure, joined) as listening:
        yield listening


@contextlib.asynccontextmanager
async def _backend(settings: Settings, exposure: Exposure) -> AsyncIterator[Backend]:
    """The backend that the settings ask for: in memory, on a file, or one of several servers on a store."""
    if settings.store is not None:
        from jobqueue.process.cluster import joined

        async with joined(settings, exposure.peer_tls) as cluster:
            yield cluster
        return
    backend = open_backend(settings)
    try:
        yield backend
    finally:
        await backend.close()


@contextlib.asynccontextmanager
async def _listening(
    settings: Settings, backend: Backend, hurry: asyncio.Event, exposure: Exposure, joined: Joined | None
) -> AsyncIterator[tuple[App, int]]:
    pool = _pool(settings, backend)
    mounts = Mounts(dict(settings.mounts))
    app = build_app(backend, settings.limits, access=exposure.access, body_seconds=settings.body_seconds, mounts=mounts)
    app.site.sqs_url = settings.sqs_url or ""
    app.site.machine = Machine(_data_file(settings))
    app.observers = _observers(settings)
    if pool is not None:
        app.site.pool = partial(msgspec.structs.asdict, pool.counts)
    # A PartitionedBackend has a count; its module is imported only where there is a store.
    partitions: int = getattr(backend, "count", 1)
    server = app.server(
        http=await proven(settings.http),
        connections_max=connection_cap(settings.limits.connections_max, partitions),
        idle_seconds=settings.idle_seconds,
        write_seconds=settings.write_seconds,
    )
    listeners = await _listeners(settings, server, exposure, joined)
    lag = LagMeter(app.site.lag)
    app.site.log_lines_dropped = logs.dropped
    try:
        async with contextlib.AsyncExitStack() as stack:
            if joined is not None:
                app.site.siblings = joined.siblings
                await stack.enter_async_context(joined.telling(lambda: app.metrics.own(app.site, server)))
            if pool is not None:
                await pool.start()
            yield app, listeners[0].sockets[0].getsockname()[1]
    finally:
        lag.close()
        for listener in listeners:
            listener.close()
        stopping = [drain(app, server, settings.drain_seconds, hurry)]
        if pool is not None:
            # At the same time: draining answers those who wait for a result, and both share the same seconds.
            stopping.append(pool.stop(settings.drain_seconds, hurry))
        await asyncio.gather(*stopping)


def _data_file(settings: Settings) -> str | None:
    """The path of the file that stores the jobs, if there is one."""
    return None if settings.data is None or settings.store is not None else os.path.abspath(settings.data)


async def _listeners(settings: Settings, server: Server, exposure: Exposure, joined: Joined | None) -> list[asyncio.Server]:
    """The listening sockets. Raises CannotListenError."""
    handshake, shutdown = (HANDSHAKE_SECONDS, SHUTDOWN_SECONDS) if exposure.tls else (None, None)
    places = [_address(settings.host, settings.port)] if joined is None else [{"sock": each} for each in joined.sockets()]
    found = []
    try:
        for place in places:
            listener = await asyncio.get_running_loop().create_server(
                server,
                **place,
                backlog=ACCEPTS_PER_TURN,
                ssl=exposure.tls,
                ssl_handshake_timeout=handshake,
                ssl_shutdown_timeout=shutdown,
            )
            _listen(listener)
            found.append(listener)
    except OSError as error:
        peers = " (--peer-port is the same)" if settings.store is not None and settings.port == settings.peer_port else ""
        raise CannotListenError(f"cannot listen on {settings.host}:{settings.port}{peers}: {error.strerror or error}") from error
    return found


def _observers(settings: Settings) -> tuple[Observer, ...]:
    """The observers that are notified of every request. Raises CannotTrace."""
    observers: list[Observer] = []
    if settings.access_log != "off":
        observers.append(AccessLog(settings.access_log_every if settings.access_log == "sampled" else 1))
    if settings.trace:
        observers.append(spans())
    return tuple(observers)


def _pool(settings: Settings, backend: Backend) -> Worker | None:
    """The workers inside the server, not started yet. Raises HandlersError."""
    if settings.pool is None:
        return None
    return Worker(
        backend,
        handlers=load_handlers(settings.pool),
        queues=settings.pool_queues,
        concurrency=settings.pool_size,
        lease_seconds=settings.limits.lease_seconds_default,
        wait=settings.limits.wait_seconds_max,
        unhandled_seconds=settings.pool_unhandled_seconds,
        name="pool",
    )


async def drain(app: App, server: Server, seconds: float, hurry: asyncio.Event) -> None:
    """Answer every held request, let requests in flight finish within `seconds` or until `hurry` is set, and close every connection."""
    # A request whose bytes have arrived but were not read yet should be answered, not cut off.
    await asyncio.sleep(0)
    _logger.info("shutting down: %d connections open", len(server.open))
    app.drain()
    ended = asyncio.ensure_future(server.drained())
    hurried = asyncio.ensure_future(hurry.wait())
    await asyncio.wait({ended, hurried}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    server.abort()
    await ended
    hurried.cancel()


async def _serve(settings: Settings, joined: Joined | None) -> int:
    with Signals(settings.drain_seconds, "requests in flight", last=True, led=joined is not None) as signals:
        return await _serve_until(settings, signals, joined)


async def _serve_until(settings: Settings, signals: Signals, joined: Joined | None) -> int:
    loop, stop, hurry = asyncio.get_running_loop(), signals.stop, signals.hurry
    try:
        exposure = Exposure(settings)
        loop.add_signal_handler(signal.SIGHUP, exposure.reload)
        if joined is not None:
            joined.obey(signals, exposure.reload)
        async with running(settings, hurry, exposure, joined) as (app, port):
            if joined is not None:
                joined.listens()
            else:
                host = f"[{settings.host}]" if ":" in settings.host else settings.host
                print(f"jobqueue serves {'https' if exposure.tls else 'http'}://{host}:{port}", flush=True)
            # Everything that exists now lives as long as the process, so the collector need not look at it again.
            gc.collect()
            gc.freeze()
            # Jobs are freed without the collector, and requests leave no cycles, so frequent collections would cost more than they free.
            gc.set_threshold(*GC_THRESHOLDS)
            broken = await stopped(stop, app.site.backend)
        warn_of_lost(app.site.backend)
    except (CannotExpose, CannotOpen, CannotListenError, CannotServeFast, CannotTrace, HandlersError) as error:
        logs.say(f"jobqueue: {error}")
        return 1
    if broken is not None:
        logs.say(f"jobqueue: stopped, because the storage failed: {broken}")
        return STORAGE_FAILED
    return 1 if hurry.is_set() else 0


def run(settings: Settings, joined: Joined | None = None) -> int:
    """Serve until SIGTERM or SIGINT; returns the process's exit code. joined: for one of several processes on a port."""
    logs.set_up(settings.log_level, settings.log_format)
    if parser_is_weak():
        logs.say("jobqueue: aiohttp runs on its pure-Python HTTP parser, whose checks are weaker; unset AIOHTTP_NO_EXTENSIONS")
        return 1
    loops: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    with contextlib.suppress(ImportError):  # Windows and PyPy do not have it
        from uvloop import new_event_loop as loops
    code = run_through(_serve(settings, joined), loops)
    shutdown.end_without(shutdown.lasting_threads(), code)
    return code
