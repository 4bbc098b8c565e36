"""A queue so deep that jobs in it are packed (docs/decisions/0046)."""

from __future__ import annotations

import json
from typing import Any

from jobqueue.engine.packs import PACKING, Pack

from .harness import Api, answered, assert_problem

COUNT = PACKING.deep + PACKING.behind + 2_000


async def test_jobs_deep_in_a_queue_are_as_all_others(api: Api) -> None:
    """They are found, listed, cancelled, edited and known again by their ids, and leave in their order with their own payloads."""
    await fill(api, "j", COUNT)
    middle = PACKING.deep + 500
    assert packed(api) > 1_000
    listed = (await api.get(f"/jobs?limit=3&cursor={middle + 1}")).json["jobs"]
    assert [(job["id"], job["type"], job["status"]) for job in listed] == [
        (f"j{n}", f"t{n % 2}", "queued") for n in (middle - 1, middle - 2, middle - 3)
    ]
    assert packed(api) > 1_000
    assert (await api.get(f"/jobs/j{middle}")).json["payload"] == {"n": middle}
    assert (await api.post(f"/jobs/j{middle + 200}/cancel")).status == 200
    edited = json.dumps({"payload": "edited"}).encode()
    assert (await api.send("PATCH", f"/jobs/j{middle + 300}", edited, {"Content-Type": "application/json"})).status == 200
    again = {"id": f"j{middle + 400}", "payload": {"n": middle + 400}, "type": "t0"}
    assert (await api.post("/jobs/enqueue", **again)).json["created"] is False
    assert_problem(await api.post("/jobs/enqueue", **again | {"payload": "another"}), 409, "id_conflict", "payload")
    assert (await api.get("/queues/default")).json["queued"] == COUNT - 1
    found: list[Any] = []
    while jobs := (await api.post("/batch/dequeue", limit=1_000, wait=0)).json["jobs"]:
        found += [(job["id"], job["payload"]) for job in jobs]
    assert found == [(f"j{n}", "edited" if n == middle + 300 else {"n": n}) for n in range(COUNT) if n != middle + 200]
    assert packed(api) == 0


async def test_a_wait_for_a_job_that_is_packed_meanwhile_shows_it_as_it_is_then(api: Api) -> None:
    """Its producer waits for its result, thousands come after it, it is handed out, and the wait passes."""
    await fill(api, "a", PACKING.deep + 500)
    await api.enqueue("result", id="wanted")
    held = await api.hold("/jobs/wanted?wait=20", method="GET")
    await fill(api, "b", PACKING.behind + 1_000)
    assert isinstance(api.backend.engine.jobs.by_id["wanted"], Pack)
    found: list[str] = []
    while "wanted" not in found:
        found += [job["id"] for job in (await api.post("/batch/dequeue", limit=1_000, wait=0)).json["jobs"]]
    api.clock.advance(20)
    reply = (await answered(held)).json
    assert (reply["status"], reply["attempts"], reply["payload"]) == ("in_progress", 1, "result")


async def fill(api: Api, name: str, count: int) -> None:
    """Enqueue so many jobs, with an id, a payload and a type each."""
    for first in range(0, count, 1_000):
        jobs = [{"id": f"{name}{n}", "payload": {"n": n}, "type": f"t{n % 2}"} for n in range(first, min(count, first + 1_000))]
        reply = await api.post("/batch/enqueue", jobs=jobs)
        assert all(job["created"] for job in reply.json["jobs"])


def packed(api: Api) -> int:
    """How many jobs are in packs."""
    return sum(isinstance(item, Pack) for item in api.backend.engine.jobs.by_id.values())
