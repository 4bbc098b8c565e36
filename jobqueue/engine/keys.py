"""The keys of one queue: which of them can have a job handed out, and which goes first.

A key in use has a `KeyState`, from its first live job until the last is gone and its bucket is full again. A key whose next job can be
handed out has one entry in `Ready`, a heap; a key that is held back has none, so no hand-out ever looks at it.

A queued job is in its lane like any other, so that listings, purges, counts and places need not know about keys, and also in its key's own
heap. A job that leaves its lane in another way (cancelled, expired) leaves a stale entry in that heap, which is skipped.
"""

from __future__ import annotations

import math
from heapq import heapify, heappop, heappush
from types import MappingProxyType
from typing import Final, cast

from jobqueue.engine.bucket import Bucket
from jobqueue.model import PRIORITIES, QUEUED, Block, Job, KeyStats
from jobqueue.policy import Order, Pause, PerKey

_STALE_MAX = 64
_SWEPT = 8

Place = tuple[int, int, Job]
"""Rank, seq, job: the order in which a key's jobs leave. Jobs that hold their key go before all others, whatever their priority."""

Rank = tuple[float, ...]

NOBODY: Final = cast("dict[Job, None]", MappingProxyType[Job, None]({}))
"""Shared by keys that never had such jobs: three dicts of its own would be a third of the size of a key. It cannot be changed."""


def place_of(job: Job) -> Place:
    """A queued job's place among the jobs of its key."""
    return (job.priority - PRIORITIES if job.details.holds else job.priority, job.seq, job)


class KeyState:
    """One key of one queue, and its live jobs by where they are.

    running: in progress; away: they hold the key and wait for their next attempt; halted: they failed, and stop the key. passed: the
    hand-outs that it has had in a fair queue, divided by its weight.
    """

    __slots__ = (
        "away",
        "block",
        "bucket",
        "counted",
        "entry",
        "halted",
        "key",
        "line",
        "live",
        "out",
        "passed",
        "paused",
        "places",
        "queue",
        "queued",
        "running",
    )

    def __init__(self, queue: str, key: str | None) -> None:
        self.queue = queue
        self.key = key
        self.places: list[Place] = []
        self.queued = 0
        self.live = 0
        self.running = self.away = self.halted = NOBODY
        self.paused = False
        self.bucket = Bucket()
        self.passed = 0.0
        self.out = True
        """Whether none of its jobs can be handed out."""
        self.block: Block | None = None
        self.counted = 0
        """How many of its `queued` jobs the queue counts as held back."""
        self.entry: Entry | None = None
        self.line: Line | None = None
        """The line that has its entry, if there is one."""

    def started(self, job: Job) -> None:
        """A job of the key is in progress."""
        if self.running is NOBODY:
            self.running = {job: None}
        else:
            self.running[job] = None

    def put_away(self, job: Job) -> None:
        """A job of the key waits for its next attempt, and holds the key."""
        if self.away is NOBODY:
            self.away = {job: None}
        else:
            self.away[job] = None

    def halt(self, job: Job) -> None:
        """A job of the key has failed, and stops the key."""
        if self.halted is NOBODY:
            self.halted = {job: None}
        else:
            self.halted[job] = None

    @property
    def idle(self) -> bool:
        """Whether dropping it would lose nothing but the state of its rate."""
        return not (self.live or self.paused or self.halted)

    def add(self, job: Job) -> None:
        """A job of the key was queued."""
        heappush(self.places, place_of(job))
        self.queued += 1

    def peek(self) -> Place:
        """The place of the next job to leave; there must be one."""
        places = self.places
        while (job := places[0][2]).status is not QUEUED or job.seq != places[0][1]:
            heappop(places)
        return places[0]

    def pop(self) -> Job:
        """Take the next job to leave; there must be one."""
        self.peek()
        self.queued -= 1
        return heappop(self.places)[2]

    def remove(self, job: Job) -> None:
        """A queued job of the key has left its lane in another way, and is about to be no longer queued."""
        self.queued -= 1
        places = self.places
        if not self.queued:
            places.clear()
            return
        while (first := places[0][2]) is job or first.status is not QUEUED or first.seq != places[0][1]:
            heappop(places)
        # If it was not the first, its entry stays, and is skipped or swept later.
        if len(places) > 2 * self.queued + _STALE_MAX:
            self.places = [place for place in places if place[2] is not job and place[2].status is QUEUED and place[2].seq == place[1]]
            heapify(self.places)

    def holder(self, block: Block) -> Job | None:
        """The job that the key waits for, if there is one."""
        if block == "halted":
            return next(iter(self.halted), None)
        return next(iter(self.away or self.running), None) if block == "order" else None

    def blocked(self, rule: PerKey, taking: bool) -> Block | None:
        """What holds back its jobs. taking: the dequeue that took all its running jobs can take more."""
        if self.paused:
            return "paused"
        if self.halted:
            return "halted"
        if self.key is None:
            return None
        if rule.order != "none":
            if self.away or (self.running and not taking):
                return "order"
        elif rule.concurrency is not None and len(self.running) >= rule.concurrency:
            return "concurrency"
        return "rate" if self.bucket.waits else None

    def stats(self, rule: PerKey, pause: Pause | None) -> KeyStats:
        """A snapshot of the key."""
        block, rate = self.blocked(rule, False), rule.rate
        holder = None if block is None else self.holder(block)
        return KeyStats(
            key=self.key,
            queued=self.queued,
            scheduled=self.live - self.queued - len(self.running),
            in_progress=len(self.running),
            block=block,
            paused=self.paused,
            holder=None if holder is None else holder.id,
            next_at=self.bucket.next_at(rate) if rate is not None and self.bucket.waits else None,
            pause=pause,
        )


