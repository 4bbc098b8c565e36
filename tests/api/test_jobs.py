"""GET /jobs/{id}, GET /jobs, POST /jobs/{id}/cancel and /retry."""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import Serve
from .harness import NOW, Api, answered, assert_problem, at, until

# Looking at a job.


async def test_a_job_in_progress_shows_everything_but_its_token(api: Api) -> None:
    """Who works on it since when and until when; the token is its holder's alone."""
    await api.enqueue([1], id="j", expires_in=600)
    api.clock.advance(1)
    token = (await api.take(worker="w"))["lease"]["token"]
    await api.post("/jobs/j/extend", lease=token, progress=0.5, message="half")
    reply = await api.get("/jobs/j")
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    assert reply.json == {
        "id": "j",
        "queue": "default",
        "type": None,
        "number": 1,
        "description": None,
        "priority": 5,
        "status": "in_progress",
        "outcome": None,
        "attempts": 1,
        "max_attempts": None,
        "created_at": NOW,
        "run_at": None,
        "expires_at": at(600),
        "started_at": at(1),
        "concluded_at": None,
        "lease_expires_at": at(301),
        "worker": "w",
        "progress": 0.5,
        "message": "half",
        "cancel_requested": False,
        "error": None,
        "key": None,
        "tags": [],
        "waiting_for": [],
        "result": None,
        "past": [],
        "payload": [1],
    }


async def test_the_lease_token_is_shown_to_nobody_but_its_holder(api: Api) -> None:
    """Neither while the lease lives nor after; not by GET, lists, cancel, retry, enqueue or queues."""
    token = await api.working("j")
    replies = [await api.get(path) for path in ("/jobs/j", "/jobs", "/queues", "/queues/default")]
    replies += [await api.post("/jobs/enqueue", payload=1, id="j"), await api.post("/jobs/j/cancel")]
    replies += [await api.post("/jobs/j/extend", lease=token), await api.post("/jobs/j/conclude", lease=token, outcome="succeeded")]
    replies += [await api.get("/jobs/j"), await api.get("/jobs?outcome=cancelled"), await api.post("/jobs/j/retry")]
    assert [reply.status for reply in replies] == [200] * len(replies)
    assert not [reply for reply in replies if token.encode() in reply.body]


async def test_an_unknown_job_is_404(api: Api) -> None:
    """With a wait too, at once."""
    assert "'none'" in assert_problem(await api.get("/jobs/none"), 404, "unknown_job")
    assert_problem(await api.get("/jobs/none?wait=5"), 404, "unknown_job")


async def test_a_forgotten_job_is_404(serve: Serve) -> None:
    """History is bounded, the oldest of an outcome goes first."""
    api = await serve(history_jobs_max=1)
    await api.concluded("old")
    await api.concluded("new")
    assert_problem(await api.get("/jobs/old"), 404, "unknown_job")
    assert (await api.job("new"))["outcome"] == "succeeded"


@pytest.mark.parametrize("wait", ["", "?wait=0"])
async def test_without_a_wait_get_answers_at_once(api: Api, wait: str) -> None:
    """The default wait of GET is 0."""
    await api.enqueue(id="j")
    reply = await api.get(f"/jobs/j{wait}")
    assert (reply.status, reply.json["status"]) == (200, "queued")


async def test_waiting_for_a_result_ends_with_the_job(api: Api) -> None:
    """GET ?wait= is held until the job is concluded, attempts that fail in between notwithstanding."""
    token = await api.working("j", backoff={"base": 0})
    first = await api.hold("/jobs/j?wait=55", method="GET")
    second = await api.hold("/jobs/j?wait=55", method="GET")
    await api.post("/jobs/j/conclude", lease=token, outcome="failed", error=1)
    api.clock.advance(0.001)
    token = (await api.take())["lease"]["token"]
    assert not first.done()
    await api.post("/jobs/j/conclude", lease=token, outcome="succeeded", result={"n": 7})
    for held in (first, second):
        reply = await answered(held)
        assert (reply.status, reply.json["outcome"], reply.json["result"]) == (200, "succeeded", {"n": 7})
    assert (await api.get("/jobs/j?wait=55")).json["outcome"] == "succeeded"


