"""NDJSON as a stream of jobs: lines become batches, and results come in the order of the lines. An invalid line does not affect the others.

Everything has a limit: the length of a line, the items and the bytes of a batch. A batch is sent when it is full, or when the stream has no
more data for now, so that lines of a slow producer do not wait for each other.
"""

from __future__ import annotations

import io
import select
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import msgspec
from msgspec import UNSET, Raw, UnsetType

from jobqueue.client.header_types import Header
from jobqueue.errors import BadRequest, QueueError, TooLarge, Unconfirmed
from jobqueue.limits import KIB, MIB, Limits
from jobqueue.policy import Backoff
from jobqueue.unique import Unique

if TYPE_CHECKING:
    from jobqueue.client.sync_client import Client
    from jobqueue.client.types import Enqueued, NewJob

BATCH_JOBS_MAX = Limits().batch_jobs_max
BATCH_BYTES_MAX = 512 * KIB
"""Half of a request's default limit, since the jobs' other fields need room too. A single longer line is sent alone."""

LINE_BYTES_MAX = 16 * MIB
"""More than any server accepts with its default settings; a file without line ends must not fill the memory."""

CHUNK_BYTES = 64 * KIB


class Line(NamedTuple):
    """A line: its number, from 1, and its text; None if it was too long."""

    number: int
    text: bytes | None


class Told(NamedTuple):
    """The result for a line."""

    number: int
    answer: Enqueued | QueueError


class ItemBackoff(Backoff, frozen=True, forbid_unknown_fields=True):
    """Parts of a backoff; what is missing is as `Backoff` has it."""


class ItemUnique(Unique, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What makes a job unique."""


class ItemHeader(Header, frozen=True, forbid_unknown_fields=True):
    """A header of another type than String."""


class Item(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A line with --items: a whole job, with the rules of POST /jobs/enqueue. Fields that are left out come from the options; null is a
    value.
    """

    payload: Raw
    id: str | UnsetType | None = UNSET
    queue: str | UnsetType = UNSET
    type: str | UnsetType | None = UNSET
    description: str | UnsetType | None = UNSET
    priority: int | UnsetType = UNSET
    delay: float | UnsetType | None = UNSET
    run_at: Any = UNSET
    expires_in: float | UnsetType | None = UNSET
    max_attempts: int | UnsetType | None = UNSET
    backoff: ItemBackoff | UnsetType | None = UNSET
    lease_seconds: float | UnsetType | None = UNSET
    traceparent: str | UnsetType | None = UNSET
    key: str | UnsetType | None = UNSET
    tags: list[str] | UnsetType = UNSET
    unique: ItemUnique | UnsetType | None = UNSET
    after: list[str] | UnsetType = UNSET
    after_failure: str | UnsetType = UNSET
    group: str | UnsetType | None = UNSET
    headers: dict[str, str | ItemHeader] | UnsetType = UNSET


_item = msgspec.json.Decoder(Item).decode
_any = msgspec.json.Decoder().decode


def _pauses(stream: IO[bytes]) -> bool:
    """Whether a read would block."""
    try:
        return not select.select([stream], [], [], 0)[0]
    except (OSError, ValueError, io.UnsupportedOperation):
        return False  # not a descriptor, or one that cannot be polled: then nobody waits


def _chunks(stream: IO[bytes]) -> Iterator[bytes]:
    """The data that can be read, and b"" before a read that would block."""
    read = getattr(stream, "read1", stream.read)
    while True:
        if _pauses(stream):
            yield b""
        chunk = read(CHUNK_BYTES)
        if not chunk:
            return
        yield chunk


def _line(pieces: list[bytes], number: int) -> bytes:
    """A line without surrounding white space; the first also without the byte order mark that some programs write at the start of
    a file.
    """
    text = b"".join(pieces)
    return (text.removeprefix(BOM_UTF8) if number == 1 else text).strip()


def lines(stream: IO[bytes], read: Any = None) -> Iterator[Line | None]:
    """Every line that is not blank, and None when the stream pauses. read is called with the bytes as they are read."""
    number, rest, size, too_long = 0, [b""], 0, False
    for chunk in _chunks(stream):
        if not chunk:
            yield None
            continue
        if read is not None:
            read(len(chunk))
        *ended, last = chunk.split(b"\n")
        for piece in ended:
            number += 1
            rest.append(piece)
            text = _line(rest, number)
            if too_long or len(text) > LINE_BYTES_MAX:
                yield Line(number, None)
            elif text:
                yield Line(number, text)
            rest, size, too_long = [], 0, False
        size += len(last)
        too_long = too_long or size > LINE_BYTES_MAX
        rest = [] if too_long else [*rest, last]
    text = _line(rest, number + 1)
    if too_long or text:
        yield Line(number + 1, None if too_long else text)


def job_of(text: bytes, items: bool, base: dict[str, Any], job_id: str | None = None) -> NewJob:
    """The job of a line. job_id: its id if the line has none. Raises BadRequest."""
    from jobqueue.client.types import NewJob

    try:
        if not items:
            _any(text)
            return NewJob(Raw(text), job_id, **base)
        item = _item(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(None, f"cannot be read: {error}") from None
    fields = {name: value for name in item.__struct_fields__ if (value := getattr(item, name)) is not UNSET}
    if fields.get("id") is None:
        fields["id"] = job_id
    return NewJob(**{**base, **fields})


def enqueue_lines(
    client: Client, found: Iterable[Line | None], items: bool, base: dict[str, Any], prefix: str | None = None
) -> Iterator[Told]:
    """Enqueue the jobs of lines, in batches; yields the result for each. prefix: for the ids of jobs that have none; the line's number
    follows it.

    Raises QueueErrors that end the whole stream, usually ConnectionFailed; the error's detail names the lines that may have been submitted.
    """
    batch: list[tuple[int, NewJob]] = []
    size = 0
    for line in found:
        if line is None or (batch and (len(batch) >= BATCH_JOBS_MAX or size + len(line.text or b"") > BATCH_BYTES_MAX)):
            yield from _send(client, batch)
            batch, size = [], 0
        if line is None:
            continue
        if line.text is None:
            yield Told(line.number, TooLarge(None, f"the line is longer than {LINE_BYTES_MAX} bytes"))
            continue
        try:
            job_id = None if prefix is None else f"{prefix}{line.number}"
            batch.append((line.number, job_of(line.text, items, base, job_id)))
            size += len(line.text)
        except BadRequest as error:
            yield Told(line.number, error)
    yield from _send(client, batch)


def _send(client: Client, batch: list[tuple[int, NewJob]]) -> Iterator[Told]:
    if not batch:
        return
    try:
        answers = client.enqueue_batch([job for _, job in batch])
    except (TooLarge, BadRequest) as error:
        # Refused as a whole: the server's limits are lower, or one of the jobs cannot be sent. Sending halves finds out which.
        if len(batch) == 1:
            yield Told(batch[0][0], error)
            return
        half = len(batch) // 2
        yield from _send(client, batch[:half])
        yield from _send(client, batch[half:])
        return
    except QueueError as error:
        if isinstance(error, Unconfirmed):
            first, last = batch[0][0], batch[-1][0]
            lines_meant = f"line {first}" if first == last else f"lines {first} to {last}"
            error.detail += f"; {lines_meant} may have been submitted all the same"
        raise
    yield from (Told(number, answer) for (number, _), answer in zip(batch, answers, strict=True))
