"""Making, finding, listing, tagging, emptying and deleting queues, and what is refused of it, in both protocols."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.api.harness import until

from .speech import Refusal, Sqs

INVALID = "InvalidParameterValue"
MISSING = "MissingParameter"
NO_QUEUE = "AWS.SimpleQueueService.NonExistentQueue"


async def test_a_queue_is_made_and_found(sqs: Sqs) -> None:
    """Its URL ends with its name, and whoever is said to own it."""
    url = await sqs.make("Some_queue-1")
    assert url == "http://test/sqs/000000000000/Some_queue-1"
    found = await sqs.ask("GetQueueUrl", QueueName="Some_queue-1", QueueOwnerAWSAccountId="123456789012")
    assert found == {"QueueUrl": url}
    assert (await sqs.api.get("/queues/Some_queue-1")).json["policy"]["lease_seconds"] == 30


async def test_a_queue_is_meant_by_its_url_or_its_name(sqs: Sqs) -> None:
    """The last segment counts, whatever stands before it."""
    await sqs.make("q")
    for sqs.url in ("q", "https://sqs.eu-west-1.amazonaws.com/123456789012/q", "http://elsewhere/q"):
        assert await sqs.attribute("QueueArn") == "arn:aws:sqs:us-east-1:000000000000:q"


@pytest.mark.parametrize(
    ("given", "code", "named"),
    [
        ({"QueueName": ""}, MISSING, "QueueName"),
        ({"QueueName": "a" * 81}, INVALID, "QueueName"),
        ({"QueueName": "a b"}, INVALID, "QueueName"),
        ({"QueueName": "a.b"}, INVALID, "QueueName"),
        ({"QueueName": "ä"}, INVALID, "QueueName"),
        ({"QueueName": "a.fifo"}, INVALID, "QueueName"),
        ({"QueueName": "a", "Attributes": {"FifoQueue": "true"}}, INVALID, "QueueName"),
        ({"QueueName": ".fifo", "Attributes": {"FifoQueue": "true"}}, INVALID, "QueueName"),
        ({"QueueName": "a" * 76 + ".fifo", "Attributes": {"FifoQueue": "true"}}, INVALID, "QueueName"),
        ({"QueueName": "a.fifo", "Attributes": {"FifoQueue": "false"}}, INVALID, "QueueName"),
        ({"QueueName": "a", "Attributes": {"FifoQueue": "false"}}, "InvalidAttributeName", "FifoQueue"),
        ({"QueueName": "a", "Attributes": {"ContentBasedDeduplication": "false"}}, "InvalidAttributeName", "ContentBasedDeduplication"),
        ({"QueueName": "a", "Attributes": {"DeduplicationScope": "queue"}}, "InvalidAttributeName", "DeduplicationScope"),
        ({"QueueName": "a", "Attributes": {"FifoThroughputLimit": "perQueue"}}, "InvalidAttributeName", "FifoThroughputLimit"),
        ({"QueueName": "a", "Attributes": {"Nonsense": "1"}}, "InvalidAttributeName", "Nonsense"),
        ({"QueueName": "a", "tags": {"": "x"}}, INVALID, "Tag keys"),
        ({"QueueName": "a", "tags": {"k" * 129: "x"}}, INVALID, "Tag keys"),
        ({"QueueName": "a", "tags": {"k": "x" * 257}}, INVALID, "Tag values"),
        ({"QueueName": "a", "tags": {str(number): "x" for number in range(51)}}, INVALID, "tags"),
    ],
)
async def test_a_queue_that_cannot_be_made(sqs: Sqs, given: dict[str, Any], code: str, named: str) -> None:
    """Says why, and makes none."""
    refusal = await sqs.refused("CreateQueue", **given)
    assert (refusal.status, refusal.code) == (400, code)
    assert named in refusal.message
    assert await sqs.ask("ListQueues") == {}


async def test_what_is_not_given_is_named(sqs: Sqs) -> None:
    """Of every action that needs something."""
    url = await sqs.make("q")
    sqs.url = ""
    for action, given, name in (
        ("CreateQueue", {}, "QueueName"),
        ("GetQueueUrl", {}, "QueueName"),
        ("DeleteQueue", {}, "QueueUrl"),
        ("PurgeQueue", {}, "QueueUrl"),
        ("GetQueueAttributes", {}, "QueueUrl"),
        ("SetQueueAttributes", {"Attributes": {"DelaySeconds": "1"}}, "QueueUrl"),
        ("SetQueueAttributes", {"QueueUrl": url}, "Attributes"),
        ("TagQueue", {"Tags": {"a": "b"}}, "QueueUrl"),
        ("TagQueue", {"QueueUrl": url}, "Tags"),
        ("UntagQueue", {"TagKeys": ["a"]}, "QueueUrl"),
        ("UntagQueue", {"QueueUrl": url}, "TagKeys"),
        ("ListQueueTags", {}, "QueueUrl"),
        ("ListDeadLetterSourceQueues", {}, "QueueUrl"),
        ("StartMessageMoveTask", {}, "SourceArn"),
        ("ListMessageMoveTasks", {}, "SourceArn"),
        ("CancelMessageMoveTask", {}, "TaskHandle"),
        ("SendMessage", {"MessageBody": "x"}, "QueueUrl"),
        ("SendMessage", {"QueueUrl": url}, "MessageBody"),
        ("ReceiveMessage", {}, "QueueUrl"),
        ("DeleteMessage", {"QueueUrl": url}, "ReceiptHandle"),
        ("ChangeMessageVisibility", {"QueueUrl": url, "ReceiptHandle": "x"}, "VisibilityTimeout"),
    ):
        refusal = await sqs.refused(action, **given)
        assert (refusal.status, refusal.code, refusal.message) == (
            400,
            MISSING,
            f"The request must contain the parameter {name}.",
        ), action


async def test_queues_are_listed_by_name(sqs: Sqs) -> None:
    """All, those of a prefix, and page by page; native ones too."""
    await sqs.api.put("/queues/a:native.queue")
    for name in ("b2", "b1", "a1", "b3"):
        await sqs.make(name)
    urls = {name: f"http://test/sqs/000000000000/{name}" for name in ("a1", "a:native.queue", "b1", "b2", "b3")}
    assert await sqs.ask("ListQueues") == {"QueueUrls": [urls[name] for name in sorted(urls)]}
    assert await sqs.ask("ListQueues", QueueNamePrefix="b") == {"QueueUrls": [urls["b1"], urls["b2"], urls["b3"]]}
    assert await sqs.ask("ListQueues", QueueNamePrefix="c") == {}
    first = await sqs.ask("ListQueues", QueueNamePrefix="b", MaxResults=2)
    assert first["QueueUrls"] == [urls["b1"], urls["b2"]]
    rest = await sqs.ask("ListQueues", QueueNamePrefix="b", MaxResults=2, NextToken=first["NextToken"])
    assert rest == {"QueueUrls": [urls["b3"]]}
    for bad in (0, 1001, -1):
        refusal = await sqs.refused("ListQueues", MaxResults=bad)
        assert (refusal.status, refusal.code) == (400, INVALID)
        assert refusal.message.startswith(f"Value {bad} for parameter MaxResults is invalid.")


async def test_a_native_queue_works_whatever_its_name(sqs: Sqs) -> None:
    """Also one that could not be made here."""
    await sqs.api.put("/queues/a:native.queue")
    sqs.url = (await sqs.ask("GetQueueUrl", QueueName="a:native.queue"))["QueueUrl"]
    await sqs.put("x")
    assert await sqs.bodies() == ["x"]
    assert await sqs.attribute("QueueArn") == "arn:aws:sqs:us-east-1:000000000000:a:native.queue"


@pytest.mark.parametrize("name", ["none", "no queue", "ä", "x" * 5_000, "…"])
async def test_no_such_queue(sqs: Sqs, name: str) -> None:
    """Of a name that a queue might have, and of one that none has."""
    assert (await sqs.refused("GetQueueUrl", QueueName=name)).code == NO_QUEUE
    for action, given in (
        ("DeleteQueue", {}),
        ("PurgeQueue", {}),
        ("GetQueueAttributes", {"AttributeNames": ["All"]}),
        ("SetQueueAttributes", {"Attributes": {"DelaySeconds": "1"}}),
        ("TagQueue", {"Tags": {"a": "b"}}),
        ("UntagQueue", {"TagKeys": ["a"]}),
        ("ListQueueTags", {}),
        ("ListDeadLetterSourceQueues", {}),
    ):
        refusal = await sqs.refused(action, QueueUrl=f"http://test/sqs/000000000000/{name}", **given)
        assert (refusal.status, refusal.code, refusal.message) == (400, NO_QUEUE, "The specified queue does not exist."), action


async def test_a_queue_is_purged(sqs: Sqs) -> None:
    """What is visible, in flight and delayed; what was in flight cannot be deleted twice, and that is no error. Again at once."""
    await sqs.make("q")
    await sqs.put("taken")
    (taken,) = await sqs.take()
    await sqs.put("visible")
    await sqs.put("delayed", DelaySeconds=60)
    assert await sqs.counts() == (1, 1, 1)
    for _ in range(2):
        await sqs.ask("PurgeQueue")
        assert await sqs.counts() == (0, 0, 0)
    await sqs.ask("DeleteMessage", ReceiptHandle=taken["ReceiptHandle"])
    await sqs.forward(100)
    assert await sqs.take() == []


async def test_a_queue_is_deleted_with_its_messages(sqs: Sqs) -> None:
    """Who waits for one is answered at once, with nothing. One of that name can be made at once, and has none of it."""
    await sqs.make("q", tags={"a": "b"}, DelaySeconds=7)
    await sqs.put("x", DelaySeconds=7)
    await sqs.put("y", DelaySeconds=0)
    await sqs.take()
    held = await sqs.hold(WaitTimeSeconds=20)
    await sqs.ask("DeleteQueue")
    await until(lambda: sqs.api.backend.totals().waiters == 0)
    assert await held.messages() == []
    assert (await sqs.refused("GetQueueUrl", QueueName="q")).code == NO_QUEUE
    assert (await sqs.refused("DeleteQueue")).code == NO_QUEUE
    await sqs.make("q")
    assert await sqs.counts() == (0, 0, 0)
    assert await sqs.attribute("DelaySeconds") == "0"
    assert await sqs.ask("ListQueueTags") == {}


async def test_tags_are_set_and_taken_away(sqs: Sqs) -> None:
    """As a recording of AWS has it; they are the native queue's."""
    await sqs.make("q", tags={"made": "with"})
    await sqs.ask("TagQueue", Tags={"tag1": "value1", "tag2": "value2", "tag3": "", "made": "other"})
    assert await sqs.ask("ListQueueTags") == {"Tags": {"made": "other", "tag1": "value1", "tag2": "value2", "tag3": ""}}
    assert (await sqs.api.get("/queues/q")).json["policy"]["tags"]["tag3"] == ""
    await sqs.ask("UntagQueue", TagKeys=["tag1", "tag3", "none"])
    assert await sqs.ask("ListQueueTags") == {"Tags": {"made": "other", "tag2": "value2"}}
    await sqs.ask("UntagQueue", TagKeys=["made", "tag2"])
    assert await sqs.ask("ListQueueTags") == {}


