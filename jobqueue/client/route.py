"""The way to the server: direct, or through an HTTP proxy named by the environment. No input or output here.

`http_proxy`, `https_proxy` and `all_proxy`, first in lower case and then in upper case, name a proxy for the scheme of the server's URL, as
http://[USER:PASSWORD@]HOST[:PORT]. `no_proxy` names the hosts that are reached without one. HTTP_PROXY in upper case is ignored if
REQUEST_METHOD is set: in a CGI program, the sender of the request controls it (https://httpoxy.org).
"""

from __future__ import annotations

import ipaddress
import os
import re
from base64 import b64encode
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import SplitResult, unquote_to_bytes, urlsplit

from jobqueue.client.endpoint import Endpoint
from jobqueue.client.exchange import request_bytes

_ANY = "Accept-Encoding: gzip\r\n"
_SHORT = f"{_ANY}Prefer: return=minimal\r\n"
_PORTS = {"http": 80, "https": 443}


class Route(NamedTuple):
    """How requests get to one server.

    host, port: where to connect to. server_name: the name that the certificate must have, None without TLS. connect: the request that makes
    the proxy connect to the server, None without one. prefix: put before every target. lines: the header lines of every request.
    """

    host: str
    port: int
    server_name: str | None
    connect: bytes | None
    prefix: str
    lines: str

    def __repr__(self) -> str:
        """Without the lines, so that no log or traceback shows a token."""
        return f"Route({self.host!r}, {self.port})"

    def request(self, method: str, target: str, body: bytes | None, short: bool = False) -> bytes:
        """The bytes of a request. short: ask for a short answer."""
        return request_bytes(method, self.prefix + target, self.lines + (_SHORT if short else _ANY), body)

    def stream_request(self, target: str, headers: Mapping[str, str]) -> bytes:
        """The bytes of a request for a stream, with these additional headers."""
        more = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return request_bytes("GET", self.prefix + target, self.lines + more, None)

    @classmethod
    def to(cls, endpoint: Endpoint, environ: Mapping[str, str] = os.environ) -> Route:
        """The route to this server. Raises ValueError for a proxy that cannot be used."""
        url = urlsplit(endpoint.url)
        host, port = _place(url)
        authority = _authority(host, port if url.port is not None and port != _PORTS[url.scheme] else None)
        lines = f"Host: {authority}\r\n" + "".join(f"{name}: {value}\r\n" for name, value in endpoint.headers.items())
        secure = host.partition("%")[0] if url.scheme == "https" else None
        proxy = proxy_for(url.scheme, host, port, environ)
        if proxy is None:
            return cls(host, port, secure, None, url.path, lines)
        place, lines_of_proxy = proxy
        if secure is None:
            return cls(*place, None, None, f"http://{authority}{url.path}", lines + lines_of_proxy)
        target = _authority(host, port)
        return cls(*place, secure, request_bytes("CONNECT", target, f"Host: {target}\r\n{lines_of_proxy}", None), url.path, lines)


def _place(url: SplitResult) -> tuple[str, int]:
    assert url.hostname is not None
    return url.hostname, url.port or _PORTS[url.scheme]


def _authority(host: str, port: int | None) -> str:
    """As in a Host line: an IPv6 address is in brackets and has no zone, which has no meaning on other machines."""
    if ":" in host:
        host = f"[{host.partition('%')[0]}]"
    return host if port is None else f"{host}:{port}"


def proxy_for(scheme: str, host: str, port: int, environ: Mapping[str, str]) -> tuple[tuple[str, int], str] | None:
    """The proxy's address and the header line that authenticates to it; None if there is no proxy. Raises ValueError."""
    for name in (f"{scheme}_proxy", f"{scheme}_proxy".upper(), "all_proxy", "ALL_PROXY"):
        if environ.get(name) and not (name == "HTTP_PROXY" and "REQUEST_METHOD" in environ):
            break
    else:
        return None
    if _is_exempt(host, port, environ.get("no_proxy") or environ.get("NO_PROXY") or ""):
        return None
    given = environ[name]
    try:
        url = urlsplit(given if "://" in given else f"http://{given}")
        if url.scheme != "http" or not url.hostname or url.port == 0 or not re.fullmatch(r"[!-~]+", given):
            raise ValueError
    except ValueError:
        # The value is not shown: it can contain a password.
        raise ValueError(f"{name}: must be http://HOST:PORT, with USER:PASSWORD@ before the host if it asks for them") from None
    lines = ""
    if url.username is not None:
        user = unquote_to_bytes(url.username) + b":" + unquote_to_bytes(url.password or "")
        lines = f"Proxy-Authorization: Basic {b64encode(user).decode()}\r\n"
    return (url.hostname, url.port or _PORTS["http"]), lines


def _is_exempt(host: str, port: int, listed: str) -> bool:
    """Whether `no_proxy` covers the host: by `*`, its name or a parent domain, its address or a network, each with or without a port."""
    host = host.lower().rstrip(".")
    for entry in listed.lower().replace(",", " ").split():
        name, _, digits = entry.rpartition(":")
        if name and digits.isdigit() and (":" not in name or name.startswith("[")):
            if int(digits) != port:
                continue
        else:
            name = entry
        name = name.strip("[]").lstrip("*").strip(".")
        if entry == "*" or (name and (host == name or host.endswith(f".{name}") or _lies_in(host, name))):
            return True
    return False


def _lies_in(host: str, network: str) -> bool:
    try:
        return ipaddress.ip_address(host.partition("%")[0]) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False
