"""Which server a partition should be at: the order in which servers claim, and which partition moves next. Pure functions of a view.

A partition without an owner is claimed in an order given by a rendezvous hash, which differs from partition to partition, so that the
partitions of a server that dies go to different servers, and all others stay where they are.

Later, in a time of calm, partitions move from the server that owns most to the one that owns least, one at a time, until no server owns two
more than another. That needs the fewest moves. An owner given by the hash alone would need none of this, but would often give one of three
servers five of eight partitions.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

CALM_SECONDS = 30.0
"""How long after the last change of members the first partition moves."""


class View(NamedTuple):
    """What a server knows of all of them. now, changed_at: engine time, and when the set of live members last changed. members: those that
    are live and can own partitions. owners: of each partition; None if it has none that serves.
    """

    now: float
    changed_at: float
    members: Sequence[str]
    owners: Sequence[str | None]

    @property
    def calm(self) -> bool:
        """Whether partitions can move: the members have not changed for a while."""
        return self.now - self.changed_at >= CALM_SECONDS


class Move(NamedTuple):
    """A partition that should go from its owner to another server."""

    partition: int
    source: str
    target: str


def order(members: Iterable[str], salt: object) -> list[str]:
    """The order in which members claim: by rendezvous hash, so that it differs with the salt and needs no communication."""
    return sorted(members, key=lambda name: hashlib.blake2b(f"{salt} {name}".encode(), digest_size=8).digest())


def salt_of(partition: int) -> str:
    """The salt of a partition's order."""
    return f"partition {partition}"


def next_move(view: View) -> Move | None:
    """The partition that moves next; None if all are where they should be, or nothing should move now.

    Nothing moves until the members have been the same for CALM_SECONDS, nor while a partition has no serving owner, or one that is not
    among the members: a takeover is under way, or about to be. So at most one partition moves at a time.
    """
    if not view.calm:
        return None
    held = Counter(dict.fromkeys(view.members, 0))
    for owner in view.owners:
        if owner is None or owner not in held:
            return None
        held[owner] += 1
    if not held:
        return None
    most, least = max(held.values()), min(held.values())
    if most - least < 2:
        return None
    partition, source = next((index, owner) for index, owner in enumerate(view.owners) if owner is not None and held[owner] == most)
    target = order((name for name in held if held[name] == least), salt_of(partition))[0]
    return Move(partition, source, target)


def follows_rather(view: View, partition: int, one: str, other: str) -> bool:
    """Whether one server should be the standby of a partition rather than another: it is the next owner, or comes first in the order."""
    owner = view.owners[partition]
    if not view.calm:
        return False
    move = next_move(view)
    if move is not None and move.partition == partition:
        return one == move.target != other
    ranks = order((name for name in view.members if name != owner), salt_of(partition))
    return one in ranks and (other not in ranks or ranks.index(one) < ranks.index(other))
