"""What clients of SQS and of servers like it stumbled over, one case each, on the wire and in both protocols.

Each is named by where it was found: an issue of a server or of a client, or a recording of AWS.
"""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from jobqueue.api.mounts import Mounts
from tests.api.conftest import Serve

from .speech import PROTOCOLS, Protocol, Refusal, Sqs

MIB = 1_048_576
TOO_MANY = "Maximum number of entries per request are 10. You have sent 11."
NO_ID = "A batch entry id can only contain alphanumeric characters, hyphens and underscores. It can be at most 80 letters long."
SYSTEM = {"AttributeNames": ["All"]}


def text(value: str, kind: str = "String") -> dict[str, Any]:
    """A message attribute of text."""
    return {"DataType": kind, "StringValue": value}


KENOBI = {"General": text("Kenobi"), "Hello": text("There"), "Help.Me": text("Me")}


async def test_01_a_call_is_taken_at_a_queues_own_path(sqs: Sqs) -> None:
    """aws-sdk-php#2822, goaws#279: with the account's path at the root and no QueueUrl, though the native API stands there."""
    url = await sqs.make("q")
    for path in ("/000000000000/q", "/sqs/000000000000/q", "/sqs/", "/sqs"):
        given = {} if path.endswith("q") else {"QueueUrl": url}
        sqs.url = ""
        sent = await sqs.call("SendMessage", {**given, "MessageBody": path}, path)
        assert not isinstance(sent, Refusal), sent
    sqs.url = url
    assert await sqs.bodies() == ["/000000000000/q", "/sqs/000000000000/q", "/sqs/", "/sqs"]


async def test_02_a_queue_that_is_not_there(sqs: Sqs) -> None:
    """elasticmq#903: 400 with AWS's code, which botocore takes from a header; and the queue is not made by it."""
    sqs.url = "http://test/sqs/000000000000/none"
    for action, given in (("ReceiveMessage", {}), ("SendMessage", {"MessageBody": "x"}), ("GetQueueAttributes", {}), ("PurgeQueue", {})):
        refusal = await sqs.refused(action, **given)
        assert (refusal.status, refusal.code) == (400, "AWS.SimpleQueueService.NonExistentQueue"), action
        assert refusal.message == "The specified queue does not exist."
        assert refusal.type == ("QueueDoesNotExist" if sqs.protocol == "json" else "")
    assert await sqs.ask("ListQueues") == {}


async def test_03_nothing_received_has_no_messages(sqs: Sqs) -> None:
    """floci#773: the answer has no such list, rather than an empty one."""
    await sqs.make("q")
    assert await sqs.ask("ReceiveMessage") == {}


async def test_04_the_digest_is_of_the_attributes_that_are_returned(sqs: Sqs) -> None:
    """A recording of AWS: two of three are named, and by the pattern of all."""
    await sqs.make("q", VisibilityTimeout=0)
    sent = await sqs.put(MessageAttributes=KENOBI)
    assert sent["MD5OfMessageAttributes"] == "4c360f3fdafd970e05fae2f149d997f5"
    (two,) = await sqs.take(MessageAttributeNames=["General", "Hello"])
    assert two["MD5OfMessageAttributes"] == "fca026605781cb4126a1e9044df24232"
    assert two["MessageAttributes"] == {"General": KENOBI["General"], "Hello": KENOBI["Hello"]}
    for names in (["All"], [".*"], ["Hel.*", "Gen.*"]):
        await sqs.forward(0)
        (all_,) = await sqs.take(MessageAttributeNames=names)
        assert (all_["MessageAttributes"], all_["MD5OfMessageAttributes"]) == (KENOBI, sent["MD5OfMessageAttributes"]), names
    await sqs.forward(0)
    (none,) = await sqs.take()
    assert not {"MessageAttributes", "MD5OfMessageAttributes"} & none.keys()


async def test_04_a_label_is_a_part_of_the_type(sqs: Sqs) -> None:
    """elasticmq#947: it is in the digest, and comes back."""
    await sqs.make("q")
    given = {"n": text("5", "Number.int")}
    digest = hashlib.md5(
        b"".join(len(part).to_bytes(4) + part for part in (b"n", b"Number.int")) + b"\x01" + (1).to_bytes(4) + b"5"
    ).hexdigest()
    assert (await sqs.put(MessageAttributes=given))["MD5OfMessageAttributes"] == digest
    (message,) = await sqs.take(MessageAttributeNames=["All"])
    assert (message["MessageAttributes"], message["MD5OfMessageAttributes"]) == (given, digest)


