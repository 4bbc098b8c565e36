"""A world of several servers on one store: the same clients at all of them, and what goes wrong between any two of servers and store."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Literal

import msgspec

from jobqueue.backend.store.balance import CALM_SECONDS
from jobqueue.backend.store.membership import CLOCK_SECONDS_MAX
from jobqueue.limits import Limits
from jobqueue.partition import partition_of

from .checker import EPSILON, Checker, Seen
from .claimers import Auditor, Claimer
from .clients import KINDS, Client, seconds_of
from .history import DEQUEUES, Ask, History
from .ledger import Ledger
from .loop import Standstill, passing, virtual_time
from .machines import Machine, MachineLoop, MachineTimes
from .member import Member, ears
from .net import Link
from .partitions import Apart, Everywhere, IdChecker, Moves
from .reigns import ReignChecker
from .traps import Traps
from .troubles import TROUBLES, Troubles
from .valkey import PORT, REGISTER, Valkey, shards_of
from .valkey_data import Commit, Data, Shadow
from .wires import Network
from .world import Plan, Steady, World

PUT_BACK_SECONDS = 12.0
"""Without trouble, within how long what was not delivered is back: heartbeats, a lease of the owner's, and reading the rows."""

SETTLED_SECONDS = 5.0
STALE_SECONDS = 2.5
"""How long an owner that lives and was claimed from may not know it: a third of its lease, and the store's answer."""


@dataclass(frozen=True)
class ClusterPlan(Plan):
    """What a seed decides of a world of many. offsets: of the servers' clocks; ways: delays between servers, and to the store; lags: of the
    store's two replicas; acknowledge: how many of them must have a change; standby: whether one server follows the owner.

    partitions: P. shards: whether each partition is in a shard of the store's own. calm: seconds after which a partition may move.
    """

    offsets: tuple[float, ...]
    ways: tuple[float, ...]
    lags: tuple[float, ...]
    acknowledge: Literal[0, 1, 2]
    standby: bool
    partitions: int = 1
    shards: bool = False
    calm: float = CALM_SECONDS


def cluster_plan_of(seed: int, partitions: int | None = None) -> ClusterPlan:
    """The plan of a seed. partitions: P, whatever the seed says."""
    count = partitions or (3 if seed % 4 == 2 else 1)
    plan = _plan_of_one(seed)
    return plan if count == 1 else _divided(seed, plan, count)


def _divided(seed: int, plan: ClusterPlan, count: int) -> ClusterPlan:
    """The same with several partitions, whose ids are claimed across them; three servers, and time enough for partitions to move."""
    random = Random(f"partitions {seed}")
    names = ["default", "a", "b", *(f"{letter}{n}" for n in range(count) for letter in "cdefgh")]
    queues = [next(name for name in names if partition_of(name, count) == partition) for partition in range(count)]
    queues += random.choice(([], [next(name for name in names if name not in queues)]))
    if "default" not in queues:
        # That of clients who do not name one.
        queues.append("default")
    return replace(
        plan,
        partitions=count,
        shards=random.random() < 0.5,
        calm=random.choice((4.0, 8.0)),
        seconds=random.choice((30.0, 60.0)),
        queues=queues,
        clients={
            "producer": 1,
            "claimer": random.choice((2, 3)),
            "worker": random.choice((3, 4)),
            "watcher": 1,
            "operator": random.choice((0, 1)),
        },
        troubles=plan.troubles + (("trap",) * random.choice((0, 1, 3))),
        trouble_pace=random.choice((2.0, 6.0, 12.0)),
        offsets=(*plan.offsets, 0.0)[:3],
        limits=msgspec.structs.replace(plan.limits, history_jobs_max=random.choice((5, 30, 10_000))),
        standby=random.random() < 0.7,
    )


