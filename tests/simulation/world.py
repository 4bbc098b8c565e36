"""A world made from a seed: how many clients of which kind, what goes wrong, and when. It runs, drains, and is audited."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from random import Random
from typing import Any

import msgspec

from jobqueue.backend.loading import CannotOpen
from jobqueue.clock import SKEW_STEP_SECONDS
from jobqueue.limits import Limits

from .caller import Caller
from .clients import KINDS, Client, seconds_of
from .couriers import COURIERS
from .durable import DurableChecker
from .history import Ask, History
from .lane import LANE, Lane
from .ledger import Ledger
from .loop import Standstill, VirtualLoop, passing, virtual_time
from .net import Link
from .planner import Planner
from .sdks import SDKS
from .server import Life

DRAIN_SECONDS = 600.0
"""Virtual seconds within which steady workers must have emptied every queue."""


@dataclass(frozen=True)
class Plan:
    """What a seed decides once. Each world has its own mixture: some have one fault only, some have all."""

    durable: bool
    seconds: float
    clients: dict[str, int]
    queues: list[str]
    pace: float
    toil: float
    leases: tuple[float, ...]
    waits: tuple[float, ...]
    delays: tuple[float, ...]
    commits: tuple[float, ...]
    room: tuple[int, ...]
    bad_manners: float
    troubles: tuple[str, ...]
    trouble_pace: float
    steps: tuple[float, ...]
    connections: int
    limits: Limits
    flow: bool
    """Whether queues have limits, and jobs have keys."""
    graph: bool
    """Whether jobs are tied to others."""
    fifo: bool
    """Whether there is a FIFO queue beside the others."""
    window: float
    sqs: bool
    """Whether its clients speak Amazon SQS's protocol."""

    """For how long that keeps a deduplication id."""

    @property
    def drained(self) -> list[str]:
        """The queues that are to be empty in the end."""
        return [*self.queues, LANE] if self.fifo else self.queues


def plan_of(seed: int) -> Plan:
    """The plan of a seed."""
    plan = _plain_plan_of(seed)
    return _with_a_lane(seed, plan) if seed % 10 == 2 else plan


def _with_a_lane(seed: int, plan: Plan) -> Plan:
    """The same with a FIFO queue, which most of its clients use; all in a file, since a server that forgets the queue keeps no order."""
    random = Random(f"lane {seed}")
    clients = {"producer": 1, "worker": 2, "watcher": 1, "sender": random.choice((2, 3)), "receiver": random.choice((2, 4, 6)), "keeper": 1}
    clients |= {"warden": int(plan.flow), "planner": int(plan.graph)}
    limits = msgspec.structs.replace(plan.limits, queues_max=100, jobs_max=100_000)
    sqs = seed % 20 == 12
    return replace(
        plan,
        durable=True,
        fifo=True,
        sqs=sqs,
        window=300.0 if sqs else random.choice((300.0, 300.0, 5.0)),
        clients=clients,
        pace=random.choice((0.1, 0.25)),
        connections=1_000,
        limits=limits,
    )


