"""boto3 at work on standard queues. Runs twice: on the current one, which speaks JSON, and on the last that spoke Query."""

from __future__ import annotations

import concurrent.futures
import hashlib
import json
import struct
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError


@pytest.fixture(scope="module")
def sqs() -> Any:
    return boto3.client("sqs")


@pytest.fixture
def url(sqs: Any, queue_name: str) -> str:
    return str(sqs.create_queue(QueueName=queue_name)["QueueUrl"])


def arn(sqs: Any, url: str) -> str:
    return str(sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"])


def receive(sqs: Any, url: str, **more: Any) -> list[dict[str, Any]]:
    return list(sqs.receive_message(QueueUrl=url, **{"WaitTimeSeconds": 20, **more}).get("Messages", []))


def counts(sqs: Any, url: str) -> list[int]:
    """Messages that wait, are being worked on and are delayed."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible", "ApproximateNumberOfMessagesDelayed"]
    told = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    return [int(told[name]) for name in names]


def attributes_md5(attributes: dict[str, dict[str, Any]]) -> str:
    """The digest of message attributes, as AWS documents it."""
    parts = b""
    for name, value in sorted(attributes.items()):
        binary = "BinaryValue" in value
        data = value["BinaryValue"] if binary else value["StringValue"].encode()
        for text in (name.encode(), value["DataType"].encode()):
            parts += struct.pack(">I", len(text)) + text
        parts += (b"\2" if binary else b"\1") + struct.pack(">I", len(data)) + data
    return hashlib.md5(parts).hexdigest()


def test_a_queue_is_made_found_changed_and_deleted(sqs: Any, queue_name: str) -> None:
    """Create, find by name and in pages, set and read attributes and tags, delete; then it is gone, by the client's own exception."""
    given = {"VisibilityTimeout": "45", "DelaySeconds": "1", "ReceiveMessageWaitTimeSeconds": "2", "MessageRetentionPeriod": "3600"}
    url = sqs.create_queue(QueueName=queue_name, Attributes=given, tags={"team": "mail"})["QueueUrl"]
    sqs.create_queue(QueueName=f"{queue_name}-b")

    assert url.endswith(f"/000000000000/{queue_name}") or "123456789012" in url
    assert sqs.create_queue(QueueName=queue_name, Attributes=given)["QueueUrl"] == url
    assert sqs.get_queue_url(QueueName=queue_name)["QueueUrl"] == url
    pages = list(sqs.get_paginator("list_queues").paginate(QueueNamePrefix=queue_name, PaginationConfig={"PageSize": 1, "MaxItems": 10}))
    assert [page["QueueUrls"] for page in pages if page.get("QueueUrls")] == [[url], [f"{url}-b"]]
    told = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert {name: told[name] for name in given} == given
    assert told["QueueArn"].split(":")[:4] + told["QueueArn"].split(":")[5:] == ["arn", "aws", "sqs", "us-east-1", queue_name]
    assert int(told["CreatedTimestamp"]) <= int(told["LastModifiedTimestamp"])
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": "7"})
    assert sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["VisibilityTimeout"])["Attributes"] == {"VisibilityTimeout": "7"}
    sqs.tag_queue(QueueUrl=url, Tags={"tier": "1"})
    sqs.untag_queue(QueueUrl=url, TagKeys=["team"])
    assert sqs.list_queue_tags(QueueUrl=url)["Tags"] == {"tier": "1"}
    sqs.delete_queue(QueueUrl=url)
    with pytest.raises(sqs.exceptions.QueueDoesNotExist) as caught:
        sqs.get_queue_url(QueueName=queue_name)
    assert caught.value.response["Error"]["Code"] == "AWS.SimpleQueueService.NonExistentQueue"
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400


@pytest.mark.parametrize(
    "body",
    ["hello", '{"to": "a@example.org",  "n": 1.50}', "[1, 2]", "true", "1", '"quoted"', "<a>&amp;\r\n\t</a>", "größer 漢字 😀", " {\n} "],
)
def test_a_body_comes_back_as_it_was(sqs: Any, url: str, body: str) -> None:
    """Whatever text is sent is received, letter by letter; the client compares its digest both times."""
    sent = sqs.send_message(QueueUrl=url, MessageBody=body)

    (message,) = receive(sqs, url)

    assert message["Body"] == body
    assert message["MessageId"] == sent["MessageId"]
    assert message["MD5OfBody"] == sent["MD5OfMessageBody"] == hashlib.md5(body.encode()).hexdigest()
    sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    assert counts(sqs, url) == [0, 0, 0]


