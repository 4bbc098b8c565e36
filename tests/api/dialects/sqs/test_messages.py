"""What the actions on messages do beyond the known cases: calls that SDKs repeat, what is told of a message, what becomes of handles."""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
import sys
from typing import Any
from uuid import UUID

import pytest

from jobqueue.model import FAILED, JobSpec, Status, Verdict
from tests.api.conftest import Serve
from tests.api.harness import Api, until

from .speech import PROTOCOLS, Protocol, Refusal, Sqs

both = pytest.mark.parametrize("protocol", PROTOCOLS)
CALL = "5b0e2a6c-8f0e-4c9f-9c50-4c1c1f2b7d11"
SYSTEM = {"AttributeNames": ["All"]}
NOW = 1_800_000_000_000
"""What ManualClock shows before anybody advances it, in milliseconds."""


def again(call: str = CALL) -> dict[str, str]:
    """The header with which an SDK sends a call, each time that it does."""
    return {"amz_sdk_invocation_id": call}


# Calls that are sent again.


async def test_a_send_that_is_repeated_creates_nothing(sqs: Sqs) -> None:
    """It is answered what the first was, also when that message is gone; another call makes another message, of the same body too."""
    await sqs.make("q")
    given = {"QueueUrl": sqs.url, "MessageBody": "x", "MessageAttributes": {"a": {"DataType": "String", "StringValue": "b"}}}
    first = await sqs.call("SendMessage", given, None, **again())
    assert UUID(first["MessageId"]).version == 5
    assert await sqs.call("SendMessage", given, None, **again()) == first
    (message,) = await sqs.take(MaxNumberOfMessages=10)
    await sqs.ask("DeleteMessage", ReceiptHandle=message["ReceiptHandle"])
    assert await sqs.call("SendMessage", given, None, **again()) == first
    assert await sqs.counts() == (0, 0, 0)
    other = await sqs.call("SendMessage", given, None, **again("another"))
    assert other["MessageId"] != first["MessageId"]
    assert await sqs.counts() == (1, 0, 0)


async def test_a_call_that_has_the_id_of_another_is_one_of_its_own(sqs: Sqs) -> None:
    """Of a client that gives all its calls one id, no message is lost."""
    await sqs.make("q")
    ids = [
        (await sqs.call("SendMessage", {"QueueUrl": sqs.url, "MessageBody": body}, None, **again()))["MessageId"]
        for body in ("x", "y", "x")
    ]
    assert ids[0] == ids[2] != ids[1]
    assert await sqs.bodies() == ["x", "y"]
    entries = [{"Id": "a", "MessageBody": "1"}, {"Id": "b", "MessageBody": "2"}]
    for _ in range(2):
        await sqs.call("SendMessageBatch", {"QueueUrl": sqs.url, "Entries": entries}, None, **again())
    entries[1]["MessageBody"] = "3"
    found = await sqs.call("SendMessageBatch", {"QueueUrl": sqs.url, "Entries": entries}, None, **again())
    assert len(found["Successful"]) == 2
    assert await sqs.bodies() == ["1", "2", "3"]


@pytest.mark.parametrize("call", ["", " ", "x" * 129, "é"])
async def test_an_id_of_a_call_that_is_none_is_left_alone(sqs: Sqs, call: str) -> None:
    """The message has an id of the server's."""
    await sqs.make("q")
    for _ in range(2):
        sent = await sqs.call("SendMessage", {"QueueUrl": sqs.url, "MessageBody": "x"}, None, **again(call))
        assert UUID(sent["MessageId"]).version == 7
    assert await sqs.bodies() == ["x", "x"]


async def test_a_receive_that_is_repeated_is_answered_the_same(sqs: Sqs) -> None:
    """Under the same handles, while their time runs, and not counted twice; another call is given other messages."""
    await sqs.make("q", VisibilityTimeout=30)
    for body in "abc":
        await sqs.put(body)
    given = {"QueueUrl": sqs.url, "MaxNumberOfMessages": 2, **SYSTEM}
    first = await sqs.call("ReceiveMessage", given, None, **again())
    assert await sqs.call("ReceiveMessage", given, None, **again()) == first
    assert [message["Attributes"]["ApproximateReceiveCount"] for message in first["Messages"]] == ["1", "1"]
    assert await sqs.bodies() == ["c"]
    await sqs.forward(31)
    repeated = await sqs.call("ReceiveMessage", given, None, **again())
    assert [message["Attributes"]["ApproximateReceiveCount"] for message in repeated["Messages"]] == ["2", "2"]
    assert repeated["Messages"][0]["ReceiptHandle"] != first["Messages"][0]["ReceiptHandle"]


