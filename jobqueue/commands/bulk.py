"""The commands for many jobs at once, and for the server's tasks: bulk, redrive, tasks."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

from jobqueue.commands.exits import Exit
from jobqueue.commands.jobs import change_of, edits, left_out
from jobqueue.commands.options import SINCE, usage, verb
from jobqueue.commands.output import Column, Output
from jobqueue.commands.shapes import counted, span, utc_now
from jobqueue.limits import REDRIVE_RATE_MAX, REDRIVE_RATE_MIN
from jobqueue.model import Outcome, Status

if TYPE_CHECKING:
    from jobqueue.client.sync_client import Client
    from jobqueue.client.tasks import Task

ACTIONS = {"cancel": "cancelled", "retry": "queued again", "edit": "edited", "forget": "forgotten"}

LOOK_SECONDS = 0.5
"""How often a redrive checks its progress."""

_SOME: Any = (
    click.option("-t", "--type", "job_type", metavar="NAME", help="Only jobs of this type."),
    click.option("-k", "--key", metavar="KEY", help="Only jobs of this key."),
    click.option("--tag", metavar="TAG", help="Only jobs that have this tag."),
    click.option("--error", metavar="TEXT", help="Only jobs whose last error contains this."),
    click.option("--error-group", metavar="ID", help="Only jobs whose last error is in this group of `jobqueue errors`."),
    click.option("--created-after", type=SINCE, help="Only jobs created since: 2027-01-31T08:00:00Z, or 2h for 2 hours ago."),
    click.option("--created-before", type=SINCE, help="Only jobs created before this time."),
)
_DRY: Any = click.option("--dry-run", is_flag=True, help="Only count the jobs; change nothing.")
_YES: Any = click.option("-y", "--yes", is_flag=True, help="Do not ask for confirmation (asked on a terminal only).")


@contextlib.contextmanager
def bar(output: Output, total: int | None) -> Iterator[Callable[[int], None]]:
    """A progress bar on stderr, if that is a terminal; yields a function to call with how much is done."""
    if output.as_json or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn

    columns = (MofNCompleteColumn(), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=output.errors, transient=True) as shown:
        task = shown.add_task("", total=total)
        yield lambda done: shown.update(task, completed=done)


@verb(
    "bulk",
    click.argument("action", type=click.Choice(list(ACTIONS))),
    click.option("-q", "--queue", metavar="NAME", help="Only jobs of this queue."),
    click.option("-s", "--status", type=click.Choice([status.value for status in Status]), help="Only jobs of this status."),
    click.option("-o", "--outcome", type=click.Choice([outcome.value for outcome in Outcome]), help="Only jobs with this outcome."),
    *_SOME,
    click.option("--worker", metavar="NAME", help="Only jobs that this worker has, or had last."),
    click.option("--retrying", is_flag=True, default=None, help="Only jobs that wait for their next attempt."),
    *edits("new-"),
    _DRY,
    _YES,
)
def bulk_command(
    client: Client, output: Output, action: str, job_type: str | None, dry_run: bool, yes: bool, **given: Any,
) -> int:  # fmt: skip
    """Cancel, retry, edit or forget every job that matches.

    cancel, retry and edit do to each job what the command of that name does; forget removes concluded jobs from history.
    Give at least one filter; a job must match all of them. Jobs that cannot be changed in this way are skipped, and so are
    jobs enqueued after the start. With edit, the --new-… options give the new values.

    \b
    Examples:
      jobqueue bulk cancel --queue mail --tag import-17
      jobqueue bulk retry --error "timed out" --created-after 1h --dry-run
      jobqueue bulk edit --queue mail --type newsletter --new-priority 9
      jobqueue bulk forget --outcome succeeded --created-before 7d --yes
    """
    edit = change_of({name.removeprefix("new_"): given.pop(name) for name in list(given) if name.startswith("new_") or name == "no_tags"})
    wanted = {**given, "type": job_type}
    if all(value is None for value in wanted.values()):
        usage("give at least one filter, such as --queue or --status")
    if (action == "edit") is not bool(edit):
        usage("say what to change, for instance with --new-priority" if action == "edit" else "--new-… goes with edit")
    total: int | None = None
    if dry_run or not (yes or output.as_json):
        total = client.bulk(action, **wanted, edit=edit or None, dry_run=True).matched
    if dry_run:
        if output.as_json:
            output.json({"matched": total})
        else:
            output.line(f"{counted(total or 0, 'job')} would be {ACTIONS[action]}")
        return Exit.DONE
    asks = not yes and not output.as_json and sys.stdin.isatty()
    if asks and not click.confirm(f"{action.capitalize()} {counted(total or 0, 'job')}?", err=True):
        return Exit.ERROR
    with bar(output, total) as show:
        found = client.bulk(action, **wanted, edit=edit or None, progress=lambda part: show(part.matched))
    if output.as_json:
        output.json({"matched": found.matched, "done": found.done, "refused": found.refused})
    else:
        output.line(f"{counted(found.done, 'job')} {ACTIONS[action]}{left_out(found.refused)}")
    return Exit.DONE


@verb(
    "redrive",
    click.argument("name"),
    click.option("--to", metavar="QUEUE", help="Move them to this queue instead."),
    click.option("--rate", type=click.FloatRange(REDRIVE_RATE_MIN, REDRIVE_RATE_MAX), metavar="N", help="Move at most N jobs a second."),
    click.option("--as-new", is_flag=True, help="Make each a new job, with a new id and age."),
    *_SOME,
    _DRY,
    click.option("--detach", is_flag=True, help="Print the task's id and do not wait for its end."),
)
def redrive_command(
    client: Client, output: Output, name: str, job_type: str | None, dry_run: bool, detach: bool, **given: Any,
) -> int:  # fmt: skip
    """Move dead letters back to the queues where they failed.

    They start again there, with all their attempts. Jobs for which there is no room stay. The server does this as a task,
    which continues if you interrupt this command; `jobqueue tasks` shows and cancels it.

    \b
    Examples:
      jobqueue redrive mail-dead
      jobqueue redrive mail-dead --to mail-again --rate 10
      jobqueue redrive mail-dead --error "timed out" --dry-run
    """
    task = client.redrive(name, **given, type=job_type, dry_run=dry_run)
    if not dry_run and not detach:
        task = _followed(client, output, task)
    if output.as_json:
        output.json(task)
    elif dry_run:
        output.line(f"{counted(task.total, 'dead letter')} of {name} would be moved")
    elif detach:
        output.line(task.id)
    else:
        output.line(f"{counted(task.done, 'dead letter')} of {name} moved {'back' if task.to is None else f'to {task.to}'}{_ended(task)}")
    return Exit.DONE if task.state in ("running", "done") else Exit.UNSUCCESSFUL


def _ended(task: Task) -> str:
    if task.state == "done":
        return f"; {task.total - task.done} stayed" if task.done < task.total else ""
    return f" of {task.total}: {task.state}{f', {task.error}' if task.error else ''}"


def _followed(client: Client, output: Output, task: Task) -> Task:
    """Follow a task; returns it once it has ended."""
    pause = LOOK_SECONDS / 16
    try:
        with bar(output, task.total) as show:
            while task.state == "running":
                time.sleep(pause)
                pause = min(2 * pause, LOOK_SECONDS)
                task = client.task(task.id)
                show(task.done)
    except KeyboardInterrupt:
        output.note(f"the task continues; `jobqueue tasks {task.id} --cancel` ends it")
        raise
    return task


COLUMNS = (
    Column("TASK"),
    Column("KIND", 2),
    Column("QUEUE", 8),
    Column("TO", 5),
    Column("STATE"),
    Column("DONE", right=True),
    Column("TOTAL", 7, right=True),
    Column("RATE", 3, right=True),
    Column("TIME", 4, right=True),
)


def _row(task: Task) -> list[str]:
    rate = "" if task.rate is None else f"{task.rate:g}/s"
    since = span(((task.ended_at or utc_now()) - task.started_at).total_seconds())
    return [task.id, task.kind, task.queue, task.to or "", task.state, str(task.done), str(task.total), rate, since]


@verb("tasks", click.argument("task_id", metavar="[ID]", required=False), click.option("--cancel", is_flag=True, help="Cancel the task."))
def tasks_command(client: Client, output: Output, task_id: str | None, cancel: bool) -> None:
    """List the server's tasks, such as redrives, or cancel one.

    Lists the tasks that run and the most recent that ended. TIME is how long a task has run, or ran. What a cancelled task
    has done is not undone. Tasks end with the server that runs them.

    \b
    Examples:
      jobqueue tasks
      jobqueue tasks 4d967a30111bf29f0eba01c448b375c1 --cancel
    """
    if task_id is None and cancel:
        usage("--cancel needs the id of a task")
    one = client.cancel_task if cancel else client.task
    found = client.tasks() if task_id is None else [one(task_id)]
    if output.as_json:
        for task in found:
            output.json(task)
    else:
        output.table(COLUMNS, [_row(task) for task in found], "no tasks")
