from __future__ import annotations

import asyncio
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest

from jobqueue import AsyncClient, BadRequest, LeaseLost, NewJob, Outcome, RunningJob, Status, Unauthorized, Worker
from jobqueue.client.problems import UnexpectedAnswer
from jobqueue.model import Verdict, Want
from jobqueue.testing import server
from jobqueue.worker.http_source import HttpSource, source_client
from jobqueue.worker.sources import Concluded, Released
from tests.client.rig import DROP, PASS, STALL, SWALLOW, Proxy, canned, proxied

from .outside import until
from .rig import PATIENCE_SECONDS

WANT = Want(limit=5, lease_seconds=30, worker="w-1")


def worker_at(url: str, **options: object) -> Worker:
    worker = Worker(url, **options)  # type: ignore[arg-type]

    @worker.handler("echo")
    async def echo(job: RunningJob) -> object:
        return [job.attempts, job.payload]

    return worker


async def result_of(client: AsyncClient, job_id: str) -> object:
    async with asyncio.timeout(PATIENCE_SECONDS):
        job = await client.job(job_id, wait=PATIENCE_SECONDS)
    assert job.outcome is Outcome.SUCCEEDED, job.error
    return job.result


def targets(proxy: Proxy) -> list[str]:
    return [seen.target for seen in proxy.seen]


async def test_a_worker_runs_over_http_as_it_does_on_a_backend(url: str) -> None:
    """Nothing but a URL in the backend's place."""
    worker = worker_at(url, queues=["a", "b"], name="w-1", unhandled_seconds=0)
    async with AsyncClient(url) as client:
        await worker.start()
        first = await client.enqueue({"a": "ä"}, type="echo", queue="b")
        assert await result_of(client, first.id) == [1, {"a": "ä"}]
        assert (await client.job(first.id)).worker == "w-1"
        failing = await client.enqueue(None, type="nothing", queue="a")
        job = await client.job(failing.id, wait=PATIENCE_SECONDS)
        assert (job.outcome, job.error["type"]) == (Outcome.FAILED, "UnknownHandler")
        await worker.stop()
        assert (await client.queue("a")).waiters == 0


async def test_many_jobs_go_over_the_wire_in_few_calls(url: str) -> None:
    """Taken and concluded in batches: less than half a call a job, where one by one would be two."""
    async with proxied(url) as proxy, AsyncClient(url) as client:
        new = [NewJob(number, type="echo") for number in range(500)]
        jobs = await client.enqueue_batch(new)
        worker = worker_at(proxy.url)
        await worker.start()
        for number, job in enumerate(jobs):
            assert await result_of(client, job.id) == [1, number]  # type: ignore[union-attr]
        await worker.stop()
    # A worker that was not run for a second, as on a busy machine, gives back what it could not start.
    calls = [target for target in targets(proxy) if not target.endswith("/release")]
    assert set(calls) == {"/batch/dequeue", "/batch/conclude"}
    assert len(calls) < 250


async def test_jobs_of_a_lost_answer_are_asked_for_again(url: str) -> None:
    """The next request has the same attempt_id, so they come at once and not when their leases end; the attempt is the first."""
    async with proxied(url, SWALLOW) as proxy, AsyncClient(url) as client:
        job = await client.enqueue("x", type="echo")
        worker = worker_at(proxy.url)
        await worker.start()
        assert await result_of(client, job.id) == [1, "x"]
        await worker.stop()
    first, second, *_ = (json.loads(seen.body)["attempt_id"] for seen in proxy.seen if seen.target == "/batch/dequeue")
    assert first == second


async def test_an_ending_whose_answer_was_lost_may_be_told_again(url: str) -> None:
    """The server answers as it did the first time."""
    async with proxied(url, PASS, SWALLOW) as proxy, AsyncClient(url) as client:
        source = HttpSource(source_client(proxy.url, None))
        await client.enqueue("x")
        (leased,) = await source.take(WANT, 20)
        ending = Concluded(leased.id, leased.token, Verdict(outcome=Outcome.SUCCEEDED, result=b"[1]"))
        with pytest.raises(ConnectionError):
            await source.conclude([ending])
        assert await source.conclude([ending]) == [None]
        assert await result_of(client, leased.id) == [1]
        await source.close()


