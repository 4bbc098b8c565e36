"""What must hold between the partitions of a store: one job of an id, one partition that moves, and trouble that stays where it is.

Within a partition each owner is judged by itself (reigns.py).
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jobqueue.partition import home_of, partition_of

from .checker import Checker, Seen
from .history import Ask

if TYPE_CHECKING:
    from .cluster import ClusterWorld
    from .member import Member
    from .reigns import ReignChecker

UNNOTICED_SECONDS = 4.0
"""For how long a server may not know that a partition has no owner any more: it asked the owner a moment before."""

WELL_SECONDS = 6.0
"""How long after trouble an owner, a store and a server are as if there had been none."""

STORE_WELL_SECONDS = 12.0
"""The same for the store: a connection of which an answer got lost is given up after ten seconds."""

AT_ONCE_SECONDS = 3.0
"""Within how long what waits for nothing is answered where all is well: a few ways there and back, the slowest of them."""


class Everywhere:
    """The checkers of all owners, as one."""

    def __init__(self, checkers: Sequence[Checker], forgotten: set[str]) -> None:
        self._checkers = checkers
        self.forgotten = forgotten

    @property
    def jobs(self) -> Mapping[str, Seen]:
        """All of them, by id."""
        return {job_id: seen for one in self._checkers for job_id, seen in one.jobs.items()}

    @property
    def standing(self) -> list[Ask]:
        """Everybody who waits, in one partition after the other."""
        return [ask for one in self._checkers for ask in one.standing]


class IdChecker:
    """Never two jobs of one id that a client chose. shared: the ids that several clients use."""

    def __init__(self, world: ClusterWorld) -> None:
        self.world = world
        self.shared: dict[str, None] = {}
        self._lost = False
        self._made_at: dict[tuple[int, str], float] = {}

    def lost(self) -> None:
        """A failover has forgotten for good what was acknowledged: a claim, perhaps, so that an id may have been claimed anew."""
        self._lost = True

    def made(self, checker: ReignChecker, job_id: str) -> None:
        """A job has been made, or read from the rows."""
        self._made_at[checker.partition, job_id] = self.world.loop.time()
        if job_id not in self.world.ledger.submitted or self._lost:
            return
        for partition in range(self.world.plan.partitions):
            if partition != checker.partition and (other := self._jobs(partition).get(job_id)) is not None:
                self.world.history.fault(
                    f"{job_id} is a job of partition {checker.partition} and, {other.status} in {other.queue}, one of partition {partition}"
                )

    def finished(self, ask: Ask, answer: Any) -> None:
        """A server is done with a request: where a job is, whoever asks for it finds it."""
        if ask.op not in ("look", "wait") or not ask.path.startswith("/jobs/") or answer is None or answer.status != 404:
            return
        job_id, parsed_at = ask.path.removeprefix("/jobs/").partition("?")[0], ask.until - ask.wait
        for partition in range(self.world.plan.partitions):
            serving = self.world.serving_of(partition)
            made_at = self._made_at.get((partition, job_id), math.inf)
            if serving is not None and max(serving.began, made_at) < parsed_at and job_id in serving.jobs:
                self.world.history.fault(f"{ask} did not find {job_id}, which is in partition {partition} since {made_at:.3f}")

    def _jobs(self, partition: int) -> Mapping[str, Seen]:
        serving = self.world.serving_of(partition)
        return self.world.shard_of(partition).primary.datas[partition].jobs if serving is None else serving.jobs


class Moves:
    """Planned moves: one at a time, and none while a partition has no owner.

    A move is open from when the owner agrees until a server serves the partition again.
    """

    def __init__(self, world: ClusterWorld) -> None:
        self.world = world
        self.open: dict[int, tuple[str, str, float]] = {}
        """By partition: from whom, to whom, since when."""
        self.ended_at = -1e9
        self._served_at = dict.fromkeys(range(world.plan.partitions), 0.0)

    def look(self) -> None:
        """See who serves now."""
        for partition in self._served_at:
            if self.world.serving_of(partition) is not None:
                self._served_at[partition] = self.world.loop.time()

    def agreed(self, partition: int, source: Member, target: str) -> None:
        """An owner gives its partition to another server."""
        world = self.world
        if partition in self.open and self.open[partition][:2] == (source.name, target):
            return
        world.history.note("moves:", partition, "from", source.name, "to", target)
        world.counts["moves"] += 1
        for other in self.open:
            world.history.fault(f"partition {partition} moves to {target} while partition {other} moves")
        self.look()
        for other, served_at in self._served_at.items():
            if other != partition and served_at < world.loop.time() - UNNOTICED_SECONDS:
                world.history.fault(f"partition {partition} moves to {target} though partition {other} has no owner since {served_at:.3f}")
        self.open[partition] = source.name, target, world.loop.time()

    def claimed(self, partition: int, name: str) -> bool:
        """A claim was granted. Returns whether it was given what it claims."""
        return partition in self.open and self.open[partition][1] == name

    def served(self, partition: int) -> None:
        """A server has begun to serve a partition."""
        self._served_at[partition] = self.world.loop.time()
        if self.open.pop(partition, None) is not None:
            self.ended_at = self.world.loop.time()


class Apart:
    """A partition's trouble does not stop the others: where all is well, requests are answered, and soon."""

    def __init__(self, world: ClusterWorld) -> None:
        self.world = world
        self._troubled: dict[str, float] = {}
        """When servers, shards of the store and partitions last had trouble, by name; far in the future while they have."""

    @contextlib.contextmanager
    def trouble(self, *names: str) -> Iterator[None]:
        """Something befalls these."""
        before = {name: self._troubled.get(name, -1e9) for name in names}
        self._troubled |= dict.fromkeys(names, 1e9)
        try:
            yield
        finally:
            # What began before and has not ended yet goes on.
            self._troubled |= {name: max(self.world.loop.time(), at) for name, at in before.items()}

    def finished(self, member: Member, ask: Ask, answer: Any) -> None:
        """A server is done with a request of a client's; answer: None if it was abandoned."""
        if answer is None or answer.status not in (200, 201, 204, 503) or ask.op not in ("dequeue", "enqueue"):
            return
        parsed_at, now = ask.until - ask.wait, self.world.loop.time()
        late = now > ask.until + AT_ONCE_SECONDS
        waited = answer.status == 204 and now > parsed_at + AT_ONCE_SECONDS
        if not (answer.status == 503 or late or waited) or ask.slow or not self._well(member, parsed_at):
            return
        needed = self._needed(ask)
        well = {partition for partition in needed if self._serves_well(partition, parsed_at)}
        said = f"{ask} was answered {answer.status} by {member.name} after {now - parsed_at:.3f} s"
        if well == needed and late:
            self.world.history.fault(f"{said}, though partitions {sorted(needed)} and their owners are well")
        elif answer.status == 503 and (well == needed or (ask.op == "dequeue" and well and not any(view.handed for view in ask.views))):
            self.world.history.fault(f"{said}, though partitions {sorted(well)} and their owners are well")
        elif waited and ask.op == "dequeue" and not well <= ask.stood_in:
            self.world.history.fault(f"{said}, and did not wait in partitions {sorted(well - ask.stood_in)}, which are well")

    def _needed(self, ask: Ask) -> set[int]:
        """The partitions that a request is about."""
        count = self.world.plan.partitions
        if ask.op == "dequeue":
            return {partition_of(queue, count) for queue in ask.queues}
        item = json.loads(ask.body)
        if item.get("id") in self.world.ids.shared:
            # Any of them may have claimed it, and is asked whether it has its job.
            return set(range(count))
        return {partition_of(item["queue"], count), *([home_of(item["id"], count)] if "id" in item else [])}

    def _well(self, member: Member, since: float) -> bool:
        long_ago, moves = since - WELL_SECONDS, self.world.moves
        return not (member.stopping or moves.open or max(self._at(member.host), moves.ended_at) > long_ago)

    def _serves_well(self, partition: int, since: float) -> bool:
        serving = self.world.serving_of(partition)
        if serving is None or serving.began > since - WELL_SECONDS or not self._well(serving.member, since):
            return False
        return self._at(serving.shard.hosts[0]) <= since - STORE_WELL_SECONDS and self._at(f"({partition})") <= since - WELL_SECONDS

    def _at(self, name: str) -> float:
        return self._troubled.get(name, -1e9)
