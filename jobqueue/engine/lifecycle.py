"""The transition table: what every trigger does to a job in every status. No other place decides this.

Operations call `allow` before they change anything, and `State.move` in `state.py` is the only place that sets a status; both read `TABLE`.
The table in docs/semantics.md is generated from here (`markdown()`; a test compares them).
"""

from __future__ import annotations

from enum import Enum, StrEnum
from typing import Final, NamedTuple, NoReturn

from jobqueue.errors import InProgress, LeaseLost, NotInProgress, NotRetryable
from jobqueue.model import Job, Status


class Trigger(StrEnum):
    """What can happen to a job. The value is its name in the docs. (A StrEnum hashes in C, an Enum in Python.)"""

    DUE = "run_at reached"
    DEQUEUE = "dequeue"
    EXTEND = "extend"
    RELEASE = "release"
    UNDELIVERED = "answer not delivered"
    CONCLUDE = "conclude"
    CONCLUDE_LATE = "conclude, `late`, a success"
    LEASE_EXPIRED = "lease expires"
    CANCEL = "cancel"
    EXPIRE = "expires_at passes"
    RETRY = "retry"
    DEAD_LETTER = "fails for good, with a dead-letter queue"
    REDRIVE = "redrive"
    EDIT = "edit"
    LET_RUN = "nothing holds it back any more"
    PURGE = "purge of all, or the queue is deleted with its jobs"
    FORGET = "history full, or forget"


# The members as module names, for hot paths; see model.py.
T_DUE: Final = Trigger.DUE
T_DEQUEUE: Final = Trigger.DEQUEUE
T_EXTEND: Final = Trigger.EXTEND
T_RELEASE: Final = Trigger.RELEASE
T_UNDELIVERED: Final = Trigger.UNDELIVERED
T_CONCLUDE: Final = Trigger.CONCLUDE
T_CONCLUDE_LATE: Final = Trigger.CONCLUDE_LATE
T_LEASE_EXPIRED: Final = Trigger.LEASE_EXPIRED
T_CANCEL: Final = Trigger.CANCEL
T_EXPIRE: Final = Trigger.EXPIRE
T_RETRY: Final = Trigger.RETRY
T_DEAD_LETTER: Final = Trigger.DEAD_LETTER
T_REDRIVE: Final = Trigger.REDRIVE
T_EDIT: Final = Trigger.EDIT
T_LET_RUN: Final = Trigger.LET_RUN
T_PURGE: Final = Trigger.PURGE
T_FORGET: Final = Trigger.FORGET


class Rule(Enum):
    """What a cell of the table does if it does not move the job."""

    ALLOWED = "allowed"
    NOTHING = "–"
    LEASE_LOST = "409 `lease_lost`"
    NOT_IN_PROGRESS = "409 `not_in_progress`"
    IN_PROGRESS = "409 `in_progress`"
    NOT_RETRYABLE = "409 `not_retryable`"


class Cell(NamedTuple):
    """One cell: the rule, the statuses that the event can lead to, and its text in the docs."""

    rule: Rule
    to: frozenset[Status] = frozenset()
    text: str = ""


def _to(text: str, *statuses: Status) -> Cell:
    return Cell(Rule.ALLOWED, frozenset(statuses), text)


_S, _Q, _P, _C = Status.SCHEDULED, Status.QUEUED, Status.IN_PROGRESS, Status.CONCLUDED
_NOTHING = Cell(Rule.NOTHING)
_LOST = Cell(Rule.LEASE_LOST)
_OVER = Cell(Rule.NOT_IN_PROGRESS)
_KEEP = Cell(Rule.NOT_RETRYABLE)

