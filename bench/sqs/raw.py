"""SQS in bytes: connections that each send, receive and delete, one request after the other; requests are built as bytes, and of an
answer no more is read than what is needed for the next.

Answers come in every shape that HTTP allows: with a length, in chunks, or up to the end of the connection, which is opened anew then.
"""

from __future__ import annotations

import asyncio
import json
import socket
import time
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from bench.process import BenchError

BODY = "m" * 200
"""Of every message."""

CREDENTIAL = (
    "AWS4-HMAC-SHA256 Credential=bench/20260101/us-east-1/sqs/aws4_request, SignedHeaders=host;x-amz-date;x-amz-target, "
    "Signature=0000000000000000000000000000000000000000000000000000000000000000"
)
_BIG = 1 << 20


class Target(NamedTuple):
    """A queue of a server."""

    port: int
    path: str
    queue_url: str

    def request(self, action: str, body: dict[str, Any]) -> bytes:
        """One request."""
        content = json.dumps({"QueueUrl": self.queue_url, **body}, separators=(",", ":")).encode()
        return encode(self.port, self.path, action, content)


def encode(port: int, path: str, action: str, content: bytes) -> bytes:
    """A request as bytes, with the headers that botocore sends."""
    lines = (
        f"POST {path} HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        "Accept-Encoding: identity",
        f"X-Amz-Target: AmazonSQS.{action}",
        "Content-Type: application/x-amz-json-1.0",
        "User-Agent: bench/1",
        "X-Amz-Date: 20260101T000000Z",
        f"Authorization: {CREDENTIAL}",
        f"Content-Length: {len(content)}",
    )
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


class Parsed(NamedTuple):
    """An answer: whether its connection ends with it."""

    status: int
    body: bytes
    closes: bool


def parse(data: bytes, ended: bool) -> Parsed | None:
    """The answer that the data is, None if there is more to come. ended: no more will."""
    head_end = data.find(b"\r\n\r\n")
    if head_end < 0:
        return None
    head = data[:head_end].lower()
    status, rest = int(data[9:12]), data[head_end + 4 :]
    closes = b"connection: close" in head or head.startswith(b"http/1.0")
    if (at := head.find(b"\r\ncontent-length:")) >= 0:
        length = int(head[at + 17 : head.find(b"\r\n", at + 2) if head.find(b"\r\n", at + 2) >= 0 else len(head)])
        return Parsed(status, rest[:length], closes) if len(rest) >= length else None
    if b"\r\ntransfer-encoding: chunked" in head:
        body = _joined(rest)
        return None if body is None else Parsed(status, body, closes)
    return Parsed(status, rest, True) if ended else None


def _joined(chunks: bytes) -> bytes | None:
    parts, at = [], 0
    while (line_end := chunks.find(b"\r\n", at)) >= 0:
        size = int(chunks[at:line_end].split(b";")[0], 16)
        at = line_end + 2 + size + 2
        if len(chunks) < at:
            return None
        if not size:
            return b"".join(parts)
        parts.append(chunks[line_end + 2 : at - 2])
    return None


def ok(answer: Parsed, action: str) -> Any:
    """The answer's JSON. Raises BenchError for an error."""
    if answer.status != 200:
        raise BenchError(f"{action} was answered {answer.status} {answer.body[:300]!r}")
    return json.loads(answer.body) if answer.body.strip() else {}


class Blocking:
    """One connection, used one request at a time, for measuring how long something takes."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._socket: socket.socket | None = None

    def send(self, data: bytes) -> None:
        """Send a request."""
        if self._socket is None:
            self._socket = socket.create_connection(("127.0.0.1", self.port))
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket.settimeout(60)
        self._socket.sendall(data)

    def receive(self) -> Parsed:
        """Wait for its answer."""
        assert self._socket is not None
        data = b""
        while True:
            more = self._socket.recv(_BIG)
            data += more
            if (answer := parse(data, not more)) is not None:
                if answer.closes:
                    self.close()
                return answer
            if not more:
                raise BenchError(f"the server closed the connection after {data[:200]!r}")

    def ask(self, data: bytes, action: str) -> Any:
        """The JSON that a request is answered with."""
        self.send(data)
        return ok(self.receive(), action)

    def close(self) -> None:
        """Close it."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def make_queue(port: int, url: str, name: str) -> Target:
    """A queue, FIFO if it is called so."""
    path = urlsplit(url).path or "/"
    connection = Blocking(port)
    attributes = {"Attributes": {"FifoQueue": "true"}} if name.endswith(".fifo") else {}
    content = json.dumps({"QueueName": name, **attributes}).encode()
    made = connection.ask(encode(port, path, "CreateQueue", content), "CreateQueue")
    connection.close()
    return Target(port, path, made["QueueUrl"])


