"""What an operator may set: one table, from which the flags, the `JOBQUEUE_*` variables, the `.env` lines and the docs all follow.

Owns: the names and units of settings. Defaults stand at `Settings` and `Limits`, and so do the relations between them. Where a value comes
from is config.py.
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
    ORIGINS,
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
"""Variables that clients read, and that may stand in a `.env` which both share."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a server is started with. Durations in seconds.

    idle_seconds: a connection that asks for nothing for this long is closed; body_seconds: a request must arrive whole within this,
    from its first byte; write_seconds: a client that does not read its answer for this long is disconnected; http: by which way to serve
    (http/fast.py); drain_seconds: how long requests in flight, and the pool's jobs, may take to finish after SIGTERM; mounts: pairs of an
    API's name and its prefix, for those that do not stand where they do by default; pool: the module whose handlers this server runs
    itself; pool_unhandled_seconds: see Worker;
    data: the file that jobs are kept in, None for memory alone; sync: when a commit is on the disk (docs/semantics.md);
    store: the URL of what keeps the jobs of several servers; acknowledge, owner_lease_seconds, standby, peer_host, peer_port, peer_address
    and peer_secret are about those (docs/scale-out.md); peer_address: None for peer_host and peer_port; peer_cert, peer_key and peer_ca:
    PEM files, all or none;
    token_file: see tokens.py; tls_cert and tls_key: PEM files, both or none; allowed_hosts, allowed_origins: see exposure.py;
    rate_limit: for each token, or each address that has none.
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
    acknowledge: str = "1"
    owner_lease_seconds: float = 5.0
    standby: bool = True
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
    pool: str | None = None
    pool_size: int = 8
    pool_queues: tuple[str, ...] = (DEFAULT_QUEUE,)
    pool_unhandled_seconds: float = 3_600.0

    @property
    def secured(self) -> bool:
        """Whether a token is asked for."""
        return self.token is not None or self.token_file is not None

    def __repr__(self) -> str:
        """All but what is secret, so that no log or traceback shows it."""
        shown = {name: getattr(self, name) for name in self.__struct_fields__}
        shown |= {name: "***" for name in ("token", "store", "peer_secret") if shown[name] is not None}
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in shown.items())})"


class BadSetting(Exception):
    """A value that cannot be used. str() is one line: which setting, where it came from, why."""


