"""What goes wrong in a world of several servers: with a server, with the store, and between any two of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .loop import passing
from .traps import POINTS
from .valkey import Node, Valkey

if TYPE_CHECKING:
    from .cluster import ClusterWorld
    from .member import Member

OF_THE_STORE = ("late", "deaf", "busy", "store stop", "store kill", "store alone", "failover")
OF_A_SERVER = ("stop", "sleep", "kill", "off", "leave", "store cut", "clock")

TROUBLES = ("stop", "sleep", "kill", "off", "leave", "peers", "store cut", "clock", "force", *OF_THE_STORE)


class Troubles:
    """Of one world."""

    def __init__(self, world: ClusterWorld) -> None:
        self.world = world
        self.random = world.random
        self.network = world.network
        self.loop = world.loop

    def _hurts(self, trouble: str, host: str) -> None:
        if trouble in ("failover", "store stop", "store kill", "store alone", "trap"):
            return
        for one in [host] if trouble in OF_A_SERVER else self.world.members:
            self.world.members[one].hurt_at = self.loop.time()

    def _names(self, trouble: str, host: str, partition: int) -> list[str]:
        """Whom it befalls."""
        if trouble in OF_THE_STORE:
            return [self.world.shard_of(partition).hosts[0]]
        if trouble == "trap":
            return []
        if trouble == "force":
            return [f"({partition})"]
        return [host] if trouble in OF_A_SERVER else list(self.world.members)

    async def run(self) -> None:
        """One trouble after the other, until the world closes."""
        world, random, plan = self.world, self.random, self.world.plan
        while not world.closing and plan.troubles:
            await passing(random.choice((0.25, 0.5, 1.0, 1.5)) * plan.trouble_pace)
            trouble = random.choice(plan.troubles)
            partition = random.randrange(plan.partitions) if plan.partitions > 1 else 0
            serving = world.serving_of(partition)
            host = serving.member.host if serving is not None and random.random() < 0.6 else random.choice(sorted(world.members))
            seconds = random.choice((0.3, 2.0, 4.5, 7.0, 12.0))
            member = world.members[host]
            if member.gone or member.stopping or not member.machine.running:
                continue
            world.history.note("trouble:", trouble, host, seconds, *([f"({partition})"] if plan.partitions > 1 else []))
            world.befalling += 1
            self._hurts(trouble, host)
            with world.apart.trouble(*self._names(trouble, host, partition)):
                await self._befall(trouble, member, seconds, partition)
            self._hurts(trouble, host)
            world.history.note("over:", trouble, host)
            world.befalling -= 1
            world.calm_since = self.loop.time()

    async def _befall(self, trouble: str, member: Member, seconds: float, partition: int) -> None:
        world, random, network, host = self.world, self.random, self.network, member.host
        shard = world.shard_of(partition)
        if trouble in ("stop", "sleep"):
            member.machine.stop()
            await passing(seconds)
            self._wakes(member, asleep=trouble == "sleep")
        elif trouble in ("kill", "off"):
            member.die(off=trouble == "off")
            await member.machine.end()
            await passing(seconds)
            world.start(host)
        elif trouble == "leave":
            member.stopping = True
            await member.machine_task(member.stop(random.choice((0.0, 1.0, 10.0))))
            await member.machine.end()
            await passing(random.choice((0.0, 0.1, 2.0, 10.0)))
            world.start(host)
        elif trouble == "trap":
            await self._trap(seconds)
        elif trouble == "peers":
            other = random.choice(sorted(set(world.members) - {host}))
            network.cut(host, other)
            await passing(seconds)
            network.join(host, other)
        elif trouble == "store cut":
            nodes = world.nodes if random.random() < 0.7 else [shard.primary.host]
            for node in nodes:
                network.cut(host, node)
            await passing(seconds)
            for node in nodes:
                network.join(host, node)
        elif trouble == "force":
            # Another one takes the owner's port for refused, and claims from an owner that lives, which may show what was until it notices.
            successor = world.members[random.choice(sorted(set(world.members) - {host}))]
            world.lied_to = successor.host, partition
            world.stale(self.loop.time() + 10, partition)
            successor.stacks[partition].ownership.doubt()
            await passing(1.0)
            world.lied_to = None
        elif trouble == "clock":
            world.offsets[host] += random.choice(world.plan.steps)
            member.machine.offset = world.offsets[host]
            world.offsets_seen.append(world.offsets[host])
        else:
            await self._befall_store(trouble, seconds, shard)

    async def _trap(self, seconds: float) -> None:
        victim = await self.world.traps.set(self.random.choice(POINTS), 10.0)
        if victim is not None:
            with self.world.apart.trouble(victim.host):
                await victim.machine.end()
                await passing(min(seconds, 4.5))
                self.world.start(victim.host)
            victim.hurt_at = self.world.members[victim.host].hurt_at = self.loop.time()

    def _wakes(self, member: Member, asleep: bool) -> None:
        began = member.machine.stopped_at
        member.machine.go_on(asleep)
        if asleep:
            self.world.slept[member.host] = member.machine.slept
            self.world.slept_seconds += self.loop.time() - began
        for checker in member.reigns:
            checker.stalled(began)
            checker.wakes(self.loop.time() - began if asleep else 0.0)

    async def _befall_store(self, trouble: str, seconds: float, valkey: Valkey) -> None:
        random, world = self.random, self.world
        node = valkey.primary
        if trouble == "late":
            node.late = random.choice((0.1, 0.8, 3.0))
            await passing(seconds)
            node.late = 0.0
        elif trouble in ("deaf", "busy"):
            setattr(node, trouble, True)
            await passing(min(seconds, 4.5))
            setattr(node, trouble, False)
        elif trouble == "failover":
            world.fail_over(valkey)
            valkey.rejoin(node)
        elif trouble == "store alone":
            others = [one for one in valkey.hosts if one != node.host]
            for other in others:
                self.network.cut(node.host, other)
            node.alone_at = self.loop.time()
            await passing(seconds)
            if seconds > 2 and valkey.primary is node:
                for partition in valkey.partitions:
                    world.stale(self.loop.time() + 10, partition)
                world.fail_over(valkey)
                await passing(1.0)
            node.alone_at = None
            for other in others:
                self.network.join(node.host, other)
            for one in valkey.nodes:
                valkey.rejoin(one)
        else:
            await self._stop_primary(trouble, seconds, valkey, node)

    async def _stop_primary(self, trouble: str, seconds: float, valkey: Valkey, node: Node) -> None:
        # Killed, it ends its connections; else they stand still with it.
        killed = trouble == "store kill"
        node.machine.stop()
        if killed:
            node.down()
        await passing(min(seconds, 2.0))
        if seconds > 1:
            if valkey.primary is node:
                self.world.fail_over(valkey)
            await passing(seconds)
        if killed:
            node.up()
        node.machine.go_on()
        await passing(self.random.choice((0.0, 0.2)))
        valkey.rejoin(node)
