"""Tasks: work that continues after the request that started it was answered, and that can be viewed and stopped.

The server that owns the queues runs them. Each is stored as it proceeds, so the next owner continues where the last one ended. Some
finished tasks are remembered, so that clients can see how they ended.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Protocol

import msgspec

from jobqueue.clock import Clock, Timer
from jobqueue.engine.engine import Engine
from jobqueue.engine.events import K_THING_CHANGED, Event
from jobqueue.engine.filters import Matching, fits
from jobqueue.engine.tasks import KIND, Task, TaskState, TaskStats
from jobqueue.errors import QueueError, TooManyTasks, Unavailable, UnknownTask
from jobqueue.model import Job

RUNNING_MAX = 20
"""Tasks that can run at the same time."""

KEPT_MAX = 100
"""Tasks that are remembered, including finished ones: of these the oldest are forgotten first."""

SLICE = 500
"""Dead letters moved in one step, and so in one commit, if no rate is set."""

STEP_SECONDS = 0.1
"""If a rate is set, each step moves as many as it allows in this time, at least one."""

AGAIN_SECONDS = 1.0
"""How long a task pauses while changes cannot be stored."""

_EARLY = 0.001
"""The possible rounding error in the sum of a time and a clock's skew."""


class Owner(Protocol):
    """The backend that carries out a task's steps."""

    engine: Engine

    def check_open(self, adding: bool = False) -> None:
        """Raise Unavailable while nothing can be changed."""

    async def commit(self, now: float) -> None:
        """Act on what the engine has just done, and return when it is stored. Raises Unavailable."""


async def letters(owner: Owner, queue: str, to: str | None, matching: Matching, skew: float, until: float | None = None) -> list[Job]:
    """The dead letters that wait in a queue and match, in the order in which they would be handed out. until: only those that were there by
    then, UTC. Raises UnknownQueue, BadRequest (to).
    """
    wanted = matching.at(skew)
    found: list[Job] = []
    for jobs in owner.engine.dead_letters(queue, to, SLICE):
        for job in jobs:
            if fits(job, wanted) and (until is None or (job.origin is not None and job.origin.at + skew <= until + _EARLY)):
                found.append(job)
        # Let other tasks run between the slices.
        await asyncio.sleep(0)
    return found


