"""What all commands have in common: the server's address, `--json`, how they end.

This module defines the types of options, the error line and the mapping of errors to exit codes. A command is a function of a Client and an
Output that returns an exit code.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from jobqueue.commands.exits import Exit
from jobqueue.commands.output import Output
from jobqueue.errors import QueueError, Unconfirmed, UnknownJob
from jobqueue.process.config import BadSetting, read_dotenv
from jobqueue.process.units import DURATION

if TYPE_CHECKING:
    import ssl

    from jobqueue.client.sync_client import Client

F = TypeVar("F", bound=Callable[..., Any])

TRIES = 3
"""How often a request is sent: enough to survive a restart of the server, few enough for a person who waits."""


class Failure(click.ClickException):
    """An error as it is shown: one line with its code, or with --json a problem like the server's."""

    def __init__(
        self, detail: str, *, code: str, exit_code: Exit, field: str | None = None, unconfirmed: bool = False, job_id: str | None = None,
        output: Output | None = None,
    ) -> None:  # fmt: skip
        super().__init__(detail)
        self.code = code
        self.exit_code = int(exit_code)  # type: ignore[misc] # click reads it from the instance
        self.field = field
        self.unconfirmed = unconfirmed
        self.job_id = job_id
        self.output = output

    def show(self, file: Any = None) -> None:
        """Print it on stderr."""
        if self.output is not None and self.output.as_json:
            more: dict[str, Any] = {"unconfirmed": True} if self.unconfirmed else {}
            if self.job_id is not None:
                more["job_id"] = self.job_id
            self.output.problem(self.code, self.message, self.field, **more)
        else:
            (self.output or Output(False)).note(f"Error: {self.code}: {self.message}")


def usage(detail: str) -> NoReturn:
    """Exit with an error: these arguments cannot be combined."""
    raise Failure(detail, code="usage", exit_code=Exit.USAGE)


def exit_code_of(error: QueueError) -> Exit:
    """The exit code for an error of the client."""
    if error.code == "connection_failed":
        return Exit.UNREACHABLE
    return Exit.NOTHING if isinstance(error, UnknownJob) else Exit.ERROR


def failure_of(error: QueueError, output: Output, detail: str | None = None, job_id: str | None = None) -> Failure:
    """The Failure for a client's error. detail: replaces the error's own text; job_id: of the job that it concerns, where the error does
    not have it.
    """
    # Only the client's ConnectionFailed has `sent`.
    hint = "" if getattr(error, "sent", True) else "; is the server running there? Set another URL with --url or JOBQUEUE_URL"
    return Failure(
        (error.detail if detail is None else detail) + hint,
        code=error.code,
        exit_code=exit_code_of(error),
        field=error.field,
        unconfirmed=isinstance(error, Unconfirmed),
        job_id=job_id if job_id is not None else getattr(error, "job_id", None),
        output=output,
    )


# Types of options.


class Duration(click.ParamType):  # type: ignore[type-arg] # generic since click 8.4; older versions are supported too
    """Seconds, or 30s, 5m, 12h, 30d. forever: the word `forever` is also allowed."""

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


class When(click.ParamType):  # type: ignore[type-arg] # as Duration
    """An instant: RFC 3339, such as 2027-01-31T08:00:00Z; without a time zone, in this machine's.

    ago: a time span is also allowed, and means that long ago.
    """

    name = "when"

    def __init__(self, ago: bool = False) -> None:
        self.ago = ago

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """A datetime with a time zone."""
        if isinstance(value, datetime):
            return value
        try:
            return datetime.fromisoformat(value).astimezone()
        except (ValueError, OverflowError):
            with contextlib.suppress(ValueError, OverflowError):
                if self.ago:
                    return datetime.now(UTC) - timedelta(seconds=DURATION.parse(value))
            self.fail(f"{value!r} is not a time; write 2027-01-31T08:00:00Z, or without the Z for this machine's zone", param, ctx)


