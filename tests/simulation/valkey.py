"""A Valkey cluster in memory, of shards: each a primary and its replicas, as the servers' own code talks to it, in RESP over the network.

Each shard has the partitions whose keys are in its slots (valkey_data.py says what a node has of one). Writes go into a log; a replica
carries them out after its lag, and WAIT counts those that have. A failover makes a primary of any replica, however far behind: what only
the old primary had is lost, unless the owner sends it again.

With each commit goes what the checker knows of its jobs, so that whoever reads the rows can be held against that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from itertools import pairwise
from random import Random
from typing import TYPE_CHECKING, Any

import hiredis

from jobqueue.backend.store.valkey_functions import REVISION
from jobqueue.backend.store.valkey_wire import SLOTS, slot_of

from .loop import EPOCH, passing
from .machines import NOWHERE, Machine, MachineLoop
from .valkey_data import Commit, Data, Error, Shadow
from .wires import STORE_PORT, Network

if TYPE_CHECKING:
    from .checker import Seen

PORT = STORE_PORT
NODES = ("v1", "v2", "v3")
OTHERS = (("w1", "w2", "w3"), ("x1", "x2", "x3"))
"""Those of the second and third shard, where there are several."""

REGISTER = -1
"""In place of the number of a partition: what all have in common, such as the list of members."""

NODE_SECONDS = 1.0
"""After how long without the others a primary refuses what it is asked."""

Datas = dict[int, Data]
"""What a node has, by partition."""

Write = Callable[[Datas], Any]


def partition_in(key: bytes) -> int:
    """The partition that a key belongs to: N in `{jqN}:…`."""
    number = key[1 : key.index(b"}")].removeprefix(b"jq")
    return int(number) if number else REGISTER


class Node:
    """One of them. term: the history of writes that it follows, and how many of these it has carried out.

    late: how long it takes over each command; deaf: its answers get lost; busy: it refuses everything.
    """

    def __init__(self, cluster: Valkey, host: str) -> None:
        self.cluster = cluster
        self.host = host
        self.machine = Machine(cluster.loop, host)
        self.datas: Datas = {partition: Data() for partition in cluster.partitions}
        self.log: list[Write] = []
        self.done = 0
        self.view: Node = self
        """Whom it takes for the primary."""
        self.epoch = 0
        self.late = 0.0
        self.deaf = self.busy = False
        self.alone_at: float | None = None
        """Since when it hears nothing of the others."""
        self.up()

    def up(self) -> None:
        """Begin to listen."""
        self.machine.context.run(self.cluster.network.listen, lambda: Served(self), PORT)

    def down(self) -> None:
        """End: refuse connections, and reset those there are. What it has is on its disk."""
        self.cluster.network.close(self.host)
        for wire in self.cluster.network.wires:
            for end in wire.ends:
                if end.machine is self.machine:
                    end.die()

    def now(self) -> float:
        return EPOCH + self.cluster.loop.time()

    def write(self, write: Write) -> Any:
        """Carry out a write as the primary. Raises Error, having changed nothing."""
        answer = write(self.datas)
        self.log.append(write)
        self.done = len(self.log)
        self.cluster.replicate(self)
        return answer

    def catch_up(self, log: list[Write], done: int) -> None:
        """Carry out what the primary has, as its replica."""
        if log is self.log and self.view is not self:
            for write in log[self.done : done]:
                write(self.datas)
            self.done = max(self.done, done)

    def resync(self) -> None:
        """Begin anew as a replica of the primary, with its data."""
        primary = self.cluster.primary
        if primary is not self:
            self.view, self.epoch = primary, self.cluster.epoch
            self.log, self.done = primary.log, primary.done
            self.datas = {partition: data.copy() for partition, data in primary.datas.items()}


class Valkey:
    """One shard. hosts: its nodes; partitions: those that it has; slots: the range of its slots, from and to. all: every shard.

    shadows: what the checker knows of each commit; claimed: when each token was granted.
    """

    def __init__(
        self,
        loop: MachineLoop,
        network: Network,
        seed: str,
        lags: tuple[float, ...],
        hosts: Sequence[str] = NODES,
        partitions: Sequence[int] = (REGISTER, 0),
        slots: tuple[int, int] = (0, SLOTS - 1),
    ) -> None:
        self.loop = loop
        self.network = network
        self.random = Random(f"{seed} valkey" if hosts is NODES else f"{seed} valkey {hosts[0]}")
        self.lags = lags
        self.partitions = partitions
        self.slots = slots
        self.all: list[Valkey] = [self]
        self.shadows: dict[Commit, Shadow] = {}
        self.claimed: dict[str, float] = {}
        self.carried_out: set[Commit] = set()
        self.forced_at = dict.fromkeys(partitions, -1e9)
        """When somebody last claimed a partition before its lease had passed, from one that was taken for dead."""
        self.read: dict[tuple[str, int], tuple[dict[str, Seen], set[str]]] = {}
        """What was in the rows when a host last read them, by host and partition."""
        self.on_claim: Callable[[int, Data, str, bool], None] = lambda partition, data, token, forced: None
        """Told of each claim that is granted; forced: though the lease before it had not passed."""
        self.epoch = 1
        self.failed_over_at = self.failed_over_before = -1e9
        self.forgot_claim_at = dict.fromkeys(partitions, -1e9)
        """When a failover last made a primary of a replica that had not heard of the owner's claim."""
        self.nodes = [Node(self, host) for host in hosts]
        self.primary = self.nodes[0]
        for node in self.nodes:
            node.resync()
        self.primary.epoch = 1

    @property
    def hosts(self) -> list[str]:
        """Of its nodes."""
        return [node.host for node in self.nodes]

    def replicate(self, primary: Node) -> None:
        """Send the replicas what the primary has."""
        replicas = [node for node in self.nodes if node is not primary]
        for node, lag in zip(replicas, self.lags, strict=True):
            self.loop.call_later(lag, self._arrive, primary, node, primary.log, primary.done, context=NOWHERE)

    def _arrive(self, primary: Node, node: Node, log: list[Write], done: int) -> None:
        if not self.network.is_cut(primary.host, node.host) and not node.machine.dead:
            node.machine.when_running(lambda: node.catch_up(log, done))

    def replicas(self, primary: Node) -> list[Node]:
        """Those that follow a primary's history."""
        return [node for node in self.nodes if node is not primary and node.log is primary.log]

    def fail_over(self) -> None:
        """Make a primary of a replica that runs; any, however far behind. One that stands still or is cut off does not know it yet."""
        able = [node for node in self.nodes if node is not self.primary and node.machine.running and node.log is self.primary.log]
        if not able:
            return
        old, new = self.primary, self.random.choice(able)
        self.primary = new
        self.epoch += 1
        self.failed_over_before, self.failed_over_at = self.failed_over_at, self.loop.time()
        for partition, data in new.datas.items():
            if data.owner.get("token") != old.datas[partition].owner.get("token"):
                self.forgot_claim_at[partition] = self.loop.time()
        new.view, new.epoch = new, self.epoch
        new.log = new.log[: new.done]
        for node in self.nodes:
            if node is not new and node.machine.running and not (node is old and node.alone_at is not None):
                node.resync()

    def rejoin(self, node: Node) -> None:
        """A node that was away hears who the primary is."""
        if node.view is not self.primary or node.log is not self.primary.log:
            node.resync()

    def ever(self, commit: Commit) -> bool:
        """Whether a primary has ever carried a commit out."""
        return commit in self.carried_out


