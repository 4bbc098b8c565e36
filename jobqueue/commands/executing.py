"""`work --exec`: a command, in whatever language, as the handler of every job.

The command is the shell's, runs in a process group of its own, has the payload on stdin and the rest of the job in its environment. Exit
code 0 is success and stdout the result; any other is a failure and the end of stderr the error. Leases, cancels, time-outs and retries
are the Worker's; here it only arrives as CancelledError, and the whole group is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Raw

from jobqueue.client.endings import MESSAGE_CHARS_MAX, Discard, Retry
from jobqueue.client.handlers import Registry
from jobqueue.client.running import RunningJob
from jobqueue.commands.output import plain
from jobqueue.limits import KIB, MIB

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


def registry(command: str) -> Registry:
    """Handlers that run the command for every job."""
    handlers = Registry()

    @handlers.handler()
    async def run(job: RunningJob[Any]) -> Any:
        process = await asyncio.create_subprocess_shell(
            command, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=environment(job), start_new_session=True
        )
        work = asyncio.ensure_future(_carry_through(process, job))
        try:
            code, output, tail = await asyncio.shield(work)
        except BaseException:
            # A cancel above all; but whatever it is, nothing of the command may be left running.
            await _kill(process, work)
            raise
        return _result(code, output, tail)

    return handlers


async def _carry_through(process: Process, job: RunningJob[Any]) -> tuple[int, bytes, bytes]:
    """Feed the process and read it until it has ended and both its outputs are closed: exit code, stdout, the end of stderr."""
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    output, tail = _Head(), _Tail(lambda line: _logger.info("%s: %s", plain(job.id), plain(line)))
    # A line end, since `read` in a shell takes a line without one for none.
    _, _, _, code = await asyncio.gather(
        _feed(process.stdin, job.payload_json + b"\n"), _read(process.stdout, output.add), _read(process.stderr, tail.add), process.wait()
    )
    tail.end()
    return code, bytes(output.data), bytes(tail.data)


_UNREAD = (BrokenPipeError, ConnectionResetError, RuntimeError)
"""What writing to a command raises that does not read its payload, or has ended already: RuntimeError is what uvloop says then."""


async def _feed(stdin: asyncio.StreamWriter, data: bytes) -> None:
    with contextlib.suppress(*_UNREAD):
        stdin.write(data)
        await stdin.drain()
    with contextlib.suppress(*_UNREAD):
        stdin.close()
        await stdin.wait_closed()


async def _read(stream: asyncio.StreamReader, add: Callable[[bytes], None]) -> None:
    while chunk := await stream.read(64 * KIB):
        add(chunk)


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


async def _kill(process: Process, work: asyncio.Future[Any]) -> None:
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


def _signal(process: Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
