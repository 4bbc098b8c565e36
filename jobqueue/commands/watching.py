"""The command top: the queues on one screen, refreshed every second."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

import click

from jobqueue.commands.exits import Exit
from jobqueue.commands.options import TIME, Where, connect, verb
from jobqueue.commands.output import Column, Output, plain, rich_table
from jobqueue.commands.servers import heading, stats_of
from jobqueue.commands.shapes import counted, queue_state, span, status_style, utc_now
from jobqueue.errors import QueueError, StorageUnavailable

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from jobqueue.client.sync_client import Client
    from jobqueue.client.types import Queue

COLUMNS = (
    Column("QUEUE", cut=16),
    Column("STATE", keep=7, style=status_style),
    Column("QUEUED", right=True),
    Column("SCHEDULED", keep=5, right=True),
    Column("IN_PROGRESS", right=True),
    Column("WAITERS", keep=4, right=True),
    Column("OLDEST", keep=6, right=True),
    Column("IN/S", keep=8, right=True),
    Column("OUT/S", keep=8, right=True),
    Column("OK/S", keep=3, right=True),
    Column("FAIL/S", keep=8, right=True),
)
HEAD_LINES = 4
"""Lines of the screen that are not queues: the heading, a blank line, the titles, the total of all queues."""

INTERVAL_SECONDS_MIN = 0.1


class Sample(NamedTuple):
    """What the server held at one time. at: monotonic seconds."""

    at: float
    now: datetime
    queues: Sequence[Queue]


class Servers:
    """The line about the servers on the store; none if there is only one server, or if the token does not permit it.

    line: as of the last refresh; wrong: whether something needs attention.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._told = True
        self.line = ""
        self.wrong = False

    def look(self) -> None:
        """Ask, unless an earlier answer showed that there is no such line. Raises StorageUnavailable while no server owns the queue."""
        if not self._told:
            return
        stats = stats_of(self._client)
        cluster = None if stats is None else stats.cluster
        if stats is None or cluster is None:
            self._told = False
            return
        self.line, self.wrong = heading(cluster)
        if stats.unavailable is not None:
            raise StorageUnavailable(stats.unavailable)


class Rates(NamedTuple):
    """Jobs per second between two samples. None if unknown: in the first sample, and after the server restarted."""

    enqueued: float | None = None
    dequeued: float | None = None
    succeeded: float | None = None
    failed: float | None = None


def rates_of(queue: Queue, before: Queue | None, seconds: float) -> Rates:
    """A queue's rates."""
    if before is None or seconds <= 0:
        return Rates()
    grown = [getattr(queue.totals, name) - getattr(before.totals, name) for name in Rates._fields]
    return Rates(*(None if count < 0 else count / seconds for count in grown))


