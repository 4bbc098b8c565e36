"""Finds where a body ends, in the bytes that come after a head.

A connection gives one request at a time to the plain way, so it must know which bytes belong to the body. By then aiohttp has read the head
and reported how the body is framed; this module counts. It reads a chunked body by the full grammar of RFC 9112, section 7.1, within narrow
limits, and passes it on in the simplest form: extensions and trailers, which this server does not use, are dropped. So aiohttp never gets a
chunk that it cannot read. If it did, it would not inform the handler, which would wait for the body until the deadline.
"""

from __future__ import annotations

import re

LINE_BYTES_MAX = 1_024
"""The longest line with a chunk's size and extensions, and the most bytes of all trailers together."""

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_QUOTED = rb'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*"'
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})(?:[ \t]*;[ \t]*%b(?:[ \t]*=[ \t]*(?:%b|%b))?)*\r\n" % (_TOKEN, _TOKEN, _QUOTED))
_TRAILER = re.compile(rb"%b:[\t -~\x80-\xff]*\r\n" % _TOKEN)


class Counted:
    """A body of known length."""

    __slots__ = ("missing",)

    broken = False

    def __init__(self, size: int) -> None:
        self.missing = size

    @property
    def whole(self) -> bool:
        """Whether all of it has arrived."""
        return self.missing == 0

    def take(self, data: bytes) -> tuple[int, bytes]:
        """How many of the next bytes belong to the body, and these bytes."""
        taken = min(len(data), self.missing)
        self.missing -= taken
        return taken, data[:taken]


class Chunked:
    """A body in chunks."""

    __slots__ = ("_line", "_missing", "_trailers_bytes", "_within", "broken", "whole")

    def __init__(self) -> None:
        self._missing = 0
        """Bytes missing from the chunk that is being read."""
        self._within = "size"
        """What is being read: a chunk's `size`, its content, the line `end` after that, or the `trailers`."""
        self._line = b""
        """The part of a line that has arrived."""
        self._trailers_bytes = 0
        self.whole = False
        self.broken = False
        """The data does not follow the grammar: the end of the body cannot be found, and nothing after it can be used."""

    def take(self, data: bytes) -> tuple[int, bytes]:
        """How many of the next bytes belong to the body, and their content: as one chunk, followed by the last chunk if they end the
        body.
        """
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
        """Handle a complete line."""
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
