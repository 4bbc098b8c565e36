"""What is sent again, when, and how often, through a proxy that loses requests and answers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import pickle
import threading
from collections.abc import Iterable
from typing import Any

import pytest

import jobqueue
from jobqueue import AsyncClient, Client, Conclude, Extend, NewJob, Retrying, Status
from jobqueue.client import async_transport, calls
from jobqueue.client.problems import Answer, ConnectionFailed, failure
from jobqueue.client.retrying import Hold, Step, carried_through, given_back, result_of
from jobqueue.client.sending import Call, Request
from jobqueue.client.servers import Servers
from jobqueue.testing import server, server_in_thread

from .conftest import Connect
from .rig import DROP, GUARD, KEEP, STALL, SWALLOW, Face, canned, proxied

FULL = b'{"type":"urn","title":"t","status":429,"code":"queue_full","detail":"the queue is full"}'
DRAINING = b'{"type":"urn","title":"t","status":503,"code":"draining","detail":"shutting down"}'


async def test_an_enqueue_whose_answer_was_lost_is_sent_again_under_its_id(connect: Connect, url: str) -> None:
    """The job is in once, and created is True since the id was the client's own."""
    async with proxied(url, DROP, SWALLOW, SWALLOW) as proxy:
        made = await connect(proxy.url).enqueue({"a": 1})
    assert made.created
    assert len({request.body for request in proxy.seen}) == 1
    assert len(proxy.seen) == 4
    listed = await connect(url).all_jobs()
    assert [job.id for job in listed] == [made.id]


async def test_an_enqueue_repeated_under_the_callers_id_says_what_the_server_says(connect: Connect, url: str) -> None:
    """Who brought the job in cannot be known, so created is False and no error is raised."""
    async with proxied(url, SWALLOW) as proxy:
        made = await connect(proxy.url).enqueue(1, id="mine")
    assert (made.id, made.created) == ("mine", False)


async def test_a_batch_of_enqueues_is_sent_again_under_its_ids(connect: Connect, url: str) -> None:
    """Every job is in once; created is known for those whose id the client made."""
    async with proxied(url, SWALLOW) as proxy:
        made = await connect(proxy.url).enqueue_batch([NewJob(1), NewJob(2, id="mine")])
    assert [item.created for item in made] == [True, False]
    assert len(await connect(url).all_jobs()) == 2


async def test_a_dequeue_whose_answer_was_lost_is_sent_again_under_its_attempt_id(connect: Connect, url: str) -> None:
    """The same job comes with the same lease, and no second one is taken."""
    direct = connect(url)
    await direct.enqueue_batch([NewJob(1), NewJob(2), NewJob(3)])
    async with proxied(url, SWALLOW, "pass", DROP, SWALLOW) as proxy:
        api = connect(proxy.url)
        job = await api.dequeue(worker="w")
        rest = await api.dequeue_batch(limit=1)
    assert [job.payload, *(job.payload for job in rest)] == [1, 2]
    attempts = [json.loads(request.body)["attempt_id"] for request in proxy.seen]
    assert attempts[0] == attempts[1] != attempts[2] == attempts[3] == attempts[4]
    assert (await direct.queue("default")).queued == 1
    assert (await direct.conclude(job.id, job.lease.token, "succeeded")).status is Status.CONCLUDED


async def test_a_dequeue_that_is_cut_while_it_is_held_goes_on(connect: Connect, url: str) -> None:
    """The second request asks for no more than what is left of the wait, and is handed the job."""
    async with proxied(url, STALL) as proxy:
        api, direct = connect(proxy.url), connect(url)
        waiting = asyncio.ensure_future(api.dequeue("q", wait=50))
        while not proxy.seen:
            await direct.queues()
        proxy.stalled.set()
        await direct.enqueue(7, queue="q")
        assert (await waiting).payload == 7
    first, second = (json.loads(request.body)["wait"] for request in proxy.seen)
    assert (first, second < first, second > 0) == (50, True, True)


