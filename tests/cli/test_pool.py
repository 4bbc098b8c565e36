"""`jobqueue serve --pool`: workers inside the server, as real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 60

TASKS = """
import asyncio, contextvars, pathlib, sys, threading
from jobqueue import handler

WHO = contextvars.ContextVar("who", default="nobody")

async def leave(code):
    await asyncio.sleep(0)
    sys.exit(code)

@handler("leave")
async def leave_in_a_task(job):
    if job.payload == "in a group":
        async with asyncio.TaskGroup() as group:
            group.create_task(leave(4))
    asyncio.create_task(leave(4))
    await asyncio.Event().wait()

@handler("look")
async def look(job):
    found = WHO.get()
    WHO.set(job.id)
    return found

@handler("look in a thread")
def look_in_a_thread(job):
    found = WHO.get()
    WHO.set(job.id)
    return found

@handler("add")
async def add(job):
    return sum(job.payload)

@handler("where")
def where(job):
    return threading.current_thread() is threading.main_thread()

@handler("boom")
def boom(job):
    raise ValueError("no good")

@handler("stuck", timeout=0.2)
async def stuck(job):
    await asyncio.Event().wait()

@handler("gated")
async def gated(job):
    pathlib.Path(job.payload, "started").touch()
    while not pathlib.Path(job.payload, "open").exists():
        await asyncio.sleep(0.01)
    return "finished"
"""


class Pool(NamedTuple):
    """A server with a pool, and where it listens."""

    process: subprocess.Popen[str]
    url: str

    def ask(self, path: str, body: Any = None) -> Any:
        """One request; the answer's JSON."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"} if data else {})
        with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:
            return json.load(answer)

    def submit(self, name: str, body: Any) -> str:
        """Submit a job as workpool's clients do; its id."""
        job: str = self.ask("/workpool/job", {"name": name, "body": body})["createdJob"]["id"]
        return job

    def result(self, job: str, status: str) -> Any:
        """A job's result or error, once it ended so."""
        answer = self.ask(f"/workpool/result/{job}?wait=50")
        assert answer["status"] == status, answer
        return answer["result" if status == "done" else "error"]


Start = Callable[..., Pool]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts servers whose pool runs TASKS; kills what is left of them."""
    (tmp_path / "tasks.py").write_text(TASKS, encoding="utf-8")
    started: list[subprocess.Popen[str]] = []

    def run(*flags: str, module: str = "tasks") -> Pool:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("JOBQUEUE_")}
        kept["PYTHONPATH"] = os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", "")))
        command = [sys.executable, "-W", "error", "-m", "jobqueue", "serve", "--port", "0", "--pool", module, *flags]
        process = subprocess.Popen(command, cwd=tmp_path, env=kept, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        return Pool(process, process.stdout.readline().split(" ")[-1].strip())

    yield run
    for process in started:
        process.kill()
        process.communicate()


def once(pool: Pool) -> None:
    """Let no failure be tried again."""
    request = urllib.request.Request(
        f"{pool.url}/queues/default", json.dumps({"max_attempts": 1}).encode(), {"Content-Type": "application/json"}, method="PUT"
    )
    with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:
        assert answer.status == 200


def test_a_pool_runs_what_is_submitted(start: Start) -> None:
    """Async functions on the loop, plain ones in threads; results, errors and time-outs come back, retries follow the policy."""
    pool = start("--pool-size", "2")
    once(pool)

    assert pool.result(pool.submit("add", [1, 2, 3]), "done") == 6
    assert pool.result(pool.submit("where", None), "done") is False
    error = pool.result(pool.submit("boom", None), "failed")
    assert (error["type"], error["message"]) == ("ValueError", "no good")
    assert "Timeout" in pool.result(pool.submit("stuck", None), "failed")["type"]

    pool.process.send_signal(signal.SIGTERM)
    assert pool.process.wait(PATIENCE_SECONDS) == 0


def test_a_failure_is_tried_again_as_the_policy_says(start: Start) -> None:
    """Attempts are counted, and the last failure's error stays with the job."""
    pool = start()
    job = pool.ask("/jobs/enqueue", {"payload": 1, "type": "boom", "max_attempts": 3, "backoff": {"base": 0}})["id"]
    ended = pool.ask(f"/jobs/{job}?wait=50")
    assert (ended["outcome"], ended["attempts"], ended["error"]["type"]) == ("failed", 3, "ValueError")


