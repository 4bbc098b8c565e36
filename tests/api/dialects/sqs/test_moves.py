"""Message move tasks, in both protocols. Errors are as AWS was recorded to answer them."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from .speech import Refusal, Sqs

INVALID = "InvalidParameterValue"
UNKNOWN = "ResourceNotFoundException"
NO_SOURCE = "The resource that you specified for the SourceArn parameter doesn't exist."
NO_DESTINATION = "The resource that you specified for the DestinationArn parameter doesn't exist."
Q = "arn:aws:sqs:us-east-1:000000000000:q"
DEAD = "arn:aws:sqs:us-east-1:000000000000:dead"
NONE = "arn:aws:sqs:us-east-1:000000000000:none"


def handle(task: str, arn: str | None) -> str:
    """A task's handle, as clients may have one that is not known."""
    return base64.b64encode(json.dumps({"taskId": task, "sourceArn": arn}).encode()).decode()


async def test_messages_are_moved_to_a_destination(sqs: Sqs) -> None:
    """The task is listed as what it was."""
    await sqs.bury(2)
    source, letters = await sqs.attribute("QueueArn"), sqs.url
    other = await sqs.make("other")
    destination = await sqs.attribute("QueueArn")
    await sqs.ask("StartMessageMoveTask", SourceArn=source, DestinationArn=destination)
    task = await sqs.moved(source)
    assert task == {
        "Status": "COMPLETED",
        "SourceArn": source,
        "DestinationArn": destination,
        "ApproximateNumberOfMessagesMoved": 2,
        "ApproximateNumberOfMessagesToMove": 2,
        "StartedTimestamp": 1_800_000_002_000,
    }
    assert sorted(await sqs.bodies(QueueUrl=other)) == ["m0", "m1"]
    assert await sqs.bodies(QueueUrl=letters) == []


async def test_a_task_is_cancelled(sqs: Sqs) -> None:
    """It has a handle while it runs; what it has moved stays moved, and cancelling it once more is no error."""
    await sqs.bury(3)
    arn = await sqs.attribute("QueueArn")
    begun = await sqs.ask("StartMessageMoveTask", SourceArn=arn, MaxNumberOfMessagesPerSecond=1)
    (running,) = (await sqs.ask("ListMessageMoveTasks", SourceArn=arn))["Results"]
    assert (running["Status"], running["TaskHandle"]) == ("RUNNING", begun["TaskHandle"])
    assert (running["MaxNumberOfMessagesPerSecond"], running["ApproximateNumberOfMessagesToMove"]) == (1, 3)
    other = handle(json.loads(base64.b64decode(begun["TaskHandle"]))["taskId"], Q)
    assert (await sqs.refused("CancelMessageMoveTask", TaskHandle=other)).message == "Task does not exist."
    for _ in range(2):
        assert await sqs.ask("CancelMessageMoveTask", **begun) == {"ApproximateNumberOfMessagesMoved": 1}
    over = await sqs.moved(arn)
    assert (over["Status"], over["ApproximateNumberOfMessagesMoved"]) == ("CANCELLED", 1)
    assert not {"TaskHandle", "DestinationArn"} & over.keys()
    await sqs.forward(60)
    assert await sqs.counts() == (2, 0, 0)


async def test_tasks_are_listed_newest_first(sqs: Sqs) -> None:
    """One, or as many as are asked for; of this queue alone."""
    await sqs.bury(1)
    arn = await sqs.attribute("QueueArn")
    assert await sqs.ask("ListMessageMoveTasks", SourceArn=arn) == {}
    for rate in (5, 6, 7):
        await sqs.ask("StartMessageMoveTask", SourceArn=arn, MaxNumberOfMessagesPerSecond=rate)
        await sqs.moved(arn)
    for given, rates in (({}, [7]), ({"MaxResults": 2}, [7, 6]), ({"MaxResults": 10}, [7, 6, 5])):
        found = await sqs.ask("ListMessageMoveTasks", SourceArn=arn, **given)
        assert [task["MaxNumberOfMessagesPerSecond"] for task in found["Results"]] == rates
    assert await sqs.ask("ListMessageMoveTasks", SourceArn=Q) == {}


async def test_a_message_that_was_moved_is_a_new_one(sqs: Sqs) -> None:
    """It has another id, was sent when it was moved, and was received by nobody yet."""
    await sqs.bury(1)
    source = await sqs.attribute("QueueArn")
    (old,) = await sqs.take(VisibilityTimeout=0, AttributeNames=["All"])
    await sqs.forward(60)
    other = await sqs.make("other")
    await sqs.ask("StartMessageMoveTask", SourceArn=source, DestinationArn=await sqs.attribute("QueueArn"))
    await sqs.moved(source)
    (new,) = await sqs.take(QueueUrl=other, AttributeNames=["All"])
    assert (new["Body"], new["MD5OfBody"]) == (old["Body"], old["MD5OfBody"])
    assert new["MessageId"] != old["MessageId"]
    assert int(new["Attributes"]["SentTimestamp"]) >= int(old["Attributes"]["SentTimestamp"]) + 60_000
    assert new["Attributes"]["ApproximateReceiveCount"] == "1"
    assert "DeadLetterQueueSourceArn" not in new["Attributes"]