class _Connection:
    """The same for many at once."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, data: bytes, action: str) -> Any:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port, limit=_BIG)
        reader, writer = self._streams
        writer.write(data)
        found = b""
        while True:
            more = await reader.read(_BIG)
            found += more
            if (answer := parse(found, not more)) is not None:
                if answer.closes:
                    self.close()
                return ok(answer, action)
            if not more:
                raise BenchError(f"the server closed the connection after {found[:200]!r}")

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


class Load:
    """Connections that send, receive and delete until a time is over. batch: how many at a time; fifo: the queue keeps an order, and each
    connection has a message group.
    """

    def __init__(self, target: Target, batch: int, fifo: bool = False) -> None:
        self.target, self.batch, self.fifo = target, batch, fifo
        self.deleted = 0
        self._sent = 0

    def _send(self, group: str) -> tuple[str, bytes]:
        terms: list[dict[str, Any]] = []
        for _ in range(self.batch):
            self._sent += 1
            more = {"MessageGroupId": group, "MessageDeduplicationId": f"{group}-{self._sent}"} if self.fifo else {}
            terms.append({"MessageBody": BODY, **more})
        if self.batch == 1:
            return "SendMessage", self.target.request("SendMessage", terms[0])
        entries = [{"Id": str(number), **entry} for number, entry in enumerate(terms)]
        return "SendMessageBatch", self.target.request("SendMessageBatch", {"Entries": entries})

    def _delete(self, handles: list[str]) -> tuple[str, bytes]:
        if len(handles) == 1 and self.batch == 1:
            return "DeleteMessage", self.target.request("DeleteMessage", {"ReceiptHandle": handles[0]})
        entries = [{"Id": str(number), "ReceiptHandle": handle} for number, handle in enumerate(handles)]
        return "DeleteMessageBatch", self.target.request("DeleteMessageBatch", {"Entries": entries})

    async def _one(self, number: int, until: float) -> None:
        connection = _Connection(self.target.port)
        plain = self._send("") if not self.fifo else None
        receive = self.target.request("ReceiveMessage", {"MaxNumberOfMessages": self.batch, "WaitTimeSeconds": 1})
        while time.monotonic() < until:
            action, data = plain or self._send(f"g{number}")
            await self._checked(connection, action, data)
            missing = self.batch
            while missing > 0:
                messages = (await connection.ask(receive, "ReceiveMessage")).get("Messages", [])
                if not messages:
                    # Others have received what this connection sent, and it some of theirs; none is left over in all.
                    break
                action, data = self._delete([message["ReceiptHandle"] for message in messages])
                await self._checked(connection, action, data)
                self.deleted += len(messages)
                missing -= len(messages)
        connection.close()

    async def _checked(self, connection: _Connection, action: str, data: bytes) -> None:
        answer = await connection.ask(data, action)
        if answer.get("Failed"):
            raise BenchError(f"{action} has failed for {answer['Failed'][0]}")

    async def run(self, connections: int, seconds: float) -> tuple[int, float]:
        """How many messages went through, and in how many seconds."""
        began = time.monotonic()
        self.deleted = 0
        await asyncio.gather(*(self._one(number, began + seconds) for number in range(connections)))
        return self.deleted, time.monotonic() - began

    async def fill(self, connections: int, messages: int, seconds: float) -> int:
        """Send so many, or as many as can be sent in the time; how many."""
        began, left = time.monotonic(), messages
        action, data = self._send("")
        sent = 0

        async def one() -> None:
            nonlocal left, sent
            connection = _Connection(self.target.port)
            while left > 0 and time.monotonic() < began + seconds:
                left -= self.batch
                await self._checked(connection, action, data)
                sent += self.batch
            connection.close()

        await asyncio.gather(*(one() for _ in range(connections)))
        return sent
