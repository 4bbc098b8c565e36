"""All peers in turns: round by round, the order turned about with every round, so that what a machine does meanwhile hits all alike."""

from __future__ import annotations

import concurrent.futures
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from bench.peers import sessions
from bench.peers.roster import Peer
from bench.peers.sessions import Crowd, Plan, Session
from bench.process import BenchError

ABREAST = 2
"""Fillings at once: how long one takes does not matter."""
MEMORY, DURABLE = "in memory", "durable"
Measured = TypeVar("Measured")


@dataclass
class Findings:
    """What was found, by the peers' keys. failures: by key and by what could not be measured, the reason."""

    plan: Plan
    memory: dict[str, list[Session]] = field(default_factory=dict)
    durable: dict[str, list[Session]] = field(default_factory=dict)
    crowds: dict[str, list[Crowd]] = field(default_factory=dict)
    queued: dict[str, list[float]] = field(default_factory=dict)
    failures: dict[tuple[str, str], str] = field(default_factory=dict)
    rounds: int = 0
    seconds: float = 0.0

    def attempt(self, peer: Peer, what: str, measure: Callable[[], Measured]) -> Measured | None:
        """What `measure` finds; nothing if it cannot be, and then it is not attempted again."""
        if (peer.key, what) in self.failures:
            return None
        try:
            return measure()
        except (BenchError, OSError, ValueError, subprocess.SubprocessError) as error:
            self.failures[peer.key, what] = str(error)
            print(f"  {peer.name}, {what}: {error}", file=sys.stderr, flush=True)
            return None


def _round(found: Findings, peer: Peer) -> None:
    plan = found.plan
    for what, kept, durable in ((MEMORY, found.memory, False), (DURABLE, found.durable, True)):
        session = found.attempt(peer, what, lambda durable=durable: sessions.session(peer, plan, durable=durable))  # type: ignore[misc]
        if session is not None:
            kept.setdefault(peer.key, []).append(session)
    if peer.crowd:
        crowd = found.attempt(peer, "crowd", lambda: sessions.crowd(peer, plan.crowd, plan.crowd_pickups))
        if crowd is not None:
            found.crowds.setdefault(peer.key, []).append(crowd)


def measure(peers: Sequence[Peer], plan: Plan) -> Findings:
    """Everything. What cannot be measured is in `failures`; nothing is raised for it."""
    found = Findings(plan)
    started = time.perf_counter()
    for number in range(plan.rounds):
        so_far = time.perf_counter() - started
        if number and so_far / number * (number + 1) > plan.budget_seconds:
            print(f"no round {number + 1}: it would take too long", file=sys.stderr, flush=True)
            break
        for peer in peers if number % 2 == 0 else reversed(peers):
            began = time.perf_counter()
            _round(found, peer)
            print(f"round {number + 1}: {peer.name} {time.perf_counter() - began:.1f} s", file=sys.stderr, flush=True)
        found.rounds += 1

    def fill(peer: Peer) -> None:
        jobs = min(peer.queued, plan.queued)
        each = found.attempt(peer, "queued", lambda: sessions.queued_bytes(peer, jobs, durable=False))
        if each is not None:
            found.queued.setdefault(peer.key, []).append(each)

    for _ in range(found.rounds):
        with concurrent.futures.ThreadPoolExecutor(ABREAST) as pool:
            list(pool.map(fill, peers))
    found.seconds = time.perf_counter() - started
    print(f"{found.seconds:.0f} s in all", file=sys.stderr, flush=True)
    return found
