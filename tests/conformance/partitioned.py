"""Three partitions in one process, and one backend over them. What several partitions cannot keep is marked `one_partition`, with what they
do instead; tests/backend/store/test_partitioned.py shows that."""

from __future__ import annotations

from jobqueue.backend.local import LocalBackend
from jobqueue.backend.requests.shares import set_share
from jobqueue.backend.store.partitioned import PartitionedBackend
from jobqueue.engine.engine import Engine
from jobqueue.engine.shares import whole
from jobqueue.limits import Limits
from jobqueue.partition import Place

from .rig import LocalRig, Rig, StallingClock

COUNT = 3


class PartitionedRig(LocalRig):
    """Three local backends on one clock."""

    TURNS = 60

    def __init__(self, limits: Limits) -> None:
        Rig.__init__(self)
        self.clock = StallingClock()
        self.locals = [LocalBackend(engine=Engine(limits, place=Place(index, COUNT)), clock=self.clock) for index in range(COUNT)]
        for local in self.locals:
            # Each may hold as much as all: how the bounds are divided is tried in tests/backend/store/test_sharing.py.
            set_share(local.engine, whole(limits))
            local.engine.history.bound(limits.history_jobs_max, limits.history_bytes_max)
            local.sample(self.clock.now())
        self.backend = PartitionedBackend(self.locals, limits, clock=self.clock)  # type: ignore[assignment]


async def partitioned(limits: Limits) -> Rig:
    """The rig."""
    return PartitionedRig(limits)
