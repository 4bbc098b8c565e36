"""The types for unique jobs: what an enqueue can request, and the state of a job's unique key. The rules are in engine/unique.py."""

from __future__ import annotations

from typing import Literal

import msgspec

Until = Literal["started", "concluded", "enqueued"]
"""How long a job holds its unique key: until it is first handed out, or until it is concluded. enqueued: exactly for the time `for` after
its enqueue, whatever happens to the job.
"""

OnConflict = Literal["keep", "replace", "follow", "refuse"]
"""What happens to an enqueue whose unique key is held: the answer is the holder; or the holder gets its payload and time; or, if a worker
has the holder, the new job waits for its end; or the new job is refused.
"""


class Unique(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Jobs of a queue with the same `key` count as the same work, and only one is kept.

    for_: seconds after its enqueue during which the job holds the key, whatever happens to it, `for` on the wire; None to hold it only as
    long as `until` says. max_wait: with replace, seconds from the holder's creation after which a replacement no longer delays it.
    """

    key: str
    until: Until = "concluded"
    for_: float | None = msgspec.field(default=None, name="for")
    on_conflict: OnConflict = "keep"
    max_wait: float | None = None


def alike(one: Unique | None, other: Unique | None) -> bool:
    """Whether two are equal by value, even if an edge uses a subclass."""
    if one is None or other is None:
        return one is other
    return all(getattr(one, name) == getattr(other, name) for name in Unique.__struct_fields__)


Claimed = Literal["holds", "waits", "free"]
"""What a live job has of its unique key: it holds the key; it waits until the key is free; or neither, since it was started or moved."""


class Claim(msgspec.Struct, frozen=True, gc=False):
    """A job's unique key and its state. since: when the job took a key that it holds for a time (`for`), in engine time."""

    unique: Unique
    state: Claimed
    since: float | None = None

    @property
    def until(self) -> float | None:
        """When the time ends for which it holds the key in any case, None for no such time."""
        return None if self.since is None or self.unique.for_ is None else self.since + self.unique.for_
