"""How many pages SQLite's log must hold, as the index beside it remembers.

SQLite reads a log up to the first page that does not fit and takes that for its end: that is right after a power cut, and wrong when
the log was cut or damaged later. After a kill -9 the index (the -shm file) still says how many committed pages there were, so the two
can be compared before a server starts on what is left. Where there is no index there is nothing to compare.

The format is SQLite's, "WAL-Index Format" (sqlite.org/walformat.html), stable since 3.7.0: two copies of a header of 48 bytes in the
machine's own byte order.
"""

from __future__ import annotations

import struct
from pathlib import Path

_HEADER = struct.Struct("=IIIBBHIIIIIIII")
_VERSION = 3_007_000


def committed_frames(path: str) -> int:
    """Pages that the log of a database must hold at least; 0 if nothing is known."""
    try:
        with Path(f"{path}-shm").open("rb") as stream:
            first, second = stream.read(_HEADER.size), stream.read(_HEADER.size)
    except OSError:
        return 0
    if len(second) != _HEADER.size or first != second:
        return 0
    version, _, _, initialised, _, _, frames, *_ = _HEADER.unpack(first)
    return frames if version == _VERSION and initialised == 1 else 0
