"""`python -m bench partitions`: what the partitions of a store cost, by role, and how far several servers get with them.

Stores with one partition and with several stand at the same time, each with one or more servers, and take turns. CPU is that of each
process by its own clock, less what it uses when nothing happens; the least of several rounds counts. bench/model.py computes from these
figures what machines of their own could do. --quick only prints.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import uvloop

from bench import results
from bench.held import HOLD_SECONDS, QUEUE, await_waiters, crowd, make_queue
from bench.load import CONNECTIONS, Load, load_on
from bench.model import Figures, Footprint, modelled
from bench.process import BenchError, Server, prepare
from bench.report import machine
from bench.requests import BATCH
from bench.scale import BATCHES, SINGLE, VERDICT, table
from bench.stores import Store, owners, partitioned_on, valkey, valkey_info, wait_until
from bench.wire import PAYLOAD, Blocking, request
from jobqueue.partition import NODE_MASK, partition_of, slot_of

BALANCED_SECONDS = 120.0


class Plan(NamedTuple):
    """Sizes. servers: how many share a store; partitions: beside one; balanced: wait until the servers own the same number; singles and
    batches: in a round; held: dequeues; idle_seconds: how long nothing happens; many: partitions of the store on which that is watched;
    calls: of each kind that asks all partitions."""

    servers: Sequence[int]
    partitions: int
    balanced: bool
    rounds: int
    singles: int
    batches: int
    held: int
    idle_seconds: float
    many: int
    calls: int
    members: int


FULL = Plan((1, 2, 4), 8, True, 5, 480, 16, 2_000, 8.0, 64, 60, 128)
QUICK = Plan((2,), 4, False, 1, 80, 4, 100, 0.5, 8, 5, 8)

OWNER, FRONT, SPREAD, CLAIMED = "the owner", "another server", "all, any queue", "the same, ids to be claimed"
ONE = "the owner, one call at a time"


def job_id(queue: str, elsewhere: bool) -> str:
    """A client's own id: its home is the queue's partition, as that of the ids that our clients make, or the next partition."""
    made = uuid.uuid4().hex
    slot = 0x8000 | ((slot_of(queue) + elsewhere) & NODE_MASK)
    return f"{time.time_ns() // 1_000_000:012x}"[:8] + f"-{made[:4]}-7{made[4:7]}-{slot:04x}-{made[7:19]}"


class Costs(NamedTuple):
    """CPU of all calls of a kind in one round, in nanoseconds: of each server, and of the store."""

    calls: int
    servers: tuple[float, ...]
    store: float


class Stand:
    """A store with its servers. owned: which server owns each partition."""

    def __init__(self, store: Store, servers: Sequence[Server], partitions: int) -> None:
        self.store = store
        self.servers = servers
        self.partitions = partitions
        self.owned = self._owned()
        names = (f"bench-{number}" for number in range(100_000))
        self.queues: list[str] = [next(name for name in names if partition_of(name, partitions) == index) for index in range(partitions)]
        self.idle: tuple[float, ...] = ()
        self.found: dict[tuple[str, str], list[Costs]] = {}

    def _owned(self) -> list[int]:
        owned = [owner for owner in owners(self.servers, self.partitions) if owner is not None]
        if len(owned) < self.partitions:
            raise BenchError("not every partition has an owner")
        return owned

    def balance(self) -> None:
        """Wait until no server owns two partitions more than another. Raises BenchError."""

        def balanced() -> bool:
            owned = owners(self.servers, self.partitions)
            each = [owned.count(number) for number in range(len(self.servers))]
            return None not in owned and max(each) - min(each) < 2

        if self.partitions > 1:
            wait_until(balanced, "partitions do not move", BALANCED_SECONDS)
        self.owned = self._owned()

    def cpu(self) -> tuple[float, ...]:
        """Of each server, and of the store, in nanoseconds so far."""
        return (*(server.cpu_ns() for server in self.servers), self.store.cpu_ns())

    def rest(self, seconds: float) -> tuple[float, ...]:
        """Note what is used when nothing happens: nanoseconds in a second."""
        before = self.cpu()
        time.sleep(seconds)
        self.idle = tuple((after - first) / seconds for first, after in zip(before, self.cpu(), strict=True))
        return self.idle

    @property
    def ways(self) -> list[str]:
        """Whom calls can be sent to."""
        several = len(self.servers) > 1
        return [OWNER, ONE, *([FRONT] if several else []), SPREAD, *([CLAIMED] if self.partitions > 1 else [])]

    def asked(self, way: str) -> tuple[Sequence[Server], Sequence[str]]:
        """The servers that are asked in some way, and for which queues."""
        if way in (SPREAD, CLAIMED):
            return self.servers, self.queues
        first = self.owned[-1]
        server = self.servers[first - 1 if way == FRONT else first]
        return [server], [self.queues[-1]]

    async def round(self, plan: Plan, keep: bool) -> None:
        """Jobs through their whole life, in every way."""
        for way in self.ways:
            servers, queues = self.asked(way)
            async with load_on(servers[0], 1 if way == ONE else CONNECTIONS, others=servers[1:]) as load:
                await self._singles(way, load, queues, plan.singles, keep)
                await self._batches(way, load, queues, plan.batches, keep)

    async def _singles(self, way: str, load: Load, queues: Sequence[str], count: int, keep: bool) -> None:
        picked = _picked(queues, count)
        claimed = way == CLAIMED
        enqueues = [request("POST", "/jobs/enqueue", {"id": job_id(name, claimed), "queue": name, "payload": PAYLOAD}) for name in picked]
        await self._send(way, "enqueue", load, enqueues, 201, keep)
        dequeues = [request("POST", "/jobs/dequeue", {"queue": name, "wait": 20}) for name in _picked(queues, count)]
        jobs = [json.loads(body) for body in await self._send(way, "dequeue", load, dequeues, 200, keep)]
        concludes = [request("POST", f"/jobs/{job['id']}/conclude", VERDICT | {"lease": job["lease"]["token"]}) for job in jobs]
        await self._send(way, "conclude", load, concludes, 200, keep)

    async def _batches(self, way: str, load: Load, queues: Sequence[str], count: int, keep: bool) -> None:
        claimed = way == CLAIMED
        enqueues = []
        for name in _picked(queues, count):
            jobs = [{"id": job_id(name, claimed), "queue": name, "payload": PAYLOAD} for _ in range(BATCH)]
            enqueues.append(request("POST", "/batch/enqueue", {"jobs": jobs}))
        await self._send(way, "batch enqueue", load, enqueues, 200, keep)
        dequeues = [request("POST", "/batch/dequeue", {"queue": name, "limit": BATCH, "wait": 20}) for name in _picked(queues, count)]
        concludes = []
        for body in await self._send(way, "batch dequeue", load, dequeues, 200, keep):
            items = [VERDICT | {"id": job["id"], "lease": job["lease"]["token"]} for job in json.loads(body)["jobs"]]
            concludes.append(request("POST", "/batch/conclude", {"jobs": items}))
        await self._send(way, "batch conclude", load, concludes, 200, keep)

    async def _send(self, way: str, kind: str, load: Load, requests: Sequence[bytes], expect: int, keep: bool) -> list[bytes]:
        before, started = self.cpu(), time.perf_counter()
        bodies = await load.send(requests, expect)
        seconds = time.perf_counter() - started
        if keep:
            rest = self.idle or (0.0,) * len(before)
            spent = [after - first - each * seconds for first, after, each in zip(before, self.cpu(), rest, strict=True)]
            self.found.setdefault((way, kind), []).append(Costs(len(requests), tuple(spent[:-1]), spent[-1]))
        return bodies

    # What came of it, in microseconds a call.

    def servers_us(self, way: str, kind: str) -> float:
        """Of all servers."""
        return min(sum(costs.servers) / costs.calls for costs in self.found[way, kind]) / 1_000

    def store_us(self, way: str, kind: str) -> float:
        """Of the store."""
        return min(costs.store / costs.calls for costs in self.found[way, kind]) / 1_000

    def server_us(self, way: str, kind: str, server: int) -> float:
        """Of one server."""
        return min(costs.servers[server] / costs.calls for costs in self.found[way, kind]) / 1_000

    def roles_us(self, way: str, kind: str) -> tuple[float, float]:
        """Of the server that is asked, if it is not the owner, and of the owner of the queue."""
        owner = self.owned[-1]
        front = self.server_us(way, kind, owner - 1) if way == FRONT else 0.0
        return front, self.server_us(way, kind, owner)

    async def whole(self, calls: int) -> dict[str, float]:
        """What the calls that ask all partitions cost, sent to a server that owns least; microseconds of CPU of all servers."""
        asked = min(range(len(self.servers)), key=self.owned.count)
        found: dict[str, float] = {}
        async with load_on(self.servers[asked], 1) as load:
            fill = [{"queue": name, "payload": PAYLOAD} for name in _picked(self.queues, max(200, self.partitions))]
            await load.send([request("POST", "/batch/enqueue", {"jobs": fill})], 200)
            for path in ("/stats", "/queues", "/jobs?limit=100"):
                for _ in range(3):
                    before = self.cpu()
                    await load.send([request("GET", path)] * calls, 200)
                    spent = sum(after - first for first, after in zip(before[:-1], self.cpu(), strict=False)) / calls / 1_000
                    found[path] = min(spent, found.get(path, spent))
            for name in self.queues:
                await load.send([request("POST", f"/queues/{name}/purge")], 200)
        return found


def _picked(queues: Sequence[str], count: int) -> list[str]:
    """So many names, each queue as often as the others, in an order that no connection keeps step with."""
    picked = [queues[number % len(queues)] for number in range(count)]
    random.Random(7).shuffle(picked)
    return picked


class Rest(NamedTuple):
    """Servers on which nothing happens: microseconds of CPU in a second, and MiB, of the owner of all partitions, of another server, and of
    the store; descriptors of the other server once it has asked all partitions. standby: whether the other server follows the owner."""

    partitions: int
    standby: bool
    owner_us: float
    other_us: float
    store_us: float
    owner_mib: float
    other_mib: float
    store_mib: float
    descriptors: int
    whole: dict[str, float]


def resting(plan: Plan, partitions: int, standby: bool) -> Rest:
    """Two servers, the first of which owns all."""
    with valkey() as store, partitioned_on(store, 2, partitions, standby=standby) as servers:
        # What starting is followed by: claims, standbys that read their partitions, functions that are loaded.
        time.sleep(1.5 * plan.idle_seconds)
        stand = Stand(store, servers, partitions)
        owner, other, kept = stand.rest(plan.idle_seconds)
        memory = [server.rss_bytes() / 2**20 for server in servers]
        whole = uvloop.run(stand.whole(plan.calls))
        descriptors = len(list(Path(f"/proc/{servers[1].process.pid}/fd").iterdir()))
        stored = int(valkey_info(store.port, "memory").partition("used_memory:")[2].split()[0]) / 2**20
        return Rest(partitions, standby, owner / 1e3, other / 1e3, kept / 1e3, *memory, stored, descriptors, whole)


async def announcing(plan: Plan) -> tuple[float, float]:
    """What it costs a server and the store, in microseconds, that one more server is a member, at each announcement."""
    from jobqueue.backend.store.valkey import ValkeyStores

    found = []
    with valkey() as store:
        stores = ValkeyStores(store.flags[1], 1)
        await stores.open(1)
        for members in (2, plan.members):
            for number in range(members):
                await stores.announce(f"server-{number:03}.internal:{number:05}-abcd", "server.internal:8081")
            own, there = time.process_time_ns(), store.cpu_ns()
            for _ in range(200):
                await stores.announce("server-000.internal:00000-abcd", "server.internal:8081")
            found.append(((time.process_time_ns() - own) / 200, (store.cpu_ns() - there) / 200))
        await stores.close()
    more = (plan.members - 2) * 1_000
    return (found[1][0] - found[0][0]) / more, (found[1][1] - found[0][1]) / more


def holding(stand: Stand, front: bool, held: int) -> tuple[float, float]:
    """KiB of memory for each held dequeue: at the server that is asked, and at the owner of the queue if that is another."""
    owner = stand.owned[partition_of(QUEUE, stand.partitions)]
    asked = stand.servers[owner - 1 if front else owner]
    make_queue(asked)
    asking = Blocking(asked.port)
    with crowd(asked, 100, "/jobs/dequeue", HOLD_SECONDS):
        await_waiters(asking, 100)
    await_waiters(asking, 0)
    both = (asked, stand.servers[owner])
    before = [server.rss_bytes() for server in both]
    with crowd(asked, held, "/jobs/dequeue", HOLD_SECONDS):
        await_waiters(asking, held)
        each = [(server.rss_bytes() - first) / held / 1_024 for server, first in zip(both, before, strict=True)]
    await_waiters(asking, 0)
    asking.close()
    return each[0], each[1] if front else 0.0


@contextlib.contextmanager
def stands(plan: Plan, counts: Sequence[int], partitions: Sequence[int], standby: bool = False) -> Iterator[list[Stand]]:
    """All at the same time, each on a store of its own."""
    with contextlib.ExitStack() as stack:
        found = []
        for each in partitions:
            for count in counts:
                store = stack.enter_context(valkey())
                found.append(Stand(store, stack.enter_context(partitioned_on(store, count, each, standby=standby)), each))
        if plan.balanced:
            for stand in found:
                stand.balance()
        yield found


async def measure(plan: Plan, found: Sequence[Stand]) -> None:
    """All rounds, after one that only warms up; in turns, the other way round every other time."""
    for number in range(plan.rounds + 1):
        for stand in found if number % 2 else reversed(found):
            await stand.round(plan, keep=number > 0)
        print(".", end="", file=sys.stderr, flush=True)


class Findings(NamedTuple):
    """All that was measured. followed: a stand of two servers with standbys; held: KiB at the owner if it is asked, at a front, and at the
    owner behind it; announce: see `announcing`."""

    found: list[Stand]
    followed: Stand
    rests: list[Rest]
    held: tuple[float, float, float]
    announce: tuple[float, float]


def find(plan: Plan) -> Findings:
    """Measure everything. Raises BenchError."""
    rests = [resting(plan, partitions, standby) for partitions in (1, plan.many) for standby in (False, True)]
    announce = uvloop.run(announcing(plan))
    with stands(plan, plan.servers, (1, plan.partitions)) as found, stands(plan, [2], [plan.partitions], standby=True) as (followed,):
        several = next(stand for stand in found if stand.partitions > 1 and len(stand.servers) > 1)
        behind = holding(several, True, plan.held)
        held = (holding(followed, False, plan.held)[0], *behind)
        for stand in (*found, followed):
            stand.rest(plan.idle_seconds / 2)
        uvloop.run(measure(plan, (*found, followed)))
    return Findings(found, followed, rests, held, announce)


def costs(found: Sequence[Stand], followed: Stand) -> str:
    """CPU a call and a life."""
    rows = []
    for stand in (*found, followed):
        for way in stand.ways:
            count = len(stand.servers)
            cells = [str(stand.partitions), f"{count}{', standbys' if stand is followed else ''}", way]
            for kind in SINGLE:
                if way in (OWNER, ONE, FRONT):
                    front, owner = stand.roles_us(way, kind)
                    cells.append(f"{front:.0f} + {owner:.0f}" if front else f"{owner:.0f}")
                else:
                    cells.append(f"{stand.servers_us(way, kind):.0f}")
            single, batched = (sum(stand.servers_us(way, kind) for kind in kinds) for kinds in (SINGLE, BATCHES))
            stored = [sum(stand.store_us(way, kind) for kind in kinds) for kinds in (SINGLE, BATCHES)]
            if way in (OWNER, ONE, FRONT):
                roles = [stand.roles_us(way, kind) for kind in BATCHES]
                front, owner = (sum(role[at] for role in roles) / BATCH for at in (0, 1))
                life = f"{front:.1f} + {owner:.1f}" if front else f"{owner:.1f}"
            else:
                life = f"{batched / BATCH:.1f}"
            rows.append([*cells, f"{single:.0f}", f"{stored[0]:.0f}", life, f"{stored[1] / BATCH:.1f}"])
    head = ["partitions", "servers", "asked", "enqueue", "dequeue", "conclude", "life, all servers", "store", "life in batches", "store"]
    return table(head, rows)


def at_rest(rests: Sequence[Rest]) -> str:
    """What nothing costs."""
    rows = [
        [
            str(rest.partitions), "yes" if rest.standby else "no", f"{rest.owner_us / 1e4:.2f} %", f"{rest.other_us / 1e4:.2f} %",
            f"{rest.store_us / 1e4:.2f} %", f"{rest.owner_mib:.1f}", f"{rest.other_mib:.1f}", f"{rest.store_mib:.1f}",
            str(rest.descriptors), *(f"{spent / 1_000:.2f}" for spent in rest.whole.values()),
        ]
        for rest in rests
    ]  # fmt: skip
    head = ["partitions", "standbys", "owner of all, CPU", "other server", "store", "owner, MiB", "other server", "store"]
    return table([*head, "other server's descriptors", *(f"GET {path}, ms" for path in rests[0].whole)], rows)


def figures(found: Findings) -> Figures:
    """What the model is given."""
    many, few = _many_at_a_time(found, SINGLE, 1), _few_at_a_time(found, SINGLE, 1)
    one, _followed, all_of, all_followed = found.rests
    more = all_of.partitions - one.partitions
    return Figures(
        few=few,
        many=many,
        batch=_few_at_a_time(found, BATCHES, BATCH),
        idle=one.other_us,
        idle_watch=max(0.0, all_of.other_us - one.other_us) / more,
        idle_own=max(0.0, all_of.owner_us - all_of.other_us) / all_of.partitions,
        idle_follow=max(0.0, all_followed.other_us - all_of.other_us) / all_of.partitions,
        idle_member=max(0.0, found.announce[0]),
        store_server=one.store_us / 2,
        store_watch=max(0.0, all_of.store_us - one.store_us) / more / 2,
        store_member=max(0.0, found.announce[1]),
        base_mib=one.other_mib,
        own_kib=max(0.0, all_of.owner_mib - one.owner_mib) * 1_024 / more,
        watch_kib=max(0.0, all_of.other_mib - one.other_mib) * 1_024 / more,
        held_front_kib=found.held[1],
        held_owner_kib=found.held[2],
    )


def _many_at_a_time(found: Findings, kinds: Sequence[str], size: int) -> Footprint:
    """Of a job's life in calls of `size` jobs, with all connections at one partition."""
    stand, followed = found.found[-1], found.followed
    return Footprint(
        alone=sum(stand.roles_us(OWNER, kind)[1] for kind in kinds) / size,
        front=sum(stand.roles_us(FRONT, kind)[0] for kind in kinds) / size,
        owner=sum(stand.roles_us(FRONT, kind)[1] for kind in kinds) / size,
        standby=sum(followed.server_us(OWNER, kind, 1 - followed.owned[-1]) for kind in kinds) / size,
        store=sum(stand.store_us(FRONT, kind) for kind in kinds) / size,
    )


