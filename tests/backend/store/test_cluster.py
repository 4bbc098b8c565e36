"""One server of many: whoever is asked, the owner answers; and what a client sees while the owner changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from jobqueue.backend.base import Listen
from jobqueue.backend.store.cluster import WAIT_SECONDS
from jobqueue.backend.store.membership import MEMBER_SECONDS
from jobqueue.backend.store.moved import Moved
from jobqueue.backend.store.ownership import LEASE_SECONDS
from jobqueue.errors import Draining, QueueError, StorageUnavailable, Unconfirmed, UnknownJob
from jobqueue.model import CONCLUDED, Job
from tests.conformance.rig import SUCCEEDED, Held, spec, token, want

from .members import Cluster


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    """Three servers, of which `a` owns the queue."""
    made = Cluster("a", "b", "c")
    await made.start()
    # Until each has heard of all the others.
    await made.advance(1.5)
    yield made
    await made.close()


async def put(cluster: Cluster, name: str, job_id: str) -> Job:
    """Enqueue a job at a server."""
    return (await cluster.done(cluster[name].backend.enqueue(spec(job_id)))).job


def hold(cluster: Cluster, name: str, wait: float = 60.0) -> Held:
    """A dequeue that is held at a server."""
    held = Held(cluster[name].backend, want(), wait)
    cluster.tasks.append(held.task)
    return held


async def test_any_server_serves_any_request(cluster: Cluster) -> None:
    """A job goes in at one server, is taken at another, concluded at a third, and its end is seen at each."""
    await put(cluster, "b", "one")
    held = hold(cluster, "c")
    await cluster.idle()
    (job,) = held.jobs
    await cluster.done(cluster["a"].backend.conclude("one", token(job), SUCCEEDED))
    for server in cluster.servers.values():
        assert (await cluster.done(server.backend.job("one"))).status is CONCLUDED


async def test_an_error_of_the_owner_is_the_fronts(cluster: Cluster) -> None:
    """What the owner refuses is refused by whichever server was asked."""
    with pytest.raises(UnknownJob):
        await cluster.done(cluster["b"].backend.job("never"))


async def test_waiters_stand_in_line_at_the_owner(cluster: Cluster) -> None:
    """Dequeues at three servers are served in the order in which they came to the owner."""
    line = []
    for name in ("c", "a", "b", "c"):
        line.append(hold(cluster, name))
        await cluster.idle()
    for number in range(4):
        await put(cluster, "b", f"job{number}")
    await cluster.idle()
    assert [held.ids for held in line] == [["job0"], ["job1"], ["job2"], ["job3"]]


async def test_a_held_dequeue_outlives_its_owner(cluster: Cluster) -> None:
    """The owner dies; a dequeue at another server stands in line at the next one, and is handed the first job there."""
    held = hold(cluster, "c", wait=30)
    await cluster.idle()
    cluster["a"].die()
    await cluster.advance(LEASE_SECONDS + 2)
    assert not held.answered
    await put(cluster, "b", "one")
    await cluster.idle()
    assert held.ids == ["one"]


async def test_a_held_dequeue_waits_no_longer_than_it_said(cluster: Cluster) -> None:
    """The new owner is asked with what is left of the wait."""
    held = hold(cluster, "c", wait=20)
    await cluster.advance(10)
    cluster["a"].die()
    await cluster.advance(9.5)
    assert not held.answered
    await cluster.advance(1)
    assert held.task.result() == []


async def test_held_dequeues_keep_their_order_over_a_takeover(cluster: Cluster) -> None:
    """Those that wait at one server are asked again in the order in which they came."""
    line = []
    for _ in range(5):
        line.append(hold(cluster, "c"))
        await cluster.advance(0.25)
    cluster["a"].die()
    await cluster.advance(LEASE_SECONDS + 2)
    for number in range(5):
        await put(cluster, "b", f"job{number}")
    await cluster.idle()
    assert [held.ids for held in line] == [[f"job{number}"] for number in range(5)]


async def test_a_dequeue_that_comes_during_a_takeover_waits_for_the_new_owner(cluster: Cluster) -> None:
    """Nobody owns the queue when it comes; it waits within its own wait, and is handed what was there all along."""
    await put(cluster, "b", "one")
    cluster["a"].stop()
    await cluster.advance(LEASE_SECONDS - 1)
    held = hold(cluster, "c", wait=10)
    await cluster.advance(4)
    assert held.ids == ["one"]


async def test_nobody_to_ask_is_said_after_a_while(cluster: Cluster) -> None:
    """A change that was not sent waits for an owner for two seconds, then is refused, and nothing was changed."""
    for name in ("b", "c"):
        cluster.cut("a", name)
    began = cluster.clock.now()
    with pytest.raises(StorageUnavailable, match="a, cannot be reached") as raised:
        await cluster.done(cluster["b"].backend.enqueue(spec("one")))
    assert not isinstance(raised.value, Unconfirmed)
    assert raised.value.retry_after == 1
    assert cluster.clock.now() - began == pytest.approx(WAIT_SECONDS, abs=0.3)
    with pytest.raises(UnknownJob):
        await cluster.done(cluster["a"].backend.job("one"))


async def test_a_server_that_is_reached_again_is_asked_again(cluster: Cluster) -> None:
    """A short cut between two servers costs a change that was not sent nothing but time."""
    cluster.cut("a", "b")
    asking = cluster.do(cluster["b"].backend.enqueue(spec("one")))
    held = hold(cluster, "b")
    await cluster.advance(1)
    cluster.join("a", "b")
    await cluster.advance(1)
    assert asking.result().created
    assert held.ids == ["one"]


async def test_a_change_under_way_when_the_link_breaks_is_unconfirmed_and_not_repeated(cluster: Cluster) -> None:
    """The owner may have made it: the client is told so, and the owner is asked once."""
    cluster["a"].store.late = 0.5
    asking = cluster.do(cluster["b"].backend.enqueue(spec("one")))
    await cluster.idle()
    cluster.cut("a", "b")
    cluster.join("a", "b")
    await cluster.advance(2)
    assert isinstance(asking.exception(), Unconfirmed)
    queue = await cluster.done(cluster["c"].backend.queue("default"))
    assert queue.enqueued_total == 1


async def test_many_who_wait_ask_an_owner_that_is_away_by_one(cluster: Cluster) -> None:
    """While the owner cannot be reached, one probe goes to it now and then, however many wait."""
    held = [hold(cluster, "b") for _ in range(50)]
    await cluster.idle()
    gate = cluster["b"].gates["a"]
    cluster.cut("a", "b")
    gate.asked = 0
    await cluster.advance(10)
    cluster.join("a", "b")
    assert gate.asked <= 1
    await cluster.advance(1)
    assert gate.asked <= 52
    assert not any(one.answered for one in held)


async def test_a_wait_for_a_result_outlives_the_owner(cluster: Cluster) -> None:
    """Whoever waits for a job's end at another server hears of it from the new owner."""
    await put(cluster, "b", "one")
    held = hold(cluster, "c")
    await cluster.idle()
    waiting = cluster.do(cluster["c"].backend.job("one", 40))
    await cluster.idle()
    cluster["a"].die()
    await cluster.advance(LEASE_SECONDS + 2)
    assert not waiting.done()
    await cluster.done(cluster["b"].backend.conclude("one", token(held.jobs[0]), SUCCEEDED))
    await cluster.idle()
    assert waiting.result().status is CONCLUDED


