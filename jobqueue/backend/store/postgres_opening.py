"""The checks of a PostgresStore before it is used, and the upgrade of its schema. Problems that a person must correct raise CannotOpen."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable

import psycopg

from jobqueue.backend.group import Fatal, NotNow
from jobqueue.backend.loading import CannotOpen
from jobqueue.backend.store.postgres_link import Link, Refused
from jobqueue.backend.store.postgres_schema import MIGRATIONS, PARTITIONED_FROM, PARTITIONS, suffix, tables, too_new
from jobqueue.backend.store.stores import other_number
from jobqueue.partition import PARTITIONS_MAX

_logger = logging.getLogger("jobqueue.storage")

VERSION_MIN = 130_000
CLOCK_WARN_SECONDS, CLOCK_MAX_SECONDS = 0.5, 5.0
"""How far this machine's clock can be from the store's. Times of jobs are passed from one owner's clock to the next one's."""

MIGRATION_SECONDS = 60.0
"""The time limit for a migration, and for waiting until another server has done it."""

PARTITIONS_AT_ONCE = 8
"""How many partitions are made in one transaction."""

_DURABLE = {
    "synchronous_commit": ("what was acknowledged right before a crash", "for the server's role, its database or the whole server"),
    "fsync": ("the whole database in a power cut", "for the whole server"),
    "full_page_writes": ("the whole database in a power cut", "for the whole server"),
}
"""Settings that must not be off: what can be lost otherwise, and where they are set."""

_NO_RIGHT = "42501"


class Opening:
    """One opening. link: for all queries; make_link: makes another link for the migration. lossy and wall: see PostgresStores."""

    def __init__(
        self, path: str, schema: str, link: Link, make_link: Callable[[], Link], *, lossy: bool, wall: Callable[[], float]
    ) -> None:
        self._path = path
        self._schema = schema
        self._link = link
        self._make_link = make_link
        self._lossy = lossy
        self._wall = wall

    async def run(self, partitions: int | None) -> int:
        """Check everything, and install what is missing. Returns the number of partitions. Raises CannotOpen, NotNow."""
        return await self._look(lambda: self._install(partitions))

    async def inspect(self) -> int:
        """Check everything and change nothing. Returns the number of partitions. Raises CannotOpen, NotNow."""
        return await self._look(self._check_installed)

    async def _look(self, at_schema: Callable[[], Awaitable[int]]) -> int:
        try:
            await self._check_server()
            await self._check_clock()
            count = await at_schema()
            await self._check_rights(count)
        except NotNow as error:
            if isinstance(error, Refused) or _state(error) == _NO_RIGHT:
                raise self._cannot(str(error)) from error
            raise
        except Fatal as error:
            raise self._cannot(str(error)) from error
        return count

    def _cannot(self, why: str) -> CannotOpen:
        return CannotOpen(f"{self._path}: {why}")

    async def _check_server(self) -> None:
        names = ["transaction_read_only", *_DURABLE]
        shown = ", ".join(f"current_setting('{name}')" for name in names)
        ((standby, *values),) = await self._link.run(f"SELECT pg_is_in_recovery(), {shown}")
        settings = dict(zip(names, values, strict=True))
        if self._link.version < VERSION_MIN:
            raise self._cannot(f"is PostgreSQL {self._link.version // 10_000}; {VERSION_MIN // 10_000} or later is needed")
        if standby:
            raise self._cannot("is a standby, which can only be read; name the primary, or all servers and target_session_attrs=read-write")
        if settings["transaction_read_only"] == "on":
            raise self._cannot("can only be read; set default_transaction_read_only = off for the server's role or its database")
        for name, (loss, where) in _DURABLE.items():
            if settings[name] != "off":
                continue
            if not self._lossy:
                raise self._cannot(f"has {name} = off and may lose {loss}; set {name} = on {where}")
            _logger.warning("%s has %s = off and may lose %s", self._path, name, loss)

    async def _check_clock(self) -> None:
        before = time.monotonic()
        ((theirs,),) = await self._link.run("SELECT extract(epoch FROM clock_timestamp())::float8")
        trip = time.monotonic() - before
        # The server read its clock at some moment between the request and the answer.
        apart = max(0.0, abs(self._wall() - trip / 2 - theirs) - trip / 2)
        if apart > CLOCK_MAX_SECONDS:
            raise self._cannot(f"has a clock {apart:.1f} s from this machine's, and {CLOCK_MAX_SECONDS:g} s are allowed; set both by NTP")
        if apart > CLOCK_WARN_SECONDS:
            _logger.warning("the clock of %s is %.1f s from this machine's", self._path, apart)

    async def _install(self, asked: int | None) -> int:
        """Bring the schema up to date. Returns the number of partitions."""
        if await self._version() < len(MIGRATIONS):
            await self._alone(lambda link: self._upgrade(link, asked))
        count = await self._count()
        if asked not in (None, count):
            raise other_number(self._path, count, asked)
        while await self._lacking(count):
            await self._alone(lambda link: self._add(link, count))
        return count

    async def _alone(self, change: Callable[[Link], Awaitable[object]]) -> None:
        """Change the schema in one transaction, while no other server does."""
        link = self._make_link()
        try:
            await link.run("BEGIN")
            lock = "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))"
            await link.run(lock, (f"jobqueue schema {self._schema}",), MIGRATION_SECONDS)
            await change(link)
            await link.run("COMMIT", (), MIGRATION_SECONDS)
        finally:
            await link.close()

    async def _upgrade(self, link: Link, asked: int | None) -> None:
        # Another server may have done it while this one waited for the lock.
        version = await self._version()
        if version < len(MIGRATIONS):
            await self._migrate(link, version, asked or 1)

    async def _count(self) -> int:
        """How many partitions the store was made with. Raises CannotOpen."""
        ((several,),) = await self._link.run("SELECT to_regclass(%s) IS NOT NULL", (f"{self._schema}.partitions",))
        if not several:
            return 1
        found = await self._link.run(f"SELECT count FROM {self._schema}.partitions")
        count = found[0][0] if found else 0
        if not 1 < count <= PARTITIONS_MAX:
            raise self._cannot(
                f"was made with --partitions {count}, and this server knows up to {PARTITIONS_MAX}: use the jobqueue that made it"
            )
        return int(count)

    async def _lacking(self, count: int) -> list[int]:
        """The partitions that have no tables yet."""
        if count == 1:
            return []
        found = await self._link.run(
            "SELECT relname::text FROM pg_class WHERE relnamespace = to_regnamespace(%s) AND relname LIKE 'owner%%'", (self._schema,)
        )
        there = {row[0] for row in found}
        return [index for index in range(count) if f"owner{suffix(index)}" not in there]

    async def _add(self, link: Link, count: int) -> None:
        """Make some of the partitions that are lacking. Not all at once: a transaction holds a lock on each table, of which a server allows
        only so many.
        """
        for index in (await self._lacking(count))[:PARTITIONS_AT_ONCE]:
            for migration in MIGRATIONS:
                await self._run(link, migration.part, index)

    async def _run(self, link: Link, sql: str, index: int = 0) -> None:
        if sql:
            await self._may(link.script(sql.replace("{schema}", self._schema).replace("{part}", suffix(index)), MIGRATION_SECONDS))

    async def _check_installed(self) -> int:
        if await self._version():
            count = await self._count()
            if await self._lacking(count):
                raise self._cannot("was not made to the end: start a server on it")
            return count
        ((others, may, user, database),) = await self._link.run(
            "SELECT (SELECT count(*) FROM pg_class WHERE relnamespace = to_regnamespace(%s)),"
            " coalesce(has_schema_privilege(to_regnamespace(%s)::oid, 'CREATE'), has_database_privilege(current_database(), 'CREATE')),"
            " current_user::text, current_database()::text",
            (self._schema, self._schema),
        )
        if others:
            raise self._cannot(f"the schema {self._schema} is another program's; use another database")
        if not may:
            raise self._cannot(
                f"{user} may not install what a server needs. An administrator can: CREATE SCHEMA {self._schema} AUTHORIZATION {user} "
                f"in {database}"
            )
        raise self._cannot("can be used, but has no jobs to check: no server has used it yet")

    async def _migrate(self, link: Link, version: int, count: int) -> None:
        """Upgrade a schema. count: of the partitions, for a new one, of which this makes the first."""
        schema = self._schema
        ((exists, others),) = await link.run(
            "SELECT to_regnamespace(%s) IS NOT NULL, (SELECT count(*) FROM pg_class WHERE relnamespace = to_regnamespace(%s))",
            (schema, schema),
        )
        if not version and others:
            raise self._cannot(f"the schema {schema} is another program's; use another database")
        if not exists:
            await self._may(link.run(f"CREATE SCHEMA {schema}"), exists=False)
        if version:
            count = await self._count()
            lacking = await self._lacking(count)
            parts = [index for index in range(count) if index not in lacking]
        else:
            parts = [0]
        for migration in MIGRATIONS[version:]:
            await self._run(link, migration.sql)
            for index in parts:
                await self._run(link, migration.part, index)
        if count > 1 and not version:
            await self._run(link, PARTITIONS.replace("{count}", str(count)))
        usable_from = MIGRATIONS[-1].usable_from if count == 1 else max(MIGRATIONS[-1].usable_from, PARTITIONED_FROM)
        await self._may(
            link.run(
                f"INSERT INTO {schema}.format VALUES (1, %s, %s)"
                " ON CONFLICT (id) DO UPDATE SET version = excluded.version, usable_from = excluded.usable_from",
                (len(MIGRATIONS), usable_from),
            )
        )
        _logger.info("%s: brought the schema %s from version %d to %d", self._path, schema, version, len(MIGRATIONS))

    async def _may(self, change: Awaitable[object], *, exists: bool = True) -> None:
        """Wait for a change of the schema. If the user lacks the right to it, says what an administrator can do. exists: whether the schema
        does, other than in this transaction.
        """
        schema = self._schema
        try:
            await change
        except NotNow as error:
            if _state(error) != _NO_RIGHT:
                raise
            ((user, database),) = await self._link.run("SELECT current_user::text, current_database()::text")
            what = f"ALTER SCHEMA {schema} OWNER TO {user}" if exists else f"CREATE SCHEMA {schema} AUTHORIZATION {user}"
            raise self._cannot(
                f"{user} may not install what a server needs: {error}. An administrator can: {what} in {database}"
            ) from error

    async def _version(self) -> int:
        """The installed version, 0 if nothing is installed. Raises CannotOpen if this server is too old for it."""
        schema = self._schema
        ((usable, user),) = await self._link.run(
            "SELECT has_schema_privilege(to_regnamespace(%s)::oid, 'USAGE'), current_user::text", (schema,)
        )
        if usable is None:
            return 0
        if not usable:
            raise self._cannot(f"{user} may not use the schema {schema}; GRANT USAGE ON SCHEMA {schema} TO {user}")
        ((there,),) = await self._link.run("SELECT to_regclass(%s) IS NOT NULL", (f"{schema}.format",))
        if not there:
            return 0
        found = await self._link.run(f"SELECT version, usable_from FROM {schema}.format")
        if not found:
            raise self._cannot(f"is damaged: the schema {schema} does not say its version")
        ((version, usable_from),) = found
        if (why := too_new(schema, version, usable_from)) is not None:
            raise self._cannot(why)
        return int(version)

    async def _check_rights(self, count: int) -> None:
        schema = self._schema
        rights = ["SELECT", "INSERT", "UPDATE", "DELETE"]
        checks = " AND ".join(f"has_table_privilege(c.oid, '{right}')" for right in rights)
        lacking = await self._link.run(
            f"SELECT c.relname::text, current_user::text FROM pg_class AS c WHERE c.relnamespace = to_regnamespace(%s)"
            f" AND c.relname = ANY (%s) AND NOT ({checks})",
            (schema, tables(count)),
        )
        if lacking:
            named, user = ", ".join(sorted(row[0] for row in lacking)), lacking[0][1]
            raise self._cannot(
                f"{user} may not read and change {named}; GRANT {', '.join(rights)} ON ALL TABLES IN SCHEMA {schema} TO {user}"
            )


def _state(error: Exception) -> str | None:
    """The SQLSTATE of an error."""
    cause = error.__cause__
    return cause.sqlstate if isinstance(cause, psycopg.Error) else None
