"""What `client.groups` accepts and returns: types of groups, request bodies, and the decoding of answers."""

from __future__ import annotations

from datetime import datetime
from typing import TypeAlias

import msgspec

from jobqueue.client.sending import Call, Request, check_wait, place, query
from jobqueue.client.types import NewJob


class Callback(msgspec.Struct, frozen=True):
    """A job that a group enqueues when its members have ended. state: "waits", "owed" (its queue has no room yet, see problem) or "made";
    queue: the queue it is enqueued in; job: its id, once it is made.
    """

    state: str
    queue: str
    job: str | None
    problem: str | None


class GroupInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A group. members: how many jobs have joined; live: how many of them have not ended. The other counts say how many ended with each
    outcome.

    queue: a token must have access to this queue to see the group; closed: no more jobs can join; concluded: closed, and all members have
    ended; cancel_requested: the group was cancelled. on_concluded, on_succeeded: the state of the jobs that the group enqueues then, None
    if it enqueues none.
    """

    id: str
    queue: str
    created_at: datetime
    closed: bool
    concluded: bool
    cancel_requested: bool
    members: int
    live: int
    succeeded: int
    failed: int
    cancelled: int
    expired: int
    on_concluded: Callback | None
    on_succeeded: Callback | None

    @property
    def ended(self) -> int:
        """How many members have ended."""
        return self.members - self.live


Groups: TypeAlias = list[GroupInfo]
"""`list`, for use within a class that has a method of that name."""


class NewGroup(msgspec.Struct, frozen=True, omit_defaults=True):
    """POST /groups."""

    id: str
    queue: str
    on_concluded: NewJob | None = None
    on_succeeded: NewJob | None = None


class _Page(msgspec.Struct):
    groups: Groups
    cursor: str | None


group = msgspec.json.Decoder(GroupInfo).decode
_page = msgspec.json.Decoder(_Page).decode


def page(body: bytes) -> tuple[Groups, str | None]:
    """A page of groups, and the cursor of the next page."""
    found = _page(body)
    return found.groups, found.cursor


def _has_concluded(info: GroupInfo) -> bool:
    return info.concluded


def get(group_id: str, wait: float) -> Call[GroupInfo]:
    """GET /groups/{id}."""
    path = place("groups", group_id)

    def make(wait: float) -> Request:
        return Request("GET", query(path, wait=wait or None), None, wait)

    return Call(None, group, wait=check_wait(wait), done=_has_concluded, make=make)
