"""The process: sockets, signals, draining. Ties a backend, the HTTP edge and the event loop together.

Shutting down, in order: listening stops; every held request is answered; requests in flight get `drain_seconds` to finish; connections
close; the backend closes. A second signal skips the waiting.
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
from jobqueue.process.durable import open_backend, stopped
from jobqueue.process.exposure import HANDSHAKE_SECONDS, SHUTDOWN_SECONDS, CannotListenError, Exposure
from jobqueue.process.traces import CannotTrace, spans
from jobqueue.worker import shutdown
from jobqueue.worker.exits import run_through
from jobqueue.worker.handlers import HandlersError, load_handlers
from jobqueue.worker.shutdown import Signals
from jobqueue.worker.worker import Worker

_logger = logging.getLogger("jobqueue.process.server")

DESCRIPTORS_RESERVED = 24
"""File descriptors kept for everything that is not a client's connection: the loop, the listener, standard streams, storage, libraries."""

STORAGE_FAILED = 3
"""Exit code after the storage could not be trusted any more."""

BACKLOG = 1_024
"""Connections the kernel keeps for us until they are accepted."""

ACCEPTS_PER_TURN = 2
"""Connections accepted in one turn of asyncio's own loop, which takes the backlog for that number: it must be small for `Connection` to
refuse a crowd before it has used up the file descriptors."""

GC_THRESHOLDS = (50_000, 20, 50)
"""How rarely to collect: at the defaults, ten thousand requests that come to wait set off full collections of 0.2 s that find nothing."""

CONNECTIONS_FEW = 1_024
"""A cap below this, set by the file descriptors, is worth a warning: many systems' default of 1,024 is soon met by held requests."""


