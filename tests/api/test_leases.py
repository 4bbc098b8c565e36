"""POST /jobs/{id}/conclude, extend and release: what the holder of a lease may do, and that nobody else may."""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import Serve
from .harness import NOW, Api, answered, assert_problem, at

FORGED = "f" * 32
BODIES: dict[str, dict[str, Any]] = {"conclude": {"outcome": "succeeded"}, "extend": {}, "release": {}}


async def test_conclude_succeeded_answers_the_outcome(api: Api) -> None:
    """Every field of the answer, and of the job afterwards; what the worker knows already is left to GET."""
    token = await api.working("j", payload={"in": 1}, type="t", description="d", priority=1, max_attempts=3)
    api.clock.advance(2)
    reply = await api.post("/jobs/j/conclude", lease=token, outcome="succeeded", result={"out": [1]})
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    shown = {"id": "j", "status": "concluded", "outcome": "succeeded", "attempts": 1, "run_at": None}
    assert (list(reply.json), reply.json) == (list(shown), shown)
    assert await api.job("j") == {
        **shown,
        "queue": "default",
        "type": "t",
        "number": 1,
        "description": "d",
        "priority": 1,
        "max_attempts": 3,
        "created_at": NOW,
        "expires_at": None,
        "started_at": NOW,
        "concluded_at": at(2),
        "lease_expires_at": None,
        "worker": None,
        "progress": None,
        "message": None,
        "cancel_requested": False,
        "error": None,
        "key": None,
        "tags": [],
        "waiting_for": [],
        "past": [],
        "result": {"out": [1]},
        "payload": {"in": 1},
    }


@pytest.mark.parametrize("result", [b"null", b'"x"', b"1e999", b'{"a":1, "a":2}'])
async def test_a_result_is_kept_byte_for_byte(api: Api, result: bytes) -> None:
    """Any JSON, as for payloads."""
    token = await api.working("j")
    await api.post("/jobs/j/conclude", b'{"lease":"%b","outcome":"succeeded","result":%b}' % (token.encode(), result))
    assert b'"result":' + result + b',"payload"' in (await api.get("/jobs/j")).body


async def test_a_failure_is_scheduled_for_its_next_attempt(api: Api) -> None:
    """conclude failed with attempts left: scheduled within the backoff, the error kept."""
    token = await api.working("j", backoff={"base": 8, "factor": 1, "cap": 8})
    reply = await api.post("/jobs/j/conclude", lease=token, outcome="failed", error="smtp")
    job = reply.json
    assert (reply.status, job["status"], job["outcome"], job["attempts"]) == (200, "scheduled", None, 1)
    assert NOW <= job["run_at"] <= at(8)
    shown = await api.job("j")
    assert (shown["error"], shown["run_at"]) == ("smtp", job["run_at"])
    api.clock.advance(8)
    assert (await api.take())["attempts"] == 2


async def test_the_last_failure_is_final(api: Api) -> None:
    """With max_attempts spent the job is concluded as failed, its error in GET."""
    token = await api.working("j", max_attempts=1)
    reply = await api.post("/jobs/j/conclude", lease=token, outcome="failed", error={"why": 1})
    assert (reply.json["status"], reply.json["outcome"]) == ("concluded", "failed")
    job = await api.job("j")
    assert (job["error"], job["result"]) == ({"why": 1}, None)


async def test_retry_false_makes_a_failure_final(api: Api) -> None:
    """The worker knows that trying again is useless."""
    token = await api.working("j")
    reply = await api.post("/jobs/j/conclude", lease=token, outcome="failed", retry=False)
    assert (reply.json["outcome"], reply.json["attempts"]) == ("failed", 1)
    assert (await api.job("j"))["error"] is None


async def test_a_repeated_conclude_is_200_again(api: Api) -> None:
    """A worker that lost the answer asks again with the same words and hears the same; with others it hears 409."""
    token = await api.working("j")
    first = await api.post("/jobs/j/conclude", lease=token, outcome="succeeded", result=1)
    api.clock.advance(5)
    again = await api.post("/jobs/j/conclude", lease=token, outcome="succeeded", result=1)
    assert (again.status, again.json) == (200, first.json)
    before = api.state()
    assert_problem(await api.post("/jobs/j/conclude", lease=token, outcome="succeeded", result=2), 409, "not_in_progress")
    assert_problem(await api.post("/jobs/j/conclude", lease=token, outcome="failed"), 409, "not_in_progress")
    assert_problem(await api.post("/jobs/j/extend", lease=token), 409, "not_in_progress")
    assert_problem(await api.post("/jobs/j/release", lease=token), 409, "not_in_progress")
    assert api.state() == before