def _plan_of_one(seed: int) -> ClusterPlan:
    random = Random(f"cluster plan {seed}")
    kinds = {"producer": (1, 2), "worker": (3, 6), "watcher": (0, 2), "operator": (0, 1), "pool": (0, 1)}
    spread = random.choice((0.0, 0.0, 0.3, 2.0))
    likely = random.choice((0.0, 0.15, 0.3, 0.3, 0.5, 0.5))
    acknowledge: Literal[0, 1, 2] = random.choice((0, 1, 1, 2))
    lags = random.choice(
        {0: ((0.0005, 0.0005), (1.0, 2.0)), 1: ((0.001, 0.2), (0.001, 2.0)), 2: ((0.001, 0.2), (0.0005, 0.0005))}[acknowledge]
    )
    return ClusterPlan(
        durable=True,
        seconds=random.choice((20.0, 40.0)),
        clients={kind: random.randint(*bounds) for kind, bounds in kinds.items()},
        queues=["default", "a", "b"][: random.choice((1, 2, 3))],
        pace=random.choice((0.3, 0.5, 1.0)),
        toil=random.choice((0.1, 0.5, 2.0)),
        leases=random.choice(((3, 6, 12), (12, 60), (60,))),
        waits=random.choice(((0, 0.5, 2, 20), (0.25, 0.5, 1), (20,), (0, 5, 50))),
        delays=random.choice(((0.0,), (0.0, 0.001), (0.0, 0.001, 0.002, 0.25), (0.05,))),
        commits=(),
        room=random.choice(((65_536,), (100, 65_536), (1_000,))),
        bad_manners=random.choice((0.0, 0.1, 0.3)),
        troubles=tuple(trouble for trouble in TROUBLES if random.random() < likely),
        trouble_pace=random.choice((2.0, 6.0)),
        steps=random.choice(((-0.1, 0.3), (-1.0, 0.7, 2.0), (-60.0, 60.0, 3_600.0))),
        connections=1_000,
        flow=False,
        graph=False,
        fifo=False,
        window=300.0,
        sqs=False,
        limits=Limits(
            jobs_max=random.choice((20, 100_000, 100_000)),
            history_jobs_max=random.choice((5, 10_000, 10_000)),
            waiters_max=random.choice((3, 20_000, 20_000)),
        ),
        offsets=tuple(random.uniform(-spread, spread) for _ in range(random.choice((2, 3, 3)))),
        ways=random.choice(((0.001,), (0.0, 0.001, 0.002), (0.0005, 0.05), (0.001, 0.001, 0.3))),
        lags=lags,
        acknowledge=acknowledge,
        standby=seed % 4 != 3,
    )


