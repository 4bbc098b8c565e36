"""The list of a queue's keys: its order, and the cursor of a page."""

from __future__ import annotations

import msgspec

from jobqueue.backend.snapshots import later_at, pause_at
from jobqueue.engine.keys import KeyState
from jobqueue.errors import BadRequest
from jobqueue.model import KeyStats

KeyPlace = tuple[int, int, str]
"""The position of a key in the list: minus the number of jobs that it holds up, minus the number of its queued jobs, its name."""

_decoder: msgspec.json.Decoder[KeyPlace] = msgspec.json.Decoder(KeyPlace)


def key_place(state: KeyState) -> KeyPlace:
    """The current position of a key."""
    assert state.key is not None
    return (-state.counted if state.block is not None else 0, -state.queued, state.key)


def key_cursor_of(place: KeyPlace) -> str:
    """The cursor that a client gets for the page after this position."""
    return msgspec.json.encode(place).decode()


def key_cursor(cursor: str) -> KeyPlace | None:
    """The position that a cursor stands for, None for the first page. Raises BadRequest."""
    if not cursor:
        return None
    try:
        return _decoder.decode(cursor)
    except (msgspec.MsgspecError, ValueError):
        raise BadRequest("cursor", "is not a cursor of this listing") from None


def later(stats: KeyStats, skew: float) -> KeyStats:
    """A key's state with its times in UTC."""
    return msgspec.structs.replace(stats, next_at=later_at(stats.next_at, skew), pause=pause_at(stats.pause, skew))
