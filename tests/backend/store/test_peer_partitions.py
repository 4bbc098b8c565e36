"""One port for all partitions of a server: a link is about the partition that it names, and no proof is good for another one."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable

import pytest

from jobqueue.backend.local import LocalBackend
from jobqueue.backend.store import messages as m
from jobqueue.backend.store.frames import Identity, Link
from jobqueue.backend.store.moved import Moved
from jobqueue.backend.store.peer import PeerServer
from jobqueue.backend.store.remote import RemoteBackend
from jobqueue.clock import ManualClock
from jobqueue.errors import UnknownJob
from jobqueue.limits import Limits
from jobqueue.model import JobFilter
from tests.conformance.remote import SECRET
from tests.conformance.rig import raised, spec

LIMITS = Limits()
OWNER, FRONT = Identity("owner", SECRET), Identity("front", SECRET)


class Port:
    """A server of three partitions, and fronts that are connected to it."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.backends = [LocalBackend(LIMITS, clock=self.clock) for _ in range(3)]
        first, *others = self.backends
        self.server = PeerServer(first, OWNER, LIMITS, clock=self.clock, more=[(backend, lambda: None) for backend in others])
        self.fronts: list[RemoteBackend] = []

    async def dial(self, factory: Callable[[], Link], address: str) -> object:
        loop = asyncio.get_running_loop()
        mine, theirs = socket.socketpair()
        for each in (mine, theirs):
            each.setblocking(False)
        await loop.connect_accepted_socket(self.server, theirs)
        return await loop.create_connection(factory, sock=mine)

    def front(self, partition: int) -> RemoteBackend:
        self.fronts.append(RemoteBackend(lambda: "owner:1", FRONT, LIMITS, clock=self.clock, dial=self.dial, partition=partition))
        return self.fronts[-1]


@pytest.fixture
async def port() -> AsyncIterator[Port]:
    made = Port()
    yield made
    for front in made.fronts:
        await front.close()
    await made.server.close()
    for backend in made.backends:
        await backend.close()


async def test_a_link_is_about_the_partition_that_it_names(port: Port) -> None:
    """What is enqueued over a link is in that partition, and in no other."""
    for partition in range(3):
        await port.front(partition).enqueue(spec(f"job{partition}"))
    for partition, backend in enumerate(port.backends):
        assert [job.id for job in (await backend.jobs(_all()))[0]] == [f"job{partition}"]
    assert sorted(link.partition for link in port.server.links) == [0, 1, 2]
    assert type(await raised(port.front(1).job("job2"))) is UnknownJob


async def test_a_partition_that_is_not_there_is_refused(port: Port, caplog: pytest.LogCaptureFixture) -> None:
    """A server with another number of partitions gets no link; the log says what it asked for."""
    assert type(await raised(port.front(3).enqueue(spec()))) is Moved
    assert "asks for partition 3 of a store that has 3" in caplog.text


async def test_a_hello_of_before_is_about_partition_0(port: Port) -> None:
    """Older servers name none; and a link about partition 0 says the same as theirs."""
    assert m.decode_first(m.encode((m.HELLO, 0, m.VERSION, "old", b"n" * 32, 6))).partition == 0
    front = port.front(0)
    await front.stats()
    assert front.link is not None
    assert front.link.partition == 0


def test_a_proof_is_good_for_one_partition() -> None:
    """Somebody on the way cannot have a link be about another partition."""
    owner = m.Hello(0, m.VERSION, "owner", b"o" * 32)
    proofs = {FRONT.mac(b"front", m.Hello(0, m.VERSION, "front", b"n" * 32, 7, partition), owner) for partition in range(3)}
    assert len(proofs) == 3


async def test_each_partition_has_its_own_room_for_links(port: Port) -> None:
    """A server of three partitions accepts three times as many links."""
    assert port.server.links_max == 3 * PeerServer(port.backends[0], OWNER, LIMITS, clock=port.clock).links_max


def _all() -> JobFilter:
    return JobFilter()
