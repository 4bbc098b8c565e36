"""An engine with something of everything, and its rows as a server stores them: what a move from one store to another must keep."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from random import Random

from jobqueue.backend.base import SentSpec
from jobqueue.backend.contents import Contents
from jobqueue.backend.group import Finished, Group
from jobqueue.backend.group_journal import GroupJournal
from jobqueue.backend.loading import JobRows, Source
from jobqueue.backend.sqlite import file as sqlite
from jobqueue.clock import ManualClock
from jobqueue.engine.engine import Engine
from jobqueue.engine.events import K_THING_CHANGED, Event
from jobqueue.engine.tasks import KIND as TASK
from jobqueue.engine.tasks import Task, TaskStats
from jobqueue.errors import QueueError
from jobqueue.group import GroupSpec
from jobqueue.ids import Ids
from jobqueue.joblog import LogLine, LogPart
from jobqueue.limits import Limits
from jobqueue.model import Header, Job, JobSpec, Outcome, Verdict, Want
from jobqueue.partition import ALONE, Place, partition_of
from jobqueue.policy import Keep, PerKey, QueuePolicy
from jobqueue.schedule import Schedule
from jobqueue.unique import Unique

from .factories import NOW

FAMILIES = ("mail", "sms", "bills", "orders", "reports", "images", "exports", "audit", "search", "cache")
"""What stands before the colon in the names of queues."""


ALL = Limits(history_jobs_max=1 << 62, history_bytes_max=1 << 62, groups_kept_max=1 << 30)
"""Limits under which nothing is forgotten."""


class Kept:
    """Rows in memory: a Source to read, a Target to write."""

    path = "memory"

    def __init__(self) -> None:
        self.states: dict[int, bytes] = {}
        self.payloads: dict[int, bytes] = {}
        self.named: dict[str, bytes] = {}
        self.row: bytes | None = None

    def write(self, group: Group) -> None:
        self.payloads.update(group.payloads)
        for number, state in group.states.items():
            if state is None:
                self.states.pop(number, None)
                self.payloads.pop(number, None)
            else:
                self.states[number] = state
        for name, row in group.queue_rows.items():
            if row is None:
                self.named.pop(name, None)
            else:
                self.named[name] = row
        self.row = group.counters

    def counters(self) -> bytes | None:
        return self.row

    def queues(self) -> Iterable[tuple[str, bytes]]:
        return sorted(self.named.items())

    def count(self) -> int:
        return len(self.states)

    def jobs(self) -> Iterator[JobRows]:
        return iter(self.these(sorted(self.states)))

    def these(self, numbers: Sequence[int]) -> list[JobRows]:
        return [JobRows(number, self.states[number], self.payloads[number]) for number in sorted(numbers) if number in self.states]

    def file(self, path: Path) -> Path:
        """Write all of it to a data file."""
        path.touch()
        made = sqlite.Store.make(str(path))
        group = Group()
        for number, state, payload in self.jobs():
            group.put(number, state)
            group.put_payload(number, payload)
        group.queue_rows = dict(self.named)
        assert self.row is not None
        group.counters = self.row
        made.write(group)
        made.finish()
        return path


class _Writer:
    """Writes at once."""

    def __init__(self, kept: Kept) -> None:
        self._kept = kept

    def write(self, group: Group, finished: Finished) -> None:
        self._kept.write(group)
        asyncio.get_running_loop().call_soon(finished, None)

    async def close(self, tidy: bool) -> None:
        """Nothing to close."""


class Life:
    """What a random number of clients do, in an engine of one partition. Queues of one family only refer to each other."""

    def __init__(self, seed: int, place: Place = ALONE, start: float = NOW) -> None:
        self.random = Random(seed)
        self.families = [name for name in FAMILIES if partition_of(name, place.count) == place.index]
        self.engine = Engine(None, Ids(self.random.randbytes, place), Random(seed), place)
        self.clock = ManualClock(start)
        self.kept = Kept()
        self._name = f"p{place.index}"
        self._journal = GroupJournal(self.engine, self.clock, "always")
        self._journal.use(_Writer(self.kept))
        self._count = 0

    async def live(self, steps: int) -> Kept:
        """Take so many steps, and end. Returns the rows of what is there."""
        steps_known = (self.enqueue, self.enqueue, self.enqueue, self.take, self.take, self.change, self.settle, self.put)
        for _ in range(steps if self.families else 0):
            self.clock.advance(self.random.choice((0.0, 0.25, 3.0)))
            with contextlib.suppress(QueueError):
                self.random.choice(steps_known)()
            self.engine.tick(self.clock.now())
            self.note()
            await asyncio.sleep(0)
        self.engine.tick(self.clock.now(), 1_000_000)
        self.note()
        await self._journal.close()
        return self.kept

    def note(self) -> None:
        """Store what was done in the engine. Needs a running loop."""
        self._journal.append(self.engine.take_events())

    def _queue(self, family: str | None = None) -> str:
        family = family or self.random.choice(self.families)
        return self.random.choice((family, f"{family}:high", f"{family}:dead"))

    def _some(self, family: str) -> list[Job]:
        """Some jobs of a family."""
        jobs = list(self.engine.jobs.all())
        return [job for job in self.random.sample(jobs, min(8, len(jobs))) if job.queue.partition(":")[0] == family]

    def enqueue(self) -> None:
        """A job, of any kind."""
        random, family = self.random, self.random.choice(self.families)
        self._count += 1
        groups = [name for name in self.engine.groups.groups if name.startswith(f"{family}-")]
        spec = SentSpec(
            payload=b"%d" % self._count,
            id=random.choice((None, f"{self._name}-{self._count}", f"{self._name}-{self._count}")),
            queue=self._queue(family),
            type=random.choice((None, "mail")),
            description=random.choice((None, "ä" * 5)),
            priority=random.choice((5, 5, 0, 9)),
            delay=random.choice((None, None, 2.0, 3600.0)),
            expires_in=random.choice((None, None, 5.0)),
            max_attempts=random.choice((None, 1, 2)),
            key=random.choice((None, None, "k")),
            tags=random.choice(((), ("red", "blue"))),
            headers=random.choice(((), (Header("h", b"v", "String"),))),
            unique=random.choice((None, None, Unique(key=f"u{random.randrange(3)}", for_=random.choice((None, 60.0))))),
            after=tuple(sorted({job.id for job in self._some(family)})) if random.random() < 0.2 else (),
            group=random.choice(groups) if groups and random.random() < 0.3 else None,
            claim=1,
        )
        self.engine.enqueue(self.clock.now(), spec)

    def take(self) -> None:
        """A worker takes some jobs of a queue, writes to their logs, and ends most of them."""
        now, random = self.clock.now(), self.random
        attempt = random.choice((None, f"attempt-{self._count}"))
        want = Want(queues=(self._queue(),), limit=3, worker="w", attempt_id=attempt, lease_seconds=random.choice((1.0, 600.0)))
        for job in self.engine.dequeue(now, want):
            assert job.lease is not None
            token = job.lease.token
            if random.random() < 0.3:
                self.engine.append_log(now, job.id, token, LogPart((LogLine("a line"), LogLine("x" * 3000))))
            what = random.choice(("succeed", "succeed", "fail", "fail finally", "hold"))
            if what == "succeed":
                self.engine.conclude(now, job.id, token, Verdict(outcome=Outcome.SUCCEEDED, result=b"[1]"))
            elif what != "hold":
                self.engine.conclude(now, job.id, token, Verdict(outcome=Outcome.FAILED, error=b'"no"', retry=what == "fail"))

    def change(self) -> None:
        """An operator, or a client, does something to a job."""
        now = self.clock.now()
        jobs = list(self.engine.jobs.by_id)
        if not jobs:
            return
        job_id = self.random.choice(jobs)
        {"cancel": self.engine.cancel, "retry": self.engine.retry}[self.random.choice(("cancel", "retry"))](now, job_id)

    def settle(self) -> None:
        """Policies, pauses, quiet workers."""
        random, now, queue = self.random, self.clock.now(), self._queue()
        what = random.choice(("policy", "pause", "quiet"))
        if what == "policy":
            dead = f"{queue.partition(':')[0]}:dead"
            policy = QueuePolicy(
                max_attempts=random.choice((None, 1, 2)),
                dead_letter=random.choice((None, None if queue == dead else dead)),
                concurrency=random.choice((None, 2)),
                per_key=random.choice((None, PerKey("fifo", 1), PerKey("halt", 1))),
                keep_succeeded=random.choice((None, Keep(None, 2))),
                tags={"team": "a"},
            )
            self.engine.put_policy(queue, policy, now)
        elif what == "pause":
            self.engine.set_paused(queue, random.random() < 0.5, now, "somebody")
        else:
            self.engine.set_quiet(f"w{random.randrange(3)}", random.random() < 0.7, now)

    def put(self) -> None:
        """A schedule, a group, or a task that has ended."""
        random, family = self.random, self.random.choice(self.families)
        name = f"{family}-{random.randrange(3)}"
        what = random.choice(("schedule", "group", "close", "task"))
        if what == "schedule":
            job = JobSpec(payload=b"0", queue=self._queue(family))
            self.engine.schedules.put(name, Schedule(job=job, every=random.choice((60.0, 3600.0)), overlap="allow"))
        elif what == "group":
            then = random.choice((None, JobSpec(payload=b'"then"', queue=self._queue(family))))
            spec = GroupSpec(id=name, queue=self._queue(family), on_concluded=then)
            self.engine.groups.create(spec, self.clock.now(), lambda: name)
        elif what == "close":
            self.engine.groups.close(name, self.clock.now())
        else:
            queue = self._queue(family)
            stats = TaskStats(
                id=f"t-{name}", kind="redrive", queue=queue, to=None, rate=None, state="done", total=0, done=0, started_at=1.0
            )
            self.engine.tasks[stats.id] = Task(number=len(self.engine.tasks) + 1, stats=stats)
            self.engine.events.append(Event(K_THING_CHANGED, TASK + stats.id))


async def living(seed: int, steps: int, place: Place = ALONE, start: float = NOW) -> Kept:
    """The rows of an engine in which so many things happened."""
    return await Life(seed, place, start).live(steps)


def lived(seed: int, steps: int, place: Place = ALONE, start: float = NOW) -> Kept:
    """The same, where no loop runs."""
    return asyncio.run(living(seed, steps, place, start))


def contents(rows: Source) -> Contents:
    """What rows hold."""
    found = Contents()
    found.add_named(rows.queues())
    for job in rows.jobs():
        found.add_job(*job)
    return found
