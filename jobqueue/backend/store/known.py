"""What an owner supports, and which requests must not be sent to one that does not support them: it would carry them out incompletely.

A server announces this in its Hello. A new VERSION would separate servers of two versions completely, including everything that both
support. A server that is upgraded before the owner would then not become ready until the owner is upgraded, and whoever upgrades the
servers one by one waits for that.
"""

from __future__ import annotations

from typing import Any

from msgspec import UNSET

from jobqueue.backend.requests.request import Request
from jobqueue.backend.store import messages as m
from jobqueue.backend.store.shapes import FILTERS
from jobqueue.errors import StorageUnavailable
from jobqueue.model import JobSpec
from jobqueue.policy import QueuePolicy

KNOWS = 7
"""0: what the first servers supported. 1: keys, limits and fairness, and what a job waits for. 2: tags, filters by more than key, edits,
and every Request. 3: headers, a queue's delay, expiry, tags and attributes, and ending a lease late or at once. 4: batches of releases; an
older owner gets these one by one. 5: dead letters that are moved as new jobs. 6: removing one job from history, samples of what queues
counted, groups of errors, filters by these and by whether jobs are retried, and order by end. 7: claims of ids, for several partitions."""

RELEASE_BATCHES = 4
"""Owners that support less are sent each release of a batch separately."""

_NEW = {m.KEYS: 1, m.SET_KEY_PAUSED: 1, m.WHY: 1, m.EDIT: 2, m.RELEASE_BATCH: RELEASE_BATCHES}
"""The level of support that each of these requests needs."""

_WORDS = {
    1: "no keys and no limits",
    2: "no tags and nothing that came with them",
    3: "no headers and nothing that came with them",
    4: "no batches of releases",
    5: "no dead letters that are moved as new jobs",
    6: "no history of numbers, no groups of errors, no filter by retrying and no forgetting of one job",
    7: "no partitions",
}

_POLICY = ("delay", "expires_in", "tags", "attributes")
"""Fields of a queue's policy that need level 3."""


def check_known(knows: int, op: int, arguments: tuple[Any, ...]) -> None:
    """Raise StorageUnavailable for a request that the owner would not carry out as intended."""
    if knows < KNOWS and (needs := _needs(op, arguments)) > knows:
        raise StorageUnavailable(f"the server that owns the queue is of an older version, which knows {_WORDS[needs]}: upgrade it first")


def _spec_needs(spec: JobSpec) -> int:
    if spec.claim:
        return 7
    if spec.headers or spec.there or (spec.unique is not None and spec.unique.until not in ("started", "concluded")):
        return 3
    needs = spec.tags or spec.unique is not None or spec.after or spec.group is not None
    return 2 if needs else 1 if spec.key is not None else 0


def _needs(op: int, arguments: tuple[Any, ...]) -> int:
    """The level of support that a request needs from the owner."""
    if op == m.ENQUEUE:
        return _spec_needs(arguments[0])
    if op == m.ENQUEUE_BATCH:
        return max(map(_spec_needs, arguments[0]), default=0)
    if op == m.CONCLUDE:
        return 3 if arguments[-1].late else 0
    if op == m.CONCLUDE_BATCH:
        return 3 if any(item.verdict.late for item in arguments[0]) else 0
    if op == m.PUT_POLICY:
        policy: QueuePolicy = arguments[1]
        return 3 if any(getattr(policy, name) for name in _POLICY) else int(policy.keyed or policy.limited)
    if op == m.CHANGE_POLICY:
        return 3 if any(getattr(arguments[1], name) is not UNSET for name in _POLICY) else 1
    if op == m.JOBS:
        # Newer filters, from the filter by key on, come last.
        key, *others, retrying, error_group, by_end = arguments[-len(FILTERS) :]
        if retrying is not None or error_group is not None or by_end:
            return 6
        return 2 if any(given is not None for given in others) else int(key is not None)
    asked = arguments[0] if arguments else None
    if isinstance(asked, Request):
        return max([asked.needs(), *map(_spec_needs, asked.specs())])
    return _NEW.get(op, 0)