async def test_a_wait_for_a_result_that_passes_shows_the_job_as_it_is(api: Api) -> None:
    """200 with the status of that moment; the client asks again."""
    await api.enqueue(id="j")
    held = await api.hold("/jobs/j?wait=5", method="GET")
    await api.take()
    api.clock.advance(5)
    reply = await answered(held)
    assert (reply.status, reply.json["status"]) == (200, "in_progress")
    assert api.backend.totals().waiters == 0


@pytest.mark.parametrize("wait", ["55.5", "-1", "1e9", "nan"])
async def test_a_wait_out_of_range_is_400_and_names_the_cap(api: Api, wait: str) -> None:
    """As for dequeue."""
    await api.enqueue(id="j")
    assert "0 to 55 seconds" in assert_problem(await api.get(f"/jobs/j?wait={wait}"), 400, "bad_request", "wait")


async def test_a_client_that_hangs_up_no_longer_waits_for_a_result(api: Api) -> None:
    """Its place is given up."""
    await api.enqueue(id="j")
    held = await api.hold("/jobs/j?wait=5", method="GET")
    held.cancel()
    await until(lambda: api.backend.totals().waiters == 0)


# Listing jobs.


async def filled(api: Api) -> None:
    """One job in every status and with every outcome, named for it."""
    await api.concluded("succeeded", queue="a", type="t")
    await api.concluded("failed", "failed", queue="a", type="t")
    await api.enqueue(id="cancelled", queue="b", type="t")
    await api.post("/jobs/cancelled/cancel")
    await api.enqueue(id="expired", queue="b", expires_in=1)
    api.clock.advance(1)
    await api.working("in_progress", queue="a")
    await api.enqueue(id="scheduled", queue="b", delay=60, type="u")
    await api.enqueue(id="queued", queue="b")


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("", ["queued", "scheduled", "in_progress", "expired", "cancelled", "failed", "succeeded"]),
        ("?status=scheduled", ["scheduled"]),
        ("?status=queued", ["queued"]),
        ("?status=in_progress", ["in_progress"]),
        ("?status=concluded", ["expired", "cancelled", "failed", "succeeded"]),
        ("?outcome=succeeded", ["succeeded"]),
        ("?outcome=failed", ["failed"]),
        ("?outcome=cancelled", ["cancelled"]),
        ("?outcome=expired", ["expired"]),
        ("?queue=a", ["in_progress", "failed", "succeeded"]),
        ("?type=t", ["cancelled", "failed", "succeeded"]),
        ("?queue=b&type=t&status=concluded&outcome=cancelled", ["cancelled"]),
        ("?queue=none", []),
        ("?status=queued&outcome=failed", []),
        ("?limit=2", ["queued", "scheduled"]),
    ],
)
async def test_a_list_shows_what_matches_newest_first(api: Api, query: str, ids: list[str]) -> None:
    """Every filter, alone and together."""
    await filled(api)
    reply = await api.get(f"/jobs{query}")
    assert (reply.status, [job["id"] for job in reply.json["jobs"]]) == (200, ids)


async def test_a_name_of_null_is_a_name(api: Api) -> None:
    """A filter's value is text: `null` is an ordinary queue or type name."""
    await api.enqueue(id="a", queue="null", type="null")
    await api.enqueue(id="b")
    for query in ("queue=null", "type=null"):
        assert [job["id"] for job in (await api.get(f"/jobs?{query}")).json["jobs"]] == ["a"]


