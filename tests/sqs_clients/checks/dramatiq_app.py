"""The dramatiq project that `dramatiq_checks.py` runs."""

from __future__ import annotations

import os
from pathlib import Path

import dramatiq
from dramatiq.middleware import AgeLimit, Callbacks, Pipelines, Retries, ShutdownNotifications, TimeLimit
from dramatiq_sqs import SQSBroker

FOLDER = Path(os.environ.get("CHECKS_FOLDER", "."))

broker = SQSBroker(
    namespace=os.environ.get("CHECKS_QUEUE", "checks"),
    dead_letter=True,
    retention=3600,
    visibility_timeout=None,
    tags={"made-by": "dramatiq"},
    middleware=[
        *(AgeLimit(), TimeLimit(), ShutdownNotifications(), Callbacks(), Pipelines()),
        Retries(min_backoff=1000, max_backoff=1000, max_retries=2),
    ],
)
dramatiq.set_broker(broker)


def note(name: str, line: object) -> None:
    handle = os.open(FOLDER / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(handle, f"{line}\n".encode())
    os.close(handle)


@dramatiq.actor
def work(number: int) -> None:
    note("done", number)


@dramatiq.actor(max_retries=1)
def fails(number: int) -> None:
    note("tried", number)
    raise ValueError(number)
