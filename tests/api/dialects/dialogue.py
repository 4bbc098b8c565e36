"""Conversations with a server as a reader sees them on the wire: what is sent after `>`, what is answered after `<`.

    > POST /jobs/enqueue {"Type": "TIME_CRITICAL"}
      QUEUE_CONSUMER: 7
    < 200 {"ID": 1}
    > PATCH /jobs/enqueue
    < 405 {"Error": "Method Not Allowed", "message": "…"}
      Allow: POST, PUT

Paths are given without the dialect's prefix, as on the command line: percent-encoded. Indented lines are headers, sent or expected. A body
goes out as written there, as application/json unless a header line says otherwise (`Content-Type:` alone: without one). In what is
expected, `…` stands for any text of at least one character, a header without a value for one that must not be there, a status alone
for an answer without a body.
"""

from __future__ import annotations

import asyncio
import json
import re
import textwrap
from typing import Any, NamedTuple

from tests.api.harness import GUARD, Api, Reply, Wire, until


class Turn(NamedTuple):
    """A line that begins with > or <, its body apart, and its headers."""

    mark: str
    first: list[str]
    body: str | None
    headers: dict[str, str]


def turns(script: str) -> list[Turn]:
    """A script's turns."""
    found: list[Turn] = []
    for line in textwrap.dedent(script).strip().splitlines():
        if line[0] == " ":
            name, _, value = line.strip().partition(":")
            found[-1].headers[name] = value.strip()
            continue
        mark, words = line[0], 2 if line[0] == ">" else 1
        assert line[:2] in ("> ", "< "), line
        parts = line[2:].split(" ", words)
        found.append(Turn(mark, parts[:words], parts[words] if len(parts) > words else None, {}))
    return found


def matches(expected: Any, found: Any) -> bool:
    """Whether an answer is what was expected: equal, type for type, but for the texts that hold `…`."""
    if isinstance(expected, dict) and isinstance(found, dict):
        return expected.keys() == found.keys() and all(matches(value, found[key]) for key, value in expected.items())
    if isinstance(expected, list) and isinstance(found, list):
        return len(expected) == len(found) and all(map(matches, expected, found))
    if isinstance(expected, str) and isinstance(found, str):
        return re.fullmatch(".+".join(map(re.escape, expected.split("…"))), found, re.DOTALL) is not None
    return type(expected) is type(found) and bool(expected == found)


def check(turn: Turn, reply: Reply) -> None:
    """Compare an answer with the turn that tells of it."""
    assert str(reply.status) == turn.first[0], reply
    if turn.body is None:
        assert reply.body == b"", reply
    else:
        assert reply.headers["content-type"] == "application/json", reply
        assert matches(json.loads(turn.body), reply.json), reply
    for name, value in turn.headers.items():
        assert reply.headers.get(name.lower(), "") == value, reply


class Held:
    """A request that the server holds."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire

    async def told(self, script: str) -> None:
        """Wait for the answer, which must be that of the script."""
        (turn,) = turns(script)
        check(turn, await self.wire.reply())


class Speaker:
    """A client of one dialect, which writes bytes on a connection."""

    def __init__(self, api: Api, prefix: str) -> None:
        self.api = api
        self.prefix = prefix

    def request(self, turn: Turn) -> bytes:
        """A turn as bytes."""
        headers = {"Host": "test", **turn.headers}
        body = b""
        if turn.body is not None:
            body = turn.body.encode("utf-8", "surrogateescape")
            headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}
        method, path = turn.first
        lines = [f"{method} {self.prefix}{path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items() if value)]
        return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape") + body

    async def talk(self, script: str) -> None:
        """Have a conversation on a connection of its own; every answer must be that of the script."""
        wire = await self.api.site.wire()
        head = False
        for turn in turns(script):
            if turn.mark == ">":
                wire.send(self.request(turn))
                head = turn.first[0] == "HEAD"
            else:
                check(turn, await wire.reply(head))
        await wire.close()

    async def refused(self, script: str) -> None:
        """Have a conversation that changes nothing at all."""
        before = self.api.state()
        await self.talk(script)
        assert self.api.state() == before

    async def hold(self, script: str) -> Held:
        """Send a request that the server holds; returns once it stands in line."""
        (turn,) = turns(script)
        standing = self.api.backend.totals().waiters
        wire = await self.api.site.wire()
        wire.send(self.request(turn))
        await until(lambda: self.api.backend.totals().waiters == standing + 1)
        return Held(wire)

    async def together(self, request: str, times: int) -> list[Reply]:
        """The same request sent by so many clients at once; the answers."""
        (turn,) = turns(request)
        wires = [await self.api.site.wire() for _ in range(times)]
        async with asyncio.timeout(GUARD):
            return await asyncio.gather(*(wire.ask(self.request(turn)) for wire in wires))
