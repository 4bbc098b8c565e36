"""What happened, as text lines that a replay can be compared with byte for byte, and what was asked of the server."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

from .loop import VirtualLoop

DEQUEUES = frozenset({"dequeue", "batch dequeue", "classic dequeue", "simple next"})
CONCLUDES = frozenset({"conclude", "batch conclude"})
EXTENDS = frozenset({"extend", "batch extend"})
UNFENCED = frozenset({"classic conclude", "simple complete"})
"""Dialects whose clients have no lease token: they end whatever lease lives."""

ENQUEUES = frozenset({"enqueue", "batch enqueue", "classic enqueue", "simple submit", "pool submit"})
HELD = DEQUEUES | {"wait", "pool result", "wait for group"}
CHANGES = (
    ENQUEUES | DEQUEUES | CONCLUDES | UNFENCED | {"extend", "batch extend", "release", "cancel", "retry", "purge", "purge all", "redrive"}
)
CHANGES |= {"make group", "close group", "cancel group"}
"""Requests whose answer says that something was changed, and so must not come before the change is committed."""


@dataclass(eq=False)
class Ask:
    """One request: what its client knows of it, and how it went on the server.

    tokens: the lease tokens it carries, by job id; handed: those it was given. until: when its wait ends; excused: it has been answered,
    or told to stop, for another reason than a job. late: its concludes
    hold after their leases too. ticket: of the last change it made. views: of many servers, what each owner that was
    asked on its behalf knows of it, which is an Ask of its own whose `front` is this one. stood_in: the partitions where it has waited.
    written, slow: when it was read, how much had been written to its connection, and whether its client did not read.
    """

    number: int
    op: str
    method: str
    path: str
    body: bytes
    queues: tuple[str, ...] = ()
    wait: float = 0.0
    worker: str | None = None
    attempt: str | None = None
    lease_seconds: float | None = None
    ids: tuple[str, ...] = ()
    tokens: dict[str, str] = field(default_factory=dict)
    paused: bool | None = None
    sent_at: float = 0.0
    link: Any = None
    stood_at: float | None = None
    until: float = 0.0
    excused: bool = False
    handed: list[str] = field(default_factory=list)
    done: bool = False
    late: bool = False
    ticket: int = 0
    front: Any = None
    views: list[Ask] = field(default_factory=list)
    stood_in: set[int] = field(default_factory=set)
    written: int = 0
    slow: bool = False

    def __str__(self) -> str:
        return f"request {self.number} ({self.op})"


class History:
    """Every line, in order, and the faults that a checker found among them."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self.lines: list[str] = []
        self.faults: list[str] = []

    def note(self, *what: object) -> None:
        """Write down what happens now."""
        self.lines.append(f"{self._loop.time():.6f} {' '.join(map(str, what))}")

    def fault(self, what: str) -> None:
        """Write down what must not happen."""
        self.note("FAULT", what)
        self.faults.append(f"at {self._loop.time():.3f} s: {what}")

    def digest(self) -> str:
        """The same for the same history, and for no other."""
        return hashlib.sha256("\n".join(self.lines).encode()).hexdigest()
