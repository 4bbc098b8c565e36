"""From where a browser can send requests: the Host and Origin headers.

**Host.** A page can make a browser on this machine talk to a server that listens only on this machine, by letting the page's own host name
resolve to 127.0.0.1 (DNS rebinding). The browser then takes that server for the page's own, but it still sends the page's name in Host.

**Origin.** A browser sends some of a page's requests to any other server without asking that server first. It names the page's origin in
Origin, or at least says in Sec-Fetch-Site how that relates to the server (W3C Fetch Metadata). A request that changes something is refused
if it comes from another origin. No answer has CORS headers, so no page of another origin can read one.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Container
from typing import TYPE_CHECKING

from jobqueue.errors import Forbidden

if TYPE_CHECKING:
    # The command line imports this file too, without aiohttp.
    from jobqueue.http.heads import Fields

SEEN_MAX = 64
"""The number of accepted hosts remembered."""


class Hosts:
    """The host names that a server accepts. accepts: called with a Host without its port, in lower case."""

    def __init__(self, accepts: Callable[[str], bool]) -> None:
        self._accepts = accepts
        self._seen: set[str] = set()

    def check(self, host: str | None) -> None:
        """Raises Forbidden. A request without a Host is HTTP/1.0 and does not come from a browser, so it passes."""
        if host is None or host in self._seen:
            return
        if not self._accepts(name_of(host)):
            error = Forbidden(f"this server does not accept the host name {host[:80]!r}; see the setting allowed-hosts")
            error.field = "Host"
            raise error
        if len(self._seen) < SEEN_MAX:
            self._seen.add(host)


def is_loopback(host: str) -> bool:
    """Whether a server that listens there can only be reached from this machine: 127.0.0.0/8, ::1 or localhost."""
    if host.lower() == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address in ipaddress.ip_network("127.0.0.0/8") or address == ipaddress.IPv6Address("::1")


def name_of(host: str) -> str:
    """The name or address in a Host header, in lower case, without brackets, port and trailing dot."""
    name, colon, port = host.strip().lower().rpartition(":")
    if not colon or not port.isdigit():
        name = host.strip().lower()
    return name.removeprefix("[").removesuffix("]").removesuffix(".")


def check_origin(fields: Fields, allowed: Container[str]) -> None:
    """Refuse requests that a page of another origin makes a browser send. allowed: other origins that are accepted. Raises Forbidden.

    Only the authority is compared with Host, not the scheme, which is not visible behind a proxy that terminates TLS.
    """
    origin = fields.origin
    if origin is None:
        # Browsers omit Origin in a GET whose answer the page cannot read, such as an image or a link.
        if fields.site not in (None, "none", "same-origin"):
            raise _foreign("a page of another origin")
        return
    _, found, authority = origin.lower().partition("://")
    if not (found and authority == (fields.host or "").lower()) and origin.lower() not in allowed:
        raise _foreign(repr(origin[:80]))


def _foreign(whose: str) -> Forbidden:
    error = Forbidden(f"cross-origin request from {whose} refused; see the setting allowed-origins")
    error.field = "Origin"
    return error
