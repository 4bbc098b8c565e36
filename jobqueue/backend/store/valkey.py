"""A Store in Valkey (or Redis): the rows of one queue in hashes, written by functions that check the caller's claim (valkey.lua).

A commit is one FCALL, followed in the same packet by WAIT (or WAITAOF) for as many replicas as configured. It is acknowledged when both
have been answered. Nothing is sent twice under one number: if a group is committed again, because the result is unknown, it gets a new
number, and if the earlier commit arrives after that, the store refuses it. So a packet that a stopped server still has in its buffers when
it wakes does no harm.

**What a failover lost.** A replica can become the primary without the last commits, which were acknowledged. The owner keeps commits for
REDO_SECONDS. The first commit or renewal at the new primary returns how far behind it is, and the missing commits are sent again before
anything else. So an acknowledged change is lost only if both the owner and the primary are lost.

Every row begins with a CRC of itself, salted with its number or name, as in the SQLite file: damaged rows are not served.
"""

from __future__ import annotations

import asyncio
import secrets
import ssl
from collections.abc import Awaitable, Callable, Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit
from zlib import crc32

import hiredis

from jobqueue.backend.group import Group, Writer
from jobqueue.backend.loading import CannotOpen, JobRows
from jobqueue.backend.store import valkey_checks
from jobqueue.backend.store.store import Fenced, Member, Owner, Standing, Whole
from jobqueue.backend.store.valkey_functions import install, lacks_functions
from jobqueue.backend.store.valkey_link import Link
from jobqueue.backend.store.valkey_moment import Moment, whole
from jobqueue.backend.store.valkey_wire import Acknowledge, Command, Login, Patience, Place, Refused, Wait, code_of
from jobqueue.backend.store.valkey_writer import ValkeyWriter

DEFAULT_PORT = 6379
SCAN_ROWS = 2_000
MEMBER_SECONDS = 60.0
"""How long a server stays on the list after it announced itself, as in valkey.lua."""

SCANS_AT_ONCE = 8
"""Buckets that are read at the same time."""

Pairs = dict[bytes, bytes]


class Address(NamedTuple):
    """The parts of a URL. path: the URL without a password."""

    places: tuple[Place, ...]
    user: str | None
    password: str | None
    tls: bool
    path: str

    def __repr__(self) -> str:
        return f"<Address {self.path}>"


def address_of(url: str) -> Address:
    """The parts of `valkey://[user:password@]host[:port][,host[:port]…]`; `valkeys` is TLS. Raises ValueError, without the password."""
    scheme, _, rest = url.partition("://")
    if scheme not in ("valkey", "valkeys") or not rest:
        raise ValueError("a Valkey URL reads valkey://[user:password@]host:port[,host:port…], or valkeys:// for TLS")
    credentials, at, hosts = rest.rpartition("@")
    hosts = hosts.removesuffix("/")
    user, _, password = credentials.partition(":")
    if at and not password:
        raise ValueError(f"{scheme}://…@{hosts}: a user needs a password: user:password@, or :password@ for the default user")
    places: list[Place] = []
    for host in hosts.split(","):
        try:
            parts = urlsplit(f"//{host}")
            port = parts.port or DEFAULT_PORT
        except ValueError:
            raise ValueError(f"{scheme}://{hosts}: {host!r} has no valid port") from None
        if parts.hostname is None or parts.path or parts.query or parts.fragment:
            raise ValueError(f"{scheme}://{hosts}: {host!r} is no host:port")
        places.append(Place(parts.hostname, port))
    shown = ",".join(map(str, places))
    who = f"{user}@" if user else ""
    return Address(tuple(places), unquote(user) or None, unquote(password) or None, scheme == "valkeys", f"{scheme}://{who}{shown}")