def _sum(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _rate(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.1f}" if 0 < value < 10 else f"{value:.0f}"


class Row(NamedTuple):
    """A queue, or all queues, at one refresh. oldest: seconds that the next job has been waiting."""

    queue: str
    state: str
    queued: int
    scheduled: int
    in_progress: int
    waiters: int
    oldest: float | None
    rates: Rates

    @property
    def cells(self) -> tuple[str, ...]:
        """The cells of the table."""
        counts = map(str, (self.queued, self.scheduled, self.in_progress, self.waiters))
        return (self.queue, self.state, *counts, "" if self.oldest is None else span(self.oldest), *map(_rate, self.rates))

    @property
    def busy(self) -> tuple[float, float, str]:
        """Sort key: the busiest first, idle queues by name."""
        return -(self.queued + self.in_progress), -sum(rate or 0 for rate in self.rates), self.queue


def rows_of(sample: Sample, before: Sample | None) -> tuple[list[Row], Row]:
    """A row for each queue, the busiest first, and one for all of them."""
    older = {} if before is None else {queue.name: queue for queue in before.queues}
    seconds = 0.0 if before is None else sample.at - before.at
    rows = []
    for queue in sample.queues:
        state = queue_state(queue)
        oldest = None if queue.oldest_queued_at is None else max(0.0, (sample.now - queue.oldest_queued_at).total_seconds())
        rates = rates_of(queue, older.get(queue.name), seconds)
        rows.append(Row(queue.name, state, queue.queued, queue.scheduled, queue.in_progress, queue.waiters, oldest, rates))
    rows.sort(key=lambda row: row.busy)
    return rows, _all(rows)


def _all(rows: Sequence[Row]) -> Row:
    """The total of all queues."""
    queued, scheduled, in_progress, waiters = (sum(getattr(row, name) for row in rows) for name in Row._fields[2:6])
    oldest = max((row.oldest for row in rows if row.oldest is not None), default=None)
    rates = Rates(*(_sum(getattr(row.rates, name) for row in rows) for name in Rates._fields))
    return Row("all", "", queued, scheduled, in_progress, waiters, oldest, rates)


@verb(
    "top", click.option("--interval", type=TIME, default="1", help="Time between two refreshes. [default: 1s]"), connects=False, trusts=True
)
def top_command(where: Where, output: Output, interval: float) -> int:
    """Watch the queues, live.

    The busiest queues come first. The rates are jobs per second since the last refresh: enqueued, handed to workers, succeeded,
    failed. In a pipe, it samples twice and prints the result once. q or Ctrl-C ends it.

    \b
    Example:
      jobqueue top --interval 2s
    """
    interval = max(interval, INTERVAL_SECONDS_MIN)
    # One try for each refresh: the next is soon, and the screen shows the error.
    with connect(where, tries=1) as client:
        servers = Servers(client)

        def look() -> Sample:
            if output.terminal:
                servers.look()
            return Sample(time.monotonic(), utc_now(), client.queues())

        if output.terminal and sys.stdin.isatty():
            with contextlib.suppress(KeyboardInterrupt):
                _live(output, look, interval, servers)
            return Exit.DONE
        before = look()
        time.sleep(interval)
        rows, total = rows_of(look(), before)
        if output.as_json:
            for row in [*rows, total]:
                output.json({**row._asdict(), "rates": row.rates._asdict()})
        else:
            output.table(COLUMNS, [row.cells for row in [*rows, total]], "")
        return Exit.DONE


def _live(output: Output, look: Callable[[], Sample], interval: float, servers: Servers) -> None:
    """Ask, show, wait; repeat until q. An error is shown in the heading, and the next refresh tries again."""
    from rich.live import Live

    sample = before = None
    with _keys() as key, Live(console=output.console, screen=True, auto_refresh=False) as live:
        while True:
            trouble = ""
            try:
                before, sample = sample, look()
            except QueueError as error:
                before, trouble = None, f"{error.code}: {error.detail}"
            live.update(screen(output.console, sample, before, trouble, servers), refresh=True)
            deadline = time.monotonic() + interval
            while (left := deadline - time.monotonic()) > 0:
                if key(left) in ("q", "Q"):
                    return


@contextlib.contextmanager
def _keys() -> Iterator[Callable[[float], str]]:
    """Key presses: yields a function that waits up to this many seconds for one. Restores the terminal at the end."""
    import termios
    import tty

    descriptor = sys.stdin.fileno()
    mode = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor)
        yield lambda seconds: _key(descriptor) if select.select([descriptor], [], [], seconds)[0] else ""
    finally:
        with contextlib.suppress(termios.error):
            termios.tcsetattr(descriptor, termios.TCSADRAIN, mode)


def _key(descriptor: int) -> str:
    """The key that was pressed. A terminal that has gone is always ready but has no keys: it ends the command as q does."""
    try:
        pressed = os.read(descriptor, 1)
    except OSError:
        pressed = b""
    return pressed.decode("latin-1") or "q"


def screen(console: Console, sample: Sample | None, before: Sample | None, trouble: str, servers: Servers | None = None) -> RenderableType:
    """One screen: a heading, as many queues as there is room for, and the total of all queues."""
    from rich.console import Group
    from rich.text import Text

    width, height = console.size
    title = Text("jobqueue top", style="bold").append(f"   {time.strftime('%H:%M:%S')}   q ends", style="not bold dim")
    parts: list[RenderableType] = [title]
    line = servers.line if servers is not None else ""
    if line and servers is not None:
        parts.append(Text(plain(line), style="red" if servers.wrong else "dim", no_wrap=True, overflow="ellipsis"))
    if trouble:
        parts.append(Text(plain(trouble), style="red", no_wrap=True, overflow="ellipsis"))
    if sample is None:
        return Group(*parts)
    rows, total = rows_of(sample, before)
    room = max(1, height - HEAD_LINES - bool(trouble) - bool(line))
    hidden = len(rows) - room + 1 if len(rows) > room else 0
    shown = [row.cells for row in rows[: len(rows) - hidden]]
    table = rich_table(COLUMNS, [*shown, total.cells], width)
    table.rows[-1].style = "bold"
    parts += [Text(), table]
    if hidden:
        parts.append(Text(f"and {counted(hidden, 'queue')} less busy", style="dim"))
    return Group(*parts)