def connection_cap(wanted: int) -> int:
    """How many connections may be open: `wanted`, or as many as file descriptors allow after the soft limit is raised."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + DESCRIPTORS_RESERVED + OVER_MAX
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if soft == resource.RLIM_INFINITY:
        return wanted
    cap = max(1, min(wanted, soft - DESCRIPTORS_RESERVED - OVER_MAX))
    if cap < wanted:
        _logger.log(
            logging.WARNING if cap < CONNECTIONS_FEW else logging.DEBUG,
            "file descriptors allow %d connections, not the %d of max-connections; see ulimit -n",
            cap,
            wanted,
        )
    return cap


def _address(host: str, port: int) -> dict[str, Any]:
    """Where to listen, for loop.create_server. For "::" it is a socket of both families, which the loop by itself would not make one of.

    Raises OSError.
    """
    if host != "::" or not socket.has_dualstack_ipv6():
        return {"host": host, "port": port}
    return {"sock": socket.create_server((host, port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=ACCEPTS_PER_TURN)}


def _listen(listener: asyncio.Server) -> None:
    """Give the kernel the backlog that the loop was not told of."""
    for sock in listener.sockets:
        with socket.socket(fileno=os.dup(sock.fileno())) as same:
            same.listen(BACKLOG)


@contextlib.asynccontextmanager
async def running(
    settings: Settings, hurry: asyncio.Event | None = None, exposure: Exposure | None = None
) -> AsyncIterator[tuple[App, int]]:
    """A server that listens for as long as the context lasts; the app and the port it got. exposure: made of these settings already.

    Leaving drains and closes it; hurry, once set, cuts the draining short. Raises CannotExpose, CannotOpen, CannotListenError,
    CannotServeFast, CannotTrace, HandlersError.
    """
    exposure = exposure or Exposure(settings)
    async with _backend(settings, exposure) as backend, _listening(settings, backend, hurry or asyncio.Event(), exposure) as listening:
        yield listening


@contextlib.asynccontextmanager
async def _backend(settings: Settings, exposure: Exposure) -> AsyncIterator[Backend]:
    """What the settings ask for: in memory, on a file, or one of many servers on a store."""
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
async def _listening(settings: Settings, backend: Backend, hurry: asyncio.Event, exposure: Exposure) -> AsyncIterator[tuple[App, int]]:
    pool = _pool(settings, backend)
    mounts = Mounts(dict(settings.mounts))
    app = build_app(backend, settings.limits, access=exposure.access, body_seconds=settings.body_seconds, mounts=mounts)
    app.observers = _observers(settings)
    if pool is not None:
        app.site.pool = partial(msgspec.structs.asdict, pool.counts)
    server = app.server(
        http=await proven(settings.http),
        connections_max=connection_cap(settings.limits.connections_max),
        idle_seconds=settings.idle_seconds,
        write_seconds=settings.write_seconds,
    )
    handshake, shutdown = (HANDSHAKE_SECONDS, SHUTDOWN_SECONDS) if exposure.tls else (None, None)
    try:
        listener = await asyncio.get_running_loop().create_server(
            server,
            **_address(settings.host, settings.port),
            backlog=ACCEPTS_PER_TURN,
            ssl=exposure.tls,
            ssl_handshake_timeout=handshake,
            ssl_shutdown_timeout=shutdown,
        )
    except OSError as error:
        peers = " (--peer-port is the same)" if settings.store is not None and settings.port == settings.peer_port else ""
        raise CannotListenError(f"cannot listen on {settings.host}:{settings.port}{peers}: {error.strerror or error}") from error
    _listen(listener)
    lag = LagMeter(app.site.lag)
    app.site.log_lines_dropped = logs.dropped
    try:
        if pool is not None:
            await pool.start()
        yield app, listener.sockets[0].getsockname()[1]
    finally:
        lag.close()
        listener.close()
        stopping = [drain(app, server, settings.drain_seconds, hurry)]
        if pool is not None:
            # At the same time: those who wait for a result are answered when draining begins, and both have the same seconds.
            stopping.append(pool.stop(settings.drain_seconds, hurry))
        await asyncio.gather(*stopping)


def _observers(settings: Settings) -> tuple[Observer, ...]:
    """Who is told of every request. Raises CannotTrace."""
    observers: list[Observer] = []
    if settings.access_log != "off":
        observers.append(AccessLog(settings.access_log_every if settings.access_log == "sampled" else 1))
    if settings.trace:
        observers.append(spans())
    return tuple(observers)


def _pool(settings: Settings, backend: Backend) -> Worker | None:
    """The workers inside the server, not started. Raises HandlersError."""
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
    """Answer every held request, let those in flight finish within `seconds`, or until `hurry` is set, and close every connection."""
    # A request whose bytes are here but not read yet is better answered than cut off.
    await asyncio.sleep(0)
    _logger.info("shutting down: %d connections open", len(server.open))
    app.drain()
    ended = asyncio.ensure_future(server.drained())
    hurried = asyncio.ensure_future(hurry.wait())
    await asyncio.wait({ended, hurried}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    server.abort()
    await ended
    hurried.cancel()


async def _serve(settings: Settings) -> int:
    with Signals(settings.drain_seconds, "requests in flight") as signals:
        return await _serve_until(settings, signals.stop, signals.hurry)


async def _serve_until(settings: Settings, stop: asyncio.Event, hurry: asyncio.Event) -> int:
    loop = asyncio.get_running_loop()
    try:
        exposure = Exposure(settings)
        loop.add_signal_handler(signal.SIGHUP, exposure.reload)
        async with running(settings, hurry, exposure) as (app, port):
            host = f"[{settings.host}]" if ":" in settings.host else settings.host
            print(f"jobqueue serves {'https' if exposure.tls else 'http'}://{host}:{port}", flush=True)
            # What exists now lives as long as the process: the collector need not look at it again.
            gc.collect()
            gc.freeze()
            # Jobs are not the collector's business, and requests leave no cycles: what it would find is not worth stopping for often.
            gc.set_threshold(*GC_THRESHOLDS)
            broken = await stopped(stop, app.site.backend)
    except (CannotExpose, CannotOpen, CannotListenError, CannotServeFast, CannotTrace, HandlersError) as error:
        logs.say(f"jobqueue: {error}")
        return 1
    if broken is not None:
        logs.say(f"jobqueue: stopped, because the storage failed: {broken}")
        return STORAGE_FAILED
    return 1 if hurry.is_set() else 0


def run(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT; the process's exit code."""
    logs.set_up(settings.log_level, settings.log_format)
    if parser_is_weak():
        logs.say("jobqueue: aiohttp runs on its pure-Python HTTP parser, whose checks are weaker; unset AIOHTTP_NO_EXTENSIONS")
        return 1
    loops: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    with contextlib.suppress(ImportError):  # Windows and PyPy have none
        from uvloop import new_event_loop as loops
    code = run_through(_serve(settings), loops)
    shutdown.end_without(shutdown.lasting_threads(), code)
    return code
