"""Putting together what several partitions answer: pages, totals, samples.

Each partition answers about itself alone. Every function here is pure, and does not depend on the order in which the answers came.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from msgspec.structs import replace

from jobqueue.about import WorkerStats
from jobqueue.backend.base import BackendStats, ClusterStats, PartitionStats, StorageStats
from jobqueue.engine.samples import COUNTED, HELD, Value
from jobqueue.histogram import Timings
from jobqueue.past import Failures
from jobqueue.schedule import ScheduleTotals

T = TypeVar("T")

_SUMMED = (*COUNTED, *HELD[:2])
"""The columns of samples that are added up; of the others, the largest value counts."""


def by_name(pages: Sequence[tuple[list[T], str | None]], name: Callable[[T], str], limit: int) -> tuple[list[T], str | None]:
    """One page of up to `limit` items in order of their names, from pages that all begin after the same name; and the next `after`.

    A partition whose page has a next one has more items after that page's end, so nothing beyond the nearest such end is taken. Items with
    the same name stay side by side and count once: they are one item, of which each partition knows a part.
    """
    ends = [after for _, after in pages if after is not None]
    end = min(ends, default=None)
    found: list[T] = []
    names = 0
    last: str | None = None
    for item in heapq.merge(*(items for items, _ in pages), key=name):
        this = name(item)
        if end is not None and this > end:
            break
        if this != last:
            if names == limit:
                return found, last
            names, last = names + 1, this
        found.append(item)
    return found, end


def merged_workers(found: Iterable[WorkerStats]) -> Iterator[WorkerStats]:
    """Workers by name, each once: a worker that takes jobs of several partitions is known to each of them."""
    whole: WorkerStats | None = None
    for stats in found:
        if whole is None or stats.name != whole.name:
            if whole is not None:
                yield whole
            whole = stats
            continue
        newer = stats if stats.seen_at > whole.seen_at else whole
        whole = WorkerStats(
            name=whole.name,
            about=newer.about,
            queues=tuple(dict.fromkeys((*whole.queues, *stats.queues))),
            seen_at=newer.seen_at,
            leases=whole.leases + stats.leases,
            quiet=whole.quiet or stats.quiet,
            instances=max(whole.instances, stats.instances),
            silent=whole.silent and stats.silent,
        )
    if whole is not None:
        yield whole


# Totals.


def summed_timings(parts: Iterable[Timings]) -> Timings:
    """One histogram. Those without bounds have counted nothing."""
    whole = Timings()
    for part in parts:
        if not part.bounds:
            continue
        if not whole.bounds:
            whole = part
            continue
        counts = tuple(one + other for one, other in zip(whole.counts, part.counts, strict=True))
        whole = Timings(whole.bounds, counts, whole.total + part.total)
    return whole


def _summed_struct(parts: Sequence[T]) -> T:
    """A struct of numbers, added up field by field."""
    kind: Any = type(parts[0])
    return kind(**{name: sum(getattr(part, name) for part in parts) for name in kind.__struct_fields__})  # type: ignore[no-any-return]


def _summed_dict(parts: Iterable[dict[str, int]]) -> dict[str, int]:
    whole: dict[str, int] = {}
    for part in parts:
        for name, count in part.items():
            whole[name] = whole.get(name, 0) + count
    return whole


def _summed_storage(parts: Sequence[StorageStats]) -> StorageStats:
    latest = max(parts, key=lambda part: -1.0 if part.last_at is None else part.last_at)
    return StorageStats(
        failing=any(part.failing for part in parts),
        commits=summed_timings(part.commits for part in parts),
        unwritten_bytes=sum(part.unwritten_bytes for part in parts),
        problem=next((part.problem for part in parts if part.problem is not None), None),
        last_at=latest.last_at,
        last_seconds=latest.last_seconds,
    )


def summed_stats(parts: Sequence[BackendStats]) -> BackendStats:
    """The totals of all partitions. draining: whether any drains."""
    first = parts[0]
    whole: dict[str, Any] = {}
    for name in BackendStats.__struct_fields__:
        values = [getattr(part, name) for part in parts]
        one = values[0]
        if isinstance(one, bool):
            whole[name] = any(values)
        elif isinstance(one, Timings):
            whole[name] = summed_timings(values)
        elif isinstance(one, Failures | ScheduleTotals):
            whole[name] = _summed_struct(values)
        elif name == "history":
            whole[name] = {
                outcome: (sum(part.history[outcome][0] for part in parts), sum(part.history[outcome][1] for part in parts))
                for outcome in first.history
            }
        elif name == "storage":
            stored = [value for value in values if value is not None]
            whole[name] = _summed_storage(stored) if stored else None
        elif isinstance(one, dict):
            whole[name] = _summed_dict(values)
        elif name == "listeners":
            # Each listens in all partitions.
            whole[name] = max(values)
        else:
            whole[name] = sum(values)
    return BackendStats(**whole)


def _most(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def merged_cluster(parts: Sequence[ClusterStats]) -> ClusterStats:
    """A server's view of all partitions: what is the same in each, the worst of what is not, and a list of them."""
    first = parts[0]
    lefts = [part.lease_left_seconds for part in parts]
    return replace(
        first,
        owner=None,
        owner_address=None,
        epoch=sum(part.epoch for part in parts),
        lease_left_seconds=None if None in lefts else min(left for left in lefts if left is not None),
        problem=next((part.problem for part in parts if part.problem is not None), None),
        standby=None,
        behind=max(part.behind for part in parts),
        renewed_seconds=_most(part.renewed_seconds for part in parts),
        link_seconds=_most(part.link_seconds for part in parts),
        clock_seconds=_most(part.clock_seconds for part in parts),
        partitions=[
            PartitionStats(
                index=index,
                owner=part.owner,
                owner_address=part.owner_address,
                epoch=part.epoch,
                lease_left_seconds=part.lease_left_seconds,
                problem=part.problem,
                standby=part.standby,
                behind=part.behind,
                renewed_seconds=part.renewed_seconds,
                link_seconds=part.link_seconds,
            )
            for index, part in enumerate(parts)
        ],
    )


# Samples.


def summed_columns(parts: Sequence[dict[str, list[Value]]]) -> dict[str, list[Value]]:
    """Samples of several partitions that begin at the same step."""
    return {name: [_summed_value(name, values) for values in zip(*(part[name] for part in parts), strict=True)] for name in parts[0]}


def _summed_value(name: str, values: Sequence[Value]) -> Value:
    known = [value for value in values if value is not None]
    if not known:
        return None
    return sum(known) if name in _SUMMED else max(known)
