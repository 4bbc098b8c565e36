"""Sends the groups of the owner to the servers that follow it: every group before the writer gets it, and later a notice that it is
committed.

Each group is sent before it is written, so that the followers have at least what the store has, whenever the owner dies. Nobody waits for
the followers: one that does not read is cut off when more than the limit is unwritten (frames.py), and starts again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from jobqueue.backend.group import Group
from jobqueue.backend.group_journal import GroupJournal
from jobqueue.backend.store import messages as m
from jobqueue.backend.store.frames import Link
from jobqueue.backend.store.moved import Moved
from jobqueue.backend.store.shapes import error_row
from jobqueue.errors import StorageUnavailable, TooLarge
from jobqueue.limits import MIB

PART_BYTES = MIB
"""The approximate size of one part of a group."""


class Sink(Protocol):
    """A receiver of the feed. It must not wait, and must not raise; see group_journal.Feed."""

    def handed(self, group: Group, number: int) -> None:
        """A group is about to be written."""

    def committed(self, number: int) -> None:
        """The group is committed."""

    def over(self) -> None:
        """There will be no more groups."""


class _Follower:
    __slots__ = ("behind", "name", "standby", "warm")

    def __init__(self, name: str, standby: bool) -> None:
        self.name = name
        self.standby = standby
        self.warm = False
        self.behind = 0


class Feeds:
    """The followers of one reign. The Feed of its journal."""

    def __init__(self, journal: GroupJournal) -> None:
        self._journal = journal
        self._followers: dict[Sink, _Follower] = {}
        self._over = False
        self.leaving = False
        """Whether to delay the notice that the journal has ended: the queue is being handed over, and is not free yet."""
        self.prefers: Callable[[str, str], bool] = lambda name, other: False
        """Whether the first of two servers should be the standby rather than the second, which is it."""
        journal.feed = self

    @property
    def number(self) -> int:
        """The number of the last group that was handed to the writer."""
        return self._journal.number

    @property
    def standby(self) -> tuple[str, int] | None:
        """The server that could take over at once, and how many groups it has yet to apply, as it last reported."""
        for follower in self._followers.values():
            if follower.standby and follower.warm:
                return follower.name, follower.behind
        return None

    def join(self, sink: Sink, name: str, standby: bool) -> tuple[str, int]:
        """Add a follower, which receives groups from the next call of `begin` on. Returns the reign, and the number of the last group
        before its first one.

        Raises StorageUnavailable if another one is the standby, Moved if this reign is over.
        """
        if self._over:
            raise Moved("this server is no longer the owner")
        there = next(((known, follower.name) for known, follower in self._followers.items() if follower.standby), None)
        if standby and there is not None:
            if not self.prefers(name, there[1]):
                raise StorageUnavailable(f"{there[1]} is the standby already")
            self.leave(there[0])
            there[0].over()
        self._followers[sink] = _Follower(name, standby)
        return self._journal.reign, self.number - (self._journal.writing is not None)

    def begin(self, sink: Sink) -> None:
        """Send a new follower the group that is being written: nobody knows yet whether it is in the store."""
        writing = self._journal.writing
        if writing is not None:
            sink.handed(writing, self.number)

    def said(self, sink: Sink, behind: int, warm: bool) -> None:
        """Record the state that a follower reports."""
        follower = self._followers.get(sink)
        if follower is not None:
            follower.behind, follower.warm = behind, warm

    def leave(self, sink: Sink) -> None:
        """Send nothing more to a follower."""
        self._followers.pop(sink, None)

    # The methods of Feed.

    def handed(self, group: Group, number: int) -> None:
        """See Feed."""
        for sink in list(self._followers):
            sink.handed(group, number)

    def committed(self, number: int) -> None:
        """See Feed."""
        for sink in list(self._followers):
            sink.committed(number)

    def over(self) -> None:
        """See Feed."""
        if self.leaving:
            return
        self._over = True
        followers, self._followers = self._followers, {}
        for sink in followers:
            sink.over()


class LinkSink:
    """A follower at the other end of a link, by the number n of its request."""

    def __init__(self, link: Link, n: int, feeds: Feeds) -> None:
        self.feeds = feeds
        self._link = link
        self._n = n

    def handed(self, group: Group, number: int) -> None:
        """See Sink."""
        link = self._link
        try:
            for states, payloads, queues, more in _parts(group):
                link.send((m.GOT_GROUP, self._n, number, states, payloads, queues, group.counters, more))
        except TooLarge as error:
            link.fail(f"cannot be sent a group: {error}")
        # At once, since the store is sent it in this same turn.
        link.flush()

    def committed(self, number: int) -> None:
        """See Sink. It is sent together with the next message."""
        self._link.send((m.GOT_COMMITTED, self._n, number))

    def over(self) -> None:
        """See Sink."""
        self._link.send((m.FAILED, self._n, error_row(Moved("another server is the owner or the standby now, or will be soon"))))


_Part = tuple[dict[int, bytes | None], dict[int, bytes], dict[str, bytes | None], bool]


def _parts(group: Group) -> Iterator[_Part]:
    """Split a group's rows into parts that fit in a frame, each with whether more follow. A row under a name can be a part of a job's
    log.
    """
    named = group.queue_rows
    if group.held_bytes + sum(len(row or b"") for row in named.values()) <= PART_BYTES:
        yield group.states, group.payloads, named, False
        return
    states: dict[int, bytes | None] = {}
    payloads: dict[int, bytes] = {}
    queues: dict[str, bytes | None] = {}
    size = 0
    for number, state in group.states.items():
        states[number] = state
        size += 50 + len(state or b"")
        payload = group.payloads.get(number)
        if payload is not None:
            payloads[number] = payload
            size += len(payload)
        if size > PART_BYTES:
            yield states, payloads, queues, True
            states, payloads, size = {}, {}, 0
    for name, row in named.items():
        queues[name] = row
        size += 50 + len(name) + len(row or b"")
        if size > PART_BYTES:
            yield states, payloads, queues, True
            states, payloads, queues, size = {}, {}, {}, 0
    yield states, payloads, queues, False
