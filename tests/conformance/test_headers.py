"""Headers and large payloads, of every backend: what a worker and a reader are shown, over a restart, a link and a store."""

from __future__ import annotations

import json

from jobqueue.backend.requests.groups import CloseGroup, CreateGroup
from jobqueue.backend.requests.schedules import GetSchedule, PutSchedule, RunSchedule
from jobqueue.errors import BadRequest, IdConflict, TooLarge
from jobqueue.group import GroupSpec
from jobqueue.model import Header, JobSpec, Outcome, Verdict
from jobqueue.schedule import Schedule

from .rig import Rig, raised, spec, token

HEADERS = (Header("blob", bytes(range(256)), "Binary.raw"), Header("n", b"5", "Number"), Header("tenant", "ä\n".encode()))


async def test_a_worker_and_a_reader_are_shown_them(rig: Rig) -> None:
    """As they were sent, in the order of their names; of one job of a batch alone."""
    await rig.backend.enqueue_batch([spec("a", headers=HEADERS), spec("b")])
    assert [job.headers for job in await rig.take_all(limit=2)] == [HEADERS, ()]
    assert (await rig.backend.job("a")).headers == HEADERS


async def test_a_repeat_is_told_from_another_job(rig: Rig) -> None:
    """By what it carries."""
    await rig.put("a", headers=HEADERS)
    assert not (await rig.backend.enqueue(spec("a", headers=HEADERS[::-1]))).created
    error = await raised(rig.backend.enqueue(spec("a", headers=HEADERS[:2])))
    assert isinstance(error, IdConflict)
    assert error.field == "headers"


async def test_what_is_no_header_is_refused(rig: Rig) -> None:
    """By its name; others of the batch are taken."""
    bad, good = await rig.backend.enqueue_batch([spec("a", headers=(Header("x", b""),)), spec("b")])
    assert isinstance(bad, BadRequest)
    assert bad.field == "headers.x"
    assert not isinstance(good, Exception)


async def test_they_outlive_an_attempt(rig: Rig) -> None:
    """The next worker is shown them too, and history keeps them."""
    await rig.put("a", headers=HEADERS)
    job = await rig.take()
    await rig.backend.conclude("a", token(job), Verdict(outcome=Outcome.FAILED, retry_delay=0.0))
    await rig.idle()
    job = await rig.take()
    assert (job.attempts, job.headers) == (2, HEADERS)
    ended = await rig.backend.conclude("a", token(job), Verdict(outcome=Outcome.SUCCEEDED))
    assert ended.headers == HEADERS


async def test_schedules_and_groups_send_them(rig: Rig) -> None:
    """What they make has those of its template."""
    job = JobSpec(payload=b"1", headers=HEADERS)
    await rig.backend.ask(PutSchedule(name="s", schedule=Schedule(job=job, every=3_600.0)))
    assert (await rig.backend.ask(GetSchedule(name="s"))).schedule.job.headers == HEADERS
    made, _ = await rig.backend.ask(RunSchedule(name="s"))
    assert (await rig.backend.job(made.id)).headers == HEADERS
    await rig.take()
    await rig.backend.ask(CreateGroup(spec=GroupSpec(id="g", on_concluded=job)))
    await rig.backend.ask(CloseGroup(id="g"))
    await rig.idle()
    assert (await rig.take()).headers == HEADERS


async def test_a_mebibyte_goes_all_the_way(rig: Rig) -> None:
    """As a string that is twice as long in JSON, and as any other JSON; one byte more is refused."""
    text = json.dumps("\n" * (1 << 20)).encode()
    others = b"[" + b"1" * ((1 << 20) - 2) + b"]"
    await rig.backend.enqueue_batch([spec("text", payload=text), spec("others", payload=others)])
    assert [job.payload for job in await rig.take_all(limit=2)] == [text, others]
    assert (await rig.backend.job("text")).payload == text
    for payload in (json.dumps("\n" * (1 << 20) + "x").encode(), others + b" "):
        assert isinstance(await raised(rig.backend.enqueue(spec(payload=payload))), TooLarge)
