"""The warm standby: what it takes over from memory, what it does not, and what following costs the owner when it does not read."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest

from jobqueue.backend.following import RowChanges, Twin
from jobqueue.backend.group import Group
from jobqueue.backend.group_journal import GroupJournal
from jobqueue.backend.local import LocalBackend
from jobqueue.backend.store.feed import PART_BYTES, Feeds
from jobqueue.backend.store.frames import Identity
from jobqueue.backend.store.moved import Moved
from jobqueue.backend.store.ownership import LEASE_SECONDS
from jobqueue.backend.store.source import LinkSource
from jobqueue.clock import ManualClock
from jobqueue.engine.engine import Engine
from jobqueue.engine.restore import Inconsistent
from jobqueue.errors import StorageUnavailable
from jobqueue.limits import Limits
from tests.conformance.remote import SECRET, Between
from tests.conformance.rig import SUCCEEDED, spec, token, want
from tests.factories import make_engine

from .members import Cluster, Server
from .simulation import World
from .test_following import HeldWriter, Owner, changes_of

TURNS = 40


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    """Three servers; `a` owns the queue, and one of the others follows it."""
    made = Cluster("a", "b", "c")
    await made.start()
    await made.advance(4)
    yield made
    await made.close()


def standby_of(cluster: Cluster) -> str:
    """The one server that is warm."""
    (name,) = [name for name, server in cluster.servers.items() if server.alive and server.standby is not None and server.standby.warm]
    return name


async def enqueue(cluster: Cluster, *ids: str) -> None:
    owner = cluster[cluster.owners[0]]
    for job_id in ids:
        await cluster.done(owner.backend.enqueue(spec(job_id)))


def taken_over(caplog: pytest.LogCaptureFixture) -> str:
    """How the last owner came by the jobs."""
    lines = [record.getMessage() for record in caplog.records if record.getMessage().startswith("is now the owner, epoch")]
    return "followed" if "followed as the standby" in lines[-1] else "read"


async def after_the_death(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> str:
    """Kill the owner; how the next one came by the jobs."""
    with caplog.at_level(logging.INFO, "jobqueue.cluster"):
        cluster[cluster.owners[0]].die()
        await cluster.advance(LEASE_SECONDS + 3)
    assert len(cluster.owners) == 1
    return taken_over(caplog)


async def test_one_server_follows_and_takes_over(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    """One of the others is the standby. When the owner dies it is the next, with every job, and has asked the store for no row."""
    standby = standby_of(cluster)
    await enqueue(cluster, "one", "two")
    store = cluster[standby].store
    store.calls.clear()
    assert await after_the_death(cluster, caplog) == "followed"
    assert cluster.owners == [standby]
    assert "rows" not in store.calls
    taking = cluster[standby].backend.dequeue(want(limit=5), 0)
    async with taking as jobs:
        taking.delivered()
    assert [job.id for job in jobs] == ["one", "two"]
    await cluster.done(cluster[standby].backend.conclude("one", token(jobs[0]), SUCCEEDED))


async def test_the_next_owner_has_a_standby_again(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    """Once it owns the queue, the third server follows it, and takes over in turn."""
    await enqueue(cluster, "one")
    await after_the_death(cluster, caplog)
    assert standby_of(cluster) not in cluster.owners
    await enqueue(cluster, "two")
    caplog.clear()
    assert await after_the_death(cluster, caplog) == "followed"
    for job_id in ("one", "two"):
        assert (await cluster.done(cluster[cluster.owners[0]].backend.job(job_id))).id == job_id


async def test_who_is_the_standby_stays_it(cluster: Cluster) -> None:
    """A server that comes later does not take its place, wherever it stands in the order to claim."""
    standby = standby_of(cluster)
    other = next(name for name in ("b", "c") if name != standby)
    cluster[other].die()
    await cluster.advance(10)
    assert standby_of(cluster) == standby
    owner = cluster["a"].backend.cluster()
    assert owner is not None
    assert (owner.standby, owner.behind) == (standby, 0)


async def test_a_hand_over_goes_to_the_standby_at_once(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    """An owner that leaves commits, tells the standby, and lets go; it is followed to the last group."""
    standby = standby_of(cluster)
    await enqueue(cluster, "one")
    with caplog.at_level(logging.INFO, "jobqueue.cluster"):
        cluster["a"].backend.drain()
        await cluster.advance(1)
    assert cluster.owners == [standby]
    assert taken_over(caplog) == "followed"


async def test_a_group_in_the_store_whose_commit_nobody_heard_of_is_taken_over(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    """The owner dies between the store's commit and the news of it: the standby was given the group before, and finds it committed."""
    owner, standby = cluster["a"], standby_of(cluster)
    await enqueue(cluster, "one")
    owner.store.deaf = True
    asking = cluster.do(owner.backend.enqueue(spec("two")))
    await cluster.idle()
    assert len(cluster.shared.states) == 2
    assert await after_the_death(cluster, caplog) == "followed"
    assert cluster.owners == [standby]
    assert (await cluster.done(cluster[standby].backend.job("two"))).id == "two"
    asking.cancel()


