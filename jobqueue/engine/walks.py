"""The long walks of a queue that holds jobs back: over all jobs when it begins to use keys, and over all keys when its rules change.

Each is an iterator that the ticker runs a slice at a time (`Chore`), and yields how much it looked at. While a walk runs that affects which
jobs can go, the queue hands out nothing (`FlowQueue.moving`).

A sort goes by number over all jobs of the server, since a queue has no list of its jobs in progress. So one comparison says whether a job
is sorted: jobs up to `upto` are, and jobs from `fresh_from` on, which came after the walk began and are sorted when they come.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice

from jobqueue.engine.catalogue import Catalogue
from jobqueue.engine.deadlines import Deadlines
from jobqueue.engine.flow import FlowQueue
from jobqueue.engine.keys import KeyState, Ready
from jobqueue.model import CONCLUDED, IN_PROGRESS, QUEUED, Job

SLICE = 500
"""Jobs or keys looked at in one step."""


def sort(queue: FlowQueue, jobs: Catalogue) -> Iterator[int]:
    """Begin to use keys, at once for new jobs; the walk sorts the existing ones."""
    queue.keyed = True
    queue.know_paused()
    queue.moving += 1
    queue.upto, queue.fresh_from = 0, jobs.next_number
    return _sort(queue, jobs)


def _sort(queue: FlowQueue, jobs: Catalogue) -> Iterator[int]:
    left = jobs.walk()
    # `forget_keys` ends this walk by resetting `upto`.
    while queue.upto >= 0:
        part = list(islice(left, SLICE))
        for job in part:
            if job.number >= queue.fresh_from:
                part.clear()
                break
            queue.upto = job.number
            if job.queue == queue.name and (job.status is not CONCLUDED or (job.conclusion is not None and job.conclusion.halts)):
                _sort_in(queue, jobs.itself(job))
        if not part:
            queue.upto = -1
            queue.moving -= 1
            return
        yield SLICE


def _sort_in(queue: FlowQueue, job: Job) -> None:
    if job.status is CONCLUDED:
        queue.halt(job)
        return
    state = queue.state_of(job.key)
    state.live += 1
    if job.status is QUEUED:
        state.add(job)
    elif job.status is IN_PROGRESS:
        state.started(job)
    elif job.details.holds:
        state.put_away(job)
    queue.look(state)


def look_again(queue: FlowQueue) -> Iterator[int]:
    """Check every key again, since the rules have changed. In a fair queue all keys start equal."""
    queue.moving += 1
    return _look_again(queue, list(queue.states.values()))


def _look_again(queue: FlowQueue, states: list[KeyState]) -> Iterator[int]:
    while states:
        part = states[-SLICE:]
        del states[-SLICE:]
        for state in part:
            if queue.states.get(state.key) is state:
                if state.bucket.full_at:
                    queue.deadlines.set(state, -math.inf)
                state.out = True
                queue.look(state)
        yield len(part)
    queue.moving -= 1


def forget_keys(queue: FlowQueue) -> Iterator[int]:
    """Stop using keys, from now on. The walk frees the state of keys: freeing a million places takes a tenth of a second."""
    states, queue.states = queue.states, {}
    if queue.upto >= 0:
        queue.upto = -1
        queue.moving -= 1
    queue.keyed, queue.restored_at = False, None
    queue.ready_keys = Ready()
    queue.counted_by.clear()
    return _let_go_of(states, queue.deadlines)


def _let_go_of(states: dict[str | None, KeyState], deadlines: Deadlines[object]) -> Iterator[int]:
    while states:
        done = 0
        while states and done < SLICE:
            key, state = states.popitem()
            if len(state.places) > SLICE:
                del state.places[-SLICE:]
                states[key] = state
                done += SLICE
            else:
                # Its rate may need up to a day until its bucket is full again.
                deadlines.drop(state)
                done += 1 + len(state.places)
        yield done


def forget_restart(queue: FlowQueue) -> Iterator[int]:
    """Run from the time that `FlowQueue.empty_buckets` returned: all buckets are full that were not used since the restart."""
    yield 1
    queue.restored_at = None
