"""What a PostgresStore installs in a database: its tables and functions, and the migrations of older schemas.

Every change is one call of one function, so one statement in its own transaction, which begins only when the whole statement has arrived.
So a server that dies, or is cut off, while it sends never leaves a transaction open with the owner's row locked, which would block the next
owner until TCP detects the broken connection. In a function each statement sees what was committed before that statement began. So
statements after the lock on the owner's row see the last change of an earlier owner, or of an earlier attempt with the same group; in one
statement made of CTEs, a delete would not.

A commit also has a number, larger with each attempt. If its owner gave up a commit because the connection broke, the commit can still be in
the buffers of that connection, and be carried out after the group, and even later ones, were sent again. Its number is smaller then, and it
is refused. A commit also names the commit that was acknowledged last. If the database does not have that one, it has lost it, as in a
failover to an asynchronous replica. Then this owner's changes do not fit the stored data, and the next owner has to start from the rows.

Epochs are milliseconds since 1970 when possible, otherwise one more than the last: they increase, and an epoch is not given out again when
a failover to an asynchronous replica loses the claim. Otherwise two owners with the same epoch would both write.

Partitions: each has tables and functions of its own, whose names end with its number, except those of the first, which are the same as in a
store that has no other. So a commit, and the reading of a partition, does not depend on whether there are others; the rows of one partition
are not spread over the pages of all, and its tables are vacuumed by themselves. With one partition, an older server can use the store; with
several, `format.usable_from` keeps it away.

Upgrades beside running servers: a migration runs in one transaction under an advisory lock. It adds functions with new names beside those
that running servers call, and sets in `format.usable_from` which servers can still use the result. Drop functions that are no longer called
one release later.
"""

from __future__ import annotations

from typing import NamedTuple


class Migration(NamedTuple):
    """Upgrades version n to n + 1. {schema} stands for the schema's name. usable_from: the oldest version that a server can have to use the
    result. part: is run for each partition, with its `suffix` for {part}.
    """

    sql: str
    usable_from: int
    part: str = ""


TABLES = ("format", "members")
PART_TABLES = ("counters", "jobs", "owner", "payloads", "queues")


def suffix(index: int) -> str:
    """What the names of a partition's tables and functions end with. The first partition's are those of a store that has no other."""
    return f"_{index}" if index else ""


def tables(partitions: int) -> list[str]:
    """All tables that a store has whose servers must be able to change them."""
    return [*TABLES, *(f"{table}{suffix(index)}" for index in range(partitions) for table in PART_TABLES)]


FENCED = "JQ001"
"""The SQLSTATE of a refusal under an old epoch. Its message gives the reason. JQ002: a commit that comes late. JQ003: the database has lost
one."""

MEMBER_SECONDS = 60
"""How long a server stays on the list after it announced itself."""

_FIRST = """
CREATE TABLE {schema}.format (
    id smallint PRIMARY KEY CHECK (id = 1), version integer NOT NULL, usable_from integer NOT NULL
);
CREATE TABLE {schema}.members (name text PRIMARY KEY, address text NOT NULL, seen timestamptz NOT NULL) WITH (fillfactor = 50);

-- Who is there is said again every second, so it need not wait for a disk or a replica.
CREATE FUNCTION {schema}.announce_1(saying text, at text, patience float8)
RETURNS TABLE (name text, address text, ago float8) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    INSERT INTO {schema}.members AS m VALUES (saying, at, clock_timestamp())
        ON CONFLICT ON CONSTRAINT members_pkey DO UPDATE SET address = excluded.address, seen = excluded.seen;
    -- Two servers that have both been silent would wait for each other's row.
    DELETE FROM {schema}.members AS m WHERE m.name IN (
        SELECT old.name FROM {schema}.members AS old
        WHERE old.seen < clock_timestamp() - make_interval(secs => patience) FOR UPDATE SKIP LOCKED
    );
    RETURN QUERY SELECT m.name, m.address, greatest(0, extract(epoch FROM clock_timestamp() - m.seen))::float8
        FROM {schema}.members AS m
        WHERE m.seen >= clock_timestamp() - make_interval(secs => patience) ORDER BY m.name;
END $$;
"""

