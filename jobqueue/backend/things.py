"""What is stored under a name: queues, and things that are neither jobs nor queues, such as schedules. All use the same kind of row.

The row of a queue has the queue's name. The row of a thing has its kind, a slash (which no queue's name contains), and its own name. So
every store keeps it, and every copy from one store to another includes it, just like queues. To add a kind: a `KIND` in its part of the
engine, and a branch in each of the functions here.

MessagePack arrays, by position, as in rows.py; except for tasks, which are few and stored as maps.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from jobqueue.backend.id_claims import decode_claim, decode_floor, encode_claim, encode_floor
from jobqueue.backend.rows import BadRow, decode_queue, encode_queue
from jobqueue.backend.windows import decode_window, encode_window
from jobqueue.engine import logs, samples, unique
from jobqueue.engine.claims import CLAIM, FLOOR, IdClaim
from jobqueue.engine.engine import Engine
from jobqueue.engine.groups import KIND as GROUP
from jobqueue.engine.groups import OUTCOMES, TALLY, StoredCallback, StoredGroup, Tally
from jobqueue.engine.logs import StoredChunk
from jobqueue.engine.restore import StoredQueue
from jobqueue.engine.schedules import KIND
from jobqueue.engine.state import QUIET
from jobqueue.engine.tasks import KIND as TASK
from jobqueue.engine.tasks import Task
from jobqueue.engine.timetable import Stored
from jobqueue.engine.unique import Window
from jobqueue.group import CallbackState
from jobqueue.model import Header, JobSpec
from jobqueue.policy import Backoff, Pause
from jobqueue.schedule import Missed, Overlap, Schedule
from jobqueue.unique import OnConflict, Unique, Until

_Span = tuple[float, float]


class _SpecRow(msgspec.Struct, array_like=True):
    payload: bytes
    queue: str
    type: str | None
    description: str | None
    priority: int
    delay: float | None
    expires_in: float | None
    max_attempts: int | None
    backoff: tuple[float, float, float] | None
    lease_seconds: float | None
    traceparent: str | None
    key: str | None
    tags: tuple[str, ...]
    unique: tuple[str, Until, float | None, OnConflict, float | None] | None = None
    headers: tuple[tuple[str, bytes, str], ...] = ()


class _ScheduleRow(msgspec.Struct, array_like=True):
    job: _SpecRow
    cron: str | None
    every: float | None
    timezone: str
    missed: Missed
    catch_up: float
    overlap: Overlap
    jitter: float
    paused: bool
    starts_at: float | None
    ends_at: float | None
    begun_at: float
    upto: float
    gap: _Span | None
    done: _Span | None
    waiting: tuple[float, ...]
    last_at: float | None
    last_job: str | None
    made_total: int
    skipped_total: int
    problem: str | None
    pause: tuple[float, str | None] | None = None


class _CallbackRow(msgspec.Struct, array_like=True):
    spec: _SpecRow
    state: CallbackState
    job: str | None
    problem: str | None


class _GroupRow(msgspec.Struct, array_like=True):
    number: int
    queue: str
    created_at: float
    closed: bool
    cancelled: bool
    cancelling: bool
    concluded: int | None
    on_concluded: _CallbackRow | None
    on_succeeded: _CallbackRow | None


class Named(NamedTuple):
    """Everything that is stored under a name, by kind."""

    queues: list[StoredQueue]
    schedules: list[Stored]
    logs: list[StoredChunk]
    windows: list[Window]
    quiet: list[tuple[str, float]]
    groups: list[StoredGroup]
    tallies: list[Tally]
    tasks: list[Task]
    samples: dict[int, dict[str, bytes]]
    claims: list[tuple[str, IdClaim]]
    floors: dict[int, int]


_encode = msgspec.msgpack.Encoder().encode
_decode_quiet = msgspec.msgpack.Decoder(float).decode
_decode_chunk = msgspec.msgpack.Decoder(tuple[int, int, str, int, bytes]).decode
_decode_schedule = msgspec.msgpack.Decoder(_ScheduleRow).decode
_decode_group = msgspec.msgpack.Decoder(_GroupRow).decode
_decode_task = msgspec.msgpack.Decoder(Task).decode
_decode_samples = msgspec.msgpack.Decoder(dict[str, bytes]).decode
_decode_tally = msgspec.msgpack.Decoder(tuple[int, ...]).decode


AT_ONCE = KIND
"""Prefixes of names whose rows are made in the step that changed them: schedules. Ten thousand of them can come due during one commit, and
making all their rows in the turn in which it completes would block the loop. Rows of other things can change with each job, and are made
once per commit."""


def encode_named(engine: Engine, name: str, offset: float = 0.0) -> bytes | None:
    """The row to store under this name; None if the row is to be deleted. offset: engine time minus the time line of stored times."""
    if "/" not in name:
        queue = engine.queues.get(name)
        return None if queue is None else encode_queue(queue, offset)
    if name.startswith(logs.KIND):
        chunk = engine.logs.stored(name)
        return None if chunk is None else _encode(chunk[2:])
    if name.startswith(QUIET):
        at = engine.quiet.get(name.removeprefix(QUIET))
        return None if at is None else _encode(at)
    if name.startswith(unique.KIND):
        window = engine.uniques.windows.get(unique.place_of(name))
        return None if window is None or not window.stored else encode_window(window, offset)
    if name.startswith(GROUP):
        group = engine.groups.groups.get(name.removeprefix(GROUP))
        return None if group is None else encode_group(group.stored)
    if name.startswith(TALLY):
        group = engine.groups.groups.get(name.removeprefix(TALLY))
        return None if group is None else _encode(group.forgotten)
    if name.startswith(TASK):
        task = engine.tasks.get(name.removeprefix(TASK))
        return None if task is None else _encode(task)
    if name.startswith(samples.KIND):
        rows = engine.samples.row(name)
        return None if rows is None else encode_samples(rows)
    if name.startswith(CLAIM):
        claim = engine.claims.get(name.removeprefix(CLAIM))
        return None if claim is None else encode_claim(claim)
    if name.startswith(FLOOR):
        return encode_floor(engine.claims.floors[int(name.removeprefix(FLOOR))])
    table = engine.schedules.tables.get(name.removeprefix(KIND))
    return None if table is None else encode_schedule(table.stored)


def decode_named(rows: Iterable[tuple[str, bytes]], offset: float = 0.0) -> Named:
    """The content of rows. offset: see `encode_named`. Raises BadRow, also for an unknown kind."""
    named = Named([], [], [], [], [], [], [], [], {}, [], {})
    for name, row in rows:
        if "/" not in name:
            named.queues.append(decode_queue(name, row, offset))
        elif name.startswith(KIND):
            named.schedules.append(decode_schedule(name.removeprefix(KIND), row))
        elif name.startswith(logs.KIND):
            named.logs.append(decode_chunk(name, row))
        elif name.startswith(QUIET):
            named.quiet.append(decode_quiet(name, row))
        elif name.startswith(unique.KIND):
            named.windows.append(decode_window(name, row, offset))
        elif name.startswith(GROUP):
            named.groups.append(decode_group(name.removeprefix(GROUP), row))
        elif name.startswith(TALLY):
            named.tallies.append(decode_tally(name.removeprefix(TALLY), row))
        elif name.startswith(TASK):
            named.tasks.append(decode_task(name, row))
        elif name.startswith(samples.KIND):
            named.samples.update(decode_samples(name, row))
        elif name.startswith((CLAIM, FLOOR)):
            _decode_claims(named, name, row)
        else:
            raise BadRow(f"{name!r} is of a kind that this server does not know")
    return named


def _decode_claims(named: Named, name: str, row: bytes) -> None:
    if name.startswith(CLAIM):
        named.claims.append(decode_claim(name, row))
    else:
        home, floor = decode_floor(name, row)
        named.floors[home] = floor


def decode_quiet(name: str, row: bytes) -> tuple[str, float]:
    """A quiet worker, and since when, from its row. Raises BadRow."""
    try:
        return name.removeprefix(QUIET), _decode_quiet(row)
    except (msgspec.MsgspecError, ValueError) as error:
        raise BadRow(f"{name!r}: {error}") from None


def decode_task(name: str, row: bytes) -> Task:
    """A task from its row. Raises BadRow."""
    try:
        task = _decode_task(row)
    except (msgspec.MsgspecError, ValueError) as error:
        raise BadRow(f"{name!r}: {error}") from None
    if task.stats.id != name.removeprefix(TASK):
        raise BadRow(f"{name!r}: it says that it is {task.stats.id!r}")
    return task


def decode_samples(name: str, row: bytes) -> dict[int, dict[str, bytes]]:
    """The samples of one step by queue, from their row. Raises BadRow."""
    try:
        number, rows = int(name.removeprefix(samples.KIND)), _decode_samples(row)
    except (msgspec.MsgspecError, ValueError) as error:
        raise BadRow(f"{name!r}: {error}") from None
    for queue, sample in rows.items():
        if queue != samples.REFUSED and (len(sample) != samples.ROW_BYTES or samples.step_of(sample) != number):
            raise BadRow(f"{name!r}: the sample of {queue!r} is none of this step")
    return {number: rows}


def encode_samples(rows: Mapping[str, bytes]) -> bytes:
    """The row of the samples of one step, by queue."""
    return _encode(rows)


def samples_of(names: Iterable[str]) -> list[int]:
    """The steps that have samples, from these names."""
    return [int(name.removeprefix(samples.KIND)) for name in names if name.startswith(samples.KIND)]


def tasks_of(names: Iterable[str]) -> list[str]:
    """The ids of tasks among these names."""
    return [name.removeprefix(TASK) for name in names if name.startswith(TASK)]


def in_their_order(tasks: Iterable[Task]) -> dict[str, Task]:
    """Tasks by id, the oldest first."""
    return {task.stats.id: task for task in sorted(tasks, key=lambda task: task.number)}


def quiet_of(names: Iterable[str]) -> list[str]:
    """The names of quiet workers among these names."""
    return [name.removeprefix(QUIET) for name in names if name.startswith(QUIET)]


def decode_chunk(name: str, row: bytes) -> StoredChunk:
    """A chunk of a job's log from its row. Raises BadRow."""
    try:
        job, first = map(int, name.removeprefix(logs.KIND).split("/"))
        chunk = StoredChunk(job, first, *_decode_chunk(row))
        logs.Chunk(first, *chunk[2:]).read()
    except (msgspec.MsgspecError, ValueError) as error:
        raise BadRow(f"log {name!r}: {error}") from None
    return chunk


