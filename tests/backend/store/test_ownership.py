"""Who owns the queue: claiming, holding, losing and handing over, on clocks that the tests move."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest

from jobqueue.backend.store.balance import order
from jobqueue.backend.store.cluster import ClusterBackend
from jobqueue.backend.store.gift import refuses
from jobqueue.backend.store.lease import MARGIN_SECONDS
from jobqueue.backend.store.ownership import LEASE_SECONDS, Ownership
from jobqueue.clock import SystemClock
from jobqueue.errors import StorageUnavailable, Unconfirmed
from jobqueue.model import Job
from tests.conformance.rig import spec, token, want

from .gate import Gate
from .members import Cluster
from .memory import MemoryStore, Shared


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    """Three servers, of which `a` owns the queue."""
    made = Cluster("a", "b", "c")
    await made.start()
    assert made.owners == ["a"]
    yield made
    await made.close()


async def put(cluster: Cluster, name: str, job_id: str) -> Job:
    """Enqueue a job at a server."""
    return (await cluster.done(cluster[name].backend.enqueue(spec(job_id)))).job


async def take(cluster: Cluster, name: str, wait: float = 0.0) -> list[Job]:
    """What a dequeue at a server is handed, delivered."""
    taking = cluster[name].backend.dequeue(want(), wait)
    async with taking as jobs:
        taking.delivered()
    return jobs


async def taken(cluster: Cluster, name: str) -> list[Job]:
    """What a dequeue at a server is handed in a moment."""
    return await cluster.done(take(cluster, name))


async def test_the_first_server_owns_the_queue_and_keeps_it(cluster: Cluster) -> None:
    """Whoever claims first owns the queue, and goes on owning it while it lives, under the same epoch."""
    epoch = cluster.shared.epoch
    await cluster.advance(30)
    assert cluster.owners == ["a"]
    assert cluster.shared.epoch == epoch


async def test_a_lease_is_renewed_only_when_no_commit_has(cluster: Cluster) -> None:
    """An idle owner renews its lease each third of it; one that commits does not need to."""
    store = cluster["a"].store
    store.calls.clear()
    await cluster.advance(LEASE_SECONDS)
    assert 2 <= store.calls.count("renew") <= 4
    store.calls.clear()
    for number in range(10):
        await put(cluster, "a", f"job{number}")
        await cluster.advance(0.5)
    assert "renew" not in store.calls


async def test_when_the_owner_dies_another_takes_over_with_all_that_was_acknowledged(cluster: Cluster) -> None:
    """Once a killed owner's lease has passed, one of the others owns the queue, and has its jobs and leases."""
    await put(cluster, "a", "one")
    (job,) = await taken(cluster, "a")
    await put(cluster, "a", "two")
    cluster["a"].die()
    await cluster.advance(LEASE_SECONDS + 2)
    (name,) = cluster.owners
    assert name in {"b", "c"}
    assert [found.id for found in await taken(cluster, name)] == ["two"]
    again = await cluster.done(cluster[name].backend.job("one"))
    assert token(again) == token(job)


async def test_an_owner_whose_port_refuses_is_replaced_before_its_lease_has_passed(cluster: Cluster) -> None:
    """A server that asks an owner whose process is gone finds that out, and the queue is claimed at once."""
    await put(cluster, "b", "one")
    cluster["a"].die()
    began = cluster.clock.now()
    await put(cluster, "b", "two")
    assert cluster.clock.now() - began < 1
    assert cluster.owners != []


async def test_an_owner_that_is_only_silent_is_left_its_lease(cluster: Cluster) -> None:
    """A server that cannot reach the owner, whose port does not refuse, claims nothing while the lease is renewed."""
    cluster.cut("a", "b")
    asking = cluster.do(cluster["b"].backend.enqueue(spec("one")))
    await cluster.advance(20)
    assert isinstance(asking.exception(), StorageUnavailable)
    assert not isinstance(asking.exception(), Unconfirmed)
    assert cluster.owners == ["a"]


