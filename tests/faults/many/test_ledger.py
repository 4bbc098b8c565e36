"""The short version of `python -m tests.faults.many`, and that its books notice what they are there for."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from random import Random

import pytest

from jobqueue.client.types import Lease, LeasedJob
from tests.valkey import needs_valkey

from .book import Book
from .rounds import bag, run

SEEDS = {"valkey": 1, "postgres": 3}
"""Whose first three rounds are of three kinds, the owner's end or the store's among them."""


@pytest.mark.long
@pytest.mark.xdist_group("ledger")
@pytest.mark.parametrize("partitions", [1, 3])
@pytest.mark.parametrize("store", ["valkey", "postgres"])
def test_nothing_acknowledged_is_lost(store: str, partitions: int) -> None:
    """Three rounds, among them the end of the owner: nothing is lost or undone, and no job is leased twice at once."""
    if store == "valkey":
        needs_valkey()
    outcome = run(store, rounds=3, seed=SEEDS[store], partitions=partitions)
    assert outcome.well, outcome.summary()
    assert outcome.book.concluded


def leased(job_id: str, token: str, expires_in: float) -> LeasedJob:
    """As a worker reads it."""
    expires_at = datetime.fromtimestamp(time.time() + expires_in, UTC)
    raw = f'"{job_id}"'.encode()
    return LeasedJob(
        id=job_id,
        number=1,
        queue="default",
        type=None,
        description=None,
        priority=5,
        attempts=1,
        created_at=expires_at,
        lease=Lease(token, expires_at),
        raw_payload=raw,  # type: ignore[arg-type]
    )


def test_a_second_lease_is_noticed() -> None:
    """A job that is handed out while its worker may still believe in its lease is told; after the worker has given it up it is not."""
    book = Book()
    for job_id in ("a", "b"):
        book.submits(job_id)
        book.hands_out(leased(job_id, f"{job_id}1", 20.0), time.time(), 20.0)
    book.gives_up("b1")
    for held in book.held.values():
        held.granted -= 10.0
    book.held["b1"].ended = time.time() - 1.0
    for job_id in ("a", "b"):
        book.hands_out(leased(job_id, f"{job_id}2", 20.0), time.time(), 20.0)
    assert [fault.partition(",")[0] for fault in book.double_leases()] == ["a"]
    assert book.faults == []


def test_what_is_missing_is_noticed() -> None:
    """An acknowledged job that is not there is lost; a job that comes back after its conclude is told."""
    book = Book()
    book.acknowledges("a", book.submits("a"))
    book.submits("b")
    assert book.lost([]) == (["a"], [])
    book.succeeds("a")
    book.concluded["a"] -= 5.0
    book.hands_out(leased("a", "a1", 20.0), time.time(), 20.0)
    assert len(book.faults) == 1
    assert "after it had succeeded" in book.faults[0]


def test_a_live_lease_that_is_refused_is_noticed() -> None:
    """A conclude that is refused before the lease's end is a lost lease; after it the worker was late."""
    book = Book()
    book.submits("a")
    book.hands_out(leased("a", "a1", 20.0), time.time(), 20.0)
    book.refused("a1", "a conclude", "lease_lost")
    assert len(book.faults) == 1
    book.held["a1"].until -= 30.0
    book.refused("a1", "a conclude", "lease_lost")
    assert (len(book.faults), book.late) == (1, 2)


def test_a_silence_is_measured_to_its_ends() -> None:
    """The time without an acknowledged enqueue counts from the fault on, and up to the end."""
    book = Book()
    for _ in range(3):
        book.acknowledges("a", book.submits("a"))
    now = time.monotonic()
    assert book.silence(now + 1.0, now + 4.0) == pytest.approx(3.0)
    assert book.silence(now - 5.0, now) == pytest.approx(5.0, abs=1.0)


def test_each_case_is_struck_as_often_as_any_other() -> None:
    """Thirty rounds of ten cases are three of each, whatever the seed."""
    names = [str(number) for number in range(10)]
    drawn = bag(names, 30, Random(7))
    assert sorted(drawn) == sorted(3 * names)
