"""One connection to PostgreSQL: one statement at a time, a deadline on each, and what its errors mean to us.

A server that is stopped accepts connections and does not answer, and so does one behind a network that drops packets. So each connect and
each statement ends at its deadline, on this side too: `statement_timeout` makes the server give up, and one second later this side gives
up, whatever the server does. psycopg would then ask the server to cancel, over another connection, and wait for both for up to ten seconds.
Shutting the socket down is certain to work: nothing waits on it any more.

A statement whose connection broke may have been carried out. It is never sent again from here; the next statement begins with a new
connection. If the server has closed an idle connection, this is detected before anything is sent on it, so that a restart of the server
causes no failure.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import socket
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.errors import Diagnostic
from psycopg.pq import TransactionStatus
from psycopg.types.numeric import Int8BinaryDumper

from jobqueue.backend.group import Fatal, NotNow
from jobqueue.backend.loading import CannotOpen
from jobqueue.backend.store.postgres_schema import FENCED
from jobqueue.backend.store.store import Fenced

CONNECT_SECONDS = 2
"""For each host of the URL, unless it has a longer connect_timeout. psycopg does not accept less."""

_MORE_ADDRESSES = 2
"""How many more addresses than hosts are tried."""

GRACE_SECONDS = 1.0
"""How much longer than the server this side waits for the end of a statement."""

_LET_GO_SECONDS = 1.0
"""How long a statement can take to end after its socket was shut down; normally it ends at once."""

IDLE_SECONDS = 60.0
"""How long the server keeps a transaction whose client is silent, for example because it has died while it read the rows or upgraded the
schema."""

_LIMITS = "SELECT set_config('statement_timeout', %s, false), set_config('idle_in_transaction_session_timeout', %s, false)"  # milliseconds

_PATIENCE = ("08", "25006", "28", "3D000", "40", "42501", "53", "55", "57", "58", "JQ002")
"""SQLSTATEs, or their first characters, of errors that time, room or an operator cures: broken connections, a standby, passwords,
deadlocks, rights, full disks and too many connections, locks, time-outs and shutdowns, errors of the system, commits that came late. All
other errors are damage or a defect."""

_HOPELESS = (
    "authentication failed",
    "no password supplied",
    "pg_hba.conf",
    "does not exist",
    "permission denied",
    "not permitted to log in",
    "does not support SSL",
    "SSL error",
    "certificate",
    "sslmode",
)
"""libpq's messages for a connection that will not succeed by waiting. libpq gives no SQLSTATE; if the server uses another language, the
connection is tried again."""

T = TypeVar("T")


def parameters(url: str) -> dict[str, Any]:
    """libpq's parameters of a URL, and those that we add. Raises CannotOpen, without any part of the URL, since libpq would quote it."""
    try:
        found = conninfo_to_dict(url)
    except psycopg.Error:
        found = {"port": "?"}
    ports = str(found.get("port") or "").split(",")
    # libpq ends the host at a / in a password; the rest is then read as a port or a database.
    if not all(port.isdecimal() or not port for port in ports) or "@" in str(found.get("dbname") or ""):
        raise CannotOpen(
            "the store's URL is not one that libpq takes: postgres://[user[:password]@][host[:port]][,…][/database][?option=value&…] "
            "with /, @, :, ? and % in a password percent-encoded"
        )
    found.setdefault("fallback_application_name", "jobqueue")
    patience = str(found.get("connect_timeout") or os.environ.get("PGCONNECT_TIMEOUT") or CONNECT_SECONDS).strip()
    if not patience.isdecimal():
        raise CannotOpen(f"connect_timeout of the store's URL must be whole seconds, not {patience!r}")
    # In libpq, 0 means for ever.
    found["connect_timeout"] = max(CONNECT_SECONDS, int(patience))
    if _hosts(found) > 1 and "PGTARGETSESSIONATTRS" not in os.environ:
        # One of them is the primary; after a failover, a different one.
        found.setdefault("target_session_attrs", "read-write")
    found["client_encoding"] = "utf8"
    return found


def _hosts(found: Mapping[str, Any]) -> int:
    return len(str(found.get("host") or os.environ.get("PGHOST") or "").split(","))


