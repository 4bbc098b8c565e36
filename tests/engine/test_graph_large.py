"""Graphs of 100,000 jobs whose workers fail at random end as their rules say, in bounded memory, and no step does much."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

import pytest

from jobqueue.engine.engine import Engine
from jobqueue.group import GroupSpec
from jobqueue.ids import Ids
from jobqueue.limits import Limits
from jobqueue.model import CONCLUDED, JobSpec, Outcome, Verdict, Want
from tests.factories import NOW, entropy

SIZE = 100_000
WIDTH = 300
"""Of the grid."""

STEP_EVENTS_MAX = 1_700
"""What a step may do: 500 edges, each an end, a place in history that another leaves, and a parent's."""

SUCCEEDED = Verdict(outcome=Outcome.SUCCEEDED, result=b"1")
TRIED_AGAIN = Verdict(outcome=Outcome.FAILED, error=b'"x"', retry_delay=0.0)
FAILED = Verdict(outcome=Outcome.FAILED, error=b'"x"', retry=False)


def chain(size: int, failure: str) -> Iterator[JobSpec]:
    """Each after the one before."""
    for number in range(size):
        yield JobSpec(payload=b"1", id=str(number), after=(str(number - 1),) if number else (), **_failure(failure, number))  # type: ignore[arg-type]


def fan(size: int, failure: str) -> Iterator[JobSpec]:
    """All after the first; what comes after all of them is what their group enqueues."""
    for number in range(size):
        yield JobSpec(payload=b"1", id=str(number), after=("0",) if number else (), group="fan", **_failure(failure, number))  # type: ignore[arg-type]


def grid(size: int, failure: str) -> Iterator[JobSpec]:
    """Each after the ones to the left and above."""
    for number in range(size):
        after = [str(number - 1)] if number % WIDTH else []
        after += [str(number - WIDTH)] if number >= WIDTH else []
        yield JobSpec(payload=b"1", id=str(number), after=tuple(after), **_failure(failure, len(after)))  # type: ignore[arg-type]


def _failure(failure: str, after: int) -> dict[str, str]:
    return {"after_failure": failure} if after else {}


def ticked(engine: Engine, seen: Callable[[], None]) -> None:
    """Have the ticker do all that is due."""
    while (due := engine.next_deadline()) is not None and due <= NOW:
        engine.tick(NOW, 500)
        seen()


LONG = {(fan, "cancel"), (grid, "run")}
"""Those that CI runs; each takes 15 s."""


@pytest.mark.parametrize(
    ("shape", "failure"),
    [
        pytest.param(shape, failure, marks=pytest.mark.long if (shape, failure) in LONG else pytest.mark.by_hand)
        for shape in (chain, fan, grid)
        for failure in ("cancel", "run")
    ],
)
def test_a_graph_of_100_000_jobs_ends(shape: Callable[[int, str], Iterator[JobSpec]], failure: str) -> None:
    """Those that fail cancel what is after them or not; nobody waits in the end, and nothing of the graph is left in memory."""
    random = Random(7)
    engine = Engine(Limits(history_jobs_max=1_000), Ids(entropy(7)), random)
    engine.groups.create(GroupSpec(id="fan", on_concluded=JobSpec(payload=b"1", queue="last")), NOW, lambda: "x")
    for spec in shape(SIZE, failure):
        engine.enqueue(NOW, spec)
    engine.groups.close("fan", NOW)
    engine.take_events()
    most = 0

    def seen() -> None:
        nonlocal most
        most = max(most, len(engine.take_events()))

    while jobs := engine.dequeue(NOW, Want(limit=1)):
        (job,) = jobs
        assert job.lease is not None
        drawn = random.random()
        # The first few succeed: a graph that ends at once shows nothing.
        verdict = SUCCEEDED if drawn > 0.1 or int(job.id) < 50 else TRIED_AGAIN if drawn > 0.00002 else FAILED
        engine.conclude(NOW, job.id, job.lease.token, verdict)
        seen()
        ticked(engine, seen)
    ticked(engine, seen)
    assert most <= STEP_EVENTS_MAX
    assert engine.live == engine.queues["last"].live == 1
    assert (engine.edges.children, engine.edges.held, engine.edges.count, engine.kept) == ({}, {}, 0, {})
    queue = engine.queues["default"]
    ended = queue.succeeded_total + queue.failed_total + queue.cancelled_total
    assert ended == SIZE
    assert queue.cancelled_total == 0 or failure == "cancel"
    assert queue.live == 0
    assert all(job.status is CONCLUDED for job in engine.jobs.all() if job.queue == "default")
    assert len(engine.jobs.by_id) <= 4 * 1_000 + 1
    assert engine.jobs_max == engine.limits.jobs_max
    engine.graph.check()
    engine.groups.check()
