"""How far several servers get on paper: the arithmetic, with figures that are easy to follow."""

from __future__ import annotations

import math

import pytest

from bench.model import PRIMARIES, Figures, Footprint, Layout, first_share, held, memory_mib, modelled, rates, store_resting
from bench.partitions import job_id
from jobqueue.partition import home_of, partition_of

COST = Footprint(alone=200, front=150, owner=100, standby=50, store=40)
GIVEN = Figures(
    few=COST,
    many=COST,
    batch=COST,
    idle=0,
    idle_watch=0,
    idle_own=0,
    idle_follow=0,
    idle_member=0,
    store_server=0,
    store_watch=0,
    store_member=0,
    base_mib=50,
    own_kib=100,
    watch_kib=10,
    held_front_kib=8,
    held_owner_kib=2,
)


def test_a_balanced_layout_is_bounded_by_the_sum_of_its_cores() -> None:
    """If every process owns as much as the others, all cores end together, and the whole is their number by the CPU of a job."""
    layout = Layout(4, 64)
    asked_owner = 1 / layout.processes
    each = asked_owner * COST.alone + (1 - asked_owner) * (COST.front + COST.owner) + COST.standby
    assert rates(GIVEN, COST, layout).owner == pytest.approx(layout.processes * 1e6 / each)


def test_processes_that_own_nothing_do_not_bear_the_load_of_owners() -> None:
    """With fewer partitions than processes, owners end before fronts, and more servers help little."""
    few, many = rates(GIVEN, COST, Layout(16, 16)), rates(GIVEN, COST, Layout(64, 16))
    assert few.owner < few.front < math.inf
    assert few.servers < many.servers < 4 * few.servers
    assert many.owner < 16 * 1e6 / (COST.owner + COST.standby)


def test_one_queue_has_the_core_of_one_owner() -> None:
    """However many servers there are, a queue gets less than one core gives."""
    for servers in (4, 64):
        assert rates(GIVEN, COST, Layout(servers, 128)).queue < 1e6 / COST.owner


def test_what_a_store_spends_on_its_servers_is_not_there_for_jobs() -> None:
    """At rest, every process asks for every partition, so the cost grows with both."""
    given = GIVEN._replace(store_watch=10.0)
    assert store_resting(given, Layout(64, 128)) == 128 * 128 * 10.0
    assert rates(given, COST, Layout(64, 128)).stores[1] == pytest.approx((1e6 - 163_840) / COST.store)
    assert rates(given._replace(store_watch=100.0), COST, Layout(64, 128)).first(1) == "Valkey"


@pytest.mark.parametrize(("partitions", "most"), [(8, 4), (16, 8), (32, 12)])
def test_shares_of_primaries_follow_from_the_slots(partitions: int, most: int) -> None:
    """As docs/scale-out.md says of three primaries with a third of the slots each."""
    assert first_share(partitions, 3) == most / partitions
    assert first_share(partitions, 1) == 1
    assert all(first_share(partitions, each) >= 1 / each for each in PRIMARIES)


def test_held_requests_are_bounded_by_connections_or_by_partitions() -> None:
    """25,000 connections for each process, 20,000 waiting requests for each partition, whichever is less."""
    assert held(GIVEN, Layout(4, 16))[:2] == (8 * 25_000, "connections")
    assert held(GIVEN, Layout(64, 16))[:2] == (16 * 20_000, "waiting requests")
    assert held(GIVEN, Layout(4, 16)).gib == pytest.approx((25_000 * 8 + 25_000 * 2) / 2**20)


def test_memory_and_links_are_those_of_the_busiest_process() -> None:
    """It holds what it owns and what it follows, and has a link about each partition with every process."""
    layout = Layout(4, 16)
    assert (layout.processes, layout.most, layout.links) == (8, 2, 128)
    assert layout.links_each == 14 + 2 * 7 + 4
    assert memory_mib(GIVEN, layout) == pytest.approx(50 + (4 * 100 + 16 * 10) / 1_024 + 250_000 * 850 / 2**20)


def test_the_report_has_every_layout() -> None:
    """Three tables, each with a line for each number of servers and of partitions."""
    text = "\n\n".join(modelled(GIVEN))
    assert text.count("\n| 64 | 128 |") == 3
    assert "inf" not in text


def test_ids_have_the_home_that_they_should_have() -> None:
    """That of the queue, or another one."""
    for count in (4, 8, 64):
        assert home_of(job_id("mail", elsewhere=False), count) == partition_of("mail", count)
        assert home_of(job_id("mail", elsewhere=True), count) == (partition_of("mail", count) + 1) % count
