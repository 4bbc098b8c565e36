"""A queue's attributes under AWS's names, and the parts of a queue's policy that they stand for: the attributes of docs/dialects.md.

Attributes that the engine implements are fields of the policy: VisibilityTimeout is `lease_seconds`, RedrivePolicy is `dead_letter` and
`max_attempts`. The others are stored in the policy's `attributes`, which only this dialect reads.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from jobqueue.api.dialects.sqs import call
from jobqueue.api.dialects.sqs.call import arn_of, name_in_arn
from jobqueue.api.dialects.sqs.errors import SqsError, invalid_attribute_name, invalid_attribute_value, invalid_value
from jobqueue.model import QueueStats
from jobqueue.policy import PerKey, PolicyChange, QueuePolicy

VISIBILITY_SECONDS_MAX = 43_200
DELAY_SECONDS_MAX = 900
WAIT_SECONDS_MAX = 20
MESSAGE_BYTES_MAX = 1_048_576
RETENTION_SECONDS_MAX = 1_209_600
POLICY_BYTES_MAX = 8_192
SOURCES_MAX = 10
"""The most ARNs in a RedriveAllowPolicy."""

NEW = QueuePolicy(lease_seconds=30.0, max_attempts=None, expires_in=345_600.0)
"""The policy of a queue that is created without attributes."""

FIFO = PerKey(order="fifo")

_MAP_CHARS_MAX = 16_384
"""The most characters of all attributes of a queue."""

_WHOLE = re.compile(r"[+-]?[0-9]{1,10}")
_ANY = msgspec.json.Decoder()


class Changes(NamedTuple):
    """The changes that attributes ask for. change: of the policy; kept: what is stored under AWS's names, None for what is removed."""

    change: PolicyChange
    kept: dict[str, str | None]


class Redrive(NamedTuple):
    """A RedrivePolicy: the queue that messages move to after this many receives. text: as it was given."""

    to: str
    receives: int
    text: str


# Reading the given values.


def _number(low: int, high: int) -> Callable[[str, str], str]:
    def read(name: str, value: str) -> str:
        if _WHOLE.fullmatch(value) is None or not low <= int(value) <= high:
            raise _bad(name)
        return str(int(value))

    return read


def _choice(*choices: str) -> Callable[[str, str], str]:
    def read(name: str, value: str) -> str:
        if value not in choices:
            raise _bad(name)
        return value

    return read


def _truth(name: str, value: str) -> str:
    if value.lower() not in ("true", "false"):
        raise _bad(name)
    return value.lower()


def _key_id(name: str, value: str) -> str:
    if len(value) > 2_048:
        raise _bad(name)
    return value


def _map(value: str) -> dict[str, Any] | None:
    """A JSON object, None if the text is not one."""
    if len(value) > _MAP_CHARS_MAX:
        return None
    try:
        found = _ANY.decode(value.encode())
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _policy(name: str, value: str) -> str:
    if value and (len(value.encode()) > POLICY_BYTES_MAX or _map(value) is None):
        raise _bad(name)
    return value


def _said(name: str, value: str, reason: str) -> SqsError:
    return invalid_value(value, name, reason)


def _bad(name: str, reason: str = "") -> SqsError:
    return invalid_attribute_value(f"Invalid value for the parameter {name}.{reason and f' Reason: {reason}'}")


def _misplaced(message: str) -> SqsError:
    return SqsError("InvalidAttributeName", "InvalidAttributeName", message)


def redrive(value: str) -> Redrive | None:
    """A RedrivePolicy, None for an empty one. Raises SqsError."""
    if not value:
        return None
    found = _map(value)
    if found is None:
        raise _said("RedrivePolicy", value, "Redrive policy is not a valid JSON map.")
    for needed in ("deadLetterTargetArn", "maxReceiveCount"):
        if needed not in found:
            raise _said("RedrivePolicy", value, f"Redrive policy does not contain mandatory attribute: {needed}.")
    arn, count = found["deadLetterTargetArn"], found["maxReceiveCount"]
    to = name_in_arn(arn) if isinstance(arn, str) else None
    if to is None:
        raise _said("RedrivePolicy", value, "deadLetterTargetArn must have this format: arn:aws:sqs:<region>:<account-id>:<queue>.")
    text = str(count) if isinstance(count, int | str) and not isinstance(count, bool) else ""
    if _WHOLE.fullmatch(text) is None or not 1 <= int(text) <= 1_000:
        shown = text[:20] or "that"
        raise _said("RedrivePolicy", value, f"Invalid value for maxReceiveCount: {shown}, valid values are from 1 to 1000 both inclusive.")
    return Redrive(to, int(text), value)


def _redrive(_: str, value: str) -> str:
    asked = redrive(value)
    return "" if asked is None else _redrive_text(asked.to, asked.receives)


