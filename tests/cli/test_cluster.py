"""Several servers on one store, each a process of its own: whoever is asked, the queue is the same, and outlives its owner."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from jobqueue import Client, Retrying
from jobqueue.model import JobSpec, Outcome, Verdict, Want
from jobqueue.process.cluster import joined
from jobqueue.process.config import Settings
from tests.faults.process import Process
from tests.valkey import Node, needs_valkey, until

GUARD = 30.0

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


def owns(server: Process) -> bool:
    return shows(server, "jobqueue_owner 1.0")


def shows(server: Process, metric: str) -> bool:
    with Client(f"http://127.0.0.1:{server.port}") as asking:
        return metric in asking.metrics().splitlines()


def standby_of(servers: list[Process]) -> Process:
    """The server that follows the owner, once its owner knows that it does."""
    deadline = time.monotonic() + GUARD
    while time.monotonic() < deadline:
        known = [server for server in servers if shows(server, "jobqueue_standby_known 1.0")]
        if len(known) == 2 and (others := [server for server in known if not owns(server)]):
            return others[0]
        time.sleep(0.05)
    raise AssertionError("no server follows the owner")


def test_any_server_serves_any_request(serve: Serve) -> None:
    """A job of one is waited for at another, handed out by a third, and its result is told to whoever asks."""
    first, second, third = (serve() for _ in range(3))
    with client(first) as producer, client(second) as worker, client(third) as other, ThreadPoolExecutor() as threads:
        taking = threads.submit(worker.dequeue, wait=GUARD)
        sent = producer.enqueue({"n": 1})
        job = taking.result(GUARD)
        assert job is not None
        assert (job.id, job.payload) == (sent.id, {"n": 1})
        waiting = threads.submit(other.job, sent.id, wait=GUARD)
        worker.conclude(job.id, job.lease.token, "succeeded", result="done")
        assert waiting.result(GUARD).result == "done"
        assert [queue.name for queue in other.queues()] == ["default"]


def stats(server: Process) -> subprocess.CompletedProcess[str]:
    """`jobqueue stats --json`, asked at a server."""
    command = [sys.executable, "-m", "jobqueue", "stats", "--json", "--url", f"http://127.0.0.1:{server.port}"]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=2 * GUARD)


def test_each_server_tells_who_is_there(serve: Serve, valkey: Node) -> None:
    """All three name the same owner, epoch and members; the way to the owner is each one's own. Cut off the store, one still tells."""
    servers = [serve() for _ in range(3)]
    with client(*servers) as asking:
        asking.enqueue(1)

    seen: list[dict[str, Any]] = []

    def settled() -> bool:
        """Each has heard of all, and knows the owner: on a machine that stands still for a while a lease of two seconds looks passed."""
        seen[:] = [json.loads(stats(server).stdout)["cluster"] for server in servers]
        known = {each["owner"] and each["owner"]["name"] for each in seen}
        return len(known) == 1 and None not in known and all(len(each["members"]) == 3 for each in seen)

    until("each has heard of all", settled)
    assert len({each["name"] for each in seen}) == 3
    assert {each["store"] for each in seen} == {valkey.url}
    (owner,) = {each["owner"]["name"] for each in seen}
    assert {each["epoch"] for each in seen} == {seen[0]["epoch"]}
    for each in seen:
        assert {member["name"]: member["role"] for member in each["members"]}[owner] == "owner"
        assert [member["name"] for member in each["members"] if member["asked"]] == [each["name"]]
        mine = each["name"] == owner
        assert (each["lag"]["renewed_seconds"] is None, each["lag"]["link_seconds"] is None) == (not mine, mine)
    valkey.stop()
    try:
        answers: list[subprocess.CompletedProcess[str]] = []

        def alone() -> bool:
            """Its lease has passed, and it has tried the store since."""
            answers[:] = [stats(servers[0])]
            told = json.loads(answers[0].stdout)["cluster"]
            return told["owner"] is None and "the store does not answer" in (told["problem"] or "")

        until("the server says what is wrong", alone)
        assert answers[0].returncode != 0
        assert json.loads(answers[0].stderr)["code"] == "storage_unavailable"
        assert json.loads(answers[0].stdout)["queues"] is None
        with Client(f"http://127.0.0.1:{servers[0].port}") as asking:
            assert "jobqueue_owner_known 0" in asking.metrics()
    finally:
        valkey.go_on()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_what_was_acknowledged_outlives_its_owner(serve: Serve, number: signal.Signals) -> None:
    """A server that is killed or stopped hands nothing down but the queue itself: jobs and leases go on at the others."""
    servers = [serve(), serve()]
    with client(*servers) as asking:
        sent = [asking.enqueue(n, id=f"j{n}").id for n in range(20)]
        leased = asking.dequeue(wait=GUARD)
        assert leased is not None
        owner = next(server for server in servers if owns(server))
        owner.signal(number)
        sent += [asking.enqueue(n, id=f"j{n}").id for n in range(20, 40)]
        asking.conclude(leased.id, leased.lease.token, "succeeded")
        assert asking.job(leased.id).outcome == "succeeded"
        found = {leased.id}
        while (job := asking.dequeue(wait=0)) is not None:
            found.add(job.id)
            asking.conclude(job.id, job.lease.token, "succeeded")
        assert found == set(sent)
        owner.wait(GUARD)
        assert [owns(server) for server in servers if server is not owner] == [True]


