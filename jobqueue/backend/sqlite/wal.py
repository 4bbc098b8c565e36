"""Finds how many pages SQLite's log must have, from the index beside the log.

SQLite reads a log up to the first invalid page, and takes that for its end. This is correct after a power cut, and wrong if the log was cut
or damaged later. After a kill -9 the index (the -shm file) still has the number of committed pages, so the two can be compared before a
server starts on the rest. Without an index nothing can be compared.

Not every difference is damage. The index is never synced, so after a power cut it can be older than the log. In that case the log has
restarted since, with other salts, and the index does not apply to it. And pages that were already copied into the database are not needed
from the log.

The formats are SQLite's (sqlite.org/walformat.html, sqlite.org/fileformat2.html section 4), stable since 3.7.0. The index begins with two
copies of a header of 48 bytes in the machine's own byte order, then the number of pages that were copied into the database.
"""

from __future__ import annotations

import struct
from pathlib import Path

_INDEX = struct.Struct("=IIIBBHIIII8sII")
_BACKFILLED = struct.Struct("=I")
_VERSION = 3_007_000
_LOG_BYTES = 32
_MAGIC = {b"\x37\x7f\x06\x82": "<", b"\x37\x7f\x06\x83": ">"}
_WORD = 0xFFFF_FFFF


class Index:
    """The content of the index before SQLite opened the database, which can rewrite it. frames: pages the log must have, 0 if unknown."""

    def __init__(self, path: str) -> None:
        self._path = Path(f"{path}-shm")
        self._content = _read(self._path)
        self.frames = _frames(self._content, _read(Path(f"{path}-wal"), _LOG_BYTES))

    def put_back(self) -> None:
        """Restore the index; otherwise the next start would not know which pages are missing. Only while nobody has the database open."""
        self._path.write_bytes(self._content)


def _read(path: Path, size: int = -1) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(size)
    except OSError:
        return b""


def _frames(index: bytes, log: bytes) -> int:
    first, second, rest = index[: _INDEX.size], index[_INDEX.size : 2 * _INDEX.size], index[2 * _INDEX.size :]
    if first != second or len(rest) < _BACKFILLED.size:
        return 0
    version, _, _, initialised, _, _, frames, _, _, _, salts, _, _ = _INDEX.unpack(first)
    if version != _VERSION or initialised != 1 or _BACKFILLED.unpack_from(rest)[0] >= frames:
        return 0
    # A log with a valid header and other salts is a different log. One with an invalid header is damaged.
    return 0 if _is_whole(log) and log[16:24] != salts else int(frames)


def _is_whole(log: bytes) -> bool:
    """Whether the log's own header has its checksum."""
    order = _MAGIC.get(log[:4])
    if order is None or len(log) < _LOG_BYTES:
        return False
    words = struct.unpack(f"{order}6I", log[:24])
    one = two = 0
    for at in range(0, 6, 2):
        one = (one + words[at] + two) & _WORD
        two = (two + words[at + 1] + one) & _WORD
    return struct.unpack(">II", log[24:]) == (one, two)
