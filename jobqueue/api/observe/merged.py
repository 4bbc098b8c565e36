"""The metrics of several processes on one port, merged as those of one server (process/processes.py).

The process that is asked reports jobs and queues; those values come from the owner of the queue and are the same at each process. The
values that each process counts itself are added up here: counters, histograms and most gauges. For gauges that are not amounts, the largest
or the smallest value is reported.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec
from prometheus_client.core import Metric

_LARGEST = (
    "jobqueue_build_info",
    "jobqueue_uptime_seconds",
    "jobqueue_draining",
    "jobqueue_servers",
    "jobqueue_owner",
    "jobqueue_partitions",
    "jobqueue_standby",
    "jobqueue_lease_",
    "jobqueue_clock_offset",
    "python_info",
)
"""Prefixes of gauges that are not amounts: the largest value of the processes is reported."""

_SMALLEST = "_start_time_seconds"
"""Suffixes of gauges of which the smallest value is reported."""


_Key = tuple[str, tuple[tuple[str, str], ...]]


class _Family(msgspec.Struct, array_like=True):
    name: str
    text: str
    kind: str
    samples: list[tuple[str, dict[str, str], float]]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[_Family]).decode


def said(families: Iterable[Metric]) -> bytes:
    """Families, encoded for the process that was asked."""
    return _encode([_Family(one.name, one.documentation, one.type, _samples(one)) for one in families])


def _samples(family: Metric) -> list[tuple[str, dict[str, str], float]]:
    return [(sample.name, sample.labels, float(sample.value)) for sample in family.samples]


def merged(own: Iterable[Metric], others: Sequence[bytes]) -> Iterator[Metric]:
    """This process's families merged with those that the others sent. Raises msgspec.DecodeError for invalid data."""
    families: dict[str, _Family] = {}
    values: dict[str, dict[_Key, float]] = {}
    said_own = [_Family(one.name, one.documentation, one.type, _samples(one)) for one in own]
    for process in (said_own, *map(_decode, others)):
        for family in process:
            families.setdefault(family.name, family)
            known = values.setdefault(family.name, {})
            for name, labels, value in family.samples:
                key = name, tuple(labels.items())
                known[key] = value if key not in known else _together(family.name, known[key], value)
    for name, family in families.items():
        made = Metric(name, family.text, family.kind)
        for (sample, pairs), value in values[name].items():
            made.add_sample(sample, dict(pairs), value)
        yield made


def _together(family: str, one: float, other: float) -> float:
    if family.endswith(_SMALLEST):
        return min(one, other)
    return max(one, other) if family.startswith(_LARGEST) else one + other
