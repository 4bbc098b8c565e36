"""The way from one server to another, which can be cut: what a RemoteBackend promises, without a wire."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Self, TypeVar

from jobqueue.backend.base import Backend, BackendStats, ClusterStats, Listen, Listening, Notice, Taking
from jobqueue.backend.requests.request import Request
from jobqueue.backend.store.moved import Moved
from jobqueue.backend.store.passing import Ask, Passing, R
from jobqueue.errors import Unconfirmed
from jobqueue.model import Job, Want

T = TypeVar("T")


class Gate(Passing):
    """Asks another server's backend while the way there is open. find: that backend, None while nobody is there."""

    at_once = False

    def __init__(
        self, find: Callable[[], Backend | None], awake: Callable[[], Awaitable[object]], arrived: Callable[[], Awaitable[object]]
    ) -> None:
        self._find = find
        self._awake = awake
        self.arrived = arrived
        """Returns when the other side reads what it was sent."""
        self.open = True
        self._draining = False
        self._broken: asyncio.Event = asyncio.Event()
        self._dismissed: asyncio.Event = asyncio.Event()
        self.asked = 0

    def cut(self) -> None:
        """Break every question that is under way, and refuse those to come."""
        self.open = False
        self._broken.set()
        self._broken = asyncio.Event()

    def there(self) -> Backend:
        target = self._find()
        if not self.open or target is None:
            raise Moved("it cannot be reached")
        self.asked += 1
        return target

    async def through(self, work: Awaitable[T], broken: Exception, *, held: bool = False) -> T | None:
        """An answer, the error of a link that breaks before it came, or None for what is held when this side drains."""
        ends = [asyncio.ensure_future(self._broken.wait())]
        if held:
            ends.append(asyncio.ensure_future(self._dismissed.wait()))
        task = asyncio.ensure_future(work)
        try:
            await asyncio.wait([task, *ends], return_when=asyncio.FIRST_COMPLETED)
            await self._awake()
        except BaseException:
            task.cancel()
            raise
        finally:
            for end in ends:
                end.cancel()
        if ends[0].done() and not ends[0].cancelled():
            # The other side goes on with it, and nobody hears what comes of it; of what is held it hears that nobody waits any more.
            if held:
                task.cancel()
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
            raise broken
        if not task.done():
            task.cancel()
            return None
        return task.result()

    async def _pass(self, ask: Ask[R]) -> R:
        return await self.through(self._asked(ask), Moved("the link broke"))  # type: ignore[return-value]

    async def _hold(self, request: Request[R], wait: float) -> R:
        asked = request.waiting(0.0) if self._draining else request
        answer = await self.through(self._asked(lambda to: to.ask(asked)), Moved("the link broke"), held=True)
        return await self.there().ask(request.waiting(0.0)) if answer is None else answer

    async def _asked(self, ask: Ask[R]) -> R:
        target = self.there()
        await self.arrived()
        return await ask(target)

    async def _change(self, ask: Ask[R]) -> R:
        self.there()
        return await self.through(self._asked(ask), Unconfirmed("the link broke; the change may have been made"))  # type: ignore[return-value]

    async def conclude(self, *given: Any) -> Job:
        return await self._change(lambda to: to.conclude(*given))

    async def extend(self, *given: Any) -> Job:
        return await self._change(lambda to: to.extend(*given))

    async def release(self, *given: Any) -> Job:
        return await self._change(lambda to: to.release(*given))

    async def give_back(self, *given: Any) -> bool:
        return await self._change(lambda to: to.give_back(*given))

    async def job(self, job_id: str, wait: float = 0.0) -> Job:
        wait = 0.0 if self._draining else wait
        found = await self.through(self._asked(lambda to: to.job(job_id, wait)), Moved("the link broke"), held=True)
        return await self.there().job(job_id) if found is None else found

    def dequeue(self, want: Want, wait: float) -> Taking:
        return GateTaking(self, want, wait)

    def listen(self, wanted: Listen, after: str | None = None) -> Listening:
        return GateListening(self, wanted, after)

    async def check(self) -> None:
        await self._pass(lambda to: to.check())

    async def stats(self) -> BackendStats:
        return await self._pass(lambda to: to.stats())

    def cluster(self) -> ClusterStats | None:
        return None

    def drain(self) -> None:
        self._draining = True
        self._dismissed.set()

    async def close(self) -> None:
        self.cut()


class GateTaking:
    def __init__(self, gate: Gate, want: Want, wait: float) -> None:
        self._gate, self._want, self._wait = gate, want, wait
        self._taking: Taking | None = None
        self._broken: asyncio.Event | None = None
        self._settled = False
        self.quiet = False

    async def __aenter__(self) -> list[Job]:
        gate = self._gate
        taking = gate.there().dequeue(self._want, self._wait)
        self._broken = gate._broken
        # Cancelled with it, the other side puts back what it took: a broken link is a no.
        jobs = await gate.through(_entered(gate, taking), Moved("the link broke"), held=True)
        if jobs is None:
            return []
        self._taking, self.quiet = taking, taking.quiet
        self._watching = asyncio.ensure_future(self._watch(taking, self._broken))
        return jobs

    async def _watch(self, taking: Taking, broken: asyncio.Event) -> None:
        await broken.wait()
        if not self._settled:
            self._settled = True
            await taking.__aexit__(None, None, None)

    async def __aexit__(self, *exc_info: object) -> None:
        if self._taking is not None:
            self._watching.cancel()
            if not self._settled:
                self._settled = True
                await self._taking.__aexit__(*exc_info)

    def delivered(self) -> None:
        if self._taking is not None and not self._settled:
            self._taking.delivered()


async def _entered(gate: Gate, taking: Taking) -> list[Job]:
    await gate.arrived()
    jobs = await taking.__aenter__()
    try:
        await asyncio.sleep(0)
    except asyncio.CancelledError:
        await taking.__aexit__(None, None, None)
        raise
    return jobs


class GateListening:
    def __init__(self, gate: Gate, wanted: Listen, after: str | None) -> None:
        self._gate, self._wanted, self._after = gate, wanted, after
        self.missed = False

    @property
    def cursor(self) -> str:
        return self._listening.cursor

    async def __aenter__(self) -> Self:
        self._listening = self._gate.there().listen(self._wanted, self._after)
        await self._listening.__aenter__()
        self.missed = self._listening.missed
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._listening.__aexit__(*exc_info)

    async def notices(self, limit: int, wait: float) -> list[Notice] | None:
        self._gate.there()
        return await self._gate.through(self._listening.notices(limit, wait), Moved("the link broke"), held=True)
