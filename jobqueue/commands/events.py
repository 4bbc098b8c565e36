"""The command events: what happens to jobs and queues, as it happens."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import click

from jobqueue.commands.options import verb
from jobqueue.commands.output import Output
from jobqueue.commands.shapes import stamp

if TYPE_CHECKING:
    from jobqueue.client.sync_client import Client
    from jobqueue.client.types import JobEvent


@verb(
    "events",
    click.option("-q", "--queue", "queues", multiple=True, metavar="NAME", help="Only events of this queue; can be repeated."),
    click.option("-t", "--type", "types", multiple=True, metavar="NAME", help="Only events of jobs of this type; can be repeated."),
    click.option("-e", "--event", "names", multiple=True, metavar="EVENT", help="Only events of this name, as concluded; can be repeated."),
    click.option("--after", metavar="EVENT_ID", help="Continue after this event, by its event_id in --json. [default: from now on]"),
    click.option("-n", "--limit", type=click.IntRange(1), metavar="N", help="Stop after N events."),
)
def events_command(
    client: Client, output: Output, queues: tuple[str, ...], types: tuple[str, ...], names: tuple[str, ...], after: str | None,
    limit: int | None,
) -> None:  # fmt: skip
    """Print what happens to jobs and queues, as it happens, until Ctrl-C.

    Prints a line for each event: its time, its name, the queue, the job's id, and further details. If the connection is
    lost, the command connects again; the event reset says that events were missed.

    \b
    Examples:
      jobqueue events --queue mail
      jobqueue events --event concluded --json | jq -r 'select(.outcome == "failed").id'
      jobqueue events --queue mail --event concluded --limit 1
    """
    for event in islice(client.events(queue=queues or None, type=types or None, event=names or None, last_event_id=after), limit):
        if output.as_json:
            output.json(event)
        else:
            output.line(_told(event))


def _told(event: JobEvent) -> str:
    time = "" if event.at is None else event.at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    more = [
        None if event.outcome is None else event.outcome.value,
        f"attempt {event.attempts}" if event.attempts and event.id is not None else None,
        f"worker {event.worker}" if event.worker else None,
        f"due {stamp(event.run_at)}" if event.run_at is not None and event.event == "scheduled" else None,
        None if event.progress is None else f"{event.progress:.0%}",
        event.message,
    ]
    said = ", ".join(text for text in more if text)
    return "  ".join(text for text in (time, event.event, event.queue, event.id, said) if text)
