"""The Writer of a store in Valkey: sends one commit at a time and waits for its replicas, and sends commits again that a failover lost."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from typing import Any, NamedTuple
from zlib import crc32

import hiredis

from jobqueue.backend.group import Fatal, Finished, Group, NotNow
from jobqueue.backend.store.store import Fenced
from jobqueue.backend.store.valkey_functions import install, lacks_functions
from jobqueue.backend.store.valkey_link import REDIRECTS_MAX, Link
from jobqueue.backend.store.valkey_wire import Connection, Lost, Refused, Wait, code_of, pack, refusal, slot_of

_logger = logging.getLogger("jobqueue.storage")

BUCKET_BITS = 14
"""16,384 numbers in a hash. With a hash that grows to a million, the server stops for 0.65 s when it resizes the hash."""

PART_ROWS = 50_000
"""Rows in one call of a function: a command has at most a million arguments. A larger group is sent as several calls in one transaction."""

REDO_SECONDS = 15.0
REDO_BYTES_MAX = 64 * 1024 * 1024
"""Commits kept in case a failover loses them: far more than a replica that can become the primary is behind."""


class _Commit(NamedTuple):
    """A group, packed. Its parts have the numbers up to `last`, and were made when `base` was the last one acknowledged."""

    base: int
    last: int
    packet: bytes
    replies: int
    sent_at: float = 0.0


class _Rows:
    """Rows of one bucket: fields and values, in the form that a call takes."""

    __slots__ = ("gone", "payloads", "states")

    def __init__(self) -> None:
        self.payloads: list[int | bytes] = []
        self.states: list[int | bytes] = []
        self.gone: list[int] = []


class ValkeyWriter:
    """A Writer for one claim. keys: `{jqN}:`; change: the number of the last commit when it was claimed; seconds: of a lease, as text;
    lane: that of this partition's commits alone.
    """

    def __init__(
        self,
        link: Link,
        keys: str,
        token: str,
        change: int,
        seconds: str,
        wait: Wait,
        renewed: Callable[[float], object],
        lane: str,
    ) -> None:
        self._link = link
        self._lane = lane
        self._key = f"{keys}o"
        self._slot = slot_of(keys)
        self._token = token
        self._seconds = seconds
        self._wait = wait
        self._renewed = renewed
        self._number = change
        """The highest number that was given to a commit."""
        self.acknowledged = change
        """The number of the last commit that was acknowledged."""
        self._kept: deque[_Commit] = deque()
        self._kept_bytes = 0
        self._commit: _Commit | None = None
        self._finished: Finished | None = None
        self._redirects = 0
        self._watch: asyncio.TimerHandle | None = None
        self._under_way: Connection | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self._loop = asyncio.get_running_loop()

    def write(self, group: Group, finished: Finished) -> None:
        """See Writer.write."""
        self._finished = finished
        if self._closed:
            self._loop.call_soon(self._end, Refused("the store is closed"))
            return
        self._commit = self._packed(group)
        self._redirects = 0
        connection = self._link.at_once(self._slot, self._lane)
        if connection is None:
            self._go_on(self._reach())
        else:
            self._send(connection)

    async def close(self, tidy: bool) -> None:
        """See Writer.close. The connections belong to the store."""
        self._closed = True
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._forget(len(self._kept))

    # Encoding a group as commands.

    def _packed(self, group: Group) -> _Commit:
        base, calls = self.acknowledged, []
        below = base
        queues = self._queues(group)
        for buckets in _parts(group, PART_ROWS):
            self._number += 1
            arguments: list[str | int | bytes] = [self._token, self._number, below, self._seconds, _row(group.counters, 0), len(buckets)]
            for bucket, rows in buckets.items():
                arguments += (bucket, len(rows.payloads), len(rows.states), len(rows.gone))
                arguments += rows.payloads
                arguments += rows.states
                arguments += rows.gone
            arguments += queues
            calls.append(("FCALL", "jo_commit", 1, self._key, *arguments))
            below, queues = self._number, []
        if len(calls) == 1:
            return _Commit(base, self._number, pack(calls[0]), 1)
        return _Commit(base, self._number, pack(("MULTI",), *calls, ("EXEC",)), len(calls) + 2)

    def _queues(self, group: Group) -> list[str | int | bytes]:
        queues: list[str | int | bytes] = []
        for name, row in group.queue_rows.items():
            key = name.encode()
            queues += (key, b"" if row is None else _row(row, crc32(key)))
        return queues

    # Sending, and handling the replies.

    def _send(self, connection: Connection, before: Sequence[_Commit] = ()) -> None:
        """Send the commit, after earlier ones that the server lacks."""
        assert self._commit is not None
        commit = self._commit = self._commit._replace(sent_at=time.monotonic())
        self._under_way = connection
        self._watch = self._loop.call_later(self._link.patience.look, self._look, connection)
        packet = b"".join([*(one.packet for one in before), commit.packet, self._wait.packed])
        count = sum(one.replies for one in before) + commit.replies + (self._wait.command is not None)
        connection.send(packet, count, lambda result: self._came(connection, before, result))

    def _came(self, connection: Connection, before: Sequence[_Commit], result: list[Any] | NotNow) -> None:
        try:
            self._replied(connection, before, result)
        except Exception as error:
            # A defect, here or in `renewed`; the journal must not be left waiting because of it.
            self._end(Fatal(f"{type(error).__name__}: {error}"))
            raise

    def _replied(self, connection: Connection, before: Sequence[_Commit], result: list[Any] | NotNow) -> None:
        assert self._watch is not None
        assert self._commit is not None
        self._watch.cancel()
        self._under_way = None
        if isinstance(result, NotNow):
            self._end(result)
            return
        waited = None if self._wait.command is None else result.pop()
        own = len(result) - self._commit.replies
        error = _first_error(result[:own], past=True) or _first_error(result[own:])
        if error is not None:
            self._refused(connection, bool(before), error)
            return
        missing = None if waited is None else self._wait.missing(waited)
        if missing is not None:
            self._end(Refused(f"{connection.place}: {missing}"))
            return
        self._keep(self._commit)
        self.acknowledged = self._commit.last
        self._renewed(self._commit.sent_at)
        self._end(None)

    def _refused(self, connection: Connection, again: bool, error: hiredis.ReplyError) -> None:
        code = code_of(error)
        if code == "FENCED":
            self._end(Fenced(f"{connection.place}: another server owns the queue now"))
        elif code == "BEHIND" and not again:
            self._redo(connection, int(str(error).split()[1]))
        elif code == "PAST":
            self._number = max(self._number, int(str(error).split()[1]))
            self._end(Refused(f"{connection.place}: has a later commit"))
        elif code in ("MOVED", "READONLY") and self._redirects < REDIRECTS_MAX:
            self._redirects += 1
            self._go_on(self._follow(error))
        elif lacks_functions([error]) and self._redirects < REDIRECTS_MAX:
            self._redirects += 1
            self._go_on(self._install())
        else:
            self._end(refusal(connection.place, error) or Refused(f"{connection.place}: {error}"))

    def _end(self, error: Exception | None) -> None:
        """Report the result, once."""
        finished, self._finished, self._commit = self._finished, None, None
        if finished is not None:
            finished(error)

    # When there is no open connection to the primary.

    def _go_on(self, work: Coroutine[Any, Any, None]) -> None:
        """Continue the commit with work that takes time; if that work fails, the commit has failed."""
        self._background(work).add_done_callback(self._went_on)

    def _went_on(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            self._end(Lost("the store was closed"))
        elif (error := task.exception()) is not None:
            # Anything else is a defect; the journal must not be left waiting because of it.
            self._end(error if isinstance(error, NotNow | Fatal) else Fatal(f"{type(error).__name__}: {error}"))

    def _background(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _reach(self) -> None:
        self._send(await self._link.to(self._slot, self._lane))

    async def _follow(self, error: hiredis.ReplyError) -> None:
        await self._link.found_elsewhere([error])
        await self._reach()

    async def _install(self) -> None:
        await install(self._link, self._key)
        await self._reach()

    # When an answer is late.

    def _look(self, connection: Connection) -> None:
        self._background(self._look_after(connection))

    async def _look_after(self, connection: Connection) -> None:
        """Check whether the primary still answers, and still is the primary; if not, give up the commit there.

        Checked on another connection: a server that is busy with a large commit answers late on this one, and must not be abandoned for
        that.
        """
        patience, commit = self._link.patience, self._commit
        give_up = time.monotonic() + patience.commit
        ping = asyncio.ensure_future(self._link.ping(connection.place))
        try:
            # The next one on this connection has a deadline of its own.
            while self._under_way is connection and self._commit is commit:
                if ping.done():
                    if ping.exception() is not None:
                        connection.abort(str(ping.exception()))
                        return
                    ping = asyncio.ensure_future(self._link.ping(connection.place))
                try:
                    await self._link.refresh()
                except NotNow:
                    pass
                else:
                    if self._link.primary(self._slot) != connection.place:
                        connection.abort("is not the primary any more")
                        return
                if time.monotonic() > give_up:
                    connection.abort(f"no answer in {patience.commit:g} s")
                    return
                await asyncio.sleep(patience.look / 2)
        finally:
            ping.cancel()
            await asyncio.gather(ping, return_exceptions=True)

    # Commits that a failover lost.

    def _keep(self, commit: _Commit) -> None:
        self._kept.append(commit)
        self._kept_bytes += len(commit.packet)
        while self._kept and (self._kept_bytes > REDO_BYTES_MAX or self._kept[0].sent_at < commit.sent_at - REDO_SECONDS):
            self._forget(1)

    def _forget(self, count: int) -> None:
        for _ in range(count):
            self._kept_bytes -= len(self._kept.popleft().packet)

    def _lacking(self, stored: int) -> list[_Commit]:
        """The commits after a number. Raises Fatal if they are not all here."""
        found = [one for one in self._kept if one.last > stored]
        if not found or found[0].base > stored:
            raise Fatal(f"the store has lost what was acknowledged since commit {stored}, and this server no longer has all of that")
        _logger.warning("the store lost %d acknowledged commits, as in a failover; they are sent again", len(found))
        return found

    def _redo(self, connection: Connection, stored: int) -> None:
        try:
            lacking = self._lacking(stored)
        except Fatal as error:
            self._end(error)
            return
        if connection.lost is None:
            self._send(connection, lacking)
        else:
            self._end(connection.lost)

    def fell_back(self, stored: int) -> None:
        """The store was seen at an earlier commit than was acknowledged. A commit that is in progress detects this itself."""
        if self._finished is None and not self._closed:
            self._background(self._restore(stored))

    async def _restore(self, stored: int) -> None:
        try:
            lacking = self._lacking(stored)
            connection = await self._link.to(self._slot, self._lane)
            packet = b"".join(one.packet for one in lacking)
            replies = await connection.exchange(packet, sum(one.replies for one in lacking), self._link.patience.commit)
            error = _first_error(replies, past=True)
            if error is not None:
                _logger.warning("the lost commits could not be sent again yet: %s", error)
        except (NotNow, Fatal) as error:
            # The next commit has the same result, and reports it.
            _logger.warning("the commits that the store lost could not be sent again: %s", error)


def _row(content: bytes, salt: int) -> bytes:
    return crc32(content, salt).to_bytes(4, "big") + content


def _parts(group: Group, rows_max: int) -> Iterator[dict[int, _Rows]]:
    """A group's jobs by bucket, in parts of limited size; one part even if there are no jobs. A job's state and payload are in the same
    part.
    """
    payloads = group.payloads
    buckets: dict[int, _Rows] = {}
    left = rows_max
    for number, state in group.states.items():
        if not left:
            yield buckets
            buckets, left = {}, rows_max
        left -= 1
        bucket = number >> BUCKET_BITS
        rows = buckets.get(bucket)
        if rows is None:
            rows = buckets[bucket] = _Rows()
        if state is None:
            rows.gone.append(number)
            continue
        rows.states += (number, crc32(state, number).to_bytes(4, "big") + state)
        payload = payloads.get(number)
        if payload is not None:
            rows.payloads += (number, crc32(payload, number).to_bytes(4, "big") + payload)
    yield buckets


def _first_error(replies: Iterable[Any], past: bool = False) -> hiredis.ReplyError | None:
    """The first error among replies, including those of a transaction. past: an error that says that the commit is there already does not
    count.
    """
    for reply in replies:
        if isinstance(reply, list) and (found := _first_error(reply, past)) is not None:
            return found
        if isinstance(reply, hiredis.ReplyError) and not (past and code_of(reply) == "PAST"):
            return reply
    return None
