"""How many pages SQLite's log must hold, as the index beside it remembers.

SQLite reads a log up to the first page that does not fit and takes that for its end: that is right after a power cut, and wrong when
the log was cut or damaged later. After a kill -9 the index (the -shm file) still says how many committed pages there were, so the two
can be compared before a server starts on what is left. Where there is no index there is nothing to compare.

Not every difference is damage. The index is never synced, so after a power cut it may be older than the log: then the log has started over
since, with other salts, and the index says nothing of it. And what was copied into the database already is not needed from the log.

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
    """What the index said before SQLite opened the database, which may write it anew. frames: pages the log must hold, 0 if unknown."""

    def __init__(self, path: str) -> None:
        self._path = Path(f"{path}-shm")
        self._content = _read(self._path)
        self.frames = _frames(self._content, _read(Path(f"{path}-wal"), _LOG_BYTES))

    def put_back(self) -> None:
        """Make it say again what it said, or the next start would know nothing of what is missing. While nobody has the database open."""
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
    # A log that is whole at its beginning and has other salts is another one. One that is not whole there is damaged.
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
