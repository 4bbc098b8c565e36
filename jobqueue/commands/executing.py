"""`work --exec`: a command, in whatever language, as the handler of every job.

The command is the shell's, runs in a process group of its own, has the payload on stdin and the rest of the job in its environment. Exit
code 0 is success and stdout the result; any other is a failure and the end of stderr the error. Leases, cancels, time-outs and retries
are the Worker's; here it only arrives as CancelledError, and the whole group is killed.

Processes are started by `subprocess` and not by the loop: uvloop's leaves copies of the pipes open in a command, under higher numbers, so
that a background child that was told `>/dev/null 2>&1` held them all the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
import threading
from collections.abc import Callable
from subprocess import PIPE
from typing import IO, Any

import msgspec
from msgspec import Raw

from jobqueue.commands.output import plain
from jobqueue.limits import KIB, MIB
from jobqueue.worker.endings import MESSAGE_CHARS_MAX, Discard, Retry
from jobqueue.worker.handlers import Registry
from jobqueue.worker.running import RunningJob
from jobqueue.worker.shutdown import before_leaving

OUTPUT_BYTES_MAX = MIB
"""What is kept of stdout: as much as a request may hold by default, of which a result may be a part."""

TAIL_BYTES = 3 * KIB
"""What is kept of the end of stderr, so that with the exit code before it none of an error's message is cut."""

LINE_BYTES_MAX = 8 * KIB
"""A longer line of stderr is logged in pieces."""

VARIABLE_BYTES_MAX = 32 * KIB
"""A longer error of the attempt before is not handed on: systems bound what an environment holds."""

TERM_SECONDS = 1.0
"""From SIGTERM to SIGKILL; with what follows, less than the two seconds a Worker gives a handler to clean up."""

REAP_SECONDS = 0.5
"""How long to wait for a killed group's pipes to close; a process that left the group may hold them."""

_check = msgspec.json.Decoder().decode
_logger = logging.getLogger("jobqueue.exec")


class CommandFailed(Exception):
    """The command ended otherwise than with 0. Its text is the message of the job's error."""


def environment(job: RunningJob[Any]) -> dict[str, str]:
    """What the command finds in its environment, beside the worker's own."""
    named: dict[str, object] = {
        "ID": job.id,
        "QUEUE": job.queue,
        "TYPE": job.type,
        "DESCRIPTION": job.description,
        "PRIORITY": job.priority,
        "ATTEMPT": job.attempts,
        "CREATED_AT": job.enqueued_at.isoformat(),
        "WORKER": job.worker,
    }
    if job.last_error is not None and len(error := msgspec.json.encode(job.last_error)) <= VARIABLE_BYTES_MAX:
        named["LAST_ERROR"] = error.decode()
    # An environment cannot hold NUL, an id can.
    given = {f"JOBQUEUE_JOB_{name}": "" if value is None else str(value).replace("\0", "\\x00") for name, value in named.items()}
    return {**os.environ, **given}


_running: set[int] = set()
"""The process groups of commands that run."""


def _kill_all() -> None:
    for group in list(_running):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)


def registry(command: str) -> Registry:
    """Handlers that run the command for every job."""
    handlers = Registry()
    before_leaving(_kill_all)

    @handlers.handler()
    async def run(job: RunningJob[Any]) -> Any:
        # The loop waits for the fork, a few milliseconds at most; a thread would make no difference to a job that is a process.
        process = subprocess.Popen(  # noqa: ASYNC220
            command, shell=True, bufsize=0, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=environment(job), start_new_session=True
        )
        _running.add(process.pid)
        work = asyncio.ensure_future(_carry_through(process, job))
        try:
            code, output, tail = await asyncio.shield(work)
        except BaseException:
            # A cancel above all; but whatever it is, nothing of the command may be left running.
            await _kill(process, work)
            raise
        finally:
            _running.discard(process.pid)
        return _result(code, output, tail)

    return handlers


async def _carry_through(process: subprocess.Popen[bytes], job: RunningJob[Any]) -> tuple[int, bytes, bytes]:
    """Feed the process and read it until it has ended and both its outputs are closed: exit code, stdout, the end of stderr."""
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    output, tail = _Head(), _Tail(lambda line: _logger.info("%s: %s", plain(job.id), plain(line)))
    # A line end, since `read` in a shell takes a line without one for none.
    feeder = _Feeder(process.stdin, job.payload_json + b"\n")
    readers = _Reader(process.stdout, output.add), _Reader(process.stderr, tail.add)
    try:
        code = await _exit_code(process)
        for reader in readers:
            await reader.closed
    finally:
        # What a child in the background has not read by now is read by nobody.
        feeder.close()
        for reader in readers:
            reader.close()
    tail.end()
    return code, bytes(output.data), bytes(tail.data)


