"""Where a body ends, in the bytes that come after a head.

A connection gives the way beneath it one request at a time, so it must know which bytes are the body's. aiohttp has read the head by then
and said how the body is framed; this counts. A chunked body is read here by the whole grammar of RFC 9112, section 7.1, within narrow
bounds, and handed on in the plainest form: extensions and trailers, which mean nothing to this server, go no further. So aiohttp never
meets a chunk that it cannot read. It would not tell a handler of one that waits for the body, which would then wait until its deadline.
"""

from __future__ import annotations

import re

LINE_BYTES_MAX = 1_024
"""The longest line of a chunk's size, with its extensions, and the most that all trailers together may have."""

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_QUOTED = rb'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*"'
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})(?:[ \t]*;[ \t]*%b(?:[ \t]*=[ \t]*(?:%b|%b))?)*\r\n" % (_TOKEN, _TOKEN, _QUOTED))
_TRAILER = re.compile(rb"%b:[\t -~\x80-\xff]*\r\n" % _TOKEN)


class Counted:
    """A body of so many bytes."""

    __slots__ = ("missing",)

    broken = False

    def __init__(self, size: int) -> None:
        self.missing = size

    @property
    def whole(self) -> bool:
        """Whether all of it has come."""
        return self.missing == 0

    def take(self, data: bytes) -> tuple[int, bytes]:
        """How many of the next bytes are the body's, and these."""
        taken = min(len(data), self.missing)
        self.missing -= taken
        return taken, data[:taken]


class Chunked:
    """A body in chunks."""

    __slots__ = ("_line", "_missing", "_trailers_bytes", "_within", "broken", "whole")

    def __init__(self) -> None:
        self._missing = 0
        """Of the chunk that is being read."""
        self._within = "size"
        """What is being read: a chunk's `size`, its content, the line `end` after that, or the `trailers`."""
        self._line = b""
        """What has come of a line."""
        self._trailers_bytes = 0
        self.whole = False
        self.broken = False
        """What came is not what the grammar allows: it cannot be told where the body ends, and all that follows is lost."""

    def take(self, data: bytes) -> tuple[int, bytes]:
        """How many of the next bytes are the body's, and what they say: as one chunk, and the last one where they end it."""
        at, contents = 0, []
        while at < len(data) and not self.broken and not self.whole:
            if self._missing:
                contents.append(data[at : at + self._missing])
                self._missing -= len(contents[-1])
                at += len(contents[-1])
                continue
            end = data.find(b"\n", at, at + LINE_BYTES_MAX) + 1
            piece = data[at : end or at + LINE_BYTES_MAX]
            self._line += piece
            at += len(piece)
            if end:
                line, self._line = self._line, b""
                self._read(line)
            elif len(self._line) >= LINE_BYTES_MAX or (self._within == "end" and not b"\r\n".startswith(self._line)):
                self.broken = True
        said = b"".join(contents)
        if said:
            said = b"%x\r\n%b\r\n" % (len(said), said)
        if self.whole:
            said += b"0\r\n\r\n"
        return (len(data) if self.broken else at), said

    def _read(self, line: bytes) -> None:
        """A line has come whole."""
        if self._within == "size":
            match = _SIZE.fullmatch(line) if len(line) <= LINE_BYTES_MAX else None
            if match is None:
                self.broken = True
                return
            self._missing = int(match[1], 16)
            self._within = "end" if self._missing else "trailers"
        elif self._within == "end":
            self.broken = line != b"\r\n"
            self._within = "size"
        elif line == b"\r\n":
            self.whole = True
        else:
            self._trailers_bytes += len(line)
            self.broken = self._trailers_bytes > LINE_BYTES_MAX or _TRAILER.fullmatch(line) is None