def test_attributes_of_each_type_come_back(sqs: Any, url: str) -> None:
    """Strings, numbers and bytes are received as they were sent, all or those asked for, with the digest of those returned."""
    attributes = {
        "trace.id": {"DataType": "String", "StringValue": "a b"},
        "n": {"DataType": "Number.int", "StringValue": "-12.5"},
        "blob": {"DataType": "Binary", "BinaryValue": bytes(range(256))},
        "accent": {"DataType": "String.lang", "StringValue": "é漢"},
    }
    sent = sqs.send_message(
        QueueUrl=url,
        MessageBody="x",
        MessageAttributes=attributes,
        MessageSystemAttributes={"AWSTraceHeader": {"DataType": "String", "StringValue": "Root=1-5759e988-bd862e3fe1be46a994272793"}},
    )
    assert sent["MD5OfMessageAttributes"] == attributes_md5(attributes)

    (message,) = receive(sqs, url, AttributeNames=["All"], MessageAttributeNames=["All"], VisibilityTimeout=0)
    assert message["MessageAttributes"] == attributes
    assert message["MD5OfMessageAttributes"] == attributes_md5(attributes)
    assert message["Attributes"]["AWSTraceHeader"] == "Root=1-5759e988-bd862e3fe1be46a994272793"
    assert message["Attributes"]["ApproximateReceiveCount"] == "1"
    assert {"SenderId", "SentTimestamp", "ApproximateFirstReceiveTimestamp"} <= set(message["Attributes"])

    (message,) = receive(sqs, url, MessageAttributeNames=["n", "trace.*"], VisibilityTimeout=0)
    some = {name: attributes[name] for name in ("n", "trace.id")}
    assert message["MessageAttributes"] == some
    assert message["MD5OfMessageAttributes"] == attributes_md5(some)
    assert "Attributes" not in message

    (message,) = receive(sqs, url)
    assert "MessageAttributes" not in message
    assert "MD5OfMessageAttributes" not in message


def test_batches_of_ten(sqs: Any, url: str) -> None:
    """Ten are sent, received, hidden longer and deleted at once; a bad entry fails alone and says why."""
    entries = [{"Id": f"e{n}", "MessageBody": f"body {n}"} for n in range(10)]
    entries[3]["MessageBody"] = "a\x01b"
    answer = sqs.send_message_batch(QueueUrl=url, Entries=entries)
    assert [one["Id"] for one in answer["Successful"]] == [f"e{n}" for n in range(10) if n != 3]
    (failed,) = answer["Failed"]
    assert (failed["Id"], failed["Code"], failed["SenderFault"]) == ("e3", "InvalidMessageContents", True)

    taken: list[dict[str, Any]] = []
    while len(taken) < 9:
        taken += receive(sqs, url, MaxNumberOfMessages=10, VisibilityTimeout=60)
    assert sorted(one["Body"] for one in taken) == [f"body {n}" for n in range(10) if n != 3]
    handles = [{"Id": str(n), "ReceiptHandle": one["ReceiptHandle"]} for n, one in enumerate(taken)]

    changed = sqs.change_message_visibility_batch(
        QueueUrl=url,
        Entries=[{**one, "VisibilityTimeout": 300} for one in handles]
        + [{"Id": "bad", "ReceiptHandle": "garbage", "VisibilityTimeout": 1}],
    )
    assert len(changed["Successful"]) == 9
    assert [(one["Id"], one["Code"]) for one in changed["Failed"]] == [("bad", "ReceiptHandleIsInvalid")]
    deleted = sqs.delete_message_batch(QueueUrl=url, Entries=handles)
    assert len(deleted["Successful"]) == 9
    assert "Failed" not in deleted
    assert counts(sqs, url) == [0, 0, 0]


def test_a_receive_that_is_held_is_answered_by_the_first_message(sqs: Any, url: str) -> None:
    """Ten receives wait at an empty queue; ten messages reach one each. No time is measured: each would come back empty after its wait."""
    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        waiting = [pool.submit(receive, sqs, url, MaxNumberOfMessages=1) for _ in range(10)]
        for n in range(10):
            sqs.send_message(QueueUrl=url, MessageBody=str(n))
        got = [message["Body"] for future in waiting for message in future.result()]

    assert sorted(got) == [str(n) for n in range(10)]


