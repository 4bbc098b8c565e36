"""Verbs whose output nobody reads any more, as in `jobqueue list | head`."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator

import pytest

from jobqueue import Client, NewJob

GUARD = 30.0

Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def unread() -> Iterator[int]:
    """The writing end of a pipe that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    yield writing
    os.close(writing)


@pytest.mark.parametrize(
    "line",
    [
        "list",
        "list --all --json",
        "get job-1",
        "get job-1 --json",
        "why job-1",
        "logs job-0",
        "queues",
        "queues default --json",
        "policy default",
        "keys default",
        "stats",
        "stats --json",
        "tasks",
        "top --interval 0.1",
        "dequeue --queue other",
        "group list",
        "schedule list",
        "workers",
        "completion bash",
        "--help",
        "list --help",
        "--version",
    ],
)
def test_what_prints_ends_quietly_when_nobody_reads(line: str, spawn: Start, client: Client, unread: int) -> None:
    """The exit code is 0 and stderr stays empty: whoever closed the pipe has what it wanted."""
    client.enqueue_batch([NewJob(number, id=f"job-{number}") for number in range(3)])
    client.enqueue(1, id="job-9", queue="other")
    job = client.dequeue(wait=0)
    assert job is not None
    client.conclude(job.id, job.lease.token, "succeeded", log=["a line"])
    process = spawn(*line.split(), stdout=unread)
    assert (process.communicate(timeout=GUARD)[1], process.returncode) == (b"", 0)


def test_what_is_asked_for_many_is_done_when_nobody_reads(spawn: Start, client: Client, unread: int) -> None:
    """A closed pipe does not keep the second job from being cancelled, nor the last line from being enqueued."""
    client.enqueue_batch([NewJob(number, id=f"job-{number}") for number in range(3)])
    process = spawn("cancel", "job-0", "nope", "job-1", "job-2", stdout=unread, stderr=unread)
    assert process.wait(GUARD) == 1
    assert [client.job(f"job-{number}").outcome for number in range(3)] == ["cancelled"] * 3
    process = spawn("enqueue", "--ndjson", "-", "--json", "--queue", "many", stdout=unread)
    process.communicate(b"".join(b"%d\n" % number for number in range(2_500)), timeout=GUARD)
    assert (process.returncode, client.queue("many").queued) == (0, 2_500)
    assert spawn("pause", "many", "default", stdout=unread).wait(GUARD) == 0
    assert [queue.policy.paused for queue in client.queues() if queue.name != "other"] == [True, True]


def test_a_server_that_is_not_there_is_told_of_when_nobody_reads(spawn: Start, unread: int) -> None:
    """Only the end of the reader is no error; any other keeps its exit code."""
    process = spawn("get", "nope", stdout=unread)
    assert (process.communicate(timeout=GUARD)[1].split(b":")[1], process.returncode) == (b" unknown_job", 3)
