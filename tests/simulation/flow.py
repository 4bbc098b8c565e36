"""What the checker knows of keys and limits: plain lists, and every job looked at each time.

A world with `flow` has queues whose policies are changed among the shapes below; each job but a few has one of three keys. The rules of a
queue are read from the requests that set them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .checker import Checker, Seen

KEYS = ("acme", "bolt", "coil")
EPSILON = 0.002


@dataclass(frozen=True)
class Rule:
    """What holds jobs of a queue back. rate: limit, per, burst."""

    order: str = "none"
    per_key: int | None = None
    concurrency: int | None = None
    rate: tuple[int, float, int] | None = None
    keyed: bool = False

    @property
    def ordered(self) -> bool:
        return self.order != "none"


def rule_of(body: bytes) -> Rule:
    """What the body of a PUT says."""
    policy: dict[str, Any] = json.loads(body or b"{}")
    if policy.get("Attributes", {}).get("FifoQueue") == "true":
        # Of Amazon SQS's CreateQueue.
        return Rule("fifo", keyed=True)
    per_key, rate = policy.get("per_key") or {}, policy.get("rate")
    return Rule(
        per_key.get("order", "none"),
        per_key.get("concurrency"),
        policy.get("concurrency"),
        None if rate is None else (rate["limit"], float(rate["per"]), rate.get("burst", 1)),
        policy.get("per_key") is not None,
    )


def some_policy(random: Random, queue: str) -> dict[str, Any]:
    """A policy of a queue, by its name: slots and an order, slots of each key, or a rate."""
    slots = random.choice((1, 2, 3))
    if queue == "default":
        return {"per_key": {"order": random.choice(("fifo", "fifo", "halt"))}, "concurrency": slots}
    if queue == "a":
        return {"per_key": {"concurrency": random.choice((1, 2))}, "concurrency": random.choice((None, 4))}
    return {"concurrency": slots, "rate": {"limit": random.choice((2, 5)), "per": random.choice((1, 10)), "burst": random.choice((1, 2))}}


@dataclass
class _Spent:
    """What was handed out of a rate, over a restart too, and since when this server has counted."""

    rate: tuple[int, float, int] | None
    since: float
    times: list[float] = field(default_factory=list)


class Flow:
    """What may go, and what must not have gone. rules: by queue; those that have none are plain."""

    def __init__(self, checker: Checker) -> None:
        self.checker = checker
        self.rules: dict[str, Rule] = {}
        self.moving: set[str] = set()
        """Queues whose rules were just given: they hand out nothing until all their keys were looked at, before time moves on."""
        self.taking: set[tuple[str, str | None]] = set()
        """Keys that the dequeue that is under way has taken from: it may take more of them."""
        self._spent: dict[str, _Spent] = {}

    def changed(self, queue: str, rule: Rule | None) -> None:
        """A queue has another policy, or is gone."""
        before = self.rules.pop(queue, None)
        if rule is not None and rule != Rule():
            self.rules[queue] = rule
        # Keys are looked at anew even if it is the same policy again.
        self.moving.add(queue)
        if before != self.rules.get(queue):
            self._spent[queue] = _Spent(self.rule(queue).rate, self.checker.now)

    def began(self) -> None:
        """A server starts, with its buckets empty."""
        self.taking.clear()
        self.moving.clear()
        before, self._spent = self._spent, {}
        for queue, rule in self.rules.items():
            spent = self._spent[queue] = _Spent(rule.rate, self.checker.now)
            if queue in before and before[queue].rate == rule.rate:
                spent.times = before[queue].times

    def rule(self, queue: str) -> Rule:
        return self.rules.get(queue, Rule())

    def _running(self, queue: str) -> list[Seen]:
        return [seen for seen in self.checker.jobs.values() if seen.queue == queue and seen.status == "in_progress"]

    def _blocked(self, queue: str, key: str | None, rule: Rule, running: list[Seen]) -> bool:
        if key is None or not rule.keyed:
            return False
        of_key = [seen for seen in running if seen.key == key]
        others = [seen for seen in self.checker.jobs.values() if seen.queue == queue and seen.key == key]
        if any(seen.halts for seen in others):
            return True
        if rule.ordered:
            away = any(seen.holds and seen.status == "scheduled" for seen in others)
            return away or (bool(of_key) and (queue, key) not in self.taking)
        return rule.per_key is not None and len(of_key) >= rule.per_key

    def may_go(self, queue: str, sure: bool) -> list[Seen]:
        """The next job of each key that may go, of those that are queued. sure: as far as that is certain of a rate."""
        rule, jobs = self.rule(queue), self.checker.queued.get(queue, {}).values()
        if rule == Rule():
            return list(jobs)
        running = self._running(queue)
        if rule.concurrency is not None and len(running) >= rule.concurrency:
            return []
        if sure and (queue in self.moving or (rule.rate is not None and not self._full(queue, rule.rate))):
            return []
        heads: dict[str | None, Seen] = {}
        for seen in jobs:
            key = seen.key if rule.keyed else None
            if key not in heads or _leaves(seen, rule) < _leaves(heads[key], rule):
                heads[key] = seen
        return [seen for key, seen in heads.items() if not self._blocked(queue, key, rule, running)]

    def _full(self, queue: str, rate: tuple[int, float, int]) -> bool:
        limit, per, burst = rate
        spent = self._spent[queue]
        return self.checker.now > max([spent.since, *spent.times[-1:]]) + burst * per / limit + EPSILON

    def handed(self, seen: Seen) -> None:
        """A job was leased, which was queued until now."""
        queue, rule = seen.queue, self.rule(seen.queue)
        if rule == Rule():
            return
        running = [each for each in self._running(queue) if each is not seen]
        if rule.concurrency is not None and len(running) >= rule.concurrency:
            self.checker.fault(
                f"{seen.id} was handed out of {queue}, of which {len(running)} are in progress and {rule.concurrency} may be"
            )
        if self._blocked(queue, seen.key, rule, running):
            self.checker.fault(f"{seen.id} was handed out of {queue} while its key {seen.key} is held")
        self.taking.add((queue, seen.key))
        if rule.rate is not None:
            self._count(queue, rule.rate)

    def _count(self, queue: str, rate: tuple[int, float, int]) -> None:
        limit, per, burst = rate
        spent, now = self._spent[queue], self.checker.now
        spent.times.append(now)
        for count, began in enumerate(reversed(spent.times), 1):
            if count > (now - began) * limit / per + burst + EPSILON * limit:
                self.checker.fault(f"{queue} has handed out {count} in {now - began:.3f} s, of {limit} in {per} s and {burst} at once")
                return
        del spent.times[:-200]

    def undelivered(self, seen: Seen) -> None:
        """A hand-out did not take place."""
        times = self._spent[seen.queue].times if seen.queue in self._spent else []
        if seen.handed_at in times:
            times.remove(seen.handed_at)

    def came_back(self, seen: Seen) -> None:
        """A worker has had a job, and it is to be handed out again."""
        if seen.key is not None and self.rule(seen.queue).ordered:
            seen.holds = True

    def ended(self, seen: Seen, halts: bool, by_worker: bool) -> None:
        """A job has ended, and is said to halt its key or not."""
        expected = by_worker and seen.outcome == "failed" and seen.key is not None and self.rule(seen.queue).order == "halt"
        if halts is not expected:
            self.checker.fault(f"{seen.id} {'halts' if halts else 'does not halt'} its key {seen.key}")
        seen.halts = halts


def _leaves(seen: Seen, rule: Rule) -> tuple[bool, int, int]:
    assert seen.place is not None
    return not (rule.keyed and seen.holds), seen.priority, seen.place
