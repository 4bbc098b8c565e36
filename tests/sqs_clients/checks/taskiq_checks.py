"""A taskiq worker on the server, by way of taskiq-aio-sqs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from aiobotocore.session import get_session
from kit import Program, lines, until

TASKS = 40


def test_tasks_are_done(start: Callable[..., Program], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, queue_name: str) -> None:
    """Every task that is sent, at once, in a batch or with a delay, is done by the worker, and the queue is empty."""
    monkeypatch.setenv("CHECKS_FOLDER", str(tmp_path))
    monkeypatch.setenv("CHECKS_QUEUE", queue_name)
    import taskiq_app

    async def queue() -> None:
        async with get_session().create_client("sqs") as sqs:
            await sqs.create_queue(QueueName=queue_name)

    async def send() -> None:
        await taskiq_app.broker.startup()
        for number in range(TASKS):
            await taskiq_app.work.kiq(number)
        await taskiq_app.work.kicker().with_labels(delay=1).kiq(TASKS)
        await taskiq_app.broker.shutdown()

    async def left() -> list[str]:
        names = [f"ApproximateNumberOfMessages{kind}" for kind in ("", "NotVisible", "Delayed")]
        async with get_session().create_client("sqs") as sqs:
            url = (await sqs.get_queue_url(QueueName=queue_name))["QueueUrl"]
            return list((await sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names))["Attributes"].values())

    asyncio.run(queue())
    worker = start("taskiq", "worker", "taskiq_app:broker", "--workers", "1")
    asyncio.run(send())

    until(lambda: len(set(lines(tmp_path / "done"))) == TASKS + 1, "all tasks are done")
    assert sorted(int(line) for line in lines(tmp_path / "done")) == list(range(TASKS + 1))
    until(lambda: asyncio.run(left()) == ["0", "0", "0"], "the queue is empty")
    assert worker.stop() == 0
    assert "Traceback" not in worker.said()
