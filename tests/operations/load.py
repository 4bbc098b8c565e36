"""Clients at work while servers come and go: what they were told, and what they saw go wrong."""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from jobqueue import Client

GUARD_SECONDS = 120.0


class Load:
    """Producers that wait for each job's result, and workers. `made` and `done` count per job id what was acknowledged."""

    def __init__(self, connect: Callable[[], Client]) -> None:
        self._connect = connect
        # Others may have used the same queue before.
        self._prefix = secrets.token_hex(4)
        self.made: Counter[str] = Counter()
        self.done: Counter[str] = Counter()
        self.errors: list[str] = []
        self.slowest = 0.0
        self._changed = threading.Condition()
        self._stopped = threading.Event()

    def _noted(self, counter: Counter[str], job_id: str, began: float) -> None:
        with self._changed:
            counter[job_id] += 1
            self.slowest = max(self.slowest, time.monotonic() - began)
            self._changed.notify_all()

    def _failed(self, error: Exception) -> None:
        with self._changed:
            self.errors.append(f"{type(error).__name__}: {error}")

    def _produce(self, name: str) -> None:
        number = 0
        with self._connect() as client:
            while not self._stopped.is_set():
                job_id, began = f"{self._prefix}-{name}-{number}", time.monotonic()
                try:
                    assert client.enqueue({"n": number}, id=job_id, wait=GUARD_SECONDS) == number
                except Exception as error:
                    self._failed(error)
                else:
                    self._noted(self.made, job_id, began)
                number += 1

    def _work(self) -> None:
        with self._connect() as client:
            while True:
                try:
                    # The end of it is short: when all is done, nothing wakes it.
                    job = client.dequeue(wait=1)
                    if job is None:
                        if self._stopped.is_set():
                            return
                        continue
                    began = time.monotonic()
                    payload: Any = job.payload
                    client.conclude(job.id, job.lease.token, "succeeded", result=payload["n"])
                except Exception as error:
                    self._failed(error)
                else:
                    self._noted(self.done, job.id, began)

    @contextlib.contextmanager
    def running(self, producers: int = 3, workers: int = 3) -> Iterator[None]:
        """At work for as long as the context lasts; then producers end, and workers do what is left."""
        making = [threading.Thread(target=self._produce, args=(f"p{number}",), daemon=True) for number in range(producers)]
        working = [threading.Thread(target=self._work, daemon=True) for _ in range(workers)]
        for thread in working + making:
            thread.start()
        try:
            yield
        finally:
            # Workers do what producers wait for, so these end first.
            self._stopped.set()
            for thread in making + working:
                thread.join(GUARD_SECONDS)
            assert not any(thread.is_alive() for thread in making + working)

    def goes_on(self, jobs: int = 20) -> None:
        """Wait until so many more jobs were made, worked on and told their results."""
        with self._changed:
            wanted = self.made.total() + jobs
            assert self._changed.wait_for(lambda: self.made.total() >= wanted, GUARD_SECONDS), f"it does not go on: {self.errors}"