def logs_of(names: Iterable[str]) -> list[str]:
    """The chunks of logs among these names."""
    return [name for name in names if name.startswith(logs.KIND)]


def windows_of(names: Iterable[str]) -> list[unique.Place]:
    """The unique keys that are held for a time, among these names."""
    return [unique.place_of(name) for name in names if name.startswith(unique.KIND)]


def queues_of(names: Iterable[str]) -> list[str]:
    """The queues among these names."""
    return [name for name in names if "/" not in name]


def schedules_of(names: Iterable[str]) -> list[str]:
    """The names of schedules among these names."""
    return [name.removeprefix(KIND) for name in names if name.startswith(KIND)]


def claims_of(names: Iterable[str]) -> list[str]:
    """The claimed ids among these names."""
    return [name.removeprefix(CLAIM) for name in names if name.startswith(CLAIM)]


def groups_of(names: Iterable[str]) -> list[str]:
    """The ids of groups among these names."""
    return [name.removeprefix(GROUP) for name in names if name.startswith(GROUP)]


def encode_spec(spec: JobSpec) -> tuple[object, ...]:
    """A job to be made, without the fields that a template does not have: an id and a time."""
    backoff = spec.backoff
    return (
        spec.payload,
        spec.queue,
        spec.type,
        spec.description,
        spec.priority,
        spec.delay,
        spec.expires_in,
        spec.max_attempts,
        None if backoff is None else (backoff.base, backoff.factor, backoff.cap),
        spec.lease_seconds,
        spec.traceparent,
        spec.key,
        spec.tags,
        None if spec.unique is None else tuple(getattr(spec.unique, name) for name in Unique.__struct_fields__),
        [(header.name, header.value, header.type) for header in spec.headers],
    )


