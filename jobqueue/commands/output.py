"""How commands print: rich tables on a terminal, aligned plain text in a pipe, JSON on request.

Text from jobs is shown as plain text: control characters, which could manipulate a terminal, are escaped, and rich never interprets markup
in it. On a terminal a table fits the width: less important columns are dropped first, then long texts are cut; ids are cut only if they
alone are too wide. In a pipe nothing is cut.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import click
import msgspec

from jobqueue.commands.unread import drop_what_nobody_reads

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

# C0, C1, lone surrogates, line separators, and characters that change the writing direction.
_HARMFUL = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

GAP = 2
"""Spaces between columns."""

NOTHING = "-"
"""An empty cell."""

_encode = msgspec.json.Encoder().encode


def plain(text: str) -> str:
    """Text on one line, without anything that a terminal would interpret."""
    return _HARMFUL.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


class Column(NamedTuple):
    """keep: columns with a lower number are dropped first on a narrow terminal; cut: can be cut to this many characters, 0 for never;
    style: rich's style for a cell's text.
    """

    title: str
    keep: int = 9
    right: bool = False
    cut: int = 0
    style: Callable[[str], str] | str = ""

    def style_of(self, cell: str) -> str:
        """The style of a cell."""
        if cell == NOTHING:
            return "dim"
        return self.style if isinstance(self.style, str) else self.style(cell)


class Output:
    """Where a command's output goes."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self.acts = False
        """Whether what is printed reports changes that were already made, with more to come. If so, the command continues when nobody reads
        the output any more.
        """

    def _echo(self, text: str | bytes, err: bool = False) -> None:
        try:
            click.echo(text, err=err)
        except BrokenPipeError:
            if not self.acts or not drop_what_nobody_reads():
                raise

    @cached_property
    def terminal(self) -> bool:
        """Whether stdout is a terminal."""
        return not self.as_json and sys.stdout.isatty()

    @cached_property
    def console(self) -> Console:
        """rich on stdout; it honours NO_COLOR and TERM=dumb."""
        from rich.console import Console

        return Console(highlight=False, markup=False, emoji=False)

    @cached_property
    def errors(self) -> Console:
        """rich on stderr, for progress."""
        from rich.console import Console

        return Console(stderr=True, highlight=False, markup=False, emoji=False)

    def json(self, value: Any) -> None:
        """One line of JSON."""
        line = _encode(value)
        # Payloads are passed on unchanged, including their line ends.
        self._echo(msgspec.json.format(line, indent=-1) if b"\n" in line or b"\r" in line else line)

    def problem(self, code: str, detail: str, field: str | None = None, **more: Any) -> None:
        """An error as JSON on stderr, with the same fields as the server's problems."""
        found = {"type": f"urn:jobqueue:problem:{code}", "code": code, "detail": detail}
        self._echo(_encode({**found, **({} if field is None else {"field": field}), **more}), err=True)

    def line(self, text: str) -> None:
        """One line of text."""
        self._echo(plain(text))

    def note(self, text: str) -> None:
        """One line for people on stderr; nothing with --json."""
        if not self.as_json:
            self._echo(plain(text), err=True)

    def fields(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Names and values, one per line. Empty values are left out."""
        shown = [(name, plain(value)) for name, value in pairs if value]
        width = max((len(name) for name, _ in shown), default=0)
        for name, value in shown:
            if self.terminal:
                from rich.text import Text

                self.console.print(Text(f"{name:<{width}}  ", style="dim").append(value, style="not dim"), soft_wrap=True)
            else:
                self._echo(f"{name:<{width}}  {value}")

    def table(self, columns: Sequence[Column], rows: Sequence[Sequence[str]], empty: str) -> None:
        """A table, or the text for a table without rows."""
        if self.terminal:
            if rows:
                self.console.print(rich_table(columns, rows, self.console.width))
            else:
                self.console.print(empty, style="dim")
        else:
            for line in plain_table(columns, rows):
                self._echo(line)


def cells_of(rows: Iterable[Sequence[str]]) -> list[list[str]]:
    """Cells that are safe to print and never empty, so that a script can count columns."""
    return [[plain(cell) or NOTHING for cell in row] for row in rows]


def plain_table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> Iterable[str]:
    """Lines of aligned text, the titles first."""
    cells = [[column.title for column in columns], *cells_of(rows)]
    widths = [max(len(row[at]) for row in cells) for at in range(len(columns))]
    for row in cells:
        padded = (
            cell.rjust(width) if column.right else cell.ljust(width) for cell, width, column in zip(row, widths, columns, strict=True)
        )
        yield (" " * GAP).join(padded).rstrip()


def fitting(columns: Sequence[Column], widths: Sequence[int], width: int) -> dict[int, int]:
    """The columns, by index, that fit beside each other, and the width of each."""
    room = {at: min(has, column.cut or has) for at, (column, has) in enumerate(zip(columns, widths, strict=True))}
    while (left := width - sum(room.values()) - GAP * (len(room) - 1)) < 0 and len(room) > 1:
        del room[min(reversed(room), key=lambda at: columns[at].keep)]
    for at, has in room.items():
        more = min(widths[at] - has, max(0, left))
        room[at] += more
        left -= more
    return room


def rich_table(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> Table:
    """The table for a terminal of this width."""
    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    cells = cells_of(rows)
    widths = [max(map(cell_len, (column.title, *(row[at] for row in cells)))) for at, column in enumerate(columns)]
    room = fitting(columns, widths, width)
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    for at, most in room.items():
        column = columns[at]
        justify: Literal["left", "right"] = "right" if column.right else "left"
        table.add_column(column.title, justify=justify, no_wrap=True, overflow="ellipsis", max_width=most)
    for row in cells:
        table.add_row(*(Text(row[at], style=columns[at].style_of(row[at])) for at in room))
    return table
