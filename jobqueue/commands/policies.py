"""The verbs of what a queue's policy holds back: policy, keys."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click
import msgspec

from jobqueue.commands.exits import Exit
from jobqueue.commands.options import TIME, usage, verb
from jobqueue.commands.output import Column, Output
from jobqueue.commands.reasons import held_by
from jobqueue.commands.shapes import queue_fields, status_style, utc_now
from jobqueue.errors import UnknownQueue
from jobqueue.model import PerKey, Rate
from jobqueue.process.units import DURATION

if TYPE_CHECKING:
    from jobqueue.client.sync_client import Client
    from jobqueue.client.types import Key

KEYS_SHOWN = 100
"""Keys listed unless more are asked for."""

NONE = "none"
"""Takes a limit away."""

_RATE = re.compile(r"([0-9]{1,9})/([^:]+)(?::([0-9]{1,9}))?")
_PER_KEY = {"per_key_order": "order", "per_key_concurrency": "concurrency", "per_key_rate": "rate", "per_key_max_jobs": "max_jobs"}


class Bound(click.ParamType):  # type: ignore[type-arg] # generic from click 8.4 on, we take older ones too
    """A whole number from 1 on, or none."""

    name = "n"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """An int, or NONE."""
        if value == NONE or isinstance(value, int):
            return value
        if re.fullmatch(r"[0-9]{1,9}", value) is None or int(value) < 1:
            self.fail(f"{value!r} is not a whole number; write one of 1 or more, or {NONE} for no limit", param, ctx)
        return int(value)


class RateOf(click.ParamType):  # type: ignore[type-arg] # as Bound
    """A rate as 100/60s, 100/60s:10, 5/s; or none."""

    name = "rate"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """A Rate, or NONE."""
        if value == NONE or isinstance(value, Rate):
            return value
        found = _RATE.fullmatch(value)
        if found is None:
            self.fail(f"{value!r} is not a rate; write 100/60s, or 100/60s:10 for 10 at once, or {NONE}", param, ctx)
        per = found[2] if found[2][:1].isdigit() else f"1{found[2]}"
        try:
            return Rate(int(found[1]), DURATION.parse(per), int(found[3] or 1))
        except ValueError as error:
            self.fail(f"the time of {value!r} {error}", param, ctx)


class Weight(click.ParamType):  # type: ignore[type-arg] # as Bound
    """KEY=N, or KEY=none."""

    name = "weight"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The key, and its weight, or None."""
        if isinstance(value, tuple):
            return value
        # A key may hold an = itself.
        key, _, weight = value.rpartition("=")
        if not key or (weight != NONE and re.fullmatch(r"[0-9]{1,9}(?:\.[0-9]{1,9})?", weight) is None):
            self.fail(f"{value!r} is not a key and its weight, as acme=3, or acme={NONE}", param, ctx)
        return key, None if weight == NONE else float(weight)


BOUND, RATE, WEIGHT = Bound(), RateOf(), Weight()
ORDER = click.Choice(["none", "fifo", "halt"])
_N, _OR_NONE = "N|none", "RATE|none"


