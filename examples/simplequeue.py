"""An unchanged client of simplequeue, running against this server.

    python examples/simplequeue.py

Each job splits a number into its prime factors. The job's id is the number, so a job that is submitted twice is one job. PRODUCERS
threads submit all numbers, each in its own order, while CONSUMERS threads take jobs, compute and complete them. Numbers below 2 cannot be
split, so those jobs fail. Then the example checks what a user of that system relies on: each id was accepted once, each job was run once,
every job has the right state, and the page exists. The exit code is 0 only if all checks pass.

The example starts its own server with simplequeue at the root (`--mount /=simplequeue`), so that every path is the same as in that system.
It uses only the standard library for HTTP. One parameter is new to such a client: with `?wait=` the server holds GET /jobs/next until
a job comes, so an idle consumer sends one request in WAIT_SECONDS instead of many per second.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import math
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

PRODUCERS = 3
CONSUMERS = 4
NUMBERS = [*range(-5, 95), 1_000_003, 99_999_989]
WAIT_SECONDS = 0.5
"""How long the server holds a request for the next job when there is none. A real consumer would use 20; this one should end soon."""


class WentWrong(Exception):
    """The server did something that a client of the old system would not expect. str() is a message for people."""


class Client:
    """One connection to the queue. Each thread has its own."""

    def __init__(self, host: str) -> None:
        self._connection = http.client.HTTPConnection(host, timeout=30)

    def call(self, method: str, path: str, body: Any = None, *, expect: tuple[int, ...] = (200,)) -> tuple[int, Any]:
        """Send one request. Return the answer's status, which must be one of `expect`, and its body, or None if it has none."""
        self._connection.request(method, path, None if body is None else json.dumps(body))
        answer = self._connection.getresponse()
        status, text = answer.status, answer.read()
        if status not in expect:
            raise WentWrong(f"{method} {path} answered {status}: {text.decode()}")
        return status, json.loads(text) if text else None


def name(number: int) -> str:
    """Return the job id for a number. An id can be any text: in a path it is percent-encoded."""
    return f"factors/{number}"


def factors(number: int) -> list[int]:
    """Return a number's prime factors. Raises ValueError if it has none."""
    if number < 2:
        raise ValueError("only numbers from 2 on have prime factors")
    found: list[int] = []
    candidate = 2
    while candidate * candidate <= number:
        while number % candidate == 0:
            found.append(candidate)
            number //= candidate
        candidate += 1
    return found + [number] * (number > 1)


def produce(host: str, seed: int) -> Counter[str]:
    """Submit every number. Return the ids that were new to the server."""
    client = Client(host)
    accepted: Counter[str] = Counter()
    for number in random.Random(seed).sample(NUMBERS, len(NUMBERS)):
        job = {"jobId": name(number), "description": f"prime factors of {number}", "data": {"number": number}}
        status, _ = client.call("POST", "/jobs/submit", job, expect=(201, 200))
        if status == 201:
            accepted[name(number)] += 1
    return accepted


def consume(host: str, produced: threading.Event) -> list[tuple[str, list[int]]]:
    """Run jobs until the producers are done and none is left. Return each job's id and factors, [] if it failed."""
    client = Client(host)
    done: list[tuple[str, list[int]]] = []
    while True:
        last = produced.is_set()
        status, job = client.call("GET", f"/jobs/next?wait={WAIT_SECONDS}", expect=(200, 204))
        if status == 200:
            try:
                found, end = factors(job["data"]["number"]), "succeeded"
            except ValueError:
                found, end = [], "failed"
            client.call("POST", "/jobs/complete", {"jobId": job["jobId"], "status": end})
            done.append((job["jobId"], found))
        elif last:
            return done


def check(what: str, found: Any, expected: Any) -> None:
    """Print the result of one check. Raises WentWrong if it failed."""
    if found != expected:
        raise WentWrong(f"{what}: found {found}, expected {expected}")
    print(f"ok  {what}")


def check_crowd(host: str) -> None:
    """Run producers and consumers at the same time: every job is accepted once and run once."""
    produced = threading.Event()
    with ThreadPoolExecutor(PRODUCERS + CONSUMERS) as threads:
        consumers = [threads.submit(consume, host, produced) for _ in range(CONSUMERS)]
        producers = [threads.submit(produce, host, seed) for seed in range(PRODUCERS)]
        try:
            accepted = sum((producer.result() for producer in producers), Counter[str]())
        finally:
            produced.set()
        done = [job for consumer in consumers for job in consumer.result()]
    once = Counter({name(number): 1 for number in NUMBERS})
    check(f"{len(NUMBERS)} ids, submitted by {PRODUCERS} producers, were accepted once each", accepted, once)
    check("every job was run once", Counter(job_id for job_id, _ in done), once)
    wrong = [job_id for job_id, found in done if found and math.prod(found) != int(job_id.rpartition("/")[2])]
    check("the factors make up the numbers", wrong, [])


def check_states(host: str) -> None:
    """The list shows all jobs, and each can be read by its id."""
    client = Client(host)
    jobs = client.call("GET", "/jobs")[1]
    expected = {name(number): "failed" if number < 2 else "succeeded" for number in NUMBERS}
    check("the list shows every job and its state", {job["jobId"]: job["state"] for job in jobs}, expected)
    one = client.call("GET", f"/jobs/{quote(name(-5), safe='')}")[1]
    shown = {"jobId": name(-5), "state": "failed", "description": "prime factors of -5", "data": {"number": -5}}
    check("a job is found by its id", one, shown)
    again, stands = client.call("POST", "/jobs/submit", {"jobId": name(7)}, expect=(200, 201))
    check("a job submitted again stands as it is", (again, stands["state"]), (200, "succeeded"))
    check("and is not queued again", client.call("GET", "/jobs/next", expect=(200, 204))[0], 204)


def check_page(host: str) -> None:
    """The page that shows every job is still at its path."""
    connection = http.client.HTTPConnection(host, timeout=30)
    connection.request("GET", "/")
    answer = connection.getresponse()
    page = answer.read().decode()
    check("the page is there", (answer.status, page.lstrip()[:15].lower()), (200, "<!doctype html>"))


@contextlib.contextmanager
def own_server() -> Iterator[str]:
    """Run a server on a free port, with simplequeue at its root, as long as the context lasts. Yields its host and port."""
    serve = [sys.executable, "-m", "jobqueue", "serve", "--host", "127.0.0.1", "--port", "0", "--log-level", "warning"]
    process = subprocess.Popen([*serve, "--mount", "/=simplequeue"], stdout=subprocess.PIPE, text=True)
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
            check_states(host)
            check_page(host)
    except WentWrong as error:
        print(f"simplequeue: {error}", file=sys.stderr)
        return 1
    print(f"everything holds, after {time.perf_counter() - started:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
