"""docs/coming-from.md: what it tells to call is there, and its programs run together."""

from __future__ import annotations

import asyncio
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

import jobqueue
from jobqueue.api.mounts import server_routes
from jobqueue.api.native.table import native_routes
from jobqueue.testing import server_in_thread

PAGE = Path(__file__).parents[1] / "docs/coming-from.md"
GUARD_SECONDS = 20.0


def part(heading: str) -> str:
    """The text under a heading of the page."""
    (text,) = (one for one in re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE) if one.startswith(f"{heading}\n"))
    return text


@pytest.mark.parametrize(("heading", "job"), [("RQ", None), ("Celery", None), ("SQS", None), ("Sidekiq", ("HardJob", ["bob"]))])
async def test_its_programs_run(heading: str, job: tuple[str, Any] | None) -> None:
    """A part's worker works off what the part's producer enqueues, or what its table says that a request enqueues."""
    programs = re.findall(r"^```python\n(.*?)^```$", part(heading), re.MULTILINE | re.DOTALL)
    assert programs
    names: dict[str, Any] = {"__name__": "page"}
    with server_in_thread() as url:
        async with asyncio.timeout(GUARD_SECONDS), jobqueue.AsyncClient(url) as client:
            for program in programs:
                await asyncio.to_thread(exec, program.replace("http://127.0.0.1:8080", url), names)
                if "worker" in program and isinstance(names.get("worker"), jobqueue.Worker):
                    await names["worker"].start()
            if job is not None:
                assert await client.enqueue(job[1], type=job[0], wait=10) == "hello, bob"
            if "worker" in names:
                await names["worker"].stop()
            done = [one.outcome async for one in client.all_jobs()]

    assert done == ["succeeded"]


CALLS = re.findall(r"`client\.([\w.]+)\(([^`]*)\)[\w.]*`", PAGE.read_text())


@pytest.mark.parametrize(("name", "given"), CALLS)
def test_its_calls_are_there(name: str, given: str) -> None:
    """A call that a table names is a method of the client, and takes the keywords that it is given."""
    kind: Any = jobqueue.client.sync_schedules.SyncSchedules if name.startswith("schedules.") else jobqueue.Client
    method = getattr(kind, name.rpartition(".")[2])

    assert set(re.findall(r"(\w+)=", re.sub(r"NewJob\(.*?\)", "", given))) <= set(inspect.signature(method).parameters)


def test_its_requests_are_there() -> None:
    """A request that a table names is an operation of the API."""
    routes = {f"{route.method} {route.path}" for route in native_routes("") + server_routes((), ())}
    named = set(re.findall(r"`((?:GET|POST|PUT|PATCH|DELETE) /[^` ]*)`", PAGE.read_text()))
    assert len(named) >= 4

    assert {name.replace("/queues/low/", "/queues/{name}/") for name in named} <= routes


def test_its_words_are_there() -> None:
    """Fields that the tables name without a call are fields of an enqueue, of a queue's policy, or of a job that runs."""
    enqueue, policy = (set(inspect.signature(method).parameters) for method in (jobqueue.Client.enqueue, jobqueue.Client.put_queue))
    here = "\n".join(line.split(" | ", 1)[1] for line in PAGE.read_text().splitlines() if line.startswith("| ") and " | " in line)

    assert set(re.findall(r"`(\w+)=[^`]*`", here)) <= enqueue
    assert {"keep_succeeded", "keep_failed", "dead_letter", "rate", "per_key", "expires_in", "backoff"} <= policy
    assert all(hasattr(jobqueue.RunningJob, name) for name in re.findall(r"`job\.(?!lease)(\w+)", here))