@pytest.mark.parametrize("lost", [DROP, SWALLOW])
async def test_what_a_worker_says_is_sent_again(connect: Connect, url: str, lost: str) -> None:
    """Extend, release and conclude are fenced by the lease, so a repeat can reach nothing else."""
    direct = connect(url)
    await direct.enqueue_batch([NewJob(1), NewJob(2)])
    one, two = await direct.dequeue_batch(limit=2)
    async with proxied(url, *([lost, "pass"] * 4)) as proxy:
        api = connect(proxy.url)
        await api.extend(one.id, one.lease.token, progress=1)
        assert len(await api.extend_batch([Extend(one.id, one.lease.token), Extend(two.id, two.lease.token)])) == 2
        done = await api.conclude(one.id, one.lease.token, "succeeded", result=[1])
        (same,) = await api.conclude_batch([Conclude(two.id, two.lease.token, "succeeded")])
    assert done.outcome == same.outcome == "succeeded"
    assert len(proxy.seen) == 8


async def test_a_release_sent_again_may_find_the_lease_gone(connect: Connect, url: str) -> None:
    """As its docstring says: the job was given back by the first try."""
    direct = connect(url)
    made = await direct.enqueue(1)
    job = await direct.dequeue()
    async with proxied(url, SWALLOW) as proxy:
        with pytest.raises(jobqueue.LeaseLost):
            await connect(proxy.url).release(job.id, job.lease.token)
    assert (await direct.job(made.id)).status is Status.QUEUED


@pytest.mark.parametrize("operation", ["cancel", "retry", "purge", "retry_failed", "healthy", "ready"])
async def test_what_is_not_idempotent_is_sent_once(connect: Connect, url: str, operation: str) -> None:
    """A lost answer is told to the caller, who alone can know whether a repeat does harm."""
    async with proxied(url, SWALLOW) as proxy:
        api = connect(proxy.url)
        if operation in ("healthy", "ready"):
            assert await getattr(api, operation)() is False
        else:
            with pytest.raises(jobqueue.ConnectionFailed):
                await getattr(api, operation)("x")
        assert api.pauses == []
    assert len(proxy.seen) == 1


@pytest.mark.parametrize("operation", ["queue", "queues", "jobs", "job", "put_queue", "pause", "resume", "metrics", "openapi"])
async def test_what_reads_or_sets_is_sent_again(connect: Connect, url: str, operation: str) -> None:
    """Reading, and setting what is set already, can be repeated."""
    direct = connect(url)
    await direct.enqueue(1, id="x", queue="x")
    async with proxied(url, SWALLOW) as proxy:
        await getattr(connect(proxy.url), operation)(*([] if operation in ("queues", "jobs", "metrics", "openapi") else ["x"]))
    assert len(proxy.seen) == 2


async def test_a_queue_whose_deletion_was_not_told_is_unknown_the_second_time(connect: Connect, url: str) -> None:
    """As its docstring says."""
    await connect(url).put_queue("q")
    async with proxied(url, SWALLOW) as proxy:
        with pytest.raises(jobqueue.UnknownQueue):
            await connect(proxy.url).delete_queue("q")


async def test_pauses_grow_and_end(connect: Connect, url: str) -> None:
    """Before try n + 1 the client pauses up to base * 2 ** (n - 1) seconds, and gives up after the last try."""
    async with proxied(url, *[DROP] * 9) as proxy:
        api = connect(proxy.url, retrying=Retrying(tries=5, base=0.5, cap=1.5, random=lambda: 1.0))
        with pytest.raises(jobqueue.ConnectionFailed, match="/queues"):
            await api.queues()
        assert api.pauses == [0.5, 1.0, 1.5, 1.5]
        once = connect(proxy.url, retrying=Retrying(tries=1))
        with pytest.raises(jobqueue.ConnectionFailed):
            await once.queues()
        assert once.pauses == []
    assert len(proxy.seen) == 6


@pytest.mark.parametrize(("status", "body", "kind"), [(429, FULL, jobqueue.QueueFull), (503, DRAINING, jobqueue.Draining)])
async def test_retry_after_is_waited_for(connect: Connect, url: str, status: int, body: bytes, kind: type[Exception]) -> None:
    """The seconds of Retry-After pass before the next try, with jitter on top; after the last try the error is raised."""
    busy = canned(status, body, "Retry-After: 3")
    async with proxied(url, busy, "pass", *[busy] * 9) as proxy:
        api = connect(proxy.url, retrying=Retrying(tries=2, base=0.5, random=lambda: 0.5))
        assert (await api.enqueue(1)).created
        assert api.pauses == [3.25]
        with pytest.raises(kind) as raised:
            await api.enqueue(2)
    assert raised.value.retry_after == 3
    assert len(proxy.seen) == 4


