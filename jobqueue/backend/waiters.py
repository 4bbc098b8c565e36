"""Held requests: which requests wait, in which order, for what, and how each is woken.

Each waiter has its own `asyncio.Condition`, and a job is assigned to it before it wakes (docs/decisions/0001). Every answer to a waiter (a
job, the end of its wait, a drain, a newer request with its attempt_id) is given in one synchronous step, which also takes the waiter out of
line and notifies its Condition. So a waiter is answered once, a wake-up cannot be lost to a cancellation or a time-out in the same turn of
the loop, and the cost does not depend on the number of waiters.

The end of a wait is also such an answer, not an `asyncio.timeout`: one timer over one heap serves all waiters, a time-out is not a
cancellation that could race with a hand-off, and if ten thousand waits end at the same moment, they are answered in slices.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterator
from typing import Generic, TypeVar

from jobqueue.engine.deadlines import Deadlines
from jobqueue.errors import TooManyWaiters
from jobqueue.model import Want

R = TypeVar("R")

_LOOKS = 500
"""How many outdated entries of the heap are skipped to find a wait that ends."""


class _OnesCondition(asyncio.Condition):
    """A Condition with at most one waiting task. A deque of waiters would take 600 bytes more."""

    def __init__(self) -> None:
        super().__init__()
        # asyncio only appends to it, removes from it and iterates over it, in all versions from 3.11 to 3.14.
        self._waiters = []  # type: ignore[assignment] # its stubs say deque


class Waiter(Generic[R]):
    """One held request. `answer` is None until it is answered."""

    __slots__ = ("_condition", "answer", "keys", "want")

    def __init__(self, keys: tuple[str, ...], want: Want | None = None) -> None:
        self.keys = keys
        self.want = want
        self.answer: R | None = None
        self._condition = _OnesCondition()

    async def wait(self) -> R:
        """Sleep until answered, and return the answer. Cancellation passes through, and leaves any answer in place for the caller to
        undo.
        """
        async with self._condition:
            while self.answer is None:
                await self._condition.wait()
        return self.answer

    def settle(self, answer: R) -> None:
        """Set the answer and wake the request. Called only by the registry, and only once."""
        assert self.answer is None
        self.answer = answer
        # A Condition is notified under its lock. This lock is always free when any other task runs: the waiter holds it only between two
        # points with no suspension in between (docs/decisions/0001). So acquiring completes on its first step.
        acquiring = self._condition.acquire()
        try:
            acquiring.send(None)
        except StopIteration:
            self._condition.notify()
            self._condition.release()
        else:  # pragma: no cover - would mean the reasoning above is wrong
            acquiring.close()
            raise RuntimeError("a waiter's lock was held by someone else")


class Registry(Generic[R]):
    """Waiters in order of arrival under every key that they wait for: names of queues, or the id of one job.

    Uses OrderedDict, because taking the oldest entry of a plain dict is O(n) once many were removed at its front.
    """

    def __init__(self, empty: R) -> None:
        self.lines: dict[str, OrderedDict[Waiter[R], None]] = {}
        self._empty = empty
        self.deadlines: Deadlines[Waiter[R]] = Deadlines()

    def __len__(self) -> int:
        return len(self.deadlines)

    def add(self, waiter: Waiter[R], until: float) -> None:
        """Put a waiter at the end of its lines until the engine time `until`."""
        for key in waiter.keys:
            line = self.lines.get(key)
            if line is None:
                line = self.lines[key] = OrderedDict()
            line[waiter] = None
        self.deadlines.set(waiter, until)

    def remove(self, waiter: Waiter[R]) -> None:
        """Take a waiter out of every line. Does nothing if it is in none."""
        self.deadlines.drop(waiter)
        for key in waiter.keys:
            line = self.lines.get(key)
            if line is not None:
                line.pop(waiter, None)
                if not line:
                    del self.lines[key]

    def oldest(self, key: str) -> Waiter[R] | None:
        """The waiter that has waited longest under a key."""
        line = self.lines.get(key)
        return next(iter(line)) if line else None

    def count(self, key: str) -> int:
        """The number of waiters under a key."""
        line = self.lines.get(key)
        return len(line) if line else 0

    def keys(self) -> list[str]:
        """Every key that has waiters."""
        return list(self.lines)

    def settle(self, waiter: Waiter[R], answer: R) -> None:
        """Take a waiter out of line and answer it."""
        self.remove(waiter)
        waiter.settle(answer)

    def expire(self, now: float, limit: int) -> int:
        """Give the empty answer to waiters whose wait has passed, at most `limit`. Returns how many."""
        for count in range(limit):
            waiter = self.deadlines.pop(now, _LOOKS)
            if waiter is None:
                return count
            self.settle(waiter, self._empty)
        return limit

    def settle_all(self) -> None:
        """Give every waiter the empty answer, oldest first under each key."""
        for waiter in list(self.everyone()):
            if waiter.answer is None:
                self.settle(waiter, self._empty)

    def everyone(self) -> Iterator[Waiter[R]]:
        """All waiters, oldest first under each key. A waiter with several keys appears once for each."""
        for line in self.lines.values():
            yield from line


def check_room(standing: int, waiters_max: int) -> None:
    """Raise TooManyWaiters if no more requests can be held."""
    if standing >= waiters_max:
        raise TooManyWaiters(f"too many waiting requests (limit {waiters_max})")
