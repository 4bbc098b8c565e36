"""A client of the take-home job queue, unchanged, with this server in that one's place.

    python examples/classic.py

PRODUCERS threads enqueue jobs of both types while CONSUMERS threads dequeue and conclude them, each naming itself in QUEUE_CONSUMER. Then
the example checks what a user of that system counts on: every ID was given once, every job went to one consumer, one cannot conclude
another's job, and the stats add up. The exit code is 0 only if all of it holds.

It starts a server of its own with classic at the root (`--mount /=classic`), so that every path is as that system has it, and speaks HTTP
with nothing but the standard library. What is new to such a client is one parameter: with `?wait=` the server holds a dequeue until a job
comes, so an idle consumer asks once in WAIT_SECONDS instead of many times a second.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

PRODUCERS = 3
CONSUMERS = 4
JOBS = 50
"""Jobs per producer."""
WAIT_SECONDS = 0.5
"""How long the server holds a dequeue of an empty queue. A real consumer would say 20; this one wants to end soon."""
TYPES = ("TIME_CRITICAL", "NOT_TIME_CRITICAL")


class WentWrong(Exception):
    """The server did something that a client of the old one would not expect; str() is for people."""


class Client:
    """One connection to the queue. Each thread has its own."""

    def __init__(self, host: str, consumer: int | None = None) -> None:
        self._connection = http.client.HTTPConnection(host, timeout=30)
        self._headers = {} if consumer is None else {"QUEUE_CONSUMER": str(consumer)}

    def call(self, method: str, path: str, body: Any = None, *, expect: tuple[int, ...] = (200,)) -> tuple[int, Any]:
        """One request: the answer's status, which must be one of `expect`, and its body."""
        self._connection.request(method, path, None if body is None else json.dumps(body), self._headers)
        answer = self._connection.getresponse()
        status, said = answer.status, json.loads(answer.read())
        if status not in expect:
            raise WentWrong(f"{method} {path} answered {status}: {said}")
        return status, said


def produce(host: str) -> list[int]:
    """Enqueue JOBS jobs; their ids."""
    client = Client(host)
    return [client.call("POST", "/jobs/enqueue", {"Type": TYPES[n % 2]})[1]["ID"] for n in range(JOBS)]


def consume(host: str, consumer: int, produced: threading.Event) -> list[dict[str, Any]]:
    """Take and conclude jobs until the producers are done and the queue is empty; the jobs as they were concluded."""
    client = Client(host, consumer)
    done: list[dict[str, Any]] = []
    while True:
        last = produced.is_set()
        status, job = client.call("GET", f"/jobs/dequeue?wait={WAIT_SECONDS}", expect=(200, 404))
        if status == 200:
            # The work would be done here.
            done.append(client.call("POST", f"/jobs/{job['ID']}/conclude")[1])
        elif last:
            return done


def check(what: str, found: Any, expected: Any) -> None:
    """Print one thing that was checked. Raises WentWrong."""
    if found != expected:
        raise WentWrong(f"{what}: found {found}, expected {expected}")
    print(f"ok  {what}")


def check_crowd(host: str) -> None:
    """Producers and consumers at once: no job is lost, none is done twice."""
    produced = threading.Event()
    with ThreadPoolExecutor(PRODUCERS + CONSUMERS) as threads:
        consumers: list[Future[list[dict[str, Any]]]] = [threads.submit(consume, host, n, produced) for n in range(1, CONSUMERS + 1)]
        producers = [threads.submit(produce, host) for _ in range(PRODUCERS)]
        try:
            ids = sorted(job_id for producer in producers for job_id in producer.result())
        finally:
            produced.set()
        done = [job for consumer in consumers for job in consumer.result()]
    total = PRODUCERS * JOBS
    check(f"{total} jobs were given the ids 1 to {total}", ids, list(range(1, total + 1)))
    check("every job was done by one consumer", sorted(job["ID"] for job in done), ids)
    check("every job is CONCLUDED", Counter(job["Status"] for job in done), Counter({"CONCLUDED": total}))
    check("every job has the type it was sent with", Counter(job["Type"] for job in done), Counter(dict.fromkeys(TYPES, total // 2)))
    stats = Client(host).call("GET", "/jobs/stats")[1]
    check("the stats agree", (stats["Queued"], stats["InProgress"], stats["Concluded"]), (0, 0, total))


def check_owner(host: str) -> None:
    """A consumer that already waits is handed the job at once; another cannot conclude it, nor can anybody twice."""
    one, two, producer = Client(host, 1), Client(host, 2), Client(host)
    with ThreadPoolExecutor(1) as threads:
        taking = threads.submit(one.call, "GET", "/jobs/dequeue?wait=20")
        job_id = producer.call("PUT", "/jobs/enqueue", {"type": "TIME_CRITICAL"})[1]["ID"]
        check("who waits is handed the job", taking.result()[1], {"ID": job_id, "Type": "TIME_CRITICAL", "Status": "IN_PROGRESS"})
    check("another consumer's conclude is refused", two.call("POST", f"/jobs/{job_id}/conclude", expect=(200, 409))[0], 409)
    check("the job is still in progress", producer.call("GET", f"/jobs/{job_id}")[1]["Status"], "IN_PROGRESS")
    check("its own consumer concludes it", one.call("PATCH", f"/jobs/conclude/{job_id}")[1]["Status"], "CONCLUDED")
    check("once", one.call("POST", f"/jobs/{job_id}/conclude", expect=(200, 409))[0], 409)
    check("an id that was never given is unknown", producer.call("GET", "/jobs/999999", expect=(200, 404))[0], 404)


@contextlib.contextmanager
def own_server() -> Iterator[str]:
    """A server on a free port of this machine, classic at its root; its host and port. It lives as long as the context."""
    serve = [sys.executable, "-m", "jobqueue", "serve", "--host", "127.0.0.1", "--port", "0", "--log-level", "warning"]
    process = subprocess.Popen([*serve, "--mount", "/=classic"], stdout=subprocess.PIPE, text=True)
    try:
        # Its first line says where it listens.
        assert process.stdout is not None
        line = process.stdout.readline().split()
        if not line:
            raise WentWrong("the server did not start")
        yield line[-1].removeprefix("http://").rstrip("/")
    finally:
        process.terminate()
        process.wait()


def main() -> int:
    """The exit code."""
    started = time.perf_counter()
    try:
        with own_server() as host:
            check_crowd(host)
            check_owner(host)
    except WentWrong as error:
        print(f"classic: {error}", file=sys.stderr)
        return 1
    print(f"everything holds, after {time.perf_counter() - started:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