def _redrive_text(to: str, receives: int) -> str:
    return msgspec.json.encode({"deadLetterTargetArn": arn_of(to), "maxReceiveCount": receives}).decode()


def _allow(name: str, value: str) -> str:
    if not value:
        return ""
    found = _map(value)
    sources = None if found is None else found.get("sourceQueueArns")
    if (
        found is None
        or found.get("redrivePermission") not in ("allowAll", "denyAll", "byQueue")
        or not found.keys() <= {"redrivePermission", "sourceQueueArns"}
        or (sources is not None) is not (found["redrivePermission"] == "byQueue")
        or (sources is not None and not _arns(sources))
    ):
        raise _said(name, value, "Amazon SQS can't create the redrive allow policy, as it's in an unsupported format.")
    return value


def _arns(sources: Any) -> bool:
    return (
        isinstance(sources, list)
        and 1 <= len(sources) <= SOURCES_MAX
        and all(isinstance(arn, str) and name_in_arn(arn) is not None for arn in sources)
    )


def allows(stats: QueueStats, source: str) -> bool:
    """Whether a queue can be the dead-letter queue of another, by its RedriveAllowPolicy."""
    found = _map(stats.policy.attributes.get("RedriveAllowPolicy", "")) or {}
    permission, sources = found.get("redrivePermission", "allowAll"), found.get("sourceQueueArns")
    if permission == "byQueue":
        # A value that was set natively can be anything.
        return isinstance(sources, list) and _arns(sources) and any(name_in_arn(arn) == source for arn in sources)
    return bool(permission == "allowAll")


def kept_number(policy: QueuePolicy, name: str, default: int) -> int:
    """The number stored for a queue under a name; the default if there is none, or one that this dialect would not have set."""
    value = policy.attributes.get(name)
    if value is None:
        return default
    try:
        return int(_READERS[name](name, value))
    except SqsError:
        return default


_READERS: dict[str, Callable[[str, str], str]] = {
    "VisibilityTimeout": _number(0, VISIBILITY_SECONDS_MAX),
    "DelaySeconds": _number(0, DELAY_SECONDS_MAX),
    "MaximumMessageSize": _number(1_024, MESSAGE_BYTES_MAX),
    "MessageRetentionPeriod": _number(60, RETENTION_SECONDS_MAX),
    "ReceiveMessageWaitTimeSeconds": _number(0, WAIT_SECONDS_MAX),
    "RedrivePolicy": _redrive,
    "RedriveAllowPolicy": _allow,
    "FifoQueue": _truth,
    "ContentBasedDeduplication": _truth,
    "DeduplicationScope": _choice("queue", "messageGroup"),
    "FifoThroughputLimit": _choice("perQueue", "perMessageGroupId"),
    "Policy": _policy,
    "KmsMasterKeyId": _key_id,
    "KmsDataKeyReusePeriodSeconds": _number(60, 86_400),
    "SqsManagedSseEnabled": _truth,
}
"""The parser of each attribute that can be set: its value in canonical form, "" for none."""

_FIFO_ONLY = {"FifoQueue": "", "ContentBasedDeduplication": "", "DeduplicationScope": "scope", "FifoThroughputLimit": "limit"}

_DEFAULTS = {
    "MaximumMessageSize": str(MESSAGE_BYTES_MAX),
    "ReceiveMessageWaitTimeSeconds": "0",
    "SqsManagedSseEnabled": "false",
}
_FIFO_DEFAULTS = {"ContentBasedDeduplication": "false", "DeduplicationScope": "queue", "FifoThroughputLimit": "perQueue"}
_LEFT_OUT = {
    "RedriveAllowPolicy": "",
    "Policy": "",
    "KmsMasterKeyId": "",
    "KmsDataKeyReusePeriodSeconds": "300",
}
"""Attributes that a queue has only if they were set, and the values that mean none."""

_OWN = (
    "All",
    "QueueArn",
    "CreatedTimestamp",
    "LastModifiedTimestamp",
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
)
"""Attributes that can be read but not set."""


def read(given: Mapping[str, str], fifo: bool, making: bool = False) -> dict[str, str]:
    """The given values in canonical form. fifo: whether the queue is a FIFO queue; making: whether it is being created. Raises SqsError."""
    values: dict[str, str] = {}
    for name, value in given.items():
        reader = _READERS.get(name)
        if reader is None:
            raise invalid_attribute_name(name)
        if name in _FIFO_ONLY and not fifo:
            if _FIFO_ONLY[name]:
                raise _misplaced(f"You can specify the {name} only when FifoQueue is set to true.")
            raise invalid_attribute_name(name)
        values[name] = reader(name, value)
    if not making and values.get("FifoQueue") == "false":
        raise _bad("FifoQueue", "Modifying queue type is not supported.")
    if values.get("KmsMasterKeyId") and values.get("SqsManagedSseEnabled") == "true":
        raise _misplaced("You can use one type of server-side encryption (SSE) at one time. You can either enable KMS SSE or SQS SSE.")
    return values


