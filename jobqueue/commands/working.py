"""The command work: a Worker as a process, with handlers from a module, or with a command as its only handler."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import click

from jobqueue.commands.exits import Exit
from jobqueue.commands.options import TIME, Failure, Where, connect, trusting, usage, verb
from jobqueue.commands.output import Output
from jobqueue.errors import QueueError
from jobqueue.process import logs

if TYPE_CHECKING:
    from jobqueue.worker.worker import Worker


@verb(
    "work",
    click.argument("module", metavar="[MODULE[:WORKER]]", required=False),
    click.option("--exec", "command", metavar="COMMAND", help="Run this for each job, instead of a module's handlers."),
    click.option("-q", "--queue", "queues", multiple=True, metavar="NAME", help="A queue; several in order of preference. [default]"),
    click.option(
        "-c", "--concurrency", type=click.IntRange(1, 10_000), metavar="N", help="Jobs that run at the same time. [16; with --exec 1]"
    ),
    click.option("--timeout", type=TIME, help="Time limit for a job, unless its handler sets one. [no limit]"),
    click.option("--lease", type=TIME, help="Length of a lease: after it, a dead worker's jobs go to another. [30s]"),
    click.option("--grace", type=TIME, help="Time that running jobs have to finish after SIGTERM. [30s]"),
    click.option("--unhandled", type=TIME, help="How long to release a job without a handler here, before it fails for good. [1h]"),
    click.option("--burst", is_flag=True, default=None, help="Stop when the queues are empty and all handlers are done."),
    click.option("--max-jobs", type=click.IntRange(1), metavar="N", help="Stop after N jobs. [no limit]"),
    click.option(
        "--max-jobs-per-process",
        type=click.IntRange(1),
        metavar="N",
        help='Stop a process of handlers with executor="process" after N jobs, and start a fresh one. [no limit]',
    ),
    click.option("--name", metavar="NAME", help="Shown with the jobs. [host and process id]"),
    click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info", show_default=True),
    connects=False,
    trusts=True,
)
def work_command(where: Where, output: Output, module: str | None, command: str | None, log_level: str, **given: Any) -> int:
    """Run jobs, with Python handlers or with a command.

    MODULE is a Python module, as package.module. WORKER is a Worker in it; without it, the Worker named worker, or all handlers that
    are registered with jobqueue.handler. Options override the settings of the Worker.

    COMMAND is a shell command line. It reads the payload on stdin, as JSON, and has JOBQUEUE_JOB_ID, _QUEUE, _TYPE, _ATTEMPT and
    more in its environment. Exit code 0: the job succeeded, and its result is what the command printed. Any other exit code: the job
    failed, and its error is the end of stderr. The lease is extended while the command runs; after a cancel or a timeout the
    command is killed with all its children.

    \b
    Examples:
      jobqueue work tasks --concurrency 32 --queue mail --queue default
      jobqueue work --exec 'jq -r .url | xargs curl -sf' --queue fetch --timeout 30s

    On SIGTERM and Ctrl-C the worker takes no more jobs, gives running jobs the grace period to finish, and releases the rest.
    A second signal ends the grace period, a third one ends the worker.
    """
    if (module is None) is (command is None):
        usage("give either a module or --exec COMMAND")
    connect(where).close()  # a wrong URL is reported at once, before a module is imported
    logs.set_up(log_level, "json" if output.as_json else "console")
    names = {"lease": "lease_seconds", "grace": "grace_seconds", "unhandled": "unhandled_seconds"}
    options = {names.get(name, name): value for name, value in given.items() if value not in (None, ())}
    if where.ca_file is not None:
        options["ssl_context"] = trusting(where.ca_file)
    url = _surroundings(where)
    try:
        worker = _commanded(url, command, options) if command is not None else _imported(module or "", url, where.told, options)
    except ValueError as error:
        usage(str(error))
    # A QueueError here is the server's refusal.
    try:
        worker.run()
    except SystemExit:
        refusal = worker.error
        if not isinstance(refusal, QueueError):
            raise
        # The log already shows it for people.
        logs.flush()
        if output.as_json:
            output.problem(refusal.code, refusal.detail, refusal.field)
        return Exit.REFUSED
    finally:
        # The reason is printed last, after everything that was logged.
        logs.flush()
    if output.as_json:
        output.json(worker.counts)
    return Exit.DONE


def _surroundings(where: Where) -> str:
    """The servers' URLs, separated by commas. They and the token are put into the environment, so that handlers and commands find them."""
    from jobqueue.client.endpoint import Endpoint

    url = os.environ["JOBQUEUE_URL"] = ",".join(endpoint.url for endpoint in Endpoint.find(where.url, where.token))
    if where.token is not None:
        os.environ["JOBQUEUE_TOKEN"] = where.token
    return url


def _commanded(url: str, command: str, options: dict[str, Any]) -> Worker:
    from jobqueue.commands.executing import registry
    from jobqueue.worker.worker import Worker

    # No jobs taken ahead: a job that would wait behind a slow command should go to an idle worker.
    return Worker(url, handlers=registry(command), **{"concurrency": 1, "prefetch": 0, **options})


def _imported(module: str, url: str, told: bool, options: dict[str, Any]) -> Worker:
    from jobqueue.worker.handlers import HandlersError, load_handlers
    from jobqueue.worker.worker import Worker

    try:
        handlers = load_handlers(module)
    except HandlersError as error:
        raise Failure(str(error), code="no_handlers", exit_code=Exit.USAGE) from None
    worker = Worker(url, handlers=handlers, **options)
    made = _worker_of(module)
    if made is None:
        return worker
    if told or not isinstance(made.source, str | list | tuple):
        made.source = url
    for name in options:
        setattr(made, name, getattr(worker, name))
    return made


def _worker_of(module: str) -> Worker | None:
    """The Worker that load_handlers found, if it was one."""
    from jobqueue.worker.worker import Worker

    path, _, attribute = module.partition(":")
    found: Any = sys.modules[path]
    for part in (attribute or "worker").split("."):
        found = getattr(found, part, None)
    return found if isinstance(found, Worker) else None
