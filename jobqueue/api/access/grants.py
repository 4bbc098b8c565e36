"""What a token may do: scopes, and the queues to which they apply. No HTTP here, so that the command line can use it too.

A server never stores a token, only its SHA-256. Slow password hashes are not needed: a token has 256 random bits, so it cannot be found by
trying, however fast a trial is.
"""

from __future__ import annotations

import fnmatch
import hashlib
import re
from collections.abc import Iterable
from enum import StrEnum
from functools import lru_cache

import msgspec


class Scope(StrEnum):
    """What a token must permit."""

    ENQUEUE = "enqueue"
    DEQUEUE = "dequeue"
    READ = "read"
    ADMIN = "admin"
    """Everything, the other three included."""

    PUBLIC = "public"
    """No token needed, for orchestrators and load balancers. Tokens never have this scope."""

    KNOWN = "known"
    """Any token that the server knows is sufficient. Tokens never have this scope."""


SCOPES = (Scope.ENQUEUE, Scope.DEQUEUE, Scope.READ, Scope.ADMIN)
"""The scopes that a token can have."""


class Grant(msgspec.Struct, frozen=True):
    """The permissions of one token.

    name: used in logs, which never show the token; digest: the token's SHA-256; scopes: as given, or all if admin is among them; queues:
    patterns of names as in a shell (`mail.*`), of which one must match; empty for every queue.
    """

    name: str
    digest: bytes
    scopes: frozenset[Scope]
    queues: tuple[str, ...] = ()

    def sees(self, queue: str) -> bool:
        """Whether the token has access to a queue."""
        return not self.queues or _matcher(self.queues).match(queue) is not None


@lru_cache(1_024)
def _matcher(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(fnmatch.translate(pattern) for pattern in patterns))


def digest_of(token: str) -> bytes:
    """The SHA-256 of a token's UTF-8 bytes."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def grant(name: str, digest: bytes, scopes: Iterable[Scope], queues: Iterable[str] = ()) -> Grant:
    """A Grant, with all scopes that admin includes."""
    given = frozenset(scopes)
    return Grant(name, digest, frozenset(SCOPES) if Scope.ADMIN in given else given, tuple(queues))


def admin(token: str) -> Grant:
    """The permissions of the token in JOBQUEUE_TOKEN: everything."""
    return grant("--token", digest_of(token), (Scope.ADMIN,))
