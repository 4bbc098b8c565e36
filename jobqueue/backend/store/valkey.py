"""A StoreSet in Valkey (or Redis): the rows of each partition in hashes, written by functions that check the caller's claim (valkey.lua).

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

import hiredis

from jobqueue.backend.group import Group, NotNow, Writer
from jobqueue.backend.loading import CannotOpen
from jobqueue.backend.store.store import Fenced, Member, Owner, Standing, Whole
from jobqueue.backend.store.valkey_checks import check, check_format
from jobqueue.backend.store.valkey_functions import install, lacks_functions
from jobqueue.backend.store.valkey_keys import Keys
from jobqueue.backend.store.valkey_link import Link
from jobqueue.backend.store.valkey_moment import Moment, whole
from jobqueue.backend.store.valkey_rows import LooseValkeyRows, Pairs, ValkeyRows
from jobqueue.backend.store.valkey_wire import Acknowledge, Command, Login, Patience, Place, Refused, Wait, code_of
from jobqueue.backend.store.valkey_writer import ValkeyWriter

DEFAULT_PORT = 6379
SCAN_ROWS = 2_000
MEMBER_SECONDS = 60.0
"""How long a server stays on the list after it announced itself, as in valkey.lua."""

SCANS_AT_ONCE = 8
"""Buckets that are read at the same time, of all partitions."""


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


class ValkeyStores:
    """A StoreSet in Valkey. Partition N has the keys `{jqN}:…`, so that in a cluster each lies on the primary of its own slot.

    acknowledge: how many replicas must have a change before it is acknowledged, 0 to 2, or "aof": it is in the append-only files of the
    primary and one replica. tls: replaces the default context, for a URL of valkeys://. name: the prefix of its keys.

    All partitions share the connections to a primary, except those that wait for replicas: WAIT holds up everything behind it on its
    connection, so for commits and for claims each partition has a connection of its own. Nothing else waits for anything but the primary.
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
        self.path = address.path
        self.keys = Keys(name)
        self.wait = Wait(acknowledge, patience.call)
        self.link = Link(address.places, Login(address.user, address.password, context), patience)
        self.scans = asyncio.Semaphore(SCANS_AT_ONCE)
        self._parts: list[ValkeyPartition] = []

    @property
    def partitions(self) -> int:
        """See StoreSet.partitions."""
        if not self._parts:
            raise RuntimeError(f"{self.path}: is not open")
        return len(self._parts)

    async def open(self, partitions: int | None = None) -> None:
        """See StoreSet.open."""
        self._take(await check(self.link, self.path, self.keys, self.wait, partitions))

    async def inspect(self) -> None:
        """See StoreSet.inspect."""
        self._take(await check(self.link, self.path, self.keys, self.wait, change=False))

    def _take(self, partitions: int) -> None:
        if not self._parts:
            self._parts = [ValkeyPartition(self, index, partitions) for index in range(partitions)]

    def __getitem__(self, index: int) -> ValkeyPartition:
        """See StoreSet.__getitem__."""
        return self._parts[index]

    def __iter__(self) -> Iterator[ValkeyPartition]:
        """See StoreSet.__iter__."""
        return iter(self._parts)

    async def owners(self) -> list[Owner | NotNow | None]:
        """See StoreSet.owners."""
        return await asyncio.gather(*map(_owner, self._parts))

    async def ask(self, key: str, *commands: Command, lane: str = "calls", seconds: float | None = None) -> list[Any]:
        """The replies, none of them an error. Raises Fenced, NotNow."""
        replies = await self.link.ask(key, *commands, lane=lane, seconds=seconds)
        if lacks_functions(replies):
            # A primary that has joined since. It did nothing.
            await install(self.link, key)
            replies = await self.link.ask(key, *commands, lane=lane, seconds=seconds)
        for reply in replies:
            if code_of(reply) == "FENCED":
                raise self.fenced()
            if code_of(reply) == "WRONGTYPE" and lane == "rows":
                raise CannotOpen(f"{self.path}: is damaged: {commands[0][1]!r}: {reply}")
            if isinstance(reply, hiredis.ReplyError):
                raise Refused(f"{self.path}: {reply}")
        return replies

    def fenced(self) -> Fenced:
        """The error of an owner that is none any more."""
        return Fenced(f"{self.path}: another server owns the queue now")

    # Members, time, closing.

    async def announce(self, name: str, address: str) -> list[Member]:
        """See StoreSet.announce."""
        (found,) = await self.ask(self.keys.members, ("FCALL", "jo_announce", 1, self.keys.members, name, address))
        parts = iter(found)
        return [Member(one.decode(), at.decode(), float(since)) for one, at, since in zip(parts, parts, parts, strict=True)]

    async def members(self) -> list[Member]:
        """See StoreSet.members."""
        (seconds, microseconds), flat = await self.ask(self.keys.members, ("TIME",), ("HGETALL", self.keys.members))
        now, found = int(seconds) + int(microseconds) / 1e6, []
        for name, kept in sorted(_pairs(flat)):
            seen, _, address = kept.decode().partition(" ")
            if (since := max(0.0, now - float(seen))) < MEMBER_SECONDS:
                found.append(Member(name.decode(), address, since))
        return found

    async def depart(self, name: str) -> None:
        """See StoreSet.depart."""
        await self.ask(self.keys.members, ("HDEL", self.keys.members, name))

    async def now(self) -> float:
        """See StoreSet.now."""
        ((seconds, microseconds),) = await self.ask(self.keys.owner(0), ("TIME",))
        return int(seconds) + int(microseconds) / 1e6

    async def close(self) -> None:
        """See StoreSet.close."""
        for part in self._parts:
            await part.close()
        await self.link.close()