class Setting(NamedTuple):
    """One row. `field` is the field of Settings or of Limits it fills; `beyond` is what exceeding it answers, for the docs."""

    name: str
    kind: Kind
    field: str
    help: str
    beyond: str = ""
    zero: bool = False

    @property
    def flag(self) -> str:
        """As it stands on the command line."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """As it stands in the environment and in `.env`."""
        return PREFIX + self.name.upper()

    @property
    def default(self) -> str:
        """As an operator would write it."""
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
        Setting("host", HOST, "host", "Address to listen on; :: is every one, of IPv4 too."),
        Setting("port", PORT, "port", "Port to listen on; 0 takes any free one."),
        Setting("http", HTTP_WAY, "http", "How to serve: auto, fast, or plain (documented aiohttp)."),
        Setting("token", TOKEN, "token", "Token to ask for; ps shows it, so prefer JOBQUEUE_TOKEN.", "401 `unauthorized`"),
        Setting("allow_anonymous", SWITCH, "allow_anonymous", "Listen beyond this machine without a token."),
        Setting("mount", MOUNTS, "mounts", "Put an API elsewhere, as /=classic."),
    ),
    "Who may use it": (
        Setting("token_file", PATH, "token_file", "Tokens with scopes; see jobqueue token --help.", "401 `unauthorized`; 403 `forbidden`"),
        Setting("tls_cert", PATH, "tls_cert", "Serve HTTPS with this certificate chain (PEM)."),
        Setting("tls_key", PATH, "tls_key", "The certificate's private key (PEM)."),
        Setting("allowed_hosts", HOSTS, "allowed_hosts", "Host names to answer to; * is any.", "403 `forbidden`"),
        Setting("allowed_origins", ORIGINS, "allowed_origins", "Origins of web pages that may ask, beside its own.", "403 `forbidden`"),
        Setting("rate_limit", RATE, "rate_limit", "Requests of one token or address, as 1000/s.", "429 `rate_limited`"),
    ),
    "Logging and tracing": (
        Setting("log_level", LEVEL, "log_level", "debug, info, warning or error."),
        Setting("log_format", FORMAT, "log_format", "console, or json for a line of JSON an event."),
        Setting("access_log", ACCESS_LOG, "access_log", "Log requests at level info: off, sampled or on."),
        Setting("access_log_every", COUNT, "access_log_every", "With sampled: one request in so many, and each 5xx."),
        Setting("trace", SWITCH, "trace", "Make spans of requests; wants the extra otel."),
    ),
    "Workers inside the server": (
        Setting("pool", MODULE, "pool", "Run the job handlers of this module."),
        Setting("pool_size", COUNT, "pool_size", "Jobs it runs at once."),
        Setting("pool_queues", QUEUES, "pool_queues", "Queues it takes them from, in order of preference."),
        Setting(
            "pool_unhandled", DURATION, "pool_unhandled_seconds", "How long to give back jobs that it has no handler for.",
            "the job fails for good", zero=True
        ),
    ),
    "Where jobs are kept": (
        Setting("data", PATH, "data", "File to keep jobs in; without it, in memory."),
        Setting("sync", SYNC, "sync", "When commits are synced: always, interval, off."),
        Setting("max_unwritten_bytes", SIZE, "unwritten_bytes_max", "Changes that wait for the disk.", _FULL),
    ),
    "Many servers, one queue": (
        Setting("store", STORE, "store", "Share jobs with other servers: valkey:// or postgres://."),
        Setting("acknowledge", ACKNOWLEDGE, "acknowledge", "Valkey replicas that must have a change: 0, 1, 2, aof.", _NOT_STORED),
        Setting(
            "owner_lease", DURATION, "owner_lease_seconds", "Silence after which another server takes over.",
            "503 `storage_unavailable` until one has"
        ),
        Setting("standby", SWITCH, "standby", "Follow the owner in memory, to take over at once; one does."),
        Setting("peer_host", HOST, "peer_host", "Address to listen on for the other servers."),
        Setting("peer_port", PORT, "peer_port", "Port to listen on for them; 0 takes any free one."),
        Setting("peer_address", ADDRESS, "peer_address", "Where they reach this one, if elsewhere."),
        Setting("peer_secret", TOKEN, "peer_secret", "What they all know; prefer JOBQUEUE_PEER_SECRET."),
        Setting("peer_cert", PATH, "peer_cert", "Certificate chain to show the other servers (PEM)."),
        Setting("peer_key", PATH, "peer_key", "The certificate's private key (PEM)."),
        Setting("peer_ca", PATH, "peer_ca", "Authority whose certificates they must show (PEM)."),
    ),
    "What the server holds": (
        Setting("max_jobs", COUNT, "jobs_max", "Live jobs in all queues.", _FULL),
        Setting("max_payload_total_bytes", SIZE, "payload_total_bytes_max", "Bytes of all live jobs: payloads, texts, errors.", _FULL),
        Setting("max_queues", COUNT, "queues_max", "Queues, with jobs or without.", "429 `too_many_queues`"),
        Setting("max_waiters", COUNT, "waiters_max", "Requests held open: dequeues and waits for a result.", "429 `too_many_waiters`"),
        Setting("max_listeners", COUNT, "listeners_max", "Listeners of /events.", "429 `too_many_listeners`"),
        Setting(
            "event_memory", COUNT, "notices_max", "Events remembered for listeners.", "a listener that lags further is cut off"
        ),
        Setting("max_connections", COUNT, "connections_max", "Open connections, health checks aside.", "429 `too_many_connections`"),
        Setting(
            "max_connections_per_address", COUNT, "connections_per_address_max", "Of these, from one address.", "429 `too_many_connections`"
        ),
        Setting(
            "history_jobs", COUNT, "history_jobs_max", "Concluded jobs remembered, per outcome.",
            "the oldest of that outcome is forgotten; its id answers 404 `unknown_job`", zero=True,
        ),
        Setting(
            "history_bytes", SIZE, "history_bytes_max", "Bytes of them, per outcome.",
            "as above", zero=True,
        ),
    ),
    "What a request may ask": (
        Setting("max_body_bytes", SIZE, "body_bytes_max", "A request's body, batches included.", "413 `too_large`"),
        Setting("max_payload_bytes", SIZE, "payload_bytes_max", "A job's payload, result or error.", "413 `too_large`"),
        Setting("max_batch_jobs", COUNT, "batch_jobs_max", "Jobs in a batch.", _OUT_OF_RANGE),
        Setting("max_answer_bytes", SIZE, "answer_bytes_max", "Bytes of all jobs in one answer.", "fewer jobs, at least one"),
        Setting("max_wait", DURATION, "wait_seconds_max", "Longest wait; proxies often cut silence at 60s.", _OUT_OF_RANGE),
        Setting("default_wait", DURATION, "wait_seconds_default", "Wait of a dequeue that names none."),
        Setting("min_lease", DURATION, "lease_seconds_min", "Shortest lease.", _OUT_OF_RANGE),
        Setting("max_lease", DURATION, "lease_seconds_max", "Longest lease of a job, a policy or an extend.", _OUT_OF_RANGE),
        Setting("default_lease", DURATION, "lease_seconds_default", "Lease in a queue whose policy names none."),
        Setting("max_delay", DURATION, "delay_seconds_max", "Longest delay, backoff included.", _OUT_OF_RANGE),
        Setting("max_expires_in", DURATION, "expires_seconds_max", "Longest expires_in.", _OUT_OF_RANGE),
        Setting("default_max_attempts", COUNT, "max_attempts_default", "Attempts at a job of a queue whose policy names none."),
        Setting("max_attempts_cap", COUNT, "max_attempts_max", "Highest max_attempts of a job or a policy.", _OUT_OF_RANGE),
    ),
    "Timeouts": (
        Setting("idle_timeout", DURATION, "idle_seconds", "Time a connection may be idle.", "it is closed"),
        Setting("body_timeout", DURATION, "body_seconds", "Time for a request, from its first byte to its last.", "408 `request_timeout`"),
        Setting(
            "write_timeout", DURATION, "write_seconds", "Time a client may leave its answer unread.",
            "it is cut; a job the answer carried goes back to its place",
        ),
        Setting(
            "drain_timeout", DURATION, "drain_seconds", "Time for requests and pool jobs in flight, after SIGTERM.",
            "they are cut; the jobs go back", zero=True
        ),
    ),
}  # fmt: skip

SETTINGS = tuple(setting for group in GROUPS.values() for setting in group)

FIXED: dict[str, str] = {
    "page_jobs_default": "jobs on a page of a listing that names no `limit`",
    "page_jobs_max": "the highest `limit` of a listing",
    "page_queues_max": "queues on a page of `GET /queues`",
    "page_scan_max": "jobs looked at for one page; a page that ends there is short and has a next one",
    "dequeue_queues_max": "queues that one dequeue names",
    "id_chars_max": "characters of a job's id, a worker's name, an `attempt_id`",
    "key_chars_max": "characters of a key",
    "keys_max": "keys that one queue keeps count of; a job of another answers 429 `queue_full`",
    "paused_keys_max": "keys of one queue that are paused; one more answers 429 `queue_full`",
    "weights_max": "keys that the `weights` of one queue name",
    "type_chars_max": "characters of a job's type",
    "text_chars_max": "characters of a description or a progress message",
    "past_attempts_max": "failed attempts remembered of each job, the last ones",
    "past_error_bytes_max": "bytes of an error remembered with its attempt; a longer one is shown as the job's own `error` alone",
}
"""Bounds that are no settings, because clients are written against them: the same on every server."""
