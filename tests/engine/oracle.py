"""A queue made of plain lists and dicts, slow and obvious, written from docs/semantics.md: what the engine is compared with.

It knows no heap, no ring and no counters: whatever it is asked, it looks at every job. What the engine alone can know (ids, tokens,
the random part of a backoff) it is told. A request that is refused returns the error's code.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import msgspec

from jobqueue.limits import Limits
from jobqueue.model import JobSpec, Outcome, Verdict, Want
from jobqueue.policy import Backoff, QueuePolicy

LOST, OVER, KEEP, UNKNOWN = "lease_lost", "not_in_progress", "not_retryable", "unknown_job"
WAITS = ("scheduled", "queued")
EXPIRED = b'"lease_expired"'
LEFT_OUT = b'"error left out: the server holds as many bytes as it may"'


def size_of(*texts: str | bytes | None) -> int:
    return sum(len(text.encode() if isinstance(text, str) else text) for text in texts if text is not None)


@dataclass
class Hold:
    """A lease."""

    token: str
    until: float
    seconds: float
    since: float
    attempt_id: str | None
    turn: int
    worker: str | None = None
    who: str = ""
    message: str | None = None
    cancel: bool = False
    replayed: bool = False


@dataclass
class Item:
    """A job.

    place: where it stands among the queued, smaller is nearer, 0 before it ever stood; came_back: it left and returned to its place.
    holds: it keeps its key between two attempts; halts: it failed, and its key stands still for it (flow_oracle.py). late: the token of the
    lease that ran out last, by which it may still be ended while it waits.
    """

    id: str
    spec: JobSpec
    run_at: float | None
    expires_at: float | None
    status: str = "queued"
    attempts: int = 0
    place: int = 0
    came_back: bool = False
    hold: Hold | None = None
    error: bytes | None = None
    past: tuple[tuple[int, float, str, bytes | None, str | None], ...] = ()
    outcome: str | None = None
    result: bytes | None = None
    ended_by: str | None = None
    ended_worker: str | None = None
    said: Outcome | None = None
    holds: bool = False
    halts: bool = False
    ended_turn: int = 0
    home: str = ""
    origin: tuple[str, float, str, int] | None = None
    late: str | None = None
    edited: bool = False

    def due(self) -> float | None:
        if self.status == "in_progress":
            return self.hold.until if self.hold else None
        times = [at for at in (self.run_at if self.status == "scheduled" else None, self.expires_at) if at is not None]
        return min(times) if times and self.status in WAITS else None

    def own(self) -> int:
        """What it holds by itself: every text in it but the server's own words."""
        past = [text for _, _, _, error, worker in self.past for text in (error, worker)]
        error = None if self.error in (EXPIRED, LEFT_OUT) else self.error
        return size_of(
            self.spec.payload, self.spec.type, self.spec.description, self.spec.traceparent, self.spec.key, *self.spec.tags, error, *past
        )

    def size(self) -> int:
        """What it holds in all."""
        hold = self.hold
        return self.own() + size_of(self.result, self.ended_worker, *([hold.worker, hold.attempt_id, hold.message] if hold else []))

    def tried(self, hold: Hold, ended: str, said: bytes | None, error: bytes | None, room: float) -> bool:
        """An attempt is over that failed or whose lease ran out; whether there was room for what is to be said of it."""
        before, was = self.own(), (self.past, self.error)
        self.late = hold.token if ended == "lease_expired" else None

        def noted(said: bytes | None, worker: str | None, error: bytes | None) -> None:
            self.past = (*was[0], (self.attempts, hold.since, ended, said, worker))[-Limits().past_attempts_max :]
            self.error = error

        noted(said, hold.worker, error)
        if 0 < self.own() - before > room:
            noted(None, None, error if error in (None, EXPIRED) else LEFT_OUT)
            return False
        return True


