"""Changes that will be committed together, and the writer that commits them: the interface between the one journal and the storage of its
rows.

A group contains the latest state of each job, whatever happened to the job before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

ROW_OVERHEAD_BYTES = 200
"""The memory that a waiting row takes in addition to its content, roughly."""

THING_BYTES = 4096
"""The size assumed for a row that does not belong to a queue before it is written and its size is known: that of one part of a job's
log."""


class Group:
    """Rows to write and to delete; None as a state deletes. size: bytes held, roughly. queues: the names of queues, and of things that are
    not queues (things.py), whose row is out of date.

    due: whether to write the group even if it contains only the counters. queue_rows and counters are filled in once, when the group is
    handed to the writer, however many changes there were; except for rows that are made with each change (things.AT_ONCE).
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
        """The size of its content, roughly; above 0 if there is anything to write."""
        return self.size + ROW_OVERHEAD_BYTES * len(self.queues)

    def __bool__(self) -> bool:
        return bool(self.states or self.queues or self.due)

    def put_name(self, name: str) -> None:
        """Mark the row of a queue, or of a thing, as changed."""
        if "/" in name and name not in self.queues:
            self.size += THING_BYTES
        self.queues.add(name)

    def put(self, number: int, state: bytes) -> None:
        """Set the state of a job."""
        old = self.states.get(number)
        self.size += len(state) + (ROW_OVERHEAD_BYTES if old is None else -len(old))
        self.states[number] = state

    def put_payload(self, number: int, payload: bytes) -> None:
        """Set the payload of a job that is new, or was edited."""
        old = self.payloads.get(number)
        self.size += len(payload) + (ROW_OVERHEAD_BYTES if old is None else -len(old))
        self.payloads[number] = payload

    def forget(self, number: int) -> None:
        """Delete a job. A job that was made in this group may have been partly written by an earlier group, so it is deleted in any
        case.
        """
        old = self.states.get(number)
        self.size += ROW_OVERHEAD_BYTES if old is None else -len(old)
        self.states[number] = None
        payload = self.payloads.pop(number, None)
        if payload is not None:
            self.size -= len(payload) + ROW_OVERHEAD_BYTES

    def after(self, failed: Group) -> Group:
        """Merge the changes of a group that could not be written with these, which come later."""
        whole = Group()
        whole.payloads = dict(failed.payloads)
        whole.states = dict(failed.states)
        whole.size = failed.size
        whole.due = failed.due or self.due
        whole.queues = set(failed.queues)
        things = {name: row for name, row in failed.queue_rows.items() if "/" in name and name not in self.queues}
        whole.queue_rows = things | self.queue_rows
        for name in self.queues:
            whole.put_name(name)
        for number, payload in self.payloads.items():
            whole.put_payload(number, payload)
        for number, state in self.states.items():
            if state is None:
                whole.forget(number)
            else:
                whole.put(number, state)
        return whole


class NotNow(Exception):
    """A group could not be committed, or it is not known whether it was. It can be tried again: its rows are states, so writing them twice
    does no harm.
    """


class Fatal(Exception):
    """The storage cannot be trusted any more, or belongs to another server now."""


Finished = Callable[[Exception | None], None]


class Writer(Protocol):
    """Writes groups outside of the loop's own turn. It calls its callbacks in the loop."""

    def write(self, group: Group, finished: Finished) -> None:
        """Commit a group, then call `finished` with None, NotNow or Fatal, never before this returns. The next group is given only after
        that.
        """

    async def close(self, tidy: bool) -> None:
        """Release the storage. tidy: everything that was written is known to be stored, so the files that SQLite keeps beside its database
        can be deleted.
        """
