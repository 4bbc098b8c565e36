"""A queue that holds jobs back: by a limit of its own, or by what their keys allow.

A plain queue is a `QueueState` and pays nothing for this. One whose policy has a limit, keys or fairness is a `FlowQueue`, which the engine
tells of every job that is leased, let go, put away, comes back or ends. All its limits are looked at before any is taken, in one step:
whoever is handed out by `pop` may go. The lease itself is the slot, so none can be lost: what is in progress is counted by who is.

Nothing here looks at a clock. What waits for a rate stands among the engine's due times, and only the ticker lets it go: so a request
that comes a moment before the ticker does not pass those that wait.

Which jobs belong to which key is built in slices when a queue begins to mind keys, and every key is looked at anew, in slices, when
the rules change (walks.py). The queue hands out nothing until that is done: `moving`.
"""

from __future__ import annotations

import math

from msgspec.structs import replace

from jobqueue.engine.bucket import Bucket
from jobqueue.engine.deadlines import Deadlines
from jobqueue.engine.keys import NO_RULE, ORDERED, KeyState, Rank, Ready
from jobqueue.engine.queues import QueueState
from jobqueue.errors import QueueFull
from jobqueue.limits import Limits
from jobqueue.model import Block, Job, KeyStats, QueuePolicy, QueueStats


