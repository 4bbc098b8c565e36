"""The verb enqueue: one job, or a stream of them."""

from __future__ import annotations

import contextlib
import math
import os
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click
import msgspec

from jobqueue.commands.exits import Exit
from jobqueue.commands.options import TIME, WAIT, Failure, usage, verb
from jobqueue.commands.output import Output
from jobqueue.commands.payloads import read_payload
from jobqueue.errors import QueueError
from jobqueue.model import DEFAULT_QUEUE

if TYPE_CHECKING:
    from jobqueue.client.sync_client import Client

_NAMES = {"job_id": "id", "job_type": "type", "lease": "lease_seconds"}
"""Options whose names are not the fields', since Python has the others."""


class When(click.ParamType):  # type: ignore[type-arg] # as Duration
    """An instant: RFC 3339, as 2027-01-31T08:00:00Z; without a zone, this machine's."""

    name = "when"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """A datetime with a zone."""
        if isinstance(value, datetime):
            return value
        try:
            return datetime.fromisoformat(value).astimezone()
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is not a time; write 2027-01-31T08:00:00Z, or without the Z for this machine's zone", param, ctx)


@verb(
    "enqueue",
    click.argument("payload", required=False),
    click.option("-f", "--file", metavar="PATH", help="Read the payload from this file; - is stdin."),
    click.option("--text", is_flag=True, help="The payload is a plain string, not JSON."),
    click.option("-q", "--queue", default=DEFAULT_QUEUE, show_default=True, metavar="NAME", help="The queue."),
    click.option("-t", "--type", "job_type", metavar="NAME", help="The type, by which workers find its handler."),
    click.option("--id", "job_id", metavar="ID", help="An id of your own: a repeat finds the job that is there."),
    click.option("--key", metavar="KEY", help="What it is about: order, limits and fairness are by key."),
    click.option("--description", metavar="TEXT", help="For people."),
    click.option("--priority", type=click.IntRange(0, 9), default=5, show_default=True, help="0 is the most urgent."),
    click.option("--delay", type=TIME, help="Not before that much time has passed."),
    click.option("--run-at", type=When(), help="Not before this time, as 2027-01-31T08:00:00Z."),
    click.option("--expires-in", type=TIME, help="Drop it if no worker has taken it by then."),
    click.option("--max-attempts", type=click.IntRange(1), metavar="N", help="Attempts before a failure is final."),
    click.option("--lease", type=TIME, help="How long a worker's lease on it holds."),
    click.option("--wait", type=WAIT, help="How long to wait for the result, which is printed; or forever."),
    click.option("--ndjson", metavar="PATH", help="Submit a job for each line of this file; - is stdin."),
    click.option("--id-prefix", metavar="TEXT", help="With --ndjson: line N gets the id TEXTN. Repeating the command makes no job twice."),
    click.option("--items", is_flag=True, help="With --ndjson: lines are whole jobs, objects with payload, id, queue and so on."),
)
def enqueue_command(
    client: Client, output: Output, payload: str | None, file: str | None, text: bool, wait: float | None, ndjson: str | None, items: bool,
    id_prefix: str | None, **fields: Any,
) -> int:  # fmt: skip
    """Submit a job, or many from a file or a stream.

    PAYLOAD is JSON, or any string with --text. Without it, the payload is read from --file or from stdin. What is printed is the
    job's id; with --wait the job's result.

    \b
    Examples:
      jobqueue enqueue '{"to": "ada@example.org"}' --queue mail --type welcome
      jobqueue enqueue --text hello --delay 5m
      jobqueue enqueue --file order.json --wait 30s
      zcat jobs.ndjson.gz | jobqueue enqueue --ndjson - --queue import

    With --ndjson a line that is refused is reported by its number, the others are submitted, and the exit code is 1. When it ends halfway,
    the error says with which --id-prefix the same command goes on without making a job twice.
    """
    asked = {_NAMES.get(name, name): value for name, value in fields.items()}
    if asked["delay"] is not None and asked["run_at"] is not None:
        usage("give --delay or --run-at, not both")
    if ndjson is None:
        if items:
            usage("--items goes with --ndjson")
        if id_prefix is not None:
            usage("--id-prefix goes with --ndjson")
        with _reading():
            value = read_payload(payload, file, text)
        return _one(client, output, value, wait, asked)
    if payload is not None or file is not None or text or wait is not None or asked["id"] is not None:
        usage("--ndjson takes its jobs from the lines: no payload, --file, --text, --wait or --id beside it")
    del asked["id"]
    return _many(client, output, ndjson, items, id_prefix, asked)


