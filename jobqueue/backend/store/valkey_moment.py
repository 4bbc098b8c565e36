"""Reads all rows of a store in Valkey as they were at one moment, while its owner continues.

No command of Valkey reads a million fields at once without blocking all clients. So the rows are read in parts while they change, and the
function that commits records the numbers of the jobs that it changes meanwhile (`{jqN}:t`, valkey.lua). These are read again, a bounded
number at a time, by functions that remove the numbers from the record in the same step. The last of them finds no more numbers than it
returns, and returns queues and counters too. That step is the moment.

The reading counts only if one primary, without a break, has seen all of it: another primary may lack commits, and their recorded numbers.
And as many replicas as a commit waits for must have the first record and the last, so that a primary which was cut off from them is not
taken for the one that has everything that was acknowledged.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol
from zlib import crc32

from jobqueue.backend.group import Fatal, Group, NotNow
from jobqueue.backend.loading import CannotOpen
from jobqueue.backend.store.store import Whole
from jobqueue.backend.store.valkey_wire import Command, Refused, Wait, info_of
from jobqueue.limits import MIB

NOTE_SECONDS = 60.0
"""How long numbers are recorded for a reader that sends nothing."""

SCAN_ROWS_MIN, SCAN_ROWS_MAX = 10, 2_000
SCAN_BYTES = MIB
"""The approximate size of one answer, however large payloads are."""

NOTED_ROWS = 2_000
NOTED_BYTES = 4 * MIB

Apply = Callable[[Group], Awaitable[object]]


class Ask(Protocol):
    """Sends commands to the primary of the rows. Returns the replies, none of them an error. See ValkeyStore."""

    async def __call__(self, *commands: Command, seconds: float | None = None) -> list[Any]:
        """Raises NotNow."""


def whole(path: str, row: bytes, salt: int, what: str) -> bytes:
    """The content of a row without its checksum. Raises CannotOpen."""
    content = row[4:]
    if crc32(content, salt) != int.from_bytes(row[:4], "big") or len(row) < 4:
        raise CannotOpen(f"{path}: is damaged: {what} does not have its checksum")
    return content


class Moment:
    """One reading. keys: `{jqN}:`; path: the name of the store in errors."""

    def __init__(self, ask: Ask, keys: str, path: str, wait: Wait) -> None:
        self._ask = ask
        self._keys = keys
        self._path = path
        self._wait = wait
        self._token = secrets.token_hex(8)
        self._primary = ""
        self._renew_at = 0.0

    async def read(self, apply: Apply) -> Whole:
        """See Store.moment."""
        await self._step(self._note(NOTE_SECONDS, again=False))
        self._renew_at = time.monotonic() + NOTE_SECONDS / 3
        try:
            async for number in self._buckets():
                async for fields in self._scan(f"{self._keys}j:{number}"):
                    await apply(self._group(dict(fields), {}))
                async for fields in self._scan(f"{self._keys}p:{number}"):
                    await apply(self._group({}, dict(fields)))
            return await self._catch_up(apply)
        except BaseException:
            await self._give_up()
            raise

    def _note(self, seconds: float, *, again: bool) -> Command:
        return ("FCALL", "jo_note", 1, f"{self._keys}t", self._token, f"{seconds:.6f}", "1" if again else "0")

    async def _give_up(self) -> None:
        """Stop the recording of numbers, if the store can be reached."""
        # The original error is being raised; the store drops the record by itself.
        with contextlib.suppress(NotNow, Fatal):
            await self._ask(self._note(0.0, again=True))

    async def _step(self, command: Command) -> Any:
        """Send a command that ties the reading to one primary and its replicas. Raises NotNow if the primary is not the same as before."""
        commands = [command, ("INFO", "server"), ("INFO", "replication")]
        if self._wait.command is not None:
            commands.append(self._wait.command)
        reply, server, replication, *waited = await self._ask(*commands, seconds=self._wait.deadline)
        if waited and (missing := self._wait.missing(waited[0])):
            raise Refused(f"{self._path}: {missing}")
        # The first value is new at each start of a server, the second each time that a server becomes the primary.
        primary = f"{info_of(server).get('run_id')} {info_of(replication).get('master_replid')}"
        if self._primary and primary != self._primary:
            raise Refused(f"{self._path}: there was a failover while the jobs were read; begin again")
        self._primary = primary
        return reply

    async def _go_on(self) -> None:
        """Show from time to time that this reader is still there."""
        if time.monotonic() > self._renew_at:
            await self._ask(self._note(NOTE_SECONDS, again=True))
            self._renew_at = time.monotonic() + NOTE_SECONDS / 3

    async def _buckets(self) -> AsyncIterator[int]:
        """Buckets that have jobs. A bucket that is created meanwhile is recorded completely."""
        found: set[bytes] = set()
        async for fields in self._scan(f"{self._keys}b"):
            found.update(key for key, _ in fields)
        for number in sorted(self._number(key) for key in found):
            yield number

    async def _scan(self, key: str) -> AsyncIterator[list[tuple[bytes, bytes]]]:
        """Fields and values of a hash; some can appear more than once."""
        cursor, count = b"0", SCAN_ROWS_MIN * 10
        while True:
            await self._go_on()
            ((cursor, flat),) = await self._ask(("HSCAN", key, cursor, "COUNT", count))
            if flat:
                yield list(zip(flat[::2], flat[1::2], strict=True))
            if cursor == b"0":
                return
            small = sum(map(len, flat)) < SCAN_BYTES
            count = min(2 * count, SCAN_ROWS_MAX) if small else max(count // 2, SCAN_ROWS_MIN)

    async def _catch_up(self, apply: Apply) -> Whole:
        """Read again what was recorded, until nothing is left."""
        while True:
            command = ("FCALL", "jo_noted", 1, f"{self._keys}t", self._token, f"{NOTE_SECONDS:.6f}", NOTED_ROWS, NOTED_BYTES)
            done, rows, *rest = await self._step(command)
            self._renew_at = time.monotonic() + NOTE_SECONDS / 3
            if rows:
                await apply(self._noted(rows))
            if done:
                return self._whole(*rest)

    def _noted(self, rows: list[bytes | None]) -> Group:
        states: dict[bytes, bytes] = {}
        payloads: dict[bytes, bytes] = {}
        gone: list[bytes] = []
        for key, state, payload in zip(rows[::3], rows[1::3], rows[2::3], strict=True):
            assert key is not None
            if state is None:
                gone.append(key)
                continue
            states[key] = state
            if payload is not None:
                payloads[key] = payload
        group = self._group(states, payloads)
        for key in gone:
            group.forget(self._number(key))
        return group

    def _group(self, states: dict[bytes, bytes], payloads: dict[bytes, bytes]) -> Group:
        group = Group()
        for key, row in states.items():
            number = self._number(key)
            group.put(number, whole(self._path, row, number, f"job number {number}"))
        for key, row in payloads.items():
            number = self._number(key)
            group.put_payload(number, whole(self._path, row, number, f"the payload of job number {number}"))
        return group

    def _number(self, key: bytes) -> int:
        try:
            return int(key)
        except ValueError:
            raise CannotOpen(f"{self._path}: is damaged: it has a job without a number") from None

    def _whole(self, counters: bytes | None, buckets: list[bytes], queues: list[bytes]) -> Whole:
        path = self._path
        found: dict[str, bytes] = {}
        for key, row in zip(queues[::2], queues[1::2], strict=True):
            try:
                name = key.decode()
            except UnicodeDecodeError:
                raise CannotOpen(f"{path}: is damaged: a queue is called {key!r}") from None
            found[name] = whole(path, row, crc32(key), f"queue {name!r}")
        kept = None if counters is None else whole(path, counters, 0, "the row of counters")
        return Whole(kept, dict(sorted(found.items())), sum(self._number(many) for many in buckets[1::2]))
