"""What the clients of many servers note, and what they hold against them in the end.

Times on the monotonic clock say when something was sent or answered; UTC says how long leases hold. All processes run on one machine, so
both clocks are the servers' too.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise

from jobqueue.client.types import JobInfo, LeasedJob
from jobqueue.model import Outcome, Status

CLOCK_SECONDS = 0.1
"""How far the UTC of two processes of one machine may be apart: each counts on from what it read when it began."""

UNDER_WAY_SECONDS = 0.2
"""An enqueue that began longer ago was not struck by what happens now, but by what happened before."""


@dataclass
class Held:
    """A lease as its worker knows it, in UTC. until: the soonest end that it was told of, or asked for; ended: when it gave it up."""

    job_id: str
    token: str
    granted: float
    until: float
    ended: float | None = None

    @property
    def surely_until(self) -> float:
        """Up to then the lease was live, whatever became of the requests that the worker sent."""
        return self.until if self.ended is None else min(self.until, self.ended)


@dataclass
class Call:
    """One enqueue, all its tries together, on the monotonic clock."""

    began: float
    ended: float


@dataclass
class Book:
    """The notes of all clients. faults: what went wrong, in words."""

    submitted: set[str] = field(default_factory=set)
    acknowledged: dict[str, float] = field(default_factory=dict)
    concluded: dict[str, float] = field(default_factory=dict)
    """When a worker read that its job has succeeded, in UTC."""
    held: dict[str, Held] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    extended: int = 0
    released: int = 0
    failed: int = 0
    late: int = 0

    # What clients do.

    def submits(self, job_id: str) -> float:
        """An enqueue is sent; when, to be given back once it is acknowledged."""
        self.submitted.add(job_id)
        return time.monotonic()

    def acknowledges(self, job_id: str, began: float) -> None:
        """An enqueue was acknowledged."""
        now = time.monotonic()
        self.acknowledged[job_id] = now
        self.calls.append(Call(began, now))

    def hands_out(self, job: LeasedJob, asked_at: float, lease_seconds: float) -> None:
        """A worker read that it was handed a job; asked_at: when it asked, in UTC."""
        expires_at = job.lease.expires_at.timestamp()
        if job.id not in self.submitted:
            self.faults.append(f"{job.id} was handed out, and nobody enqueued it")
        elif job.payload != job.id:
            self.faults.append(f"{job.id} was handed out with the payload of {job.payload}")
        if (done := self.concluded.get(job.id)) is not None and done < asked_at:
            self.faults.append(f"{job.id} was handed out to a worker that asked {asked_at - done:.3f} s after it had succeeded")
        granted = min(expires_at - lease_seconds, time.time())
        if job.lease.token in self.held:
            # The same answer again, to a request whose first answer was lost.
            self.faults.append(f"{job.id} was handed out twice under one lease")
        self.held[job.lease.token] = Held(job.id, job.lease.token, granted, expires_at)

    def gives_up(self, token: str) -> None:
        """A worker sends what ends its lease."""
        held = self.held[token]
        held.ended = min(time.time(), held.surely_until)

    def asks_for(self, token: str, lease_seconds: float) -> None:
        """A worker sends an extend: which end holds is not known before it is answered."""
        held = self.held[token]
        held.until = min(held.until, time.time() + lease_seconds)

    def was_extended(self, token: str, expires_at: float) -> None:
        """And now it is."""
        self.held[token].until = expires_at
        self.extended += 1

    def succeeds(self, job_id: str) -> None:
        """A conclude was acknowledged."""
        self.concluded[job_id] = time.time()

    def refused(self, token: str, what: str, code: str) -> None:
        """A conclude or an extend was refused because the lease is not live. Repeated, both are answered as the first time."""
        held = self.held[token]
        if time.time() < held.until - CLOCK_SECONDS:
            left = f"{held.until - time.time():.3f} s before its lease ended"
            self.faults.append(f"{what} of {held.job_id}, handed out at {clock(held.granted)}, was refused ({code}) {left}")
        self.late += 1

    # The verdict.

    def double_leases(self) -> list[str]:
        """Where a job was handed out while an earlier lease of it was surely live."""
        leases: dict[str, list[Held]] = {}
        for held in list(self.held.values()):
            leases.setdefault(held.job_id, []).append(held)
        found = []
        for job_id, several in leases.items():
            several.sort(key=lambda held: held.granted)
            for first, second in pairwise(several):
                if second.granted < first.surely_until - CLOCK_SECONDS:
                    span = f"for {first.surely_until - second.granted:.3f} s from {clock(second.granted)} on"
                    found.append(f"{job_id}, handed out at {clock(first.granted)}, had two live leases {span}")
        return found

    def lost(self, found: Iterable[JobInfo]) -> tuple[list[str], list[str]]:
        """Acknowledged enqueues that are neither concluded nor live, and acknowledged concludes that did not stay. found: all jobs."""
        jobs = {job.id: job for job in found}
        undone = [
            job_id
            for job_id in self.concluded
            if job_id in jobs and (jobs[job_id].status, jobs[job_id].outcome) != (Status.CONCLUDED, Outcome.SUCCEEDED)
        ]
        return sorted((set(self.acknowledged) | set(self.concluded)) - set(jobs)), sorted(undone)

    # How it felt.

    def silence(self, since: float, until: float) -> float:
        """The longest time between two acknowledged enqueues from one moment to another."""
        times = sorted(call.ended for call in list(self.calls) if since <= call.ended <= until)
        return max(second - first for first, second in pairwise([since, *times, until]))

    def longest(self, since: float, until: float) -> float:
        """The longest time that one enqueue took which began between two moments, or was under way at the first."""
        began = since - UNDER_WAY_SECONDS
        return max(
            (call.ended - call.began for call in list(self.calls) if began <= call.began <= until and call.ended >= since), default=0.0
        )


def clock(utc: float) -> str:
    """As the servers' logs have it."""
    return datetime.fromtimestamp(utc).astimezone().strftime("%H:%M:%S.%f")[:-3]


def median_and_worst(seconds: list[float]) -> str:
    """As the table shows them."""
    return f"{statistics.median(seconds):.2f} | {max(seconds):.2f}"
