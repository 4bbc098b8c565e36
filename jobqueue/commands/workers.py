"""The command workers, which has subcommands: list, quiet, resume. Without one it lists."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from jobqueue.commands.options import verb
from jobqueue.commands.output import Column, Output
from jobqueue.commands.shapes import counted, span, status_style, utc_now

if TYPE_CHECKING:
    from jobqueue.client.sync_client import Client
    from jobqueue.client.worker_types import WorkerInfo

_COLUMNS = (
    Column("WORKER", cut=24),
    Column("STATE", keep=9, style=status_style),
    Column("LEASES", right=True),
    Column("AT ONCE", keep=4, right=True),
    Column("QUEUES", keep=7, cut=24),
    Column("HOST", keep=5, cut=24),
    Column("VERSION", keep=3, cut=16),
    Column("UP", keep=3, right=True),
    Column("SEEN", keep=6, right=True),
)


class _Listing(click.Group):
    """A group that runs list if no subcommand is given."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0].startswith("-") and args[0] not in ("-h", "--help")):
            args = ["list", *args]
        return super().parse_args(ctx, args)


@click.group("workers", cls=_Listing)
def workers_command() -> None:
    """List workers, or stop workers from taking jobs for now.

    \b
    Examples:
      jobqueue workers
      jobqueue workers list --queue mail --json
      jobqueue workers quiet alpha:4711
      jobqueue workers resume alpha:4711

    A worker is listed while it asks for jobs and while it has jobs. One that has not asked for a minute is silent, and is listed for 15
    minutes more. A quiet one finishes what it has.
    """


def _state(worker: WorkerInfo) -> str:
    return "quiet" if worker.quiet and worker.state != "silent" else worker.state


def _row(worker: WorkerInfo) -> tuple[str, ...]:
    now = utc_now()
    return (
        worker.name if worker.instances == 1 else f"{worker.name} ({worker.instances} with this name)",
        _state(worker),
        str(worker.leases),
        "" if worker.concurrency is None else str(worker.concurrency),
        ", ".join(worker.queues),
        worker.host or "",
        worker.version or "",
        "" if worker.started is None else span((now - worker.started).total_seconds()),
        span((now - worker.seen_at).total_seconds()),
    )


@verb("list", click.option("-q", "--queue", metavar="NAME", help="Only workers that ask for this queue."))
def list_command(client: Client, output: Output, queue: str | None) -> None:
    """List the workers, by name."""
    found = client.workers(queue=queue)
    if output.as_json:
        for worker in found:
            output.json(worker)
    else:
        output.table(_COLUMNS, [_row(worker) for worker in found], "no workers")


_NAMES = click.argument("names", metavar="NAME...", nargs=-1, required=True)


@verb("quiet", _NAMES)
def quiet_command(client: Client, output: Output, names: tuple[str, ...]) -> None:
    """Give workers no jobs until they are resumed.

    They finish the jobs that they have. A restart of the server does not change this.
    """
    output.acts = True
    for name in names:
        _tell(output, client.quiet_worker(name), "takes no jobs")


@verb("resume", _NAMES)
def resume_command(client: Client, output: Output, names: tuple[str, ...]) -> None:
    """Give workers jobs again."""
    output.acts = True
    for name in names:
        _tell(output, client.resume_worker(name), "takes jobs again")


def _tell(output: Output, worker: WorkerInfo, words: str) -> None:
    if output.as_json:
        output.json(worker)
    else:
        output.line(f"{worker.name} {words}; it has {counted(worker.leases, 'job')}")


for _command in (list_command, quiet_command, resume_command):
    workers_command.add_command(_command)
