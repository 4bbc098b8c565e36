"""What a server reports about itself and the other servers on its store, as `stats` returns it. Durations are in seconds."""

from __future__ import annotations

from datetime import datetime

import msgspec

from jobqueue.client.totals import Failures


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """What a server holds over all queues. payload_bytes: of live jobs, including their texts; leases: live leases.

    failed_jobs_forgotten: how many failed jobs were dropped since the server started because history was full.
    """

    jobs_live: int
    payload_bytes: int
    queues: int
    waiters: int
    listeners: int
    leases: int
    failures: Failures = Failures()
    failed_jobs_forgotten: int = 0


class Commits(msgspec.Struct, frozen=True, kw_only=True):
    """Commits to the data file or the store. failing: changes cannot be stored at present; unwritten_bytes: how much waits to be written;
    commits: how many there have been since it was opened.

    p50_seconds, p99_seconds: how long commits took, median and 99th percentile; None before the first. problem: why changes cannot be
    stored, None while they can. last_at, last_seconds: when the last commit was, and how long it took; None before the first.
    """

    failing: bool
    unwritten_bytes: int
    commits: int
    p50_seconds: float | None
    p99_seconds: float | None
    problem: str | None = None
    last_at: datetime | None = None
    last_seconds: float | None = None


class ServerName(msgspec.Struct, frozen=True, kw_only=True):
    """A server's name, and the address at which the other servers reach it."""

    name: str
    address: str | None


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """A server on the store. role: owner, standby or front; asked: whether this server answered the request.

    seen_seconds: how long ago it last reported that it is running, which it does once a second.
    """

    name: str
    address: str
    role: str
    asked: bool
    seen_seconds: float


class Lag(msgspec.Struct, frozen=True, kw_only=True):
    """Delays between the server that answered and the other servers; each is None if it does not apply or is not known.

    renewed_seconds: how long ago it renewed its lease, on the owner; link_seconds: how long the owner took to answer it, on the other
    servers; clock_seconds: how far its clock is ahead of the store's; standby_commits: how many commits the standby is behind.
    """

    renewed_seconds: float | None
    link_seconds: float | None
    clock_seconds: float | None
    standby_commits: int | None


class Partition(msgspec.Struct, frozen=True, kw_only=True):
    """One partition of a store, as seen by the server that answered. owner: None while it has none; epoch: how often it was claimed.

    lease_left_seconds, standby, standby_commits: as of a Cluster and its Lag; the standby is known to the owner and to itself. problem:
    why the server that answered cannot own it.
    """

    index: int
    owner: ServerName | None
    epoch: int
    lease_left_seconds: float | None
    standby: str | None
    standby_commits: int | None
    problem: str | None


class Cluster(msgspec.Struct, frozen=True, kw_only=True):
    """The servers on a store, as seen by the server that answered; name and address are its own.

    owner: None while no server owns the queue, and with several partitions; epoch: how often the queue was claimed; lease_left_seconds: the
    time after which another server can claim it, unless the owner renews its lease; standby: the name of the server that takes over at
    once; problem: why this server cannot own the queue, None while it can; members: the servers that reported in the last minute that they
    are running; partitions: empty if the store has one.
    """

    name: str
    address: str
    store: str
    owner: ServerName | None
    epoch: int
    lease_left_seconds: float | None
    standby: str | None
    problem: str | None
    lag: Lag
    members: list[Member]
    partitions: list[Partition] = []


class Disk(msgspec.Struct, frozen=True, kw_only=True):
    """The disk that the data file is on. file_bytes: the size of the file and its log; state: ok, near (nearly full) or full."""

    file_bytes: int
    free_bytes: int
    total_bytes: int
    state: str


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """A server's memory. limit_bytes: how much it can use, or else its machine's memory, None if neither is known; state: as in Bound."""

    used_bytes: int
    limit_bytes: int | None
    state: str


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """The server that answered. storage: memory, file or store; place: the file's path, or the store's URL without a password.

    disk: None if there is no file; memory: None if the operating system does not report it.
    """

    version: str
    started_at: datetime
    uptime_seconds: float
    storage: str
    place: str | None
    disk: Disk | None
    memory: Memory | None


class Bound(msgspec.Struct, frozen=True, kw_only=True):
    """Something that has a limit. name: of its metric, without `jobqueue_`; state: ok, near (from 90 % of the limit) or full."""

    name: str
    used: int
    limit: int
    state: str


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a server. held, storage: None while they are not known, and unavailable is the reason; storage is also None if jobs are
    kept in memory.

    cluster: None if the server is the only one of its queue. server: the server that answered; bounds: what is limited, and how much of it
    is used; limits: the limits in force, by name. An older server does not report the last three.
    """

    draining: bool
    unavailable: str | None
    held: Held | None
    storage: Commits | None
    cluster: Cluster | None
    server: Server | None = None
    bounds: list[Bound] = []
    limits: dict[str, float] = {}
