"""Encodes and decodes claims of ids, and floors. things.py says where they are stored, engine/claims.py what they are."""

from __future__ import annotations

import msgspec

from jobqueue.backend.rows import BadRow
from jobqueue.engine.claims import CLAIM, FLOOR, IdClaim

_encode = msgspec.msgpack.Encoder().encode
_decode_claim = msgspec.msgpack.Decoder(IdClaim).decode
_decode_floor = msgspec.msgpack.Decoder(int).decode


def encode_claim(claim: IdClaim) -> bytes:
    """A claim's row."""
    return _encode(claim)


def decode_claim(name: str, row: bytes) -> tuple[str, IdClaim]:
    """An id and its claim from their row. Raises BadRow."""
    try:
        return name.removeprefix(CLAIM), _decode_claim(row)
    except msgspec.MsgspecError as error:
        raise BadRow(f"{name!r}: {error}") from None


def encode_floor(number: int) -> bytes:
    """A floor's row."""
    return _encode(number)


def decode_floor(name: str, row: bytes) -> tuple[int, int]:
    """A home's index and the floor for it from their row. Raises BadRow."""
    try:
        return int(name.removeprefix(FLOOR)), _decode_floor(row)
    except (msgspec.MsgspecError, ValueError) as error:
        raise BadRow(f"{name!r}: {error}") from None
