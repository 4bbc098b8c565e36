"""The SQLite file: the only module that uses SQLite. Opens and checks the file, reads it, writes groups of changes, copies it.

One connection writes, in WAL mode. Others (a backup, a check) only read. This needs a SQLite without the WAL-reset bug, which corrupts a
database that several connections use; it is fixed in 3.51.3. So this module uses apsw, which includes its own SQLite, and not Python's
sqlite3, which links whatever the system has (docs/decisions/0008).

A damaged file is refused and not changed: nothing is written before everything was checked, and until then the connection does not tidy up
the log when it closes (NO_CKPT_ON_CLOSE). Every row has a CRC, since SQLite itself detects only damage to its own structure, not to the
stored data.

Not used: mmap_size (an I/O error becomes a SIGBUS), locking_mode EXCLUSIVE (no backup while serving), auto_vacuum (commits become slower).
"""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

import apsw

from jobqueue.backend.group import Fatal, Group, NotNow
from jobqueue.backend.loading import CannotOpen, JobRows
from jobqueue.backend.sqlite import changes
from jobqueue.backend.sqlite.lock import nobody_serves, unreadable
from jobqueue.backend.sqlite.room import Room
from jobqueue.backend.sqlite.wal import Index

APPLICATION_ID = 0x4A4F4251
"""JOBQ, in the file's header."""

SQLITE_MIN = (3, 51, 3)
SYNC = {"always": "FULL", "interval": "NORMAL", "off": "OFF"}
CACHE_KIB = 32_768

WAL_PAGES_MAX = 4_096
"""When the log has this many pages of 4 KiB, it is copied into the database."""

_WAL_HEADER_BYTES, _FRAME_HEADER_BYTES = 32, 24
BUSY_MS = 5_000
FAULTS_SHOWN = 3
_CHUNKS = (512, 128, 32, 8, 2, 1)
"""Rows that one statement reads; only a few sizes, so that prepared statements are reused."""

_SCHEMA = """
CREATE TABLE jobs (number INTEGER PRIMARY KEY, state BLOB NOT NULL, crc INTEGER NOT NULL);
CREATE TABLE payloads (number INTEGER PRIMARY KEY, payload BLOB NOT NULL, crc INTEGER NOT NULL);
CREATE TABLE queues (name TEXT PRIMARY KEY, state BLOB NOT NULL, crc INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE counters (id INTEGER PRIMARY KEY CHECK (id = 1), state BLOB NOT NULL, crc INTEGER NOT NULL);
"""

Migration = Callable[[apsw.Connection], object]


def _changes_no_row(_connection: apsw.Connection) -> None:
    """From this version on, rows can have more fields at their ends."""


MIGRATIONS: tuple[Migration, ...] = (lambda connection: connection.execute(_SCHEMA), _changes_no_row, _changes_no_row, _changes_no_row)
"""Each entry upgrades version n to n + 1, starting from 0, the empty file. They run in one transaction. Never change an entry that was
released.

Versions 2 to 4 change no rows. From 2 on, rows can have keys, limits and fairness at their ends (docs/decisions/0025); from 3 on, tags,
unique keys, dependencies and the like, and rows of schedules and groups can be stored among those of queues; from 4 on, headers of jobs,
and newer fields of queues' policies and of ended leases. A server of the version before would ignore these when reading, hand out jobs
without them, and write rows without them.
"""

READ_FROM = 1
"""The oldest version whose rows can be read without an upgrade, by a program that only inspects or copies a file."""

_WAITING = (apsw.FullError, apsw.BusyError, apsw.NoMemError, apsw.CantOpenError)
_WAITING_IO = frozenset(
    {apsw.SQLITE_IOERR_WRITE, apsw.SQLITE_IOERR_NOMEM, apsw.SQLITE_IOERR_SHMSIZE, apsw.SQLITE_IOERR_SHMOPEN, apsw.SQLITE_IOERR_SHMMAP}
)
"""Errors that more room, more memory or waiting cures: the transaction is rolled back and can be tried again. After a failed sync nobody
knows what is on the disk, so that error, like every other, ends the server."""


LEFTOVERS = ("", "-journal", "-wal", "-shm")
"""The suffixes of the files that SQLite makes beside a database. A failed copy can leave them behind."""


