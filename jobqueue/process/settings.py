"""What an operator can configure: one table, from which the flags, the `JOBQUEUE_*` variables, the `.env` lines and the docs are derived.

It defines the names and units of settings. Their defaults, and the relations between them, are in `Settings` and `Limits`. How a value is
found is in config.py.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from jobqueue.api.access.ratelimit import Rate
from jobqueue.limits import Limits
from jobqueue.model import DEFAULT_QUEUE
from jobqueue.process.units import (
    ACCESS_LOG,
    ACKNOWLEDGE,
    ADDRESS,
    COUNT,
    DURATION,
    FORMAT,
    HOST,
    HOSTS,
    HTTP_WAY,
    LEVEL,
    MODULE,
    MOUNTS,
    ORIGIN,
    ORIGINS,
    PARTITIONS,
    PATH,
    PORT,
    QUEUES,
    RATE,
    SIZE,
    STORE,
    SWITCH,
    SYNC,
    TOKEN,
    Kind,
)

PREFIX = "JOBQUEUE_"
CLIENT_VARIABLES = frozenset({"JOBQUEUE_URL"})
"""Variables that clients read, and that a `.env` shared with them may contain."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a server is started with. Durations are in seconds.

    idle_seconds: a connection without a request for this long is closed; body_seconds: time allowed for a request to arrive, from its first
    byte; write_seconds: a client that does not read its answer for this long is disconnected; http: the HTTP implementation (http/fast.py);
    drain_seconds: time for requests in flight, and for the pool's jobs, to finish after SIGTERM; mounts: pairs of an API's name and its
    prefix, for those that are not at their default place; sqs_url: see Site; pool: the module whose handlers this server runs itself;
    pool_unhandled_seconds: see Worker;
    data: the file that stores the jobs, None for memory only; sync: when a commit is on the disk (docs/semantics.md); store: the URL of the
    store that several servers share; partitions: how many it has, None for as many as it has, 1 if it is new; processes: how many of them
    to run here, on one port (process/processes.py); acknowledge, owner_lease_seconds, standby, peer_host, peer_port, peer_address and
    peer_secret: for several servers (docs/scale-out.md); peer_address: None for peer_host and peer_port; peer_cert, peer_key and peer_ca:
    PEM files, all or none;
    token_file: see tokens.py; tls_cert and tls_key: PEM files, both or none; allowed_hosts, allowed_origins: see exposure.py; rate_limit:
    for each token, or for each address without one.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    http: str = "auto"
    token: str | None = None
    token_file: str | None = None
    allow_anonymous: bool = False
    tls_cert: str | None = None
    tls_key: str | None = None
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    rate_limit: Rate | None = None
    limits: Limits = Limits()
    idle_seconds: float = 75.0
    body_seconds: float = 30.0
    write_seconds: float = 30.0
    drain_seconds: float = 10.0
    data: str | None = None
    sync: str = "always"
    store: str | None = None
    partitions: int | None = None
    acknowledge: str = "1"
    owner_lease_seconds: float = 5.0
    standby: bool = True
    processes: int = 1
    peer_host: str = "127.0.0.1"
    peer_port: int = 8081
    peer_address: str | None = None
    peer_secret: str | None = None
    peer_cert: str | None = None
    peer_key: str | None = None
    peer_ca: str | None = None
    log_level: str = "info"
    log_format: str = "console"
    access_log: str = "off"
    access_log_every: int = 100
    trace: bool = False
    mounts: tuple[tuple[str, str], ...] = ()
    sqs_url: str | None = None
    pool: str | None = None
    pool_size: int = 8
    pool_queues: tuple[str, ...] = (DEFAULT_QUEUE,)
    pool_unhandled_seconds: float = 3_600.0

    @property
    def secured(self) -> bool:
        """Whether requests need a token."""
        return self.token is not None or self.token_file is not None

    def __repr__(self) -> str:
        """Without secrets, so that no log or traceback shows them."""
        shown = {name: getattr(self, name) for name in self.__struct_fields__}
        shown |= {name: "***" for name in ("token", "store", "peer_secret") if shown[name] is not None}
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in shown.items())})"


class BadSetting(Exception):
    """A value that cannot be used. str() is one line: which setting, where it came from, and why."""


