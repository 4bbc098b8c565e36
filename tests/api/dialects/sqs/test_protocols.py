"""Both protocols at their edges: what cannot be read, what goes wrong before an action is known, and what each leaves behind."""

from __future__ import annotations

import asyncio
import logging
import re
import xml.etree.ElementTree as ET
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from openapi_spec_validator import validate

from jobqueue.api.access.access import Access
from jobqueue.api.access.auth import Keys
from jobqueue.api.access.grants import Scope
from jobqueue.api.app import App
from jobqueue.api.describe.openapi import document
from jobqueue.api.dialects.sqs import query
from jobqueue.api.dialects.sqs.errors import SqsError
from jobqueue.api.observe.observing import AccessLog
from jobqueue.errors import QueueFull, StorageUnavailable, Unconfirmed
from jobqueue.limits import Limits
from tests.api.conftest import Serve
from tests.api.harness import Api, Wire, request
from tests.api.test_auth import scoped

from .speech import PROTOCOLS, Protocol, Refusal, Sqs

both = pytest.mark.parametrize("protocol", PROTOCOLS)
JSON = "Content-Type: application/x-amz-json-1.0"
FORM = "Content-Type: application/x-www-form-urlencoded"


def post(body: bytes, *lines: str, path: str = "/sqs") -> bytes:
    """A POST of these bytes."""
    return request("POST", path, None, *lines, f"Content-Length: {len(body)}") + body


async def said(api: Api, protocol: Protocol, sent: bytes) -> Any:
    """What is answered to bytes on a connection of its own."""
    wire = await api.site.wire()
    reply = await wire.ask(sent)
    await wire.close()
    return Sqs(api, protocol).read("SendMessage", reply)


# What cannot be read.


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", "MalformedInput"),
        (b"[]", "MalformedInput"),
        (b"null", "MalformedInput"),
        (b'"x"', "MalformedInput"),
        (b"\xff", "InvalidParameterValue"),
        (b'{"QueueUrl":5,"MessageBody":"x"}', "MalformedInput"),
        (b'{"QueueUrl":"q","MessageBody":{"a":1}}', "MalformedInput"),
        (b'{"QueueUrl":"q","MessageBody":"x","DelaySeconds":1.5}', "MalformedInput"),
        (b'{"QueueUrl":"q","MessageBody":"x","DelaySeconds":"soon"}', "MalformedInput"),
        (b'{"QueueUrl":"q","MessageBody":"x","DelaySeconds":' + b"9" * 5_000 + b"}", "MalformedInput"),
        (b'{"QueueUrl":"q","MessageBody":"x","MessageAttributes":[]}', "MalformedInput"),
        (b'{"QueueUrl":"q","MessageBody":"x","MessageAttributes":{"a":{"DataType":"Binary","BinaryValue":"*"}}}', "MalformedInput"),
        (b'{"QueueUrl":"q","MessageBody":"\\ud800"}', "MalformedInput"),
        (b'{"QueueUrl":"q","MessageBody":"x","deep":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "MalformedInput"),
        (b"", "MissingParameter"),
        (b"{}", "MissingParameter"),
        (b'{"QueueUrl":"q","MessageBody":null}', "MissingParameter"),
        (b'{"QueueUrl":"q","MessageBody":"x","MessageAttributes":{"a":{"StringValue":"b"}}}', "MissingParameter"),
    ],
)
async def test_json_that_is_none_or_another(api: Api, body: bytes, code: str) -> None:
    """400 with a code for it, and nothing is sent."""
    await api.put("/queues/q")
    before = api.state()
    refusal = await said(api, "json", post(body, JSON, "X-Amz-Target: AmazonSQS.SendMessage"))
    assert refusal[:2] == (400, code), refusal
    assert api.state() == before


