"""A StoreSet on PostgreSQL 13 or later.

The stored data and how it changes are in postgres_schema.py, the checks at start in postgres_opening.py, the connection and its deadlines
in postgres_link.py; docs/decisions/0021 explains the choices. Each partition that this process owns has a connection for commits, and all
partitions share one for everything else, so that a query for the owner of the queue does not wait behind a large commit; with several
partitions they are up to CALLS_AT_ONCE. Reading rows opens another one for the time it takes.

A commit is as durable as the server's settings make it: on its disk, and on those of its synchronous replicas if it has any
(`synchronous_standby_names`), for which it waits. Settings with which a power cut loses acknowledged changes are refused, unless they are
explicitly accepted.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
import zlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

from jobqueue.backend.group import Fatal, Finished, Group, NotNow, Writer
from jobqueue.backend.loading import Rows
from jobqueue.backend.store.postgres_link import Link, Links, Runs, parameters, shown
from jobqueue.backend.store.postgres_opening import Opening
from jobqueue.backend.store.postgres_rows import PostgresReading, queue_crc
from jobqueue.backend.store.postgres_schema import MEMBER_SECONDS, suffix
from jobqueue.backend.store.store import Member, Owner, Standing, Whole

SCHEMA = "jobqueue"
DEADLINE_SECONDS = 3.0
"""For every small statement, by the server's clock."""

CALLS_AT_ONCE = 4
"""Connections for small statements. One is enough until a statement waits for a lock, as for one that a large commit holds."""

BYTES_PER_SECOND = 1 << 21
"""How slow a commit can be before it is given up. With a fixed deadline, a large group would be tried and given up again and again."""

_NOW = "SELECT extract(epoch FROM clock_timestamp())::float8"
_SCHEMA_NAME = re.compile(r"[a-z_][a-z0-9_]{0,50}")