class Tasks:
    """The tasks of one owner."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        self._running: dict[str, asyncio.Task[None]] = {}

    def utc(self) -> float:
        """Now, in UTC."""
        return self._clock.now() + self._clock.skew()

    def check_room(self, queue: str | None = None) -> None:
        """Raise TooManyTasks if the limit of running tasks is reached, or if a task of this queue is running; then the error's field is
        `queue`.
        """
        running = [task.stats.queue for task in self._engine.tasks.values() if task.stats.state == "running"]
        if queue in running:
            error = TooManyTasks(f"a task of the queue {queue!r} runs already; wait for it to end, or cancel it")
            error.field = "queue"
            raise error
        if len(running) >= RUNNING_MAX:
            raise TooManyTasks(f"the limit of {len(running)} running tasks is reached; wait for one to end, or cancel one")

    def start(self, owner: Owner, stats: TaskStats, jobs: list[Job], matching: Matching, as_new: bool) -> None:
        """Start a redrive of these jobs; without jobs it is over at once. The owner must commit it."""
        known = self._engine.tasks
        number = max((task.number for task in known.values()), default=0) + 1
        self._put(Task(number=number, stats=stats, matching=matching, as_new=as_new))
        over = [task_id for task_id, each in known.items() if each.stats.state != "running"]
        for task_id in over[: max(0, len(known) - KEPT_MAX)]:
            del known[task_id]
            self._changed(task_id)
        if jobs:
            self._run(owner, stats.id, jobs)
        else:
            self._end(stats.id, "done")

    def resume(self, owner: Owner) -> None:
        """Continue the tasks that were running when the last server ended."""
        for task in self._engine.tasks.values():
            if task.stats.state == "running":
                self._run(owner, task.stats.id, None)

    def _put(self, task: Task) -> None:
        self._engine.tasks[task.stats.id] = task
        self._changed(task.stats.id)

    def _changed(self, task_id: str) -> None:
        self._engine.events.append(Event(K_THING_CHANGED, KIND + task_id))

    def _end(self, task_id: str, state: TaskState, error: str | None = None) -> None:
        task = self._engine.tasks[task_id]
        self._put(msgspec.structs.replace(task, stats=msgspec.structs.replace(task.stats, state=state, ended_at=self.utc(), error=error)))

    def _run(self, owner: Owner, task_id: str, jobs: list[Job] | None) -> None:
        running = self._running[task_id] = asyncio.get_running_loop().create_task(self._to_its_end(owner, task_id, jobs))
        running.add_done_callback(lambda _: self._running.pop(task_id, None))

    async def _to_its_end(self, owner: Owner, task_id: str, jobs: list[Job] | None) -> None:
        # A cancelled task was ended by `cancel`, or the next server continues it.
        failure: Exception | None = None
        try:
            await self._move(owner, task_id, jobs)
        except Exception as error:
            # For example, the queue was deleted. Whatever the error, the task is over, and shows the reason.
            failure = error
        self._end(task_id, "done" if failure is None else "failed", None if failure is None else str(failure))
        with contextlib.suppress(Unavailable):
            # If this cannot be stored now, it is stored with the next change that can.
            await owner.commit(self._clock.now())
        if failure is not None and not isinstance(failure, QueueError):
            raise failure

    async def _move(self, owner: Owner, task_id: str, jobs: list[Job] | None) -> None:
        task = self._engine.tasks[task_id]
        stats = task.stats
        if jobs is None:
            jobs = await letters(owner, stats.queue, stats.to, task.matching, self._clock.skew(), stats.started_at)
        count = SLICE if stats.rate is None else max(1, min(SLICE, int(stats.rate * STEP_SECONDS)))
        at = 0
        while at < len(jobs):
            if task.due > self.utc():
                await self._until(task.due - self._clock.skew())
            try:
                owner.check_open()
                now = self._clock.now()
                moved = self._engine.redrive(now, stats.queue, jobs[at : at + count], stats.to, task.as_new)
                at += count
                due = task.due if stats.rate is None or not moved else self.utc() + moved / stats.rate
                stats = msgspec.structs.replace(stats, done=stats.done + moved)
                task = msgspec.structs.replace(task, stats=stats, due=due)
                self._put(task)
                await owner.commit(now)
            except Unavailable:
                # Jobs that were moved stay moved; this is stored as soon as anything is.
                await self._until(self._clock.now() + AGAIN_SECONDS)
            else:
                await asyncio.sleep(0)

    def get(self, task_id: str) -> TaskStats:
        """A task. Raises UnknownTask."""
        task = self._engine.tasks.get(task_id)
        if task is None:
            raise UnknownTask(task_id)
        return task.stats

    def all(self) -> list[TaskStats]:
        """Every task that is remembered, the newest first."""
        return [task.stats for task in reversed(self._engine.tasks.values())]

    def cancel(self, task_id: str) -> None:
        """End a task, if it runs: it does nothing more. The owner must commit it. Raises UnknownTask."""
        if self.get(task_id).state == "running":
            self._end(task_id, "cancelled")
            if (running := self._running.get(task_id)) is not None:
                running.cancel()

    def close(self) -> None:
        """Stop running all tasks. The next server continues them."""
        for running in list(self._running.values()):
            running.cancel()

    async def _until(self, at: float) -> None:
        """Wait until engine time `at`."""
        come: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def wake() -> None:
            if not come.done():
                come.set_result(None)

        timer: Timer = self._clock.call_at(at, wake)
        try:
            await come
        finally:
            timer.cancel()