@verb(
    "policy",
    click.argument("name"),
    click.option("--concurrency", type=BOUND, metavar=_N, help="Jobs of the queue in progress at once."),
    click.option("--rate", type=RATE, metavar=_OR_NONE, help="Jobs handed out in a time, as 100/60s; 100/60s:10 for 10 at once."),
    click.option("--per-key-order", type=ORDER, help="fifo: jobs of a key one after the other; halt: a failure halts the key."),
    click.option("--per-key-concurrency", type=BOUND, metavar=_N, help="Jobs of each key in progress at once."),
    click.option("--per-key-rate", type=RATE, metavar=_OR_NONE, help="Jobs of each key handed out in a time."),
    click.option("--per-key-max-jobs", type=BOUND, metavar=_N, help="Jobs of each key that may be there and not concluded."),
    click.option("--fair/--no-fair", default=None, help="The key with the least in progress, by its weight, goes first; or not."),
    click.option("--weight", "weights", type=WEIGHT, multiple=True, metavar="KEY=N|none", help="A key's share; others have 1."),
    click.option("--max-jobs", type=BOUND, metavar=_N, help="Jobs of the queue that may be there and not concluded."),
    click.option("--lease", type=TIME, help="How long a lease holds, unless worker or job says."),
    click.option("--max-attempts", type=click.IntRange(1), metavar="N", help="Attempts before a failure is final, unless a job says."),
    click.option("--create", is_flag=True, help="Make the queue if there is none of this name."),
)  # fmt: skip
def policy_command(client: Client, output: Output, name: str, create: bool, **asked: Any) -> int:
    """Show a queue's policy, or change some of it.

    What no option names stays as it is, and none takes a limit away. A change holds at once, also for jobs that are in the queue; jobs in
    progress go on.

    \b
    Examples:
      jobqueue policy mail
      jobqueue policy mail --concurrency 10 --rate 100/60s:10
      jobqueue policy ledger --create --per-key-order fifo
      jobqueue policy tenants --fair --weight acme=3
      jobqueue policy mail --rate none
    """
    given = {field: value for field, value in asked.items() if value is not None and value != ()}
    queue = None
    try:
        queue = client.queue(name)
    except UnknownQueue:
        if not create:
            raise UnknownQueue.told(f"no queue is named {name!r}; --create makes it") from None
    change: dict[str, Any] = {field: None if value == NONE else value for field, value in given.items() if field not in _PER_KEY}
    if "lease" in change:
        change["lease_seconds"] = change.pop("lease")
    # Each of these two is one field of the policy, so the rest of it is sent as it was a moment ago.
    rule: dict[str, Any] = {_PER_KEY[field]: None if value == NONE else value for field, value in given.items() if field in _PER_KEY}
    if "order" in rule:
        # Here none is a word of its own.
        rule["order"] = given["per_key_order"]
    if rule:
        before = (None if queue is None else queue.policy.per_key) or PerKey()
        after = msgspec.structs.replace(before, **rule)
        change["per_key"] = None if after == PerKey() else after
    if "weights" in change:
        weights = {**({} if queue is None else queue.policy.weights), **dict(change["weights"])}
        change["weights"] = {key: weight for key, weight in weights.items() if weight is not None}
    if queue is None:
        # At once, so that a policy which is refused makes no queue.
        queue = client.put_queue(name, **change)
    elif change:
        queue = client.change_queue(name, **change)
    if output.as_json:
        output.json(queue)
    else:
        output.fields(queue_fields(queue, utc_now()))
    return Exit.DONE


KEY_COLUMNS = (
    Column("KEY", cut=24),
    Column("HELD_BY", keep=8, style=status_style),
    Column("QUEUED", right=True),
    Column("SCHEDULED", keep=4, right=True),
    Column("IN_PROGRESS", keep=7, right=True),
    Column("HOLDER", keep=6, cut=36),
)


@verb(
    "keys",
    click.argument("name", metavar="QUEUE"),
    click.option("-n", "--limit", type=click.IntRange(1), metavar="N", help=f"At most so many. [default: {KEYS_SHOWN}]"),
    click.option("--all", "every", is_flag=True, help="All there are."),
)
def keys_command(client: Client, output: Output, name: str, limit: int | None, every: bool) -> None:
    """List the keys of a queue, those that hold most up first.

    HELD_BY is what keeps the queued jobs of a key back: a job before them (order), one that failed (halted), a pause, as many in progress
    as may be (concurrency), or a rate. HOLDER is the job that they wait for. `jobqueue pause QUEUE --key KEY` pauses a key.

    \b
    Examples:
      jobqueue keys mail
      jobqueue keys ledger --all --json | jq -r 'select(.block == "halted") | .holder' | xargs jobqueue retry
    """
    if every and limit is not None:
        usage("give --limit or --all, not both")
    most = None if every else limit or KEYS_SHOWN
    found = client.keys(name, limit=None if most is None else most + 1)
    shown = found if most is None else found[:most]
    if output.as_json:
        for key in shown:
            output.json(key)
        return
    now = utc_now()

    def row(key: Key) -> tuple[str, ...]:
        return (key.key, held_by(key, now), *map(str, (key.queued, key.scheduled, key.in_progress)), key.holder or "")

    output.table(KEY_COLUMNS, [row(key) for key in shown], "no keys; the queue's policy minds none, or none of its jobs has one")
    if len(found) > len(shown) and output.terminal:
        output.note("and more; --limit N or --all shows them")