async def test_a_fifo_receive_is_repeated_by_its_own_id(sqs: Sqs) -> None:
    """ReceiveRequestAttemptId stands before the SDK's id of the call."""
    await sqs.make("q.fifo", ContentBasedDeduplication="true")
    await sqs.put("a", MessageGroupId="g")
    given = {"QueueUrl": sqs.url, "ReceiveRequestAttemptId": "mine"}
    first = await sqs.call("ReceiveMessage", given, None, **again())
    assert first["Messages"]
    assert await sqs.call("ReceiveMessage", given, None, **again("another")) == first
    assert await sqs.call("ReceiveMessage", {"QueueUrl": sqs.url}, None, **again()) == {}


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what is not acknowledged")
@both
async def test_messages_whose_receiver_has_gone_are_put_back(api: Api, protocol: Protocol) -> None:
    """A receive that hung up takes nothing: the next is given the message, as received for the first time."""
    sqs = Sqs(api, protocol)
    await sqs.make("q")
    wire = await api.site.wire()
    wire.send(sqs.request("ReceiveMessage", {"QueueUrl": sqs.url, "WaitTimeSeconds": 20}))
    await until(lambda: api.backend.totals().waiters == 1)
    await wire.close()
    await until(lambda: api.backend.totals().waiters == 0)
    await sqs.put("a")
    (message,) = await sqs.take(**SYSTEM)
    assert message["Attributes"]["ApproximateReceiveCount"] == "1"


@both
async def test_a_message_handed_to_who_hung_up_goes_back(api: Api, protocol: Protocol) -> None:
    """Handed over in the moment in which the client goes, it is put back at once, not counted as received."""
    sqs = Sqs(api, protocol)
    await sqs.make("q")
    with socket.create_connection((api.site.host, api.site.port)) as client:
        client.sendall(sqs.request("ReceiveMessage", {"QueueUrl": sqs.url, "WaitTimeSeconds": 20}))
        await until(lambda: api.backend.totals().waiters == 1)
    # No turn of the loop in between: the server has not seen the end of the connection when it hands the message over.
    await api.backend.enqueue(JobSpec(payload=b'"a"', queue="q"))
    await until(lambda: api.backend.totals().undelivered_total == 1)
    assert api.backend.totals().leases == 0
    (message,) = await sqs.take(**SYSTEM)
    assert message["Attributes"]["ApproximateReceiveCount"] == "1"


@both
async def test_messages_whose_answer_crossed_the_end_go_back(api: Api, protocol: Protocol) -> None:
    """A client that closes while they are on the way to it has not received them: its FIN says so."""
    sqs = Sqs(api, protocol)
    await sqs.make("q")
    await sqs.put("a")
    with socket.create_connection((api.site.host, api.site.port)) as client:
        api.site.close_after_the_look(client)
        client.sendall(sqs.request("ReceiveMessage", {"QueueUrl": sqs.url}))
        await until(lambda: api.backend.totals().undelivered_total == 1)
    (message,) = await sqs.take(**SYSTEM)
    assert message["Attributes"]["ApproximateReceiveCount"] == "1"


async def test_a_message_that_is_sent_comes_to_who_waits(sqs: Sqs) -> None:
    """At once; whoever stands first is given it."""
    await sqs.make("q")
    first, second = await sqs.hold(WaitTimeSeconds=20), await sqs.hold(WaitTimeSeconds=20)
    await sqs.put("a")
    await sqs.put("b")
    assert [message["Body"] for message in [*await first.messages(), *await second.messages()]] == ["a", "b"]


async def test_a_wait_that_passes_is_answered_with_nothing(sqs: Sqs) -> None:
    """After the seconds asked for, or those of the queue."""
    await sqs.make("q", ReceiveMessageWaitTimeSeconds=5)
    for given, seconds in (({"WaitTimeSeconds": 3}, 3), ({}, 5)):
        held = await sqs.hold(**given)
        await sqs.forward(seconds)
        assert await held.messages() == []


