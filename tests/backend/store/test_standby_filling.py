"""How a standby begins: which groups are part of the rows that it has read, and which it follows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from jobqueue.backend.following import RowChanges
from jobqueue.backend.store.source import Ear
from jobqueue.backend.store.standby import Standby
from jobqueue.backend.store.store import Owner
from jobqueue.clock import ManualClock
from jobqueue.engine.engine import Engine

from .memory import MemoryStore, Shared

TURNS = 40


class Hurrying:
    """A Source whose next group comes right behind its answer to which was the last."""

    def __init__(self) -> None:
        self._ear: Ear | None = None

    async def follow(self, ear: Ear, standby: bool) -> tuple[str, int]:
        self._ear = ear
        return "r", 0

    async def mark(self) -> int:
        assert self._ear is not None
        for number in (1, 2):
            self._ear.handed(number, RowChanges())
        return 1

    def tell(self, behind: int, warm: bool) -> None:
        """It does not matter here."""

    async def close(self) -> None:
        """Nothing is open."""


async def _here(work: Callable[[], object]) -> None:
    work()


async def test_a_group_right_behind_the_mark_is_followed(caplog: pytest.LogCaptureFixture) -> None:
    """An owner that commits all the time sends the next group with the number of the last: it is not taken for part of what was read."""
    clock = ManualClock()
    standby = Standby(MemoryStore(Shared(clock)), clock, Engine, lambda address: Hurrying(), aside=_here)
    standby.whom = lambda: Owner("o", "o:1", 1, 5.0)
    standby.start()
    for _ in range(TURNS):
        await asyncio.sleep(0)
    assert (standby.warm, standby.behind) == (True, 1)
    assert "cannot follow" not in caplog.text
    await standby.close()