@pytest.mark.parametrize(
    "body",
    [
        b'{"QueueUrl":"q","MessageBody":"x","DelaySeconds":"0","Unknown":[1]}',
        b'{"QueueUrl":"q","MessageBody":"x","DelaySeconds":null,"MessageAttributes":null,"MessageGroupId":null}',
        b'{"QueueUrl":"q","MessageBody":"x","MessageAttributes":{},"DelaySeconds":0.0}',
        b' {"MessageBody" : "\\u0078", "QueueUrl": "http://any.example:1/a/b/c/q"} ',
    ],
)
async def test_json_is_read_as_freely_as_amazon_does(api: Api, body: bytes) -> None:
    """Fields that it does not know are passed over, null is nothing, and a number may be written as a text."""
    await api.put("/queues/q")
    sent = await said(api, "json", post(body, JSON, "X-Amz-Target: AmazonSQS.SendMessage"))
    assert sent["MD5OfMessageBody"] == "9dd4e461268c8034f5c8564e155c67a6"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"Action=SendMessage&QueueUrl=q", "MissingParameter"),
        (b"Action=SendMessage&QueueUrl=q&MessageBody=", "MissingParameter"),
        (b"Action=SendMessage&QueueUrl=q&MessageBody=%ff", "MalformedInput"),
        (b"Action=SendMessage&QueueUrl=q&MessageBody=\xff", "InvalidParameterValue"),
        (b"Action=SendMessage&QueueUrl=q&MessageBody=x&DelaySeconds=soon", "MalformedInput"),
        (b"Action=SendMessage&QueueUrl=q&MessageBody=x&DelaySeconds=" + b"9" * 5_000, "MalformedInput"),
        (b"Action=SendMessage&QueueUrl=q&MessageBody.1=x", "MalformedInput"),
        (b"Action=SendMessage&QueueUrl=q&MessageBody=x&MessageAttribute.1.Name=a", "MalformedInput"),
        (
            b"Action=SendMessage&QueueUrl=q&MessageBody=x&MessageAttribute.1.Name=a&MessageAttribute.1.Value.StringValue=b",
            "MissingParameter",
        ),
        (b"Action=SendMessageBatch&QueueUrl=q", "MissingParameter"),
        (b"Action=SendMessageBatch&QueueUrl=q&SendMessageBatchRequestEntry=x", "MalformedInput"),
        (b"Action=SendMessageBatch&QueueUrl=q&SendMessageBatchRequestEntry.1.Id=x", "MissingParameter"),
        (b"&".join([b"a=b"] * 5_000), "MalformedInput"),
        (b"", "MissingParameter"),
        (b"Action=", "MissingParameter"),
        (b"Action=sendmessage&QueueUrl=q", "InvalidAction"),
        (b"{}", "MissingParameter"),
    ],
)
async def test_parameters_that_are_none_or_others(api: Api, body: bytes, code: str) -> None:
    """400 with a code for it, and nothing is sent."""
    await api.put("/queues/q")
    before = api.state()
    refusal = await said(api, "query", post(body, FORM))
    assert refusal[:2] == (400, code), refusal
    assert api.state() == before


@pytest.mark.parametrize(
    ("given", "tree"),
    [
        ("A.1.Name=x&A.1.Value=y", {"A": {"1": {"Name": "x", "Value": "y"}}}),
        ("A=x&A=y", {"A": "y"}),
        ("A=x&A.1=y", {"A": {"1": "y"}}),
        ("A.1=x&A=y", {"A": "y"}),
        ("a.b.c.d.e.f.g.h.i.j.k=x", {"a": {"b": {"c": {"d": {"e": {"f": {"g": {"h": {"i.j.k": "x"}}}}}}}}}),
    ],
)
def test_names_of_parameters_are_paths(given: str, tree: dict[str, Any]) -> None:
    """To a bounded depth, and the last one counts."""
    assert query.tree_of(query.pairs_of(given)) == tree