def test_visibility(sqs: Any, url: str) -> None:
    """A message that was received is hidden, comes back when its time is over or set to 0, is counted, and can be deleted late."""
    sqs.send_message(QueueUrl=url, MessageBody="x")

    (first,) = receive(sqs, url, VisibilityTimeout=60)
    assert receive(sqs, url, WaitTimeSeconds=0) == []
    assert counts(sqs, url) == [0, 1, 0]
    sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=first["ReceiptHandle"], VisibilityTimeout=0)
    (second,) = receive(sqs, url, VisibilityTimeout=1, AttributeNames=["ApproximateReceiveCount"])
    assert second["Attributes"] == {"ApproximateReceiveCount": "2"}
    # Held until the second's time is over.
    (third,) = receive(sqs, url, VisibilityTimeout=0, AttributeNames=["ApproximateReceiveCount"])
    assert third["Attributes"] == {"ApproximateReceiveCount": "3"}
    sqs.delete_message(QueueUrl=url, ReceiptHandle=third["ReceiptHandle"])
    assert counts(sqs, url) == [0, 0, 0]
    sqs.delete_message(QueueUrl=url, ReceiptHandle=third["ReceiptHandle"])


def test_a_delayed_message_comes_when_it_is_due(sqs: Any, url: str) -> None:
    """It counts as delayed, and a receive that is held is answered when its delay is over."""
    sqs.send_message(QueueUrl=url, MessageBody="later", DelaySeconds=3)
    assert counts(sqs, url) == [0, 0, 1]

    (message,) = receive(sqs, url)

    assert message["Body"] == "later"


def test_what_is_received_too_often_goes_to_the_dead_letters_and_back(sqs: Any, queue_name: str) -> None:
    """A redrive policy moves a message after its last receive, with its id; a move task brings it back."""
    dead = sqs.create_queue(QueueName=f"{queue_name}-dead")["QueueUrl"]
    policy = {"deadLetterTargetArn": arn(sqs, dead), "maxReceiveCount": "2"}
    url = sqs.create_queue(QueueName=queue_name, Attributes={"RedrivePolicy": json.dumps(policy)})["QueueUrl"]
    sent = sqs.send_message(QueueUrl=url, MessageBody="poison")
    assert sqs.list_dead_letter_source_queues(QueueUrl=dead)["queueUrls"] == [url]

    for _ in range(2):
        receive(sqs, url, VisibilityTimeout=0)
    receive(sqs, url, WaitTimeSeconds=0)
    (message,) = receive(sqs, dead, AttributeNames=["All"], VisibilityTimeout=0)
    assert (message["Body"], message["MessageId"]) == ("poison", sent["MessageId"])
    assert message["Attributes"]["DeadLetterQueueSourceArn"] == arn(sqs, url)

    sqs.start_message_move_task(SourceArn=arn(sqs, dead))
    (message,) = receive(sqs, url)
    assert message["Body"] == "poison"
    (task,) = sqs.list_message_move_tasks(SourceArn=arn(sqs, dead))["Results"]
    assert task["SourceArn"] == arn(sqs, dead)


def test_a_message_of_a_mebibyte(sqs: Any, url: str) -> None:
    """1,048,576 bytes go through; one more is refused, as the client's ClientError with AWS's code."""
    body = "é" * (512 * 1024)
    sqs.send_message(QueueUrl=url, MessageBody=body)
    (message,) = receive(sqs, url)
    assert message["Body"] == body

    with pytest.raises(ClientError) as caught:
        sqs.send_message(QueueUrl=url, MessageBody=f"{body}x")
    assert caught.value.response["Error"]["Code"] == "InvalidParameterValue"


def test_purge(sqs: Any, url: str) -> None:
    """What waits, is being worked on or is delayed is gone."""
    for delay in (0, 0, 60):
        sqs.send_message(QueueUrl=url, MessageBody="x", DelaySeconds=delay)
    receive(sqs, url)
    assert sum(counts(sqs, url)) == 3

    sqs.purge_queue(QueueUrl=url)

    assert counts(sqs, url) == [0, 0, 0]