TIME = Duration()
WAIT = Duration(forever=True)
WHEN = When()
SINCE = When(ago=True)


# The server's address.


class Where:
    """The URL of the server, or of several with commas between them, the token, and the file of trusted certificate authorities.

    Each is None if the client must find it by itself. Raises Failure for an invalid .env.
    """

    def __init__(self, url: str | None, token: str | None, ca_file: str | None = None) -> None:
        try:
            lines = read_dotenv(Path(".env"))
        except BadSetting as error:
            raise Failure(str(error), code="bad_setting", exit_code=Exit.USAGE) from None
        self.told = bool(url)
        """Whether the URL was given on the command line."""
        self.url = url or _from(lines, "JOBQUEUE_URL")
        self.token = token or _from(lines, "JOBQUEUE_TOKEN")
        self.ca_file = ca_file


def _from(lines: dict[str, tuple[str, str]], variable: str) -> str | None:
    """The value in .env, unless the environment has one."""
    return lines[variable][1] if variable in lines and not os.environ.get(variable) else None


def connect(where: Where, tries: int = TRIES) -> Client:
    """A client. Raises Failure for an invalid URL, token or certificate file."""
    from jobqueue.client.retrying import Retrying
    from jobqueue.client.sync_client import Client

    context = None if where.ca_file is None else trusting(where.ca_file)
    try:
        return Client(where.url, where.token, retrying=Retrying(tries=tries), ssl_context=context)
    except ValueError as error:
        raise Failure(str(error), code="bad_setting", exit_code=Exit.USAGE) from None


def trusting(ca_file: str) -> ssl.SSLContext:
    """A context that trusts only the authorities in this file. Raises Failure."""
    import ssl

    try:
        return ssl.create_default_context(cafile=ca_file)
    except ssl.SSLError:
        wrong = "holds no certificate in PEM form"
    except OSError as error:
        wrong = f"cannot be read: {error.strerror}"
    raise Failure(f"--ca-file {ca_file} {wrong}", code="bad_setting", exit_code=Exit.USAGE)


_CA_FILE = click.option("--ca-file", metavar="PATH", help="For https: trust the authorities in this PEM file, and no others.")

_CONNECTION = (
    click.option(
        "--url", metavar="URL[,URL…]", help="The server, or all servers of one store; else JOBQUEUE_URL, else http://127.0.0.1:8080."
    ),
    click.option("--token", metavar="TOKEN", help="The token; ps shows it, so prefer JOBQUEUE_TOKEN."),
    click.option("--json", "as_json", is_flag=True, help="Print JSON, one line for each object."),
)


def verb(
    name: str, *options: Callable[[Any], Any], connects: bool = True, trusts: bool | None = None
) -> Callable[[Callable[..., int | None]], click.Command]:
    """Make a command of a function (client, output, **options); connects False: (where, output, **options). trusts: has --ca-file,
    as those that connect have.

    What it returns is the exit code, None for 0. QueueErrors become one line on stderr and their exit code.
    """

    def decorate(function: Callable[..., int | None]) -> click.Command:
        @functools.wraps(function)
        def run(url: str | None, token: str | None, as_json: bool, ca_file: str | None = None, **given: Any) -> NoReturn:
            output = Output(as_json)
            try:
                where = Where(url, token, ca_file)
                if connects:
                    with connect(where) as client:
                        code = function(client, output, **given)
                else:
                    code = function(where, output, **given)
            except QueueError as error:
                raise failure_of(error, output) from None
            except Failure as failure:
                failure.output = output
                raise
            except KeyboardInterrupt:
                sys.exit(Exit.INTERRUPTED)
            sys.exit(code or Exit.DONE)

        command: Any = run
        connection = (*_CONNECTION[:2], *([_CA_FILE] if (connects if trusts is None else trusts) else []), *_CONNECTION[2:])
        for option in (*reversed(connection), *reversed(options)):
            command = option(command)
        return click.command(name)(command)

    return decorate
