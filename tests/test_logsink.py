"""Logging never waits: a log that nobody reads is bounded, what is dropped is counted, and what is read has no gap without a word."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Iterator

import pytest

from jobqueue.logsink import LogSink
from jobqueue.process.logs import JsonFormatter

PIPE_BYTES = 1 << 20


class Pipe:
    """A pipe with a sink at its end."""

    def __init__(self, waiting_bytes_max: int = 10_000) -> None:
        self.out, self.into = os.pipe()
        self.sink = LogSink(self.into, waiting_bytes_max)
        self.logger = logging.Logger("jobqueue.test")
        self.logger.addHandler(self.sink)
        self.read = b""

    def fill(self) -> None:
        """Leave no room in the pipe, as a reader that went to sleep long ago."""
        os.set_blocking(self.into, False)
        try:
            while True:
                os.write(self.into, b"\n" * 4_096)
        except BlockingIOError:
            os.set_blocking(self.into, True)

    def until(self, text: bytes) -> str:
        """What is read up to a text."""
        while text not in self.read:
            self.read += os.read(self.out, PIPE_BYTES)
        return self.read.decode()

    def close(self) -> None:
        for descriptor in (self.out, self.into):
            os.close(descriptor)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    made.close()


def test_lines_come_out_whole_and_in_order(pipe: Pipe) -> None:
    """What is logged is written, each line once, and after a flush it is there."""
    for number in range(300):
        pipe.logger.warning("line %d \udc80", number)
    pipe.sink.flush()
    found = pipe.until(b"line 299").splitlines()
    assert [line.split()[1] for line in found] == [str(number) for number in range(300)]
    assert pipe.sink.dropped_total == 0


def test_who_logs_does_not_wait_for_who_reads(pipe: Pipe) -> None:
    """With a pipe that is full every line is taken or dropped at once; once it is read, a line says how many are missing."""
    pipe.fill()
    pipe.sink.setFormatter(JsonFormatter())
    for number in range(1_000):
        pipe.logger.warning("line %d", number)
    dropped = pipe.sink.dropped_total
    assert 500 < dropped < 1_000
    found = [json.loads(line) for line in pipe.until(b"are missing").splitlines() if line]
    kept = [line["message"] for line in found[:-1]]
    assert kept == [f"line {number}" for number in range(1_000 - dropped)]
    assert found[-1]["message"] == f"{dropped} lines of this log are missing, since nothing read it"
    assert (found[-1]["level"], found[-1]["logger"]) == ("warning", "jobqueue.log")
    pipe.logger.warning("again")
    pipe.until(b"again")
    assert pipe.sink.dropped_total == dropped


def test_a_line_longer_than_the_bound_goes_alone(pipe: Pipe) -> None:
    """A traceback is not lost for its length."""
    pipe.logger.warning("x" * 20_000)
    assert pipe.until(b"\n").count("x") == 20_000


def test_a_reader_that_is_gone_is_nobody(pipe: Pipe) -> None:
    """A pipe whose other end is closed costs the lines, which are counted, and nothing else."""
    os.close(pipe.out)
    pipe.logger.warning("a")
    pipe.sink.flush()
    assert pipe.sink.dropped_total == 1
    pipe.out = os.open(os.devnull, os.O_RDONLY)


def test_a_pipe_made_non_blocking_by_somebody_else(pipe: Pipe) -> None:
    """Who shares the open file may set it so; lines wait for room all the same."""
    pipe.fill()
    os.set_blocking(pipe.into, False)
    pipe.logger.warning("late")
    pipe.until(b"late")
    assert pipe.sink.dropped_total == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_process_logs_too(pipe: Pipe) -> None:
    """It has none of its parent's threads, and does not say again what its parent has yet to say."""
    pipe.fill()
    pipe.logger.warning("parent's")
    child = os.fork()
    if not child:
        os.set_blocking(pipe.into, True)
        pipe.logger.warning("child's")
        threading.Event().wait()
    try:
        text = pipe.until(b"child's")
        text = pipe.until(b"parent's")
        assert (text.count("parent's"), text.count("child's")) == (1, 1)
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
