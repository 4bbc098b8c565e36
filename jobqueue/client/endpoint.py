"""Where the servers are and how to authenticate: the base URLs and the token, from arguments or the environment."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

from jobqueue import __version__

SECONDS_MAX = 30 * 86_400.0
"""The longest time-out or pause; the timers of all systems accept it."""

DEFAULT_URL = "http://127.0.0.1:8080"

URLS_MAX = 32
"""The most servers of one client."""

_TOKEN = re.compile(r"[!-~]{1,4096}")


class Endpoint(NamedTuple):
    """url: without a trailing slash; headers: sent with every request."""

    url: str
    headers: dict[str, str]

    def __repr__(self) -> str:
        """Without the headers, so that no log or traceback shows the token."""
        return f"Endpoint({self.url!r})"

    @classmethod
    def find(cls, url: str | Sequence[str] | None, token: str | None) -> tuple[Endpoint, ...]:
        """From the arguments, or else JOBQUEUE_URL and JOBQUEUE_TOKEN, or else the server's defaults. An empty value means none. Raises
        ValueError.

        url: one URL, several with commas between them, or a sequence. A repeated URL counts once.
        """
        origin = "url"
        if url is None:
            url, origin = os.environ.get("JOBQUEUE_URL") or DEFAULT_URL, "JOBQUEUE_URL"
        headers = {"Content-Type": "application/json", "User-Agent": f"jobqueue-client/{__version__}"}
        whence = "token"
        if token is None:
            token, whence = os.environ.get("JOBQUEUE_TOKEN"), "JOBQUEUE_TOKEN"
        if token:
            if _TOKEN.fullmatch(token) is None:
                raise ValueError(f"{whence}: must be 1 to 4096 printable ASCII characters without spaces")
            headers["Authorization"] = f"Bearer {token}"
        return tuple(cls(each, headers) for each in _all_checked(origin, url))


def _all_checked(origin: str, given: str | Sequence[str]) -> list[str]:
    if isinstance(given, str):
        if "," not in given:
            return [_checked(origin, given)]
        given = [entry.strip() for entry in given.split(",")]
    if not 1 <= len(given) <= URLS_MAX:
        raise ValueError(f"{origin}: {len(given)} URLs; 1 to {URLS_MAX} are allowed")
    urls: list[str] = []
    for number, entry in enumerate(given, 1):
        where = f"{origin}, entry {number}"
        if not isinstance(entry, str) or not entry:
            raise ValueError(f"{where}: {'is empty' if entry == '' else f'{entry!r} is no text'}")
        urls.append(_checked(where, entry))
        if urls[0].partition(":")[0] != urls[-1].partition(":")[0]:
            # The token would be sent unencrypted to one of them, and the configured certificate would protect nothing.
            raise ValueError(f"{where}: {urls[-1]!r} must have the same scheme as the first one, {urls[0]!r}: all http, or all https")
    return list(dict.fromkeys(urls))


def _checked(origin: str, url: str) -> str:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"{origin}: {url!r} is not a URL: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise ValueError(f"{origin}: {url!r} must be http://HOST:PORT or https://HOST:PORT, with the path of a prefix if there is one")
    if parts.username is not None or "?" in url or "#" in url:
        raise ValueError(f"{origin}: must have no user, query or fragment; a token goes into token or JOBQUEUE_TOKEN")
    if not re.fullmatch(r"[!-~]+", url):
        raise ValueError(f"{origin}: {url!r} must be printable ASCII without spaces")
    return url.rstrip("/")


def as_float(value: float) -> float:
    """A number of any class (Decimal, Fraction, …) as a float that can be compared; NaN if it cannot be converted."""
    try:
        return float(value)
    except (TypeError, ValueError, ArithmeticError):
        # Not a number, a signalling NaN, or an int too large for a float.
        return math.nan


def check_seconds(name: str, seconds: float) -> float:
    """A number of seconds, which must be above 0. Raises ValueError."""
    found = as_float(seconds)
    if not 0 < found <= SECONDS_MAX:
        raise ValueError(f"{name}: {seconds!r} is out of range; it must be above 0 and at most {SECONDS_MAX:g} seconds")
    return found
