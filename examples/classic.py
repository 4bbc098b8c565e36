"""An unchanged client of the take-home job queue, running against this server.

    python examples/classic.py

PRODUCERS threads enqueue jobs of both types while CONSUMERS threads dequeue and conclude them, each naming itself in QUEUE_CONSUMER. Then
the example checks what a user of that system relies on: every ID was given once, every job went to one consumer, a consumer cannot conclude
another consumer's job, and the stats add up. The exit code is 0 only if all checks pass.

The example starts its own server with classic at the root (`--mount /=classic`), so that every path is the same as in that system. It uses
only the standard library for HTTP. One parameter is new to such a client: with `?wait=` the server holds a dequeue until a job
comes, so an idle consumer sends one request in WAIT_SECONDS instead of many per second.
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
"""How long the server holds a dequeue of an empty queue. A real consumer would use 20; this one should end soon."""
TYPES = ("TIME_CRITICAL", "NOT_TIME_CRITICAL")


class WentWrong(Exception):
    """The server did something that a client of the old system would not expect. str() is a message for people."""


class Client:
    """One connection to the queue. Each thread has its own."""

    def __init__(self, host: str, consumer: int | None = None) -> None:
        self._connection = http.client.HTTPConnection(host, timeout=30)
        self._headers = {} if consumer is None else {"QUEUE_CONSUMER": str(consumer)}

    def call(self, method: str, path: str, body: Any = None, *, expect: tuple[int, ...] = (200,)) -> tuple[int, Any]:
        """Send one request. Return the answer's status, which must be one of `expect`, and its body."""
        self._connection.request(method, path, None if body is None else json.dumps(body), self._headers)
        answer = self._connection.getresponse()
        status, said = answer.status, json.loads(answer.read())
        if status not in expect:
            raise WentWrong(f"{method} {path} answered {status}: {said}")
        return status, said


def produce(host: str) -> list[int]:
    """Enqueue JOBS jobs and return their ids."""
    client = Client(host)
    return [client.call("POST", "/jobs/enqueue", {"Type": TYPES[n % 2]})[1]["ID"] for n in range(JOBS)]


def consume(host: str, consumer: int, produced: threading.Event) -> list[dict[str, Any]]:
    """Take and conclude jobs until the producers are done and the queue is empty. Return the concluded jobs."""
    client = Client(host, consumer)
    done: list[dict[str, Any]] = []
    while True:
        last = produced.is_set()
        status, job = client.call("GET", f"/jobs/dequeue?wait={WAIT_SECONDS}", expect=(200, 404))
        if status == 200:
            # A real consumer would do the work here.
            done.append(client.call("POST", f"/jobs/{job['ID']}/conclude")[1])
        elif last:
            return done


def check(what: str, found: Any, expected: Any) -> None:
    """Print the result of one check. Raises WentWrong if it failed."""
    if found != expected:
        raise WentWrong(f"{what}: found {found}, expected {expected}")
    print(f"ok  {what}")


def check_crowd(host: str) -> None:
    """Run producers and consumers at the same time: no job is lost, and none is done twice."""
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
    """A waiting consumer gets the job at once; another consumer cannot conclude it, and no one can conclude it twice."""
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
    """Run a server on a free port, with classic at its root, as long as the context lasts. Yields its host and port."""
    serve = [sys.executable, "-m", "jobqueue", "serve", "--host", "127.0.0.1", "--port", "0", "--log-level", "warning"]
    process = subprocess.Popen([*serve, "--mount", "/=classic"], stdout=subprocess.PIPE, text=True)
    try:
        # The server's first line of output has its address.
        assert process.stdout is not None
        line = process.stdout.readline().split()
        if not line:
            raise WentWrong("the server did not start")
        yield line[-1].removeprefix("http://").rstrip("/")
    finally:
        process.terminate()
        process.wait()


def main() -> int:
    """Run the example and return the exit code."""
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
