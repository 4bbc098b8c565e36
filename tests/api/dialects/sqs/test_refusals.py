"""What the actions on messages refuse, in AWS's words: what is at fault is named, and nothing changes. In both protocols."""

from __future__ import annotations

from typing import Any

import pytest

from .speech import Sqs

INVALID = "InvalidParameterValue"
MISSING = "MissingParameter"
NEITHER = "The queue should either have ContentBasedDeduplication enabled or MessageDeduplicationId provided explicitly"
NOT_HERE = "Reason: The request include parameter that is not valid for this queue type."
COUNT = "for parameter MaxNumberOfMessages is invalid. Reason: Must be between 1 and 10, if provided."
WAIT = "for parameter WaitTimeSeconds is invalid. Reason: Must be >= 0 and <= 20, if provided."
LETTERS = "alphanumeric and punctuation characters. 1 to 128 in length."


def attribute(name: str = "n", **value: Any) -> dict[str, Any]:
    """One message attribute."""
    return {"MessageAttributes": {name: {"DataType": "String", "StringValue": "x", **value}}}


SEND = [
    ({"MessageBody": ""}, MISSING, "MessageBody"),
    ({"MessageBody": "a\x00b"}, "InvalidMessageContents", "message body"),
    ({"MessageBody": "\ufffe"}, "InvalidMessageContents", "message body"),
    ({"DelaySeconds": -1}, INVALID, "Value -1 for parameter DelaySeconds is invalid. Reason: DelaySeconds must be >= 0 and <= 900."),
    ({"DelaySeconds": 901}, INVALID, "Value 901 for parameter DelaySeconds is invalid."),
    ({"MessageGroupId": ""}, INVALID, f"Value  for parameter MessageGroupId is invalid. Reason: MessageGroupId can only include {LETTERS}"),
    ({"MessageGroupId": "group 123"}, INVALID, "Value group 123 for parameter MessageGroupId is invalid."),
    ({"MessageGroupId": "g" * 129}, INVALID, "for parameter MessageGroupId is invalid."),
    ({"MessageDeduplicationId": "d"}, INVALID, "Value d for parameter MessageDeduplicationId is invalid."),
    (attribute(name="AWS.x"), INVALID, "AWS.x"),
    (attribute(name="amazon.x"), INVALID, "amazon.x"),
    (attribute(name=".x"), INVALID, ".x"),
    (attribute(name="x."), INVALID, "x."),
    (attribute(name="x..y"), INVALID, "x..y"),
    (attribute(name="x y"), INVALID, "x y"),
    (attribute(name="x" * 257), INVALID, "xxx"),
    (attribute(DataType="Text"), INVALID, "'n'"),
    (attribute(DataType=""), INVALID, "'n'"),
    (attribute(DataType="Number"), INVALID, "'n'"),
    (attribute(DataType="Binary"), INVALID, "'n'"),
    (attribute(StringValue=""), INVALID, "Message (user) attribute 'n' must contain a non-empty value of type 'String'."),
    (attribute(StringValue="\x01"), "InvalidMessageContents", ""),
    (attribute(DataType="String.label", StringValue=""), INVALID, "'n'"),
    ({"MessageAttributes": {f"n{at}": {"DataType": "String", "StringValue": "x"} for at in range(11)}}, INVALID, "[11]"),
    ({"MessageSystemAttributes": {"SenderId": {"DataType": "String", "StringValue": "x"}}}, INVALID, "SenderId"),
    ({"MessageSystemAttributes": {"AWSTraceHeader": {"DataType": "String", "StringValue": ""}}}, INVALID, "AWSTraceHeader"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "code", "said"), SEND)
