"""DeleteMessage and ChangeMessageVisibility, and their batches: actions on messages that were received.

A message of a standard queue can be deleted with the handle of a receive whose visibility timeout has passed, until the message is received
again. Other cases are not distinguished: a message that was deleted before, or is unknown, counts as deleted.
"""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType

from jobqueue.api.dialects.sqs.actions.entries import check_entries, failed
from jobqueue.api.dialects.sqs.actions.messages import (
    ChangeMessageVisibility,
    ChangeMessageVisibilityBatch,
    ChangeMessageVisibilityBatchResult,
    ChangeMessageVisibilityBatchResultEntry,
    DeleteMessage,
    DeleteMessageBatch,
    DeleteMessageBatchResult,
    DeleteMessageBatchResultEntry,
)
from jobqueue.api.dialects.sqs.actions.receiving import VISIBILITY_SECONDS_MAX
from jobqueue.api.dialects.sqs.call import Call, is_fifo
from jobqueue.api.dialects.sqs.errors import SqsError, invalid_value, missing
from jobqueue.api.dialects.sqs.handles import parts_of
from jobqueue.backend.base import Conclude, Extend
from jobqueue.errors import LeaseLost, NotInProgress, QueueError, UnknownJob
from jobqueue.model import SUCCEEDED, Job, Verdict

_DONE = Verdict(outcome=SUCCEEDED)
_DONE_LATE = Verdict(outcome=SUCCEEDED, late=True)
_TOTAL_SECONDS_MAX = VISIBILITY_SECONDS_MAX + 1.0
"""Counted from the receive. One second more than a client can request at once, so that requesting the maximum succeeds."""
_GONE = "Message does not exist or is not available for visibility timeout change."


def _expired(handle: str) -> SqsError:
    return invalid_value(handle, "ReceiptHandle", "The receipt handle has expired.")


async def delete_message(call: Call, given: DeleteMessage) -> None:
    """DeleteMessage."""
    fifo = is_fifo(call.queue, await call.policy())
    job_id, token = parts_of(given.ReceiptHandle, call.queue)
    try:
        await call.site.backend.conclude(job_id, token, _DONE if fifo else _DONE_LATE)
    except (UnknownJob, NotInProgress):
        pass
    except LeaseLost:
        if fifo:
            raise _expired(given.ReceiptHandle) from None


async def delete_message_batch(call: Call, given: DeleteMessageBatch) -> DeleteMessageBatchResult:
    """DeleteMessageBatch."""
    fifo = is_fifo(call.queue, await call.policy())
    check_entries(given.Entries)
    items: list[Conclude | QueueError] = []
    for entry in given.Entries:
        try:
            job_id, token = parts_of(entry.ReceiptHandle, call.queue)
        except SqsError as error:
            items.append(error.bare())
        else:
            items.append(Conclude(job_id, token, _DONE if fifo else _DONE_LATE))
    result = DeleteMessageBatchResult(Successful=[], Failed=[])
    for entry, reply in zip(given.Entries, await call.site.backend.conclude_batch(items), strict=True):
        refusal = _not_deleted(reply, fifo, entry.ReceiptHandle)
        if refusal is None:
            result.Successful.append(DeleteMessageBatchResultEntry(entry.Id))
        else:
            result.Failed.append(failed(entry, refusal))
    return result


def _not_deleted(reply: Job | QueueError, fifo: bool, handle: str) -> QueueError | None:
    """Why a message was not deleted, None if it was."""
    if not isinstance(reply, QueueError) or isinstance(reply, UnknownJob | NotInProgress):
        return None
    if isinstance(reply, LeaseLost):
        return _expired(handle) if fifo else None
    return reply


# Visibility timeouts.


def _checked(seconds: int | UnsetType) -> int:
    if seconds is UNSET:
        raise missing("VisibilityTimeout")
    if not 0 <= seconds <= VISIBILITY_SECONDS_MAX:
        reason = f"VisibilityTimeout must be an integer between 0 and {VISIBILITY_SECONDS_MAX}."
        raise invalid_value(seconds, "VisibilityTimeout", reason)
    return seconds


async def _change(call: Call, handle: str, seconds: int, fifo: bool) -> None:
    """Make a message visible again after this many seconds. Raises SqsError."""
    job_id, token = parts_of(handle, call.queue)
    backend = call.site.backend
    try:
        before = (await backend.job(job_id)).lease
        asked = min(float(seconds), call.site.limits.lease_seconds_max)
        extend = Extend(job_id, token, asked)
        lease = (await backend.extend(extend)).lease
        if before is not None and lease is not None and lease.expires_at - lease.started_at > _TOTAL_SECONDS_MAX:
            # Only the backend knows the current time. So the change is made first, and undone if it was too long.
            left = before.expires_at - (lease.expires_at - asked)
            await backend.extend(msgspec.structs.replace(extend, lease_seconds=max(left, call.site.limits.lease_seconds_min)))
            reason = f"Total VisibilityTimeout for the message is beyond the limit [{VISIBILITY_SECONDS_MAX} seconds]"
            raise invalid_value(seconds, "VisibilityTimeout", reason)
    except (UnknownJob, NotInProgress):
        raise invalid_value(handle, "ReceiptHandle", _GONE) from None
    except LeaseLost:
        if fifo:
            raise _expired(handle) from None


async def change_message_visibility(call: Call, given: ChangeMessageVisibility) -> None:
    """ChangeMessageVisibility."""
    fifo = is_fifo(call.queue, await call.policy())
    await _change(call, given.ReceiptHandle, _checked(given.VisibilityTimeout), fifo)


async def change_message_visibility_batch(call: Call, given: ChangeMessageVisibilityBatch) -> ChangeMessageVisibilityBatchResult:
    """ChangeMessageVisibilityBatch."""
    fifo = is_fifo(call.queue, await call.policy())
    check_entries(given.Entries)
    result = ChangeMessageVisibilityBatchResult(Successful=[], Failed=[])
    for entry in given.Entries:
        try:
            await _change(call, entry.ReceiptHandle, _checked(entry.VisibilityTimeout), fifo)
        except SqsError as error:
            result.Failed.append(failed(entry, error.bare()))
        else:
            result.Successful.append(ChangeMessageVisibilityBatchResultEntry(entry.Id))
    return result
