"""Calls that are made while another of their kind is under way go out together, and each has its own answer."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from jobqueue import AsyncClient, GiveBack, errors
from jobqueue.client.exchange import Answer
from jobqueue.client.problems import ConnectionFailed, UnexpectedAnswer
from jobqueue.client.sending import Request
from jobqueue.client.servers import Turn
from jobqueue.client.sync_sharing import Sharing

from .conftest import Connect
from .rig import DROP, GUARD, HOLD, PASS, SWALLOW, Face, Proxy, canned, proxied, together


def enqueues(face: Face, count: int, **fields: Any) -> list[Callable[[], Awaitable[Any]]]:
    return [lambda at=at: face.enqueue(at, id=f"j{at}", **fields) for at in range(count)]  # type: ignore[misc]


def sent(proxy: Proxy) -> list[tuple[str, int]]:
    """The path of each request, and how many jobs it is about."""
    return [(request.target, len(json.loads(request.body).get("jobs", [1]))) for request in proxy.seen]


async def test_calls_made_while_one_is_under_way_are_one_request(connect: Connect, url: str) -> None:
    """The first goes alone and at once; the others follow in one request, in their order, and each is answered its own job."""
    async with proxied(url, HOLD) as proxy:
        made = await together(face := connect(proxy.url), proxy, enqueues(face, 10))
    assert [job.id for job in made] == [f"j{at}" for at in range(10)]
    assert [job.created for job in made] == [True] * 10
    assert sent(proxy) == [("/jobs/enqueue", 1), ("/batch/enqueue", 9)]
    listed = await connect(url).all_jobs()
    assert [job.id for job in listed] == [f"j{at}" for at in reversed(range(10))]


async def test_tasks_that_call_again_and_again_share_every_request(url: str) -> None:
    """Those that were answered together call again together: after the first, which goes alone, all of them are in each request."""
    async with proxied(url) as proxy, AsyncClient(proxy.url) as client, asyncio.timeout(GUARD):

        async def some(task: int) -> None:
            for at in range(10):
                await client.enqueue(None, id=f"{task}-{at}")

        await asyncio.gather(*(some(task) for task in range(20)))
        requests = sent(proxy)
        listed = [job.id async for job in client.all_jobs()]
    assert sorted(listed) == sorted(f"{task}-{at}" for task in range(20) for at in range(10))
    # Of each task, in its order.
    assert [name for name in reversed(listed) if name.startswith("7-")] == [f"7-{at}" for at in range(10)]
    assert [count for _, count in requests] == [1, 19, *[20] * 9]


async def test_a_call_that_is_alone_goes_alone(connect: Connect, url: str) -> None:
    """One after the other, each is a request of its own."""
    async with proxied(url) as proxy:
        face = connect(proxy.url)
        for at in range(3):
            await face.enqueue(at)
    assert [path for path, _ in sent(proxy)] == ["/jobs/enqueue"] * 3


async def test_one_that_waits_by_itself_goes_by_itself(connect: Connect, url: str) -> None:
    """A batch of one would only be larger."""
    async with proxied(url, HOLD) as proxy:
        await together(face := connect(proxy.url), proxy, enqueues(face, 2))
    assert [path for path, _ in sent(proxy)] == ["/jobs/enqueue"] * 2


async def test_sharing_can_be_turned_off(connect: Connect, url: str) -> None:
    """With sharing=False each call is a request, however many are under way."""
    async with proxied(url, HOLD) as proxy:
        face = connect(proxy.url, sharing=False)
        proxy.stalled.set()
        await asyncio.gather(*(call() for call in enqueues(face, 5)))
    assert [path for path, _ in sent(proxy)] == ["/jobs/enqueue"] * 5


async def test_one_bad_item_harms_no_other(connect: Connect, url: str) -> None:
    """It raises what it would have raised alone: the same class, code, field and words."""
    async with proxied(url, HOLD) as proxy:
        face = connect(proxy.url)
        calls = enqueues(face, 5)
        calls[2] = lambda: face.enqueue(1, id="bad", priority=12)
        calls[4] = lambda: face.enqueue("other", id="j1")
        made = await together(face, proxy, calls)
    assert [getattr(job, "id", None) for job in made] == ["j0", "j1", None, "j3", None]
    with pytest.raises(errors.BadRequest) as alone:
        await connect(url).enqueue(1, id="bad", priority=12)
    assert isinstance(made[2], errors.BadRequest)
    assert (made[2].field, str(made[2])) == (alone.value.field, str(alone.value))
    assert isinstance(made[4], errors.IdConflict)


async def test_concludes_and_extends_share_too(connect: Connect, url: str) -> None:
    """Each with the id of its own job, whatever characters that has, and a lease that is lost is that one's alone."""
    direct = connect(url)
    ids = ["a", "b/c", 'd"e', "fé", "g"]
    for job_id in ids:
        await direct.enqueue(1, id=job_id)
    leased = await direct.dequeue_batch(limit=5)
    async with proxied(url, HOLD) as proxy:
        face = connect(proxy.url)
        calls = [lambda job=job: face.extend(job.id, job.lease.token, progress=0.5) for job in leased]
        extended = await together(face, proxy, calls)
    assert [one.id for one in extended] == ids
    assert [(await direct.job(job_id)).progress for job_id in ids] == [0.5] * 5
    assert sent(proxy)[1] == ("/batch/extend", 4)
    async with proxied(url, HOLD) as proxy:
        face = connect(proxy.url)
        ends = [lambda job=job: face.conclude(job.id, job.lease.token, "succeeded", result=job.id) for job in leased]
        ends[3] = lambda: face.conclude(ids[3], "no such lease", "succeeded")
        concluded = await together(face, proxy, ends)
    assert isinstance(concluded.pop(3), errors.LeaseLost)
    assert [one.id for one in concluded] == [ids[0], ids[1], ids[2], ids[4]]
    assert sent(proxy)[1] == ("/batch/conclude", 4)
    assert [(await direct.job(job_id)).result for job_id in ids] == [*ids[:3], None, ids[4]]


