"""Which peers there are, and how each is set up."""

from __future__ import annotations

from typing import NamedTuple

PYTHON, SERVER, OURS = "python", "server", "ours"


class Peer(NamedTuple):
    """One peer. Its module is bench.peers.with_<key>, or with_<key>.mjs, for which runtime is what runs it.

    kind: a queue of Python's, a server with a client library, or ours. needs: distributions, or packages of
    npm's, whose versions are told. set_up: what its
    producer and worker are, in words. queued: how many are enqueued for the memory of one; fewer where enqueuing is slow,
    none where another row's server is the same. batch: whether
    the library enqueues several in a call. prepared: whether its server needs something made first. why_no_crowd: why one process cannot
    hold a thousand idle workers, where it cannot.
    """

    key: str
    name: str
    kind: str
    server: str
    needs: tuple[str, ...]
    set_up: str
    queued: int = 100_000
    batch: bool = False
    prepared: bool = False
    why_no_crowd: str = ""
    runtime: str = "python"

    @property
    def crowd(self) -> bool:
        """Whether it can hold a thousand."""
        return not self.why_no_crowd


PEERS: tuple[Peer, ...] = (
    Peer(
        "jobqueue", "jobqueue", OURS, "jobqueue", ("uvloop",),
        "`AsyncClient`, 16 calls at once, or `enqueue_batch` of 100; `Worker` with its defaults", batch=True,
    ),
    Peer(
        "sync", "jobqueue, `Client`", OURS, "jobqueue", (),
        "`Client`, one call at a time, or `enqueue_batch` of 100; `Worker` with its defaults",
        queued=0, batch=True, why_no_crowd="as above",
    ),
    Peer("beanstalkd", "beanstalkd", SERVER, "beanstalkd", ("greenstalk",), "greenstalk, one call at a time; reserve, delete"),
    Peer(
        "redis", "Redis list", SERVER, "redis", ("redis", "hiredis"),
        "redis-py with hiredis; LPUSH of one or of 100; BLMOVE, LREM: no leases, no retries", batch=True,
    ),
    Peer(
        "nats", "NATS JetStream", SERVER, "nats", ("nats-py",),
        "publish, 16 at once, or 100 unacknowledged; a pull consumer that fetches 100 and acknowledges each", batch=True, prepared=True,
    ),
    Peer(
        "bunqueue", "bunqueue", SERVER, "bunqueue", ("bun",),
        "its client in Bun; `add`, 16 at once, which share calls, or `addBulk` of 100; a Worker with `concurrency: 16` and"
        " `pollTimeout: 5000` (default: none, and it asks again each 50 ms), done jobs removed",
        batch=True, runtime="bun", why_no_crowd="its workers share a few connections",
    ),
    Peer(
        "bullmq", "BullMQ", SERVER, "valkey", ("bullmq", "ioredis"),
        "in Node; `add`, 16 at once, or `addBulk` of 100; a Worker with `concurrency: 16`, done jobs removed",
        batch=True, runtime="node", why_no_crowd="two connections for each worker, and its scripts: not ready within 30 s",
    ),
    Peer(
        "rq", "RQ", PYTHON, "redis", ("rq", "redis", "hiredis"),
        "`enqueue`, or `enqueue_many` of 100; `SimpleWorker`, no results kept", queued=25_000, batch=True,
        why_no_crowd="a process for each worker",
    ),
    Peer(
        "arq", "arq", PYTHON, "redis", ("arq", "redis", "hiredis"),
        "`enqueue_job`, 16 at once; Worker with `max_jobs=16`, `poll_delay=0.01` (default 0.5), no results kept", queued=25_000,
        why_no_crowd="its workers poll; a thousand would keep Redis busy with nothing",
    ),
    Peer(
        "saq", "SAQ", PYTHON, "redis", ("saq", "redis", "hiredis"),
        "`enqueue`, 16 at once; Worker with `concurrency=16`, no results kept", queued=25_000,
    ),
    Peer(
        "celery", "Celery", PYTHON, "redis", ("celery", "kombu", "redis"),
        "`apply_async`; `--pool solo`, 64 taken ahead, no results, no gossip, mingle and heartbeat", queued=25_000,
        why_no_crowd="a process for each worker, which takes jobs ahead",
    ),
    Peer(
        "dramatiq", "Dramatiq", PYTHON, "redis", ("dramatiq", "redis", "hiredis"), "`send`; a Worker with 8 threads", queued=25_000,
        why_no_crowd="a worker's threads share one consumer that polls",
    ),
    Peer(
        "huey", "huey", PYTHON, "redis", ("huey", "redis", "hiredis"), "a task called; a consumer with 8 threads, no results",
        queued=25_000,
    ),
    Peer(
        "procrastinate", "Procrastinate", PYTHON, "postgres", ("procrastinate", "psycopg"),
        "`defer_async`, 16 at once, or `batch_defer_async` of 100; a worker with `concurrency=16`, jobs deleted when done",
        queued=25_000, batch=True, prepared=True, why_no_crowd="a connection of PostgreSQL, which is a process, for each worker",
    ),
    Peer(
        "moto", "SQS of moto", SERVER, "moto", ("boto3",),
        "boto3; `send_message`, or batches of 10; receives of 10 with a long poll, deletes of 10", queued=1_000, batch=True,
        why_no_crowd="holds each poll by asking again in a thread",
    ),
)  # fmt: skip
KEYS = tuple(peer.key for peer in PEERS)
