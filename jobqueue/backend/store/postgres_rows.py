"""Reads all rows of a PostgresStore in one transaction, so as they were at one moment, and checks each against its checksum."""

from __future__ import annotations

import zlib
from collections.abc import Awaitable, Callable, Iterable

from jobqueue.backend.group import Group
from jobqueue.backend.loading import CannotOpen, JobRows
from jobqueue.backend.store.postgres_link import Runs
from jobqueue.backend.store.postgres_schema import suffix, too_new
from jobqueue.backend.store.store import Fenced, Standing, Whole

READ_ROWS = 1_000
"""Jobs in one answer while all are read; the loop can run other tasks between two answers."""

READ_SECONDS = 30.0
"""The time limit for each such answer; for the first one the server may have to sort."""


def queue_crc(name: str, row: bytes) -> int:
    """The checksum of a queue's row."""
    return zlib.crc32(row, zlib.crc32(name.encode()))


class ReadRows:
    """Rows that were read into memory. A Rows."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.read: Whole = Whole(None, {}, 0)
        self.read_jobs: list[JobRows] = []

    def counters(self) -> bytes | None:
        """See Rows.counters."""
        return self.read.counters

    def queues(self) -> Iterable[tuple[str, bytes]]:
        """See Rows.queues."""
        return self.read.queues.items()

    def count(self) -> int:
        """See Rows.count."""
        return len(self.read_jobs)

    def jobs(self) -> Iterable[JobRows]:
        """See Rows.jobs."""
        return self.read_jobs


class PostgresReading:
    """Reads a partition over a link. Except for `counters` and `standing`, the link must not be used by anybody else: a transaction is left
    open on it.
    """

    def __init__(self, link: Runs, path: str, schema: str, index: int) -> None:
        self._link = link
        self._path = path
        self._schema = schema
        self._part = suffix(index)

    async def counters(self) -> bytes | None:
        """See Store.counters."""
        for state, crc in await self._link.run(f"SELECT state, crc FROM {self._schema}.counters{self._part}"):
            return self._whole(state, crc, 0, "the counters")
        return None

    async def standing(self, epoch: int) -> Standing:
        """See Store.standing."""
        schema, part = self._schema, self._part
        await self._check_format()
        ((last, state, crc),) = await self._link.run(
            "SELECT CASE WHEN name IS NOT NULL THEN epoch END, state, crc"
            f" FROM {schema}.owner{part} LEFT JOIN {schema}.counters{part} ON true"
        )
        self._check(last, epoch)
        return Standing(None if state is None else self._whole(state, crc, 0, "the counters"), None)

    async def _check_format(self) -> None:
        """A newer server may have come since this one started."""
        for version, usable_from in await self._link.run(f"SELECT version, usable_from FROM {self._schema}.format"):
            if (why := too_new(self._schema, version, usable_from)) is not None:
                raise CannotOpen(f"{self._path}: {why}")

    async def rows(self, epoch: int | None) -> ReadRows:
        """See Store.rows; for None, Store.beside."""
        rows = ReadRows(self._path)
        await self._begin()
        await self._check_format()
        found = await self._link.run(f"SELECT epoch FROM {self._schema}.owner{self._part} WHERE name IS NOT NULL")
        last = found[0][0] if found else None
        if epoch is not None:
            self._check(last, epoch)

        async def keep(some: list[JobRows]) -> None:
            rows.read_jobs += some

        rows.read = await self._read(keep)
        return rows

    def _check(self, last: int | None, epoch: int) -> None:
        if last != epoch:
            raise Fenced("the queue was released" if last is None else f"another server has claimed the queue since, under epoch {last}")

    async def moment(self, apply: Callable[[Group], Awaitable[object]]) -> Whole:
        """See Store.moment."""

        async def give(some: list[JobRows]) -> None:
            group = Group()
            for number, state, payload in some:
                group.put(number, state)
                group.put_payload(number, payload)
            await apply(group)

        await self._begin()
        return await self._read(give)

    async def _begin(self) -> None:
        await self._link.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")

    async def _read(self, take: Callable[[list[JobRows]], Awaitable[object]]) -> Whole:
        """Read everything as of the transaction's moment."""
        run, path, schema, part = self._link.run, self._path, self._schema, self._part
        ((jobs, payloads),) = await run(
            f"SELECT (SELECT count(*) FROM {schema}.jobs{part}), (SELECT count(*) FROM {schema}.payloads{part})", (), READ_SECONDS
        )
        if jobs != payloads:
            raise CannotOpen(f"{path}: is damaged: it has {jobs} jobs and {payloads} payloads")
        counters = await self.counters()
        queues: dict[str, bytes] = {}
        for name, state, crc in await run(f"SELECT name, state, crc FROM {schema}.queues{part} ORDER BY name", (), READ_SECONDS):
            queues[name] = self._whole(state, crc, zlib.crc32(name.encode()), f"queue {name!r}")
        await run(
            "DECLARE everything NO SCROLL CURSOR FOR SELECT number, state, j.crc, payload, p.crc"
            f" FROM {schema}.jobs{part} AS j LEFT JOIN {schema}.payloads{part} AS p USING (number) ORDER BY number"
        )
        read = 0
        while read < jobs:
            some = await run(f"FETCH FORWARD {READ_ROWS} FROM everything", (), READ_SECONDS)
            if not some:
                raise CannotOpen(f"{path}: is damaged: it has {jobs} jobs, and {read} could be read")
            read += len(some)
            await take([self._job(*row) for row in some])
        return Whole(counters, queues, jobs)

    def _job(self, number: int, state: bytes, crc: int, payload: bytes | None, payload_crc: int) -> JobRows:
        if payload is None:
            raise CannotOpen(f"{self._path}: is damaged: job number {number} has no payload")
        whole = self._whole(state, crc, number, f"job number {number}")
        return JobRows(number, whole, self._whole(payload, payload_crc, number, f"the payload of job number {number}"))

    def _whole(self, content: bytes, crc: int, salt: int, what: str) -> bytes:
        if zlib.crc32(content, salt) != crc:
            raise CannotOpen(f"{self._path}: is damaged: {what} does not have its checksum")
        return content
