"""The past of a job: its failed attempts, and the queue that a dead letter comes from."""

from __future__ import annotations

from typing import Literal

import msgspec

Ended = Literal["failed", "lease_expired"]
"""How an attempt ended that counts and did not succeed: its worker reported a failure, or its lease ran out."""


class Failures(msgspec.Struct, frozen=True, gc=False):
    """Jobs that failed for good, and failed attempts, in the last 1, 5 and 60 minutes; retrying: jobs that wait for the next attempt."""

    retrying: int = 0
    jobs_1m: int = 0
    jobs_5m: int = 0
    jobs_60m: int = 0
    attempts_1m: int = 0
    attempts_5m: int = 0
    attempts_60m: int = 0


class ErrorGroup(msgspec.Struct, frozen=True, gc=False):
    """Failed attempts in a queue with the same error. id: of the error, the same in every queue; type: of the error, empty if it has none;
    line: the first line of its message, with numbers and ids replaced, empty if there is none. attempts: failed attempts with this error;
    jobs: jobs that failed for good with it; first_at, last_at: when it happened first and last; job: the id of the last job.
    """

    id: str
    queue: str
    type: str
    line: str
    attempts: int
    jobs: int
    first_at: float
    last_at: float
    job: str


class Attempt(msgspec.Struct, frozen=True, gc=False):
    """An attempt that failed or whose lease ran out. number: its position, from 1; error: what its worker reported, None if nothing or too
    much.

    token: of the lease that ran out, only on the newest attempt and only while it can still be concluded late (`Verdict.late`). It is never
    shown. traceback: as its worker sent it, possibly `shortened`.
    """

    number: int
    worker: str | None
    started_at: float
    ended_at: float
    ended: Ended
    error: bytes | None
    token: str | None = None
    traceback: str | None = None


def shortened(text: str, most: int) -> str:
    """The text, cut to at most `most` bytes of UTF-8. A longer text loses the middle, in whole lines if possible, and says how many bytes
    are missing: of a traceback the beginning stays and, at greater length, the last frames and the error.
    """
    data = text.encode()
    if len(data) <= most:
        return text
    room = max(0, most - 48)
    head, tail = data[: room // 4], data[len(data) - (room - room // 4) :]
    # Cut at the end of a line and continue at the start of one, unless little would be left.
    if (at := head.rfind(b"\n") + 1) > len(head) // 2:
        head = head[:at]
    if 0 < (at := tail.find(b"\n") + 1) < len(tail) // 2:
        tail = tail[at:]
    start, end = head.decode(errors="ignore"), tail.decode(errors="ignore")
    left_out = len(data) - len(start.encode()) - len(end.encode())
    return f"{start.removesuffix(chr(10))}\n... {left_out} bytes left out ...\n{end}"[-most:]


def sealed(past: tuple[Attempt, ...]) -> tuple[Attempt, ...]:
    """These attempts without their tokens, so that none can be concluded late any more."""
    if not past or past[-1].token is None:
        return past
    return (*past[:-1], msgspec.structs.replace(past[-1], token=None))


class Origin(msgspec.Struct, frozen=True, gc=False):
    """Where a dead letter comes from. queue: where its attempts ran out; at: when; reason: how the last of them ended; attempts: how many
    the job had had by then, in all its queues.
    """

    queue: str
    at: float
    reason: Ended
    attempts: int = 0
