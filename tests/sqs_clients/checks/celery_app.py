"""The Celery project that `celery_checks.py` runs. CHECKS_WAIT and CHECKS_QUEUE are the worker's; CHECKS_FOLDER is where tasks write."""

from __future__ import annotations

import os
import time
from pathlib import Path
from urllib.parse import urlsplit

from celery import Celery

FOLDER = Path(os.environ.get("CHECKS_FOLDER", "."))
QUEUE = os.environ.get("CHECKS_QUEUE", "celery")
SERVER = urlsplit(os.environ["AWS_ENDPOINT_URL_SQS"]).netloc

app = Celery("celery_app", broker=f"sqs://{SERVER}//")
app.conf.update(
    broker_transport_options={
        "region": "us-east-1",
        "is_secure": False,
        "wait_time_seconds": int(os.environ.get("CHECKS_WAIT", "10")),
        "visibility_timeout": 12,
    },
    task_default_queue=QUEUE,
    # A task is deleted after it ran. Before it runs is Celery's default, and what dies with its worker is then gone, on AWS too.
    task_acks_late=True,
    worker_prefetch_multiplier=4,
    broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=False,
    worker_send_task_events=False,
)


def note(name: str, line: object) -> None:
    """Append a line to a file of the folder. One write, so that workers do not tear each other's lines."""
    handle = os.open(FOLDER / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(handle, f"{line}\n".encode())
    os.close(handle)


@app.task
def work(number: int) -> None:
    """Note that it ran. In the worker that is to be killed it begins and does not end."""
    note("begun", f"{number} {os.environ.get('CHECKS_WORKER', '')}")
    while os.environ.get("CHECKS_WORKER") == "killed" and not (FOLDER / "never").exists():
        time.sleep(0.05)
    time.sleep(0.01)
    note("done", number)


@app.task(bind=True, max_retries=3)
def fails_once(self: object, number: int) -> None:
    """Fail the first time; the retry is a message with a delay of its own."""
    note("tried", number)
    if self.request.retries == 0:  # type: ignore[attr-defined]
        raise self.retry(countdown=1)  # type: ignore[attr-defined]
    note("done", number)
