"""classic: a dequeue held open with `?wait=` is a waiter like any other."""

from __future__ import annotations

import socket

import pytest

from jobqueue.model import JobSpec
from tests.api.harness import Api, answered, until

from .conftest import Serve
from .dialogue import Held, Speaker

EMPTY = '< 404 {"Error": "Not Found", "message": "no job is queued"}'
FIRST = '< 200 {"ID": 1, "Type": "TIME_CRITICAL", "Status": "IN_PROGRESS"}'
ENQUEUE = """
    > POST /jobs/enqueue {"Type": "TIME_CRITICAL"}
    < 200 {"ID": 1}
"""


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_held_dequeue_is_answered_when_a_job_comes(classic: Speaker, method: str) -> None:
    """By either method, for the consumer that asked."""
    held = await classic.hold(f"""
        > {method} /jobs/dequeue?wait=20
          QUEUE_CONSUMER: 7
    """)
    await classic.talk(ENQUEUE)
    await held.told(FIRST)
    await classic.refused("""
        > POST /jobs/1/conclude
          QUEUE_CONSUMER: 8
        < 409 {"Error": "Conflict", "message": "…another consumer…"}
    """)


async def test_a_wait_that_passes_is_404(classic: Speaker) -> None:
    """When it said, fractions included; the connection serves on."""
    short, long = await classic.hold("> GET /jobs/dequeue?wait=0.5"), await classic.hold("> GET /jobs/dequeue?wait=55")
    classic.api.clock.advance(0.5)
    await short.told(EMPTY)
    assert classic.api.backend.totals().waiters == 1
    await classic.talk(ENQUEUE)
    await long.told(FIRST)


async def test_wait_0_answers_at_once_and_a_job_that_is_there_is_not_waited_for(classic: Speaker) -> None:
    """A wait is for an empty queue only; other parameters are ignored."""
    await classic.talk(f"""
        > GET /jobs/dequeue?wait=0
        {EMPTY}
        > GET /jobs/dequeue?timeout=x&wait=0&b
        {EMPTY}
        > POST /jobs/enqueue {{"Type": "TIME_CRITICAL"}}
        < 200 {{"ID": 1}}
        > GET /jobs/dequeue?wait=20
        {FIRST}
    """)


@pytest.mark.parametrize("wait", ["55.001", "3600", "-1", "1e300", "inf", "nan", "abc", "", "1s", "0x1", "1,5", "null", "true", "%C3"])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_bad_wait_is_400(classic: Speaker, method: str, wait: str) -> None:
    """Nobody stands in line, and no job is taken although one is queued."""
    await classic.talk(ENQUEUE)
    await classic.refused(f"""
        > {method} /jobs/dequeue?wait={wait}
        < 400 {{"Error": "Bad Request", "message": "…"}}
    """)


async def test_a_wait_over_the_cap_names_the_cap(serve: Serve) -> None:
    """It is refused, not shortened; the cap is a setting. Two waits are one too many."""
    classic = Speaker(await serve(wait_seconds_max=3.0, wait_seconds_default=2.0), "/classic")
    await classic.refused("""
        > GET /jobs/dequeue?wait=4
        < 400 {"Error": "Bad Request", "message": "wait: 4 is out of range; 0 to 3 seconds is allowed"}
        > POST /jobs/dequeue?wait=-1
        < 400 {"Error": "Bad Request", "message": "wait: -1 is out of range; 0 to 3 seconds is allowed"}
        > GET /jobs/dequeue?wait=1&wait=2
        < 400 {"Error": "Bad Request", "message": "wait: is given more than once"}
    """)
    await classic.hold("> GET /jobs/dequeue?wait=3")


async def test_waiters_of_every_api_stand_in_one_line(api: Api, classic: Speaker, simplequeue: Speaker) -> None:
    """First come, first served, whichever way they came, one job each."""
    first = await classic.hold("> GET /jobs/dequeue?wait=20")
    second = await api.hold("/jobs/dequeue", wait=20)
    third = await simplequeue.hold("> GET /jobs/next?wait=20")
    fourth = await classic.hold("> POST /jobs/dequeue?wait=20")
    for number in (1, 2, 3, 4):
        await api.enqueue({"n": number}, id=f"j{number}")
        assert api.backend.totals().waiters == 4 - number
    await first.told('< 200 {"ID": 1, "Type": "NOT_TIME_CRITICAL", "Status": "IN_PROGRESS"}')
    assert (await answered(second)).json["id"] == "j2"
    await third.told('< 200 {"jobId": "j3", "state": "running", "data": {"n": 3}}')
    await fourth.told('< 200 {"ID": 4, "Type": "NOT_TIME_CRITICAL", "Status": "IN_PROGRESS"}')


