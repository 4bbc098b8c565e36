"""A job as a worker sees it: `Leased` is what a source returns, `RunningJob` is what a handler receives.

A RunningJob can be used from any thread. It never contacts the server itself: progress is stored here and sent with the heartbeats, and the
server's answers arrive through the worker.
"""

from __future__ import annotations

import builtins
import threading
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import msgspec
from msgspec import Raw

from jobqueue.client.header_types import HeaderValue
from jobqueue.client.types import MadeBy, ParentInfo
from jobqueue.joblog import Level, LogLine
from jobqueue.limits import CONTROL_BUT_LINES, Limits
from jobqueue.model import Parent
from jobqueue.worker.lines import line_of
from jobqueue.worker.options import number, within

if TYPE_CHECKING:
    # Type checkers know this module even if it is not installed. Because of the default, `RunningJob` alone means RunningJob[Any].
    from typing_extensions import TypeVar as DefaultTypeVar

    P = DefaultTypeVar("P", default=Any)
else:
    P = TypeVar("P")
T = TypeVar("T")

MESSAGE_CHARS_MAX = Limits().text_chars_max
_decode = msgspec.json.Decoder().decode
_making = threading.Lock()
"""Held while a job gets its event, so that two threads of one handler do not wait for different events."""


class Leased(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A job that this worker leased. payload and error are JSON text; created_at is UTC; attempts includes this one; limited: other jobs
    may have to wait because of this lease.
    """

    id: str
    token: str
    queue: str
    payload: bytes
    attempts: int
    created_at: datetime
    type: str | None = None
    description: str | None = None
    priority: int = 5
    error: bytes | None = None
    traceparent: str | None = None
    key: str | None = None
    tags: tuple[str, ...] = ()
    limited: bool = False
    group: str | None = None
    parents: tuple[Parent, ...] = ()
    schedule: str | None = None
    headers: dict[str, HeaderValue] = {}
    max_attempts: int | None = None


Report = Callable[[float, str | None], None]
"""Accepts a progress note; called in the thread in which the handler runs."""


Say = Callable[[LogLine], None]
"""Accepts a line for the job's log, in the same way."""


def _renamed(old: str, new: str) -> None:
    warnings.warn(f"RunningJob.{old} is called {new}, as everywhere else", DeprecationWarning, stacklevel=3)


class RunningJob(Generic[P]):
    """The job that a handler works on. `RunningJob[Mail]` as a handler's annotation makes `payload` a Mail."""

    __slots__ = ("_leased", "_payload", "_read", "_report", "_say", "_stop", "_stopped", "lease_ends", "noticed", "worker")

    def __init__(
        self,
        leased: Leased,
        worker: str,
        lease_ends: float,
        read: Callable[[bytes], Any] = _decode,
        report: Report | None = None,
        say: Say | None = None,
    ) -> None:
        self.worker = worker
        self.lease_ends = lease_ends
        self.noticed = False
        """Whether the handler has checked and seen that it should stop."""
        self._leased = leased
        self._read = read
        self._report = report
        self._say = say
        self._payload: Any = msgspec.UNSET
        self._stop = False
        self._stopped: threading.Event | None = None
        """For a thread that sleeps until the handler should stop. Created on first use, since that takes longer than everything else
        here.
        """

    def __repr__(self) -> str:
        return f"<RunningJob {self.id} type={self.type!r} queue={self.queue!r} attempts={self.attempts}>"

    @property
    def id(self) -> str:
        """The job's id."""
        return self._leased.id

    @property
    def type(self) -> str | None:
        """The job's type, which selected its handler; None if the producer set none."""
        return self._leased.type

    @property
    def queue(self) -> str:
        """The queue that the job was taken from."""
        return self._leased.queue

    @property
    def description(self) -> str | None:
        """The producer's description, for people."""
        return self._leased.description

    @property
    def priority(self) -> int:
        """The priority, from 0 (most urgent) to 9."""
        return self._leased.priority

    @property
    def traceparent(self) -> str | None:
        """The trace context that the producer set (W3C Trace Context), None if it set none."""
        return self._leased.traceparent

    @property
    def key(self) -> str | None:
        """The job's key, None if the producer set none."""
        return self._leased.key

    @property
    def tags(self) -> tuple[str, ...]:
        """The job's tags."""
        return self._leased.tags

    @property
    def headers(self) -> dict[str, HeaderValue]:
        """The producer's headers by name: a str, or a Header for a type other than String."""
        return self._leased.headers

    @property
    def group(self) -> str | None:
        """The group that the job is a member of, None if it is in no group."""
        return self._leased.group

    @property
    def parents(self) -> tuple[ParentInfo, ...]:
        """The outcomes and results of the jobs that this job runs after, in the order in which the producer named them."""
        return tuple(
            ParentInfo(id=each.id, outcome=each.outcome, raw_result=Raw(each.result or b"null"), left_out=each.left_out)
            for each in self._leased.parents
        )

    @property
    def schedule(self) -> MadeBy | None:
        """The schedule that made the job, and the slot in UTC, None for a manual run. None if no schedule made the job."""
        name = self._leased.schedule
        if name is None:
            return None
        try:
            return MadeBy(name, datetime.fromisoformat(self.id[len(name) + 1 :]))
        except ValueError:
            return MadeBy(name, None)

    @property
    def attempts(self) -> int:
        """The number of this attempt, from 1."""
        return self._leased.attempts

    @property
    def max_attempts(self) -> int | None:
        """How many attempts the job can have; None for no limit, or if the server did not report it."""
        return self._leased.max_attempts

    @property
    def created_at(self) -> datetime:
        """When the job was enqueued, in UTC."""
        return self._leased.created_at

    @property
    def lease_expires_at(self) -> datetime:
        """When the lease ends unless a heartbeat extends it, in UTC, by this machine's clock."""
        return datetime.fromtimestamp(self.lease_ends, UTC)

    @property
    def payload(self) -> P:
        """The payload as the type in the handler's annotation. It is decoded at the first access.

        Raises msgspec.ValidationError if it is not of that type.
        """
        if self._payload is msgspec.UNSET:
            self._payload = self._read(self._leased.payload)
        return cast(P, self._payload)

    @property
    def raw_payload(self) -> bytes:
        """The payload as JSON text, as it was received."""
        return self._leased.payload

    def payload_as(self, kind: builtins.type[T]) -> T:
        """The payload as `kind`: a dataclass, a msgspec Struct or any other type that msgspec supports. Raises msgspec.ValidationError."""
        return msgspec.json.decode(self._leased.payload, type=kind)

    @property
    def error(self) -> Any:
        """The error of the previous attempt, None at the first attempt."""
        return None if self._leased.error is None else _decode(self._leased.error)

    @property
    def enqueued_at(self) -> datetime:
        """The old name of `created_at`; it will be removed in the next release."""
        _renamed("enqueued_at", "created_at")
        return self.created_at

    @property
    def payload_json(self) -> bytes:
        """The old name of `raw_payload`; it will be removed in the next release."""
        _renamed("payload_json", "raw_payload")
        return self.raw_payload

    @property
    def last_error(self) -> Any:
        """The old name of `error`; it will be removed in the next release."""
        _renamed("last_error", "error")
        return self.error

    @property
    def cancelled(self) -> bool:
        """Whether the handler should stop: a cancel was requested, its time is up, its lease is lost or the worker is stopping.

        A plain function should check this; in an async function asyncio.CancelledError is raised instead. A handler that has read True
        counts as stopped for that reason.
        """
        self.noticed = self.noticed or self._stop
        return self.noticed

    def wait_cancelled(self, seconds: float) -> bool:
        """Sleep for this time, or until the handler should stop. Returns whether it should stop. For plain functions: it blocks the thread.

        seconds: can be infinity. Raises ValueError for anything but a number of 0 or more.
        """
        if not (wanted := number("seconds", seconds)) >= 0:
            raise ValueError(f"seconds: {seconds!r} is not a number of 0 or more")
        with _making:
            stopped = self._stopped = self._stopped or threading.Event()
        # Checked once the event is visible: a cancel before that set no event, and a later one sets it.
        if not self._stop:
            stopped.wait(min(wanted, threading.TIMEOUT_MAX))
        return self.cancelled

    def cancel(self) -> None:
        """Tell the handler to stop. For the worker only."""
        self._stop = True
        if self._stopped is not None:
            self._stopped.set()

    def progress(self, fraction: float, message: str | None = None) -> None:
        """Report progress: a fraction from 0 to 1, and a message. Returns at once; the newest value is sent within half a second.

        Raises ValueError for a fraction that is not from 0 to 1, and for a message that has more than 1,024 characters or contains control
        characters.
        """
        done = within("fraction", fraction, 0, 1)
        if message is not None:
            if not isinstance(message, str):
                raise ValueError(f"message: {message!r} is not text")
            if len(message) > MESSAGE_CHARS_MAX:
                raise ValueError(f"message: has {len(message)} characters; 0 to {MESSAGE_CHARS_MAX} are allowed")
            if CONTROL_BUT_LINES.search(message) is not None:
                raise ValueError("message: contains a control character or a lone surrogate")
        report = self._report  # another thread may be dropping it
        if report is not None:
            report(done, message)

    def log(self, text: str, level: Level = "info", *, at: float | None = None) -> None:
        """Add one or more lines to the job's log, which the server stores with the job.

        Returns at once; lines are sent together within half a second, and before the attempt's outcome. A text of more than 4,096
        characters is cut. level: debug, info, warning, error or critical; at: the time in seconds since the epoch, by default now. Raises
        ValueError for an invalid text or level.
        """
        self.say(line_of(text, level, at))

    def say(self, line: LogLine) -> None:
        """Add a LogLine to the job's log. For the worker only."""
        say = self._say  # another thread may be dropping it
        if say is not None:
            say(line)

    def over(self) -> None:
        """The attempt is over: progress and log lines have no effect from now on. For the worker only."""
        # They refer to the run, and the run to this job: without the circle, both are freed at once, not by the garbage collector.
        self._report = self._say = None
