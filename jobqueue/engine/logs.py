"""Jobs' logs: lines by job, in chunks, each stored as a row of its own.

A chunk takes lines until it has CHUNK_BYTES, and is not changed after that. So storing a line writes at most one chunk, and dropping the
oldest lines means forgetting a chunk. Lines are numbered from 1; the dropped lines are those before the first that exists.

The size of a log is counted in its job (`Extra.log`): as part of the live jobs while it is live, and of history afterwards. That number is
not stored, but computed from the chunks.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from jobqueue.engine import checks
from jobqueue.errors import BadRequest
from jobqueue.joblog import LEVELS, LINE_CHARS_MAX, LINES_MAX, LOG_BYTES_MAX, LoggedLine, LogLine, LogPart, LogState
from jobqueue.limits import CONTROL_BUT_LINES, KIB

KIND = "log/"
"""The prefix of a chunk's name in storage, followed by the job's number, a slash, and the number of the chunk's first line."""

CHUNK_BYTES = 4 * KIB
OVERHEAD_BYTES = 20
"""What a line counts in addition to its text: for its time, level and attempt."""

CHUNK_OVERHEAD_BYTES = 300
"""What a chunk counts in addition to its lines: about its size in memory."""

YEAR_10000 = 253_402_300_800.0

_encode_line = msgspec.msgpack.Encoder().encode


class _Line(msgspec.Struct, array_like=True, gc=False):
    at: float
    level: int
    attempt: int
    text: str


_decode_lines = msgspec.msgpack.Decoder(list[_Line]).decode


class StoredChunk(NamedTuple):
    """A chunk as it is stored. job: the number of its job; first: the number of its first line; length: its number of lines; token, said:
    see Chunk.
    """

    job: int
    first: int
    length: int
    size: int
    token: str
    said: int
    lines: bytes


class Chunk:
    """Lines, encoded one after another. token, said: the lease under which its last line was sent, and how many lines that lease had sent
    by then.
    """

    __slots__ = ("count", "first", "lines", "said", "size", "token")

    def __init__(
        self, first: int, count: int = 0, size: int = CHUNK_OVERHEAD_BYTES, token: str = "", said: int = 0, lines: bytes = b""
    ) -> None:
        self.first = first
        self.count = count
        self.size = size
        self.token = token
        self.said = said
        self.lines = bytearray(lines)

    def add(self, line: LogLine, attempt: int, size: int) -> None:
        """Append a line."""
        assert line.at is not None
        self.lines += _encode_line((line.at, LEVELS.index(line.level), attempt, line.text))
        self.count += 1
        self.size += size

    def read(self) -> list[LoggedLine]:
        """All lines."""
        # The head of a MessagePack array with that many elements.
        found = _decode_lines(b"\xdd" + self.count.to_bytes(4, "big") + self.lines)
        return [LoggedLine(number, line.at, LEVELS[line.level], line.attempt, line.text) for number, line in enumerate(found, self.first)]


class Log:
    """The log of one job. It has at least one chunk."""

    __slots__ = ("chunks",)

    def __init__(self, chunks: list[Chunk]) -> None:
        self.chunks = chunks

    @property
    def size(self) -> int:
        """Its size in bytes."""
        return sum(chunk.size for chunk in self.chunks)

    @property
    def state(self) -> LogState:
        """See LogState."""
        last = self.chunks[-1]
        return LogState(last.first + last.count - 1, self.chunks[0].first - 1)

    def read(self, after: int, limit: int) -> list[LoggedLine]:
        """Up to `limit` lines after the one with this number."""
        found: list[LoggedLine] = []
        for chunk in self.chunks:
            if chunk.first + chunk.count > after + 1 and len(found) < limit:
                found += [line for line in chunk.read() if line.number > after]
        return found[:limit]


def check(field: str, part: LogPart) -> None:
    """Raise BadRequest for lines that no log can have."""
    if len(part.lines) > LINES_MAX:
        raise BadRequest(field, f"has {len(part.lines)} lines; 0 to {LINES_MAX} are allowed")
    for at, line in enumerate(part.lines):
        if len(line.text) > LINE_CHARS_MAX or CONTROL_BUT_LINES.search(line.text) is not None:
            checks.text(f"{field}[{at}].text", line.text, LINE_CHARS_MAX, forbidden=CONTROL_BUT_LINES)
        if line.at is not None and not 0 <= line.at < YEAR_10000:
            raise BadRequest(f"{field}[{at}].time", "is out of range; 1970 to 9999 is allowed")
    if part.offset is not None:
        checks.number("log_offset" if field == "log" else "offset", part.offset, 0, 2**53)


def line_bytes(line: LogLine) -> int:
    """The size of a line."""
    return OVERHEAD_BYTES + (len(line.text) if line.text.isascii() else len(line.text.encode()))