class FlowQueue(QueueState):
    """See above. `restored_at`: buckets begin empty then, since nobody knows what was taken before."""

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
        self.paused: dict[str, None] = {}
        self.counted_by: dict[Block, int] = {}
        """Queued jobs that their keys keep back, by what for."""
        self.passed = 0.0
        """What the last key to be served has had: where a key that comes begins, so that nobody saves up by staying away."""
        self.taking: dict[KeyState, None] = {}
        """Keys that the dequeue that is under way has taken from."""
        self.last: KeyState | None = None
        """The last of them, which is looked at again when the dequeue goes on, or is over: for one job, once."""
        self.bucket = Bucket()
        self.restored_at: float | None = None
        self.moving = 0  # walks that are under way; until they are done nothing is handed out
        self.upto = -1
        """While jobs are being sorted: those up to this number belong to their keys, and those from `fresh_from` on."""
        self.fresh_from = 0

    @classmethod
    def of(cls, plain: QueueState, policy: QueuePolicy, limits: Limits, deadlines: Deadlines[object]) -> FlowQueue:
        """A queue that has been a plain one until now, with all that is in it. It minds no keys yet; see walks.py."""
        queue = cls(plain.name, policy, limits, deadlines)
        queue.go_on_from(plain)
        queue.keyed = False
        return queue

    @property
    def paused_keys(self) -> dict[str, None]:
        """See QueueState."""
        return self.paused

    def know_paused(self) -> None:
        """Keep count of keys that are paused, whether they have jobs or not."""
        for key in self.paused:
            self.state_of(key)

    def _away_from_here(self, job: Job) -> bool:
        """Whether a job is not sorted by its key yet."""
        return self.upto >= 0 and self.upto < job.number < self.fresh_from

    # May one go, and which.

    def may_go(self) -> bool:
        """Whether a queued job may be handed out now, the queue's pause aside."""
        if not self.queued or self.moving or self.bucket.waits:
            return False
        concurrency = self.policy.concurrency
        if concurrency is not None and self.in_progress >= concurrency:
            return False
        return not self.keyed or self.ready_keys.live > 0

    def pop(self) -> Job | None:
        """Take the next job that may go, None when there is none. Whatever becomes of it, the queue is told, and then looks at its key."""
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
                # Behind others of its key it changes nothing but how many are held back.
                state.counted += 1
                self.counted_by[state.block] += 1

    def remove(self, job: Job) -> None:
        """See QueueState."""
        super().remove(job)
        if self.keyed and not self._away_from_here(job):
            state = self.states[job.key]
            state.remove(job)
            self.look(state)

    # What the engine tells.

    def check_room(self, key: str | None) -> None:
        """Raise QueueFull if no more live jobs of this key may be here. Changes nothing."""
        if not self.keyed or key is None:
            return
        state = self.states.get(key)
        if state is None:
            if len(self.states) >= self.limits.keys_max:
                raise QueueFull(f"queue {self.name!r} keeps count of {len(self.states)} keys, as many as it may", "key")
        elif self.rule.max_jobs is not None and state.live >= self.rule.max_jobs:
            raise QueueFull(f"queue {self.name!r} holds {state.live} live jobs of key {key!r}, as many as it may", "key")

    def enter(self, job: Job) -> None:
        """A job becomes live here: before it is queued, scheduled or leased."""
        if self.keyed and not self._away_from_here(job):
            self.state_of(job.key).live += 1

    def leave(self, job: Job) -> None:
        """A job has ended."""
        if self.keyed and not self._away_from_here(job):
            state = self.states[job.key]
            state.live -= 1
            # If there are more, it was looked at when the job's lease ended or the job was taken out. Not so if a dequeue found it expired.
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
        # Not beyond the next to go: a key of little weight that is served since it has nothing in progress would else send all that come
        # behind a backlog.
        first = self.ready_keys.first()
        self.passed = max(self.passed, passed if first is None else min(passed, first[2]))

    def running(self, job: Job) -> None:
        """A job is in progress, as it was stored. What its rate had been is not known."""
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
        """A hand-out did not take place, and its lease is about to end: what it took of a rate, and of a fair queue, is given back."""
        rate = self.policy.rate
        if rate is not None:
            self.bucket.give_back(rate, taken_at)
            self.refilled(now)
        if not self.keyed or self._away_from_here(job):
            return
        state = self.states[job.key]
        if self.policy.fair and not self.moving:
            # Of a hand-out before a restart nothing was counted; and when the rules change all begin alike.
            state.passed = max(0.0, state.passed - 1.0 / self.weight(state.key))
        rate = self.rule.rate
        if rate is not None and state.key is not None:
            state.bucket.give_back(rate, taken_at)
            self._reckon(state, now)

    def holds(self, job: Job) -> bool:
        """Whether a job that comes back from a worker keeps its key meanwhile."""
        return self.ordered and job.key is not None

    def put_away(self, job: Job) -> None:
        """A job is scheduled."""
        if self.keyed and job.details.holds and not self._away_from_here(job):
            state = self.state_of(job.key)
            state.put_away(job)
            self.look(state)

    def fetched(self, job: Job) -> None:
        """A job is scheduled no more."""
        if self.keyed and job.details.holds and not self._away_from_here(job):
            state = self.states[job.key]
            if job in state.away:
                del state.away[job]
                self.look(state)

    # Keys.

    def finish(self) -> None:
        """A dequeue is over, which may take several of an ordered key, in order. From now on those hold it."""
        if self.taking:
            taken, self.taking = self.taking, {}
            self.last = None
            for state in taken:
                self.look(state)

    def weight(self, key: str | None) -> float:
        """How much of a fair queue a key may have."""
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
        """It does no more."""
        state = self.states.get(job.key)
        if state is not None and job in state.halted:
            del state.halted[job]
            self.look(state)

    def pause_key(self, key: str, paused: bool) -> None:
        """Let a key hand out nothing, or go on."""
        if paused:
            self.paused[key] = None
        else:
            self.paused.pop(key, None)
        if self.keyed:
            state = self.state_of(key)
            state.paused = paused
            self.look(state)

    def reckon(self) -> None:
        """The queue's rate has changed: the next tick sees until when that lets nothing go."""
        if self.bucket.full_at:
            self.deadlines.set(self, -math.inf)

    def refilled(self, now: float) -> None:
        """The queue's rate may have one to give, or its rule has changed."""
        at = self.bucket.reckon(self.policy.rate, now)
        if at is None:
            self.deadlines.drop(self)
        else:
            self.deadlines.set(self, at)

    def key_refilled(self, state: KeyState, now: float) -> None:
        """A key's rate may have one to give, or is full again and need not be remembered."""
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
        """Every bucket is empty: the server did not run, or another did, and nobody knows what was taken. Until when that is to be known of
        keys that are not here yet, None for none: then `walks.forget_restart` is to be called.
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
        """What is known of a key, from now on at least."""
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
        """Enter a key among those that may go, or take it out, by what is true of it now."""
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
        # With what it takes now: if it were without, one that comes for each job by itself, and is forgotten in between, would always be
        # before those that stay.
        weight = self.weight(state.key)
        return (job.priority, len(state.running) / weight, state.passed + 1.0 / weight, seq), weight

    # Looking at it.

    def held_by(self) -> dict[str, int]:
        """Queued jobs that may not go now, by why. What the whole queue waits for comes before what its keys do."""
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
        """Whether jobs of a key go one after the other."""
        return self.rule.order in ORDERED

    def block_of(self, state: KeyState) -> Block | None:
        """What would keep back a job of this key, whether one is queued or not."""
        return state.blocked(self.rule, False)

    def key_stats(self, state: KeyState) -> KeyStats:
        """One key as it is now."""
        return state.stats(self.rule)
