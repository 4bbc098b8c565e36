"""How the APIs live together: one set of jobs, four ways to speak of them."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest

from tests.api.harness import Api, Reply, answered

TAKERS = ("native", "classic", "simplequeue")
"""The APIs that hand jobs out; workpool only takes them in and tells of them."""

ENDERS = ("classic", "simplequeue")
"""The APIs whose conclude needs no lease token, so that they can end what another handed out."""

ALL = (*TAKERS, "workpool")

QUEUED, RUNNING, SUCCEEDED, FAILED = "queued", "in_progress", "succeeded", "failed"

WORDS: dict[str, dict[str, str]] = {
    "native": {QUEUED: "queued", RUNNING: "in_progress", SUCCEEDED: "concluded/succeeded", FAILED: "concluded/failed"},
    "classic": {QUEUED: "QUEUED", RUNNING: "IN_PROGRESS", SUCCEEDED: "CONCLUDED", FAILED: "CONCLUDED"},
    "simplequeue": {QUEUED: "submitted", RUNNING: "running", SUCCEEDED: "succeeded", FAILED: "failed"},
    "workpool": {QUEUED: "queued", RUNNING: "in-progress", SUCCEEDED: "done", FAILED: "failed"},
}
"""What each API calls where a job is."""


class Known(NamedTuple):
    """A job by both its names."""

    id: str
    number: int


def ok(reply: Reply) -> Any:
    """The body of an answer that says yes."""
    assert reply.status in (200, 201, 202), reply
    return reply.json


async def known(api: Api, job_id: str) -> Known:
    """A job of which one knows the id."""
    return Known(job_id, (await api.job(quote(job_id)))["number"])


async def enqueue(api: Api, way: str) -> Known:
    """A new job through one of the APIs."""
    if way == "native":
        return await known(api, ok(await api.post("/jobs/enqueue", payload={"n": 1}))["id"])
    if way == "classic":
        number = ok(await api.post("/classic/jobs/enqueue", Type="TIME_CRITICAL"))["ID"]
        (job_id,) = [job["id"] for job in ok(await api.get("/jobs"))["jobs"] if job["number"] == number]
        return Known(job_id, number)
    if way == "simplequeue":
        count = api.backend.totals().jobs_live
        return await known(api, ok(await api.post("/simplequeue/jobs/submit", jobId=f"simple {count}", data={"n": 1}))["jobId"])
    return await known(api, ok(await api.post("/workpool/job", {"name": "resize", "body": {"n": 1}}))["createdJob"]["id"])


TAKE = {"native": ("POST", "/jobs/dequeue"), "classic": ("GET", "/classic/jobs/dequeue"), "simplequeue": ("GET", "/simplequeue/jobs/next")}


def taken(way: str, reply: Reply) -> str | int:
    """What an API calls the job it handed out: its id, or classic its number."""
    job = ok(reply)
    return {"native": lambda: job["id"], "classic": lambda: job["ID"], "simplequeue": lambda: job["jobId"]}[way]()  # type: ignore[no-any-return]


async def take(api: Api, way: str) -> Reply:
    """Ask one of the APIs for a job; never held."""
    method, path = TAKE[way]
    return await api.send(method, path + ("?wait=0" if way == "native" else ""))


async def conclude(api: Api, way: str, job: Known, token: str = "") -> Reply:
    """End a job well through one of the APIs; only the native one needs the lease's token."""
    if way == "native":
        return await api.post(f"/jobs/{quote(job.id)}/conclude", lease=token, outcome="succeeded")
    if way == "classic":
        return await api.post(f"/classic/jobs/{job.number}/conclude")
    return await api.post("/simplequeue/jobs/complete", jobId=job.id, status="succeeded")


async def look(api: Api, way: str, job: Known) -> str:
    """Where a job is, in the words of one of the APIs."""
    if way == "native":
        told = await api.job(quote(job.id))
        assert (told["id"], told["number"]) == job
        return "/".join(filter(None, (told["status"], told["outcome"])))
    if way == "classic":
        told = ok(await api.get(f"/classic/jobs/{job.number}"))
        assert told["ID"] == job.number
        return str(told["Status"])
    if way == "simplequeue":
        told = ok(await api.get(f"/simplequeue/jobs/{quote(job.id)}"))
        assert told["jobId"] == job.id
        assert told in ok(await api.get("/simplequeue/jobs"))
        return str(told["state"])
    told = ok(await api.get(f"/workpool/result/{quote(job.id)}"))
    assert ok(await api.get(f"/workpool/status/{quote(job.id)}")) == {"id": job.id, "status": told["status"]}
    return str(told["status"])


