"""The options of enqueue for unique jobs."""

from __future__ import annotations

from typing import Any, get_args

import click

from jobqueue.commands.options import TIME, usage
from jobqueue.unique import OnConflict, Unique, Until

OPTIONS = (
    click.option("--unique", metavar="KEY", help="Allow one job with this unique key in the queue."),
    click.option("--unique-until", type=click.Choice(get_args(Until)), help="Until when the job holds the key. [concluded]"),
    click.option("--unique-for", type=TIME, help="The shortest time for which the job holds the key."),
    click.option(
        "--on-conflict",
        type=click.Choice(get_args(OnConflict)),
        help="If another job holds the key: keep that job, replace its content, run after it, or refuse this job. [keep]",
    ),
    click.option("--max-wait", type=TIME, help="With --on-conflict replace: the longest that the existing job can be postponed."),
)
"""In the order of the help."""

_FIELDS = {"unique_until": "until", "unique_for": "for_", "on_conflict": "on_conflict", "max_wait": "max_wait"}


def take_unique(asked: dict[str, Any]) -> None:
    """Replace these options' values by the form that the client takes."""
    given = {field: value for option, field in _FIELDS.items() if (value := asked.pop(option)) is not None}
    key = asked["unique"]
    if key is not None:
        asked["unique"] = Unique(key, **given)
    elif given:
        usage("--unique-until, --unique-for, --on-conflict and --max-wait go with --unique")
