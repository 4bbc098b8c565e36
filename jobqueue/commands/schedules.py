"""The command schedule, which has subcommands: list, show, put, edit, run, pause, resume, delete, backfill."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any, get_args

import click

from jobqueue.commands.exits import Exit
from jobqueue.commands.options import TIME, WHEN, Failure, usage, verb
from jobqueue.commands.output import Column, Output
from jobqueue.commands.payloads import read_payload
from jobqueue.commands.shapes import compact, counted, paused_since, span, stamp, status_style, utc_now
from jobqueue.schedule import Missed, Overlap

if TYPE_CHECKING:
    from jobqueue.client.schedule_types import Schedule
    from jobqueue.client.sync_client import Client

_JOB = {"queue": "queue", "job_type": "type", "description": "description", "priority": "priority", "delay": "delay",
        "expires_in": "expires_in", "max_attempts": "max_attempts", "lease": "lease_seconds", "key": "key", "tags": "tags"}  # fmt: skip
"""The options that describe the job, and their fields."""

NONE = "none"


@click.group("schedule")
def schedule_command() -> None:
    """Enqueue jobs on a schedule, by cron expression or at an interval.

    \b
    Examples:
      jobqueue schedule put nightly '{"kind": "daily"}' --cron '0 2 * * *' --timezone Europe/Berlin --queue reports
      jobqueue schedule put beat null --every 30s --queue health --overlap allow
      jobqueue schedule list
      jobqueue schedule show nightly
      jobqueue schedule edit nightly --cron '30 2 * * *'
      jobqueue schedule run nightly
      jobqueue schedule pause nightly
      jobqueue schedule backfill nightly --from 2027-01-10T00:00:00Z --to 2027-01-14T00:00:00Z
    """


def _when(schedule: Schedule) -> str:
    if schedule.cron is None:
        return f"every {span(schedule.every or 0.0) if (schedule.every or 0.0) >= 60 else f'{schedule.every:g}s'}"
    return schedule.cron if schedule.timezone == "UTC" or not schedule.cron else f"{schedule.cron} {schedule.timezone}"


def _state(schedule: Schedule) -> str:
    if schedule.paused:
        return "paused"
    if schedule.problem is not None:
        return "failing"
    if not schedule.next:
        return "ended"
    return "running" if schedule.running else "open"


def _fields(schedule: Schedule, now: datetime) -> list[tuple[str, str]]:
    job = schedule.job
    missed = schedule.missed if schedule.missed == "skip" else f"{schedule.missed}, of the last {span(schedule.catch_up)}"
    more = {
        "delay": "" if job.delay is None else f"{job.delay:g}s",
        "expires in": "" if job.expires_in is None else f"{job.expires_in:g}s",
        "max attempts": str(job.max_attempts or ""),
        "lease": "" if job.lease_seconds is None else f"{job.lease_seconds:g}s",
    }
    return [
        ("name", schedule.name),
        ("state", _state(schedule)),
        ("paused", paused_since(schedule.paused_at, schedule.paused_by, now)),
        ("problem", schedule.problem or ""),
        ("when", _when(schedule)),
        ("starts", stamp(schedule.starts_at)),
        ("ends", stamp(schedule.ends_at)),
        ("missed", missed),
        ("overlap", schedule.overlap),
        ("jitter", f"{schedule.jitter:g}s" if schedule.jitter else ""),
        ("last", "" if schedule.last_at is None else f"{stamp(schedule.last_at)}  {schedule.last_job}"),
        *(("next" if at == 0 else "", stamp(time)) for at, time in enumerate(schedule.next)),
        ("running", ", ".join(schedule.running)),
        ("waiting", ", ".join(stamp(slot) for slot in schedule.waiting)),
        ("made", f"{counted(schedule.made, 'job')}, {counted(schedule.skipped, 'slot')} skipped"),
        ("queue", job.queue),
        ("type", job.type or ""),
        ("key", job.key or ""),
        ("tags", ", ".join(job.tags)),
        ("description", job.description or ""),
        ("priority", str(job.priority)),
        *more.items(),
        ("payload", compact(job.payload) or "null"),
    ]


def _show(output: Output, schedule: Schedule) -> None:
    if output.as_json:
        output.json(schedule)
    else:
        output.fields(_fields(schedule, utc_now()))


COLUMNS = (
    Column("NAME"),
    Column("STATE", keep=8, style=status_style),
    Column("WHEN", keep=7, cut=24),
    Column("NEXT", keep=6),
    Column("LAST", keep=4),
    Column("QUEUE", keep=5, cut=12),
    Column("MADE", keep=3, right=True),
    Column("SKIPPED", keep=2, right=True),
)


def _row(schedule: Schedule) -> tuple[str, ...]:
    ahead = stamp(schedule.next[0]) if schedule.next else ""
    return (
        schedule.name, _state(schedule), _when(schedule), ahead, stamp(schedule.last_at), schedule.job.queue, str(schedule.made),
        str(schedule.skipped),
    )  # fmt: skip


@verb("list")
def _list_command(client: Client, output: Output) -> None:
    """List all schedules, by name.

    STATE is paused; failing if no job could be made for the last slot; running while one of its jobs is not concluded; ended if
    there are no more slots; otherwise open. Times are in this machine's time zone.
    """
    found = client.schedules.list()
    if output.as_json:
        for schedule in found:
            output.json(schedule)
    else:
        output.table(COLUMNS, [_row(schedule) for schedule in found], "no schedules; `jobqueue schedule put` makes one")


@verb("show", click.argument("name"))
def _show_command(client: Client, output: Output, name: str) -> None:
    """Show a schedule.

    Shows its next slots, its runs, and the job that it makes.
    """
    _show(output, client.schedules.get(name))


_RULES: tuple[Callable[[Any], Any], ...] = (
    click.option("--cron", metavar="EXPR", help="Minute, hour, day of the month, month, day of the week; or @daily and the like."),
    click.option("--every", type=TIME, help="A slot at this interval, a second or more."),
    click.option("--timezone", metavar="ZONE", help="The time zone of --cron, as Europe/Berlin. [UTC]"),
    click.option(
        "--missed", type=click.Choice(get_args(Missed)), help="Which slots to run that fell due while the server was down. [last]"
    ),
    click.option("--catch-up", type=TIME, help="Of the missed slots, run only those within this time. [1d]"),
    click.option(
        "--overlap", type=click.Choice(get_args(Overlap)), help="What to do with a slot while a job of an earlier slot is live. [skip]"
    ),
    click.option("--jitter", type=TIME, help="Delay each job by a random time of up to this long."),
    click.option("--starts-at", metavar="WHEN", help="No slots before this time."),
    click.option("--ends-at", metavar="WHEN", help="No slots after this time."),
    click.option("--paused", is_flag=True, default=None, help="Pause the schedule: it makes no jobs."),
    click.option("-f", "--file", metavar="PATH", help="Read the payload from this file; - is stdin."),
    click.option("--text", is_flag=True, help="The payload is a plain string, not JSON."),
    click.option("-q", "--queue", metavar="NAME", help="The queue of the jobs. [default]"),
    click.option("-t", "--type", "job_type", metavar="NAME", help="The type of the jobs."),
    click.option("--key", metavar="KEY", help="The key of the jobs."),
    click.option("--tag", "tags", multiple=True, metavar="TAG", help="A word to find the jobs by; can be repeated."),
    click.option("--description", metavar="TEXT", help="A text for people."),
    click.option("--priority", type=click.IntRange(0, 9), help="0 is the most urgent. [5]"),
    click.option("--delay", type=TIME, help="Delay each job by this time after its slot."),
    click.option("--expires-in", type=TIME, help="Drop a job if no worker has taken it by then."),
    click.option("--max-attempts", type=click.IntRange(1), metavar="N", help="Attempts before a failure is final."),
    click.option("--lease", type=TIME, help="The length of a worker's lease on the jobs."),
)


def _given(fields: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The values of the options for the schedule, and of those for its job."""
    job = {_JOB[name]: fields.pop(name) for name in _JOB}
    for name in ("starts_at", "ends_at"):
        if fields[name] is not None and fields[name] != NONE:
            fields[name] = WHEN.convert(fields[name], None, None)
    if fields["cron"] is not None and fields["every"] is not None:
        usage("give --cron or --every, not both")
    rules = {name: value for name, value in fields.items() if value is not None}
    return rules, {name: value for name, value in job.items() if value is not None and value != ()}