async def seen(api: Api, job: Known, where: str) -> None:
    """Every API tells the same of a job, each in its own words."""
    for way in ALL:
        assert await look(api, way, job) == WORDS[way][where], way


@pytest.mark.parametrize("ender", TAKERS)
@pytest.mark.parametrize("taker", TAKERS)
@pytest.mark.parametrize("producer", ALL)
async def test_a_job_is_everybodys(api: Api, producer: str, taker: str, ender: str) -> None:
    """Enqueued through one API, taken through another, concluded through a third, and seen by all at each step."""
    job = await enqueue(api, producer)
    await seen(api, job, QUEUED)
    reply = await take(api, taker)
    assert taken(taker, reply) in job
    await seen(api, job, RUNNING)
    for way in TAKERS:
        assert (await take(api, way)).status == (404 if way == "classic" else 204)
    token = reply.json["lease"]["token"] if taker == "native" else "of nobody"
    done = await conclude(api, ender, job, token)
    if ender == "native" and taker != "native":
        # Only who was told the token can end the lease natively; those APIs tell none.
        assert (done.status, done.json["code"]) == (409, "lease_lost")
        await seen(api, job, RUNNING)
        done = await conclude(api, taker, job)
    assert done.status == 200
    await seen(api, job, SUCCEEDED)
    for way in ENDERS:
        assert (await conclude(api, way, job)).status == 409
    await seen(api, job, SUCCEEDED)


@pytest.mark.parametrize("way", ENDERS)
async def test_a_token_is_spent_when_another_api_concludes(api: Api, way: str) -> None:
    """A native worker whose job was ended by a dialect is told that its lease is gone."""
    job = await enqueue(api, "native")
    token = ok(await take(api, "native"))["lease"]["token"]
    assert (await conclude(api, way, job)).status == 200
    late = await api.post(f"/jobs/{job.id}/conclude", lease=token, outcome="failed")
    assert late.status == 409
    await seen(api, job, SUCCEEDED)


async def test_classics_id_is_the_number(api: Api) -> None:
    """Every job has one, from 1 on in the order of creation, whoever enqueued it."""
    for number, way in enumerate((*ALL, *ALL), 1):
        assert (await enqueue(api, way)).number == number
    assert [taken("classic", await take(api, "classic")) for _ in range(8)] == list(range(1, 9))


@pytest.mark.parametrize("turn", range(3))
async def test_who_asks_first_is_served_first(api: Api, turn: int) -> None:
    """Held calls of different APIs stand in one line: each new job goes to the oldest, at once, whoever enqueued it."""
    order = [*TAKERS[turn:], *TAKERS[:turn]] * 2
    held: list[tuple[str, asyncio.Task[Reply]]] = []
    for way in order:
        method, path = TAKE[way]
        held.append((way, await api.hold(f"{path}?wait=50", method=method)))
    for at, producer in enumerate((*ALL, "classic", "native")):
        job = await enqueue(api, producer)
        way, asking = held[at]
        assert taken(way, await answered(asking)) in job
        assert not any(later.done() for _, later in held[at + 1 :])
    assert api.backend.totals().waiters == 0


async def test_jobs_leave_in_the_order_in_which_they_came(api: Api) -> None:
    """Whoever enqueued them and whoever takes them."""
    jobs = [await enqueue(api, way) for way in (*ALL, *reversed(ALL))]
    for at, job in enumerate(jobs):
        way = TAKERS[at % 3]
        assert taken(way, await take(api, way)) in job


@pytest.mark.parametrize("way", ENDERS)
async def test_a_head_takes_nothing(api: Api, way: str) -> None:
    """Only GET does, which those systems have for it; a HEAD asks for a job of that name, and there is none."""
    await enqueue(api, way)
    before = api.state()
    assert (await api.send("HEAD", TAKE[way][1])).status == (400 if way == "classic" else 404)
    assert api.state() == before


async def test_a_priority_counts_for_every_api(api: Api) -> None:
    """A native producer's urgent job is the next for a dialect's consumer too."""
    await enqueue(api, "classic")
    await api.enqueue(id="urgent", priority=0)
    assert taken("simplequeue", await take(api, "simplequeue")) == "urgent"


