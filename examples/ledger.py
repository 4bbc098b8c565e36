"""Book transfers to accounts in order with a job queue, while workers are killed.

    python examples/ledger.py

Each job books one amount to one account, and its key is that account. The queue's policy has `per_key.order: "fifo"`, so the bookings
of an account run one after another, in the order in which they were enqueued, whichever of the four worker processes takes each of
them. Other accounts do not wait. Two of the workers are killed with SIGKILL in the middle of their work.

At the end the example reads the books: every account has every booking, in order, and no two ran at the same time. A booking that a worker
had not reported when it was killed is made again, in order; the book shows that it was begun twice. The exit code is 0 only if all of this
is true.

The example starts its own server; with `--url` it uses a server that is already running, with the token in JOBQUEUE_TOKEN if that is set.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import multiprocessing
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path

import jobqueue

QUEUE = "ledger"
WORKERS = 4
KILLED = 2
LEASE_SECONDS = 2.0
"""How long an account waits after a worker with one of its jobs was killed."""
BOOKING_SECONDS = 0.002
PATIENCE_SECONDS = 120.0


class WentWrong(Exception):
    """The example failed. str() is a message for people."""


# The worker.


def book(account: Path, number: int, amount: int) -> None:
    """Add a booking to an account's book: one line when it begins, one when it ends."""
    with account.open("a", encoding="utf-8") as pages:
        try:
            # If another process books to this account, it holds the lock. The kernel releases the lock of a killed process.
            fcntl.flock(pages, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("AT THE SAME TIME", number, file=pages, flush=True)
            raise
        print("begin", number, os.getpid(), file=pages, flush=True)
        time.sleep(BOOKING_SECONDS)
        print("end", number, amount, file=pages, flush=True)


def worker(url: str, books: str) -> None:
    """Run a worker; the main function of a worker process."""
    work = jobqueue.Worker(url, queues=[QUEUE], concurrency=8, lease_seconds=LEASE_SECONDS, wait=2)

    @work.handler("transfer")
    def transfer(job: jobqueue.RunningJob[dict[str, int]]) -> None:
        assert job.key is not None
        book(Path(books, job.key), job.payload["number"], job.payload["amount"])

    work.run()


@contextlib.contextmanager
def running_workers(url: str, books: str) -> Iterator[list[BaseProcess]]:
    """Run worker processes as long as the context lasts."""
    spawn = multiprocessing.get_context("spawn")
    processes: list[BaseProcess] = [spawn.Process(target=worker, args=(url, books), daemon=True) for _ in range(WORKERS)]
    for process in processes:
        process.start()
    try:
        yield processes
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()


# The producer.


def enqueue(client: jobqueue.Client, accounts: int, bookings: int) -> Counter[str]:
    """Enqueue the bookings of all accounts, in order within each account, in mixed order among accounts. Return how many each has."""
    chance = random.Random(1)
    counts: Counter[str] = Counter()
    jobs = []
    for _ in range(bookings):
        account = f"account-{chance.randrange(accounts):03d}"
        counts[account] += 1
        payload = {"number": counts[account], "amount": chance.randint(-500, 500)}
        jobs.append(jobqueue.NewJob(payload, queue=QUEUE, type="transfer", key=account, max_attempts=100))
    for start in range(0, len(jobs), 500):
        for reply in client.enqueue_batch(jobs[start : start + 500]):
            if isinstance(reply, jobqueue.QueueError):
                raise reply
    return counts


def wait_for(client: jobqueue.Client, bookings: int, workers: list[BaseProcess]) -> None:
    """Wait until everything is booked. Kill some workers meanwhile."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    alive = list(workers)
    while (queue := client.queue(QUEUE)).totals.succeeded < bookings:
        if time.monotonic() > deadline:
            raise WentWrong(f"only {queue.totals.succeeded} of {bookings} bookings are made")
        share = (WORKERS - len(alive) + 1) / (KILLED + 1)
        if len(alive) > WORKERS - KILLED and queue.totals.succeeded > bookings * share:
            victim = alive.pop()
            victim.kill()
            print(f"{queue.totals.succeeded} booked, {queue.in_progress} in progress at all workers: {victim.pid} is killed", flush=True)
        time.sleep(0.05)


# The audit.


def audit(books: Path, counts: Counter[str]) -> tuple[int, list[str]]:
    """Return how many bookings were begun again after a kill, and what is wrong.

    A worker can hold several bookings of an account, and runs them one after another. When it is killed, those that it had not reported
    come back in order, and go to one other worker. So the book can step back where another worker continues, but nowhere else, and it
    never skips a booking.
    """
    again, wrong = 0, []
    for account, count in counts.items():
        ended = most = 0
        under_way = worker = None
        for line in Path(books, account).read_text(encoding="utf-8").splitlines():
            what, *words = line.split()
            if what == "begin":
                number, by = map(int, words)
                repeated = by != worker and number <= ended + 1 and (number <= ended or number == under_way)
                again += repeated
                if not repeated and (number != ended + 1 or under_way is not None):
                    wrong.append(f"{account}: {number} began when {ended} had ended and {under_way} was under way")
                ended, under_way, worker = number - 1, number, by
            elif what == "end" and int(words[0]) == under_way:
                ended, under_way = under_way, None
                most = max(most, ended)
            else:
                wrong.append(f"{account}: {line}")
        if not ended == most == count:
            wrong.append(f"{account}: has {ended} of {count} bookings")
    return again, wrong


@contextlib.contextmanager
def own_server() -> Iterator[str]:
    """Run a server on a free port as long as the context lasts. Yields its URL."""
    command = [sys.executable, "-m", "jobqueue", "serve", "--host", "127.0.0.1", "--port", "0", "--log-level", "warning"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline().split()
        if not line:
            raise WentWrong("the server did not start")
        yield line[-1]
    finally:
        process.terminate()
        process.wait()


def main() -> int:
    """Run the example and return the exit code."""
    parser = argparse.ArgumentParser(description="Book transfers in order, account by account, while workers are killed.")
    parser.add_argument("--url", help="a running server (default: start one)")
    parser.add_argument("--accounts", type=int, default=200, help="accounts (default: 200)")
    parser.add_argument("--bookings", type=int, default=4_000, help="bookings in all (default: 4000)")
    options = parser.parse_args()
    try:
        with (
            contextlib.nullcontext(options.url) if options.url else own_server() as url,
            tempfile.TemporaryDirectory() as books,
            jobqueue.Client(url) as client,
        ):
            client.put_queue(QUEUE, per_key=jobqueue.PerKey(order="fifo"))
            counts = enqueue(client, options.accounts, options.bookings)
            with running_workers(url, books) as workers:
                wait_for(client, options.bookings, workers)
            again, wrong = audit(Path(books), counts)
    except (WentWrong, jobqueue.QueueError) as error:
        print(f"ledger: {error}", file=sys.stderr)
        return 1
    for fault in wrong[:10]:
        print(fault)
    print(
        f"{options.bookings} bookings on {len(counts)} accounts, {again} begun again after a kill: {'WRONG' if wrong else 'all in order'}"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
