"""Schedules over HTTP: what is asked and answered, what is refused, and what a token that holds for some queues reaches."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .conftest import Serve
from .harness import NOW, Api, assert_problem, at
from .test_access import ask, fleet
from .test_metrics import key, samples

JOB = {"payload": {"n": 1}, "queue": "q"}


async def put(api: Api, name: str = "s", **fields: Any) -> Any:
    """Make a schedule, each minute unless it says otherwise; how it is shown."""
    when = {} if "cron" in fields else {"every": 60}
    reply = await api.put(f"/schedules/{name}", **{"job": JOB, **when, **fields})
    assert reply.status == 200, reply
    return reply.json


async def patch(api: Api, name: str = "s", **fields: Any) -> Any:
    return await api.send("PATCH", f"/schedules/{name}", json.dumps(fields).encode())


async def test_a_schedule_is_shown_as_it_was_put(api: Api) -> None:
    """All its rules, its next five slots, and nothing made yet; and the body that is shown may be put again."""
    made = await put(api, cron="0 9 * * 1-5", timezone="Europe/Berlin", overlap="queue", jitter=5, starts_at="2027-01-20T00:00:00+01:00")
    assert made["job"] == JOB
    assert (made["cron"], made["every"], made["timezone"], made["overlap"]) == ("0 9 * * 1-5", None, "Europe/Berlin", "queue")
    assert (made["missed"], made["catch_up"], made["jitter"], made["starts_at"]) == ("last", 86_400.0, 5.0, "2027-01-19T23:00:00.000Z")
    assert made["next"][:3] == [f"2027-01-{day}T08:00:00.000Z" for day in (20, 21, 22)]
    assert (len(made["next"]), made["begun_at"]) == (5, NOW)
    assert [made[field] for field in ("last_at", "last_job", "running", "waiting", "made", "skipped", "problem")] == [
        None, None, [], [], 0, 0, None,
    ]  # fmt: skip
    assert (await api.get("/schedules/s")).json == made
    rules = {name: made[name] for name in ("job", "cron", "timezone", "overlap", "jitter", "starts_at")}
    assert await put(api, **rules) == made


async def test_a_job_says_which_schedule_and_slot_it_is_of(api: Api) -> None:
    """To who looks at it, lists it and takes it; a job that nobody scheduled says nothing of the kind."""
    await put(api)
    api.clock.advance(60)
    (listed,) = (await api.get("/jobs")).json["jobs"]
    assert listed["schedule"] == {"name": "s", "slot": at(60)}
    assert (await api.job(listed["id"]))["schedule"] == listed["schedule"]
    job = await api.take(queue="q")
    assert (job["id"], job["schedule"]) == ("s@2027-01-15T08:01:00Z", {"name": "s", "slot": at(60)})
    await api.enqueue(id="s@2027-01-15T08:07:00Z")
    assert "schedule" not in await api.job("s@2027-01-15T08:07:00Z")
    shown = (await api.get("/schedules/s")).json
    assert (shown["last_at"], shown["last_job"], shown["running"], shown["made"]) == (at(60), job["id"], [job["id"]], 1)


async def test_it_is_run_by_hand_beside_its_slots(api: Api) -> None:
    """Each time anew, also while it is paused; the answer is a job's summary with its place."""
    await put(api, paused=True)
    reply = await api.post("/schedules/s/run")
    assert (reply.status, reply.json["id"], reply.json["created"]) == (201, "s@run-1", True)
    assert (await api.get(reply.headers["location"])).json["schedule"] == {"name": "s", "slot": None}
    assert (await api.post("/schedules/s/run")).json["id"] == "s@run-2"
    assert_problem(await api.post("/schedules/s/run", payload=1), 400, "bad_request", "payload")
    assert (await api.get("/schedules/s")).json["made"] == 2


async def test_it_is_paused_and_resumed(api: Api) -> None:
    """Paused it has no slots ahead; what came meanwhile is left out."""
    await put(api)
    paused = (await api.post("/schedules/s/pause")).json
    assert (paused["paused"], paused["next"]) == (True, [])
    api.clock.advance(90)
    resumed = (await api.post("/schedules/s/resume")).json
    assert (resumed["paused"], resumed["next"][0], resumed["made"]) == (False, at(120), 0)


