"""What SDKs other than AWS's newest write, as they write it."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import pytest

from jobqueue.api.access.access import Access
from jobqueue.api.access.auth import Keys
from jobqueue.api.access.grants import Scope
from tests.api.conftest import Serve
from tests.api.harness import Api
from tests.api.test_auth import scoped

from .speech import PROTOCOLS, Protocol, Refusal, Sqs

FORM = "application/x-www-form-urlencoded"
SIGNED = "AWS4-HMAC-SHA256 Credential=ops/20270115/us-east-1/sqs/aws4_request, SignedHeaders=host, Signature=0"


async def posted(sqs: Sqs, parameters: dict[str, str], **headers: str) -> Any:
    """What is said to a form of parameters, read as an answer of the Query protocol."""
    body = urlencode(parameters).encode()
    lines = {"Host": "test", **{name.replace("_", "-"): value for name, value in headers.items()}, "Content-Length": str(len(body))}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    wire = await sqs.api.site.wire()
    reply = await wire.ask(f"POST /sqs HTTP/1.1\r\n{head}\r\n".encode() + body)
    await wire.close()
    return sqs.read(parameters["Action"], reply)


async def test_an_empty_list_is_a_name_with_nothing(api: Api) -> None:
    """JavaScript's SDK of version 3.445 writes the name of an empty list: of entries it is the error of an empty batch, not of input."""
    sqs = Sqs(api, "query")
    url = (await sqs.call("CreateQueue", {"QueueName": "q"}))["QueueUrl"]

    said = await posted(sqs, {"QueueUrl": url, "SendMessageBatchRequestEntry": "", "Action": "SendMessageBatch"}, Content_Type=FORM)
    told = await posted(sqs, {"QueueUrl": url, "AttributeName": "", "Action": "GetQueueAttributes"}, Content_Type=FORM)

    assert isinstance(said, Refusal)
    assert said.code == "AWS.SimpleQueueService.EmptyBatchRequest"
    assert told == {}


@pytest.mark.parametrize("target", ["AmazonSQSv20121105.ListQueues", ""])
async def test_a_form_may_name_another_target(serve: Serve, target: str) -> None:
    """Amazon::SQS::Simple of Perl sends a form with a target of its own and, beside its signature, its key's id, which is not looked at."""
    sqs = Sqs(await serve(access=Access(Keys([scoped("ops", Scope.ADMIN)]))), "query")
    asked = {"Timestamp": "2027-01-15T08:00:00Z", "Action": "ListQueues", "Version": "2012-11-05", "AWSAccessKeyId": "ops"}
    headers = {"Content_Type": f"{FORM};charset=utf-8", **({"X_Amz_Target": target} if target else {})}

    assert await posted(sqs, asked, Authorization=SIGNED, **headers) == {}
    unsigned = await posted(sqs, asked, **headers)
    assert isinstance(unsigned, Refusal)
    assert unsigned.status == 403


async def test_a_target_of_ours_is_json_whatever_the_body_is_called(api: Api) -> None:
    """So `curl -d` works, which says that it sends a form."""
    sqs = Sqs(api, "json")

    made = await sqs.call("CreateQueue", {"QueueName": "q"}, Content_Type=FORM)

    assert made["QueueUrl"].endswith("/q")


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_who_sent_a_message_does_not_make_it_too_large(serve: Serve, protocol: Protocol) -> None:
    """A message of a mebibyte is taken from a sender with a token too. Who that is, is told of all but the largest."""
    sqs = Sqs(await serve(access=Access(Keys([scoped("ops", Scope.ADMIN)]))), protocol)
    sqs.key = "ops"
    sqs.url = (await sqs.call("CreateQueue", {"QueueName": "q"}))["QueueUrl"]
    senders = []
    for size in (1_048_576, 1_048_000):
        await sqs.call("SendMessage", {"MessageBody": "x" * size})
        (message,) = (await sqs.call("ReceiveMessage", {"AttributeNames": ["SenderId"], "WaitTimeSeconds": 20}))["Messages"]
        assert len(message["Body"]) == size
        senders.append(message["Attributes"]["SenderId"])

    assert senders == ["000000000000", "ops"]


async def test_the_longest_wait_ends_before_a_client_gives_up(sqs: Sqs) -> None:
    """Celery's receives are given up after 20.0 s, so one that waits for 20 is answered before, with nothing."""
    await sqs.make("q")
    held = await sqs.hold(WaitTimeSeconds=20)

    await sqs.forward(19.49)
    assert sqs.api.backend.totals().waiters == 1
    await sqs.forward(0.02)
    assert await held.messages() == []
