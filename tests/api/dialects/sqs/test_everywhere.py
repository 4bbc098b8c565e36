"""A message is a job like any other: what events, metrics and lists say of it."""

from __future__ import annotations

from tests.api.test_events import listening
from tests.api.test_metrics import key, samples

from .speech import Sqs


async def test_listeners_are_told_of_messages(sqs: Sqs) -> None:
    """As of any job, from the send to the delete, with the group as key."""
    stream = await listening(sqs.api, "?queue=q")
    await stream.open()
    await sqs.make("q", VisibilityTimeout=5)
    sent = await sqs.put("a", MessageGroupId="g")
    await sqs.take()
    await sqs.forward(5)
    (message,) = await sqs.take()
    await sqs.ask("DeleteMessage", ReceiptHandle=message["ReceiptHandle"])
    seen = []
    while "concluded" not in seen:
        event = await stream.event()
        if event.data.get("id") is not None:
            assert (event.data["id"], event.data["queue"], event.data["key"]) == (sent["MessageId"], "q", "g")
            seen.append(event.event)
    assert seen == ["enqueued", "dequeued", "queued", "dequeued", "concluded"]


async def test_messages_are_counted_and_listed(sqs: Sqs) -> None:
    """By the queue's own series, totals and status; the native lists have them, and a native edit and cancel hold for them."""
    await sqs.make("q")
    ids = [(await sqs.put(body))["MessageId"] for body in "abc"]
    (message,) = await sqs.take()
    await sqs.ask("DeleteMessage", ReceiptHandle=message["ReceiptHandle"])
    await sqs.api.send("PATCH", f"/jobs/{ids[1]}", b'{"payload": "edited"}')
    assert (await sqs.api.post(f"/jobs/{ids[2]}/cancel")).json["outcome"] == "cancelled"
    found = await samples(sqs.api)
    assert found[key("jobqueue_jobs_enqueued_total", queue="q")] == 3
    assert found[key("jobqueue_jobs_dequeued_total", queue="q")] == 1
    assert found[key("jobqueue_jobs_concluded_total", queue="q", outcome="succeeded")] == 1
    assert found[key("jobqueue_jobs", queue="q", status="queued")] == 1
    listed = (await sqs.api.get("/jobs?queue=q")).json["jobs"]
    assert [(job["id"], job["status"]) for job in listed] == list(zip(ids[::-1], ("concluded", "queued", "concluded"), strict=True))
    assert await sqs.bodies() == ["edited"]
