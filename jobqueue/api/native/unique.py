"""Unique jobs in the native API: what an enqueue can request, and the state of a job's unique key. The rules are in engine/unique.py."""

from __future__ import annotations

import msgspec

from jobqueue.model import CONCLUDED, Job
from jobqueue.unique import OnConflict, Unique, Until


class UniqueBody(Unique, frozen=True, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """Jobs of a queue with the same key count as the same work, and only one is kept."""


class UniqueView(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A job's unique key, its options, and whether the job holds it. held_until is null if it is not held for a fixed time."""

    key: str
    until: Until
    for_: float | None = msgspec.field(name="for")
    on_conflict: OnConflict
    max_wait: float | None
    holds: bool
    held_until: str | None


def unique_view(job: Job, held_until: str | None) -> UniqueView:
    """See UniqueView. held_until: `Claim.until`, as it is shown."""
    claim = job.details.extra.claim
    assert claim is not None
    unique = claim.unique
    return UniqueView(
        key=unique.key,
        until=unique.until,
        for_=unique.for_,
        on_conflict=unique.on_conflict,
        max_wait=unique.max_wait,
        holds=claim.state == "holds" and job.status is not CONCLUDED,
        held_until=held_until,
    )
