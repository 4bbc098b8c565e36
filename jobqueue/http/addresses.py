"""The addresses of connections, and how many connections each address has."""

from __future__ import annotations

import ipaddress


def address_of(peername: object) -> str:
    """The address that a connection is counted under: an IPv4 address, or the /64 of an IPv6 one, which usually belongs to one subscriber;
    else "".
    """
    if not isinstance(peername, tuple) or not peername:
        return ""
    host = str(peername[0])
    if ":" not in host:
        return host
    address = ipaddress.IPv6Address(host.partition("%")[0])
    return str(address.ipv4_mapped or ipaddress.IPv6Address(int(address) >> 64 << 64))


class Addresses:
    """Open connections by address. each_max: how many one address can have."""

    def __init__(self, each_max: int) -> None:
        self._each_max = each_max
        self._open: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._open)

    def excess(self, address: str) -> int:
        """By how many a further connection would exceed the limit: 0 for the first one that is too many."""
        return self._open.get(address, 0) - self._each_max

    def add(self, address: str) -> None:
        """Count a connection."""
        self._open[address] = self._open.get(address, 0) + 1

    def remove(self, address: str) -> None:
        """Remove a connection from the count."""
        left = self._open[address] - 1
        if left:
            self._open[address] = left
        else:
            del self._open[address]