async def test_a_list_leaves_past_attempts_payloads_and_results_out(api: Api) -> None:
    """Its jobs have every other field of GET."""
    await api.concluded("j")
    (listed,) = (await api.get("/jobs")).json["jobs"]
    job = await api.job("j")
    assert {field for field in job if field not in listed} == {"past", "payload", "result", "waiting_for"}
    assert listed == {field: job[field] for field in listed}


async def test_pages_follow_each_other_by_cursor(api: Api) -> None:
    """Every job comes once, in order, whatever is enqueued meanwhile; the last page's cursor is null."""
    for number in range(7):
        await api.enqueue(id=f"j{number}", queue="ab"[number % 2])
    assert await pages(api, "/jobs?limit=3") == [["j6", "j5", "j4"], ["j3", "j2", "j1"], ["j0"]]
    assert await pages(api, "/jobs?limit=2&queue=a") == [["j6", "j4"], ["j2", "j0"]]


async def pages(api: Api, path: str) -> list[list[str]]:
    """The ids on each page, while new jobs keep coming in."""
    found: list[list[str]] = []
    cursor: Any = None
    while cursor is not None or not found:
        page = (await api.get(path if cursor is None else f"{path}&cursor={cursor}")).json
        assert list(page) == ["jobs", "cursor"]
        found.append([job["id"] for job in page["jobs"]])
        cursor = page["cursor"]
        await api.enqueue(queue="late")
        assert len(found) < 20
    return [page for page in found if page]


async def test_a_page_has_a_default_and_a_cap(serve: Serve) -> None:
    """Without `limit` page_jobs_default jobs, and page_jobs_max at most."""
    api = await serve(page_jobs_default=2, page_jobs_max=3)
    for _ in range(4):
        await api.enqueue()
    assert len((await api.get("/jobs")).json["jobs"]) == 2
    assert len((await api.get("/jobs?limit=3")).json["jobs"]) == 3
    assert "1 to 3" in assert_problem(await api.get("/jobs?limit=4"), 400, "bad_request", "limit")
    assert_problem(await api.get("/jobs?limit=0"), 400, "bad_request", "limit")


async def test_a_page_looks_at_a_bounded_number_of_jobs(serve: Serve) -> None:
    """A filter that nothing matches does not walk a million jobs: an empty page with a cursor, and so on to the end."""
    api = await serve(page_scan_max=2, page_jobs_max=2, page_jobs_default=1)
    for _ in range(5):
        await api.enqueue()
    page = (await api.get("/jobs?queue=other")).json
    assert (page["jobs"], page["cursor"] is not None) == ([], True)
    for _ in range(2):
        page = (await api.get(f"/jobs?queue=other&cursor={page['cursor']}")).json
    assert page == {"jobs": [], "cursor": None}


# Cancelling and retrying.


@pytest.mark.parametrize("state", ["queued", "scheduled"])
async def test_a_waiting_job_is_cancelled_at_once(api: Api, state: str) -> None:
    """It is concluded and no worker gets it."""
    await api.enqueue(id="j", delay=5 if state == "scheduled" else None)
    reply = await api.post("/jobs/j/cancel")
    job = reply.json
    assert (reply.status, job["status"], job["outcome"], job["concluded_at"]) == (200, "concluded", "cancelled", NOW)
    api.clock.advance(5)
    assert (await api.post("/jobs/dequeue", wait=0)).status == 204


async def test_a_job_in_progress_is_asked_to_stop(api: Api) -> None:
    """cancel_requested; the lease stays, asking again is harmless."""
    await api.working("j")
    for _ in range(2):
        reply = await api.post("/jobs/j/cancel", {})
        assert (reply.status, reply.json["status"], reply.json["cancel_requested"]) == (200, "in_progress", True)
    api.clock.advance(300)
    assert (await api.job("j"))["outcome"] == "cancelled"