async def test_a_message_that_cannot_be_sent(sqs: Sqs, given: dict[str, Any], code: str, said: str) -> None:
    """Alone it is refused; in a batch it fails, and the others are sent."""
    await sqs.make("q")
    refusal = await sqs.refused("SendMessage", **{"MessageBody": "x", **given})
    assert (refusal.status, refusal.code) == (400, code)
    assert said in refusal.message
    if given.get("MessageBody") == "":
        return
    entries = [{"Id": "bad", "MessageBody": "x", **given}, {"Id": "good", "MessageBody": "good"}]
    found = await sqs.ask("SendMessageBatch", Entries=entries)
    assert [entry["Id"] for entry in found["Successful"]] == ["good"]
    (failed,) = found["Failed"]
    assert (failed["Id"], failed["Code"], failed["Message"], failed["SenderFault"]) == ("bad", code, refusal.message, True)
    assert await sqs.bodies() == ["good"]


@pytest.mark.parametrize(
    ("given", "code", "said"),
    [
        ({}, MISSING, "The request must contain the parameter MessageGroupId."),
        ({"MessageDeduplicationId": "d"}, MISSING, "The request must contain the parameter MessageGroupId."),
        ({"MessageGroupId": "g"}, INVALID, NEITHER),
        ({"MessageGroupId": "g", "MessageDeduplicationId": ""}, INVALID, "Value  for parameter MessageDeduplicationId is invalid."),
        ({"MessageGroupId": "g", "MessageDeduplicationId": "d 1"}, INVALID, f"MessageDeduplicationId can only include {LETTERS}"),
        ({"MessageGroupId": "g", "MessageDeduplicationId": "d" * 129}, INVALID, "for parameter MessageDeduplicationId is invalid."),
        ({"MessageGroupId": "g", "MessageDeduplicationId": "d", "DelaySeconds": 2}, INVALID, f"DelaySeconds is invalid. {NOT_HERE}"),
    ],
)  # fmt: skip
async def test_a_message_that_a_fifo_queue_refuses(sqs: Sqs, given: dict[str, Any], code: str, said: str) -> None:
    """A recording of AWS, as is that a batch without groups or ids is refused whole, with another code."""
    await sqs.make("q.fifo")
    refusal = await sqs.refused("SendMessage", MessageBody="x", **given)
    assert (refusal.status, refusal.code) == (400, code)
    assert said in refusal.message
    if said.endswith(("MessageGroupId.", "explicitly")):
        refusal = await sqs.refused("SendMessageBatch", Entries=[{"Id": "a", "MessageBody": "x", **given}])
        assert (refusal.status, refusal.code, refusal.message) == (400, INVALID, said)


@pytest.mark.parametrize(
    ("given", "code", "said"),
    [
        ({"MaxNumberOfMessages": 0}, INVALID, f"Value 0 {COUNT}"),
        ({"MaxNumberOfMessages": 11}, INVALID, f"Value 11 {COUNT}"),
        ({"WaitTimeSeconds": -1}, INVALID, f"Value -1 {WAIT}"),
        ({"WaitTimeSeconds": 21}, INVALID, f"Value 21 {WAIT}"),
        ({"VisibilityTimeout": -1}, INVALID, "Value -1 for parameter VisibilityTimeout is invalid."),
        ({"VisibilityTimeout": 43_201}, INVALID, "Value 43201 for parameter VisibilityTimeout is invalid."),
        ({"AttributeNames": ["Nonsense"]}, "InvalidAttributeName", "Unknown Attribute Nonsense."),
        ({"MessageSystemAttributeNames": ["Nonsense"]}, "InvalidAttributeName", "Unknown Attribute Nonsense."),
        ({"ReceiveRequestAttemptId": "a"}, INVALID, "Value a for parameter ReceiveRequestAttemptId is invalid."),
    ],
)  # fmt: skip
async def test_a_receive_that_is_refused(sqs: Sqs, given: dict[str, Any], code: str, said: str) -> None:
    """It takes nothing."""
    await sqs.make("q")
    await sqs.put("x")
    refusal = await sqs.refused("ReceiveMessage", **given)
    assert (refusal.status, refusal.code) == (400, code)
    assert said in refusal.message