def test_an_exit_in_what_a_handler_starts_does_not_end_the_server(start: Start) -> None:
    """Nor the jobs in it, which nothing else keeps."""
    pool = start()
    once(pool)
    kept = pool.ask("/jobs/enqueue", {"payload": 1, "queue": "kept"})["id"]
    for how in ("in a group", "in a task that nobody awaits"):
        assert pool.result(pool.submit("leave", how), "failed") == {"type": "SystemExit", "message": "4"}
    assert pool.ask(f"/jobs/{kept}")["status"] == "queued"
    pool.process.send_signal(signal.SIGTERM)
    assert pool.process.wait(PATIENCE_SECONDS) == 0


def test_no_job_of_a_pool_sees_what_another_has_set(start: Start) -> None:
    """A ContextVar begins with the server's value."""
    pool = start("--pool-size", "1")
    jobs = [pool.submit(name, None) for name in ("look", "look in a thread") * 3]
    assert [pool.result(job, "done") for job in jobs] == ["nobody"] * 6


def test_a_job_that_no_handler_is_for_is_given_back_and_told_by_a_metric(start: Start) -> None:
    """Not counted as an attempt, for as long as the setting says."""
    pool = start()
    job = pool.submit("nothing", None)

    def unhandled() -> bool:
        with urllib.request.urlopen(f"{pool.url}/metrics", timeout=PATIENCE_SECONDS) as answer:
            return b'jobqueue_pool_jobs_total{what="unhandled"} 1.0\n' in answer.read()

    while not unhandled():
        pass
    found = pool.ask(f"/jobs/{job}")
    assert (found["status"], found["attempts"]) == ("scheduled", 0)
    impatient = start("--pool-unhandled", "0")
    assert impatient.result(impatient.submit("nothing", None), "failed")["type"] == "UnknownHandler"


def test_other_queues_are_left_alone_unless_named(start: Start) -> None:
    """The pool takes from the queues it was given, in that order of preference."""
    pool = start("--pool-queues", "sums,more")
    left = pool.ask("/jobs/enqueue", {"payload": [1], "type": "add"})["id"]
    for queue in ("more", "sums"):
        job = pool.ask("/jobs/enqueue", {"payload": [1, 1], "type": "add", "queue": queue})["id"]
        assert pool.ask(f"/jobs/{job}?wait=50")["result"] == 2
    assert pool.ask(f"/jobs/{left}")["status"] == "queued"


def test_draining_lets_running_jobs_finish(start: Start, tmp_path: Path) -> None:
    """Whoever waits for a result is answered at once; the job runs on within the time for draining, and the process ends in order."""
    pool = start("--drain-timeout", "50s")
    pool.submit("gated", str(tmp_path))
    while not (tmp_path / "started").exists():
        pool.ask("/healthz")
    pool.process.send_signal(signal.SIGTERM)
    (tmp_path / "open").touch()
    assert pool.process.wait(PATIENCE_SECONDS) == 0
    assert pool.process.stderr is not None
    assert "Traceback" not in pool.process.stderr.read()


def test_a_job_that_does_not_finish_in_time_does_not_keep_the_process(start: Start, tmp_path: Path) -> None:
    """It goes back, and the server ends."""
    pool = start("--drain-timeout", "0")
    pool.submit("gated", str(tmp_path))
    while not (tmp_path / "started").exists():
        pool.ask("/healthz")
    pool.process.send_signal(signal.SIGTERM)
    assert pool.process.wait(PATIENCE_SECONDS) == 0


@pytest.mark.parametrize(
    ("module", "text", "reason"),
    [
        ("absent", None, "absent cannot be imported"),
        ("empty", "", "has no handlers"),
        ("broken", "1 / 0", "ZeroDivisionError"),
        ("tasks:nothing", None, "no Worker or Registry named nothing"),
    ],
)
def test_a_pool_that_cannot_be_had_stops_the_server_before_it_listens(
    start: Start, tmp_path: Path, module: str, text: str | None, reason: str
) -> None:
    """One line on stderr says why, and the exit code is 1."""
    if text is not None:
        (tmp_path / f"{module}.py").write_text(text, encoding="utf-8")
    pool = start(module=module)
    said, problem = pool.process.communicate(timeout=PATIENCE_SECONDS)
    assert (pool.process.returncode, said) == (1, "")
    assert reason in problem
    assert problem.count("\n") == 1
