"""What a PostgresStore installs in a database: its tables and functions, and how an older schema becomes this one.

Every change is one call of one function, so one statement in a transaction of its own: it begins when the whole of it has arrived. A
server that dies, or is cut off, in the middle of sending therefore never leaves a transaction open with the owner's row locked, which
would keep the next owner out for as long as TCP takes to notice. In a function each statement sees what was committed before that
statement began, so what follows the lock on the owner's row sees the last word of an earlier owner, or of an earlier try of the same
group; in one statement made of CTEs, a delete would not.

A commit has a number too, larger with each try. One that its owner gave up, because its connection broke, may still lie in the buffers of
that connection, and be carried out after the group was sent again, and later ones too. Its number is smaller then, and it is refused.
A commit also says which one was acknowledged last. When the database does not know that one it has lost it, as in a failover to an
asynchronous replica; then this owner's changes do not fit what is there, and the next owner has to begin from the rows.

Epochs are milliseconds since 1970 when they can be, one more than the last otherwise: they grow, and one that was given out is not given
out again when a failover to an asynchronous replica loses the claim. Otherwise two owners of one epoch would both write.

Upgrades beside running servers: a migration runs in one transaction under an advisory lock. It adds functions of a new name beside those
that running servers call, and says in `format.usable_from` which servers may still use what it left. Drop what is not called any more a
release later.
"""

from __future__ import annotations

from typing import NamedTuple


class Migration(NamedTuple):
    """What makes version n + 1 of version n. {schema} stands for the schema's name. usable_from: the oldest version a server may know."""

    sql: str
    usable_from: int


TABLES = ("counters", "format", "jobs", "members", "owner", "payloads", "queues")

FENCED = "JQ001"
"""The SQLSTATE of a refusal under an old epoch. Its message says why. JQ002: a commit that comes late. JQ003: the database has lost one."""

MEMBER_SECONDS = 60
"""How long a server is on the list after it said that it is there."""