class ClusterWorld(World):
    """Everything there is. members: the servers of now, by host; reigns: of all owners, judged one by one.

    undelivered: leases whose answer was not written, by token, with the request and since when. lost: jobs of which a failover has
    forgotten something that was acknowledged, as it may when the owner is gone too, and when.
    """

    def __init__(self, seed: int, partitions: int | None = None) -> None:
        self.seed = seed
        self.plan: ClusterPlan = cluster_plan_of(seed, partitions)
        self.random = Random(f"cluster world {seed}")
        self.loop: MachineLoop = MachineLoop()
        self.loop.quiet = self._quiet
        self.history = History(self.loop)
        self.ledger = Ledger(self.history)
        self.network = self.loop.network = Network(self.loop, f"wires {seed}", self.plan.ways)
        self.shards = shards_of(self.loop, self.network, str(seed), self.plan.lags, self.plan.partitions, self.plan.shards)
        for shard in self.shards:
            shard.on_claim = self._claimed
        self.asks: dict[int, Ask] = {}
        self.closing = False
        self.life = 1
        self.members: dict[str, Member] = {}
        self.dead: list[Machine] = []
        self.offsets = dict(zip("abc", self.plan.offsets, strict=False))
        self.slept: dict[str, float] = {}
        self.slept_seconds = 0.0
        self.boots: dict[str, int] = {}
        self.offsets_seen = [0.0, *self.plan.offsets]
        self.reigns: list[ReignChecker] = []
        self.counts = {
            "jobs": 0,
            "hand-outs": 0,
            "redeliveries": 0,
            "undelivered": 0,
            "reigns": 0,
            "failovers": 0,
            "sent again": 0,
            "by a standby": 0,
            "moves": 0,
        }
        self.leases: dict[str, Any] = {}
        self.replayed: set[str] = set()
        self.places = 0
        self.handed_by: dict[str, tuple[ReignChecker, float]] = {}
        self.via: dict[Any, Ask] = {}
        self.returning: dict[str, float] = {}
        self.delivered: set[str] = set()
        self.undelivered: dict[str, tuple[Ask, float]] = {}
        self.in_hand: dict[str, Member] = {}
        self.answered_by: dict[Ask, Member] = {}
        """Of several partitions: by whom each request was answered."""
        self.acked: dict[Commit, ReignChecker] = {}
        self.lost: dict[str, float] = {}
        self._behind: set[Commit] = set()
        """Acknowledged commits that the last failover forgot, until they are sent again."""
        self.lied_to: tuple[str, int] | None = None
        """The host that takes an owner's port for refused, and the partition."""
        self.forgotten: set[str] = set()
        self.calm_since = 0.0
        self.befalling = 0
        self._stale_until = dict.fromkeys((REGISTER, *range(self.plan.partitions)), -1e9)
        self._looked_at = 0.0
        self._numbers: dict[str, int] = {}
        self._serials = self._sockets = 0
        self._nobody = Checker(self.loop, self.history)
        # While nobody owns the queue there is work left, as far as anybody knows.
        self._nobody.jobs["unknown"] = Seen("unknown", 0, "", 0, b"", "unknown", None, None)
        self.moves = Moves(self)
        self.ids = IdChecker(self)
        self.apart = Apart(self)
        self.traps = Traps(self)

    # What clients use.

    @property
    def spread(self) -> float:
        """How far clocks have been apart at most."""
        return max(self.offsets_seen) - min(self.offsets_seen)

    def serving_of(self, partition: int) -> ReignChecker | None:
        """The owner of now of a partition."""
        for one in reversed(self.reigns):
            if one.partition == partition and not (one.over or self.deposed(one)):
                return one
        return None

    @property
    def checker(self) -> Any:
        """Of the owner of now, or of all owners together."""
        found = [self.serving_of(partition) or self._nobody for partition in range(self.plan.partitions)]
        return found[0] if len(found) == 1 else Everywhere(found, self.forgotten)

    def shard_of(self, partition: int) -> Valkey:
        """The part of the store that has a partition."""
        return next(shard for shard in self.shards if partition in shard.partitions)

    @property
    def nodes(self) -> list[str]:
        """Of the store."""
        return [host for shard in self.shards for host in shard.hosts]

    @property
    def url(self) -> str:
        """Of the store."""
        return "valkey://" + ",".join(f"{node}:{PORT}" for node in self.nodes)

    def stale(self, until: float, partition: int) -> None:
        """Until then an owner that another has claimed from may not know it."""
        self._stale_until[partition] = max(self._stale_until[partition], until)

    def connect(self, random: Random) -> Link | None:
        """A connection to one of the servers: a client that knows them all goes on with the next where one does not listen."""
        hosts = [host for host, member in self.members.items() if not (member.gone or member.stopping)]
        if not hosts or (random.random() < 0.3 and len(hosts) < len(self.members)):
            return None
        member = self.members[random.choice(hosts)]
        self._sockets += 1
        link = Link(self.loop, random, self._sockets, self.plan.delays, self.random.choice(self.plan.room), self.life, member.machine)
        member.machine.when_running(lambda: self.loop.call_soon(self._accept, member, link, context=member.machine.context))
        return link

    def _accept(self, member: Member, link: Link) -> None:
        if member.gone or member.stopping:
            link.server.protocol = None
            link.server.refuse()
        else:
            member.accept(link)
            link.server.accepted()

    def remembers(self, life: int) -> bool:
        """See World."""
        return True

    def engine_time(self, stamp: str, since: float) -> float:
        """When a stamp of an owner's is, at the earliest, whoever has owned the queue since or will."""
        return seconds_of(stamp) - max(self.offsets_seen) - 0.6

    def acknowledged(self, job_id: str, payload: bytes, life: int) -> None:
        """See World. What a failover has forgotten meanwhile was lost before its client could read of it."""
        if job_id in self.ids.shared and job_id in self.lost:
            # Several clients submit it, so it is not known which job this tells of.
            return
        if self.ledger.submitted.get(job_id, -1.0) >= self.lost.get(job_id, -1.0):
            super().acknowledged(job_id, payload, life)

    def succeeded(self, job_id: str) -> None:
        """See World, and `acknowledged`."""
        if job_id in self.ids.shared:
            # Another one may be on its way, submitted before this one ended.
            return
        lost = self.lost.get(job_id)
        if lost is None or any(held.since > lost for held in self.ledger.held.values() if held.job_id == job_id):
            super().succeeded(job_id)

    def refused(self, job_id: str, token: str, sent_at: float, status: int) -> None:
        """See World."""
        held = self.ledger.held.get(token)
        if token in self.ledger.confused:
            return
        if held is not None and held.ended == sent_at and held.until > self.loop.time() + EPSILON and job_id not in self.lost:
            self.history.fault(f"a worker lost {job_id} ({status}), whose lease it could rely on until {held.until:.3f}")

    # What the ears tell.

    def finished(self, member: Member, ask: Ask, answer: Any) -> None:
        """A server is done with a request of a client's; answer: None if it was abandoned."""
        status = None if answer is None else answer.status
        self.history.note("done", ask.number, status, "at", member.name)
        ask.done = True
        if status == 500:
            self.history.fault(f"{ask} was answered 500: {answer.content[:300]!r}")
        if self.plan.partitions > 1:
            self.apart.finished(member, ask, answer)
            self.ids.finished(ask, answer)
            if answer is not None:
                self.answered_by[ask] = member
        if ask.op not in DEQUEUES:
            return
        for view in ask.views:
            for token in view.handed:
                if status == 200 and token.encode() in answer.content:
                    if not ask.link.server.wrote_to_the_gone and ask.link.server.written > ask.written:
                        if not (ask.link.client.half_closed or ask.link.server.cut_short):
                            self.delivered.add(token)
                        continue
                    self.in_hand[token] = member
                if token not in self.replayed:
                    self.undelivered.setdefault(token, (ask, self.loop.time()))
        empty = answer is not None and (status == 204 or answer.content == b'{"jobs":[]}')
        excused = member.stopping or any(view.excused for view in ask.views)
        if empty and ask.wait > 0 and not excused and self.loop.time() < ask.until - EPSILON:
            self.history.fault(f"{ask} was sent away {ask.until - self.loop.time():.3f} s before its wait had passed")

    def handed(self, checker: ReignChecker, token: str, front: Ask) -> None:
        """An owner has handed out a job; front: the client's request. If that has been answered already, nobody takes the job."""
        self.handed_by[token] = checker, self.loop.time()
        member = self.answered_by.get(front)
        if member is not None and not member.gone and not member.stopping:
            self.undelivered.setdefault(token, (front, self.loop.time()))

    def took_back(self, token: str) -> None:
        """An owner has ended a lease, or another server has given it back, since it was not delivered."""
        if token in self.delivered:
            self.history.fault(f"the lease {token} was taken back though its answer was written")

    def deposed(self, checker: ReignChecker) -> bool:
        """Whether another claim has been granted since."""
        shard, partition = checker.shard, checker.partition
        token = checker.stored.owner.get("token")
        unaware = max(shard.forced_at[partition], shard.forgot_claim_at[partition]) + STALE_SECONDS
        if token is None or token == checker.token or self.loop.time() < max(self._stale_until[partition], unaware):
            return False
        return shard.claimed[token] > shard.claimed.get(checker.token, 0.0)

    def acknowledged_commit(self, commit: Commit, shadow: Shadow, checker: ReignChecker) -> None:
        """The owner takes a commit for stored."""
        if commit not in checker.stored.have and not checker.shard.ever(commit):
            self.history.fault(f"{checker.member.name} takes commit {commit[1]} for stored, which the store never had")
        again = {one for one in self._behind if one in checker.stored.have}
        self._behind -= again
        self.counts["sent again"] += len(again)
        self.acked[commit] = checker

    def _claimed(self, partition: int, data: Data, token: str, forced: bool) -> None:
        """The store has granted a claim: what was acknowledged and is not there is lost for good."""
        shard = self.shard_of(partition)
        which = () if self.plan.partitions == 1 else (f"({partition})",)
        self.history.note("claimed", token.partition(":")[0], "by", data.owner["owner"], *which)
        self.counts["reigns"] += 1
        if forced and not self.moves.claimed(partition, data.owner["owner"]):
            shard.forced_at[partition] = self.loop.time()
        elif forced:
            heir = self.members[data.owner["owner"].partition("-")[0]]
            self.loop.call_soon(self.traps.at, "heir claims", heir)
        if shard.failed_over_before > self.loop.time() - 2 * SETTLED_SECONDS:
            # Two failovers forgot renewals, so that a lease seemed to have passed: its owner hears of it when it next renews it.
            self.stale(self.loop.time() + SETTLED_SECONDS, partition)
        for commit in [commit for commit, checker in self.acked.items() if checker.partition == partition and commit not in data.have]:
            checker = self.acked.pop(commit)
            jobs = sorted(shard.shadows[commit].jobs)
            self.history.note("lost", commit[1], *jobs)
            self.ids.lost()
            if shard.failed_over_at < 0:
                self.history.fault(f"commit {commit[1]} is lost without a failover")
            elif commit[0] in data.tokens and self._should_have_sent_again(checker):
                self.history.fault(
                    f"commit {commit[1]} of {jobs[:5]} is lost though its owner, {checker.member.name}, was there to send it again"
                )
            for job_id in jobs:
                self.lost[job_id] = self.loop.time()
                self.ledger.excuse(job_id, self.loop.time())

    def _should_have_sent_again(self, checker: ReignChecker) -> bool:
        member = checker.member
        shard = checker.shard
        if shard.failed_over_before > self.loop.time() - 2 * SETTLED_SECONDS:
            # The one after the other, they may forget a lease's worth of renewals.
            return False
        if shard.forgot_claim_at[checker.partition] >= shard.failed_over_at:
            # It was deposed by a claim that was forgotten then.
            return False
        gone = "" if checker.reign is None else str(checker.reign.lease.gone or "")
        if "no word from the store" in gone or "it was given" in gone:
            # Whoever has handed a partition over keeps nothing of it.
            return False
        return not member.gone and member.hurt_at < shard.failed_over_at - SETTLED_SECONDS

    # Whenever nothing is left to do at an instant.

    def _quiet(self) -> None:
        for checker in self.reigns:
            checker.quiet()
        if self.loop.time() < self._looked_at + 0.25:
            return
        self._looked_at = self.loop.time()
        self.reigns = [
            one
            for one in self.reigns
            if self.last_of(one.partition) is one or not (one.member.machine.dead or (one.over and one.reign.lease.gone))
        ]
        self.moves.look()
        if self.befalling:
            return
        for token, (ask, since) in list(self.undelivered.items()):
            serving = self.serving_of(self.handed_by[token][0].partition)
            if serving is None:
                continue
            calm = max(self.calm_since, serving.began)
            seen = serving.jobs.get(self.leases[token][0])
            if seen is None or seen.token != token or self._may_stay(token, since):
                del self.undelivered[token]
            elif self.loop.time() > max(since, calm) + PUT_BACK_SECONDS:
                del self.undelivered[token]
                self.history.fault(f"{ask} ended at {since:.3f} without an answer, and {seen.id} is still leased to it")

    def last_of(self, partition: int) -> ReignChecker | None:
        """Whoever was the last to begin to own a partition."""
        return next((one for one in reversed(self.reigns) if one.partition == partition), None)

    def _may_stay(self, token: str, since: float) -> bool:
        """Whether a lease that nobody has may stay until its end."""
        ask = self.undelivered[token][0]
        checker, handed_at = self.handed_by[token]
        if token in self.replayed or ask.link.client.half_closed:
            return True
        died = checker.member.died_at
        if died is not None and died > min(handed_at, since - 10):
            return True
        holder = self.in_hand.get(token)
        if holder is not None and not (holder.gone or holder.stopping):
            # It has read the job, and gives it back however its link fares.
            return False
        # What was on its way over a link that broke is its client's to ask for again (docs/decisions/0024).
        host = checker.member.host
        return any(wire.lost_at is not None and wire.lost_at >= handed_at and host in wire.hosts for wire in self.network.past)

    def fail_over(self, shard: Valkey) -> None:
        """Let a replica of a shard become its primary."""
        self.counts["failovers"] += 1
        shard.fail_over()
        self._behind |= {commit for commit, checker in self.acked.items() if checker.shard is shard and commit not in checker.stored.have}
        self.history.note("primary is", shard.primary.host, "with", shard.primary.done, "writes")

    # Life.

    def start(self, host: str) -> None:
        """Start a server."""
        number = self._numbers[host] = self._numbers.get(host, 0) + 1
        machine = Machine(self.loop, host, self.offsets[host])
        machine.slept = self.slept.get(host, 0.0)
        if host in self.network.off:
            self.network.off.discard(host)
            self.boots[host] = self.boots.get(host, 0) + 1
            machine.slept = 0.0
            self.network.again()
        if host in self.members:
            self.dead.append(self.members[host].machine)
        self.history.note("server", host, number, "starts")
        member = self.members[host] = machine.context.run(Member, self, host, number, machine)
        machine.context.run(self.loop.create_task, member.start())

    async def _run(self) -> None:
        for host in self.offsets:
            self.start(host)
        tasks = []
        for kind, count in self.plan.clients.items():
            for number in range(count):
                client: Client = (KINDS | {"claimer": Claimer})[kind](self, f"{kind}{number + 1}")
                tasks.append(self.loop.create_task(client.run()))
        troubles = [self.loop.create_task(Troubles(self).run()) for _ in range(1 + (self.seed % 3 == 0))]
        await passing(self.plan.seconds)
        self.closing = True
        for trouble in troubles:
            await trouble
        for task in tasks:
            await task
        for member in self.members.values():
            # Whoever looked after the servers sets what no server could own the queue with.
            if abs(member.machine.offset) > CLOCK_SECONDS_MAX:
                member.machine.offset = self.offsets[member.host] = 0.0
        self.history.note("draining")
        await Steady(self, "steady").run()
        await passing(2 * PUT_BACK_SECONDS)
        self.ledger.audit()
        await Auditor(self, "auditor").run()
        for member in list(self.members.values()):
            await member.machine_task(member.stop(10.0))
            await member.machine.end()
        await passing(1)
        for machine in self.dead:
            await machine.end()
        for node in [node for shard in self.shards for node in shard.nodes]:
            node.machine.dead = True
            await node.machine.end()
        left = [task for task in asyncio.all_tasks(self.loop) if task is not asyncio.current_task(self.loop)]
        if left:
            self.history.fault(f"{len(left)} tasks are left: {left[:3]}")

    def run(self) -> History:
        """See World."""
        logging.disable(logging.CRITICAL)
        try:
            with virtual_time(self.loop, MachineTimes(self.loop)), ears(self):
                try:
                    self.loop.run_until_complete(self._run())
                except Standstill as error:
                    self.history.fault(str(error))
                for uncaught in self.loop.errors:
                    self.history.fault(f"an exception that nobody caught: {uncaught}")
        finally:
            logging.disable(logging.NOTSET)
            with contextlib.suppress(Exception):
                self.loop.close()
        return self.history


def simulate_cluster(seed: int, partitions: int | None = None) -> ClusterWorld:
    """Live a seed's world of several servers through; see its history. partitions: P, whatever the seed says."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        world = ClusterWorld(seed, partitions)
        world.run()
        return world
    finally:
        if collecting:
            gc.enable()
