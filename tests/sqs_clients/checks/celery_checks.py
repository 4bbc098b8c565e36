"""Celery workers on the server: 200 tasks, one worker killed in the middle of a task, one stopped warm. Each task is done, none is lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import boto3
import pytest
from kit import Program, lines, until

TASKS = 200


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, queue_name: str) -> Path:
    monkeypatch.setenv("CHECKS_FOLDER", str(tmp_path))
    monkeypatch.setenv("CHECKS_QUEUE", queue_name)
    return tmp_path


def worker(start: Callable[..., Program], name: str, wait: int, queue: str, concurrency: int = 2) -> Program:
    return start(
        *("celery", "-A", "celery_app", "worker", "-c", str(concurrency), "-l", "info", "-n", f"{name}@%h", "-Q", queue),
        *("--without-gossip", "--without-mingle", "--without-heartbeat"),
        CHECKS_WORKER=name,
        CHECKS_WAIT=str(wait),
    )


def test_two_hundred_tasks_through_a_kill_and_a_warm_stop(start: Callable[..., Program], folder: Path, queue_name: str) -> None:
    """A worker dies by kill -9 with tasks begun and others prefetched; one is stopped warm with many left; a third does the rest.

    The third waits up to 20 s in a receive, as long as kombu's own HTTP time-out is. It is idle for that time, and then still there.
    """
    import celery_app

    for number in range(TASKS):
        celery_app.work.apply_async((number,), queue=queue_name)

    killed = worker(start, "killed", 20, queue_name)
    until(lambda: len(lines(folder / "begun")) >= 2, "the first worker has begun two tasks")
    killed.kill()
    begun = {int(line.split()[0]) for line in lines(folder / "begun")}
    assert not lines(folder / "done")

    warm = worker(start, "warm", 10, queue_name)
    until(lambda: len(lines(folder / "done")) >= TASKS // 4, "the second worker has done a quarter")
    assert warm.stop() == 0, warm.said()[-3000:]
    after_stop = len(lines(folder / "done"))
    assert after_stop < TASKS, "it was stopped with work left"

    last = worker(start, "last", 20, queue_name)
    until(lambda: {int(line) for line in lines(folder / "done")} >= set(range(TASKS)), "every task is done")
    assert begun <= {int(line) for line in lines(folder / "done")}

    counted = boto3.client("sqs")
    url = counted.get_queue_url(QueueName=queue_name)["QueueUrl"]
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible", "ApproximateNumberOfMessagesDelayed"]
    until(
        lambda: set(counted.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"].values()) == {"0"},
        "the queue is empty",
    )
    assert last.stop() == 0
    for program in (warm, last):
        assert "Traceback" not in program.said(), program.said()[-6000:]


@pytest.mark.parametrize("wait", [10, 20])
def test_a_task_for_a_worker_that_has_waited_long(start: Callable[..., Program], folder: Path, queue_name: str, wait: int) -> None:
    """A worker whose receives came back empty, or ran into kombu's time-out of 20 s, takes the next task; a retry comes with its delay."""
    import celery_app

    idle = worker(start, "idle", wait, queue_name, concurrency=1)
    until(lambda: " ready." in idle.said(), "the worker is ready")
    celery_app.fails_once.apply_async((1,), queue=queue_name)
    until(lambda: lines(folder / "done") == ["1"], "the first task is done, at its second try")
    assert lines(folder / "tried") == ["1", "1"]

    requests = boto3.client("sqs")
    url = requests.get_queue_url(QueueName=queue_name)["QueueUrl"]
    # Nobody but the worker receives: a message that is due after its longest wait shows that it has asked again.
    celery_app.work.apply_async((2,), queue=queue_name, DelaySeconds=wait + 2)
    told = requests.get_queue_attributes(QueueUrl=url, AttributeNames=["ApproximateNumberOfMessagesDelayed"])
    assert told["Attributes"] == {"ApproximateNumberOfMessagesDelayed": "1"}
    until(lambda: lines(folder / "done") == ["1", "2"], "the task that came later is done")

    assert idle.stop() == 0
    assert "Traceback" not in idle.said(), idle.said()[-6000:]
