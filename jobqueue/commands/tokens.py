"""The command token: create, list and revoke tokens in a server's token file. It contacts no server; SIGHUP makes a server read the file
again.
"""

from __future__ import annotations

import os
from pathlib import Path

import click

from jobqueue.api.access.grants import SCOPES, Scope
from jobqueue.process import tokens
from jobqueue.process.config import BadSetting, read_dotenv

VARIABLE = "JOBQUEUE_TOKEN_FILE"

_FILE = click.option("--file", "path", metavar="FILE", help=f"The token file; else {VARIABLE}, from the environment or .env.")

_THEN = "Send a running server SIGHUP to make it read the file again."


@click.group("token")
def token_command() -> None:
    """Create, list and revoke the tokens of a server.

    \b
    Examples:
      jobqueue token new --name ci --scope enqueue --queue 'mail.*' --file tokens
      jobqueue token list --file tokens
      jobqueue token revoke ci --file tokens
      jobqueue serve --token-file tokens
    """


@token_command.command("new")
@click.option("--name", required=True, help="The token's name in logs.")
@click.option("--scope", "scopes", multiple=True, required=True, help=f"A permission: {', '.join(SCOPES)}; can be repeated.")
@click.option(
    "--queue", "queues", multiple=True, help="A queue that the token gives access to, or a pattern as mail.*; can be repeated. [all]"
)
@_FILE
def new_command(name: str, scopes: tuple[str, ...], queues: tuple[str, ...], path: str | None) -> None:
    """Create a token, print it once, and add its line to the file.

    Without a file, the line is printed too, on stderr. The line has the token's hash; the token itself is not stored.
    """
    path = _path(path)
    try:
        if path is None:
            token, line = tokens.fresh(name, scopes, queues)
            click.echo(f"Add this line to the server's token file:\n{line}", err=True)
        else:
            token, _ = tokens.make(path, name, scopes, queues)
            click.echo(f"{path}: added {name}. {_THEN}", err=True)
    except tokens.BadTokens as error:
        raise click.ClickException(str(error)) from None
    click.echo(token)


@token_command.command("list")
@_FILE
def list_command(path: str | None) -> None:
    """List the names of the tokens in the file."""
    try:
        grants = tokens.read(_needed(path))
    except tokens.BadTokens as error:
        raise click.ClickException(str(error)) from None
    rows = [("NAME", "SCOPES", "QUEUES")]
    for grant in grants:
        scopes = [Scope.ADMIN] if Scope.ADMIN in grant.scopes else [scope for scope in SCOPES if scope in grant.scopes]
        rows.append((grant.name, ",".join(scopes), ",".join(grant.queues) or tokens.EVERY_QUEUE))
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for name, scope, queue in rows:
        click.echo(f"{name:<{widths[0]}}  {scope:<{widths[1]}}  {queue}")


@token_command.command("revoke")
@click.argument("name")
@_FILE
def revoke_command(name: str, path: str | None) -> None:
    """Remove a token's line from the file."""
    path = _needed(path)
    try:
        tokens.revoke(path, name)
    except tokens.BadTokens as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"{path}: revoked {name}. {_THEN}", err=True)


def _path(given: str | None) -> str | None:
    if given is not None:
        return given
    if os.environ.get(VARIABLE):
        return os.environ[VARIABLE]
    try:
        lines = read_dotenv(Path(".env"))
    except BadSetting as error:
        raise click.ClickException(str(error)) from None
    return lines[VARIABLE][1] if VARIABLE in lines else None


def _needed(given: str | None) -> str:
    path = _path(given)
    if path is None:
        raise click.UsageError(f"say which file: --file FILE, or {VARIABLE}", click.get_current_context(silent=True))
    return path