async def test_a_listener_is_told_that_it_missed_events_when_the_owner_changed(cluster: Cluster) -> None:
    """Its stream ends, since the new owner remembers other events; coming again with its cursor it is told, and then hears on."""
    backend = cluster["c"].backend
    async with backend.listen(Listen()) as listening:
        assert not listening.missed
        await put(cluster, "b", "one")
        notices = await cluster.done(listening.notices(10, 5))
        assert notices is not None
        assert [notice.id for notice in notices if notice.id] == ["one"]
        waiting = cluster.do(listening.notices(10, 50))
        cluster["a"].die()
        await cluster.advance(LEASE_SECONDS + 2)
        assert waiting.result() is None
        cursor = listening.cursor
    async with backend.listen(Listen(), cursor) as listening:
        assert listening.missed
        await put(cluster, "b", "two")
        notices = await cluster.done(listening.notices(10, 5))
        assert notices is not None
        assert [notice.id for notice in notices] == ["two"]


async def test_a_listener_that_comes_while_nobody_owns_waits(cluster: Cluster) -> None:
    """Without an owner there are no events yet; once there is one it hears them."""
    cluster["a"].stop()
    await cluster.advance(LEASE_SECONDS - 1)
    cluster.cut("a", "c")
    async with cluster["c"].backend.listen(Listen()) as listening:
        waiting = cluster.do(listening.notices(10, 20))
        await cluster.advance(3)
        await put(cluster, "b", "one")
        await cluster.advance(1)
        notices = waiting.result()
        assert notices is not None
        assert "one" in [notice.id for notice in notices]