async def test_04_without_attributes_there_is_no_digest_of_them(sqs: Sqs) -> None:
    """localstack#136: neither where it is sent nor where it is received."""
    await sqs.make("q")
    assert sorted(await sqs.put("x")) == ["MD5OfMessageBody", "MessageId"]
    (message,) = await sqs.take(MessageAttributeNames=["All"])
    assert sorted(message) == ["Body", "MD5OfBody", "MessageId", "ReceiptHandle"]


async def test_05_bytes_come_back_as_they_were(sqs: Sqs) -> None:
    """localstack#6794, floci#168: and the digest is of the bytes, not of how they are written."""
    await sqs.make("q")
    value = b"traceparent\x1e00-774062d6c37081a5a0b9b5b88e30627c-2d2482211f6489da-01"
    sent = await sqs.put(MessageAttributes={"attr1": {"DataType": "Binary", "BinaryValue": value}})
    assert sent["MD5OfMessageAttributes"] == "8cbe4db156db8a94db8b801b7addb984"
    (message,) = await sqs.take(MessageAttributeNames=["attr1"])
    assert message["MessageAttributes"]["attr1"] == {"DataType": "Binary", "BinaryValue": value}
    assert message["MD5OfMessageAttributes"] == sent["MD5OfMessageAttributes"]


async def test_07_one_bad_message_fails_alone(sqs: Sqs) -> None:
    """localstack#4135: of ten, nine are sent."""
    await sqs.make("q")
    entries = [{"Id": str(number), "MessageBody": "\x01" if number == 3 else f"m{number}"} for number in range(10)]
    found = await sqs.ask("SendMessageBatch", Entries=entries)
    assert [entry["Id"] for entry in found["Successful"]] == [str(number) for number in range(10) if number != 3]
    (failed,) = found["Failed"]
    assert (failed["Id"], failed["Code"], failed["SenderFault"]) == ("3", "InvalidMessageContents", True)
    assert failed["Message"]
    assert len(await sqs.take(MaxNumberOfMessages=10)) == 9


async def test_08_a_message_of_a_mebibyte(sqs: Sqs) -> None:
    """elasticmq#1180: and not a byte more; in a batch, all together."""
    await sqs.make("q")
    body = "é" + "x" * (MIB - 2)
    sent = await sqs.put(body)
    assert sent["MD5OfMessageBody"] == hashlib.md5(body.encode()).hexdigest()
    assert await sqs.bodies() == [body]
    refusal = await sqs.refused("SendMessage", MessageBody=body + "a")
    assert (refusal.status, refusal.code) == (400, "InvalidParameterValue")
    assert refusal.message == f"One or more parameters are invalid. Reason: Message must be shorter than {MIB} bytes."
    refusal = await sqs.refused("SendMessageBatch", Entries=[{"Id": "a", "MessageBody": body}, {"Id": "b", "MessageBody": "x"}])
    assert (refusal.status, refusal.code) == (400, "AWS.SimpleQueueService.BatchRequestTooLong")
    assert refusal.message == f"Batch requests cannot be longer than {MIB} bytes. You have sent {MIB + 1} bytes."


@pytest.mark.parametrize(
    ("entries", "code", "message"),
    [
        ([str(number) for number in range(11)], "TooManyEntriesInBatchRequest", TOO_MANY),
        (["x", "y", "x"], "BatchEntryIdsNotDistinct", "Id x repeated."),
        (["a:b"], "InvalidBatchEntryId", NO_ID),
        (["a" * 81], "InvalidBatchEntryId", NO_ID),
    ],
)  # fmt: skip
@pytest.mark.parametrize("action", ["SendMessageBatch", "DeleteMessageBatch", "ChangeMessageVisibilityBatch"])
async def test_09_a_bad_batch_is_refused_whole(sqs: Sqs, action: str, entries: list[str], code: str, message: str) -> None:
    """localstack#7312: too many entries, an id twice, an id that is none."""
    await sqs.make("q")
    more = {"MessageBody": "x"} if action == "SendMessageBatch" else {"ReceiptHandle": "x", "VisibilityTimeout": 1}
    if action == "DeleteMessageBatch":
        del more["VisibilityTimeout"]
    refusal = await sqs.refused(action, Entries=[{"Id": entry, **more} for entry in entries])
    assert (refusal.status, refusal.code) == (400, f"AWS.SimpleQueueService.{code}")
    assert refusal.message == message


