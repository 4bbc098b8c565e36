"""One leased job in a worker, from when it is taken until it is reported.

A Run ends once: with the outcome of its handler, or before that with the reason for which it was interrupted. Its slot becomes free when
the handler is really over, which can be later, since a thread cannot be stopped. Everything here happens on the worker's loop.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any, NamedTuple

from jobqueue.clock import Clock, Timer
from jobqueue.joblog import LogLine
from jobqueue.worker.endings import RELEASED, Ending, failed
from jobqueue.worker.handlers import Handler
from jobqueue.worker.lines import Lines
from jobqueue.worker.running import Leased, RunningJob
from jobqueue.worker.telling import concluded

CLEANUP_SECONDS = 2.0
"""Time for an interrupted handler to clean up, before its job is reported without waiting for it."""


class Reason(Enum):
    """Why a handler is interrupted."""

    CANCELLED = "cancelled on request"
    TIMED_OUT = "it timed out"
    STOPPED = "its worker is stopping"
    LOST = "its lease was lost"
    EXITED = "a task that it started exited"


CANCELLED_ENDING = failed("CancelledError", Reason.CANCELLED.value, retry=False)


class Owner(NamedTuple):
    """Callbacks into the worker about a Run.

    clock: the worker's. reported, said: the handler reported progress or wrote a log line, in any thread. progressed: there is a progress
    note to send. ended: the attempt is over; called once for each run that was started, with None if its lease is lost. freed: the handler
    is over; called once for each run that was started, before or after `ended`.
    """

    clock: Clock
    reported: Callable[[Run, float, str | None], None]
    said: Callable[[Run, LogLine], None]
    progressed: Callable[[Run], None]
    ended: Callable[[Run, Ending | None], None]
    freed: Callable[[Run], None]


class Run:
    """A lease and the work that is done under it.

    expires_at: when the lease ends, by the owner's clock; started_at: when the handler began, or before that when the job was taken; note:
    progress not yet sent; reasons: why it was interrupted; lines: for the job's log, None until there are some; halt: how to interrupt the
    handler, set by its executor.
    """

    __slots__ = (
        "_deadline",
        "_exit",
        "_owner",
        "expires_at",
        "halt",
        "handler",
        "is_over",
        "job",
        "leased",
        "lines",
        "note",
        "reasons",
        "started_at",
        "timeout",
    )

    def __init__(self, leased: Leased, taken_at: float, expires_at: float, owner: Owner) -> None:
        self.leased = leased
        self.expires_at = expires_at
        self.handler: Handler | None = None
        self.job: RunningJob[Any] | None = None
        self.halt: Callable[[Reason], None] | None = None
        self.note: tuple[float, str | None] | None = None
        self.lines: Lines | None = None
        self.started_at = taken_at
        self.timeout: float | None = None
        self.is_over = False
        self._owner = owner
        self.reasons: tuple[Reason, ...] = ()
        self._deadline: Timer | None = None
        self._exit: Ending | None = None

    def start(self, handler: Handler, worker: str, timeout: float | None) -> None:
        """The handler begins: make its job. worker: the worker's name."""
        self.handler = handler
        self.job = RunningJob(self.leased, worker, self.expires_at, handler.read, self._report, self._say)
        self.started_at = self._owner.clock.now()
        if timeout is not None:
            self.timeout = timeout
            self._deadline = self._owner.clock.call_at(self.started_at + timeout, lambda: self.interrupt(Reason.TIMED_OUT))

    def _report(self, fraction: float, message: str | None) -> None:
        self._owner.reported(self, fraction, message)

    def _say(self, line: LogLine) -> None:
        self._owner.said(self, line)

    def extended(self, expires_at: float) -> None:
        """Record that the lease was extended."""
        self.expires_at = expires_at
        if self.job is not None:
            self.job.lease_ends = expires_at

    def report(self, fraction: float, message: str | None) -> None:
        """Record the handler's newest progress; a message stays until the next one."""
        if not self.is_over:
            older = self.note[1] if self.note is not None else None
            self.note = (fraction, older if message is None else message)
            self._owner.progressed(self)

    def interrupt(self, reason: Reason) -> None:
        """Make the handler stop, once for each reason: if it ignored a cancel, a time-out still interrupts it."""
        if self.is_over or reason in self.reasons:
            return
        self.reasons += (reason,)
        assert self.job is not None
        self.job.cancel()
        if reason is Reason.LOST:
            self.end(None)
        elif reason is not Reason.CANCELLED:
            self._disarm()
            self._deadline = self._owner.clock.call_at(self._owner.clock.now() + CLEANUP_SECONDS, self.give_up)
        if self.halt is not None:
            self.halt(reason)

    def exited(self, error: BaseException) -> None:
        """A task that the handler started raised SystemExit or KeyboardInterrupt. This ends the attempt, whatever the handler does."""
        self._exit = self._exit or concluded(error)
        self.interrupt(Reason.EXITED)

    def give_up(self) -> None:
        """Report the job as interrupted, whether or not the handler is over."""
        self.end(self.interrupted())

    def interrupted(self) -> Ending | None:
        """What to report for a job whose handler was stopped; None if it was not stopped, or if the lease is lost."""
        reasons = self.reasons
        if Reason.TIMED_OUT in reasons:
            return failed("TimeoutError", f"the job ran longer than {self.timeout:g} s")
        if Reason.STOPPED in reasons:
            return RELEASED
        if Reason.CANCELLED in reasons:
            return CANCELLED_ENDING
        return self._exit

    def returned(self, ending: Ending, heeded: bool) -> None:
        """The handler is over by itself. heeded: it knew that it should stop, so its result may be incomplete."""
        if self.reasons and (heeded or Reason.TIMED_OUT in self.reasons or self._exit is not None):
            stopped = self.interrupted()
            ending = ending if stopped is None else stopped
        self.end(ending)

    def end(self, ending: Ending | None) -> None:
        """The attempt is over. Only the first call counts."""
        if not self.is_over:
            self.is_over = True
            if self._deadline is not None:
                self._disarm()
            if self.job is not None:
                self.job.over()
            self._owner.ended(self, ending)

    def over(self) -> None:
        """The handler is over: its slot is free."""
        self.halt = None  # it refers to this run in turn
        self._owner.freed(self)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
