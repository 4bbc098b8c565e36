"""`work --exec`: a command, in any language, as the handler of every job.

A shell runs the command in its own process group, with the payload on stdin and the rest of the job in its environment. Exit code 0 is
success, and stdout is the result; any other code is a failure, and the end of stderr is the error. The Worker handles leases, cancels,
time-outs and retries; an interruption arrives here as CancelledError, and the whole group is killed.

Processes are started by `subprocess` and not by the loop: uvloop leaves copies of the pipes open in a command, under higher numbers, so
that a background child with `>/dev/null 2>&1` would still hold them.
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
"""How much of stdout is kept: the default limit of a request, which contains the result."""

TAIL_BYTES = 3 * KIB
"""How much of the end of stderr is kept: little enough that with the exit code before it an error's message is not cut."""

LINE_BYTES_MAX = 8 * KIB
"""A longer line of stderr is logged in pieces."""

VARIABLE_BYTES_MAX = 32 * KIB
"""A longer error of the previous attempt is not passed on: systems limit the size of an environment."""

TERM_SECONDS = 1.0
"""From SIGTERM to SIGKILL; together with the steps after it, less than the two seconds that a Worker gives a handler to clean up."""

REAP_SECONDS = 0.5
"""How long to wait for a killed group's pipes to close; a process that left the group can hold them open."""

_check = msgspec.json.Decoder().decode
_logger = logging.getLogger("jobqueue.exec")


class CommandFailed(Exception):
    """The command ended with an exit code other than 0. Its text is the message of the job's error."""


def environment(job: RunningJob[Any]) -> dict[str, str]:
    """The variables that are added to the command's environment."""
    named: dict[str, object] = {
        "ID": job.id,
        "QUEUE": job.queue,
        "TYPE": job.type,
        "DESCRIPTION": job.description,
        "PRIORITY": job.priority,
        "ATTEMPT": job.attempts,
        "CREATED_AT": job.created_at.isoformat(),
        "WORKER": job.worker,
    }
    if job.error is not None and len(error := msgspec.json.encode(job.error)) <= VARIABLE_BYTES_MAX:
        named["LAST_ERROR"] = error.decode()
    # An environment cannot contain NUL, but an id can.
    given = {f"JOBQUEUE_JOB_{name}": "" if value is None else str(value).replace("\0", "\\x00") for name, value in named.items()}
    return {**os.environ, **given}


_running: set[int] = set()
"""The process groups of running commands."""


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
        # The loop waits for the fork, a few milliseconds at most; compared with a process for each job, a thread would save nothing.
        process = subprocess.Popen(  # noqa: ASYNC220
            command, shell=True, bufsize=0, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=environment(job), start_new_session=True
        )
        _running.add(process.pid)
        work = asyncio.ensure_future(_carry_through(process, job))
        try:
            code, output, tail = await asyncio.shield(work)
        except BaseException:
            # Usually a cancel; but after any error, no process of the command must be left running.
            await _kill(process, work)
            raise
        finally:
            _running.discard(process.pid)
        return _result(code, output, tail)

    return handlers


async def _carry_through(process: subprocess.Popen[bytes], job: RunningJob[Any]) -> tuple[int, bytes, bytes]:
    """Feed the process and read it until it has ended and both its outputs are closed. Returns exit code, stdout, and the end of stderr."""
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    output, tail = _Head(), _Tail(lambda line: _logger.info("%s: %s", plain(job.id), plain(line)))
    # With a line end, since `read` in a shell fails for a line without one.
    feeder = _Feeder(process.stdin, job.raw_payload + b"\n")
    readers = _Reader(process.stdout, output.add), _Reader(process.stderr, tail.add)
    try:
        code = await _exit_code(process)
        for reader in readers:
            await reader.closed
    finally:
        # A background child that has not read its input by now gets no more of it.
        feeder.close()
        for reader in readers:
            reader.close()
    tail.end()
    return code, bytes(output.data), bytes(tail.data)


def _exit_code(process: subprocess.Popen[bytes]) -> asyncio.Future[int]:
    """A process's exit code, once it has ended; a separate thread waits for it."""
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
    """Writes a process's input as fast as it is read. A command need not read its payload, so errors here are ignored."""

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
        """Close the pipe, if it is still open."""
        if not self._pipe.closed:
            self._loop.remove_writer(self._pipe.fileno())
            self._pipe.close()


class _Reader:
    """Reads a process's output. closed: done once no process can write to it any more."""

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
        """Stop reading, if that has not ended yet."""
        if not self._pipe.closed:
            self._loop.remove_reader(self._pipe.fileno())
            self._pipe.close()
        if not self.closed.done():
            self.closed.set_result(None)


class _Head:
    """The beginning of an output, up to one byte more than the limit, to detect that there was more."""

    def __init__(self) -> None:
        self.data = bytearray()

    def add(self, chunk: bytes) -> None:
        self.data += chunk[: OUTPUT_BYTES_MAX + 1 - len(self.data)]


class _Tail:
    """The end of an output; its lines are logged as they arrive."""

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
    """The attempt's result. Raises Retry for a failure, Discard for a result that cannot be reported."""
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
    """End the whole group: SIGTERM, and SIGKILL a little later, which also reaches processes that have closed their output."""
    try:
        _signal(process, signal.SIGTERM)
        await asyncio.wait([work], timeout=TERM_SECONDS)
    finally:
        # Also if a second cancel arrives meanwhile. Once the group is gone, its number could in theory be reused; but systems assign
        # numbers in order, so not within a second.
        _signal(process, signal.SIGKILL)
    await asyncio.wait([work], timeout=REAP_SECONDS)
    work.cancel()


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
