"""What a queue does with its jobs: the types of policies and their parts.

Types only, like `model.py`; `engine/checks.py` decides which values are allowed.
"""

from __future__ import annotations

from typing import Literal

import msgspec


class Backoff(msgspec.Struct, frozen=True, gc=False):
    """Exponential backoff with full jitter: before attempt n + 1, uniform(0, min(cap, base * factor ** (n - 1))) seconds."""

    base: float = 1.0
    factor: float = 2.0
    cap: float = 300.0


class Rate(msgspec.Struct, frozen=True, gc=False):
    """At most `limit` hand-outs in `per` seconds, evenly spaced, with up to `burst` at once after an idle time.

    This is the generic cell rate algorithm (ITU-T I.371): a bucket of size `burst` that gains one every per / limit seconds.
    """

    limit: int
    per: float
    burst: int = 1

    @property
    def interval(self) -> float:
        """Seconds between two hand-outs at the steady rate."""
        return self.per / self.limit


class Pause(msgspec.Struct, frozen=True, gc=False):
    """When something was paused, and the name of the token that did it: None if the server requires no token.

    at: seconds since the epoch: engine time for queues and keys inside the engine, UTC otherwise.
    """

    at: float
    by: str | None = None


Order = Literal["none", "fifo", "halt"]
"""How the jobs of a key are ordered: not at all; one after another; or one after another, and a final failure stops the key."""


class PerKey(msgspec.Struct, frozen=True, gc=False):
    """Rules for each key of a queue, applied to each key separately.

    concurrency: the most jobs of a key in progress, 1 if there is an order; max_jobs: the most live jobs of a key.
    """

    order: Order = "none"
    concurrency: int | None = None
    rate: Rate | None = None
    max_jobs: int | None = None


class Keep(msgspec.Struct, frozen=True, gc=False):
    """How much history keeps of a queue's concluded jobs, if less than the server's limits allow.

    seconds: for how long; count: how many. None: only the server's limits apply.
    """

    seconds: float | None = None
    count: int | None = None


class QueuePolicy(msgspec.Struct, frozen=True, gc=False):
    """A queue's rules for its jobs; a job's own fields take precedence.

    lease_seconds: how long a lease lasts; max_attempts: attempts before a failure is final, None for no limit; max_jobs: the most live
    (not concluded) jobs in this queue, None: only the server's limit applies; paused: hands out nothing, accepts everything.
    concurrency: the most jobs in progress; fair: within a priority, the key with the fewest jobs in progress goes first; weights: the share
    of a key relative to keys that are not named, which have 1. dead_letter: the queue that a job moves to when it has failed for good,
    None: such a job is concluded. keep_succeeded, keep_failed: how much history keeps of jobs that succeeded, and of all others; None: only
    the server's limits apply. delay: of new jobs that specify neither a delay nor a time; None for none. expires_in: seconds after its
    creation at which a job that waits here expires, in addition to its own expiry; None for never. tags: names and values that users
    give the queue; attributes: values that a dialect stores here, and that nothing else uses.
    """

    lease_seconds: float = 300.0
    max_attempts: int | None = 5
    backoff: Backoff = Backoff()
    max_jobs: int | None = None
    paused: bool = False
    concurrency: int | None = None
    rate: Rate | None = None
    per_key: PerKey | None = None
    fair: bool = False
    weights: dict[str, float] = {}
    dead_letter: str | None = None
    keep_succeeded: Keep | None = None
    keep_failed: Keep | None = None
    delay: float | None = None
    expires_in: float | None = None
    tags: dict[str, str] = {}
    attributes: dict[str, str] = {}

    @property
    def keyed(self) -> bool:
        """Whether the queue treats jobs differently by their key."""
        return self.fair or self.per_key is not None

    @property
    def limited(self) -> bool:
        """Whether a lease uses a limit that another job may be waiting for."""
        per_key = self.per_key
        return (
            self.concurrency is not None
            or self.rate is not None
            or (per_key is not None and (per_key.order != "none" or per_key.concurrency is not None or per_key.rate is not None))
        )


class PolicyChange(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Changes to a policy; a field that is not set is left as it is."""

    lease_seconds: float | msgspec.UnsetType = msgspec.UNSET
    max_attempts: int | msgspec.UnsetType | None = msgspec.UNSET
    backoff: Backoff | msgspec.UnsetType = msgspec.UNSET
    max_jobs: int | msgspec.UnsetType | None = msgspec.UNSET
    paused: bool | msgspec.UnsetType = msgspec.UNSET
    concurrency: int | msgspec.UnsetType | None = msgspec.UNSET
    rate: Rate | msgspec.UnsetType | None = msgspec.UNSET
    per_key: PerKey | msgspec.UnsetType | None = msgspec.UNSET
    fair: bool | msgspec.UnsetType = msgspec.UNSET
    weights: dict[str, float] | msgspec.UnsetType = msgspec.UNSET
    dead_letter: str | msgspec.UnsetType | None = msgspec.UNSET
    keep_succeeded: Keep | msgspec.UnsetType | None = msgspec.UNSET
    keep_failed: Keep | msgspec.UnsetType | None = msgspec.UNSET
    delay: float | msgspec.UnsetType | None = msgspec.UNSET
    expires_in: float | msgspec.UnsetType | None = msgspec.UNSET
    tags: dict[str, str] | msgspec.UnsetType = msgspec.UNSET
    attributes: dict[str, str] | msgspec.UnsetType = msgspec.UNSET

    def of(self, policy: QueuePolicy) -> QueuePolicy:
        """The policy with this change applied."""
        said = {name: value for name in self.__struct_fields__ if (value := getattr(self, name)) is not msgspec.UNSET}
        return msgspec.structs.replace(policy, **said)