async def test_what_is_not_delivered_goes_back_to_its_place(cluster: Cluster) -> None:
    """A front whose client has gone says so, and the owner puts the job back, its attempt not counted."""
    await put(cluster, "a", "one")
    taking = cluster["c"].backend.dequeue(want(), 0)
    (job,) = await cluster.done(taking.__aenter__())
    assert job.attempts == 1
    await cluster.done(taking.__aexit__(None, None, None))
    assert (await cluster.done(cluster["b"].backend.job("one"))).attempts == 0


async def test_what_is_not_delivered_after_the_owner_changed_is_given_back_to_the_new_one(cluster: Cluster) -> None:
    """The lease is at the new owner by then; it is released there, its attempt not counted."""
    await put(cluster, "a", "one")
    taking = cluster["a"].backend.dequeue(want(), 0)
    (job,) = await cluster.done(taking.__aenter__())
    cluster["a"].backend.drain()
    await cluster.advance(4.5)
    assert cluster.owners in (["b"], ["c"])
    assert (await cluster.done(cluster["b"].backend.job("one"))).lease is not None
    await cluster.done(taking.__aexit__(None, None, None))
    await cluster.advance(1)
    there = await cluster.done(cluster["b"].backend.job("one"))
    assert (there.lease, there.attempts) == (None, 0)
    assert job.lease is not None


async def test_a_front_that_dies_with_a_job_in_hand_loses_none(cluster: Cluster) -> None:
    """Its link breaks before it has said that the answer is out: the owner puts the job back at once."""
    await put(cluster, "a", "one")
    taking = cluster["c"].backend.dequeue(want(), 0)
    await cluster.done(taking.__aenter__())
    cluster["c"].die()
    await cluster.idle()
    held = hold(cluster, "b")
    await cluster.idle()
    assert held.ids == ["one"]
    assert held.jobs[0].attempts == 1


async def test_a_planned_hand_over_under_load_loses_nothing(cluster: Cluster) -> None:
    """Clients at all servers enqueue, take and conclude while the owner hands over: no change is unconfirmed, and each is done once."""
    trouble: list[QueueError] = []
    worked: list[str] = []
    ending = False

    async def produce(name: str) -> None:
        for number in range(60):
            try:
                await cluster[name].backend.enqueue(spec(f"{name}{number}"))
            except Draining:
                # Of the server that leaves, whose clients go on at the next.
                await cluster["c"].backend.enqueue(spec(f"{name}{number}"))
            except QueueError as error:
                trouble.append(error)
            await asyncio.sleep(0)

    async def work(name: str) -> None:
        while not ending:
            taking = cluster[name].backend.dequeue(want(), 1)
            try:
                async with taking as jobs:
                    taking.delivered()
                for job in jobs:
                    await cluster[name].backend.conclude(job.id, token(job), SUCCEEDED)
                    worked.append(job.id)
            except Draining:
                return
            except QueueError as error:
                trouble.append(error)

    producers = [cluster.do(produce(name)) for name in "abc"]
    workers = [cluster.do(work(name)) for name in "abcabc"]
    await asyncio.sleep(0)
    for _ in range(40):
        await asyncio.sleep(0)
    assert 0 < len(worked) < 180
    cluster["a"].backend.drain()
    await cluster.advance(8)
    ending = True
    await cluster.advance(2)
    await cluster.done(cluster["a"].backend.close())
    assert all(task.done() for task in (*producers, *workers))
    assert trouble == []
    assert sorted(worked) == sorted(f"{name}{number}" for name in "abc" for number in range(60))
    assert cluster.owners in (["b"], ["c"])


async def test_a_front_that_drains_answers_its_own_and_lets_the_owner_go_on(cluster: Cluster) -> None:
    """Its held requests are answered at once, new work is refused, what workers did is still taken; the others notice nothing."""
    await put(cluster, "c", "one")
    first = hold(cluster, "c")
    await cluster.idle()
    held, elsewhere = hold(cluster, "c"), hold(cluster, "b")
    waiting = cluster.do(cluster["c"].backend.job("one", 30))
    await cluster.idle()
    cluster["c"].backend.drain()
    await cluster.idle()
    assert held.task.result() == []
    assert waiting.result().status is not CONCLUDED
    with pytest.raises(Draining):
        await cluster.done(cluster["c"].backend.enqueue(spec()))
    with pytest.raises(Draining):
        await cluster["c"].backend.check()
    await cluster.done(cluster["c"].backend.conclude("one", token(first.jobs[0]), SUCCEEDED))
    assert not elsewhere.answered
    assert cluster.owners == ["a"]


