"""What the owner tells those who follow it: every group before the writer has it, and then that it is committed.

It is told before, so that whoever follows has at least what the store has, whenever the owner dies. Nobody waits for those who follow: one
that does not read is cut off when more is unwritten than may be (frames.py), and begins again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from jobqueue.backend.group import Group
from jobqueue.backend.group_journal import GroupJournal
from jobqueue.backend.store import messages as m
from jobqueue.backend.store.frames import Link
from jobqueue.backend.store.moved import Moved
from jobqueue.backend.store.shapes import error_row
from jobqueue.errors import StorageUnavailable, TooLarge
from jobqueue.limits import MIB

PART_BYTES = MIB
"""About what one part of a group holds."""


class Sink(Protocol):
    """Whom the owner tells. It must not wait, and raises nothing; see group_journal.Feed."""

    def handed(self, group: Group, number: int) -> None:
        """A group is about to be written."""

    def committed(self, number: int) -> None:
        """It is committed."""

    def over(self) -> None:
        """There will be no more."""


class _Follower:
    __slots__ = ("behind", "name", "standby", "warm")

    def __init__(self, name: str, standby: bool) -> None:
        self.name = name
        self.standby = standby
        self.warm = False
        self.behind = 0


class Feeds:
    """Those who follow one reign. The Feed of its journal."""

    def __init__(self, journal: GroupJournal) -> None:
        self._journal = journal
        self._followers: dict[Sink, _Follower] = {}
        self._over = False
        self.leaving = False
        """Whether the end of the journal is not to be told yet: the queue is handed over, and is not free."""
        journal.feed = self

    @property
    def number(self) -> int:
        """Of the last group that was handed to the writer."""
        return self._journal.number

    @property
    def standby(self) -> tuple[str, int] | None:
        """Who could take over at once, and how many groups it has yet to apply, as of its last word."""
        for follower in self._followers.values():
            if follower.standby and follower.warm:
                return follower.name, follower.behind
        return None

    def join(self, sink: Sink, name: str, standby: bool) -> tuple[str, int]:
        """Have somebody follow, from the next call of `begin` on; the reign, and the number of the last group before the first.

        Raises StorageUnavailable where another one is the standby, Moved when this is over.
        """
        if self._over:
            raise Moved("this server does not own the queue any more")
        there = next((follower.name for follower in self._followers.values() if follower.standby), None)
        if standby and there is not None:
            raise StorageUnavailable(f"{there} is the standby already")
        self._followers[sink] = _Follower(name, standby)
        return self._journal.reign, self.number - (self._journal.writing is not None)

    def begin(self, sink: Sink) -> None:
        """Tell somebody who has just joined of the group that is being written: whether it is in the store nobody knows yet."""
        writing = self._journal.writing
        if writing is not None:
            sink.handed(writing, self.number)

    def said(self, sink: Sink, behind: int, warm: bool) -> None:
        """How one that follows does, as it says."""
        follower = self._followers.get(sink)
        if follower is not None:
            follower.behind, follower.warm = behind, warm

    def leave(self, sink: Sink) -> None:
        """Tell somebody nothing more."""
        self._followers.pop(sink, None)

    # A Feed.

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
    """Somebody who follows over a link, under the number n of its request."""

    def __init__(self, link: Link, n: int, feeds: Feeds) -> None:
        self.feeds = feeds
        self._link = link
        self._n = n

    def handed(self, group: Group, number: int) -> None:
        """See Sink."""
        link = self._link
        try:
            for states, payloads, more in _parts(group):
                queues: dict[str, bytes | None] = {} if more else group.queue_rows
                link.send((m.GOT_GROUP, self._n, number, states, payloads, queues, group.counters, more))
        except TooLarge as error:
            link.fail(f"cannot be sent a group: {error}")
        # Now, since the store is sent it in this very turn.
        link.flush()

    def committed(self, number: int) -> None:
        """See Sink. It goes with what is sent next."""
        self._link.send((m.GOT_COMMITTED, self._n, number))

    def over(self) -> None:
        """See Sink."""
        self._link.send((m.FAILED, self._n, error_row(Moved("the queue has another owner now, or will soon"))))


def _parts(group: Group) -> Iterator[tuple[dict[int, bytes | None], dict[int, bytes], bool]]:
    """A group's jobs in parts that fit in a frame, and whether more follow."""
    if group.held_bytes <= PART_BYTES:
        yield group.states, group.payloads, False
        return
    states: dict[int, Any] = {}
    payloads: dict[int, bytes] = {}
    size = 0
    for number, state in group.states.items():
        states[number] = state
        size += 50 + len(state or b"")
        payload = group.payloads.get(number)
        if payload is not None:
            payloads[number] = payload
            size += len(payload)
        if size > PART_BYTES:
            yield states, payloads, True
            states, payloads, size = {}, {}, 0
    yield states, payloads, False
