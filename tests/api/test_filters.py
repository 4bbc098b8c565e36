"""Tags, and the filters of GET /jobs."""

from __future__ import annotations

import pytest

from .harness import Api, assert_problem, at


async def listed(api: Api, query: str) -> list[str]:
    """The ids that a listing answers."""
    reply = await api.get(f"/jobs?{query}")
    assert reply.status == 200, reply
    return [job["id"] for job in reply.json["jobs"]]


async def test_tags_are_shown_wherever_a_job_is(api: Api) -> None:
    """A job without any has none in the answers to enqueue and dequeue, and an empty list elsewhere."""
    assert (await api.enqueue(1, id="j", tags=["a", "b"]))["tags"] == ["a", "b"]
    assert "tags" not in await api.enqueue(1, id="plain")
    (made,) = (await api.post("/batch/enqueue", {"jobs": [{"payload": 1, "id": "k", "tags": ["c"]}]})).json["jobs"]
    assert made["tags"] == ["c"]
    assert (await api.take())["tags"] == ["a", "b"]
    assert "tags" not in await api.take()
    assert ((await api.job("j"))["tags"], (await api.job("plain"))["tags"]) == (["a", "b"], [])
    assert await listed(api, "tag=a") == ["j"]
    assert_problem(await api.post("/jobs/enqueue", payload=1, id="j", tags=["b"]), 409, "id_conflict", "tags")


async def test_a_listing_is_narrowed_down(api: Api) -> None:
    """By worker, by a piece of the last error, and by when jobs were created, with any offset."""
    await api.enqueue(1, id="old")
    token = (await api.take(worker="w 1"))["lease"]["token"]
    await api.post("/jobs/old/conclude", lease=token, outcome="failed", error={"message": "Timed out"}, retry=False)
    api.clock.advance(10)
    await api.enqueue(1, id="new")
    assert await listed(api, "worker=w+1") == ["old"]
    assert await listed(api, "error=Timed+out") == ["old"]
    assert await listed(api, "error=timed") == []
    assert await listed(api, f"created_after={at(10)}") == ["new"]
    assert await listed(api, f"created_before={at(10)}") == ["old"]
    east = at(10).replace("T08", "T10").replace("Z", "%2B02:00")
    assert await listed(api, f"created_before={east}&worker=w+1") == ["old"]


@pytest.mark.parametrize("field", ["created_after", "created_before"])
@pytest.mark.parametrize("value", ["", "tomorrow", "2027-01-15T08:00:00", "null"])
async def test_a_time_that_is_none_is_refused(api: Api, field: str, value: str) -> None:
    """One needs its offset."""
    assert_problem(await api.get(f"/jobs?{field}={value}"), 400, "bad_request", field)
