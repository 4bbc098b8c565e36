"""A Valkey cluster of one shard in memory: a primary and its replicas, as the servers' own code talks to it, in RESP over the network.

The functions are those of valkey.lua, written again; that they do the same is shown by tests/backend/store/test_valkey.py on real servers.
Writes go into a log; a replica carries them out after its lag, and WAIT counts those that have. A failover makes a primary of any replica,
however far behind: what only the old primary had is lost, unless the owner sends it again.

With each commit goes what the checker knows of its jobs, so that whoever reads the rows can be held against that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any

import hiredis

from jobqueue.backend.store.valkey_functions import REVISION

from .loop import EPOCH, passing
from .machines import NOWHERE, Machine, MachineLoop
from .wires import STORE_PORT, Network

if TYPE_CHECKING:
    from .checker import Seen

PORT = STORE_PORT
NODES = ("v1", "v2", "v3")
NODE_SECONDS = 1.0
"""After how long without the others a primary refuses what it is asked."""

Commit = tuple[str, int]
"""The token it was made under, and its number."""


class Error(Exception):
    """An error reply."""


@dataclass
class Shadow:
    """What the checker knows of a commit: jobs by id, None for one that is forgotten, and the queues that are paused."""

    jobs: dict[str, Seen | None]
    paused: set[str]
    mark: int
    """Of the checker's changes, the last that is in it."""


@dataclass
class Data:
    """What one node has. have: every commit that is in it; tokens: every claim; jobs and paused: the checker's view of its rows."""

    owner: dict[str, str] = field(default_factory=dict)
    states: dict[int, dict[bytes, bytes]] = field(default_factory=dict)
    payloads: dict[int, dict[bytes, bytes]] = field(default_factory=dict)
    queues: dict[bytes, bytes] = field(default_factory=dict)
    counters: bytes | None = None
    members: dict[bytes, tuple[float, bytes]] = field(default_factory=dict)
    have: dict[Commit, None] = field(default_factory=dict)
    tokens: dict[str, None] = field(default_factory=dict)
    jobs: dict[str, Seen] = field(default_factory=dict)
    paused: set[str] = field(default_factory=set)

    def copy(self) -> Data:
        """The same, apart."""
        return Data(
            dict(self.owner),
            {number: dict(rows) for number, rows in self.states.items()},
            {number: dict(rows) for number, rows in self.payloads.items()},
            dict(self.queues),
            self.counters,
            dict(self.members),
            dict(self.have),
            dict(self.tokens),
            dict(self.jobs),
            set(self.paused),
        )

    # The functions. now: by the primary's clock, also where a replica carries them out.

    def claim(self, now: float, a: list[bytes]) -> Any:
        name, address, seconds, force, nonce = (one.decode() for one in a)
        o = self.owner
        if "owner" in o and o["owner"] != name and force != "1" and float(o["until"]) > now:
            return [o["owner"], o["addr"], o["epoch"], f"{float(o['until']) - now:.6f}"]
        epoch = str(int(o.get("epoch", "0")) + 1)
        o |= {"owner": name, "addr": address, "epoch": epoch, "token": f"{epoch}:{nonce}", "until": f"{now + float(seconds):.6f}"}
        o.setdefault("change", "0")
        self.tokens[o["token"]] = None
        return [name, address, epoch, seconds]

    def holder(self, now: float) -> Any:
        o = self.owner
        return None if "owner" not in o else [o["owner"], o["addr"], o["epoch"], f"{float(o['until']) - now:.6f}"]

    def fence(self, token: bytes) -> None:
        if self.owner.get("token") != token.decode():
            raise Error(f"FENCED {self.owner.get('epoch', '0')}")

    def renew(self, now: float, a: list[bytes]) -> Any:
        self.fence(a[0])
        self.owner["until"] = f"{now + float(a[1]):.6f}"
        return int(self.owner["change"])

    def release(self, now: float, a: list[bytes]) -> Any:
        self.fence(a[0])
        for name in ("owner", "addr", "token", "until"):
            del self.owner[name]
        return 1

    def commit(self, now: float, a: list[bytes], shadow: Shadow | None) -> Any:
        self.fence(a[0])
        change, number = int(self.owner["change"]), int(a[1])
        if change < int(a[2]):
            raise Error(f"BEHIND {change}")
        if change >= number:
            raise Error(f"PAST {change}")
        at = 6
        for _ in range(int(a[5])):
            bucket, payloads, states, gone = (int(one) for one in a[at : at + 4])
            at += 4
            self.payloads.setdefault(bucket, {}).update(zip(a[at : at + payloads : 2], a[at + 1 : at + payloads : 2], strict=True))
            at += payloads
            rows = self.states.setdefault(bucket, {})
            rows.update(zip(a[at : at + states : 2], a[at + 1 : at + states : 2], strict=True))
            at += states
            for key in a[at : at + gone]:
                rows.pop(key, None)
                self.payloads[bucket].pop(key, None)
            at += gone
        for name, row in zip(a[at::2], a[at + 1 :: 2], strict=True):
            if row:
                self.queues[name] = row
            else:
                self.queues.pop(name, None)
        self.counters = a[4]
        self.owner["change"] = str(number)
        self.owner["until"] = f"{now + float(a[3]):.6f}"
        self.have[a[0].decode(), number] = None
        if shadow is not None:
            self.paused = set(shadow.paused)
            for job_id, seen in shadow.jobs.items():
                if seen is None:
                    self.jobs.pop(job_id, None)
                else:
                    self.jobs[job_id] = seen
        return 1

    def announce(self, now: float, a: list[bytes]) -> Any:
        self.members[a[0]] = now, a[1]
        self.members = {name: one for name, one in self.members.items() if now - one[0] <= 60}
        return [part for name, (seen, at) in self.members.items() for part in (name, at, f"{max(0.0, now - seen):.6f}")]

    def depart(self, now: float, a: list[bytes]) -> Any:
        return 0 if self.members.pop(a[0], None) is None else 1


