"""Kills under a FIFO queue of Amazon SQS's: in order, no duplicate, nothing lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from .fifo import kill

ROUNDS = 3


@pytest.mark.long
async def test_kill_9_under_a_fifo_queue(tmp_path: Path) -> None:
    """Clients of a server that is killed keep their order, get no duplicate within the window, and lose nothing that was accepted."""
    town = await kill(ROUNDS, seed=5, folder=tmp_path)
    assert town.kills == ROUNDS
    assert town.lane.counts["accepted"] > 10
    assert town.lane.counts["received"] > 10