async def test_a_group_that_never_came_to_the_store_is_not_taken_over(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    """The owner dies between telling the standby and the commit: the standby does not apply the group."""
    owner, standby = cluster["a"], standby_of(cluster)
    await enqueue(cluster, "one")
    owner.store.cut = True
    asking = cluster.do(owner.backend.enqueue(spec("two")))
    await cluster.idle()
    assert await after_the_death(cluster, caplog) == "followed"
    with pytest.raises(Exception, match="two"):
        await cluster.done(cluster[standby].backend.job("two"))
    asking.cancel()


async def test_one_that_missed_a_group_reads_all_rows(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    """A link that broke just before the owner's last commits: what was followed is not what the store has."""
    standby = standby_of(cluster)
    cluster.cut("a", standby)
    await enqueue(cluster, "one")
    assert await after_the_death(cluster, caplog) == "read"
    assert (await cluster.done(cluster[cluster.owners[0]].backend.job("one"))).id == "one"


async def test_a_store_that_lost_its_tail_is_read(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    """The store falls back behind what was followed while the owner dies: the standby has more, which is not what the store says."""
    await enqueue(cluster, "one")
    image = cluster.shared.image()
    await enqueue(cluster, "two")
    cluster["a"].stop()
    cluster.shared.fall_back(image)
    assert await after_the_death_of(cluster, "a", caplog) == "read"
    assert len(cluster.shared.states) == 1


async def after_the_death_of(cluster: Cluster, name: str, caplog: pytest.LogCaptureFixture) -> str:
    with caplog.at_level(logging.INFO, "jobqueue.cluster"):
        cluster[name].die()
        await cluster.advance(LEASE_SECONDS + 3)
    return taken_over(caplog)


async def test_a_tail_that_the_owner_wrote_again_is_followed(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    """The owner lives and sends again what the store lost: nothing changes for the standby."""
    await enqueue(cluster, "one")
    image = cluster.shared.image()
    await enqueue(cluster, "two")
    cluster.shared.fall_back(image)
    await enqueue(cluster, "three")
    assert await after_the_death(cluster, caplog) == "followed"
    assert len(cluster.shared.states) == 3


@pytest.mark.parametrize(("whose", "how"), [("its own", "followed"), ("the store's", "read")])
async def test_a_standby_reads_all_rows_when_the_clock_that_they_go_by_was_set(
    whose: str, how: str, cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    """What it followed is on another line of time than the rows, when the store's clock was set; its own does not count."""
    standby = standby_of(cluster)
    await enqueue(cluster, "one")
    cluster[standby].clock.boot = "another machine"
    if whose == "its own":
        cluster[standby].clock.step_wall_clock(2.0)
    else:
        cluster.shared.off += 2.0
    assert await after_the_death(cluster, caplog) == how


def test_a_group_that_is_missing_is_noticed() -> None:
    """A number that was left out, and a commit of what never came, end the following."""
    twin = Twin(make_engine(), ManualClock(), "reign", 3)
    with pytest.raises(Inconsistent, match="group 5 came after group 3"):
        twin.handed(5, RowChanges(counters=b""))
    twin.handed(4, RowChanges(counters=b""))
    with pytest.raises(Inconsistent, match="never handed over"):
        twin.committed(5)


def test_it_is_not_ready_before_the_rows_are_read() -> None:
    """A takeover while they are being read goes without."""
    assert Twin(make_engine(), ManualClock(), "reign", 0).ready(None, 0) == "it had not read all rows yet"


def owner_with_history(count: int) -> Owner:
    """An owner whose engine has so many concluded jobs, all stored, and a twin with room for one."""
    owner = Owner(make_engine())
    owner.join(make_engine(history_jobs_max=1))
    owner.read()
    owner.begin()
    for n in range(count):
        owner.engine.enqueue(float(n), spec(f"j{n}"))
        owner.engine.cancel(float(n), f"j{n}")
        owner.append(owner.engine.take_events())
        owner.commit()
    return owner


def test_narrower_bounds_of_history_hold_from_the_takeover_on() -> None:
    """While it follows, a server with less room for history keeps what the owner keeps; then it forgets, and says so to its journal."""
    owner = owner_with_history(4)
    twin = owner.twin
    assert twin is not None
    for _ in twin.steps():
        pass
    assert len(twin.engine.jobs.by_id) == 4
    assert twin.ready(owner.shared.counters, 4) is None
    assert list(twin.engine.jobs.by_id) == ["j3"]
    assert [event.job.id for event in twin.engine.take_events() if event.job is not None] == ["j0", "j1", "j2"]
    owner.close()


def test_another_number_of_jobs_than_the_store_has_is_no_fit() -> None:
    """Rows that are missing in either show."""
    owner = owner_with_history(2)
    assert owner.twin is not None
    assert owner.twin.ready(owner.shared.counters, 3) == "it has 2 jobs and the store 3"
    owner.close()


def test_damaged_rows_end_the_following() -> None:
    """A row that cannot be read is not skipped."""
    owner = owner_with_history(1)
    twin = owner.twin
    assert twin is not None
    for _ in twin.steps():
        pass
    twin.handed(twin.received + 1, RowChanges({1: b"nonsense"}, counters=owner.shared.counters))
    twin.committed(twin.received)
    with pytest.raises(Exception, match="job number 1"):
        list(twin.steps())
    owner.close()


# Over a link.


class Heard:
    """An Ear that keeps what it was told."""

    def __init__(self) -> None:
        self.groups: list[tuple[int, RowChanges]] = []
        self.committed_numbers: list[int] = []
        self.ended: str | None = None

    def handed(self, number: int, changes: RowChanges) -> None:
        self.groups.append((number, changes))

    def committed(self, number: int) -> None:
        self.committed_numbers.append(number)

    def over(self, reason: str) -> None:
        self.ended = self.ended or reason


class Linked:
    """An owner's journal behind a PeerServer, and sources that follow it."""

    def __init__(self) -> None:
        self.limits = Limits()
        self.between = Between(LocalBackend(self.limits, clock=ManualClock()), self.limits)
        engine = Engine(self.limits)
        self.journal = GroupJournal(engine, ManualClock(), "store", reign="r")
        self.writer = HeldWriter(MemoryWriterShared())  # type: ignore[arg-type]
        self.journal.use(self.writer)
        self.feeds: Feeds | None = Feeds(self.journal)
        self.between.server.served = [(self.between.local, lambda: self.feeds)]
        self.sources: list[LinkSource] = []

    def source(self, name: str) -> LinkSource:
        made = LinkSource(lambda: "owner:1", Identity(name, SECRET), self.limits, clock=self.between.clock, dial=self.between.dial)
        self.sources.append(made)
        return made

    def hand_over(self, group: Group) -> int:
        """Have a group handed to the writer, as the journal does."""
        assert self.feeds is not None
        self.journal.number += 1
        self.feeds.handed(group, self.journal.number)
        return self.journal.number

    async def idle(self) -> None:
        for _ in range(TURNS):
            await asyncio.sleep(0)

    async def close(self) -> None:
        for source in self.sources:
            await source.close()
        await self.between.close()
        await self.between.local.close()


class MemoryWriterShared:
    def write(self, group: Group) -> None:
        """Nowhere."""


@pytest.fixture
async def linked() -> AsyncIterator[Linked]:
    made = Linked()
    yield made
    await made.close()


def group_of(count: int, size: int = 10) -> Group:
    made = Group()
    for number in range(1, count + 1):
        made.put(number, b"state %d" % number)
        made.put_payload(number, b"x" * size)
    made.forget(count + 1)
    made.queue_rows = {"q": b"row", "gone": None}
    made.counters = b"counters"
    return made


async def test_groups_come_as_they_are(linked: Linked) -> None:
    """Rows, deletions, queues and counters of each group come over the link in order, with the news of its commit."""
    heard = Heard()
    source = linked.source("standby")
    assert await source.follow(heard, standby=True) == ("r", 0)
    group = group_of(3)
    linked.hand_over(group)
    assert linked.feeds is not None
    linked.feeds.committed(1)
    linked.hand_over(Group())
    assert await source.mark() == 2
    (number, rows), (second, _) = heard.groups
    assert (number, second, heard.committed_numbers) == (1, 2, [1])
    like = changes_of(group)
    assert (rows.states, rows.payloads, rows.queues, rows.counters) == (like.states, like.payloads, like.queues, like.counters)


async def test_a_large_group_comes_whole(linked: Linked) -> None:
    """A group that is larger than a frame comes in parts, and is told of when all of it is there."""
    heard = Heard()
    source = linked.source("standby")
    await source.follow(heard, standby=True)
    linked.hand_over(group := group_of(50, PART_BYTES // 8))
    await source.mark()
    ((_, rows),) = heard.groups
    assert (rows.states, rows.payloads, rows.queues) == (group.states, group.payloads, group.queue_rows)


async def test_large_rows_of_things_come_whole(linked: Linked) -> None:
    """So do parts of logs and the like, which are larger than a frame together."""
    heard = Heard()
    source = linked.source("standby")
    await source.follow(heard, standby=True)
    assert source.link is not None
    group = group_of(3)
    part = b"x" * (PART_BYTES // 2)
    group.queue_rows |= {f"log/{number}/0": part for number in range(2 + 2 * source.link.frame_bytes_max // PART_BYTES)}
    linked.hand_over(group)
    await source.mark()
    ((_, rows),) = heard.groups
    assert (rows.states, rows.payloads, rows.queues) == (group.states, group.payloads, group.queue_rows)


async def test_there_is_one_standby_and_room_for_others_who_follow(linked: Linked) -> None:
    """A second server is refused as the standby; a backup may follow all the same. When the first goes, another may be it."""
    first, second, backup = Heard(), Heard(), Heard()
    source = linked.source("first")
    await source.follow(first, standby=True)
    with pytest.raises(StorageUnavailable, match="first is the standby already"):
        await linked.source("second").follow(second, standby=True)
    await linked.source("backup").follow(backup, standby=False)
    linked.hand_over(group_of(1))
    await linked.idle()
    assert (len(first.groups), len(second.groups), len(backup.groups)) == (1, 0, 1)
    source.tell(2, warm=True)
    await linked.idle()
    assert linked.feeds is not None
    assert linked.feeds.standby == ("first", 2)
    await source.close()
    await linked.idle()
    assert linked.feeds.standby is None
    await linked.source("second again").follow(second, standby=True)


async def test_the_end_of_a_reign_is_told(linked: Linked) -> None:
    """Whoever follows hears at once that there will be no more; whoever comes then is told to look elsewhere."""
    heard = Heard()
    await linked.source("standby").follow(heard, standby=True)
    linked.journal.give_up("it was deposed")
    await linked.idle()
    assert heard.ended is not None
    linked.feeds = None
    with pytest.raises(Moved):
        await linked.source("late").follow(Heard(), standby=True)


async def test_one_that_does_not_read_is_cut_off(linked: Linked) -> None:
    """The owner holds no more for it than a link may, and goes on."""
    heard = Heard()
    source = linked.source("slow")
    await source.follow(heard, standby=True)
    assert source.link is not None
    assert source.link.transport is not None
    source.link.transport.pause_reading()
    (link,) = [link for link in linked.between.server.links if link.peer == "slow"]
    for _ in range(2 + link.unwritten_bytes_max // (8 * PART_BYTES)):
        linked.hand_over(group_of(8, PART_BYTES))
    assert link.broken is not None
    assert link.unwritten_bytes <= link.unwritten_bytes_max + 9 * PART_BYTES
    assert linked.feeds is not None
    assert linked.feeds.standby is None
    linked.hand_over(group_of(1))


# In worlds made from seeds, where owners die and links to them break.


class FollowedWorld(World):
    """Owners die, and links to standbys break, and no others."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.troubles, self.forced = ["following", "following", "die"], False

    async def _befall(self, what: str, server: Server, seconds: float) -> None:
        if what != "following":
            await super()._befall(what, server, seconds)
            return
        for each in self.cluster.servers.values():
            for source in list(each.stacks[0].sources):
                source.cut()


async def faults(seeds: range) -> list[str]:
    """What is found in the first world in which something is."""
    for seed in seeds:
        world = FollowedWorld(seed)
        await world.run()
        if world.faults:
            return world.faults
    return []


@pytest.mark.parametrize("chunk", range(2))
async def test_owners_that_die_are_followed_without_a_fault(chunk: int) -> None:
    """However links broke before, whoever goes on from memory has every job and lease that was acknowledged."""
    assert await faults(range(chunk, 8, 2)) == []


@pytest.mark.long
async def test_a_standby_that_does_not_ask_the_store_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Going on from what was followed, whatever the store has, loses what was acknowledged."""
    ready = Twin.ready
    monkeypatch.setattr(Twin, "ready", lambda twin, _counters, _jobs: ready(twin, twin.counters, None))
    assert await faults(range(20)) != []