Write = Callable[[Data], Any]


class Node:
    """One of them. term: the history of writes that it follows, and how many of these it has carried out.

    late: how long it takes over each command; deaf: its answers get lost; busy: it refuses everything.
    """

    def __init__(self, cluster: Valkey, host: str) -> None:
        self.cluster = cluster
        self.host = host
        self.machine = Machine(cluster.loop, host)
        self.data = Data()
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
        answer = write(self.data)
        self.log.append(write)
        self.done = len(self.log)
        self.cluster.replicate(self)
        return answer

    def catch_up(self, log: list[Write], done: int) -> None:
        """Carry out what the primary has, as its replica."""
        if log is self.log and self.view is not self:
            for write in log[self.done : done]:
                write(self.data)
            self.done = max(self.done, done)

    def resync(self) -> None:
        """Begin anew as a replica of the primary, with its data."""
        primary = self.cluster.primary
        if primary is not self:
            self.view, self.epoch = primary, self.cluster.epoch
            self.log, self.done, self.data = primary.log, primary.done, primary.data.copy()


class Valkey:
    """All of them. shadows: what the checker knows of each commit; claimed: when each token was granted; told: who hears of a claim."""

    def __init__(self, loop: MachineLoop, network: Network, seed: str, lags: tuple[float, ...]) -> None:
        self.loop = loop
        self.network = network
        self.random = Random(f"{seed} valkey")
        self.lags = lags
        self.shadows: dict[Commit, Shadow] = {}
        self.claimed: dict[str, float] = {}
        self.carried_out: set[Commit] = set()
        self.forced_at = -1e9
        """When somebody last claimed before a lease had passed, from one that was taken for dead."""
        self.read: dict[str, tuple[dict[str, Seen], set[str]]] = {}
        """What was in the rows when a host last read them."""
        self.on_claim: Callable[[Data, str], None] = lambda data, token: None
        self.epoch = 1
        self.failed_over_at = self.failed_over_before = -1e9
        self.forgot_claim_at = -1e9
        """When a failover last made a primary of a replica that had not heard of the owner's claim."""
        self.nodes = [Node(self, host) for host in NODES]
        self.primary = self.nodes[0]
        for node in self.nodes:
            node.resync()
        self.primary.epoch = 1

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
        if new.data.owner.get("token") != old.data.owner.get("token"):
            self.forgot_claim_at = self.loop.time()
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
            return f"cluster_state:ok\r\ncluster_current_epoch:{node.epoch}\r\n"
        others = [one for one in node.cluster.nodes if one is not node.view]
        return [[0, 16_383, *([one.host, PORT, one.host] for one in (node.view, *others))]]

    def _at_primary(self) -> Node:
        node = self.node
        if node.alone_at is not None and node.now() - EPOCH > node.alone_at + NODE_SECONDS:
            raise Error("CLUSTERDOWN The cluster is down")
        if node.view is not node:
            raise Error(f"MOVED 0 {node.view.host}:{PORT}")
        return node

    def _fcall(self, name: bytes, count: bytes, *rest: bytes) -> Any:
        node, arguments = self._at_primary(), list(rest[int(count) :])
        valkey, now = node.cluster, node.now()
        function = name.decode().removeprefix("jo_")
        if function == "commit":
            shadow = valkey.shadows.get((arguments[0].decode(), int(arguments[1])))
            answer = node.write(lambda data: data.commit(now, arguments, shadow))
            valkey.carried_out.add((arguments[0].decode(), int(arguments[1])))
            return answer
        plain: Callable[..., Any] = getattr(Data, function)
        before, until = node.data.owner.get("token"), float(node.data.owner.get("until", "0"))
        answer = node.write(lambda data: plain(data, now, arguments))
        token = node.data.owner.get("token")
        if function == "claim" and token is not None and token != before:
            valkey.claimed[token] = valkey.loop.time()
            if before is not None and until > now:
                valkey.forced_at = valkey.loop.time()
            valkey.on_claim(node.data, token)
        return answer

    def _fcall_ro(self, name: bytes, *_: bytes) -> Any:
        if name == b"jo_revision":
            return REVISION
        node = self._at_primary()
        return node.data.holder(node.now())

    def _hdel(self, key: bytes, name: bytes) -> Any:
        node = self._at_primary()
        return node.write(lambda data: data.depart(0.0, [name]))

    def _hget(self, key: bytes, name: bytes) -> Any:
        return self._at_primary().data.owner.get(name.decode())

    def _hmget(self, key: bytes, *names: bytes) -> Any:
        return [self._at_primary().data.owner.get(name.decode()) if key.endswith(b"}:o") else None for name in names]

    def _hgetall(self, key: bytes) -> Any:
        data = self._at_primary().data
        if not key.endswith(b"}:b"):
            return []
        return [part for number, found in data.states.items() if found for part in (b"%d" % number, b"%d" % len(found))]

    def _get(self, key: bytes) -> Any:
        node = self._at_primary()
        node.cluster.read[self.peer] = dict(node.data.jobs), set(node.data.paused)
        return node.data.counters

    def _hscan(self, key: bytes, cursor: bytes, *_: bytes) -> Any:
        data = self._at_primary().data
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