async def test_an_owner_that_leaves_hears_what_became_of_the_jobs_it_handed_out(valkey: Node) -> None:
    """It hands over once the other server has said that it delivered them, so the worker's lease is live at the next owner."""
    valkey.tell("FLUSHALL")
    settings = Settings(store=valkey.url, acknowledge="0", peer_port=0, owner_lease_seconds=2.0)
    async with asyncio.timeout(GUARD), contextlib.AsyncExitStack() as stack:
        owner = await stack.enter_async_context(joined(settings, None))
        while owner.ownership.reign is None:
            await owner.ownership.changed.wait(owner.clock.now() + 0.05)
        await owner.enqueue(JobSpec(payload=b"1", id="j"))
        async with joined(settings, None) as front:
            while not owner.ownership.others:
                await owner.ownership.changed.wait(owner.clock.now() + 0.05)
            taking = front.dequeue(Want(queues=("default",)), 0.0)
            (job,) = await taking.__aenter__()
            owner.drain()
            leaving = asyncio.create_task(stack.aclose())
            # Whatever it does by itself before it hears of the job.
            await asyncio.wait({leaving}, timeout=0.1)
            taking.delivered()
            await taking.__aexit__(None, None, None)
            await leaving
            assert job.lease is not None
            concluded = await front.conclude("j", job.lease.token, Verdict(outcome=Outcome.SUCCEEDED, result=b"2"))
            assert concluded.outcome is Outcome.SUCCEEDED


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_standby_goes_on_from_its_memory(serve: Serve, number: signal.Signals) -> None:
    """The server that followed the owner takes over without reading a row, with every job and lease there was."""
    servers = [serve(), serve(), serve("--no-standby")]
    with client(*servers) as asking:
        sent = [asking.enqueue(n, id=f"j{n}").id for n in range(10)]
        standby = standby_of(servers)
        assert standby is not servers[2]
        owner = next(server for server in servers if owns(server))
        sent += [asking.enqueue(n, id=f"j{n}").id for n in range(10, 30)]
        leased = [asking.dequeue(wait=GUARD) for _ in range(5)]
        held = {job.id: job.lease.token for job in leased if job is not None}
        owner.signal(number)
        for job_id, lease in held.items():
            asking.conclude(job_id, lease, "succeeded", result="kept")
        while (job := asking.dequeue(wait=0)) is not None:
            held[job.id] = job.lease.token
            asking.conclude(job.id, job.lease.token, "succeeded")
        assert set(held) == set(sent)
        assert owns(standby)
        owner.wait(GUARD)
    assert "followed as the standby, taken over" in "".join(standby.log())
