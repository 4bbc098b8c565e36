"""A dramatiq worker on the server, by way of dramatiq-sqs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import boto3
import pytest
from kit import Program, lines, until

MESSAGES = 60


def test_work_retries_and_dead_letters(
    start: Callable[..., Program], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, queue_name: str
) -> None:
    """Every message is worked on; what fails is tried again after its delay, then put into the dead-letter queue; the worker ends well."""
    monkeypatch.setenv("CHECKS_FOLDER", str(tmp_path))
    monkeypatch.setenv("CHECKS_QUEUE", queue_name)
    import dramatiq_app

    for number in range(MESSAGES):
        dramatiq_app.work.send(number)
    dramatiq_app.fails.send(-1)
    dramatiq_app.work.send_with_options(args=(MESSAGES,), delay=2000)

    worker = start("dramatiq", "dramatiq_app", "--processes", "1", "--threads", "4")
    until(lambda: len(set(lines(tmp_path / "done"))) == MESSAGES + 1, "all messages are worked on")
    until(lambda: lines(tmp_path / "tried") == ["-1", "-1"], "what failed was tried again")
    sqs = boto3.client("sqs")
    dead = sqs.get_queue_url(QueueName=f"{queue_name}_default_dlq")["QueueUrl"]
    (message,) = sqs.receive_message(QueueUrl=dead, WaitTimeSeconds=20)["Messages"]
    sqs.delete_message(QueueUrl=dead, ReceiptHandle=message["ReceiptHandle"])

    assert sorted(int(line) for line in lines(tmp_path / "done")) == list(range(MESSAGES + 1))
    assert worker.stop() == 0
    url = sqs.get_queue_url(QueueName=f"{queue_name}_default")["QueueUrl"]
    assert sqs.list_queue_tags(QueueUrl=url)["Tags"] == {"made-by": "dramatiq"}
    dramatiq_app.broker.join("default", timeout=20_000)