async def test_a_long_retry_after_is_the_callers_to_wait_for(connect: Connect, url: str) -> None:
    """What asks for more than cap is raised at once, with its seconds; without the header it is 1."""
    async with proxied(url, canned(429, FULL, "Retry-After: 11"), canned(429, FULL)) as proxy:
        api = connect(proxy.url, retrying=Retrying(cap=10, random=lambda: 0.0))
        with pytest.raises(jobqueue.QueueFull) as raised:
            await api.enqueue(1)
        assert (raised.value.retry_after, api.pauses) == (11, [])
        await api.enqueue(1)
        assert api.pauses == [1.0]


@pytest.mark.parametrize("status", [502, 503, 504])
async def test_a_proxy_that_cannot_reach_the_server_is_asked_again(connect: Connect, url: str, status: int) -> None:
    """Answers of something in between, without a problem, count like a lost connection."""
    async with proxied(url, canned(status, b"<html>oops</html>")) as proxy:
        assert (await connect(proxy.url).enqueue(1)).created
    assert len(proxy.seen) == 2


async def test_an_error_of_the_callers_is_not_sent_again(connect: Connect, url: str) -> None:
    """A repeat as it is would fail again."""
    async with proxied(url) as proxy:
        with pytest.raises(jobqueue.BadRequest):
            await connect(proxy.url).enqueue(1, priority=10)
    assert len(proxy.seen) == 1


@pytest.mark.parametrize("fields", [{"tries": 0}, {"base": -1}, {"cap": math.inf}, {"base": math.nan}])
def test_a_way_of_retrying_that_makes_no_sense_is_refused(fields: dict[str, float]) -> None:
    """By name."""
    with pytest.raises(ValueError, match=f"^{next(iter(fields))}: "):
        Retrying(**fields)  # type: ignore[arg-type]


async def test_health_is_no_behind_a_proxy_that_cannot_reach_the_server(connect: Connect, url: str) -> None:
    """What a proxy says for a server that is away is a no; what says that the URL is wrong is raised."""
    async with proxied(url, canned(502), canned(503, DRAINING), canned(504), canned(404, b"nothing here")) as proxy:
        api = connect(proxy.url)
        assert [await api.healthy(), await api.ready(), await api.ready()] == [False] * 3
        with pytest.raises(jobqueue.UnexpectedAnswer):
            await api.ready()


ALONE = Servers(["http://a"], 10.0, lambda: 0.0, lambda: 0.0)
"""The one server of a client that has no other."""

# Long waits: the steps by themselves, with a clock of their own.


def request_of(step: Step) -> Request:
    """The request that is to be sent next."""
    assert not isinstance(step, float)
    return step[0]