async def _owner(part: ValkeyPartition) -> Owner | NotNow | None:
    try:
        return await part.owner()
    except NotNow as error:
        return error


class ValkeyPartition:
    """One partition: a Store. index: which one; count: of how many."""

    def __init__(self, stores: ValkeyStores, index: int, count: int) -> None:
        self._stores = stores
        self._path = stores.path
        self._link = stores.link
        self._wait = stores.wait
        self._keys = stores.keys.of(index)
        self._owner_key = stores.keys.owner(index)
        self._meta_key = stores.keys.meta_of(index, count)
        own = "" if count == 1 else f" {index}"
        self._claims_lane, self._commits_lane = f"claims{own}", f"commits{own}"
        self._claims: dict[int, tuple[str, int]] = {}
        """By epoch: the claim's token, and the number of the last commit when it was claimed."""
        self._writers: dict[int, ValkeyWriter] = {}
        self._closed = False

    @property
    def path(self) -> str:
        """See Store.path."""
        return self._path

    async def open(self) -> None:
        """Open the whole store, with as many partitions as it has."""
        await self._stores.open()

    # Ownership.

    async def claim(self, name: str, address: str, seconds: float, force: bool = False) -> Owner:
        """See Store.claim. Raises NotNow if fewer replicas have the claim than a commit requires: a failover could lose it."""
        nonce = secrets.token_hex(8)
        commands = [self._function("jo_claim", name, address, _seconds(seconds), "1" if force else "0", nonce)]
        commands.append(("HGET", self._owner_key, "change"))
        if self._wait.command is not None:
            commands.append(self._wait.command)
        (holder, at, epoch, left), change, *waited = await self._ask(*commands, lane=self._claims_lane, seconds=self._wait.deadline)
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

    async def _ask(self, *commands: Command, lane: str = "calls", seconds: float | None = None) -> list[Any]:
        """See ValkeyStores.ask."""
        if self._closed:
            raise Refused("the store is closed")
        return await self._stores.ask(self._owner_key, *commands, lane=lane, seconds=seconds)

    # Rows.

    async def rows(self, epoch: int) -> ValkeyRows:
        """See Store.rows."""
        await check_format(self._link, self._path, self._meta_key)
        token = ("HGET", self._owner_key, "token")
        (before,) = await self._ask(token, lane="rows")
        rows, after = await self._read(token)
        # Checked before, since a deposed server must not read the rows of others; and after, since ownership may have changed meanwhile.
        if not before == after == self._token(epoch).encode():
            raise self._stores.fenced()
        return rows

    async def beside(self) -> LooseValkeyRows:
        """See Store.beside."""
        rows, _ = await self._read(("HGET", self._owner_key, "token"))
        return LooseValkeyRows(rows)

    async def standing(self, epoch: int) -> Standing:
        """See Store.standing."""
        await check_format(self._link, self._path, self._meta_key)
        counters, buckets, token = await self._ask(
            ("GET", f"{self._keys}c"), ("HGETALL", f"{self._keys}b"), ("HGET", self._owner_key, "token"), lane="rows"
        )
        if token != self._token(epoch).encode():
            raise self._stores.fenced()
        found = None if counters is None else whole(self._path, counters, 0, "the row of counters")
        return Standing(found, sum(map(int, buckets.values() if isinstance(buckets, dict) else buckets[1::2])))

    async def _read(self, token: Command) -> tuple[ValkeyRows, bytes | None]:
        """Read all rows in parts, and at the end the reply to `token`."""
        counts, queues = await asyncio.gather(self._scan(f"{self._keys}b"), self._scan(f"{self._keys}q"))

        async def bucket(number: int) -> tuple[int, Pairs, Pairs]:
            async with self._stores.scans:
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
        made = ValkeyWriter(self._link, self._keys, token, change, _seconds(seconds), self._wait, renewed, self._commits_lane)
        self._writers[epoch] = made
        return made

    # Members, time, closing.

    async def announce(self, name: str, address: str) -> list[Member]:
        """See Store.announce."""
        return await self._stores.announce(name, address)

    async def depart(self, name: str) -> None:
        """See Store.depart."""
        await self._stores.depart(name)

    async def now(self) -> float:
        """See Store.now."""
        ((seconds, microseconds),) = await self._ask(("TIME",))
        return int(seconds) + int(microseconds) / 1e6

    async def close(self) -> None:
        """See Store.close. The connections belong to the set."""
        self._closed = True
        for writer in self._writers.values():
            await writer.close(tidy=False)


class ValkeyStore(ValkeyPartition):
    """A store of one partition, which is opened and closed by itself. Arguments: see ValkeyStores."""

    def __init__(self, url: str, acknowledge: Acknowledge = 1, **more: Any) -> None:
        super().__init__(ValkeyStores(url, acknowledge, **more), 0, 1)

    async def open(self) -> None:
        """See Store.open."""
        await self._stores.open(1)

    async def close(self) -> None:
        """See Store.close."""
        await super().close()
        await self._stores.close()


def _pairs(reply: Any) -> Iterable[tuple[bytes, bytes]]:
    """The fields and values of a hash, in either format that the protocol uses."""
    return reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=True)


def _seconds(seconds: float) -> str:
    return f"{seconds:.6f}"