async def test_10_one_bad_handle_fails_alone(sqs: Sqs) -> None:
    """elasticmq#632: what the others ask for is done."""
    await sqs.make("q")
    await sqs.put()
    (message,) = await sqs.take()
    entries = [
        {"Id": "good", "ReceiptHandle": message["ReceiptHandle"], "VisibilityTimeout": 100},
        {"Id": "bad", "ReceiptHandle": "garbage", "VisibilityTimeout": 100},
    ]
    found = await sqs.ask("ChangeMessageVisibilityBatch", Entries=entries)
    assert found["Successful"] == [{"Id": "good"}]
    (failed,) = found["Failed"]
    assert (failed["Id"], failed["Code"], failed["SenderFault"]) == ("bad", "ReceiptHandleIsInvalid", True)
    await sqs.forward(99)
    assert await sqs.take() == []
    await sqs.forward(1)
    assert len(await sqs.take()) == 1


async def test_11_a_delayed_message_comes_to_who_waits_when_it_is_due(sqs: Sqs) -> None:
    """elasticmq#65, moto#5733: not at the end of the wait, and not before."""
    await sqs.make("q")
    await sqs.put("later", DelaySeconds=2)
    held = await sqs.hold(WaitTimeSeconds=10)
    await sqs.forward(1.9)
    assert sqs.api.backend.totals().waiters == 1
    await sqs.forward(0.1)
    assert [message["Body"] for message in await held.messages()] == ["later"]


async def test_12_a_message_that_is_given_back_comes_to_who_waits(sqs: Sqs) -> None:
    """elasticmq#81: visibility 0 ends the lease, the receive is counted."""
    await sqs.make("q")
    await sqs.put("back")
    (message,) = await sqs.take()
    held = await sqs.hold(WaitTimeSeconds=20, **SYSTEM)
    await sqs.ask("ChangeMessageVisibility", ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0)
    (again,) = await held.messages()
    assert (again["MessageId"], again["Attributes"]["ApproximateReceiveCount"]) == (message["MessageId"], "2")


async def test_13_who_asks_for_ten_is_given_the_one_there_is(sqs: Sqs) -> None:
    """localstack#6118: at once, whatever the wait."""
    await sqs.make("q")
    await sqs.put("one")
    assert await sqs.bodies(WaitTimeSeconds=20) == ["one"]


async def test_14_a_wait_of_zero_wins_over_the_queues(sqs: Sqs) -> None:
    """floci#2826: who says nothing waits as long as the queue says."""
    await sqs.make("q", ReceiveMessageWaitTimeSeconds=20)
    assert await sqs.take(WaitTimeSeconds=0) == []
    held = await sqs.hold()
    await sqs.forward(20)
    assert await held.messages() == []


async def test_16_a_group_goes_on_when_its_message_is_done(sqs: Sqs) -> None:
    """localstack#8724: what comes in meanwhile waits too, and other groups do not."""
    await sqs.make("q.fifo", ContentBasedDeduplication="true")
    await sqs.put("a1", MessageGroupId="a")
    (a1,) = await sqs.take()
    await sqs.put("a2", MessageGroupId="a")
    assert await sqs.bodies() == []
    # What waits for its group counts as visible.
    assert await sqs.counts() == (1, 1, 0)
    await sqs.put("b1", MessageGroupId="b")
    assert await sqs.bodies() == ["b1"]
    await sqs.ask("DeleteMessage", ReceiptHandle=a1["ReceiptHandle"])
    assert await sqs.bodies() == ["a2"]