def translated(error: apsw.Error) -> Exception:
    """Convert an error of SQLite into one of ours."""
    code = getattr(error, "extendedresult", 0)
    text = f"{error} (SQLite {type(error).__name__.removesuffix('Error')} {code})"
    if isinstance(error, _WAITING) or (isinstance(error, apsw.IOError) and code in _WAITING_IO):
        return NotNow(text)
    return Fatal(text)


class Store:
    """One connection to one file."""

    def __init__(self, connection: apsw.Connection, path: str) -> None:
        self.path = path
        self.wal_pages = 0
        """Pages in the log after the last commit."""
        self.pages_missing = 0
        """Committed pages that were missing from the log when it was opened."""
        self._index: Index | None = None
        self._room: Room | None = None
        self._page_bytes = 0
        self._on_close: Callable[[], object] = lambda: None
        self._connection = connection
        self._cursor = connection.cursor()

    # Opening.

    @classmethod
    def open(cls, path: str, *, vfs: str | None = None) -> Self:
        """Open the file for writing and check it; an empty file is treated as new. Raises CannotOpen.

        The caller holds the lock, which found the path and created the file. Nothing is written before `adopt`.
        """
        if tuple(int(part) for part in apsw.sqlite_lib_version().split(".")) < SQLITE_MIN:
            raise CannotOpen(f"SQLite {apsw.sqlite_lib_version()} can corrupt a file; {'.'.join(map(str, SQLITE_MIN))} or later is needed")
        return cls._opened(path, apsw.SQLITE_OPEN_READWRITE, vfs, Index(path))

    @classmethod
    def read_only(cls, path: str) -> Self:
        """Open a file only to inspect it, whether a server uses it or not. Raises CannotOpen.

        If no server uses it, SQLite rebuilds the index of the log, and what the index knew of a log that was cut is lost. So the index is
        read before, and restored on closing.
        """
        if not os.path.isfile(path):
            raise CannotOpen(f"{path}: no such file")
        path = os.path.realpath(path)
        try:
            reason = unreadable(path)
        except OSError as error:
            reason = str(error.strerror)
        if reason is not None:
            raise CannotOpen(f"{path}: {reason}")
        with contextlib.ExitStack() as stack:
            idle = stack.enter_context(nobody_serves(path))
            store = cls._opened(path, apsw.SQLITE_OPEN_READONLY, None, Index(path) if idle else None)
            if store.pages_missing:
                # No server may start on it before the index is restored.
                store._on_close = stack.pop_all().close
        return store

    @classmethod
    def make(cls, path: str) -> Self:
        """Start a file that counts only once it is complete, such as a copy. The given file must be empty, and no other process can know of
        it. Raises CannotOpen.

        It has no log, and is useless after an error. `finish` completes it.
        """
        store = cls._opened(path, apsw.SQLITE_OPEN_READWRITE, None, None)
        try:
            # Read to the end: otherwise the answer of one would be left unread, and the next one not carried out.
            store._cursor.execute(
                f"COMMIT; PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -{CACHE_KIB}"
            ).fetchall()
            store._connection.execute(changes.SETUP)
        except apsw.Error as error:
            store.close(tidy=False)
            raise CannotOpen(f"{path}: {error}") from error
        return store

    def finish(self) -> None:
        """Close a file that was made, once all of it is on the disk. Raises OSError."""
        self.close(tidy=False)
        descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    @classmethod
    def _opened(cls, path: str, flags: int, vfs: str | None, index: Index | None) -> Self:
        try:
            connection = apsw.Connection(path, flags=flags, vfs=vfs)
        except apsw.Error as error:
            raise CannotOpen(f"{path}: {error}") from error
        store = cls(connection, path)
        try:
            connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            connection.set_busy_timeout(BUSY_MS)
            store._begin(bool(flags & apsw.SQLITE_OPEN_READWRITE), index)
        except apsw.Error as error:
            store.close(tidy=False)
            raise CannotOpen(f"{path}: {error}") from error
        except BaseException:
            store.close(tidy=False)
            raise
        return store

    def _value(self, sql: str) -> Any:
        # Read to the end: a statement that is not read to its end keeps a lock.
        ((value,),) = self._cursor.execute(sql).fetchall()
        return value

    def _begin(self, writing: bool, index: Index | None) -> None:
        """Refuse a file that is not ours, newer, or damaged. Then begin the transaction in which the file is read and upgraded."""
        try:
            tables = self._value("SELECT count(*) FROM sqlite_schema")
        except apsw.NotADBError:
            raise CannotOpen(f"{self.path}: is not a database, or its header is damaged") from None
        if self._value("PRAGMA application_id") != APPLICATION_ID and tables:
            raise CannotOpen(f"{self.path}: is a database of another program")
        version = self._value("PRAGMA user_version")
        if version > len(MIGRATIONS):
            raise CannotOpen(
                f"{self.path}: has version {version}, this server knows up to {len(MIGRATIONS)}; it was used by a newer jobqueue"
            )
        if index is not None and index.frames:
            # Only now, after SQLite has read the log: it stops without an error at the first page that is damaged or missing.
            self.pages_missing = max(0, index.frames - self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)[0])
            self._index = index
        self._cursor.execute("BEGIN IMMEDIATE" if writing else "BEGIN")
        try:
            faults = [str(row[0]) for row in self._cursor.execute(f"PRAGMA quick_check({FAULTS_SHOWN})")]
        except UnicodeDecodeError:
            # SQLite quotes the file's own names, which are damaged too.
            faults = ["what is wrong with it cannot be shown as text"]
        if faults != ["ok"]:
            raise CannotOpen(f"{self.path}: is damaged: {'; '.join(faults)}")
        if version < len(MIGRATIONS):
            if not writing:
                if version >= READ_FROM:
                    return
                raise CannotOpen(f"{self.path}: {'is of an older version; start a server on it' if version else 'holds nothing yet'}")
            for migrate in MIGRATIONS[version:]:
                migrate(self._connection)
            self._cursor.execute(f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {len(MIGRATIONS)}")

    def adopt(self, sync: str) -> None:
        """Take the file over, after all of it was read: commit what migrations did, and set the sync mode, a key of SYNC. Raises
        CannotOpen.
        """
        try:
            self._cursor.execute("COMMIT; PRAGMA journal_mode = WAL")
            self._cursor.execute(f"PRAGMA synchronous = {SYNC[sync]}; PRAGMA fullfsync = ON; PRAGMA cache_size = -{CACHE_KIB}")
            self._try_to_write()
            self._connection.execute(changes.SETUP)
            # SQLite's own checkpoints ignore errors.
            self._connection.wal_autocheckpoint(0)
            self._pages_written()
            self.wal_pages = self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)[0]
            self._connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0)
        except apsw.Error as error:
            raise CannotOpen(f"{self.path}: {error}") from error
        if sync == "always":
            self._page_bytes = self._value("PRAGMA page_size") + _FRAME_HEADER_BYTES
            with contextlib.suppress(OSError):
                # If the disk has no room, there may be no log yet.
                self._room = Room(f"{self.path}-wal", _WAL_HEADER_BYTES + WAL_PAGES_MAX * self._page_bytes)

    def make_room(self) -> None:
        """Make room in the log for the next commits, if each waits for a sync. Raises Fatal: see `checkpoint`."""
        if self._room is not None:
            try:
                self._room.make(_WAL_HEADER_BYTES + self.wal_pages * self._page_bytes)
            except OSError as error:
                raise Fatal(f"{self.path}-wal: {error.strerror or error}") from error

    def _try_to_write(self) -> None:
        """Commit a transaction without changes, so that a file or a log that cannot be written is detected now, not by the first job.

        A full disk does not prevent the start: reads are served, and the first change reports the error.
        """
        if self._connection.readonly("main"):
            raise CannotOpen(f"{self.path}: is read-only, and the server must write it")
        try:
            self._cursor.execute(f"BEGIN IMMEDIATE; PRAGMA user_version = {len(MIGRATIONS)}; COMMIT")
        except apsw.Error as error:
            if not isinstance(translated(error), NotNow) or isinstance(error, apsw.CantOpenError):
                raise
            self._roll_back()

    # Reading.

    def counters(self) -> bytes | None:
        """The counters' row, None in a new file. Raises CannotOpen."""
        for state, crc in self._rows("SELECT state, crc FROM counters"):
            return self._whole(state, crc, 0, "the counters")
        return None

    def queues(self) -> Iterator[tuple[str, bytes]]:
        """Every queue's row. Raises CannotOpen."""
        for name, state, crc in self._rows("SELECT name, state, crc FROM queues ORDER BY name"):
            yield name, self._whole(state, crc, zlib.crc32(name.encode()), f"queue {name!r}")

    def count(self) -> int:
        """The number of jobs. Raises CannotOpen."""
        (jobs, payloads) = next(self._rows("SELECT (SELECT count(*) FROM jobs), (SELECT count(*) FROM payloads)"))
        if jobs != payloads:
            raise CannotOpen(f"{self.path}: is damaged: it has {jobs} jobs and {payloads} payloads")
        return int(jobs)

    def jobs(self) -> Iterator[JobRows]:
        """Every job's rows, in order of number. Raises CannotOpen."""
        return self._jobs("")

    def these(self, numbers: Sequence[int]) -> Iterator[JobRows]:
        """The rows of these jobs, without those that do not exist. Raises CannotOpen."""
        start = 0
        while start < len(numbers):
            size = next(size for size in _CHUNKS if size <= len(numbers) - start)
            yield from self._jobs(f"WHERE number IN ({','.join('?' * size)})", numbers[start : start + size])
            start += size

    def _jobs(self, where: str, values: Sequence[int] = ()) -> Iterator[JobRows]:
        rows = self._rows(
            f"SELECT number, state, j.crc, payload, p.crc FROM jobs AS j LEFT JOIN payloads AS p USING (number) {where} ORDER BY number",
            values,
        )
        for number, state, crc, payload, payload_crc in rows:
            if payload is None:
                raise CannotOpen(f"{self.path}: is damaged: job number {number} has no payload")
            whole = self._whole(state, crc, number, f"job number {number}")
            yield JobRows(number, whole, self._whole(payload, payload_crc, number, f"the payload of job number {number}"))

    def _rows(self, sql: str, values: Sequence[int] = ()) -> Iterator[Any]:
        try:
            yield from self._connection.cursor().execute(sql, values)
        except (apsw.Error, UnicodeDecodeError) as error:
            raise CannotOpen(f"{self.path}: {error}") from error

    def _whole(self, content: bytes, crc: int, salt: int, what: str) -> bytes:
        if zlib.crc32(content, salt) != crc:
            raise CannotOpen(f"{self.path}: is damaged: {what} does not have its checksum")
        return content

    # Writing. All writes happen in one thread at a time.

    def write(self, group: Group) -> None:
        """Commit a group. Raises NotNow, with nothing changed, or Fatal."""
        try:
            changes.write(self._cursor.execute, group)
        except apsw.Error as error:
            self._roll_back()
            raise translated(error) from error
        self.wal_pages += self._pages_written()

    def _pages_written(self) -> int:
        """Pages written since the last call. A hook would tell the place in the log, but run Python in each commit."""
        return self._connection.status(apsw.SQLITE_DBSTATUS_CACHE_WRITE, True)[0]

    def _roll_back(self) -> None:
        # Some errors roll back on their own.
        if self._connection.in_transaction:
            try:
                self._cursor.execute("ROLLBACK")
            except apsw.Error as error:
                raise translated(error) from error

    def checkpoint(self) -> None:
        """Sync the log, copy it into the database, and sync that. Raises NotNow, or Fatal: after a failed sync nothing is certain."""
        self.wal_pages = 0
        try:
            pages, copied = self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        except apsw.Error as error:
            raise translated(error) from error
        if copied < pages:
            # A backup still reads the rest; until then SQLite cannot start the log anew.
            self.wal_pages = pages

    def close(self, tidy: bool = True) -> None:
        """Close the file. tidy: copy the log into the database and delete the log; otherwise leave every file as it is."""
        if not tidy:
            self._connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        self._connection.close()
        if self._room is not None:
            self._room.close()
            self._room = None
        if not tidy and self.pages_missing and self._index is not None:
            self._index.put_back()
        self._on_close()

    def copy_to(self, path: str) -> None:
        """Write the whole database, as it is at this moment, to an empty file. Raises CannotOpen.

        After a failure there can be files beside it too: see LEFTOVERS.
        """
        try:
            target = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READWRITE)
            try:
                backup = target.backup("main", self._connection, "main")
                try:
                    backup.step()
                finally:
                    backup.finish()  # raises the real error; the error of `step` reads "not an error"
                # A copy of a database in WAL mode is in WAL mode too; this makes it one file, and syncs it.
                target.execute("PRAGMA journal_mode = DELETE")
            finally:
                target.close()
        except apsw.Error as error:
            # If only a few pages are free, this is an I/O error, since there is no room for a log's index.
            hint = "there is no room for it: " if isinstance(translated(error), NotNow) else ""
            raise CannotOpen(f"{path}: {hint}{error}") from error
