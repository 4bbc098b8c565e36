"""The commands for what a queue's policy holds back: policy, keys."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click
import msgspec

from jobqueue.commands.exits import Exit
from jobqueue.commands.options import TIME, usage, verb
from jobqueue.commands.output import Column, Output
from jobqueue.commands.pairs import NONE, Pair, TimeOf, amended
from jobqueue.commands.reasons import held_by
from jobqueue.commands.shapes import queue_fields, status_style, utc_now
from jobqueue.errors import UnknownQueue
from jobqueue.policy import Keep, PerKey, Rate
from jobqueue.process.units import DURATION

if TYPE_CHECKING:
    from jobqueue.client.sync_client import Client
    from jobqueue.client.types import Key

KEYS_SHOWN = 100
"""The default number of keys to list."""

_RATE = re.compile(r"([0-9]{1,9})/([^:]+)(?::([0-9]{1,9}))?")
_PER_KEY = {"per_key_order": "order", "per_key_concurrency": "concurrency", "per_key_rate": "rate", "per_key_max_jobs": "max_jobs"}


class Bound(click.ParamType):  # type: ignore[type-arg] # generic since click 8.4; older versions are supported too
    """A whole number of at least 1, or none."""

    name = "n"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """An int, or NONE."""
        if value == NONE or isinstance(value, int):
            return value
        if re.fullmatch(r"[0-9]{1,9}", value) is None or int(value) < 1:
            self.fail(f"{value!r} is not a whole number; write one of 1 or more, or {NONE} for no limit", param, ctx)
        return int(value)


class RateOf(click.ParamType):  # type: ignore[type-arg] # as Bound
    """A rate, such as 100/60s, 100/60s:10, 5/s; or none."""

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


class KeepOf(click.ParamType):  # type: ignore[type-arg] # as Bound
    """What to keep, such as 7d, 1000, 7d/1000; or none."""

    name = "keep"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """A Keep, or NONE."""
        if value == NONE or isinstance(value, Keep):
            return value
        seconds: float | None = None
        count: int | None = None
        for part in value.split("/"):
            # A number alone is a number of jobs, never of seconds.
            number = re.fullmatch(r"[0-9]{1,10}", part) is not None
            try:
                if (count if number else seconds) is not None:
                    raise ValueError("is there twice")
                if number:
                    count = int(part)
                else:
                    seconds = DURATION.parse(part)
            except ValueError:
                self.fail(f"{value!r} is invalid; write a time, a number of jobs or both, as 7d/1000, or {NONE}", param, ctx)
        return Keep(seconds, count)


class Weight(click.ParamType):  # type: ignore[type-arg] # as Bound
    """KEY=N, or KEY=none."""

    name = "weight"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The key, and its weight, or None."""
        if isinstance(value, tuple):
            return value
        # A key can contain a = itself.
        key, _, weight = value.rpartition("=")
        if not key or (weight != NONE and re.fullmatch(r"[0-9]{1,9}(?:\.[0-9]{1,9})?", weight) is None):
            self.fail(f"{value!r} is not KEY=WEIGHT, such as acme=3, or acme={NONE}", param, ctx)
        return key, None if weight == NONE else float(weight)


BOUND, RATE, KEEP, WEIGHT, PAIR, SPAN = Bound(), RateOf(), KeepOf(), Weight(), Pair(), TimeOf()
ORDER = click.Choice(["none", "fifo", "halt"])
_N, _OR_NONE, _KEEP = "N|none", "RATE|none", "TIME|N|TIME/N|none"


