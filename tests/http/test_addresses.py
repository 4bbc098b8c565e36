"""How many connections one address may have, and what counts as one."""

from __future__ import annotations

import pytest

from jobqueue.http.addresses import Addresses, address_of
from jobqueue.http.peers import OVER_MAX
from tests.api.harness import assert_problem, request, until

from .conftest import Serve


async def test_over_the_cap_of_an_address_only_health_is_served(serve: Serve) -> None:
    """As over the cap in all: 429 on what costs anything, then cut; when its connections end, it is served again."""
    api = await serve(connections_max=100, connections_per_address_max=2)
    within = [await api.site.wire() for _ in range(2)]
    for wire in within:
        assert (await wire.ask(request("GET", "/jobs"))).status == 200
    over = await api.site.wire()
    detail = assert_problem(await over.ask(request("GET", "/jobs")), 429, "too_many_connections")
    assert detail == "this address has reached its limit of connections"
    assert (await over.ask(request("GET", "/healthz"))).status == 200
    reserve = [over, *[await api.site.wire() for _ in range(OVER_MAX - 1)]]
    await until(lambda: len(api.site.server.open) == 2 + OVER_MAX)
    cut = await api.site.wire()
    assert await cut.rest() == b""
    for wire in (*within, *reserve, cut):
        await wire.close()
    await until(lambda: not api.site.server.open)
    assert len(api.site.server.addresses) == 0
    fresh = await api.site.wire()
    assert (await fresh.ask(request("GET", "/jobs"))).status == 200


async def test_the_cap_in_all_is_named_when_it_is_the_one(serve: Serve) -> None:
    """An operator who reads the answer knows which setting it is."""
    api = await serve(connections_max=1, connections_per_address_max=1)
    await api.site.wire()
    await until(lambda: len(api.site.server.open) == 1)
    over = await api.site.wire()
    detail = assert_problem(await over.ask(request("GET", "/jobs")), 429, "too_many_connections")
    assert detail == "the server has reached its limit of connections"


def test_addresses_are_counted_apart() -> None:
    """What one has takes nothing from another, and nothing is kept of one that has none."""
    addresses = Addresses(2)
    for _ in range(3):
        addresses.add("a")
    assert [addresses.excess(address) for address in ("a", "b")] == [1, -2]
    addresses.add("b")
    for _ in range(3):
        addresses.remove("a")
    assert len(addresses) == 1
    assert addresses.excess("a") == -2


@pytest.mark.parametrize(
    ("peername", "address"),
    [
        (("10.1.2.3", 5), "10.1.2.3"),
        (("::1", 5, 0, 0), "::"),
        (("2001:db8:1:2:3:4:5:6", 5, 0, 0), "2001:db8:1:2::"),
        (("2001:db8:1:2:ffff::", 5, 0, 0), "2001:db8:1:2::"),
        (("2001:db8:1:3::1", 5, 0, 0), "2001:db8:1:3::"),
        (("fe80::1%eth0", 5, 0, 2), "fe80::"),
        (("::ffff:10.1.2.3", 5, 0, 0), "10.1.2.3"),
        ("/run/a.sock", ""),
        ("", ""),
        (None, ""),
        ((), ""),
    ],
)
def test_an_address_is_one_of_ipv4_or_a_subnet_of_ipv6(peername: object, address: str) -> None:
    """A subscriber has 2⁶⁴ addresses of IPv6, which count as one."""
    assert address_of(peername) == address