def encode_schedule(stored: Stored) -> bytes:
    """A schedule's row."""
    _, schedule, *state, pause = stored
    rules = [getattr(schedule, field) for field in _ScheduleRow.__struct_fields__[1:11]]
    return _encode((encode_spec(schedule.job), *rules, *state, None if pause is None else (pause.at, pause.by)))


def decode_schedule(name: str, row: bytes) -> Stored:
    """A schedule from its row. Raises BadRow."""
    try:
        read = _decode_schedule(row)
    except (msgspec.MsgspecError, ValueError) as error:
        raise BadRow(f"schedule {name!r}: {error}") from None
    fields = {field: getattr(read, field) for field in _ScheduleRow.__struct_fields__}
    rules = {field: fields[field] for field in Schedule.__struct_fields__ if field != "job"}
    state = {field: fields[field] for field in Stored._fields[2:]}
    state["pause"] = None if read.pause is None else Pause(*read.pause)
    return Stored(name, Schedule(job=_spec(read.job), **rules), **state)


def _spec(row: _SpecRow) -> JobSpec:
    told = {field: getattr(row, field) for field in _SpecRow.__struct_fields__}
    told["backoff"] = None if row.backoff is None else Backoff(*row.backoff)
    told["unique"] = None if row.unique is None else Unique(*row.unique)
    told["headers"] = tuple(Header(*header) for header in row.headers)
    return JobSpec(**told)


def encode_group(stored: StoredGroup) -> bytes:
    """A group's row."""
    _, *fields, on_concluded, on_succeeded = stored
    return _encode((*fields, _callback(on_concluded), _callback(on_succeeded)))


def _callback(stored: StoredCallback | None) -> tuple[object, ...] | None:
    return None if stored is None else (encode_spec(stored.spec), stored.state, stored.job, stored.problem)


def decode_group(group_id: str, row: bytes) -> StoredGroup:
    """A group from its row. Raises BadRow."""
    try:
        read = _decode_group(row)
    except (msgspec.MsgspecError, ValueError) as error:
        raise BadRow(f"group {group_id!r}: {error}") from None
    fields = {field: getattr(read, field) for field in StoredGroup._fields[1:]}
    for name in ("on_concluded", "on_succeeded"):
        if (made := fields[name]) is not None:
            fields[name] = StoredCallback(_spec(made.spec), made.state, made.job, made.problem)
    return StoredGroup(group_id, **fields)


def decode_tally(group_id: str, row: bytes) -> Tally:
    """The number of forgotten members of a group, from its row. Raises BadRow."""
    try:
        counts = _decode_tally(row)
    except (msgspec.MsgspecError, ValueError) as error:
        raise BadRow(f"the tally of group {group_id!r}: {error}") from None
    if len(counts) != len(OUTCOMES) or min(counts) < 0:
        raise BadRow(f"the tally of group {group_id!r}: it counts {counts}")
    return Tally(group_id, counts)