def _plain_plan_of(seed: int) -> Plan:
    random = Random(f"plan {seed}")
    durable = random.random() < 0.5
    troubles = ["restart", "kill", "stall", "clock"] + (["full", "broken"] if durable else [])
    # Apart from the others, whose draws it must not move.
    busy = ("busy",) * (seed % 4 == 2)
    flow = seed % 7 == 6
    graph = seed % 5 == 3
    kinds = {
        "producer": (1, 4),
        "worker": (2, 8),
        "watcher": (0, 2),
        "operator": (0, 2),
        "classic": (0, 2),
        "simple": (0, 2),
        "pool": (0, 1),
    }
    return Plan(
        durable=durable,
        seconds=random.choice((20.0, 40.0)),
        clients={kind: random.randint(*bounds) for kind, bounds in kinds.items()} | {"warden": int(flow), "planner": 2 * graph},
        queues=["default", "a", "b"][: random.choice((1, 2, 3))],
        pace=random.choice((0.1, 0.5, 1.0)),
        toil=random.choice((0.01, 0.5, 2.0)),
        leases=(1, 2, 3, 6, 12),
        waits=random.choice(((0, 0.5, 2, 20), (0.25, 0.5, 1), (20,), (0, 5, 50))),
        delays=random.choice(((0.0,), (0.0, 0.001), (0.0, 0.001, 0.002, 0.25), (0.05,))),
        commits=random.choice(((0.001,), (0.0, 0.002), (0.001, 0.25, 1.0))),
        room=random.choice(((65_536,), (100, 65_536), (1_000,))),
        bad_manners=random.choice((0.0, 0.1, 0.3)),
        troubles=tuple(trouble for trouble in troubles if random.random() < 0.4) + busy,
        trouble_pace=random.choice((3.0, 10.0)),
        steps=random.choice(((-0.1, 0.3), (-86_400.0, -5.0, 3.0, 86_400.0), (-5.0, -5.0, 5.0, 60.0))),
        connections=random.choice((4, 1_000, 1_000, 1_000)),
        limits=Limits(
            jobs_max=random.choice((20, 100_000, 100_000)),
            history_jobs_max=random.choice((5, 10_000, 10_000)),
            waiters_max=random.choice((3, 20_000, 20_000)),
            queues_max=random.choice((2, 100)),
        ),
        flow=flow,
        graph=graph,
        fifo=False,
        window=300.0,
        sqs=False,
    )