def shown(url: str) -> str:
    """A URL that can be shown to anybody: without the password, and without options, which may contain one. Never raises, whatever the URL
    contains.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        return "postgres://"
    rest, _, options = rest.partition("?")
    user, at, place = rest.rpartition("@")
    if "@" in options and not at:
        # A question mark in a password that should have been encoded.
        return f"{scheme}://"
    return f"{scheme}://{user.partition(':')[0]}{at}{place}"


def translated(error: psycopg.Error) -> Exception:
    """What an error means to us."""
    state = error.sqlstate
    primary = error.diag.message_primary
    if state == FENCED:
        return Fenced(str(primary))
    if state is None:
        return NotNow(" ".join(str(error).split()) or "the connection broke")
    text = f"{primary} (SQLSTATE {state})"
    return NotNow(text) if state.startswith(_PATIENCE) else Fatal(f"PostgreSQL: {text}")


class Runs(Protocol):
    """What runs statements."""

    async def run(self, sql: str, values: Sequence[object] | None = (), seconds: float | None = None) -> list[Any]:
        """Run one statement and return its rows. Raises Fenced, NotNow, Fatal. values: None for a script."""


class Refused(NotNow):
    """An error that a person must correct: who can connect, to what, with what rights. Trying again does no harm, but fails until then."""


class Link:
    """Connects when it is first used, and again after the connection broke. seconds: the deadline of a statement unless it has its own."""

    def __init__(self, found: Mapping[str, Any], seconds: float, *, closed: bool = False) -> None:
        self.seconds = seconds
        self.closed = closed
        self._parameters = found
        # psycopg tries every address of every host, each with its own time limit; most hosts have one address.
        self._connect_seconds = (_hosts(found) + _MORE_ADDRESSES) * float(found["connect_timeout"]) + GRACE_SECONDS
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._granted = 0.0
        """The time that the server currently allows a statement."""
        self._one = asyncio.Lock()
        self.waiting = 0
        """How many statements run or wait."""
        self._unreplicated: str | None = None
        """The server's warning, while the statement ran, that its commit is not what was asked for."""

    @property
    def version(self) -> int:
        """The server's version, such as 160004; 0 while there is no connection."""
        return 0 if self._connection is None else self._connection.info.server_version

    async def script(self, sql: str, seconds: float) -> None:
        """Run several statements. Raises as `run` does."""
        await self.run(sql, None, seconds)

    async def run(self, sql: str, values: Sequence[object] | None = (), seconds: float | None = None) -> list[Any]:
        """Run one statement and return its rows. Raises Fenced, NotNow, Fatal. values: None for a script."""
        allowed = self.seconds if seconds is None else seconds
        self.waiting += 1
        try:
            try:
                async with asyncio.timeout(allowed):
                    await self._one.acquire()
            except TimeoutError:
                raise NotNow(f"what came before has taken {allowed:g} s already") from None
            try:
                return await self._run(sql, values, allowed)
            finally:
                self._one.release()
        finally:
            self.waiting -= 1

    async def _run(self, sql: str, values: Sequence[object] | None, allowed: float) -> list[Any]:
        connection = await self._usable()
        until = asyncio.get_running_loop().time() + allowed + GRACE_SECONDS
        try:
            if self._granted != allowed:
                limits = (f"{allowed * 1_000:.0f}", f"{IDLE_SECONDS * 1_000:.0f}")
                await self._within(until, connection.execute(_LIMITS, limits))
                self._granted = allowed
            self._unreplicated = None
            rows = await self._within(until, _carry_out(connection, sql, values))
        except psycopg.Error as error:
            raise self._failed(error) from error
        except BaseException:
            # Its answer can still come, and must not be taken for the answer to another statement.
            self._drop()
            raise
        if self._unreplicated is not None:
            raise NotNow(self._unreplicated)
        return rows

    def _failed(self, error: psycopg.Error) -> Exception:
        connection, meaning = self._connection, translated(error)
        if error.sqlstate == "25006" or connection is None or connection.pgconn.transaction_status != TransactionStatus.IDLE:
            # The connection is broken, in the middle of something, or to a server that is a standby now: the next one may lead to the new
            # primary.
            self._drop()
        return meaning

    async def _within(self, until: float, work: Coroutine[Any, Any, T]) -> T:
        """What a statement returns. At the deadline, or on cancellation, its socket is shut down. Raises NotNow."""
        seconds = until - asyncio.get_running_loop().time()
        task = asyncio.create_task(work)
        try:
            done, _ = await asyncio.wait({task}, timeout=max(0.0, seconds))
        except asyncio.CancelledError:
            await self._cut(task)
            raise
        if not done:
            await self._cut(task)
            raise NotNow(f"no answer in {seconds:.1f} s")
        return task.result()

    async def _cut(self, task: asyncio.Task[Any]) -> None:
        assert self._connection is not None
        with contextlib.suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(self._connection.fileno())) as twin:
            twin.shutdown(socket.SHUT_RDWR)
        await asyncio.wait({task}, timeout=_LET_GO_SECONDS)
        task.cancel()
        if task.done() and not task.cancelled():
            task.exception()

    # The connection.

    async def _usable(self) -> psycopg.AsyncConnection[Any]:
        """A connection on which nothing is running."""
        connection = self._connection
        if connection is not None and (connection.closed or _spoke(connection)):
            idle = not connection.closed and connection.pgconn.transaction_status == TransactionStatus.IDLE
            self._drop()
            connection = None
            if not idle:
                # The next statements would be run outside the transaction, on a new connection.
                raise NotNow("the connection broke in a transaction")
        if self.closed:
            raise NotNow("the store is closed")
        if connection is None:
            connection = self._connection = await self._connected()
        return connection

    async def _connected(self) -> psycopg.AsyncConnection[Any]:
        try:
            async with asyncio.timeout(self._connect_seconds):
                connection = await psycopg.AsyncConnection.connect(**self._parameters, autocommit=True)
        except TimeoutError:
            raise NotNow(f"no connection in {self._connect_seconds:g} s") from None
        except (psycopg.Error, OSError, UnicodeError, ValueError) as error:
            text = " ".join(str(error).split())
            hopeless = any(words in text for words in _HOPELESS) or not isinstance(error, psycopg.OperationalError)
            raise (Refused if hopeless else NotNow)(text) from error
        self._granted = 0.0
        # All numbers as bigint: otherwise each width is a separate type, and each combination of them a separate statement to prepare.
        connection.adapters.register_dumper(int, Int8BinaryDumper)
        connection.add_notice_handler(self._noticed)
        return connection

    def _noticed(self, notice: Diagnostic) -> None:
        """Record the one warning that matters: if somebody cancels a commit while it waits for its replicas, it succeeds without them.

        The warning has no SQLSTATE of its own, and its text is in the server's language; it is recognised by the name of the function that
        warns.
        """
        if notice.source_function == "SyncRepWaitForLSN":
            self._unreplicated = f"{notice.message_primary}: {notice.message_detail}"

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.pgconn.finish()

    async def close(self) -> None:
        """Close the connection, once the running statement has ended. Calling it again has no effect."""
        self.closed = True
        async with self._one:
            self._drop()