@pytest.mark.parametrize("value", ["é\U0001f511\r\n\t", "\\x41\\n%25+ &=;", "%", "a" * 5, "\\", "\\u00e9\\N{DIGIT ONE}"])
def test_long_parameters_are_read_as_short_ones(value: str) -> None:
    """They are decoded another way, since the usual one would keep others waiting."""
    for times in (1, 20_000):
        given = [("Action", "SendMessage"), ("MessageBody", value * times), ("", value), (value, "")]
        assert query.pairs_of(urlencode(given)) == given
        assert query.pairs_of(urlencode(given, quote_via=quote)) == given


@pytest.mark.parametrize("bad", ["%ff", "%zz", "%4", "%", "%C3", "%\u0664\u0661"])
def test_long_parameters_that_cannot_be_read(bad: str) -> None:
    """Each is an error, wherever it stands."""
    for text in ("x" * 70_000 + bad, "x=" + "%41" * 30_000 + bad + "x", bad + "=" + "x" * 70_000):
        with pytest.raises(SqsError, match="percent-encoding"):
            query.pairs_of(text)
    with pytest.raises(SqsError, match="more than 4096 parameters"):
        query.pairs_of("a=b&" * 70_000)


async def test_lists_are_in_the_order_of_their_numbers(api: Api) -> None:
    """10 comes behind 9, gaps are none, and what is no number counts for nothing."""
    await api.put("/queues/q")
    ids = [1, 2, 10, 9, 300]
    pairs = "&".join(f"SendMessageBatchRequestEntry.{at}.Id=n{at}&SendMessageBatchRequestEntry.{at}.MessageBody=x" for at in ids)
    body = f"Action=SendMessageBatch&QueueUrl=q&{pairs}&SendMessageBatchRequestEntry.x.Id=none"
    wire = await api.site.wire()
    reply = await wire.ask(post(body.encode(), FORM))
    assert re.findall("<Id>(.*?)</Id>", reply.body.decode()) == ["n1", "n2", "n9", "n10", "n300"]


# Before an action is known.


@pytest.mark.parametrize(
    "target", ["AmazonSQS.Nope", "AmazonSQS.", "SendMessage", "AmazonSQS.sendMessage", "DynamoDB.SendMessage", "x" * 500]
)
async def test_an_action_that_is_none(api: Api, target: str) -> None:
    """400 in the JSON protocol, which the header chose; so it is with JSON that says no action."""
    for lines in ((JSON, f"X-Amz-Target: {target}"), (f"X-Amz-Target: {target}",), (JSON,)):
        refusal = await said(api, "json", post(b"{}", *lines))
        assert refusal[:2] == (400, "InvalidAction")
        assert len(refusal.message) < 200


@both
async def test_a_path_or_a_method_that_is_none(api: Api, protocol: Protocol) -> None:
    """404 and 405 in the protocol that was spoken; what leads nowhere is not counted as a call."""
    line = "X-Amz-Target: AmazonSQS.ListQueues" if protocol == "json" else FORM
    for path in ("/sqs/none", "/sqs/000000000000/q/x", "/sqs/account/q", "/sqs//q"):
        assert (await said(api, protocol, post(b"{}", line, path=path)))[:2] == (404, "InvalidAddress")
    wire = await api.site.wire()
    reply = await wire.ask(request("PUT", "/sqs/000000000000/q", None, line, "Content-Length: 0"))
    assert (reply.status, reply.headers["allow"]) == (405, "GET, POST")
    assert Sqs(api, "query").read("x", reply).code == "InvalidHttpRequest"
    assert not any(route.counts for place in api.app.router.routes for route in place.beneath)


@both
async def test_a_body_that_is_too_large(serve: Serve, protocol: Protocol) -> None:
    """400 and not 413, since clients go by the code; before the body has come, if its length says so."""
    sqs = Sqs(await serve(body_bytes_max=2_000, payload_bytes_max=1_000), protocol)
    await sqs.api.put("/queues/q")
    sent = sqs.request("SendMessage", {"QueueUrl": "q", "MessageBody": "x" * 3_000})
    head, _, body = sent.partition(b"\r\n\r\n")
    for data in (sent, head + b"\r\n\r\n" + body[:10]):
        refusal = await said(sqs.api, protocol, data)
        assert refusal[:2] == (400, "InvalidParameterValue")
        assert "the body has" in refusal.message