@pytest.mark.parametrize(("outcome", "wrong", "right"), [("failed", "result", "error"), ("succeeded", "error", "result")])
async def test_result_goes_with_success_and_error_with_failure(api: Api, outcome: str, wrong: str, right: str) -> None:
    """The other one is refused, null included, and the job stays with its worker."""
    token = await api.working("j")
    before = api.state()
    for value in (1, None):
        reply = await api.post("/jobs/j/conclude", {"lease": token, "outcome": outcome, wrong: value})
        assert f"send {right}" in assert_problem(reply, 400, "bad_request", wrong)
    assert api.state() == before
    assert (await api.post("/jobs/j/conclude", {"lease": token, "outcome": outcome, right: None})).status == 200


@pytest.mark.parametrize(("outcome", "field"), [("succeeded", "result"), ("failed", "error")])
async def test_a_result_over_the_payload_bound_is_413(serve: Serve, outcome: str, field: str) -> None:
    """Results and errors are bounded as payloads are."""
    api = await serve(payload_bytes_max=100)
    token = await api.working("j")
    before = api.state()
    reply = await api.post("/jobs/j/conclude", {"lease": token, "outcome": outcome, field: "x" * 99})
    assert_problem(reply, 413, "too_large", field)
    assert api.state() == before


async def test_a_cancelled_job_ends_as_cancelled_whatever_its_worker_says(api: Api) -> None:
    """cancel, then conclude succeeded: outcome cancelled, the result kept."""
    token = await api.working("j")
    await api.post("/jobs/j/cancel")
    reply = await api.post("/jobs/j/conclude", lease=token, outcome="succeeded", result=7)
    assert (reply.status, reply.json["outcome"], (await api.job("j"))["result"]) == (200, "cancelled", 7)


async def test_extend_pushes_the_expiry_out(api: Api) -> None:
    """To now plus lease_seconds, or plus what the lease was given for."""
    token = await api.working("j", lease_seconds=10)
    api.clock.advance(4)
    reply = await api.post("/jobs/j/extend", lease=token)
    assert (reply.status, reply.json) == (200, {"id": "j", "expires_at": at(14), "cancel_requested": False})
    reply = await api.post("/jobs/j/extend", lease=token, lease_seconds=60)
    assert reply.json["expires_at"] == at(64)
    assert (await api.job("j"))["lease_expires_at"] == at(64)
    api.clock.advance(59)
    assert (await api.job("j"))["status"] == "in_progress"


async def test_extend_carries_progress_and_message(api: Api) -> None:
    """They show in GET; an extend without them leaves them; they end with the lease."""
    token = await api.working("j")
    await api.post("/jobs/j/extend", lease=token, progress=0.25, message="page 1\nof 4")
    await api.post("/jobs/j/extend", lease=token)
    job = await api.job("j")
    assert (job["progress"], job["message"]) == (0.25, "page 1\nof 4")
    await api.post("/jobs/j/extend", lease=token, progress=1)
    assert (await api.job("j"))["progress"] == 1
    await api.post("/jobs/j/release", lease=token)
    assert (await api.job("j"))["progress"] is None


async def test_extend_says_that_a_cancel_was_requested(api: Api) -> None:
    """How a worker hears of it."""
    token = await api.working("j")
    await api.post("/jobs/j/cancel")
    assert (await api.post("/jobs/j/extend", lease=token)).json["cancel_requested"] is True


async def test_release_gives_the_job_to_the_next_without_spending_an_attempt(api: Api) -> None:
    """Back at the front of its priority, attempts as before."""
    token = await api.working("first")
    await api.enqueue(id="second")
    reply = await api.post("/jobs/first/release", lease=token)
    assert (reply.status, reply.json["status"], reply.json["attempts"]) == (200, "queued", 0)
    job = await api.take()
    assert (job["id"], job["attempts"]) == ("first", 1)
    assert job["lease"]["token"] != token


