"""Groups: who is a member, how many members have ended, and what is enqueued when all have.

A job is a member by its `extra.group`, and by its number, which is not below the group's own: so a new group with the id of an earlier one
has none of its members. The live and the ended members are counted from the jobs themselves; for members that history has forgotten, the
number is stored (`forgotten`).

A callback is enqueued in the step in which the last member ends, or in which the group is closed; its state is stored in the same commit,
so it is enqueued once. Its room in the server is reserved while it waits (`State.reserve`), so only its queue can lack room. Then it is
*owed*, and tried every second, whatever happens to the members meanwhile.

Concluded groups are kept for a while, the last `groups_kept_max` of them. A group that owes a callback counts as not concluded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import islice
from typing import NamedTuple

from msgspec.structs import replace

from jobqueue.engine import checks
from jobqueue.engine.events import K_GROUP_CONCLUDED, K_THING_CHANGED, Event
from jobqueue.engine.sizes import spec_bytes
from jobqueue.engine.state import State
from jobqueue.errors import BadRequest, Full, GroupClosed, IdConflict, LostRace, QueueError, TooLarge, TooManyGroups, UnknownGroup
from jobqueue.group import CallbackState, CallbackStats, GroupSpec, GroupStats
from jobqueue.model import CANCELLED, CONCLUDED, EXPIRED, FAILED, SUCCEEDED, Job, JobSpec, Outcome
from jobqueue.policy import Backoff

KIND = "group/"
"""The prefix of a group's id in storage."""

TALLY = "tally/"
"""The prefix under which the number of its forgotten members is stored: separate, since it changes often, and the group itself can be
large.
"""

RETRY_SECONDS = 1.0
SLICE = 500
"""Members cancelled in one step."""

_LOOKED = 2_000
"""Jobs looked at in one step, to find the members."""

OUTCOMES = (SUCCEEDED, FAILED, CANCELLED, EXPIRED)
_AT = {outcome: at for at, outcome in enumerate(OUTCOMES)}
_CALLBACKS = ("on_concluded", "on_succeeded")


class StoredCallback(NamedTuple):
    """See CallbackStats."""

    spec: JobSpec
    state: CallbackState = "waits"
    job: str | None = None
    problem: str | None = None


class StoredGroup(NamedTuple):
    """A group as it is stored. number: only jobs from this number on can be members; cancelling: not all members are cancelled yet;
    concluded: the position of its conclusion among those of all groups, None if it is not concluded.
    """

    id: str
    number: int
    queue: str
    created_at: float
    closed: bool = False
    cancelled: bool = False
    cancelling: bool = False
    concluded: int | None = None
    on_concluded: StoredCallback | None = None
    on_succeeded: StoredCallback | None = None


class Tally(NamedTuple):
    """How many members of each outcome history has forgotten."""

    id: str
    forgotten: tuple[int, ...]


class Group:
    """One group. live: members that have not ended; ended: known members that have, by outcome; forgotten: the same for forgotten members;
    spared: numbers of members that were retried while the group is being cancelled.
    """

    __slots__ = ("ended", "forgotten", "live", "spared", "stored")

    def __init__(self, stored: StoredGroup) -> None:
        self.stored = stored
        self.live = 0
        self.ended = [0] * len(OUTCOMES)
        self.forgotten = [0] * len(OUTCOMES)
        self.spared: set[int] = set()

    @property
    def over(self) -> bool:
        """Whether it is closed and all members have ended."""
        return self.stored.closed and not self.live

    @property
    def counts(self) -> list[int]:
        """Members that have ended, by outcome."""
        return [known + gone for known, gone in zip(self.ended, self.forgotten, strict=True)]

    def callback(self, name: str) -> StoredCallback | None:
        """One of its callbacks."""
        found: StoredCallback | None = getattr(self.stored, name)
        return found

    @property
    def reserved(self) -> tuple[int, int]:
        """The jobs that it may still enqueue, and their bytes."""
        waits = [made for name in _CALLBACKS if (made := self.callback(name)) is not None and made.state != "made"]
        return len(waits), sum(spec_bytes(made.spec) for made in waits)

    @property
    def owes(self) -> bool:
        """Whether there was no room for a callback yet."""
        return any((made := self.callback(name)) is not None and made.state == "owed" for name in _CALLBACKS)