# What is told of a message.


async def test_system_attributes(sqs: Sqs) -> None:
    """Those that are asked for, and that there are; by either name of the parameter."""
    await sqs.make("q", VisibilityTimeout=10)
    await sqs.forward(1.5)
    trace = {"AWSTraceHeader": {"DataType": "String", "StringValue": "Root=1-5759e988-bd862e3fe1be46a994272793"}}
    sent = await sqs.put("a", MessageSystemAttributes=trace)
    md5 = hashlib.md5(
        b"\x00\x00\x00\x0eAWSTraceHeader\x00\x00\x00\x06String\x01\x00\x00\x00\x28Root=1-5759e988-bd862e3fe1be46a994272793"
    ).hexdigest()
    assert sent["MD5OfMessageSystemAttributes"] == md5
    assert "MD5OfMessageAttributes" not in sent
    await sqs.forward(2)
    (message,) = await sqs.take(**SYSTEM)
    assert message["Attributes"] == {
        "SenderId": "000000000000",
        "SentTimestamp": str(NOW + 1_500),
        "ApproximateReceiveCount": "1",
        "ApproximateFirstReceiveTimestamp": str(NOW + 3_500),
        "AWSTraceHeader": "Root=1-5759e988-bd862e3fe1be46a994272793",
    }
    await sqs.forward(10)
    (message,) = await sqs.take(AttributeNames=["SentTimestamp"], MessageSystemAttributeNames=["ApproximateReceiveCount", "SequenceNumber"])
    assert message["Attributes"] == {"SentTimestamp": str(NOW + 1_500), "ApproximateReceiveCount": "2"}
    await sqs.forward(10)
    (message,) = await sqs.take(MessageSystemAttributeNames=["ALL"])
    assert message["Attributes"]["ApproximateFirstReceiveTimestamp"] == str(NOW + 3_500)
    await sqs.forward(10)
    (message,) = await sqs.take()
    assert sorted(message) == ["Body", "MD5OfBody", "MessageId", "ReceiptHandle"]


@pytest.mark.parametrize("scope", ["queue", "messageGroup"])
async def test_what_is_told_of_a_fifo_message(sqs: Sqs, scope: str) -> None:
    """Its group, its number and the id against repeats, whichever scope that has; made of the body if none was sent."""
    await sqs.make("q.fifo", ContentBasedDeduplication="true", DeduplicationScope=scope, FifoThroughputLimit="perQueue")
    first = await sqs.put("a", MessageGroupId="g", MessageDeduplicationId="once")
    second = await sqs.put("b", MessageGroupId="g")
    assert first["SequenceNumber"] < second["SequenceNumber"]
    assert len(first["SequenceNumber"]) == 20
    one, other = await sqs.take(MaxNumberOfMessages=10, **SYSTEM)
    assert (one["Attributes"]["SequenceNumber"], one["Attributes"]["MessageGroupId"]) == (first["SequenceNumber"], "g")
    assert one["Attributes"]["MessageDeduplicationId"] == "once"
    assert other["Attributes"]["MessageDeduplicationId"] == hashlib.sha256(b"b").hexdigest()


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        (["All"], ["Foo.one", "Foo.two", "bar"]),
        ([".*"], ["Foo.one", "Foo.two", "bar"]),
        (["Foo.*"], ["Foo.one", "Foo.two"]),
        (["F.*"], ["Foo.one", "Foo.two"]),
        (["bar", "none"], ["bar"]),
        (["none"], []),
        (["foo.*", "BAR"], []),
        ([], []),
    ],
)
async def test_message_attributes_that_are_asked_for(sqs: Sqs, asked: list[str], names: list[str]) -> None:
    """By name, or by what they begin with; the sum is of those."""
    await sqs.make("q")
    every = {name: {"DataType": "Number.int", "StringValue": "5"} for name in ("bar", "Foo.two", "Foo.one")}
    await sqs.put("a", MessageAttributes=every)
    (message,) = await sqs.take(MessageAttributeNames=asked)
    assert sorted(message.get("MessageAttributes", {})) == names
    assert ("MD5OfMessageAttributes" in message) is bool(names)


