"""What is sent again, when, and how often, through a proxy that loses requests and answers."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Iterable
from typing import Any

import pytest

import jobqueue
from jobqueue import Conclude, Extend, NewJob, Retrying, Status
from jobqueue.client import calls
from jobqueue.client.problems import Answer, ConnectionFailed
from jobqueue.client.retrying import carried_through, result_of
from jobqueue.client.sending import Call, Request

from .conftest import Connect
from .rig import DROP, STALL, SWALLOW, canned, proxied

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


# Long waits: the steps by themselves, with a clock of their own.


class Clock:
    """Advances by what each request was held, and by pauses."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def play(call: Call[Any], answers: Iterable[Answer | Exception], hold: float = 55.0) -> tuple[Any, list[float]]:
    """Carry a call through with these answers, each after the whole time it was held; the result, and all waits and (negative) pauses."""
    clock = Clock()
    steps = carried_through(call, Retrying(clock=clock, random=lambda: 1.0, base=1.0), hold)
    left = iter(answers)
    done: list[float] = []
    try:
        step = next(steps)
        while True:
            if not isinstance(step, Request):
                clock.now += step
                done.append(-step)
                step = next(steps)
                continue
            done.append(step.wait)
            clock.now += step.wait
            answer = next(left)
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
    return calls.dequeue("q", wait, None, None, None)


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
    steps = result_of(NewJob(1, id="a"), 60, Retrying(clock=clock), 55)
    assert next(steps).wait == 0  # type: ignore[union-attr] # it is a Request
    clock.now += 20
    step = steps.send(
        Answer(
            201,
            {},
            b'{"id":"a","queue":"q","type":null,"priority":5,"status":"queued","created_at":"2026-11-22T07:30:20.786Z","run_at":null,'
            b'"expires_at":null,"created":true}',
        )
    )
    assert isinstance(step, Request)
    assert (step.method, step.target, step.wait) == ("GET", "/jobs/a?wait=40.0", 40)


@pytest.mark.parametrize("wait", [-1, -0.001, math.nan, -math.inf])
def test_a_wait_that_is_none_is_refused(wait: float) -> None:
    """Before anything is sent."""
    with pytest.raises(jobqueue.BadRequest, match="wait"):
        asking(wait)
    with pytest.raises(jobqueue.BadRequest, match="wait"):
        next(result_of(NewJob(1), wait, Retrying(), 55))