async def test_an_owner_that_stood_still_past_its_lease_acknowledges_nothing(cluster: Cluster) -> None:
    """A commit whose answer comes after the lease is unconfirmed, though the store has it; the new owner has the job."""
    asking = cluster.do(cluster["a"].backend.enqueue(spec("one")))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    cluster["a"].stop()
    await cluster.advance(LEASE_SECONDS + 2)
    (name,) = cluster.owners
    assert not asking.done()
    cluster["a"].go_on()
    await cluster.idle()
    assert isinstance(asking.exception(), Unconfirmed)
    assert (await cluster.done(cluster[name].backend.job("one"))).id == "one"


async def test_an_owner_that_stood_still_acknowledges_nothing_even_if_nobody_claimed(cluster: Cluster) -> None:
    """The answer of a commit within the lease, read after it, is not acknowledged even where nobody has claimed."""
    for other in ("b", "c"):
        cluster[other].stop()
    store = cluster["a"].store
    asking = cluster.do(cluster["a"].backend.enqueue(spec("one")))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    cluster["a"].stop()
    await cluster.advance(LEASE_SECONDS - MARGIN_SECONDS + 0.25)
    assert "write" in store.calls
    cluster["a"].go_on()
    await cluster.idle()
    assert isinstance(asking.exception(), Unconfirmed)
    assert [job.id for job in await taken(cluster, "a")] == ["one"]


async def test_an_owner_that_stood_still_for_less_goes_on(cluster: Cluster) -> None:
    """A pause that is shorter than the lease costs nothing but the pause."""
    asking = cluster.do(cluster["a"].backend.enqueue(spec("one")))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    cluster["a"].stop()
    await cluster.advance(2)
    cluster["a"].go_on()
    await cluster.idle()
    assert asking.result().created
    assert cluster.owners == ["a"]


async def test_after_a_night_it_knows_that_its_lease_has_passed(cluster: Cluster) -> None:
    """A machine that slept, whose monotonic clock stood still, serves nothing of the evening before: not even a look at a job."""
    await put(cluster, "a", "one")
    a = cluster["a"]
    a.stop()
    a.clock.suspend(8 * 3_600)
    cluster.clock.advance(8 * 3_600)
    for other in ("b", "c"):
        cluster[other].clock.advance(8 * 3_600)
    await cluster.advance(2)
    (name,) = cluster.owners
    assert name != "a"
    await cluster.done(cluster[name].backend.cancel("one"))
    a.stopped_at = cluster.clock.now()
    a.go_on()
    assert a.reign is not None
    looked = await cluster.done(a.backend.job("one"))
    assert looked.conclusion is not None
    assert a.reign is None


async def test_an_owner_that_is_cut_off_the_store_gives_up_before_another_may_claim(cluster: Cluster) -> None:
    """Without word from the store it stops serving a second before its lease ends; who waits there through another server waits on."""
    holding = cluster.do(take(cluster, "b", wait=60))
    await cluster.idle()
    cluster["a"].store.cut = True
    asking = cluster.do(cluster["a"].backend.enqueue(spec("one", queue="other")))
    seen = set()
    for _ in range(40):
        await cluster.advance(0.25)
        seen.add(tuple(cluster.owners))
    assert all(len(owners) <= 1 for owners in seen)
    assert () in seen
    assert isinstance(asking.exception(), Unconfirmed)
    (name,) = cluster.owners
    assert name != "a"
    assert not holding.done()
    await put(cluster, name, "two")
    await cluster.idle()
    assert [job.id for job in holding.result()] == ["two"]


async def test_an_owner_is_deposed_by_the_first_refused_commit(cluster: Cluster) -> None:
    """Somebody else has claimed by force: the owner's next commit is refused, and nothing is acknowledged nor written again."""
    await put(cluster, "a", "one")
    cluster.shared.claim("x", "x:1", 60, True)
    before = cluster.shared.commits
    asking = cluster.do(cluster["a"].backend.enqueue(spec("two")))
    await cluster.idle()
    assert isinstance(asking.exception(), Unconfirmed)
    assert cluster["a"].reign is None
    await cluster.advance(3)
    assert cluster.shared.commits == before
    assert 2 not in cluster.shared.states


