"""The checks before a server starts on Valkey. Each refusal says what to set.

Conditions that change for a while during a failover or a restart of a replica are checked only here: a running server reports NotNow, and
continues afterwards.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any, NamedTuple

import hiredis

from jobqueue.backend.group import NotNow
from jobqueue.backend.loading import CannotOpen
from jobqueue.backend.store.stores import other_number
from jobqueue.backend.store.valkey_functions import REVISION, install, revision_of
from jobqueue.backend.store.valkey_keys import Keys
from jobqueue.backend.store.valkey_link import Link
from jobqueue.backend.store.valkey_wire import Command, Denied, Place, Wait, code_of, info_of, slot_of
from jobqueue.partition import PARTITIONS_MAX

_logger = logging.getLogger("jobqueue.storage")

FORMAT = 4
"""The format of the rows. Increased by a change that a server of the previous format cannot read, or must not be allowed to write. From 2
on, rows can have keys and limits; from 3 and 4 on, newer fields of jobs, queues and other things (listed in sqlite/file.py). A server that
does not know these would ignore them when reading, and write rows without them."""

USABLE_FROM = 4
"""The oldest format that a server must know to read and write these rows. A version from before a change to a row can run beside newer
ones, if it can handle the change."""

VALKEY_MIN = 8
REDIS_MIN = 7
REDIS_AOF_MIN = (7, 2)
"""The first version with WAITAOF."""

CLOCK_SECONDS_MAX = 5.0
CLOCK_SECONDS_NOTED = 0.5

RIGHTS = (
    "~{{{name}* +hello +auth +ping +info +role +cluster|slots +cluster|info +time +wait +fcall +fcall_ro +function|load "
    "+function|delete +hscan +hget +hmget +hgetall +hset +hsetnx +hdel +hincrby +get +set +del +exists +multi +exec"
)
"""The rights that ACL SETUSER must give a user, for keys that begin with a name."""


class _Said(NamedTuple):
    """What a primary says of itself."""

    replication: dict[str, str]
    persistence: dict[str, str]


async def check(link: Link, path: str, keys: Keys, wait: Wait, partitions: int | None = None, *, change: bool = True) -> int:
    """Check everything, and install the functions and the format. Returns the number of partitions. Raises CannotOpen, NotNow.

    partitions: see StoreSet.open. change: if False, nothing is installed, and CannotOpen is also raised if nothing is installed yet.
    """
    try:
        await link.refresh()
        said = await _check_nodes(link, path, wait)
        made = await _partitions(link, path, keys)
        count = _number(path, made, partitions)
        holders = _holders(link, path, keys, count)
        for place in sorted(holders):
            _check_replicas(path, place, said[place], wait)
        await asyncio.gather(*(_check_replica(link, path, place, wait) for place in sorted(link.nodes - link.primaries())))
        if change:
            await install(link)
        brought = await asyncio.gather(*(revision_of(link, keys.owner(index)) for index in holders.values()))
        for index in holders.values():
            await _check_rights(link, path, keys.attempt(index), wait, functions=change or brought[0] == REVISION)
        await _check_keys(link, path, [keys.attempt(index) for index in range(count)])
        if change:
            made = await _make(link, path, keys, count)
            # Another server may have made it meanwhile, with another number; it is checked, too.
            if made != count:
                return await check(link, path, keys, wait, _number(path, made, partitions))
        if made is not None:
            await _check_formats(link, path, keys, count, change)
        await asyncio.gather(*(_check_clock(link, path, keys.owner(index)) for index in holders.values()))
        if made is None:
            raise CannotOpen(f"{path}: can be used, but has no jobs to check: no server has used it yet")
        least = min(found or 0 for found in brought)
        if least < REVISION:
            raise CannotOpen(
                f"{path}: has functions of revision {least}, and {REVISION} is needed: check it with the jobqueue that serves it, "
                "or start a server of this version, which brings its own"
            )
        return count
    except Denied as error:
        rights = RIGHTS.format(name=keys.name) + (" +waitaof" if wait.aof else "")
        raise CannotOpen(f"{path}: {error}. The user and password stand in the URL; the user needs {rights}") from None


def _number(path: str, made: int | None, asked: int | None) -> int:
    """How many partitions there are, or will be. made: None for a new store. Raises CannotOpen."""
    if made is None:
        return asked or 1
    if asked not in (None, made):
        raise other_number(path, made, asked)
    return made


def _holders(link: Link, path: str, keys: Keys, count: int) -> dict[Place, int]:
    """The primaries that have partitions, each with the first of these. Raises CannotOpen."""
    found: dict[Place, int] = {}
    for index in range(count):
        slot = slot_of(keys.owner(index))
        place = link.primary(slot)
        if place is None:
            raise CannotOpen(f"{path}: no node serves slot {slot}: give it to one with CLUSTER ADDSLOTS")
        found.setdefault(place, index)
    return found


async def _check_nodes(link: Link, path: str, wait: Wait) -> dict[Place, _Said]:
    found: dict[Place, _Said] = {}
    for place in sorted(link.primaries()):
        connection = await link.connection(place, "calls")
        commands: list[Command] = [("INFO", "server"), ("INFO", "memory"), ("INFO", "replication"), ("INFO", "persistence")]
        if link.cluster:
            commands.append(("CLUSTER", "INFO"))
        replies = await connection.call(*commands, seconds=link.patience.call)
        server, memory, replication, persistence, *cluster = [_info(place, reply) for reply in replies]
        _check_version(path, place, server, wait)
        _check_policy(path, place, memory)
        for said in cluster:
            if (state := said.get("cluster_state")) != "ok":
                raise CannotOpen(f"{path}: {place}: cluster_state is {state}: see that every slot is served and CLUSTER INFO says ok")
        found[place] = _Said(replication, persistence)
    return found


async def _check_replica(link: Link, path: str, place: Place, wait: Wait) -> None:
    """Check a server that can become the primary. One that cannot be reached is skipped: whether enough replicas are there is checked
    elsewhere.
    """
    try:
        connection = await link.connection(place, "calls")
        replies = await connection.call(("INFO", "server"), ("INFO", "memory"), ("INFO", "replication"), seconds=link.patience.call)
    except Denied:
        raise
    except NotNow as error:
        _logger.info("%s: a replica was not looked at: %s", path, error)
        return
    server, memory, replication = [_info(place, reply) for reply in replies]
    _check_version(path, place, server, wait)
    _check_policy(path, place, memory)
    if wait.replicas:
        _check_alone(path, place, replication)


def _check_policy(path: str, place: Place, memory: dict[str, str]) -> None:
    policy = memory.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        raise CannotOpen(f"{path}: {place} may forget jobs when its memory is full: set maxmemory-policy noeviction (it is {policy})")


def _check_alone(path: str, place: Place, replication: dict[str, str]) -> None:
    if "min_slaves_good_slaves" not in replication:
        raise CannotOpen(
            f"{path}: {place} as the primary goes on alone when it is cut off from its replicas: set min-replicas-to-write 1 and "
            "min-replicas-max-lag 2"
        )


def _check_version(path: str, place: Place, server: dict[str, str], wait: Wait) -> None:
    name, oldest = ("Valkey", VALKEY_MIN) if "valkey_version" in server else ("Redis", REDIS_MIN)
    version = server.get("valkey_version") or server.get("redis_version", "0")
    if int(version.partition(".")[0]) < oldest:
        raise CannotOpen(f"{path}: {place} is {name} {version}; Valkey {VALKEY_MIN} or Redis {REDIS_MIN}, or later, is needed")
    if wait.aof and name == "Redis" and tuple(map(int, version.split(".")[:2])) < REDIS_AOF_MIN:
        raise CannotOpen(f"{path}: {place} is Redis {version}, which has no WAITAOF: use Redis 7.2 or Valkey, or acknowledge by replicas")


def _check_replicas(path: str, place: Place, said: _Said, wait: Wait) -> None:
    if not wait.replicas:
        return
    replication, persistence = said
    online = sum("state=online" in line for name, line in replication.items() if name.startswith("slave"))
    if online < wait.replicas:
        raise CannotOpen(
            f"{path}: {place} has {online} replicas, and {wait.replicas} must have each change: start them, or set --acknowledge to fewer"
        )
    _check_alone(path, place, replication)
    if wait.aof and persistence.get("aof_enabled") != "1":
        raise CannotOpen(f"{path}: {place} keeps no append-only file: set appendonly yes, there and on its replicas")


async def _check_rights(link: Link, path: str, attempt: str, wait: Wait, functions: bool) -> None:
    commands: list[Command] = [
        ("HSCAN", attempt, 0),
        ("HGET", attempt, "a"),
        ("GET", attempt),
        ("HDEL", attempt, "a"),
        ("TIME",),
        ("MULTI",),
        ("EXEC",),
        ("WAIT", 0, 1) if wait.command is None else wait.command,
    ]
    if functions:
        commands += [("FCALL", "jo_try", 1, attempt), ("FCALL_RO", "jo_owner", 1, attempt)]
    else:
        # It registers no function, and so is refused even for users that can load one.
        await link.ask(attempt, ("FUNCTION", "LOAD", "#!lua name=jqtry\n"))
    for reply in await link.ask(attempt, *commands, seconds=wait.deadline):
        if isinstance(reply, hiredis.ReplyError):
            # The messages of different versions for what a function does.
            if any(words in str(reply) for words in ("NOPERM", "ACL", "can't run this command")):
                raise Denied(str(reply))
            raise CannotOpen(f"{path}: {reply}")


async def _check_keys(link: Link, path: str, attempts: list[str]) -> None:
    """Check whether the user can use the keys of every partition: a pattern may name some of them only."""
    for (reply,) in await asyncio.gather(*(link.ask(attempt, ("HGET", attempt, "a")) for attempt in attempts)):
        if isinstance(reply, hiredis.ReplyError):
            raise CannotOpen(f"{path}: {reply}")


async def _partitions(link: Link, path: str, keys: Keys) -> int | None:
    """How many partitions the store was made with; None if it was not made yet."""
    (there,) = await link.ask(keys.meta, ("HGET", keys.meta, "partitions"))
    if code_of(there):
        raise CannotOpen(f"{path}: {keys.meta}: {there}")
    if there is None:
        return None
    count = _whole(there)
    if not 1 <= count <= PARTITIONS_MAX:
        said = there.decode(errors="replace")
        raise CannotOpen(
            f"{path}: was made with --partitions {said}, and this server knows up to {PARTITIONS_MAX}: use the jobqueue that made it"
        )
    return count


async def _make(link: Link, path: str, keys: Keys, count: int) -> int | None:
    """Write the number of partitions and the format where they are missing. Returns the number that is there now."""
    await link.ask(keys.meta, ("HSETNX", keys.meta, "format", FORMAT), ("HSETNX", keys.meta, "partitions", count))
    made = await _partitions(link, path, keys)
    if made == count > 1:
        own = [keys.meta_of(index, count) for index in range(count)]
        await asyncio.gather(*(link.ask(meta, ("HSETNX", meta, "format", FORMAT), ("HSETNX", meta, "partitions", count)) for meta in own))
    return made


async def _check_formats(link: Link, path: str, keys: Keys, count: int, change: bool) -> None:
    """Check the format of the store and beside each partition, and with `change` raise those that are older."""
    for meta in dict.fromkeys([keys.meta, *(keys.meta_of(index, count) for index in range(count))]):
        await check_format(link, path, meta)
        ((kept, partitions),) = await link.ask(meta, ("HMGET", meta, "format", "partitions"))
        if partitions is not None and _whole(partitions) != count:
            raise CannotOpen(
                f"{path}: {meta} is of a store that was made with --partitions {_whole(partitions)}, and {keys.meta} of one with {count}: "
                f"delete all keys that begin with {{{keys.name} before you make a new store in its place"
            )
        if change and kept is not None and _whole(kept) < FORMAT:
            # Only from here on can rows be written that an older server does not know.
            await link.ask(meta, ("HSET", meta, "format", FORMAT, "usable_from", USABLE_FROM))


async def check_format(link: Link, path: str, meta: str) -> None:
    """Check whether this server knows the format of the rows. Each claim repeats this: a newer server may have come since this one started.

    Raises CannotOpen, NotNow.
    """
    there: list[Any]
    (there,) = await link.ask(meta, ("HMGET", meta, "format", "usable_from"))
    if code_of(there):
        raise CannotOpen(f"{path}: {meta}: {there}")
    if there[0] is None:
        return
    kept = _whole(there[0])
    usable_from = kept if there[1] is None else _whole(there[1])
    if usable_from > FORMAT:
        raise CannotOpen(
            f"{path}: its rows have format {kept}, for servers that know {usable_from} or later, and this one knows up to {FORMAT}: they "
            "were written by a newer jobqueue; use that, or a later one"
        )


def _whole(value: bytes) -> int:
    """A number of the table; anything else does not belong to a known format."""
    return int(value) if value.isdigit() else 1 << 31


async def _check_clock(link: Link, path: str, key: str) -> None:
    before = time.time()
    ((seconds, microseconds),) = await link.ask(key, ("TIME",))
    now = int(seconds) + int(microseconds) / 1e6
    apart = max(0.0, before - now, now - time.time())
    if apart > CLOCK_SECONDS_MAX:
        raise CannotOpen(
            f"{path}: its clock and this machine's are {apart:.1f} s apart: set both by NTP ({CLOCK_SECONDS_MAX:g} s are allowed)"
        )
    if apart > CLOCK_SECONDS_NOTED:
        _logger.warning("%s: its clock and this machine's are %.1f s apart; set both by NTP", path, apart)


def _info(place: Place, reply: object) -> dict[str, str]:
    if isinstance(reply, hiredis.ReplyError):
        raise Denied(f"{place}: {reply}")
    return info_of(reply)