def _exit_code(process: subprocess.Popen[bytes]) -> asyncio.Future[int]:
    """A process's exit code, once it has ended; it is waited for in a thread of its own."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[int] = loop.create_future()

    def tell(code: int) -> None:
        if not ended.done():
            ended.set_result(code)

    def wait() -> None:
        code = process.wait()
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(tell, code)

    threading.Thread(target=wait, name="jobqueue-command", daemon=True).start()
    return ended


class _Feeder:
    """Writes to a process what it is to read, as it reads. A command need not read its payload, so what goes wrong here is no fault."""

    def __init__(self, pipe: IO[bytes], data: bytes) -> None:
        self._loop = asyncio.get_running_loop()
        self._pipe = pipe
        self._data = memoryview(data)
        os.set_blocking(pipe.fileno(), False)
        self._loop.add_writer(pipe.fileno(), self._write)

    def _write(self) -> None:
        try:
            self._data = self._data[os.write(self._pipe.fileno(), self._data) :]
        except BlockingIOError:
            return
        except OSError:
            self._data = self._data[:0]
        if not self._data:
            self.close()

    def close(self) -> None:
        """Let go of the pipe, if that is still to be done."""
        if not self._pipe.closed:
            self._loop.remove_writer(self._pipe.fileno())
            self._pipe.close()


class _Reader:
    """Reads what a process writes. closed: done once nobody can write any more."""

    def __init__(self, pipe: IO[bytes], add: Callable[[bytes], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._pipe = pipe
        self._add = add
        self.closed: asyncio.Future[None] = self._loop.create_future()
        os.set_blocking(pipe.fileno(), False)
        self._loop.add_reader(pipe.fileno(), self._read)

    def _read(self) -> None:
        try:
            chunk = os.read(self._pipe.fileno(), 64 * KIB)
        except BlockingIOError:
            return
        if chunk:
            self._add(chunk)
        else:
            self.close()

    def close(self) -> None:
        """Read no more, if there still was anything to read."""
        if not self._pipe.closed:
            self._loop.remove_reader(self._pipe.fileno())
            self._pipe.close()
        if not self.closed.done():
            self.closed.set_result(None)


class _Head:
    """The beginning of an output, one byte more than may be used, so that it is known when there was more."""

    def __init__(self) -> None:
        self.data = bytearray()

    def add(self, chunk: bytes) -> None:
        self.data += chunk[: OUTPUT_BYTES_MAX + 1 - len(self.data)]


class _Tail:
    """The end of an output; its lines are told as they come."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.data = bytearray()
        self._line = bytearray()
        self._tell = tell

    def add(self, chunk: bytes) -> None:
        self.data += chunk
        del self.data[:-TAIL_BYTES]
        *ended, last = chunk.split(b"\n")
        for piece in ended:
            self._line += piece
            self.end()
        self._line += last
        while len(self._line) > LINE_BYTES_MAX:
            self._tell(self._line[:LINE_BYTES_MAX].decode("utf-8", "replace"))
            del self._line[:LINE_BYTES_MAX]

    def end(self) -> None:
        if self._line:
            self._tell(self._line.decode("utf-8", "replace"))
            self._line.clear()


def _result(code: int, output: bytes, tail: bytes) -> Any:
    """What the attempt came to. Raises Retry for a failure, Discard for a result that cannot be handed in."""
    if code:
        raise Retry from CommandFailed(_message(code, tail))
    if len(output) > OUTPUT_BYTES_MAX:
        raise Discard(f"the command wrote more than {OUTPUT_BYTES_MAX} bytes to stdout, too much for a result")
    text = output.strip()
    if not text:
        return None
    try:
        _check(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return output.decode("utf-8", "replace").removesuffix("\n")
    return Raw(text)


def _message(code: int, tail: bytes) -> str:
    ended = f"killed by signal {-code} ({signal.strsignal(-code)})" if code < 0 else f"exit code {code}"
    text = tail.decode("utf-8", "replace").strip()
    return f"{ended}: {text}"[:MESSAGE_CHARS_MAX] if text else ended


async def _kill(process: subprocess.Popen[bytes], work: asyncio.Future[Any]) -> None:
    """End the whole group: SIGTERM, and SIGKILL a little later, which also whoever has let go of its output gets."""
    try:
        _signal(process, signal.SIGTERM)
        await asyncio.wait([work], timeout=TERM_SECONDS)
    finally:
        # Also if a second cancel comes meanwhile. Once the group is gone its number could in theory be another's by now; systems hand
        # numbers out in turn, so not within a second.
        _signal(process, signal.SIGKILL)
    await asyncio.wait([work], timeout=REAP_SECONDS)
    work.cancel()


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
