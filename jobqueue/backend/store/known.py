"""What an owner keeps to, and what may not be asked of one that does not know it: it would carry it out without.

A server says it in its Hello. A new VERSION would keep servers of two versions apart too, and with it all that both of them know. A server
that is upgraded before the owner would not be ready until the owner is, which is what whoever upgrades them one by one waits for.
"""

from __future__ import annotations

from typing import Any

from jobqueue.backend.store import messages as m
from jobqueue.errors import StorageUnavailable

KNOWS = 1
"""0: what the first servers did. 1: keys, limits and fairness, and what a job waits for."""

_NEW = frozenset({m.CHANGE_POLICY, m.KEYS, m.SET_KEY_PAUSED, m.WHY})


def check_known(knows: int, op: int, arguments: tuple[Any, ...]) -> None:
    """Raise StorageUnavailable for a request that an owner would not carry out as it is meant."""
    if knows < KNOWS and _beyond(op, arguments):
        raise StorageUnavailable(
            "the server that owns the queue is of an older version, which knows no keys and no limits: upgrade it first"
        )


def _beyond(op: int, arguments: tuple[Any, ...]) -> bool:
    if op == m.ENQUEUE:
        return arguments[0].key is not None
    if op == m.ENQUEUE_BATCH:
        return any(spec.key is not None for spec in arguments[0])
    if op == m.PUT_POLICY:
        return bool(arguments[1].keyed or arguments[1].limited)
    if op == m.JOBS:
        # The filter by key is the last.
        return arguments[-1] is not None
    return op in _NEW
