from __future__ import annotations

import asyncio
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from jobqueue import AsyncClient, Backoff, Discard, NewJob, Outcome, Release, Retry, RunningJob, Status, Worker

from .outside import Outside, free_port, left, stands, until
from .rig import PATIENCE_SECONDS

AT_ONCE = Backoff(0.0, 1.0, 0.0)


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Outside]:
    outside = Outside(tmp_path)
    yield outside
    outside.close()


@pytest.fixture
async def url(outside: Outside) -> str:
    """A server that is a process."""
    return f"http://127.0.0.1:{outside.server().port}"


@pytest.fixture
async def client(url: str) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(url) as client:
        yield client


async def concluded(client: AsyncClient, job_id: str) -> tuple[Outcome | None, object]:
    async with asyncio.timeout(PATIENCE_SECONDS):
        job = await client.job(job_id, wait=PATIENCE_SECONDS)
    return job.outcome, job.result


async def test_a_worker_survives_a_server_that_is_killed_and_started_again(outside: Outside, tmp_path: Path) -> None:
    """SIGKILL in the midst of work, on a server that keeps its jobs: each one succeeds in the end."""
    flags = ("--port", str(free_port()), "--data", str(tmp_path / "jobs.db"))
    server = outside.server(*flags)
    url = f"http://127.0.0.1:{server.port}"
    ran: Counter[str] = Counter()
    worker = Worker(url, concurrency=8, lease_seconds=2)
    half = asyncio.Event()

    @worker.handler("work")
    async def work(job: RunningJob) -> str:
        await asyncio.sleep(0.002)
        ran[job.id] += 1
        if len(ran) == 150:
            half.set()
        return job.id

    async with AsyncClient(url) as client:
        jobs = [job.id for job in await client.enqueue_batch([NewJob(None, type="work")] * 300)]  # type: ignore[union-attr]
        await worker.start()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await half.wait()
        server.signal(signal.SIGKILL)
        server.wait()
        outside.server(*flags)
        for job_id in jobs:
            assert await concluded(client, job_id) == (Outcome.SUCCEEDED, job_id)
    await worker.stop(5)
    assert set(ran) == set(jobs)
    assert worker.error is None


async def test_the_jobs_of_a_killed_worker_are_handed_to_another(outside: Outside, url: str, client: AsyncClient) -> None:
    """SIGKILL: its leases end, and the jobs it ran and those it had taken ahead come to the next worker."""
    worker = outside.worker(url)
    jobs = [(await client.enqueue("go", type="hold")).id for _ in range(3)]
    for job_id in jobs:
        await outside.began(job_id)
    worker.kill()
    await outside.ended(worker)
    (outside.folder / "go").touch()
    outside.worker(url)
    for job_id in jobs:
        assert await concluded(client, job_id) == (Outcome.SUCCEEDED, "attempt 2")


async def test_a_terminated_worker_lets_its_jobs_finish(outside: Outside, url: str, client: AsyncClient) -> None:
    """SIGTERM: it takes no more, waits for what runs, and exits with 0."""
    worker = outside.worker(url)
    running = (await client.enqueue("go", type="hold")).id
    await outside.began(running)
    await stands(client)
    worker.terminate()
    await left(client)
    later = (await client.enqueue("go", type="hold")).id
    (outside.folder / "go").touch()
    code, log = await outside.ended(worker)
    assert code == 0, log
    assert "Traceback" not in log
    assert await concluded(client, running) == (Outcome.SUCCEEDED, "attempt 1")
    assert (await client.job(later)).status is Status.QUEUED


@pytest.mark.parametrize("signals", [1, 2])
async def test_what_outlasts_the_grace_period_is_given_back(outside: Outside, url: str, client: AsyncClient, signals: int) -> None:
    """Its attempt does not count. A second signal ends a long grace period."""
    worker = outside.worker(url, grace_seconds=0.2 if signals == 1 else 600)
    job_id = (await client.enqueue("never", type="hold")).id
    await outside.began(job_id)
    await stands(client)
    worker.terminate()
    if signals == 2:
        await left(client)
        worker.send_signal(signal.SIGINT)  # another one: of two of a kind that come at once a process is told one
    code, log = await outside.ended(worker)
    assert code == 0, log
    assert ("second signal" in log) == (signals == 2)
    job = await client.job(job_id)
    assert (job.status, job.attempts) == (Status.QUEUED, 0)


