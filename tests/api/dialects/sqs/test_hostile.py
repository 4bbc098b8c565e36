"""What nobody sends by accident: each is answered, by what it asks for or by an error of the caller's, and keeps nobody waiting."""

from __future__ import annotations

import json
from hashlib import md5
from typing import Any

import pytest

from jobqueue.api.dialects.sqs.actions.messages import ReceiveMessage, SendMessage
from jobqueue.api.dialects.sqs.actions.receiving import Asked
from jobqueue.api.dialects.sqs.bodies import MessageAttributeValue, value_of
from jobqueue.api.dialects.sqs.errors import SqsError
from jobqueue.api.dialects.sqs.json import Decoder
from jobqueue.backend.base import Enqueued
from jobqueue.backend.local import LocalBackend
from jobqueue.errors import QueueError
from jobqueue.model import Header, JobSpec

from .speech import Refusal, Sqs

NO_QUEUE = "AWS.SimpleQueueService.NonExistentQueue"


async def test_headers_that_are_no_utf_8(sqs: Sqs) -> None:
    """An action's name is quoted as far as it is text, and the connection goes on."""
    wire = await sqs.api.site.wire()
    request = b"POST /sqs HTTP/1.1\r\nHost: test\r\nX-Amz-Target: AmazonSQS.\xff\xfe\r\nContent-Length: 2\r\n\r\n{}"
    for _ in range(2):
        reply = await wire.ask(request)
        assert (reply.status, json.loads(reply.body)["__type"]) == (400, "com.amazonaws.sqs#InvalidAction")
    await wire.close()


def test_an_error_quotes_no_surrogates() -> None:
    """They could not be written."""
    assert SqsError("a", "b", "x\udcffy").message == "x?y"


@pytest.mark.parametrize("text", ["1" * 200_000 + "x", "1" * 200_000 + ".", "1" * 100_000 + "." + "1" * 100_000 + "e", "." * 200_000])
def test_a_number_of_many_digits_is_looked_at_once(text: str) -> None:
    """Not in every way in which it can be split: of so many digits that takes minutes."""
    given = MessageAttributeValue(DataType="Number", StringValue=text)
    if text.endswith("1."):
        assert value_of("n", "it", given).value == text.encode()
        return
    with pytest.raises(SqsError, match="to a number"):
        value_of("n", "it", given)


def test_names_of_attributes_by_the_hundred_thousand() -> None:
    """Each that a message has is looked for among them, not they in it."""
    chosen = Asked(ReceiveMessage(MessageAttributeNames=[f"b{at}.*" for at in range(400_000)] + ["c"]), False, False).chosen
    assert chosen is not None
    names = ["b1", "b1.x", "b399999zz", "a.b1", "c", "cc", "n" * 256]
    assert [name for name in names * 1_000 if chosen(name)] == ["b1", "b1.x", "b399999zz", "c"] * 1_000


def test_texts_by_the_hundred_thousand() -> None:
    """A body with so many is not read; quotes in a text are no texts."""
    names = json.dumps({"QueueUrl": "q", "MessageAttributeNames": ["a"] * 9_000 + ["b" * 65_536]}).encode()
    with pytest.raises(SqsError, match="more texts"):
        Decoder(ReceiveMessage)(names)
    body = '"\\\\"' * 100_000
    assert Decoder(SendMessage)(json.dumps({"MessageBody": body}).encode()).MessageBody == body


@pytest.mark.parametrize("value", ["\u00b2", "9" * 5_000, "-1", "", "much", "300000000"])
async def test_attributes_that_were_set_natively(sqs: Sqs, value: str) -> None:
    """The native API keeps any text under any name; what this dialect would not have set counts for nothing."""
    kept = {"MaximumMessageSize": value, "ReceiveMessageWaitTimeSeconds": value}
    await sqs.api.send("PUT", "/queues/q", json.dumps({"attributes": kept}).encode())
    sqs.url = "q"
    await sqs.put("a")
    assert [message["Body"] for message in await sqs.take()] == ["a"]
    assert (await sqs.ask("GetQueueAttributes", AttributeNames=["All"]))["Attributes"]["MaximumMessageSize"] == value


