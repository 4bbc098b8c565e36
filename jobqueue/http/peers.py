"""The client's end of a connection: counted, timed, and checked for whether the client still reads and is still connected.

This is the part below HTTP, the same for every connection. `serving.py` adds the one request being served, `connections.py` the data that
arrives.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sized
from typing import Any, Protocol, cast

from jobqueue.http.addresses import Addresses, address_of
from jobqueue.http.request import ClientGone

OVER_MAX = 8
"""Connections accepted beyond the limit, for health checks."""

OVER_SECONDS = 2.0
"""How long one of those can stay."""

BEHIND, BODY = 1, 2
"""Why a connection is not read from: too much data is behind the request being served, or its body arrives faster than it is read."""


class Counts(Protocol):
    """The part of a server that is used here; all its connections share it: see `server.Server`."""

    connections_max: int
    idle_seconds: float
    request_seconds: float
    requests_count: int
    unread_bytes: int
    unread_bytes_max: int
    unsent_bytes: int
    unsent_bytes_max: int
    write_seconds: float

    @property
    def addresses(self) -> Addresses:
        """Open connections by address."""

    @property
    def open(self) -> Sized:
        """The server's connections."""

    def made(self, peer: Any) -> None:
        """Count a connection."""

    def lost(self, peer: Any) -> None:
        """Remove a connection from the count."""

    def unsent(self, peer: Any, count: int) -> None:
        """Count bytes of an answer that the kernel did not take."""

    def sent(self, peer: Any, count: int) -> None:
        """Stop counting them: all are sent, or never will be."""

    def hung_up(self, fd: int) -> bool:
        """Whether a FIN or RST has arrived on a descriptor."""

    def unacknowledged(self, fd: int) -> bool:
        """Whether the client's kernel has not yet acknowledged all that was written to a descriptor."""