async def test_a_thread_that_hangs_does_not_keep_its_worker_alive(outside: Outside, url: str, client: AsyncClient) -> None:
    """Its job is given back, and the process ends."""
    worker = outside.worker(url, grace_seconds=0)
    job_id = (await client.enqueue(None, type="hang")).id
    await outside.began(job_id)
    worker.terminate()
    code, log = await outside.ended(worker)
    assert code == 0, log
    job = await client.job(job_id)
    assert (job.status, job.attempts) == (Status.QUEUED, 0)


async def test_a_running_job_is_cancelled(url: str, client: AsyncClient) -> None:
    """The handler is sent asyncio.CancelledError with a heartbeat, and the job ends as cancelled."""
    worker = Worker(url, lease_seconds=1)
    begun, cancelled = asyncio.Event(), asyncio.Event()

    @worker.handler("work")
    async def work(job: RunningJob) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    await worker.start()
    job_id = (await client.enqueue(None, type="work")).id
    async with asyncio.timeout(PATIENCE_SECONDS):
        await begun.wait()
        await client.cancel(job_id)
        await cancelled.wait()
    assert await concluded(client, job_id) == (Outcome.CANCELLED, None)
    await worker.stop(0)


async def test_a_lease_holds_over_many_of_its_lengths(url: str, client: AsyncClient) -> None:
    """A job that takes five times as long as its lease is handed out once; its progress is seen meanwhile."""
    worker = Worker(url, lease_seconds=1)

    @worker.handler("work")
    async def work(job: RunningJob) -> int:
        ends, renewals = job.lease_ends, 0
        job.progress(0.5, "at it")
        while renewals < 15:
            await asyncio.sleep(0.01)
            renewals += job.lease_ends != ends
            ends = job.lease_ends
        return job.attempts

    await worker.start()
    job_id = (await client.enqueue(None, type="work")).id

    async def told() -> bool:
        job = await client.job(job_id)
        return (job.progress, job.message) == (0.5, "at it")

    await until(told)
    assert await concluded(client, job_id) == (Outcome.SUCCEEDED, 1)
    totals = (await client.queue("default")).totals
    assert (totals.dequeued, totals.redelivered) == (1, 0)
    await worker.stop(0)


async def test_of_a_thousand_jobs_whose_handlers_fail_at_random_each_ends_once(url: str, client: AsyncClient) -> None:
    """By errors, retries, releases and discards, async and in threads: what the server says of each is what its last attempt did."""
    chance = random.Random(7)
    last: dict[str, str] = {}
    counted: Counter[str] = Counter()
    worker = Worker(url, concurrency=32)

    def fate(job: RunningJob) -> str:
        counted[job.id] += 1
        assert last.get(job.id) not in ("done", "discarded"), "a job that had ended was run again"
        match chance.randrange(8):
            case 0 | 1:
                last[job.id] = "failed"
                raise ValueError("by chance")
            case 2:
                last[job.id] = "failed"
                raise Retry("by chance")
            case 3:
                counted[job.id] -= 1
                last[job.id] = "released"
                raise Release
            case 4:
                last[job.id] = "discarded"
                raise Discard("by chance")
        last[job.id] = "done"
        return "done"

    @worker.handler("async")
    async def in_loop(job: RunningJob) -> str:
        return fate(job)

    @worker.handler("plain")
    def in_thread(job: RunningJob) -> str:
        return fate(job)

    new = [NewJob(number, type=("async", "plain")[number % 2], max_attempts=3, backoff=AT_ONCE) for number in range(1_000)]
    jobs = [job.id for job in await client.enqueue_batch(new)]  # type: ignore[union-attr]
    await worker.start()
    for job_id in jobs:
        outcome, result = await concluded(client, job_id)
        assert (outcome, result) == ((Outcome.SUCCEEDED, "done") if last[job_id] == "done" else (Outcome.FAILED, None))
    await worker.stop(5)
    found = {job.id: job async for job in client.all_jobs(limit=1_000)}
    assert {job_id: found[job_id].attempts for job_id in jobs} == dict(counted)
    totals = (await client.queue("default")).totals
    assert totals.succeeded + totals.failed == 1_000
    assert totals.succeeded == sum(end == "done" for end in last.values())
    assert (worker.counts.lost, worker.counts.succeeded) == (0, totals.succeeded)
