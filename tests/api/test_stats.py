"""GET /stats, and what /metrics tells beside it: a server by itself, one of many, and one that cannot ask the owner."""

from __future__ import annotations

from typing import Any, NoReturn

import pytest
from msgspec.structs import replace

from jobqueue.backend.base import ClusterStats, MemberStats, PartitionStats, StorageStats
from jobqueue.errors import StorageUnavailable
from jobqueue.histogram import QUICK_SECONDS, Histogram

from .harness import Api
from .test_metrics import key, samples

FRONT = ClusterStats(
    name="b",
    address="b:8081",
    store="valkey://store:6379",
    owner="a",
    owner_address="a:8081",
    epoch=7,
    members=[MemberStats("a", "a:8081", 0.42), MemberStats("b", "b:8081", 0.13), MemberStats("c", "c:8081", 12.0)],
    lease_left_seconds=3.9,
    standby="c",
    behind=2,
    link_seconds=0.00123,
    clock_seconds=-0.02,
)
"""What a front says of itself and two others."""

SEVERAL = replace(
    FRONT,
    owner=None,
    owner_address=None,
    epoch=9,
    standby=None,
    renewed_seconds=1.1,
    partitions=[
        PartitionStats(index=0, owner="a", owner_address="a:8081", epoch=7, lease_left_seconds=3.9, standby="c", behind=2),
        PartitionStats(index=1, owner="b", owner_address="b:8081", epoch=2, lease_left_seconds=4.1, standby="a", renewed_seconds=1.1),
    ],
)
"""What one says of two partitions, of which it owns the second."""

OWNER = replace(FRONT, name="a", address="a:8081", renewed_seconds=1.1, link_seconds=None)
ALONE = replace(
    FRONT, owner=None, owner_address=None, lease_left_seconds=None, standby=None, behind=0, link_seconds=None, problem="its clock is off"
)
"""A front while nobody owns the queue; nor would this one."""


def seen(monkeypatch: pytest.MonkeyPatch, api: Api, cluster: ClusterStats, unavailable: str | None = None) -> None:
    """Make the server one of many; unavailable: why it cannot ask the owner."""

    async def stats() -> NoReturn:
        assert unavailable is not None
        raise StorageUnavailable(unavailable)

    monkeypatch.setattr(api.backend, "cluster", lambda: cluster)
    if unavailable is not None:
        monkeypatch.setattr(api.backend, "stats", stats)


async def told(api: Api) -> Any:
    reply = await api.get("/stats")
    assert reply.status == 200
    return reply.json


async def test_a_server_by_itself_tells_what_it_holds(api: Api) -> None:
    """Totals over all queues; nothing of a storage or of others, as there is neither."""
    await api.working("a", queue="one")
    await api.enqueue(queue="two")
    nothing = dict.fromkeys(("retrying", *(f"{what}_{minutes}m" for what in ("jobs", "attempts") for minutes in (1, 5, 60))), 0)
    held = {
        "failures": nothing,
        "failed_jobs_forgotten": 0,
        "jobs_live": 2,
        "payload_bytes": api.backend.totals().live_bytes,
        "queues": 2,
        "waiters": 0,
        "listeners": 0,
        "leases": 1,
    }
    found = await told(api)
    assert {name: found[name] for name in ("draining", "unavailable", "held", "storage", "cluster")} == {
        "draining": False,
        "unavailable": None,
        "held": held,
        "storage": None,
        "cluster": None,
    }


