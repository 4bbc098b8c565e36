"""A link to Valkey: a cluster, or one primary with its replicas. hiredis parses and packs, the rest is here (docs/decisions/0020).

The link finds the primary of a key's slot, keeps one connection to it for each *lane* (a kind of request that must not wait behind others),
and finds the new primary after a failover. It must never send again what may have been done. It repeats a command automatically only if the
server has reported that it did not do it (MOVED, READONLY).

A server that is stopped accepts connections and does not answer, so every connect, greeting and query has a deadline, and a connection
whose deadline passed is closed. All nodes are asked for the topology at once, since stopped nodes can be recognised only by their silence:
the answers of the first moment count, and the highest epoch wins.

ASK is not followed. Functions write keys that they name themselves, so a slot that is being migrated key by key cannot be written safely.
ASK is treated as NotNow until the migration is over, and so are TRYAGAIN and the errors that a function gets in their place; commits are
written so that they get these errors before they write (valkey.lua). An atomic migration (Valkey 9) shows up only as MOVED.
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
"""How often a command that was not done is sent to another node, before its caller gets an error."""


class _View(NamedTuple):
    """One node's view of the topology. rank: decides which of several views is used; nodes: all nodes that it names."""

    rank: tuple[int, int]
    ranges: list[tuple[int, int, Place]]
    nodes: frozenset[Place]
    cluster: bool


class Link:
    """All connections to one store. seeds: nodes to ask first; an answer from one is enough."""

    def __init__(self, seeds: Sequence[Place], login: Login = Login(), patience: Patience = Patience()) -> None:  # noqa: B008 - both are immutable
        self.login = login
        self.patience = patience
        self.cluster = False
        """Whether the store is a cluster, once this was asked."""
        self._seeds = tuple(seeds)
        self._nodes: frozenset[Place] = frozenset()
        self._primaries: list[Place | None] = [None] * SLOTS
        self._connections: dict[tuple[Place, str], Connection] = {}
        self._connecting: dict[tuple[Place, str], asyncio.Task[Connection]] = {}
        self._learning: asyncio.Task[None] | None = None
        self._pinging: dict[Place, asyncio.Task[None]] = {}
        self.installing = asyncio.Lock()
        """Held while the functions are installed, so that of several partitions one does it."""
        self._closed = False

    # Topology.

    def primary(self, slot: int) -> Place | None:
        """The primary of a slot, if it is known."""
        return self._primaries[slot]

    def primaries(self) -> set[Place]:
        """All known primaries."""
        return {place for place in self._primaries if place is not None}

    @property
    def nodes(self) -> frozenset[Place]:
        """All known nodes, including replicas."""
        return self._nodes

    def moved(self, reply: object) -> None:
        """Follow a MOVED until the topology has been asked."""
        _, slot, where = str(reply).split(" ", 2)
        host, _, port = where.rpartition(":")
        old = self._primaries[int(slot)]
        self._primaries[int(slot)] = Place(host or (old.host if old else ""), int(port))

    async def refresh(self) -> None:
        """Ask all nodes where the slots are; concurrent callers share one query. Raises NotNow if no node can answer."""
        self._refuse_closed()
        if self._learning is None or self._learning.done():
            self._learning = _task(self._learn())
        await _shared(self._learning)

    async def _learn(self) -> None:
        asked = self._nodes.union(self._seeds)
        views, errors = await self._views(asked)
        named = frozenset().union(*(view.nodes for view in views)) - asked
        if views and named and not any(view.ranges for view in views):
            # Only replicas were known.
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
        """The views of the nodes, collected until the time has passed in which working nodes answer."""
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
        """The connection to a slot's primary, if it exists."""
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
        """A connection to a node; concurrent callers share it. Raises NotNow."""
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
        """Send commands to the primary of a key, in one packet. Returns their replies, including errors that are not refusals.

        The commands are sent to another node if the server replies that it is not the primary. seconds: replaces the usual deadline. Raises
        NotNow.
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
        """Whether replies show that another node is the primary; if so, finds it. Raises NotNow."""
        for reply in replies:
            if (code := code_of(reply)) in ELSEWHERE:
                await self.refresh()
                if code == "MOVED":
                    # The node that replied this has seen the change; the nodes that were asked may not have seen it yet.
                    self.moved(reply)
                return True
        return False

    async def ping(self, place: Place) -> None:
        """Check that a node answers; concurrent callers share one query. If it does not, raises NotNow and closes its connections;
        everything that waits on them gets Lost.
        """
        task = self._pinging.get(place)
        if task is None:
            task = self._pinging[place] = _task(self._ping(place))
        await _shared(task)

    async def _ping(self, place: Place) -> None:
        try:
            connection = await self.connection(place, "calls")
            await connection.call(("PING",), seconds=self.patience.call)
        except NotNow as error:
            self.leave(place, str(error))
            raise
        finally:
            self._pinging.pop(place, None)

    def leave(self, place: Place, reason: str) -> None:
        """Close the connections to a node."""
        for key in [key for key in self._connections if key[0] == place]:
            self._connections.pop(key).abort(reason)

    # Closing.

    async def close(self) -> None:
        """Close every connection; everything that waits on them gets Lost. Calling it again has no effect."""
        self._closed = True
        tasks: list[asyncio.Task[Any]] = [*self._connecting.values(), *self._pinging.values()]
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
    """A task that several callers can wait for; possibly none is left to receive its error."""
    task = asyncio.ensure_future(work)
    assert isinstance(task, asyncio.Task)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return task


async def _shared(task: asyncio.Task[T]) -> T:
    """Wait for a task that others wait for too: if one caller is cancelled, the task continues for the others."""
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if task.cancelled():
            raise Refused("the store is closed") from None
        raise


def _endpoint(node: Sequence[Any], asked: Place) -> Place:
    """A node of CLUSTER SLOTS; a node without a name has the address of the node that was asked."""
    host = text_of(node[0]) if node[0] else ""
    return Place(asked.host if host in ("", "?") else host, int(node[1]))
