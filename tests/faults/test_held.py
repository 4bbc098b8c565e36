"""Faults 1 to 5, 7, 9 and 10: what a client can do to a dequeue that is held for it."""

from __future__ import annotations

import asyncio

import pytest

from jobqueue.model import JobSpec

from .inside import GateJournal, HandClock, Inside, on_both_loops, serving, turns
from .ledger import Api
from .process import on_each_server
from .wire import Client, job_path, request, until

MIB = 1024 * 1024

HANG_UPS = pytest.mark.parametrize("hang_up", [Client.fin, Client.rst], ids=["fin", "rst"])


async def _next_gets_it(api: Api, leave: str) -> None:
    first, second = await api.hold(1), await api.hold(2)
    third = await api.hold(3)
    getattr(first, leave)()
    await api.put("j")
    job = await api.handed(second)
    assert (job["id"], job["attempts"]) == ("j", 1)
    await api.stand(1)
    third.fin()
    await api.stand(0)


@on_each_server
async def test_01_fin_held(api: Api) -> None:
    """A waiter whose client closed takes nothing: the job enqueued right behind goes to the next in line, as its first attempt."""
    await _next_gets_it(api, "fin")


@on_each_server
async def test_01_fin_held_by_everyone(api: Api) -> None:
    """When every waiter has gone the job stays queued, untouched."""
    clients = [await api.hold(standing) for standing in (1, 2, 3)]
    for client in clients:
        client.fin()
    await api.put("j")
    await api.reach(queued=1, in_progress=0)
    assert (await api.take())["attempts"] == 1


@on_each_server
async def test_02_rst_held(api: Api) -> None:
    """A waiter whose connection was reset takes nothing, and the log says nothing of it."""
    await _next_gets_it(api, "rst")


@on_each_server
async def test_02_rst_held_for_a_result(api: Api) -> None:
    """A client that waits for a result and resets leaves no waiter behind and does not touch the job."""
    await api.put("j")
    client = await api.connect()
    await client.send(request("GET", job_path(api.full("j")) + "?wait=30"))
    idle = await api.connect()
    assert (await idle.call("GET", "/healthz")).status == 200
    client.rst()
    job = await api.take()
    assert (await api.conclude("j", job["lease"]["token"])).status == 200


@on_each_server
async def test_03_half_close(api: Api) -> None:
    """A client that shuts its sending side counts as gone: the next waiter gets the job, and the half-closed one is closed unanswered."""
    first, second = await api.hold(1), await api.hold(2)
    first.half_close()
    await api.put("j")
    job = await api.handed(second)
    assert (job["id"], job["attempts"]) == ("j", 1)
    assert await first.closed() == b""


@on_each_server
async def test_03_half_close_alone(api: Api) -> None:
    """With nobody else in line the job stays queued, and its attempt is not counted."""
    client = await api.hold(1)
    client.half_close()
    await api.put("j")
    assert await client.closed() == b""
    await api.reach(queued=1, in_progress=0)
    assert (await api.take())["attempts"] == 1


@pytest.mark.parametrize("limit", [1, 2], ids=["single", "batch"])
@HANG_UPS
@on_both_loops
async def test_04_kill_after_take(hang_up, limit: int) -> None:
    """A client that vanishes while the lease is being committed gives its jobs back at once, in order, their attempts not counted."""
    journal = GateJournal()
    async with serving(journal=journal) as api:
        await api.stats()
        for job_id in ("a", "b", "c"):
            await api.put(job_id)
        journal.gate.clear()
        client = await api.connect()
        await client.send(request("POST", "/batch/dequeue", {"queue": api.queue, "limit": limit, "wait": 30}))
        await until(lambda: api.backend.totals().leases == limit and journal.pending > 0, "the take waits for its commit")
        hang_up(client)
        await until(lambda: api.backend.totals().leases == 0, "the jobs are back")
        journal.gate.set()
        assert [(job["id"], job["attempts"]) for job in await api.take_all()] == [("a", 1), ("b", 1), ("c", 1)]
        assert api.backend.totals().undelivered_total == limit


