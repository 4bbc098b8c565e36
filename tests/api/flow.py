"""What tests of keys and limits share: policies, set over HTTP, and a queue that has come to rest after a change of them."""

from __future__ import annotations

import json
from typing import Any

from jobqueue.engine.flow import FlowQueue
from tests.messages import Reply

from .harness import Api


def settle(api: Api) -> None:
    """Let the ticker do what a change of a policy left to it: a queue hands out nothing until its jobs or keys are sorted."""
    while any(isinstance(queue, FlowQueue) and queue.moving for queue in api.backend.engine.queues.values()):
        api.clock.advance(0)


async def put(api: Api, name: str = "q", **policy: Any) -> Any:
    """Set a queue's policy; the queue."""
    reply = await api.put(f"/queues/{name}", **policy)
    assert reply.status == 200, reply
    settle(api)
    return reply.json


async def patch(api: Api, name: str = "q", **fields: Any) -> Reply:
    """Change a queue's policy."""
    reply = await api.send("PATCH", f"/queues/{name}", json.dumps(fields).encode())
    settle(api)
    return reply


async def conclude(api: Api, job: Any, outcome: str = "succeeded", **more: Any) -> Any:
    """Finish a job that was taken; how it stands."""
    reply = await api.post(f"/jobs/{job['id']}/conclude", lease=job["lease"]["token"], outcome=outcome, **more)
    assert reply.status == 200, reply
    return reply.json


async def reasons(api: Api, job_id: str) -> Any:
    """What a job waits for, which a list says too."""
    alone = (await api.job(job_id))["waiting_for"]
    (listed,) = [job for job in (await api.get("/jobs?waiting_for=true&limit=1000")).json["jobs"] if job["id"] == job_id]
    assert listed["waiting_for"] == alone
    return alone


async def nothing(api: Api, queue: str = "q") -> None:
    """A dequeue finds nothing that may go."""
    assert (await api.post("/jobs/dequeue", queue=queue, wait=0)).status == 204
