"""What clients alone can hold against the server: acknowledgements, deliveries, and how long each worker could believe in its lease."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from .history import Ask, History


@dataclass
class Held:
    """A lease as its worker knows it: from the first answer that carried it until it is given up or runs out, whichever is first."""

    job_id: str
    token: str
    since: float
    until: float
    ended: float | None = None

    @property
    def believed_until(self) -> float:
        return self.until if self.ended is None else min(self.until, self.ended)


class Ledger:
    """acknowledged: payloads by id of every job whose enqueue was answered; succeeded: when the client read that its job was done."""

    def __init__(self, history: History) -> None:
        self._history = history
        self.acknowledged: dict[str, bytes] = {}
        self.succeeded: dict[str, float] = {}
        self.held: dict[str, Held] = {}
        self.submitted: dict[str, float] = {}
        """When each id was sent last."""
        self.spent: list[tuple[str, str]] = []
        """Jobs and tokens of leases that their workers have given up: what a confused worker sends."""
        self.confused: set[str] = set()
        """Those that one has sent."""

    def submits(self, job_id: str | None, at: float) -> None:
        """An enqueue is sent. History may have forgotten the id, so this may be another job."""
        if job_id is not None:
            self.succeeded.pop(job_id, None)
            self.submitted[job_id] = at

    def succeeds(self, job_id: str, at: float) -> None:
        """A worker has read that its job is done; which may be the one before the one that was submitted since it was handed out."""
        if all(held.since > self.submitted.get(job_id, 0.0) for held in self.held.values() if held.job_id == job_id):
            self.succeeded.setdefault(job_id, at)

    def enqueued(self, job_id: str, payload: bytes) -> None:
        """An enqueue was acknowledged."""
        self.acknowledged[job_id] = payload

    def delivered(self, ask: Ask, job_id: str, token: str, payload: bytes, at: float, until: float) -> None:
        """A worker was handed a job, or handed it again under the same lease."""
        if job_id in self.acknowledged and self.acknowledged[job_id] != payload:
            self._history.fault(f"{ask} was handed {job_id} with the payload {payload!r}, not {self.acknowledged[job_id]!r}")
        if ask.sent_at > self.succeeded.get(job_id, 1e9):
            self._history.fault(f"{ask} was handed {job_id}, which had been answered as succeeded at {self.succeeded[job_id]:.3f}")
        held = self.held.get(token)
        if held is None:
            self.held[token] = Held(job_id, token, at, until)
        elif held.job_id != job_id:
            self._history.fault(f"{ask} was handed {job_id} under the lease of {held.job_id}")

    def ends(self, token: str, at: float) -> None:
        """The worker sends what ends its lease."""
        held = self.held.get(token)
        if held is not None:
            held.ended = at if held.ended is None else min(at, held.ended)
            self.spent.append((held.job_id, token))

    def extends(self, token: str, until: float) -> None:
        """A worker asks for another expiry, which may be sooner, and from now on cannot know which one holds."""
        held = self.held.get(token)
        if held is not None:
            held.until = min(held.until, until)

    def extended(self, token: str, until: float) -> None:
        """And was told which."""
        held = self.held.get(token)
        if held is not None:
            held.until = until

    def doubt(self, at: float) -> None:
        """The server restarted on a clock that had been set: leases may end sooner than their workers were told."""
        for held in self.held.values():
            held.until = min(held.until, at)

    def excuse(self, job_id: str, at: float) -> None:
        """What was acknowledged of a job is lost, and may be."""
        self.acknowledged.pop(job_id, None)
        self.succeeded.pop(job_id, None)
        for held in self.held.values():
            if held.job_id == job_id:
                held.ended = at if held.ended is None else min(at, held.ended)

    def forget(self, at: float) -> None:
        """The server lost its memory."""
        self.acknowledged.clear()
        self.succeeded.clear()
        for held in self.held.values():
            held.ended = at if held.ended is None else min(at, held.ended)

    def audit(self) -> None:
        """No two workers could believe at one time that they hold the same job."""
        leases: dict[str, list[Held]] = {}
        for held in self.held.values():
            leases.setdefault(held.job_id, []).append(held)
        for job_id, several in leases.items():
            several.sort(key=lambda held: held.since)
            for first, second in pairwise(several):
                if min(first.believed_until, second.believed_until) > second.since + 0.002:
                    self._history.fault(
                        f"two workers held {job_id} at once: one from {first.since:.3f} to {first.believed_until:.3f}, "
                        f"one from {second.since:.3f}"
                    )
