"""Groups of errors, as the clients return them."""

from __future__ import annotations

from datetime import datetime

import msgspec


class ErrorGroup(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Failed attempts in a queue that have the same kind of error.

    id: str, which `jobs` and `bulk` accept as `error_group`; the same in every queue. type: the error's type, None if it has none; line:
    the first line of its message, with `<n>`, `<id>` and `<email>` in place of numbers, ids and addresses, None if it has none. attempts:
    how many attempts failed with it; jobs: how many jobs failed for good with it; first_at, last_at: when it first and last occurred;
    last_job: the id of the last job that had it.
    """

    id: str
    queue: str
    type: str | None
    line: str | None
    attempts: int
    jobs: int
    first_at: datetime
    last_at: datetime
    last_job: str


class _Errors(msgspec.Struct):
    errors: list[ErrorGroup]


_errors = msgspec.json.Decoder(_Errors).decode


def errors(body: bytes) -> list[ErrorGroup]:
    """The groups."""
    return _errors(body).errors
