"""What boto3 sends again when an answer gets lost on its way: nothing is made twice, and nothing received is lost."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.config import Config

ADDRESS = urlsplit(boto3.client("sqs").meta.endpoint_url)


class Proxy:
    """Hands requests on to the server, one a connection, and keeps every other answer for itself: the connection ends instead."""

    def __init__(self) -> None:
        self.lost = 0
        self._answers = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client, socket.create_connection((ADDRESS.hostname, ADDRESS.port)) as server:
                server.sendall(self._message(client, server))
                answer = self._message(server, client)
                self._answers += 1
                if self._answers % 2:
                    self.lost += 1
                else:
                    client.sendall(answer)

    def _message(self, source: socket.socket, other: socket.socket) -> bytes:
        """A whole request or answer, whose Content-Length says how long it is, told to end its connection after it."""
        found = b""
        while b"\r\n\r\n" not in found:
            found += self._more(source)
        head, _, body = found.partition(b"\r\n\r\n")
        length = next(int(line.partition(b":")[2]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
        while len(body) < length:
            body += self._more(source)
        return head + b"\r\nConnection: close\r\n\r\n" + body

    @staticmethod
    def _more(source: socket.socket) -> bytes:
        more = source.recv(65536)
        if not more:
            raise ConnectionError("it ended in the middle of a message")
        return more

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    begun = Proxy()
    yield begun
    begun.close()


@pytest.mark.parametrize("mode", ["legacy", "standard"])
def test_every_other_answer_is_lost(proxy: Proxy, queue_name: str, mode: str) -> None:
    """Each call is made twice, since its first answer never came, and counts once: for sends, batches, receives, deletes."""
    config = Config(retries={"mode": mode, "max_attempts": 4})
    sqs: Any = boto3.client("sqs", endpoint_url=f"http://127.0.0.1:{proxy.port}{ADDRESS.path}", config=config)
    name = f"{queue_name}-{mode}"
    sqs.create_queue(QueueName=name)
    straight: Any = boto3.client("sqs")
    url = straight.get_queue_url(QueueName=name)["QueueUrl"]
    names = [f"ApproximateNumberOfMessages{kind}" for kind in ("", "NotVisible", "Delayed")]

    def counts() -> list[int]:
        told = straight.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
        return [int(told[name]) for name in names]

    for n in range(5):
        sqs.send_message(QueueUrl=url, MessageBody=str(n))
    assert counts() == [5, 0, 0]
    sqs.send_message_batch(QueueUrl=url, Entries=[{"Id": str(n), "MessageBody": str(n)} for n in range(5, 10)])
    assert counts() == [10, 0, 0]

    # The second try is given what the first one was: nothing lies hidden until its time is over.
    taken = []
    for given in (1, 10):
        taken += sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=given, AttributeNames=["All"], VisibilityTimeout=600)["Messages"]
    while len(taken) < 10:
        taken += sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, AttributeNames=["All"], VisibilityTimeout=600)["Messages"]
    assert sorted(int(one["Body"]) for one in taken) == list(range(10))
    assert {one["Attributes"]["ApproximateReceiveCount"] for one in taken} == {"1"}
    assert counts() == [0, 10, 0]

    sqs.delete_message(QueueUrl=url, ReceiptHandle=taken[0]["ReceiptHandle"])
    entries = [{"Id": str(n), "ReceiptHandle": one["ReceiptHandle"]} for n, one in enumerate(taken) if n]
    assert len(sqs.delete_message_batch(QueueUrl=url, Entries=entries)["Successful"]) == 9
    assert counts() == [0, 0, 0]
    assert proxy.lost >= 11
