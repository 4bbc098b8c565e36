"""SQS as moto serves it, through boto3: send_message, send_message_batch; receive_message with a long poll, delete_message_batch."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import boto3

from bench.peers.marks import handled

ABREAST = 1
NAME = "bench"
BATCH_MAX = 10


def _client(address: str) -> tuple[Any, str]:
    client = boto3.client("sqs", endpoint_url=address, region_name="us-east-1", aws_access_key_id="bench", aws_secret_access_key="bench")
    return client, client.create_queue(QueueName=NAME)["QueueUrl"]


class _Producer:
    def __init__(self, client: Any, url: str) -> None:
        self.client, self.url = client, url

    async def one(self, payload: str) -> None:
        self.client.send_message(QueueUrl=self.url, MessageBody=payload)

    async def many(self, payload: str, count: int) -> None:
        for start in range(0, count, BATCH_MAX):
            entries = [{"Id": str(number), "MessageBody": payload} for number in range(min(BATCH_MAX, count - start))]
            self.client.send_message_batch(QueueUrl=self.url, Entries=entries)


@contextlib.asynccontextmanager
async def producer(address: str) -> AsyncIterator[_Producer]:
    """A client."""
    yield _Producer(*_client(address))


def work(address: str) -> None:
    """Ten at a time, the most that SQS hands out."""
    client, url = _client(address)
    while True:
        messages = client.receive_message(QueueUrl=url, MaxNumberOfMessages=BATCH_MAX, WaitTimeSeconds=20).get("Messages", [])
        entries = []
        for number, message in enumerate(messages):
            handled(message["Body"])
            entries.append({"Id": str(number), "ReceiptHandle": message["ReceiptHandle"]})
        if entries:
            client.delete_message_batch(QueueUrl=url, Entries=entries)