@HANG_UPS
@on_both_loops
async def test_04_kill_after_take_by_a_waiter(hang_up) -> None:
    """The same for one that was held: the next in line gets the job, without waiting for the lease to end."""
    journal = GateJournal()
    async with serving(journal=journal) as api:
        await api.stats()
        first, second = await api.hold(1), await api.hold(2)
        journal.gate.clear()
        putting = asyncio.create_task(api.put("j"))
        await until(lambda: api.backend.totals().leases == 1 and journal.pending == 2, "enqueue and hand-out wait for their commits")
        hang_up(first)
        await until(lambda: api.backend.totals().waiters == 0, "the job went to the second waiter")
        assert api.backend.totals().leases == 1
        journal.gate.set()
        await putting
        assert (await api.handed(second))["attempts"] == 1


def _payload(kib: int) -> str:
    return "x" * (kib * 1024 - 2)


@on_each_server
async def test_05_kill_on_write(api: Api) -> None:
    """A client that resets before the last byte of a large payload was sent never had the job: it is back, its attempt not counted."""
    await api.put("large", _payload(256))
    await api.put("next")
    client = await api.connect(sip=True)
    await client.send(api.poll())
    await client.sip(500)
    await api.reach(queued=1, in_progress=1)
    client.rst()
    await api.reach(queued=2, in_progress=0)
    assert [(job["id"], job["attempts"]) for job in await api.take_all()] == [("large", 1), ("next", 1)]


@on_each_server
async def test_05_kill_on_write_of_a_batch(api: Api) -> None:
    """A batch of several megabytes that is cut off in the middle goes back whole, every job to its old place."""
    ids = [f"j{number}" for number in range(15)]
    for job_id in ids:
        await api.put(job_id, _payload(256))
    await api.put("last")
    client = await api.connect(sip=True)
    await client.send(request("POST", "/batch/dequeue", {"queue": api.queue, "limit": 15}))
    await client.sip(500)
    await api.reach(queued=1, in_progress=15)
    client.rst()
    await api.reach(queued=16, in_progress=0)
    assert [(job["id"], job["attempts"]) for job in await api.take_all()] == [(job_id, 1) for job_id in [*ids, "last"]]


@on_each_server
async def test_05_kill_on_write_wakes_the_next(api: Api) -> None:
    """The job of an answer that was cut off goes to whoever stands in line by then."""
    await api.put("large", _payload(256))
    client = await api.connect(sip=True)
    await client.send(api.poll())
    await client.sip(500)
    second = await api.hold(1)
    client.rst()
    assert (await api.handed(second))["attempts"] == 1


@on_each_server
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
async def test_07_unread_body(api: Api, chunked: bool) -> None:
    """A dequeue with a body of 5 MiB is refused before it stands in line: no job is taken for it."""
    await api.put("j")
    client = await api.connect()
    body = b'{"queue": "%s", "worker": "%s"}' % (api.queue.encode(), b"x" * 5 * MIB)
    head = b"POST /jobs/dequeue HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    if chunked:
        await client.send(head + b"Transfer-Encoding: chunked\r\n\r\n")
        sending = asyncio.create_task(client.send(b"%x\r\n%b\r\n" % (len(body), body)))
    else:
        # Not a byte of the body is needed to refuse it.
        await client.send(head + b"Content-Length: %d\r\n\r\n" % len(body))
        sending = None
    answer = await client.answer()
    assert (answer.status, answer.code) == (413, "too_large")
    assert answer.headers["connection"] == "close"
    if sending is not None:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
    assert await api.counts() == (1, 0)
    assert (await api.stats())["waiters"] == 0


@on_each_server
async def test_07_unread_body_with_expect(api: Api) -> None:
    """A client that asks first is told 413 and never 100."""
    client = await api.connect()
    head = b"POST /jobs/dequeue HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    await client.send(head + b"Expect: 100-continue\r\nContent-Length: 5000000\r\n\r\n")
    assert (await client.answer()).status == 413


@on_each_server
@pytest.mark.parametrize("leave", ["fin", "rst", "half_close"])
async def test_07_unread_body_that_ends_early(api: Api, leave: str) -> None:
    """A client that vanishes in the middle of its body has asked for nothing: no job is taken, nobody stands in line."""
    await api.put("j")
    client = await api.connect()
    await client.send(
        b"POST /jobs/dequeue HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 500000\r\n\r\n{"
    )
    getattr(client, leave)()
    await api.put("k")
    assert await api.counts() == (2, 0)
    assert (await api.stats())["waiters"] == 0