class Clock:
    """Advances by what each request was held, and by pauses."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def play(call: Call[Any], answers: Iterable[Answer | Exception], hold: float = 55.0) -> tuple[Any, list[float]]:
    """Carry a call through with these answers, each after the whole time it was held, a refusal at once.

    Returns the result, and all waits and (negative) pauses.
    """
    clock = Clock()
    steps = carried_through(call, Retrying(clock=clock, random=lambda: 1.0, base=1.0), Hold(hold), ALONE)
    left = iter(answers)
    done: list[float] = []
    try:
        step = next(steps)
        while True:
            if isinstance(step, float):
                clock.now += step
                done.append(-step)
                step = next(steps)
                continue
            request, _ = step
            done.append(request.wait)
            answer = next(left)
            if isinstance(answer, Exception) or answer.status < 400:
                clock.now += request.wait
            step = steps.throw(answer) if isinstance(answer, Exception) else steps.send(answer)
    except StopIteration as end:
        return end.value, done


NONE = Answer(204, {}, b"")
LEASED = Answer(
    200,
    {},
    b'{"id":"a","number":1,"queue":"q","type":null,"description":null,"priority":5,"attempts":1,"created_at":"2026-11-22T07:30:20.786Z",'
    b'"lease":{"token":"t","expires_at":"2026-11-22T07:31:20.834Z"},"error":null,"payload":7}',
)


def asking(wait: float) -> Call[jobqueue.LeasedJob | None]:
    return calls.dequeue("q", wait, None, None, None, None)


def test_a_wait_within_the_cap_is_one_request() -> None:
    """The whole wait is asked for at once, and an empty answer ends it, even an early one."""
    assert play(asking(20), [NONE]) == (None, [20])
    assert play(asking(0), [NONE]) == (None, [0])
    assert play(asking(55), [NONE]) == (None, [55])


def test_a_wait_beyond_the_cap_is_several_requests() -> None:
    """They add up to the wait, each within the cap, all under one attempt_id, until a job comes."""
    assert play(asking(130), [NONE, NONE, NONE]) == (None, [55, 55, 20])
    assert play(asking(130), [NONE] * 5, hold=30) == (None, [30, 30, 30, 30, 10])
    job, waits = play(asking(math.inf), [NONE] * 30 + [LEASED])
    assert (job.payload, waits) == (7, [55] * 31)
    call = asking(130)
    assert json.loads(call.make(55).body or b"")["attempt_id"] == json.loads(call.make(20).body or b"")["attempt_id"]


def test_a_lost_connection_does_not_make_a_wait_longer() -> None:
    """What has passed is taken off what is asked for next."""
    lost = ConnectionFailed("gone")
    assert play(asking(100), [NONE, lost, NONE]) == (None, [55, 45, -1.0, 0])
    assert play(asking(20), [lost, lost, NONE]) == (None, [20, -1.0, 0, -2.0, 0])


def test_a_server_that_shuts_down_is_not_asked_in_a_whirl() -> None:
    """An empty answer with Retry-After is heeded before the wait goes on."""
    early = Answer(204, {"retry-after": "5"}, b"")
    assert play(asking(100), [early, NONE]) == (None, [55, -5.0, 40])


def test_waiting_for_a_result_counts_from_the_enqueue_on() -> None:
    """The enqueue's own time is part of the wait."""
    clock = Clock()
    steps = result_of(NewJob(1, id="a"), 60, Retrying(clock=clock), Hold(55), ALONE)
    assert request_of(next(steps)).wait == 0
    clock.now += 20
    step = request_of(
        steps.send(
            Answer(
                201,
                {},
                b'{"id":"a","queue":"q","type":null,"priority":5,"status":"queued","created_at":"2026-11-22T07:30:20.786Z","run_at":null,'
                b'"expires_at":null,"created":true}',
            )
        )
    )
    assert (step.method, step.target, step.wait) == ("GET", "/jobs/a?wait=40.0", 40)


@pytest.mark.parametrize("wait", [-1, -0.001, math.nan, -math.inf])
def test_a_wait_that_is_none_is_refused(wait: float) -> None:
    """Before anything is sent."""
    with pytest.raises(jobqueue.BadRequest, match="wait"):
        asking(wait)
    with pytest.raises(jobqueue.BadRequest, match="wait"):
        next(result_of(NewJob(1), wait, Retrying(), Hold(55), ALONE))


# A server that holds no request for so long.


def too_long(cap: float) -> Answer:
    detail = f"wait: 55 is out of range; 0 to {cap:g} seconds is allowed"
    return Answer(400, {}, json.dumps({"status": 400, "code": "bad_request", "detail": detail, "field": "wait", "max": cap}).encode())


def test_a_wait_is_split_by_what_the_server_allows() -> None:
    """The answer that refuses a wait says which would do; the call goes on with that, and so does the next one."""
    assert play(asking(50), [too_long(20), NONE, NONE, NONE]) == (None, [50, 20, 20, 10])
    assert play(asking(130), [too_long(0.5), LEASED])[1] == [55, 0.5]
    hold = Hold(55)
    assert hold.learn(failure(too_long(20)), 55)
    assert hold.seconds == 20


def test_a_refused_wait_is_not_asked_for_without_end() -> None:
    """One that allows nothing, or refuses what it said it allows, is an error."""
    for cap in (0, -1, 50, 60):
        with pytest.raises(jobqueue.BadRequest, match="wait"):
            play(asking(50), [too_long(cap)])
    with pytest.raises(jobqueue.BadRequest, match="wait"):
        play(asking(50), [too_long(20), too_long(20)])