async def test_an_owner_that_drains_hands_over_at_once(cluster: Cluster) -> None:
    """Its own held requests are answered, those at other servers wait on at the new owner, and its workers hand in there."""
    await put(cluster, "a", "one")
    first = hold(cluster, "a")
    await cluster.idle()
    mine, elsewhere = hold(cluster, "a"), hold(cluster, "c")
    await cluster.idle()
    cluster["a"].backend.drain()
    await cluster.advance(1)
    assert mine.task.result() == []
    assert not elsewhere.answered
    assert cluster.owners in (["b"], ["c"])
    await cluster.done(cluster["a"].backend.conclude("one", token(first.jobs[0]), SUCCEEDED))
    await put(cluster, "b", "two")
    await cluster.idle()
    assert elsewhere.ids == ["two"]


async def test_each_server_tells_how_it_sees_the_others(cluster: Cluster) -> None:
    """Totals are the owner's; beside them each tells who it is, who owns the queue and under which epoch, and who else is there."""
    await put(cluster, "b", "one")
    await cluster.advance(2)
    for name in ("a", "b"):
        stats = await cluster.done(cluster[name].backend.stats())
        assert stats.jobs_live == 1
        seen = cluster[name].backend.cluster()
        assert seen is not None
        assert (seen.name, seen.address, seen.store) == (name, f"{name}:1", "memory://test")
        assert (seen.owner, seen.owner_address, seen.epoch) == ("a", "a:1", cluster.shared.epoch)
        assert [(member.name, member.address) for member in seen.members] == [("a", "a:1"), ("b", "b:1"), ("c", "c:1")]
        assert all(0 <= member.seen_seconds < MEMBER_SECONDS for member in seen.members)
        assert seen.lease_left_seconds is not None
        assert 0 < seen.lease_left_seconds <= LEASE_SECONDS
        assert seen.problem is None
        # What is each server's own.
        assert (seen.renewed_seconds is None) is (name != "a")
        assert (seen.link_seconds is None) is (name == "a")
        assert seen.clock_seconds is not None
        assert abs(seen.clock_seconds) < 1


async def test_each_server_tells_who_is_silent_and_that_nobody_owns_the_queue(cluster: Cluster) -> None:
    """The owner is told of until its lease has passed, and its silence grows; then nobody owns, without totals and with all the rest."""
    for name in ("b", "c"):
        cluster[name].ownership.leaving = True
    cluster["a"].stop()
    await cluster.advance(LEASE_SECONDS + 3)
    seen = cluster["b"].backend.cluster()
    assert seen is not None
    assert (seen.owner, seen.owner_address, seen.lease_left_seconds, seen.link_seconds) == (None, None, None, None)
    assert seen.epoch == cluster.shared.epoch
    silent = {member.name: member.seen_seconds for member in seen.members}
    assert silent["a"] > LEASE_SECONDS
    assert silent["b"] < MEMBER_SECONDS
    asked = asyncio.create_task(cluster["b"].backend.stats())
    await cluster.advance(WAIT_SECONDS + 0.5)
    with pytest.raises(StorageUnavailable, match="owns the queue"):
        await asked


async def test_a_server_that_the_store_does_not_answer_tells_so(cluster: Cluster) -> None:
    """It says that it claims nothing and why, until the store answers again; the others, whom it does not hear of, grow silent."""
    cluster["b"].store.busy = True
    await cluster.advance(10)
    seen = cluster["b"].backend.cluster()
    assert seen is not None
    assert "the store does not answer" in (seen.problem or "")
    assert all(member.seen_seconds > 8 for member in seen.members)
    cluster["b"].store.busy = False
    await cluster.advance(2)
    seen = cluster["b"].backend.cluster()
    assert seen is not None
    assert (seen.owner, seen.problem) == ("a", None)


async def test_an_owner_does_not_go_on_about_a_store_that_was_silent_before(cluster: Cluster) -> None:
    """A server that claims as soon as the store answers again has no problem any more."""
    for name in ("b", "c"):
        cluster[name].die()
    cluster["a"].store.busy = True
    await cluster.advance(LEASE_SECONDS + 3)
    seen = cluster["a"].backend.cluster()
    assert seen is not None
    assert (seen.owner, seen.problem is None) == (None, False)
    cluster["a"].store.busy = False
    await cluster.advance(LEASE_SECONDS)
    seen = cluster["a"].backend.cluster()
    assert seen is not None
    assert (seen.owner, seen.problem) == ("a", None)


