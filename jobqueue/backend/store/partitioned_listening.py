"""Listening to the events of several partitions.

A cursor is a vector: the cursor of each partition, joined by dots. Each partition's events come in their order; between partitions they
come as they arrive, those that arrive together by their time.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Self

from msgspec.structs import replace

from jobqueue.backend.base import Backend, Listen, Notice
from jobqueue.backend.store.finding import together
from jobqueue.backend.store.signals import Signal
from jobqueue.clock import Clock

PART = 500
"""Events that are read from one partition at once."""

PART_SECONDS = 60.0
"""How long a partition is asked to wait for events, before it is asked again."""

TURNS = 5
"""Turns of the loop in which events that have happened are read."""

UNKNOWN = "none"
"""The cursor of a partition that is not known. No partition recognises it."""


class MergedListening:
    """One listener; see base.Listening."""

    def __init__(self, backends: Sequence[Backend], wanted: Listen, after: str | None, clock: Clock) -> None:
        cursors = [] if after is None else after.split(".")
        if after is not None and len(cursors) != len(backends):
            cursors = [UNKNOWN] * len(backends)
        self._listenings = [backend.listen(wanted, cursors[index] if cursors else None) for index, backend in enumerate(backends)]
        self._cursors: list[str] = []
        self._buffers: list[deque[Notice]] = [deque() for _ in backends]
        self._reading: list[asyncio.Task[None] | None] = [None] * len(backends)
        self._clock = clock
        self._come = Signal(clock)
        self._over = False
        self._error: BaseException | None = None
        self.missed = False

    @property
    def cursor(self) -> str:
        """See base.Listening."""
        for index, listening in enumerate(self._listenings):
            if not self._buffers[index]:
                self._cursors[index] = listening.cursor
        return ".".join(self._cursors)

    async def __aenter__(self) -> Self:
        entered = await asyncio.gather(*(listening.__aenter__() for listening in self._listenings), return_exceptions=True)
        failed = next((each for each in entered if isinstance(each, BaseException)), None)
        if failed is not None:
            await together(
                listening.__aexit__(None, None, None)
                for listening, each in zip(self._listenings, entered, strict=True)
                if not isinstance(each, BaseException)
            )
            raise failed
        self.missed = any(listening.missed for listening in self._listenings)
        self._cursors = [listening.cursor for listening in self._listenings]
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        for task in self._reading:
            if task is not None:
                task.cancel()
        await asyncio.gather(*(task for task in self._reading if task is not None), return_exceptions=True)
        await together(listening.__aexit__(None, None, None) for listening in self._listenings)

    async def notices(self, limit: int, wait: float) -> list[Notice] | None:
        """See base.Listening."""
        until = self._clock.now() + wait
        turns = TURNS
        while True:
            found = self._found(limit)
            if found:
                return found
            if self._error is not None:
                raise self._error
            if self._over:
                return None
            self._read()
            if turns:
                # What has happened by now has not been read yet.
                turns -= 1
                await asyncio.sleep(0)
            elif self._clock.now() >= until:
                return []
            else:
                await self._come.wait(until)

    def _found(self, limit: int) -> list[Notice]:
        """The events that have been read, by time."""
        found: list[Notice] = []
        while len(found) < limit:
            heads = [(buffer[0].at, index) for index, buffer in enumerate(self._buffers) if buffer]
            if not heads:
                break
            _, index = min(heads)
            notice = self._buffers[index].popleft()
            self._cursors[index] = notice.cursor
            found.append(replace(notice, cursor=".".join(self._cursors)))
        return found

    def _read(self) -> None:
        """Read from each partition of which nothing is left. What is being read is never given up, since it would be lost on its way."""
        for index, buffer in enumerate(self._buffers):
            if not buffer and self._reading[index] is None:
                self._reading[index] = asyncio.get_running_loop().create_task(self._read_of(index))

    async def _read_of(self, index: int) -> None:
        try:
            notices = await self._listenings[index].notices(PART, PART_SECONDS)
            if notices is None:
                self._over = True
            else:
                self._buffers[index].extend(notices)
        except Exception as error:
            self._error = error
        self._reading[index] = None
        self._come.notify()
