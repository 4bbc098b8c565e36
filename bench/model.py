"""How far several servers get, on paper: what bench/partitions.py measured on one machine, computed for machines of their own.

Pure arithmetic. What it assumes is said in ASSUMED, and what it leaves out in LEFT_OUT.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from jobqueue.limits import Limits
from jobqueue.partition import NODE_MASK, crc16
from jobqueue.process.server import DESCRIPTORS_EACH, DESCRIPTORS_RESERVED

SECOND_US = 1e6
CORES = 2
"""Of a server; a process on each."""
PRIMARIES = (1, 3, 9)
USUAL = 3
"""Primaries in the table that is in docs/scale-out.md."""
SERVERS = (4, 16, 64)
PARTITIONS = (16, 64, 128)
JOBS = 1_000_000
JOB_BYTES = 850
"""Of a job of 200 bytes in an owner or a standby, from the takeovers with a million jobs."""


class Footprint(NamedTuple):
    """Microseconds of CPU for a job's life.

    alone: of an owner that is asked itself; front, owner: of a server that forwards, and of the owner it forwards to; standby: of the
    server that follows the owner; store: of the primary.
    """

    alone: float
    front: float
    owner: float
    standby: float
    store: float


class Figures(NamedTuple):
    """What was measured. few, many: single calls, few or many at a time at each partition; batch: batches, few at a time.

    In microseconds of CPU a second, for a process: idle, of one with nothing; idle_watch, idle_own, idle_follow: in addition, for each
    partition that there is, that it owns, that it follows; idle_member: for each other process. Of the first primary: store_server, for
    each process; store_watch, for each process and partition; store_member, for each process and other process. Memory: base_mib, of a
    process with nothing; own_kib, watch_kib, for each empty partition that it owns, or that there is; held_front_kib, held_owner_kib: for
    each held dequeue.
    """

    few: Footprint
    many: Footprint
    batch: Footprint
    idle: float
    idle_watch: float
    idle_own: float
    idle_follow: float
    idle_member: float
    store_server: float
    store_watch: float
    store_member: float
    base_mib: float
    own_kib: float
    watch_kib: float
    held_front_kib: float
    held_owner_kib: float


class Layout(NamedTuple):
    """So many servers, and so many partitions."""

    servers: int
    partitions: int

    @property
    def processes(self) -> int:
        """One on each core."""
        return self.servers * CORES

    @property
    def most(self) -> int:
        """Partitions that the process owns which owns most."""
        return math.ceil(self.partitions / self.processes)

    @property
    def links(self) -> int:
        """Of all: every process has one to the owner of each partition it does not own, and each standby one more."""
        return self.partitions * self.processes

    @property
    def links_each(self) -> int:
        """Ends of links at the process that owns most: to the owners of the others, from all others, and those of standbys."""
        return self.partitions - self.most + self.most * (self.processes - 1) + 2 * self.most

    @property
    def links_reserved(self) -> int:
        """Descriptors that a process keeps free for them."""
        return DESCRIPTORS_RESERVED + DESCRIPTORS_EACH * self.partitions


def first_share(partitions: int, primaries: int) -> float:
    """The share of the partitions that the primary with most of them has, if each has an equal range of the slots."""
    slots = NODE_MASK + 1
    held = Counter((crc16(f"jq{index}".encode()) & NODE_MASK) * primaries // slots for index in range(partitions))
    return max(held.values()) / partitions


class Rates(NamedTuple):
    """Job lives a second that each resource allows, if all others had no end. owner: the process that owns most; front: a process that owns
    nothing, infinite if there is none; stores: by the number of primaries; queue: of a single queue, by its owner."""

    owner: float
    front: float
    stores: dict[int, float]
    queue: float

    @property
    def servers(self) -> float:
        """By the servers."""
        return min(self.owner, self.front)

    def first(self, primaries: int) -> str:
        """What ends first, with so many primaries: "owner", "fronts" or "Valkey"."""
        ends = {"owner": self.owner, "fronts": self.front, "Valkey": self.stores[primaries]}
        return min(ends, key=ends.__getitem__)


def resting(given: Figures, layout: Layout, owned: int) -> float:
    """Microseconds of a second that a process spends on being one of them, when it owns, and follows, so many partitions."""
    common = given.idle + given.idle_watch * layout.partitions + given.idle_member * layout.processes
    return common + (given.idle_own + given.idle_follow) * owned


def store_resting(given: Figures, layout: Layout) -> float:
    """The same of a primary that has all partitions."""
    each = given.store_server + given.store_watch * layout.partitions + given.store_member * layout.processes
    return each * layout.processes


def rates(given: Figures, cost: Footprint, layout: Layout) -> Rates:
    """How many job lives a second, each sent to any process, of a queue in any partition."""
    processes, partitions = layout.processes, layout.partitions

    def at_most(owned: float, share: float) -> float:
        """What a process allows that owns so many partitions, which get this share of the jobs."""
        asked = 1 / processes
        own = share * (asked * cost.alone + (1 - asked) * cost.owner)
        follow = owned / partitions * cost.standby
        return max(0.0, SECOND_US - resting(given, layout, math.ceil(owned))) / (asked * (1 - share) * cost.front + own + follow)

    busiest = at_most(layout.most, layout.most / partitions)
    idle = store_resting(given, layout)
    return Rates(
        owner=busiest,
        front=at_most(0, 0.0) if partitions < processes else math.inf,
        # The list of members is on one primary, and the polls go to all; so the first has at most all of that.
        stores={each: max(0.0, SECOND_US - idle) / (cost.store * first_share(partitions, each)) for each in PRIMARIES},
        queue=at_most(1, 1.0),
    )


class Held(NamedTuple):
    """Held dequeues: how many, what bounds them, and GiB of memory of the process that owns most."""

    count: int
    bound: str
    gib: float


def held(given: Figures, layout: Layout) -> Held:
    """By the default limits: connections of each process, and waiting requests of each partition."""
    limits = Limits()
    bounds = {"connections": layout.processes * limits.connections_max, "waiting requests": layout.partitions * limits.waiters_max}
    bound = min(bounds, key=bounds.__getitem__)
    count = bounds[bound]
    owned = layout.most / layout.partitions
    kib = count / layout.processes * given.held_front_kib + count * owned * given.held_owner_kib
    return Held(count, bound, kib / 1_024 / 1_024)


def memory_mib(given: Figures, layout: Layout) -> float:
    """Of the process that owns most, which follows as many, with JOBS jobs in all and no requests."""
    jobs = 2 * layout.most / layout.partitions * JOBS * JOB_BYTES / 2**20
    empty = 2 * layout.most * given.own_kib + layout.partitions * given.watch_kib
    return given.base_mib + empty / 1_024 + jobs


ASSUMED = f"""\
Assumed: each machine has {CORES} cores like those of this machine, with a process on each, and nothing else on them. Jobs are spread evenly
over the partitions, and calls over all processes, whoever owns the queue. Jobs have 200 bytes, and ids whose home is the queue's partition.
A core does nothing but this, to 100 %: plan with half of it. Every partition has a standby, and a process follows as many as it owns. The
primaries of Valkey have a core each, equal ranges of slots, and replicas elsewhere. *Few at a time*: always 4 calls for each partition, as
for batches, too; *many*: 32. The fewer there are, the smaller the commits, and the more each call costs Valkey and the servers. When a core
is full, calls wait, and commits grow. The network is never full. For memory there are {JOBS:,} jobs in all, of {JOB_BYTES} bytes each
in the owner and in the standby."""

LEFT_OUT = """\
Not measured: more than four servers, and more than one machine. Nothing here shows what a network with delays, or dozens of servers that
start at the same time, do to this."""


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in (headings, ["---"] * len(headings), *rows))


def _thousands(rate: float) -> str:
    return f"{rate / 1_000:,.0f} k" if rate >= 10_000 else f"{rate / 1_000:,.1f} k"


def layouts() -> list[Layout]:
    """Those of the tables."""
    return [Layout(servers, partitions) for servers in SERVERS for partitions in PARTITIONS]


KINDS = ("single calls, few at a time", "single calls, many at a time", "batches of 100")


def _kinds(given: Figures) -> Sequence[Footprint]:
    return given.few, given.many, given.batch


def in_short(given: Figures) -> str:
    """Jobs a second with the usual number of primaries, and what ends first."""
    rows = []
    for layout in layouts():
        cells = [str(layout.servers), str(layout.partitions)]
        for cost in _kinds(given):
            found = rates(given, cost, layout)
            cells.append(f"{_thousands(min(found.servers, found.stores[USUAL]))} ({found.first(USUAL)})")
        rows.append(cells)
    return _table(["servers", "partitions", *KINDS], rows)


def allowed(given: Figures) -> str:
    """Jobs a second that the servers allow, and that each number of primaries allows."""
    rows = []
    for layout in layouts():
        cells = [str(layout.servers), str(layout.partitions)]
        for cost in _kinds(given):
            found = rates(given, cost, layout)
            cells.append(" / ".join(_thousands(each) for each in (found.servers, *found.stores.values())))
        rows.append(cells)
    return _table(["servers", "partitions", *KINDS], rows)


def sizes(given: Figures) -> str:
    """Held requests, memory and links."""
    rows = []
    for layout in layouts():
        kept = held(given, layout)
        memory = memory_mib(given, layout)
        over = ", **more than it reserves**" if layout.links_each > layout.links_reserved else ""
        rest = resting(given, layout, layout.most) / SECOND_US
        rows.append(
            [
                str(layout.servers), str(layout.partitions), f"{kept.count:,}", kept.bound, f"{kept.gib:.2f}", f"{memory:,.0f}",
                f"{layout.links:,}", f"{layout.links_each:,} of {layout.links_reserved:,}{over}", f"{rest:.1%}",
                f"{store_resting(given, layout) / SECOND_US:.1%}",
            ]
        )  # fmt: skip
    head = ["servers", "partitions", "held dequeues", "bounded by", "GiB for them in the busiest process", "MiB besides"]
    return _table([*head, "links", "in the busiest process, of those it reserves", "a process at rest", "Valkey at rest"], rows)


def modelled(given: Figures) -> list[str]:
    """The paragraphs and tables of a report."""
    lines = [
        [name, *(f"{part:.1f}" for part in (cost.alone, cost.front, cost.owner, cost.standby, cost.store))]
        for name, cost in zip(KINDS, _kinds(given), strict=True)
    ]
    head = ["a job's life, µs", "owner asked itself", "front", "owner behind it", "standby", "Valkey"]
    idle = (
        f"At rest, µs of CPU a second: a process {given.idle:,.0f}, and {given.idle_watch:.1f} for each partition, {given.idle_own:.0f} "
        f"for each that it owns, {given.idle_follow:.0f} for each that it follows; Valkey {given.store_server:.0f} for each process, and "
        f"{given.store_watch:.1f} for each process and partition. An empty partition takes {given.own_kib:.0f} KiB in its owner, "
        f"{given.watch_kib:.0f} in each other process."
    )
    alike = [_thousands(rates(given, cost, Layout(16, 64)).queue) for cost in (given.many, given.batch)]
    one = f"A single queue has one owner, whose core allows {alike[0]} by single calls and {alike[1]} in batches (16 servers)."
    return [
        "## How far it goes, on paper",
        "What the model is given:",
        _table(head, lines),
        idle,
        f"Job lives a second, in thousands (k), with {USUAL} primaries, and what ends first: the core of the *owner* of most partitions "
        "(all cores, if all own as many), those of *fronts*, which own nothing, or that of the *Valkey* primary with most partitions:",
        in_short(given),
        f"What each allows alone: the servers / {' / '.join(map(str, PRIMARIES))} primaries:",
        allowed(given),
        one,
        "Held requests, memory and links:",
        sizes(given),
        ASSUMED,
        LEFT_OUT,
    ]
