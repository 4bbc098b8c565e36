"""Who may call: tokens in the credentials that SDKs send, scopes by action, queues, pages of other origins, rates."""

from __future__ import annotations

from typing import Any

import pytest

from jobqueue.api.access.access import Access
from jobqueue.api.access.auth import Keys
from jobqueue.api.access.grants import SCOPES, Scope
from jobqueue.api.access.origins import Hosts
from jobqueue.api.access.ratelimit import Rate
from jobqueue.api.dialects.sqs.handles import handle_of, parts_of
from jobqueue.api.dialects.sqs.table import ACTIONS
from tests.api.conftest import Serve
from tests.api.harness import Api, until
from tests.api.test_auth import scoped

from .speech import PROTOCOLS, Protocol, Refusal, Sqs

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
both = pytest.mark.parametrize("protocol", PROTOCOLS)

UNKNOWN = Refusal(403, "InvalidClientTokenId", "The security token included in the request is invalid.", "UnrecognizedClientException")
NONE = Refusal(403, "MissingAuthenticationToken", "Request is missing Authentication Token", "MissingAuthenticationTokenException")


def signed(key: str = "AKIDEXAMPLE", session: str | None = None) -> dict[str, str]:
    """The headers with which an SDK signs."""
    line = f"AWS4-HMAC-SHA256 Credential={key}/20270115/us-east-1/sqs/aws4_request, SignedHeaders=host, Signature={'0' * 64}"
    return {"Authorization": line, **({} if session is None else {"X_Amz_Security_Token": session})}


def alike(said: Any, refusal: Refusal) -> bool:
    """Whether it was refused so, in the words of its protocol."""
    return bool(said == (refusal if said.type else refusal._replace(type="")))


OPS = scoped("ops", Scope.ADMIN)


async def known(serve: Serve, protocol: Protocol, *grants: Any) -> Sqs:
    """A client of a server that knows tokens, and has the queue q."""
    sqs = Sqs(await serve(access=Access(Keys([OPS, *grants]))), protocol)
    made = await sqs.call("CreateQueue", {"QueueName": "q"}, None, **signed("ops"))
    sqs.url = made["QueueUrl"]
    return sqs


@both
@pytest.mark.parametrize(
    "headers",
    [
        signed("ops"),
        signed("AKIDEXAMPLE", "ops"),
        signed("unknown", "ops"),
        {"Authorization": "AWS4-HMAC-SHA256 Credential=ops"},
        {"Authorization": "Bearer ops"},
        {"Authorization": "Bearer ops", "X_Amz_Security_Token": "unknown"},
    ],
)
async def test_a_token_is_the_session_token_or_the_access_key_id(serve: Serve, protocol: Protocol, headers: dict[str, str]) -> None:
    """Or a Bearer's. What else is in the credentials is not looked at."""
    sqs = await known(serve, protocol)
    assert (await sqs.call("SendMessage", {"MessageBody": "x", "QueueUrl": sqs.url}, None, **headers))["MessageId"]


@both
@pytest.mark.parametrize(
    ("headers", "refusal"),
    [
        ({}, NONE),
        ({"X_Amz_Security_Token": "ops"}, NONE),
        (signed("unknown"), UNKNOWN),
        (signed("ops", "unknown"), UNKNOWN),
        ({"Authorization": "Bearer unknown"}, UNKNOWN),
        ({"Authorization": "AWS4-HMAC-SHA256"}, UNKNOWN),
        ({"Authorization": "AWS4-HMAC-SHA256 Signature=ops"}, UNKNOWN),
        ({"Authorization": "AWS ops:signature"}, UNKNOWN),
        ({"Authorization": "Basic b3BzOm9wcw=="}, UNKNOWN),
    ],
)
async def test_without_a_token_that_is_known_nothing_is_done(
    serve: Serve, protocol: Protocol, headers: dict[str, str], refusal: Refusal
) -> None:
    """Nor is it said whether there is such an action, or such a queue."""
    sqs = await known(serve, protocol)
    before = sqs.api.state()
    for action, given in (("SendMessage", {"MessageBody": "x", "QueueUrl": "q"}), ("SendMessage", {"QueueUrl": "none"}), ("Nope", {})):
        assert alike(await sqs.call(action, given, None, **headers), refusal), action
    assert sqs.api.state() == before


