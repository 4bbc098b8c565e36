"""Servers that are started anew on their file."""

from __future__ import annotations

from tests.conformance.durable import DurableRig
from tests.engine.invariants import invariants


async def started_anew(rig: DurableRig) -> None:
    """End the server, start another on its file."""
    await rig.local.close()
    rig.backend = rig.local = await rig.start()
    invariants(rig.local.engine)
