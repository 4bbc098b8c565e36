"""The workpool dialect as its clients speak it: every request, every status, every refusal."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest

from tests.api.conftest import Serve
from tests.api.harness import NOW, Api, Reply, answered, at, request, until

DEEP = 100
"""How deep a body may be nested."""


def refused(reply: Reply, status: int, field: str | None = None) -> str:
    """An error as this dialect's clients know it: a message, and the field at fault if one is. Returns the message."""
    assert (reply.status, reply.headers["content-type"]) == (status, "application/json"), reply
    assert list(reply.json) == ["message"] + ["field"] * (field is not None)
    assert reply.json.get("field") == field
    if field is not None:
        assert reply.json["message"].startswith((f"{field}: ", f"missing field '{field}'"))
    assert ("retry-after" in reply.headers) is (status in (429, 503))
    return str(reply.json["message"])


async def submitted(api: Api, name: str = "resize", body: Any = 1) -> str:
    """Submit a job; its id."""
    reply = await api.post("/workpool/job", {"name": name, "body": body})
    assert reply.status == 201, reply
    return str(reply.json["createdJob"]["id"])


async def result(api: Api, job_id: str, query: str = "") -> tuple[int, Any]:
    """What /result answers: its status and its body."""
    reply = await api.get(f"/workpool/result/{job_id}{query}")
    assert reply.headers["content-type"] == "application/json"
    return reply.status, reply.json


async def status(api: Api, job_id: str) -> Any:
    """What /status answers of a job that exists."""
    reply = await api.get(f"/workpool/status/{job_id}")
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    assert list(reply.json) == ["id", "status"]
    assert reply.json["id"] == job_id
    return reply.json["status"]


async def conclude(api: Api, job_id: str, token: str, outcome: str = "succeeded", **more: Any) -> None:
    """What a worker of the native API does at the end."""
    reply = await api.post(f"/jobs/{job_id}/conclude", lease=token, outcome=outcome, **more)
    assert reply.status == 200, reply


# POST /job.


async def test_a_job_is_created(api: Api) -> None:
    """201, a message, and the job as it was made: id, name, body, status, time."""
    reply = await api.post("/workpool/job", {"name": "resize", "body": {"width": 80}})
    assert (reply.status, reply.headers["content-type"]) == (201, "application/json")
    made = reply.json["createdJob"]
    assert reply.json == {
        "message": "job created",
        "createdJob": {"id": made["id"], "name": "resize", "body": {"width": 80}, "status": "queued", "createdDateTime": NOW},
    }
    assert (await api.job(made["id"]))["type"] == "resize"


@pytest.mark.parametrize("body", [None, False, True, 0, -1.5, "", "text", [], {}, {"a": [{"b": None}]}, 2**70])
async def test_any_json_is_a_body(api: Api, body: Any) -> None:
    """null, false and 0 are bodies too: the worker is handed what was sent."""
    job_id = await submitted(api, body=body)
    job = await api.take()
    assert (job["id"], job["payload"]) == (job_id, body)


async def test_a_body_is_kept_byte_for_byte(api: Api) -> None:
    """Spaces, repeated keys and numbers too large for anyone come back as they were sent."""
    body = b'{ "a": 1, "a":  1e400, "b": "\\u00e9\xc3\xa9" }'
    reply = await api.post("/workpool/job", b'{"name": "n", "body":  ' + body + b"  }")
    assert reply.status == 201
    assert b'"body":' + body + b',"status"' in reply.body
    assert b'"payload":' + body + b"," in (await api.post("/jobs/dequeue", wait=0)).body


@pytest.mark.parametrize(
    "name", ["a", "make thumbnails", "größe ändern", "縮小", "\U0001f5bc", "a/b?c=d&e#f", '"quoted" \\ <b>', " ", "x" * 128, "é" * 128]
)
async def test_a_name_is_any_text_of_up_to_128_characters(api: Api, name: str) -> None:
    """It comes back as it was sent, and is the type of the native job."""
    reply = await api.post("/workpool/job", {"name": name, "body": 1})
    assert (reply.status, reply.json["createdJob"]["name"]) == (201, name)
    assert (await api.take())["type"] == name


