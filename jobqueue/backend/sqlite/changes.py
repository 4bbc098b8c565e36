"""Writes groups of changes to the tables, each group in one statement.

apsw releases Python's global lock (GIL) for each statement and takes it back afterwards, and each time the thread that writes may have to
wait for the loop, or the loop for it. A group used to be ten statements; now a small group is one, with its commit and its sync in it. This
is done with a temporary view, which belongs to the connection and is not in the file: what is inserted into it, its triggers put into the
tables (docs/decisions/0045).

A large group is several statements in a transaction.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

from jobqueue.backend.group import Group

_JOB, _PAYLOAD, _GONE, _QUEUE, _QUEUE_GONE, _COUNTERS = range(6)

SETUP = f"""
PRAGMA temp_store = MEMORY;
CREATE TEMP VIEW changes AS SELECT NULL AS kind, NULL AS name, NULL AS content, NULL AS crc;
CREATE TEMP TRIGGER put_job INSTEAD OF INSERT ON changes WHEN NEW.kind = {_JOB}
    BEGIN INSERT OR REPLACE INTO jobs VALUES (NEW.name, NEW.content, NEW.crc); END;
CREATE TEMP TRIGGER put_payload INSTEAD OF INSERT ON changes WHEN NEW.kind = {_PAYLOAD}
    BEGIN INSERT OR REPLACE INTO payloads VALUES (NEW.name, NEW.content, NEW.crc); END;
CREATE TEMP TRIGGER drop_job INSTEAD OF INSERT ON changes WHEN NEW.kind = {_GONE}
    BEGIN DELETE FROM jobs WHERE number = NEW.name; DELETE FROM payloads WHERE number = NEW.name; END;
CREATE TEMP TRIGGER put_queue INSTEAD OF INSERT ON changes WHEN NEW.kind = {_QUEUE}
    BEGIN INSERT OR REPLACE INTO queues VALUES (NEW.name, NEW.content, NEW.crc); END;
CREATE TEMP TRIGGER drop_queue INSTEAD OF INSERT ON changes WHEN NEW.kind = {_QUEUE_GONE}
    BEGIN DELETE FROM queues WHERE name = NEW.name; END;
CREATE TEMP TRIGGER put_counters INSTEAD OF INSERT ON changes WHEN NEW.kind = {_COUNTERS}
    BEGIN INSERT OR REPLACE INTO counters VALUES (1, NEW.content, NEW.crc); END;
"""
"""Makes the view, once for each connection that writes, outside of a transaction. temp_store: SQLite puts the rows of a statement with
triggers into a table of its own first, which would go to a file if it is large."""

_COLUMNS = 4

_SIZES = (2, 4, 8, 16, 24, 32, 40, 48, 64, 80, 96, 128, 192, 256, 384, 512)
"""Rows in one statement. Only a few sizes, so that prepared statements are reused; the rest of the rows are NULL, for which no trigger does
anything."""

ROWS_MAX = _SIZES[-1]

BYTES_MAX = 1 << 20
"""Bytes in one statement, unless one row is longer: SQLite copies them once more."""

_SQL = {size: f"INSERT INTO temp.changes VALUES {','.join(['(?,?,?,?)'] * size)}" for size in _SIZES}


def write(execute: Callable[..., object], group: Group) -> None:
    """Commit a group by the `execute` of a cursor. After an error there may still be a transaction to roll back."""
    pieces = _pieces(group)
    if len(pieces) == 1:
        _insert(execute, pieces[0])
        return
    execute("BEGIN IMMEDIATE")
    for piece in pieces:
        _insert(execute, piece)
    execute("COMMIT")


def _insert(execute: Callable[..., object], values: list[Any]) -> None:
    count = len(values) // _COLUMNS
    size = next(size for size in _SIZES if size >= count)
    values += [None] * (_COLUMNS * (size - count))
    execute(_SQL[size], values)


def _pieces(group: Group) -> list[list[Any]]:
    """The rows of a group, for one statement each."""
    crc32 = zlib.crc32
    values: list[Any] = []
    pieces = [values]
    room = BYTES_MAX
    for number, payload in group.payloads.items():
        room -= len(payload)
        if room < 0 and values:
            pieces.append(values := [])
            room = BYTES_MAX - len(payload)
        values += (_PAYLOAD, number, payload, crc32(payload, number))
    for number, state in group.states.items():
        if state is None:
            values += (_GONE, number, None, None)
            continue
        room -= len(state)
        if room < 0 and values:
            pieces.append(values := [])
            room = BYTES_MAX - len(state)
        values += (_JOB, number, state, crc32(state, number))
    for name, row in group.queue_rows.items():
        if row is None:
            values += (_QUEUE_GONE, name, None, None)
        else:
            values += (_QUEUE, name, row, crc32(row, crc32(name.encode())))
    values += (_COUNTERS, None, group.counters, crc32(group.counters))
    width = _COLUMNS * ROWS_MAX
    return [piece[start : start + width] for piece in pieces for start in range(0, len(piece), width)]
