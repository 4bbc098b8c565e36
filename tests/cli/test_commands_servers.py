"""What `stats` and `top` say of the servers on a store: in which words, and what stands out when something is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from click.testing import Result

from jobqueue import Client, Stats, StorageUnavailable
from jobqueue.client.server_types import Partition
from jobqueue.client.types import Cluster, Commits, Lag, Member, ServerName
from jobqueue.commands.servers import brief, cluster_fields, commit_fields, heading, member_rows, partition_rows
from jobqueue.commands.watching import Servers
from jobqueue.errors import Forbidden

Run = Callable[..., Result]

FRONT = Cluster(
    name="b:2",
    address="10.0.0.2:8081",
    store="valkey://store:6379",
    owner=ServerName(name="a:1", address="10.0.0.1:8081"),
    epoch=7,
    lease_left_seconds=3.94,
    standby="c:3",
    problem=None,
    lag=Lag(renewed_seconds=None, link_seconds=0.0009, clock_seconds=-0.0214, standby_commits=1200),
    members=[
        Member(name="a:1", address="10.0.0.1:8081", role="owner", asked=False, seen_seconds=0.4),
        Member(name="b:2", address="10.0.0.2:8081", role="front", asked=True, seen_seconds=0.2),
        Member(name="c:3", address="10.0.0.3:8081", role="standby", asked=False, seen_seconds=12.3),
    ],
)


def but(**changes: Any) -> Cluster:
    return msgspec.structs.replace(FRONT, **changes)


def lag(**changes: Any) -> Cluster:
    return but(lag=msgspec.structs.replace(FRONT.lag, **changes))


def test_a_front_tells_of_all() -> None:
    """The store, who owns it and for how long, who stands by, the way to the owner, and its clock."""
    assert dict(cluster_fields(FRONT)) == {
        "store": "valkey://store:6379",
        "owner": "a:1, epoch 7, lease for another 3.9s",
        "standby": "c:3, 1,200 commits behind",
        "asked": "b:2, which the owner answers in 0.9ms",
        "its clock": "21ms behind the store's",
        "cannot be owner": "",
    }


def part(index: int, owner: str | None, standby: str | None = None, behind: int = 0) -> Partition:
    named = None if owner is None else ServerName(name=owner, address="10.0.0.1:8081")
    left = None if owner is None else 3.94
    return Partition(index=index, owner=named, epoch=2, lease_left_seconds=left, standby=standby, standby_commits=behind, problem=None)


SEVERAL = but(
    owner=None, standby=None, epoch=4, members=FRONT.members[:2], partitions=[part(0, "a:1", "b:2", 1200), part(1, "b:2", "a:1", 0)]
)


def test_each_partition_has_a_row() -> None:
    """Its owner and standby; what is missing stands out."""
    assert partition_rows(SEVERAL) == [("0", "a:1", "2", "3.9s", "b:2, 1,200 behind"), ("1", "b:2", "2", "3.9s", "a:1")]
    assert partition_rows(but(partitions=[part(0, None)])) == [("0", "none", "2", "", "none")]
    assert partition_rows(FRONT) == []


def test_of_several_partitions_it_says_what_is_missing() -> None:
    """All owned: how many; otherwise which ones are not, and what that means."""
    said = dict(cluster_fields(SEVERAL))
    assert (said["owner"], said["standby"]) == (
        "all 2 partitions have one; this server owns 1",
        "every partition that this server owns has one, 1,200 commits behind",
    )
    assert said["asked"] == "b:2, which the slowest owner answers in 0.9ms"
    assert heading(SEVERAL) == ("2 servers   2 partitions   epoch 4", False)
    without = msgspec.structs.replace(SEVERAL, partitions=[part(0, None), part(1, "b:2", "a:1")])
    said = dict(cluster_fields(without))
    assert said["owner"] == "none for partition 0: requests for it are answered 503 until a server has taken over"
    assert said["standby"] == "every partition that this server owns has one, 1,200 commits behind"
    alone = msgspec.structs.replace(SEVERAL, partitions=[part(0, "a:1"), part(1, "b:2")])
    assert dict(cluster_fields(alone))["standby"] == "none for partition 1: a server that takes over first reads its jobs"
    assert [row[-1] for row in partition_rows(alone)] == ["", "none"]
    assert heading(without) == ("2 servers   no owner of 1 of 2 partitions", True)


def test_every_server_has_a_row_with_its_silence() -> None:
    """One that has not said for seconds that it is there is silent, whatever it was."""
    assert member_rows(FRONT) == [
        ("a:1", "10.0.0.1:8081", "owner", "0.4s", ""),
        ("b:2", "10.0.0.2:8081", "front", "0.2s", "this one"),
        ("c:3", "10.0.0.3:8081", "silent for 12s", "12.3s", ""),
    ]


def test_without_an_owner_it_says_what_that_means() -> None:
    """And why this server does not step in, where it would not."""
    said = dict(cluster_fields(but(owner=None, standby=None, problem="its clock is +7.2 s off the store's; 5 s are allowed")))
    assert said["owner"] == "none: requests are answered 503 until a server has taken over"
    assert said["standby"] == "none: a server that takes over first reads all jobs"
    assert said["cannot be owner"] == "its clock is +7.2 s off the store's; 5 s are allowed"


def test_the_owner_tells_when_it_renewed_its_lease() -> None:
    """It has no link to itself."""
    assert dict(cluster_fields(lag(link_seconds=None, renewed_seconds=1.25)))["asked"] == "b:2, which renewed its lease 1.2s ago"


@pytest.mark.parametrize(
    ("ahead", "said"),
    [
        (None, ""),
        (0.0004, "as the store's"),
        (0.3, "300ms ahead of the store's"),
        (-0.9, "900ms behind the store's: set the clock; if the difference grows"),
    ],
)
def test_a_clock_that_is_off_is_to_be_set(ahead: float | None, said: str) -> None:
    """From half a second on, which is when the server itself begins to warn."""
    assert dict(cluster_fields(lag(clock_seconds=ahead)))["its clock"].partition(",")[0] == said


def test_commits_are_told_by_what_they_took() -> None:
    """Nothing of a server in memory; failures first; what waits only where something does."""
    commits = Commits(failing=False, unwritten_bytes=0, commits=3, p50_seconds=0.0004, p99_seconds=0.012)
    assert commit_fields(None) == []
    assert commit_fields(commits) == [("commits", "half within 0.4ms, 99 of 100 within 12ms")]
    worse = msgspec.structs.replace(commits, failing=True, unwritten_bytes=5000)
    assert commit_fields(worse) == [("commits", "FAILING; half within 0.4ms, 99 of 100 within 12ms, 5,000 bytes wait")]
    first = msgspec.structs.replace(commits, commits=0, p50_seconds=None, p99_seconds=None)
    assert commit_fields(first) == [("commits", "none yet")]


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.00012, "0.1ms"), (0.0099, "9.9ms"), (0.00996, "10ms"), (0.9996, "1.0s"), (59.9, "59.9s"), (130, "2m 10s")]
)
def test_short_times_are_short(seconds: float, said: str) -> None:
    """Two digits that count, whatever the size."""
    assert brief(seconds) == said


@pytest.mark.parametrize(
    ("cluster", "said", "wrong"),
    [
        (but(members=FRONT.members[:2]), "2 servers   owner a:1   epoch 7", False),
        (FRONT, "3 servers, 1 silent   owner a:1   epoch 7", True),
        (but(owner=None, members=FRONT.members[:1]), "1 server   no owner", True),
        (but(members=FRONT.members[:2], problem="rows"), "2 servers   owner a:1   epoch 7   b:2 cannot be the owner: rows", True),
    ],
)
def test_top_has_one_line_of_it(cluster: Cluster, said: str, wrong: bool) -> None:
    """How many are there, who owns; and that something is wrong."""
    assert heading(cluster) == (said, wrong)


def asked(stats: Any) -> Any:
    """A client whose stats() answers this, or raises it; and counts."""
    client = SimpleNamespace(count=0)

    def answer() -> Any:
        client.count += 1
        if isinstance(stats, Exception):
            raise stats
        return stats

    client.stats = answer
    return client


def test_top_asks_no_more_where_there_is_nothing_to_be_told() -> None:
    """A server by itself, or a token for some queues: one look, and no line."""
    for told in (Stats(draining=False, unavailable=None, held=None, storage=None, cluster=None), Forbidden("no")):
        client = asked(told)
        servers = Servers(client)
        servers.look()
        servers.look()
        assert (client.count, servers.line) == (1, "")


def test_top_shows_who_is_there_while_nobody_owns() -> None:
    """The look fails, and its reason is shown; the line about the servers is there all the same."""
    servers = Servers(asked(Stats(draining=False, unavailable="nobody", held=None, storage=None, cluster=but(owner=None))))
    with pytest.raises(StorageUnavailable, match="nobody"):
        servers.look()
    assert servers.line == "3 servers, 1 silent   no owner"


def test_stats_show_a_cluster_apart_from_the_queues(run: Run, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts, a blank line, the cluster, a blank line, the servers; --json has all of it in one object."""
    client.enqueue(1)
    commits = Commits(failing=False, unwritten_bytes=0, commits=3, p50_seconds=0.0004, p99_seconds=0.012)
    told = Stats(draining=False, unavailable=None, held=None, storage=commits, cluster=FRONT)
    monkeypatch.setattr(Client, "stats", lambda client: told)
    result = run("stats")
    counts, cluster, servers = result.stdout.split("\n\n")
    assert counts.splitlines()[0].split() == ["queues", "1"]
    assert counts.splitlines()[-1].startswith("commits ")
    assert cluster.splitlines()[0].split() == ["store", "valkey://store:6379"]
    assert servers.splitlines()[0].split() == ["SERVER", "ADDRESS", "STATE", "SEEN", "ASKED"]
    assert servers.splitlines()[2].split() == ["b:2", "10.0.0.2:8081", "front", "0.2s", "this", "one"]
    (found,) = [json.loads(line) for line in run("stats", "--json").stdout.splitlines()]
    assert (found["queues"], found["storage"]["p50_seconds"], found["unavailable"]) == (1, 0.0004, None)
    assert found["cluster"]["owner"] == {"name": "a:1", "address": "10.0.0.1:8081"}


def test_stats_without_an_owner_show_the_servers_and_fail(run: Run, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """What there is is shown, the rest is null, and the exit code is that of a refusal."""
    told = Stats(draining=False, unavailable="there is no owner at the moment", held=None, storage=None, cluster=but(owner=None))
    monkeypatch.setattr(Client, "stats", lambda client: told)
    result = run("stats")
    assert result.exit_code == 1
    assert result.stdout.splitlines()[0].split() == ["store", "valkey://store:6379"]
    assert result.stderr == "Error: storage_unavailable: there is no owner at the moment\n"
    result = run("stats", "--json")
    found = json.loads(result.stdout)
    assert (result.exit_code, found["queues"], found["totals"], found["cluster"]["epoch"]) == (1, None, None, 7)
    assert json.loads(result.stderr)["code"] == "storage_unavailable"