@pytest.mark.parametrize("handle", ["", "garbage", "é", "AQ", "A" * 5_000, "\u2028", "AAAA"])
async def test_what_is_no_handle(sqs: Sqs, handle: str) -> None:
    """Is said to be none, and in a batch its entry fails."""
    await sqs.make("q")
    await sqs.put("x")
    (message,) = await sqs.take()
    for action, more in (("ChangeMessageVisibility", {"VisibilityTimeout": 5}), ("DeleteMessage", {})):
        refusal = await sqs.refused(action, ReceiptHandle=handle, **more)
        assert (refusal.status, refusal.code) == (400, "ReceiptHandleIsInvalid")
        assert "not a valid receipt handle" in refusal.message
        entries = [{"Id": "bad", "ReceiptHandle": handle, **more}, {"Id": "good", "ReceiptHandle": message["ReceiptHandle"], **more}]
        found = await sqs.ask(f"{action}Batch", Entries=entries)
        assert ([entry["Id"] for entry in found["Successful"]], found["Failed"][0]["Id"]) == (["good"], "bad")
        assert (found["Failed"][0]["Code"], found["Failed"][0]["Message"]) == ("ReceiptHandleIsInvalid", refusal.message)


async def test_a_visibility_that_may_not_be(sqs: Sqs) -> None:
    """Out of range, or more than twelve hours in all; the message stays as it is."""
    await sqs.make("q")
    await sqs.put("x")
    (message,) = await sqs.take()
    for seconds in (-1, 43_201):
        refusal = await sqs.refused("ChangeMessageVisibility", ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=seconds)
        assert (refusal.status, refusal.code) == (400, INVALID)
        assert f"Value {seconds} for parameter VisibilityTimeout is invalid." in refusal.message
    await sqs.ask("ChangeMessageVisibility", ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=60)
    await sqs.forward(30)
    refusal = await sqs.refused("ChangeMessageVisibility", ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=43_200)
    assert "Total VisibilityTimeout for the message is beyond the limit [43200 seconds]" in refusal.message
    await sqs.forward(29)
    assert await sqs.bodies() == []
    await sqs.forward(1)
    assert await sqs.bodies() == ["x"]


async def test_a_handle_of_what_is_gone(sqs: Sqs) -> None:
    """Deleting it is no error, giving it time is."""
    await sqs.make("q")
    await sqs.put("x")
    (message,) = await sqs.take()
    handle = message["ReceiptHandle"]
    await sqs.ask("DeleteMessage", ReceiptHandle=handle)
    refusal = await sqs.refused("ChangeMessageVisibility", ReceiptHandle=handle, VisibilityTimeout=5)
    assert (refusal.status, refusal.code) == (400, INVALID)
    assert refusal.message.endswith("Reason: Message does not exist or is not available for visibility timeout change.")
    found = await sqs.ask("DeleteMessageBatch", Entries=[{"Id": "a", "ReceiptHandle": handle}])
    assert found == {"Successful": [{"Id": "a"}], "Failed": []}


async def test_a_handle_of_another_queue(sqs: Sqs) -> None:
    """Is none of this one, so nobody deletes by a wrong URL, nor a FIFO queue's message late by that of a standard queue."""
    other = await sqs.make("other")
    await sqs.make("q.fifo", FifoQueue="true", ContentBasedDeduplication="true", VisibilityTimeout=5)
    await sqs.ask("SendMessage", MessageBody="x", MessageGroupId="g")
    (message,) = await sqs.take()
    handle = message["ReceiptHandle"]
    for action, more in (("DeleteMessage", {}), ("ChangeMessageVisibility", {"VisibilityTimeout": 60})):
        refusal = await sqs.refused(action, QueueUrl=other, ReceiptHandle=handle, **more)
        assert (refusal.status, refusal.code) == (400, "ReceiptHandleIsInvalid")
    await sqs.forward(5)
    found = await sqs.ask("DeleteMessageBatch", QueueUrl=other, Entries=[{"Id": "a", "ReceiptHandle": handle}])
    assert [(entry["Id"], entry["Code"]) for entry in found["Failed"]] == [("a", "ReceiptHandleIsInvalid")]
    assert await sqs.bodies() == ["x"]