class Peer(asyncio.Protocol):
    """One client's connection, below HTTP."""

    __slots__ = (
        "_closing",
        "_drain_waiter",
        "_expires",
        "_fd",
        "_loop",
        "_paused",
        "_timer",
        "_unsent",
        "address",
        "deadline",
        "handed",
        "over",
        "secure",
        "server",
        "transport",
        "writing_paused",
    )

    server: Counts

    def __init__(self, server: Counts, loop: asyncio.AbstractEventLoop) -> None:
        self.server = server
        self.transport: asyncio.Transport | None = None
        self.address = ""
        self.over = ""
        """Why the connection is over the limit, if it is."""
        self.secure = False
        self.writing_paused = False
        self.deadline = 0.0
        """When the arriving request must have fully arrived, by the loop's clock; 0 if no request has begun."""
        self.handed: Callable[[], object] | None = None
        """What to call if the last answer turns out not to have reached the client, because the client had closed before. Code that starts
        another request of this connection, or refuses one, must set it to None: unacknowledged bytes are then not from that answer."""
        self._loop = loop
        self._fd = -1
        self._closing = False
        """No more requests are served."""
        self._paused = 0
        """Why it is not read from: BEHIND, BODY, both or 0."""
        self._expires = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._drain_waiter: asyncio.Future[None] | None = None
        self._unsent = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection, and refuse it if there are far too many."""
        server = self.server
        sock = transport.get_extra_info("socket")
        self._fd = -1 if sock is None else sock.fileno()
        # Not an isinstance check: uvloop's transports are not subclasses of asyncio's.
        transport = self.transport = cast(asyncio.Transport, transport)
        self.address = address_of(transport.get_extra_info("peername"))
        self.secure = transport.get_extra_info("sslcontext") is not None
        # With a limit of 0, a write is attempted at once, and "paused" means "not all sent": see answers.py. TLS transports pause when they
        # reach their limit, not above it: with 0 they would pause with nothing to send, and would never resume.
        transport.set_write_buffer_limits(high=1 if self.secure else 0)
        excess, of_one = len(server.open) - server.connections_max, server.addresses.excess(self.address)
        server.made(self)
        if max(excess, of_one) >= OVER_MAX:
            transport.abort()
            return
        if excess >= 0 or of_one >= 0:
            self.over = f"{'the server' if excess >= 0 else 'this address'} has reached its limit of connections"
            self._loop.call_later(OVER_SECONDS, self._cut)
        self._expire_in(server.idle_seconds)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Remove the connection from the count."""
        self.transport = None
        self._fd = -1
        self._stop_timer()
        self._sent()
        if self._drain_waiter is not None and not self._drain_waiter.done():
            self._drain_waiter.set_result(None)
        self.server.lost(self)

    def eof_received(self) -> None:
        """The client has closed. The transport closes after this.

        Like any segment, a FIN shows how much its sender had received. If that is not all of an answer that handed out something, the
        client closed before the answer arrived: the two crossed on the way. Anything that the client sends after reading an answer shows
        that it has the answer.
        """
        handed, self.handed = self.handed, None
        if handed is not None and self._fd >= 0 and self.server.unacknowledged(self._fd):
            handed()

    def pause_writing(self) -> None:
        """The kernel has not taken everything."""
        self.writing_paused = True
        if self.transport is not None:
            self._unsent = self.transport.get_write_buffer_size()
            self.server.unsent(self, self._unsent)

    def resume_writing(self) -> None:
        """The kernel has taken everything."""
        self._sent()
        if self._drain_waiter is not None and not self._drain_waiter.done():
            self._drain_waiter.set_result(None)

    def pause_reading(self, why: int) -> None:
        """Stop reading, for a reason `why`, until that reason is gone."""
        if not self._paused and self.transport is not None:
            self.transport.pause_reading()
        self._paused |= why

    def resume_reading(self, why: int) -> None:
        """Remove a reason to stop reading; the other may remain."""
        if self._paused & why:
            self._paused &= ~why
            if not self._paused and self.transport is not None and not self.transport.is_closing():
                self.transport.resume_reading()

    @property
    def unsent_bytes(self) -> int:
        """Bytes of its answer that the kernel had not taken when last checked."""
        return self._unsent

    @property
    def request_seconds(self) -> float:
        """How long a request can take to arrive, from its first byte."""
        return self.server.request_seconds

    def has_hung_up(self) -> bool:
        """Whether the client's FIN or RST has arrived, even if the loop has not read it yet.

        This checks the socket, which takes 2 µs. It covers the time between the loop's last poll of the network and a hand-out, which is as
        long as everything else that the loop does in the same turn. A half-closed connection counts as closed. Only Linux reports a FIN
        behind unread requests; on other systems the write and the lease must suffice.
        """
        if self.transport is None or self.transport.is_closing():
            return True
        return self._fd >= 0 and self.server.hung_up(self._fd)

    async def drained(self) -> None:
        """Wait until the kernel has taken all that was written; cut off a client that does not read. Raises ClientGone."""
        if self.transport is not None and self.writing_paused:
            # Not asyncio.timeout, which needs a task: this can run outside one.
            timer = self._loop.call_later(self.server.write_seconds, self._cut_unread)
            waiter = self._drain_waiter = self._loop.create_future()
            try:
                await waiter
            finally:
                timer.cancel()
                self._drain_waiter = None
        if self.transport is None:
            raise ClientGone("the client did not read its answer, or has gone")

    def _sent(self) -> None:
        """Everything has been sent."""
        self.writing_paused = False
        self.server.sent(self, self._unsent)
        self._unsent = 0

    def force_close(self) -> None:
        """Serve no more requests and close."""
        self._closing = True
        if self.transport is not None:
            self.transport.close()

    def _cut(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def _cut_unread(self) -> None:
        # If the process was stopped for a while, the loop learns in this same turn, before this call, what the client has read. Cutting the
        # connection earlier would take away what the client has.
        if self.writing_paused:
            self._cut()

    # Time.

    def _expire_in(self, seconds: float) -> None:
        self._expire_at(self._loop.time() + seconds)

    def _expire_at(self, when: float) -> None:
        """Have `_on_timer` called at `when`. A timer that is set for an earlier time sets itself again, so a busy connection sets no
        timer.
        """
        self._expires = when
        if self._timer is None or self._timer.when() > when:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_at(when, self._on_timer)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timer(self) -> None:
        self._timer = None
        if self.transport is None or self._is_busy():
            return
        # uvloop's timers can fire slightly early.
        if self._loop.time() < self._expires - 0.001:
            self._timer = self._loop.call_at(self._expires, self._on_timer)
        elif self._closing:
            self.transport.abort()
        else:
            self._expired()

    def _is_busy(self) -> bool:
        """Whether the connection is waiting for something that has its own time limit; the timer is set again afterwards."""
        return False

    def _expired(self) -> None:
        """Handle the end of the time allowed."""
        self.force_close()
