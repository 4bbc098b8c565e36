"""What partitions answer, put together as if one had answered."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from jobqueue.about import About, WorkerStats
from jobqueue.backend.base import BackendStats, ClusterStats, StorageStats
from jobqueue.backend.merging import by_name, merged_cluster, merged_workers, summed_columns, summed_stats, summed_timings
from jobqueue.histogram import Histogram, Timings
from jobqueue.model import Outcome
from jobqueue.past import Failures

NAMES = st.text("abc", min_size=1, max_size=3)


def page_of(names: list[str], after: str, limit: int) -> tuple[list[str], str | None]:
    """A page as a partition answers it."""
    left = [name for name in sorted(names) if name > after]
    return left[:limit], left[limit - 1] if len(left) > limit else None


@given(
    st.lists(st.lists(NAMES, unique=True), min_size=2, max_size=4), st.integers(1, 4), st.lists(st.integers(1, 4), min_size=4, max_size=4)
)
def test_pages_by_name_show_everything_once(parts: list[list[str]], limit: int, short: list[int]) -> None:
    """In order, however short the pages of some partitions are; a name that several partitions have stays together."""
    found: list[str] = []
    after: str | None = ""
    while after is not None:
        before = after
        pages = [page_of(names, before, min(limit, most)) for names, most in zip(parts, short, strict=False)]
        page, after = by_name(pages, str, limit)
        assert len(set(page)) <= limit
        assert after is None or after > before
        found += page
    assert found == sorted(name for names in parts for name in names)


@given(st.lists(st.lists(st.floats(0, 10)), min_size=1, max_size=4))
def test_histograms_add_up(parts: list[list[float]]) -> None:
    """To the histogram of all values; one that has counted nothing changes nothing."""
    whole = Histogram((1.0, 5.0))
    timings = [Timings()]
    for values in parts:
        part = Histogram((1.0, 5.0))
        for value in values:
            part.observe(value)
            whole.observe(value)
        timings.append(part.timings())
    merged = summed_timings(timings)
    assert merged.counts == whole.timings().counts
    assert abs(merged.total - whole.total) < 1e-6


def stats(**more: Any) -> BackendStats:
    history = dict.fromkeys(Outcome, (1, 10))
    return BackendStats(
        jobs_live=1, live_bytes=2, queues=3, waiters=4, leases=5, history=history, undelivered_total=6, draining=False, **more
    )


def test_totals_add_up() -> None:
    """Each field in its way: what each partition counts of the same listener counts once."""
    storage = StorageStats(failing=False, commits=Timings(), unwritten_bytes=5, last_at=7.0, last_seconds=0.1)
    failing = StorageStats(failing=True, commits=Timings(), unwritten_bytes=1, problem="full")
    whole = summed_stats(
        [
            stats(listeners=2, workers={"busy": 1}, failures=Failures(retrying=1), storage=storage),
            stats(listeners=2, workers={"busy": 2, "idle": 1}, failures=Failures(retrying=2, jobs_1m=1), storage=failing),
        ]
    )
    assert (whole.jobs_live, whole.waiters, whole.listeners, whole.draining) == (2, 8, 2, False)
    assert whole.history[Outcome.FAILED] == (2, 20)
    assert whole.workers == {"busy": 3, "idle": 1}
    assert whole.failures == Failures(retrying=3, jobs_1m=1)
    assert whole.storage is not None
    assert (whole.storage.failing, whole.storage.problem, whole.storage.unwritten_bytes, whole.storage.last_at) == (True, "full", 6, 7.0)
    assert summed_stats([stats(), stats()]).storage is None


def test_a_worker_of_several_partitions_is_one() -> None:
    """With all its queues and leases, and what it said last."""

    def worker(name: str, seen_at: float, queue: str, **more: Any) -> WorkerStats:
        return WorkerStats(
            **{"name": name, "about": About(version=queue), "queues": (queue,), "seen_at": seen_at, "leases": 1, "quiet": False} | more
        )

    found = list(merged_workers([worker("a", 1.0, "x"), worker("b", 5.0, "x", silent=True), worker("b", 6.0, "y", quiet=True)]))
    assert [(each.name, each.queues, each.leases) for each in found] == [("a", ("x",), 1), ("b", ("x", "y"), 2)]
    assert (found[1].about.version, found[1].seen_at, found[1].quiet, found[1].silent) == ("y", 6.0, True, False)
    assert list(merged_workers([])) == []


def test_samples_add_up() -> None:
    """Counts and depths are sums, ages and times the largest; what nobody knows is unknown."""
    parts = [
        {"enqueued": [1, None], "oldest_seconds": [3.0, None]},
        {"enqueued": [2, None], "oldest_seconds": [None, None]},
    ]
    assert summed_columns(parts) == {"enqueued": [3, None], "oldest_seconds": [3.0, None]}  # type: ignore[arg-type]


def test_the_view_of_all_partitions_is_the_worst_of_each() -> None:
    """With a list that says which."""

    def of(owner: str | None, left: float | None, problem: str | None = None) -> ClusterStats:
        return ClusterStats(
            name="me",
            address="me:1",
            store="s",
            owner=owner,
            owner_address=owner,
            epoch=2,
            members=[],
            lease_left_seconds=left,
            problem=problem,
        )

    whole = merged_cluster([of("a", 3.0), of("b", 2.0)])
    assert (whole.owner, whole.epoch, whole.lease_left_seconds, whole.problem) == (None, 4, 2.0, None)
    assert [(each.index, each.owner) for each in whole.partitions] == [(0, "a"), (1, "b")]
    whole = merged_cluster([of("a", 3.0), of(None, None, "its clock is wrong")])
    assert (whole.lease_left_seconds, whole.problem) == (None, "its clock is wrong")
