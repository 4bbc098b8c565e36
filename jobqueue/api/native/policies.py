"""Policies as clients send them, complete or in part."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from jobqueue.policy import Backoff, Keep, PerKey, PolicyChange, QueuePolicy, Rate

Int = Annotated[int, Meta(ge=-(2**62), le=2**62)]


class _Body(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A request body: unknown fields are refused."""


class BackoffBody(Backoff, frozen=True, forbid_unknown_fields=True, gc=False):
    """Some fields of a backoff; missing fields have the defaults of `Backoff`."""


class RateBody(Rate, frozen=True, forbid_unknown_fields=True, gc=False):
    """A rate; `burst` is 1 if missing."""

    limit: Int
    burst: Int = 1


class PerKeyBody(PerKey, frozen=True, forbid_unknown_fields=True, gc=False):
    """Rules for each key of a queue; missing fields have the defaults of `PerKey`."""

    concurrency: Int | None = None
    rate: RateBody | None = None
    max_jobs: Int | None = None


class KeepBody(Keep, frozen=True, forbid_unknown_fields=True, gc=False):
    """How much history keeps of a queue's concluded jobs."""

    count: Int | None = None


class PolicyBody(_Body, kw_only=True):
    """PUT /queues/{name}: the whole policy; missing fields have the server's defaults."""

    lease_seconds: float | None = None
    max_attempts: Int | UnsetType | None = UNSET
    backoff: BackoffBody | None = None
    max_jobs: Int | None = None
    paused: bool = False
    concurrency: Int | None = None
    rate: RateBody | None = None
    per_key: PerKeyBody | None = None
    fair: bool = False
    weights: dict[str, float] = {}
    dead_letter: str | None = None
    keep_succeeded: KeepBody | None = None
    keep_failed: KeepBody | None = None
    delay: float | None = None
    expires_in: float | None = None
    tags: dict[str, str] = {}
    attributes: dict[str, str] = {}

    def policy(self, default: QueuePolicy) -> QueuePolicy:
        """The body as the backend takes it."""
        return QueuePolicy(
            lease_seconds=default.lease_seconds if self.lease_seconds is None else self.lease_seconds,
            max_attempts=default.max_attempts if self.max_attempts is UNSET else self.max_attempts,
            backoff=default.backoff if self.backoff is None else self.backoff,
            max_jobs=self.max_jobs,
            paused=self.paused,
            concurrency=self.concurrency,
            rate=self.rate,
            per_key=self.per_key,
            fair=self.fair,
            weights=self.weights,
            dead_letter=self.dead_letter,
            keep_succeeded=self.keep_succeeded,
            keep_failed=self.keep_failed,
            delay=self.delay,
            expires_in=self.expires_in,
            tags=self.tags,
            attributes=self.attributes,
        )


class PolicyPatch(_Body, kw_only=True):
    """PATCH /queues/{name}: some fields of a policy; missing fields stay as they are."""

    lease_seconds: float | UnsetType = UNSET
    max_attempts: Int | UnsetType | None = UNSET
    backoff: BackoffBody | UnsetType = UNSET
    max_jobs: Int | UnsetType | None = UNSET
    paused: bool | UnsetType = UNSET
    concurrency: Int | UnsetType | None = UNSET
    rate: RateBody | UnsetType | None = UNSET
    per_key: PerKeyBody | UnsetType | None = UNSET
    fair: bool | UnsetType = UNSET
    weights: dict[str, float] | UnsetType = UNSET
    dead_letter: str | UnsetType | None = UNSET
    keep_succeeded: KeepBody | UnsetType | None = UNSET
    keep_failed: KeepBody | UnsetType | None = UNSET
    delay: float | UnsetType | None = UNSET
    expires_in: float | UnsetType | None = UNSET
    tags: dict[str, str] | UnsetType = UNSET
    attributes: dict[str, str] | UnsetType = UNSET

    def change(self) -> PolicyChange:
        """The body as the backend takes it."""
        return PolicyChange(**{name: getattr(self, name) for name in self.__struct_fields__})
