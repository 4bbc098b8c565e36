"""The recipes of docs/clients.md do what they say: Python is executed, commands and workers run as processes of their own."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

import jobqueue
from jobqueue.testing import server_in_thread

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/clients.md").read_text(encoding="utf-8")
PATIENCE_SECONDS = 30.0

needs_flask = pytest.mark.skipif(importlib.util.find_spec("flask") is None, reason="needs flask, which the extra `test` installs")
needs_curl = pytest.mark.skipif(not (shutil.which("bash") and shutil.which("curl")), reason="needs bash and curl on the PATH")
needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="needs node, 18 or newer, on the PATH")


def blocks(heading: str, language: str) -> list[str]:
    """What stands in a section's blocks of code."""
    section = re.split(r"^#{2,3} ", PAGE.split(f"### {heading}\n")[1], maxsplit=1, flags=re.MULTILINE)[0]
    found = re.findall(rf"^```{language}\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    assert found, heading
    return found


def run(code: str, **names: Any) -> dict[str, Any]:
    """Execute a block; the names that it leaves."""
    module = {"jobqueue": jobqueue, "__name__": "recipe"} | names
    exec(compile(code, "docs/clients.md", "exec", dont_inherit=True), module)
    return module


def started(function: Callable[..., Any], *args: Any) -> Future[Any]:
    """Run a function in a thread of its own."""
    with_one = ThreadPoolExecutor(1)
    future = with_one.submit(function, *args)
    with_one.shutdown(wait=False)
    return future


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An empty server, which is also the one of JOBQUEUE_URL."""
    with server_in_thread() as found:
        monkeypatch.setenv("JOBQUEUE_URL", found)
        yield found


@pytest.fixture
def client(url: str) -> Iterator[jobqueue.Client]:
    with jobqueue.Client(url) as client:
        yield client


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command `jobqueue` is on the PATH, as after an installation."""
    script = tmp_path / "jobqueue"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m jobqueue "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@contextmanager
def process(*words: str) -> Iterator[None]:
    """A worker, killed with its children in the end."""
    with subprocess.Popen(words, cwd=ROOT, start_new_session=True, stderr=subprocess.PIPE) as worker:
        try:
            yield
            assert worker.poll() is None, worker.communicate()[1]
        finally:
            with suppress(ProcessLookupError):
                os.killpg(worker.pid, signal.SIGKILL)
            worker.communicate()


def test_events_are_shown(url: str) -> None:
    """The loop begins with a reset, reads what is there, prints what happens, and ends with the client."""
    (block,) = blocks("Events", "python")
    reading, shown = threading.Event(), SimpleQueue[tuple[Any, ...]]()

    class Noticed(jobqueue.Client):
        def all_jobs(self, **asked: Any) -> Iterator[jobqueue.JobInfo]:
            reading.set()
            return super().all_jobs(**asked)

    with Noticed(url) as client, jobqueue.Client(url) as other:
        loop = started(lambda: run(block, client=client, print=lambda *words: shown.put(words)))
        assert reading.wait(PATIENCE_SECONDS)
        other.enqueue(1, id="m", queue="mail")
        (job,) = take(other, "mail", 1)
        other.conclude(job.id, job.lease.token, "succeeded")
        assert shown.get(timeout=PATIENCE_SECONDS)[1:] == ("concluded", "m", jobqueue.Outcome.SUCCEEDED)
        client.close()
        loop.result(PATIENCE_SECONDS)


def test_fan_out_brings_every_result_in_order(client: jobqueue.Client) -> None:
    """The results of all, however workers shared them; one that failed is an error."""
    (block,) = blocks("Fan out, and wait for all", "python")
    fan_out = run(block)["fan_out"]

    def work(count: int) -> None:
        for job in reversed(take(client, "parts", count)):
            if job.payload == "bad":
                client.conclude(job.id, job.lease.token, "failed", error="no", retry=False)
            else:
                client.conclude(job.id, job.lease.token, "succeeded", result=job.payload * 2)

    working = started(work, 20)
    assert fan_out(client, list(range(20))) == [number * 2 for number in range(20)]
    working.result(PATIENCE_SECONDS)
    working = started(work, 2)
    with pytest.raises(RuntimeError, match="failed: no"):
        fan_out(client, [1, "bad"])
    working.result(PATIENCE_SECONDS)


def take(client: jobqueue.Client, queue: str, count: int) -> list[jobqueue.LeasedJob]:
    """So many jobs, however they come."""
    taken: list[jobqueue.LeasedJob] = []
    while len(taken) < count:
        taken += client.dequeue_batch(queue, limit=count, wait=PATIENCE_SECONDS)
    return taken


async def test_a_question_is_answered(url: str) -> None:
    """With the result, with the reason of a refusal, and with a time-out that leaves no job behind."""
    asking, answering = blocks("Request and reply", "python")
    convert = run(asking)["convert"]
    worker = run(answering.replace("http://127.0.0.1:8080", url))["worker"]
    with jobqueue.Client(url) as client:
        await worker.start()
        try:
            assert await asyncio.to_thread(convert, client, 10, "SEK") == 112
            with pytest.raises(ValueError, match="no rate for NOK"):
                await asyncio.to_thread(convert, client, 10, "NOK")
        finally:
            await worker.stop(0)
        hasty = run(asking.replace("wait=10", "wait=0"))["convert"]
        with pytest.raises(jobqueue.WaitTimeout) as raised:
            await asyncio.to_thread(hasty, client, 10, "SEK")
        job = await asyncio.to_thread(client.job, raised.value.job_id)
        assert job.outcome is jobqueue.Outcome.CANCELLED


@needs_flask
def test_a_flask_view_enqueues(client: jobqueue.Client) -> None:
    """It answers 202 with the job's id, shows the result, hides jobs of other queues, and passes on that the queue is full."""
    (block,) = blocks("A Flask view that enqueues", "python")
    app = run(block)["app"]
    browser = app.test_client()
    made = browser.post("/reports", json={"year": 2026})
    assert made.status_code == 202
    where = made.headers["Location"]
    assert browser.get(where).json == {"status": "queued", "outcome": None, "result": None}
    (job,) = take(client, "reports", 1)
    assert job.payload == {"year": 2026}
    client.conclude(job.id, job.lease.token, "succeeded", result="report.pdf")
    assert browser.get(where).json == {"status": "concluded", "outcome": "succeeded", "result": "report.pdf"}
    other = client.enqueue(1, queue="secret")
    assert [browser.get(f"/reports/{id}").status_code for id in (other.id, "none")] == [404, 404]
    client.put_queue("reports", max_jobs=1)
    assert browser.post("/reports", json=1).status_code == 202
    refused = browser.post("/reports", json=1)
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")


@pytest.mark.usefixtures("command")
def test_a_cron_line_enqueues_once(client: jobqueue.Client, url: str) -> None:
    """Run twice as cron runs it, there is one job of today."""
    (line,) = blocks("A cron line that enqueues", "cron")
    asked = line.split(maxsplit=5)[5].replace("\\%", "%").replace("http://127.0.0.1:8080", url)
    for _ in range(2):
        done = subprocess.run(["/bin/sh", "-c", asked], capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS)
        assert done.returncode == 0, done.stderr
    (job,) = client.all_jobs()
    assert re.fullmatch(r"daily-\d{4}-\d\d-\d\d", job.id)
    assert (job.queue, client.job(job.id).payload) == ("reports", {"report": "daily"})


@pytest.mark.usefixtures("command")
def test_a_command_is_a_worker(client: jobqueue.Client) -> None:
    """`jobqueue work --exec` counts words."""
    line, _ = blocks("A worker in bash", "bash")
    with process("/bin/sh", "-c", f"exec {line}"):
        assert int(client.enqueue("one two three", queue="words", wait=PATIENCE_SECONDS)) == 3


@pytest.mark.parametrize(
    ("heading", "language", "name"), [("A worker in bash", "bash", "worker.sh"), ("A worker in Node", "js", "worker.mjs")]
)
def test_the_page_shows_the_examples(heading: str, language: str, name: str) -> None:
    """As they are in the folder."""
    assert blocks(heading, language)[-1] == (ROOT / "examples" / name).read_text(encoding="utf-8")


@needs_curl
def test_a_worker_in_bash_works(client: jobqueue.Client) -> None:
    """It counts words, whatever a payload or a type makes the answer look like, and takes job after job."""
    with process("bash", "examples/worker.sh"):
        for text, words in (("one two  three", 3), ('"lease":{"token":"x"} "payload": 1', 3), ("é", 1)):
            assert client.enqueue(text, queue="words", type='"payload":a b', wait=PATIENCE_SECONDS) == words
        tricky = client.enqueue(
            {"lease": {"token": "no"}, "id": "no"}, queue="words", traceparent=f"00-{1:032x}-{1:016x}-01", wait=PATIENCE_SECONDS
        )
        assert tricky == 1


@needs_node
def test_a_worker_in_node_works(client: jobqueue.Client) -> None:
    """It counts words, fails what is no text, goes on after that, and is 20 lines."""
    with process("node", "examples/worker.mjs"):
        assert client.enqueue("one two  three\nfour", id="a/b ü", queue="words", wait=PATIENCE_SECONDS) == 4
        with pytest.raises(jobqueue.JobFailed) as raised:
            client.enqueue(1, queue="words", max_attempts=1, wait=PATIENCE_SECONDS)
        assert "not a function" in raised.value.error
        assert client.enqueue("", queue="words", wait=PATIENCE_SECONDS) == 0
    assert len((ROOT / "examples/worker.mjs").read_text().replace("\n\n", "\n").splitlines()) <= 20


@pytest.mark.parametrize(
    "words",
    [pytest.param(("bash", "examples/worker.sh"), marks=needs_curl), pytest.param(("node", "examples/worker.mjs"), marks=needs_node)],
)
def test_workers_outside_python_use_the_token(words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """JOBQUEUE_TOKEN lets them in."""
    with server_in_thread(token="a-token-of-this-test") as url:
        monkeypatch.setenv("JOBQUEUE_URL", url)
        monkeypatch.setenv("JOBQUEUE_TOKEN", "a-token-of-this-test")
        with jobqueue.Client() as client, process(*words):
            assert client.enqueue("a b", queue="words", wait=PATIENCE_SECONDS) == 2
