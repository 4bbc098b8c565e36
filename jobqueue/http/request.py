"""One request, and what it and its answer need of the connection it came on."""

from __future__ import annotations

import asyncio
from collections.abc import Sized
from typing import Protocol

from jobqueue.http.heads import Head


class ClientGone(ConnectionError):
    """The client hung up, or was cut off because it did not read its answer. Nobody else's ConnectionError means that."""


class Body(Protocol):
    """A request's content as it arrives."""

    def is_eof(self) -> bool:
        """Whether all of it has arrived, read or not."""

    def read_nowait(self) -> bytes:
        """What has arrived and was not read."""

    async def readany(self) -> bytes:
        """What has arrived and was not read, at least a byte; b"" at the end. Raises BodyBroken, ClientGone."""

    def broke(self) -> None:
        """Its framing is wrong: whoever reads it is to be told."""


class BodyBroken(Exception):
    """The body's framing is wrong: it cannot be told where it ends."""


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
        """It cannot."""


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
        """Its connections."""


class Connection(Protocol):
    """What requests, answers and handlers use of a connection.

    address: whom it is counted under; over: why it is one too many, if it is; secure: whether it is TLS; deadline: when the request being
    served must have arrived whole, by the loop's clock; request_seconds: how long that is from its first byte.
    """

    address: str
    over: str
    secure: bool
    deadline: float
    transport: asyncio.Transport | None
    writing_paused: bool

    @property
    def request_seconds(self) -> float:
        """How long a request may take to arrive."""

    @property
    def server(self) -> Accepting:
        """Who accepted it."""

    def has_hung_up(self) -> bool:
        """Whether the client is known to have gone."""

    def force_close(self) -> None:
        """Serve nothing more and close."""

    async def drained(self) -> None:
        """Wait until the kernel has all that was written. Raises ClientGone."""


class Request:
    """One request. head: its first line and headers; connection: where it came from.

    whole: its content, where all of it came before it was begun; else body has it, as it arrives.
    """

    __slots__ = ("answering", "body", "connection", "head", "id", "notes", "queues", "revoked", "trace", "who", "whole")

    def __init__(self, head: Head, connection: Connection, whole: bytes | None = None, body: Body = NO_BODY) -> None:
        self.head = head
        self.connection = connection
        self.whole = whole
        self.body = body
        self.who = ""
        """The name of the token it carries, once that is known."""
        self.id = ""
        """X-Request-ID, where someone asked for one (observing.py)."""
        self.trace: str | None = None
        """Its traceparent header, kept for observers."""
        self.notes = b""
        """Header lines for its answer, whoever makes that."""
        self.queues: tuple[str, ...] | None = None
        """Those that it waits for, where it waits for some (`api/access/holds.py`)."""
        self.answering = False
        """Its answer is on its way: it is too late to refuse it."""
        self.revoked = False
        """It was let in, and is refused since."""

    def __repr__(self) -> str:
        return f"<Request {self.head.method} {self.head.path!r} from {self.connection.address or 'nowhere'}>"
