"""Which queues a token sees that holds for some, in the actions on queues. In both protocols."""

from __future__ import annotations

import json
from typing import Any

import pytest

from jobqueue.api.access.access import Access
from jobqueue.api.access.auth import Keys
from jobqueue.api.access.grants import Scope, digest_of, grant
from tests.api.conftest import Serve

from .speech import PROTOCOLS, Refusal, Sqs

INPUT: dict[str, dict[str, Any]] = {
    "DeleteQueue": {},
    "PurgeQueue": {},
    "GetQueueAttributes": {},
    "GetQueueUrl": {},
    "SetQueueAttributes": {"Attributes": {"DelaySeconds": "1"}},
    "TagQueue": {"Tags": {"a": "b"}},
    "UntagQueue": {"TagKeys": ["a"]},
    "ListQueueTags": {},
    "ListDeadLetterSourceQueues": {},
    "CreateQueue": {},
    "StartMessageMoveTask": {},
    "ListMessageMoveTasks": {},
}
"""Actions on a queue that is named, and what they need beside its name."""


@pytest.fixture(params=PROTOCOLS)
async def sqs(serve: Serve, request: pytest.FixtureRequest) -> Sqs:
    """A client of a server with a token for every queue, and one for some."""
    grants = [grant(name, digest_of(name), [Scope.ADMIN], queues) for name, queues in (("root", ()), ("some", ("mine*",)))]
    client = Sqs(await serve(access=Access(Keys(grants))), request.param)
    client.key = "root"
    for name in ("mine", "mine-dead", "other"):
        await client.make(name)
    return client


async def test_a_token_of_some_queues_sees_these(sqs: Sqs) -> None:
    """In lists and by name; a queue that is not theirs is denied, whether it is there or not."""
    sqs.key = "some"
    assert [url.rpartition("/")[2] for url in (await sqs.ask("ListQueues"))["QueueUrls"]] == ["mine", "mine-dead"]
    first = await sqs.ask("ListQueues", MaxResults=1)
    assert first["NextToken"] == "mine"
    assert await sqs.ask("ListQueues", MaxResults=1, NextToken="mine") == {"QueueUrls": ["http://test/sqs/000000000000/mine-dead"]}
    for name in ("other", "none"):
        for action, given in INPUT.items():
            named = {"QueueUrl": name, "QueueName": name, "SourceArn": f"arn:aws:sqs:us-east-1:000000000000:{name}"}
            refusal = await sqs.refused(action, **named, **given)
            assert (refusal.status, refusal.code) == (403, "AccessDenied"), (action, refusal)


async def test_a_token_of_some_queues_names_only_these(sqs: Sqs) -> None:
    """As dead-letter queues, and as those that messages are moved to."""
    sqs.key, sqs.url = "some", "mine"
    for name, code in (("other", "AccessDenied"), ("none", "AccessDenied"), ("mine-dead", "")):
        policy = json.dumps({"deadLetterTargetArn": f"arn:aws:sqs:us-east-1:000000000000:{name}", "maxReceiveCount": 1})
        for action, given in (("SetQueueAttributes", {}), ("CreateQueue", {"QueueName": f"mine-{name}-source"})):
            said = await sqs.call(action, {**given, "Attributes": {"RedrivePolicy": policy}})
            assert (said.code if isinstance(said, Refusal) else "") == code, (action, name, said)
    dead = "arn:aws:sqs:us-east-1:000000000000:mine-dead"
    for given, code in (
        ({}, "AccessDenied"),
        ({"DestinationArn": "arn:aws:sqs:us-east-1:000000000000:other"}, "AccessDenied"),
        ({"DestinationArn": "arn:aws:sqs:us-east-1:000000000000:mine"}, ""),
    ):
        said = await sqs.call("StartMessageMoveTask", {"SourceArn": dead, **given})
        assert (said.code if isinstance(said, Refusal) else "") == code, (given, said)
