"""Requests about samples: what queues counted and held over the last hour or day. Taking samples is in engine/samples.py.

A caller whose token is limited to some queues gets the sum of these.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from jobqueue.backend.merging import summed_columns
from jobqueue.backend.requests.request import Front, Guard, Owner, Request
from jobqueue.engine.samples import DAY, HOUR, Value

SpanName = Literal["hour", "day"]


class History(msgspec.Struct, frozen=True):
    """Samples. step_seconds: the length of each step; begins_at: when the first step began, UTC; columns: for each, a list with a value for
    each step, null if there is no sample.
    """

    step_seconds: int
    begins_at: float
    columns: dict[str, list[Value]]


class GetHistory(Request[History], frozen=True, tag="samples.get"):
    """The samples of a queue; of all queues together, with queue None; or the sum of some queues, with `among`. Raises UnknownQueue."""

    knows = 6
    span: SpanName = "hour"
    queue: str | None = None
    among: tuple[str, ...] | None = None

    async def serve(self, owner: Owner) -> History:
        engine, span = owner.engine, HOUR if self.span == "hour" else DAY
        if self.queue is not None:
            engine.queue(self.queue)
        names = self.among if self.queue is None else (self.queue,)
        first, columns = engine.samples.columns(span, owner.clock.now() + owner.clock.skew(), names)
        return History(span.seconds, float(first * span.seconds), columns)

    async def guarded(self, guard: Guard) -> History:
        if self.queue is not None:
            guard.allow(self.queue)
            return await guard.beneath(self)
        seen = tuple(await Sampled().guarded(guard))
        return await guard.beneath(msgspec.structs.replace(self, among=seen))

    async def spread(self, front: Front) -> History:
        if self.queue is not None:
            return await front.for_queue(self.queue, self)
        parts = await front.everywhere(self)
        # The clock of one can be in the next step already: that one's first step is not the others'.
        begins_at, step, steps = max(part.begins_at for part in parts), parts[0].step_seconds, len(next(iter(parts[0].columns.values())))
        shifted = []
        for part in parts:
            late = round((begins_at - part.begins_at) / step)
            shifted.append({name: [*values[late:], *[None] * late][:steps] for name, values in part.columns.items()})
        return History(step, begins_at, summed_columns(shifted))


class Sampled(Request[list[str]], frozen=True, tag="samples.queues"):
    """The names of the queues that have their own samples."""

    knows = 6

    async def serve(self, owner: Owner) -> list[str]:
        return list(owner.engine.samples.queues)

    async def guarded(self, guard: Guard) -> list[str]:
        names = await guard.beneath(self)
        return [name for name in names if guard.sees(name)]

    async def spread(self, front: Front) -> list[str]:
        return [name for names in await front.everywhere(self) for name in names]


SAMPLES = (GetHistory, Sampled)