class PostgresStores:
    """A StoreSet in one schema of one database. url: in libpq's format; libpq's environment variables and service files apply.

    lossy: accept a server that acknowledges changes which a power cut can undo. seconds: the deadline of a statement; a large group has a
    longer one. wall: this machine's clock, UTC.
    """

    def __init__(
        self,
        url: str,
        *,
        schema: str = SCHEMA,
        lossy: bool = False,
        seconds: float = DEADLINE_SECONDS,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Raises CannotOpen if libpq does not understand the URL."""
        if not _SCHEMA_NAME.fullmatch(schema):
            raise ValueError(f"schema must be a plain lower-case name of at most 51 characters, not {schema!r}")
        self.schema = schema
        self.path = shown(url)
        self._found = parameters(url)
        self._lossy = lossy
        self._seconds = seconds
        self._wall = wall
        self._links: list[Link] = []
        self._closed = False
        self.calls = Links(self.new_link)
        self._parts: list[PostgresPartition] = []

    def new_link(self) -> Link:
        """Another connection, which is closed with the store at the latest."""
        link = Link(self._found, self._seconds, closed=self._closed)
        self._links = [old for old in self._links if not old.closed] + [link]
        return link

    @property
    def partitions(self) -> int:
        """See StoreSet.partitions."""
        if not self._parts:
            raise RuntimeError(f"{self.path}: is not open")
        return len(self._parts)

    async def open(self, partitions: int | None = None) -> None:
        """See StoreSet.open."""
        self._take(await self._opening.run(partitions))

    async def inspect(self) -> None:
        """See StoreSet.inspect."""
        self._take(await self._opening.inspect())

    @property
    def _opening(self) -> Opening:
        return Opening(self.path, self.schema, self.calls.first, self.new_link, lossy=self._lossy, wall=self._wall)

    def _take(self, partitions: int) -> None:
        if not self._parts:
            self._parts = [PostgresPartition(self, index) for index in range(partitions)]
            self.calls.most = min(partitions, CALLS_AT_ONCE)

    def __getitem__(self, index: int) -> PostgresPartition:
        """See StoreSet.__getitem__."""
        return self._parts[index]

    def __iter__(self) -> Iterator[PostgresPartition]:
        """See StoreSet.__iter__."""
        return iter(self._parts)

    async def owners(self) -> list[Owner | NotNow | None]:
        """See StoreSet.owners."""
        found: list[Owner | NotNow | None] = [None] * len(self._parts)
        try:
            for index, *owner in await self.calls.run(" UNION ALL ".join(self._owner(index) for index in range(len(self._parts)))):
                found[index] = Owner(*owner)
        except NotNow as error:
            return [error for _ in self._parts]
        return found

    def _owner(self, index: int) -> str:
        return (
            f"SELECT {index}, name, address, epoch, extract(epoch FROM until - clock_timestamp())::float8"
            f" FROM {self.schema}.owner{suffix(index)} WHERE name IS NOT NULL"
        )

    # Servers.

    async def announce(self, name: str, address: str) -> list[Member]:
        """See StoreSet.announce."""
        found = await self.calls.run(f"SELECT * FROM {self.schema}.announce_1(%b, %b, %b)", (name, address, float(MEMBER_SECONDS)))
        return [Member(*row) for row in found]

    async def members(self) -> list[Member]:
        """See StoreSet.members."""
        found = await self.calls.run(
            "SELECT name, address, greatest(0, extract(epoch FROM clock_timestamp() - seen))::float8 AS ago"
            f" FROM {self.schema}.members ORDER BY name"
        )
        return [member for member in (Member(*row) for row in found) if member.seconds < MEMBER_SECONDS]

    async def depart(self, name: str) -> None:
        """See StoreSet.depart."""
        await self.calls.run(f"DELETE FROM {self.schema}.members WHERE name = %b", (name,))

    async def now(self) -> float:
        """See StoreSet.now."""
        ((seconds,),) = await self.calls.run(_NOW)
        return float(seconds)

    async def close(self) -> None:
        """See StoreSet.close."""
        self._closed = True
        for link in self._links:
            await link.close()


class PostgresPartition:
    """One partition: a Store. index: which one."""

    def __init__(self, stores: PostgresStores, index: int) -> None:
        self._stores = stores
        self._index = index
        self._schema = stores.schema
        self._part = suffix(index)
        self._links: list[Link] = []
        self._closed = False

    @property
    def path(self) -> str:
        """See Store.path."""
        return self._stores.path

    async def open(self) -> None:
        """Open the whole store, with as many partitions as it has."""
        await self._stores.open()

    async def run(self, sql: str, values: Sequence[object] | None = (), seconds: float | None = None) -> list[Any]:
        """See Runs.run."""
        if self._closed:
            raise NotNow("the store is closed")
        return await self._stores.calls.run(sql, values, seconds)

    def _new_link(self) -> Link:
        link = self._stores.new_link()
        link.closed = link.closed or self._closed
        self._links = [old for old in self._links if not old.closed] + [link]
        return link

    # Who owns the queue.

    async def claim(self, name: str, address: str, seconds: float, force: bool = False) -> Owner:
        """See Store.claim."""
        ((*owner,),) = await self.run(f"SELECT * FROM {self._schema}.claim_1{self._part}(%b, %b, %b, %b)", (name, address, seconds, force))
        return Owner(*owner)

    async def owner(self) -> Owner | None:
        """See Store.owner."""
        found = await self.run(
            "SELECT name, address, epoch, extract(epoch FROM until - clock_timestamp())::float8"
            f" FROM {self._schema}.owner{self._part} WHERE name IS NOT NULL"
        )
        return Owner(*found[0]) if found else None

    async def renew(self, epoch: int, seconds: float) -> None:
        """See Store.renew."""
        await self.run(f"SELECT {self._schema}.renew_1{self._part}(%b, %b)", (epoch, seconds))

    async def release(self, epoch: int) -> None:
        """See Store.release."""
        await self.run(f"SELECT {self._schema}.release_1{self._part}(%b)", (epoch,))

    # Rows.

    async def rows(self, epoch: int) -> Rows:
        """See Store.rows."""
        return await self._rows(epoch)

    async def _rows(self, epoch: int | None) -> Rows:
        link = self._new_link()
        try:
            return await self._reading(link).rows(epoch)
        finally:
            # The connection may be in the middle of a transaction, which ends with it.
            await link.close()

    def _reading(self, runs: Runs) -> PostgresReading:
        return PostgresReading(runs, self.path, self._schema, self._index)

    async def standing(self, epoch: int) -> Standing:
        """See Store.standing."""
        return await self._reading(self).standing(epoch)

    async def beside(self) -> Rows:
        """See Store.beside."""
        return await self._rows(None)

    async def counters(self) -> bytes | None:
        """See Store.counters."""
        return await self._reading(self).counters()

    async def moment(self, apply: Callable[[Group], Awaitable[object]]) -> Whole:
        """See Store.moment."""
        link = self._new_link()
        try:
            return await self._reading(link).moment(apply)
        finally:
            await link.close()

    def writer(self, epoch: int, seconds: float, renewed: Callable[[float], object]) -> Writer:
        """See Store.writer."""
        return _PostgresWriter(self._new_link(), f"{self._schema}.commit_1{self._part}", epoch, seconds, renewed)

    # Servers.

    async def announce(self, name: str, address: str) -> list[Member]:
        """See Store.announce."""
        return await self._stores.announce(name, address)

    async def depart(self, name: str) -> None:
        """See Store.depart."""
        await self._stores.depart(name)

    async def now(self) -> float:
        """See Store.now."""
        ((seconds,),) = await self.run(_NOW)
        return float(seconds)

    async def close(self) -> None:
        """See Store.close."""
        self._closed = True
        for link in self._links:
            await link.close()


class PostgresStore(PostgresPartition):
    """A store of one partition, which is opened and closed by itself. Arguments: see PostgresStores."""

    def __init__(self, url: str, **more: Any) -> None:
        super().__init__(PostgresStores(url, **more), 0)
        self.schema = self._schema
        self.inspect = self._stores.inspect
        self.members = self._stores.members

    async def open(self) -> None:
        """See Store.open."""
        await self._stores.open(1)

    async def close(self) -> None:
        """See Store.close."""
        await super().close()
        await self._stores.close()


class _PostgresWriter:
    """Commits a group with one call of a function, whose name is `commit`. See Store.writer."""

    def __init__(self, link: Link, commit: str, epoch: int, seconds: float, renewed: Callable[[float], object]) -> None:
        self._link = link
        self._sql = (
            f"SELECT {commit}(%b, %b, %b, %b, %b::bigint[], %b::bytea[], %b::bigint[], %b::bigint[], %b::bytea[], %b::bigint[],"
            " %b::bigint[], %b::text[], %b::bytea[], %b::bigint[], %b::text[], %b, %b)"
        )
        self._epoch = epoch
        self._seconds = seconds
        self._renewed = renewed
        self._acknowledged = 0
        """The number of the last attempt that was acknowledged."""
        self._task: asyncio.Task[None] | None = None

    def write(self, group: Group, finished: Finished) -> None:
        """See Writer.write."""
        self._task = asyncio.get_running_loop().create_task(self._write(group, finished))

    async def _write(self, group: Group, finished: Finished) -> None:
        error: Exception | None = None
        sent = time.monotonic()
        try:
            # All attempts of an epoch are made by one process, and the next claim begins at 0 again.
            number = time.monotonic_ns()
            await self._link.run(self._sql, self._values(group, number), self._link.seconds + group.held_bytes // BYTES_PER_SECOND)
            self._acknowledged = number
            self._renewed(sent)
        except asyncio.CancelledError:
            error = NotNow("the server was stopped meanwhile")
            raise
        except (NotNow, Fatal) as failure:
            error = failure
        except Exception as failure:
            error = Fatal(f"{type(failure).__name__}: {failure}")
        finally:
            # Not from here: in a loop with eager tasks, `write` may not have returned yet.
            asyncio.get_running_loop().call_soon(finished, error)

    def _values(self, group: Group, number: int) -> tuple[object, ...]:
        payloads, queues = group.payloads, group.queue_rows
        states = {number: state for number, state in group.states.items() if state is not None}
        kept = {name: row for name, row in queues.items() if row is not None}
        return (
            self._epoch,
            self._acknowledged,
            number,
            self._seconds,
            list(payloads),
            list(payloads.values()),
            [zlib.crc32(payload, number) for number, payload in payloads.items()],
            list(states),
            list(states.values()),
            [zlib.crc32(state, number) for number, state in states.items()],
            [number for number, state in group.states.items() if state is None],
            list(kept),
            list(kept.values()),
            [queue_crc(name, row) for name, row in kept.items()],
            [name for name, row in queues.items() if row is None],
            group.counters,
            zlib.crc32(group.counters),
        )

    async def close(self, tidy: bool) -> None:
        """See Writer.close."""
        if self._task is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait({self._task})
        await self._link.close()