def _few_at_a_time(found: Findings, kinds: Sequence[str], size: int) -> Footprint:
    """The same with the connections spread over all partitions. Then no server has one role, so the roles share what all of them used as
    they do with all connections at one partition."""
    stand, count = found.found[-1], len(found.found[-1].servers)
    alike = next(each for each in found.found if each.partitions == stand.partitions and len(each.servers) == len(found.followed.servers))
    many = _many_at_a_time(found, kinds, size)
    spent, followed, without = (sum(each.servers_us(SPREAD, kind) for kind in kinds) / size for each in (stand, found.followed, alike))
    times = spent / (many.alone / count + (many.front + many.owner) * (count - 1) / count)
    return Footprint(
        alone=many.alone * times,
        front=many.front * times,
        owner=many.owner * times,
        standby=max(many.standby, followed - without),
        store=sum(stand.store_us(SPREAD, kind) for kind in kinds) / size,
    )


HOW = """\
Every store is a Valkey primary with one replica, `--acknowledge 1`, that nobody else uses; all of them and all servers share two cores, so
only CPU is measured, of each process by its own clock, less what it uses at rest. It is the least of {rounds} rounds. 32 connections have
one outstanding call each; with *all, any queue* they are spread over all servers, and the calls over a queue in each partition, in a random
order, so with S servers (S - 1)/S of the calls are forwarded. *a + b*: a at the server that is asked and forwards, b at the owner.
Ids are made by the client, with the queue's partition as their home, as our clients make them; *to be claimed*: with another home. A job's
life is an enqueue, a dequeue and a conclude; in batches, 100 jobs of one queue a call. At rest there are two servers, the first of which
owns all partitions; with standbys, the other follows all of them. The listings are asked of the other server, with 200 jobs queued over
all partitions: CPU of both servers."""