async def test_a_wait_beyond_the_servers_bound_is_waited_for(connect: Connect) -> None:
    """Of dequeue, job and enqueue alike, and the second time it is known."""
    async with server(max_wait=0.2, default_wait=0.1) as url, proxied(url) as proxy:
        api = connect(proxy.url)
        assert await api.dequeue(wait=0.3) is None
        waits = [json.loads(request.body)["wait"] for request in proxy.seen]
        assert waits[0] == 0.3
        assert max(waits[1:]) == 0.2
        assert await api.dequeue(wait=0.3) is None
        assert max(json.loads(request.body)["wait"] for request in proxy.seen[len(waits) :]) == 0.2
        with pytest.raises(jobqueue.WaitTimeout) as raised:
            await connect(url).enqueue(1, wait=0.3)
        assert (await api.job(raised.value.job_id)).status is Status.QUEUED


async def test_an_error_while_waiting_for_a_result_names_the_job(connect: Connect, url: str) -> None:
    """The job is in, whatever becomes of the wait."""
    async with proxied(url, "pass", *[DROP] * 5) as proxy:
        with pytest.raises(jobqueue.ConnectionFailed, match="was enqueued and continues") as raised:
            await connect(proxy.url).enqueue(1, wait=5)
    assert (await connect(url).job(raised.value.job_id)).status is Status.QUEUED


# What may have been done.


@pytest.mark.parametrize("operation", ["cancel", "retry", "purge", "retry_failed", "delete_queue"])
async def test_a_change_whose_answer_was_lost_is_unconfirmed(connect: Connect, url: str, operation: str) -> None:
    """Also where a later try was refused; and not where no try can have reached the server, nor for what changes nothing."""
    async with proxied(url, *[SWALLOW] * 9) as proxy:
        with pytest.raises(jobqueue.Unconfirmed) as raised:
            await getattr(connect(proxy.url), operation)("x")
        assert isinstance(raised.value, jobqueue.ConnectionFailed)
        assert raised.value.code == "connection_failed"
    with pytest.raises(jobqueue.ConnectionFailed) as raised:
        await getattr(connect("http://127.0.0.1:1"), operation)("x")
    assert not isinstance(raised.value, jobqueue.Unconfirmed)
    for answer in (canned(504), canned(200, b"<html>")):
        async with proxied(url, *[answer] * 5) as proxy:
            with pytest.raises(jobqueue.Unconfirmed) as raised:
                await getattr(connect(proxy.url), operation)("x")
            assert isinstance(raised.value, jobqueue.UnexpectedAnswer)
            with pytest.raises(jobqueue.QueueError) as raised:
                await connect(proxy.url).queue("x")
            assert not isinstance(raised.value, jobqueue.Unconfirmed)


async def test_an_unconfirmed_enqueue_names_the_ids_to_repeat_it_with(connect: Connect, url: str) -> None:
    """Under them it brings the jobs in once."""
    async with proxied(url, *[SWALLOW] * 10) as proxy:
        api, direct = connect(proxy.url), connect(url)
        with pytest.raises(jobqueue.Unconfirmed) as raised:
            await api.enqueue(1)
        (job_id,) = raised.value.ids
        assert not (await direct.enqueue(1, id=job_id)).created
        with pytest.raises(jobqueue.Unconfirmed) as raised:
            await api.enqueue_batch([NewJob(1, id="mine"), NewJob(2)])
        assert raised.value.ids[0] == "mine"
        assert [item.created for item in await direct.enqueue_batch([NewJob(n + 1, id=id) for n, id in enumerate(raised.value.ids)])] == [
            False
        ] * 2
        assert pickle.loads(pickle.dumps(raised.value)).ids == raised.value.ids


def test_a_try_that_was_carried_out_is_remembered() -> None:
    """When the last one finds nobody."""
    lost, refused = ConnectionFailed("gone"), ConnectionFailed("refused")
    refused.sent = False
    with pytest.raises(jobqueue.AnswerLost, match="refused"):
        play(calls.enqueue(NewJob(1)), [lost, *[refused] * 4])
    with pytest.raises(jobqueue.ConnectionFailed) as raised:
        play(calls.enqueue(NewJob(1)), [refused] * 5)
    assert type(raised.value) is jobqueue.ConnectionFailed


def test_pauses_stay_below_their_cap_for_ever() -> None:
    """However often it failed."""
    for base in (0.2, 1e-300, 30 * 86_400.0):
        retrying = Retrying(tries=10**9, base=base, random=lambda: 1.0)
        pauses = [retrying.pause(failures, ConnectionFailed("gone")) for failures in (0, 1, 1_023, 1_024, 1_025, 10**6)]
        assert all(pause is not None and 0 < pause <= 10 for pause in pauses)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, -1, 1e300])