async def test_tags_have_bounds(sqs: Sqs) -> None:
    """Fifty, of so many characters; those that a queue has count."""
    await sqs.make("q")
    await sqs.ask("TagQueue", Tags={f"{number:03}" + "k" * 125: "v" * 256 for number in range(50)})
    await sqs.ask("TagQueue", Tags={"000" + "k" * 125: "other"})
    for action, given in (
        ("TagQueue", {"Tags": {"one more": "x"}}),
        ("TagQueue", {"Tags": {"000" + "k" * 126: "x"}}),
        ("TagQueue", {"Tags": {"000" + "k" * 125: "v" * 257}}),
        ("TagQueue", {"Tags": {"": "x"}}),
        ("UntagQueue", {"TagKeys": [""]}),
        ("UntagQueue", {"TagKeys": ["k" * 129]}),
    ):
        refusal = await sqs.refused(action, **given)
        assert (refusal.status, refusal.code) == (400, INVALID)
        assert refusal.message.startswith(("Too many tags", "Tag keys", "Tag values"))


async def test_sources_of_dead_letters_are_listed(sqs: Sqs) -> None:
    """Page by page; where there are none the list is empty, and there."""
    letters = await sqs.make("dead")
    arn = await sqs.attribute("QueueArn")
    assert await sqs.ask("ListDeadLetterSourceQueues") == {"queueUrls": []}
    policy = f'{{"deadLetterTargetArn": "{arn}", "maxReceiveCount": 5}}'
    urls = [await sqs.make(name, RedrivePolicy=policy) for name in ("a", "b", "e")]
    await sqs.make("other")
    sqs.url = letters
    assert await sqs.ask("ListDeadLetterSourceQueues") == {"queueUrls": urls}
    first = await sqs.ask("ListDeadLetterSourceQueues", MaxResults=2)
    assert first["queueUrls"] == urls[:2]
    assert await sqs.ask("ListDeadLetterSourceQueues", MaxResults=2, NextToken=first["NextToken"]) == {"queueUrls": urls[2:]}
    assert (await sqs.refused("ListDeadLetterSourceQueues", MaxResults=0)).code == INVALID


