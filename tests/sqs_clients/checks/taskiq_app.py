"""The taskiq project that `taskiq_checks.py` runs. taskiq-aio-sqs makes a client of S3 too; without a bucket it asks that nothing."""

from __future__ import annotations

import os
from pathlib import Path

from taskiq_aio_sqs import SQSBroker

FOLDER = Path(os.environ.get("CHECKS_FOLDER", "."))

broker = SQSBroker(
    os.environ.get("CHECKS_QUEUE", "checks"),
    wait_time_seconds=20,
    max_number_of_messages=10,
    visibility_timeout=20,
    enable_heartbeat=True,
    heartbeat_interval=1.0,
)


def note(name: str, line: object) -> None:
    handle = os.open(FOLDER / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(handle, f"{line}\n".encode())
    os.close(handle)


@broker.task
async def work(number: int) -> None:
    note("done", number)
