"""simplequeue: a `next` held open with `?wait=` is a waiter like any other (its line and its hang-ups: test_classic_waiting.py)."""

from __future__ import annotations

import pytest

from tests.api.harness import Api

from .conftest import Serve
from .dialogue import Speaker

SUBMIT = """
    > POST /jobs/submit {"jobId": "a"}
    < 201 {"jobId": "a", "state": "submitted"}
"""
FIRST = '< 200 {"jobId": "a", "state": "running"}'


async def test_a_held_next_is_answered_when_a_job_comes(simplequeue: Speaker) -> None:
    """The submit is answered 201 with the job as it stood before it was handed out."""
    held = await simplequeue.hold("> GET /jobs/next?wait=20")
    await simplequeue.talk(SUBMIT)
    await held.told(FIRST)
    await simplequeue.refused("""
        > POST /jobs/submit {"jobId": "a"}
        < 200 {"jobId": "a", "state": "running"}
    """)


async def test_a_wait_that_passes_is_204(simplequeue: Speaker) -> None:
    """When it said, fractions included."""
    short, long = await simplequeue.hold("> GET /jobs/next?wait=0.5"), await simplequeue.hold("> GET /jobs/next?wait=55")
    simplequeue.api.clock.advance(0.5)
    await short.told("< 204")
    assert simplequeue.api.backend.totals().waiters == 1
    await simplequeue.talk(SUBMIT)
    await long.told(FIRST)


async def test_wait_0_answers_at_once_and_a_job_that_is_there_is_not_waited_for(simplequeue: Speaker) -> None:
    """A wait is for an empty queue only; other parameters are ignored."""
    await simplequeue.talk(f"""
        > GET /jobs/next?wait=0
        < 204
        > GET /jobs/next?x=1&wait=0&
        < 204
        > POST /jobs/submit {{"jobId": "a"}}
        < 201 {{"jobId": "a", "state": "submitted"}}
        > GET /jobs/next?wait=20
        {FIRST}
    """)


@pytest.mark.parametrize("wait", ["55.001", "3600", "-1", "1e300", "inf", "nan", "abc", "", "1s", "0x1", "1,5", "null", "true"])
async def test_a_bad_wait_is_400(simplequeue: Speaker, wait: str) -> None:
    """Nobody stands in line, and no job is taken although one is there."""
    await simplequeue.talk(SUBMIT)
    await simplequeue.refused(f"""
        > GET /jobs/next?wait={wait}
        < 400 {{"error": "wait: …", "field": "wait"}}
    """)


async def test_a_wait_over_the_cap_names_the_cap(serve: Serve) -> None:
    """It is refused, not shortened; the cap is a setting."""
    simplequeue = Speaker(await serve(wait_seconds_max=3.0, wait_seconds_default=2.0), "/simplequeue")
    await simplequeue.refused("""
        > GET /jobs/next?wait=4
        < 400 {"error": "wait: 4 is out of range; 0 to 3 seconds is allowed", "field": "wait"}
        > GET /jobs/next?wait=1&wait=2
        < 400 {"error": "wait: is given more than once", "field": "wait"}
    """)


async def test_two_held_consumers_get_one_job_once(simplequeue: Speaker) -> None:
    """The one that stood first; the other waits on."""
    first, second = await simplequeue.hold("> GET /jobs/next?wait=20"), await simplequeue.hold("> GET /jobs/next?wait=20")
    await simplequeue.talk(SUBMIT)
    await first.told(FIRST)
    assert simplequeue.api.backend.totals().waiters == 1
    simplequeue.api.clock.advance(20)
    await second.told("< 204")


async def test_a_job_whose_lease_ends_goes_to_who_waits(simplequeue: Speaker) -> None:
    """Five minutes after it was taken, without anybody asking again."""
    await simplequeue.talk(SUBMIT)
    await simplequeue.talk(f"> GET /jobs/next\n{FIRST}")
    simplequeue.api.clock.advance(285)
    held = await simplequeue.hold("> GET /jobs/next?wait=20")
    simplequeue.api.clock.advance(15)
    await held.told(FIRST)


async def test_a_server_full_of_waiters_is_429(serve: Serve) -> None:
    """Whoever would wait is told when to come back; who does not wait is served."""
    simplequeue = Speaker(await serve(waiters_max=1), "/simplequeue")
    await simplequeue.hold("> GET /jobs/next?wait=20")
    await simplequeue.refused("""
        > GET /jobs/next?wait=20
        < 429 {"error": "…"}
          Retry-After: 1
        > GET /jobs/next
        < 204
    """)


async def test_a_drain_answers_who_is_held(api: Api, simplequeue: Speaker) -> None:
    """At once, as an empty queue, and with the time to stay away."""
    held = await simplequeue.hold("> GET /jobs/next?wait=20")
    api.app.drain()
    await held.told("""
        < 204
          Retry-After: 1
          Connection: close
    """)