def check_together(values: Mapping[str, str], shown: Mapping[str, str]) -> None:
    """Refuse combinations that are invalid once the values are set on a queue with these attributes. Raises SqsError."""
    after = {**shown, **values}
    if after.get("FifoThroughputLimit") == "perMessageGroupId" and after.get("DeduplicationScope") != "messageGroup":
        raise _bad(
            "FifoThroughputLimit",
            "The perMessageGroupId value is allowed only when the value for DeduplicationScope is messageGroup.",
        )


# Converting from and to a policy.


def changes(values: Mapping[str, str]) -> Changes:
    """The changes to a policy, from values that `read` has checked."""
    fields: dict[str, Any] = {}
    kept: dict[str, str | None] = {}
    for name, value in values.items():
        if name == "VisibilityTimeout":
            fields["lease_seconds"] = float(value)
        elif name == "DelaySeconds":
            fields["delay"] = float(value) or None
        elif name == "MessageRetentionPeriod":
            fields["expires_in"] = float(value)
        elif name == "RedrivePolicy":
            asked = redrive(value)
            fields["dead_letter"] = None if asked is None else asked.to
            fields["max_attempts"] = None if asked is None else asked.receives
        elif name != "FifoQueue":
            kept[name] = None if value == _LEFT_OUT.get(name) else value
    if kept.get("KmsMasterKeyId"):
        kept["SqsManagedSseEnabled"] = "false"
    elif kept.get("SqsManagedSseEnabled") == "true":
        kept["KmsMasterKeyId"] = kept["KmsDataKeyReusePeriodSeconds"] = None
    return Changes(PolicyChange(**fields), kept)


def policy_of(values: Mapping[str, str], fifo: bool, tags: Mapping[str, str]) -> QueuePolicy:
    """The policy of a new queue with these attributes."""
    change, kept = changes(values)
    base = msgspec.structs.replace(
        NEW,
        per_key=FIFO if fifo else None,
        tags=dict(tags),
        attributes={name: value for name, value in kept.items() if value is not None},
    )
    return change.of(base)


def is_fifo(stats: QueueStats) -> bool:
    """Whether a queue is a FIFO queue."""
    return call.is_fifo(stats.name, stats.policy)


def shown(stats: QueueStats) -> dict[str, str]:
    """All attributes of a queue. If a native policy has no exact equivalent in AWS's terms, the nearest value is shown."""
    policy, kept, fifo = stats.policy, stats.policy.attributes, is_fifo(stats)
    found = {
        "VisibilityTimeout": _seconds(policy.lease_seconds),
        "DelaySeconds": _seconds(policy.delay or 0.0),
        "MessageRetentionPeriod": _seconds(RETENTION_SECONDS_MAX if policy.expires_in is None else policy.expires_in),
        "ApproximateNumberOfMessages": str(stats.queued),
        "ApproximateNumberOfMessagesNotVisible": str(stats.in_progress),
        "ApproximateNumberOfMessagesDelayed": str(stats.scheduled),
        "CreatedTimestamp": _time(stats.created_at),
        "LastModifiedTimestamp": _time(stats.modified_at),
        "QueueArn": arn_of(stats.name),
    }
    if policy.dead_letter is not None and policy.max_attempts is not None:
        found["RedrivePolicy"] = _redrive_text(policy.dead_letter, policy.max_attempts)
    if fifo:
        found["FifoQueue"] = "true"
    for name, value in {**_DEFAULTS, **(_FIFO_DEFAULTS if fifo else {})}.items():
        found[name] = kept.get(name, value)
    for name in _LEFT_OUT:
        if name in kept:
            found[name] = kept[name]
    return found


def _seconds(value: float) -> str:
    return str(math.ceil(value))


def _time(value: float | None) -> str:
    return str(int(value or 0.0))


def named(stats: QueueStats, names: Iterable[str]) -> dict[str, str]:
    """The requested attributes of a queue. Raises SqsError for one that does not exist."""
    asked = list(names)
    for name in asked:
        if name not in _READERS and name not in _OWN:
            raise invalid_attribute_name(name)
    found = shown(stats)
    return found if "All" in asked else {name: found[name] for name in asked if name in found}


def differs(values: Mapping[str, str], stats: QueueStats) -> str | None:
    """The first given attribute that differs from the existing queue's, None if all are equal."""
    found = {**_LEFT_OUT, "RedrivePolicy": "", "FifoQueue": "false", **shown(stats)}
    return next((name for name, value in values.items() if found.get(name) != value), None)