async def test_who_is_not_known_is_refused_before_the_body_has_come(serve: Serve) -> None:
    """In both protocols: what is announced is not read, and the connection ends."""
    for protocol in PROTOCOLS:
        sqs = await known(serve, protocol)
        head, _, body = sqs.request("SendMessage", {"MessageBody": "x" * 100}, None, **signed("unknown")).partition(b"\r\n\r\n")
        wire = await sqs.api.site.wire()
        reply = await wire.ask(head + b"\r\n\r\n" + body[:5])
        assert alike(sqs.read("SendMessage", reply), UNKNOWN)
        assert reply.headers["connection"] == "close"


@both
async def test_each_action_asks_for_its_scope(serve: Serve, protocol: Protocol) -> None:
    """Sending, receiving, reading and all else, each by a token that has that scope alone; others are refused by the scope's name."""
    sqs = await known(serve, protocol, *(scoped(scope.value, scope) for scope in SCOPES))
    before = sqs.api.state()
    for action in ACTIONS:
        assert action.scope is expected(action.name), action.name
        for scope in SCOPES:
            said = await sqs.call(action.name, {"QueueUrl": "none"}, None, **signed(scope.value))
            allowed = scope in (action.scope, Scope.ADMIN)
            assert isinstance(said, Refusal) or action.name == "ListQueues"
            assert allowed is not (said[:2] == (403, "AccessDenied") if isinstance(said, Refusal) else False), (action.name, scope)
            if not allowed:
                assert said[2:] == (
                    f"the token {scope} does not have the scope {action.scope}",
                    "AccessDeniedException" if protocol == "json" else "",
                )
    assert sqs.api.state() == before


def expected(action: str) -> Scope:
    """The scope of an action, by its name."""
    if action.startswith("Send"):
        return Scope.ENQUEUE
    if action.startswith(("Receive", "Delete", "ChangeMessageVisibility")) and action != "DeleteQueue":
        return Scope.DEQUEUE
    return Scope.READ if action.startswith(("Get", "List")) else Scope.ADMIN


@both
async def test_a_token_for_some_queues_sees_no_others(serve: Serve, protocol: Protocol) -> None:
    """A queue that it may not use is refused, there or not; no handle reaches a message of one; a listing leaves them out."""
    sqs = await known(serve, protocol, scoped("mail", Scope.ADMIN, queues=["mail*"]))
    own = await sqs.call("CreateQueue", {"QueueName": "mail"}, None, **signed("mail"))
    await sqs.call("SendMessage", {"QueueUrl": sqs.url, "MessageBody": "x"}, None, **signed("ops"))
    (other,) = (await sqs.call("ReceiveMessage", {"QueueUrl": sqs.url}, None, **signed("ops")))["Messages"]
    before = sqs.api.state()
    for action, given in (
        ("SendMessage", {"MessageBody": "x"}),
        ("ReceiveMessage", {}),
        ("DeleteMessage", {"ReceiptHandle": other["ReceiptHandle"]}),
        ("GetQueueAttributes", {"AttributeNames": ["All"]}),
        ("PurgeQueue", {}),
        ("DeleteQueue", {}),
    ):
        for url in (sqs.url, "none"):
            said = await sqs.call(action, {**given, "QueueUrl": url}, None, **signed("mail"))
            assert said[:2] == (403, "AccessDenied"), action
    # By the name of a queue of its own it reaches nothing of another's either, also with a handle that was forged to be of its own.
    handle = other["ReceiptHandle"]
    forged = handle_of(*parts_of(handle, "q"), "mail")
    deleted = [
        await sqs.call("DeleteMessage", {"QueueUrl": "mail", "ReceiptHandle": each}, None, **signed("mail")) for each in (handle, forged)
    ]
    assert deleted[0][:2] == (400, "ReceiptHandleIsInvalid")
    assert deleted[1] == {}
    for each, code in ((handle, "ReceiptHandleIsInvalid"), (forged, "InvalidParameterValue")):
        given = {"QueueUrl": "mail", "ReceiptHandle": each, "VisibilityTimeout": 0}
        said = await sqs.call("ChangeMessageVisibility", given, None, **signed("mail"))
        assert said[:2] == (400, code)
    assert sqs.api.state() == before
    assert (await sqs.call("ListQueues", {}, None, **signed("mail")))["QueueUrls"] == [own["QueueUrl"]]
    assert len((await sqs.call("ListQueues", {}, None, **signed("ops")))["QueueUrls"]) == 2