async def trickled(wire: Wire, sent: bytes) -> None:
    """Send a request in pieces, with time between them for the server to begin."""
    head, _, body = sent.partition(b"\r\n\r\n")
    for piece in (head, b"\r\n\r\n", body[:3], body[3:40], body[40:]):
        wire.send(piece)
        for _ in range(5):
            await asyncio.sleep(0)


@both
@pytest.mark.parametrize("token", [None, "0123456789abcdef"])
async def test_a_body_may_come_after_its_head(serve: Serve, protocol: Protocol, token: str | None) -> None:
    """Large ones do. What the head said is still known when the action is, its token too."""
    sqs = Sqs(await serve(token=token, send_token=True), protocol)
    await sqs.api.put("/queues/q")
    headers = {} if token is None else {"Authorization": f"AWS4-HMAC-SHA256 Credential={token}/20270115/us-east-1/sqs/aws4_request"}
    wire = await sqs.api.site.wire()
    for size in (100, 300_000):
        await trickled(wire, sqs.request("SendMessage", {"QueueUrl": "q", "MessageBody": "x" * size}, None, **headers))
        assert "MessageId" in sqs.read("SendMessage", await wire.reply())
    await trickled(wire, sqs.request("ReceiveMessage", {"QueueUrl": "q", "MaxNumberOfMessages": 10}, None, **headers))
    found = sqs.read("ReceiveMessage", await wire.reply())
    assert [len(message["Body"]) for message in found["Messages"]] == [100, 300_000]


@both
async def test_a_call_by_http_1_0(api: Api, protocol: Protocol) -> None:
    """It may leave the Host out; the queue's URL then has a name that leads to this machine."""
    sqs = Sqs(api, protocol)
    sent = sqs.request("CreateQueue", {"QueueName": "q"}).replace(b" HTTP/1.1\r\nHost: test\r\n", b" HTTP/1.0\r\n")
    wire = await api.site.wire()
    assert sqs.read("CreateQueue", await wire.ask(sent)) == {"QueueUrl": "http://localhost/sqs/000000000000/q"}


@both
async def test_urls_of_queues_begin_as_it_was_set(serve: Serve, protocol: Protocol) -> None:
    """With `--sqs-url`, whatever name a request was sent to; for a token of some queues, too."""
    grants = [scoped("ops", Scope.ADMIN), scoped("mail", Scope.ADMIN, queues=["mail"])]
    sqs = Sqs(await serve(access=Access(Keys(grants))), protocol)
    sqs.api.app.site.sqs_url = "https://queue.example.org"
    for token in ("ops", "mail"):
        made = await sqs.call("CreateQueue", {"QueueName": "mail"}, None, Authorization=f"Bearer {token}", Host="proxy:1")
        assert made == {"QueueUrl": "https://queue.example.org/sqs/000000000000/mail"}


# What goes wrong beneath.


@both
@pytest.mark.parametrize(
    ("error", "status", "code", "type"),
    [
        (QueueFull("the server is full"), 429, "RequestThrottled", "RequestThrottled"),
        (StorageUnavailable("the disk is full"), 503, "ServiceUnavailable", "ServiceUnavailable"),
        (Unconfirmed("it may be stored"), 503, "ServiceUnavailable", "ServiceUnavailable"),
    ],
)
async def test_an_error_of_the_server(
    api: Api, monkeypatch: pytest.MonkeyPatch, protocol: Protocol, error: Exception, status: int, code: str, type: str
) -> None:
    """With a status for which SDKs try again, and when."""
    await failing(api, monkeypatch, protocol, error, Refusal(status, code, str(error), type))


