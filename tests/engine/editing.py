"""What an edit does, as the machines and their oracles have it, written from docs/semantics.md and docs/protocol.md."""

from __future__ import annotations

from random import Random

import msgspec
from hypothesis import strategies as st
from msgspec import UNSET

from jobqueue.model import JobChange, JobSpec

from .oracle import OVER, UNKNOWN, Item, Oracle, size_of

changes = st.builds(
    JobChange,
    payload=st.sampled_from([UNSET, UNSET, b"4444", b"p" * 40]),
    queue=st.sampled_from([UNSET, UNSET, "a", "b", "c"]),
    description=st.sampled_from([UNSET, UNSET, None, "d" * 20]),
    priority=st.sampled_from([UNSET, UNSET, 0, 5, 9]),
    delay=st.sampled_from([UNSET, UNSET, 0.0, 4.0, 15.0]),
    expires_in=st.sampled_from([UNSET, UNSET, None, 2.0, 30.0]),
    tags=st.sampled_from([UNSET, UNSET, (), ("x",)]),
)


def any_change(random: Random) -> JobChange:
    """One of them, by chance."""
    return JobChange(
        payload=random.choice([UNSET, UNSET, b"p" * 20]),
        queue=random.choice([UNSET, UNSET, "a", "b", "c"]),
        priority=random.choice([UNSET, UNSET, 0, 5]),
        delay=random.choice([UNSET, UNSET, 0.0, 8.0]),
        expires_in=random.choice([UNSET, UNSET, None, 20.0]),
    )


def edit(oracle: Oracle, now: float, job_id: str, change: JobChange) -> str | None:
    """Edit a job of the oracle; the error's code if it is refused."""
    item = oracle.items.get(job_id)
    if item is None:
        return UNKNOWN
    if item.status not in ("scheduled", "queued"):
        return "in_progress" if item.outcome is None else OVER
    spec = item.spec
    names = ("payload", "description", "priority", "queue", "tags")
    given = {name: value for name in names if (value := getattr(change, name)) is not UNSET}
    after = msgspec.structs.replace(spec, **given)
    grown = size_of(after.payload, after.description, *after.tags) - size_of(spec.payload, spec.description, *spec.tags)
    if grown > max(0, oracle.room()):
        return "queue_full"
    if after.queue != spec.queue and (full := oracle.no_place(after.queue, spec.key)) is not None:
        return full
    # From here on nothing is refused.
    item.edited = True
    if change.payload is not UNSET:
        item.late = None
    if change.expires_in is not UNSET:
        item.expires_at = None if change.expires_in is None else now + change.expires_in
    _move(oracle, now, item, after, None if change.delay is UNSET else now + change.delay)
    return None


def _move(oracle: Oracle, now: float, item: Item, after: JobSpec, waits_until: float | None) -> None:
    """Give a job its new fields, and put it where it waits from now on. waits_until: its new time, if it is to have one."""
    spec, was, moved = item.spec, item.status, after.queue != item.spec.queue
    if waits_until is not None and waits_until <= now and was == "queued":
        waits_until = None
    if moved:
        if item.home == spec.queue:
            item.home = after.queue
        item.holds = False
        oracle.comes_by_edit(after.queue, spec.key)
    item.spec = after
    if not moved and after.priority == spec.priority and waits_until is None:
        return
    if moved or after.priority != spec.priority or was == "queued":
        item.place = 0
    if waits_until is not None:
        item.run_at = waits_until
    if waits_until > now if waits_until is not None else was == "scheduled":
        item.status, item.came_back = "scheduled", False
    elif item.place:
        oracle.to_old_place(item, now)
    else:
        oracle.to_back(item)
        if item.expires_at is not None and item.expires_at <= now:
            oracle.end(item, "expired")