@pytest.mark.parametrize("name", [None, True, 0, 5.5, "", [], ["a"], {}, {"name": "a"}, "x" * 129, "a\nb", "\x00", "\x7f", "\x9f"])
async def test_what_is_no_name_is_refused(api: Api, name: Any) -> None:
    """400 that names the field, and no job."""
    before = api.state()
    refused(await api.post("/workpool/job", {"name": name, "body": 1}), 400, "name")
    assert api.state() == before


@pytest.mark.parametrize(
    ("sent", "field"),
    [
        (b'{"body": 1}', "name"),
        (b'{"Name": "a", "body": 1}', "name"),
        (b'{"name": "a"}', "body"),
        (b"{}", "name"),
        (b"", None),
        (b" ", None),
        (b"null", None),
        (b"[]", None),
        (b'"name"', None),
        (b'[{"name": "a", "body": 1}]', None),
        (b"name=a&body=1", None),
        (b'{"name": "a", "body": 1', None),
        (b'{"name": "a", "body": 1}}', None),
        (b'{"name": "a", "body": }', None),
        (b'{"name": "a", "body": nope}', None),
        (b'{"name": "a", "body": NaN}', None),
        (b"{'name': 'a', 'body': 1}", None),
        (b'{"name": "\xff", "body": 1}', None),
        (b'{"name": "\\ud800", "body": 1}', None),
        (b'{"name": ' + b"9" * 5_000 + b', "body": 1}', "name"),
        (b"[" * 100_000, None),
        (b'{"name": "a", "body": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", None),
    ],
)
async def test_a_submit_that_is_none_is_refused(api: Api, sent: bytes, field: str | None, caplog: pytest.LogCaptureFixture) -> None:
    """400 that names the field where there is one, no job, and no defect in the log."""
    before = api.state()
    refused(await api.post("/workpool/job", sent), 400, field)
    assert api.state() == before
    assert not caplog.records


async def test_a_body_may_be_a_hundred_deep(api: Api) -> None:
    """One level more is refused and named; brackets inside strings do not count."""
    deepest = b"[" * DEEP + b'"[[["' + b"]" * DEEP
    assert (await api.post("/workpool/job", b'{"name": "a", "body": ' + deepest + b"}")).status == 201
    before = api.state()
    refused(await api.post("/workpool/job", b'{"name": "a", "body": [' + deepest + b"]}"), 400, "body")
    assert api.state() == before


async def test_a_body_that_is_too_large_is_refused(serve: Serve) -> None:
    """413: by the bound on a job it names the field, by the bound on a request it does not."""
    api = await serve(payload_bytes_max=100, body_bytes_max=1_000)
    await submitted(api, body="x" * 98)
    before = api.state()
    assert "100 are allowed" in refused(await api.post("/workpool/job", {"name": "a", "body": "x" * 101}), 413, "body")
    refused(await api.post("/workpool/job", {"name": "a", "body": "x" * 1_000}), 413)
    assert api.state() == before


async def test_of_repeated_fields_the_last_counts(api: Api) -> None:
    """As in most JSON parsers; other fields are ignored, those of the answer included."""
    sent = b'{"name": "a", "body": 1, "id": "mine", "status": "done", "priority": "x", "body": 2, "name": "b"}'
    made = (await api.post("/workpool/job?wait=x&nope", sent)).json["createdJob"]
    assert (made["name"], made["body"], made["status"]) == ("b", 2, "queued")
    assert made["id"] != "mine"
    assert (await api.job(made["id"]))["priority"] == 5


@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-8", "nonsense"])
async def test_any_declared_type_will_do(api: Api, kind: str | None) -> None:
    """Clients such as `curl -d` declare a form and send JSON."""
    wire = await api.site.wire()
    data = b'{"name": "a", "body": 1}'
    lines = [] if kind is None else [f"Content-Type: {kind}"]
    head = request("POST", "/workpool/job", None, f"Content-Length: {len(data)}", *lines)
    assert (await wire.ask(head + data)).status == 201


async def test_a_page_must_declare_json(api: Api) -> None:
    """A browser sends other types without asking the server first, so with an Origin they are refused, be it our own."""
    data, headers = b'{"name": "a", "body": 1}', {"Origin": f"http://{api.site.host}:{api.site.port}"}
    before = api.state()
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        refused(await api.send("POST", "/workpool/job", data, {**headers, "Content-Type": kind}), 415)
    assert api.state() == before
    assert (await api.send("POST", "/workpool/job", data, headers)).status == 201


async def test_a_compressed_body_is_refused(api: Api) -> None:
    """415, as everywhere."""
    refused(await api.send("POST", "/workpool/job", b'{"name":"a","body":1}', {"Content-Encoding": "gzip"}), 415)


async def test_a_body_that_does_not_arrive_is_given_up(serve: Serve) -> None:
    """408 in this dialect's shape, and the connection ends."""
    api = await serve(body_seconds=0.02)
    wire = await api.site.wire()
    wire.send(request("POST", "/workpool/job", None, "Content-Length: 50") + b'{"name":')
    reply = await wire.reply()
    refused(reply, 408)
    assert reply.headers["connection"] == "close"


async def test_a_full_server_says_when_to_come_back(serve: Serve) -> None:
    """429 with Retry-After; the jobs that are there go on."""
    api = await serve(jobs_max=1)
    job_id = await submitted(api)
    before = api.state()
    refused(await api.post("/workpool/job", {"name": "a", "body": 1}), 429)
    assert api.state() == before
    assert await status(api, job_id) == "queued"


async def test_a_server_that_shuts_down_takes_no_job(api: Api) -> None:
    """503 with Retry-After; status and result are still told."""
    job_id = await submitted(api)
    api.app.drain()
    refused(await api.post("/workpool/job", {"name": "a", "body": 1}), 503)
    assert await status(api, job_id) == "queued"
    reply = await api.get(f"/workpool/result/{job_id}?wait=50")
    assert (reply.status, reply.headers["retry-after"]) == (202, "1")


# GET /status and /result.


async def test_a_job_goes_from_queued_to_done(api: Api) -> None:
    """queued, in-progress while a native worker holds it, then done with the worker's result; 202 before, 200 after."""
    job_id = await submitted(api)
    assert await status(api, job_id) == "queued"
    assert await result(api, job_id) == (202, {"id": job_id, "status": "queued"})
    token = (await api.take())["lease"]["token"]
    assert await status(api, job_id) == "in-progress"
    assert await result(api, job_id) == (202, {"id": job_id, "status": "in-progress"})
    await conclude(api, job_id, token, result={"sum": 3})
    assert await status(api, job_id) == "done"
    assert await result(api, job_id) == (200, {"id": job_id, "status": "done", "result": {"sum": 3}})


@pytest.mark.parametrize("given", [None, False, 0, "", [], "text", {"a": [1]}])
async def test_a_result_is_any_json(api: Api, given: Any) -> None:
    """As the worker said it."""
    job_id = await submitted(api)
    await conclude(api, job_id, (await api.take())["lease"]["token"], result=given)
    assert await result(api, job_id) == (200, {"id": job_id, "status": "done", "result": given})


async def test_a_result_that_was_not_given_is_null(api: Api) -> None:
    """done always has a result."""
    job_id = await submitted(api)
    await conclude(api, job_id, (await api.take())["lease"]["token"])
    assert await result(api, job_id) == (200, {"id": job_id, "status": "done", "result": None})


@pytest.mark.parametrize("given", [None, False, 0, "", "ValueError: no", {"type": "ValueError", "message": "no"}])
async def test_an_error_is_any_json(api: Api, given: Any) -> None:
    """A job that failed for good tells its worker's error as it came, and no result."""
    job_id = await submitted(api)
    await conclude(api, job_id, (await api.take())["lease"]["token"], "failed", error=given, retry=False)
    assert await status(api, job_id) == "failed"
    assert await result(api, job_id) == (200, {"id": job_id, "status": "failed", "error": given})


async def test_an_error_that_was_not_given_says_failed(api: Api) -> None:
    """failed always has an error."""
    job_id = await submitted(api)
    await conclude(api, job_id, (await api.take())["lease"]["token"], "failed", retry=False)
    assert await result(api, job_id) == (200, {"id": job_id, "status": "failed", "error": "failed"})


async def test_a_failure_that_is_tried_again_is_queued(api: Api) -> None:
    """Only the last attempt's failure is the job's; until then nothing has failed."""
    job_id = await submitted(api)
    for attempt in range(5):
        token = (await api.take())["lease"]["token"]
        await conclude(api, job_id, token, "failed", error=f"attempt {attempt}")
        if attempt < 4:
            assert await status(api, job_id) == "queued"
            assert await result(api, job_id) == (202, {"id": job_id, "status": "queued"})
            api.clock.advance(300)
    assert await result(api, job_id) == (200, {"id": job_id, "status": "failed", "error": "attempt 4"})


async def test_leases_that_ran_out_too_often_fail_the_job(api: Api) -> None:
    """Five workers that vanish are enough; the error says what became of them."""
    job_id = await submitted(api)
    for _ in range(5):
        await api.take()
        assert await status(api, job_id) == "in-progress"
        api.clock.advance(300)
    assert await result(api, job_id) == (200, {"id": job_id, "status": "failed", "error": "lease_expired"})


async def test_a_cancelled_job_has_failed(api: Api) -> None:
    """Cancelled natively: failed, and the error says so, whatever an attempt before it had reported."""
    waiting, tried = await submitted(api, body=1), await submitted(api, body=2)
    assert (await api.post(f"/jobs/{waiting}/cancel")).status == 200
    await conclude(api, tried, (await api.take())["lease"]["token"], "failed", error="of an attempt before")
    assert (await api.post(f"/jobs/{tried}/cancel")).status == 200
    for job_id in (waiting, tried):
        assert await status(api, job_id) == "failed"
        assert await result(api, job_id) == (200, {"id": job_id, "status": "failed", "error": "cancelled"})


async def test_an_expired_job_has_failed(api: Api) -> None:
    """A job that was enqueued natively with expires_in and that nobody took."""
    await api.enqueue(id="late", expires_in=5)
    api.clock.advance(5)
    assert await result(api, "late") == (200, {"id": "late", "status": "failed", "error": "expired"})


@pytest.mark.parametrize("job_id", ["unknown", "0", "a b", "é", "a/b", "..", "x" * 128])
async def test_an_unknown_job_is_404(api: Api, job_id: str) -> None:
    """With a wait too, and at once."""
    for path in ("/status/{}", "/result/{}", "/result/{}?wait=50"):
        refused(await api.get("/workpool" + path.format(quote(job_id, safe="").replace(".", "%2E"))), 404)


@pytest.mark.parametrize(("segment", "field"), [("x" * 129, "id"), ("%ff", "path"), ("%ed%a0%80", "path")])
async def test_what_cannot_be_an_id_is_400(api: Api, segment: str, field: str) -> None:
    """Too long, or no text at all."""
    for path in ("/status/", "/result/"):
        refused(await api.get(f"/workpool{path}{segment}"), 400, field)


@pytest.mark.parametrize("job_id", ["job", "status", "result", "a/b", "a b", "é ", "%2F", "?wait=1"])
async def test_ids_that_others_chose_are_reached(api: Api, job_id: str) -> None:
    """Percent-encoded in the path, names of routes included."""
    await api.enqueue(id=job_id)
    assert (await api.get(f"/workpool/status/{quote(job_id, safe='')}")).json == {"id": job_id, "status": "queued"}
    assert await result(api, quote(job_id, safe="")) == (202, {"id": job_id, "status": "queued"})


# ?wait= on /result.


@pytest.mark.parametrize("outcome", ["succeeded", "failed"])
async def test_a_held_result_is_answered_by_the_conclude(api: Api, outcome: str) -> None:
    """At once, no time passes; so does everybody else who waits for it."""
    job_id = await submitted(api)
    token = (await api.take())["lease"]["token"]
    held = [await api.hold(f"/workpool/result/{job_id}?wait=50", method="GET") for _ in range(3)]
    said = {"result": 3} if outcome == "succeeded" else {"error": 3, "retry": False}
    await conclude(api, job_id, token, outcome, **said)
    expected = {"status": "done", "result": 3} if outcome == "succeeded" else {"status": "failed", "error": 3}
    for waiting in held:
        reply = await answered(waiting)
        assert (reply.status, reply.json) == (200, {"id": job_id, **expected})
    assert api.backend.totals().waiters == 0


@pytest.mark.parametrize("how", ["classic", "simplequeue", "cancel", "expire", "lease"])
async def test_a_held_result_is_answered_however_the_job_ends(api: Api, how: str) -> None:
    """By another dialect, a cancel, its expiry, or the end of its last lease."""
    await api.enqueue(id="j", max_attempts=1, **({"expires_in": 9} if how == "expire" else {}))
    if how in ("classic", "simplequeue", "lease"):
        await api.take(lease_seconds=9)
    held = await api.hold("/workpool/result/j?wait=50", method="GET")
    if how == "classic":
        assert (await api.post("/classic/jobs/1/conclude")).status == 200
    elif how == "simplequeue":
        assert (await api.post("/simplequeue/jobs/complete", jobId="j", status="failed")).status == 200
    elif how == "cancel":
        assert (await api.post("/jobs/j/cancel")).status == 200
    else:
        api.clock.advance(9)
    reply = await answered(held)
    error = {"simplequeue": "failed", "cancel": "cancelled", "expire": "expired", "lease": "lease_expired"}.get(how)
    ended = {"status": "done", "result": None} if how == "classic" else {"status": "failed", "error": error}
    assert (reply.status, reply.json) == (200, {"id": "j", **ended})


async def test_a_wait_that_passes_is_202(api: Api) -> None:
    """With the job as it stands then; exactly when the wait is over."""
    job_id = await submitted(api)
    held = await api.hold(f"/workpool/result/{job_id}?wait=20", method="GET")
    await api.take()
    api.clock.advance(19.999)
    assert not held.done()
    assert api.backend.totals().waiters == 1
    api.clock.advance(0.001)
    reply = await answered(held)
    assert (reply.status, reply.json) == (202, {"id": job_id, "status": "in-progress"})
    assert "retry-after" not in reply.headers


async def test_a_drain_answers_what_is_held(api: Api) -> None:
    """202 with Retry-After, so that the client comes back to the next server."""
    job_id = await submitted(api)
    held = await api.hold(f"/workpool/result/{job_id}?wait=50", method="GET")
    api.app.drain()
    reply = await answered(held)
    assert (reply.status, reply.headers["retry-after"], reply.json["status"]) == (202, "1", "queued")


@pytest.mark.parametrize("wait", ["", "x", "-1", "-0.001", "55.001", "nan", "inf", "1e400", "null", "true", "1&wait=2", "%ff"])
async def test_a_wait_that_is_none_is_refused(api: Api, wait: str) -> None:
    """400 that names the parameter, also where there is nothing to wait for."""
    await api.concluded("over")
    reply = await api.get(f"/workpool/result/over?wait={wait}")
    refused(reply, 400, None if wait == "%ff" else "wait")


async def test_too_long_a_wait_names_the_cap(api: Api) -> None:
    """So that a client can ask for what it may."""
    await api.enqueue(id="j")
    assert "55" in refused(await api.get("/workpool/result/j?wait=56"), 400, "wait")


async def test_a_client_that_hangs_up_waits_no_longer(api: Api) -> None:
    """Its place is free at once, and the job goes on."""
    await api.enqueue(id="j")
    wire = await api.site.wire()
    wire.send(request("GET", "/workpool/result/j?wait=50"))
    await until(lambda: api.backend.totals().waiters == 1)
    await wire.close()
    await until(lambda: api.backend.totals().waiters == 0)
    assert await status(api, "j") == "queued"


async def test_other_parameters_are_ignored(api: Api) -> None:
    """On every call, however odd, as these clients' servers did."""
    await api.enqueue(id="j")
    assert await result(api, "j", "?verbose=1&verbose=2&wait=0&x") == (202, {"id": "j", "status": "queued"})
    assert (await api.get("/workpool/status/j?wait=nonsense&%ff")).status == 200


async def test_more_waits_than_may_be_are_429(serve: Serve) -> None:
    """With Retry-After; without a wait it is answered as ever."""
    api = await serve(waiters_max=1)
    await api.enqueue(id="j")
    await api.hold("/workpool/result/j?wait=50", method="GET")
    refused(await api.get("/workpool/result/j?wait=50"), 429)
    assert (await result(api, "j"))[0] == 202


# What all its paths have in common.


@pytest.mark.parametrize(
    ("method", "path", "status_code", "allowed"),
    [
        ("GET", "/workpool/job", 405, "POST"),
        ("PUT", "/workpool/job", 405, "POST"),
        ("POST", "/workpool/status/j", 405, "GET, HEAD"),
        ("DELETE", "/workpool/result/j", 405, "GET, HEAD"),
        ("GET", "/workpool", 404, None),
        ("GET", "/workpool/", 404, None),
        ("GET", "/workpool/status", 404, None),
        ("GET", "/workpool/status/", 404, None),
        ("GET", "/workpool/result/a/b", 404, None),
        ("POST", "/workpool/jobs", 404, None),
    ],
)
async def test_paths_and_methods_that_are_none(api: Api, method: str, path: str, status_code: int, allowed: str | None) -> None:
    """404 and 405 have this dialect's shape; 405 lists what is possible."""
    reply = await api.send(method, path)
    refused(reply, status_code)
    assert reply.headers.get("allow") == allowed


async def test_a_head_tells_the_length(api: Api) -> None:
    """Of the body that GET would have."""
    job_id = await submitted(api)
    for path in (f"/workpool/status/{job_id}", f"/workpool/result/{job_id}"):
        head, whole = await api.send("HEAD", path), await api.get(path)
        assert (head.status, head.headers["content-length"], head.body) == (whole.status, str(len(whole.body)), b"")


async def test_times_are_those_of_the_server(api: Api) -> None:
    """createdDateTime is when the submit came, in UTC with milliseconds."""
    api.clock.advance(61.5)
    reply = await api.post("/workpool/job", {"name": "a", "body": 1})
    assert reply.json["createdJob"]["createdDateTime"] == at(61.5)


async def test_a_submit_is_handed_to_a_worker_that_waits(api: Api) -> None:
    """The job is told as queued, as it stood when it was made, and is the waiting worker's at once."""
    held = await api.hold("/jobs/dequeue", wait=50)
    made = (await api.post("/workpool/job", {"name": "a", "body": {"n": 1}})).json["createdJob"]
    job = json.loads((await answered(held)).body)
    assert (made["status"], job["id"], job["payload"]) == ("queued", made["id"], {"n": 1})
    assert await status(api, made["id"]) == "in-progress"
