"""A queue's attributes, in both protocols: what they are without being set, what they may be, and what they do to the native queue."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .speech import Sqs

PREFIX = "arn:aws:sqs:us-east-1:000000000000:"
STANDARD = {
    "VisibilityTimeout": "30",
    "DelaySeconds": "0",
    "MaximumMessageSize": "1048576",
    "MessageRetentionPeriod": "345600",
    "ReceiveMessageWaitTimeSeconds": "0",
    "SqsManagedSseEnabled": "false",
    "ApproximateNumberOfMessages": "0",
    "ApproximateNumberOfMessagesNotVisible": "0",
    "ApproximateNumberOfMessagesDelayed": "0",
    "CreatedTimestamp": "1800000000",
    "LastModifiedTimestamp": "1800000000",
    "QueueArn": f"{PREFIX}q",
}
FIFO = {
    **STANDARD,
    "QueueArn": f"{PREFIX}q.fifo",
    "FifoQueue": "true",
    "ContentBasedDeduplication": "false",
    "DeduplicationScope": "queue",
    "FifoThroughputLimit": "perQueue",
}


async def shown(sqs: Sqs, *names: str) -> dict[str, str]:
    """Attributes of the queue, all without names."""
    found: dict[str, str] = (await sqs.ask("GetQueueAttributes", AttributeNames=list(names or ["All"]))).get("Attributes", {})
    return found


async def bad(sqs: Sqs, code: str, *parts: str, **attributes: str) -> None:
    """Attributes that are refused with these words."""
    refusal = await sqs.refused("SetQueueAttributes", Attributes=attributes)
    assert (refusal.status, refusal.code) == (400, code), refusal
    for part in parts:
        assert part in refusal.message, refusal


def redrive(to: str, receives: Any = 5) -> str:
    """A RedrivePolicy."""
    return json.dumps({"deadLetterTargetArn": to, "maxReceiveCount": receives})


async def test_a_new_queue(sqs: Sqs) -> None:
    """All that have a default are shown, and no other."""
    await sqs.make("q")
    assert await shown(sqs) == STANDARD
    await sqs.make("q.fifo")
    assert await shown(sqs) == FIFO


async def test_only_what_is_named_is_shown(sqs: Sqs) -> None:
    """Nothing where nothing is, or what the queue has not; a name that there is not is refused."""
    await sqs.make("q")
    assert await sqs.ask("GetQueueAttributes") == {}
    assert await shown(sqs, "Policy", "FifoQueue", "RedrivePolicy") == {}
    assert await shown(sqs, "DelaySeconds", "QueueArn", "Policy") == {"DelaySeconds": "0", "QueueArn": STANDARD["QueueArn"]}
    refusal = await sqs.refused("GetQueueAttributes", AttributeNames=["All", "Nonsense"])
    assert (refusal.status, refusal.code, refusal.message) == (400, "InvalidAttributeName", "Unknown Attribute Nonsense.")


async def test_attributes_are_changed(sqs: Sqs) -> None:
    """What is not named stays; as a recording of AWS has it."""
    await sqs.make("q", MessageRetentionPeriod=604800, ReceiveMessageWaitTimeSeconds=10, VisibilityTimeout=20)
    await sqs.forward(5)
    await sqs.ask("SetQueueAttributes", Attributes={"MaximumMessageSize": "2048", "VisibilityTimeout": "69", "DelaySeconds": "420"})
    assert await shown(sqs) == {
        **STANDARD,
        "MessageRetentionPeriod": "604800",
        "ReceiveMessageWaitTimeSeconds": "10",
        "MaximumMessageSize": "2048",
        "VisibilityTimeout": "69",
        "DelaySeconds": "420",
        "LastModifiedTimestamp": "1800000005",
    }
    native = (await sqs.api.get("/queues/q")).json["policy"]
    assert (native["lease_seconds"], native["delay"], native["expires_in"], native["max_attempts"]) == (69, 420, 604800, None)


async def test_what_a_native_queue_is_here(sqs: Sqs) -> None:
    """It has what its policy says; what that says of attempts is no RedrivePolicy without a dead-letter queue."""
    await sqs.api.put("/queues/q", lease_seconds=1.5, max_attempts=3, delay=0.5)
    sqs.url = "q"
    found = await shown(sqs)
    assert (found["VisibilityTimeout"], found["DelaySeconds"], found["MessageRetentionPeriod"]) == ("2", "1", "1209600")
    assert "RedrivePolicy" not in found
    await sqs.api.put("/queues/q", max_attempts=3, dead_letter="dead")
    assert json.loads((await shown(sqs))["RedrivePolicy"]) == {"deadLetterTargetArn": f"{PREFIX}dead", "maxReceiveCount": 3}


RANGES = {
    "VisibilityTimeout": (0, 43_200),
    "DelaySeconds": (0, 900),
    "MaximumMessageSize": (1_024, 1_048_576),
    "MessageRetentionPeriod": (60, 1_209_600),
    "ReceiveMessageWaitTimeSeconds": (0, 20),
    "KmsDataKeyReusePeriodSeconds": (60, 86_400),
}


@pytest.mark.parametrize("name", RANGES)
async def test_numbers_have_bounds(sqs: Sqs, name: str) -> None:
    """Both are allowed, and nothing beyond them, nor what is no whole number."""
    await sqs.make("q")
    low, high = RANGES[name]
    for value in (low, high):
        await sqs.ask("SetQueueAttributes", Attributes={name: str(value)})
        assert await sqs.attribute(name) == str(value)
    for value in (low - 1, high + 1, "", " 1", "1.0", "1e2", "x", "9" * 400, "٣"):
        await bad(sqs, "InvalidAttributeValue", f"Invalid value for the parameter {name}.", **{name: str(value)})


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("Nonsense", "1", "InvalidAttributeName"),
        ("All", "1", "InvalidAttributeName"),
        ("QueueArn", "arn", "InvalidAttributeName"),
        ("CreatedTimestamp", "1", "InvalidAttributeName"),
        ("ApproximateNumberOfMessages", "1", "InvalidAttributeName"),
        ("FifoQueue", "true", "InvalidAttributeName"),
        ("ContentBasedDeduplication", "true", "InvalidAttributeName"),
        ("DeduplicationScope", "queue", "InvalidAttributeName"),
        ("FifoThroughputLimit", "perQueue", "InvalidAttributeName"),
        ("SqsManagedSseEnabled", "yes", "InvalidAttributeValue"),
        ("Policy", "{", "InvalidAttributeValue"),
        ("Policy", "[]", "InvalidAttributeValue"),
        ("Policy", '{"a":' * 2_000 + "1" + "}" * 2_000, "InvalidAttributeValue"),
        ("Policy", json.dumps({"a": "x" * 8_192}), "InvalidAttributeValue"),
        ("KmsMasterKeyId", "k" * 2_049, "InvalidAttributeValue"),
        ("RedrivePolicy", "{", "InvalidParameterValue"),
        ("RedrivePolicy", "[" * 5_000, "InvalidParameterValue"),
        ("RedrivePolicy", '{"maxReceiveCount": 1}', "InvalidParameterValue"),
        ("RedrivePolicy", json.dumps({"deadLetterTargetArn": f"{PREFIX}dead"}), "InvalidParameterValue"),
        ("RedrivePolicy", redrive("dead"), "InvalidParameterValue"),
        ("RedrivePolicy", redrive(f"{PREFIX}none"), "InvalidParameterValue"),
        ("RedrivePolicy", redrive(f"{PREFIX}q"), "InvalidParameterValue"),
        ("RedrivePolicy", redrive(f"{PREFIX}dead.fifo"), "InvalidParameterValue"),
        *(("RedrivePolicy", redrive(f"{PREFIX}dead", count), "InvalidParameterValue") for count in (0, 1001, -1, "x", None, True, 1.5, [])),
        ("RedriveAllowPolicy", "{", "InvalidParameterValue"),
        ("RedriveAllowPolicy", '{"redrivePermission": "some"}', "InvalidParameterValue"),
        ("RedriveAllowPolicy", '{"redrivePermission": "byQueue"}', "InvalidParameterValue"),
        ("RedriveAllowPolicy", '{"redrivePermission": "byQueue", "sourceQueueArns": ["q"]}', "InvalidParameterValue"),
        ("RedriveAllowPolicy", '{"redrivePermission": "denyAll", "sourceQueueArns": []}', "InvalidParameterValue"),
    ],
)  # fmt: skip
async def test_a_value_that_may_not_be(sqs: Sqs, name: str, value: str, code: str) -> None:
    """Says which attribute it is of; nothing changes, and a queue is not made with it either."""
    await sqs.make("dead")
    await sqs.make("dead.fifo")
    await sqs.make("q")
    await bad(sqs, code, name, DelaySeconds="5", **{name: value})
    assert await sqs.attribute("DelaySeconds") == "0"
    if value != redrive(f"{PREFIX}q"):
        refusal = await sqs.refused("CreateQueue", QueueName="other", Attributes={name: value})
        # A queue whose name is not that of a FIFO queue is not made one.
        assert refusal.code == code or name == "FifoQueue"


async def test_a_redrive_policy_is_the_dead_letter_queue(sqs: Sqs) -> None:
    """Of any region and account; the count may be a text. It is shown in one form, and an empty one takes it away."""
    await sqs.make("dead")
    await sqs.make("q", RedrivePolicy=redrive("arn:aws-cn:sqs:eu-west-1:123456789012:dead", "42"))
    expected = {"deadLetterTargetArn": f"{PREFIX}dead", "maxReceiveCount": 42}
    assert json.loads(str(await sqs.attribute("RedrivePolicy"))) == expected
    native = (await sqs.api.get("/queues/q")).json["policy"]
    assert (native["dead_letter"], native["max_attempts"]) == ("dead", 42)
    again = await sqs.ask("CreateQueue", QueueName="q", Attributes={"RedrivePolicy": redrive(f"{PREFIX}dead", 42)})
    assert again == {"QueueUrl": sqs.url}
    await sqs.ask("SetQueueAttributes", Attributes={"RedrivePolicy": ""})
    assert await shown(sqs) == STANDARD
    assert (await sqs.api.get("/queues/q")).json["policy"]["max_attempts"] is None


async def test_a_dead_letter_queue_may_say_whose_it_is(sqs: Sqs) -> None:
    """Anybody's, nobody's, or that of the queues that it names."""
    letters = await sqs.make("dead")
    await sqs.make("q")
    policy = {"RedrivePolicy": redrive(f"{PREFIX}dead")}
    for allow, allowed in (
        ({"redrivePermission": "denyAll"}, False),
        ({"redrivePermission": "byQueue", "sourceQueueArns": [f"{PREFIX}other"]}, False),
        ({"redrivePermission": "byQueue", "sourceQueueArns": [f"{PREFIX}other", f"{PREFIX}q"]}, True),
        ({"redrivePermission": "allowAll"}, True),
    ):
        text = json.dumps(allow)
        await sqs.ask("SetQueueAttributes", QueueUrl=letters, Attributes={"RedriveAllowPolicy": text})
        assert (await sqs.ask("GetQueueAttributes", QueueUrl=letters, AttributeNames=["RedriveAllowPolicy"]))["Attributes"] == {
            "RedriveAllowPolicy": text
        }
        if allowed:
            await sqs.ask("SetQueueAttributes", Attributes=policy)
        else:
            await bad(sqs, "InvalidParameterValue", "RedriveAllowPolicy", **policy)
    await sqs.ask("SetQueueAttributes", QueueUrl=letters, Attributes={"RedriveAllowPolicy": ""})
    assert "RedriveAllowPolicy" not in (await sqs.ask("GetQueueAttributes", QueueUrl=letters, AttributeNames=["All"]))["Attributes"]


async def test_a_fifo_queue_stays_one(sqs: Sqs) -> None:
    """A recording of AWS: saying so again is no error, saying otherwise is. Its other attributes may change."""
    await sqs.make("q.fifo", FifoQueue="True", ContentBasedDeduplication="False")
    assert await shown(sqs) == FIFO
    await sqs.ask("SetQueueAttributes", Attributes={"FifoQueue": "true"})
    await bad(
        sqs,
        "InvalidAttributeValue",
        "Invalid value for the parameter FifoQueue. Reason: Modifying queue type is not supported.",
        FifoQueue="false",
    )
    await bad(sqs, "InvalidAttributeValue", "DeduplicationScope", DeduplicationScope="x")
    await bad(sqs, "InvalidAttributeValue", "FifoThroughputLimit", FifoThroughputLimit="perMessageGroupId")
    changed = {"DeduplicationScope": "messageGroup", "FifoThroughputLimit": "perMessageGroupId", "ContentBasedDeduplication": "true"}
    await sqs.ask("SetQueueAttributes", Attributes=changed)
    assert await shown(sqs) == {**FIFO, **changed}
    await bad(sqs, "InvalidAttributeValue", "DeduplicationScope", DeduplicationScope="queue")


async def test_encryption_is_noted_and_not_done(sqs: Sqs) -> None:
    """A recording of AWS: there is one kind at a time, and what is set to its default is not shown."""
    await sqs.make("q", KmsMasterKeyId="key", KmsDataKeyReusePeriodSeconds=6000)
    kms = {"KmsMasterKeyId": "key", "KmsDataKeyReusePeriodSeconds": "6000"}
    assert await shown(sqs) == {**STANDARD, **kms}
    await bad(sqs, "InvalidAttributeName", "one type of server-side encryption", KmsMasterKeyId="key", SqsManagedSseEnabled="true")
    await sqs.ask("SetQueueAttributes", Attributes={"SqsManagedSseEnabled": "true"})
    assert await shown(sqs) == {**STANDARD, "SqsManagedSseEnabled": "true"}
    await sqs.ask("SetQueueAttributes", Attributes=kms)
    assert await shown(sqs) == {**STANDARD, **kms}
    await sqs.ask("SetQueueAttributes", Attributes={"KmsMasterKeyId": "", "KmsDataKeyReusePeriodSeconds": "300"})
    assert await shown(sqs) == STANDARD


async def test_a_policy_is_kept_and_has_no_effect(sqs: Sqs) -> None:
    """As it was given, and gone with an empty one."""
    policy = '{\n "Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Principal": "*", "Action": "sqs:*"}]}'
    await sqs.make("q", Policy=policy)
    assert await sqs.attribute("Policy") == policy
    await sqs.put("x")
    await sqs.ask("SetQueueAttributes", Attributes={"Policy": ""})
    assert await shown(sqs) == {**STANDARD, "ApproximateNumberOfMessages": "1"}


# What attributes do.


async def test_visibility_delay_and_size_hold_for_messages(sqs: Sqs) -> None:
    """Where a message or a receive does not say otherwise."""
    await sqs.make("q", VisibilityTimeout=5, DelaySeconds=3, MaximumMessageSize=1024)
    await sqs.put("later")
    await sqs.put("now", DelaySeconds=0)
    assert await sqs.bodies() == ["now"]
    await sqs.forward(3)
    assert await sqs.bodies(VisibilityTimeout=60) == ["later"]
    await sqs.forward(2)
    assert await sqs.bodies() == ["now"]
    refusal = await sqs.refused("SendMessage", MessageBody="x" * 1_025)
    assert refusal.message == "One or more parameters are invalid. Reason: Message must be shorter than 1024 bytes."


async def test_a_message_is_kept_for_so_long(sqs: Sqs) -> None:
    """Up to a minute longer; a change holds for what is there already."""
    await sqs.make("q", MessageRetentionPeriod=3_600)
    await sqs.put("old")
    await sqs.forward(3_599)
    assert await sqs.counts() == (1, 0, 0)
    await sqs.forward(62)
    assert await sqs.counts() == (0, 0, 0)
    await sqs.put("kept")
    await sqs.ask("SetQueueAttributes", Attributes={"MessageRetentionPeriod": "60"})
    await sqs.forward(121)
    assert await sqs.counts() == (0, 0, 0)


async def test_what_was_received_too_often_is_a_dead_letter(sqs: Sqs) -> None:
    """Its count goes on, its id stays, it says where it comes from; without a RedrivePolicy it comes again and again."""
    await sqs.make("q", VisibilityTimeout=1)
    sent = await sqs.put("x")
    for _ in range(20):
        assert len(await sqs.take()) == 1
        await sqs.forward(1)
    letters = await sqs.make("dead")
    sqs.url = letters.replace("dead", "q")
    await sqs.ask("SetQueueAttributes", Attributes={"RedrivePolicy": redrive(f"{PREFIX}dead", 21)})
    assert len(await sqs.take()) == 1
    await sqs.forward(1)
    assert await sqs.take() == []
    (letter,) = await sqs.take(QueueUrl=letters, AttributeNames=["All"])
    assert (letter["Body"], letter["MessageId"]) == ("x", sent["MessageId"])
    assert letter["Attributes"]["ApproximateReceiveCount"] == "22"
    assert letter["Attributes"]["DeadLetterQueueSourceArn"] == f"{PREFIX}q"
