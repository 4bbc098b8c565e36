"""Unique jobs: who holds a key, who waits for it, and how long jobs that have ended hold it.

A key belongs to one queue. It is checked when a job enters the queue, by an enqueue or a manual retry, and at no other time: a job that is
already in the queue is never held back by a later one. A job frees its key when it is started or concluded, depending on its `until`, and
when it moves to another queue; there it takes the same key if it is free, and otherwise continues without one. At most one job waits for a
key: a later one takes its place. It takes the key in the step in which the key becomes free, before anyone else can.

With `until: "enqueued"` a job has only a window: it holds its key during that time, and not before or after, whatever happens to it.

A window is the time (`for`) for which a key is held whatever happens to the job. It follows from the job's row (`Claim.since`) as long as
there is one. Only when history forgets the job, or the job moves to another queue, does the window get a row of its own (things.py), until
it ends: so an enqueue needs no additional row, and all windows survive a restart, a takeover and a backup.

Owns: holders, followers and windows, which are rebuilt from jobs (`restored`, `left`). It must never decide a job's status.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol

import msgspec
from msgspec.structs import replace

from jobqueue.engine.events import K_CHANGED, K_THING_CHANGED, Event
from jobqueue.engine.lifecycle import T_CANCEL
from jobqueue.engine.sizes import details_bytes
from jobqueue.engine.state import State
from jobqueue.errors import Duplicate, QueueFull
from jobqueue.model import CANCELLED, CONCLUDED, IN_PROGRESS, Conclusion, Job, JobSpec
from jobqueue.past import sealed
from jobqueue.unique import Claim, Claimed, Unique

KIND = "unique/"
"""The prefix of a window's name in storage, followed by the queue, a slash, and the key."""

Place = tuple[str, str]
"""A queue and a unique key in it."""


class Window(msgspec.Struct, gc=False, eq=False):
    """A time for which a key is held whatever happens to the job. stored: whether it has a row of its own, since the job's row no longer
    has it.

    number, created_at, priority, type: of the job, to answer those who enqueue it again after the job is forgotten.
    """

    queue: str
    key: str
    ends_at: float
    id: str
    number: int
    created_at: float
    priority: int
    type: str | None
    stored: bool = False

    @property
    def place(self) -> Place:
        """The key that it holds."""
        return self.queue, self.key


class Met(NamedTuple):
    """The job that an enqueue met, which is the answer; and whether that job takes over the new content."""

    job: Job
    takes_over: bool


class Owner(Protocol):
    """The engine; only it knows all that can hold a job back besides its time."""

    def go_on(self, job: Job, now: float) -> None:
        """A job no longer waits for its key."""


def name_of(place: Place) -> str:
    """The name under which a window is stored."""
    return f"{KIND}{place[0]}/{place[1]}"


def place_of(name: str) -> Place:
    """The key of a window, from the name under which it is stored."""
    queue, _, key = name.removeprefix(KIND).partition("/")
    return queue, key


def _state_of(unique: Unique) -> Claimed:
    """The state of a key that a job gets now. With `until: "enqueued"` it has only the time for which the key is held, which outlives the
    job.
    """
    return "free" if unique.until == "enqueued" else "holds"


