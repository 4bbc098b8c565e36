"""Answers that hand something over and cross the client's end on the way: what the server learns of it (docs/decisions/0039)."""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
from collections.abc import AsyncIterator, Callable

import pytest

from jobqueue.http.answers import Answer
from jobqueue.http.request import Request
from tests.api.harness import Site, request, serving, until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux, whose SIOCOUTQ tells what is not acknowledged")

JOB = request("GET", "/job")
ANSWER = b"handed over"


def reset(client: socket.socket) -> None:
    """End a connection by RST."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


class Handing:
    """A server whose /job hands something over, and a client of plain sockets. missed: how often that proved not to have arrived."""

    def __init__(self) -> None:
        self.missed = 0
        self.delivered: list[bool | None] = []
        self.before_answering: Callable[[], object] = lambda: None

    def miss(self) -> None:
        """What was handed over did not arrive."""
        self.missed += 1

    async def handler(self, asked: Request) -> Answer:
        """Hand over, or just answer."""
        answer = Answer(200, ANSWER)
        if asked.head.path == "/job":
            self.delivered.append(answer.deliver_now(asked))
            asked.connection.handed = self.miss
        else:
            self.before_answering()
        return answer

    @contextlib.asynccontextmanager
    async def served(self) -> AsyncIterator[tuple[Site, socket.socket]]:
        """The server, and a client that is connected."""
        async with serving(self.handler) as site:
            with socket.create_connection((site.host, site.port)) as client:
                client.setblocking(False)
                await until(lambda: bool(site.server.open))
                yield site, client

    async def hand_over(self, client: socket.socket) -> None:
        """Ask, and return when the answer lies in the client's kernel."""
        count = len(self.delivered)
        client.sendall(JOB)
        await until(lambda: len(self.delivered) > count)

    @staticmethod
    async def read(client: socket.socket) -> None:
        """Read an answer."""
        read = b""

        def whole() -> bool:
            nonlocal read
            with contextlib.suppress(BlockingIOError):
                read += client.recv(1 << 16)
            return read.endswith(ANSWER)

        await until(whole)


async def test_a_client_that_closed_before_its_answer_came_has_not_had_it() -> None:
    """Its FIN comes after the write, and says that the answer was not there when it was sent."""
    handing = Handing()
    async with handing.served() as (site, client):
        site.close_after_the_look(client)
        await handing.hand_over(client)
        await until(lambda: not site.server.open)
    assert (handing.delivered, handing.missed) == ([True], 1)


@pytest.mark.parametrize("count", [1, 3])
async def test_a_client_that_closes_after_its_answer_came_has_it(count: int) -> None:
    """As curl does, on a new connection or on one that was used before."""
    handing = Handing()
    async with handing.served() as (site, client):
        for _ in range(count):
            await handing.hand_over(client)
            await handing.read(client)
        client.close()
        await until(lambda: not site.server.open)
    assert (handing.delivered, handing.missed) == ([True] * count, 0)


@pytest.mark.parametrize("read", [True, False])
@pytest.mark.parametrize("count", [1, 3])
async def test_a_reset_does_not_say_whether_the_answer_was_read(read: bool, count: int) -> None:
    """Some proxies reset connections whose answers they have passed on, so what was handed over stays with the client."""
    handing = Handing()
    async with handing.served() as (site, client):
        for left in reversed(range(count)):
            await handing.hand_over(client)
            if left or read:
                await handing.read(client)
        reset(client)
        await until(lambda: not site.server.open)
    assert (handing.delivered, handing.missed) == ([True] * count, 0)


@pytest.mark.parametrize(
    "behind",
    [
        request("POST", "/", b"{}"),
        request("POST", "/", b"{}", "Expect: 100-continue"),
        request("POST", "/", None, "Transfer-Encoding: chunked") + b"2\r\n{}\r\n0\r\n\r\n",
    ],
    ids=["whole", "asked to go on", "chunks"],
)
async def test_another_answer_that_crosses_the_end_says_nothing_of_what_was_handed_over(behind: bytes) -> None:
    """The bytes that are not acknowledged are that answer's."""
    handing = Handing()
    async with handing.served() as (site, client):
        await handing.hand_over(client)
        await handing.read(client)
        handing.before_answering = client.close
        client.sendall(behind)
        await until(lambda: not site.server.open)
    assert (handing.delivered, handing.missed) == ([True], 0)


async def test_a_refusal_that_crosses_the_end_says_nothing_of_what_was_handed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for what is no request."""
    handing = Handing()
    async with handing.served() as (site, client):
        await handing.hand_over(client)
        await handing.read(client)
        refused = site.server.refused

        def leaving(error: object) -> Answer:
            client.close()
            return refused(error)  # type: ignore[arg-type]

        monkeypatch.setattr(site.server, "refused", leaving)
        client.sendall(b"\x00no request\r\n\r\n")
        await until(lambda: not site.server.open)
    assert (handing.delivered, handing.missed) == ([True], 0)