@pytest.mark.parametrize("outcome", ["succeeded", "failed", "cancelled"])
async def test_a_concluded_job_is_not_cancelled(api: Api, outcome: str) -> None:
    """409, nothing changed."""
    await concluded(api, outcome)
    before = api.state()
    assert_problem(await api.post("/jobs/j/cancel"), 409, "not_in_progress")
    assert api.state() == before


async def concluded(api: Api, outcome: str) -> None:
    """Job `j`, ended that way."""
    if outcome == "cancelled":
        await api.enqueue(id="j")
        await api.post("/jobs/j/cancel")
    elif outcome == "expired":
        await api.enqueue(id="j", expires_in=1)
        api.clock.advance(1)
    else:
        await api.concluded("j", outcome)
    assert (await api.job("j"))["outcome"] == outcome


@pytest.mark.parametrize("outcome", ["failed", "cancelled", "expired"])
async def test_what_did_not_succeed_can_be_retried(api: Api, outcome: str) -> None:
    """Queued again, attempts 0, its end and its expiry forgotten."""
    await concluded(api, outcome)
    reply = await api.post("/jobs/j/retry")
    job = reply.json
    assert (reply.status, job["status"], job["outcome"], job["attempts"], job["expires_at"]) == (200, "queued", None, 0, None)
    assert (await api.take())["attempts"] == 1


async def test_a_retried_job_runs_from_the_retry_on(api: Api) -> None:
    """run_at is the time of the retry, whatever the job was enqueued with."""
    await api.enqueue(id="j", delay=2, max_attempts=1)
    api.clock.advance(2)
    token = (await api.take())["lease"]["token"]
    failed = (await api.post("/jobs/j/conclude", lease=token, outcome="failed")).json
    api.clock.advance(7)
    retried = (await api.post("/jobs/j/retry")).json
    assert (failed["run_at"], retried["run_at"], retried["created_at"]) == (at(2), at(9), NOW)


@pytest.mark.parametrize("state", ["scheduled", "queued", "in_progress", "succeeded"])
async def test_nothing_else_can_be_retried(api: Api, state: str) -> None:
    """409, nothing changed."""
    if state == "succeeded":
        await api.concluded("j")
    elif state == "in_progress":
        await api.working("j")
    else:
        await api.enqueue(id="j", delay=5 if state == "scheduled" else None)
    before = api.state()
    assert_problem(await api.post("/jobs/j/retry"), 409, "not_retryable")
    assert api.state() == before


async def test_a_retry_needs_room(serve: Serve) -> None:
    """A full server answers 429 and keeps the job in history."""
    api = await serve(jobs_max=1)
    await api.concluded("j", "failed")
    await api.enqueue()
    assert_problem(await api.post("/jobs/j/retry"), 429, "queue_full")
    assert (await api.job("j"))["outcome"] == "failed"


@pytest.mark.parametrize("operation", ["cancel", "retry"])
async def test_cancel_and_retry_of_an_unknown_job_are_404(api: Api, operation: str) -> None:
    """As for every operation on a job."""
    assert_problem(await api.post(f"/jobs/none/{operation}"), 404, "unknown_job")


@pytest.mark.parametrize("operation", ["cancel", "retry"])
async def test_cancel_and_retry_take_no_body(api: Api, operation: str) -> None:
    """An empty object is accepted, anything more is refused rather than ignored, a field by its name."""
    await api.concluded("j", "failed")
    before = api.state()
    for body, field in ((b'{"reason":"x"}', "reason"), (b"[]", None), (b"null", None), (b"x", None), (b" ", None)):
        assert_problem(await api.post(f"/jobs/j/{operation}", body), 400, "bad_request", field)
    assert api.state() == before
    for job_id, body in (("a", b"{}"), ("b", b" { } "), ("c", b"")):
        await api.concluded(job_id, "failed")
        if operation == "cancel":
            await api.post(f"/jobs/{job_id}/retry")
        assert (await api.post(f"/jobs/{job_id}/{operation}", body)).status == 200
        await api.post("/queues/default/purge")