@both
async def test_a_defect(api: Api, monkeypatch: pytest.MonkeyPatch, protocol: Protocol) -> None:
    """Nothing is told of it, but an id to find it by in the log."""
    refusal = Refusal(500, "InternalFailure", "internal error in the server; see its log", "InternalFailure")
    await failing(api, monkeypatch, protocol, RuntimeError("of the insides"), refusal)


async def failing(api: Api, monkeypatch: pytest.MonkeyPatch, protocol: Protocol, error: Exception, refusal: Refusal) -> None:
    """Send a message to a queue that fails, and be refused so."""

    async def fail(*_: object) -> None:
        raise error

    sqs = Sqs(api, protocol)
    await api.put("/queues/q")
    monkeypatch.setattr(api.backend, "enqueue", fail)
    wire = await api.site.wire()
    reply = await wire.ask(sqs.request("SendMessage", {"QueueUrl": "q", "MessageBody": "x"}))
    assert sqs.read("SendMessage", reply) == refusal._replace(type=refusal.type if protocol == "json" else "")
    assert ("retry-after" in reply.headers) is (refusal.status in (429, 503))
    if refusal.status >= 500:
        assert reply.headers["x-request-id"] == reply.headers["x-amzn-requestid"]


@both
async def test_what_fills_up_within_a_batch_fails_alone(serve: Serve, protocol: Protocol) -> None:
    """An entry for which there is no room is not its sender's fault."""
    sqs = Sqs(await serve(jobs_max=1), protocol)
    await sqs.make("q")
    found = await sqs.ask("SendMessageBatch", Entries=[{"Id": name, "MessageBody": name} for name in "ab"])
    assert [entry["Id"] for entry in found["Successful"]] == ["a"]
    ((failed),) = found["Failed"]
    assert (failed["Id"], failed["SenderFault"], failed["Code"]) == ("b", False, "RequestThrottled")


@both
async def test_a_server_that_shuts_down(api: Api, protocol: Protocol) -> None:
    """Held receives are answered with nothing, new calls refused with 503, and what was received can still be deleted."""
    sqs = Sqs(api, protocol)
    await sqs.make("q")
    await sqs.put()
    (message,) = await sqs.take()
    held = await sqs.hold(WaitTimeSeconds=20)
    api.app.drain()
    assert await held.messages() == []
    for action, given in (("SendMessage", {"MessageBody": "x"}), ("ReceiveMessage", {}), ("CreateQueue", {"QueueName": "other"})):
        refusal = await sqs.refused(action, **given)
        assert refusal[:2] == (503, "ServiceUnavailable")
    assert await sqs.ask("DeleteMessage", ReceiptHandle=message["ReceiptHandle"]) == {}


# What is told of calls.


@both
async def test_each_action_is_counted_and_logged_by_itself(serve: Serve, protocol: Protocol, caplog: pytest.LogCaptureFixture) -> None:
    """By the mount and its name; what is no action by the path that it came to. Neither log nor counts hold a token."""
    sqs = Sqs(await serve(token="0123456789abcdef"), protocol)
    sqs.api.app.observers = (AccessLog(),)
    headers = {"Authorization": "AWS4-HMAC-SHA256 Credential=label/a/b/c/d", "X_Amz_Security_Token": "0123456789abcdef"}
    with caplog.at_level(logging.INFO, "jobqueue.access"):
        await sqs.call("CreateQueue", {"QueueName": "q"}, "/", **headers)
        await sqs.call("SendMessage", {"QueueUrl": "q", "MessageBody": "x"}, "/000000000000/q", **headers)
        await sqs.call("SendMessage", {"QueueUrl": "none", "MessageBody": "x"}, None, **headers)
        await sqs.call("Nope", {}, None, **headers)
    told = (await sqs.api.get("/metrics")).body.decode()
    counted = re.findall(r'jobqueue_http_requests_total\{method="POST",route="(.*?)",status="(\d+)"\} (\d)', told)
    assert counted == [
        ("/sqs", "400", "1"),
        ("/sqs SendMessage", "200", "1"),
        ("/sqs SendMessage", "400", "1"),
        ("/sqs CreateQueue", "200", "1"),
    ]
    assert 'jobqueue_http_request_duration_seconds_count{method="POST",route="/sqs SendMessage"} 2.0' in told
    lines = [record.__dict__["fields"] for record in caplog.records]
    routes = ["/sqs CreateQueue", "/sqs SendMessage", "/sqs SendMessage", "/sqs"]
    assert [line["route"] for line in lines[:4]] == routes
    assert [line["token"] for line in lines[:4]] == ["--token"] * 4
    assert "0123456789abcdef" not in told + str(lines)