async def test_commits_are_told_with_their_percentiles(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what the storage took, half and 99 of 100; None before the first commit."""
    commits = Histogram(QUICK_SECONDS)
    totals = api.backend.totals()

    async def stats() -> Any:
        return replace(totals, storage=StorageStats(False, commits.timings(), 1234))

    monkeypatch.setattr(api.backend, "stats", stats)
    assert (await told(api))["storage"] == {
        "failing": False,
        "unwritten_bytes": 1234,
        "commits": 0,
        "p50_seconds": None,
        "p99_seconds": None,
        "problem": None,
        "last_at": None,
        "last_seconds": None,
    }
    for _ in range(98):
        commits.observe(0.002)
    for _ in range(2):
        commits.observe(0.2)
    storage = (await told(api))["storage"]
    assert storage["commits"] == 100
    assert 0.001 < storage["p50_seconds"] <= 0.0025
    assert 0.1 < storage["p99_seconds"] <= 0.25


async def test_one_of_many_tells_how_it_sees_the_others(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Itself, the store, the owner, the epoch, the standby, and each member with its role and its silence; numbers of its own link."""
    seen(monkeypatch, api, FRONT)
    found = (await told(api))["cluster"]
    members = found.pop("members")
    assert found == {
        "name": "b",
        "address": "b:8081",
        "store": "valkey://store:6379",
        "owner": {"name": "a", "address": "a:8081"},
        "epoch": 7,
        "lease_left_seconds": 3.9,
        "standby": "c",
        "problem": None,
        "lag": {"renewed_seconds": None, "link_seconds": 0.0012, "clock_seconds": -0.02, "standby_commits": 2},
        "partitions": [],
    }
    assert [(member["name"], member["address"], member["role"], member["asked"], member["seen_seconds"]) for member in members] == [
        ("a", "a:8081", "owner", False, 0.4),
        ("b", "b:8081", "front", True, 0.1),
        ("c", "c:8081", "standby", False, 12.0),
    ]
    assert (await told(api))["held"]["jobs_live"] == 0


async def test_it_is_answered_while_nobody_owns_the_queue(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then somebody wants to know who is there. What only an owner can tell is null, and why is told."""
    seen(monkeypatch, api, ALONE, "there is no owner at the moment")
    found = await told(api)
    assert (found["held"], found["storage"], found["unavailable"]) == (None, None, "there is no owner at the moment")
    cluster = found["cluster"]
    assert (cluster["owner"], cluster["lease_left_seconds"], cluster["problem"]) == (None, None, "its clock is off")
    assert cluster["lag"]["standby_commits"] is None
    assert {member["role"] for member in cluster["members"]} == {"front"}


async def test_each_servers_metrics_are_its_own(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who owns, the epoch, the standby, the link and the clock, as this server sees them; only what there is has a series."""
    seen(monkeypatch, api, FRONT)
    found = await samples(api)
    expected = {
        "servers": 3,
        "owner": 0,
        "owner_known": 1,
        "owner_possible": 1,
        "owner_epoch": 7,
        "owner_lease_left_seconds": 3.9,
        "owner_link_seconds": 0.00123,
        "standby_known": 1,
        "standby_behind": 2,
        "clock_offset_seconds": -0.02,
    }
    assert {name: found[key(f"jobqueue_{name}")] for name in expected} == expected
    assert key("jobqueue_lease_renewed_age_seconds") not in found
    seen(monkeypatch, api, OWNER)
    found = await samples(api)
    assert (found[key("jobqueue_owner")], found[key("jobqueue_lease_renewed_age_seconds")]) == (1, 1.1)
    assert key("jobqueue_owner_link_seconds") not in found


async def test_a_server_by_itself_has_no_metrics_of_many(api: Api) -> None:
    """No series says anything of servers or owners."""
    assert not [name for name, _ in await samples(api) if name.startswith(("jobqueue_owner", "jobqueue_servers", "jobqueue_standby"))]


async def test_metrics_are_answered_while_nobody_owns_the_queue(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is this server's own is there, the alert for a missing owner above all; what an owner would tell is left out."""
    await api.enqueue()
    seen(monkeypatch, api, ALONE, "there is no owner at the moment")
    found = await samples(api)
    assert [found[key(f"jobqueue_{name}")] for name in ("owner_known", "owner_possible", "servers", "connections", "draining")] == [
        0,
        0,
        3,
        1,
        0,
    ]
    assert found[key("jobqueue_http_requests_total", method="POST", route="/jobs/enqueue", status="201")] == 1
    assert key("jobqueue_jobs_live") not in found
    assert key("jobqueue_jobs_enqueued_total", queue="default") not in found


async def test_of_several_partitions_each_is_told(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who owns it, who stands by; a member that owns one of them is an owner, and no single one is named for all."""
    seen(monkeypatch, api, SEVERAL)
    found = (await told(api))["cluster"]
    assert (found["owner"], found["standby"], found["epoch"], found["lag"]["standby_commits"]) == (None, None, 9, 2)
    assert found["partitions"] == [
        {
            "index": 0,
            "owner": {"name": "a", "address": "a:8081"},
            "epoch": 7,
            "lease_left_seconds": 3.9,
            "standby": "c",
            "standby_commits": 2,
            "problem": None,
        },
        {
            "index": 1,
            "owner": {"name": "b", "address": "b:8081"},
            "epoch": 2,
            "lease_left_seconds": 4.1,
            "standby": "a",
            "standby_commits": 0,
            "problem": None,
        },
    ]
    assert [member["role"] for member in found["members"]] == ["owner", "owner", "standby"]
    metrics = await samples(api)
    names = ("owner", "owner_known", "standby_known", "partitions", "owned_partitions", "partitions_without_owner")
    assert [metrics[key(f"jobqueue_{name}")] for name in names] == [1, 1, 1, 2, 1, 0]


async def test_a_partition_without_an_owner_is_missed(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """What watches the one owner of a store without partitions watches all of them here."""
    first, second = SEVERAL.partitions
    lost = replace(first, owner=None, owner_address=None, lease_left_seconds=None, standby=None)
    seen(monkeypatch, api, replace(SEVERAL, partitions=[lost, second]))
    metrics = await samples(api)
    assert [metrics[key(f"jobqueue_{name}")] for name in ("owner_known", "standby_known", "partitions_without_owner")] == [0, 1, 1]
    assert (await told(api))["unavailable"] == "partition 0 has no owner at the moment"
    # Of a partition that it does not own this server does not know who follows.
    seen(monkeypatch, api, replace(SEVERAL, partitions=[replace(first, standby=None), replace(second, standby=None)]))
    metrics = await samples(api)
    assert [metrics[key(f"jobqueue_{name}")] for name in ("standby_known", "owned_partitions_without_standby")] == [0, 1]
    assert (await told(api))["cluster"]["lag"]["standby_commits"] is None