# What browsers could be made to send.


@pytest.mark.parametrize("secured", [False, True])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_get_without_credentials_in_a_header_is_refused(serve: Serve, secured: bool, method: str) -> None:
    """Though nobody asks for a token: an image of any page could have this address."""
    api = await serve(access=Access(Keys([OPS]) if secured else None))
    await api.put("/queues/q")
    before = api.state()
    for path in ("/sqs", "/sqs/", "/sqs/000000000000/q"):
        reply = await api.send(method, f"{path}?Action=DeleteQueue&QueueUrl=q")
        assert reply.status in ((403,) if method == "GET" else (403, 405))
        assert reply.headers["content-type"] == "text/xml"
        reply = await api.send("HEAD", f"{path}?Action=DeleteQueue&QueueUrl=q", headers={"Authorization": "Bearer ops"})
        assert reply.status == 405
    assert api.state() == before


OPEN = [
    "X-Amz-Credential=ops%2F20270115%2Fus-east-1%2Fsqs%2Faws4_request&X-Amz-Signature=0",
    "X-Amz-Security-Token=ops",
    "AWSAccessKeyId=ops&Signature=0&SignatureVersion=2",
]


@pytest.mark.parametrize("secured", [False, True])
@pytest.mark.parametrize("credentials", OPEN)
async def test_credentials_in_a_url_or_a_form_are_refused(serve: Serve, credentials: str, secured: bool) -> None:
    """Those of presigned URLs and of signatures of version 2; with others in a header, too."""
    api = await serve(access=Access(Keys([OPS]) if secured else None))
    sqs = Sqs(api, "query")
    await api.send("PUT", "/queues/q", b"{}", {"Authorization": "Bearer ops", "Content-Type": "application/json"})
    before = api.state()
    asked = f"Action=PurgeQueue&QueueUrl=q&{credentials}"
    for method, path, body in (("GET", f"/sqs?{asked}", None), ("POST", f"/sqs?{asked}", b""), ("POST", "/sqs", asked.encode())):
        reply = await api.send(method, path, body, {**FORM, "Authorization": "Bearer ops"})
        said = sqs.read("PurgeQueue", reply)
        assert said[:2] == (403, "AccessDenied"), reply
        reply = await api.send(method, path, body, FORM)
        assert sqs.read("PurgeQueue", reply).code in ("AccessDenied", "MissingAuthenticationToken")
    assert api.state() == before


@pytest.mark.parametrize("action", sorted(action.name for action in ACTIONS))
@both
async def test_a_page_of_another_origin_is_refused(api: Api, protocol: Protocol, action: str) -> None:
    """Whatever it asks for, also what changes nothing: a form is sent without a question before it."""
    sqs = Sqs(api, protocol)
    before = api.state()
    for headers in ({"Origin": "https://elsewhere.example"}, {"Origin": "null"}, {"Sec_Fetch_Site": "cross-site"}):
        said = await sqs.call(action, {"QueueUrl": "q"}, None, **headers)
        assert said[:2] == (403, "AccessDenied")
        assert "allowed-origins" in said.message
    assert api.state() == before