async def test_messages_of_a_fifo_queue_are_moved_in_order(sqs: Sqs) -> None:
    """As dead letters they keep their group, and have their own ids for deduplication ids; home again they are new messages, in order."""
    letters = await sqs.make("dead.fifo")
    arn = await sqs.attribute("QueueArn")
    policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 1})
    source = await sqs.make("q.fifo", VisibilityTimeout=1, ContentBasedDeduplication="true", RedrivePolicy=policy)
    sent = [await sqs.put(f"m{number}", MessageGroupId="g") for number in range(3)]
    for _ in sent:
        assert len(await sqs.take()) == 1
        await sqs.forward(1)
    assert await sqs.bodies() == []
    sqs.url = letters
    found = await sqs.take(MaxNumberOfMessages=10, VisibilityTimeout=0, AttributeNames=["All"])
    assert [message["MessageId"] for message in found] == [message["MessageId"] for message in sent]
    for message in found:
        assert message["Attributes"]["MessageGroupId"] == "g"
        assert message["Attributes"]["MessageDeduplicationId"] == message["MessageId"]
        assert message["Attributes"]["DeadLetterQueueSourceArn"] == "arn:aws:sqs:us-east-1:000000000000:q.fifo"
    await sqs.forward(0)
    await sqs.ask("StartMessageMoveTask", SourceArn=arn)
    assert (await sqs.moved(arn))["ApproximateNumberOfMessagesMoved"] == 3
    sqs.url = source
    home = await sqs.take(MaxNumberOfMessages=10, AttributeNames=["All"])
    assert [message["Body"] for message in home] == ["m0", "m1", "m2"]
    assert not {message["MessageId"] for message in home} & {message["MessageId"] for message in sent}
    for message, old in zip(home, found, strict=True):
        now, then = message["Attributes"], old["Attributes"]
        assert (now["MessageGroupId"], now["MessageDeduplicationId"]) == ("g", message["MessageId"])
        assert int(now["SequenceNumber"]) > int(then["SequenceNumber"])


async def test_queues_of_any_native_name(sqs: Sqs) -> None:
    """An ARN names them, also with what stands between an ARN's own parts."""
    await sqs.api.put("/queues/dead:native.queue")
    policy = {"deadLetterTargetArn": "arn:aws:sqs:us-east-1:000000000000:dead:native.queue", "maxReceiveCount": 1}
    await sqs.make("q", RedrivePolicy=json.dumps(policy))
    assert json.loads(str(await sqs.attribute("RedrivePolicy"))) == policy
    assert await sqs.ask("ListMessageMoveTasks", SourceArn=policy["deadLetterTargetArn"]) == {}
    await sqs.ask("StartMessageMoveTask", SourceArn=policy["deadLetterTargetArn"])
    assert (await sqs.moved(str(policy["deadLetterTargetArn"])))["Status"] == "COMPLETED"


@pytest.mark.parametrize(
    ("action", "given", "said"),
    [
        ("StartMessageMoveTask", {"SourceArn": NONE}, (404, UNKNOWN, NO_SOURCE)),
        ("ListMessageMoveTasks", {"SourceArn": NONE}, (404, UNKNOWN, NO_SOURCE)),
        ("StartMessageMoveTask", {"DestinationArn": NONE}, (404, UNKNOWN, NO_DESTINATION)),
        ("StartMessageMoveTask", {"SourceArn": Q}, (400, INVALID, "Source queue must be configured as a Dead Letter Queue.")),
        ("StartMessageMoveTask", {"SourceArn": "dead"}, (400, INVALID, "SourceArn")),
        ("StartMessageMoveTask", {"DestinationArn": "dead"}, (400, INVALID, "DestinationArn")),
        ("StartMessageMoveTask", {"DestinationArn": DEAD}, (400, INVALID, "DestinationArn")),
        ("StartMessageMoveTask", {"MaxNumberOfMessagesPerSecond": 0}, (400, INVALID, "MaxNumberOfMessagesPerSecond")),
        ("StartMessageMoveTask", {"MaxNumberOfMessagesPerSecond": 501}, (400, INVALID, "MaxNumberOfMessagesPerSecond")),
        ("ListMessageMoveTasks", {"MaxResults": 0}, (400, INVALID, "MaxResults")),
        ("ListMessageMoveTasks", {"MaxResults": 11}, (400, INVALID, "MaxResults")),
        ("CancelMessageMoveTask", {"TaskHandle": "garbage"}, (400, INVALID, "Value for parameter TaskHandle is invalid.")),
        ("CancelMessageMoveTask", {"TaskHandle": "bm9uZQ=="}, (400, INVALID, "Value for parameter TaskHandle is invalid.")),
        ("CancelMessageMoveTask", {"TaskHandle": "é"}, (400, INVALID, "Value for parameter TaskHandle is invalid.")),
        ("CancelMessageMoveTask", {"TaskHandle": handle("t", NONE)}, (404, UNKNOWN, NO_SOURCE)),
        ("CancelMessageMoveTask", {"TaskHandle": handle("t", DEAD)}, (404, UNKNOWN, "Task does not exist.")),
    ],
)  # fmt: skip
async def test_what_cannot_be_moved(sqs: Sqs, action: str, given: dict[str, Any], said: tuple[int, str, str]) -> None:
    """Is refused with what is at fault."""
    await sqs.bury(1)
    if "Handle" not in str(given):
        given = {"SourceArn": DEAD, **given}
    refusal = await sqs.refused(action, **given)
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.code) == said[:2]
    assert said[2] in refusal.message