async def test_a_server_takes_new_work_while_somebody_owns(cluster: Cluster) -> None:
    """Its check passes while the owner can be asked, and says what is wrong when not."""
    await cluster["b"].backend.check()
    await cluster["a"].backend.check()
    cluster.cut("a", "b")
    with pytest.raises(StorageUnavailable, match="cannot be reached"):
        await cluster["b"].backend.check()


async def test_what_another_server_handed_out_again_is_not_given_back(cluster: Cluster) -> None:
    """A client that hung up and asked again elsewhere has its job, though the first server gives it back when the owner has changed."""
    await put(cluster, "a", "one")
    first = cluster["b"].backend.dequeue(want(attempt_id="mine"), 0)
    (lost,) = await cluster.done(first.__aenter__())
    again = Held(cluster["c"].backend, want(attempt_id="mine"), 0)
    (job,) = await cluster.done(again.task)
    assert token(job) == token(lost)
    cluster["a"].stop()
    await cluster.advance(2 * LEASE_SECONDS)
    await cluster.done(first.__aexit__(None, None, None))
    await cluster.advance(2.0)
    (owner,) = cluster.owners
    assert owner != "a"
    assert (await cluster.done(cluster[owner].backend.conclude("one", token(job), SUCCEEDED))).status is CONCLUDED


async def test_what_was_handed_out_again_is_not_given_back(cluster: Cluster) -> None:
    """A client that asked the next owner again has its job, though the server that could not deliver it gives it back after that."""
    a = cluster["a"]
    await put(cluster, "a", "one")
    async with a.backend.dequeue(want(attempt_id="mine"), 0) as lost:
        # The old owner's last word; what it does to its memory after that is nobody's.
        a.stop()
        await cluster.advance(2 * LEASE_SECONDS)
        (owner,) = cluster.owners
        again = await cluster.done(Held(cluster[owner].backend, want(attempt_id="mine"), 0).task)
        assert [token(job) for job in again] == [token(job) for job in lost]
        a.go_on()
        await cluster.advance(1.0)
    await cluster.advance(2.0)
    assert (await cluster.done(cluster[owner].backend.conclude("one", token(again[0]), SUCCEEDED))).status is CONCLUDED


async def asleep(cluster: Cluster, name: str, seconds: float) -> None:
    """Let a server's machine sleep, its monotonic clock with it, while the others go on."""
    server = cluster[name]
    server.stop()
    await cluster.advance(seconds)
    server.clock.suspend(seconds)
    server.stopped_at = cluster.clock.now()
    server.go_on()


async def test_a_wait_that_ends_right_after_a_sleep_says_nothing_of_before(cluster: Cluster) -> None:
    """An owner whose machine slept through its lease, which no timer has noticed, answers no wait from its memory when that is over."""
    await put(cluster, "a", "one")
    own = cluster["a"].backend.own
    result = cluster.do(own.job("one", 1.0))
    waiting = cluster.do(own.dequeue(want("empty"), 1.0).__aenter__())
    events = own.listen(Listen())
    await cluster.done(events.__aenter__())
    told = cluster.do(events.notices(10, 1.0))
    await cluster.advance(0.75)
    await asleep(cluster, "a", 3 * LEASE_SECONDS)
    assert not any(task.done() for task in (result, waiting, told))
    await cluster.advance(0.5)
    for task in (result, waiting, told):
        assert isinstance(task.exception(), Moved)
    await cluster.done(events.__aexit__(None, None, None))


@pytest.mark.parametrize("share", [0.5, 1.0, 1.5, 2.0, 2.9])
async def test_a_wait_is_not_told_what_expired_at_a_deposed_owner_alone(cluster: Cluster, share: float) -> None:
    """An owner that stood still through its lease has jobs expire in its memory when it goes on, and tells nobody who waits for them."""
    await cluster.done(cluster["a"].backend.enqueue(spec("brief", expires_in=share * LEASE_SECONDS)))
    result = cluster.do(cluster["a"].backend.own.job("brief", 60.0))
    await cluster.idle()
    cluster["a"].stop()
    await cluster.advance(3 * LEASE_SECONDS)
    cluster["a"].go_on()
    await cluster.advance(0.5)
    assert isinstance(result.exception(), Moved)