async def test_a_newcomer_does_not_pass_who_waits(classic: Speaker) -> None:
    """A job that comes while one stands in line is that one's."""
    held = await classic.hold("> GET /jobs/dequeue?wait=20")
    enqueued, asked = await classic.api.site.wire(), await classic.api.site.wire()
    enqueued.send(b'POST /classic/jobs/enqueue HTTP/1.1\r\nHost: x\r\nContent-Length: 25\r\n\r\n{"Type": "TIME_CRITICAL"}')
    asked.send(b"GET /classic/jobs/dequeue HTTP/1.1\r\nHost: x\r\n\r\n")
    assert [(await wire.reply()).status for wire in (enqueued, asked)] == [200, 404]
    await held.told(FIRST)


async def test_a_job_whose_lease_ends_goes_to_who_waits(classic: Speaker) -> None:
    """Five minutes after it was taken, without anybody asking again."""
    await classic.talk(ENQUEUE)
    await classic.talk(f"> GET /jobs/dequeue\n{FIRST}")
    classic.api.clock.advance(285)
    held = await classic.hold("> GET /jobs/dequeue?wait=20")
    classic.api.clock.advance(15)
    await held.told(FIRST)


async def vanishing(speaker: Speaker, call: bytes) -> socket.socket:
    """A client of plain sockets that is held."""
    standing = speaker.api.backend.totals().waiters
    client = socket.create_connection((speaker.api.site.host, speaker.api.site.port))
    client.sendall(call)
    await until(lambda: speaker.api.backend.totals().waiters == standing + 1)
    return client


CALLS = [b"GET /classic/jobs/dequeue?wait=20", b"POST /classic/jobs/dequeue?wait=20", b"GET /simplequeue/jobs/next?wait=20"]


@pytest.mark.parametrize("call", CALLS)
async def test_who_hangs_up_leaves_the_line(classic: Speaker, call: bytes) -> None:
    """The next in line gets the job."""
    client = await vanishing(classic, call + b" HTTP/1.1\r\nHost: test\r\n\r\n")
    next_one: Held = await classic.hold("> GET /jobs/dequeue?wait=20")
    client.close()
    await until(lambda: classic.api.backend.totals().waiters == 1)
    await classic.talk(ENQUEUE)
    await next_one.told(FIRST)


@pytest.mark.parametrize("call", CALLS)
async def test_a_job_handed_to_who_hung_up_goes_back(classic: Speaker, call: bytes) -> None:
    """Handed over in the moment in which the client goes, it is put back at once, its attempt not counted."""
    client = await vanishing(classic, call + b" HTTP/1.1\r\nHost: test\r\n\r\n")
    client.close()
    # No turn of the loop in between: the server has not seen the end of the connection when it hands the job over.
    job = (await classic.api.backend.enqueue(JobSpec(payload=b"null", type="TIME_CRITICAL"))).job
    assert classic.api.backend.totals().leases == 1
    await until(lambda: classic.api.backend.totals().leases == 0)
    assert classic.api.backend.totals().undelivered_total == 1
    assert (await classic.api.job(job.id))["attempts"] == 0
    await classic.talk(f"> GET /jobs/dequeue\n{FIRST}")
    assert (await classic.api.job(job.id))["attempts"] == 1


async def test_a_server_full_of_waiters_is_429(serve: Serve) -> None:
    """Whoever would wait is told when to come back; who does not wait is served."""
    classic = Speaker(await serve(waiters_max=1), "/classic")
    await classic.hold("> GET /jobs/dequeue?wait=20")
    await classic.refused(f"""
        > GET /jobs/dequeue?wait=20
        < 429 {{"Error": "Too Many Requests", "message": "…"}}
          Retry-After: 1
        > GET /jobs/dequeue
        {EMPTY}
    """)


async def test_a_drain_answers_who_is_held(api: Api, classic: Speaker) -> None:
    """At once, as an empty queue, and with the time to stay away."""
    held = await classic.hold("> GET /jobs/dequeue?wait=20")
    api.app.drain()
    await held.told(f"""
        {EMPTY}
          Retry-After: 1
          Connection: close
    """)