async def test_17_several_of_a_group_are_received_in_order(sqs: Sqs) -> None:
    """floci#777, localstack#10107: by one receive; and a group that was empty works again."""
    await sqs.make("q.fifo", ContentBasedDeduplication="true")
    for round_ in ("first", "second"):
        bodies = [f"{round_} {number}" for number in range(5)]
        for body in bodies:
            await sqs.put(body, MessageGroupId="g")
        messages = await sqs.take(MaxNumberOfMessages=5)
        assert [message["Body"] for message in messages] == bodies
        entries = [{"Id": str(at), "ReceiptHandle": message["ReceiptHandle"]} for at, message in enumerate(messages)]
        assert len((await sqs.ask("DeleteMessageBatch", Entries=entries))["Successful"]) == 5
        assert await sqs.counts() == (0, 0, 0)


async def test_19_a_duplicate_is_answered_with_the_first(sqs: Sqs) -> None:
    """elasticmq#354, fakecloud#1569: for five minutes, also once that is deleted; its body may be another, and has its own digest."""
    await sqs.make("q.fifo")
    one = await sqs.put("one", MessageGroupId="g", MessageDeduplicationId="d")
    (message,) = await sqs.take()
    await sqs.ask("DeleteMessage", ReceiptHandle=message["ReceiptHandle"])
    two = await sqs.put("two", MessageGroupId="h", MessageDeduplicationId="d")
    assert (two["MessageId"], two["SequenceNumber"]) == (one["MessageId"], one["SequenceNumber"])
    assert two["MD5OfMessageBody"] == hashlib.md5(b"two").hexdigest()
    await sqs.forward(299)
    assert (await sqs.put("two", MessageGroupId="h", MessageDeduplicationId="d"))["MessageId"] == one["MessageId"]
    assert await sqs.bodies() == []
    await sqs.forward(1)
    assert (await sqs.put("three", MessageGroupId="g", MessageDeduplicationId="d"))["MessageId"] != one["MessageId"]
    assert await sqs.bodies() == ["three"]


async def test_19_a_purge_forgets_duplicates(sqs: Sqs) -> None:
    """Recorded of AWS: the same id is a new message then."""
    await sqs.make("q.fifo")
    one = await sqs.put("one", MessageGroupId="g", MessageDeduplicationId="d")
    await sqs.ask("PurgeQueue")
    two = await sqs.put("two", MessageGroupId="g", MessageDeduplicationId="d")
    assert two["MessageId"] != one["MessageId"]
    assert await sqs.bodies() == ["two"]


async def test_19_of_another_group_it_is_no_duplicate(sqs: Sqs) -> None:
    """localstack#10460: where the scope is the group; of the same group it is."""
    await sqs.make("q.fifo", DeduplicationScope="messageGroup")
    for group in ("g", "h", "g"):
        await sqs.put(group, MessageGroupId=group, MessageDeduplicationId="d")
    assert await sqs.bodies() == ["g", "h"]


async def test_20_a_handle_whose_lease_has_ended_deletes(sqs: Sqs) -> None:
    """localstack#12278: on a standard queue, while nobody else has the message; and twice, elasticmq#324."""
    await sqs.make("q", VisibilityTimeout=5)
    await sqs.put()
    (message,) = await sqs.take()
    await sqs.forward(6)
    assert await sqs.counts() == (1, 0, 0)
    for _ in range(2):
        await sqs.ask("DeleteMessage", ReceiptHandle=message["ReceiptHandle"])
        assert await sqs.counts() == (0, 0, 0)


async def test_20_of_a_fifo_queue_such_a_handle_is_refused(sqs: Sqs) -> None:
    """localstack#12278: the message stays."""
    await sqs.make("q.fifo", VisibilityTimeout=5, ContentBasedDeduplication="true")
    await sqs.put(MessageGroupId="g")
    (message,) = await sqs.take()
    await sqs.forward(6)
    refusal = await sqs.refused("DeleteMessage", ReceiptHandle=message["ReceiptHandle"])
    assert (refusal.status, refusal.code) == (400, "InvalidParameterValue")
    assert refusal.message.endswith("Reason: The receipt handle has expired.")
    assert len(await sqs.take()) == 1


async def test_20_what_is_no_handle_is_refused(sqs: Sqs) -> None:
    """elasticmq#324."""
    await sqs.make("q")
    for action in ("DeleteMessage", "ChangeMessageVisibility"):
        more = {"VisibilityTimeout": 1} if action == "ChangeMessageVisibility" else {}
        refusal = await sqs.refused(action, ReceiptHandle="garbage", **more)
        assert (refusal.status, refusal.code) == (400, "ReceiptHandleIsInvalid")
        assert refusal.message == 'The input receipt handle "garbage" is not a valid receipt handle.'


