"""The oracle of queues with keys, limits and fairness: plain lists again, and for every hand-out a look at every job.

Written from promises 10 and 11 of docs/semantics.md. What it is told beside ids, tokens and backoffs: which queues are under way to a new
order of their keys (`busy`), and which rates the ticker has come to.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from jobqueue.limits import Limits
from jobqueue.model import JobSpec
from jobqueue.policy import PerKey, QueuePolicy, Rate

from .oracle import KEEP, UNKNOWN, Item, Oracle, size_of

Key = tuple[str, str | None]


@dataclass
class Meter:
    """What a rate has left. full: when it is full again, 0 when it is; low: when it was last taken from while it lacked less than one."""

    full: float = 0.0
    waits: bool = False
    low: float = -math.inf
    dirty: bool = False

    def take(self, rate: Rate, now: float) -> None:
        missing = max(0.0, self.full - now)
        if missing < rate.per / rate.limit:
            self.low = now
        self.full = now + missing + rate.per / rate.limit

    def give_back(self, rate: Rate, taken_at: float) -> None:
        if taken_at >= self.low:
            self.full -= rate.per / rate.limit

    def next(self, rate: Rate) -> float:
        return self.full - (rate.burst - 1) * rate.per / rate.limit

    def look(self, rate: Rate | None, now: float) -> None:
        self.dirty = False
        self.full = 0.0 if rate is None else min(self.full, now + rate.burst * rate.per / rate.limit)
        self.waits = rate is not None and self.next(rate) > now
        if self.full <= now:
            self.full = 0.0

    def due(self, rate: Rate | None) -> float:
        """When the ticker is to look at it."""
        if self.dirty or rate is None:
            return -math.inf if self.full else math.inf
        return math.inf if not self.full else self.next(rate) if self.waits else self.full


class FlowOracle(Oracle):
    """See the module."""

    def __init__(self, limits: Limits, policy: QueuePolicy) -> None:
        super().__init__(limits, policy)
        self.meters: dict[tuple[str, str] | str, Meter] = {}
        self.passed: dict[Key, float] = {}
        self.level: dict[str, float] = {}
        self.open: set[Key] = set()
        """Keys that could go after the last step."""
        self.paused_keys: dict[str, list[str]] = {}
        self.busy: set[str] = set()
        self.sorting: dict[str, set[str]] = {}
        """Queues that have not yet counted all jobs by key, and the keys that they hold to be full."""
        self.restarted: dict[str, float] = {}

    # Looking.

    def rule(self, queue: str) -> PerKey:
        return self.queues[queue].per_key or PerKey()

    def keyed(self, queue: str) -> bool:
        return self.queues[queue].keyed or bool(self.paused_keys.get(queue))

    def flow(self, queue: str) -> bool:
        return self.keyed(queue) or self.queues[queue].limited

    def ordered(self, item: Item) -> bool:
        return item.spec.key is not None and item.spec.queue in self.queues and self.rule(item.spec.queue).order != "none"

    def pinned(self, queue: str | None = None) -> list[Item]:
        return [item for item in self.items.values() if item.halts and queue in (None, item.spec.queue)]

    def of_key(self, queue: str, key: str | None) -> list[Item]:
        return [item for item in self.live(queue) if item.spec.key == key]

    def known_keys(self, queue: str) -> set[str | None]:
        """Keys that must be known of: with live jobs, halted, paused, or with a rate that is not full."""
        keys: set[str | None] = {item.spec.key for item in [*self.live(queue), *self.pinned(queue)]}
        keys.update(self.paused_keys.get(queue, []))
        keys.update(name[1] for name, meter in self.meters.items() if name[0] == queue and isinstance(name, tuple) and meter.full)
        return keys

    def running(self, queue: str, key: str | None) -> list[Item]:
        return [item for item in self.of_key(queue, key) if item.status == "in_progress"]

    def away(self, queue: str, key: str | None) -> list[Item]:
        return [item for item in self.of_key(queue, key) if item.status == "scheduled" and item.holds]

    def line(self, queue: str, key: str | None) -> list[Item]:
        """A key's queued jobs in the order in which they leave."""
        queued = [item for item in self.of_key(queue, key) if item.status == "queued"]
        return sorted(queued, key=lambda item: (not item.holds, item.spec.priority, item.place))

    def block(self, queue: str, key: str | None, taking: bool = False) -> str | None:
        """What keeps a key back."""
        rule = self.rule(queue)
        if key in self.paused_keys.get(queue, []):
            return "paused"
        if any(item.spec.key == key for item in self.pinned(queue)):
            return "halted"
        if key is None:
            return None
        if rule.order != "none":
            if self.away(queue, key) or (self.running(queue, key) and not taking):
                return "order"
        elif rule.concurrency is not None and len(self.running(queue, key)) >= rule.concurrency:
            return "concurrency"
        return "rate" if (queue, key) in self.meters and self.meters[queue, key].waits else None

    def shut(self, queue: str) -> str | None:
        """What keeps the whole queue back."""
        policy = self.queues[queue]
        if policy.concurrency is not None and len([i for i in self.live(queue) if i.status == "in_progress"]) >= policy.concurrency:
            return "concurrency"
        return "rate" if queue in self.meters and self.meters[queue].waits else None

    def weight(self, queue: str, key: str | None) -> float:
        return self.queues[queue].weights.get(key, 1.0) if key is not None else 1.0

    def rank(self, queue: str, item: Item) -> tuple[float, ...]:
        if not self.queues[queue].fair:
            return (item.spec.priority, item.place)
        key = item.spec.key
        weight = self.weight(queue, key)
        passed = self.passed.get((queue, key), self.level.get(queue, 0.0))
        return (item.spec.priority, len(self.running(queue, key)) / weight, passed + 1 / weight, item.place)

    def firsts(self, queue: str, taken: frozenset[str | None] | set[str | None] = frozenset()) -> list[Item]:
        """Of every key that may go its next job, the queue's next first."""
        keys = {item.spec.key for item in self.live(queue) if item.status == "queued"}
        firsts = [self.line(queue, key)[0] for key in keys if self.block(queue, key, key in taken) is None]
        return self.in_turn(queue, firsts)

    def in_turn(self, queue: str, firsts: list[Item]) -> list[Item]:
        """Jobs of different keys, the next to go first. The order of the rest says nothing."""
        firsts = sorted(firsts, key=lambda item: self.rank(queue, item))
        if not self.queues[queue].fair or not firsts:
            return firsts
        best = [item for item in firsts if item.spec.priority == firsts[0].spec.priority]
        bound = min(self.in_use(queue, item, 1) for item in best)
        chosen = min((item for item in best if self.in_use(queue, item, 0) < bound), key=lambda item: self.rank(queue, item)[2:])
        return [chosen, *(item for item in firsts if item is not chosen)]

    def in_use(self, queue: str, item: Item, more: int) -> float:
        """What a job's key has in progress, and so many more, by its weight."""
        return (len(self.running(queue, item.spec.key)) + more) / self.weight(queue, item.spec.key)

    def next(self, queue: str, taken: set[str | None]) -> Item | None:
        """The next job to go."""
        if queue in self.busy or self.shut(queue) is not None:
            return None
        waiting = self.firsts(queue, taken) if self.keyed(queue) else self.waiting(queue)
        return waiting[0] if waiting else None

    def may_go(self, queue: str) -> bool:
        return not self.queues[queue].paused and self.next(queue, set()) is not None

    def waiting(self, queue: str) -> list[Item]:
        queued = [item for item in self.live(queue) if item.status == "queued"]
        return sorted(queued, key=lambda item: (item.spec.priority, item.place))

    def held_by(self, queue: str) -> dict[str, int]:
        queued = len(self.waiting(queue))
        if not self.flow(queue) or not queued:
            return {}
        if (why := self.shut(queue)) is not None:
            return {why: queued}
        held: dict[str, int] = {}
        for item in self.waiting(queue) if self.keyed(queue) else []:
            if (why := self.block(queue, item.spec.key)) is not None:
                held[why] = held.get(why, 0) + 1
        return held

    def reasons(self, item: Item) -> list[tuple[str, str | None, str | None]]:
        """(kind, key, block) of all that a job waits for."""
        queue, key = item.spec.queue, item.spec.key
        if item.status == "scheduled":
            return [("time", None, None)]
        if item.status != "queued":
            return []
        found: list[tuple[str, str | None, str | None]] = [("paused", None, None)] if self.queues[queue].paused else []
        policy = self.queues[queue]
        if policy.concurrency is not None and len([i for i in self.live(queue) if i.status == "in_progress"]) >= policy.concurrency:
            found.append(("concurrency", None, None))
        if policy.rate is not None and queue in self.meters and self.meters[queue].waits:
            found.append(("rate", None, None))
        if self.keyed(queue) and key is not None:
            why = self.block(queue, key)
            if why in ("concurrency", "rate"):
                found.append((why, key, None))
            elif why is not None:
                found.append(("key", key, why))
            elif self.rule(queue).order != "none" and self.line(queue, key)[0] is not item:
                found.append(("key", key, "order"))
        return found or [("line", None, None), ("workers", None, None)]

    def room(self) -> int:
        return super().room() - sum(item.size() for item in self.pinned())

    def no_room(self, queue: str, size: int, key: str | None = None) -> str | None:
        if len(self.live()) >= self.limits.jobs_max - len(self.pinned()):
            return "queue_full"
        return super().no_room(queue, size, key)

    def no_place(self, queue: str, key: str | None) -> str | None:
        if (full := super().no_place(queue, key)) is not None:
            return full
        if queue not in self.queues or not self.keyed(queue) or key is None:
            return None
        if queue in self.sorting:
            return "queue_full" if key in self.sorting[queue] else None
        rule = self.rule(queue)
        if key not in self.known_keys(queue):
            return "queue_full" if len(self.known_keys(queue)) >= self.limits.keys_max else None
        return "queue_full" if rule.max_jobs is not None and len(self.of_key(queue, key)) >= rule.max_jobs else None

    # After every step, and when the rules change.

    def settle(self) -> None:
        """Let keys that come begin where the others are, and forget those of which nothing is to be known."""
        for queue in self.queues:
            if not self.keyed(queue):
                for name in [name for name in self.passed if name[0] == queue]:
                    del self.passed[name]
                for meter in [name for name in self.meters if isinstance(name, tuple) and name[0] == queue]:
                    del self.meters[meter]
                self.restarted.pop(queue, None)
                if not self.flow(queue):
                    self.level.pop(queue, None)
                    self.meters.pop(queue, None)
                self.open = {name for name in self.open if name[0] != queue}
                continue
            known = self.known_keys(queue)
            level = self.level.get(queue, 0.0)
            for key in [name[1] for name in self.passed if name[0] == queue]:
                if key not in known:
                    del self.passed[queue, key]
            for key in known:
                self.passed.setdefault((queue, key), level)
            if queue in self.busy:
                # When that is over, all begin where the others are.
                self.open = {name for name in self.open if name[0] != queue}
                continue
            now_open = {(queue, item.spec.key) for item in self.firsts(queue)}
            for name in now_open - self.open if self.queues[queue].fair else ():
                self.passed[name] = max(self.passed[name], level)
            self.open = {name for name in self.open if name[0] != queue} | now_open

    def set_policy(self, queue: str, policy: QueuePolicy) -> None:
        was = self.queues.get(queue, self.policy)
        self.queues[queue] = policy
        if was.rate != policy.rate and queue in self.meters:
            self.meters[queue].dirty = True
        for name, meter in self.meters.items():
            if isinstance(name, tuple) and name[0] == queue and was.per_key != policy.per_key:
                meter.dirty = True

    def gone(self, queue: str) -> None:
        """A queue was deleted."""
        del self.queues[queue]
        self.paused_keys.pop(queue, None)
        self.restarted.pop(queue, None)
        self.level.pop(queue, None)
        self.meters = {name: meter for name, meter in self.meters.items() if queue not in (name, name[0])}
        self.passed = {name: value for name, value in self.passed.items() if name[0] != queue}
        self.open = {name for name in self.open if name[0] != queue}

    def meter(self, queue: str, key: str) -> Meter:
        if (queue, key) not in self.meters:
            self.meters[queue, key] = Meter()
        return self.meters[queue, key]

    def restart(self, now: float) -> None:
        """A new server goes on: what halts nothing is history, and every rate has nothing left."""
        for item in sorted(self.pinned(), key=lambda one: one.ended_turn):
            if item.spec.queue not in self.queues or not self.keyed(item.spec.queue):
                self.give_up_halting(item)
        self.meters, self.passed, self.level, self.restarted, self.open = {}, {}, {}, {}, set()
        leased = [item for item in self.live() if item.hold]
        for item in sorted(leased, key=lambda one: (one.hold.since if one.hold else 0, not one.holds, one.spec.priority, one.place)):
            assert item.hold is not None
            item.hold.turn = self.next_turn()
        for queue, policy in self.queues.items():
            if policy.rate is not None:
                self.meters[queue] = self.emptied(policy.rate, now, now)
            rate = self.rule(queue).rate
            if rate is not None and self.keyed(queue):
                for key in self.known_keys(queue) - {None}:
                    assert key is not None
                    self.meters[queue, key] = self.emptied(rate, now, now)
                self.restarted[queue] = now

    def emptied(self, rate: Rate, at: float, now: float | None) -> Meter:
        meter = Meter(at + rate.burst * rate.per / rate.limit, True, at)
        if now is not None:
            meter.look(rate, now)
        return meter

    def comes(self, queue: str, key: str | None) -> None:
        """A key is about to be of interest. If it was not known, its rate is empty too after a restart."""
        if key is None or queue not in self.queues:
            return
        rate = self.rule(queue).rate
        if rate is not None and queue in self.restarted and self.keyed(queue) and key not in self.known_keys(queue):
            self.meters[queue, key] = self.emptied(rate, self.restarted[queue], None)

    def comes_by_edit(self, queue: str, key: str | None) -> None:
        super().comes_by_edit(queue, key)
        self.comes(queue, key)

    # Operations.

    def enqueue(self, now: float, spec: JobSpec, new_id: str) -> str:
        before = self.known_keys(spec.queue) if spec.queue in self.queues else set()
        said = super().enqueue(now, spec, new_id)
        if said == "made" and spec.key not in before:
            item = self.items.pop(spec.id or new_id)
            self.comes(spec.queue, spec.key)
            self.items[item.id] = item
        return said

    def dequeue(self, now: float, queues: tuple[str, ...], limit: int) -> list[Item]:
        taken: list[Item] = []
        for name in queues:
            if name not in self.queues or self.queues[name].paused:
                continue
            keys: set[str | None] = set()
            while len(taken) < limit and (item := self.next(name, keys)) is not None:
                if item.expires_at is not None and item.expires_at <= now:
                    self.end(item, "expired")
                    continue
                if self.shown([*taken, item], limit) <= len(taken):
                    return taken
                self.take(item, now, keys)
                keys.add(item.spec.key)
                taken.append(item)
        return taken

    def take(self, item: Item, now: float, taken: set[str | None]) -> None:
        queue, key = item.spec.queue, item.spec.key
        policy, rate = self.queues[queue], self.rule(queue).rate
        item.status = "in_progress"
        item.attempts += 1
        if policy.rate is not None:
            self.meters.setdefault(queue, Meter()).take(policy.rate, now)
            self.meters[queue].look(policy.rate, now)
        if not self.keyed(queue):
            return
        if rate is not None and key is not None:
            self.meter(queue, key).take(rate, now)
            self.meter(queue, key).look(rate, now)
        if policy.fair:
            had = self.passed.get((queue, key), self.level.get(queue, 0.0)) + 1 / self.weight(queue, key)
            self.passed[queue, key] = had
            others = [
                self.rank(queue, one)[2] for one in self.in_turn(queue, [one for one in self.firsts(queue, taken) if one.spec.key != key])
            ]
            self.level[queue] = max(self.level.get(queue, 0.0), min([had, *others[:1]]))

    def put_back(self, now: float, job_id: str, token: str) -> bool:
        item = self.items.get(job_id)
        since = None if item is None or item.hold is None else item.hold.since
        if not super().put_back(now, job_id, token):
            return False
        assert item is not None
        assert since is not None
        queue, key = item.spec.queue, item.spec.key
        policy, rate = self.queues[queue], self.rule(queue).rate
        if policy.rate is not None:
            self.meters.setdefault(queue, Meter()).give_back(policy.rate, since)
            self.meters[queue].look(policy.rate, now)
        if self.keyed(queue):
            if policy.fair and (queue, key) in self.passed and queue not in self.busy:
                self.passed[queue, key] = max(0.0, self.passed[queue, key] - 1 / self.weight(queue, key))
            if rate is not None and key is not None:
                self.meter(queue, key).give_back(rate, since)
                self.meter(queue, key).look(rate, now)
        self.settle()
        return True

    def hold_key(self, item: Item) -> None:
        item.holds = item.holds or self.ordered(item)

    def release(self, now: float, job_id: str, token: str, delay: float) -> str | None:
        if self.refusal(job_id, token) is None:
            hold = self.items[job_id].hold
            if hold is not None and not hold.cancel:
                self.hold_key(self.items[job_id])
        why = super().release(now, job_id, token, delay)
        self.settle()
        return why

    def back_off(self, job_id: str, run_at: float) -> None:
        super().back_off(job_id, run_at)
        self.hold_key(self.items[job_id])

    def pass_time(self, item: Item, now: float) -> None:
        if item.hold is not None and not item.hold.cancel and item.attempts < self.attempts_of(item):
            self.hold_key(item)
        super().pass_time(item, now)

    def move(self, item: Item, now: float, to: str) -> None:
        self.queues.setdefault(to, self.policy)
        self.comes(to, item.spec.key)
        super().move(item, now, to)

    def remember(self, item: Item, outcome: str) -> None:
        if outcome == "failed" and self.ordered(item) and self.rule(item.spec.queue).order == "halt":
            item.halts = True
            item.ended_turn = self.next_turn()
        else:
            super().remember(item, outcome)

    def give_up_halting(self, item: Item) -> None:
        assert item.halts
        item.halts = False
        super().remember(item, "failed")

    def cancel(self, job_id: str) -> str | None:
        item = self.items.get(job_id)
        if item is not None and item.halts:
            self.give_up_halting(item)
            return None
        return super().cancel(job_id)

    def retry(self, now: float, job_id: str) -> str | None:
        item = self.items.get(job_id)
        if item is None:
            return UNKNOWN
        if item.outcome in (None, "succeeded"):
            return KEEP
        spec, halts = item.spec, item.halts
        size = size_of(spec.payload, spec.type, spec.description, spec.traceparent, spec.key, *spec.tags)
        if (not halts or spec.queue not in self.queues) and (full := self.no_room(spec.queue, size, spec.key)) is not None:
            return full
        self.queues.setdefault(spec.queue, self.policy)
        if not halts:
            self.history[str(item.outcome)].remove(item)
            self.comes(spec.queue, spec.key)
        item.outcome = item.error = item.result = item.ended_by = item.ended_worker = item.said = item.expires_at = None
        item.run_at, item.attempts, item.past, item.holds, item.halts, item.late = now, 0, (), halts, False, None
        if halts:
            self.to_old_place(item, now)
        else:
            self.to_back(item)
        return None

    def due(self, now: float, job_id: str) -> None:
        """The ticker has come to a job."""
        item = self.items[job_id]
        at = item.due()
        assert at is not None
        assert at <= now
        self.pass_time(item, now)
