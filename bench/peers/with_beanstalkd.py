"""beanstalkd through greenstalk: put; reserve, delete."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import AsyncIterator, Callable

import greenstalk

from bench.peers.marks import handled

ABREAST = 1


def _connected(address: str) -> greenstalk.Client:
    host, _, port = address.rpartition(":")
    return greenstalk.Client((host, int(port)))


class _Producer:
    def __init__(self, client: greenstalk.Client) -> None:
        self.client = client

    async def one(self, payload: str) -> None:
        self.client.put(payload)


@contextlib.asynccontextmanager
async def producer(address: str) -> AsyncIterator[_Producer]:
    """A connection."""
    with _connected(address) as client:
        yield _Producer(client)


def _serve(client: greenstalk.Client, handled: Callable[[str], None]) -> None:
    while True:
        job = client.reserve()
        handled(job.body)
        client.delete(job)


def work(address: str) -> None:
    """One connection, one job at a time: the protocol has nothing else."""
    _serve(_connected(address), handled)


def crowd(address: str, count: int, handled: Callable[[str], None]) -> None:
    """A thread and a connection each, as the library blocks."""
    threading.stack_size(256 * 1_024)
    threads = [threading.Thread(target=_serve, args=(_connected(address), handled)) for _ in range(count)]
    for thread in threads:
        thread.start()
    with _connected(address) as client:
        while client.stats()["current-waiting"] < count:
            pass
    print("ready", flush=True)
