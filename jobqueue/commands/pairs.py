"""Options with names: headers of a job, tags and attributes of a queue."""

from __future__ import annotations

import re
from typing import Any

import click

from jobqueue.commands.options import usage
from jobqueue.process.units import DURATION

NONE = "none"

HEADERS = click.option(
    "--header",
    "headers",
    multiple=True,
    metavar="NAME=VALUE",
    help="A header of the job; can be repeated. NAME:Number=5 and NAME:Binary=BASE64 have a type.",
)


class Pair(click.ParamType):  # type: ignore[type-arg] # generic since click 8.4; older versions are supported too
    """NAME=VALUE, or NAME to remove it."""

    name = "pair"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The name, and its value, or None."""
        if isinstance(value, tuple):
            return value
        name, equals, said = value.partition("=")
        if not name:
            self.fail(f"{value!r} is not NAME=VALUE, such as team=mail; to remove one, give only its NAME", param, ctx)
        return name, said if equals else None


class TimeOf(click.ParamType):  # type: ignore[type-arg] # as Pair
    """A time, or none."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Seconds, or NONE."""
        if value == NONE or isinstance(value, float):
            return value
        try:
            return DURATION.parse(value)
        except ValueError as error:
            self.fail(f"{value!r} {error}; write a time, as 4d, or {NONE}", param, ctx)


def take_headers(asked: dict[str, Any]) -> None:
    """Replace the value of --header by the form that the client takes."""
    from jobqueue.client.header_types import Header

    given = asked["headers"]
    found: dict[str, str | Header] = {}
    for text in given:
        named, equals, value = text.partition("=")
        name, typed, kind = named.partition(":")
        if not name or not equals:
            usage(f"--header {text!r} is not NAME=VALUE, such as tenant=acme")
        if re.search(r"[^ -~]", name) is None and name in found:
            usage(f"--header {name!r} is given more than once")
        found[name] = Header(kind, value) if typed else value
    asked["headers"] = found or None


def amended(before: dict[str, str], given: tuple[tuple[str, str | None], ...]) -> dict[str, str]:
    """A queue's tags, or attributes, after setting the given ones and removing those without a value."""
    return {name: value for name, value in {**before, **dict(given)}.items() if value is not None}
