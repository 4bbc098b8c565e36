"""How an operator writes a value, and how a default is written back: counts, sizes, durations, switches.

Sizes are in bytes or binary units, durations in seconds or a number with a unit; inside the server both are plain numbers. A parser raises
ValueError with a reason that can follow the value.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from jobqueue.api.access.ratelimit import Rate
from jobqueue.limits import DAY, GIB, KIB, MIB, NAME
from jobqueue.partition import PARTITIONS_MAX

DURATION_SECONDS_MAX = 3_650 * DAY
"""Ten years: times further ahead could not be written in RFC 3339."""

_SIZES = {"GiB": GIB, "MiB": MIB, "KiB": KIB}
_SPANS = {"d": DAY, "h": 3_600.0, "m": 60.0, "s": 1.0}


def _whole(text: str) -> int:
    if re.fullmatch(r"[0-9]{1,18}", text) is None:
        raise ValueError("is not a whole number")
    return int(text)


def _partitions(text: str) -> int:
    count = _whole(text)
    if not 1 <= count <= PARTITIONS_MAX:
        raise ValueError(f"is not a number of partitions; use 1 to {PARTITIONS_MAX}")
    return count


def _port(text: str) -> int:
    port = _whole(text)
    if port > 65_535:
        raise ValueError("is not a port; use 0 to 65535, where 0 takes any free port")
    return port


def _size(text: str) -> int:
    match = re.fullmatch(r"([0-9]{1,15}) ?(KiB|MiB|GiB)?", text)
    if match is None:
        raise ValueError("is not a size; write bytes, as 65536, or 64KiB, 1MiB, 1GiB")
    return int(match[1]) * (_SIZES[match[2]] if match[2] else 1)


def _duration(text: str) -> float:
    match = re.fullmatch(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)([smhd])?", text)
    if match is None:
        raise ValueError("is not a duration; write seconds, as 30 or 0.5, or 30s, 5m, 12h, 30d")
    seconds = float(match[1]) * _SPANS[match[2] or "s"]
    if seconds > DURATION_SECONDS_MAX:
        raise ValueError(f"is longer than {_show_duration(DURATION_SECONDS_MAX)}")
    return seconds


def _host(text: str) -> str:
    # The resolver does this encoding first; it refuses labels that are empty or too long.
    with contextlib.suppress(UnicodeError):
        if re.fullmatch(r"[^\s\x00-\x1f\x7f]+", text.encode("idna").decode()):
            return text
    raise ValueError("is not a host name or an address")


def _token(text: str) -> str:
    # Anything else could not be sent as `Authorization: Bearer`, so no client could authenticate.
    if re.fullmatch(r"[!-~]{1,4096}", text) is None:
        raise ValueError("must be 1 to 4096 printable ASCII characters without spaces")
    return text


def _switch(text: str) -> bool:
    if text.lower() in ("true", "yes", "on", "1"):
        return True
    if text.lower() in ("false", "no", "off", "0"):
        return False
    raise ValueError("is neither true nor false")


def _one_of(*names: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.lower() not in names:
            raise ValueError(f"is not one of {', '.join(names)}")
        return text.lower()

    return parse


def _store(text: str) -> str:
    # The rest is checked when connecting. It is not shown: it can contain a password.
    if re.fullmatch(r"(valkeys?|postgres(ql)?)://\S+", text) is None:
        raise ValueError("is not the URL of a store, such as valkey://host:6379 or postgres://user@host/database")
    return text


def _address(text: str) -> str:
    host, found, port = text.rpartition(":")
    if not found or not re.fullmatch(r"\[[0-9a-fA-F:.]+\]|[^\s:\[\]/@]+", host) or not _port(port) > 0:
        raise ValueError("is not HOST:PORT, as queue-1.example.org:8081")
    return text


def _path(text: str) -> str:
    if "\0" in text or text.endswith("/"):
        raise ValueError("is not the name of a file")
    return text


def _show_size(value: int) -> str:
    return next((f"{value // unit}{name}" for name, unit in _SIZES.items() if value and value % unit == 0), str(value))


def _show_duration(value: float) -> str:
    return next((f"{value / unit:g}{name}" for name, unit in _SPANS.items() if value >= unit and value % unit == 0), f"{value:g}s")


def _mounts(text: str) -> tuple[tuple[str, str], ...]:
    # Imported here: only mounting needs the APIs, and --help is faster without them.
    from jobqueue.api.mounts import Mounts

    chosen: dict[str, str] = {}
    for item in text.split(","):
        place, found, name = item.strip().rpartition("=")
        if not found:
            raise ValueError("is not PREFIX=API, as /=simplequeue or /old=classic")
        if name in chosen:
            raise ValueError(f"puts {name} in two places")
        chosen[name] = place
    try:
        Mounts(chosen)
    except ValueError as reason:
        raise ValueError(f"is invalid: {reason}") from None
    return tuple(chosen.items())


def _module(text: str) -> str:
    if re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*(:[^\W\d]\w*)?", text) is None:
        raise ValueError("is not a module, as package.module, or package.module:worker")
    return text


def _queues(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        if NAME.fullmatch(name) is None:
            raise ValueError(f"holds {name[:80]!r}, which is not a queue's name")
    return names


def _rate(text: str) -> Rate:
    match = re.fullmatch(r"([0-9]{1,9})/([smh])(?::([0-9]{1,9}))?", text)
    if match is None or 0 in (int(match[1]), int(match[3] or 1)):
        raise ValueError("is not a rate; write 1000/s, 60/m, or 100/s:5000 to allow 5000 at once")
    return Rate(int(match[1]), _SPANS[match[2]], int(match[3] or match[1]))


def _hosts(text: str) -> tuple[str, ...]:
    names = tuple(name.strip().lower() for name in text.split(","))
    names = tuple(name.removeprefix("[").removesuffix("]").removesuffix(".") for name in names)
    for name in names:
        if re.fullmatch(r"\*|[^\s/@:*]+|[0-9a-f:.]*:[0-9a-f:.]*:[0-9a-f:.]*", name) is None:
            raise ValueError(f"holds {name[:80]!r}, which is not a host's name; write it without a port")
    return names


def _origins(text: str) -> tuple[str, ...]:
    origins = tuple(origin.strip().lower() for origin in text.split(","))
    for origin in origins:
        if re.fullmatch(r"[a-z][a-z0-9+.-]*://[^\s/?#@,]+", origin) is None:
            raise ValueError(f"holds {origin[:80]!r}, which is not an origin, such as https://queue.example.org")
    return origins


def _origin(text: str) -> str:
    origins = _origins(text.removesuffix("/"))
    if len(origins) > 1 or not origins[0].startswith(("http://", "https://")):
        raise ValueError("is not the server's address for clients, such as https://queue.example.org")
    return origins[0]


class Kind(NamedTuple):
    """A type of value: its name in the help, how it is read, how a default is written; many: can be given several times, or with commas."""

    metavar: str
    parse: Callable[[str], Any]
    show: Callable[[Any], str] = str
    many: bool = False


HOST = Kind("HOST", _host)
PORT = Kind("PORT", _port)
TOKEN = Kind("TOKEN", _token, lambda _: "none")
SWITCH = Kind("", _switch, lambda value: "yes" if value else "no")
LEVEL = Kind("LEVEL", _one_of("debug", "info", "warning", "error"))
HTTP_WAY = Kind("WAY", _one_of("auto", "fast", "plain"))
FORMAT = Kind("FORMAT", _one_of("console", "json"))
ACCESS_LOG = Kind("WHICH", _one_of("off", "sampled", "on"))
STORE = Kind("URL", _store, lambda _: "none")
ADDRESS = Kind("HOST:PORT", _address, lambda _: "none")
ACKNOWLEDGE = Kind("REPLICAS", _one_of("0", "1", "2", "aof"))
PATH = Kind("FILE", _path, lambda _: "none")
SYNC = Kind("WHEN", _one_of("always", "interval", "off"))
COUNT = Kind("N", _whole)
PARTITIONS = Kind("N", _partitions, lambda _: "none")
SIZE = Kind("SIZE", _size, _show_size)
DURATION = Kind("TIME", _duration, _show_duration)
MOUNTS = Kind("PREFIX=API", _mounts, lambda _: "none", many=True)
MODULE = Kind("MODULE", _module, lambda _: "none")
RATE = Kind("RATE", _rate, lambda _: "none")
HOSTS = Kind("HOST", _hosts, lambda _: "none", many=True)
ORIGINS = Kind("ORIGIN", _origins, lambda _: "none", many=True)
ORIGIN = Kind("ORIGIN", _origin, lambda _: "none")
QUEUES = Kind("NAME", _queues, ",".join, many=True)