class World:
    """Everything there is. history: what happened, faults among it."""

    def __init__(self, seed: int, path: str | None = None, plan: Plan | None = None) -> None:
        self.seed = seed
        self.plan = plan or plan_of(seed)
        self.random = Random(f"world {seed}")
        self.loop = VirtualLoop()
        self.loop.quiet = self._quiet
        self.history = History(self.loop)
        self.checker = DurableChecker(self.loop, self.history)
        self.ledger = Ledger(self.history)
        self.lane = Lane(self.history, self.ledger, self.plan.window)
        self.path = path if self.plan.durable else None
        if self.path is not None:
            self.checker.open_disk()
        self.asks: dict[int, Ask] = {}
        self.closing = False
        self.disk = "well"
        self.life = 0
        self.server: Life | None = None
        self._serials = 0
        self._sockets = 0
        self._walls: list[tuple[float, float]] = [(0.0, 0.0)]

    # What clients use.

    def ask(self, op: str, method: str, path: str, body: bytes, **known: Any) -> Ask:
        """A request that is about to be sent."""
        ask = Ask(len(self.asks) + 1, op, method, path, body, **known)
        self.asks[ask.number] = ask
        return ask

    def serial(self) -> int:
        """A number that was not there before."""
        self._serials += 1
        return self._serials

    def connect(self, random: Random) -> Link | None:
        """A connection to the server; None when none listens."""
        if self.server is None or self.server.stopping:
            return None
        self._sockets += 1
        link = Link(self.loop, random, self._sockets, self.plan.delays, self.random.choice(self.plan.room), self.life)
        self.server.accept(link)
        return link

    def acknowledged(self, job_id: str, payload: bytes, life: int) -> None:
        """A client has read that its job was taken; in which life it was."""
        if self.remembers(life):
            self.ledger.enqueued(job_id, payload)

    def remembers(self, life: int) -> bool:
        """Whether what was answered in that life is still to be kept."""
        return self.path is not None or (self.server is not None and life == self.life)

    def succeeded(self, job_id: str) -> None:
        """A worker has read that its job is done."""
        self.ledger.succeeds(job_id, self.loop.time())

    def refused(self, job_id: str, token: str, sent_at: float, status: int) -> None:
        """A worker has read that its lease is not live."""

    def engine_time(self, stamp: str, since: float) -> float:
        """When a stamp of the server's is, at the earliest, if the wall clock may have been set since."""
        at = seconds_of(stamp)
        # Steps below half a second are jitter to the server, and stay in its stamps.
        jitter = SKEW_STEP_SECONDS if len(self._walls) > 1 else 0.0
        return min(at - offset for when, offset in self._offsets_since(since - 0.1)) - jitter

    def _offsets_since(self, when: float) -> list[tuple[float, float]]:
        before = [wall for wall in self._walls if wall[0] <= when]
        return before[-1:] + [wall for wall in self._walls if wall[0] > when]

    # Life and death.

    def _start(self) -> None:
        self.life += 1
        self.history.note("server", self.life, "starts")
        try:
            self.server = Life(self, self.life)
        except CannotOpen as error:
            raise Standstill(f"the server does not start: {error}") from error

    def clocks_agree(self) -> bool:
        """Whether the file knows of every step of the wall clock. Of small ones, which are jitter to the server, it never does."""
        return len(self._walls) == 1 or (
            self._walls[-1][0] < self.checker.last_commit - 0.1
            and all(abs(new - old) > SKEW_STEP_SECONDS for (_, old), (_, new) in pairwise(self._walls))
        )

    def _gone(self) -> None:
        self.server = None
        if self.path is None:
            self.ledger.forget(self.loop.time())

    async def _stop(self, seconds: float) -> None:
        self.history.note("server stops")
        assert self.server is not None
        await self.server.stop(seconds)
        self._gone()

    async def _trouble(self) -> None:
        """What goes wrong by itself."""
        random, plan = self.random, self.plan
        while not self.closing and plan.troubles:
            await passing(random.choice((0.25, 0.5, 1.0, 1.5)) * plan.trouble_pace)
            trouble = random.choice(plan.troubles)
            self.history.note("trouble:", trouble)
            if trouble == "stall":
                began = self.loop.time()
                self.loop.stall(random.choice((0.01, 0.1, 1.0, 4.0, 15.0)))
                self.checker.stalled(began)
            elif trouble == "busy":
                self.loop.turn_seconds = random.choice((0.01, 0.05, 0.4))
                await passing(random.choice((1.0, 5.0)))
                self.loop.turn_seconds = 0.0
            elif trouble == "clock":
                self.loop.wall_offset += random.choice(plan.steps)
                self._walls.append((self.loop.time(), self.loop.wall_offset))
                self.lane.wall_set = True
            elif trouble == "full":
                self.disk = "full"
                await passing(random.choice((0.1, 1.0, 5.0)))
                self.disk = "well"
            else:
                await self._restart(trouble)

    async def _restart(self, trouble: str) -> None:
        random = self.random
        assert self.server is not None
        if trouble == "broken":
            assert self.server.journal is not None
            self.disk = "broken"
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(5):
                    await self.server.journal.failed()
            await self._stop(random.choice((0.0, 1.0)))
            self.disk = "well"
        elif trouble == "restart":
            await self._stop(random.choice((0.0, 1.0, 10.0)))
        else:
            self.server.die()
            self._gone()
        await passing(random.choice((0.0, 0.1, 2.0, 10.0)))
        if not self.clocks_agree():
            # Times in the file may be off by as much as the clock was set, and no worker can know.
            self.ledger.doubt(self.loop.time())
            self.lane.doubt(self.loop.time())
        self._start()

    def _quiet(self) -> None:
        if self.server is not None:
            self.checker.quiet()

    # The whole.

    async def _run(self) -> None:
        self._start()
        tasks = []
        for kind, count in self.plan.clients.items():
            for number in range(count):
                client: Client = (KINDS | (SDKS if self.plan.sqs else COURIERS) | {"planner": Planner})[kind](self, f"{kind}{number + 1}")
                tasks.append(self.loop.create_task(client.run()))
        troubles = self.loop.create_task(self._trouble())
        await passing(self.plan.seconds)
        self.closing = True
        await troubles
        for task in tasks:
            await task
        if self.path is not None:
            # Whatever the trouble was, what is stored is now looked at.
            await self._restart("kill")
        self.history.note("draining")
        await Steady(self, "steady").run()
        await self._stop(10.0)
        await passing(1)
        left = [task for task in asyncio.all_tasks(self.loop) if task is not asyncio.current_task(self.loop)]
        if left:
            self.history.fault(f"{len(left)} tasks are left")
        self.ledger.audit()
        self.lane.audit(self.checker)

    def run(self) -> History:
        """Live it through."""
        logging.disable(logging.CRITICAL)
        try:
            with virtual_time(self.loop):
                try:
                    self.loop.run_until_complete(self._run())
                except Standstill as error:
                    self.history.fault(str(error))
                for uncaught in self.loop.errors:
                    self.history.fault(f"an exception that nobody caught: {uncaught}")
        finally:
            logging.disable(logging.NOTSET)
            self.loop.close()
        return self.history