class Groups:
    """All groups of an engine. enqueue, cancel: the engine's."""

    def __init__(self, state: State, enqueue: Callable[[float, JobSpec], tuple[Job, bool]], cancel: Callable[[float, str], Job]) -> None:
        self.groups: dict[str, Group] = {}
        self.kept: dict[str, None] = {}
        """The concluded groups that owe nothing, in the order of their conclusion."""
        self._state = state
        self._enqueue = enqueue
        self._cancel = cancel
        self._conclusions = 0

    # Operations.

    def group(self, group_id: str) -> Group:
        """The group with this id. Raises UnknownGroup."""
        group = self.groups.get(group_id)
        if group is None:
            raise UnknownGroup(group_id)
        return group

    def create(self, spec: GroupSpec, created_at: float, new_id: Callable[[], str]) -> tuple[Group, bool]:
        """Make a group; (group, False) if it already exists with the same spec. created_at: UTC.

        Raises BadRequest, TooLarge, IdConflict, TooManyGroups, QueueFull.
        """
        state = self._state
        spec = checked(spec, state)
        if spec.id is not None and (known := self.groups.get(spec.id)) is not None:
            _same(known.stored, spec)
            return known, False
        open_groups = len(self.groups) - len(self.kept)
        if open_groups >= state.limits.groups_max:
            raise TooManyGroups(
                f"the limit of {open_groups} groups that are not concluded, or owe a job, is reached; "
                "close or cancel those that are not needed"
            )
        callbacks = [None if asked is None else StoredCallback(asked) for asked in (spec.on_concluded, spec.on_succeeded)]
        group_id = new_id() if spec.id is None else spec.id
        group = Group(StoredGroup(group_id, state.jobs.next_number, spec.queue, created_at, False, False, False, None, *callbacks))
        state.reserve(*group.reserved)
        self.groups[group_id] = group
        self._changed(group)
        return group, True

    def close(self, group_id: str, now: float) -> Group:
        """Close the group, so that no more jobs can join. Repeating it changes nothing. Raises UnknownGroup."""
        group = self.group(group_id)
        if not group.stored.closed:
            self._set(group, closed=True)
            self._look(group, now)
        return group

    def cancel(self, group_id: str, now: float) -> Group:
        """Close a group, and cancel all its live members, in slices. Raises UnknownGroup."""
        group = self.group(group_id)
        if group.live and not group.stored.cancelling:
            self._set(group, cancelled=True, cancelling=True)
            self._state.do_later(self._cancel_members(group))
        return self.close(group_id, now)

    def _cancel_members(self, group: Group) -> Iterator[int]:
        jobs = self._state.jobs
        last, end = group.stored.number - 1, jobs.next_number
        while part := [job for job in islice(jobs.oldest_first(last), _LOOKED) if job.number < end]:
            last = part[-1].number
            members = iter([job.number for job in part if self.of(job) is group])
            yield 1 + len(part) // 10
            while numbers := list(islice(members, SLICE)):
                for number in numbers:
                    self._cancel_member(group, number)
                yield len(numbers)
        if self.groups.get(group.stored.id) is group:
            group.spared.clear()
            self._set(group, cancelling=False)

    def _cancel_member(self, group: Group, number: int) -> None:
        job = self._state.jobs.numbered(number)
        if job is not None and job.status is not CONCLUDED and number not in group.spared:
            with suppress(LostRace):  # It is live.
                self._cancel(self._state.now, job.id)

    def stats(self, group: Group) -> GroupStats:
        """A snapshot of a group."""
        stored = group.stored
        succeeded, failed, cancelled, expired = group.counts
        callbacks = [
            None if made is None else CallbackStats(made.state, made.spec.queue, made.job, made.problem)
            for made in (stored.on_concluded, stored.on_succeeded)
        ]
        return GroupStats(
            id=stored.id,
            queue=stored.queue,
            created_at=stored.created_at,
            closed=stored.closed,
            cancelled=stored.cancelled,
            concluded=group.over,
            live=group.live,
            succeeded=succeeded,
            failed=failed,
            cancelled_jobs=cancelled,
            expired=expired,
            on_concluded=callbacks[0],
            on_succeeded=callbacks[1],
        )

    # Calls from the engine.

    def of(self, job: Job) -> Group | None:
        """The group that a job is a member of."""
        name = job.details.extra.group
        group = None if name is None else self.groups.get(name)
        return group if group is not None and job.number >= group.stored.number else None

    def check_open(self, group_id: str) -> None:
        """Check that a job can join. Raises UnknownGroup, GroupClosed."""
        group = self.groups.get(group_id)
        if group is None:
            raise UnknownGroup(group_id, "group")
        if group.stored.closed:
            raise GroupClosed(group_id)

    def lives(self, job: Job, by: int = 1) -> None:
        """A live job that may be a member was enqueued or restored; by -1: it was taken out."""
        group = self.of(job)
        if group is not None:
            group.live += by

    def ended(self, job: Job, by: int = 1) -> None:
        """A concluded job that may be a member is in history; by -1: it was taken out."""
        group, outcome = self.of(job), job.outcome
        if group is not None and outcome is not None:
            group.ended[_AT[outcome]] += by

    def concluded(self, job: Job) -> None:
        """A job that may be a member has ended."""
        group = self.of(job)
        if group is not None:
            assert job.conclusion is not None
            group.live -= 1
            self.ended(job)
            self._look(group, job.conclusion.concluded_at)

    def retried(self, job: Job, outcome: Outcome) -> None:
        """A job that may be a member was retried."""
        group = self.of(job)
        if group is None:
            return
        group.live += 1
        group.ended[_AT[outcome]] -= 1
        if group.stored.cancelling:
            group.spared.add(job.number)
        if group.stored.concluded is not None:
            self.kept.pop(group.stored.id, None)
            self._set(group, concluded=None)

    def forgotten(self, job: Job) -> None:
        """History forgot a job that may be a member."""
        group = self.of(job)
        if group is not None:
            self.ended(job, -1)
            assert job.outcome is not None
            group.forgotten[_AT[job.outcome]] += 1
            self._state.events.append(Event(K_THING_CHANGED, TALLY + group.stored.id))

    def due(self, group: Group, now: float) -> int:
        """There was no room for a callback; try again."""
        if self.groups.get(group.stored.id) is group:
            self._pay(group, now)
            self._keep(group)
            self._forget_some()
        return 1

    # What happens next.

    def _set(self, group: Group, **fields: object) -> None:
        group.stored = group.stored._replace(**fields)  # type: ignore[arg-type] # fields of a StoredGroup
        self._changed(group)

    def _changed(self, group: Group) -> None:
        self._state.events.append(Event(K_THING_CHANGED, KIND + group.stored.id))

    def _look(self, group: Group, now: float) -> None:
        """Check whether a group has concluded."""
        if not group.over or group.stored.concluded is not None:
            return
        self._conclusions += 1
        group.stored = group.stored._replace(concluded=self._conclusions)
        _, *others = group.counts
        for name in _CALLBACKS:
            made = group.callback(name)
            if made is not None and made.state == "waits" and (name == "on_concluded" or not any(others)):
                group.stored = group.stored._replace(**{name: made._replace(state="owed")})  # type: ignore[arg-type]
        self._state.events.append(Event(K_GROUP_CONCLUDED, KIND + group.stored.id))
        self._pay(group, now)
        self._keep(group)
        self._forget_some()

    def _keep(self, group: Group) -> None:
        """Add a group to those that can be forgotten, if it is concluded and owes nothing."""
        if group.stored.concluded is not None and not group.owes:
            self.kept.setdefault(group.stored.id)

    def _pay(self, group: Group, now: float) -> None:
        """Enqueue the owed callbacks."""
        for name in _CALLBACKS:
            made = group.callback(name)
            if made is None or made.state != "owed":
                continue
            size = spec_bytes(made.spec)
            self._state.reserve(-1, -size)
            try:
                job = self._make(group, name, made.spec, now)
            except QueueError as error:
                self._state.reserve(1, size, asking=False)
                if made.problem is None:
                    self._set(group, **{name: made._replace(problem=error.detail)})
                if isinstance(error, Full):
                    self._state.deadlines.set(group, now + RETRY_SECONDS)
                continue
            self._set(group, **{name: made._replace(state="made", job=job.id, problem=None)})

    def _make(self, group: Group, name: str, spec: JobSpec, now: float) -> Job:
        job_id = f"{group.stored.id}:{name.removeprefix('on_')}"
        if job_id in self._state.jobs.by_id:
            # The id belongs to a job of an earlier group, or of anyone else: the callback is another job.
            job_id = f"{job_id}:{self._state.jobs.next_number}"
        return self._enqueue(now, replace(spec, id=job_id))[0]

    def _forget_some(self) -> None:
        """Forget the oldest concluded groups, if there are too many."""
        while len(self.kept) > self._state.limits.groups_kept_max:
            oldest = next(iter(self.kept))
            group = self.groups.pop(oldest)
            del self.kept[oldest]
            self._unreserve(group)
            self._changed(group)
            self._state.events.append(Event(K_THING_CHANGED, TALLY + oldest))

    def _unreserve(self, group: Group) -> None:
        jobs, size = group.reserved
        self._state.reserve(-jobs, -size)

    # Storage.

    def restore(self, stored: StoredGroup) -> None:
        """Restore a stored group. Each member is counted when it is restored, once; a group that already exists keeps its counts."""
        old = self.groups.get(stored.id)
        if old is not None:
            self._unreserve(old)
            self.kept.pop(stored.id, None)
        if old is not None and old.stored.number == stored.number:
            group = old
            group.stored = stored
        else:
            group = self.groups[stored.id] = Group(stored)
        self._state.reserve(*group.reserved, asking=False)
        self._keep(group)
        if stored.concluded is not None:
            self._conclusions = max(self._conclusions, stored.concluded)

    def restore_tally(self, tally: Tally) -> None:
        """Restore the stored number of forgotten members."""
        group = self.groups.get(tally.id)
        if group is not None:
            group.forgotten = list(tally.forgotten)

    def follow(self, changed: Iterable[StoredGroup], tallies: Iterable[Tally], gone: Iterable[str]) -> None:
        """Apply changes of stored groups, and remove those that are gone."""
        for name in gone:
            group = self.groups.pop(name, None)
            if group is not None:
                self._unreserve(group)
                self.kept.pop(name, None)
        for stored in changed:
            self.restore(stored)
        for tally in tallies:
            self.restore_tally(tally)

    def resume(self, now: float) -> None:
        """Continue after a restart."""
        self.kept = dict.fromkeys(sorted(self.kept, key=self._concluded))
        for group in list(self.groups.values()):
            if group.stored.cancelling:
                self._state.do_later(self._cancel_members(group))
            if group.owes:
                self._state.deadlines.set(group, now)
            self._look(group, now)

    def _concluded(self, name: str) -> int:
        return self.groups[name].stored.concluded or 0

    def check(self) -> None:
        """Assert that the counts are correct."""
        live: dict[str, int] = {}
        ended: dict[str, list[int]] = {}
        for job in self._state.jobs.all():
            group = self.of(job)
            if group is None:
                continue
            if job.outcome is None:
                live[group.stored.id] = live.get(group.stored.id, 0) + 1
            else:
                ended.setdefault(group.stored.id, [0] * len(OUTCOMES))[_AT[job.outcome]] += 1
        for name, group in self.groups.items():
            assert group.live == live.get(name, 0), f"live members of {name}"
            assert group.ended == ended.get(name, [0] * len(OUTCOMES)), f"members of {name} that have ended"
            assert group.over == (group.stored.concluded is not None), f"whether {name} has concluded"
        assert self.kept.keys() == {name for name, group in self.groups.items() if group.stored.concluded is not None and not group.owes}
        assert len(self.kept) <= self._state.limits.groups_kept_max


