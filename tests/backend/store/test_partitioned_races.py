"""Dequeues that stand in several partitions at once, in any interleaving with enqueues, ends of waits and clients that go."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from jobqueue.backend.base import Backend
from jobqueue.limits import Limits
from jobqueue.model import Job, Status
from jobqueue.partition import partition_of
from tests.conformance.partitioned import COUNT, PartitionedRig
from tests.conformance.rig import spec, want

QUEUES = [{partition_of(f"q{number}", COUNT): f"q{number}" for number in range(100)}[index] for index in range(COUNT)]

WAIT = 60.0


class Client:
    """One dequeue, whose answer is delivered or not, and which can be cancelled at any moment."""

    def __init__(self, backend: Backend, queues: tuple[str, ...], delivers: bool, limit: int) -> None:
        self._backend = backend
        self.want = want(*queues, limit=limit)
        self._delivers = delivers
        self.jobs: list[Job] = []
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        taking = self._backend.dequeue(self.want, WAIT)
        async with taking as jobs:
            if self._delivers:
                self.jobs = jobs
                taking.delivered()


ACTIONS = st.one_of(
    st.tuples(st.just("put"), st.sampled_from(QUEUES), st.integers(1, 3)),
    st.tuples(st.just("take"), st.lists(st.sampled_from(QUEUES), min_size=1, max_size=3, unique=True), st.booleans(), st.integers(1, 3)),
    st.tuples(st.just("go"), st.integers(0, 9)),
    st.tuples(st.just("turns"), st.integers(1, 6)),
    st.tuples(st.just("time"), st.sampled_from([1.0, 30.0, 60.0])),
)


async def check(rig: PartitionedRig, clients: list[Client], made: list[str]) -> None:
    """Where each job is, once nothing happens any more."""
    delivered = [job.id for client in clients for job in client.jobs]
    assert len(set(delivered)) == len(delivered)
    waiting: set[str] = set()
    for job_id in made:
        job = await rig.backend.job(job_id)
        if job_id in delivered:
            assert (job.status, job.attempts) == (Status.IN_PROGRESS, 1)
        else:
            assert (job.status, job.attempts) == (Status.QUEUED, 0)
            waiting.add(job.queue)
    assert not any(waiting & set(client.want.queues) for client in clients if not client.task.done())
    assert (await rig.backend.stats()).leases == len(delivered)


@settings(max_examples=100, deadline=None)
@given(st.lists(ACTIONS, max_size=25))
def test_a_job_goes_to_one_and_is_never_lost(actions: list[Any]) -> None:
    """Each is with the client that it was delivered to, or in its queue with no attempt counted; and nobody stands in line for a job
    that is there."""

    async def run() -> None:
        rig = PartitionedRig(Limits())
        clients: list[Client] = []
        made: list[str] = []
        puts: list[asyncio.Task[Any]] = []
        for action in actions:
            match action:
                case "put", queue, count:
                    for _ in range(count):
                        made.append(f"j{len(made)}")
                        puts.append(asyncio.create_task(rig.backend.enqueue(spec(made[-1], queue=queue))))  # type: ignore[arg-type]
                case "take", queues, delivers, limit:
                    clients.append(Client(rig.backend, tuple(queues), delivers, limit))
                case "go", number:
                    if number < len(clients):
                        clients[number].task.cancel()
                case "turns", turns:
                    for _ in range(turns):
                        await asyncio.sleep(0)
                case _, seconds:
                    rig.clock.advance(seconds)
        await rig.idle()
        await asyncio.gather(*puts)
        await rig.idle()
        await check(rig, clients, made)
        rig.clock.advance(2 * WAIT)
        await rig.idle()
        assert all(client.task.done() for client in clients)
        assert (await rig.backend.stats()).waiters == 0
        await asyncio.gather(*(client.task for client in clients if not client.task.cancelled()))
        await rig.close()

    asyncio.run(run())