@pytest.mark.parametrize("rest", [{}, *({"sourceQueueArns": sources} for sources in (5, [5], None, {"a": 1}))])
async def test_an_allow_policy_that_was_set_natively(sqs: Sqs, rest: dict[str, Any]) -> None:
    """One that names no queues allows none."""
    kept = json.dumps({"redrivePermission": "byQueue", **rest})
    await sqs.api.send("PUT", "/queues/dead", json.dumps({"attributes": {"RedriveAllowPolicy": kept}}).encode())
    await sqs.make("q")
    policy = json.dumps({"deadLetterTargetArn": "arn:aws:sqs:us-east-1:000000000000:dead", "maxReceiveCount": 3})
    refusal = await sqs.refused("SetQueueAttributes", Attributes={"RedrivePolicy": policy})
    assert (refusal.status, refusal.code) == (400, "InvalidParameterValue")
    assert "does not allow" in refusal.message


async def test_what_xml_cannot_hold_has_the_sum_of_what_comes_in_its_place(sqs: Sqs) -> None:
    """A native job may hold any text. A client that checks sums would never get past it."""
    await sqs.make("q")
    await sqs.api.enqueue("a\u0000b\uffff\n", queue="q", headers={"h": "x\u0001"})
    (message,) = await sqs.take(MessageAttributeNames=["All"])
    lost = sqs.protocol == "query"
    assert message["Body"] == ("a\ufffdb\ufffd\n" if lost else "a\u0000b\uffff\n")
    assert message["MD5OfBody"] == md5(message["Body"].encode(), usedforsecurity=False).hexdigest()
    value = "x\ufffd" if lost else "x\u0001"
    assert message["MessageAttributes"]["h"]["StringValue"] == value
    parts = [Header("h", value.encode())]
    assert message["MD5OfMessageAttributes"] == _sum(parts)


def _sum(headers: list[Header]) -> str:
    found = b""
    for header in headers:
        name, kind = header.name.encode(), header.type.encode()
        found += b"".join((len(name).to_bytes(4), name, len(kind).to_bytes(4), kind, b"\x01", len(header.value).to_bytes(4), header.value))
    return md5(found, usedforsecurity=False).hexdigest()


@pytest.mark.parametrize("action", ["SendMessage", "SendMessageBatch"])
async def test_a_queue_that_is_deleted_while_it_is_sent_to(sqs: Sqs, action: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not made again, however late the deletion comes: between the look at the queue and the message another server may be asked."""
    await sqs.make("q")
    enqueue, enqueue_batch = LocalBackend.enqueue, LocalBackend.enqueue_batch

    async def late(backend: LocalBackend, spec: JobSpec) -> Enqueued:
        await backend.delete_queue("q")
        return await enqueue(backend, spec)

    async def late_batch(backend: LocalBackend, specs: list[JobSpec | QueueError]) -> list[Enqueued | QueueError]:
        await backend.delete_queue("q")
        return await enqueue_batch(backend, specs)

    monkeypatch.setattr(LocalBackend, "enqueue", late)
    monkeypatch.setattr(LocalBackend, "enqueue_batch", late_batch)
    given: dict[str, Any] = {"MessageBody": "x"} if action == "SendMessage" else {"Entries": [{"Id": "a", "MessageBody": "x"}]}
    refusal = await sqs.call(action, {"QueueUrl": sqs.url, **given})
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.code) == (400, NO_QUEUE)
    assert (await sqs.api.get("/queues")).json["queues"] == []


async def test_batches_that_share_an_invocation_keep_their_order(sqs: Sqs) -> None:
    """A client that gives all its calls one id: a longer batch after a shorter one goes in as it stands."""
    await sqs.make("q.fifo")
    for name, count in (("p", 2), ("r", 4)):
        names = [f"{name}{at}" for at in range(count)]
        entries = [{"Id": of[1:], "MessageBody": of, "MessageGroupId": "g", "MessageDeduplicationId": of} for of in names]
        for _ in range(2):
            sent = await sqs.call("SendMessageBatch", {"QueueUrl": sqs.url, "Entries": entries}, amz_sdk_invocation_id="always")
            assert len(sent["Successful"]) == count
    messages = (await sqs.ask("ReceiveMessage", MaxNumberOfMessages=10))["Messages"]
    assert [message["Body"] for message in messages] == ["p0", "p1", "r0", "r1", "r2", "r3"]
