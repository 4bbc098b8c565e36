"""Leases go by the store's clock from one owner to the next, whatever clocks the servers have."""

from __future__ import annotations

import pytest

from jobqueue.backend.base import Extend
from jobqueue.backend.store.clocks import StoreClock
from jobqueue.clock import ManualClock, Uptime
from tests.conformance.rig import spec, token, want

from .members import Cluster


def machines(*names: str, off: dict[str, float] | None = None) -> Cluster:
    """Servers on machines of their own, of which none knows another's uptime."""
    cluster = Cluster(*names, off=off)
    for name in names:
        cluster[name].clock.boot = f"the machine of {name}"
    return cluster


async def hand_over(cluster: Cluster, to: str) -> None:
    """Make another server the owner, of one that lives."""
    cluster[to].lied_to = True
    cluster[to].ownership.doubt()
    await cluster.advance(1.0)
    cluster[to].lied_to = False
    # The other one hears of it when it renews its lease, and then leaves this one alone for a while.
    await cluster.advance(12.0)
    assert cluster.owners == [to]


async def lease_left(cluster: Cluster, name: str, wall: float) -> float:
    """Seconds that the lease of the job has left, as a server tells it whose wall clock is so far off."""
    job = await cluster.done(cluster[name].backend.job("one"))
    assert job.lease is not None
    return job.lease.expires_at - (cluster.clock.now() + wall)


async def leased(cluster: Cluster, seconds: float) -> None:
    """Have a job handed out by `a`, under a lease of so many seconds."""
    await cluster.done(cluster["a"].backend.enqueue(spec("one")))
    taking = cluster["a"].backend.dequeue(want(lease_seconds=seconds), 0)
    assert [job.id for job in await cluster.done(taking.__aenter__())] == ["one"]
    taking.delivered()


async def test_a_lease_ends_when_it_would_however_often_the_owner_changes() -> None:
    """Between servers whose clocks are four seconds apart, a lease of two minutes is not shortened by any of five takeovers."""
    off = {"a": 2.0, "b": -2.0}
    cluster = machines("a", "b", off=off)
    await cluster.start()
    await leased(cluster, 120.0)
    began = cluster.clock.now()
    for name in ("b", "a", "b", "a", "b"):
        await hand_over(cluster, name)
    left = await lease_left(cluster, "b", off["b"])
    assert left == pytest.approx(120.0 - (cluster.clock.now() - began), abs=0.2)
    await cluster.close()


@pytest.mark.parametrize("step", [-60.0, 60.0])
async def test_a_step_of_the_owners_wall_clock_moves_no_lease_for_the_next_owner(step: float) -> None:
    """An owner whose wall clock is set by a minute hands its leases on as they are."""
    cluster = machines("a", "b")
    await cluster.start()
    await leased(cluster, 120.0)
    began = cluster.clock.now()
    cluster["a"].clock.step_wall_clock(step)
    job = await cluster.done(cluster["a"].backend.job("one"))
    await cluster.done(cluster["a"].backend.extend(Extend("one", token(job), 120.0)))
    await hand_over(cluster, "b")
    left = await lease_left(cluster, "b", 0.0)
    assert left == pytest.approx(120.0 - (cluster.clock.now() - began), abs=0.2)
    await cluster.close()


def test_several_looks_say_it_more_closely() -> None:
    """What the store's clock shows is known as closely as all looks together say."""
    own = ManualClock()
    clock = StoreClock(own)
    now = own.now()
    assert clock.skew() == 0.0
    clock.compared(now, now + 1.0, now + 10.9)
    assert clock.skew() == pytest.approx(10.4)
    clock.compared(now, now + 0.4, now + 10.3)
    assert clock.skew() == pytest.approx(10.1)
    own.step_wall_clock(-500)
    assert clock.skew() == pytest.approx(10.1)


def test_another_clock_of_the_store_counts_from_its_first_look() -> None:
    """After a failover to a node whose clock shows something else, that is what counts."""
    own = ManualClock()
    clock = StoreClock(own)
    now = own.now()
    clock.compared(now, now, now + 1.0)
    clock.compared(now, now, now - 3.0)
    assert clock.skew() == pytest.approx(-3.0)


def test_a_machine_that_slept_is_behind_the_store_by_as_much() -> None:
    """The monotonic clock stands still in a sleep and the store's does not; the uptime tells, before the store is asked again."""

    class Sleeper(ManualClock):
        slept = 0.0

        def uptime(self) -> Uptime:
            return Uptime("boot", 1_000.0 + self.now() - 1_800_000_000.0 + self.slept)

    own = Sleeper()
    clock = StoreClock(own)
    now = own.now()
    clock.compared(now, now, now + 1.0)
    own.slept = 300.0
    assert clock.skew() == pytest.approx(301.0)
    clock.compared(now, now, now + 301.0)
    assert clock.skew() == pytest.approx(301.0)
    own.slept = 300.5
    clock.compared(now, now + 2.0, now + 301.6)
    assert clock.skew() == pytest.approx(301.5, abs=0.1)