@both
async def test_a_request_has_one_id(api: Api, protocol: Protocol) -> None:
    """The client's own, where it sent one; else one of the server's, which no other has."""
    sqs = Sqs(api, protocol)
    wire = await api.site.wire()
    reply = await wire.ask(sqs.request("ListQueues", {}, None, X_Request_ID="mine-1"))
    assert (reply.headers["x-amzn-requestid"], reply.headers["x-request-id"]) == ("mine-1", "mine-1")
    sqs.read("ListQueues", reply)
    ids = [(await wire.ask(sqs.request(action, {}))).headers["x-amzn-requestid"] for action in ("ListQueues", "ListQueues", "Nope")]
    assert len(set(ids)) == 3
    assert all(re.fullmatch("[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-8[0-9a-f]{3}-[0-9a-f]{12}", each) for each in ids)


async def test_what_xml_cannot_hold_is_replaced(api: Api) -> None:
    """A native job may hold it. What XML would change is written as a reference: a parser gives back what was sent."""
    sqs = Sqs(api, "query")
    await sqs.make("q")
    await sqs.api.enqueue("a\x00b\ufffe\r\n\t<&>\"'\U0001f511", queue="q")
    wire = await api.site.wire()
    reply = await wire.ask(sqs.request("ReceiveMessage", {"QueueUrl": "q"}))
    assert b"&#xD;\n\t&lt;&amp;&gt;\"'" in reply.body
    (body,) = ET.fromstring(reply.body).iterfind(".//{*}Body")
    assert body.text == "a\ufffdb\ufffd\r\n\t<&>\"'\U0001f511"


def test_every_action_has_a_route_of_its_own(api: Api) -> None:
    """In the metrics and to the access rules, and none among the paths."""
    app: App = api.app
    places = [route for route in app.router.routes if route.actions is not None]
    assert len(places) == 8
    beneath = {action for place in places for action in place.beneath}
    assert len(beneath) == 23
    assert beneath.isdisjoint(app.router.routes)
    assert {route.api for route in beneath} == {"sqs"}


def test_the_paths_are_in_the_document(api: Api) -> None:
    """Those there are, by both protocols, with a word on where the actions are told of."""
    places = [route for route in api.app.router.routes if route.actions is not None]
    told = document(places, Limits(), secured=True)
    validate(told)
    assert list(told["paths"]) == ["/sqs", "/sqs/", "/sqs/{account}/{queue}", "/", "/000000000000/{queue}"]
    for path in told["paths"].values():
        for method, operation in path.items():
            assert "docs/dialects.md" in operation["description"]
            assert list(operation["responses"]) == ["200", "default"]
            assert set(operation["responses"]["default"]["content"]) == {"application/x-amz-json-1.0", "text/xml"}
            assert ("requestBody" in operation) is (method == "post")


@both
async def test_a_refusal_is_told_once_and_the_connection_goes_on(api: Api, protocol: Protocol) -> None:
    """An error of any kind, and then a call on the same connection."""
    sqs = Sqs(api, protocol)
    wire = await api.site.wire()
    for action in ("Nope", "SendMessage", "ReceiveMessage"):
        refusal = sqs.read(action, await wire.ask(sqs.request(action, {})))
        assert isinstance(refusal, Refusal)
        assert sqs.read("ListQueues", await wire.ask(sqs.request("ListQueues", {}))) == {}