async def test_fields_are_changed_one_by_one(api: Api) -> None:
    """What is not said stays; a cron takes the every away and the other way round; null where it is a value."""
    await put(api, ends_at="2027-02-01T00:00:00Z", jitter=3)
    changed = (await patch(api, cron="@hourly")).json
    assert (changed["cron"], changed["every"], changed["jitter"], changed["job"]) == ("@hourly", None, 3.0, JOB)
    changed = (await patch(api, every=30, ends_at=None)).json
    assert (changed["cron"], changed["every"], changed["ends_at"], changed["next"][0]) == (None, 30.0, None, at(30))
    changed = (await patch(api, job={"payload": 2})).json
    assert changed["job"] == {"payload": 2}
    assert (await patch(api)).json == changed


async def test_lists_have_pages_and_no_payloads(api: Api) -> None:
    """By name; a job is shown without its payload, and one slot ahead."""
    for name in ("c", "a", "b"):
        await put(api, name)
    page = (await api.get("/schedules?limit=2")).json
    assert ([each["name"] for each in page["schedules"]], page["cursor"]) == (["a", "b"], "b")
    assert page["schedules"][0]["job"] == {"queue": "q"}
    assert page["schedules"][0]["next"] == [at(60)]
    page = (await api.get("/schedules?cursor=b")).json
    assert ([each["name"] for each in page["schedules"]], page["cursor"]) == (["c"], None)
    for query, field in (("limit=0", "limit"), ("limit=1001", "limit"), ("limit=x", "limit"), ("before=1", "before")):
        assert_problem(await api.get(f"/schedules?{query}"), 400, "bad_request", field)


async def test_past_slots_are_filled_in(api: Api) -> None:
    """The ids of their jobs, in order, the same when it is asked again; more than fit are refused by the field at fault."""
    await put(api, overlap="allow", starts_at="2027-01-15T07:50:00Z")
    span = {"from": "2027-01-15T07:50:00Z", "to": "2027-01-15T07:52:30Z"}
    reply = await api.post("/schedules/s/backfill", **span)
    ids = [f"s@2027-01-15T07:5{minute}:00Z" for minute in (0, 1, 2)]
    assert reply.json == {"schedule": "s", "jobs": ids}
    assert (await api.post("/schedules/s/backfill", **span)).json == reply.json
    assert {job["id"] for job in (await api.get("/jobs")).json["jobs"]} == set(ids)
    for bad, field in (
        ({"from": span["from"]}, "to"),
        ({"from": "yesterday", "to": span["to"]}, "from"),
        ({"from": "2027-01-15T07:50:00", "to": span["to"]}, "from"),
        ({"from": span["to"], "to": span["from"]}, "from"),
        ({"from": span["from"], "to": "2027-01-15T08:00:01Z"}, "to"),
        ({"from": "2010-01-01T00:00:00Z", "to": span["to"]}, "to"),
        ({"from": "1900-01-01T00:00:00Z", "to": span["to"]}, "from"),
        ({**span, "wait": 1}, "wait"),
    ):
        assert_problem(await api.post("/schedules/s/backfill", **bad), 400, "bad_request", field)


async def test_a_deleted_schedule_leaves_its_jobs(api: Api) -> None:
    """204, then 404; the job goes on and says still what made it."""
    await put(api)
    job = (await api.post("/schedules/s/run")).json["id"]
    assert (await api.send("DELETE", "/schedules/s")).status == 204
    for method, path in (
        ("GET", ""), ("DELETE", ""), ("PATCH", ""), ("POST", "/run"), ("POST", "/pause"), ("POST", "/resume"),
    ):  # fmt: skip
        body = b"{}" if method == "PATCH" else None
        assert "'s'" in assert_problem(await api.send(method, f"/schedules/s{path}", body), 404, "unknown_schedule")
    assert (await api.job(job))["schedule"]["name"] == "s"


