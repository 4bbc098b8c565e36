"""What every verb has in common: where the server is, `--json`, how it ends.

Owns: the exit codes, the types of options, the error line. A verb is a function of a Client and an Output that returns an exit code.
"""

from __future__ import annotations

import functools
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from jobqueue.commands.exits import Exit
from jobqueue.commands.output import Output, plain
from jobqueue.errors import QueueError, Unconfirmed, UnknownJob
from jobqueue.process.config import BadSetting, read_dotenv
from jobqueue.process.units import DURATION

if TYPE_CHECKING:
    from jobqueue.client.sync_client import Client

F = TypeVar("F", bound=Callable[..., Any])

TRIES = 3
"""Times a request is sent: enough for a restart of the server, few enough for a person who waits."""


class Failure(click.ClickException):
    """An error as it is told: one line with its code, or a problem as the server's with --json."""

    def __init__(
        self, detail: str, *, code: str, exit_code: Exit, field: str | None = None, unconfirmed: bool = False, output: Output | None = None
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.exit_code = int(exit_code)  # type: ignore[misc] # click looks for it at the instance
        self.field = field
        self.unconfirmed = unconfirmed
        self.output = output

    def show(self, file: Any = None) -> None:
        """Tell it on stderr."""
        if self.output is not None and self.output.as_json:
            more = {"unconfirmed": True} if self.unconfirmed else {}
            self.output.problem(self.code, self.message, self.field, **more)
        else:
            click.echo(f"Error: {self.code}: {plain(self.message)}", err=True)


def usage(detail: str) -> NoReturn:
    """End: the arguments make no sense together."""
    raise Failure(detail, code="usage", exit_code=Exit.USAGE)


def exit_code_of(error: QueueError) -> Exit:
    """The exit code for an error of the client."""
    if error.code == "connection_failed":
        return Exit.UNREACHABLE
    return Exit.NOTHING if isinstance(error, UnknownJob) else Exit.ERROR


# Types of options.


class Duration(click.ParamType):  # type: ignore[type-arg] # generic from click 8.4 on, we take older ones too
    """Seconds, or 30s, 5m, 12h, 30d. forever: `forever` may be said too."""

    name = "time"

    def __init__(self, forever: bool = False) -> None:
        self.forever = forever

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds."""
        if isinstance(value, float | int):
            return float(value)
        if self.forever and value == "forever":
            return math.inf
        try:
            seconds: float = DURATION.parse(value)
        except ValueError as error:
            self.fail(f"{value!r} {error}" + (", or forever" if self.forever else ""), param, ctx)
        return seconds


TIME = Duration()
WAIT = Duration(forever=True)


# Where the server is.


class Where:
    """The URL of the server, or of several with commas between them, and the token.

    Each is None where the client is to find it by itself. Raises Failure for a broken .env.
    """

    def __init__(self, url: str | None, token: str | None) -> None:
        try:
            lines = read_dotenv(Path(".env"))
        except BadSetting as error:
            raise Failure(str(error), code="bad_setting", exit_code=Exit.USAGE) from None
        self.told = bool(url)
        """Whether the URL was given on the command line."""
        self.url = url or _from(lines, "JOBQUEUE_URL")
        self.token = token or _from(lines, "JOBQUEUE_TOKEN")


def _from(lines: dict[str, tuple[str, str]], variable: str) -> str | None:
    """What .env says, unless the environment does."""
    return lines[variable][1] if variable in lines and not os.environ.get(variable) else None


def connect(where: Where, tries: int = TRIES) -> Client:
    """A client. Raises Failure for a URL or a token that cannot be one."""
    from jobqueue.client.retrying import Retrying
    from jobqueue.client.sync_client import Client

    try:
        return Client(where.url, where.token, retrying=Retrying(tries=tries))
    except ValueError as error:
        raise Failure(str(error), code="bad_setting", exit_code=Exit.USAGE) from None


_CONNECTION = (
    click.option(
        "--url", metavar="URL[,URL…]", help="The server, or all servers of one queue; else JOBQUEUE_URL, else http://127.0.0.1:8080."
    ),
    click.option("--token", metavar="TOKEN", help="Its token; ps shows it, so prefer JOBQUEUE_TOKEN."),
    click.option("--json", "as_json", is_flag=True, help="Print JSON, a line for each thing."),
)


def verb(name: str, *options: Callable[[Any], Any], connects: bool = True) -> Callable[[Callable[..., int | None]], click.Command]:
    """Make a command of a function (client, output, **options); connects False: (where, output, **options).

    What it returns is the exit code, None for 0. QueueErrors become one line on stderr and their exit code.
    """

    def decorate(function: Callable[..., int | None]) -> click.Command:
        @functools.wraps(function)
        def run(url: str | None, token: str | None, as_json: bool, **given: Any) -> NoReturn:
            output = Output(as_json)
            try:
                where = Where(url, token)
                if connects:
                    with connect(where) as client:
                        code = function(client, output, **given)
                else:
                    code = function(where, output, **given)
            except QueueError as error:
                # `sent` is of the client's ConnectionFailed.
                hint = "" if getattr(error, "sent", True) else "; is the server running there? --url or JOBQUEUE_URL names another"
                raise Failure(
                    error.detail + hint,
                    code=error.code,
                    exit_code=exit_code_of(error),
                    field=error.field,
                    unconfirmed=isinstance(error, Unconfirmed),
                    output=output,
                ) from None
            except Failure as failure:
                failure.output = output
                raise
            except KeyboardInterrupt:
                sys.exit(Exit.INTERRUPTED)
            sys.exit(code or Exit.DONE)

        command: Any = run
        for option in (*reversed(_CONNECTION), *reversed(options)):
            command = option(command)
        return click.command(name)(command)

    return decorate