def _payload(payload: str | None, file: str | None, text: bool) -> Any:
    try:
        return read_payload(payload, file, text)
    except OSError as error:
        raise Failure(f"{error.filename or 'stdin'} cannot be read: {error.strerror}", code="unreadable", exit_code=Exit.ERROR) from None


@verb("put", click.argument("name"), click.argument("payload", required=False), *_RULES)
def _put_command(client: Client, output: Output, name: str, payload: str | None, file: str | None, text: bool, **fields: Any) -> None:
    """Create or replace a schedule.

    Options that you leave out get their defaults. PAYLOAD is the payload of each job: JSON, or any string with --text. Without it,
    the payload is read from --file or from stdin. To put a schedule unchanged has no effect, so a deployment can put its
    schedules each time.

    \b
    Examples:
      jobqueue schedule put nightly '{"kind": "daily"}' --cron '0 2 * * *' --timezone Europe/Berlin --queue reports
      jobqueue schedule put beat null --every 30s --overlap allow
    """
    from jobqueue.client.types import NewJob

    rules, job = _given(fields)
    if "cron" not in rules and "every" not in rules:
        usage("say when: give --cron or --every")
    if NONE in (rules.get("starts_at"), rules.get("ends_at")):
        usage("--starts-at and --ends-at are times; leave them out for none")
    _show(output, client.schedules.put(name, NewJob(_payload(payload, file, text), **job), **rules))


