"""Both sides of a link between two servers, and how it breaks."""

from __future__ import annotations

from jobqueue.backend.store.front import FrontLink
from jobqueue.backend.store.peer import OwnerLink
from tests.conformance.remote import RemoteRig


def links(rig: RemoteRig) -> tuple[FrontLink, OwnerLink]:
    """Both sides of the first front's link."""
    front = rig.between.fronts[0].link
    assert front is not None
    return front, next(each for each in rig.between.server.links if each.peer == "front")


def cut(link: FrontLink | OwnerLink) -> None:
    """Break a connection, as a cable does that is pulled and a kernel that notices."""
    assert link.transport is not None
    link.transport.abort()
