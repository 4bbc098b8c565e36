"""Failed attempts counted by error: by its type and first line, with numbers and ids replaced.

Owns: when two errors count as the same (`kind_of`), and how often each occurred, per queue. An attempt is counted when it fails; only a
bounded part of its error is looked at, and the kinds of the last errors are cached. The number of groups is bounded, per queue and in
total: a new group replaces the one whose error has not occurred for the longest time. Groups are not stored: when a server starts, it
counts the failed attempts that its jobs still have.

Units: times are engine time, as everywhere in the engine.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple

import msgspec

from jobqueue.engine.sizes import LEASE_EXPIRED
from jobqueue.limits import Limits
from jobqueue.model import CANCELLED, FAILED, Job
from jobqueue.past import Attempt, ErrorGroup

TYPE_CHARS_MAX = 100
LINE_CHARS_MAX = 200
"""The most characters kept of a type, and of a line."""

_LOOKED_CHARS = 400
"""The most characters of a line that are looked at."""

_PARSED_BYTES_MAX = 64 * 1024
"""A longer error is not parsed, but treated as plain text."""

_REMEMBERED_BYTES_MAX = 1_024
"""Errors up to this length have their kind cached."""

# Numbers come last, after everything that can contain some. Every alternative is bounded, or continues with a single class of characters,
# so there is no backtracking.
_VARYING = re.compile(
    r"(?P<email>\b[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9.-]{1,80})"
    r"|(?P<id>(?<![0-9A-Za-z])(?:"
    r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"
    r"|0[xX][0-9A-Fa-f]+"
    r"|(?=[A-Fa-f]{0,40}[0-9])[0-9A-Fa-f]*[A-Fa-f][0-9A-Fa-f]*(?<=[0-9A-Fa-f]{8})"
    r"|(?=[A-Za-z]{0,40}[0-9])[0-9A-Za-z]{16,}"
    r"|(?=[A-Za-z]{0,15}[0-9]{1,15}[A-Za-z]{1,15}[0-9])[0-9A-Za-z]{10,}"
    r")(?![0-9A-Za-z]))"
    r"|(?P<n>[0-9]+(?:[.,:][0-9]+)*)"
)
_SPACES = re.compile(r"\s+")

_decode = msgspec.json.Decoder().decode


class Kind(NamedTuple):
    """An error as it is counted. id: the same for the same type and line, in every queue and on every server."""

    id: str
    type: str
    line: str


def kind_of(error: bytes | None) -> Kind:
    """The kind of an error, given as JSON text as its worker sent it; None for no error. Never raises."""
    if error is None or len(error) > _REMEMBERED_BYTES_MAX:
        return _kind_of(error)
    return _remembered(error)


def _kind_of(error: bytes | None) -> Kind:
    kind, line = ("", "") if error is None else _parts(error)
    kind, line = _SPACES.sub(" ", kind[:TYPE_CHARS_MAX]).strip(), alike(line)
    # A type has no line end, so different pairs never give the same text.
    return Kind(blake2b(f"{kind}\n{line}".encode(errors="replace"), digest_size=8).hexdigest(), kind, line)


_remembered = lru_cache(512)(_kind_of)


def _parts(error: bytes) -> tuple[str, str]:
    """The type and the message of an error, as far as it has them: the errors of the clients' workers have both."""
    if len(error) > _PARSED_BYTES_MAX:
        return "", error[: 4 * _LOOKED_CHARS].decode(errors="replace")
    try:
        said = _decode(error)
    except (ValueError, RecursionError):
        said = error.decode(errors="replace")
    if isinstance(said, str):
        return "", said
    if isinstance(said, dict):
        kind, message = said.get("type"), said.get("message")
        if isinstance(kind, str) and isinstance(message, str | None):
            return kind, message or ""
        if isinstance(message, str):
            return "", message
    return "", error[: 4 * _LOOKED_CHARS].decode(errors="replace")


def alike(message: str) -> str:
    """The first line of a message that is not empty, with everything that varies between failures replaced by a word for it."""
    line = message.lstrip()[:_LOOKED_CHARS].split("\n", 1)[0]
    return _VARYING.sub(lambda found: f"<{found.lastgroup}>", _SPACES.sub(" ", line).strip())[:LINE_CHARS_MAX]


