"""Every bound and every default, with its unit in its name, and the relations between them.

One place per number: settings, docs and error messages read them here. `Limits()` asserts how the bounds
relate, so a server with contradictory settings does not start.
"""

from __future__ import annotations

import re

import msgspec

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB
DAY = 86_400.0

NAME = re.compile(r"[A-Za-z0-9._:-]{1,64}")
"""Queue names."""

CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""What no id, type or worker name may hold: C0 and C1 controls, and surrogates, which UTF-8 cannot carry."""

CONTROL_BUT_LINES = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
"""What no description or progress message may hold: the same, but for tabs and line ends."""

JSON_DEPTH_MAX = 100
"""Nesting of a payload, a result or an error: deeper ones break recursive parsers on the worker's side."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The server's bounds. Most are settings of `jobqueue serve`; docs/operations.md lists them and what exceeding one answers."""

    jobs_max: int = 1_000_000
    payload_total_bytes_max: int = GIB
    payload_bytes_max: int = 256 * KIB
    body_bytes_max: int = MIB
    batch_jobs_max: int = 1_000
    answer_bytes_max: int = 4 * MIB
    unwritten_bytes_max: int = 64 * MIB
    queues_max: int = 10_000
    keys_max: int = 1_000_000
    paused_keys_max: int = 1_000
    weights_max: int = 1_000
    key_chars_max: int = 128
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

    def __post_init__(self) -> None:
        """Check every bound and how they relate; ValueError names the first two that disagree."""
        for name in self.__struct_fields__:
            if name in ("history_jobs_max", "history_bytes_max"):
                if getattr(self, name) < 0:
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
