"""One request, and what it and its answer need from its connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sized
from typing import Any, Protocol

import msgspec

from jobqueue.http.heads import Head


class ClientGone(ConnectionError):
    """The client hung up, or was cut off because it did not read its answer. Any other ConnectionError does not mean this."""


class Body(Protocol):
    """A request's content as it arrives."""

    def is_eof(self) -> bool:
        """Whether all of it has arrived, read or not."""

    def read_nowait(self) -> bytes:
        """The data that has arrived and was not read yet."""

    async def readany(self) -> bytes:
        """The data that has arrived and was not read yet, at least one byte; b"" at the end. Raises BodyBroken, ClientGone."""

    def broke(self) -> None:
        """Its framing is wrong: its reader must get an error."""


class BodyBroken(Exception):
    """The body's framing is wrong: its end cannot be found."""


class NoBody:
    """The body of a request that has none."""

    def is_eof(self) -> bool:
        """True."""
        return True

    def read_nowait(self) -> bytes:
        """Nothing."""
        return b""

    async def readany(self) -> bytes:
        """Nothing."""
        return b""

    def broke(self) -> None:
        """Does nothing: it cannot break."""


NO_BODY = NoBody()


class Accepting(Protocol):
    """The server that accepted a connection."""

    connections_max: int
    unread_bytes: int
    unread_bytes_max: int
    unsent_bytes: int
    unsent_bytes_max: int

    @property
    def open(self) -> Sized:
        """The server's connections."""


class Connection(Protocol):
    """The parts of a connection that requests, answers and handlers use.

    address: the address that it is counted under; over: why it is over the limit, if it is; secure: whether it uses TLS; deadline: when the
    request being served must have fully arrived, by the loop's clock; request_seconds: how long that is from its first byte; handed: what
    to call if the answer just delivered turns out not to have reached the client (`peers.py`).
    """

    address: str
    over: str
    secure: bool
    deadline: float
    handed: Callable[[], object] | None
    transport: asyncio.Transport | None
    writing_paused: bool

    @property
    def request_seconds(self) -> float:
        """How long a request can take to arrive."""

    @property
    def server(self) -> Accepting:
        """The server that accepted it."""

    def has_hung_up(self) -> bool:
        """Whether the client is known to have gone."""

    def force_close(self) -> None:
        """Serve nothing more and close."""

    async def drained(self) -> None:
        """Wait until the kernel has all that was written. Raises ClientGone."""


class Request(msgspec.Struct, eq=False):
    """One request. head: its first line and headers; connection: where it came from.

    whole: its content, if all of it arrived before the request was started; otherwise `body` has it, as it arrives. who: the name of its
    token, once known. id: X-Request-ID, if it is in use (observing.py); trace: its traceparent header, kept for observers. notes: header
    lines for its answer, whatever makes that answer. queues: those that it waits for, if it waits for some (`api/access/holds.py`);
    answering: its answer is being sent, so it is too late to refuse it; revoked: it was admitted, and has been refused since. spoken: what
    a dialect recorded about it before its route was known (`Route.actions`), for its answer.
    """

    head: Head
    connection: Connection
    whole: bytes | None = None
    body: Body = NO_BODY
    who: str = ""
    id: str = ""
    trace: str | None = None
    notes: bytes = b""
    queues: tuple[str, ...] | None = None
    answering: bool = False
    spoken: Any = None
    revoked: bool = False

    def __repr__(self) -> str:
        return f"<Request {self.head.method} {self.head.path!r} from {self.connection.address or 'nowhere'}>"
