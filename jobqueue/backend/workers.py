"""The workers that take jobs here, from what they report with their dequeues. Only in memory: after a restart, and when another server
takes over, each is known again with its next dequeue. Which workers are quiet is stored (engine/state.py).

A dequeue that reports nothing about its worker is ignored here.
"""

from __future__ import annotations

from jobqueue.about import SEEN_SECONDS, SILENT_SECONDS, WORKERS_MAX, About, WorkerStats
from jobqueue.engine.engine import Engine
from jobqueue.model import Want

_Instance = tuple[str | None, float | None]

_INSTANCES_MAX = 100


class _Known:
    """One name. until: after this time the worker counts as silent. instances: the workers that use the name; for each, the time after
    which it counts as gone, and the queues that it asks for.
    """

    __slots__ = ("about", "instances", "queues", "seen", "until")

    def __init__(self, about: About) -> None:
        self.about = about
        self.queues: tuple[str, ...] = ()
        self.seen = self.until = 0.0
        self.instances: dict[_Instance, tuple[float, tuple[str, ...]]] = {}

    def all_queues(self, now: float) -> tuple[str, ...]:
        """The queues that are asked for under this name, most recent first: of all instances, so that nobody can quiet another's worker by
        using its name.
        """
        if len(self.instances) == 1:
            return self.queues
        asked = dict.fromkeys(self.queues)
        for until, queues in reversed(self.instances.values()):
            if until >= now:
                asked.update(dict.fromkeys(queues))
        return tuple(asked)


class Workers:
    """Workers by name, the last seen at the end. Times are engine time."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._known: dict[str, _Known] = {}

    def __bool__(self) -> bool:
        return bool(self._known)

    def seen(self, want: Want, now: float, wait: float) -> None:
        """Record a dequeue that reports something about its worker, and that can be held for `wait` seconds; or, with no wait, has
        ended.
        """
        name, about = want.worker, want.about
        assert name is not None
        assert about is not None
        known = self._known.pop(name, None) or _Known(about)
        self._known[name] = known
        known.about, known.queues, known.seen = about, want.queues, now
        known.until = now + wait + SEEN_SECONDS
        instance = (about.host, about.started)
        known.instances.pop(instance, None)
        known.instances[instance] = known.until, want.queues
        if len(known.instances) > _INSTANCES_MAX:
            del known.instances[next(iter(known.instances))]
        if len(self._known) > WORKERS_MAX:
            del self._known[next(iter(self._known))]

    def leases(self) -> dict[str, int]:
        """Live leases by worker name."""
        found: dict[str, int] = {}
        for job in self._engine.lease_ends.items():
            lease = job.lease
            if lease is not None and lease.worker is not None:
                found[lease.worker] = found.get(lease.worker, 0) + 1
        return found

    def counts(self, now: float) -> dict[str, int]:
        """How many workers are to be listed, by state; a quiet worker counts only as quiet."""
        found: dict[str, int] = {}
        for stats in self.listed(now, 0.0):
            state = "quiet" if stats.quiet else stats.doing
            found[state] = found.get(state, 0) + 1
        return found

    def listed(self, now: float, skew: float) -> list[WorkerStats]:
        """All workers that are to be listed, by name; the others are forgotten."""
        if not self._known:
            return []
        leases, quiet = self.leases(), self._engine.quiet
        for name in [name for name, known in self._known.items() if known.until + SILENT_SECONDS < now and name not in leases]:
            del self._known[name]
        return [
            WorkerStats(
                name=name,
                about=known.about,
                queues=known.all_queues(now),
                seen_at=known.seen + skew,
                leases=leases.get(name, 0),
                quiet=name in quiet,
                silent=known.until < now,
                instances=max(1, sum(until >= now for until, _ in known.instances.values())),
            )
            for name, known in sorted(self._known.items())
        ]
