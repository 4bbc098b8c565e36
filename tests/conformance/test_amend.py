"""Changing some entries of a queue's tags and attributes."""

from __future__ import annotations

from jobqueue.backend.requests.amend import AmendQueue
from jobqueue.errors import BadRequest, UnknownQueue
from jobqueue.policy import PolicyChange, QueuePolicy

from .rig import Rig, raised


async def test_what_is_not_named_stays(rig: Rig) -> None:
    """Entries are set, changed and taken away, together with fields of the policy."""
    policy = QueuePolicy(max_jobs=5, tags={"a": "1", "b": "2"}, attributes={"Kept": "x", "Gone": "y"})
    await rig.backend.put_policy("q", policy)
    asked = AmendQueue(name="q", change=PolicyChange(lease_seconds=7.0), tags={"b": None, "c": "3"}, attributes={"Gone": None, "New": "z"})
    await rig.backend.ask(asked)
    after = (await rig.backend.queue("q")).policy
    assert (after.tags, after.attributes) == ({"a": "1", "c": "3"}, {"Kept": "x", "New": "z"})
    assert (after.lease_seconds, after.max_jobs) == (7.0, 5)
    await rig.backend.ask(asked)
    assert (await rig.backend.queue("q")).policy == after


async def test_a_refusal_changes_nothing(rig: Rig) -> None:
    """Neither does a queue that there is not."""
    await rig.backend.put_policy("q", QueuePolicy(tags={"a": "1"}))
    before = (await rig.backend.queue("q")).policy
    error = await raised(rig.backend.ask(AmendQueue(name="q", change=PolicyChange(lease_seconds=-1.0), tags={"a": None})))
    assert (type(error), error.field) == (BadRequest, "lease_seconds")
    assert (await rig.backend.queue("q")).policy == before
    assert isinstance(await raised(rig.backend.ask(AmendQueue(name="no", tags={"a": "1"}))), UnknownQueue)
