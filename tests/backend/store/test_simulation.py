"""Three servers on one store in worlds made from seeds; and that planted bugs are found there."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from jobqueue.backend import loading
from jobqueue.backend.group_journal import GroupJournal
from jobqueue.backend.loading import Rows
from jobqueue.backend.store import ownership
from jobqueue.backend.store.cluster import ClusterBackend
from jobqueue.backend.store.lease import Lease
from jobqueue.clock import Clock
from jobqueue.engine.engine import Engine

from .memory import Shared
from .simulation import find

SEEDS = 24
CHUNKS = 4
HUNT_SEEDS = 40
"""In how many worlds a planted bug is looked for."""


@pytest.mark.parametrize("chunk", range(CHUNKS))
async def test_no_seed_finds_a_fault(chunk: int) -> None:
    """Nothing acknowledged is lost, no two workers hold a job, and none loses a lease that lives, whatever befalls servers and store."""
    found = await find(range(chunk, SEEDS, CHUNKS))
    assert found is None, f"seed {found[0]}: {found[1].faults}\n" + "\n".join(found[1].log)


def goes_on_after_its_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    """An owner that does not look at its clock."""
    monkeypatch.setattr(Lease, "left", property(lambda lease: 1e9))


def answers_before_the_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for the store."""

    async def committed(journal: GroupJournal, ticket: int) -> None:
        return

    monkeypatch.setattr(GroupJournal, "committed", committed)


def forgets_what_was_not_delivered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that could not be delivered is not put back once the owner has changed."""
    monkeypatch.setattr(ClusterBackend, "return_jobs", lambda backend, jobs: None)
    monkeypatch.setattr(ClusterBackend, "follow", lambda backend, reign, jobs: None)


def forgets_a_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new owner takes jobs in progress for queued ones."""

    def load(rows: Rows, engine: Engine, clock: Clock) -> tuple[float, int]:
        loaded = loading.load(rows, engine, clock)
        for job in list(engine.jobs.all()):
            if job.lease is not None:
                engine.release(clock.now(), job.id, job.lease.token)
        return loaded

    monkeypatch.setattr(ownership, "load", load)


def writes_on_under_an_old_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that fences nobody, so that a deposed owner writes on."""
    monkeypatch.setattr(Shared, "check", lambda shared, name, epoch: None)


PLANTS: dict[Callable[[pytest.MonkeyPatch], None], str] = {
    goes_on_after_its_lease: "is shown as",
    answers_before_the_commit: "",
    forgets_what_was_not_delivered: "not done",
    forgets_a_lease: "",
    writes_on_under_an_old_epoch: "",
}


@pytest.mark.long
@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.__name__)
async def test_a_planted_bug_is_found(plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of these mistakes is found in one of the first worlds."""
    plant(monkeypatch)
    found = await find(range(HUNT_SEEDS))
    assert found is not None
    print(f"{plant.__name__}: found by seed {found[0]}: {found[1].faults[0]}")
    assert PLANTS[plant] in "\n".join(found[1].faults)
