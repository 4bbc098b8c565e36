"""One leased job in a worker's hands, from being taken to being handed in.

A Run ends once: with what its handler did, or before that with what interrupted it. Its slot is free when the handler is really over,
which may be later: a thread cannot be stopped. Whatever happens here happens on the worker's loop.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any, Protocol

from jobqueue.clock import Clock, Timer
from jobqueue.worker.endings import RELEASED, Ending, failed
from jobqueue.worker.handlers import Handler
from jobqueue.worker.running import Leased, RunningJob

CLEANUP_SECONDS = 2.0
"""How long a handler that was interrupted has to clean up, before its job is handed in without it."""


class Reason(Enum):
    """Why a handler is interrupted before it is done."""

    CANCELLED = "cancelled on request"
    TIMED_OUT = "its time was up"
    STOPPED = "its worker stops"
    LOST = "its lease is lost"
    EXITED = "a task that it started exited"


CANCELLED_ENDING = failed("CancelledError", Reason.CANCELLED.value, retry=False)


class Owner(Protocol):
    """Who is told what becomes of a Run: its worker."""

    clock: Clock

    def ended(self, run: Run, ending: Ending | None) -> None:
        """The attempt is over, once for each run that was started; None if its lease is lost."""

    def freed(self, run: Run) -> None:
        """The handler is over, once for each run that was started; before or after `ended`."""

    def progressed(self, run: Run) -> None:
        """There is a progress note to send."""


class Run:
    """A lease and what is done under it.

    expires_at: when the lease ends, by the owner's clock; started_at: when the handler began, before that when the job was taken;
    note: progress not yet sent; halt: how to interrupt the handler, set by its executor.
    """

    __slots__ = (
        "_deadline",
        "_exit",
        "_owner",
        "_reasons",
        "expires_at",
        "halt",
        "handler",
        "is_over",
        "job",
        "leased",
        "note",
        "started_at",
        "timeout",
    )

    def __init__(self, leased: Leased, expires_at: float, owner: Owner) -> None:
        self.leased = leased
        self.expires_at = expires_at
        self.handler: Handler | None = None
        self.job: RunningJob[Any] | None = None
        self.halt: Callable[[Reason], None] | None = None
        self.note: tuple[float, str | None] | None = None
        self.started_at = owner.clock.now()
        self.timeout: float | None = None
        self.is_over = False
        self._owner = owner
        self._reasons: list[Reason] = []
        self._deadline: Timer | None = None
        self._exit: Ending | None = None

    def start(self, handler: Handler, job: RunningJob[Any], timeout: float | None) -> None:
        """The handler begins."""
        self.handler = handler
        self.job = job
        self.timeout = timeout
        self.started_at = self._owner.clock.now()
        if timeout is not None:
            self._deadline = self._owner.clock.call_at(self.started_at + timeout, lambda: self.interrupt(Reason.TIMED_OUT))

    def extended(self, expires_at: float) -> None:
        """The lease was extended."""
        self.expires_at = expires_at
        if self.job is not None:
            self.job.lease_ends = expires_at

    def report(self, fraction: float, message: str | None) -> None:
        """The handler's newest progress note; a message stays until there is another."""
        if not self.is_over:
            older = self.note[1] if self.note is not None else None
            self.note = (fraction, older if message is None else message)
            self._owner.progressed(self)

    def interrupt(self, reason: Reason) -> None:
        """Make the handler stop, once for each reason: one that did not heed a cancel is still to heed its time-out."""
        if self.is_over or reason in self._reasons:
            return
        self._reasons.append(reason)
        assert self.job is not None
        self.job.cancel()
        if reason is Reason.LOST:
            self.end(None)
        elif reason is not Reason.CANCELLED:
            self._disarm()
            self._deadline = self._owner.clock.call_at(self._owner.clock.now() + CLEANUP_SECONDS, self.give_up)
        if self.halt is not None:
            self.halt(reason)

    def exited(self, ending: Ending) -> None:
        """A task that the handler started raised SystemExit or KeyboardInterrupt: so the attempt ends, whatever the handler does."""
        self._exit = self._exit or ending
        self.interrupt(Reason.EXITED)

    def give_up(self) -> None:
        """Hand the job in as interrupted, whether or not the handler is over."""
        self.end(self.interrupted())

    def interrupted(self) -> Ending | None:
        """What to tell the server of a job whose handler was stopped; None for one that was not, or whose lease is lost."""
        reasons = self._reasons
        if Reason.TIMED_OUT in reasons:
            return failed("TimeoutError", f"the job ran longer than {self.timeout:g} s")
        if Reason.STOPPED in reasons:
            return RELEASED
        if Reason.CANCELLED in reasons:
            return CANCELLED_ENDING
        return self._exit

    def returned(self, ending: Ending, heeded: bool) -> None:
        """The handler is over by itself. heeded: it knew that it was to stop, so that what it did is not what it was meant to."""
        stopped = self.interrupted() if heeded or Reason.TIMED_OUT in self._reasons or self._exit is not None else None
        self.end(ending if stopped is None else stopped)

    def end(self, ending: Ending | None) -> None:
        """The attempt is over; the first to say so is right."""
        if not self.is_over:
            self.is_over = True
            self._disarm()
            self._owner.ended(self, ending)

    def over(self) -> None:
        """The handler is over: its slot is free."""
        self._owner.freed(self)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
