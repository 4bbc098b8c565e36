"""All peers in turns: round by round, the order turned about with every round, so that what a machine does meanwhile hits all alike."""

from __future__ import annotations

import concurrent.futures
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from bench.peers import grid, sessions
from bench.peers.roster import OURS, PYTHON, Peer
from bench.peers.sessions import SIZE, Crowd, Plan, Session
from bench.process import BenchError, Unavailable

ABREAST = 2
"""Fillings at once: how long one takes does not matter."""
TRIES = 2
"""Of what could not be measured: a server or a worker may have been starved for longer than it may be silent."""
MEMORY, DURABLE = "in memory", "durable"
COMPARED = ("beanstalkd", "nats", "huey")
"""Those that a claim names: measured as often as ours."""
Measured = TypeVar("Measured")


@dataclass
class Findings:
    """What was found, by the peers' keys. crews: jobs a second by how many producers and workers there were; sizes: by the payload's bytes.
    failures: by key and by what could not be measured, the reason."""

    plan: Plan
    memory: dict[str, list[Session]] = field(default_factory=dict)
    durable: dict[str, list[Session]] = field(default_factory=dict)
    crowds: dict[str, list[Crowd]] = field(default_factory=dict)
    queued: dict[str, list[float]] = field(default_factory=dict)
    crews: dict[str, dict[int, float]] = field(default_factory=dict)
    sizes: dict[str, dict[int, float]] = field(default_factory=dict)
    failures: dict[tuple[str, str], str] = field(default_factory=dict)
    rounds: int = 0
    seconds: float = 0.0

    def attempt(self, peer: Peer, what: str, measure: Callable[[], Measured]) -> Measured | None:
        """What `measure` finds, at the second try if the first fails; nothing if it cannot be, and then it is not attempted again."""
        if (peer.key, what) in self.failures:
            return None
        error: Exception
        for _ in range(TRIES):
            try:
                return measure()
            except (BenchError, OSError, ValueError, subprocess.SubprocessError) as failed:
                error = failed
                print(f"  {peer.name}, {what}: {error}", file=sys.stderr, flush=True)
                if isinstance(error, Unavailable):
                    break
        self.failures[peer.key, what] = str(error)
        return None


def _round(found: Findings, peer: Peer, shares: tuple[float, ...]) -> None:
    plan = found.plan
    if {"pickup", "ends", "open"} & set(plan.parts):
        for what, kept, durable in ((MEMORY, found.memory, False), (DURABLE, found.durable, True)):
            loads = plan.shares if durable else shares
            session = found.attempt(peer, what, partial(sessions.session, peer, plan, durable=durable, shares=loads))
            if session is not None:
                kept.setdefault(peer.key, []).append(session)
    if peer.crowd and "crowd" in plan.parts:
        crowd = found.attempt(peer, "crowd", lambda: sessions.crowd(peer, plan.crowd, plan.crowd_pickups))
        if crowd is not None:
            found.crowds.setdefault(peer.key, []).append(crowd)


def fastest(found: Findings, peers: Sequence[Peer]) -> list[Peer]:
    """As many peers as the plan calls leaders: ours, and those of the greatest rates by single calls in memory. Without rates, all."""
    rates = {key: max(s.single.rate for s in kept if s.single) for key, kept in found.memory.items() if any(s.single for s in kept)}
    if not rates:
        return list(peers)
    # Ours once: its other rows would take the place of somebody else.
    others = [peer for peer in peers if peer.key in rates and (peer.kind != OURS or peer.key == "jobqueue")]
    ranked = sorted(others, key=lambda peer: (peer.key != "jobqueue", -rates[peer.key]))
    return ranked[: found.plan.leaders]


def leaders(found: Findings, peers: Sequence[Peer]) -> list[Peer]:
    """Those that later rounds measure again: the fastest, those that a claim names, and Python's best of each kind of work."""
    keys = {peer.key for peer in fastest(found, peers)} | set(COMPARED) | {peer.key for peer in peers if peer.kind == OURS}
    python = {peer.key for peer in peers if peer.kind == PYTHON}
    for kept in (found.memory, found.durable):
        for cost in (lambda s: -s.single.rate if s.single else 0.0, lambda s: sorted(s.pickups)[len(s.pickups) // 2]):
            known = {key: min(map(cost, kept[key])) for key in python if kept.get(key)}
            keys |= {min(known, key=lambda key: known[key])} if known else set()
    return [peer for peer in peers if peer.key in keys]


def _grid(found: Findings, peers: Sequence[Peer]) -> None:
    plan = found.plan
    for peer in fastest(found, peers) if {"crews", "payloads"} & set(plan.parts) else ():
        began = time.perf_counter()
        for people in plan.crews if "crews" in plan.parts else ():
            rates = found.attempt(peer, f"{people} producers", partial(grid.rates, peer, people, (SIZE,), plan.grid_seconds))
            if rates is not None:
                found.crews.setdefault(peer.key, {})[people] = rates[0]
        if "payloads" in plan.parts:
            rates = found.attempt(peer, "payloads", partial(grid.rates, peer, 1, plan.sizes, plan.grid_seconds))
            if rates is not None:
                found.sizes[peer.key] = dict(zip(plan.sizes, rates, strict=True))
        print(f"crews and payloads: {peer.name} {time.perf_counter() - began:.1f} s", file=sys.stderr, flush=True)


def _fill(found: Findings, peers: Sequence[Peer]) -> None:
    def fill(peer: Peer) -> None:
        jobs = min(peer.queued, found.plan.queued)
        each = found.attempt(peer, "queued", lambda: sessions.queued_bytes(peer, jobs, durable=False))
        if each is not None:
            found.queued.setdefault(peer.key, []).append(each)

    with concurrent.futures.ThreadPoolExecutor(ABREAST) as pool:
        list(pool.map(fill, [peer for peer in peers if peer.queued]))


def measure(peers: Sequence[Peer], plan: Plan) -> Findings:
    """Everything. What cannot be measured is in `failures`; nothing is raised for it."""
    found = Findings(plan)
    started = time.perf_counter()
    again, shares = list(peers), plan.shares
    rounds_seconds = 0.0
    for number in range(plan.rounds):
        if number and time.perf_counter() - started + rounds_seconds > plan.budget_seconds:
            print(f"no round {number + 1}: it would take too long", file=sys.stderr, flush=True)
            break
        round_began = time.perf_counter()
        for peer in again if number % 2 == 0 else reversed(again):
            began = time.perf_counter()
            _round(found, peer, shares)
            print(f"round {number + 1}: {peer.name} {time.perf_counter() - began:.1f} s", file=sys.stderr, flush=True)
        found.rounds += 1
        # The second round is the first of few peers, and the measure of the third.
        rounds_seconds = time.perf_counter() - round_began if number else 0.0
        again, shares = leaders(found, peers), plan.leader_shares
    if "queued" in plan.parts:
        _fill(found, peers)
    _grid(found, peers)
    found.seconds = time.perf_counter() - started
    print(f"{found.seconds:.0f} s in all", file=sys.stderr, flush=True)
    return found
