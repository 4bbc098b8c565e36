"""What a job waits for, as the native API shows it."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType

from jobqueue.api.native.stamps import stamp_or_none
from jobqueue.model import Block
from jobqueue.reason import Reason, Why


class ReasonView(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """One thing that a job waits for. Fields that the reason does not use are left out."""

    reason: Why
    until: str | None = None
    key: str | None = None
    block: Block | None = None
    job: str | None = None
    worker: str | None = None
    used: int | None = None
    total: int | None = None
    ahead: int | None = None
    jobs: tuple[str, ...] | UnsetType = UNSET


def reason_view(reason: Reason) -> ReasonView:
    """See ReasonView."""
    return ReasonView(
        reason=reason.kind,
        until=stamp_or_none(reason.until),
        key=reason.key,
        block=reason.block,
        job=reason.job,
        worker=reason.worker,
        used=reason.used,
        total=reason.total,
        ahead=reason.ahead,
        jobs=reason.jobs or UNSET,
    )