@verb("edit", click.argument("name"), click.argument("payload", required=False), *_RULES)
def _edit_command(client: Client, output: Output, name: str, payload: str | None, file: str | None, text: bool, **fields: Any) -> None:
    """Change a schedule. Options that you leave out change nothing.

    Without PAYLOAD and --file the payload stays. --starts-at none and --ends-at none remove these times.

    \b
    Examples:
      jobqueue schedule edit nightly --cron '30 2 * * *'
      jobqueue schedule edit nightly '{"kind": "weekly"}' --priority 2
      jobqueue schedule edit nightly --ends-at none
    """
    import msgspec

    rules, job = _given(fields)
    change: dict[str, Any] = {rule: None if value == NONE and rule in ("starts_at", "ends_at") else value for rule, value in rules.items()}
    anew = payload is not None or file is not None
    if text and not anew:
        usage("--text goes with a payload")
    if job or anew:
        # The job is one field of the schedule, so its other parts are sent as they were read a moment ago.
        before = client.schedules.get(name).job
        change["job"] = msgspec.structs.replace(before, **job, **({"payload": _payload(payload, file, text)} if anew else {}))
    _show(output, client.schedules.change(name, **change))


@verb("run", click.argument("name"))
def _run_command(client: Client, output: Output, name: str) -> None:
    """Make a job now, in addition to the slots, and print its id."""
    job = client.schedules.run(name)
    if output.as_json:
        output.json(job)
    else:
        output.line(job.id)


_NAMES: Any = click.argument("names", metavar="NAME...", nargs=-1, required=True)


def _each(output: Output, names: tuple[str, ...], change: Callable[[str], Schedule]) -> None:
    output.acts = True
    for name in names:
        schedule = change(name)
        if output.as_json:
            output.json(schedule)
        else:
            ahead = f"  next {stamp(schedule.next[0])}" if schedule.next else ""
            output.line(f"{schedule.name}  {_state(schedule)}{ahead}")


@verb("pause", _NAMES)
def _pause_command(client: Client, output: Output, names: tuple[str, ...]) -> None:
    """Pause schedules: they make no jobs.

    Jobs that were already made are not affected.
    """
    _each(output, names, client.schedules.pause)


@verb("resume", _NAMES)
def _resume_command(client: Client, output: Output, names: tuple[str, ...]) -> None:
    """Resume schedules.

    Slots that fell in the pause are skipped.
    """
    _each(output, names, client.schedules.resume)


@verb("delete", _NAMES)
def _delete_command(client: Client, output: Output, names: tuple[str, ...]) -> None:
    """Delete schedules. The jobs that they made stay."""
    output.acts = True
    for name in names:
        client.schedules.delete(name)
        if not output.as_json:
            output.line(f"{name}  deleted")


@verb(
    "backfill",
    click.argument("name"),
    click.option("--from", "start", type=WHEN, required=True, help="The first slot, or a time before it."),
    click.option("--to", "end", type=WHEN, required=True, help="The last slot, or a time after it; not in the future."),
)
def _backfill_command(client: Client, output: Output, name: str, start: datetime, end: datetime) -> None:
    """Run past slots, 100 at most, and print the ids of their jobs.

    A slot whose job exists already is not run again. Each waits for those before it, unless the schedule's overlap is allow.

    \b
    Example:
      jobqueue schedule backfill nightly --from 2027-01-10T00:00:00Z --to 2027-01-14T00:00:00Z
    """
    for job_id in client.schedules.backfill(name, start, end):
        if output.as_json:
            output.json({"id": job_id})
        else:
            output.line(job_id)


for _command in (
    _list_command, _show_command, _put_command, _edit_command, _run_command, _pause_command, _resume_command, _delete_command,
    _backfill_command,
):  # fmt: skip
    schedule_command.add_command(_command)
