"""Every limit and every default, with its unit in its name, and the relations between them.

Each number stands in one place: settings, docs and error messages read it from here. `Limits()` checks the relations between the limits, so
a server with contradictory settings does not start.
"""

from __future__ import annotations

import re

import msgspec

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB
DAY = 86_400.0

NAME = re.compile(r"[A-Za-z0-9._:-]{1,80}")
"""Names of queues, groups and schedules."""

HEADER_NAME = re.compile(r"[A-Za-z0-9._-]{1,256}")

HEADER_TYPE = re.compile(r"(?:String|Number|Binary)(?:\.[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,249})?")
"""The type of a header's value, as its producer declares it, with an optional label of its own."""

CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""Characters that no id, type or worker name can have: C0 and C1 controls, and surrogates, which UTF-8 cannot encode."""

CONTROL_BUT_LINES = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
"""Characters that no description or progress message can have: the same, except tabs and line ends."""

JSON_DEPTH_MAX = 100
"""The deepest nesting of a payload, a result or an error: deeper ones can break recursive parsers in workers."""


REDRIVE_RATE_MIN, REDRIVE_RATE_MAX = 0.001, 100_000.0
"""The bounds of a redrive's rate, in jobs per second."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The server's limits. Most are settings of `jobqueue serve`; docs/operations.md lists them, and the answer when each is exceeded."""

    jobs_max: int = 1_000_000
    payload_total_bytes_max: int = GIB
    payload_bytes_max: int = MIB
    body_bytes_max: int = 4 * MIB
    batch_jobs_max: int = 1_000
    answer_bytes_max: int = 4 * MIB
    unwritten_bytes_max: int = 64 * MIB
    queues_max: int = 10_000
    unused_queue_seconds: float = 3_600.0
    schedules_max: int = 10_000
    schedules_bytes_max: int = 64 * MIB
    keys_max: int = 1_000_000
    paused_keys_max: int = 1_000
    weights_max: int = 1_000
    key_chars_max: int = 128
    unique_windows_max: int = 1_000_000
    unique_seconds_max: float = 30 * DAY
    tags_max: int = 8
    tag_chars_max: int = 64
    headers_max: int = 12
    queue_tags_max: int = 50
    attributes_max: int = 32
    attributes_bytes_max: int = 16 * KIB
    parents_max: int = 100
    edges_max: int = 1_000_000
    batch_edges_max: int = 10_000
    groups_max: int = 10_000
    groups_kept_max: int = 1_000
    waiters_max: int = 20_000
    listeners_max: int = 100
    notices_max: int = 10_000
    connections_max: int = 25_000
    connections_per_address_max: int = 25_000
    wait_seconds_max: float = 55.0
    wait_seconds_default: float = 20.0
    lease_seconds_min: float = 1.0
    lease_seconds_max: float = 12 * 3_600.0
    lease_seconds_default: float = 300.0
    delay_seconds_max: float = 30 * DAY
    expires_seconds_max: float = 30 * DAY
    max_attempts_max: int = 1_000
    max_attempts_default: int = 5
    history_jobs_max: int = 10_000
    history_bytes_max: int = 64 * MIB
    page_jobs_max: int = 1_000
    page_queues_max: int = 1_000
    page_jobs_default: int = 100
    page_scan_max: int = 10_000
    dequeue_queues_max: int = 32
    id_chars_max: int = 128
    type_chars_max: int = 128
    text_chars_max: int = 1_024
    past_attempts_max: int = 10
    past_error_bytes_max: int = KIB
    past_traceback_bytes_max: int = 8 * KIB
    queue_error_groups_max: int = 100
    error_groups_max: int = 10_000

    def __post_init__(self) -> None:
        """Check every limit and their relations; ValueError names the first limit, or the first two, that are wrong."""
        for name in self.__struct_fields__:
            if name in ("history_jobs_max", "history_bytes_max", "unused_queue_seconds"):
                if not getattr(self, name) >= 0:
                    raise ValueError(f"{name} must not be below 0")
            elif not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0")
        for small, large in (
            ("payload_bytes_max", "body_bytes_max"),
            ("payload_bytes_max", "payload_total_bytes_max"),
            ("wait_seconds_default", "wait_seconds_max"),
            ("lease_seconds_min", "lease_seconds_default"),
            ("lease_seconds_default", "lease_seconds_max"),
            ("max_attempts_default", "max_attempts_max"),
            ("page_jobs_default", "page_jobs_max"),
            ("page_jobs_max", "page_scan_max"),
        ):
            if getattr(self, small) > getattr(self, large):
                raise ValueError(f"{small} ({getattr(self, small)}) must not exceed {large} ({getattr(self, large)})")
