"""The command line. It reads settings and starts the server or runs a command; it makes no other decisions."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import click

from jobqueue import __version__
from jobqueue.commands.lazy import LazyGroup
from jobqueue.process.config import GROUPS, SETTINGS, BadSetting, Setting, Settings, load
from jobqueue.process.units import SWITCH


class _Refused(click.ClickException):
    """A wrong command line: one line on stderr, and the exit code."""

    exit_code = 2


class _GroupedCommand(click.Command):
    """Shows options under the headings of the settings table, all in one column."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups = {
            title: [(f"{setting.flag} {setting.kind.metavar}", f"{setting.help} [{setting.default}]") for setting in group]
            for title, group in GROUPS.items()
        }
        groups["Other"] = [("-h, --help", "Show this message and exit.")]
        width = max(len(flag) for rows in groups.values() for flag, _ in rows)
        for title, rows in groups.items():
            with formatter.section(title):
                formatter.write_dl([(f"{flag:<{width}}", text) for flag, text in rows], col_max=width)


def _option(setting: Setting) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    # All values are text or None: config.load reads all three sources in the same way, so the error messages are the same for all.
    flag = f"{setting.flag}/--no-{setting.flag[2:]}" if setting.kind is SWITCH else setting.flag
    return click.option(flag, setting.name, default=None, multiple=setting.kind.many)


def _text(value: str | bool | tuple[str, ...] | None) -> str | None:
    """A value from the command line, in the form used in the environment."""
    if isinstance(value, tuple):
        return ",".join(value) if value else None
    return str(value).lower() if isinstance(value, bool) else value


def _options(command: Callable[..., Any]) -> Callable[..., Any]:
    for setting in reversed(SETTINGS):
        command = _option(setting)(command)
    return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="jobqueue", message="%(prog)s %(version)s")
def main() -> None:
    """A job queue server over HTTP with long polling: producers submit jobs, workers wait for them."""


@main.command(
    cls=_GroupedCommand,
    epilog="SIZE is bytes, or 64KiB, 1MiB, 1GiB. TIME is seconds, or 30s, 5m, 12h, 30d. Every option is a variable too, in the "
    "environment or in a .env file in this folder: --max-jobs is JOBQUEUE_MAX_JOBS. Options win over the environment, and that over .env.",
)
@_options
def serve(**given: str | bool | tuple[str, ...] | None) -> None:
    """Run the server until SIGTERM or SIGINT.

    \b
    Example:
      JOBQUEUE_TOKEN=secret jobqueue serve --host 0.0.0.0 --max-jobs 50000 --max-wait 30s
    """
    flags = {name: _text(value) for name, value in given.items()}
    settings = _settings(flags)
    # Imported here, so that --help and the report of a bad setting need not load a web server.
    if settings.processes > 1:
        from jobqueue.process.processes import run
    else:
        from jobqueue.process.server import run

    sys.exit(run(settings))


def _of_store(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that name the store."""
    store = click.option("--store", metavar="URL", help="Store of several servers; else JOBQUEUE_STORE, from the environment or .env.")
    waits = click.option("--acknowledge", metavar="REPLICAS", help="As for the servers; else JOBQUEUE_ACKNOWLEDGE, or 1.")
    return store(waits(command))


@main.command()
@click.argument("file")
@click.option("--data", metavar="FILE", help="File to copy; else JOBQUEUE_DATA, from the environment or .env.")
@_of_store
def backup(file: str, data: str | None, store: str | None, acknowledge: str | None) -> None:
    """Copy the jobs into FILE; servers can run meanwhile.

    The copy is of one moment; of a store with several partitions, each is copied at a moment of its own. Serve it with
    `jobqueue serve --data`, or fill a store from it with `jobqueue restore`.

    \b
    Examples:
      jobqueue backup --data jobs.db jobs-monday.db
      jobqueue backup --store valkey://10.0.0.1:6379 jobs-monday.db
    """
    # The store named on the command line counts, whatever the server's own settings say.
    other = "store" if data is not None else "data" if store is not None else ""
    if data is not None and store is not None:
        raise _Refused("give either --data or --store, not both")
    settings = _settings({"data": data, "store": store, "acknowledge": acknowledge}, {other, "partitions"})
    source = settings.data
    if settings.store is not None:
        _told(lambda _: f"{file}: {_moving().backup(settings, file)}")
    elif source is not None:
        _told(lambda durable: f"{file}: {durable.backup(source, file)}")
    else:
        raise _Refused("nothing to copy: give --data FILE or --store URL, or set JOBQUEUE_DATA or JOBQUEUE_STORE")


@main.command()
@click.argument("file")
@_of_store
@click.option("--partitions", metavar="N", help="Partitions of a new store; else JOBQUEUE_PARTITIONS, or 1.")
def restore(file: str, store: str | None, acknowledge: str | None, partitions: str | None) -> None:
    """Fill an empty store from a backup or a data file.

    FILE is a backup, or the data file of a stopped server. No server can use the store meanwhile. If this command is interrupted, no
    server starts on the incomplete store; run the command again, and it goes on where it ended.

    With --partitions, jobs, queues, schedules and groups are divided. What would be in two partitions is refused, with its name, and
    nothing is written. At the end everything is read back and compared with FILE.

    \b
    Examples:
      jobqueue restore jobs.db --store valkey://10.0.0.1:6379
      jobqueue restore jobs.db --store valkey://10.0.0.1:6379 --partitions 8
    """
    settings = _settings({"store": store, "acknowledge": acknowledge, "partitions": partitions}, {"data"})
    if settings.store is None:
        raise _Refused(
            "no store given: use --store URL, or set JOBQUEUE_STORE. To serve the backup itself, use `jobqueue serve --data FILE`"
        )
    _told(lambda _: _moving().restore(settings, file))


def _moving() -> Any:
    from jobqueue.process import moving

    return moving


@main.command()
@click.argument("file", required=False)
@_of_store
def check(file: str | None, store: str | None, acknowledge: str | None) -> None:
    """Say what FILE or a store holds, or what is wrong with it. Changes nothing; servers can run meanwhile.

    For a store it also makes all checks that a server makes at its start, and says which server is the owner and which others exist.

    \b
    Example:
      jobqueue check jobs-monday.db
      jobqueue check --store valkey://10.0.0.1,10.0.0.2,10.0.0.3
    """
    if file is not None:
        if store is not None or acknowledge is not None:
            raise _Refused("give either a FILE or a store, not both")
        _told(lambda durable: f"{file}: whole; {durable.check(file)}")
        return
    settings = _settings({"store": store, "acknowledge": acknowledge}, {"data", "partitions"})
    if settings.store is None:
        raise _Refused("nothing to check: give FILE, or --store URL, or set JOBQUEUE_STORE")
    # Imported here, so that checking a file loads nothing that only stores need.
    from jobqueue.process.inspecting import check_store

    _told(lambda _: check_store(settings))


def _told(act: Callable[[Any], str]) -> None:
    """Print the result, or one line that says why it failed, with exit code 1."""
    from jobqueue.backend.loading import CannotOpen
    from jobqueue.process import durable

    try:
        click.echo(act(durable))
    except CannotOpen as error:
        raise click.ClickException(str(error)) from None


def _settings(flags: Mapping[str, str | None], without: Collection[str] = ()) -> Settings:
    try:
        return load(flags, os.environ, Path(".env"), without)
    except BadSetting as error:
        raise _Refused(str(error)) from None