def test_what_is_no_pause_is_refused(number: float) -> None:
    """When it is made, by name."""
    for name in ("base", "cap"):
        with pytest.raises(ValueError, match=f"^{name}: "):
            Retrying(**{name: number})


# Dequeues that nobody waits for any more.


async def in_progress(api: Face) -> int:
    return sum(queue.in_progress for queue in await api.queues())


@pytest.mark.parametrize("batch", [False, True])
async def test_a_cancelled_dequeue_gives_back_what_it_was_answered(url: str, batch: bool) -> None:
    """The jobs are back in their places, their attempts not counted, when close returns; nothing waits for their leases to end."""
    direct = Face(AsyncClient, url)
    await direct.enqueue_batch([NewJob(n) for n in range(3)])
    async with proxied(url, KEEP) as proxy:
        client = AsyncClient(proxy.url)
        taking = asyncio.ensure_future(client.dequeue_batch(limit=2) if batch else client.dequeue())
        async with asyncio.timeout(GUARD):
            await proxy.kept.wait()
        assert await in_progress(direct) == 1 + batch
        taking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await taking
        await client.close()
        assert await in_progress(direct) == 0
    jobs = await direct.dequeue_batch(limit=3)
    assert [(job.payload, job.attempts) for job in jobs] == [(0, 1), (1, 1), (2, 1)]
    await direct.close()


async def test_a_cancelled_dequeue_is_given_back_though_answers_are_lost(url: str) -> None:
    """A client that tries nothing twice does here."""
    direct = Face(AsyncClient, url)
    await direct.enqueue(1)
    async with proxied(url, KEEP, DROP, SWALLOW, "pass", SWALLOW) as proxy:
        client = AsyncClient(proxy.url, retrying=Retrying(tries=1, base=0.001))
        taking = asyncio.ensure_future(client.dequeue())
        async with asyncio.timeout(GUARD):
            await proxy.kept.wait()
        taking.cancel()
        await asyncio.wait([taking])
        await client.close()
        assert await in_progress(direct) == 0
    await direct.close()


async def test_what_cannot_be_given_back_holds_nothing_up(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is gone keeps close for a bounded time, and a cancelled caller not at all."""
    monkeypatch.setattr(async_transport, "GIVE_BACK_SECONDS", 0.1)
    async with proxied("http://127.0.0.1:1", *[STALL] * 9) as proxy:
        client = AsyncClient(proxy.url)
        taking = [asyncio.ensure_future(client.dequeue()) for _ in range(3)]
        async with AsyncClient(url) as other:
            while len(proxy.seen) < 3:
                await other.queues()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(taking[0], 0)
        for task in taking:
            task.cancel()
        await asyncio.wait(taking)
        async with asyncio.timeout(GUARD):
            await client.close()


async def test_cancelled_at_whatever_moment_no_job_is_held_by_nobody(url: str) -> None:
    """Hundreds of dequeues, each cancelled a little later than the one before, some with their answer in hand."""
    direct = Face(AsyncClient, url)
    await direct.enqueue_batch([NewJob(n) for n in range(60)])
    taken = []
    async with AsyncClient(url) as client:
        for turns in range(200):
            taking = asyncio.ensure_future(client.dequeue(wait=0))
            for _ in range(turns % 20):
                await asyncio.sleep(0)
            taking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                taken.append(await taking)
    kept = len([job for job in taken if job is not None])
    assert await in_progress(direct) == kept
    await direct.close()


def test_a_thread_that_is_interrupted_gives_back_too() -> None:
    """Ctrl-C, or whatever a signal's handler raises, in the midst of a dequeue."""

    class Stop(Exception):
        """What a program of one's own raises."""

    steps = given_back(asking(20), Retrying(), Hold(55), ALONE)
    assert request_of(next(steps)).wait == 0
    assert request_of(steps.send(LEASED)).target == "/jobs/a/release"
    with server_in_thread() as url, Client(url) as client, Client(url) as direct:
        direct.enqueue(1)
        run = client._run

        def interrupted(call: Any) -> Any:
            run(call)
            raise Stop

        client._run = interrupted  # type: ignore[method-assign]
        with pytest.raises(Stop):
            client.dequeue()
        for thread in threading.enumerate():
            if thread.name == "jobqueue-give-back":
                thread.join(GUARD)
        assert direct.queue("default").in_progress == 0
