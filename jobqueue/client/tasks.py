"""What clients send and receive for operations on many jobs, and for tasks."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from jobqueue.client.sending import JobEdit
from jobqueue.errors import BadRequest

# Answers.


class Bulk(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The result of one operation on many jobs.

    matched: how many jobs matched; done: how many were changed, none in a dry run; refused: how many were left unchanged, by the error
    code, such as queue_full; `pinned`: not forgotten, since the job halts its key.
    """

    matched: int
    done: int
    refused: dict[str, int]


class BulkPart(Bulk, frozen=True, gc=False, kw_only=True):
    """The result of one part of it, and where the next part begins."""

    cursor: str | None

    def added(self, other: Bulk) -> Bulk:
        """Both results added up."""
        refused = {code: self.refused.get(code, 0) + other.refused.get(code, 0) for code in {**other.refused, **self.refused}}
        return Bulk(matched=self.matched + other.matched, done=self.done + other.done, refused=refused)


class Task(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Work that continues, or continued, after the request that started it was answered.

    id: empty for a dry run, which is not a task. kind: redrive. queue: whose jobs it moves; to: where they go, None for the queue that each
    came from; rate: jobs a second, None for no limit. state: running, done, cancelled or failed. total: how many jobs it moves; done: how
    many were moved so far; error: why it failed.
    """

    id: str
    kind: str
    queue: str
    to: str | None
    rate: float | None
    state: str
    total: int
    done: int
    started_at: datetime
    ended_at: datetime | None
    error: str | None


class _Tasks(msgspec.Struct):
    tasks: list[Task]


bulk_part = msgspec.json.Decoder(BulkPart).decode
task = msgspec.json.Decoder(Task).decode
_tasks = msgspec.json.Decoder(_Tasks).decode


def tasks(body: bytes) -> list[Task]:
    """The tasks."""
    return _tasks(body).tasks


# Bodies.


class Wanted(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Which jobs to select."""

    status: str | None = None
    outcome: str | None = None
    queue: str | None = None
    type: str | None = None
    key: str | None = None
    tag: str | None = None
    worker: str | None = None
    error: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    retrying: bool | None = None
    error_group: str | None = None


class BulkAsked(msgspec.Struct, frozen=True, omit_defaults=True):
    """POST /jobs/bulk."""

    action: str
    filter: Wanted
    edit: JobEdit | UnsetType = UNSET
    dry_run: bool = False
    cursor: str | None = None


class Redrive(msgspec.Struct, frozen=True, omit_defaults=True):
    """POST /queues/{name}/redrive."""

    to: str | None = None
    rate: float | None = None
    filter: Wanted = Wanted()
    dry_run: bool = False
    as_new: bool = False


def edit_of(fields: Mapping[str, Any] | None) -> JobEdit | UnsetType:
    """What an edit changes. Raises BadRequest for an unknown field."""
    if fields is None:
        return UNSET
    unknown = next((name for name in fields if name not in JobEdit.__struct_fields__), None)
    if unknown is not None:
        raise BadRequest(f"edit.{unknown}", "is unknown")
    return JobEdit(**fields)
