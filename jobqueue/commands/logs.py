"""The command logs: what a job's workers logged, optionally as they log it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from jobqueue.commands.options import verb
from jobqueue.commands.output import Output, plain
from jobqueue.commands.shapes import counted

if TYPE_CHECKING:
    from jobqueue.client.log_types import LoggedLine
    from jobqueue.client.sync_client import Client

_STYLES = {"debug": "dim", "warning": "yellow", "error": "red", "critical": "bold red"}


@verb(
    "logs",
    click.argument("job_id", metavar="ID"),
    click.option("-f", "--follow", is_flag=True, help="Print new lines as they arrive, until the job is concluded."),
    click.option("--after", type=click.IntRange(0), default=0, metavar="N", help="Only lines after the one with this number."),
)
def logs_command(client: Client, output: Output, job_id: str, follow: bool, after: int) -> None:
    """Print the log of a job.

    \b
    Examples:
      jobqueue logs order-17
      jobqueue logs -f order-17
      jobqueue logs order-17 --json | jq -r 'select(.level == "error").text'

    Each line has its time, the attempt from the second on, the level where it is not info, and the text. A log holds 64 KiB; when it is
    full, its oldest lines are dropped.
    """
    seen = after
    for line in client.logs(job_id, follow=follow, after=after):
        if line.number > seen + 1 and not output.as_json:
            output.note(f"{counted(line.number - seen - 1, 'line')} dropped")
        seen = line.number
        if output.as_json:
            output.json(line)
            continue
        for text in _told(line):
            if output.terminal:
                from rich.text import Text

                output.console.print(Text(text, style=_STYLES.get(line.level, "")), soft_wrap=True)
            else:
                output.line(text)


def _told(line: LoggedLine) -> list[str]:
    """The printed form of a log line: one for each of its text's lines."""
    time = line.time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    attempt = f" #{line.attempt}" if line.attempt > 1 else ""
    level = "" if line.level == "info" else f" {line.level.upper()}"
    first, *others = [plain(part) for part in line.text.split("\n")]
    return [f"{time}{attempt}{level} {first}", *(f"    {other}" for other in others)]