BAD: tuple[tuple[dict[str, Any], str], ...] = (
    ({"job": JOB}, "cron"),
    ({"job": JOB, "cron": "@daily", "every": 5}, "cron"),
    ({"every": 60}, "job"),
    ({"job": {"queue": "q"}, "every": 60}, "job.payload"),
    ({"job": {**JOB, "id": "x"}, "every": 60}, "job.id"),
    ({"job": {**JOB, "run_at": NOW}, "every": 60}, "job.run_at"),
    ({"job": {**JOB, "queue": "no name"}, "every": 60}, "job.queue"),
    ({"job": {**JOB, "tags": ["a", "a"]}, "every": 60}, "job.tags"),
    ({"job": {**JOB, "what": 1}, "every": 60}, "job.what"),
    ({"job": {**JOB, "backoff": {"base": -1}}, "every": 60}, "job.backoff.base"),
    ({"job": JOB, "every": 0.5}, "every"),
    ({"job": JOB, "every": "1"}, "every"),
    ({"job": JOB, "every": 1e300}, "every"),
    ({"job": JOB, "cron": ""}, "cron"),
    ({"job": JOB, "cron": "* * * *"}, "cron"),
    ({"job": JOB, "cron": "61 * * * *"}, "cron"),
    ({"job": JOB, "cron": "* * * * * *"}, "cron"),
    ({"job": JOB, "cron": "*" * 201}, "cron"),
    ({"job": JOB, "cron": "0 0 30 2 *"}, "cron"),
    ({"job": JOB, "cron": "\u0000 * * * *"}, "cron"),
    ({"job": JOB, "cron": "@reboot"}, "cron"),
    ({"job": JOB, "cron": "@daily", "timezone": "Mars/Olympus"}, "timezone"),
    ({"job": JOB, "cron": "@daily", "timezone": "../etc/passwd"}, "timezone"),
    ({"job": JOB, "cron": "@daily", "timezone": ""}, "timezone"),
    ({"job": JOB, "every": 60, "missed": "some"}, "missed"),
    ({"job": JOB, "every": 60, "overlap": "some"}, "overlap"),
    ({"job": JOB, "every": 60, "catch_up": -1}, "catch_up"),
    ({"job": JOB, "every": 60, "jitter": 86_401}, "jitter"),
    ({"job": JOB, "every": 60, "starts_at": "2027-01-15"}, "starts_at"),
    ({"job": JOB, "every": 60, "ends_at": NOW}, "ends_at"),
    ({"job": JOB, "every": 60, "paused": 1}, "paused"),
    ({"job": JOB, "every": 60, "name": "s"}, "name"),
)


@pytest.mark.parametrize(("body", "field"), BAD, ids=[f"{field}-{at}" for at, (_, field) in enumerate(BAD)])
async def test_what_is_wrong_is_named_and_changes_nothing(api: Api, body: dict[str, Any], field: str) -> None:
    """A new schedule is not made, and one that is there stays as it is."""
    assert_problem(await api.put("/schedules/s", **body), 400, "bad_request", field)
    assert_problem(await api.get("/schedules/s"), 404, "unknown_schedule")
    before = await put(api, "t")
    assert_problem(await api.put("/schedules/t", **body), 400, "bad_request", field)
    assert (await api.get("/schedules/t")).json == before


async def test_names_are_as_those_of_queues(api: Api) -> None:
    """A name that is not one is refused; one that stands in the query is found."""
    assert_problem(await api.put("/schedules/a%2Fb", job=JOB, every=60), 400, "bad_request", "name")
    assert_problem(await api.put(f"/schedules/{'x' * 81}", job=JOB, every=60), 400, "bad_request", "name")
    await put(api, "s")
    assert (await api.get("/schedules/-?name=s")).json["name"] == "s"


async def test_there_is_a_bound(serve: Serve) -> None:
    """429 for one more, by number or by the bytes of their payloads; one that is there may be changed."""
    api = await serve(schedules_max=2, schedules_bytes_max=30)
    await put(api, "a")
    await put(api, "b")
    assert_problem(await api.put("/schedules/c", job=JOB, every=60), 429, "too_many_schedules")
    assert_problem(await patch(api, "b", job={"payload": "x" * 30}), 429, "too_many_schedules")
    assert (await patch(api, "b", job={"payload": "x" * 10})).status == 200
    await api.send("DELETE", "/schedules/a")
    await put(api, "c")


async def test_a_payload_that_is_too_large_is_refused(api: Api) -> None:
    """413, as an enqueue of it would be, by the field's place in the body."""
    body = {"job": {"payload": "x" * (1024 * 1024 + 1)}, "every": 60}
    assert_problem(await api.put("/schedules/s", **body), 413, "too_large", "job.payload")


