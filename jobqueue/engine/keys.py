"""The keys of one queue: which of them may have a job handed out, and which of those goes first.

A key that counts for something has a `KeyState`, from its first live job until the last is gone and its rate is at rest. A key whose next
job may go has one entry in `Ready`, a heap; one that is held back has none, so no hand-out ever looks at it.

A queued job stands in its lane as every other does, so that listings, purges, counts and places know of no keys, and once more in its
key's own heap. What leaves its lane by itself (cancelled, expired) leaves its place in that heap behind, to be skipped.
"""

from __future__ import annotations

import math
from heapq import heapify, heappop, heappush
from types import MappingProxyType
from typing import Final, cast

from jobqueue.engine.bucket import Bucket
from jobqueue.model import PRIORITIES, QUEUED, Block, Job, KeyStats, Order, PerKey

_STALE_MAX = 64
_SWEPT = 8

Place = tuple[int, int, Job]
"""Rank, seq, job: how a key's jobs leave. Those that hold their key go before all others, whatever their priority."""

Rank = tuple[float, ...]

NOBODY: Final = cast("dict[Job, None]", MappingProxyType[Job, None]({}))
"""Of a key that never had any: three dicts would be a third of what a key costs. It cannot be changed."""


def place_of(job: Job) -> Place:
    """A queued job's place among those of its key."""
    return (job.priority - PRIORITIES if job.details.holds else job.priority, job.seq, job)


class KeyState:
    """One key of one queue, and its live jobs by where they are.

    running: in progress; away: they hold the key and wait for their next attempt; halted: failed, and stop the key. passed: what it has
    had of a fair queue, in hand-outs by weight.
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
        """Whether none of its jobs may go."""
        self.block: Block | None = None
        self.counted = 0
        """How many of `queued` the queue counts as held back."""
        self.entry: Entry | None = None
        self.line: Line | None = None
        """Where that entry is, if there is one."""

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
        """Whether nothing would be lost with it but what its rate remembers."""
        return not (self.live or self.paused or self.halted)

    def add(self, job: Job) -> None:
        """A job of the key is queued."""
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
        """A queued job of the key has left its lane by itself, and is about to be no longer queued."""
        self.queued -= 1
        places = self.places
        if not self.queued:
            places.clear()
            return
        while (first := places[0][2]) is job or first.status is not QUEUED or first.seq != places[0][1]:
            heappop(places)
        # If it was not the first, its place stays behind, to be skipped or swept.
        if len(places) > 2 * self.queued + _STALE_MAX:
            self.places = [place for place in places if place[2] is not job and place[2].status is QUEUED and place[2].seq == place[1]]
            heapify(self.places)

    def holder(self, block: Block) -> Job | None:
        """The job that the key waits for, where there is one."""
        if block == "halted":
            return next(iter(self.halted), None)
        return next(iter(self.away or self.running), None) if block == "order" else None

    def blocked(self, rule: PerKey, taking: bool) -> Block | None:
        """What keeps its jobs back. taking: the one request that took all that is running may take more."""
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

    def stats(self, rule: PerKey) -> KeyStats:
        """The key as it is now."""
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
        )


Entry = tuple[Rank, int, KeyState]


class Line:
    """Keys that may have a job handed out, by rank, smallest first; ties by which came first. Each has at most one entry that counts.

    A rank that changes leaves its old entry behind, stale. They are swept a few a change, as in `Deadlines`, which says why.
    """

    __slots__ = ("_aside", "_count", "_heap", "live")

    def __init__(self) -> None:
        self._heap: list[Entry] = []
        self._aside: list[Entry] = []
        self._count = 0
        self.live = 0

    def set(self, state: KeyState, rank: Rank) -> None:
        """Enter a key, or change its rank."""
        if state.entry is None:
            self.live += 1
        self._count = count = self._count + 1
        state.entry = entry = (rank, count, state)
        heappush(self._heap, entry)
        if self._aside or len(self._heap) > 2 * self.live + _STALE_MAX:
            self._sweep()

    def drop(self, state: KeyState) -> None:
        """Take out a key that is in."""
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
        """Entries held, stale ones included."""
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
    """The keys that may have a job handed out, in a line for each weight that there is; where nothing is weighed that is one.

    Of keys of one weight the first by rank goes first. Of those firsts not simply the one that has least in progress by its weight: shares
    are seldom whole numbers of jobs, and of two workers a weight of 3 would get one for ever, as a weight of 1 does. Those that have less
    than the least would have with one more are as good as each other, and of these the one goes that has had least. So what a share lacks
    of a whole job at one time it gets at another. Keys of one weight of which the first is not among these are not either.
    """

    __slots__ = ("_lines", "live")

    def __init__(self) -> None:
        self._lines: dict[float, Line] = {}
        self.live = 0

    def set(self, state: KeyState, rank: Rank, weight: float) -> None:
        """Enter a key, or change its rank or weight."""
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
        """Take a key out; harmless when it is not in."""
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
        """Entries held, stale ones included."""
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
            # Where nothing is weighed any more, what was is gone with the lines that are empty.
            return firsts[0][0]
        best, best_rank = None, None
        for line, rank in firsts:
            if rank[0] == least and rank[1] < bound and (best_rank is None or rank[2:] < best_rank):
                best, best_rank = line, rank[2:]
        return best


NO_RULE: Final = PerKey()
ORDERED: Final[tuple[Order, ...]] = ("fifo", "halt")