async def test_permissions_are_refused(sqs: Sqs) -> None:
    """There are none of queues."""
    await sqs.make("q")
    for action, given in (
        ("AddPermission", {"Label": "l", "AWSAccountIds": ["123456789012"], "Actions": ["SendMessage"]}),
        ("RemovePermission", {"Label": "l"}),
    ):
        refusal = await sqs.refused(action, **given)
        assert (refusal.status, refusal.code) == (400, "AWS.SimpleQueueService.UnsupportedOperation")


async def test_a_queue_that_others_make_at_the_same_time(sqs: Sqs) -> None:
    """One of them makes it: those that ask for the same are answered alike, the others are refused."""
    calls = [sqs.call("CreateQueue", {"QueueName": "q", "Attributes": {"DelaySeconds": seconds}}) for seconds in "1212121212"]
    made = await asyncio.gather(*calls)
    delay = (await sqs.ask("GetQueueAttributes", QueueUrl="q", AttributeNames=["DelaySeconds"]))["Attributes"]["DelaySeconds"]
    for seconds, said in zip("1212121212", made, strict=True):
        assert (said.code if isinstance(said, Refusal) else "") == ("" if seconds == delay else "QueueAlreadyExists")


async def test_tags_that_are_set_at_the_same_time_are_all_there(sqs: Sqs) -> None:
    """As are attributes: nobody undoes what another sets."""
    await sqs.make("q")
    tags = [sqs.call("TagQueue", {"Tags": {f"t{number}": "x"}}) for number in range(10)]
    names = {"VisibilityTimeout": "7", "ReceiveMessageWaitTimeSeconds": "8", "MaximumMessageSize": "2000", "DelaySeconds": "9"}
    attributes = [sqs.call("SetQueueAttributes", {"Attributes": {name: value}}) for name, value in names.items()]
    assert await asyncio.gather(*tags, *attributes) == [{}] * 14
    assert len((await sqs.ask("ListQueueTags"))["Tags"]) == 10
    assert (await sqs.ask("GetQueueAttributes", AttributeNames=list(names)))["Attributes"] == names
