"""The listing of a queue's keys: its order, and the cursor of a page."""

from __future__ import annotations

import msgspec

from jobqueue.backend.shell import later_at
from jobqueue.engine.keys import KeyState
from jobqueue.errors import BadRequest
from jobqueue.model import KeyStats

KeyPlace = tuple[int, int, str]
"""Where a key stands in the listing: less how many it holds up, less how many it has queued, its name."""

_decoder: msgspec.json.Decoder[KeyPlace] = msgspec.json.Decoder(KeyPlace)


def key_place(state: KeyState) -> KeyPlace:
    """A key's place now."""
    assert state.key is not None
    return (-state.counted if state.block is not None else 0, -state.queued, state.key)


def key_cursor_of(place: KeyPlace) -> str:
    """What a client gets that asks for the page after this place."""
    return msgspec.json.encode(place).decode()


def key_cursor(cursor: str) -> KeyPlace | None:
    """The place that a cursor stands for, None for the first page. Raises BadRequest."""
    if not cursor:
        return None
    try:
        return _decoder.decode(cursor)
    except (msgspec.MsgspecError, ValueError):
        raise BadRequest("cursor", "is not one that this listing gave") from None


def later(stats: KeyStats, skew: float) -> KeyStats:
    """A key's state with its times in UTC."""
    return msgspec.structs.replace(stats, next_at=later_at(stats.next_at, skew))