async def test_attributes_are_headers_and_a_group_is_a_key(sqs: Sqs) -> None:
    """As the native API shows them; native headers are attributes."""
    await sqs.make("q")
    sent = await sqs.put(
        "a",
        MessageGroupId="tenant-7",
        MessageAttributes={
            "n": {"DataType": "Number", "StringValue": "1.50"},
            "b": {"DataType": "Binary.png", "BinaryValue": b"\x00\xff"},
        },
    )
    job = await sqs.api.job(sent["MessageId"])
    assert job["key"] == "tenant-7"
    assert job["headers"] == {"n": {"type": "Number", "value": "1.50"}, "b": {"type": "Binary.png", "value": "AP8="}}
    assert (await sqs.api.get("/queues/q")).json["policy"]["fair"] is True
    await sqs.take()
    await sqs.api.enqueue({"a": 1}, queue="q", headers={"tenant": "x"}, key="k")
    (message,) = await sqs.take(MessageAttributeNames=["All"], AttributeNames=["MessageGroupId"])
    assert message["MessageAttributes"] == {"tenant": {"DataType": "String", "StringValue": "x"}}
    assert message["Attributes"] == {"MessageGroupId": "k"}


async def test_a_queue_without_groups_stays_as_it_is(sqs: Sqs) -> None:
    """Its keys take turns from the first message with a group on, and not before."""
    await sqs.make("q")
    await sqs.put("a")
    assert (await sqs.api.get("/queues/q")).json["policy"]["fair"] is False
    entries = [{"Id": "a", "MessageBody": "x"}, {"Id": "b", "MessageBody": "x", "MessageGroupId": "g"}]
    await sqs.ask("SendMessageBatch", Entries=entries)
    assert (await sqs.api.get("/queues/q")).json["policy"]["fair"] is True


@both
async def test_the_most_that_a_message_may_carry(serve: Serve, protocol: Protocol) -> None:
    """Ten attributes, a trace, and the id against repeats; who sent it is left out then."""
    sqs = Sqs(await serve(token="0123456789abcdef"), protocol)
    auth = {"Authorization": "Bearer 0123456789abcdef"}
    attributes = {"FifoQueue": "true", "DeduplicationScope": "messageGroup"}
    url = (await sqs.call("CreateQueue", {"QueueName": "q.fifo", "Attributes": attributes}, None, **auth))["QueueUrl"]
    given: dict[str, Any] = {
        "QueueUrl": url,
        "MessageBody": "x",
        "MessageGroupId": "g",
        "MessageDeduplicationId": "once",
        "MessageAttributes": {f"a{number}": {"DataType": "String", "StringValue": "b"} for number in range(10)},
        "MessageSystemAttributes": {"AWSTraceHeader": {"DataType": "String", "StringValue": "t"}},
    }
    assert not isinstance(await sqs.call("SendMessage", given, None, **auth), Refusal)
    asked = {"QueueUrl": url, **SYSTEM, "MessageAttributeNames": ["All"]}
    (message,) = (await sqs.call("ReceiveMessage", asked, None, **auth))["Messages"]
    assert len(message["MessageAttributes"]) == 10
    assert (message["Attributes"]["AWSTraceHeader"], message["Attributes"]["MessageDeduplicationId"]) == ("t", "once")


# Handles.


async def test_a_deleted_message_has_succeeded(sqs: Sqs) -> None:
    """In history, like any job; its handle deletes again, and a native conclude under its token is a repeat."""
    await sqs.make("q")
    sent = await sqs.put("a")
    (message,) = await sqs.take()
    for _ in range(2):
        assert await sqs.ask("DeleteMessage", ReceiptHandle=message["ReceiptHandle"]) == {}
    job = await sqs.api.job(sent["MessageId"])
    assert (job["status"], job["outcome"]) == ("concluded", "succeeded")


async def test_a_message_that_ended_otherwise_is_as_good_as_deleted(sqs: Sqs) -> None:
    """Cancelled, failed, forgotten: deleting is well; its time can be changed no more."""
    await sqs.make("q")
    for body in "ab":
        await sqs.put(body)
    cancelled, failed = await sqs.take(MaxNumberOfMessages=2)
    backend = sqs.api.backend
    await sqs.api.post(f"/jobs/{cancelled['MessageId']}/cancel")
    lease = (await backend.job(failed["MessageId"])).lease
    assert lease is not None
    await backend.conclude(failed["MessageId"], lease.token, Verdict(outcome=FAILED, retry=False))
    for message in (failed,):
        assert await sqs.ask("DeleteMessage", ReceiptHandle=message["ReceiptHandle"]) == {}
        refusal = await sqs.refused("ChangeMessageVisibility", ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=5)
        assert "Message does not exist or is not available for visibility timeout change." in refusal.message
    assert (await backend.job(failed["MessageId"])).outcome is FAILED