@both
async def test_a_page_that_may_and_one_of_the_servers_own_are_served(serve: Serve, protocol: Protocol) -> None:
    """By the setting, and by the name that the request was sent to."""
    sqs = Sqs(await serve(access=Access(origins=frozenset({"https://pages.example"}))), protocol)
    for origin in ("https://pages.example", "http://test"):
        assert await sqs.call("ListQueues", {}, None, Origin=origin) == {}


@both
async def test_a_name_that_is_not_the_servers_is_refused(serve: Serve, protocol: Protocol) -> None:
    """A page could have its own name lead here. It is refused before the action is known."""
    sqs = Sqs(await serve(access=Access(hosts=Hosts(lambda name: name == "test"))), protocol)
    assert await sqs.call("ListQueues") == {}
    for action in ("ListQueues", "Nope"):
        said = await sqs.call(action, {}, None, Host="elsewhere.example")
        assert said[:2] == (403, "AccessDenied")
        assert "allowed-hosts" in said.message


# Rates, and tokens that change.


@both
async def test_a_rate_is_of_the_token_and_counts_each_call_once(serve: Serve, protocol: Protocol) -> None:
    """Beyond it 429, with when to come back, which SDKs wait for."""
    grants = [OPS, scoped("slow", Scope.READ)]
    sqs = Sqs(await serve(access=Access(Keys(grants), rate=Rate(1, 60.0, 3), clock=lambda: 1_000.0)), protocol)
    for _ in range(3):
        assert await sqs.call("ListQueues", {}, None, **signed("slow")) == {}
    wire = await sqs.api.site.wire()
    reply = await wire.ask(sqs.request("ListQueues", {}, None, **signed("slow")))
    said = sqs.read("ListQueues", reply)
    assert said[:2] == (429, "RequestThrottled")
    assert reply.headers["retry-after"] == "60"
    assert await sqs.call("ListQueues", {}, None, **signed("ops")) == {}


@both
async def test_a_held_receive_ends_with_its_token(serve: Serve, protocol: Protocol) -> None:
    """When the token goes, the receive is refused at once, in its own protocol; a message that comes then is nobody's."""
    keys = Keys([OPS, scoped("old", Scope.DEQUEUE)])
    sqs = Sqs(await serve(access=Access(keys)), protocol)
    await sqs.call("CreateQueue", {"QueueName": "q"}, None, **signed("ops"))
    wire = await sqs.api.site.wire()
    wire.send(sqs.request("ReceiveMessage", {"QueueUrl": "q", "WaitTimeSeconds": 20}, None, **signed("label", "old")))
    await until(lambda: len(keys.held) == 1)
    keys.replace([OPS])
    assert alike(sqs.read("ReceiveMessage", await wire.reply()), UNKNOWN)
    assert sqs.api.backend.totals().waiters == 0
    await sqs.call("SendMessage", {"QueueUrl": "q", "MessageBody": "x"}, None, **signed("ops"))
    assert sqs.api.backend.totals().leases == 0


@both
async def test_who_sent_a_message_is_told_by_the_tokens_name(serve: Serve, protocol: Protocol) -> None:
    """And who receives it is the job's worker."""
    sqs = await known(serve, protocol, scoped("consumer", Scope.DEQUEUE))
    await sqs.call("SendMessage", {"QueueUrl": sqs.url, "MessageBody": "x"}, None, **signed("AKID", "ops"))
    asked = {"QueueUrl": sqs.url, "AttributeNames": ["SenderId"], "MessageAttributeNames": ["All"]}
    (message,) = (await sqs.call("ReceiveMessage", asked, None, **signed("consumer")))["Messages"]
    assert message["Attributes"] == {"SenderId": "ops"}
    assert "MessageAttributes" not in message
    lease = (await sqs.api.backend.job(message["MessageId"])).lease
    assert lease is not None
    assert lease.worker == "consumer"
