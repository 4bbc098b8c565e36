"""The servers of one client: whose turn it is, and who failed lately. No input or output here.

Each client has an order of its own, made by chance, so that many clients spread over the servers. It asks the first of its order for as
long as that answers. One that fails is left alone for some seconds, twice as many each time, and those behind it are asked meanwhile:
clients of a server that dies spread over all that are left. Once its seconds have passed, a single call that may be repeated finds out
whether it is back, and if so the others follow. The seconds are partly chance, so clients come back one by one.

Lists are changed here by single assignments and by no lock: threads that fail at once may note it twice, which does no harm, and a fork at
whatever moment leaves nothing locked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Sequence
from typing import NamedTuple

from jobqueue.client.problems import ConnectionFailed, UnexpectedAnswer
from jobqueue.errors import QueueError, TooManyConnections, Unavailable

AWAY_SECONDS = 2.0
"""How long a server is left alone after its first failure, at most; half of it at least."""

AWAY_SECONDS_MAX = 60.0
"""The same after many."""

_DOUBLINGS_MAX = 30

_AWAY = frozenset({502, 503, 504})
"""Statuses of proxies, and of newer servers, by which this server cannot do it and another may."""


class Turn(NamedTuple):
    """Whose turn it is. at: its place in the list; seconds: for connecting and the answer, beyond what it may hold the request;
    connect_seconds: for connecting, of these."""

    at: int
    url: str
    seconds: float
    connect_seconds: float


class Servers:
    """The servers of one client. timeout: seconds for one try, over all of them together; random: makes numbers from 0 to 1."""

    def __init__(self, urls: Sequence[str], timeout: float, random: Callable[[], float], clock: Callable[[], float]) -> None:
        # A share each for connecting, so that one that lets packets fall leaves time for the others.
        self.turns = tuple(Turn(at, url, timeout, timeout / len(urls)) for at, url in enumerate(urls))
        self.timeout = timeout
        self.several = len(urls) > 1
        self.clock = clock
        self._random = random
        self._failures = [0] * len(urls)
        self._until = [-math.inf] * len(urls)
        self.spread()

    def spread(self) -> None:
        """Choose the order; anew in a forked process, or all of its like would ask the same server."""
        order = list(range(len(self.turns)))
        for last in range(len(order) - 1, 0, -1):
            other = min(last, int(self._random() * (last + 1)))
            order[last], order[other] = order[other], order[last]
        self._order = order
        self._current_is(order[0])
        self.shaken = any(self._failures)
        """Whether one of them failed when it was last asked."""

    def _current_is(self, at: int) -> None:
        self.current = self.turns[at]
        """Who is asked now."""
        self.away = at != self._order[0]
        """Whether that is another than the first of the order."""

    def begin(self, repeatable: bool) -> Turn:
        """Whose turn a new call is. repeatable: it may find out whether a server that failed is back."""
        if self.away and repeatable:
            now = self.clock()
            for at in self._order:
                if at == self.current.at:
                    break
                if self._until[at] <= now:
                    # As if it had failed: no other call asks it before this one knows.
                    self._leave_alone(at, now)
                    return self.turns[at]
        return self.current

    def failed(self, at: int) -> None:
        """It could not be reached, or said that it cannot do anything now."""
        now = self.clock()
        if self._until[at] <= now:
            # Else it is one of many calls that found the same.
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
        """It answered. If it comes earlier in the order it is asked from now on."""
        if self._failures[at]:
            self._failures[at], self._until[at] = 0, -math.inf
            self.shaken = any(self._failures)
            current = self.current.at
            if self._failures[current] or self._order.index(at) < self._order.index(current):
                self._current_is(at)

    def next(self, asked: Container[int]) -> Turn | None:
        """Whose turn it is after those: the first of the order that did not fail lately, else who failed longest ago."""
        now = self.clock()
        left = [at for at in self._order if at not in asked]
        return self.turns[min(left, key=lambda at: max(0.0, self._until[at] - now))] if left else None


def is_away(error: QueueError) -> bool:
    """Whether it is the server that cannot do it now, so that another may."""
    if isinstance(error, UnexpectedAnswer):
        return error.status in _AWAY
    return isinstance(error, Unavailable | TooManyConnections)


class Way:
    """One call's way over several servers, from its first failure on. began: when its try began, by the servers' clock."""

    def __init__(self, servers: Servers, began: float) -> None:
        self._servers = servers
        self._began = began
        self._asked: set[int] = set()
        """By this try."""
        self._said: dict[str, str] = {}

    def after(self, turn: Turn, error: QueueError, may_have_been_done: bool) -> Turn | None:
        """Whose turn it is within the same try, without a pause: each server once, as long as it is certain that none has done anything.

        None where the try is over.
        """
        servers, left = self._servers, self._left(turn, error.detail)
        following = servers.next(self._asked)
        if following is None or may_have_been_done or left <= 0:
            return None
        if not isinstance(error, ConnectionFailed) and left < servers.timeout / 2:
            # It took its time to refuse. The next one might be cut off in the middle of what it does.
            return None
        return following._replace(seconds=left, connect_seconds=left / (len(servers.turns) - len(self._asked)))

    def after_leaving(self, turn: Turn) -> Turn | None:
        """Whose turn it is after a server that ended a wait since it shuts down."""
        self._began = self._servers.clock()
        self._left(turn, "it is shutting down")
        return self._servers.next(self._asked)

    def _left(self, turn: Turn, detail: str) -> float:
        """Note that the server failed; seconds left of the try."""
        self._asked.add(turn.at)
        self._said.pop(turn.url, None)
        self._said[turn.url] = detail if turn.url in detail else f"{turn.url}: {detail}"
        self._servers.failed(turn.at)
        return self._servers.timeout - (self._servers.clock() - self._began)

    def again(self) -> Turn:
        """Whose turn the next try is, which may ask all of them again."""
        self._asked.clear()
        self._began = self._servers.clock()
        return self._servers.begin(True)

    def forget(self) -> None:
        """What failed before counts no more."""
        self._said.clear()

    def name_all(self, error: QueueError) -> None:
        """Have the last error tell what each server said, unless it is no server's fault."""
        if len(self._said) > 1 and is_away(error):
            error.detail = "; ".join(self._said.values())
            error.args = (error.detail,)
