"""A client of the SQS dialect that writes bytes on a connection and reads what comes, in either protocol.

What is sent and what is answered have one form in tests, that of AWS's model: names as there, blobs as bytes. The client knows how the
protocols write that and is strict about what the server writes; it shares no line with the server.
"""

from __future__ import annotations

import asyncio
import base64
import json
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple
from urllib.parse import urlencode

from tests.api.harness import Api, Wire, until
from tests.messages import Reply

Protocol = Literal["json", "query"]
PROTOCOLS: tuple[Protocol, ...] = ("json", "query")

NAMESPACE = "{http://queue.amazonaws.com/doc/2012-11-05/}"

LISTS = {
    "AWSAccountIds": "AWSAccountId",
    "Actions": "ActionName",
    "AttributeNames": "AttributeName",
    "MessageAttributeNames": "MessageAttributeName",
    "MessageSystemAttributeNames": "MessageSystemAttributeName",
    "TagKeys": "TagKey",
}
MAPS = {
    "Attributes": ("Attribute", "Name"),
    "MessageAttributes": ("MessageAttribute", "Name"),
    "MessageSystemAttributes": ("MessageSystemAttribute", "Name"),
    "Tags": ("Tag", "Key"),
    "tags": ("Tag", "Key"),
}
"""What the Query protocol calls the members of lists and maps, and the keys of these."""

RESULT_LISTS = {
    "Message": "Messages",
    "SendMessageBatchResultEntry": "Successful",
    "DeleteMessageBatchResultEntry": "Successful",
    "ChangeMessageVisibilityBatchResultEntry": "Successful",
    "BatchResultErrorEntry": "Failed",
    "ListMessageMoveTasksResultEntry": "Results",
}
RESULT_MAPS = {member: (name, key) for name, (member, key) in MAPS.items() if name != "tags"}
NUMBERS = {
    "ApproximateNumberOfMessagesMoved",
    "ApproximateNumberOfMessagesToMove",
    "MaxNumberOfMessagesPerSecond",
    "StartedTimestamp",
}
WITHOUT_RESULT = {
    "AddPermission",
    "ChangeMessageVisibility",
    "DeleteMessage",
    "DeleteQueue",
    "PurgeQueue",
    "RemovePermission",
    "SetQueueAttributes",
    "TagQueue",
    "UntagQueue",
}

OF_NO_QUEUE = {
    "CancelMessageMoveTask",
    "CreateQueue",
    "GetQueueUrl",
    "ListMessageMoveTasks",
    "ListQueues",
    "StartMessageMoveTask",
}


class Refusal(NamedTuple):
    """An error as clients see it. type: as the JSON protocol has it, "" in the Query protocol; code: what botocore shows in both."""

    status: int
    code: str
    message: str
    type: str


# Writing.


def to_json(value: Any) -> Any:
    """An input as the JSON protocol has it."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dict):
        return {name: to_json(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(inner) for inner in value]
    return value


def to_pairs(action: str, given: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """An input as parameters of the Query protocol."""
    pairs: list[tuple[str, str]] = []
    for name, value in given.items():
        if name == "Entries":
            for number, entry in enumerate(value, 1):
                pairs += to_pairs(action, entry, f"{prefix}{action}RequestEntry.{number}.")
        elif name in LISTS:
            pairs += [(f"{prefix}{LISTS[name]}.{number}", item) for number, item in enumerate(value, 1)]
        elif name in MAPS:
            member, key = MAPS[name]
            for number, (of, item) in enumerate(value.items(), 1):
                pairs.append((f"{prefix}{member}.{number}.{key}", of))
                inner = f"{prefix}{member}.{number}.Value"
                pairs += to_pairs(action, item, f"{inner}.") if isinstance(item, dict) else [(inner, str(item))]
        elif isinstance(value, bytes):
            pairs.append((f"{prefix}{name}", base64.b64encode(value).decode()))
        else:
            pairs.append((f"{prefix}{name}", str(value).lower() if isinstance(value, bool) else str(value)))
    return pairs


# Reading.


def from_json(value: Any) -> Any:
    """A result of the JSON protocol, blobs as bytes."""
    if isinstance(value, dict):
        return {name: base64.b64decode(inner) if name == "BinaryValue" else from_json(inner) for name, inner in value.items()}
    return [from_json(inner) for inner in value] if isinstance(value, list) else value


def from_xml(element: ET.Element, many_urls: bool) -> Any:
    """A result of the Query protocol in the same form."""
    found: dict[str, Any] = {}
    for child in element:
        name, text = child.tag.removeprefix(NAMESPACE), child.text or ""
        assert child.tag.startswith(NAMESPACE), child.tag
        if name in RESULT_LISTS and len(child):
            found.setdefault(RESULT_LISTS[name], []).append(from_xml(child, many_urls))
        elif name in RESULT_MAPS:
            field, key = RESULT_MAPS[name]
            of, item = child.find(f"{NAMESPACE}{key}"), child.find(f"{NAMESPACE}Value")
            assert of is not None, name
            assert item is not None, name
            found.setdefault(field, {})[of.text] = from_xml(item, many_urls) if len(item) else item.text or ""
        elif name == "QueueUrl" and many_urls:
            found.setdefault("QueueUrls", []).append(text)
        elif name == "BinaryValue":
            found[name] = base64.b64decode(text)
        else:
            assert name not in found, name
            found[name] = int(text) if name in NUMBERS else text == "true" if name == "SenderFault" else text
    return found


def filled(action: str, found: dict[str, Any]) -> dict[str, Any]:
    """A batch's result with both its lists, of which an empty one is left out."""
    return {"Successful": [], "Failed": [], **found} if action.endswith("Batch") else found