async def test_a_cancelled_request_for_jobs_gives_back_what_it_was_answered(url: str) -> None:
    """Its answer was lost or on its way: the jobs are back at once, not when their leases end."""
    async with proxied(url, SWALLOW, STALL) as proxy, AsyncClient(url) as client:
        job = await client.enqueue("x")
        source = HttpSource(source_client(proxy.url, None))
        with pytest.raises(ConnectionError):
            await source.take(WANT, 20)
        assert (await client.job(job.id)).status is Status.IN_PROGRESS
        taking = asyncio.create_task(source.take(WANT, 20))
        await until(lambda: len(proxy.seen) == 2)
        taking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await taking
        await source.close()
        again = await client.job(job.id)
        assert (again.status, again.attempts) == (Status.QUEUED, 0)


async def test_a_worker_is_told_why_the_server_refuses_it() -> None:
    """A wrong token, a wait above the server's bound: the worker ends with the server's own words."""
    async with server(token="secret") as url:
        worker = worker_at(url, token="guess")
        await worker.start()
        assert isinstance(await worker.broken(), Unauthorized)
        await worker.stop()
    async with server(min_lease=40.0) as url:
        worker = worker_at(url, lease_seconds=30)
        await worker.start()
        error = await worker.broken()
        assert isinstance(error, BadRequest)
        assert error.field == "lease_seconds"
        await worker.stop()


async def test_a_worker_goes_on_at_another_server(url: str) -> None:
    """When the one it took its job from is gone, the lease is kept and the job concluded at the other; it is the first attempt."""
    gate, started = asyncio.Event(), asyncio.Event()
    async with proxied(url) as one, proxied(url) as two, AsyncClient(url) as client:
        worker = Worker([one.url, two.url], lease_seconds=1)

        @worker.handler("wait")
        async def wait(job: RunningJob) -> list[int]:
            started.set()
            await gate.wait()
            return [job.attempts]

        job = await client.enqueue(None, type="wait")
        await worker.start()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await started.wait()
        first, other = (one, two) if "/batch/dequeue" in targets(one) else (two, one)
        first.plan += [DROP] * 1_000
        await until(lambda: "/batch/extend" in targets(other))
        gate.set()
        assert await result_of(client, job.id) == [1]
        assert "/batch/conclude" in targets(other)
        await worker.stop()


async def test_a_worker_finds_its_server_while_the_programs_threads_are_all_busy(url: str) -> None:
    """Handlers that keep the loop's own executor full do not keep their worker from looking up a name, so from its leases."""
    loop = asyncio.get_running_loop()
    full, opened = threading.Event(), threading.Event()
    worker = worker_at(url.replace("127.0.0.1", "localhost"), lease_seconds=1)

    @worker.handler("fill")
    async def fill(job: RunningJob) -> str:
        # A new client, so that it has to look the name up.
        busy = loop.run_in_executor(None, lambda: full.set() or opened.wait(PATIENCE_SECONDS))
        await until(full.is_set)
        async with AsyncClient(str(worker.source)) as other:
            later = await other.enqueue("after", type="echo")
        assert await result_of(client, later.id) == [1, "after"]
        opened.set()
        await busy
        return "done"

    executor = ThreadPoolExecutor(1)
    loop.set_default_executor(executor)
    async with AsyncClient(url) as client:
        await worker.start()
        try:
            job = await client.enqueue(None, type="fill")
            assert await result_of(client, job.id) == "done"
        finally:
            opened.set()
            await worker.stop()
            executor.shutdown()


