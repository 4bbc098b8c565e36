"""How a simulated client talks: HTTP in bytes on a connection of its own, with every bad manner that a network or a program can have."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

from .history import ENQUEUES, Ask
from .loop import passing
from .net import Link

if TYPE_CHECKING:
    from .world import World

PATIENCE = 150.0
"""Seconds beyond its wait after which a request that is neither answered nor cut off is a fault of the server's."""


class Reply(NamedTuple):
    """An answer as it came."""

    status: int
    headers: dict[str, str]
    body: bytes
    life: int

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Caller:
    """One client program. The plan's `bad_manners` say how likely a request is left before its answer, cut in pieces, or cut short."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.random = Random(f"{world.seed} {name}")
        self.link: Link | None = None

    @property
    def now(self) -> float:
        return self.world.loop.time()

    async def think(self, seconds: float) -> None:
        """Pass time. On a coarse grid, so that clients often act in the same instant."""
        await passing(self.random.choice((0.0, 0.25, 0.5, 0.5, 1.0, 2.0)) * seconds)

    async def connected(self) -> Link | None:
        """The connection, a new one if need be; None when the server does not answer."""
        if self.link is None or not self.link.client.open:
            await passing(self.random.choice(self.world.plan.delays))
            self.link = self.world.connect(self.random)
        return self.link

    def drop(self, how: str = "fin") -> None:
        """End the connection."""
        if self.link is not None:
            self.world.history.note(self.name, "leaves", how)
            self.link.client.leave(how)
            self.link = None

    def bytes_of(self, ask: Ask, headers: Sequence[str] = ()) -> bytes:
        """The request as it goes over the wire."""
        lines = [f"{ask.method} {ask.path} HTTP/1.1", "Host: sim", f"X-Request: {ask.number}", *headers]
        if ask.body:
            kind = [] if any(line.startswith("Content-Type:") for line in headers) else ["Content-Type: application/json"]
            lines += [*kind, f"Content-Length: {len(ask.body)}"]
        return "\r\n".join([*lines, "", ""]).encode() + ask.body

    def make(self, op: str, method: str, path: str, body: Any = None, **known: Any) -> Ask:
        """A request that is known to the checker from now on."""
        encoded = b"" if body is None else json.dumps(body, separators=(",", ":")).encode()
        return self.world.ask(op, method, path, encoded, **known)

    async def ask(
        self, op: str, method: str, path: str, body: Any = None, *, steady: bool = False, headers: Sequence[str] = (), **known: Any
    ) -> Reply | None:
        """Send a request; its answer, None if there is none to be had. steady: with good manners."""
        ask = self.make(op, method, path, body, **known)
        replies = await self.exchange([ask], steady=steady, headers=headers)
        return replies[0]

    async def exchange(self, asks: list[Ask], *, steady: bool = False, headers: Sequence[str] = ()) -> list[Reply | None]:
        """Send requests one right after the other on one connection, then read their answers."""
        link = await self.connected()
        if link is None:
            return [None] * len(asks)
        bad = 0.0 if steady else self.world.plan.bad_manners
        data = b"".join(self.bytes_of(ask, headers) for ask in asks)
        for ask in asks:
            ask.sent_at, ask.link = self.now, link
            self.world.history.note(self.name, "sends", ask.number, ask.op, ask.path, ask.body.decode())
        leaving = None
        if self.random.random() < bad:
            leaving = self.world.loop.create_task(self._leave(link, max(ask.wait for ask in asks)))
        link.client.slow = self.random.random() < bad / 2
        if link.client.slow:
            self.world.loop.call_later(self.random.choice((0.1, 1.0, 5.0, 40.0)), link.client.read_on)
        await self._send(link, data, steady)
        if asks[0].op in ENQUEUES and self.random.random() < bad:
            self._rob(link.next_arrival)
        replies: list[Reply | None] = []
        for ask in asks:
            replies.append(await self._answer(link, ask))
        if leaving is not None:
            leaving.cancel()
        return replies

    async def _send(self, link: Link, data: bytes, steady: bool) -> None:
        bad = 0.0 if steady else self.world.plan.bad_manners
        if self.random.random() < bad:
            cut = self.random.randrange(1, len(data))
            link.client.send(data[:cut])
            await passing(self.random.choice((0.0, 0.001, 0.25)))
            if self.random.random() < 0.3:
                self.drop(self.random.choice(("fin", "rst", "vanish")))
                return
            data = data[cut:]
        link.client.send(data)

    def _rob(self, at: float) -> None:
        """Make a client that waits leave in the instant in which a job arrives."""
        standing = self.world.checker.standing
        if standing:
            victim = self.random.choice(standing[:2])
            how = self.random.choice(("fin", "rst"))
            self.world.history.note("the client of", victim.number, "leaves", how, "at", at)
            self.world.loop.call_at(at, victim.link.client.leave_at_once, how)

    async def _leave(self, link: Link, wait: float) -> None:
        """Be gone, at a moment that something else is likely to happen in too."""
        await passing(self.random.choice((0.0, 0.001, 0.002, 0.25, 0.5, 1.0, wait, wait * self.random.random())))
        how = self.random.choice(("fin", "fin", "rst", "rst", "half", "vanish"))
        if link.client.open:
            self.world.history.note(self.name, "leaves", how)
            link.client.leave(how)

    async def _answer(self, link: Link, ask: Ask) -> Reply | None:
        world = self.world
        try:
            async with asyncio.timeout(ask.wait + PATIENCE):
                reply = await self._read(link)
        except ConnectionError:
            world.history.note(self.name, "has no answer to", ask.number)
            self.link = None
            return None
        except TimeoutError:
            if link.client.open and not link.cut and not link.server.dead:
                world.history.fault(f"{ask} was never answered")
            self.drop("rst")
            return None
        world.history.note(self.name, "reads", ask.number, reply.status, reply.body.decode())
        if reply.headers.get("connection") == "close":
            self.drop()
        return reply

    async def _read(self, link: Link) -> Reply:
        while (reply := await link.client.reply()).status == 100:
            pass
        return Reply(reply.status, reply.headers, reply.body, link.life)
