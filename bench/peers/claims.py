"""How ours stands: each comparison that is wanted, met or behind, and why it is behind where it is."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from typing import NamedTuple

from bench.peers.figures import best, p50_us, rate, single
from bench.peers.roster import OURS, PEERS
from bench.peers.run import DURABLE, MEMORY, Findings
from bench.peers.sessions import Session

NATS_FACTOR = 2.0
"""Single calls in memory, against NATS JetStream's."""
HUEY_FACTOR = 5.0
"""Single calls on disk, against huey's."""
BEANSTALKD_FACTOR = 2.0
"""A pickup in memory takes at most so many times as long as beanstalkd's."""
CALL_US, QUEUED_BYTES, IDLE_KIB = 80.0, 400.0, 8.0
"""Of the synchronous client's CPU; of a queued job; of a worker that waits."""

REASONS = {
    "single calls": "Each job needs an HTTP request for its enqueue, or a share of one, and shares of a dequeue and a conclude: heads, "
    "JSON and checks in the server, and a client and a Worker in Python on the two sides, all on the same two cores. NATS is a program in "
    "Go that answers a line of text. docs/performance.md shows where the server's CPU goes.",
    "single calls, durable": "Each call waits for a commit of its own, or shares one with the few calls that are made at the same time: "
    "16 calls of the producer, and those of the Worker. Batches avoid this, and so do more producers.",
    "batches": "What remains for each job of a batch is its checks, its place in the queue and its answer in the server, and the call "
    "of its handler in the Worker, all in Python.",
    "pickup": "A pickup is two HTTP answers and two clients in Python, all of them cold after the pause before it. For beanstalkd it is "
    "two lines of text from a program in C, and a blocking client. docs/performance.md shows the parts of a pickup.",
    "pickup, durable": "The job and its hand-out are one commit, and the answer waits for it. Redis and beanstalkd append a line to a "
    "file; here a commit writes pages of a database that any tool can read, check and back up.",
    "call": "A call is a request and its answer: both heads, JSON and a lock, in Python, in addition to the system calls.",
    "queued": "Each job here can be found by id, read, cancelled and listed, and the first thousands of a queue are Python objects. "
    "Servers that need less memory keep one encoded string.",
    "idle": "A held request is a connection with its parser, and a waiter; in Redis it is one C structure.",
}


class Claim(NamedTuple):
    """One comparison. key: of its reason, where ours is behind."""

    key: str
    text: str
    met: bool


def _most(measured: dict[str, list[Session]], of: Callable[[str], float]) -> tuple[str, float] | None:
    """The fastest of the others, by name."""
    others = {peer.name: of(peer.key) for peer in PEERS if peer.kind != OURS and peer.key in measured}
    return max(others.items(), key=lambda item: item[1]) if others else None


def _rate_claims(what: str, measured: dict[str, list[Session]]) -> Iterator[Claim]:
    def one_call(key: str) -> float:
        given = rate(measured[key], single)
        return given.median if given else 0.0

    for name, kind, of in (
        ("single calls", "single calls", one_call),
        ("the better of single calls and batches", "batches", lambda k: best(measured[k])),
    ):
        mine, most = of("jobqueue"), _most(measured, of)
        if not mine or most is None or not most[1]:
            continue
        key = f"{kind}, {DURABLE}" if what == DURABLE and kind == "single calls" else kind
        whole = f"End to end, {what}, {name}"
        yield Claim(
            key, f"{whole}: {mine:,.0f} jobs/s, {mine / most[1]:.2f} × {most[0]}'s {most[1]:,.0f}; wanted: ahead of all", mine > most[1]
        )
        wanted = {MEMORY: ("nats", "NATS JetStream", NATS_FACTOR), DURABLE: ("huey", "huey", HUEY_FACTOR)}[what]
        if kind == "single calls" and wanted[0] in measured:
            theirs = of(wanted[0])
            text = f"{whole}: {mine / theirs:.2f} × {wanted[1]}'s {theirs:,.0f} jobs/s; wanted: {wanted[2]:g} ×"
            yield Claim(key, text, mine >= wanted[2] * theirs)


def _pickup_claims(what: str, measured: dict[str, list[Session]]) -> Iterator[Claim]:
    def p50(key: str) -> float:
        return p50_us([session.pickups for session in measured[key]]).median

    mine = p50("jobqueue")
    if what == MEMORY and "beanstalkd" in measured:
        theirs = p50("beanstalkd")
        text = (
            f"Pickup p50, {what}: {mine:,.0f} µs, {mine / theirs:.1f} × beanstalkd's {theirs:,.0f}; wanted: at most {BEANSTALKD_FACTOR:g} ×"
        )
        yield Claim("pickup", text, mine <= BEANSTALKD_FACTOR * theirs)
    if what == DURABLE and "huey" in measured:
        theirs = p50("huey")
        yield Claim(
            f"pickup, {DURABLE}", f"Pickup p50, {what}: {mine:,.0f} µs, huey's {theirs:,.0f}; wanted: less than huey's", mine < theirs
        )


def claims(found: Findings) -> Iterator[Claim]:
    """How ours stands, as far as both sides were measured."""
    for what, measured in ((MEMORY, found.memory), (DURABLE, found.durable)):
        if "jobqueue" in measured:
            yield from _rate_claims(what, measured)
            yield from _pickup_claims(what, measured)
    calls = [session.single.producer_us for session in found.memory.get("sync", []) if session.single is not None]
    if calls:
        mine = statistics.median(calls)
        text = f"The synchronous `Client`: {mine:,.0f} µs of its CPU for a call; wanted: at most {CALL_US:g}"
        yield Claim("call", text, mine <= CALL_US)
    queued = {key: statistics.median(each) for key, each in found.queued.items()}
    idle = {key: statistics.median(crowd.bytes_each / 1_024 for crowd in crowds) for key, crowds in found.crowds.items()}
    for key, what, values, unit, most in (
        ("queued", "a queued job of 200 bytes", queued, "bytes", QUEUED_BYTES),
        ("idle", "an idle worker", idle, "KiB", IDLE_KIB),
    ):
        if "jobqueue" in values:
            beside = [
                f"{peer.name} {values[peer.key]:,.0f}"
                for peer in PEERS
                if peer.key in ("huey", "beanstalkd", "nats") and peer.key in values
            ]
            others = f" ({', '.join(beside)})" if beside else ""
            text = f"Memory of {what}: {values['jobqueue']:,.1f} {unit}{others}; wanted: at most {most:g}"
            yield Claim(key, text, values["jobqueue"] <= most)


def standing(found: Findings) -> str:
    """A line for each, and beneath one that is behind, why."""
    lines = []
    for claim in claims(found):
        lines.append(f"- {'met' if claim.met else '**BEHIND**'}: {claim.text}" + ("" if claim.met else f". Why: {REASONS[claim.key]}"))
    return "\n".join(lines) if lines else "Nothing that is compared was measured."
