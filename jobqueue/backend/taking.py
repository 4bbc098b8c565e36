"""How jobs are taken from the local backend: at once, or after waiting in line; then delivered, or put back (promise 3)."""

from __future__ import annotations

import asyncio

import msgspec

from jobqueue.backend.shell import Shell, attempt_of
from jobqueue.backend.waiters import Waiter, check_room
from jobqueue.engine import checks
from jobqueue.errors import Draining, StorageUnavailable, Unconfirmed
from jobqueue.model import Job, Want


class Taker(Shell):
    """The part of the local backend that takes jobs. `dequeue` makes the context manager; the methods below it are its steps."""

    def check_open(self, adding: bool = False) -> None:
        """See Owner, in requests/request.py; likewise for `one`, `commit` and `told`."""
        if self.draining:
            raise Draining("the server is shutting down")
        if self.journal is not None:
            self.journal.check(adding)

    def check_storage(self) -> None:
        """See Owner."""
        if self.journal is not None:
            self.journal.check(False)

    def dequeue(self, want: Want, wait: float) -> LocalTaking:
        """See Backend."""
        return LocalTaking(self, want, wait)

    def replay(self, want: Want) -> list[Job]:
        """The jobs of a repeated attempt_id whose leases are live, if any. An older waiter of the same attempt is answered [].

        Raises Draining, BadRequest.
        """
        self.check_open()
        checks.want(want, self.limits, self.engine.queues)
        attempt = attempt_of(want)
        if attempt is None:
            return []
        older = self._attempts.get(attempt)
        if older is not None:
            self._settle(older, [])
        replayed = self.engine.replay(want)
        if replayed:
            self._act(self.clock.now())
        return self.handed(replayed)

    def take(self, want: Want) -> list[Job]:
        """What is available at once. A queue with available jobs has no waiters, unless jobs are owed to waiters, which go first."""
        now = self.clock.now()
        if self._owed:
            want = msgspec.structs.replace(want, queues=tuple(name for name in want.queues if name not in self._owed))
        jobs = self.engine.dequeue(now, want)
        if jobs:
            jobs = self.handed(jobs)
        self._act(now)
        return jobs

    def passed_over(self, want: Want) -> bool:
        """Whether a `take` that found nothing only skipped expired jobs, and would find others after them."""
        return any(self.engine.available(name) and name not in self._owed for name in want.queues)

    def stand(self, want: Want, wait: float) -> Waiter[list[Job]]:
        """Take a place at the end of the line. Raises TooManyWaiters."""
        check_room(self.waiters, self.limits.waiters_max)
        now = self.clock.now()
        waiter: Waiter[list[Job]] = Waiter(want.queues, want)
        attempt = attempt_of(want)
        if attempt is not None:
            self._attempts[attempt] = waiter
        self._dequeues.add(waiter, now + wait)
        self.arm(now)
        return waiter

    def leave(self, waiter: Waiter[list[Job]]) -> None:
        """Give up a place in line. Does nothing if the waiter has none."""
        self._forget_attempt(waiter)
        self._dequeues.remove(waiter)

    def put_back(self, jobs: list[Job]) -> None:
        """Undo the taking of jobs whose answer was not delivered. Nobody gets an answer about this, so nobody waits for the commit."""
        now = self.clock.now()
        for job in jobs:
            assert job.lease is not None
            self.undelivered_total += self.engine.put_back(now, job.id, job.lease.token)
        self._act(now)


class LocalTaking:
    """One dequeue, from taking a place in line to the last byte of the answer (promise 3). See base.Taking."""

    __slots__ = ("_backend", "_held", "_looked", "_stood", "_wait", "_want", "quiet")

    def __init__(self, backend: Taker, want: Want, wait: float) -> None:
        self._backend = backend
        self._want = want
        self._wait = wait
        self._looked = self._stood = False
        self.quiet = False
        self._held: list[Job] = []
        """Jobs that this request took and has not delivered. A replay takes none: their leases may have been delivered before."""

    def at_once(self) -> list[Job] | None:
        """See base.Taking.at_once."""
        backend, want = self._backend, self._want
        if backend.journal is not None or want.attempt_id is not None or want.about is not None:
            return None
        backend.check_open()
        checks.want(want, backend.limits, backend.engine.queues)
        jobs = self._held = backend.take(want)
        self._looked = True
        return None if not jobs and (self._wait > 0 or backend.passed_over(want)) else jobs

    def leave(self) -> None:
        """See base.Taking.leave."""
        if self._held:
            self._undo()

    async def __aenter__(self) -> list[Job]:
        backend, want = self._backend, self._want
        replayed = [] if self._looked else backend.replay(want)
        if want.about is not None:
            self._comes()
        if replayed:
            jobs = replayed
        elif self.quiet:
            return []
        else:
            # If `at_once` was called, nothing has run since.
            jobs = self._held = [] if self._looked else backend.take(want)
            while not jobs and backend.passed_over(want):
                await asyncio.sleep(0)
                jobs = self._held = backend.take(want)
            if not jobs and self._wait > 0:
                jobs = self._held = await self._stand(backend.stand(want, self._wait))
                if want.about is not None:
                    self._comes(ended=True)
        if jobs and backend.journal is not None:
            try:
                await backend.journal.committed(backend.ticket)
            except Unconfirmed as error:
                self._undo()
                # No longer true: what was taken is undone, and if the lease is on the disk after all, it belongs to nobody.
                raise StorageUnavailable(f"the lease cannot be stored, so nothing is handed out: {error.detail}") from None
            except BaseException:
                self._undo()
                raise
        return jobs

    @property
    def held(self) -> list[Job]:
        """The jobs that leaving would put back."""
        return self._held

    def _comes(self, ended: bool = False) -> None:
        """Record what this request reports about its worker, and whether that worker is quiet."""
        backend, want = self._backend, self._want
        backend.workers.seen(want, backend.clock.now(), 0.0 if ended else self._wait)
        self.quiet = not self._held and want.worker in backend.engine.quiet

    async def _stand(self, waiter: Waiter[list[Job]]) -> list[Job]:
        try:
            jobs = await waiter.wait()
        except BaseException:
            # Cancelled: either out of line, or already assigned jobs in this same turn of the loop, which then go to the next in line.
            self._backend.leave(waiter)
            if waiter.answer:
                self._held = waiter.answer
                self._undo()
            raise
        self._stood = True
        return jobs

    async def __aexit__(self, *exc_info: object) -> None:
        self.leave()

    def delivered(self) -> None:
        """See base.Taking.delivered."""
        if self._stood and self._held:
            self._backend.picked_up(self._held)
        self._held = []

    def _undo(self) -> None:
        held, self._held = self._held, []
        self._backend.put_back(held)