class Oracle:
    """See the module. Every method is an operation of the engine; `turn` numbers what has an order of its own."""

    def __init__(self, limits: Limits, policy: QueuePolicy) -> None:
        self.limits = limits
        self.policy = policy
        self.queues: dict[str, QueuePolicy] = {}
        self.items: dict[str, Item] = {}
        self.history: dict[str, list[Item]] = {outcome.value: [] for outcome in Outcome}
        self.turn = 0

    # Looking.

    def live(self, queue: str | None = None) -> list[Item]:
        return [item for item in self.items.values() if item.outcome is None and queue in (None, item.spec.queue)]

    def waiting(self, queue: str) -> list[Item]:
        """The queued jobs in the order in which they leave."""
        queued = [item for item in self.live(queue) if item.status == "queued"]
        return sorted(queued, key=lambda item: (item.spec.priority, not item.came_back, item.place))

    def attempts_of(self, item: Item) -> float:
        own = item.spec.max_attempts
        most = self.queues[item.spec.queue].max_attempts if own is None else own
        return math.inf if most is None else most

    def ceiling(self, item: Item) -> float:
        backoff: Backoff = item.spec.backoff or self.queues[item.spec.queue].backoff
        return min(backoff.cap, backoff.base * backoff.factor ** (item.attempts - 1))

    def room(self) -> int:
        """Bytes that live jobs may still take."""
        return self.limits.payload_total_bytes_max - sum(item.size() for item in self.live())

    def no_room(self, queue: str, size: int, key: str | None = None) -> str | None:
        if len(self.live()) >= self.limits.jobs_max or size > self.room():
            return "queue_full"
        return self.no_place(queue, key)

    def no_place(self, queue: str, key: str | None) -> str | None:
        """Why no more jobs may be in this queue, whoever has room for them."""
        if queue not in self.queues:
            return "too_many_queues" if len(self.queues) >= self.limits.queues_max else None
        max_jobs = self.queues[queue].max_jobs
        return "queue_full" if max_jobs is not None and len(self.live(queue)) >= max_jobs else None

    def shown(self, items: list[Item], limit: int) -> int:
        """How many of these one answer may hold."""
        room, count = self.limits.answer_bytes_max, 0
        while count < min(limit, len(items)) and (items[count].own() <= room or not count):
            room -= items[count].own()
            count += 1
        return count

    def has_place(self, item: Item, queue: str | None) -> bool:
        """Whether a live job may come here from another queue."""
        return queue is not None and self.no_place(queue, item.spec.key) is None

    def circle(self, name: str, policy: QueuePolicy) -> bool:
        """Whether dead letters would come back to where they failed."""
        seen, to = [name], policy.dead_letter
        while to is not None and to not in seen:
            seen.append(to)
            to = self.queues[to].dead_letter if to in self.queues else None
        return to is not None

    def elsewhere(self, name: str) -> str | None:
        """Where a redrive moves them, any other queue or where they came from, the same each time it is asked."""
        others = [None, *sorted(queue for queue in self.queues if queue != name)]
        return others[self.turn % len(others)]

    def comes_by_edit(self, queue: str, key: str | None) -> None:
        """A job of this key is about to come to a queue that is made if need be."""
        self.queues.setdefault(queue, self.policy)

    # Moving.

    def move(self, item: Item, now: float, to: str) -> None:
        self.queues.setdefault(to, self.policy)
        item.spec = msgspec.structs.replace(item.spec, queue=to)
        item.attempts, item.run_at, item.expires_at, item.holds = 0, now, None, False
        self.to_back(item)

    def to_dead_letters(self, item: Item, now: float, reason: str) -> None:
        to = self.queues[item.spec.queue].dead_letter
        assert to is not None
        item.origin = (item.spec.queue, now, reason, item.attempts + (item.origin[3] if item.origin else 0))
        self.move(item, now, to)

    def redrive(self, now: float, job_id: str, to: str | None) -> bool:
        item = self.items[job_id]
        assert item.origin is not None
        target = item.origin[0] if to is None else to
        if not self.has_place(item, target):
            return False
        item.origin, item.error, item.past, item.late = None, None, (), None
        self.move(item, now, target)
        return True

    def next_turn(self) -> int:
        self.turn += 1
        return self.turn

    def to_back(self, item: Item) -> None:
        item.status, item.came_back, item.place = "queued", False, self.next_turn()

    def to_old_place(self, item: Item, now: float) -> None:
        item.status, item.came_back = "queued", True
        if item.expires_at is not None and item.expires_at <= now:
            self.end(item, "expired")

    def end(self, item: Item, outcome: str, hold: Hold | None = None, verdict: Verdict | None = None) -> None:
        item.status, item.outcome, item.hold = "concluded", outcome, None
        item.ended_worker = None if hold is None else hold.worker
        if verdict is not None and hold is not None:
            item.ended_by, item.said, item.result = hold.token, verdict.outcome, verdict.result
        self.remember(item, outcome)

    def remember(self, item: Item, outcome: str) -> None:
        item.ended_turn = self.next_turn()
        self.history[outcome].append(item)
        self.cut(outcome)

    def cut(self, outcome: str) -> None:
        past = self.history[outcome]
        while len(past) > self.limits.history_jobs_max or sum(one.size() for one in past) > self.limits.history_bytes_max:
            del self.items[past.pop(0).id]

    # Operations.

    def enqueue(self, now: float, spec: JobSpec, new_id: str) -> str:
        known = self.items.get(spec.id or new_id)
        if known is not None and known.edited:
            return "known"
        if known is not None:
            asked = msgspec.structs.replace(known.spec, queue=known.home)
            then, now_said = (msgspec.structs.replace(one, id=None, delay=one.delay or None) for one in (asked, spec))
            return "known" if then == now_said else "id_conflict"
        size = size_of(spec.payload, spec.type, spec.description, spec.traceparent, spec.key, *spec.tags)
        if (full := self.no_room(spec.queue, size, spec.key)) is not None:
            return full
        self.queues.setdefault(spec.queue, self.policy)
        run_at = now + spec.delay if spec.delay else spec.run_at
        item = Item(spec.id or new_id, spec, run_at, None if spec.expires_in is None else now + spec.expires_in)
        item.home = spec.queue
        self.items[item.id] = item
        if run_at is not None and run_at > now:
            item.status = "scheduled"
        else:
            self.to_back(item)
        return "made"

    def dequeue(self, now: float, queues: tuple[str, ...], limit: int) -> list[Item]:
        """The jobs a dequeue takes; the caller says with `lease` under which token."""
        taken: list[Item] = []
        for name in queues:
            if name not in self.queues or self.queues[name].paused:
                continue
            for item in self.waiting(name):
                if len(taken) == limit:
                    break
                if item.expires_at is not None and item.expires_at <= now:
                    self.end(item, "expired")
                    continue
                if self.shown([*taken, item], limit) <= len(taken):
                    return taken
                item.status = "in_progress"
                item.attempts += 1
                taken.append(item)
        return taken

    def lease(self, item: Item, now: float, token: str, want: Want) -> None:
        said = want.lease_seconds, item.spec.lease_seconds, self.queues[item.spec.queue].lease_seconds
        length = next(seconds for seconds in said if seconds is not None)
        item.hold = Hold(token, now + length, length, now, want.attempt_id, self.next_turn(), want.worker, want.who)

    def replay(self, want: Want) -> list[str]:
        whose = (want.attempt_id, want.worker, want.who)
        held = [
            (want.queues.index(item.spec.queue), item.hold.turn, item)
            for item in self.live()
            if item.hold and (item.hold.attempt_id, item.hold.worker, item.hold.who) == whose and item.spec.queue in want.queues
        ]
        items = [item for _, _, item in sorted(held, key=lambda found: found[:2])]
        shown = items[: self.shown(items, want.limit)]
        for item in shown:
            assert item.hold is not None
            item.hold.replayed = True
        return [item.id for item in shown]

    def put_back(self, now: float, job_id: str, token: str) -> bool:
        item = self.items.get(job_id)
        if item is None or item.hold is None or item.hold.token != token or item.hold.replayed:
            return False
        self.give_up(item, now)
        return True

    def give_up(self, item: Item, now: float, delay: float = 0.0) -> None:
        hold, item.hold = item.hold, None
        assert hold is not None
        item.attempts -= 1
        if hold.cancel:
            self.end(item, "cancelled", hold)
        elif delay:
            item.status, item.run_at = "scheduled", now + delay
        else:
            self.to_old_place(item, now)

    def refusal(self, job_id: str, token: str) -> str | None:
        """Why this token may not be used, if it may not."""
        item = self.items.get(job_id)
        if item is None:
            return UNKNOWN
        if item.hold is not None and item.hold.token == token:
            return None
        return OVER if item.ended_by == token else LOST

    def extend(self, now: float, job_id: str, token: str, seconds: float | None, message: str | None = None) -> str | None:
        if (why := self.refusal(job_id, token)) is not None:
            return why
        hold = self.items[job_id].hold
        assert hold is not None
        length = hold.seconds if seconds is None else seconds
        if not length:
            self.pass_time(self.items[job_id], now)
            return None
        hold.until = now + length
        grown = size_of(message) - size_of(hold.message)
        if message is not None and not 0 < grown > self.room():
            hold.message = message
        return None

    def release(self, now: float, job_id: str, token: str, delay: float) -> str | None:
        if (why := self.refusal(job_id, token)) is None:
            self.items[job_id].late = None
            self.give_up(self.items[job_id], now, delay)
        return why

    def conclude(self, now: float, job_id: str, token: str, verdict: Verdict) -> str | None:
        """None: done, or done before. "retry": the job is to be scheduled, and the caller says with `back_off` for when."""
        item = self.items.get(job_id)
        if item is not None and item.ended_by == token and (item.said, item.result) == (verdict.outcome, verdict.result):
            same_error = verdict.outcome is Outcome.SUCCEEDED or item.error == verdict.error
            return None if same_error else OVER
        if item is not None and item.status in WAITS and item.late == token and verdict.late and verdict.outcome is Outcome.SUCCEEDED:
            self.end(item, "succeeded", Hold(token, 0.0, 0.0, 0.0, None, 0, item.past[-1][4]), verdict)
            return None
        if (why := self.refusal(job_id, token)) is not None:
            return why
        assert item is not None
        hold, item.hold = item.hold, None
        assert hold is not None
        failed = verdict.outcome is Outcome.FAILED
        again = failed and not hold.cancel and verdict.retry and item.attempts < self.attempts_of(item)
        dead = failed and not hold.cancel and not again and self.has_place(item, self.queues[item.spec.queue].dead_letter)
        if failed:
            item.tried(hold, "failed", verdict.error, verdict.error, self.room() if again or dead else math.inf)
        if hold.cancel:
            self.end(item, "cancelled", hold, verdict)
        elif dead:
            self.to_dead_letters(item, now, "failed")
        elif again:
            return "retry"
        else:
            self.end(item, verdict.outcome.value, hold, verdict)
        return None

    def purge(self, job_id: str) -> None:
        """End a job with all that lives in its queue."""
        item = self.items[job_id]
        hold = item.hold
        self.end(item, "cancelled", hold)
        item.ended_by = None if hold is None else hold.token

    def back_off(self, job_id: str, run_at: float) -> None:
        item = self.items[job_id]
        item.status, item.run_at = "scheduled", run_at

    def cancel(self, job_id: str) -> str | None:
        item = self.items.get(job_id)
        if item is None:
            return UNKNOWN
        if item.outcome is not None:
            return OVER
        if item.hold is not None:
            item.hold.cancel = True
        else:
            self.end(item, "cancelled")
        return None

    def retry(self, now: float, job_id: str) -> str | None:
        item = self.items.get(job_id)
        if item is None:
            return UNKNOWN
        if item.outcome in (None, "succeeded"):
            return KEEP
        spec = item.spec
        if (
            full := self.no_room(spec.queue, size_of(spec.payload, spec.type, spec.description, spec.traceparent, spec.key, *spec.tags))
        ) is not None:
            return full
        self.queues.setdefault(item.spec.queue, self.policy)
        self.history[item.outcome].remove(item)
        item.outcome = item.error = item.result = item.ended_by = item.ended_worker = item.said = item.expires_at = None
        item.run_at, item.attempts, item.past, item.late = now, 0, (), None
        self.to_back(item)
        return None

    def tick(self, now: float, order: list[str]) -> None:
        """Do what is due, the earliest first; `order` settles ties alone."""
        due: list[tuple[float, int, Item]] = []
        for item in self.live():
            at = item.due()
            if at is not None and at <= now:
                due.append((at, order.index(item.id), item))
        assert len(order) == len(due), "the engine moved a job that was not due"
        for _, _, item in sorted(due, key=lambda entry: entry[:2]):
            self.pass_time(item, now)

    def pass_time(self, item: Item, now: float) -> None:
        hold, item.hold = item.hold, None
        if hold is None:
            if item.expires_at is not None and item.expires_at <= now:
                self.end(item, "expired")
            elif item.place:
                self.to_old_place(item, now)
            else:
                self.to_back(item)
            return
        again = not hold.cancel and item.attempts < self.attempts_of(item)
        dead = not hold.cancel and not again and self.has_place(item, self.queues[item.spec.queue].dead_letter)
        error = item.error if hold.cancel else EXPIRED
        item.tried(hold, "lease_expired", None, error, self.room() if again or dead else math.inf)
        if again:
            self.to_old_place(item, now)
        elif dead:
            self.to_dead_letters(item, now, "lease_expired")
        else:
            self.end(item, "cancelled" if hold.cancel else "failed", hold)

    def view(self) -> dict[str, Any]:
        """Every job as the engine should show it."""
        return {
            item.id: (
                item.status,
                item.outcome,
                item.attempts,
                item.run_at,
                item.expires_at,
                item.error,
                item.past,
                item.result,
                (item.spec.queue, item.home, item.spec.priority, item.spec.payload, item.spec.description),
                item.origin,
                item.late if item.status in WAITS else None,
                None if item.hold is None else (item.hold.token, item.hold.until, item.hold.cancel, item.hold.replayed, item.hold.message),
            )
            for item in self.items.values()
        }