class Setting(NamedTuple):
    """One row. `field` is the field of Settings or of Limits that it fills; `beyond` is, for the docs, the answer when it is exceeded."""

    name: str
    kind: Kind
    field: str
    help: str
    beyond: str = ""
    zero: bool = False

    @property
    def flag(self) -> str:
        """Its name on the command line."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """Its name in the environment and in `.env`."""
        return PREFIX + self.name.upper()

    @property
    def default(self) -> str:
        """The default, written as an operator would write it."""
        whole = Settings()
        return self.kind.show(getattr(whole.limits if self.bounds else whole, self.field))

    @property
    def bounds(self) -> bool:
        """Whether it fills a field of Limits."""
        return self.field in Limits.__struct_fields__

    def read(self, text: str) -> object:
        """The value. Raises ValueError with the reason."""
        if not text:
            raise ValueError("is empty; leave it out for the default")
        value = self.kind.parse(text)
        if self.kind in (COUNT, SIZE, DURATION) and value == 0 and not self.zero:
            raise ValueError("must be above 0")
        return value


_FULL = "429 `queue_full`"
_NOT_STORED = "503 `storage_unavailable`"
_OUT_OF_RANGE = "400 `bad_request` that names the bound"

GROUPS: dict[str, tuple[Setting, ...]] = {
    "Listening": (
        Setting("host", HOST, "host", "Address to listen on; :: is all, IPv4 included."),
        Setting("port", PORT, "port", "Port to listen on; 0 takes any free one."),
        Setting("http", HTTP_WAY, "http", "How to serve: auto, fast, or plain (documented aiohttp)."),
        Setting("token", TOKEN, "token", "Token to require; ps shows it, so prefer JOBQUEUE_TOKEN.", "401 `unauthorized`"),
        Setting("allow_anonymous", SWITCH, "allow_anonymous", "Allow other machines to connect without a token."),
        Setting("mount", MOUNTS, "mounts", "Serve an API under another prefix, as /=classic."),
        Setting("sqs_url", ORIGIN, "sqs_url", "Base of the queue URLs that SQS clients receive."),
    ),
    "Access": (
        Setting("token_file", PATH, "token_file", "Tokens with scopes; see jobqueue token --help.", "401 `unauthorized`; 403 `forbidden`"),
        Setting("tls_cert", PATH, "tls_cert", "Serve HTTPS with this certificate chain (PEM)."),
        Setting("tls_key", PATH, "tls_key", "The certificate's private key (PEM)."),
        Setting("allowed_hosts", HOSTS, "allowed_hosts", "Host names to accept in requests; * is any.", "403 `forbidden`"),
        Setting("allowed_origins", ORIGINS, "allowed_origins", "Other origins whose web pages can send requests.", "403 `forbidden`"),
        Setting("rate_limit", RATE, "rate_limit", "Requests allowed per token or address, as 1000/s.", "429 `rate_limited`"),
    ),
    "Logging and tracing": (
        Setting("log_level", LEVEL, "log_level", "debug, info, warning or error."),
        Setting("log_format", FORMAT, "log_format", "console, or json (one JSON object per line)."),
        Setting("access_log", ACCESS_LOG, "access_log", "Log requests at level info: off, sampled or on."),
        Setting("access_log_every", COUNT, "access_log_every", "With sampled: log one request in N, and every 5xx."),
        Setting("trace", SWITCH, "trace", "Create spans for requests; needs the extra otel."),
    ),
    "Workers inside the server": (
        Setting("pool", MODULE, "pool", "Run the job handlers of this module."),
        Setting("pool_size", COUNT, "pool_size", "Jobs that the pool runs at once."),
        Setting("pool_queues", QUEUES, "pool_queues", "Queues that the pool takes jobs from, preferred first."),
        Setting(
            "pool_unhandled", DURATION, "pool_unhandled_seconds", "How long to release jobs that have no handler here.",
            "the job fails for good", zero=True
        ),
    ),
    "Where jobs are kept": (
        Setting("data", PATH, "data", "File to keep jobs in; without it, in memory."),
        Setting("sync", SYNC, "sync", "When commits are synced: always, interval, off."),
        Setting("max_unwritten_bytes", SIZE, "unwritten_bytes_max", "Size of changes that wait for the disk.", _FULL),
    ),
    "Several servers on one store": (
        Setting("store", STORE, "store", "Share jobs with other servers: valkey:// or postgres://."),
        Setting("partitions", PARTITIONS, "partitions", "Partitions of a new store, 1 to 128; without it, 1."),
        Setting("acknowledge", ACKNOWLEDGE, "acknowledge", "Valkey replicas that must have a change: 0, 1, 2, aof.", _NOT_STORED),
        Setting(
            "owner_lease", DURATION, "owner_lease_seconds", "Silence after which another server takes over.",
            "503 `storage_unavailable` until a server has taken over"
        ),
        Setting("processes", COUNT, "processes", "Server processes to run on this port; needs --store."),
        Setting("standby", SWITCH, "standby", "Be ready to follow the owner in memory and take over."),
        Setting("peer_host", HOST, "peer_host", "Address to listen on for the other servers."),
        Setting("peer_port", PORT, "peer_port", "Port to listen on for them; 0 takes any free port."),
        Setting("peer_address", ADDRESS, "peer_address", "Address at which they reach this server, if different."),
        Setting("peer_secret", TOKEN, "peer_secret", "Secret that all share; prefer JOBQUEUE_PEER_SECRET."),
        Setting("peer_cert", PATH, "peer_cert", "Certificate chain to show the other servers (PEM)."),
        Setting("peer_key", PATH, "peer_key", "The certificate's private key (PEM)."),
        Setting("peer_ca", PATH, "peer_ca", "CA that must have signed their certificates (PEM)."),
    ),
    "What the server holds": (
        Setting("max_jobs", COUNT, "jobs_max", "Live jobs in all queues.", _FULL),
        Setting("max_payload_total_bytes", SIZE, "payload_total_bytes_max", "Bytes of all live jobs: payloads, texts, errors.", _FULL),
        Setting("max_queues", COUNT, "queues_max", "Queues, with or without jobs.", "429 `too_many_queues`"),
        Setting("max_schedules", COUNT, "schedules_max", "Schedules.", "429 `too_many_schedules`"),
        Setting(
            "unused_queue_time", DURATION, "unused_queue_seconds", "Delete unused queues without a policy after it; 0: never.",
            "it is deleted; the next job creates it again", zero=True,
        ),
        Setting("max_waiters", COUNT, "waiters_max", "Waiting requests: dequeues and waits for a result.", "429 `too_many_waiters`"),
        Setting("max_listeners", COUNT, "listeners_max", "Listeners of /events.", "429 `too_many_listeners`"),
        Setting(
            "event_memory", COUNT, "notices_max", "Events kept for listeners.", "a listener that is further behind is disconnected"
        ),
        Setting("max_connections", COUNT, "connections_max", "Open connections, not counting health checks.", "429 `too_many_connections`"),
        Setting(
            "max_connections_per_address", COUNT, "connections_per_address_max", "Open connections from one address.",
            "429 `too_many_connections`"
        ),
        Setting(
            "history_jobs", COUNT, "history_jobs_max", "Concluded jobs kept in history, per outcome.",
            "the oldest of that outcome is forgotten; its id answers 404 `unknown_job`", zero=True,
        ),
        Setting(
            "history_bytes", SIZE, "history_bytes_max", "Bytes of concluded jobs kept, per outcome.",
            "as above", zero=True,
        ),
    ),
    "Limits of a request": (
        Setting("max_body_bytes", SIZE, "body_bytes_max", "A request's body, batches included.", "413 `too_large`"),
        Setting("max_payload_bytes", SIZE, "payload_bytes_max", "A job's payload, result or error.", "413 `too_large`"),
        Setting("max_batch_jobs", COUNT, "batch_jobs_max", "Jobs in a batch.", _OUT_OF_RANGE),
        Setting("max_answer_bytes", SIZE, "answer_bytes_max", "Bytes of all jobs in one answer.", "fewer jobs, at least one"),
        Setting("max_wait", DURATION, "wait_seconds_max", "Longest wait; many proxies cut idle requests at 60s.", _OUT_OF_RANGE),
        Setting("default_wait", DURATION, "wait_seconds_default", "Wait of a dequeue that does not set one."),
        Setting("min_lease", DURATION, "lease_seconds_min", "Shortest lease, except 0.", _OUT_OF_RANGE),
        Setting("max_lease", DURATION, "lease_seconds_max", "Longest lease of a job, a policy or an extend.", _OUT_OF_RANGE),
        Setting("default_lease", DURATION, "lease_seconds_default", "Lease in a queue whose policy does not set one."),
        Setting("max_delay", DURATION, "delay_seconds_max", "Longest delay, backoff included.", _OUT_OF_RANGE),
        Setting("max_expires_in", DURATION, "expires_seconds_max", "Longest expires_in.", _OUT_OF_RANGE),
        Setting("default_max_attempts", COUNT, "max_attempts_default", "Attempts at a job if its queue's policy sets none."),
        Setting("max_attempts_cap", COUNT, "max_attempts_max", "Highest max_attempts of a job or a policy.", _OUT_OF_RANGE),
    ),
    "Timeouts": (
        Setting("idle_timeout", DURATION, "idle_seconds", "Time that a connection can be idle.", "it is closed"),
        Setting("body_timeout", DURATION, "body_seconds", "Time allowed for a request, first byte to last.", "408 `request_timeout`"),
        Setting(
            "write_timeout", DURATION, "write_seconds", "Time that a client can leave its answer unread.",
            "the connection is closed; a job in the answer returns to its queue",
        ),
        Setting(
            "drain_timeout", DURATION, "drain_seconds", "Time for running requests and pool jobs after SIGTERM.",
            "they are ended; the jobs return to their queues", zero=True
        ),
    ),
}  # fmt: skip

SETTINGS = tuple(setting for group in GROUPS.values() for setting in group)

FIXED: dict[str, str] = {
    "page_jobs_default": "jobs on a page of a listing without a `limit`",
    "page_jobs_max": "the highest `limit` of a listing",
    "page_queues_max": "queues on a page of `GET /queues`",
    "page_scan_max": "jobs examined for one page; a page that ends there is short and has a next one",
    "dequeue_queues_max": "queues in one dequeue",
    "id_chars_max": "characters of a job's id, a worker's name, an `attempt_id`",
    "key_chars_max": "characters of a key",
    "schedules_bytes_max": "bytes of the payloads of all schedules; more answer 429 `too_many_schedules`",
    "unique_windows_max": "unique keys that are held for a time (`unique.for`); beyond that, 429 `queue_full`",
    "unique_seconds_max": "the longest `unique.for`, in seconds",
    "tags_max": "tags of a job",
    "parents_max": "jobs that one job is `after`",
    "batch_edges_max": "jobs that the items of one batch are `after`, in total; items beyond that are answered 413 `too_large`",
    "edges_max": "jobs that all live jobs are `after`, in total; beyond that, 429 `queue_full`",
    "groups_max": "groups that are not concluded, or whose callback job is not enqueued yet; beyond that, 429 `too_many_groups`",
    "groups_kept_max": "concluded groups that are remembered, the most recent ones",
    "tag_chars_max": "characters of a tag",
    "headers_max": "headers of a job, which count towards the bound on its payload",
    "queue_tags_max": "tags of a queue",
    "attributes_max": "attributes of a queue",
    "attributes_bytes_max": "bytes of a queue's attributes, names and values",
    "keys_max": "keys that one queue counts; a job with a further key is answered 429 `queue_full`",
    "paused_keys_max": "paused keys of one queue; beyond that, 429 `queue_full`",
    "weights_max": "keys in the `weights` of one queue",
    "type_chars_max": "characters of a job's type",
    "text_chars_max": "characters of a description or a progress message",
    "past_attempts_max": "failed attempts remembered for each job, the most recent ones",
    "past_error_bytes_max": "bytes of an error remembered with its attempt; a longer error is only in the job's own `error`",
    "past_traceback_bytes_max": "bytes of a traceback remembered with its attempt; a longer one loses its middle",
    "queue_error_groups_max": "groups of errors counted for one queue; for another the one is dropped that was not met for longest",
    "error_groups_max": "groups of errors counted for all queues together; likewise",
}
"""Limits that cannot be configured, because clients rely on them: they are the same on every server."""
