"""What `Client` can do with groups. Made from `async_groups.py` by `python -m tests.client.generate`: change that one."""

from __future__ import annotations

import math
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

import msgspec

from jobqueue.client import calls, group_types
from jobqueue.client.group_types import GroupInfo, Groups, NewGroup
from jobqueue.client.sending import encoded, once, place, query
from jobqueue.client.sync_transport import SyncTransport
from jobqueue.client.types import Enqueued, NewJob
from jobqueue.errors import QueueError
from jobqueue.model import DEFAULT_QUEUE


class SyncGroups:
    """Groups of a server, as `client.groups`. The client describes what is common to all operations.

    A group counts the conclusions of its members, and enqueues jobs when all have ended. Reading needs the scope read, everything else
    enqueue.
    """

    def __init__(self, client: SyncTransport) -> None:
        self._client = client

    def create(
        self,
        id: str | None = None,
        *,
        queue: str = DEFAULT_QUEUE,
        on_concluded: NewJob | None = None,
        on_succeeded: NewJob | None = None,
    ) -> GroupInfo:
        """Create a group. Repeating it returns the existing group.

        id: str of 1 to 80 of the characters A-Z a-z 0-9 . _ : -; without one the client makes one.
        queue: the queue that it belongs to; members can be in any queue.
        on_concluded: NewJob, enqueued once all members have ended; on_succeeded: once all have succeeded. Without id, run_at, after, group
        and unique.

        Returns GroupInfo. Raises IdConflict (another group has this id), TooManyGroups, QueueFull, TooLarge.
        """
        asked = NewGroup(calls.new_id(queue) if id is None else id, queue, on_concluded, on_succeeded)
        return self._client._run(once("POST", "/groups", group_types.group, encoded(asked)))

    def get(self, id: str) -> GroupInfo:
        """Return the group with this id.

        Returns GroupInfo. Raises UnknownGroup.
        """
        return self._client._run(group_types.get(id, 0.0))

    def wait(self, id: str, wait: float = math.inf) -> GroupInfo:
        """Wait until the group of this id is closed and all its members have ended.

        wait: seconds, any length, math.inf for ever. Returns GroupInfo, which is not `concluded` if the wait ended first. Raises
        UnknownGroup, TooManyWaiters.
        """
        return self._client._run(group_types.get(id, wait))

    def list(self) -> Groups:
        """Every group that is not concluded, and the most recent concluded ones, by id.

        Returns a list of GroupInfo.
        """
        found: Groups = []
        cursor: str | None = None
        while True:
            page, cursor = self._client._run(once("GET", query("/groups", cursor=cursor), group_types.page))
            found += page
            if cursor is None:
                return found

    def close(self, id: str) -> GroupInfo:
        """Close the group with this id: no more jobs can join it. Closing twice is the same as once.

        Returns GroupInfo. Raises UnknownGroup.
        """
        return self._client._run(once("POST", place("groups", id, "/close"), group_types.group))

    def cancel(self, id: str) -> GroupInfo:
        """Close the group with this id, and cancel all its members: waiting ones soon after, ones in progress through their workers.

        Returns GroupInfo. Raises UnknownGroup.
        """
        return self._client._run(once("POST", place("groups", id, "/cancel"), group_types.group))


class SyncGroup:
    """A group for a `with` block, as `client.group` makes it. info: GroupInfo, as it was last seen.

    The end of the block closes the group and waits until all its members have ended. If the block raises, the group is cancelled instead.
    """

    info: GroupInfo

    def __init__(self, client: SyncTransport, spec: NewGroup, wait: float) -> None:
        self.id = spec.id
        self._client = client
        self._spec = spec
        self._wait = wait

    def __enter__(self) -> Self:
        self.info = self._client._run(once("POST", "/groups", group_types.group, encoded(self._spec)))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        groups = SyncGroups(self._client)
        if kind is not None:
            groups.cancel(self.id)
            return
        self.info = groups.close(self.id)
        if self._wait > 0 and not self.info.concluded:
            self.info = groups.wait(self.id, self._wait)

    def enqueue(self, payload: Any, **fields: Any) -> Enqueued:
        """Submit a job that joins the group. payload: any JSON value; fields: those of the client's `enqueue`, but for group and wait.

        Returns Enqueued. Raises GroupClosed, and what `enqueue` does.
        """
        return self._client._run(calls.enqueue(NewJob(payload, group=self.id, **fields)))

    def enqueue_batch(self, jobs: Iterable[NewJob]) -> list[Enqueued | QueueError]:
        """Submit many jobs that join the group, up to 1000 in one request.

        jobs: an iterable of NewJob.

        Returns a list as the client's `enqueue_batch` does.
        """
        members = [msgspec.structs.replace(job, group=self.id) for job in jobs]
        return self._client._run(calls.enqueue_batch(members))