async def test_a_job_is_the_same_beside_plain_jobs_and_beside_others(url: str) -> None:
    """Jobs that have only the usual fields are read in a shorter way if all of an answer are so, with the same result."""
    async with AsyncClient(url) as client:
        source = HttpSource(source_client(url, None))
        await client.enqueue({"n": None}, id="plain", type="work", priority=3, max_attempts=4, description="a job")
        (alone,) = await source.take(WANT, 20)
        assert await source.release([Released(alone.id, alone.token)]) == [None]
        await client.enqueue(
            "x", id="other", key="k", tags=["a"], group=None, headers={"h": "1"}, traceparent=f"00-{'1' * 32}-{'2' * 16}-01"
        )
        both = {leased.id: leased for leased in await source.take(msgspec.structs.replace(WANT, limit=2), 20)}
        await source.close()
    assert msgspec.structs.replace(both["plain"], token=alone.token) == alone
    assert (alone.payload, alone.error, alone.max_attempts, alone.headers) == (b'{"n":null}', None, 4, {})
    other = both["other"]
    assert (other.key, other.tags, other.headers, other.traceparent) == ("k", ("a",), {"h": "1"}, f"00-{'1' * 32}-{'2' * 16}-01")


async def test_an_ending_that_is_refused_is_told_beside_those_that_are_not(url: str) -> None:
    """In order, whatever the outcomes are: without a result, with one, a failure, and one whose lease is lost."""
    async with AsyncClient(url) as client:
        source = HttpSource(source_client(url, None))
        for number in range(4):
            await client.enqueue(number)
        leased = await source.take(msgspec.structs.replace(WANT, limit=4), 20)
        verdicts = [
            Verdict(outcome=Outcome.SUCCEEDED),
            Verdict(outcome=Outcome.SUCCEEDED),
            Verdict(outcome=Outcome.SUCCEEDED, result=b"7"),
            Verdict(outcome=Outcome.FAILED, error=b'"no"', retry=False),
        ]
        items = [Concluded(one.id, one.token, verdict) for one, verdict in zip(leased, verdicts, strict=True)]
        items[1] = msgspec.structs.replace(items[1], token="x")
        replies = await source.conclude(items)
        assert [type(reply) for reply in replies] == [type(None), LeaseLost, type(None), type(None)]
        assert [str((await client.job(one.id)).outcome) for one in leased] == ["succeeded", "None", "succeeded", "failed"]
        await source.close()


async def test_an_answer_about_another_number_of_jobs_is_no_answer(url: str) -> None:
    """Such an answer does not come from this server, and says nothing about the jobs."""
    async with proxied(url, canned(200, b'{"jobs":[{"id":"a"}]}')) as proxy:
        source = HttpSource(source_client(proxy.url, None))
        with pytest.raises(UnexpectedAnswer, match="1 results for 2 items"):
            await source.conclude([Concluded(one, "t", Verdict(outcome=Outcome.SUCCEEDED)) for one in "ab"])
        await source.close()


@pytest.mark.parametrize("status", [404, 405])
async def test_a_server_without_a_batch_of_releases_is_asked_one_by_one(url: str, status: int) -> None:
    """An older server is asked for the batch once; a newer one gets all releases in one request."""
    unknown = canned(status, b'{"status":%d,"code":"not_found","detail":"nothing is here"}' % status)
    async with AsyncClient(url) as client:
        source = HttpSource(source_client(url, None))
        for number in range(3):
            await client.enqueue(number)
        leased = await source.take(msgspec.structs.replace(WANT, limit=3), 20)
        await source.close()
        async with proxied(url, unknown) as proxy:
            source = HttpSource(source_client(proxy.url, None))
            assert await source.release([Released(one.id, one.token) for one in leased[:1]]) == [None]
            (lost,) = await source.release([Released(leased[0].id, leased[0].token + "x")])
            assert isinstance(lost, LeaseLost)
            assert [target.rpartition("/")[2] for target in targets(proxy)] == ["release"] * 3
            assert targets(proxy).count("/batch/release") == 1
            await source.close()
        async with proxied(url) as proxy:
            source = HttpSource(source_client(proxy.url, None))
            assert await source.release([Released(one.id, one.token) for one in leased[1:]]) == [None, None]
            assert targets(proxy) == ["/batch/release"]
            await source.close()