async def test_a_late_delete_finds_its_dead_letter(sqs: Sqs) -> None:
    """The last receive's time ran out, so the message moved; who worked on it all the same may still say that it is done."""
    await sqs.make("dead")
    arn = await sqs.attribute("QueueArn")
    await sqs.make("q", VisibilityTimeout=1, RedrivePolicy=json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 1}))
    await sqs.put("a")
    (message,) = await sqs.take()
    await sqs.forward(2)
    assert await sqs.counts() == (0, 0, 0)
    assert await sqs.ask("DeleteMessage", ReceiptHandle=message["ReceiptHandle"]) == {}
    assert (await sqs.api.backend.job(message["MessageId"])).status is Status.CONCLUDED


async def test_a_message_is_held_back_for_twelve_hours_in_all(sqs: Sqs) -> None:
    """Beyond them the change is refused, and the message is visible when it would have been without it."""
    await sqs.make("q", VisibilityTimeout=43_200)
    await sqs.put("a")
    (message,) = await sqs.take()
    handle = {"ReceiptHandle": message["ReceiptHandle"]}
    await sqs.ask("ChangeMessageVisibility", VisibilityTimeout=43_200, **handle)
    await sqs.forward(3_600)
    before = (await sqs.api.backend.job(message["MessageId"])).lease
    refusal = await sqs.call("ChangeMessageVisibility", {"QueueUrl": sqs.url, "VisibilityTimeout": 43_200, **handle})
    assert refusal[:2] == (400, "InvalidParameterValue")
    assert "Total VisibilityTimeout for the message is beyond the limit [43200 seconds]" in refusal.message
    after = (await sqs.api.backend.job(message["MessageId"])).lease
    assert before is not None
    assert after is not None
    assert abs(after.expires_at - before.expires_at) < 0.001
    await sqs.ask("ChangeMessageVisibility", VisibilityTimeout=39_600, **handle)
    await sqs.forward(39_600)
    assert await sqs.bodies() == ["a"]


async def test_a_message_that_a_native_worker_releases_or_fails(sqs: Sqs) -> None:
    """The native API works on messages like on any job."""
    await sqs.make("q")
    await sqs.put("a")
    job = await sqs.api.take(queue="q")
    await sqs.api.post(f"/jobs/{job['id']}/release", lease=job["lease"]["token"])
    (message,) = await sqs.take(**SYSTEM)
    assert message["Attributes"]["ApproximateReceiveCount"] == "1"
    await sqs.ask("ChangeMessageVisibility", ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0)
    job = await sqs.api.take(queue="q")
    reply = await sqs.api.post(f"/jobs/{job['id']}/conclude", lease=job["lease"]["token"], outcome="failed", retry=False)
    assert reply.json["outcome"] == "failed"
    assert await sqs.counts() == (0, 0, 0)


@both
async def test_many_send_at_once_and_none_is_lost(api: Api, protocol: Protocol) -> None:
    """And each message is received by one."""
    sqs = Sqs(api, protocol)
    await sqs.make("q")
    await asyncio.gather(*(sqs.put(str(number)) for number in range(30)))
    found = await asyncio.gather(*(sqs.bodies() for _ in range(6)))
    assert sorted(body for bodies in found for body in bodies) == sorted(map(str, range(30)))


@both
async def test_a_job_of_any_id_has_a_handle(api: Api, protocol: Protocol) -> None:
    """Ids that others chose are in handles whole."""
    sqs = Sqs(api, protocol)
    await sqs.make("q")
    for job_id in ("a", "a/b?c=d&e", "x" * 128, "~!@#$%^&*()"):
        await api.backend.enqueue(JobSpec(payload=b"1", id=job_id, queue="q"))
        (message,) = await sqs.take()
        assert message["MessageId"] == job_id
        assert await sqs.ask("DeleteMessage", ReceiptHandle=message["ReceiptHandle"]) == {}
        assert (await api.backend.job(job_id)).status is Status.CONCLUDED