class ValkeyStore:
    """A Store in Valkey.

    acknowledge: how many replicas must have a change before it is acknowledged, 0 to 2, or "aof": it is in the append-only files of the
    primary and one replica. tls: replaces the default context, for a URL of valkeys://. name: the prefix of its keys.
    """

    def __init__(
        self,
        url: str,
        acknowledge: Acknowledge = 1,
        *,
        tls: ssl.SSLContext | None = None,
        name: str = "jq",
        patience: Patience = Patience(),  # noqa: B008 - immutable
    ) -> None:
        address = address_of(url)
        context = (tls or ssl.create_default_context()) if address.tls else None
        self._path = address.path
        self._wait = Wait(acknowledge, patience.call)
        self._link = Link(address.places, Login(address.user, address.password, context), patience)
        self._patience = patience
        self._keys = f"{{{name}0}}:"
        self._owner_key = f"{self._keys}o"
        self._members_key = f"{{{name}}}:members"
        self._meta_key = f"{{{name}}}:meta"
        self._claims: dict[int, tuple[str, int]] = {}
        """By epoch: the claim's token, and the number of the last commit when it was claimed."""
        self._writers: dict[int, ValkeyWriter] = {}

    @property
    def path(self) -> str:
        """See Store.path."""
        return self._path

    async def open(self) -> None:
        """See Store.open."""
        await valkey_checks.check(self._link, self._path, self._checked, self._wait)

    async def inspect(self) -> None:
        """See Inspected.inspect."""
        await valkey_checks.check(self._link, self._path, self._checked, self._wait, change=False)

    @property
    def _checked(self) -> valkey_checks.Keys:
        return valkey_checks.Keys(self._owner_key, f"{self._keys}try", self._meta_key)

    # Ownership.

    async def claim(self, name: str, address: str, seconds: float, force: bool = False) -> Owner:
        """See Store.claim. Raises NotNow if fewer replicas have the claim than a commit requires: a failover could lose it."""
        nonce = secrets.token_hex(8)
        commands = [self._function("jo_claim", name, address, _seconds(seconds), "1" if force else "0", nonce)]
        commands.append(("HGET", self._owner_key, "change"))
        if self._wait.command is not None:
            commands.append(self._wait.command)
        (holder, at, epoch, left), change, *waited = await self._ask(*commands, lane="claims", seconds=self._wait.deadline)
        owner = Owner(holder.decode(), at.decode(), int(epoch), float(left))
        if owner.name == name:
            if waited and (missing := self._wait.missing(waited[0])):
                raise Refused(missing)
            self._claims[owner.epoch] = (f"{owner.epoch}:{nonce}", int(change))
        return owner

    async def owner(self) -> Owner | None:
        """See Store.owner."""
        (found,) = await self._ask(("FCALL_RO", "jo_owner", 1, self._owner_key))
        return None if found is None else Owner(found[0].decode(), found[1].decode(), int(found[2]), float(found[3]))

    async def renew(self, epoch: int, seconds: float) -> None:
        """See Store.renew. Also detects whether a failover lost commits, while there are no new ones."""
        writer = self._writers.get(epoch)
        acknowledged = 0 if writer is None else writer.acknowledged
        (change,) = await self._ask(self._function("jo_renew", self._token(epoch), _seconds(seconds)))
        if writer is not None and change < acknowledged:
            writer.fell_back(change)

    async def release(self, epoch: int) -> None:
        """See Store.release."""
        await self._ask(self._function("jo_release", self._token(epoch)))

    def _token(self, epoch: int) -> str:
        """The token of a claim; for a claim that was not made here, a token that no claim has."""
        return self._claims[epoch][0] if epoch in self._claims else ""

    def _function(self, name: str, *arguments: str) -> Command:
        return ("FCALL", name, 1, self._owner_key, *arguments)

    async def _ask(self, *commands: Command, key: str | None = None, lane: str = "calls", seconds: float | None = None) -> list[Any]:
        """The replies, none of them an error. Raises Fenced, NotNow."""
        key = key or self._owner_key
        replies = await self._link.ask(key, *commands, lane=lane, seconds=seconds)
        if lacks_functions(replies):
            # A primary that has joined since. It did nothing.
            await install(self._link)
            replies = await self._link.ask(key, *commands, lane=lane, seconds=seconds)
        for reply in replies:
            if code_of(reply) == "FENCED":
                raise self._fenced()
            if code_of(reply) == "WRONGTYPE" and lane == "rows":
                raise CannotOpen(f"{self._path}: is damaged: {commands[0][1]!r}: {reply}")
            if isinstance(reply, hiredis.ReplyError):
                raise Refused(f"{self._path}: {reply}")
        return replies

    # Rows.

    async def rows(self, epoch: int) -> ValkeyRows:
        """See Store.rows."""
        await valkey_checks.check_format(self._link, self._path, self._meta_key)
        token = ("HGET", self._owner_key, "token")
        (before,) = await self._ask(token, lane="rows")
        rows, after = await self._read(token)
        # Checked before, since a deposed server must not read the rows of others; and after, since ownership may have changed meanwhile.
        if not before == after == self._token(epoch).encode():
            raise self._fenced()
        return rows

    async def beside(self) -> LooseValkeyRows:
        """See Store.beside."""
        rows, _ = await self._read(("HGET", self._owner_key, "token"))
        return LooseValkeyRows(rows)

    async def standing(self, epoch: int) -> Standing:
        """See Store.standing."""
        await valkey_checks.check_format(self._link, self._path, self._meta_key)
        counters, buckets, token = await self._ask(
            ("GET", f"{self._keys}c"), ("HGETALL", f"{self._keys}b"), ("HGET", self._owner_key, "token"), lane="rows"
        )
        if token != self._token(epoch).encode():
            raise self._fenced()
        found = None if counters is None else whole(self._path, counters, 0, "the row of counters")
        return Standing(found, sum(map(int, buckets.values() if isinstance(buckets, dict) else buckets[1::2])))

    def _fenced(self) -> Fenced:
        return Fenced(f"{self._path}: another server owns the queue now")

    async def _read(self, token: Command) -> tuple[ValkeyRows, bytes | None]:
        """Read all rows in parts, and at the end the reply to `token`."""
        counts, queues = await asyncio.gather(self._scan(f"{self._keys}b"), self._scan(f"{self._keys}q"))
        gate = asyncio.Semaphore(SCANS_AT_ONCE)

        async def bucket(number: int) -> tuple[int, Pairs, Pairs]:
            async with gate:
                return number, await self._scan(f"{self._keys}j:{number}"), await self._scan(f"{self._keys}p:{number}")

        try:
            jobs = {int(number): int(many) for number, many in counts.items()}
        except ValueError:
            raise CannotOpen(f"{self._path}: is damaged: {self._keys}b does not hold numbers") from None
        tasks = [asyncio.create_task(bucket(number)) for number in sorted(jobs)]
        try:
            buckets = await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        counters, after = await self._ask(("GET", f"{self._keys}c"), token, lane="rows")
        return ValkeyRows(self._path, counters, queues, jobs, buckets), after

    async def _scan(self, key: str) -> Pairs:
        """Read a whole hash. Fields that change meanwhile are as they were before or after the change."""
        found: Pairs = {}
        cursor = b"0"
        while True:
            ((cursor, pairs),) = await self._ask(("HSCAN", key, cursor, "COUNT", SCAN_ROWS), lane="rows")
            found.update(zip(pairs[::2], pairs[1::2], strict=True))
            if cursor == b"0":
                return found

    async def counters(self) -> bytes | None:
        """See Store.counters."""
        (row,) = await self._ask(("GET", f"{self._keys}c"), lane="rows")
        return None if row is None else whole(self._path, row, 0, "the row of counters")

    async def moment(self, apply: Callable[[Group], Awaitable[object]]) -> Whole:
        """See Store.moment."""
        return await Moment(partial(self._ask, lane="rows"), self._keys, self._path, self._wait).read(apply)

    def writer(self, epoch: int, seconds: float, renewed: Callable[[float], object]) -> Writer:
        """See Store.writer."""
        token, change = self._claims.get(epoch, ("", 0))
        made = ValkeyWriter(self._link, self._keys, token, change, _seconds(seconds), self._wait, renewed)
        self._writers[epoch] = made
        return made

    # Members, time, closing.

    async def announce(self, name: str, address: str) -> list[Member]:
        """See Store.announce."""
        (found,) = await self._ask(("FCALL", "jo_announce", 1, self._members_key, name, address), key=self._members_key)
        parts = iter(found)
        return [Member(one.decode(), at.decode(), float(since)) for one, at, since in zip(parts, parts, parts, strict=True)]

    async def members(self) -> list[Member]:
        """See Inspected.members."""
        (seconds, microseconds), flat = await self._ask(("TIME",), ("HGETALL", self._members_key), key=self._members_key)
        now, found = int(seconds) + int(microseconds) / 1e6, []
        for name, kept in sorted(_pairs(flat)):
            seen, _, address = kept.decode().partition(" ")
            if (since := max(0.0, now - float(seen))) < MEMBER_SECONDS:
                found.append(Member(name.decode(), address, since))
        return found

    async def depart(self, name: str) -> None:
        """See Store.depart."""
        await self._ask(("HDEL", self._members_key, name), key=self._members_key)

    async def now(self) -> float:
        """See Store.now."""
        ((seconds, microseconds),) = await self._ask(("TIME",))
        return int(seconds) + int(microseconds) / 1e6

    async def close(self) -> None:
        """See Store.close."""
        for writer in self._writers.values():
            await writer.close(tidy=False)
        await self._link.close()


