"""Tracebacks of attempts on the wire."""

from __future__ import annotations

from typing import Any

import pytest

from .harness import Api

TEXT = 'Traceback (most recent call last):\n  File "a.py", line 1\nValueError: <b>\u0000\u001b[31m'


async def fail(api: Api, path: str, **fields: Any) -> Any:
    await api.enqueue(id="j", queue="q")
    job = await api.take(queue="q")
    body = {"lease": job["lease"]["token"], "outcome": "failed", "error": "no", **fields}
    if path == "conclude":
        return await api.post("/jobs/j/conclude", **body)
    return await api.post("/batch/conclude", jobs=[{"id": "j", **body}])


@pytest.mark.parametrize("path", ["conclude", "batch"])
async def test_a_failed_attempt_shows_the_traceback_that_came_with_it(api: Api, path: str) -> None:
    """As it was sent, in the job alone: no listing has it, and the next worker is not handed it."""
    assert (await fail(api, path, traceback=TEXT, retry_delay=0)).status == 200
    assert [one["traceback"] for one in (await api.get("/jobs/j")).json["past"]] == [TEXT]
    assert b"Traceback" not in (await api.get("/jobs")).body
    api.clock.advance(1)
    assert "Traceback" not in str(await api.take(queue="q"))


async def test_an_attempt_without_a_traceback_shows_none(api: Api) -> None:
    """The field is left out."""
    await fail(api, "conclude")
    assert "traceback" not in (await api.get("/jobs/j")).json["past"][0]


async def test_a_long_traceback_is_taken_and_shortened(api: Api) -> None:
    """8 KiB are kept, with its beginning and its end."""
    await fail(api, "conclude", traceback="begin\n" + "frame\n" * 5_000 + "ValueError: 17")
    (attempt,) = (await api.get("/jobs/j")).json["past"]
    assert len(attempt["traceback"]) <= 8_192
    assert attempt["traceback"].startswith("begin\n")
    assert attempt["traceback"].endswith("ValueError: 17")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"outcome": "succeeded", "traceback": "x"}, "is not allowed with the outcome succeeded"),
        ({"outcome": "failed", "traceback": 1}, "must be a string"),
    ],
)
async def test_a_traceback_that_cannot_be_is_refused(api: Api, fields: dict[str, Any], reason: str) -> None:
    """The error names the field, and the attempt goes on."""
    await api.enqueue(id="j", queue="q")
    token = (await api.take(queue="q"))["lease"]["token"]
    reply = await api.post("/jobs/j/conclude", lease=token, **fields)
    assert (reply.status, reply.json["field"]) == (400, "traceback")
    assert reason in reply.json["detail"]
    assert (await api.get("/jobs/j")).json["status"] == "in_progress"
