"""Several servers on one store, each a process of its own: whoever is asked, the queue is the same, and outlives its owner."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from jobqueue import Client, Retrying
from tests.faults.process import Process
from tests.valkey import Node, needs_valkey

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
    with Client(f"http://127.0.0.1:{server.port}") as asking:
        return "jobqueue_owner 1" in asking.metrics()


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
