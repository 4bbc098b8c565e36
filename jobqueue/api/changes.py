"""Which queues have changed: the answers to `GET /queues?changed_since=…`.

Nothing is recorded when a change happens. Each request looks at every queue, and gives the next version number to each queue whose state
differs from the one seen before; the answer is the queues with a version above the client's. So a queue costs nothing until a client asks,
and then as much as in a complete list, but without being sent.

What is kept is a hash of each queue, and the names of the last GONE_MAX queues that were deleted. This belongs to one run of the server:
with a token from another run, the answer has all queues. A token can be used with any bearer token; nobody is shown a queue that their
bearer token does not cover.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections import deque
from collections.abc import Callable

import msgspec

from jobqueue.backend.base import Backend
from jobqueue.backend.restricted import RestrictedBackend
from jobqueue.errors import BadRequest
from jobqueue.model import QueueStats

GONE_MAX = 1_000
"""The number of deleted queues remembered. A client that asks for changes from before the oldest of them gets everything."""

SLICE = 250
"""Queues to look at before other tasks can run."""

EVERYTHING = "0"
_TOKEN = re.compile(r"([0-9a-f]{32})-([0-9]{1,18})")


class Changed(msgspec.Struct, frozen=True):
    """queues: those that changed; gone: names of those deleted; whole: the queues are the complete list, not changes; cursor: where to
    continue; token: what to send with the next request.
    """

    queues: list[QueueStats]
    gone: list[str]
    whole: bool
    cursor: str | None
    token: str


class QueueChanges:
    """The last seen state of each queue, and the version in which it was new."""

    def __init__(self) -> None:
        self._run = secrets.token_hex(16)
        self._version = 0
        self._seen: dict[str, tuple[int, int]] = {}
        self._gone: deque[tuple[int, str]] = deque()
        self._forgotten = 0
        """Deletions up to this version can be forgotten."""
        self._encode = msgspec.msgpack.Encoder().encode

    async def since(self, backend: Backend, token: str, cursor: str, limit: int) -> Changed:
        """At most `limit` queues that changed since `token`, by name, after the name `cursor`. Raises BadRequest, StorageUnavailable.

        Request the pages after the first with the same token as the first, and keep the first page's `token`.
        """
        since = self._read(token)
        looked = await self._look(backend, cursor)
        # From here on no other task runs: a version above the returned one is always of a later change.
        found = [stats for stats, state in looked if self._note(stats.name, state) > since]
        sees: Callable[[str], bool] = backend.sees if isinstance(backend, RestrictedBackend) else lambda name: True
        whole = since < self._forgotten
        gone: list[str] = []
        if not cursor:
            names = {stats.name for stats, _ in looked}
            self._miss(names, sees)
            if not whole:
                gone = [name for version, name in self._gone if version > since and sees(name) and name not in names]
        last = found[limit - 1].name if len(found) > limit else None
        return Changed(found[:limit], gone, whole, last, f"{self._run}-{self._version}")

    async def _look(self, backend: Backend, cursor: str) -> list[tuple[QueueStats, int]]:
        """Queues after the name `cursor`, and a hash of each."""
        looked: list[tuple[QueueStats, int]] = []
        after: str | None = cursor
        while after is not None:
            page, after = await backend.queue_page(after, SLICE)
            looked += [(stats, self._state(stats)) for stats in page]
            await asyncio.sleep(0)
        return looked

    def _state(self, stats: QueueStats) -> int:
        # In UTC, a time that does not change still shifts by microseconds with the clock. Every real change also changes a count.
        times = (stats.oldest_queued_at, stats.created_at, stats.modified_at, stats.rate_next_at)
        still = msgspec.structs.replace(stats, oldest_queued_at=None, created_at=None, modified_at=None, rate_next_at=None)
        return hash((self._encode(still), *(None if time is None else round(time) for time in times)))

    def _read(self, token: str) -> int:
        """The version that a token stands for; -1 if it is not from this run."""
        if token == EVERYTHING:
            return -1
        found = _TOKEN.fullmatch(token)
        if found is None:
            raise BadRequest("changed_since", "is no value that was answered as changes; 0 asks for every queue")
        return int(found[2]) if found[1] == self._run and self._forgotten <= int(found[2]) <= self._version else -1

    def _note(self, name: str, state: int) -> int:
        """The version in which a queue got its current state."""
        seen = self._seen.get(name)
        if seen is not None and seen[0] == state:
            return seen[1]
        self._version += 1
        self._seen[name] = (state, self._version)
        return self._version

    def _miss(self, names: set[str], sees: Callable[[str], bool]) -> None:
        """Record which queues are gone. names: those that exist and for which `sees` is true."""
        for name in [name for name in self._seen if name not in names and sees(name)]:
            del self._seen[name]
            self._version += 1
            self._gone.append((self._version, name))
        while len(self._gone) > GONE_MAX:
            self._forgotten = self._gone.popleft()[0]