class Links:
    """Up to `most` connections for small statements of several partitions. A statement takes one that is free, so that one which waits for
    a lock, as behind a large commit, holds up no other partition; it makes one only if there is none.
    """

    def __init__(self, make: Callable[[], Link], most: int = 1) -> None:
        self.most = most
        self._make = make
        self._links = [make()]

    @property
    def first(self) -> Link:
        """The one that is always there."""
        return self._links[0]

    async def run(self, sql: str, values: Sequence[object] | None = (), seconds: float | None = None) -> list[Any]:
        """See Link.run."""
        link = next((link for link in self._links if not link.waiting), None)
        if link is None:
            if len(self._links) < self.most:
                link = self._make()
                self._links.append(link)
            else:
                link = min(self._links, key=lambda link: link.waiting)
        return await link.run(sql, values, seconds)


async def _carry_out(connection: psycopg.AsyncConnection[Any], sql: str, values: Sequence[object] | None) -> list[Any]:
    # Only the simple protocol accepts several statements at once, and only the other one returns bytes as bytes.
    async with connection.cursor(binary=values is not None) as cursor:
        await cursor.execute(sql.encode(), values or None)
        return await cursor.fetchall() if cursor.description else []


def _spoke(connection: psycopg.AsyncConnection[Any]) -> bool:
    """Whether the server has sent something on an idle connection: usually that it has closed it."""
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))