async def test_releases_share_too(connect: Connect, url: str) -> None:
    """Each with its own delay; a lease that is lost is that one's alone."""
    direct = connect(url)
    ids = ["a", "b/c", "d", "e"]
    for job_id in ids:
        await direct.enqueue(1, id=job_id)
    leased = await direct.dequeue_batch(limit=4)
    async with proxied(url, HOLD) as proxy:
        face = connect(proxy.url)
        calls = [lambda at=at, job=job: face.release(job.id, job.lease.token, delay=at * 1_000.0) for at, job in enumerate(leased)]
        calls[2] = lambda: face.release("d", "no such lease")
        released = await together(face, proxy, calls)
    assert isinstance(released.pop(2), errors.LeaseLost)
    assert [(one.id, str(one.status)) for one in released] == [("a", "queued"), ("b/c", "scheduled"), ("e", "scheduled")]
    assert released[1].run_at < released[2].run_at
    assert sent(proxy)[1] == ("/batch/release", 3)
    assert [str((await direct.job(job_id)).status) for job_id in ids] == ["queued", "scheduled", "in_progress", "scheduled"]


async def test_jobs_are_given_back_in_a_batch(api: Face) -> None:
    """Each item is answered as a release is, or has the error that a release would have raised."""
    for job_id in ("a", "b"):
        await api.enqueue(1, id=job_id)
    first, second = await api.dequeue_batch(limit=2)
    made = await api.release_batch(
        [GiveBack(first.id, first.lease.token), GiveBack("none", "x"), GiveBack(second.id, second.lease.token, delay=60)]
    )
    assert isinstance(made[1], errors.UnknownJob)
    assert [(one.id, str(one.status), one.attempts) for one in (made[0], made[2])] == [("a", "queued", 0), ("b", "scheduled", 0)]
    with pytest.raises(errors.BadRequest, match="delay"):
        GiveBack("a", "b", delay=float("nan"))


