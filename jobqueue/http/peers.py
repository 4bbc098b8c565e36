"""A client's end of a connection: counted, timed, and watched for whether it still reads and still is there.

What comes before any HTTP, and is the same for every connection. `serving.py` adds the one request being served, `connections.py` what
arrives.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sized
from typing import Any, Protocol, cast

from jobqueue.http.addresses import Addresses, address_of
from jobqueue.http.request import ClientGone

OVER_MAX = 8
"""Connections accepted beyond the cap, for health checks."""

OVER_SECONDS = 2.0
"""How long one of those may stay."""

BEHIND, BODY = 1, 2
"""Why a connection is not read from: too much has come behind the request being served, or its body comes faster than it is read."""


class Counts(Protocol):
    """What all connections of a server share, as far as this goes: see `server.Server`."""

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
        """Its connections."""

    def made(self, peer: Any) -> None:
        """Count a connection."""

    def lost(self, peer: Any) -> None:
        """Forget a connection."""

    def unsent(self, peer: Any, count: int) -> None:
        """Count what the kernel did not take of an answer."""

    def sent(self, peer: Any, count: int) -> None:
        """All of it is sent, or never will be."""

    def hung_up(self, fd: int) -> bool:
        """Whether a FIN or RST has arrived on a descriptor."""


class Peer(asyncio.Protocol):
    """One client's connection, before any HTTP."""

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
        """Why it is one too many, if it is."""
        self.secure = False
        self.writing_paused = False
        self.deadline = 0.0
        """When the request that is arriving must have arrived whole, by the loop's clock; 0 where none has begun to."""
        self._loop = loop
        self._fd = -1
        self._closing = False
        """Nothing more is served."""
        self._paused = 0
        """Why it is not read from: BEHIND, BODY, both or nothing."""
        self._expires = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._drain_waiter: asyncio.Future[None] | None = None
        self._unsent = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection, and refuse it when there are far too many."""
        server = self.server
        sock = transport.get_extra_info("socket")
        self._fd = -1 if sock is None else sock.fileno()
        # Not an isinstance check: uvloop's transports are no subclasses of asyncio's.
        transport = self.transport = cast(asyncio.Transport, transport)
        self.address = address_of(transport.get_extra_info("peername"))
        self.secure = transport.get_extra_info("sslcontext") is not None
        # At 0 a write is attempted at once and "paused" means "not all sent": see answers.py. TLS transports pause from their limit on,
        # not above it: at 0 they would pause with nothing to send, and nothing sent would ever resume them.
        transport.set_write_buffer_limits(high=1 if self.secure else 0)
        excess, of_one = len(server.open) - server.connections_max, server.addresses.excess(self.address)
        server.made(self)
        if max(excess, of_one) >= OVER_MAX:
            transport.abort()
            return
        if excess >= 0 or of_one >= 0:
            self.over = f"{'the server' if excess >= 0 else 'this address'} has as many connections as it may"
            self._loop.call_later(OVER_SECONDS, self._cut)
        self._expire_in(server.idle_seconds)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget the connection."""
        self.transport = None
        self._fd = -1
        self._stop_timer()
        self._sent()
        if self._drain_waiter is not None and not self._drain_waiter.done():
            self._drain_waiter.set_result(None)
        self.server.lost(self)

    def pause_writing(self) -> None:
        """The kernel has not taken everything."""
        self.writing_paused = True
        if self.transport is not None:
            self._unsent = self.transport.get_write_buffer_size()
            self.server.unsent(self, self._unsent)

    def resume_writing(self) -> None:
        """It has now."""
        self._sent()
        if self._drain_waiter is not None and not self._drain_waiter.done():
            self._drain_waiter.set_result(None)

    def pause_reading(self, why: int) -> None:
        """Read no further for a reason, until that is gone."""
        if not self._paused and self.transport is not None:
            self.transport.pause_reading()
        self._paused |= why

    def resume_reading(self, why: int) -> None:
        """A reason to read no further is gone; the other may not be."""
        if self._paused & why:
            self._paused &= ~why
            if not self._paused and self.transport is not None and not self.transport.is_closing():
                self.transport.resume_reading()

    @property
    def unsent_bytes(self) -> int:
        """What the kernel had not taken of its answer when last looked at."""
        return self._unsent

    @property
    def request_seconds(self) -> float:
        """How long a request may take to arrive, from its first byte."""
        return self.server.request_seconds

    def has_hung_up(self) -> bool:
        """Whether the client's FIN or RST has arrived, even if the loop has not come to read it yet.

        A look at the socket, 2 µs: it closes the window between the loop's last look at the network and a hand-out, which is as long as
        everything else that the loop does in the same turn. A half-closed connection counts as hung up. Only Linux tells of a FIN behind
        unread requests; elsewhere the write and the lease have to do.
        """
        if self.transport is None or self.transport.is_closing():
            return True
        return self._fd >= 0 and self.server.hung_up(self._fd)

    async def drained(self) -> None:
        """Wait until the kernel has all that was written; cut off a client that does not read. Raises ClientGone."""
        if self.transport is not None and self.writing_paused:
            # Not asyncio.timeout, which needs a task: this may run outside one.
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
        """Nothing is unsent any more."""
        self.writing_paused = False
        self.server.sent(self, self._unsent)
        self._unsent = 0

    def force_close(self) -> None:
        """Serve nothing more and close."""
        self._closing = True
        if self.transport is not None:
            self.transport.close()

    def _cut(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def _cut_unread(self) -> None:
        # After the process stood still, what the client has read is noticed in the same turn in which this is due, and before it. To cut
        # then would be to take back what it has.
        if self.writing_paused:
            self._cut()

    # Time.

    def _expire_in(self, seconds: float) -> None:
        self._expire_at(self._loop.time() + seconds)

    def _expire_at(self, when: float) -> None:
        """Have `_on_timer` called then. A timer that is set for earlier finds out by itself, so a busy connection sets none."""
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
        # uvloop's timers may be a little early.
        if self._loop.time() < self._expires - 0.001:
            self._timer = self._loop.call_at(self._expires, self._on_timer)
        elif self._closing:
            self.transport.abort()
        else:
            self._expired()

    def _is_busy(self) -> bool:
        """Whether it may take as long as what it waits for; the timer is set again afterwards."""
        return False

    def _expired(self) -> None:
        """Its time is over."""
        self.force_close()