class _Group:
    """How often and when an error occurred in a queue; see ErrorGroup."""

    __slots__ = ("attempts", "first_at", "job", "jobs", "kind", "last_at", "queue")

    def __init__(self, queue: str, kind: Kind, now: float) -> None:
        self.queue = queue
        self.kind = kind
        self.attempts = self.jobs = 0
        self.first_at = self.last_at = now
        self.job = ""

    def seen(self) -> ErrorGroup:
        """A snapshot."""
        kind = self.kind
        return ErrorGroup(kind.id, self.queue, kind.type, kind.line, self.attempts, self.jobs, self.first_at, self.last_at, self.job)


class ErrorGroups:
    """The groups of all queues; the one that occurred last is at the end. OrderedDicts: taking the oldest item of a dict is O(n) once many
    are removed.
    """

    __slots__ = ("_all", "_most", "_most_of_one", "_of")

    def __init__(self, limits: Limits) -> None:
        self._most = limits.error_groups_max
        self._most_of_one = limits.queue_error_groups_max
        self._all: OrderedDict[tuple[str, str], _Group] = OrderedDict()
        self._of: dict[str, OrderedDict[str, _Group]] = {}

    def __len__(self) -> int:
        return len(self._all)

    def add(self, queue: str, error: bytes | None, at: float, job_id: str, last: bool) -> None:
        """Count a failed attempt in a queue; last: the job failed for good."""
        kind = kind_of(error)
        groups = self._of.get(queue)
        if groups is None:
            groups = self._of[queue] = OrderedDict()
        group = groups.get(kind.id)
        if group is None:
            if len(groups) >= self._most_of_one:
                self._drop(next(iter(groups.values())))
            elif len(self._all) >= self._most:
                self._drop(next(iter(self._all.values())))
            # That may have been the last group of this queue.
            groups = self._of.setdefault(queue, groups)
            group = groups[kind.id] = self._all[queue, kind.id] = _Group(queue, kind, at)
        else:
            groups.move_to_end(kind.id)
            self._all.move_to_end((queue, kind.id))
        group.attempts += 1
        group.jobs += last
        group.first_at = min(group.first_at, at)
        if at >= group.last_at:
            group.last_at, group.job = at, job_id

    def _drop(self, group: _Group) -> None:
        groups = self._of[group.queue]
        del groups[group.kind.id], self._all[group.queue, group.kind.id]
        if not groups:
            del self._of[group.queue]

    def forget(self, queue: str) -> None:
        """A queue was deleted."""
        for kind in self._of.pop(queue, ()):
            del self._all[queue, kind]

    def learn(self, job: Job, after: float | None = None) -> None:
        """Count the failed attempts that a stored job has; with `after`, only those that ended after that time."""
        origin, end = job.details.extra.origin, job.conclusion
        for tried in job.details.past:
            if after is not None and tried.ended_at <= after:
                continue
            concluded = end is not None and end.concluded_at == tried.ended_at
            if concluded and job.outcome is CANCELLED:
                continue
            # The attempts of a dead letter belong to the queue in which it failed.
            before = origin is not None and tried.ended_at <= origin.at
            queue = origin.queue if before and origin is not None else job.queue
            last = (concluded and job.outcome is FAILED) or (origin is not None and tried.ended_at == origin.at)
            self.add(queue, _error_of(job, tried), tried.ended_at, job.id, last)

    def seen(self, queue: str | None = None) -> list[ErrorGroup]:
        """The groups of a queue, or all, the one that occurred last first."""
        groups = list(self._all.values() if queue is None else self._of.get(queue, {}).values())
        return sorted((group.seen() for group in reversed(groups)), key=_last_at, reverse=True)


def _last_at(group: ErrorGroup) -> float:
    return group.last_at


def _error_of(job: Job, tried: Attempt) -> bytes | None:
    if tried.ended == "lease_expired":
        return LEASE_EXPIRED
    # A long error is kept only in the job itself.
    return job.details.error if tried.error is None and tried is job.details.past[-1] else tried.error