async def test_dialects_take_from_the_default_queue(api: Api) -> None:
    """They enqueue there too. A job of another queue is seen by all of them, taken by none, and can be ended once it is taken."""
    await api.enqueue(id="elsewhere", queue="other")
    job = await known(api, "elsewhere")
    for way in ENDERS:
        assert (await take(api, way)).status == (404 if way == "classic" else 204)
    await seen(api, job, QUEUED)
    await api.take(queue="other")
    assert (await conclude(api, "classic", job)).status == 200
    await seen(api, job, SUCCEEDED)
    for way in ALL:
        await enqueue(api, way)
    assert {job["queue"] for job in ok(await api.get("/jobs?status=queued"))["jobs"]} == {"default"}


async def test_a_paused_queue_hands_out_nothing(api: Api) -> None:
    """A native pause holds for every API; the resume serves those who wait."""
    job = await enqueue(api, "simplequeue")
    assert (await api.post("/queues/default/pause")).status == 200
    held = await api.hold("/classic/jobs/dequeue?wait=50", method="GET")
    assert (await take(api, "simplequeue")).status == 204
    assert (await api.post("/queues/default/resume")).status == 200
    assert taken("classic", await answered(held)) == job.number


# What each status and outcome is called.


async def test_a_scheduled_job_is_not_begun(api: Api) -> None:
    """Dialects know no delay: to them it is queued, and no dequeue finds it before it is due."""
    await api.enqueue(id="later", delay=60)
    job = await known(api, "later")
    assert (await api.job("later"))["status"] == "scheduled"
    for way in ALL[1:]:
        assert await look(api, way, job) == WORDS[way][QUEUED]
    assert ok(await api.get("/classic/jobs/stats"))["Queued"] == 1
    assert (await take(api, "classic")).status == 404
    api.clock.advance(60)
    assert taken("classic", await take(api, "classic")) == job.number


async def test_a_failure_is_told_where_there_is_a_word_for_it(api: Api) -> None:
    """classic only knows that a job is over."""
    job = await enqueue(api, "workpool")
    token = ok(await take(api, "native"))["lease"]["token"]
    assert (await api.post(f"/jobs/{job.id}/conclude", lease=token, outcome="failed", retry=False)).status == 200
    await seen(api, job, FAILED)


async def test_simplequeues_failure_is_final(api: Api) -> None:
    """Whoever enqueued the job, and however many attempts it had left."""
    await api.enqueue(id="j", max_attempts=9)
    await take(api, "native")
    assert (await api.post("/simplequeue/jobs/complete", jobId="j", status="failed")).status == 200
    await seen(api, await known(api, "j"), FAILED)
    assert ok(await api.get("/workpool/result/j"))["error"] == "failed"


@pytest.mark.parametrize("ending", ["cancelled", "expired"])
async def test_a_job_that_nobody_ended_has_failed(api: Api, ending: str) -> None:
    """cancelled and expired have no words in the dialects."""
    await api.enqueue(id="j", expires_in=9)
    if ending == "cancelled":
        await api.post("/jobs/j/cancel")
    else:
        api.clock.advance(9)
    job = await known(api, "j")
    assert (await api.job("j"))["outcome"] == ending
    for way in ALL[1:]:
        assert await look(api, way, job) == WORDS[way][FAILED]


@pytest.mark.parametrize("way", ENDERS)
async def test_a_cancel_request_is_honoured_by_a_dialects_conclude(api: Api, way: str) -> None:
    """As by a native one: the attempt ends, the job as cancelled."""
    job = await enqueue(api, way)
    await take(api, way)
    assert ok(await api.post(f"/jobs/{quote(job.id)}/cancel"))["cancel_requested"] is True
    await seen(api, job, RUNNING)
    assert (await conclude(api, way, job)).status == 200
    assert await look(api, "native", job) == "concluded/cancelled"
    for other in ALL[1:]:
        assert await look(api, other, job) == WORDS[other][FAILED]