async def test_a_token_sees_schedules_of_its_queues(serve: Serve) -> None:
    """Others are not there for it, in lists neither; it makes none for a queue that is not its own, and moves none there."""
    api = await serve(access=fleet(["mine"]))
    theirs, mine = {"job": {"payload": 1, "queue": "secret"}, "every": 60}, {"job": {"payload": 1, "queue": "mine"}, "every": 60}
    assert (await ask(api, "PUT", "/schedules/a", theirs, "root")).status == 200
    assert (await ask(api, "PUT", "/schedules/b", mine)).status == 200
    listed = (await ask(api, "GET", "/schedules?limit=1")).json
    assert ([each["name"] for each in listed["schedules"]], listed["cursor"]) == (["b"], None)
    for method, path, body in (
        ("GET", "", None), ("DELETE", "", None), ("PATCH", "", {}), ("POST", "/run", None), ("POST", "/pause", None),
        ("POST", "/backfill", {"from": NOW, "to": NOW}),
    ):  # fmt: skip
        assert_problem(await ask(api, method, f"/schedules/a{path}", body), 404, "unknown_schedule")
    assert_problem(await ask(api, "PUT", "/schedules/c", theirs), 403, "forbidden", "queue")
    assert_problem(await ask(api, "PUT", "/schedules/a", mine), 403, "forbidden", "queue")
    assert_problem(await ask(api, "PATCH", "/schedules/b", {"job": theirs["job"]}), 403, "forbidden", "queue")
    assert (await ask(api, "GET", "/schedules/b")).json["job"]["queue"] == "mine"


async def test_metrics_tell_of_them(serve: Serve) -> None:
    """How many there are against the bound, what they made and left out, and those that cannot make a job."""
    api = await serve(schedules_max=7)
    await put(api, "a")
    await put(api, "b", every=30)
    await api.enqueue(id="b@2027-01-15T08:01:30Z", queue="q")
    api.clock.advance(30)
    api.clock.advance(30)
    api.clock.advance(30)
    for job in (await api.get("/jobs?status=queued")).json["jobs"]:
        await api.post(f"/jobs/{job['id']}/cancel")
    found = await samples(api)
    assert [found[key(f"jobqueue_schedule{name}")] for name in ("s", "s_limit", "s_failing", "_runs_total", "_slots_skipped_total")] == [
        2, 7, 0, 2, 2,
    ]  # fmt: skip


@pytest.mark.parametrize(("on_conflict", "status"), [("keep", 200), ("replace", 200), ("refuse", 409), ("follow", 201)])
async def test_a_unique_job_that_is_there_already_leaves_the_slot_out(api: Api, on_conflict: str, status: int) -> None:
    """Also with overlap allow, and it is no problem of the schedule; a run by hand answers as an enqueue would."""
    # What follows waits for a holder that a worker has.
    unique = {"key": "k", "on_conflict": on_conflict}
    await put(api, job={**JOB, "unique": unique}, overlap="allow")
    await api.enqueue(id="holder", queue="q", unique={"key": "k"})
    if on_conflict == "follow":
        await api.take(queue="q")
    api.clock.advance(60)
    shown = (await api.get("/schedules/s")).json
    assert (shown["made"], shown["skipped"], shown["problem"]) == ((1, 0, None) if status == 201 else (0, 1, None))
    reply = await api.post("/schedules/s/run")
    assert reply.status == status
    if status == 200:
        assert (reply.json["id"], reply.json["created"]) == ("holder", False)
    assert (await put(api, job={**JOB, "unique": unique}, overlap="allow"))["begun_at"] == NOW


@pytest.mark.parametrize("hours", [-8, 8])
async def test_a_step_of_the_clock_stalls_nothing(api: Api, hours: int) -> None:
    """The next slot is the next one by the new time, a step forward being noticed within seconds; and none runs twice."""
    await put(api, overlap="allow", missed="skip")
    api.clock.advance(60)
    api.clock.step_wall_clock(3_600 * hours)
    api.clock.advance(10)
    api.clock.advance(3_600 if hours > 0 else 9 * 3_600)
    ids = [job["id"] for job in (await api.get("/jobs?limit=1000")).json["jobs"]]
    assert len(ids) == len(set(ids))
    # Back: the one slot that had run by the old time does not run again. Forward: one that is less than a minute old runs at once.
    assert len(ids) == (62 if hours > 0 else 61)
    assert (await api.get("/schedules/s")).json["next"][0] > ids[0].partition("@")[2]