Entry = tuple[Rank, int, KeyState]


class Line:
    """Keys that can have a job handed out, by rank, smallest first; ties by order of arrival. Each has at most one valid entry.

    A change of rank leaves the old entry behind, stale. A few stale entries are swept at each change, as in `Deadlines`, which explains
    why.
    """

    __slots__ = ("_aside", "_count", "_heap", "live")

    def __init__(self) -> None:
        self._heap: list[Entry] = []
        self._aside: list[Entry] = []
        self._count = 0
        self.live = 0

    def set(self, state: KeyState, rank: Rank) -> None:
        """Add a key, or change its rank."""
        if state.entry is None:
            self.live += 1
        self._count = count = self._count + 1
        state.entry = entry = (rank, count, state)
        heappush(self._heap, entry)
        if self._aside or len(self._heap) > 2 * self.live + _STALE_MAX:
            self._sweep()

    def drop(self, state: KeyState) -> None:
        """Remove a key that is in the line."""
        state.entry = None
        self.live -= 1
        if self._aside or len(self._heap) > 2 * self.live + _STALE_MAX:
            self._sweep()

    def first(self) -> Entry | None:
        """The first, None when there is none."""
        heap, aside = self._heap, self._aside
        while heap or aside:
            of = aside if aside and (not heap or aside[0] < heap[0]) else heap
            entry = of[0]
            if entry[2].entry is entry:
                return entry
            heappop(of)
        return None

    def pop(self) -> KeyState | None:
        """Take out the first, None when there is none."""
        heap, aside = self._heap, self._aside
        while heap or aside:
            entry = heappop(aside if aside and (not heap or aside[0] < heap[0]) else heap)
            state = entry[2]
            if state.entry is entry:
                state.entry = None
                self.live -= 1
                return state
        return None

    @property
    def entries(self) -> int:
        """The number of entries, including stale ones."""
        return len(self._heap) + len(self._aside)

    def _sweep(self) -> None:
        if not self._aside:
            self._heap, self._aside = [], self._heap
        heap, aside = self._heap, self._aside
        for _ in range(min(_SWEPT, len(aside))):
            entry = aside.pop()
            if entry[2].entry is entry:
                heappush(heap, entry)


class Ready:
    """The keys that can have a job handed out, in one line per weight; without weights there is one line.

    Among keys of the same weight, the first by rank goes first. Among the first keys of the lines, it is not simply the one with the least
    in progress relative to its weight: shares are seldom whole numbers of jobs, and with two workers a weight of 3 would always get one, as
    a weight of 1 does. Instead, all keys that have less than the least of them would have with one more job count as equal, and the one
    that has been served least goes first. So a fraction of a job that a key misses now, it gets later. If the first key of a line is not
    among these, no other key of that line is.
    """

    __slots__ = ("_lines", "live")

    def __init__(self) -> None:
        self._lines: dict[float, Line] = {}
        self.live = 0

    def set(self, state: KeyState, rank: Rank, weight: float) -> None:
        """Add a key, or change its rank or weight."""
        line = self._lines.get(weight)
        if line is None:
            line = self._lines[weight] = Line()
        if state.entry is None:
            self.live += 1
        elif state.line is not line:
            assert state.line is not None
            state.line.drop(state)
        elif state.entry[0] == rank:
            return
        state.line = line
        line.set(state, rank)

    def drop(self, state: KeyState) -> None:
        """Remove a key; harmless if it is not in."""
        if state.entry is not None:
            assert state.line is not None
            state.line.drop(state)
            self.live -= 1

    def pop(self) -> KeyState | None:
        """Take out the first, None when there is none."""
        line = self._first_line()
        state = None if line is None else line.pop()
        if state is not None:
            self.live -= 1
        return state

    def first(self) -> Rank | None:
        """The rank of the first, None when there is none."""
        line = self._first_line()
        entry = None if line is None else line.first()
        return None if entry is None else entry[0]

    @property
    def entries(self) -> int:
        """The number of entries, including stale ones."""
        return sum(line.entries for line in self._lines.values())

    def _first_line(self) -> Line | None:
        lines = self._lines
        if len(lines) == 1:
            return next(iter(lines.values()))
        firsts: list[tuple[Line, Rank]] = []
        least, bound = math.inf, math.inf
        for weight, line in list(lines.items()):
            entry = line.first()
            if entry is None:
                del lines[weight]
                continue
            rank, _, state = entry
            with_one_more = (len(state.running) + 1) / weight
            if rank[0] < least:
                least, bound = rank[0], with_one_more
            elif rank[0] == least and with_one_more < bound:
                bound = with_one_more
            firsts.append((line, rank))
        if len(firsts) == 1:
            # When weights are no longer used, their lines become empty and are deleted above.
            return firsts[0][0]
        best, best_rank = None, None
        for line, rank in firsts:
            if rank[0] == least and rank[1] < bound and (best_rank is None or rank[2:] < best_rank):
                best, best_rank = line, rank[2:]
        return best


NO_RULE: Final = PerKey()
ORDERED: Final[tuple[Order, ...]] = ("fifo", "halt")
