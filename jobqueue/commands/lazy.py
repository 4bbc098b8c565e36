"""Which verbs there are, and a group that loads the one that is asked for: `jobqueue --help` loads no client and no rich."""

from __future__ import annotations

from importlib import import_module
from typing import Any, NamedTuple

import click

from jobqueue.commands.exits import EXITS
from jobqueue.streams import open_standard_streams


class Verb(NamedTuple):
    """Where a command is to be found, `jobqueue.commands.MODULE`, under its own name; help: its first sentence, for the list of all."""

    module: str
    help: str


VERBS: dict[str, dict[str, Verb]] = {
    "Jobs": {
        "enqueue": Verb("enqueueing", "Submit a job, or many from a file or a stream."),
        "get": Verb("jobs", "Look at a job, or wait until it is concluded."),
        "why": Verb("jobs", "Say why a job is not running: each reason as a sentence."),
        "list": Verb("jobs", "List jobs, newest first."),
        "cancel": Verb("jobs", "Stop jobs that are not concluded."),
        "retry": Verb("jobs", "Queue jobs again that failed, were cancelled or expired."),
    },
    "Working": {
        "work": Verb("working", "Work on jobs, by Python handlers or by a command."),
        "dequeue": Verb("leasing", "Take a job, waiting for one."),
        "conclude": Verb("leasing", "Finish a job that was taken with dequeue."),
    },
    "Queues": {
        "queues": Verb("queues", "Show every queue, or one with its policy."),
        "policy": Verb("policies", "Show a queue's policy, or change some of it."),
        "keys": Verb("policies", "List the keys of a queue, those that hold most up first."),
        "pause": Verb("queues", "Stop handing out jobs of queues, or of a key."),
        "resume": Verb("queues", "Hand out jobs of queues again, or of a key."),
        "purge": Verb("queues", "Cancel every job that waits in a queue."),
        "stats": Verb("queues", "Show what the server holds and did, in all queues."),
        "top": Verb("watching", "Watch the queues, live."),
    },
    "Tools": {
        "token": Verb("tokens", "Make, list and revoke the tokens of a server."),
        "completion": Verb("completing", "Print the script that completes this command in a shell."),
    },
}
SERVER = "Server"
"""The heading of the commands that were registered otherwise."""

_MODULES = {name: verb.module for section in VERBS.values() for name, verb in section.items()}


class LazyGroup(click.Group):
    """A group of the verbs above and of those registered with it. A verb stands in its module under its name and `_command`."""

    def main(self, *args: Any, **options: Any) -> Any:
        """See click: what the installed command and `python -m jobqueue` call."""
        open_standard_streams()
        return super().main(*args, **options)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every verb."""
        return [*super().list_commands(ctx), *_MODULES]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The verb, loaded."""
        if cmd_name not in _MODULES:
            return super().get_command(ctx, cmd_name)
        command: click.Command = getattr(import_module(f"jobqueue.commands.{_MODULES[cmd_name]}"), f"{cmd_name}_command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The verbs under their headings, none of them loaded."""
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