@pytest.mark.parametrize("status", [404, 405])
async def test_a_server_that_has_no_such_batch_is_asked_one_by_one(connect: Connect, url: str, status: int) -> None:
    """An older one: each call goes out alone, and from then on nobody waits for company there."""
    direct = connect(url)
    for at in range(6):
        await direct.enqueue(at)
    leased = await direct.dequeue_batch(limit=6)
    unknown = canned(status, b'{"status":%d,"code":"not_found","detail":"nothing is here"}' % status)
    async with proxied(url, HOLD, unknown) as proxy, asyncio.timeout(GUARD):
        face = connect(proxy.url)
        calls = [lambda job=job: face.release(job.id, job.lease.token) for job in leased]
        released = await together(face, proxy, calls[:3])
        assert [str(one.status) for one in released] == ["queued"] * 3
        proxy.stalled.clear()
        proxy.kept.clear()
        proxy.plan += [HOLD]
        first = asyncio.ensure_future(calls[3]())
        await proxy.kept.wait()
        await asyncio.gather(calls[4](), calls[5]())
        proxy.stalled.set()
        await first
    assert [path for path, _ in sent(proxy) if path.startswith("/batch")] == ["/batch/release"]


async def test_kinds_do_not_wait_for_each_other(connect: Connect, url: str) -> None:
    """While an enqueue is under way, a conclude goes at once."""
    direct = connect(url)
    await direct.enqueue(1)
    job = await direct.dequeue()
    async with proxied(url, HOLD) as proxy, asyncio.timeout(GUARD):
        face = connect(proxy.url)
        enqueued = asyncio.ensure_future(face.enqueue(2))
        await proxy.kept.wait()
        await face.conclude(job.id, job.lease.token, "succeeded")
        proxy.stalled.set()
        await enqueued


@pytest.mark.parametrize("lost", [DROP, SWALLOW])
async def test_a_lost_answer_is_each_ones_to_ask_for_again(connect: Connect, url: str, lost: str) -> None:
    """Each is sent again under its id, so all are in once, and each is answered that it made its job."""
    async with proxied(url, HOLD, lost) as proxy:
        face = connect(proxy.url)
        made = await together(face, proxy, [lambda at=at: face.enqueue(at) for at in range(6)])
    assert [job.created for job in made] == [True] * 6
    assert len({job.id for job in made}) == 6
    assert sorted(job.id for job in await connect(url).all_jobs()) == sorted(job.id for job in made)


async def test_an_answer_that_never_comes_says_of_which_job(connect: Connect, url: str) -> None:
    """After the last try each call raises that its own job may have been made, and no other."""
    async with proxied(url, HOLD, *[SWALLOW] * 100) as proxy:
        face = connect(proxy.url)
        made = await together(face, proxy, enqueues(face, 4))
    assert made[0].id == "j0"
    assert [error.ids for error in made[1:]] == [("j1",), ("j2",), ("j3",)]
    assert all(isinstance(error, errors.Unconfirmed) for error in made[1:])


@pytest.mark.parametrize("status", [400, 413])
async def test_a_batch_that_is_refused_goes_out_one_by_one(connect: Connect, url: str, status: int) -> None:
    """Nobody is told that a batch was too large which nobody asked for; and the next ones are smaller."""
    refused = canned(status, b'{"status":%d,"code":"too_large","detail":"too large"}' % status)
    async with proxied(url, HOLD, refused) as proxy:
        face = connect(proxy.url)
        made = await together(face, proxy, enqueues(face, 5))
        assert [job.id for job in made] == [f"j{at}" for at in range(5)]
        assert [path for path, _ in sent(proxy)] == ["/jobs/enqueue", "/batch/enqueue", *["/jobs/enqueue"] * 4]
        proxy.seen.clear()
        proxy.kept.clear()
        proxy.stalled.clear()
        proxy.plan.append(HOLD)
        await together(face, proxy, [lambda at=at: face.enqueue(at) for at in range(7)])
    assert [count for path, count in sent(proxy) if path == "/batch/enqueue"] == [2, 2, 2]