@pytest.mark.parametrize("producer", ALL)
async def test_a_job_retried_natively_is_queued_again(api: Api, producer: str) -> None:
    """For everybody, and anybody may take it."""
    job = await enqueue(api, producer)
    await take(api, "simplequeue")
    assert (await api.post("/simplequeue/jobs/complete", jobId=job.id, status="failed")).status == 200
    await seen(api, job, FAILED)
    assert (await api.post(f"/jobs/{quote(job.id)}/retry")).status == 200
    await seen(api, job, QUEUED)
    assert taken("classic", await take(api, "classic")) == job.number
    await seen(api, job, RUNNING)


@pytest.mark.parametrize("taker", TAKERS)
async def test_a_lease_that_ends_gives_the_job_back(api: Api, taker: str) -> None:
    """After five minutes it is queued for everybody; after five such attempts it has failed."""
    job = await enqueue(api, "workpool")
    for _ in range(5):
        await seen(api, job, QUEUED)
        assert taken(taker, await take(api, taker)) in job
        api.clock.advance(299.999)
        await seen(api, job, RUNNING)
        api.clock.advance(0.001)
    await seen(api, job, FAILED)
    assert ok(await api.get(f"/workpool/result/{job.id}"))["error"] == "lease_expired"


# What each field is called.


async def test_fields_of_a_native_job(api: Api) -> None:
    """Its type is classic's only if it is one of the two, its payload is simplequeue's data, as an object."""
    await api.enqueue([1, 2], id="list", type="resize", description="two numbers")
    await api.enqueue({"a": 1}, id="object", type="TIME_CRITICAL")
    await api.enqueue(None, id="nothing")
    kinds = [ok(await api.get(f"/classic/jobs/{number}"))["Type"] for number in (1, 2, 3)]
    assert kinds == ["NOT_TIME_CRITICAL", "TIME_CRITICAL", "NOT_TIME_CRITICAL"]
    assert ok(await api.get("/simplequeue/jobs")) == [
        {"jobId": "list", "state": "submitted", "description": "two numbers", "data": {"payload": [1, 2]}},
        {"jobId": "object", "state": "submitted", "data": {"a": 1}},
        {"jobId": "nothing", "state": "submitted"},
    ]


async def test_fields_of_the_dialects_jobs(api: Api) -> None:
    """What a native worker is handed."""
    await api.post("/classic/jobs/enqueue", Type="TIME_CRITICAL")
    await api.post("/simplequeue/jobs/submit", jobId="s", description="why", data={"a": 1})
    await api.post("/simplequeue/jobs/submit", jobId="bare")
    await api.post("/workpool/job", {"name": "resize it", "body": [1]})
    jobs = [await api.take() for _ in range(4)]
    assert [(job["type"], job["description"], job["payload"]) for job in jobs] == [
        ("TIME_CRITICAL", None, None),
        (None, "why", {"a": 1}),
        (None, None, None),
        ("resize it", None, [1]),
    ]
    assert [job["number"] for job in jobs] == [1, 2, 3, 4]
    assert jobs[1]["id"] == "s"


async def test_a_consumer_is_a_worker(api: Api) -> None:
    """classic's consumer is seen natively; a native worker is another consumer, one without a name nobody's."""
    await enqueue(api, "classic")
    await api.send("GET", "/classic/jobs/dequeue", headers={"QUEUE_CONSUMER": "7"})
    assert ok(await api.get("/jobs"))["jobs"][0]["worker"] == "7"
    await enqueue(api, "native")
    await api.take(worker="robot")
    await enqueue(api, "native")
    await api.take()
    statuses = [
        (await api.send("POST", f"/classic/jobs/{number}/conclude", headers={"QUEUE_CONSUMER": "8"})).status for number in (1, 2, 3)
    ]
    assert statuses == [409, 409, 200]


async def test_an_id_is_taken_whoever_gave_it(api: Api) -> None:
    """simplequeue is told of the job that has it; the native API of a conflict."""
    await api.enqueue({"n": 1}, id="j")
    reply = await api.post("/simplequeue/jobs/submit", jobId="j", data={"n": 2})
    assert (reply.status, reply.json) == (200, {"jobId": "j", "state": "submitted", "data": {"n": 1}})
    await api.post("/simplequeue/jobs/submit", jobId="k", data={"n": 1})
    conflict = await api.post("/jobs/enqueue", id="k", payload={"n": 2})
    assert (conflict.status, conflict.json["code"]) == (409, "id_conflict")
    assert (await api.post("/jobs/enqueue", id="k", payload={"n": 1})).status == 200