class ValkeyRows:
    """Rows in memory, each checked when it is requested. buckets: number, states and payloads, in order."""

    def __init__(
        self, path: str, counters: bytes | None, queues: Pairs, counts: dict[int, int], buckets: list[tuple[int, Pairs, Pairs]]
    ) -> None:
        self._path = path
        self._counters = counters
        self._queues = queues
        self._counts = counts
        self._buckets = buckets

    @property
    def path(self) -> str:
        """See Rows.path."""
        return self._path

    def counters(self) -> bytes | None:
        """See Rows.counters."""
        return None if self._counters is None else self._whole(self._counters, 0, "the row of counters")

    def queues(self) -> Iterable[tuple[str, bytes]]:
        """See Rows.queues."""
        for key, row in sorted(self._queues.items()):
            try:
                name = key.decode()
            except UnicodeDecodeError:
                raise self._damaged(f"a queue is called {key!r}") from None
            yield name, self._whole(row, crc32(key), f"queue {name!r}")

    def count(self) -> int:
        """See Rows.count."""
        for number, states, payloads in self._buckets:
            jobs = self._counts[number]
            if not len(states) == len(payloads) == jobs:
                raise self._damaged(f"bucket {number} should have {jobs} jobs and has {len(states)}, and {len(payloads)} payloads")
        return sum(self._counts.values())

    def jobs(self) -> Iterator[JobRows]:
        """See Rows.jobs."""
        for number, state, payload in self.loose_jobs():
            if payload is None:
                raise self._damaged(f"job number {number} has no payload")
            yield JobRows(number, state, payload)

    def loose_jobs(self) -> Iterator[tuple[int, bytes, bytes | None]]:
        """See LooseRows.jobs."""
        for bucket, states, payloads in self._buckets:
            try:
                numbers = sorted((int(key), key) for key in states)
            except ValueError:
                raise self._damaged(f"bucket {bucket} has a job without a number") from None
            for number, key in numbers:
                payload = payloads.get(key)
                state = self._whole(states[key], number, f"job number {number}")
                yield number, state, None if payload is None else self._whole(payload, number, f"the payload of job number {number}")

    def _whole(self, row: bytes, salt: int, what: str) -> bytes:
        return whole(self._path, row, salt, what)

    def _damaged(self, what: str) -> CannotOpen:
        return CannotOpen(f"{self._path}: is damaged: {what}")


def _pairs(reply: Any) -> Iterable[tuple[bytes, bytes]]:
    """The fields and values of a hash, in either format that the protocol uses."""
    return reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=True)


class LooseValkeyRows:
    """Rows that were read while they changed."""

    def __init__(self, rows: ValkeyRows) -> None:
        self.path = rows.path
        self.counters = rows.counters
        self.queues = rows.queues
        self.jobs = rows.loose_jobs


def _seconds(seconds: float) -> str:
    return f"{seconds:.6f}"