async def test_an_idle_owner_is_deposed_by_a_refused_renewal(cluster: Cluster) -> None:
    """An owner that commits nothing hears of its successor when it renews."""
    cluster.shared.claim("x", "x:1", 60, True)
    await cluster.advance(LEASE_SECONDS / 3 + 0.25)
    assert cluster["a"].reign is None
    with pytest.raises(StorageUnavailable, match="x"):
        await cluster.done(cluster["a"].backend.job("one"))


async def test_of_two_that_claim_at_once_one_owns_the_queue() -> None:
    """Servers that find the queue free at the same moment end with one owner, after one claim."""
    cluster = Cluster("a", "b", "c")
    for server in cluster.servers.values():
        server.ownership.start()
    await cluster.advance(2)
    assert len(cluster.owners) == 1
    await cluster.close()


async def test_members_claim_in_turn() -> None:
    """When the owner dies, the others try in the order of their hash, so that only one claims."""
    cluster = Cluster("a", "b", "c")
    await cluster.start()
    first = order(["b", "c"], cluster.shared.epoch)[0]
    epoch = cluster.shared.epoch
    for name in ("b", "c"):
        cluster[name].store.calls.clear()
    cluster["a"].die()
    await cluster.advance(LEASE_SECONDS + 2)
    assert cluster.owners == [first]
    assert cluster.shared.epoch == epoch + 1
    assert sum(cluster[name].store.calls.count("claim") for name in ("b", "c")) == 1
    await cluster.close()


async def test_the_order_differs_from_epoch_to_epoch() -> None:
    """Not the same server is the first each time, and all know the order without talking."""
    names = ["a", "b", "c"]
    assert {order(names, epoch)[0] for epoch in range(30)} == set(names)
    assert order(names, 7) == order(names[::-1], 7)


@pytest.mark.parametrize("late", [0.25, 0.9])
async def test_a_store_that_answers_late_is_no_reason_to_give_up(cluster: Cluster, late: float) -> None:
    """Each call takes a while: everything is acknowledged, later, and the owner keeps the queue."""
    cluster["a"].store.late = late
    epoch = cluster.shared.epoch
    for number in range(5):
        assert (await put(cluster, "a", f"job{number}")).id == f"job{number}"
    await cluster.advance(10)
    assert cluster.shared.epoch == epoch


async def test_a_store_that_never_answers_leaves_the_queue_without_owner(cluster: Cluster) -> None:
    """Nothing is acknowledged while nobody hears the store; when it answers again somebody owns the queue, with all that was stored."""
    await put(cluster, "a", "one")
    for server in cluster.servers.values():
        server.store.cut = True
    asking = cluster.do(cluster["b"].backend.enqueue(spec("two")))
    await cluster.advance(20)
    assert cluster.owners == []
    assert isinstance(asking.exception(), Unconfirmed)
    with pytest.raises(StorageUnavailable):
        await cluster.done(cluster["c"].backend.enqueue(spec("three")))
    for server in cluster.servers.values():
        server.store.cut = False
    await cluster.advance(3)
    (name,) = cluster.owners
    assert [job.id for job in (await cluster.done(cluster[name].backend.enqueue_batch([spec("one")])))[0:0]] == []
    assert (await cluster.done(cluster[name].backend.job("one"))).id == "one"


async def test_a_claim_whose_answer_was_lost_is_made_again() -> None:
    """The store granted it, and the server did not hear: it claims anew, and serves under the new epoch."""
    cluster = Cluster("a")
    cluster["a"].store.deaf = True
    cluster["a"].ownership.start()
    await cluster.advance(4)
    cluster["a"].store.deaf = False
    await cluster.advance(3)
    assert cluster.owners == ["a"]
    await put(cluster, "a", "one")
    await cluster.close()