_FIRST_PART = """
CREATE TABLE {schema}.owner{part} (
    id smallint PRIMARY KEY CHECK (id = 1), epoch bigint NOT NULL, name text, address text, until timestamptz NOT NULL,
    attempt bigint NOT NULL
) WITH (fillfactor = 10);
INSERT INTO {schema}.owner{part} VALUES (1, 0, NULL, NULL, '-infinity', 0);
CREATE TABLE {schema}.jobs{part} (number bigint PRIMARY KEY, state bytea NOT NULL, crc bigint NOT NULL) WITH (fillfactor = 70);
CREATE TABLE {schema}.payloads{part} (number bigint PRIMARY KEY, payload bytea NOT NULL, crc bigint NOT NULL);
CREATE TABLE {schema}.queues{part} (name text COLLATE "C" PRIMARY KEY, state bytea NOT NULL, crc bigint NOT NULL) WITH (fillfactor = 50);
CREATE TABLE {schema}.counters{part} (
    id smallint PRIMARY KEY CHECK (id = 1), state bytea NOT NULL, crc bigint NOT NULL
) WITH (fillfactor = 10);

-- Lock the owner's row and refuse all epochs but the last, and that one once it is released. The number of the last commit.
CREATE FUNCTION {schema}.fence_1{part}(asked bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    last {schema}.owner{part};
BEGIN
    SELECT * INTO last FROM {schema}.owner{part} WHERE id = 1 FOR UPDATE;
    IF last.epoch IS DISTINCT FROM asked THEN
        RAISE EXCEPTION 'another server has claimed the queue since, under epoch %', last.epoch USING ERRCODE = 'JQ001';
    ELSIF last.name IS NULL THEN
        RAISE EXCEPTION 'the queue was released' USING ERRCODE = 'JQ001';
    END IF;
    RETURN last.attempt;
END $$;

-- On a claim that is lost hangs whose the next epoch is, so it is on disk before it is answered, whatever commits may do.
CREATE FUNCTION {schema}.claim_1{part}(asking text, at text, seconds float8, force boolean)
RETURNS TABLE (name text, address text, epoch bigint, remaining float8) LANGUAGE plpgsql AS $$
DECLARE
    last {schema}.owner{part};
BEGIN
    IF current_setting('synchronous_commit') = 'off' THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
    SELECT * INTO STRICT last FROM {schema}.owner{part} AS o WHERE o.id = 1 FOR UPDATE;
    IF last.name IS NULL OR last.name = asking OR last.until <= clock_timestamp() OR force THEN
        UPDATE {schema}.owner{part} AS o
        SET epoch = greatest(o.epoch + 1, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint),
            attempt = 0, name = asking, address = at, until = clock_timestamp() + make_interval(secs => seconds)
        WHERE o.id = 1;
    END IF;
    RETURN QUERY SELECT o.name, o.address, o.epoch, extract(epoch FROM o.until - clock_timestamp())::float8
        FROM {schema}.owner{part} AS o WHERE o.id = 1;
END $$;

CREATE FUNCTION {schema}.renew_1{part}(asked bigint, seconds float8) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM {schema}.fence_1{part}(asked);
    UPDATE {schema}.owner{part} SET until = clock_timestamp() + make_interval(secs => seconds) WHERE id = 1;
END $$;

CREATE FUNCTION {schema}.release_1{part}(asked bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM {schema}.fence_1{part}(asked);
    UPDATE {schema}.owner{part} SET name = NULL, address = NULL, until = clock_timestamp() WHERE id = 1;
END $$;

CREATE FUNCTION {schema}.commit_1{part}(
    asked bigint, acknowledged bigint, number_of_try bigint, seconds float8,
    payload_numbers bigint[], payload_bytes bytea[], payload_crcs bigint[],
    job_numbers bigint[], job_states bytea[], job_crcs bigint[], job_gone bigint[],
    queue_names text[], queue_states bytea[], queue_crcs bigint[], queue_gone text[],
    counters_state bytea, counters_crc bigint
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    last bigint := {schema}.fence_1{part}(asked);
BEGIN
    IF last >= number_of_try THEN
        RAISE EXCEPTION 'a later commit of the same owner came first' USING ERRCODE = 'JQ002';
    ELSIF last < acknowledged THEN
        RAISE EXCEPTION 'the database has lost commits that it had acknowledged, as after a failover to an asynchronous replica'
            USING ERRCODE = 'JQ003';
    END IF;
    IF cardinality(payload_numbers) > 0 THEN
        INSERT INTO {schema}.payloads{part} SELECT * FROM unnest(payload_numbers, payload_bytes, payload_crcs)
            ON CONFLICT (number) DO UPDATE SET payload = excluded.payload, crc = excluded.crc;
    END IF;
    IF cardinality(job_numbers) > 0 THEN
        INSERT INTO {schema}.jobs{part} SELECT * FROM unnest(job_numbers, job_states, job_crcs)
            ON CONFLICT (number) DO UPDATE SET state = excluded.state, crc = excluded.crc;
    END IF;
    IF cardinality(job_gone) > 0 THEN
        DELETE FROM {schema}.jobs{part} WHERE number = ANY (job_gone);
        DELETE FROM {schema}.payloads{part} WHERE number = ANY (job_gone);
    END IF;
    IF cardinality(queue_names) > 0 THEN
        INSERT INTO {schema}.queues{part} SELECT * FROM unnest(queue_names, queue_states, queue_crcs)
            ON CONFLICT (name) DO UPDATE SET state = excluded.state, crc = excluded.crc;
    END IF;
    IF cardinality(queue_gone) > 0 THEN
        DELETE FROM {schema}.queues{part} WHERE name = ANY (queue_gone);
    END IF;
    INSERT INTO {schema}.counters{part} VALUES (1, counters_state, counters_crc)
        ON CONFLICT (id) DO UPDATE SET state = excluded.state, crc = excluded.crc;
    UPDATE {schema}.owner{part} SET until = clock_timestamp() + make_interval(secs => seconds), attempt = number_of_try WHERE id = 1;
END $$;
"""

