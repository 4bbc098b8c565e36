"""What senders and receivers of a FIFO queue can hold against the server, as those of Amazon SQS would: by what they were answered alone.

A world with `fifo` has one such queue beside its others: keys in order are its message groups, unique keys its deduplication ids,
deliveries come in batches of up to ten. All is told by when something was sent and answered, so it holds over restarts and kills too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .checker import EPSILON, LATE_MAX
from .history import Ask, History

if TYPE_CHECKING:
    from .checker import Checker
    from .ledger import Held, Ledger

LANE = "lane.fifo"
GROUPS = ("ada", "bob", "cleo")
BATCH_MAX = 10
UNDER_WAY_SECONDS = 20.0
"""How long a request that was not answered may still come to be carried out: a server stands still for 15 s at most."""


@dataclass
class Message:
    """One that was sent. sent_at: first; answered_at: when the first answer with its id was read; gone_at: when something was first sent
    that may have ended it; done_at: when its end was first answered. tries, answers: how often it was sent, and that was answered. stored:
    its id, where the server gave it another. number, created_at: as the first answers that tell them say.
    """

    id: str
    group: str
    key: str
    sent_at: float
    stored: str | None = None
    tries: int = 0
    answers: int = 0
    last_sent_at: float = 0.0
    last_answered_at: float = 0.0
    answered_at: float | None = None
    accepted: bool = False
    gone_at: float = 1e9
    done_at: float = 1e9
    number: int | None = None
    created_at: str | None = None


@dataclass
class Purge:
    """All messages ended, and all deduplication ids forgotten, at some time in between."""

    sent_at: float
    answered_at: float = 1e9
    done: bool = False


@dataclass
class Lane:
    """window: for how long a deduplication id is kept. doubtful_at: when the server last came back on a clock that had been set."""

    history: History
    ledger: Ledger
    window: float
    messages: dict[str, Message] = field(default_factory=dict)
    by_key: dict[str, list[Message]] = field(default_factory=dict)
    alias: dict[str, str] = field(default_factory=dict)
    """Names of messages by the ids that the server gave them, where those are others."""
    there: dict[str, dict[str, Message]] = field(default_factory=dict)
    """Accepted messages by group, until something is sent that may end them."""
    held: dict[str, dict[str, Held]] = field(default_factory=dict)
    """Leases by group and token, until they are over."""
    purges: list[Purge] = field(default_factory=list)
    receives: dict[str, str] = field(default_factory=dict)
    """By token, to which receive it was handed."""
    doubtful_at: float = -1e9
    wall_set: bool = False
    counts: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("accepted", "suppressed", "received", "late", "zero", "purges"), 0)
    )

    def _fault(self, what: str) -> None:
        self.history.fault(what)

    def name(self, message_id: str) -> str:
        """What a message is called here."""
        return self.alias.get(message_id, message_id)

    # Sending.

    def sends(self, item: dict[str, Any], at: float) -> None:
        """A message is sent, or sent again."""
        message = self.messages.get(item["id"])
        if message is None:
            message = self.messages[item["id"]] = Message(item["id"], item["key"], item["unique"]["key"], at)
            self.by_key.setdefault(message.key, []).append(message)
        message.tries += 1
        message.last_sent_at = at
        if any(purge.sent_at <= at <= purge.answered_at for purge in self.purges):
            message.gone_at = min(message.gone_at, at)

    def answered(self, own_id: str, answer: dict[str, Any], sent_at: float, at: float) -> None:
        """A sender reads what became of it."""
        own, first = self.messages[own_id], self.messages.get(answer["id"])
        own.answers += 1
        own.last_answered_at = at
        if first is None or first.key != own.key:
            self._fault(f"{own_id} was answered with {answer['id']}, which has another deduplication id")
            return
        if answer["created"] and (own.accepted or (own.gone_at < sent_at and answer.get("sure", True))):
            self._made_again(own, sent_at, at)
        if first.created_at not in (None, answer["created_at"]) and not self.wall_set:
            self._fault(f"{own_id} was answered with {first.id} of {answer['created_at']}, which is of {first.created_at}")
        first.created_at = answer["created_at"]
        expected = self._kept(own, sent_at, at)
        if answer["created"]:
            own.accepted = True
            if own.gone_at > at:
                self.there.setdefault(own.group, {})[own.id] = own
            self.counts["accepted"] += 1
            if expected is not None:
                self._fault(f"{own_id} was accepted, and {expected.id} with the deduplication id {own.key} was within {self.window} s")
        elif first is own:
            if own.tries == 1:
                self._fault(f"{own_id} was answered as a repeat, and it was not sent before")
        else:
            self.counts["suppressed"] += 1
            if expected not in (None, first):
                self._fault(f"{own_id} was answered with {first.id}; the first of {own.key} is {expected.id}")
            self._not_too_long(own, first, sent_at)
        if first.answered_at is None:
            first.answered_at = at

    def _made_again(self, own: Message, sent_at: float, at: float) -> None:
        """A message was accepted under an id that it had been accepted under before: a purge, or the end of its window, has been between,
        and history has forgotten it.
        """
        if at < own.sent_at + self.window - EPSILON and self.doubtful_at < own.sent_at and not self._purged(own.sent_at, at):
            self._fault(f"{own.id} was accepted twice")
        own.number = own.created_at = None
        own.sent_at, own.answered_at, own.done_at = sent_at, at, 1e9

    def _purged(self, since: float, until: float) -> bool:
        return any(purge.sent_at <= until and purge.answered_at >= since for purge in self.purges)

    def _kept(self, own: Message, sent_at: float, at: float) -> Message | None:
        """Who surely has the deduplication id of a message all the time from when it was sent until it was answered."""
        for other in self.by_key[own.key]:
            if (
                other is not own
                and other.accepted
                and other.answered_at is not None
                and other.answered_at < sent_at
                and at < other.sent_at + self.window - EPSILON
                and self.doubtful_at < other.sent_at
                and not self._purged(other.sent_at, at)
            ):
                return other
        return None

    def _not_too_long(self, own: Message, first: Message, sent_at: float) -> None:
        over = 1e9 if first.answered_at is None else first.answered_at + self.window + LATE_MAX
        if sent_at > over and self.doubtful_at < first.sent_at:
            self._fault(f"{own.id} was kept out at {sent_at:.3f} by {first.id}, of {first.sent_at:.3f}")
        for purge in self.purges:
            if first.answers == first.tries and first.last_answered_at < purge.sent_at and purge.done and purge.answered_at < sent_at:
                self._fault(f"{own.id} was kept out by {first.id}, though a purge had forgotten its deduplication id")
                return

    # Receiving.

    def received(self, ask: Ask, receive: str, jobs: list[Any], at: float, again: bool) -> None:
        """A receiver reads messages. receive: what names its request and the repeats of that; again: it is a repeat."""
        self.counts["received"] += len(jobs)
        ids = [self.name(job["id"]) for job in jobs]
        self.receives |= {job["lease"]["token"]: receive for job in jobs}
        for place, job in enumerate(jobs):
            message = self.messages.get(ids[place])
            if message is None or job["key"] != message.group:
                self._fault(f"{ask} was handed {job['id']} of the group {job.get('key')}, which nobody sent")
                continue
            if message.gone_at < message.last_sent_at:
                # A purge may have ended it, and history forgotten it, before it was sent again.
                message.done_at = 1e9
            elif message.number not in (None, job["number"]):
                self._fault(f"{message.id} had the number {message.number} and has {job['number']}")
            message.number = job["number"]
            if ask.sent_at > message.done_at:
                self._fault(f"{ask} was handed {message.id}, whose end was answered at {message.done_at:.3f}")
            if not again:
                self._in_order(ask, message, set(ids[:place]), at)
            token = job["lease"]["token"]
            self._alone(ask, message, self.ledger.held[token], receive, at)
            self.held[message.group][token] = self.ledger.held[token]
        of_groups: dict[str, int] = {}
        for job in jobs:
            if job["number"] < of_groups.get(job["key"], 0):
                self._fault(f"{ask} was handed {ids}, which are not in the order of their numbers")
            of_groups[job["key"]] = job["number"]

    def _in_order(self, ask: Ask, message: Message, before: set[str], at: float) -> None:
        for other in self.there.get(message.group, {}).values():
            if (
                other is not message
                and other.id not in before
                and other.answered_at is not None
                and other.answered_at < ask.sent_at
                and self._precedes(other, message)
            ):
                self._fault(f"{ask} was handed {message.id} of {message.group}, and {other.id}, which was sent before it, is there")

    def _precedes(self, one: Message, other: Message) -> bool:
        if one.number is not None and other.number is not None:
            return one.number < other.number
        return one.answered_at is not None and one.answered_at < other.sent_at

    def _alone(self, ask: Ask, message: Message, new: Held, receive: str, at: float) -> None:
        leases = self.held.setdefault(message.group, {})
        for token, held in list(leases.items()):
            if held.believed_until < at - LATE_MAX and held.ended is not None:
                del leases[token]
            elif (
                self.receives[token] != receive
                and self.name(held.job_id) != message.id
                and min(self.messages[self.name(held.job_id)].gone_at, message.gone_at) > at
                and min(held.believed_until, new.believed_until) > at + EPSILON
            ):
                self._fault(
                    f"{ask} was handed {message.id} of {message.group}, of which {self.receives[token]} holds {held.job_id} "
                    f"until {held.believed_until:.3f}"
                )

    # Ending.

    def ends(self, message_id: str, at: float) -> None:
        """Something is sent that may end a message."""
        message = self.messages[self.name(message_id)]
        message.gone_at = min(message.gone_at, at)
        self.there.get(message.group, {}).pop(message.id, None)

    def ended(self, message_id: str, token: str, at: float) -> None:
        """It was answered that a message has ended, by the lease of this token."""
        message = self.messages[self.name(message_id)]
        held = self.ledger.held.get(token)
        self.counts["late"] += held is not None and held.ended is not None and held.until < held.ended
        message.done_at = min(message.done_at, at)

    def purges_all(self, at: float) -> Purge:
        """A purge is sent."""
        purge = Purge(at)
        self.purges.append(purge)
        for message in self.messages.values():
            message.gone_at = min(message.gone_at, at)
        self.there.clear()
        return purge

    def purged(self, purge: Purge, at: float, answered: bool) -> None:
        """And answered; if not, it is under way for a while."""
        if not answered:
            purge.answered_at = at + UNDER_WAY_SECONDS
            return
        self.counts["purges"] += 1
        purge.answered_at, purge.done = at, True
        for message in self.messages.values():
            if message.accepted and message.answered_at is not None and message.answered_at <= purge.sent_at:
                message.done_at = min(message.done_at, at)

    def doubt(self, at: float) -> None:
        """The server came back on a clock that had been set: windows may end sooner or later than they would have."""
        self.doubtful_at = at

    def audit(self, checker: Checker) -> None:
        """In the end: nothing that was accepted has ended but by a receiver or a purge."""
        for message in self.messages.values():
            seen = checker.jobs.get(message.stored or message.id)
            if not message.accepted or seen is None or seen.outcome == "succeeded":
                continue
            if not any(purge.answered_at >= message.sent_at for purge in self.purges):
                self._fault(f"{message.id} was accepted, nobody purged it, and it has {seen.outcome}")