@verb(
    "policy",
    click.argument("name"),
    click.option("--concurrency", type=BOUND, metavar=_N, help="Jobs of the queue in progress at the same time."),
    click.option("--rate", type=RATE, metavar=_OR_NONE, help="Jobs handed out in a period, as 100/60s; 100/60s:10 allows bursts of 10."),
    click.option("--per-key-order", type=ORDER, help="fifo: jobs of a key run one after another; halt: also, a failure halts the key."),
    click.option("--per-key-concurrency", type=BOUND, metavar=_N, help="Jobs of each key in progress at the same time."),
    click.option("--per-key-rate", type=RATE, metavar=_OR_NONE, help="Jobs of each key handed out in a period."),
    click.option("--per-key-max-jobs", type=BOUND, metavar=_N, help="Live (not concluded) jobs of each key."),
    click.option("--fair/--no-fair", default=None, help="Whether the key with the fewest jobs in progress goes first."),
    click.option("--weight", "weights", type=WEIGHT, multiple=True, metavar="KEY=N|none", help="A key's share; the default is 1."),
    click.option("--max-jobs", type=BOUND, metavar=_N, help="Live (not concluded) jobs of the queue."),
    click.option("--lease", type=TIME, help="Length of a lease, unless the worker or the job sets one."),
    click.option("--max-attempts", type=BOUND, metavar=_N, help="Attempts before a failure is final, unless the job sets it."),
    click.option("--dead-letter", metavar="QUEUE|none", help="The queue for jobs that have failed for good; none: only history."),
    click.option("--keep-succeeded", type=KEEP, metavar=_KEEP, help="How long history keeps jobs that succeeded, as 7d/1000."),
    click.option("--keep-failed", type=KEEP, metavar=_KEEP, help="The same for jobs that failed, were cancelled or expired."),
    click.option("--delay", type=SPAN, metavar="TIME|none", help="The delay of new jobs that do not set their own."),
    click.option("--expires-in", type=SPAN, metavar="TIME|none", help="How long a job can wait before it expires, or a minute longer."),
    click.option("--tag", "tags", type=PAIR, multiple=True, metavar="NAME[=VALUE]", help="A tag of the queue; without a value, remove it."),
    click.option("--attribute", "attributes", type=PAIR, multiple=True, metavar="NAME[=VALUE]", help="The same for a dialect's attribute."),
    click.option("--create", is_flag=True, help="Create the queue if it does not exist."),
)  # fmt: skip
def policy_command(client: Client, output: Output, name: str, create: bool, **asked: Any) -> int:
    """Show a queue's policy, or change fields of it.

    Options that you leave out change nothing; the value none removes a limit. A change takes effect at once, also for jobs that
    are already in the queue; jobs in progress continue.

    \b
    Examples:
      jobqueue policy mail
      jobqueue policy mail --concurrency 10 --rate 100/60s:10
      jobqueue policy ledger --create --per-key-order fifo
      jobqueue policy tenants --fair --weight acme=3
      jobqueue policy mail --max-attempts 3 --dead-letter mail-dead
      jobqueue policy mail --keep-succeeded 1h/100 --keep-failed 7d
      jobqueue policy mail --rate none
      jobqueue policy mail --delay 30s --expires-in 4d --tag team=mail
    """
    given = {field: value for field, value in asked.items() if value is not None and value != ()}
    queue = None
    try:
        queue = client.queue(name)
    except UnknownQueue:
        if not create:
            raise UnknownQueue.told(f"there is no queue named {name!r}; use --create to create it") from None
    change: dict[str, Any] = {field: None if value == NONE else value for field, value in given.items() if field not in _PER_KEY}
    if "lease" in change:
        change["lease_seconds"] = change.pop("lease")
    # Each of these two is one field of the policy, so its other parts are sent as they were read a moment ago.
    rule: dict[str, Any] = {_PER_KEY[field]: None if value == NONE else value for field, value in given.items() if field in _PER_KEY}
    if "order" in rule:
        # For these options, none is a value.
        rule["order"] = given["per_key_order"]
    if rule:
        before = (None if queue is None else queue.policy.per_key) or PerKey()
        after = msgspec.structs.replace(before, **rule)
        change["per_key"] = None if after == PerKey() else after
    if "weights" in change:
        weights = {**({} if queue is None else queue.policy.weights), **dict(change["weights"])}
        change["weights"] = {key: weight for key, weight in weights.items() if weight is not None}
    for field in ("tags", "attributes"):
        if field in change:
            change[field] = amended({} if queue is None else getattr(queue.policy, field), change[field])
    if queue is None:
        # In one step, so that a refused policy creates no queue.
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
    click.option("-n", "--limit", type=click.IntRange(1), metavar="N", help=f"List at most N keys. [default: {KEYS_SHOWN}]"),
    click.option("--all", "every", is_flag=True, help="List all keys."),
)
def keys_command(client: Client, output: Output, name: str, limit: int | None, every: bool) -> None:
    """List the keys of a queue; those that hold back the most jobs come first.

    HELD_BY is what holds back the queued jobs of a key: an earlier job (order), a failed job (halted), a pause, the limit of
    jobs in progress (concurrency), or a rate. HOLDER is the job that they wait for. `jobqueue pause QUEUE --key KEY` pauses a key.

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
        output.note("there are more; use --limit N or --all")
