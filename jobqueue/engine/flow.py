"""A queue that can hold jobs back: by its own limits, or by those of their keys.

A plain queue is a `QueueState` and has no cost from this. A queue whose policy has a limit, keys or fairness is a `FlowQueue`, which the
engine calls for every job that is leased, let go, put away, returns or ends. All limits are checked before any is used, in one step: a job
that `pop` returns can be handed out. The lease itself is the slot, so no slot can be lost: the number in progress is counted from the jobs
themselves.

Nothing here reads a clock. A queue or key that waits for a rate is among the engine's due times, and only the ticker lets it continue: so a
request that arrives just before the ticker does not overtake those that wait.

When a queue begins to use keys, its jobs are sorted by key in slices; when the rules change, every key is checked again, in slices
(walks.py). The queue hands out nothing until that is done: `moving`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from msgspec.structs import replace

from jobqueue.engine.bucket import Bucket
from jobqueue.engine.catalogue import Catalogue
from jobqueue.engine.deadlines import Deadlines
from jobqueue.engine.keys import NO_RULE, ORDERED, KeyState, Rank, Ready
from jobqueue.engine.queues import QueueState
from jobqueue.errors import QueueFull
from jobqueue.limits import Limits
from jobqueue.model import Block, Job, KeyStats, QueueStats
from jobqueue.past import Origin
from jobqueue.policy import Pause, QueuePolicy


class FlowQueue(QueueState):
    """See above. `restored_at`: when buckets began empty after a restart or a takeover, since nobody knows what was taken before."""

    __slots__ = (
        "bucket",
        "counted_by",
        "deadlines",
        "fresh_from",
        "keyed",
        "last",
        "limits",
        "moving",
        "passed",
        "paused",
        "ready_keys",
        "restored_at",
        "rule",
        "states",
        "taking",
        "upto",
    )

    flow = True

    def __init__(self, name: str, policy: QueuePolicy, limits: Limits, deadlines: Deadlines[object]) -> None:
        super().__init__(name, policy)
        self.limits = limits
        self.deadlines = deadlines
        self.rule = policy.per_key or NO_RULE
        self.keyed = policy.keyed
        self.states: dict[str | None, KeyState] = {}
        self.ready_keys = Ready()
        self.paused: dict[str, Pause | None] = {}
        self.counted_by: dict[Block, int] = {}
        """Queued jobs that their keys hold back, by reason."""
        self.passed = 0.0
        """The `passed` of the key served last: a new key starts there, so that no key gains an advantage by being idle."""
        self.taking: dict[KeyState, None] = {}
        """Keys from which the current dequeue has taken jobs."""
        self.last: KeyState | None = None
        """The last of them, which is checked again when the dequeue continues or ends: for a single job, only once."""
        self.bucket = Bucket()
        self.restored_at: float | None = None
        self.moving = 0  # walks that are under way; until they are done nothing is handed out
        self.upto = -1
        """While jobs are being sorted: jobs up to this number are sorted by key, and so are those from `fresh_from` on."""
        self.fresh_from = 0

    @classmethod
    def of(cls, plain: QueueState, policy: QueuePolicy, limits: Limits, deadlines: Deadlines[object]) -> FlowQueue:
        """The FlowQueue that replaces a plain queue, with all its contents. It does not use keys yet; see walks.py."""
        queue = cls(plain.name, policy, limits, deadlines)
        queue.go_on_from(plain)
        queue.keyed = False
        return queue

    @property
    def paused_keys(self) -> dict[str, Pause | None]:
        """See QueueState."""
        return self.paused

    def know_paused(self) -> None:
        """Keep the state of paused keys, whether they have jobs or not."""
        for key in self.paused:
            self.state_of(key)

    def _away_from_here(self, job: Job) -> bool:
        """Whether a job is not sorted by its key yet."""
        return self.upto >= 0 and self.upto < job.number < self.fresh_from

    # Whether a job can be handed out, and which.

    def may_go(self) -> bool:
        """Whether a queued job can be handed out now, apart from the queue's pause."""
        if not self.queued or self.moving or self.bucket.waits:
            return False
        concurrency = self.policy.concurrency
        if concurrency is not None and self.in_progress >= concurrency:
            return False
        return not self.keyed or self.ready_keys.live > 0

    def pop(self) -> Job | None:
        """Take the next job that can be handed out, None if there is none. Whatever happens to the job next, the engine reports it to the
        queue, which then checks the job's key again.
        """
        if self.last is not None:
            self.look(self.last)
            self.last = None
        if not self.may_go():
            return None
        if not self.keyed:
            return super().pop()
        state = self.ready_keys.pop()
        assert state is not None
        job = state.pop()
        super().remove(job)
        return job

    def pack(self, priority: int, catalogue: Catalogue) -> None:
        """See QueueState. Keys refer to their jobs, so these are not packed."""

    def append(self, job: Job) -> None:
        """See QueueState."""
        super().append(job)
        self._queued(job)

    def give_back(self, job: Job) -> None:
        """See QueueState."""
        super().give_back(job)
        self._queued(job)

    def _queued(self, job: Job) -> None:
        if self.keyed and not self._away_from_here(job):
            state = self.state_of(job.key)
            state.add(job)
            if state.queued == 1 or state.peek()[2] is job:
                self.look(state)
            elif state.block is not None:
                # It is behind others of its key, so only the number of jobs held back changes.
                state.counted += 1
                self.counted_by[state.block] += 1

    def remove(self, job: Job) -> None:
        """See QueueState."""
        super().remove(job)
        if self.keyed and not self._away_from_here(job):
            state = self.states[job.key]
            state.remove(job)
            self.look(state)

    # Calls from the engine.

    def check_room(self, key: str | None) -> None:
        """Raise QueueFull if this queue cannot have another live job of this key. Changes nothing."""
        if not self.keyed or key is None:
            return
        state = self.states.get(key)
        if state is None:
            if len(self.states) >= self.limits.keys_max:
                raise QueueFull(f"queue {self.name!r} has reached its limit of {len(self.states)} keys", "key")
        elif self.rule.max_jobs is not None and state.live >= self.rule.max_jobs:
            raise QueueFull(f"queue {self.name!r} has reached its limit of {state.live} live jobs of key {key!r}", "key")

    def enter(self, job: Job) -> None:
        """A job becomes live here: before it is queued, scheduled or leased."""
        if self.keyed and not self._away_from_here(job):
            self.state_of(job.key).live += 1

    def leave(self, job: Job) -> None:
        """A job has ended."""
        if self.keyed and not self._away_from_here(job):
            state = self.states[job.key]
            state.live -= 1
            # If it has more jobs, the key was checked when this job's lease ended or the job was taken out; but not if a dequeue found the
            # job expired.
            if not state.live or (state.entry is None and state.block is None):
                self.look(state)

    def leased(self, job: Job, now: float) -> None:
        """A job was handed out."""
        rate = self.policy.rate
        if rate is not None:
            self.bucket.take(rate, now)
            self.refilled(now)
        if self.keyed:
            state = self.states[job.key]
            state.started(job)
            rate = self.rule.rate
            if rate is not None and state.key is not None:
                state.bucket.take(rate, now)
                self._reckon(state, now)
            if self.policy.fair:
                self._pass(state)
            self.taking[state] = None
            self.last = state

    def _pass(self, state: KeyState) -> None:
        state.passed = passed = state.passed + 1.0 / self.weight(state.key)
        # At most up to the next key: otherwise a key of low weight that is served because it has nothing in progress would put all new keys
        # behind a backlog.
        first = self.ready_keys.first()
        self.passed = max(self.passed, passed if first is None else min(passed, first[2]))

    def running(self, job: Job) -> None:
        """A stored job is in progress. What its rate had left is not known."""
        if self.keyed:
            state = self.state_of(job.key)
            state.started(job)
            self.look(state)

    def let_go(self, job: Job) -> None:
        """A lease has ended."""
        if self.keyed and not self._away_from_here(job):
            state = self.states[job.key]
            del state.running[job]
            self.look(state)

    def undelivered(self, job: Job, taken_at: float, now: float) -> None:
        """A hand-out was not delivered, and its lease is about to end: what it used of the rate and of the fair share is given back."""
        rate = self.policy.rate
        if rate is not None:
            self.bucket.give_back(rate, taken_at)
            self.refilled(now)
        if not self.keyed or self._away_from_here(job):
            return
        state = self.states[job.key]
        if self.policy.fair and not self.moving:
            # A hand-out before a restart was not counted; and when the rules change, all keys start equal.
            state.passed = max(0.0, state.passed - 1.0 / self.weight(state.key))
        rate = self.rule.rate
        if rate is not None and state.key is not None:
            state.bucket.give_back(rate, taken_at)
            self._reckon(state, now)

    def holds(self, job: Job) -> bool:
        """Whether a job that returns from a worker keeps holding its key until it is concluded."""
        return self.ordered and job.key is not None

    def put_away(self, job: Job) -> None:
        """A job is scheduled."""
        if self.keyed and job.details.holds and not self._away_from_here(job):
            state = self.state_of(job.key)
            state.put_away(job)
            self.look(state)

    def fetched(self, job: Job) -> None:
        """A job is no longer scheduled."""
        if self.keyed and job.details.holds and not self._away_from_here(job):
            state = self.states[job.key]
            if job in state.away:
                del state.away[job]
                self.look(state)

    # Keys.

    def finish(self) -> None:
        """A dequeue has ended. It can take several jobs of an ordered key, in order; from now on these hold the key."""
        if self.taking:
            taken, self.taking = self.taking, {}
            self.last = None
            for state in taken:
                self.look(state)

    def weight(self, key: str | None) -> float:
        """The weight of a key in a fair queue."""
        return 1.0 if key is None else self.policy.weights.get(key, 1.0)

    def halting(self, job: Job) -> bool:
        """Whether a job's final failure stops its key."""
        return self.rule.order == "halt" and job.key is not None

    def halt(self, job: Job) -> None:
        """A job that failed for good stops its key."""
        if not self._away_from_here(job):
            state = self.state_of(job.key)
            state.halt(job)
            self.look(state)

    def unhalt(self, job: Job) -> None:
        """A failed job no longer stops its key."""
        state = self.states.get(job.key)
        if state is not None and job in state.halted:
            del state.halted[job]
            self.look(state)

    def pause_keys(self, keys: Mapping[str, Pause | None]) -> None:
        """Pause these keys, and no others."""
        changed = {*self.paused} ^ {*keys}
        self.paused = dict(keys)
        for key in changed if self.keyed else ():
            state = self.state_of(key)
            state.paused = key in keys
            self.look(state)

    def reckon(self) -> None:
        """The queue's rate was changed: the next tick computes how long it allows no hand-out."""
        if self.bucket.full_at:
            self.deadlines.set(self, -math.inf)

    def refilled(self, now: float) -> None:
        """The queue's rate may allow a hand-out now, or was changed."""
        at = self.bucket.reckon(self.policy.rate, now)
        if at is None:
            self.deadlines.drop(self)
        else:
            self.deadlines.set(self, at)

    def key_refilled(self, state: KeyState, now: float) -> None:
        """A key's rate may allow a hand-out now, or its bucket is full again and need not be kept."""
        if self.states.get(state.key) is state:
            self._reckon(state, now)
            self.look(state)

    def _reckon(self, state: KeyState, now: float) -> None:
        at = state.bucket.reckon(self.rule.rate, now)
        if at is None:
            self.deadlines.drop(state)
        else:
            self.deadlines.set(state, at)

    def halted(self, key: str) -> list[Job]:
        """The failed jobs that halt a key."""
        state = self.states.get(key)
        return [] if state is None else list(state.halted)

    def empty_buckets(self, now: float) -> float | None:
        """Empty every bucket: after a restart or a takeover nobody knows what was taken. Returns until when this must be remembered for
        keys that do not exist here yet, None if it need not be; then call `walks.forget_restart`.
        """
        rate = self.policy.rate
        if rate is not None:
            self.bucket.empty(rate, now)
            self.refilled(now)
        rate = self.rule.rate
        if rate is None or not self.keyed:
            return None
        self.restored_at = now
        for state in list(self.states.values()):
            if state.key is not None:
                state.bucket.empty(rate, now)
                self.key_refilled(state, now)
        return now + rate.burst * rate.interval

    def state_of(self, key: str | None) -> KeyState:
        """The state of a key, created if there is none."""
        state = self.states.get(key)
        if state is None:
            state = self.states[key] = KeyState(self.name, key)
            state.paused = key in self.paused
            state.passed = self.passed
            rate = self.rule.rate
            if rate is not None and self.restored_at is not None and key is not None:
                state.bucket.empty(rate, self.restored_at)
                state.bucket.waits = True
                self.deadlines.set(state, state.bucket.next_at(rate))
        return state

    def look(self, state: KeyState) -> None:
        """Add a key to those that can be served, or remove it, by its current state."""
        if not state.queued:
            block = None
            state.out = True
            self.ready_keys.drop(state)
        else:
            block = state.blocked(self.rule, state in self.taking)
            if block is None:
                self.ready_keys.set(state, *self._rank(state))
                state.out = False
            else:
                state.out = True
                self.ready_keys.drop(state)
        counted = self.counted_by
        if state.block is not None:
            counted[state.block] -= state.counted
        state.block = block
        if block is not None:
            state.counted = state.queued
            counted[block] = counted.get(block, 0) + state.queued
        elif state.idle and not state.bucket.full_at and self.states.get(state.key) is state:
            del self.states[state.key]

    def _rank(self, state: KeyState) -> tuple[Rank, float]:
        """A key's rank, and its weight."""
        _, seq, job = state.peek()
        if not self.policy.fair:
            return (job.priority, seq), 1.0
        if state.out:
            state.passed = max(state.passed, self.passed)
        # Including the job that it takes now: otherwise a key that appears for each single job, and is forgotten in between, would always
        # go before the keys that stay.
        weight = self.weight(state.key)
        return (job.priority, len(state.running) / weight, state.passed + 1.0 / weight, seq), weight

    # Statistics.

    def held_by(self) -> dict[str, int]:
        """Queued jobs that cannot be handed out now, by reason. Limits of the whole queue come before those of keys."""
        concurrency = self.policy.concurrency
        if self.queued and concurrency is not None and self.in_progress >= concurrency:
            return {"concurrency": self.queued}
        if self.queued and self.bucket.waits:
            return {"rate": self.queued}
        return {block: count for block, count in self.counted_by.items() if count}

    def stats(self) -> QueueStats:
        """See QueueState."""
        plain = super().stats()
        held = self.held_by()
        rate = self.policy.rate
        at = self.bucket.next_at(rate) if rate is not None and self.bucket.waits else None
        return replace(plain, held=sum(held.values()), held_by=held, keys=len(self.states), rate_next_at=at)

    @property
    def ordered(self) -> bool:
        """Whether the jobs of a key run one after another."""
        return self.rule.order in ORDERED

    def letter_ends(self, origin: Origin) -> float | None:
        """See QueueState."""
        return origin.at + self.expires_in if self.ordered and self.expires_in is not None else None

    def since(self, job: Job) -> float:
        """See QueueState. For a dead letter in a queue that keeps an order: from when it arrived here, as in SQS's FIFO queues."""
        origin = job.origin if self.ordered else None
        return job.created_at if origin is None else origin.at

    def block_of(self, state: KeyState) -> Block | None:
        """What would hold back a job of this key, whether one is queued or not."""
        return state.blocked(self.rule, False)

    def key_stats(self, state: KeyState) -> KeyStats:
        """A snapshot of one key."""
        return state.stats(self.rule, None if state.key is None else self.paused.get(state.key))