async def test_22_a_move_task_takes_messages_home(sqs: Sqs) -> None:
    """floci#899, #900: without a destination to where they came from, where they are counted from one again."""
    source = await sqs.bury(1)
    (letter,) = await sqs.take(VisibilityTimeout=0, **SYSTEM)
    assert letter["Attributes"]["ApproximateReceiveCount"] == "2"
    assert letter["Attributes"]["DeadLetterQueueSourceArn"] == "arn:aws:sqs:us-east-1:000000000000:q"
    await sqs.forward(1)
    arn = await sqs.attribute("QueueArn")
    assert (await sqs.ask("StartMessageMoveTask", SourceArn=arn))["TaskHandle"]
    await sqs.moved(arn)
    sqs.url = source
    (message,) = await sqs.take(**SYSTEM)
    assert (message["Body"], message["Attributes"]["ApproximateReceiveCount"]) == ("m0", "1")
    assert "DeadLetterQueueSourceArn" not in message["Attributes"]


async def test_22_there_is_one_move_task_of_a_queue(sqs: Sqs) -> None:
    """A recording of AWS: a second is refused while the first runs."""
    await sqs.bury(3)
    arn = await sqs.attribute("QueueArn")
    await sqs.ask("StartMessageMoveTask", SourceArn=arn, MaxNumberOfMessagesPerSecond=1)
    refusal = await sqs.refused("StartMessageMoveTask", SourceArn=arn)
    assert (refusal.status, refusal.code) == (400, "InvalidParameterValue")
    assert refusal.message.startswith("There is already a task running.")


async def test_23_a_queue_is_made_again(sqs: Sqs) -> None:
    """elasticmq#85: with the same attributes, or without any, it is answered; with others it is refused."""
    url = await sqs.make("q", DelaySeconds=1, ReceiveMessageWaitTimeSeconds=1)
    for given in ({}, {"DelaySeconds": "1"}, {"ReceiveMessageWaitTimeSeconds": "1", "VisibilityTimeout": "30"}):
        assert await sqs.ask("CreateQueue", QueueName="q", Attributes=given) == {"QueueUrl": url}
    refusal = await sqs.refused("CreateQueue", QueueName="q", Attributes={"ReceiveMessageWaitTimeSeconds": "1", "DelaySeconds": "2"})
    assert (refusal.status, refusal.code) == (400, "QueueAlreadyExists")
    assert refusal.message == "A queue already exists with the same name and a different value for attribute DelaySeconds"
    assert refusal.type == ("QueueNameExists" if sqs.protocol == "json" else "")


async def test_24_a_delayed_message_is_counted_as_such(sqs: Sqs) -> None:
    """floci#1281: and all three counts are there, of an empty queue too."""
    await sqs.make("q")
    assert await sqs.counts() == (0, 0, 0)
    await sqs.put(DelaySeconds=5)
    assert await sqs.counts() == (0, 0, 1)
    await sqs.forward(5)
    assert await sqs.counts() == (1, 0, 0)
    await sqs.take()
    assert await sqs.counts() == (0, 1, 0)


async def test_25_queues_are_where_the_client_reached_the_server(sqs: Sqs) -> None:
    """localstack#1485: by the Host that it named, and with the prefix that it used."""
    for action in ("CreateQueue", "GetQueueUrl"):
        made = await sqs.call(action, {"QueueName": "q"}, Host="q.local:9000")
        assert made == {"QueueUrl": "http://q.local:9000/sqs/000000000000/q"}
    listed = await sqs.call("ListQueues", {}, Host="q.local:9000")
    assert listed == {"QueueUrls": ["http://q.local:9000/sqs/000000000000/q"]}


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_25_where_the_dialect_is_moved_to_the_root(serve: Serve, protocol: Protocol) -> None:
    """It has all paths of AWS, and no other."""
    sqs = Sqs(await serve(mounts=Mounts({"sqs": "/"})), protocol, "")
    assert await sqs.make("q") == "http://test/000000000000/q"
    await sqs.put("hello")
    assert await sqs.bodies() == ["hello"]
