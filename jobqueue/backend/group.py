"""Changes that will be committed together, and what commits them: the seam between the one journal and whatever keeps its rows.

A group has for each job its latest state, whatever happened to it on the way there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

ROW_OVERHEAD_BYTES = 200
"""What a waiting row takes in memory beside its content, roughly."""


class Group:
    """Rows to write and to delete; None as a state deletes. size: bytes held, roughly. queues: those whose row is out of date.

    due: whether to write it even if it is empty but for the counters. queue_rows and counters are filled in when the group is handed to
    the writer, once each, however many changes there were.
    """

    __slots__ = ("counters", "due", "payloads", "queue_rows", "queues", "size", "states")

    def __init__(self) -> None:
        self.states: dict[int, bytes | None] = {}
        self.payloads: dict[int, bytes] = {}
        self.queues: set[str] = set()
        self.queue_rows: dict[str, bytes | None] = {}
        self.counters = b""
        self.due = False
        self.size = 0

    @property
    def held_bytes(self) -> int:
        """What it holds, roughly; above 0 if anything is to be written."""
        return self.size + ROW_OVERHEAD_BYTES * len(self.queues)

    def __bool__(self) -> bool:
        return bool(self.states or self.queues or self.due)

    def put(self, number: int, state: bytes) -> None:
        """The state of a job."""
        old = self.states.get(number)
        self.size += len(state) + (ROW_OVERHEAD_BYTES if old is None else -len(old))
        self.states[number] = state

    def put_payload(self, number: int, payload: bytes) -> None:
        """The payload of a new job."""
        self.payloads[number] = payload
        self.size += len(payload) + ROW_OVERHEAD_BYTES

    def forget(self, number: int) -> None:
        """Delete a job. One that was made in this very group may be half written by a group before: delete it all the same."""
        old = self.states.get(number)
        self.size += ROW_OVERHEAD_BYTES if old is None else -len(old)
        self.states[number] = None
        payload = self.payloads.pop(number, None)
        if payload is not None:
            self.size -= len(payload) + ROW_OVERHEAD_BYTES

    def after(self, failed: Group) -> Group:
        """The changes of a group that could not be written, then these."""
        whole = Group()
        whole.payloads = dict(failed.payloads)
        whole.states = dict(failed.states)
        whole.size = failed.size
        whole.due = failed.due or self.due
        whole.queues = failed.queues | self.queues
        for number, payload in self.payloads.items():
            whole.put_payload(number, payload)
        for number, state in self.states.items():
            if state is None:
                whole.forget(number)
            else:
                whole.put(number, state)
        return whole


class NotNow(Exception):
    """A group could not be committed, or nobody can say whether it was. It may be tried again: its rows are states, so twice is as once."""


class Fatal(Exception):
    """The storage cannot be trusted any more, or is somebody else's now."""


Finished = Callable[[Exception | None], None]


class Writer(Protocol):
    """Writes groups elsewhere than in the loop's own turn. Whatever it is given to call, it calls in the loop."""

    def write(self, group: Group, finished: Finished) -> None:
        """Commit a group, then call `finished` with None, NotNow or Fatal, never before this returns. The next group comes after that."""

    async def close(self, tidy: bool) -> None:
        """Let go of the storage. tidy: all that was written is known to be there, so that what SQLite keeps beside its file may go."""