def _spec(api: Inside, lease_seconds: float | None = None) -> JobSpec:
    """A job for the backend itself, booked as acknowledged: the enqueue is one step of the loop's turn."""
    job_id = api.full("j")
    api.acknowledged.add(job_id)
    return JobSpec(payload=b"1", id=job_id, queue=api.queue, lease_seconds=lease_seconds)


@pytest.mark.parametrize("offset", range(-3, 5))
@HANG_UPS
@on_both_loops
async def test_09_cancel_with_notify(hang_up, offset: int) -> None:
    """A disconnect some turns of the loop before (negative), in or after the turn of the hand-off: the next waiter gets the job.

    Once the kernel has taken the answer, it may also count as the first one's; it is never lost, nor given to both.
    """
    async with serving(clock=HandClock()) as api:
        await api.stats()
        first, second, third = await api.hold(1), await api.hold(2), await api.hold(3)
        spec = _spec(api, lease_seconds=2.0)
        if offset <= 0:
            hang_up(first)
            await turns(-offset)
            await api.backend.enqueue(spec)
        else:
            # In the turn of the hand-off (1) and in those after it, when the first waiter runs.
            await api.backend.enqueue(spec)
            await turns(offset - 1)
            hang_up(first)
        await turns(20)
        stats = api.backend.totals()
        assert stats.leases == 1
        if offset <= 1:
            assert stats.waiters == 1
            job = await api.handed(second)
            assert (job["id"], job["attempts"]) == ("j", 1)
        else:
            assert stats.waiters == (1 if stats.undelivered_total else 2)
        second.fin()
        third.fin()
        await api.stand(0)


@pytest.mark.parametrize("offset", range(-3, 5))
@on_both_loops
async def test_10_timeout_with_notify(offset: int) -> None:
    """A wait that ends some turns before (negative), in or after that of an enqueue: the job is delivered or queued, never both or lost."""
    clock = HandClock()
    async with serving(clock=clock) as api:
        await api.stats()
        client = await api.hold(1, wait=10)
        spec = _spec(api)
        if offset <= 0:
            clock.advance(10)
            await turns(-offset)
            await api.backend.enqueue(spec)
        else:
            await api.backend.enqueue(spec)
            await turns(offset - 1)
            clock.advance(10)
        answer = await client.answer()
        if answer.status == 200:
            assert offset >= 0
            assert api.took(answer.json)["attempts"] == 1
            assert await api.counts() == (0, 1)
        else:
            assert answer.status == 204
            assert offset <= 0
            assert await api.counts() == (1, 0)
        assert api.backend.totals().waiters == 0


@on_both_loops
async def test_10_timeout_with_notify_hands_to_the_next() -> None:
    """When the first waiter's wait ends in the turn of an enqueue, one of the two has the job and the other does not."""
    clock = HandClock()
    async with serving(clock=clock) as api:
        await api.stats()
        first, second = await api.hold(1, wait=10), await api.hold(2, wait=20)
        await until(lambda: api.backend.totals().waiters == 2, "both stand")
        clock.advance(10)
        await turns(1)
        await api.backend.enqueue(_spec(api))
        assert (await first.answer()).status == 204
        assert (await api.handed(second))["attempts"] == 1


@on_both_loops
async def test_10_timeout_with_notify_in_real_time() -> None:
    """A hundred waits that really end while fifty jobs arrive: each job is delivered once or still queued."""
    async with serving() as api:
        await api.stats()
        clients = [await api.connect() for _ in range(100)]
        for number, client in enumerate(clients):
            await client.send(api.poll(wait=1.5 + number / 2_000))
        await api.stand(100)
        await until(lambda: api.backend.totals().waiters < 100, "the first wait ends")
        for number in range(50):
            await api.put(f"j{number}")
            await asyncio.sleep(0)
        answers = [await client.answer() for client in clients]
        delivered = [api.took(answer.json)["id"] for answer in answers if answer.status == 200]
        assert {answer.status for answer in answers} <= {200, 204}
        assert len(delivered) == len(set(delivered))
        queued, leased = await api.counts()
        assert (queued, leased) == (50 - len(delivered), len(delivered))