async def test_a_store_that_says_not_now_is_asked_again(cluster: Cluster) -> None:
    """A short refusal is unconfirmed for whoever waits, and what it was about is stored with the next group."""
    cluster["a"].store.busy = True
    asking = cluster.do(cluster["a"].backend.enqueue(spec("one")))
    await cluster.idle()
    assert isinstance(asking.exception(), Unconfirmed)
    with pytest.raises(StorageUnavailable):
        await cluster.done(cluster["a"].backend.enqueue(spec("two")))
    cluster["a"].store.busy = False
    await cluster.advance(2)
    assert cluster.owners == ["a"]
    assert not (await cluster.done(cluster["a"].backend.enqueue(spec("one")))).created


async def test_a_store_that_lost_its_tail_gets_it_back_from_the_owner(cluster: Cluster) -> None:
    """A failover without the last commits: the owner still has them, and nothing acknowledged is lost."""
    await put(cluster, "a", "one")
    image = cluster.shared.image()
    await put(cluster, "a", "two")
    cluster.shared.fall_back(image)
    await put(cluster, "a", "three")
    cluster["a"].die()
    await cluster.advance(LEASE_SECONDS + 2)
    (name,) = cluster.owners
    assert [(await taken(cluster, name))[0].id for _ in range(3)] == ["one", "two", "three"]


async def test_a_failover_that_lost_a_claim_deposes_the_owner(cluster: Cluster) -> None:
    """An owner whose claim the store has forgotten acknowledges nothing, though the next one gets the same epoch."""
    image = cluster.shared.image()
    cluster["a"].stop()
    await cluster.advance(LEASE_SECONDS + 2)
    (name,) = cluster.owners
    cluster.shared.fall_back(image)
    epoch = cluster.shared.claim("x", "x:1", 60, True).epoch
    reign = cluster[name].reign
    assert reign is not None
    assert reign.lease.epoch == epoch
    asking = cluster.do(cluster[name].backend.enqueue(spec("one")))
    await cluster.idle()
    assert isinstance(asking.exception(), Unconfirmed)


