"""How a body or a query that cannot be taken is answered, in words: one table, over fields and routes of every kind."""

from __future__ import annotations

import pytest

from .harness import Api, assert_problem

TIME = "must be an RFC 3339 time with an offset from UTC, such as 2026-11-26T09:00:00Z"


@pytest.mark.parametrize(
    ("request_line", "body", "detail"),
    [
        ("POST /jobs/enqueue", '{"payload": 1, "prio": 3}', "unknown field 'prio'; did you mean 'priority'?"),
        ("POST /jobs/enqueue", '{"payload": 1, "zzz": 3}', "unknown field 'zzz'"),
        ("POST /jobs/enqueue", "{}", "missing field 'payload'"),
        ("POST /jobs/enqueue", '{"payload": 1, "priority": "3"}', "priority: must be an integer, not a string"),
        ("POST /jobs/enqueue", '{"payload": 1, "priority": 3.5}', "priority: must be an integer, not a fraction"),
        ("POST /jobs/enqueue", '{"payload": 1, "tags": {}}', "tags: must be an array, not an object"),
        ("POST /jobs/enqueue", '{"payload": 1, "queue": null}', "queue: must be a string, not null"),
        ("POST /jobs/enqueue", '{"payload": 1, "delay": true}', "delay: must be a number or null, not a boolean"),
        ("POST /jobs/enqueue", '{"payload": 1, "run_at": "tomorrow"}', f"run_at: {TIME}"),
        ("POST /jobs/enqueue", '{"payload": 1, "run_at": "2026-11-26T09:00:00"}', f"run_at: {TIME}"),
        ("POST /jobs/enqueue", "[]", "the body must be an object, not an array"),
        ("POST /jobs/q/conclude", '{"lease": "a", "outcome": "done"}', "outcome: must be failed or succeeded, not 'done'"),
        ("PUT /queues/q", '{"per_key": {"order": "lifo"}}', "per_key.order: must be fifo, halt or none, not 'lifo'"),
        ("PUT /queues/q", '{"per_key": {"ordr": "fifo"}}', "unknown field 'per_key.ordr'; did you mean 'order'?"),
        ("GET /jobs?limit=x", None, "limit: must be an integer"),
        ("GET /jobs?waiting_for=maybe", None, "waiting_for: must be true or false"),
        ("GET /jobs?created_after=now", None, f"created_after: {TIME}"),
        ("GET /jobs?statu=queued", None, "unknown parameter 'statu'; did you mean 'status'?"),
        ("GET /stats?x=1", None, "unknown parameter 'x'; this operation takes no query parameters"),
    ],
)
async def test_a_complaint_reads_as_english(api: Api, request_line: str, body: str | None, detail: str) -> None:
    """It names the field, what may stand there in JSON's names for types, and what was sent; a field that nobody knows may be a slip."""
    method, path = request_line.split()
    reply = await api.send(method, path, None if body is None else body.encode())
    assert assert_problem(reply, 400, "bad_request", reply.json.get("field")) == detail


@pytest.mark.parametrize("word", ["failed", "succeeded", "cancelled", "expired"])
async def test_a_status_that_is_an_outcome_says_so(api: Api, word: str) -> None:
    """In a query and in a body: how a job ended is asked for by another name."""
    allowed = f"must be scheduled, queued, in_progress or concluded, not '{word}'; how a job ended is its outcome: use "
    listed = await api.get(f"/jobs?status={word}")
    assert assert_problem(listed, 400, "bad_request", "status") == f"status: {allowed}outcome"
    many = await api.post("/jobs/bulk", f'{{"action": "cancel", "filter": {{"status": "{word}"}}}}'.encode())
    assert assert_problem(many, 400, "bad_request", "filter.status") == f"filter.status: {allowed}filter.outcome"


async def test_only_events_that_are_told_are_named(api: Api) -> None:
    """What the server tells nobody is not among the words that a filter may have, nor is it taken for one."""
    reply = await api.get("/events?event=x")
    detail = assert_problem(reply, 400, "bad_request", "event[0]")
    assert detail.startswith("event[0]: must be enqueued, queued, ")
    assert detail.endswith("queue_resumed or queue_deleted, not 'x'")