def checked(spec: GroupSpec, state: State) -> GroupSpec:
    """A requested group, checked, in the form in which it is kept. Raises BadRequest, TooLarge."""
    if spec.id is not None:
        checks.name("id", spec.id)
    checks.name("queue", spec.queue)
    return replace(spec, on_concluded=_callback("on_concluded", spec, state), on_succeeded=_callback("on_succeeded", spec, state))


def _callback(field: str, spec: GroupSpec, state: State) -> JobSpec | None:
    job: JobSpec | None = getattr(spec, field)
    if job is None:
        return None
    for name in ("id", "run_at", "after", "group", "unique"):
        if getattr(job, name) not in (None, ()):
            raise BadRequest(f"{field}.{name}", "is not allowed in a job that a group enqueues")
    try:
        checks.name("queue", job.queue)
        if job.type is not None:
            checks.text("type", job.type, state.limits.type_chars_max, 1)
        checks.spec(job, state.limits)
    except BadRequest as error:
        raise BadRequest(f"{field}.{error.field}", error.reason) from None
    except TooLarge as error:
        raise TooLarge(f"{field}.{error.field}", error.detail.removeprefix(f"{error.field}: ")) from None
    # A plain JobSpec, whatever subclass an edge uses, since they are compared.
    plain = {name: getattr(job, name) for name in JobSpec.__struct_fields__}
    if job.backoff is not None:
        plain["backoff"] = Backoff(job.backoff.base, job.backoff.factor, job.backoff.cap)
    return JobSpec(**plain)


def _same(stored: StoredGroup, spec: GroupSpec) -> None:
    """Raise IdConflict unless the group was made with this spec."""
    for field in ("queue", *_CALLBACKS):
        was, asked = getattr(stored, field), getattr(spec, field)
        if (was.spec if isinstance(was, StoredCallback) else was) != asked:
            raise IdConflict.told(f"a different group already has the id {stored.id!r}: it differs in {field}", field)