_FIRST = """
CREATE TABLE {schema}.format (
    id smallint PRIMARY KEY CHECK (id = 1), version integer NOT NULL, usable_from integer NOT NULL
);
CREATE TABLE {schema}.owner (
    id smallint PRIMARY KEY CHECK (id = 1), epoch bigint NOT NULL, name text, address text, until timestamptz NOT NULL,
    attempt bigint NOT NULL
) WITH (fillfactor = 10);
INSERT INTO {schema}.owner VALUES (1, 0, NULL, NULL, '-infinity', 0);
CREATE TABLE {schema}.jobs (number bigint PRIMARY KEY, state bytea NOT NULL, crc bigint NOT NULL) WITH (fillfactor = 70);
CREATE TABLE {schema}.payloads (number bigint PRIMARY KEY, payload bytea NOT NULL, crc bigint NOT NULL);
CREATE TABLE {schema}.queues (name text COLLATE "C" PRIMARY KEY, state bytea NOT NULL, crc bigint NOT NULL) WITH (fillfactor = 50);
CREATE TABLE {schema}.counters (id smallint PRIMARY KEY CHECK (id = 1), state bytea NOT NULL, crc bigint NOT NULL) WITH (fillfactor = 10);
CREATE TABLE {schema}.members (name text PRIMARY KEY, address text NOT NULL, seen timestamptz NOT NULL) WITH (fillfactor = 50);

-- Lock the owner's row and refuse all epochs but the last, and that one once it is released. The number of the last commit.
CREATE FUNCTION {schema}.fence_1(asked bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    last {schema}.owner;
BEGIN
    SELECT * INTO last FROM {schema}.owner WHERE id = 1 FOR UPDATE;
    IF last.epoch IS DISTINCT FROM asked THEN
        RAISE EXCEPTION 'another server has claimed the queue since, under epoch %', last.epoch USING ERRCODE = 'JQ001';
    ELSIF last.name IS NULL THEN
        RAISE EXCEPTION 'the queue was released' USING ERRCODE = 'JQ001';
    END IF;
    RETURN last.attempt;
END $$;

-- On a claim that is lost hangs whose the next epoch is, so it is on disk before it is answered, whatever commits may do.
CREATE FUNCTION {schema}.claim_1(asking text, at text, seconds float8, force boolean)
RETURNS TABLE (name text, address text, epoch bigint, remaining float8) LANGUAGE plpgsql AS $$
DECLARE
    last {schema}.owner;
BEGIN
    IF current_setting('synchronous_commit') = 'off' THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
    SELECT * INTO STRICT last FROM {schema}.owner AS o WHERE o.id = 1 FOR UPDATE;
    IF last.name IS NULL OR last.name = asking OR last.until <= clock_timestamp() OR force THEN
        UPDATE {schema}.owner AS o
        SET epoch = greatest(o.epoch + 1, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint),
            attempt = 0, name = asking, address = at, until = clock_timestamp() + make_interval(secs => seconds)
        WHERE o.id = 1;
    END IF;
    RETURN QUERY SELECT o.name, o.address, o.epoch, extract(epoch FROM o.until - clock_timestamp())::float8
        FROM {schema}.owner AS o WHERE o.id = 1;
END $$;

CREATE FUNCTION {schema}.renew_1(asked bigint, seconds float8) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM {schema}.fence_1(asked);
    UPDATE {schema}.owner SET until = clock_timestamp() + make_interval(secs => seconds) WHERE id = 1;
END $$;

CREATE FUNCTION {schema}.release_1(asked bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM {schema}.fence_1(asked);
    UPDATE {schema}.owner SET name = NULL, address = NULL, until = clock_timestamp() WHERE id = 1;
END $$;

CREATE FUNCTION {schema}.commit_1(
    asked bigint, acknowledged bigint, number_of_try bigint, seconds float8,
    payload_numbers bigint[], payload_bytes bytea[], payload_crcs bigint[],
    job_numbers bigint[], job_states bytea[], job_crcs bigint[], job_gone bigint[],
    queue_names text[], queue_states bytea[], queue_crcs bigint[], queue_gone text[],
    counters_state bytea, counters_crc bigint
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    last bigint := {schema}.fence_1(asked);
BEGIN
    IF last >= number_of_try THEN
        RAISE EXCEPTION 'a later commit of the same owner came first' USING ERRCODE = 'JQ002';
    ELSIF last < acknowledged THEN
        RAISE EXCEPTION 'the database has lost commits that it had acknowledged, as after a failover to an asynchronous replica'
            USING ERRCODE = 'JQ003';
    END IF;
    IF cardinality(payload_numbers) > 0 THEN
        INSERT INTO {schema}.payloads SELECT * FROM unnest(payload_numbers, payload_bytes, payload_crcs)
            ON CONFLICT (number) DO UPDATE SET payload = excluded.payload, crc = excluded.crc;
    END IF;
    IF cardinality(job_numbers) > 0 THEN
        INSERT INTO {schema}.jobs SELECT * FROM unnest(job_numbers, job_states, job_crcs)
            ON CONFLICT (number) DO UPDATE SET state = excluded.state, crc = excluded.crc;
    END IF;
    IF cardinality(job_gone) > 0 THEN
        DELETE FROM {schema}.jobs WHERE number = ANY (job_gone);
        DELETE FROM {schema}.payloads WHERE number = ANY (job_gone);
    END IF;
    IF cardinality(queue_names) > 0 THEN
        INSERT INTO {schema}.queues SELECT * FROM unnest(queue_names, queue_states, queue_crcs)
            ON CONFLICT (name) DO UPDATE SET state = excluded.state, crc = excluded.crc;
    END IF;
    IF cardinality(queue_gone) > 0 THEN
        DELETE FROM {schema}.queues WHERE name = ANY (queue_gone);
    END IF;
    INSERT INTO {schema}.counters VALUES (1, counters_state, counters_crc)
        ON CONFLICT (id) DO UPDATE SET state = excluded.state, crc = excluded.crc;
    UPDATE {schema}.owner SET until = clock_timestamp() + make_interval(secs => seconds), attempt = number_of_try WHERE id = 1;
END $$;

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

_SECOND = "SELECT 1"
"""Nothing: rows may have keys and limits from here on, which a server that knows none would read over, and write without."""

MIGRATIONS: tuple[Migration, ...] = (Migration(_FIRST, 1), Migration(_SECOND, 2))
"""From version 0, an empty schema, on. Never change one that was released."""


def too_new(schema: str, version: int, usable_from: int) -> str | None:
    """Why a server of this version may not use what is installed; None if it may."""
    if usable_from <= len(MIGRATIONS):
        return None
    return (
        f"the schema {schema} has version {version}, for servers that know version {usable_from} or later; this server knows up to "
        f"{len(MIGRATIONS)}. It was used by a newer jobqueue; use that, or a later one"
    )