class Logs:
    """All logs of an engine, by the number of the job."""

    def __init__(self) -> None:
        self.by_job: dict[int, Log] = {}
        self.lines_total = 0
        self.dropped_total = 0
        self.left_out_total = 0
        """Lines that were left out for lack of room."""

    def __bool__(self) -> bool:
        return bool(self.by_job)

    def new(self, job: int, token: str, part: LogPart) -> tuple[tuple[LogLine, ...], int]:
        """The lines that are not stored yet, and how many lines the lease has sent including them."""
        log = self.by_job.get(job)
        had = 0 if log is None or log.chunks[-1].token != token else log.chunks[-1].said
        if part.offset is None:
            return part.lines, had + len(part.lines)
        said = part.offset + len(part.lines)
        return (part.lines[max(0, had - part.offset) :], max(had, said)) if said > had else ((), had)

    def bound(self, job: int, lines: Iterable[LogLine], room: int) -> int | None:
        """The most bytes that a job's log can have with these lines, if there is `room` for so many more bytes in total; None if that is
        too little for them, even if all lines that can be dropped are.
        """
        log = self.by_job.get(job)
        size, last = (0, 0) if log is None else (log.size, log.chunks[-1].size)
        most = min(LOG_BYTES_MAX, size + max(0, room))
        more = sum(map(line_bytes, lines))
        least = last + more + (more // CHUNK_BYTES + 1) * CHUNK_OVERHEAD_BYTES
        return None if least > most < LOG_BYTES_MAX else most

    def add(self, job: int, token: str, said: int, attempt: int, lines: tuple[LogLine, ...], most: int) -> list[str]:
        """Append lines to a job's log, and drop the oldest lines beyond `most` bytes; returns the names of the changed chunks."""
        log = self.by_job.get(job)
        if log is None:
            log = self.by_job[job] = Log([Chunk(1)])
        chunks = log.chunks
        changed = {chunks[-1].first: None}
        for line in lines:
            if chunks[-1].size >= CHUNK_BYTES:
                chunks.append(Chunk(chunks[-1].first + chunks[-1].count))
                changed[chunks[-1].first] = None
            chunks[-1].add(line, attempt, line_bytes(line))
        chunks[-1].token, chunks[-1].said = token, said
        size = log.size
        while size > most:
            oldest = chunks.pop(0)
            size -= oldest.size
            self.dropped_total += oldest.count
            changed[oldest.first] = None
        self.lines_total += len(lines)
        return [f"{KIND}{job}/{first}" for first in changed]

    def forget(self, job: int) -> list[str]:
        """Forget a job's log; returns the names of its chunks."""
        log = self.by_job.pop(job, None)
        return [] if log is None else [f"{KIND}{job}/{chunk.first}" for chunk in log.chunks]

    def state(self, job: int) -> LogState:
        """See LogState."""
        log = self.by_job.get(job)
        return LogState(0, 0) if log is None else log.state

    def size(self, job: int) -> int:
        """The size of a job's log."""
        log = self.by_job.get(job)
        return 0 if log is None else log.size

    # Storage.

    def stored(self, name: str) -> StoredChunk | None:
        """The chunk with this name as it is to be stored, None if there is none."""
        job, first = _parsed(name)
        log = self.by_job.get(job)
        found = None if log is None else next((chunk for chunk in log.chunks if chunk.first == first), None)
        if found is None:
            return None
        return StoredChunk(job, first, found.count, found.size, found.token, found.said, bytes(found.lines))

    def restore(self, stored: Iterable[StoredChunk], gone: Iterable[str] = ()) -> set[int]:
        """Restore stored chunks, and drop those named in `gone`; returns the jobs whose logs have changed."""
        changed: set[int] = set()
        for name in gone:
            job, first = _parsed(name)
            log = self.by_job.get(job)
            if log is not None:
                log.chunks = [chunk for chunk in log.chunks if chunk.first != first]
                changed.add(job)
        for job, first, *rest in stored:
            log = self.by_job.setdefault(job, Log([]))
            log.chunks = [*(chunk for chunk in log.chunks if chunk.first != first), Chunk(first, *rest)]  # type: ignore[arg-type]
            changed.add(job)
        for job in changed:
            log = self.by_job[job]
            if log.chunks:
                log.chunks.sort(key=lambda chunk: chunk.first)
            else:
                del self.by_job[job]
        return changed


def log_key(number: int) -> str:
    """The key under which requests wait for more lines of a job's log: no job has such an id."""
    return f"\0{KIND}{number}"


def _parsed(name: str) -> tuple[int, int]:
    job, _, first = name.removeprefix(KIND).partition("/")
    return int(job), int(first)
