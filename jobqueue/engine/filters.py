"""Which jobs a filter matches: one test, for listings and for operations on many jobs.

A search looks at an error as JSON text. It finds a piece as it was sent, and also if only the encoding differs, since one encoder writes
`"\\u00e9"` where another writes `"é"`: both are normalised first.
"""

from __future__ import annotations

import msgspec

from jobqueue.engine.error_groups import kind_of
from jobqueue.model import Job, JobFilter, Outcome, Status

LOOKED_BYTES_MAX = 4 * 1024 * 1024
"""The most bytes of errors that one step searches. Normalising takes about 3 ns a byte."""

GROUPED_BYTES = 1_500
"""The cost of finding the group of an error, in bytes searched: about 5 µs."""


class Matching(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """A filter without a position in a listing, for operations on many jobs; see JobFilter. Times are UTC."""

    status: Status | None = None
    outcome: Outcome | None = None
    queue: str | None = None
    type: str | None = None
    key: str | None = None
    tag: str | None = None
    worker: str | None = None
    error: str | None = None
    created_after: float | None = None
    created_before: float | None = None
    retrying: bool | None = None
    error_group: str | None = None

    @property
    def empty(self) -> bool:
        """Whether it matches every job."""
        return all(getattr(self, name) is None for name in self.__struct_fields__)

    def at(self, skew: float) -> JobFilter:
        """The filter in the engine's form. skew: UTC minus engine time."""
        said = {name: getattr(self, name) for name in self.__struct_fields__}
        for name in ("created_after", "created_before"):
            if said[name] is not None:
                said[name] -= skew
        return JobFilter(**said)


def fits(job: Job, wanted: JobFilter) -> bool:
    """Whether a job matches. Its position in a listing (`before`, `after`) is not checked."""
    return (
        (wanted.status is None or job.status is wanted.status)
        and (wanted.outcome is None or job.outcome is wanted.outcome)
        and (wanted.queue is None or job.queue == wanted.queue)
        and (wanted.type is None or job.type == wanted.type)
        and (wanted.key is None or job.details.key == wanted.key)
        and (wanted.tag is None or wanted.tag in job.details.extra.tags)
        and (wanted.group is None or wanted.group == job.details.extra.group)
        and (wanted.parent is None or wanted.parent in job.details.extra.after)
        and (wanted.worker is None or (job.hold is not None and job.hold.worker == wanted.worker))
        and (wanted.retrying is None or (job.status is Status.SCHEDULED and job.attempts > 0) is wanted.retrying)
        and (wanted.created_after is None or job.created_at >= wanted.created_after)
        and (wanted.created_before is None or job.created_at < wanted.created_before)
        and (wanted.sees is None or wanted.sees(job.queue))
        and (wanted.error is None or (job.details.error is not None and _says(job.details.error, wanted.error)))
        and (wanted.error_group is None or (bool(job.details.past) and kind_of(job.details.error).id == wanted.error_group))
    )


def looked_bytes(job: Job, wanted: JobFilter) -> int:
    """How many bytes of a job the filter had to search."""
    error = job.details.error
    size = 0 if wanted.error is None or error is None else len(error)
    if wanted.error_group is not None and job.details.past and (wanted.queue is None or wanted.queue == job.queue):
        size += GROUPED_BYTES
    return size


def _says(error: bytes, piece: str) -> bool:
    try:
        if piece.encode() in error:
            return True
        # Characters of the piece that JSON must escape, and those of the error that are escaped needlessly.
        escaped = msgspec.json.encode(piece)[1:-1]
        return escaped in (msgspec.json.encode(msgspec.json.decode(error)) if b"\\" in error else error)
    except (ValueError, RecursionError):
        # A lone surrogate, or a number that Python does not support: no text contains it.
        return False