def shards_of(loop: MachineLoop, network: Network, seed: str, lags: tuple[float, ...], partitions: int, several: bool) -> list[Valkey]:
    """A cluster for a store of so many partitions. several: whether these lie on shards of their own, three at most."""
    if not several:
        return [Valkey(loop, network, seed, lags, partitions=(REGISTER, *range(partitions)))]
    hosts = (NODES, *OTHERS)
    places = sorted((slot_of(f"{{jq{partition}}}:o"), partition) for partition in range(partitions))
    parts = [places[n * partitions // len(hosts) : (n + 1) * partitions // len(hosts)] for n in range(len(hosts))]
    begins = [0, *(part[0][0] for part in parts[1:]), SLOTS]
    ranges = [(first, after - 1) for first, after in pairwise(begins)]
    register = next(n for n, (first, last) in enumerate(ranges) if first <= slot_of("{jq}:members") <= last)
    shards = [
        Valkey(loop, network, seed, lags, hosts[n], [*([REGISTER] if n == register else []), *(index for _, index in part)], ranges[n])
        for n, part in enumerate(parts)
    ]
    for shard in shards:
        shard.all = shards
    return shards


class Served(asyncio.Protocol):
    """A connection to a node: one command after the other."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self._reader = hiredis.Reader(notEnoughData=self)
        self._todo: list[list[bytes]] = []
        self._working: asyncio.Task[None] | None = None
        self.peer = ""
        self._mute = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.peer = transport.get_extra_info("peername")[0]

    def connection_lost(self, exc: Exception | None) -> None:
        if self._working is not None:
            self._working.cancel()

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        while (command := self._reader.gets()) is not self:
            self._todo.append(command)
        if self._working is None or self._working.done():
            self._working = self.node.cluster.loop.create_task(self._work())

    async def _work(self) -> None:
        try:
            await self._serve()
        except Exception:
            # A defect here. An answer left out would pass for that to another command.
            self.transport.abort()
            raise

    async def _serve(self) -> None:
        node = self.node
        while self._todo:
            # All that came together is carried out together, as a server does that reads it in one go.
            todo, self._todo = self._todo, []
            if node.late:
                await passing(node.late / 2)
            replies: list[bytes] = []
            for command in todo:
                name = command[0].decode().upper()
                try:
                    if node.busy and name != "HELLO":
                        raise Error("LOADING the data set is being read")
                    reply = await self._wait(command) if name == "WAIT" else getattr(self, f"_{name.lower()}")(*command[1:])
                except Error as error:
                    replies.append(f"-{error}\r\n".encode())
                else:
                    replies.append(encoded(reply))
            if node.late:
                await passing(node.late / 2)
            # Once an answer is lost none comes on this connection, as behind a gap that TCP never fills.
            self._mute = self._mute or node.deaf
            if not self._mute:
                self.transport.write(b"".join(replies))

    # Commands.

    def _hello(self, *_: bytes) -> Any:
        return "OK"

    def _ping(self) -> Any:
        return "PONG"

    def _role(self) -> Any:
        return ["master" if self.node.view is self.node else "slave", 0, []]

    def _time(self) -> Any:
        now = self.node.now()
        return [str(int(now)), str(int(now % 1 * 1e6))]

    def _cluster(self, what: bytes) -> Any:
        node = self.node
        if what == b"INFO":
            return f"cluster_state:ok\r\ncluster_current_epoch:{self._epoch}\r\n"
        return [self._range(shard, node.view if shard is node.cluster else shard.primary) for shard in node.cluster.all]

    @property
    def _epoch(self) -> int:
        """Of the whole cluster, as this node knows it: it hears of the other shards."""
        node = self.node
        return node.epoch + sum(shard.epoch - 1 for shard in node.cluster.all if shard is not node.cluster and node.alone_at is None)

    def _range(self, shard: Valkey, primary: Node) -> list[Any]:
        others = [one for one in shard.nodes if one is not primary]
        return [*shard.slots, *([one.host, PORT, one.host] for one in (primary, *others))]

    def _at_primary(self, key: bytes) -> Node:
        node = self.node
        if node.alone_at is not None and node.now() - EPOCH > node.alone_at + NODE_SECONDS:
            raise Error("CLUSTERDOWN The cluster is down")
        slot = slot_of(key.decode()) if len(node.cluster.all) > 1 else 0
        for shard in node.cluster.all:
            if shard is not node.cluster and shard.slots[0] <= slot <= shard.slots[1]:
                raise Error(f"MOVED {slot} {shard.primary.host}:{PORT}")
        if node.view is not node:
            raise Error(f"MOVED {slot} {node.view.host}:{PORT}")
        return node

    def _data(self, key: bytes) -> Data:
        return self._at_primary(key).datas[partition_in(key)]

    def _fcall(self, name: bytes, count: bytes, *rest: bytes) -> Any:
        node, arguments, partition = self._at_primary(rest[0]), list(rest[int(count) :]), partition_in(rest[0])
        valkey, now = node.cluster, node.now()
        function = name.decode().removeprefix("jo_")
        if function == "commit":
            shadow = valkey.shadows.get((arguments[0].decode(), int(arguments[1])))
            answer = node.write(lambda datas: datas[partition].commit(now, arguments, shadow))
            valkey.carried_out.add((arguments[0].decode(), int(arguments[1])))
            return answer
        plain: Callable[..., Any] = getattr(Data, function)
        owner = node.datas[partition].owner
        before, until = owner.get("token"), float(owner.get("until", "0"))
        answer = node.write(lambda datas: plain(datas[partition], now, arguments))
        token = owner.get("token")
        if function == "claim" and token is not None and token != before:
            valkey.claimed[token] = valkey.loop.time()
            valkey.on_claim(partition, node.datas[partition], token, before is not None and until > now)
        return answer

    def _fcall_ro(self, name: bytes, _count: bytes, *keys: bytes) -> Any:
        if name == b"jo_revision":
            return REVISION
        return self._data(keys[0]).holder(self.node.now())

    def _hdel(self, key: bytes, name: bytes) -> Any:
        return self._at_primary(key).write(lambda datas: datas[partition_in(key)].depart(0.0, [name]))

    def _hget(self, key: bytes, name: bytes) -> Any:
        data = self._data(key)
        if name == b"token":
            # Whoever reads rows asks for this last, in one packet with the counters.
            self.node.cluster.read[self.peer, partition_in(key)] = dict(data.jobs), set(data.paused)
        return data.owner.get(name.decode())

    def _hmget(self, key: bytes, *names: bytes) -> Any:
        return [self._data(key).owner.get(name.decode()) if key.endswith(b"}:o") else None for name in names]

    def _hgetall(self, key: bytes) -> Any:
        data = self._data(key)
        if not key.endswith(b"}:b"):
            return []
        return [part for number, found in data.states.items() if found for part in (b"%d" % number, b"%d" % len(found))]

    def _get(self, key: bytes) -> Any:
        return self._data(key).counters

    def _hscan(self, key: bytes, cursor: bytes, *_: bytes) -> Any:
        data = self._data(key)
        kind, _, bucket = key.decode().partition("}:")[2].partition(":")
        if kind == "b":
            rows: dict[bytes, bytes] = {b"%d" % number: b"%d" % len(found) for number, found in data.states.items() if found}
        elif kind == "q":
            rows = data.queues
        else:
            rows = (data.states if kind == "j" else data.payloads).get(int(bucket), {})
        return ["0", [part for pair in rows.items() for part in pair]]

    async def _wait(self, command: list[bytes]) -> Any:
        node = self.node
        wanted, until = int(command[1]), node.cluster.loop.time() + int(command[2]) / 1000
        log, done = node.log, node.done
        while True:
            have = sum(one.log is log and one.done >= done for one in node.cluster.replicas(node))
            if have >= wanted or node.cluster.loop.time() >= until:
                return have
            await passing(0.01)


def encoded(reply: Any) -> bytes:
    """A reply in RESP."""
    if reply is None:
        return b"_\r\n"
    if isinstance(reply, int):
        return b":%d\r\n" % reply
    if isinstance(reply, list):
        return b"*%d\r\n" % len(reply) + b"".join(map(encoded, reply))
    content = reply.encode() if isinstance(reply, str) else reply
    return b"$%d\r\n%s\r\n" % (len(content), content)
