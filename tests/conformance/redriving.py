"""A redrive to its end, on rigs too whose server ends with its tasks before each step."""

from __future__ import annotations

from typing import Any

from jobqueue.backend.requests.tasks import GetTask, Redrive
from jobqueue.errors import UnknownTask

from .rig import Rig


async def redriven(rig: Rig, name: str, to: str | None = None, **more: Any) -> int:
    """Redrive until there is nothing left that could be; how many were moved."""
    before = (await rig.backend.queue(name)).moved_out_total
    asked = Redrive(queue=name, to=to, **more)
    for _ in range(100):
        stats = await rig.backend.ask(asked)
        try:
            while stats.state == "running":
                await rig.idle()
                stats = await rig.backend.ask(GetTask(id=stats.id))
        except UnknownTask:
            # The server that ran it is gone.
            continue
        assert (stats.state, stats.error) == ("done", None)
        break
    return (await rig.backend.queue(name)).moved_out_total - before
