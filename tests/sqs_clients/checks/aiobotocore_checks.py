"""aiobotocore: many receives held in one process, cancelled ones that lose nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiobotocore.session import get_session

CONSUMERS = 30
MESSAGES = 120


def test_many_consumers_of_one_process(queue_name: str) -> None:
    """Thirty consumers wait and share what is sent; each message is received once, deleted by batch, and the queue is empty."""

    async def consume(sqs: Any, url: str, got: list[str]) -> None:
        while True:
            answer = await sqs.receive_message(QueueUrl=url, WaitTimeSeconds=20, MaxNumberOfMessages=3)
            messages = answer.get("Messages", [])
            got += [message["Body"] for message in messages]
            entries = [{"Id": str(n), "ReceiptHandle": message["ReceiptHandle"]} for n, message in enumerate(messages)]
            if entries:
                deleted = await sqs.delete_message_batch(QueueUrl=url, Entries=entries)
                assert len(deleted["Successful"]) == len(entries)

    async def whole() -> None:
        from aiobotocore.config import AioConfig

        async with get_session().create_client("sqs", config=AioConfig(max_pool_connections=CONSUMERS + 5)) as sqs:
            url = (await sqs.create_queue(QueueName=queue_name))["QueueUrl"]
            got: list[str] = []
            consumers = [asyncio.create_task(consume(sqs, url, got)) for _ in range(CONSUMERS)]
            for tens in range(MESSAGES // 10):
                entries = [{"Id": str(n), "MessageBody": f"{tens * 10 + n}"} for n in range(10)]
                assert len((await sqs.send_message_batch(QueueUrl=url, Entries=entries))["Successful"]) == 10
            names = [f"ApproximateNumberOfMessages{kind}" for kind in ("", "NotVisible", "Delayed")]
            async with asyncio.timeout(60):
                while set((await sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names))["Attributes"].values()) != {"0"}:
                    assert not any(consumer.done() for consumer in consumers)
                    await asyncio.sleep(0.05)
            for consumer in consumers:
                assert not consumer.done(), consumer.exception()
                consumer.cancel()
            await asyncio.gather(*consumers, return_exceptions=True)
            assert sorted(map(int, got)) == list(range(MESSAGES))

    asyncio.run(whole())


def test_a_cancelled_receive_loses_nothing(queue_name: str) -> None:
    """Receives that are cancelled while they wait, as by a time-out, take no message with them."""

    async def whole() -> None:
        async with get_session().create_client("sqs") as sqs:
            url = (await sqs.create_queue(QueueName=queue_name))["QueueUrl"]
            for n in range(10):
                waiting = asyncio.create_task(sqs.receive_message(QueueUrl=url, WaitTimeSeconds=20))
                done, _ = await asyncio.wait({waiting}, timeout=0.05)
                assert not done
                waiting.cancel()
                await asyncio.gather(waiting, return_exceptions=True)
                await sqs.send_message(QueueUrl=url, MessageBody=str(n))
                (message,) = (await sqs.receive_message(QueueUrl=url, WaitTimeSeconds=20))["Messages"]
                assert message["Body"] == str(n)
                await sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])

    asyncio.run(whole())


def test_errors_are_the_clients_own(queue_name: str) -> None:
    """The exceptions of the client's model, as in botocore."""

    async def whole() -> None:
        async with get_session().create_client("sqs") as sqs:
            with pytest.raises(sqs.exceptions.QueueDoesNotExist):
                await sqs.get_queue_url(QueueName=queue_name)
            url = (await sqs.create_queue(QueueName=queue_name))["QueueUrl"]
            with pytest.raises(sqs.exceptions.ReceiptHandleIsInvalid):
                await sqs.delete_message(QueueUrl=url, ReceiptHandle="garbage")

    asyncio.run(whole())
