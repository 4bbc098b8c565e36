"""What keys cost: a hand-out by how many there are, beside that of a plain queue, and the memory of a queued job.

Hand-outs are the engine's alone, in this process: over HTTP the rest of a request would hide what is looked for. All engines stand at the
same time, hold as many jobs that may go, and take turns, so that a ratio is of one moment.
"""

from __future__ import annotations

import gc
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from bench.depth import FILL
from bench.load import Load, load_on
from bench.process import ours
from bench.requests import BATCH_ENQUEUE
from bench.wire import PAYLOAD, request
from jobqueue.engine.engine import Engine
from jobqueue.model import Job, JobSpec, Outcome, Verdict, Want
from jobqueue.policy import PerKey, QueuePolicy

PLAIN, ORDERED, HELD, FAIR = "plain", "in order", "in order, one more key holds up 100,000 jobs", "fair"
POLICIES = {
    PLAIN: QueuePolicy(),
    ORDERED: QueuePolicy(per_key=PerKey(order="fifo")),
    HELD: QueuePolicy(per_key=PerKey(order="fifo")),
    FAIR: QueuePolicy(fair=True),
}
SUCCEEDED = Verdict(outcome=Outcome.SUCCEEDED)
BYTES = json.dumps(PAYLOAD).encode()


class Plan(NamedTuple):
    """Sizes. jobs: that may go, shared evenly by the keys; turns: that are measured, of `calls` each; filled: jobs whose memory is
    measured.
    """

    keys: Sequence[int]
    jobs: int
    held: int
    turns: int
    calls: int
    filled: int


class Cost(NamedTuple):
    """Microseconds of CPU with so many keys: an enqueue; a dequeue with its conclude, and how many times what a plain queue's takes."""

    keys: int
    enqueue: float
    hand_out: float
    ratio: float


class Queue:
    """An engine with one queue, which holds as much after a turn as before it."""

    def __init__(self, policy: QueuePolicy, keys: int, jobs: int, held: int) -> None:
        self.keys = keys
        self.engine = engine = Engine()
        self._now = 0.0
        engine.put_policy("default", policy)
        if held:
            for _ in range(held + 1):
                engine.enqueue(0.0, JobSpec(payload=BYTES, key="held"))
            # The oldest of all, and never concluded: whoever looked at jobs one by one would meet those behind it first.
            engine.dequeue(0.0, Want(lease_seconds=86_400.0))
        for number in range(jobs):
            engine.enqueue(0.0, JobSpec(payload=BYTES, key=f"customer-{number % keys}" if keys else None))
        engine.events.clear()
        self.enqueues: list[float] = []
        self.hand_outs: list[float] = []

    def turn(self, calls: int, keep: bool) -> None:
        """Hand out and conclude so many jobs, one after the other, then enqueue as many, each under the key of one that has gone."""
        self._now += 1.0
        started = time.process_time_ns()
        gone = self._hand_out(calls)
        between = time.process_time_ns()
        self._enqueue([JobSpec(payload=BYTES, key=job.key) for job in gone])
        ended = time.process_time_ns()
        if keep:
            self.hand_outs.append((between - started) / calls / 1_000)
            self.enqueues.append((ended - between) / calls / 1_000)

    def _hand_out(self, calls: int) -> list[Job]:
        engine, now, want, gone = self.engine, self._now, Want(), []
        for _ in range(calls):
            (job,) = engine.dequeue(now, want)
            engine.events.clear()
            assert job.lease is not None
            gone.append(engine.conclude(now, job.id, job.lease.token, SUCCEEDED))
            engine.events.clear()
        return gone

    def _enqueue(self, specs: Sequence[JobSpec]) -> None:
        for spec in specs:
            self.engine.enqueue(self._now, spec)
            self.engine.events.clear()


def hand_outs(plan: Plan) -> dict[str, list[Cost]]:
    """What a hand-out costs in each kind of queue, by number of keys; in a plain one nobody looks at them."""
    plain = Queue(POLICIES[PLAIN], 0, plan.jobs, 0)
    queues = {
        kind: [Queue(policy, keys, plan.jobs, plan.held if kind is HELD else 0) for keys in plan.keys]
        for kind, policy in POLICIES.items()
        if kind is not PLAIN
    }
    everyone = [plain, *(queue for each in queues.values() for queue in each)]
    # As the server does once it has started: what is there is no garbage.
    gc.collect()
    gc.freeze()
    for number in range(plan.turns + 1):
        for queue in everyone if number % 2 else reversed(everyone):
            queue.turn(plan.calls, number > 0)
    gc.unfreeze()
    return {PLAIN: [_cost(plain, plain)], **{kind: [_cost(queue, plain) for queue in each] for kind, each in queues.items()}}


def _cost(queue: Queue, plain: Queue) -> Cost:
    ratio = statistics.median(mine / its for mine, its in zip(queue.hand_outs, plain.hand_outs, strict=True))
    return Cost(queue.keys, statistics.median(queue.enqueues), statistics.median(queue.hand_outs), ratio)


class Memory(NamedTuple):
    """Bytes of a server's memory for each queued job, beyond its payload."""

    what: str
    bytes: float


async def memory(plan: Plan) -> list[Memory]:
    """Servers filled one after the other, each with jobs of another kind."""
    ordered = {"per_key": {"order": "fifo"}}
    return [
        Memory("without a key", await _filled(plan.filled, 0, {})),
        Memory("with a key that its queue does not mind", await _filled(plan.filled, plan.filled // 100, {})),
        Memory("in order, 100 jobs a key", await _filled(plan.filled, plan.filled // 100, ordered)),
        Memory("in order, each with a key of its own", await _filled(plan.filled, plan.filled, ordered)),
    ]


async def _filled(jobs: int, keys: int, policy: Mapping[str, object]) -> float:
    with ours() as server:
        async with load_on(server) as load:
            await load.send([request("PUT", "/queues/filled", policy)], 200)
            # Once through it first, so that what is measured is jobs, not the first use of the code.
            await load.send([BATCH_ENQUEUE], 200)
            before = server.rss_bytes()
            await _fill(load, jobs, keys)
            return (server.rss_bytes() - before) / jobs - len(BYTES)


async def _fill(load: Load, jobs: int, keys: int) -> None:
    for start in range(0, jobs, FILL):
        numbers = range(start, min(start + FILL, jobs))
        items = [{"queue": "filled", "payload": PAYLOAD} | ({"key": f"customer-{each % keys}"} if keys else {}) for each in numbers]
        await load.send([request("POST", "/batch/enqueue", {"jobs": items})], 200)