@contextlib.contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Failure(f"{error.filename or 'stdin'} cannot be read: {error.strerror}", code="unreadable", exit_code=Exit.ERROR) from None


def _one(client: Client, output: Output, payload: Any, wait: float | None, asked: dict[str, Any]) -> int:
    enqueued = client.enqueue(payload, **asked)
    if wait is None:
        if output.as_json:
            output.json(enqueued)
        elif output.terminal and not enqueued.created:
            output.line(f"{enqueued.id}  was there already")
        else:
            output.line(enqueued.id)
        return Exit.DONE
    if sys.stderr.isatty():
        # For who waits, before anything can go wrong with it; the errors below name the job too.
        output.note(f"job {enqueued.id}")
    try:
        return wait_for(client, output, enqueued.id, wait)
    except QueueError as error:
        error.detail += f"; job {enqueued.id} was enqueued and goes on"
        raise


def wait_for(client: Client, output: Output, job_id: str, wait: float) -> int:
    """Print the result of a job once there is one, or with --json the job as it is in the end."""
    job = client.job(job_id, wait=wait)
    if output.as_json:
        output.json(job)
    if job.outcome is None:
        seconds = "" if math.isinf(wait) else f" within {wait:g} s"
        raise Failure(f"job {job_id} has not concluded{seconds}; it goes on", code="wait_timeout", exit_code=Exit.NOTHING)
    if job.outcome != "succeeded":
        from jobqueue.client.problems import JobFailed

        raise Failure(JobFailed(job).detail, code="job_failed", exit_code=Exit.UNSUCCESSFUL)
    if not output.as_json:
        output.json(job.raw_result)
    return Exit.DONE


def _many(client: Client, output: Output, path: str, items: bool, given: str | None, asked: dict[str, Any]) -> int:
    from jobqueue.commands.streaming import enqueue_lines, lines

    # Ids that can be made again: whoever repeats the command after it ended halfway must not submit twice what was submitted.
    prefix = f"{os.urandom(8).hex()}-" if given is None else given

    stream: IO[bytes] = sys.stdin.buffer
    if path != "-":
        with _reading():
            stream = Path(path).open("rb")  # noqa: SIM115 # closed by the stack below
    done = refused = 0
    with contextlib.ExitStack() as stack:
        if path != "-":
            stack.callback(stream.close)
        read, advance = stack.enter_context(_progress(output, stream))
        try:
            for number, answer in enqueue_lines(client, lines(stream, read), items, asked, prefix):
                if isinstance(answer, QueueError):
                    refused += 1
                    _refused(output, number, answer)
                else:
                    done += 1
                    if output.as_json:
                        # An id that we just made up was nobody's before: an earlier try of the same batch brought it in.
                        ours = given is None and answer.id == f"{prefix}{number}"
                        output.json(msgspec.structs.replace(answer, created=True) if ours else answer)
                advance(1)
        except QueueError as error:
            error.detail += f"; {done} jobs were submitted before. The same command with --id-prefix {prefix} makes no job twice"
            raise
    if not output.as_json:
        output.line(f"{done} jobs submitted" + (f", {refused} lines refused" if refused else ""))
    return Exit.ERROR if refused else Exit.DONE


def _refused(output: Output, number: int, error: QueueError) -> None:
    if output.as_json:
        output.problem(error.code, error.detail, error.field, line=number)
    else:
        output.note(f"line {number}: {error.code}: {error.detail}")


@contextlib.contextmanager
def _progress(output: Output, stream: IO[bytes]) -> Iterator[tuple[Callable[[int], None], Callable[[int], None]]]:
    """A bar on stderr, if that is a terminal: what is to be told of bytes read and of jobs answered."""
    if output.as_json or not sys.stderr.isatty():
        yield (lambda _: None), (lambda _: None)
        return
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
    from rich.text import Text

    class Rate(ProgressColumn):
        """Jobs a second so far."""

        def render(self, task: Task) -> Text:
            return Text(f"{task.fields['jobs'] / task.elapsed:,.0f}/s" if task.elapsed else "", style="dim")

    jobs = size = 0
    with contextlib.suppress(OSError, ValueError):
        size = os.fstat(stream.fileno()).st_size  # 0 for a pipe: its end is not known
    with Progress(
        TextColumn("{task.fields[jobs]:,} jobs"), BarColumn(), Rate(), TimeElapsedColumn(), console=output.errors, transient=True
    ) as bar:
        task = bar.add_task("", total=size or None, jobs=0)

        def answered(count: int) -> None:
            nonlocal jobs
            jobs += count
            bar.update(task, jobs=jobs)

        yield (lambda count: bar.advance(task, count)), answered
