"""Headers of jobs, and what a queue says of how its jobs wait, over HTTP."""

from __future__ import annotations

from .harness import Api, assert_problem, at

SENT = {
    "tenant": "acme",
    "n": {"type": "Number", "value": "5"},
    "said": {"type": "String.utf-8", "value": "ä\n"},
    "blob": {"type": "Binary", "value": "AP8="},
}


async def test_a_worker_and_a_reader_are_shown_what_was_sent(api: Api) -> None:
    """In the same form; a plain text is one of type String, whichever way it was sent. Lists leave them out."""
    await api.enqueue(id="j", headers={**SENT, "plain": {"type": "String", "value": "x"}})
    shown = {**SENT, "plain": "x"}
    assert (await api.take())["headers"] == shown
    assert (await api.get("/jobs/j")).json["headers"] == shown
    assert "headers" not in (await api.get("/jobs")).json["jobs"][0]


async def test_a_job_without_any_shows_none(api: Api) -> None:
    """No field in any answer, whether none were sent or an empty object."""
    for job_id, more in (("a", {}), ("b", {"headers": {}})):
        await api.enqueue(id=job_id, **more)
        assert "headers" not in await api.take()
        assert "headers" not in (await api.get(f"/jobs/{job_id}")).json


async def test_a_repeat_is_compared_by_them(api: Api) -> None:
    """In any order."""
    await api.enqueue(id="j", headers=SENT)
    assert (await api.enqueue(id="j", headers=dict(reversed(SENT.items()))))["created"] is False
    reply = await api.post("/jobs/enqueue", id="j", payload=1, headers={**SENT, "tenant": "other"})
    assert_problem(reply, 409, "id_conflict", "headers")


async def test_what_is_wrong_is_named(api: Api) -> None:
    """The header at fault, in a batch by its place too; the others of the batch are taken."""
    for headers, field in (
        ({"tenant": ""}, "headers.tenant"),
        ({"blob": {"type": "Binary", "value": "?"}}, "headers.blob"),
        ({"n": {"type": "Int", "value": "5"}}, "headers.n"),
        ({"a b": "x"}, "headers"),
    ):
        assert_problem(await api.post("/jobs/enqueue", payload=1, headers=headers), 400, "bad_request", field)
    reply = await api.post("/batch/enqueue", jobs=[{"payload": 1, "headers": {"x": ""}}, {"payload": 1, "headers": SENT}])
    assert [item.get("error", {}).get("field") for item in reply.json["jobs"]] == ["headers.x", None]
    big = {"x": "y" * (1 << 20)}
    assert_problem(await api.post("/jobs/enqueue", payload=1, headers=big), 413, "too_large", "headers")


async def test_schedules_send_them(api: Api) -> None:
    """A schedule shows those of its job as they were sent, and each job has them."""
    job = {"payload": 1, "headers": SENT}
    shown = (await api.put("/schedules/s", job=job, every=60)).json
    assert shown["job"]["headers"] == SENT
    assert (await api.put("/schedules/s", **{key: shown[key] for key in ("job", "every")})).json["job"] == shown["job"]
    await api.post("/schedules/s/run")
    assert (await api.take())["headers"] == SENT


async def test_a_queue_delays_and_expires(api: Api) -> None:
    """As its policy says; times of the queue itself are shown."""
    await api.put("/queues/q", delay=5, expires_in=60, tags={"team": "a"}, attributes={"Name": "n"})
    job = await api.enqueue(id="j", queue="q")
    assert (job["status"], job["run_at"], job["expires_at"]) == ("scheduled", at(5), None)
    await api.enqueue(id="now", queue="q", delay=0)
    api.clock.advance(60)
    assert (await api.get("/jobs/j")).json["outcome"] == "expired"
    found = (await api.send("PATCH", "/queues/q", b'{"expires_in":null,"tags":{}}')).json
    assert (found["policy"]["delay"], found["policy"]["expires_in"], found["policy"]["tags"]) == (5, None, {})
    assert (found["created_at"], found["modified_at"]) == (at(0), at(60))