async def test_a_full_server_is_asked_again_by_each(connect: Connect, url: str) -> None:
    """429 to the batch is 429 to each of its calls, with its Retry-After."""
    full = canned(429, b'{"status":429,"code":"queue_full","detail":"full"}', "Retry-After: 2")
    async with proxied(url, HOLD, full) as proxy:
        face = connect(proxy.url)
        made = await together(face, proxy, enqueues(face, 4))
    assert [job.id for job in made] == [f"j{at}" for at in range(4)]
    assert len(face.pauses) == 3
    assert all(seconds >= 2 for seconds in face.pauses)


async def test_a_batch_answer_that_cannot_be_read_is_an_unexpected_answer(connect: Connect, url: str) -> None:
    """One with too few items, that is no JSON, or that is nested too deeply to be read says nothing about any of them."""
    for body in (b'{"jobs":[]}', b"<html>", b'{"x":' + b"[" * 200_000):
        async with proxied(url, HOLD, *[canned(200, body)] * 3) as proxy:
            face = connect(proxy.url)
            made = await together(face, proxy, enqueues(face, 3))
        assert all(isinstance(error, UnexpectedAnswer) for error in made[1:])


async def test_large_bodies_are_not_put_together(connect: Connect, url: str) -> None:
    """What would be a request of more than half a megabyte goes out in several."""
    async with proxied(url, HOLD) as proxy:
        face = connect(proxy.url)
        made = await together(face, proxy, [lambda at=at: face.enqueue("x" * 200_000, id=f"j{at}") for at in range(6)])
    assert [job.id for job in made] == [f"j{at}" for at in range(6)]
    assert max(len(request.body) for request in proxy.seen) < 1 << 19


async def test_what_cannot_be_sent_is_refused_before_it_waits(connect: Connect, url: str) -> None:
    """A payload that is no JSON never joins the others."""
    async with proxied(url, HOLD) as proxy:
        face = connect(proxy.url)
        calls = enqueues(face, 3)
        made = asyncio.ensure_future(together(face, proxy, calls))
        with pytest.raises(errors.BadRequest, match="payload"):
            await face.enqueue(object())
        assert all(job.created for job in await made)


async def test_a_call_that_is_cancelled_while_it_waits_is_not_sent(url: str) -> None:
    """Its place in the request is nobody's."""
    async with proxied(url, HOLD) as proxy, AsyncClient(proxy.url) as client, asyncio.timeout(GUARD):
        tasks = [asyncio.create_task(client.enqueue(at, id=f"j{at}")) for at in range(4)]
        await proxy.kept.wait()
        tasks[2].cancel()
        await asyncio.wait([tasks[2]])
        proxy.stalled.set()
        await asyncio.gather(tasks[0], tasks[1], tasks[3])
        assert [job.id async for job in client.all_jobs()] == ["j3", "j1", "j0"]


async def test_whoever_is_cancelled_lets_the_others_go_on(url: str) -> None:
    """The first call's end, whatever it is, sends those that wait for it."""
    async with proxied(url, HOLD, PASS) as proxy, AsyncClient(proxy.url) as client, asyncio.timeout(GUARD):
        tasks = [asyncio.create_task(client.enqueue(at, id=f"j{at}")) for at in range(4)]
        await proxy.kept.wait()
        tasks[0].cancel()
        assert [job.id for job in await asyncio.gather(*tasks[1:])] == ["j1", "j2", "j3"]


async def test_closing_the_client_ends_those_that_wait(url: str) -> None:
    """None hangs: each raises that there was no answer, or that the client is closed."""
    async with proxied(url, HOLD) as proxy, asyncio.timeout(GUARD):
        client = AsyncClient(proxy.url)
        tasks = [asyncio.create_task(client.enqueue(at)) for at in range(4)]
        await proxy.kept.wait()
        await client.close()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(end, ConnectionFailed | RuntimeError) for end in ends), ends


class Fake:
    """What a `Sharing` of threads sends by. Each exchange is noted, and waits until it is let through; then it does as it is told."""

    def __init__(self) -> None:
        self.sent: list[Request] = []
        self.begun = threading.Semaphore(0)
        self.through = threading.Semaphore(0)
        self.raising: list[BaseException | None] = []

    def __call__(self, request: Request, turn: Turn) -> Answer:
        self.sent.append(request)
        error = self.raising.pop(0) if self.raising else None
        self.begun.release()
        assert self.through.acquire(timeout=GUARD)
        if error is not None:
            raise error
        return Answer(200, {}, request.body or b"")


