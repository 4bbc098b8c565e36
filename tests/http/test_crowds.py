"""Many clients that go in one instant: their requests end a few in each turn of the loop, so that others are served in between."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from jobqueue.api.app import refused
from jobqueue.http import server
from jobqueue.http.answers import Answer
from jobqueue.http.fast import parser_for
from jobqueue.http.request import Request
from jobqueue.http.server import Server
from tests.api.harness import GUARD, request, until

from .test_alike import Pipe

CROWD = 7
MOST = 3


@pytest.fixture(params=["any"], autouse=True)
def way(request: pytest.FixtureRequest) -> str:
    """What suspends is carried on by a task of ours on all ways but aiohttp's own."""
    return str(request.param)


class Crowd:
    """Requests that are held, and the turn in which each ended."""

    def __init__(self) -> None:
        self.held = 0
        self.turn = 0
        self.ended: list[int] = []
        self.server = Server(self.hold, refused, parser=parser_for("auto"), connections_max=100, idle_seconds=60.0, write_seconds=GUARD)
        self.connections = [self.server() for _ in range(CROWD)]
        for connection in self.connections:
            connection.connection_made(Pipe())
            connection.data_received(request("GET", "/a"))
        self._count()

    def _count(self) -> None:
        self.turn += 1
        if len(self.ended) < CROWD:
            asyncio.get_running_loop().call_soon(self._count)

    async def hold(self, asked: Request) -> Answer:
        """Never answers."""
        self.held += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.append(self.turn)
        raise AssertionError("unreachable")

    async def leave(self) -> None:
        """All hang up at once."""
        await until(lambda: self.held == CROWD)
        await asyncio.sleep(0)
        for connection in self.connections:
            connection.connection_lost(None)


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A crowd is more than can be ended in a turn."""
    monkeypatch.setattr(server, "CANCELS_PER_TURN", MOST)


async def test_a_crowd_that_leaves_is_ended_in_turns() -> None:
    """The first in the very next turn, as one that goes alone; no more in one than may be; and all of them."""
    crowd = Crowd()
    await crowd.leave()
    went = crowd.turn
    assert crowd.server.open == set()
    await until(lambda: len(crowd.ended) == CROWD)
    by_turn = Counter(crowd.ended)
    assert max(by_turn.values()) == MOST
    assert min(by_turn) - went <= 1
    assert max(by_turn) - min(by_turn) <= CROWD // MOST


async def test_a_server_that_ends_waits_for_no_turn() -> None:
    """Whoever is left of a crowd is ended with it."""
    crowd = Crowd()
    await crowd.leave()
    await crowd.server.shutdown()
    await asyncio.sleep(0)
    assert len(crowd.ended) == CROWD


async def test_one_who_goes_before_its_task_has_begun_is_ended_at_once() -> None:
    """However many go with it: what it was to serve never begins again."""
    crowd = Crowd()
    for connection in crowd.connections:
        connection.connection_lost(None)
    assert len(crowd.ended) == CROWD
