"""Encodes and decodes the times for which a unique key is held. things.py says where they are stored, engine/unique.py when they apply."""

from __future__ import annotations

import msgspec

from jobqueue.backend.rows import BadRow
from jobqueue.engine.unique import Window, place_of

_Row = tuple[float, str, int, float, int, str | None]

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Row).decode


def encode_window(window: Window, offset: float) -> bytes:
    """A window's row. offset: engine time minus the time line of stored times."""
    row: _Row = (window.ends_at - offset, window.id, window.number, window.created_at - offset, window.priority, window.type)
    return _encode(row)


def decode_window(name: str, row: bytes, offset: float) -> Window:
    """A window from its row. Raises BadRow."""
    try:
        ends_at, job_id, number, created_at, priority, kind = _decode(row)
    except msgspec.MsgspecError as error:
        raise BadRow(f"the unique key {name!r}: {error}") from None
    queue, key = place_of(name)
    return Window(queue, key, ends_at + offset, job_id, number, created_at + offset, priority, kind, stored=True)
