"""The command enqueue: one job, or a stream of jobs."""

from __future__ import annotations

import contextlib
import math
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click
import msgspec

from jobqueue.commands import pairs, uniqueness
from jobqueue.commands.exits import Exit
from jobqueue.commands.options import TIME, WAIT, WHEN, Failure, failure_of, usage, verb
from jobqueue.commands.output import Output
from jobqueue.commands.payloads import read_payload
from jobqueue.commands.shapes import counted
from jobqueue.errors import Forbidden, QueueError
from jobqueue.model import DEFAULT_QUEUE

if TYPE_CHECKING:
    from jobqueue.client.sync_client import Client

_NAMES = {"job_id": "id", "job_type": "type", "lease": "lease_seconds"}
"""Options whose parameter names differ from the fields', because Python already uses the fields' names."""


@verb(
    "enqueue",
    click.argument("payload", required=False),
    click.option("-f", "--file", metavar="PATH", help="Read the payload from this file; - is stdin."),
    click.option("--text", is_flag=True, help="The payload is a plain string, not JSON."),
    click.option("-q", "--queue", default=DEFAULT_QUEUE, show_default=True, metavar="NAME", help="The queue."),
    click.option("-t", "--type", "job_type", metavar="NAME", help="The type, which selects the worker's handler."),
    click.option("--id", "job_id", metavar="ID", help="Your own id: a repetition returns the existing job."),
    click.option("--key", metavar="KEY", help="The key for order, limits and fairness."),
    click.option("--tag", "tags", multiple=True, metavar="TAG", help="A word to find the job by; can be repeated."),
    pairs.HEADERS,
    *uniqueness.OPTIONS,
    click.option("--after", multiple=True, metavar="ID", help="Wait until this job has ended; can be repeated."),
    click.option(
        "--after-failure",
        type=click.Choice(["cancel", "run", "hold"]),
        default="cancel",
        show_default=True,
        help="What to do if one of the --after jobs does not succeed.",
    ),
    click.option("--group", metavar="ID", help="The group that the job joins."),
    click.option("--description", metavar="TEXT", help="A text for people."),
    click.option("--priority", type=click.IntRange(0, 9), default=5, show_default=True, help="0 is the most urgent."),
    click.option("--delay", type=TIME, help="Do not start the job before this time has passed."),
    click.option("--run-at", type=WHEN, help="Do not start the job before this time, as 2027-01-31T08:00:00Z."),
    click.option("--expires-in", type=TIME, help="Drop the job if no worker has taken it by then."),
    click.option("--max-attempts", type=click.IntRange(1), metavar="N", help="Attempts before a failure is final."),
    click.option("--lease", type=TIME, help="The length of a worker's lease on the job."),
    click.option("--wait", type=WAIT, help="Wait this long for the result and print it; or forever."),
    click.option("--ndjson", metavar="PATH", help="Submit a job for each line of this file; - is stdin."),
    click.option("--id-prefix", metavar="TEXT", help="With --ndjson: line N gets the id TEXTN, so a repetition makes no job twice."),
    click.option("--items", is_flag=True, help="With --ndjson: lines are whole jobs, objects with payload, id, queue and so on."),
)
def enqueue_command(
    client: Client, output: Output, payload: str | None, file: str | None, text: bool, wait: float | None, ndjson: str | None, items: bool,
    id_prefix: str | None, **fields: Any,
) -> int:  # fmt: skip
    """Submit a job, or many jobs from a file or a stream.

    PAYLOAD is JSON, or any string with --text. Without it, the payload is read from --file or from stdin. Prints the job's id. With --wait,
    the id is printed on stderr at once, and the result on stdout when there is one.

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
    if asked["after_failure"] != "cancel" and not asked["after"]:
        usage("--after-failure goes with --after")
    uniqueness.take_unique(asked)
    pairs.take_headers(asked)
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
            output.line(f"{enqueued.id}  existed already")
        else:
            output.line(enqueued.id)
        return Exit.DONE
    # Printed first, before anything can go wrong with the wait; the errors below name the job too.
    output.note(f"job {enqueued.id}")
    try:
        return wait_for(client, output, enqueued.id, wait)
    except Forbidden as error:
        told = f"job {enqueued.id} was enqueued and continues, but its result cannot be shown: {error.detail}"
        raise failure_of(error, output, told, enqueued.id) from None
    except QueueError as error:
        raise failure_of(error, output, f"{error.detail}; job {enqueued.id} was enqueued and continues", enqueued.id) from None


def wait_for(client: Client, output: Output, job_id: str, wait: float) -> int:
    """Print the result of a job once there is one, or with --json the concluded job."""
    job = client.job(job_id, wait=wait)
    if output.as_json:
        output.json(job)
    if job.outcome is None:
        seconds = "" if math.isinf(wait) else f" within {wait:g} s"
        told = f"job {job_id} has not concluded{seconds}; it continues"
        raise Failure(told, code="wait_timeout", exit_code=Exit.NOTHING, job_id=job_id)
    if job.outcome != "succeeded":
        from jobqueue.client.problems import JobFailed

        raise Failure(JobFailed(job).detail, code="job_failed", exit_code=Exit.UNSUCCESSFUL, job_id=job_id)
    if not output.as_json:
        output.json(job.raw_result)
    return Exit.DONE


def _many(client: Client, output: Output, path: str, items: bool, given: str | None, asked: dict[str, Any]) -> int:
    from jobqueue.commands.streaming import enqueue_lines, lines

    # Reproducible ids: if the command ended halfway and is repeated, it must not submit the same jobs twice.
    prefix = f"{os.urandom(8).hex()}-" if given is None else given

    stream: IO[bytes] = sys.stdin.buffer
    if path != "-":
        with _reading():
            stream = Path(path).open("rb")  # noqa: SIM115 # closed by the stack below
    done = refused = 0
    output.acts = True
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
                        # Nobody else had an id that we just made, so an earlier try of the same batch made the job.
                        ours = given is None and answer.id == f"{prefix}{number}"
                        output.json(msgspec.structs.replace(answer, created=True) if ours else answer)
                advance(1)
        except QueueError as error:
            before = f"{counted(done, 'job')} {'was' if done == 1 else 'were'} submitted before"
            error.detail += f"; {before}. The same command with --id-prefix {prefix} makes no job twice"
            raise
    if not output.as_json:
        output.line(f"{counted(done, 'job')} submitted" + (f", {counted(refused, 'line')} refused" if refused else ""))
    return Exit.ERROR if refused else Exit.DONE


def _refused(output: Output, number: int, error: QueueError) -> None:
    if output.as_json:
        output.problem(error.code, error.detail, error.field, line=number)
    else:
        output.note(f"line {number}: {error.code}: {error.detail}")


@contextlib.contextmanager
def _progress(output: Output, stream: IO[bytes]) -> Iterator[tuple[Callable[[int], None], Callable[[int], None]]]:
    """A progress bar on stderr, if that is a terminal; yields functions to call with the bytes read and the jobs answered."""
    if output.as_json or not sys.stderr.isatty():
        yield (lambda _: None), (lambda _: None)
        return
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
    from rich.text import Text

    class Rate(ProgressColumn):
        """Jobs per second so far."""

        def render(self, task: Task) -> Text:
            return Text(f"{task.fields['jobs'] / task.elapsed:,.0f}/s" if task.elapsed else "", style="dim")

    jobs = size = 0
    with contextlib.suppress(OSError, ValueError):
        size = os.fstat(stream.fileno()).st_size  # 0 for a pipe, whose length is not known
    with Progress(
        TextColumn("{task.fields[jobs]:,} jobs"), BarColumn(), Rate(), TimeElapsedColumn(), console=output.errors, transient=True
    ) as bar:
        task = bar.add_task("", total=size or None, jobs=0)

        def answered(count: int) -> None:
            nonlocal jobs
            jobs += count
            bar.update(task, jobs=jobs)

        yield (lambda count: bar.advance(task, count)), answered
