"""Kills around the slots of schedules: each slot once, and none forgotten."""

from __future__ import annotations

from pathlib import Path

import pytest

from .slots import SCHEDULES, kill

ROUNDS = 3


@pytest.mark.long
async def test_kill_9_around_slots(tmp_path: Path) -> None:
    """A server killed within milliseconds of slots makes each job once, and by its rule none is missing."""
    found = await kill(ROUNDS, seed=17, folder=tmp_path)
    assert set(found.jobs) == set(SCHEDULES)
    assert found.kills == ROUNDS
