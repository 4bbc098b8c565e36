"""One connection to a Valkey server: greeting, packets and their replies, and the meaning of errors. hiredis parses and packs."""

from __future__ import annotations

import asyncio
import binascii
import ssl
from collections import deque
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import hiredis

from jobqueue.backend.group import NotNow

Command = tuple[str | int | bytes, ...]
Done = Callable[["list[Any] | NotNow"], object]

SLOTS = 16_384


class Patience(NamedTuple):
    """Deadlines, in seconds. connect: TCP, TLS and greeting; call: the answer to a small command; settle: how long to collect views of the
    topology after the first node has answered; look: how long a commit can take before its server is checked, and how often it is checked
    then; commit: the answer to a group.
    """

    connect: float = 1.0
    call: float = 2.0
    settle: float = 0.3
    look: float = 0.5
    commit: float = 10.0


class Lost(NotNow):
    """The connection broke, or an answer did not come in time: the commands may have been carried out."""


class Refused(NotNow):
    """The server replied that it did not carry out the command."""


class Denied(Refused):
    """Waiting does not help: the server does not know the user or password, the user lacks the right, or the server is too old for the
    command.
    """


class Place(NamedTuple):
    """The address at which a server listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


Acknowledge = Literal[0, 1, 2, "aof"]


class Login(NamedTuple):
    """The login of a connection. user None: the server's default user; password None: no password is sent."""

    user: str | None = None
    password: str | None = None
    tls: ssl.SSLContext | None = None

    def __repr__(self) -> str:
        return f"<Login of {self.user or 'the default user'}>"

    def hidden(self, text: str) -> str:
        """A text without the password."""
        return text.replace(self.password, "***") if self.password else text

    @property
    def hello(self) -> Command:
        """The greeting."""
        if self.password is None:
            return ("HELLO", 3, "SETNAME", "jobqueue")
        return ("HELLO", 3, "AUTH", self.user or "default", self.password, "SETNAME", "jobqueue")


def pack(*commands: Command) -> bytes:
    """Encode commands."""
    return b"".join(map(hiredis.pack_command, commands))  # type: ignore[arg-type]


class Wait:
    """What is required of replicas. acknowledge: see ValkeyStore; seconds: the deadline of the whole command, of which the replicas get
    half.
    """

    def __init__(self, acknowledge: Acknowledge, seconds: float) -> None:
        if acknowledge not in (0, 1, 2, "aof"):
            raise ValueError(f"acknowledge is 0, 1, 2 or 'aof', not {acknowledge!r}")
        self.aof = acknowledge == "aof"
        # Replicas get half of the deadline: the server checks every tenth of a second, and its answer takes time to arrive. Disks get more:
        # with `appendfsync everysec` a change is on them a second or two later.
        self.deadline = seconds * 4 if self.aof else seconds
        milliseconds = int(self.deadline * 500)
        self.replicas = 1 if acknowledge == "aof" else acknowledge
        self.command: Command | None = None
        if self.aof:
            self.command = ("WAITAOF", 1, self.replicas, milliseconds)
        elif self.replicas:
            self.command = ("WAIT", self.replicas, milliseconds)
        self.packed = b"" if self.command is None else pack(self.command)

    def missing(self, reply: Any) -> str | None:
        """What the reply shows to be missing; None if enough replicas have the change."""
        if isinstance(reply, hiredis.ReplyError):
            return str(reply)
        local, replicas = reply if self.aof else (1, reply)
        if local and replicas >= self.replicas:
            return None
        where = " on its disk" if self.aof else ""
        return f"{replicas} of {self.replicas} replicas have it{where}" if local else "the primary does not have it on its disk"


def slot_of(key: str) -> int:
    """The slot of a key, by its part in braces if it has one."""
    start = key.find("{")
    if start >= 0:
        end = key.find("}", start + 1)
        if end > start + 1:
            key = key[start + 1 : end]
    return binascii.crc_hqx(key.encode(), 0) % SLOTS


def code_of(reply: object) -> str:
    """The first word of an error; "" for any other reply."""
    return str(reply).partition(" ")[0] if isinstance(reply, hiredis.ReplyError) else ""


ELSEWHERE = frozenset({"MOVED", "READONLY"})
_DENIED = frozenset({"NOAUTH", "NOPERM", "WRONGPASS"})
_LATER = frozenset({"ASK", "TRYAGAIN", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "NOREPLICAS", "OOM", "BUSY", "MISCONF"})
_MIGRATED = "the slot is being migrated key by key, during which it cannot be written; migrate it atomically, or with all servers stopped"
_HINTS = {
    "ASK": _MIGRATED,
    "TRYAGAIN": _MIGRATED,
    "NOREPLICAS": "fewer replicas than min-replicas-to-write are connected",
    "OOM": "maxmemory is reached",
}


