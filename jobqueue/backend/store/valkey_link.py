"""A link to Valkey: a cluster, or one primary with its replicas. Parser and packer are hiredis', the rest is here (docs/decisions/0020).

It finds the primary of a key's slot, keeps one connection to it for each *lane* (what must not wait behind something else), and knows
after a failover where to go. What it must never do: send again what may have been done. A command is sent again by itself only where the
server has said that it did not do it (MOVED, READONLY).

A server that stands still accepts connections and answers nothing, so every connect, greeting and question has a deadline, and a
connection whose deadline passed is closed. The topology is asked of all nodes at once, since those that stand still are known only
by their silence: the answers of the first moment count, and the highest epoch wins.

Not followed: ASK. Functions write keys that they name themselves, so half of a slot that is being migrated key by key cannot be
written safely. It is NotNow until the migration is over, and so is TRYAGAIN, and what a function is told in their place; commits see to it
that they find out before they write (valkey.lua). An atomic migration (Valkey 9) shows as MOVED alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

import hiredis

from jobqueue.backend.group import NotNow
from jobqueue.backend.store.valkey_wire import (
    ELSEWHERE,
    SLOTS,
    Command,
    Connection,
    Denied,
    Login,
    Lost,
    Patience,
    Place,
    Refused,
    code_of,
    connect,
    info_of,
    refusal,
    slot_of,
    text_of,
)

T = TypeVar("T")

REDIRECTS_MAX = 4
"""How often a command that was not done is sent elsewhere, before its caller is told."""


class _View(NamedTuple):
    """What one node says of the topology. rank: which of several is to be believed; nodes: all that it names."""

    rank: tuple[int, int]
    ranges: list[tuple[int, int, Place]]
    nodes: frozenset[Place]
    cluster: bool


class Link:
    """All connections to one store. seeds: nodes to ask first; one that answers is enough."""

    def __init__(self, seeds: Sequence[Place], login: Login = Login(), patience: Patience = Patience()) -> None:  # noqa: B008 - both are immutable
        self.login = login
        self.patience = patience
        self.cluster = False
        """Whether it is one, once it was asked."""
        self._seeds = tuple(seeds)
        self._nodes: frozenset[Place] = frozenset()
        self._primaries: list[Place | None] = [None] * SLOTS
        self._connections: dict[tuple[Place, str], Connection] = {}
        self._connecting: dict[tuple[Place, str], asyncio.Task[Connection]] = {}
        self._learning: asyncio.Task[None] | None = None
        self._closed = False

    # Where.

    def primary(self, slot: int) -> Place | None:
        """The primary of a slot, as far as is known."""
        return self._primaries[slot]

    def primaries(self) -> set[Place]:
        """All primaries that are known."""
        return {place for place in self._primaries if place is not None}

    @property
    def nodes(self) -> frozenset[Place]:
        """All nodes that are known, replicas too."""
        return self._nodes

    def moved(self, reply: object) -> None:
        """Take a MOVED at its word until the topology is asked."""
        _, slot, where = str(reply).split(" ", 2)
        host, _, port = where.rpartition(":")
        old = self._primaries[int(slot)]
        self._primaries[int(slot)] = Place(host or (old.host if old else ""), int(port))

    async def refresh(self) -> None:
        """Ask all nodes where the slots are; once for all who ask at a time. Raises NotNow when nobody can tell."""
        self._refuse_closed()
        if self._learning is None or self._learning.done():
            self._learning = _task(self._learn())
        await _shared(self._learning)

    async def _learn(self) -> None:
        asked = self._nodes.union(self._seeds)
        views, errors = await self._views(asked)
        named = frozenset().union(*(view.nodes for view in views)) - asked
        if views and named and not any(view.ranges for view in views):
            # Replicas alone were known.
            more, worse = await self._views(named)
            views, errors = views + more, errors + worse
        if not views:
            denied = [error for error in errors if isinstance(error, Denied)]
            raise (denied or errors)[0] if len(errors) == 1 or denied else Lost("; ".join(sorted(map(str, errors))))
        best = max(views, key=lambda view: view.rank)
        nodes = best.nodes
        if not best.cluster:
            rivals = {place for view in views if view.rank == best.rank for _, _, place in view.ranges}
            if len(rivals) != 1:
                said = " and ".join(sorted(map(str, rivals)))
                raise Refused(f"{said} each say that they are the primary" if rivals else "no node says that it is the primary")
            nodes = nodes.union(*(view.nodes for view in views))
        primaries: list[Place | None] = [None] * SLOTS
        for first, last, place in best.ranges:
            primaries[first : last + 1] = [place] * (last + 1 - first)
        self.cluster, self._primaries, self._nodes = best.cluster, primaries, nodes
        for key in [key for key in self._connections if key[0] not in self._nodes.union(self._seeds)]:
            self._connections.pop(key).abort("is no node of the cluster any more")

    async def _views(self, places: Iterable[Place]) -> tuple[list[_View], list[Exception]]:
        """What nodes say, gathered until the moment has passed in which those that can answer do."""
        tasks = {asyncio.ensure_future(self._view(place)) for place in places}
        try:
            done, late = await asyncio.wait(tasks, timeout=self.patience.settle)
            while late and all(task.exception() for task in done):
                more, late = await asyncio.wait(late, return_when=asyncio.FIRST_COMPLETED)
                done |= more
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        errors = [error for task in done if (error := task.exception()) is not None]
        for error in errors:
            if not isinstance(error, NotNow):
                raise error
        return [task.result() for task in done if task.exception() is None], list(errors)  # type: ignore[arg-type]

    async def _view(self, place: Place) -> _View:
        connection = await self.connection(place, "calls")
        slots, info, role = await connection.call(("CLUSTER", "SLOTS"), ("CLUSTER", "INFO"), ("ROLE",), seconds=self.patience.call)
        if isinstance(slots, hiredis.ReplyError) and "cluster support disabled" in str(slots):
            if isinstance(role, hiredis.ReplyError):
                raise refusal(place, role) or Refused(f"{place}: {role}")
            if role[0] == b"master":
                replicas = {Place(text_of(host), int(port)) for host, port, _ in role[2]}
                return _View((1, len(replicas)), [(0, SLOTS - 1, place)], frozenset({place}) | replicas, False)
            return _View((0, 0), [], frozenset({place, Place(text_of(role[1]), int(role[2]))}), False)
        for reply in (slots, info):
            if isinstance(reply, hiredis.ReplyError):
                raise refusal(place, reply) or Refused(f"{place}: {reply}")
        said = info_of(info)
        ranges = [(first, last, _endpoint(primary, place)) for first, last, primary, *_ in slots]
        nodes = frozenset(_endpoint(node, place) for _, _, *served in slots for node in served)
        rank = (2 if said.get("cluster_state") == "ok" else 1, int(said.get("cluster_current_epoch", 0)))
        return _View(rank, ranges, nodes, True)

    # Connections.

    def at_once(self, slot: int, lane: str) -> Connection | None:
        """The connection to a slot's primary, if it is there."""
        place = self._primaries[slot]
        connection = None if place is None else self._connections.get((place, lane))
        return connection if connection is not None and connection.lost is None else None

    async def to(self, slot: int, lane: str) -> Connection:
        """A connection to a slot's primary. Raises NotNow."""
        place = self._primaries[slot]
        if place is None:
            await self.refresh()
            place = self._primaries[slot]
            if place is None:
                raise Refused(f"no node serves slot {slot}")
        try:
            return await self.connection(place, lane)
        except NotNow:
            # It may have been replaced. Nothing was sent.
            await self.refresh()
            again = self._primaries[slot]
            if again is None or again == place:
                raise
            return await self.connection(again, lane)

    async def connection(self, place: Place, lane: str) -> Connection:
        """A connection to a node; one for all who ask at a time. Raises NotNow."""
        self._refuse_closed()
        key = (place, lane)
        connection = self._connections.get(key)
        if connection is not None and connection.lost is None:
            return connection
        task = self._connecting.get(key)
        if task is None:
            task = self._connecting[key] = _task(self._connect(key))
        return await _shared(task)

    async def _connect(self, key: tuple[Place, str]) -> Connection:
        try:
            connection = self._connections[key] = await connect(key[0], self.login, self.patience.connect)
            return connection
        finally:
            self._connecting.pop(key, None)

    async def ask(self, key: str, *commands: Command, lane: str = "calls", seconds: float | None = None) -> list[Any]:
        """Send commands to the primary of a key, in one packet; their replies, the errors among them that are not refusals.

        Sent elsewhere when the server says that it is not the primary. seconds: in place of the usual deadline. Raises NotNow.
        """
        slot = slot_of(key)
        sent = 0
        while True:
            connection = await self.to(slot, lane)
            replies = await connection.call(*commands, seconds=seconds or self.patience.call)
            refused = next((found for reply in replies if (found := refusal(connection.place, reply))), None)
            if refused is None:
                return replies
            sent += 1
            if sent > REDIRECTS_MAX or not await self.found_elsewhere(replies):
                raise refused

    async def found_elsewhere(self, replies: Iterable[object]) -> bool:
        """Whether replies say that another node is the primary, which is looked for then. Raises NotNow."""
        for reply in replies:
            if (code := code_of(reply)) in ELSEWHERE:
                await self.refresh()
                if code == "MOVED":
                    # The one who said so has seen it; those who were asked may not have yet.
                    self.moved(reply)
                return True
        return False

    async def ping(self, place: Place) -> None:
        """Whether a node answers. Raises NotNow, and closes its connections: what is under way on them is Lost."""
        try:
            connection = await self.connection(place, "calls")
            await connection.call(("PING",), seconds=self.patience.call)
        except NotNow as error:
            self.leave(place, str(error))
            raise

    def leave(self, place: Place, reason: str) -> None:
        """Close the connections to a node."""
        for key in [key for key in self._connections if key[0] == place]:
            self._connections.pop(key).abort(reason)

    # The end.

    async def close(self) -> None:
        """Close every connection; all that is under way is Lost. Calling it again changes nothing."""
        self._closed = True
        tasks: list[asyncio.Task[Any]] = [*self._connecting.values()]
        if self._learning is not None:
            tasks.append(self._learning)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for connection in self._connections.values():
            connection.abort("closed by this server")
        self._connections.clear()
        # The transports end in the loop's next turn.
        await asyncio.sleep(0)

    def _refuse_closed(self) -> None:
        if self._closed:
            raise Refused("the store is closed")


def _task(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """A task for all who wait for it, of whom none may be left to be told that it failed."""
    task = asyncio.ensure_future(work)
    assert isinstance(task, asyncio.Task)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return task


async def _shared(task: asyncio.Task[T]) -> T:
    """Wait for what others wait for too: whoever is cancelled leaves it to them."""
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if task.cancelled():
            raise Refused("the store is closed") from None
        raise


def _endpoint(node: Sequence[Any], asked: Place) -> Place:
    """A node of CLUSTER SLOTS; one without a name is reached as the one who was asked."""
    host = text_of(node[0]) if node[0] else ""
    return Place(asked.host if host in ("", "?") else host, int(node[1]))
