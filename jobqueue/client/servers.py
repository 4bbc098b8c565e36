"""The servers of one client: which one to ask next, and which failed lately. No input or output here.

Each client has its own random order, so that many clients spread over the servers. It asks the first of its order for as long as that one
answers. A server that fails is not asked for some seconds, twice as many after each failure, and the next ones in the order are asked
instead: clients of a server that dies spread over all that are left. After that time, a single call that can be repeated tests whether the
server is back, and if so the others follow. The time is partly random, so that clients come back one by one.

Lists are changed by single assignments, without a lock: threads that fail at the same time may record it twice, which does no harm, and a
fork at any moment leaves nothing locked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Sequence
from typing import NamedTuple

from jobqueue.client.problems import ConnectionFailed, UnexpectedAnswer
from jobqueue.errors import QueueError, TooManyConnections, Unavailable

AWAY_SECONDS = 2.0
"""The longest time for which a server is not asked after its first failure; the least is half of it."""

AWAY_SECONDS_MAX = 60.0
"""The same after many failures."""

_DOUBLINGS_MAX = 30

_AWAY = frozenset({502, 503, 504})
"""Statuses from proxies, and from newer servers, which mean that this server cannot answer and another one may."""


class Turn(NamedTuple):
    """The server to ask. at: its index in the list; seconds: for connecting and the answer, in addition to the time that it can hold the
    request; connect_seconds: how much of that is for connecting.
    """

    at: int
    url: str
    seconds: float
    connect_seconds: float


class Servers:
    """The servers of one client. timeout: seconds for one try, shared by all servers; random: returns numbers from 0 to 1."""

    def __init__(self, urls: Sequence[str], timeout: float, random: Callable[[], float], clock: Callable[[], float]) -> None:
        # Each has a share for connecting, so that a server that drops packets leaves time for the others.
        self.turns = tuple(Turn(at, url, timeout, timeout / len(urls)) for at, url in enumerate(urls))
        self.timeout = timeout
        self.several = len(urls) > 1
        self.clock = clock
        self._random = random
        self._failures = [0] * len(urls)
        self._until = [-math.inf] * len(urls)
        self.spread()

    def spread(self) -> None:
        """Choose the order; also in a forked process, since otherwise all forks would ask the same server."""
        order = list(range(len(self.turns)))
        for last in range(len(order) - 1, 0, -1):
            other = min(last, int(self._random() * (last + 1)))
            order[last], order[other] = order[other], order[last]
        self._order = order
        self._current_is(order[0])
        self.shaken = any(self._failures)
        """Whether any of them failed when it was last asked."""

    def _current_is(self, at: int) -> None:
        self.current = self.turns[at]
        """The server that is asked now."""
        self.away = at != self._order[0]
        """Whether that is not the first of the order."""

    def begin(self, repeatable: bool) -> Turn:
        """The server for a new call. repeatable: the call can be used to test whether a server that failed is back."""
        if self.away and repeatable:
            now = self.clock()
            for at in self._order:
                if at == self.current.at:
                    break
                if self._until[at] <= now:
                    # Mark it as failed, so that no other call asks it before the result of this one is known.
                    self._leave_alone(at, now)
                    return self.turns[at]
        return self.current

    def failed(self, at: int) -> None:
        """The server could not be reached, or reported that it cannot do anything now."""
        now = self.clock()
        if self._until[at] <= now:
            # Otherwise this is one of many calls that found the same failure.
            self._leave_alone(at, now)
        following = self.next((at,))
        if at == self.current.at and following is not None:
            self._current_is(following.at)

    def _leave_alone(self, at: int, now: float) -> None:
        seconds = min(AWAY_SECONDS_MAX, AWAY_SECONDS * 2.0 ** min(self._failures[at], _DOUBLINGS_MAX))
        self._failures[at] += 1
        self._until[at] = now + seconds * (1 + self._random()) / 2
        self.shaken = True

    def well(self, at: int) -> None:
        """The server answered. If it is earlier in the order, it is asked from now on."""
        if self._failures[at]:
            self._failures[at], self._until[at] = 0, -math.inf
            self.shaken = any(self._failures)
            current = self.current.at
            if self._failures[current] or self._order.index(at) < self._order.index(current):
                self._current_is(at)

    def next(self, asked: Container[int]) -> Turn | None:
        """The server to ask after those already asked: the first of the order that did not fail lately, or else the one whose failure is
        oldest.
        """
        now = self.clock()
        left = [at for at in self._order if at not in asked]
        return self.turns[min(left, key=lambda at: max(0.0, self._until[at] - now))] if left else None


def is_away(error: QueueError) -> bool:
    """Whether the error means that this server cannot answer now, so that another one may."""
    if isinstance(error, UnexpectedAnswer):
        return error.status in _AWAY
    return isinstance(error, Unavailable | TooManyConnections)


class Way:
    """One call's way over several servers, from its first failure on. began: when its try began, by the servers' clock."""

    def __init__(self, servers: Servers, began: float) -> None:
        self._servers = servers
        self._began = began
        self._asked: set[int] = set()
        """The servers that this try has asked."""
        self._said: dict[str, str] = {}

    def after(self, turn: Turn, error: QueueError, may_have_been_done: bool) -> Turn | None:
        """The server to ask next in the same try, without a pause: each server once, as long as it is certain that none has done anything.

        None if the try is over.
        """
        servers, left = self._servers, self._left(turn, error.detail)
        following = servers.next(self._asked)
        if following is None or may_have_been_done or left <= 0:
            return None
        if not isinstance(error, ConnectionFailed) and left < servers.timeout / 2:
            # This server took a long time to refuse. The next one could be interrupted in the middle of its work.
            return None
        return following._replace(seconds=left, connect_seconds=left / (len(servers.turns) - len(self._asked)))

    def after_leaving(self, turn: Turn) -> Turn | None:
        """The server to ask after one that ended a wait because it shuts down."""
        self._began = self._servers.clock()
        self._left(turn, "it is shutting down")
        return self._servers.next(self._asked)

    def _left(self, turn: Turn, detail: str) -> float:
        """Record that the server failed; returns the seconds left of the try."""
        self._asked.add(turn.at)
        self._said.pop(turn.url, None)
        self._said[turn.url] = detail if turn.url in detail else f"{turn.url}: {detail}"
        self._servers.failed(turn.at)
        return self._servers.timeout - (self._servers.clock() - self._began)

    def again(self) -> Turn:
        """The server for the next try, which can ask all of them again."""
        self._asked.clear()
        self._began = self._servers.clock()
        return self._servers.begin(True)

    def forget(self) -> None:
        """Ignore earlier failures from now on."""
        self._said.clear()

    def name_all(self, error: QueueError) -> None:
        """Add to the last error what each server answered, unless no server caused it."""
        if len(self._said) > 1 and is_away(error):
            error.detail = "; ".join(self._said.values())
            error.args = (error.detail,)