def report(found: Findings, plan: Plan) -> str:
    """Its part of results.md."""
    head = f"{datetime.now(UTC):%Y-%m-%d}. {machine()}. To get these: `python -m bench partitions`."
    alone, front, owner = found.held
    members = (
        f"Memory of a held dequeue, at {plan.held:,}: {alone:.1f} KiB at an owner that is asked itself; {front:.1f} KiB at a server that "
        f"forwards it, and {owner:.1f} KiB at the owner. One more server costs each server {found.announce[0]:.1f} µs a second, and the "
        f"store {found.announce[1]:.1f} µs for each of the others: each reads the list of all once a second."
    )
    given = figures(found)
    parts = [
        "# Partitions of a store",
        head,
        "CPU, µs:",
        costs(found.found, found.followed),
        "At rest, and what asks all partitions:",
        at_rest(found.rests),
        members,
        HOW.format(rounds=plan.rounds),
        *modelled(given),
    ]
    return "\n\n".join(parts)


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench partitions", description="Measure the partitions of a store, by role.")
    parser.add_argument("--quick", action="store_true", help="smaller sizes, a single round; only prints")
    options = parser.parse_args(arguments)
    plan = QUICK if options.quick else FULL
    prepare()
    try:
        text = report(find(plan), plan)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    print(file=sys.stderr)
    print(text)
    if not options.quick:
        results.write("partitions", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
