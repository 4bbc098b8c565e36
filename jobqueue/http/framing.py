"""Where a body ends, in the bytes that come after a head.

A connection gives the way beneath it one request at a time, so it must know which bytes are the body's. aiohttp has read the head by then
and said how the body is framed; this counts. For a chunked body the plainest grammar of RFC 9112, section 7.1, is enough: where a client
uses more of it (extensions, trailers), or breaks it, the end is given up for `lost`: aiohttp is given all that comes, and the connection
serves no further request.
"""

from __future__ import annotations

import re

_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})\r\n")
_MAY_BE_SIZE = re.compile(rb"[0-9A-Fa-f]+[ \t]*(;.*)?(\r\n)?", re.DOTALL)
_SIZE_BYTES_MAX = 10


class Counted:
    """A body of so many bytes."""

    __slots__ = ("missing",)

    lost = False

    def __init__(self, size: int) -> None:
        self.missing = size

    @property
    def whole(self) -> bool:
        """Whether all of it has come."""
        return self.missing == 0

    def take(self, data: bytes) -> int:
        """How many of the next bytes are the body's."""
        taken = min(len(data), self.missing)
        self.missing -= taken
        return taken


class Chunked:
    """A body in chunks."""

    __slots__ = ("_ends", "_line", "_missing", "broken", "lost", "whole")

    def __init__(self) -> None:
        self._missing = 0
        """Of the chunk that is being read."""
        self._ends = b""
        """What of the line end after it is still to come."""
        self._line = b""
        """What has come of a chunk's size."""
        self.whole = False
        self.lost = False
        self.broken = False
        """Lost because what came is not what any grammar allows."""

    def take(self, data: bytes) -> int:
        """How many of the next bytes are the body's."""
        at = 0
        while at < len(data) and not self.lost and not self.whole:
            if self._missing:
                taken = min(len(data) - at, self._missing)
                self._missing -= taken
                at += taken
                continue
            if self._ends:
                piece = data[at : at + len(self._ends)]
                self.lost = self.broken = not self._ends.startswith(piece)
                self._ends = self._ends[len(piece) :]
                at += len(piece)
                continue
            end = data.find(b"\n", at, at + _SIZE_BYTES_MAX) + 1
            piece = data[at : end or at + _SIZE_BYTES_MAX]
            self._line += piece
            at += len(piece)
            if not self._line.endswith(b"\n"):
                if len(self._line) >= _SIZE_BYTES_MAX:
                    self._give_up(self._line)
                continue
            at = self._sized(data, at)
        return len(data) if self.lost else at

    def _sized(self, data: bytes, at: int) -> int:
        """A line of a size is here whole, or the empty one after the last chunk."""
        line, self._line = self._line, b""
        if line == b"0\r\n\r\n":
            self.whole = True
            return at
        match = _SIZE.fullmatch(line)
        if match is None:
            self._give_up(line)
            return at
        size = int(match[1], 16)
        if size:
            self._missing, self._ends = size, b"\r\n"
        elif len(match[1]) == 1:
            # Its empty line is read as the rest of this one.
            self._line = line
        else:
            self.lost = True
        return at

    def _give_up(self, line: bytes) -> None:
        self.lost = True
        # After the last chunk there may be fields.
        self.broken = not line.startswith(b"0\r\n") and _MAY_BE_SIZE.fullmatch(line) is None
