"""Connections: how many there may be, how they end, and what aiohttp's parser answers to what is not HTTP.

Over the cap, a few more connections are accepted and answered 429 on everything but the public routes, so that a health check still
gets through a full server; beyond those, connections are cut at once. The server never runs out of file descriptors, which would make
the accept loop spin.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, cast

from aiohttp import web

from jobqueue.errors import BadRequest
from jobqueue.web.problems import problem

OVER_MAX = 8
"""Connections accepted beyond the cap, for health checks."""

OVER_SECONDS = 2.0
"""How long one of those may stay."""

_logger = logging.getLogger("jobqueue.web")


class Connection(web.RequestHandler):
    """One client's connection."""

    __slots__ = ("_over_timer", "over", "write_seconds")

    def __init__(self, manager: Server, *, write_seconds: float, **kwargs: Any) -> None:
        super().__init__(manager, **kwargs)
        self.write_seconds = write_seconds
        self.over = False
        self._over_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection, and refuse it when there are far too many."""
        server = self._manager
        assert isinstance(server, Server)
        # Not an isinstance check: uvloop's transports are no subclasses of asyncio's.
        transport = cast(asyncio.Transport, transport)
        excess = len(server.open) - server.connections_max
        # At 0 a write is attempted at once and "paused" means "not all sent": see answers.py.
        transport.set_write_buffer_limits(high=0)
        super().connection_made(transport)
        server.open.add(self)
        if excess >= OVER_MAX:
            transport.abort()
        elif excess >= 0:
            self.over = True
            self._over_timer = self._loop.call_later(OVER_SECONDS, transport.abort)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget the connection; a held handler is cancelled by aiohttp."""
        if isinstance(self._manager, Server):
            self._manager.open.discard(self)
        if self._over_timer is not None:
            self._over_timer.cancel()
        super().connection_lost(exc)

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Answer what the parser refused, and close: whatever follows cannot be trusted to be a request. One log line, no traceback."""
        reason = " ".join((message or str(exc) or "the request cannot be read").split())[:200]
        _logger.info("refused a request that is not HTTP: %r", reason)
        return problem(BadRequest(None, f"not a valid HTTP request: {reason}"), close=True)


class Server(web.Server):
    """Makes a Connection of every accepted socket."""

    def __init__(self, handler: Any, *, connections_max: int, idle_seconds: float, write_seconds: float) -> None:
        super().__init__(handler, handler_cancellation=True)
        self.connections_max = connections_max
        self.open: set[Connection] = set()
        self._options: dict[str, Any] = {
            "access_log": None,
            "auto_decompress": False,
            "keepalive_timeout": idle_seconds,
            "lingering_time": 2.0,
            "write_seconds": write_seconds,
        }

    def __call__(self) -> web.RequestHandler:
        """A connection's protocol, for loop.create_server."""
        return Connection(self, loop=self._loop, **self._options)