async def test_rows_that_cannot_be_read_leave_the_queue_to_others(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    """A server that cannot read the rows says so, gives the queue back, and claims nothing for a while."""
    for name in ("b", "c"):
        await cluster[name].without_standby()
    await put(cluster, "a", "one")
    cluster.shared.states[1] = b"nonsense"
    cluster["a"].die()
    with caplog.at_level(logging.ERROR):
        await cluster.advance(LEASE_SECONDS + 3)
    assert cluster.owners == []
    assert "is damaged" in caplog.text
    assert cluster.shared.owner() is None
    with pytest.raises(StorageUnavailable, match="is damaged"):
        await cluster.done(cluster["b"].backend.job("one"))


async def test_a_server_whose_clock_is_off_claims_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Six seconds off the store's clock a server leaves the queue to others, and says why."""
    cluster = Cluster("a", off={"a": 6.0})
    with caplog.at_level(logging.ERROR):
        await cluster.start()
        await cluster.advance(5)
    assert cluster.owners == []
    assert "clock" in caplog.text
    with pytest.raises(StorageUnavailable, match=r"clock is \+6.0 s off"):
        await cluster.done(cluster["a"].backend.enqueue(spec()))
    cluster["a"].clock.step_wall_clock(-6)
    await cluster.advance(3)
    assert cluster.owners == ["a"]
    await cluster.close()


async def test_a_server_whose_clock_is_a_little_off_warns(caplog: pytest.LogCaptureFixture) -> None:
    """A second off it owns the queue and warns."""
    cluster = Cluster("a", off={"a": -1.0})
    with caplog.at_level(logging.WARNING):
        await cluster.start()
    assert cluster.owners == ["a"]
    assert "clock is -1.0 s off" in caplog.text
    await cluster.close()


async def test_another_server_of_the_same_name_keeps_this_one_out(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    """Two servers with one name would take the queue from each other for ever: the second claims nothing, and says so."""
    twin = Ownership(cluster["b"].store, "a", "elsewhere:1", cluster["b"].clock, aside=cluster["b"].ownership._aside)
    with caplog.at_level(logging.ERROR):
        twin.start()
        await cluster.advance(3)
    assert cluster.owners == ["a"]
    assert twin.reign is None
    assert "has the same name" in caplog.text
    await cluster.done(twin.close())


async def test_handing_over_leaves_nothing_behind(cluster: Cluster) -> None:
    """On its close the owner commits, releases and departs; another owns the queue within a moment, not after the lease."""
    await put(cluster, "a", "one")
    asking = cluster.do(cluster["b"].backend.job("one", 30))
    await cluster.idle()
    began = cluster.clock.now()
    await cluster.done(cluster["a"].backend.close())
    await cluster.advance(0.5)
    assert len(cluster.owners) == 1
    assert cluster.owners != ["a"]
    assert cluster.clock.now() - began < 1.5
    assert not asking.done()
    (job,) = await taken(cluster, "c")
    assert job.id == "one"
    assert "a" not in [member.name for member in cluster.shared.announce("b", "b:1")]


async def test_a_server_that_is_alone_serves_until_it_closes() -> None:
    """While it drains, with nobody to take over, workers still hand in what they did."""
    cluster = Cluster("a")
    await cluster.start()
    await put(cluster, "a", "one")
    (job,) = await taken(cluster, "a")
    cluster["a"].backend.drain()
    await cluster.advance(1)
    released = await cluster.done(cluster["a"].backend.release(job.id, token(job), 0))
    assert released.lease is None
    await cluster.close()
    assert cluster.shared.owner() is None


async def test_a_refused_connection_is_told_from_silence(unused_tcp_port: int) -> None:
    """A port where nobody listens refuses; one where somebody does not, whatever it says; and nor does an address of no meaning."""
    assert await refuses(f"127.0.0.1:{unused_tcp_port}")
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    assert not await refuses(f"127.0.0.1:{port}")
    assert not await refuses("nowhere")
    server.close()
    await server.wait_closed()


def test_a_lease_shorter_than_the_margin_is_refused() -> None:
    """An owner that gives up a second early needs a lease of two at least."""
    with pytest.raises(ValueError, match="too short"):
        Ownership(None, "a", "a:1", None, lease_seconds=1.5)  # type: ignore[arg-type]


async def test_on_the_machines_own_clock_and_thread() -> None:
    """With nothing injected, a server claims, reads the rows in a thread, serves, and hands over to the next, which has them all."""
    clock = SystemClock()
    shared = Shared(clock)
    for name in ("a", "b"):
        store = MemoryStore(shared, name)
        backend = ClusterBackend(Ownership(store, name, f"{name}:1", clock), unreachable)
        backend.ownership.start()
        assert (await backend.enqueue(spec("one"))).created is (name == "a")
        await backend.close()
        assert shared.owner() is None


def unreachable(address: str) -> Gate:
    raise AssertionError(f"{address} is asked")


async def test_an_owner_that_came_while_the_last_one_was_tried_is_left_alone() -> None:
    """A server whose try of a dead owner's port takes a while does not claim from whoever has claimed meanwhile."""
    cluster = Cluster("a", "b", standbys=False)
    await cluster.start()
    await cluster.advance(1.5)

    async def refused(address: str) -> bool:
        assert address == cluster["a"].address
        cluster.shared.claim("c", "c:1", LEASE_SECONDS, force=True)
        return True

    cluster["b"].ownership._probe = refused
    cluster["a"].die()
    cluster["b"].ownership.doubt()
    await cluster.advance(1.0)
    owner = cluster.shared.owner()
    assert owner is not None
    assert (owner.name, owner.epoch) == ("c", 2)
    await cluster.close()
