"""Worlds made from a seed: servers on one store, clients at all of them, and what goes wrong between any two of them.

What is checked is what clients know: a job that was acknowledged is there in the end and gets done, no two workers hold one at once,
nobody loses a lease that lives, what was not delivered comes back, and what was seen to be done is never seen undone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable
from random import Random
from typing import TypeVar

from jobqueue.backend.base import Extend, Taking
from jobqueue.errors import LeaseLost, NotInProgress, QueueError, Unconfirmed, UnknownJob
from jobqueue.model import CONCLUDED, Job
from tests.conformance.rig import SUCCEEDED, spec, token, want

from .members import Cluster, Server

T = TypeVar("T")

NAMES = ("a", "b", "c")
LEASE = 30.0
"""Of jobs. A worker relies on it for less: a new owner's clock may be ahead."""
RELIED_ON = 22.0
STEP = 1 / 16
CALM = 40.0
"""Seconds after the trouble within which all is to be done: the leases of workers that vanished end in it."""


class World:
    """One seed's. faults: what should never have happened."""

    def __init__(self, seed: int) -> None:
        self.random = Random(f"cluster {seed}")
        self.faults: list[str] = []
        self.log: list[str] = []
        self.forced = self.random.random() < 0.3
        """Whether owners that live are claimed from: then what a deposed one shows may be old for as long as its lease."""
        spread = self.random.choice((0.0, 0.3, 2.0))
        self.cluster = Cluster(*NAMES, off={name: self.random.uniform(-spread, spread) for name in NAMES})
        self.troubles = [
            one for one in ("stop", "peers", "store", "deaf", "busy", "late", "die", "leave", "suspend") if self.random.random() < 0.5
        ] + ["force"] * self.forced
        self.acknowledged: set[str] = set()
        self.done: set[str] = set()
        self.held: dict[str, float] = {}
        """Jobs that a worker holds, and until when it relies on that."""
        self.given_back: dict[str, float] = {}
        """Jobs under long leases that were not delivered, and since when."""
        self.died_at = 0.0
        self.over = False
        self.dead: list[Server] = []
        self.ended = False

    @property
    def now(self) -> float:
        return self.cluster.clock.now()

    def fault(self, what: str) -> None:
        self.faults.append(f"at {self.now - 1.8e9:.2f}: {what}")

    def note(self, what: str) -> None:
        self.log.append(f"{self.now - 1.8e9:.2f} {what}")

    # Clients. A client has no connection to a server that stands still, or is gone: what it asked there is lost.

    def server(self) -> Server | None:
        up = [one for one in self.cluster.servers.values() if one.alive and not one.stopped and not one.backend.draining]
        return self.random.choice(up) if up else None

    async def at(self, server: Server, work: Awaitable[T]) -> T:
        """Ask a server. Raises Unconfirmed when it dies before its answer is out, which it is not while it stands still."""

        async def answered() -> T:
            answer = await work
            await server.awake()
            return answer

        asking, dying = asyncio.ensure_future(answered()), asyncio.ensure_future(server.died.wait())
        await asyncio.wait([asking, dying], return_when=asyncio.FIRST_COMPLETED)
        if dying.done():
            asking.add_done_callback(lambda done: done.cancelled() or done.exception())
            raise Unconfirmed("the server died")
        dying.cancel()
        return asking.result()

    async def passing(self, seconds: float) -> None:
        done = asyncio.get_running_loop().create_future()
        self.cluster.clock.call_at(self.now + seconds, lambda: done.done() or done.set_result(None))
        await done

    async def produce(self, name: str) -> None:
        number = 0
        while not self.ended:
            number += 1
            job_id = f"{name}.{number}"
            while not self.ended:
                server = self.server()
                if server is not None:
                    try:
                        await self.at(server, server.backend.enqueue(spec(job_id)))
                        self.acknowledged.add(job_id)
                        break
                    except QueueError:
                        pass
                await self.passing(self.random.choice((0.1, 1.0)))
            await self.passing(self.random.choice((0.05, 0.3, 1.0)))

    async def work(self, vanishing: float) -> None:
        while not self.over:
            server = self.server()
            if server is None:
                await self.passing(0.25)
                continue
            taking = server.backend.dequeue(want(lease_seconds=LEASE), self.random.choice((0, 1, 5)))
            try:
                jobs = await self.at(server, taking.__aenter__())
            except QueueError:
                await self.passing(0.25)
                continue
            if jobs and not self.ended and self.random.random() < vanishing:
                await self._vanish(server, taking, jobs[0])
                continue
            taking.delivered()
            with contextlib.suppress(QueueError):
                await self.at(server, taking.__aexit__(None, None, None))
            for job in jobs:
                await self._do(job.id, token(job))
            if not jobs:
                await self.passing(0.1)

    async def _vanish(self, server: Server, taking: Taking, job: Job) -> None:
        """Be gone before the answer is out. The lease is long by then, so that only a put-back brings the job back in time."""
        self.given_back[job.id] = self.now
        with contextlib.suppress(QueueError):
            await self.at(server, server.backend.extend(Extend(job.id, token(job), 10 * CALM)))
        for _ in range(self.random.choice((0, 0, 16))):
            if server.backend.draining:
                break
            await self.passing(0.25)
        with contextlib.suppress(QueueError):
            await self.at(server, taking.__aexit__(None, None, None))

    async def _do(self, job_id: str, lease: str) -> None:
        until = self.now + RELIED_ON
        if self.held.get(job_id, 0.0) > self.now:
            self.fault(f"{job_id} is held by two workers")
        if job_id in self.done:
            self.fault(f"{job_id} was handed out after it was done")
        self.held[job_id] = until
        await self.passing(self.random.choice((0.0, 0.2, 3.0)))
        unsure = False
        while True:
            server = self.server()
            if server is not None:
                try:
                    await self.at(server, server.backend.conclude(job_id, lease, SUCCEEDED))
                    self.done.add(job_id)
                    break
                except (LeaseLost, NotInProgress, UnknownJob) as error:
                    if self.now < until and not unsure:
                        self.fault(f"{job_id}: a lease that lives was lost: {error}")
                    break
                except Unconfirmed:
                    unsure = True
                except QueueError:
                    pass
            await self.passing(0.3)
        self.held.pop(job_id, None)

    async def read(self) -> None:
        while not self.ended:
            server = self.server()
            if server is not None and self.done:
                job_id = self.random.choice(sorted(self.done))
                with contextlib.suppress(QueueError):
                    job = await self.at(server, server.backend.job(job_id))
                    if job.status is not CONCLUDED and not self.forced:
                        self.fault(f"{job_id} was done, and is shown as {job.status} by {server.name}")
            await self.passing(0.2)

    # Trouble.

    async def trouble(self) -> None:
        random, cluster = self.random, self.cluster
        while not self.ended:
            await self.passing(random.choice((0.5, 2.0, 5.0)))
            if not self.troubles or self.ended:
                continue
            what = random.choice(self.troubles)
            owner = next((server for server in cluster.servers.values() if server.reign is not None), None)
            server = owner if owner is not None and random.random() < 0.6 else cluster[random.choice(NAMES)]
            if not server.alive or server.stopped or server.backend.draining:
                continue
            seconds = random.choice((0.3, 2.0, 4.5, 7.0, 12.0))
            self.note(f"{what} {server.name} {seconds}")
            await self._befall(what, server, seconds)

    async def _befall(self, what: str, server: Server, seconds: float) -> None:
        random, cluster, store = self.random, self.cluster, server.store
        if what in {"stop", "suspend"}:
            server.stop()
            await self.passing(seconds)
            self.wake(server, what)
        elif what == "peers":
            other = random.choice([name for name in NAMES if name != server.name])
            cluster.cut(server.name, other)
            await self.passing(seconds)
            cluster.join(server.name, other)
        elif what == "store":
            store.cut = True
            await self.passing(seconds)
            store.cut = False
        elif what == "deaf":
            store.deaf = True
            await self.passing(min(seconds, 2.0))
            store.deaf = False
        elif what == "busy":
            store.busy = True
            await self.passing(min(seconds, 2.0))
            store.busy = False
        elif what == "late":
            store.late = random.choice((0.1, 0.8))
            await self.passing(seconds)
            store.late = 0.0
        elif what == "force":
            successor = random.choice([one for one in cluster.servers.values() if one is not server and one.alive])
            successor.lied_to = True
            successor.ownership.doubt()
            await self.passing(1.0)
            successor.lied_to = False
        elif what == "leave":
            server.backend.drain()
            await self.passing(1.0)
            # Its clients' connections and the links to it are closed first, as a server does.
            server.break_links()
            await self.passing(0.5)
            await server.backend.close()
            self.restart(server)
        else:
            server.die()
            self.died_at = self.now
            await self.passing(seconds)
            self.restart(server)

    def wake(self, server: Server, what: str) -> None:
        """Let a server go on; after a suspension with a monotonic clock that has stood still."""
        if what == "suspend":
            server.clock.suspend(self.now - server.stopped_at)
            server.stopped_at = self.now
        server.go_on()

    def restart(self, server: Server) -> None:
        server.alive = False
        server.died.set()
        self.dead.append(server)
        again = Server(self.cluster, server.name, server.off)
        self.cluster.servers[server.name] = again
        again.ownership.start()

    # The whole.

    async def advance(self, seconds: float) -> None:
        for _ in range(round(seconds / STEP)):
            self.cluster.move(STEP)
            for _ in range(14):
                self.cluster.move(0)
                await asyncio.sleep(0)

    async def run(self, seconds: float = 40.0) -> None:
        """Live it through."""
        logging.disable(logging.CRITICAL)
        try:
            await self._run(seconds)
        finally:
            logging.disable(logging.NOTSET)

    async def _run(self, seconds: float) -> None:
        await self.cluster.start()
        clients = [self.cluster.do(self.produce(name)) for name in ("p", "q")]
        clients += [self.cluster.do(self.work(vanishing)) for vanishing in (0.0, 0.0, 0.3)]
        clients.append(self.cluster.do(self.read()))
        troubles = [self.cluster.do(self.trouble()) for _ in range(self.random.choice((1, 2)))]
        await self.advance(seconds)
        self.ended = True
        # The last trouble passes by itself.
        await self.advance(18)
        for task in troubles:
            if not task.done() or task.exception():
                self.fault(f"the trouble goes on: {task!r}")
        await self.advance(CALM)
        # What a server that died was to put back comes when its lease ends.
        late = {job_id for job_id, at in self.given_back.items() if self.died_at > at}
        if self.acknowledged - self.done - late:
            self.fault(f"not done: {sorted(self.acknowledged - self.done - late)[:5]}")
        self.over = True
        await self.advance(15)
        for task in clients:
            if not task.done() or task.exception():
                self.fault(f"a client goes on or saw an error: {task!r}")
        for job_id in sorted(self.acknowledged):
            await self._look_for(job_id)
        if len(self.cluster.owners) != 1:
            self.fault(f"owners in the end: {self.cluster.owners}")
        await self.cluster.close()
        for task in asyncio.all_tasks():
            if task is not asyncio.current_task():
                # Of servers that died.
                task.cancel()
        for server in self.dead:
            server.go_on()
        await asyncio.sleep(0)

    async def _look_for(self, job_id: str) -> None:
        task = self.cluster.do(self.cluster[self.cluster.owners[0] if self.cluster.owners else "a"].backend.job(job_id))
        await self.advance(0.25)
        if not task.done():
            self.fault(f"{job_id}: no answer")
        elif isinstance(task.exception(), UnknownJob):
            self.fault(f"{job_id} was acknowledged and is lost")


async def find(seeds: range) -> tuple[int, World] | None:
    """The first seed that finds a fault, and its world."""
    for seed in seeds:
        world = World(seed)
        await world.run()
        if world.faults:
            return seed, world
    return None
