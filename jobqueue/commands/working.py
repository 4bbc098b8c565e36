"""The verb work: a Worker as a process, with handlers from a module or a command as its only one."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import click

from jobqueue.commands.exits import Exit
from jobqueue.commands.options import TIME, Failure, Where, connect, usage, verb
from jobqueue.commands.output import Output
from jobqueue.process import logs

if TYPE_CHECKING:
    from jobqueue.worker.worker import Worker


@verb(
    "work",
    click.argument("module", metavar="[MODULE[:WORKER]]", required=False),
    click.option("--exec", "command", metavar="COMMAND", help="Run this for each job, instead of a module's handlers."),
    click.option("-q", "--queue", "queues", multiple=True, metavar="NAME", help="A queue; several in order of preference. [default]"),
    click.option("-c", "--concurrency", type=click.IntRange(1, 10_000), metavar="N", help="Jobs at once. [16; with --exec 1]"),
    click.option("--timeout", type=TIME, help="How long a job may take, where its handler says nothing. [no limit]"),
    click.option("--lease", type=TIME, help="How soon the jobs of a worker that died go to another. [30s]"),
    click.option("--grace", type=TIME, help="Time that running jobs get to finish on SIGTERM. [30s]"),
    click.option("--unhandled", type=TIME, help="How long a job that no handler is for is given back, before it fails for good. [1h]"),
    click.option("--name", metavar="NAME", help="Shown with the jobs. [host and process id]"),
    click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info", show_default=True),
    connects=False,
)
def work_command(where: Where, output: Output, module: str | None, command: str | None, log_level: str, **given: Any) -> int:
    """Work on jobs, by Python handlers or by a command.

    MODULE is a Python module, as package.module; WORKER a Worker in it, else the one named worker, else all that were registered with
    jobqueue.handler. What the Worker was made with counts unless an option says otherwise.

    COMMAND is a line of the shell. It has the payload on stdin, as JSON, and JOBQUEUE_JOB_ID, _QUEUE, _TYPE, _ATTEMPT and more in its
    environment. Exit code 0: the job succeeded, and what was printed is its result. Any other: it failed, and the end of stderr is its
    error. While it runs its lease is extended; on a cancel or a time-out it is killed with all its children.

    \b
    Examples:
      jobqueue work tasks --concurrency 32 --queue mail --queue default
      jobqueue work --exec 'jq -r .url | xargs curl -sf' --queue fetch --timeout 30s

    SIGTERM and Ctrl-C: no more jobs are taken, those that run finish within the grace period, the rest is given back. A second signal
    ends the grace period, a third one the worker.
    """
    if (module is None) is (command is None):
        usage("give a module or --exec COMMAND, and not both")
    connect(where).close()  # a bad URL is told at once, and before a module is imported
    logs.set_up(log_level, "json" if output.as_json else "console")
    names = {"lease": "lease_seconds", "grace": "grace_seconds", "unhandled": "unhandled_seconds"}
    options = {names.get(name, name): value for name, value in given.items() if value not in (None, ())}
    url = _surroundings(where)
    try:
        worker = _commanded(url, command, options) if command is not None else _imported(module or "", url, where.told, options)
    except ValueError as error:
        usage(str(error))
    # A QueueError out of it is what the server refused.
    try:
        worker.run()
    finally:
        # What ended it is said after all that was logged.
        logs.flush()
    if output.as_json:
        output.json(worker.counts)
    return Exit.DONE


def _surroundings(where: Where) -> str:
    """The servers' URLs, with commas between them. They and the token go into the environment, so that handlers and commands find them."""
    from jobqueue.client.endpoint import Endpoint

    url = os.environ["JOBQUEUE_URL"] = ",".join(endpoint.url for endpoint in Endpoint.find(where.url, where.token))
    if where.token is not None:
        os.environ["JOBQUEUE_TOKEN"] = where.token
    return url


def _commanded(url: str, command: str, options: dict[str, Any]) -> Worker:
    from jobqueue.commands.executing import registry
    from jobqueue.worker.worker import Worker

    # None ahead: a job that waits behind a slow command is better off with an idle worker.
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
