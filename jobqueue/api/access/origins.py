"""From where a browser may ask: the Host and Origin headers.

**Host.** A page can make a browser on this machine talk to a server that listens here only, by letting its own name point to 127.0.0.1
(DNS rebinding). The browser then takes that server for the page's own, but it still names the page in Host.

**Origin.** A browser sends some requests of a page to any other server without asking that server first. It says whose page it was, in
Origin, or at least how far from us it is, in Sec-Fetch-Site (W3C Fetch Metadata). What changes something is refused when that is not us.
No answer has CORS headers, so no such page can read one.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Container
from typing import TYPE_CHECKING

from jobqueue.errors import Forbidden

if TYPE_CHECKING:
    # The command line reads this file too, and does without aiohttp.
    from jobqueue.http.heads import Fields

SEEN_MAX = 64
"""Hosts remembered as accepted."""


class Hosts:
    """The names under which a server answers. accepts: told a Host without its port, in lower case."""

    def __init__(self, accepts: Callable[[str], bool]) -> None:
        self._accepts = accepts
        self._seen: set[str] = set()

    def check(self, host: str | None) -> None:
        """Raises Forbidden. A request without a Host is HTTP/1.0's and no browser's, so it passes."""
        if host is None or host in self._seen:
            return
        if not self._accepts(name_of(host)):
            error = Forbidden(f"this server does not answer to the name {host[:80]!r}; see its setting allowed-hosts")
            error.field = "Host"
            raise error
        if len(self._seen) < SEEN_MAX:
            self._seen.add(host)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach what listens there: 127.0.0.0/8, ::1 or localhost."""
    if host.lower() == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address in ipaddress.ip_network("127.0.0.0/8") or address == ipaddress.IPv6Address("::1")


def name_of(host: str) -> str:
    """A Host header's name or address, in lower case, without brackets, port and the root's dot."""
    name, colon, port = host.strip().lower().rpartition(":")
    if not colon or not port.isdigit():
        name = host.strip().lower()
    return name.removeprefix("[").removesuffix("]").removesuffix(".")


def check_origin(fields: Fields, allowed: Container[str]) -> None:
    """Refuse what a page of another origin makes a browser ask. allowed: origins that may. Raises Forbidden.

    Only the authority is compared with Host, not the scheme: a proxy that ends TLS hides it from us.
    """
    origin = fields.origin
    if origin is None:
        # Browsers leave Origin out of a GET whose answer the page cannot see: an image, a link.
        if fields.site not in (None, "none", "same-origin"):
            raise _foreign("a page of another origin")
        return
    _, found, authority = origin.lower().partition("://")
    if not (found and authority == (fields.host or "").lower()) and origin.lower() not in allowed:
        raise _foreign(repr(origin[:80]))


def _foreign(whose: str) -> Forbidden:
    error = Forbidden(f"a browser asks this for {whose}, which may not; see the setting allowed-origins")
    error.field = "Origin"
    return error