TABLE: dict[Trigger, dict[Status, Cell]] = {
    Trigger.DUE: {_S: _to("→ queued", _Q), _Q: _NOTHING, _P: _NOTHING, _C: _NOTHING},
    Trigger.DEQUEUE: {_S: _NOTHING, _Q: _to("→ in_progress; attempts + 1; new lease", _P), _P: _NOTHING, _C: _NOTHING},
    Trigger.EXTEND: {
        _S: _LOST,
        _Q: _LOST,
        _P: _to("new expiry; the answer has `cancel_requested`; by 0 seconds: as when the lease expires", _P),
        _C: _OVER,
    },
    Trigger.RELEASE: {
        _S: _LOST,
        _Q: _LOST,
        _P: _to("attempt given back; → queued in its old place, or scheduled; a cancel request ends it as cancelled", _Q, _S, _C),
        _C: _OVER,
    },
    Trigger.UNDELIVERED: {
        _S: _NOTHING,
        _Q: _NOTHING,
        _P: _to("attempt given back; → queued in its old place", _Q, _C),
        _C: _NOTHING,
    },
    Trigger.CONCLUDE: {
        _S: _LOST,
        _Q: _LOST,
        _P: _to(
            "succeeded: → concluded/succeeded; failed: attempts < max_attempts and retry not refused → scheduled (backoff), "
            "else → concluded/failed; a cancel request ends it as cancelled",
            _C,
            _S,
        ),
        _C: Cell(Rule.NOT_IN_PROGRESS, text="409 `not_in_progress`, but a repetition of the conclude that ended it is answered 200 again"),
    },
    Trigger.CONCLUDE_LATE: {
        _S: _to("→ concluded/succeeded with the token of the last lease, if that ran out; else 409 `lease_lost`", _C),
        _Q: _to("→ concluded/succeeded with the token of the last lease, if that ran out; else 409 `lease_lost`", _C),
        _P: _LOST,
        _C: Cell(Rule.NOT_IN_PROGRESS, text="409 `not_in_progress`, but a repetition of the conclude that ended it is answered 200 again"),
    },
    Trigger.LEASE_EXPIRED: {
        _S: _NOTHING,
        _Q: _NOTHING,
        _P: _to(
            "attempts < max_attempts → queued in its old place; else → concluded/failed, error `lease_expired`; "
            "a cancel request ends it as cancelled",
            _Q,
            _C,
        ),
        _C: _NOTHING,
    },
    Trigger.CANCEL: {
        _S: _to("→ concluded/cancelled", _C),
        _Q: _to("→ concluded/cancelled", _C),
        _P: _to("`cancel_requested`: the answer to the next extend says so; conclude, release or expiry ends it as cancelled", _P),
        _C: Cell(
            Rule.NOT_IN_PROGRESS,
            text="409 `not_in_progress`, but a failed job that halts its key lets the key continue, and stays as it is",
        ),
    },
    Trigger.EXPIRE: {_S: _to("→ concluded/expired", _C), _Q: _to("→ concluded/expired", _C), _P: _NOTHING, _C: _NOTHING},
    Trigger.RETRY: {
        _S: _KEEP,
        _Q: _KEEP,
        _P: _KEEP,
        _C: _to("not succeeded → queued, attempts 0, in its old place if it halts its key; succeeded → 409 `not_retryable`", _Q),
    },
    Trigger.DEAD_LETTER: {
        _S: _NOTHING,
        _Q: _NOTHING,
        _P: _to(
            "→ queued in that queue, attempts 0, instead of concluded/failed; if there is no room there, as without a dead-letter queue", _Q
        ),
        _C: _NOTHING,
    },
    Trigger.REDRIVE: {
        _S: _to("a dead letter → queued where it came from, attempts 0", _Q),
        _Q: _to("a dead letter → queued where it came from, attempts 0", _Q),
        _P: _NOTHING,
        _C: _NOTHING,
    },
    Trigger.EDIT: {
        _S: _to("stays; a new time that is due → queued", _S, _Q),
        _Q: _to("stays, at the back if its priority or queue changes; a new time → scheduled", _Q, _S),
        _P: Cell(Rule.IN_PROGRESS),
        _C: _OVER,
    },
    Trigger.LET_RUN: {
        _S: _to("→ queued, or stays until its own time; → concluded/cancelled if a job that it is after did not succeed", _Q, _S, _C),
        _Q: _NOTHING,
        _P: _NOTHING,
        _C: _NOTHING,
    },
    Trigger.PURGE: {
        _S: _to("→ concluded/cancelled", _C),
        _Q: _to("→ concluded/cancelled", _C),
        _P: _to("→ concluded/cancelled; its lease ends, and its token is answered 409 `not_in_progress`", _C),
        _C: Cell(Rule.NOTHING, text="stays; a failed job that halts its key lets the key continue"),
    },
    Trigger.FORGET: {
        _S: _NOTHING,
        _Q: _NOTHING,
        _P: _NOTHING,
        _C: _to("the oldest of its outcome is forgotten, or the named jobs; not a job that halts its key", _C),
    },
}


def describe(job: Job) -> str:
    """The job's state in words: `queued`, or `concluded (failed)`."""
    return str(job.status) if job.conclusion is None else f"concluded ({job.conclusion.outcome})"


def refuse(job: Job, rule: Rule) -> NoReturn:
    """Raise the error that `rule` stands for."""
    if rule is Rule.NOT_IN_PROGRESS:
        raise NotInProgress(job.id, describe(job))
    if rule is Rule.IN_PROGRESS:
        raise InProgress(job.id)
    if rule is Rule.NOT_RETRYABLE:
        raise NotRetryable(job.id, describe(job))
    raise LeaseLost(job.id)


def allow(job: Job, event: Trigger) -> None:
    """Return if `event` is allowed for `job` in its current status.

    Raises LeaseLost, NotInProgress, InProgress or NotRetryable, depending on the cell. Changes nothing.
    """
    rule = TABLE[event][job.status].rule
    if rule is not Rule.ALLOWED:
        refuse(job, rule)


def markdown() -> str:
    """The table in the form that docs/semantics.md shows."""
    lines = ["| event | " + " | ".join(Status) + " |", "|---|---|---|---|---|"]
    for event, row in TABLE.items():
        cells = " | ".join(cell.text or cell.rule.value for cell in (row[status] for status in Status))
        lines.append(f"| {event.value} | {cells} |")
    return "\n".join(lines) + "\n"