class Sqs:
    """A client. prefix: where the dialect stands; url: of the queue that is meant where none is given; key: its access key id, as
    which it signs what it sends, though nobody looks at the signature.
    """

    def __init__(self, api: Api, protocol: Protocol, prefix: str = "/sqs") -> None:
        self.api = api
        self.protocol = protocol
        self.prefix = prefix
        self.url = ""
        self.key = ""

    def request(self, action: str, given: Mapping[str, Any], path: str | None = None, **headers: str) -> bytes:
        """A call's bytes. headers: with _ for -."""
        if self.protocol == "json":
            body = json.dumps(to_json(given)).encode()
            lines = {"X-Amz-Target": f"AmazonSQS.{action}", "Content-Type": "application/x-amz-json-1.0"}
        else:
            body = urlencode([("Action", action), ("Version", "2012-11-05"), *to_pairs(action, given)]).encode()
            lines = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
        if self.key:
            scope = "20270115/us-east-1/sqs/aws4_request"
            signature = f"Credential={self.key}/{scope}, SignedHeaders=host;x-amz-date, Signature={'0' * 64}"
            lines |= {"X-Amz-Date": "20270115T080000Z", "Authorization": f"AWS4-HMAC-SHA256 {signature}"}
        lines = {"Host": "test", **lines, **{name.replace("_", "-"): value for name, value in headers.items()}}
        head = [f"POST {self.prefix or '/' if path is None else path} HTTP/1.1", *(f"{name}: {value}" for name, value in lines.items())]
        return "\r\n".join([*head, f"Content-Length: {len(body)}", "", ""]).encode() + body

    def read(self, action: str, reply: Reply) -> Any:
        """What an answer says: a result, or a Refusal."""
        assert reply.headers["x-amzn-requestid"], reply
        if self.protocol == "json":
            assert reply.headers["content-type"] == "application/x-amz-json-1.0", reply
            said = json.loads(reply.body)
            if reply.status == 200:
                assert "x-amzn-query-error" not in reply.headers
                return filled(action, from_json(said))
            code, _, who = reply.headers["x-amzn-query-error"].partition(";")
            assert who == ("Sender" if reply.status < 500 else "Receiver"), reply
            assert list(said) == ["__type", "message"], reply
            space, _, kind = said["__type"].partition("#")
            assert space == "com.amazonaws.sqs", reply
            return Refusal(reply.status, code, said["message"], kind)
        assert reply.headers["content-type"] == "text/xml", reply
        root = ET.fromstring(reply.body)
        if reply.status == 200:
            assert root.tag == f"{NAMESPACE}{action}Response", reply
            parts = {part.tag.removeprefix(NAMESPACE): part for part in root}
            assert list(parts) == [f"{action}Result"] * (action not in WITHOUT_RESULT) + ["ResponseMetadata"], reply
            assert parts["ResponseMetadata"].findtext(f"{NAMESPACE}RequestId") == reply.headers["x-amzn-requestid"]
            if action in WITHOUT_RESULT:
                return {}
            found = from_xml(parts[f"{action}Result"], action in ("ListQueues", "ListDeadLetterSourceQueues"))
            if action == "ListDeadLetterSourceQueues":
                # The one list that the JSON protocol never leaves out beside those of batches, and which it writes otherwise.
                found["queueUrls"] = found.pop("QueueUrls", [])
            return filled(action, found)
        error = root.find(f"{NAMESPACE}Error")
        assert root.tag == f"{NAMESPACE}ErrorResponse", reply
        assert error is not None, reply
        assert root.findtext(f"{NAMESPACE}RequestId") == reply.headers["x-amzn-requestid"], reply
        assert error.findtext(f"{NAMESPACE}Type") == ("Sender" if reply.status < 500 else "Receiver"), reply
        code, message = (error.findtext(f"{NAMESPACE}{name}") for name in ("Code", "Message"))
        assert code, reply
        return Refusal(reply.status, code, message or "", "")

    def _given(self, action: str, given: dict[str, Any]) -> dict[str, Any]:
        if (
            "QueueUrl" in given
            or not self.url
            or action in ("CreateQueue", "GetQueueUrl", "ListQueues")
            or action.endswith(("Task", "Tasks"))
        ):
            return given
        return {"QueueUrl": self.url, **given}

    async def call(self, action: str, given: dict[str, Any] | None = None, path: str | None = None, **headers: str) -> Any:
        """One call on a connection of its own: a result, or a Refusal."""
        wire = await self.api.site.wire()
        reply = await wire.ask(self.request(action, self._given(action, given or {}), path, **headers))
        await wire.close()
        return self.read(action, reply)

    async def ask(self, action: str, **given: Any) -> Any:
        """The result of a call."""
        result = await self.call(action, given)
        assert not isinstance(result, Refusal), result
        return result

    async def refused(self, action: str, **given: Any) -> Refusal:
        """What is said against a call, which has changed nothing."""
        before = self.api.state()
        result = await self.call(action, given)
        assert isinstance(result, Refusal), result
        assert self.api.state() == before
        return result

    async def make(self, name: str, tags: dict[str, str] | None = None, **attributes: Any) -> str:
        """Make a queue, which is then the one that is meant; its URL."""
        if name.endswith(".fifo"):
            attributes.setdefault("FifoQueue", "true")
        given = {"Attributes": {of: str(value) for of, value in attributes.items()}} if attributes else {}
        made = await self.ask("CreateQueue", QueueName=name, **given, **({"tags": tags} if tags else {}))
        self.url = made["QueueUrl"]
        return self.url

    async def put(self, body: str = "x", **given: Any) -> Any:
        """Send a message; what is answered."""
        return await self.ask("SendMessage", MessageBody=body, **given)

    async def take(self, **given: Any) -> list[Any]:
        """Messages that are there."""
        found = await self.ask("ReceiveMessage", **given)
        assert found == {} or found["Messages"]
        return found.get("Messages", [])  # type: ignore[no-any-return]

    async def bodies(self, **given: Any) -> list[str]:
        """The bodies of messages that are there, up to ten."""
        return [message["Body"] for message in await self.take(**{"MaxNumberOfMessages": 10, **given})]

    async def attribute(self, name: str) -> str | None:
        """An attribute of the queue."""
        found = await self.ask("GetQueueAttributes", AttributeNames=[name])
        return found.get("Attributes", {}).get(name)  # type: ignore[no-any-return]

    async def counts(self) -> tuple[int, int, int]:
        """Messages that are visible, not visible, delayed."""
        names = [f"ApproximateNumberOfMessages{kind}" for kind in ("", "NotVisible", "Delayed")]
        found = (await self.ask("GetQueueAttributes", AttributeNames=names))["Attributes"]
        visible, hidden, delayed = (int(found[name]) for name in names)
        return visible, hidden, delayed

    async def hold(self, **given: Any) -> Held:
        """A receive that the server holds; returns once it stands in line."""
        standing = self.api.backend.totals().waiters
        wire = await self.api.site.wire()
        wire.send(self.request("ReceiveMessage", self._given("ReceiveMessage", given)))
        await until(lambda: self.api.backend.totals().waiters == standing + 1)
        return Held(self, wire)

    async def bury(self, count: int, source: str = "q", letters: str = "dead") -> str:
        """Have messages received too often, so that they are in a dead-letter queue, which is then the one that is meant; the URL of the
        queue that they come from.
        """
        await self.make(letters)
        policy = json.dumps({"deadLetterTargetArn": await self.attribute("QueueArn"), "maxReceiveCount": 1})
        url = await self.make(source, VisibilityTimeout=1, RedrivePolicy=policy)
        letters_url = url[: url.rindex("/") + 1] + letters
        for number in range(count):
            await self.put(f"m{number}")
        for _ in range(count):
            assert await self.take()
        await self.forward(2)
        self.url = letters_url
        assert await self.counts() == (count, 0, 0)
        return url

    async def moved(self, arn: str | None) -> Any:
        """A queue's last move task, once it is over."""
        while True:
            (task,) = (await self.ask("ListMessageMoveTasks", SourceArn=arn))["Results"]
            if task["Status"] != "RUNNING":
                return task

    async def forward(self, seconds: float) -> None:
        """Let time pass."""
        self.api.clock.advance(seconds)
        await asyncio.sleep(0)


class Held:
    """A receive that the server holds."""

    def __init__(self, sqs: Sqs, wire: Wire) -> None:
        self._sqs = sqs
        self._wire = wire

    async def messages(self) -> list[Any]:
        """What it is answered."""
        result = self._sqs.read("ReceiveMessage", await self._wire.reply())
        assert not isinstance(result, Refusal), result
        return result.get("Messages", [])  # type: ignore[no-any-return]