def refusal(place: Place, reply: object) -> Refused | None:
    """The meaning of an error reply that says that nothing was done; None for every other reply."""
    code = code_of(reply)
    if code in _DENIED:
        return Denied(f"{place}: {reply}")
    if code == "ERR" and "access a non local key" in str(reply):
        # The error that a function gets in place of ASK and TRYAGAIN, for keys that it names itself.
        return Refused(f"{place}: {_MIGRATED}")
    if code in _LATER or code in ELSEWHERE:
        return Refused(f"{place}: {_HINTS.get(code, reply)}")
    return None


_MORE = object()


class _Exchange:
    """The commands of one packet, and the replies so far."""

    __slots__ = ("count", "done", "replies")

    def __init__(self, count: int, done: Done) -> None:
        self.count = count
        self.done = done
        self.replies: list[Any] = []


class Connection(asyncio.Protocol):
    """One connection. Replies come in the order of the commands. Each packet's `done` is called once, with its replies or with Lost."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.lost: Lost | None = None
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(notEnoughData=_MORE)
        self._waiting: deque[_Exchange] = deque()
        self._transport: asyncio.Transport | None = None

    def __repr__(self) -> str:
        return f"<Connection to {self.place}: {self.lost or f'{len(self._waiting)} under way'}>"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = transport  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._end(f"{self.place}: the connection was closed{f': {exc}' if exc else ''}")

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        reader, waiting = self._reader, self._waiting
        try:
            reader.feed(data)
            while (reply := reader.gets()) is not _MORE:
                if isinstance(reply, hiredis.PushNotification):
                    continue
                if not waiting:
                    self.abort("an answer to nothing")
                    return
                exchange = waiting[0]
                exchange.replies.append(reply)
                if len(exchange.replies) == exchange.count:
                    waiting.popleft()
                    exchange.done(exchange.replies)
        except hiredis.ProtocolError as error:
            self.abort(f"does not speak this protocol: {error}")

    def send(self, packet: bytes, count: int, done: Done) -> None:
        """Send `count` packed commands. done: called with their replies, or with Lost; never before this returns."""
        if self.lost is not None or self._transport is None:
            self._loop.call_soon(done, self.lost or Lost(f"{self.place}: not connected"))
            return
        self._waiting.append(_Exchange(count, done))
        self._transport.write(packet)

    async def call(self, *commands: Command, seconds: float) -> list[Any]:
        """Send commands in one packet. Returns their replies, including errors. Raises Lost; when the deadline passes, the connection is
        closed.
        """
        return await self.exchange(pack(*commands), len(commands), seconds)

    async def exchange(self, packet: bytes, count: int, seconds: float) -> list[Any]:
        """Like `call`, for `count` packed commands."""
        future: asyncio.Future[list[Any]] = self._loop.create_future()

        # The deadline belongs to the packet, not to the caller: a server that does not answer is detected even if the caller has gone.
        timer = self._loop.call_later(seconds, self.abort, f"no answer in {seconds:g} s")

        def done(result: list[Any] | NotNow) -> None:
            timer.cancel()
            if future.done():
                return
            if isinstance(result, NotNow):
                future.set_exception(result)
            else:
                future.set_result(result)

        self.send(packet, count, done)
        return await future

    def abort(self, reason: str) -> None:
        """Close the connection now; all waiting callers get the reason. Never called within `send`."""
        if self._transport is not None:
            self._transport.abort()
        self._end(f"{self.place}: {reason}")

    def _end(self, reason: str) -> None:
        if self.lost is None:
            self.lost = Lost(reason)
        while self._waiting:
            # A separate exception for each: one that several tasks raise collects all their tracebacks.
            self._waiting.popleft().done(Lost(str(self.lost)))


async def connect(place: Place, login: Login, seconds: float) -> Connection:
    """Connect and greet. Raises Lost, Denied."""
    connection: Connection | None = None
    name = None if login.tls is None else place.host
    try:
        async with asyncio.timeout(seconds):
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: Connection(place), place.host, place.port, ssl=login.tls, server_hostname=name
            )
            (reply,) = await connection.call(login.hello, seconds=seconds)
    except TimeoutError:
        if connection is not None:
            connection.abort("does not answer")
        raise Lost(f"{place}: does not answer in {seconds:g} s") from None
    except OSError as error:
        raise Lost(f"{place}: cannot connect: {error.strerror or error}") from None
    except BaseException:
        if connection is not None:
            connection.abort("given up")
        raise
    if isinstance(reply, hiredis.ReplyError):
        connection.abort("refused the greeting")
        # An old server repeats the whole command in its error message.
        if "unknown command" in str(reply):
            raise Denied(f"{place}: does not know HELLO, so it is older than Redis 6")
        raise (Denied if code_of(reply) in _DENIED else Refused)(login.hidden(f"{place}: {reply}"))
    return connection


def text_of(reply: object) -> str:
    """A text reply, including verbatim ones."""
    if isinstance(reply, tuple):
        reply = reply[-1]
    return reply.decode(errors="replace") if isinstance(reply, bytes) else str(reply)


def info_of(reply: object) -> dict[str, str]:
    """The lines `name:value` of INFO or CLUSTER INFO."""
    return dict(line.split(":", 1) for line in text_of(reply).splitlines() if ":" in line)
