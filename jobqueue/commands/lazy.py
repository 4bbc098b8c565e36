"""The list of commands, and a group that loads only the one that is used: `jobqueue --help` loads neither the client nor rich."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, NamedTuple

import click

from jobqueue.commands.exits import EXITS, Exit
from jobqueue.commands.unread import drop_what_nobody_reads
from jobqueue.streams import open_standard_streams


class Verb(NamedTuple):
    """Where a command is defined: in `jobqueue.commands.MODULE`, under its own name; help: its first sentence, for the list of commands."""

    module: str
    help: str


VERBS: dict[str, dict[str, Verb]] = {
    "Jobs": {
        "enqueue": Verb("enqueueing", "Submit a job, or many jobs from a file or a stream."),
        "get": Verb("jobs", "Show a job, or wait until it is concluded."),
        "why": Verb("jobs", "Say why a job is not running, with a sentence for each reason."),
        "attempts": Verb("attempts", "List the attempts at a job, with the error of each failed attempt."),
        "errors": Verb("errors", "Count failed attempts by error, in one queue or all queues."),
        "logs": Verb("logs", "Print the log of a job."),
        "list": Verb("jobs", "List jobs, newest first."),
        "cancel": Verb("jobs", "Cancel jobs that are not concluded."),
        "edit": Verb("jobs", "Change a job that waits."),
        "run": Verb("jobs", "Queue jobs now that wait for a later time."),
        "retry": Verb("jobs", "Queue jobs again that failed, were cancelled or expired."),
        "forget": Verb("jobs", "Remove concluded jobs from history, with payloads, results, errors and logs."),
        "group": Verb("groups", "Group jobs, and wait until all jobs of a group have ended."),
        "bulk": Verb("bulk", "Cancel, retry, edit or forget every job that matches."),
    },
    "Working": {
        "work": Verb("working", "Run jobs, with Python handlers or with a command."),
        "workers": Verb("workers", "List workers, or stop workers from taking jobs for now."),
        "dequeue": Verb("leasing", "Take a job, or wait for one."),
        "extend": Verb("leasing", "Extend the lease of a job that was taken with dequeue."),
        "release": Verb("leasing", "Return a job that was taken with dequeue to its queue."),
        "conclude": Verb("leasing", "Finish a job that was taken with dequeue."),
    },
    "Queues": {
        "queues": Verb("queues", "Show every queue, or one with its policy."),
        "policy": Verb("policies", "Show a queue's policy, or change fields of it."),
        "keys": Verb("policies", "List the keys of a queue; those that hold back the most jobs come first."),
        "pause": Verb("queues", "Stop handing out jobs of queues, or of a key."),
        "resume": Verb("queues", "Hand out jobs of queues again, or of a key."),
        "purge": Verb("queues", "Cancel every job that waits in a queue."),
        "delete": Verb("queues", "Delete a queue that has no live jobs, and its policy."),
        "redrive": Verb("bulk", "Move dead letters back to the queues where they failed."),
        "stats": Verb("queues", "Show the server's jobs and totals, for all queues together."),
        "tasks": Verb("bulk", "List the server's tasks, such as redrives, or cancel one."),
        "history": Verb("history", "Show the numbers of the last hour or day, of one queue or all queues."),
        "events": Verb("events", "Print what happens to jobs and queues, as it happens, until Ctrl-C."),
        "top": Verb("watching", "Watch the queues, live."),
    },
    "Schedules": {
        "schedule": Verb("schedules", "Enqueue jobs on a schedule, by cron expression or at an interval."),
    },
    "Tools": {
        "token": Verb("tokens", "Create, list and revoke the tokens of a server."),
        "completion": Verb("completing", "Print a shell completion script."),
    },
}
SERVER = "Server"
"""The heading of commands that were registered directly."""

_MODULES = {name: verb.module for section in VERBS.values() for name, verb in section.items()}


@contextmanager
def _until_nobody_reads() -> Iterator[None]:
    """Exit quietly and successfully once nobody reads the output. Raises click's Exit."""
    try:
        yield
    except BrokenPipeError:
        if not drop_what_nobody_reads():
            raise
        raise click.exceptions.Exit(Exit.DONE) from None


class LazyGroup(click.Group):
    """A group of the commands above and of those registered with it. In its module a command has its name plus `_command`."""

    def main(self, *args: Any, **options: Any) -> Any:
        """See click. The installed command and `python -m jobqueue` call this."""
        open_standard_streams()
        return super().main(*args, **options)

    def make_context(self, *args: Any, **options: Any) -> click.Context:
        """See click. `--help` prints here."""
        with _until_nobody_reads():
            return super().make_context(*args, **options)

    def invoke(self, ctx: click.Context) -> Any:
        """See click. The commands print here."""
        with _until_nobody_reads():
            return super().invoke(ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All commands."""
        return [*super().list_commands(ctx), *_MODULES]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load and return the command."""
        if cmd_name not in _MODULES:
            return super().get_command(ctx, cmd_name)
        command: click.Command = getattr(import_module(f"jobqueue.commands.{_MODULES[cmd_name]}"), f"{cmd_name}_command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands under their headings, without loading them."""
        sections = {SERVER: {name: self.commands[name].get_short_help_str(72) for name in super().list_commands(ctx)}}
        sections.update({title: {name: verb.help for name, verb in verbs.items()} for title, verbs in VERBS.items()})
        width = max(len(name) for rows in sections.values() for name in rows)
        for title, rows in sections.items():
            with formatter.section(title):
                formatter.write_dl([(f"{name:<{width}}", text) for name, text in rows.items()])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The exit codes."""
        with formatter.section("Exit codes"):
            formatter.write_dl([(f"{int(code):<3}", meaning) for code, meaning in EXITS.items()])