REQUEST = Request("POST", "/jobs/enqueue", b'{"id":"a"}', 0.0, "/batch/enqueue")


def in_threads(sharing: Sharing, fake: Fake, count: int, seconds: float = GUARD) -> list[Any]:
    """What calls come to of which the first is under way before the others come."""
    ends: list[Any] = [None] * count

    def call(at: int) -> None:
        try:
            ends[at] = sharing.exchange(REQUEST, Turn(0, "", seconds, seconds)).body
        except BaseException as error:
            ends[at] = error

    threads = [threading.Thread(target=call, args=(at,)) for at in range(count)]
    threads[0].start()
    assert fake.begun.acquire(timeout=GUARD)
    for at, thread in enumerate(threads[1:], 1):
        thread.start()
        while sum(len(line.waiting) for line in sharing._lines.values()) < at:
            threading.Event().wait(0)
    fake.through.release(count + 1)
    for thread in threads:
        thread.join(GUARD)
        assert not thread.is_alive()
    return ends


def test_threads_go_on_when_the_first_is_interrupted() -> None:
    """Ctrl-C ends one call; those that waited for it are sent."""
    fake = Fake()
    fake.raising = [KeyboardInterrupt()]
    ends = in_threads(Sharing(fake), fake, 4)
    assert isinstance(ends[0], KeyboardInterrupt)
    assert ends[1:] == [b'{"id":"a"}'] * 3
    assert len(fake.sent) == 2


def test_threads_are_told_when_the_one_that_sent_for_them_is_interrupted() -> None:
    """They cannot know what became of it: each may be sent again, as after a lost answer."""
    fake = Fake()
    fake.raising = [None, KeyboardInterrupt()]
    ends = in_threads(Sharing(fake), fake, 4)
    assert ends[0] == b'{"id":"a"}'
    assert sum(isinstance(end, KeyboardInterrupt) for end in ends) == 1
    failed = [end for end in ends if isinstance(end, ConnectionFailed)]
    assert len(failed) == 2
    assert all(error.sent for error in failed)
    assert len({id(error) for error in failed}) == 2


def test_a_thread_that_nobody_lets_go_on_goes_by_itself() -> None:
    """Whatever a signal broke off, a call waits no longer than an answer may take, and those after it do not wait."""
    fake = Fake()
    sharing = Sharing(fake)
    fake.through.release(3)
    sharing.exchange(REQUEST, Turn(0, "", GUARD, GUARD))
    next(iter(sharing._lines.values())).busy = True
    assert sharing.exchange(REQUEST, Turn(0, "", 0.001, 0.001)).status == 200
    assert sharing.exchange(REQUEST, Turn(0, "", GUARD, GUARD)).status == 200
    assert len(fake.sent) == 3


_FORKED = """
import os, sys, threading
from jobqueue import Client
client = Client(sys.argv[1])
thread = threading.Thread(target=client.enqueue, args=("held",), daemon=True)
thread.start()
assert sys.stdin.readline() == "held\\n"
child = os.fork()
if child == 0:
    client.enqueue("forked")
    os._exit(0)
print(os.waitpid(child, 0)[1], flush=True)
thread.join()
"""


async def test_a_forked_process_waits_for_nobody_of_its_parent(url: str) -> None:
    """A thread of the parent has a request under way at the fork; the child's call goes at once."""
    async with proxied(url, HOLD) as proxy, asyncio.timeout(GUARD * 3):
        script = await asyncio.create_subprocess_exec(
            sys.executable, "-W", "ignore", "-c", _FORKED, proxy.url, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        assert script.stdin is not None
        assert script.stdout is not None
        await proxy.kept.wait()
        script.stdin.write(b"held\n")
        assert await script.stdout.readline() == b"0\n"
        proxy.stalled.set()
        assert await script.wait() == 0