class Uniques:
    """Who holds and who waits for which key. owner: the engine."""

    def __init__(self, state: State, owner: Owner) -> None:
        self.holders: dict[Place, Job] = {}
        self.followers: dict[Place, Job] = {}
        self.windows: dict[Place, Window] = {}
        self.became = {"kept": 0, "replaced": 0, "followed": 0, "superseded": 0, "refused": 0}
        """Counts of enqueues that met a held key, by what happened to them; superseded: followers that were replaced."""
        self._state = state
        self._owner = owner

    # Entering.

    def meet(self, spec: JobSpec) -> Met | None:
        """What an enqueue meets; None if a new job is to be made. Changes only counts. Raises Duplicate, QueueFull (too many windows)."""
        unique = spec.unique
        assert unique is not None
        place = spec.queue, unique.key
        holder, window = self._holder(place), self.windows.get(place)
        if holder is None and window is None:
            self._check_windows(unique)
            return None
        if unique.on_conflict == "refuse":
            self.became["refused"] += 1
            raise Duplicate(unique.key, self._holder_id(place))
        if unique.on_conflict == "keep" or (unique.on_conflict == "follow" and holder is not None and holder.status is not IN_PROGRESS):
            self.became["kept"] += 1
            if holder is None:
                assert window is not None
                return Met(self._of(window), False)
            if unique.on_conflict == "follow":
                # A waiting holder will see the state that this enqueue stands for; a worker that had it before did not.
                self._seal(holder)
            return Met(holder, False)
        if unique.on_conflict == "replace" and holder is not None and holder.status is not IN_PROGRESS:
            return Met(holder, True)
        self._check_windows(unique)
        return None

    def _check_windows(self, unique: Unique) -> None:
        most = self._state.limits.unique_windows_max
        if unique.for_ is not None and len(self.windows) >= most:
            raise QueueFull(f"the limit of {len(self.windows)} unique keys that are held for a time is reached", "unique.for")

    def _holder(self, place: Place) -> Job | None:
        """The live job that holds a key, None if there is none."""
        holder, window = self.holders.get(place), self.windows.get(place)
        if holder is None and window is not None:
            # A job that holds the key for a time after its enqueue is known only by that time.
            job = self._job_of(window)
            claim = None if job is None or job.status is CONCLUDED else job.details.extra.claim
            if claim is not None and claim.unique.until == "enqueued":
                return job
        return holder

    def _holder_id(self, place: Place) -> str:
        holder = self.holders.get(place)
        return self.windows[place].id if holder is None else holder.id

    def _seal(self, job: Job) -> None:
        past = sealed(job.past)
        if past is not job.past:
            job.details = replace(job.details, past=past)
            self._state.events.append(Event(K_CHANGED, job.queue, job))

    def _job_of(self, window: Window) -> Job | None:
        """The job of a window, None if it is forgotten, or in another queue by now."""
        job = self._state.jobs.find(window.id)
        return job if job is not None and job.number == window.number and job.queue == window.queue else None

    def _of(self, window: Window) -> Job:
        """The job of a window. If it is forgotten, or in another queue by now, it is built from what the window has, as concluded."""
        job = self._job_of(window)
        if job is not None:
            return job
        return Job(window.id, window.number, window.queue, window.priority, b"null", window.created_at, CONCLUDED, window.type)

    def claim(self, now: float, spec: JobSpec) -> Claim:
        """The claim of a new job on its key."""
        unique = spec.unique
        assert unique is not None
        place = spec.queue, unique.key
        own = Unique(unique.key, unique.until, unique.for_, unique.on_conflict, unique.max_wait)
        if place in self.holders or place in self.windows:
            return Claim(own, "waits")
        return Claim(own, _state_of(own), None if unique.for_ is None else now)

    def enter(self, job: Job, now: float) -> None:
        """A job was made. If it waits for its key, it supersedes the job that waited until now."""
        claim = job.details.extra.claim
        if claim is None:
            return
        place = job.queue, claim.unique.key
        if claim.state != "waits":
            self._hold(place, job, claim)
            return
        self.became["followed"] += 1
        old = self.followers.get(place)
        self.followers[place] = job
        if old is not None:
            self._supersede(old, job, now)

    def _supersede(self, old: Job, new: Job, now: float) -> None:
        state = self._state
        self.became["superseded"] += 1
        was = details_bytes(old.details)
        old.details = replace(old.details, error=msgspec.json.encode({"superseded_by": new.id}))
        state.live_bytes += details_bytes(old.details) - was
        queue = state.queues[old.queue]
        state.detach(old, queue)
        state.to_concluded(old, queue, T_CANCEL, Conclusion(CANCELLED, now))

    def check_retry(self, job: Job) -> None:
        """Raise Duplicate if another job holds the key of a job that is to be retried."""
        claim = job.details.extra.claim
        if claim is not None and claim.unique.until != "enqueued" and not self._may_take((job.queue, claim.unique.key), job):
            raise Duplicate(claim.unique.key, self._holder_id((job.queue, claim.unique.key)))

    def _may_take(self, place: Place, job: Job) -> bool:
        window = self.windows.get(place)
        return place not in self.holders and (window is None or window.number == job.number)

    def lives(self, job: Job, now: float) -> None:
        """A job was retried, or is in another queue: it takes its key there if it can."""
        claim = job.details.extra.claim
        if claim is None:
            return
        place = job.queue, claim.unique.key
        if claim.unique.until == "enqueued":
            # Its time counts from its enqueue, as far as any of it is left; a follower had none, and no longer waits.
            self._set(job, "free", claim.since)
        elif self._may_take(place, job):
            self._set(job, "holds", claim.since)
            self.holders[place] = job
        else:
            self._set(job, "free", None)
        self._owner.go_on(job, now)

    # Freeing.

    def started(self, job: Job, now: float) -> None:
        """A job was handed out."""
        claim = job.details.extra.claim
        if claim is None or claim.state != "holds" or claim.unique.until != "started":
            return
        place = job.queue, claim.unique.key
        self._set(job, "free", claim.since)
        del self.holders[place]
        self._free(place, now)

    def not_started(self, job: Job) -> None:
        """A hand-out was not delivered: if the job was never started, and no other job took the key meanwhile, it has its key again."""
        claim = job.details.extra.claim
        if claim is None or claim.state != "free" or claim.unique.until != "started" or job.attempts:
            return
        place = job.queue, claim.unique.key
        if self._may_take(place, job) and place not in self.followers:
            self._set(job, "holds", claim.since)
            self.holders[place] = job

    def ended(self, job: Job, now: float) -> None:
        """A job was concluded, or is about to leave its queue."""
        claim = job.details.extra.claim
        if claim is None:
            return
        place = job.queue, claim.unique.key
        if job.status is not CONCLUDED:
            # The time for which it holds the key continues, and its row will no longer have it.
            self._remember(job)
            self._set(job, "free", None)
        if self.followers.get(place) is job:
            del self.followers[place]
        elif self.holders.get(place) is job:
            del self.holders[place]
            self._free(place, now)

    def forgotten(self, job: Job) -> None:
        """History forgot a job."""
        self._remember(job)

    def _remember(self, job: Job) -> None:
        """Store the window of a job in a row of its own, if it has one that is not stored yet."""
        claim = job.details.extra.claim
        window = None if claim is None else self.windows.get((job.queue, claim.unique.key))
        if window is not None and window.number == job.number and not window.stored:
            window.stored = True
            self._changed(window)

    def over(self, window: Window, now: float) -> None:
        """The time of a window has ended."""
        if self.windows.get(window.place) is window:
            del self.windows[window.place]
            if window.stored:
                self._changed(window)
            self._free(window.place, now)

    def forget(self, window: Window, now: float) -> None:
        """Remove a window, also from storage."""
        if self.windows.get(window.place) is not window:
            return
        job = self._job_of(window)
        claim = None if job is None else job.details.extra.claim
        if job is not None and claim is not None and claim.since is not None:
            self._set(job, claim.state, None)
            self._state.events.append(Event(K_CHANGED, job.queue, job))
        self._drop(window)
        if window.stored:
            self._changed(window)
        self._free(window.place, now)

    def forget_of(self, job: Job, now: float) -> None:
        """The same for the window of a job in its queue."""
        claim = job.details.extra.claim
        window = None if claim is None else self.windows.get((job.queue, claim.unique.key))
        if window is not None and window.number == job.number:
            self.forget(window, now)

    def _free(self, place: Place, now: float) -> None:
        """Give a key to the job that waits for it, if it is free."""
        if place in self.holders or place in self.windows or (job := self.followers.pop(place, None)) is None:
            return
        claim = job.details.extra.claim
        assert claim is not None
        # Its own `for` begins now: until now it did not hold the key.
        self._set(job, _state_of(claim.unique), None if claim.unique.for_ is None else now)
        claim = job.details.extra.claim
        assert claim is not None
        self._hold(place, job, claim)
        self._owner.go_on(job, now)

    def _set(self, job: Job, to: Claimed, since: float | None) -> None:
        extra = job.details.extra
        assert extra.claim is not None
        job.details = replace(job.details, extra=replace(extra, claim=Claim(extra.claim.unique, to, since)))

    def _hold(self, place: Place, job: Job, claim: Claim) -> None:
        if claim.state == "holds":
            self.holders[place] = job
        self._open(job, claim)

    def _open(self, job: Job, claim: Claim) -> None:
        until = claim.until
        if until is not None:
            key = claim.unique.key
            self._put(Window(job.queue, key, until, job.id, job.number, job.created_at, job.priority, job.type))

    def _put(self, window: Window) -> None:
        """Add a window. Those of one key follow one another, so of two the earlier one has ended, or is about to."""
        deadlines, old = self._state.deadlines, self.windows.get(window.place)
        if old is not None:
            if old.ends_at > window.ends_at:
                return
            deadlines.drop(old)
            if old.stored and not window.stored:
                self._changed(window)
        self.windows[window.place] = window
        deadlines.set(window, window.ends_at)

    def _changed(self, window: Window) -> None:
        self._state.events.append(Event(K_THING_CHANGED, name_of(window.place)))

    # Reading.

    def holds_up(self, job: Job) -> bool:
        """Whether a job waits for its key."""
        claim = job.details.extra.claim
        return claim is not None and claim.state == "waits"

    def ahead_of(self, job: Job) -> tuple[Job | None, Window | None]:
        """What a follower waits for: the holder of its key, and a window that holds it."""
        claim = job.details.extra.claim
        if claim is None or claim.state != "waits":
            return None, None
        place = job.queue, claim.unique.key
        return self._holder(place), self.windows.get(place)

    # Storage.

    def restored(self, job: Job) -> bool:
        """A stored job was restored; False if it conflicts with another job that holds the same key."""
        claim = job.details.extra.claim
        if claim is None:
            return True
        place = job.queue, claim.unique.key
        if job.status is not CONCLUDED and claim.state != "free":
            among = self.holders if claim.state == "holds" else self.followers
            if place in among:
                return False
            among[place] = job
        self._open(job, claim)
        return True

    def left(self, job: Job) -> None:
        """Remove what `restored` entered for a job: its stored state changed, or it is gone."""
        claim = job.details.extra.claim
        if claim is None:
            return
        place = job.queue, claim.unique.key
        for among in (self.holders, self.followers):
            if among.get(place) is job:
                del among[place]
        window = self.windows.get(place)
        if window is not None and window.number == job.number and not window.stored:
            self._drop(window)

    def _drop(self, window: Window) -> None:
        del self.windows[window.place]
        self._state.deadlines.drop(window)

    def follow(self, changed: Iterable[Window], gone: Iterable[Place]) -> None:
        """Apply changes of stored windows, and remove those that are gone."""
        for place in gone:
            window = self.windows.get(place)
            if window is not None and window.stored:
                self._drop(window)
        for window in changed:
            self._put(window)

    def resume(self, now: float) -> None:
        """Continue after a restore: followers of keys that nothing holds stop waiting."""
        # Windows that ended before the jobs were read. The ticker removes the stored ones, in slices, since there can be a million.
        for window in [window for window in self.windows.values() if window.ends_at <= now and not window.stored]:
            self._state.deadlines.drop(window)
            self.over(window, now)
        for place in list(self.followers):
            self._free(place, now)
