"""The share of the server's bounds that one of several partitions has.

Bounds on live jobs and their bytes are of the whole server. Each partition has a share of them. A part of each share, the *base*, never
moves; the rest moves to the partitions that need it (backend/store/sharing.py), one side at a time, so that the shares never add up to more
than the bound. A new owner begins with the base, since it does not know what was lent, and refuses new jobs beyond it until it is told its
share. History is divided equally, and does not move.
"""

from __future__ import annotations

from typing import NamedTuple

from jobqueue.limits import Limits

BASE = 4
"""This part of the bounds does not move: a quarter."""


class Share(NamedTuple):
    """So many live jobs, and so many bytes of live jobs."""

    jobs: int
    bytes: int


def whole(limits: Limits) -> Share:
    """The server's bounds."""
    return Share(limits.jobs_max, limits.payload_total_bytes_max)


def base(limits: Limits, count: int) -> Share:
    """What each of `count` partitions has at least."""
    return whole(limits) if count == 1 else Share(limits.jobs_max // (BASE * count), limits.payload_total_bytes_max // (BASE * count))


def of_history(limits: Limits, count: int) -> tuple[int, int]:
    """The jobs and bytes, of each outcome, that each of `count` partitions remembers."""
    return limits.history_jobs_max // count, limits.history_bytes_max // count
