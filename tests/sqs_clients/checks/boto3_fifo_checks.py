"""boto3 on FIFO queues: order in a group, groups beside each other, duplicates."""

from __future__ import annotations

from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError


@pytest.fixture(scope="module")
def sqs() -> Any:
    return boto3.client("sqs")


@pytest.fixture
def url(sqs: Any, queue_name: str) -> str:
    return str(sqs.create_queue(QueueName=f"{queue_name}.fifo", Attributes={"FifoQueue": "true"})["QueueUrl"])


def receive(sqs: Any, url: str, **more: Any) -> list[dict[str, Any]]:
    asked = {"WaitTimeSeconds": 20, "AttributeNames": ["All"], **more}
    return list(sqs.receive_message(QueueUrl=url, **asked).get("Messages", []))


def test_a_group_is_in_order_and_one_at_a_time(sqs: Any, url: str) -> None:
    """While the first of a group is being worked on its next is held back, another group's is not; all come in order."""
    sent = [
        sqs.send_message(QueueUrl=url, MessageBody=body, MessageGroupId=body[0], MessageDeduplicationId=body)
        for body in ("a1", "a2", "b1", "a3")
    ]
    numbers = [one["SequenceNumber"] for one in sent]
    assert numbers == sorted(numbers)
    assert all(len(number) == 20 for number in numbers)

    (first,) = receive(sqs, url)
    (other,) = receive(sqs, url)
    assert [first["Body"], other["Body"]] == ["a1", "b1"]
    assert receive(sqs, url, WaitTimeSeconds=0) == []
    assert first["Attributes"]["MessageGroupId"] == "a"
    assert first["Attributes"]["MessageDeduplicationId"] == "a1"
    assert first["Attributes"]["SequenceNumber"] == numbers[0]

    sqs.delete_message(QueueUrl=url, ReceiptHandle=first["ReceiptHandle"])
    rest = []
    while len(rest) < 2:
        for message in receive(sqs, url, MaxNumberOfMessages=10):
            rest.append(message["Body"])
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    assert rest == ["a2", "a3"]


def test_one_receive_takes_several_of_a_group(sqs: Any, url: str) -> None:
    """Five of a group come at once, in order; what is put back comes before what follows it."""
    entries = [{"Id": str(n), "MessageBody": str(n), "MessageGroupId": "g", "MessageDeduplicationId": str(n)} for n in range(5)]
    assert len(sqs.send_message_batch(QueueUrl=url, Entries=entries)["Successful"]) == 5

    taken = receive(sqs, url, MaxNumberOfMessages=10)
    assert [one["Body"] for one in taken] == list("01234")
    sqs.delete_message(QueueUrl=url, ReceiptHandle=taken[0]["ReceiptHandle"])
    sqs.change_message_visibility_batch(
        QueueUrl=url,
        Entries=[{"Id": str(n), "ReceiptHandle": one["ReceiptHandle"], "VisibilityTimeout": 0} for n, one in enumerate(taken) if n],
    )

    assert [one["Body"] for one in receive(sqs, url, MaxNumberOfMessages=10)] == list("1234")


def test_duplicates_are_taken_once(sqs: Any, url: str) -> None:
    """The same deduplication id again is answered with the first's id and number, even after it was deleted."""
    first = sqs.send_message(QueueUrl=url, MessageBody="x", MessageGroupId="g", MessageDeduplicationId="d")
    (message,) = receive(sqs, url)
    sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])

    again = sqs.send_message(QueueUrl=url, MessageBody="x", MessageGroupId="g", MessageDeduplicationId="d")

    assert [again[name] for name in ("MessageId", "SequenceNumber")] == [first[name] for name in ("MessageId", "SequenceNumber")]
    assert receive(sqs, url, WaitTimeSeconds=0) == []


def test_duplicates_by_content(sqs: Any, queue_name: str) -> None:
    """A queue that deduplicates by content knows an equal body again; its attributes do not count."""
    made = sqs.create_queue(QueueName=f"{queue_name}.fifo", Attributes={"FifoQueue": "true", "ContentBasedDeduplication": "true"})
    url = made["QueueUrl"]
    for colour in ("red", "green"):
        attributes = {"colour": {"DataType": "String", "StringValue": colour}}
        sqs.send_message(QueueUrl=url, MessageBody="same", MessageGroupId="g", MessageAttributes=attributes)
    sqs.send_message(QueueUrl=url, MessageBody="other", MessageGroupId="g")

    taken = receive(sqs, url, MaxNumberOfMessages=10)

    assert [one["Body"] for one in taken] == ["same", "other"]


def test_misuse_is_refused(sqs: Any, url: str, queue_name: str) -> None:
    """No group, no deduplication id, a delay of its own, or a name without .fifo: an error with AWS's code, and nothing is sent."""
    for code, given in (
        ("MissingParameter", {}),
        ("InvalidParameterValue", {"MessageGroupId": "g"}),
        ("InvalidParameterValue", {"MessageGroupId": "g", "MessageDeduplicationId": "d", "DelaySeconds": 5}),
    ):
        with pytest.raises(ClientError) as caught:
            sqs.send_message(QueueUrl=url, MessageBody="x", **given)
        assert caught.value.response["Error"]["Code"] == code
    with pytest.raises(ClientError):
        sqs.create_queue(QueueName=f"{queue_name}-plain", Attributes={"FifoQueue": "true"})
    assert receive(sqs, url, WaitTimeSeconds=0) == []
