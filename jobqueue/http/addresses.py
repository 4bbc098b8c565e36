"""Where connections come from, and how many from each place."""

from __future__ import annotations

import ipaddress


def address_of(peername: object) -> str:
    """Whom to count a connection under: an IPv4 address, or the /64 of an IPv6 one, all of which one subscriber usually has; else ""."""
    if not isinstance(peername, tuple) or not peername:
        return ""
    host = str(peername[0])
    if ":" not in host:
        return host
    address = ipaddress.IPv6Address(host.partition("%")[0])
    return str(address.ipv4_mapped or ipaddress.IPv6Address(int(address) >> 64 << 64))


class Addresses:
    """Open connections by address. each_max: how many one may have."""

    def __init__(self, each_max: int) -> None:
        self._each_max = each_max
        self._open: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._open)

    def excess(self, address: str) -> int:
        """By how many a further connection would be beyond the bound: 0 for the first that is too many."""
        return self._open.get(address, 0) - self._each_max

    def add(self, address: str) -> None:
        """Count a connection."""
        self._open[address] = self._open.get(address, 0) + 1

    def remove(self, address: str) -> None:
        """Forget one that was counted."""
        left = self._open[address] - 1
        if left:
            self._open[address] = left
        else:
            del self._open[address]