_SECOND = "SELECT 1"
"""Changes nothing: from here on, rows can have keys and limits; a server that does not know them would ignore them when reading, and write
rows without them."""

_THIRD = "SELECT 1"
"""Changes nothing, for the same reason: newer fields of jobs, queues and other things (listed in sqlite/file.py)."""

_FOURTH = "SELECT 1"
"""Changes nothing, for the same reason."""

_FIFTH = "SELECT 1"
"""Changes nothing: from here on, a store can have several partitions. One that has a single one is as it was."""

MIGRATIONS: tuple[Migration, ...] = (
    Migration(_FIRST, 1, _FIRST_PART),
    Migration(_SECOND, 2),
    Migration(_THIRD, 3),
    Migration(_FOURTH, 4),
    Migration(_FIFTH, 4),
)
"""From version 0, an empty schema, on. Never change a migration that was released."""

PARTITIONED_FROM = 5
"""The oldest version that a server can have to use a store of several partitions."""

PARTITIONS = """
CREATE TABLE {schema}.partitions (id smallint PRIMARY KEY CHECK (id = 1), count integer NOT NULL);
INSERT INTO {schema}.partitions VALUES (1, {count});
"""
"""The number of partitions, where there are several."""


def too_new(schema: str, version: int, usable_from: int) -> str | None:
    """Why a server of this version cannot use what is installed; None if it can."""
    if usable_from <= len(MIGRATIONS):
        return None
    return (
        f"the schema {schema} has version {version}, for servers that know version {usable_from} or later; this server knows up to "
        f"{len(MIGRATIONS)}. It was used by a newer jobqueue; use that, or a later one"
    )