async def test_release_with_a_delay_schedules_the_job(api: Api) -> None:
    """Snooze: not before the delay has passed."""
    token = await api.working("j")
    reply = await api.post("/jobs/j/release", lease=token, delay=30)
    assert (reply.json["status"], reply.json["run_at"], reply.json["attempts"]) == ("scheduled", at(30), 0)
    held = await api.hold("/jobs/dequeue", wait=50)
    api.clock.advance(30)
    assert (await answered(held)).json["id"] == "j"


@pytest.mark.parametrize("attempts", [1, 2])
async def test_a_released_job_keeps_its_place_over_the_delay(api: Api, attempts: int) -> None:
    """When it is due it goes ahead of every job that never left, whether it was ever tried before or not."""
    token = await api.working("first", lease_seconds=1)
    if attempts == 2:
        api.clock.advance(1)
        token = (await api.take())["lease"]["token"]
    await api.enqueue(id="second")
    reply = await api.post("/jobs/first/release", lease=token, delay=30)
    assert reply.json["attempts"] == attempts - 1
    api.clock.advance(30)
    assert [(await api.take())["id"] for _ in range(2)] == ["first", "second"]


async def test_release_of_a_cancelled_job_ends_it(api: Api) -> None:
    """A job that is to stop is not handed out again."""
    token = await api.working("j")
    await api.post("/jobs/j/cancel")
    assert (await api.post("/jobs/j/release", lease=token)).json["outcome"] == "cancelled"


@pytest.mark.parametrize("operation", sorted(BODIES))
async def test_an_unknown_job_is_404(api: Api, operation: str) -> None:
    """It never existed or history has forgotten it."""
    assert_problem(await api.post(f"/jobs/none/{operation}", lease=FORGED, **BODIES[operation]), 404, "unknown_job")


@pytest.mark.parametrize("operation", sorted(BODIES))
@pytest.mark.parametrize("state", ["scheduled", "queued", "in_progress", "succeeded", "cancelled"])
async def test_any_other_token_is_409_and_changes_nothing(api: Api, operation: str, state: str) -> None:
    """In every status, for a forged token and for that of an earlier attempt."""
    earlier = await api.working("j")
    await api.post("/jobs/j/release", lease=earlier, delay=60 if state == "scheduled" else 0)
    live = (await api.take())["lease"]["token"] if state in ("in_progress", "succeeded") else None
    if state == "cancelled":
        await api.post("/jobs/j/cancel")
    elif state == "succeeded":
        await api.post("/jobs/j/conclude", lease=live, outcome="succeeded")
    before = api.state()
    for token in (FORGED, earlier, ""):
        reply = await api.post(f"/jobs/j/{operation}", lease=token, **BODIES[operation])
        assert_problem(reply, 409, "lease_lost")
    assert api.state() == before
    if state == "in_progress":
        assert (await api.post(f"/jobs/j/{operation}", lease=live, **BODIES[operation])).status == 200


async def test_a_late_conclude_does_not_touch_the_next_workers_lease(api: Api) -> None:
    """After expiry and redelivery the first worker hears 409 and the second concludes."""
    late = await api.working("j", lease_seconds=5)
    api.clock.advance(5)
    second = (await api.take())["lease"]["token"]
    assert_problem(await api.post("/jobs/j/conclude", lease=late, outcome="succeeded"), 409, "lease_lost")
    assert (await api.post("/jobs/j/conclude", lease=second, outcome="succeeded")).status == 200


async def test_a_failure_may_say_when_to_try_again(api: Api) -> None:
    """`retry_delay` takes the backoff's place, alone and in a batch."""
    for n, batch in enumerate((False, True)):
        token = await api.working(f"j{n}")
        said = {"lease": token, "outcome": "failed", "retry_delay": 90}
        if batch:
            (told,) = (await api.post("/batch/conclude", jobs=[{"id": f"j{n}", **said}])).json["jobs"]
        else:
            told = (await api.post(f"/jobs/j{n}/conclude", said)).json
        assert (told["status"], told["run_at"]) == ("scheduled", at(90))