class Steady(Caller):
    """Empties every queue when the trouble is over, and looks at what became of each job that was acknowledged."""

    async def run(self) -> None:
        """Resume, work everything off, audit."""
        until = self.now + DRAIN_SECONDS
        for queue in self.world.plan.drained:
            if self.world.plan.flow and queue != LANE:
                # What no rate nor a failed job holds back any more.
                while (await self.steady("policy", "PUT", f"/queues/{queue}", {}, paused=False)).status not in (200, 201, 429):
                    await passing(1)
            while (reply := await self.steady("resume", "POST", f"/queues/{queue}/resume", paused=False)).status not in (200, 404):
                if self.now > until:
                    self.world.history.fault(f"cannot be resumed: {reply.status} {reply.body!r}")
                    return
                await passing(1)
        while any(seen.status != "concluded" for seen in self.world.checker.jobs.values()):
            await self._work()
            live = [seen for seen in self.world.checker.jobs.values() if seen.status != "concluded"]
            if live and all(seen.held for seen in live):
                # What waits for a job that failed.
                await self.steady("cancel", "POST", f"/jobs/{live[0].id}/cancel", ids=(live[0].id,))
            if self.now > until:
                left = [f"{seen.id} ({seen.status})" for seen in self.world.checker.jobs.values() if seen.status != "concluded"]
                self.world.history.fault(f"cannot be worked off: {', '.join(left[:10])}")
                break
        for job_id in self.world.ledger.acknowledged:
            reply = await self.steady("look", "GET", f"/jobs/{job_id}")
            if reply.status == 404 and job_id in self.world.checker.forgotten:
                continue
            if reply.status != 200 or reply.json["status"] != "concluded":
                self.world.history.fault(f"{job_id} was acknowledged, and in the end: {reply.status} {reply.body!r}")
        self.drop()

    async def steady(self, *args: Any, **known: Any) -> Any:
        """A request whose answer is worth waiting for."""
        while (reply := await self.ask(*args, steady=True, **known)) is None:
            await passing(1)
        return reply

    async def _work(self) -> None:
        queues = self.world.plan.drained
        worker = f"steady.{self.world.serial()}"
        body = {"queue": queues, "wait": 1, "worker": worker, "lease_seconds": 60, "limit": 50}
        known = {"queues": tuple(queues), "wait": 1.0, "worker": worker, "lease_seconds": 60.0}
        reply = await self.steady("batch dequeue", "POST", "/batch/dequeue", body, **known)
        if reply.status != 200 or not reply.json["jobs"]:
            await passing(0.25)
            return
        tokens = {job["id"]: job["lease"]["token"] for job in reply.json["jobs"]}
        items = [{"id": job_id, "lease": token, "outcome": "succeeded"} for job_id, token in tokens.items()]
        await self.steady("batch conclude", "POST", "/batch/conclude", {"jobs": items}, tokens=tokens)


@contextlib.contextmanager
def disk() -> Iterator[str]:
    """A place for a database that is gone afterwards."""
    quick = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="jobqueue-simulation-", dir=quick) as folder:
        yield os.path.join(folder, "jobs.db")


def simulate(seed: int) -> World:
    """Live a seed's world through; see its history."""
    # A collection at a random moment would close forgotten coroutines at one.
    collecting = gc.isenabled()
    gc.disable()
    try:
        with disk() as path:
            world = World(seed, path)
            world.run()
            return world
    finally:
        if collecting:
            gc.enable()
