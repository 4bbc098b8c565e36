"""The history of numbers over HTTP."""

from __future__ import annotations

from .conftest import Serve
from .harness import Api, assert_problem, at
from .test_access import ask, fleet, refused


async def test_the_last_hour_and_the_last_day(api: Api) -> None:
    """A value for each step in each list, and when the first began."""
    api.backend.sample(api.clock.now())
    await api.enqueue(id="a", queue="mail")
    api.clock.advance(310)
    found = (await api.get("/history")).json
    assert (found["queue"], found["span"], found["step_seconds"], len(found["queued"])) == (None, "hour", 10, 360)
    assert (found["queued"][-3:], sum(filter(None, found["enqueued"]))) == ([1, 1, 1], 1)
    some = (await api.get("/queues/mail/history?limit=31")).json
    assert (some["queue"], some["enqueued"]) == ("mail", [None] + [1] + [0] * 29)
    assert some["begins_at"] == "2027-01-15T07:59:50.000Z"
    day = (await api.get("/queues/mail/history?span=day&limit=1")).json
    assert (day["step_seconds"], day["begins_at"], day["enqueued"], day["failed"]) == (300, at(0), [1], [0])


async def test_what_is_refused(api: Api) -> None:
    """A queue that is not there, and queries that are none."""
    assert_problem(await api.get("/queues/none/history"), 404, "unknown_queue")
    for query, field in (("span=week", "span"), ("limit=0", "limit"), ("limit=361", "limit"), ("nope=1", "nope")):
        assert_problem(await api.get(f"/history?{query}"), 400, "bad_request", field)


async def test_a_token_for_some_queues(serve: Serve) -> None:
    """It reads the sum of its queues, and of each by itself."""
    api = await serve(access=fleet())
    api.backend.sample(api.clock.now())
    for queue in ("bills", "secret", "secret"):
        await ask(api, "POST", "/jobs/enqueue", {"payload": 1, "queue": queue}, "root")
    api.clock.advance(11)
    assert (await ask(api, "GET", "/history?limit=1", None, "root")).json["queued"] == [3]
    assert (await ask(api, "GET", "/history?limit=1")).json["queued"] == [1]
    assert (await ask(api, "GET", "/queues/bills/history?limit=1")).json["queued"] == [1]
    refused(await ask(api, "GET", "/queues/secret/history"), "queue")
