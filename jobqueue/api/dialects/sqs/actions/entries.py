"""What the batch actions share: entries with ids, and results for those that fail."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

from jobqueue.api.dialects.sqs.actions.messages import BatchResultErrorEntry
from jobqueue.api.dialects.sqs.errors import empty_batch, invalid_entry_id, repeated_id, too_many_entries, translated
from jobqueue.errors import QueueError

ENTRIES_MAX = 10

_ID = re.compile(r"[A-Za-z0-9_-]{1,80}")
_OURS = 429
"""From this status on it is not the sender's fault, but a limit of the server."""


class Entry(Protocol):
    """An entry of a batch."""

    @property
    def Id(self) -> str:
        """Its id in the batch."""


def check_entries(entries: Sequence[Entry]) -> None:
    """Raise SqsError for a batch that must be refused as a whole."""
    if not entries:
        raise empty_batch()
    if len(entries) > ENTRIES_MAX:
        raise too_many_entries(len(entries))
    seen: set[str] = set()
    for entry in entries:
        if _ID.fullmatch(entry.Id) is None:
            raise invalid_entry_id()
        if entry.Id in seen:
            raise repeated_id(entry.Id)
        seen.add(entry.Id)


def failed(entry: Entry, error: QueueError) -> BatchResultErrorEntry:
    """An entry that failed."""
    said = translated(error)
    return BatchResultErrorEntry(entry.Id, said.status < _OURS, said.code, said.message)
