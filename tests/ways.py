"""The ways in which the server under test serves HTTP (docs/decisions on the two ways): the one place where tests choose.

`plain`: as aiohttp documents, and no head is ever known. `learnt`: the same, but a head that came before is known. `cold`: fast, and no
head is ever known. `warm`: fast, and every head that may be known is known when it first comes, so whatever a test sends meets what is
known of its own head. `auto`: as a server does by itself.

JOBQUEUE_TEST_HTTP chooses for a whole run, and `.ci/run all` makes one run of the edge's tests on each but `learnt`. Without it they run on
`auto`; the differential tests are on all four at any time.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any

from jobqueue.api.app import App
from jobqueue.http.fast import Parser
from jobqueue.http.heads import Head, Heads
from jobqueue.http.server import Server

WAYS = ("plain", "learnt", "cold", "warm")
VARIABLE = "JOBQUEUE_TEST_HTTP"

current = os.environ.get(VARIABLE, "auto")
"""For servers in this process."""

_LENGTH = re.compile(rb"(\r\ncontent-length:)[^\r\n]*", re.IGNORECASE)


def http(way: str | None = None) -> str:
    """The setting `--http` of a way."""
    return {"cold": "fast", "warm": "fast", "learnt": "plain"}.get(way or current, way or current)


class Cold(Heads):
    """Knows nothing."""

    def find(self, data: bytes, at: int, end: int) -> Head | None:
        return None


class Quick(Heads):
    """Learns a head when it first comes."""

    def learn(self, raw: bytes, head: Head) -> None:
        super().learn(raw, head)
        super().learn(raw, head)


class Warm(Heads):
    """Knows a head as soon as it comes, and so that of the same lines with a plain number for a length."""

    def __init__(self, parser: Parser, usual: Sequence[tuple[str, str]]) -> None:
        super().__init__(usual)
        self._parser = parser

    def find(self, data: bytes, at: int, end: int) -> Head | None:
        raw = data[at : end + 4]
        for like in (raw, _LENGTH.sub(rb"\1 1", raw)):
            parsed = self._parser.parse(like)
            for _ in range(2 if parsed is not None else 0):
                self.learn(like, parsed)  # type: ignore[arg-type]
        return super().find(data, at, end)


def prepared(server: Server, way: str | None = None) -> Server:
    """A server made with `http(way)`, that knows heads as the way says."""
    way = way or current
    if way in ("cold", "plain"):
        server.heads = Cold()
    elif way == "learnt":
        server.heads = Quick(server.heads.usual)
    elif way == "warm":
        assert isinstance(server.parser, Parser)
        server.heads = Warm(server.parser, server.heads.usual)
    return server


def server(app: App, **options: Any) -> Server:
    """A server of an app, the current way."""
    return prepared(app.server(http=http(), **options))


def install(way: str) -> None:
    """Have every server of this process serve so: for processes that tests start."""
    make = App.server
    App.server = lambda *args, **kwargs: prepared(make(*args, **kwargs), way)  # type: ignore[method-assign]