def test_the_resource_interface(queue_name: str) -> None:
    """boto3's older objects: a queue by its name, its messages, each deleted by itself."""
    resource = boto3.resource("sqs")
    resource.create_queue(QueueName=queue_name)
    queue = resource.get_queue_by_name(QueueName=queue_name)
    queue.send_message(MessageBody="x", MessageAttributes={"a": {"DataType": "String", "StringValue": "b"}})

    (message,) = queue.receive_messages(MessageAttributeNames=["a"], WaitTimeSeconds=20)
    assert (message.body, message.message_attributes) == ("x", {"a": {"DataType": "String", "StringValue": "b"}})
    message.delete()

    assert queue.receive_messages() == []
    queue.delete()


def test_errors_are_the_clients_own(sqs: Any, queue_name: str, url: str) -> None:
    """Each mistake is the exception that the client's model has for it, and its code is AWS's."""
    missing = f"{url}-missing"
    known = sqs.exceptions
    one = [{"Id": "a", "MessageBody": "x"}]
    for expected, code, call in (
        (known.QueueDoesNotExist, "AWS.SimpleQueueService.NonExistentQueue", lambda: sqs.receive_message(QueueUrl=missing)),
        (known.QueueDoesNotExist, "AWS.SimpleQueueService.NonExistentQueue", lambda: sqs.send_message(QueueUrl=missing, MessageBody="x")),
        (
            known.QueueNameExists,
            "QueueAlreadyExists",
            lambda: sqs.create_queue(QueueName=queue_name, Attributes={"VisibilityTimeout": "9"}),
        ),
        (known.ReceiptHandleIsInvalid, "ReceiptHandleIsInvalid", lambda: sqs.delete_message(QueueUrl=url, ReceiptHandle="garbage")),
        (known.InvalidMessageContents, "InvalidMessageContents", lambda: sqs.send_message(QueueUrl=url, MessageBody="\x0b")),
        (known.InvalidAttributeName, "InvalidAttributeName", lambda: sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["Colour"])),
        (
            known.BatchEntryIdsNotDistinct,
            "AWS.SimpleQueueService.BatchEntryIdsNotDistinct",
            lambda: sqs.send_message_batch(QueueUrl=url, Entries=one * 2),
        ),
        (
            known.TooManyEntriesInBatchRequest,
            "AWS.SimpleQueueService.TooManyEntriesInBatchRequest",
            lambda: sqs.send_message_batch(QueueUrl=url, Entries=[{"Id": str(n), "MessageBody": "x"} for n in range(11)]),
        ),
        (
            known.EmptyBatchRequest,
            "AWS.SimpleQueueService.EmptyBatchRequest",
            lambda: sqs.send_message_batch(QueueUrl=url, Entries=[]),
        ),
        (ClientError, "InvalidParameterValue", lambda: sqs.receive_message(QueueUrl=url, WaitTimeSeconds=21)),
        (ClientError, "InvalidParameterValue", lambda: sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=11)),
        (ClientError, "MissingParameter", lambda: sqs.send_message(QueueUrl=url, MessageBody="")),
        (known.UnsupportedOperation, "AWS.SimpleQueueService.UnsupportedOperation", lambda: sqs.remove_permission(QueueUrl=url, Label="x")),
    ):
        with pytest.raises(expected) as caught:
            call()
        assert caught.value.response["Error"]["Code"] == code
    assert counts(sqs, url) == [0, 0, 0]


@pytest.mark.parametrize(
    ("credentials", "code"),
    [
        ({"aws_session_token": "wrong"}, {"UnrecognizedClientException", "InvalidClientTokenId"}),
        ({"aws_access_key_id": "wrong", "aws_session_token": ""}, {"UnrecognizedClientException", "InvalidClientTokenId"}),
    ],
)
def test_who_has_no_token_is_refused(credentials: dict[str, str], code: set[str], url: str) -> None:
    """A wrong token, as session token or as access key, is an error that the client does not try again."""
    keys = {"aws_access_key_id": "me", "aws_secret_access_key": "any", **credentials}
    stranger = boto3.session.Session(**{name: value for name, value in keys.items() if value}).client("sqs")

    with pytest.raises(ClientError) as caught:
        stranger.send_message(QueueUrl=url, MessageBody="x")

    assert caught.value.response["Error"]["Code"] in code
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
