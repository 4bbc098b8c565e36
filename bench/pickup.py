"""How soon a held dequeue is answered, from an enqueue's first byte: with one that waits, and with a crowd."""

from __future__ import annotations

import json
import select
import statistics
import time
from collections.abc import Iterator
from typing import NamedTuple

from bench.crowd import HEALTHZ
from bench.process import BenchError, Server
from bench.wire import PAYLOAD, Answer, Blocking, request

QUEUE = "pickup"
HOLD_SECONDS = 55
DEQUEUE = request("POST", "/jobs/dequeue", {"queue": QUEUE, "wait": HOLD_SECONDS})
ENQUEUE = request("POST", "/jobs/enqueue", {"queue": QUEUE, "payload": PAYLOAD})
STAND_SECONDS = 20.0
ANSWER_SECONDS = 20.0


class Pickup(NamedTuple):
    """Milliseconds; of so many waiters."""

    waiters: int
    p50: float
    p99: float


class _Crowd:
    """Connections that each hold a dequeue at one server."""

    def __init__(self, server: Server, count: int) -> None:
        self.connections = [Blocking(server.port) for _ in range(count)]
        self._by_number = {connection.fileno(): connection for connection in self.connections}
        self._poll = select.epoll()
        for number in self._by_number:
            self._poll.register(number, select.EPOLLIN)

    def answered(self) -> tuple[Blocking, Answer]:
        """Wait for the one that is."""
        ready = self._poll.poll(ANSWER_SECONDS)
        if not ready:
            raise BenchError("no dequeue is answered")
        connection = self._by_number[ready[0][0]]
        return connection, connection.receive()

    def close(self) -> None:
        """End the connections."""
        self._poll.close()
        for connection in self.connections:
            connection.close()


def _stand(asking: Blocking, count: int) -> None:
    """Wait until so many stand in line at whoever keeps it."""
    deadline = time.monotonic() + STAND_SECONDS
    while (there := json.loads(asking.ask(request("GET", f"/queues/{QUEUE}"), 200).body)["waiters"]) != count:
        if time.monotonic() > deadline:
            raise BenchError(f"{there} wait, not {count}")
        time.sleep(0.001)


def measure_pickup(at: Server, by: Server, waiters: int, count: int) -> Pickup:
    """Jobs enqueued at the server `by`, one at a time, and handed to those who wait at the server `at`."""
    producer = Blocking(by.port)
    producer.ask(request("PUT", f"/queues/{QUEUE}", {}), 200)
    crowd = _Crowd(at, waiters)
    try:
        for connection in crowd.connections:
            connection.send(DEQUEUE)
        _stand(producer, waiters)
        times = sorted(_pickups(crowd, producer, waiters, count))
    finally:
        crowd.close()
        producer.close()
    return Pickup(waiters, statistics.median(times), times[min(len(times) - 1, len(times) * 99 // 100)])


def _pickups(crowd: _Crowd, producer: Blocking, waiters: int, count: int) -> Iterator[float]:
    for _ in range(count):
        started = time.perf_counter()
        producer.send(ENQUEUE)
        connection, answer = crowd.answered()
        yield (time.perf_counter() - started) * 1_000
        producer.receive()
        job = json.loads(answer.body)
        verdict = {"lease": job["lease"]["token"], "outcome": "succeeded"}
        producer.ask(request("POST", f"/jobs/{job['id']}/conclude", verdict), 200)
        connection.send(DEQUEUE)
        if waiters == 1:
            _stand(producer, 1)
        else:
            # The next job is for another one; this dequeue only has to be on its way.
            producer.ask(HEALTHZ, 200)