async def test_a_handle_that_was_handed_out_again(sqs: Sqs) -> None:
    """On a standard queue it does nothing, and that is no error."""
    await sqs.make("q", VisibilityTimeout=5)
    await sqs.put("x")
    (old,) = await sqs.take()
    await sqs.forward(5)
    (new,) = await sqs.take()
    for action, more in (("DeleteMessage", {}), ("ChangeMessageVisibility", {"VisibilityTimeout": 60})):
        await sqs.ask(action, ReceiptHandle=old["ReceiptHandle"], **more)
        assert await sqs.counts() == (0, 1, 0)
    await sqs.ask("DeleteMessage", ReceiptHandle=new["ReceiptHandle"])
    assert await sqs.counts() == (0, 0, 0)


async def test_a_visibility_that_is_over_is_not_changed(sqs: Sqs) -> None:
    """A recording of AWS: on a standard queue that is no error and does nothing, on a FIFO queue it is one."""
    await sqs.make("q", VisibilityTimeout=5)
    await sqs.put("x")
    (message,) = await sqs.take()
    await sqs.forward(5)
    assert await sqs.ask("ChangeMessageVisibility", ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=60) == {}
    assert await sqs.counts() == (1, 0, 0)
    await sqs.make("q.fifo", VisibilityTimeout=5, ContentBasedDeduplication="true")
    await sqs.put("x", MessageGroupId="g")
    (message,) = await sqs.take()
    await sqs.forward(5)
    refusal = await sqs.refused("ChangeMessageVisibility", ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=60)
    assert (refusal.status, refusal.code) == (400, INVALID)
    assert refusal.message.endswith("Reason: The receipt handle has expired.")
    assert await sqs.bodies() == ["x"]


async def test_a_batch_of_nothing(sqs: Sqs) -> None:
    """Is refused, as one that has no list at all."""
    await sqs.make("q")
    for action in ("SendMessageBatch", "DeleteMessageBatch", "ChangeMessageVisibilityBatch"):
        refusal = await sqs.refused(action, Entries=[])
        assert refusal.status == 400
        assert refusal.code in ("AWS.SimpleQueueService.EmptyBatchRequest", MISSING)


# What native jobs look like here, and messages there.


@pytest.mark.parametrize(
    ("payload", "body"),
    [
        ('"text"', "text"),
        ('{"a": [1, "é"]}', '{"a": [1, "é"]}'),
        ("[]", "[]"),
        ("5", "5"),
        ("null", "null"),
        ('"5"', "5"),
        ('"a\\"b\\u00e9\\n"', 'a"bé\n'),
    ],
)
async def test_a_native_job_is_a_message(sqs: Sqs, payload: str, body: str) -> None:
    """Its body is its payload, and of a text its characters."""
    await sqs.make("q")
    reply = await sqs.api.send("POST", "/jobs/enqueue", f'{{"queue": "q", "payload": {payload}}}'.encode())
    assert reply.status == 201
    assert await sqs.bodies() == [body]


async def test_a_native_job_that_no_message_could_be(sqs: Sqs) -> None:
    """It holds what XML cannot: it comes all the same, and is read."""
    await sqs.make("q")
    await sqs.api.enqueue("\x00\x1f\ufffe", queue="q")
    (body,) = await sqs.bodies()
    assert body == "\x00\x1f\ufffe" or sqs.protocol == "query"


@pytest.mark.parametrize("body", ['{"a":  1}', "[1, 2]", "plain", '"quoted"', "{not json", "5", "null", "é\r\n\t x", "[" * 101 + "]" * 101])
async def test_a_body_comes_back_as_it_was(sqs: Sqs, body: str) -> None:
    """Natively it is JSON where it is an object or a list, a text otherwise; the token is natively of use too."""
    await sqs.make("q", VisibilityTimeout=1)
    await sqs.put(body)
    assert await sqs.bodies() == [body]
    await sqs.forward(1)
    job = await sqs.api.take(queue="q")
    assert job["payload"] == ({"a": 1} if body == '{"a":  1}' else [1, 2] if body == "[1, 2]" else body)
