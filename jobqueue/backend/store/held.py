"""Held requests at a server that forwards to the owner: a dequeue, and a listener. They continue at the next owner when it changes."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Protocol, Self

from msgspec.structs import replace

from jobqueue.backend.base import Backend, Listen, Listening, Notice, Taking
from jobqueue.backend.store.moved import Moved
from jobqueue.clock import Clock
from jobqueue.errors import StorageUnavailable
from jobqueue.model import Job, Want

UNKNOWN_PLACE = "none"
"""The cursor of a listener that has not found an owner yet. No owner recognises it."""


class Front(Protocol):
    """What they need of a ClusterBackend; see there. wait_seconds: how long a request that does not ask to wait waits for an owner."""

    clock: Clock
    draining: bool
    wait_seconds: float

    @property
    def own(self) -> Backend:
        """The backend that this server serves to the others."""

    @property
    def epoch(self) -> int:
        """The epoch of the owner that was last seen."""

    def target(self) -> Backend | None:
        """The backend to use now; None if there is none."""

    def moved(self, target: Backend) -> None:
        """Called when the server that was asked is not the owner, or could not be reached."""

    def nobody(self) -> StorageUnavailable:
        """The error for requests that have waited long enough."""

    def check_open(self) -> None:
        """Raise Draining once this server drains."""

    def return_jobs(self, jobs: Sequence[Job]) -> None:
        """Give back jobs that could not be delivered, and were handed out in a reign that has ended."""

    async def found(self, until: float, held: bool = False) -> bool:
        """Wait until there is a backend to use."""


class ClusterTaking:
    """One dequeue at a front; see base.Taking. Each owner is asked to wait for the rest of the time. hasty: see HastyBackend."""

    def __init__(self, backend: Front, want: Want, wait: float, hasty: bool = False) -> None:
        self._backend = backend
        self._want = want
        self._wait = wait
        self._hasty = hasty
        self._taking: Taking | None = None
        self._jobs: list[Job] = []
        self._epoch = 0
        self.quiet = False

    def at_once(self) -> list[Job] | None:
        """See base.Taking.at_once."""
        return None

    def leave(self) -> None:
        """See base.Taking.leave."""

    async def __aenter__(self) -> list[Job]:
        backend = self._backend
        backend.check_open()
        began = backend.clock.now()
        until = began + max(self._wait, backend.wait_seconds)
        if self._hasty and backend.target() is None:
            raise backend.nobody()
        while await backend.found(until, held=True):
            target = backend.target()
            if target is None:
                continue
            if self._want.attempt_id is None and target is not backend.own:
                # So that a repeated request, after a link broke while the answer was on its way, gets the same jobs.
                self._want = replace(self._want, attempt_id=secrets.token_hex(16))
            taking = target.dequeue(self._want, max(0.0, began + self._wait - backend.clock.now()))
            try:
                jobs = await taking.__aenter__()
            except Moved:
                backend.moved(target)
                if backend.draining:
                    return []
                if self._hasty:
                    raise
                continue
            self._taking, self._jobs, self._epoch, self.quiet = taking, jobs, backend.epoch, taking.quiet
            return jobs
        if backend.draining:
            return []
        raise backend.nobody()

    async def __aexit__(self, *exc_info: object) -> None:
        if self._taking is not None:
            await self._taking.__aexit__(*exc_info)
        if self._jobs and self._epoch != self._backend.epoch:
            # The owner that handed them out may be gone, and its messages lost. A job that was put back has another lease by now, or none.
            self._backend.return_jobs(self._jobs)

    def delivered(self) -> None:
        """See base.Taking.delivered."""
        self._jobs = []
        if self._taking is not None:
            self._taking.delivered()


class ClusterListening:
    """One listener at a front; see base.Listening.

    The events that an owner remembers are its own. So after a change of owner there are no more events for this listener, unless the new
    owner knows its cursor. The listener then connects again with its cursor, and learns that it missed some events.
    """

    def __init__(self, backend: Front, wanted: Listen, after: str | None) -> None:
        self._backend = backend
        self._wanted = wanted
        self._cursor = after
        self._listening: Listening | None = None
        self._target: Backend | None = None
        self.missed = False

    @property
    def cursor(self) -> str:
        """See base.Listening."""
        return self._cursor or UNKNOWN_PLACE if self._listening is None else self._listening.cursor

    async def __aenter__(self) -> Self:
        await self._attach()
        if self._listening is None:
            # It is not known whether events that happen until an owner is found are missed.
            self.missed = self._cursor is not None
        else:
            self.missed = self._listening.missed
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._detach()

    async def _attach(self) -> bool:
        """Listen at the current owner, if one can be reached."""
        target = self._backend.target()
        if target is None:
            return False
        try:
            listening = target.listen(self._wanted, self._cursor)
            await listening.__aenter__()
        except Moved:
            self._backend.moved(target)
            return False
        self._target, self._listening = target, listening
        return True

    async def _detach(self, told: bool = True) -> None:
        """Stop listening there. told: whether events came from there, so that its cursor is the place to continue from."""
        listening, self._listening = self._listening, None
        if listening is not None:
            if told:
                self._cursor = listening.cursor
            await listening.__aexit__(None, None, None)

    async def notices(self, limit: int, wait: float) -> list[Notice] | None:
        """See base.Listening."""
        backend = self._backend
        until = backend.clock.now() + wait
        while True:
            if self._listening is None:
                knew = self._cursor is not None
                if not await self._attach():
                    if backend.draining:
                        return None
                    if not await backend.found(until, held=True) and not backend.draining:
                        return []
                    continue
                if knew and self._missed():
                    await self._detach(told=False)
                    return None
            listening, target = self._listening, self._target
            assert listening is not None
            assert target is not None
            try:
                return await listening.notices(limit, max(0.0, until - backend.clock.now()))
            except Moved:
                await self._detach()
                backend.moved(target)
                if backend.draining:
                    return None

    def _missed(self) -> bool:
        return self._listening is not None and self._listening.missed
