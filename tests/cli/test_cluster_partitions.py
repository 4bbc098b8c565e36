"""Servers on a store of eight partitions, each a process of its own: clients see one queue server, whatever happens to one of them."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from jobqueue import Client, Retrying
from tests.faults.process import Process
from tests.valkey import Node, needs_valkey, until

GUARD = 30.0

PARTITIONS = 8

QUEUES = [f"q{number}" for number in range(10)]

Serve = Callable[..., Process]


@pytest.fixture(scope="module")
def valkey() -> Iterator[Node]:
    needs_valkey()
    node = Node()
    yield node
    node.remove()


@pytest.fixture
def serve(valkey: Node) -> Iterator[Serve]:
    """Starts servers on an empty store."""
    valkey.tell("FLUSHALL")
    with contextlib.ExitStack() as stack:

        def start(*flags: str) -> Process:
            store = ("--store", valkey.url, "--acknowledge", "0", "--peer-port", "0", "--owner-lease", "2s")
            return stack.enter_context(contextlib.closing(Process(*store, *flags)))

        yield start


def client(*servers: Process) -> Client:
    return Client([f"http://127.0.0.1:{server.port}" for server in servers], retrying=Retrying(tries=50, cap=1.0))


def stats(server: Process, *flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "jobqueue", "stats", *flags, "--url", f"http://127.0.0.1:{server.port}"]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=2 * GUARD)


def cluster(server: Process) -> Any:
    return json.loads(stats(server, "--json").stdout)["cluster"]


def owners(server: Process) -> list[str | None]:
    """The owner of each partition, as a server sees it."""
    return [each["owner"] and each["owner"]["name"] for each in cluster(server)["partitions"]]


def name_of(server: Process) -> str:
    return str(cluster(server)["name"])


def test_clients_see_one_queue_server_while_servers_are_killed_and_stopped(serve: Serve) -> None:
    """Jobs of ten queues go in and out by all three servers; one is killed, one stops, and the last has every job and lease."""
    servers = [serve("--partitions", str(PARTITIONS))]
    servers += [serve(), serve()]
    with client(*servers) as asking:
        sent = [asking.enqueue(n, id=f"j{n}", queue=QUEUES[n % 10]).id for n in range(40)]
        held: dict[str, str] = {}
        for server in servers:
            with client(server) as one:
                for _ in range(3):
                    job = one.dequeue(QUEUES, wait=GUARD)
                    assert job is not None
                    held[job.id] = job.lease.token
        killed, stopped, last = servers
        killed.signal(signal.SIGKILL)
        sent += [asking.enqueue(n, id=f"j{n}", queue=QUEUES[n % 10]).id for n in range(40, 60)]
        stopped.signal(signal.SIGTERM)
        sent += [asking.enqueue(n, id=f"j{n}", queue=QUEUES[n % 10]).id for n in range(60, 80)]
        assert stopped.wait(GUARD) == 0
        # An id is one job's, whichever partition its queue is in.
        assert not asking.enqueue(7, id="j7", queue=QUEUES[7]).created
        for job_id, token in held.items():
            asking.conclude(job_id, token, "succeeded", result="kept")
        done = set(held)
        while (job := asking.dequeue(QUEUES, wait=0)) is not None:
            done.add(job.id)
            asking.conclude(job.id, job.lease.token, "succeeded")
        assert done == set(sent)
        assert asking.job("j79").outcome == "succeeded"
        assert sorted(queue.name for queue in asking.queues()) == QUEUES
    name = name_of(last)
    assert owners(last) == [name] * PARTITIONS


def test_each_server_tells_who_owns_which_partition(serve: Serve) -> None:
    """The first owns all; stats, /metrics and /readyz of any server know all partitions."""
    servers = [serve("--partitions", str(PARTITIONS)), serve("--partitions", str(PARTITIONS))]
    first = name_of(servers[0])
    until("both know all owners", lambda: all(owners(server) == [first] * PARTITIONS for server in servers))
    said = stats(servers[1]).stdout
    assert re.search(r"^owner +all 8 partitions have one; this server owns 0$", said, re.MULTILINE)
    assert len(re.findall(rf"^ *\d +{re.escape(first)} ", said, re.MULTILINE)) == PARTITIONS
    with client(servers[1]) as asking:
        asking.enqueue(1, queue=QUEUES[0])
        asking.enqueue(2, queue=QUEUES[1])
        seen = asking.stats()
        lines = asking.metrics().splitlines()
    assert (seen.unavailable, seen.held and seen.held.jobs_live) == (None, 2)
    assert 'jobqueue_jobs{queue="q1",status="queued"} 1.0' in lines
    for line in ("jobqueue_owner 0.0", "jobqueue_owner_known 1.0", "jobqueue_partitions 8.0", "jobqueue_partitions_without_owner 0.0"):
        assert line in lines


def test_another_number_of_partitions_is_refused(serve: Serve, valkey: Node) -> None:
    """A store keeps its number: a server that is started with another says so and ends; one without any takes the store's."""
    serve("--partitions", "3")
    command = [sys.executable, "-m", "jobqueue", "serve", "--store", valkey.url, "--acknowledge", "0", "--partitions", "4", "--port", "0"]
    refused = subprocess.run([*command, "--peer-port", "0"], capture_output=True, text=True, check=False, timeout=GUARD)
    assert refused.returncode == 1
    assert "--partitions 3" in refused.stderr
    assert "--partitions 4" in refused.stderr
    assert len(owners(serve())) == 3


@pytest.mark.long
def test_partitions_are_spread_after_a_while_and_no_client_sees_it(serve: Serve) -> None:
    """Half a minute after the last server came the partitions begin to move, until each has two or three; requests go on."""
    servers = [serve("--partitions", str(PARTITIONS)), serve(), serve()]
    asked = 0
    with Client(f"http://127.0.0.1:{servers[2].port}", retrying=Retrying(tries=1)) as asking:

        def spread() -> bool:
            nonlocal asked
            for queue in QUEUES:
                sent = asking.enqueue(asked, queue=queue)
                job = asking.dequeue([queue], wait=0)
                assert job is not None
                assert job.id == sent.id
                asking.conclude(job.id, job.lease.token, "succeeded")
                asked += 1
            return sorted(Counter(owners(servers[1])).values()) == [2, 3, 3]

        until("the partitions are spread", spread, 120.0)
    assert asked > 100
