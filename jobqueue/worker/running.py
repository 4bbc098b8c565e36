"""A job as a worker holds it: `Leased` is what a source hands out, `RunningJob` what a handler is given.

A RunningJob may be used from any thread. It never talks to the server itself: progress is noted here and goes out with the
heartbeats, and what the server says comes in through the worker.
"""

from __future__ import annotations

import builtins
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar, cast

import msgspec

from jobqueue.limits import CONTROL_BUT_LINES, Limits
from jobqueue.worker.options import number, within

P = TypeVar("P")
T = TypeVar("T")

MESSAGE_CHARS_MAX = Limits().text_chars_max
_decode = msgspec.json.Decoder().decode
_making = threading.Lock()
"""Held while a job gets its event: two threads of one handler must not wait for two."""


class Leased(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A job under a lease of this worker. payload and error are JSON text; created_at is UTC; attempts counts this one; limited: its lease
    takes something that other jobs may have to wait for.
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
    limited: bool = False


Report = Callable[[float, str | None], None]
"""Takes a progress note away; called in whichever thread the handler runs."""


class RunningJob(Generic[P]):
    """The job that a handler works on. `RunningJob[Mail]` as a handler's annotation makes `payload` a Mail."""

    __slots__ = ("_leased", "_payload", "_read", "_report", "_stop", "_stopped", "lease_ends", "noticed", "worker")

    def __init__(
        self,
        leased: Leased,
        worker: str,
        lease_ends: float,
        read: Callable[[bytes], Any] = _decode,
        report: Report | None = None,
    ) -> None:
        self.worker = worker
        self.lease_ends = lease_ends
        self.noticed = False
        """Whether the handler has looked and seen that it is to stop."""
        self._leased = leased
        self._read = read
        self._report = report
        self._payload: Any = msgspec.UNSET
        self._stop = False
        self._stopped: threading.Event | None = None
        """For who sleeps until it is to stop; made when somebody does, as making one takes longer than all else here."""

    def __repr__(self) -> str:
        return f"<RunningJob {self.id} type={self.type!r} queue={self.queue!r} attempts={self.attempts}>"

    @property
    def id(self) -> str:
        """The job's id."""
        return self._leased.id

    @property
    def type(self) -> str | None:
        """The job's type, by which its handler was found; None if the producer named none."""
        return self._leased.type

    @property
    def queue(self) -> str:
        """The queue it came from."""
        return self._leased.queue

    @property
    def description(self) -> str | None:
        """What the producer said for people."""
        return self._leased.description

    @property
    def priority(self) -> int:
        """0, most urgent, to 9."""
        return self._leased.priority

    @property
    def traceparent(self) -> str | None:
        """The trace that the producer gave it (W3C Trace Context), None if none."""
        return self._leased.traceparent

    @property
    def key(self) -> str | None:
        """What the job is about, None if its producer said nothing."""
        return self._leased.key

    @property
    def attempts(self) -> int:
        """Which attempt this is, from 1."""
        return self._leased.attempts

    @property
    def enqueued_at(self) -> datetime:
        """When it was enqueued, UTC."""
        return self._leased.created_at

    @property
    def lease_expires_at(self) -> datetime:
        """When the lease ends unless a heartbeat extends it, UTC, by this machine's clock."""
        return datetime.fromtimestamp(self.lease_ends, UTC)

    @property
    def payload(self) -> P:
        """The payload, decoded at the first look; of the type that the handler's annotation names.

        Raises msgspec.ValidationError if it is not of that type.
        """
        if self._payload is msgspec.UNSET:
            self._payload = self._read(self._leased.payload)
        return cast(P, self._payload)

    @property
    def payload_json(self) -> bytes:
        """The payload as the JSON text that it came as."""
        return self._leased.payload

    def payload_as(self, kind: builtins.type[T]) -> T:
        """The payload as `kind`: a dataclass, a msgspec Struct, any type msgspec knows. Raises msgspec.ValidationError."""
        return msgspec.json.decode(self._leased.payload, type=kind)

    @property
    def last_error(self) -> Any:
        """What the attempt before failed with, None at the first."""
        return None if self._leased.error is None else _decode(self._leased.error)

    @property
    def cancelled(self) -> bool:
        """Whether to stop: a cancel was requested, the time is up, the lease is lost or the worker stops.

        A plain function looks at this; an async one is sent asyncio.CancelledError. One that has seen True is taken to have stopped for it.
        """
        self.noticed = self.noticed or self._stop
        return self.noticed

    def wait_cancelled(self, seconds: float) -> bool:
        """Sleep so long, or until it is time to stop: then True. For plain functions; it blocks the thread.

        seconds: infinity is for as long as it takes. Raises ValueError for what is no number of 0 or more.
        """
        if not (wanted := number("seconds", seconds)) >= 0:
            raise ValueError(f"seconds: {seconds!r} is not a number of 0 or more")
        with _making:
            stopped = self._stopped = self._stopped or threading.Event()
        # Looked at after the event can be found: a cancel before that set no event, a later one sets it.
        if not self._stop:
            stopped.wait(min(wanted, threading.TIMEOUT_MAX))
        return self.cancelled

    def cancel(self) -> None:
        """Tell the handler to stop. The worker's business."""
        self._stop = True
        if self._stopped is not None:
            self._stopped.set()

    def progress(self, fraction: float, message: str | None = None) -> None:
        """Say how much is done, 0 to 1, and what it is at. Returns at once; the newest note goes out within half a second.

        Raises ValueError for a fraction that is no number of 0 to 1, and for a message that is no text of up to 1,024 characters without
        control characters.
        """
        done = within("fraction", fraction, 0, 1)
        if message is not None:
            if not isinstance(message, str):
                raise ValueError(f"message: {message!r} is not text")
            if len(message) > MESSAGE_CHARS_MAX:
                raise ValueError(f"message: has {len(message)} characters; 0 to {MESSAGE_CHARS_MAX} are allowed")
            if CONTROL_BUT_LINES.search(message) is not None:
                raise ValueError("message: holds a control character or a lone surrogate")
        if self._report is not None:
            self._report(done, message)
