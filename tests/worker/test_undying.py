"""Workers, and servers with a pool, whose handlers do not end, or fork: the process ends all the same, and there is no second one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jobqueue import Client
from jobqueue.testing import server_in_thread

from .outside import gone, paths

pytestmark = pytest.mark.long

GUARD = 40.0
"""Seconds after which a test that waits in vain gives up."""

HANDLERS = "tests.worker.undying"

HEEDLESS = ["to_thread", "swallow", "orphan", "generator", "thread", "plain", "process"]
"""Handlers that leave the loop free."""

SOONER = """
import sys
from jobqueue import cli
from jobqueue.worker import runs, shutdown
shutdown.LINGER_SECONDS, runs.CLEANUP_SECONDS = 0.1, 0.1
"""
"""The command line, which waits less for what does not end. Where nothing else is shown, what it does while it waits is the same."""

ASYNCIO = "sys.modules['uvloop'] = None"
"""Makes it as on a machine that has no uvloop."""

NOT_SOON = """
import os, queue, types
runs.CLEANUP_SECONDS = 3600

class Told(queue.SimpleQueue):
    def put(self, number):
        super().put(number)
        os.write(2, b"took %d;" % number)

shutdown.queue = types.SimpleNamespace(SimpleQueue=Told, Empty=queue.Empty)
"""
"""So that the process does not end after two signals, before the third comes, and says which signals Python has handled."""

STALLED_SOON = "shutdown.STALL_SECONDS = 0.5"

Start = Callable[..., "Outside"]


class Outside:
    """A process, its log, and the server that it works for or is."""

    def __init__(self, process: subprocess.Popen[str], log: Path, client: Client) -> None:
        self.process = process
        self.log = log
        self.client = client

    def begin(self, job_type: str, path: Path) -> tuple[str, int]:
        """Have a job begun: its id, and the process that it is in."""
        job_id = self.client.enqueue(str(path), type=job_type).id
        self.until(lambda: path.exists() and path.read_text().endswith("\n"))
        return job_id, int(path.read_text())

    def until(self, there: Callable[[], bool]) -> None:
        """Wait for something that this process does."""
        while not there():
            assert self.process.poll() is None, self.log.read_text()
            self.client.healthy()

    def says(self, text: str) -> None:
        """Wait for a line in the log."""
        self.until(lambda: text in self.log.read_text())


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Outside]]:
    """Starts `jobqueue VERB`, with a folder of its own."""
    begun: list[subprocess.Popen[str]] = []
    clients: list[Client] = []

    def start(*arguments: str, url: str | None = None, before: str = "") -> Outside:
        log = tmp_path / "log"
        with log.open("w") as file:
            process = subprocess.Popen(
                [sys.executable, "-W", "error", "-c", f"{SOONER}{before}\ncli.main()", *arguments],
                env={name: value for name, value in paths().items() if not name.startswith("JOBQUEUE_")},
                cwd=tmp_path,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
                start_new_session=True,
            )
        begun.append(process)
        if url is None:
            assert process.stdout is not None
            url = process.stdout.readline().split(" ")[-1].strip()
        clients.append(Client(url))
        return Outside(process, log, clients[-1])

    yield start
    for client in clients:
        client.close()
    for process in begun:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.fixture
def url() -> Iterator[str]:
    with server_in_thread(min_lease=1.0) as found:
        yield found


@pytest.mark.parametrize(
    ("name", "loop"), [*((name, "uvloop") for name in HEEDLESS), *((name, "asyncio") for name in ("to_thread", "swallow"))]
)
def test_a_worker_ends_whatever_its_handlers_do(start: Start, url: str, tmp_path: Path, name: str, loop: str) -> None:
    """Its job is given back first, uncounted, its log is whole, and the exit code is 0."""
    worker = start("work", HANDLERS, "--url", url, "--grace", "0", "--json", url=url, before=ASYNCIO if loop == "asyncio" else "")
    job_id, pid = worker.begin(name, tmp_path / "begun")
    worker.process.terminate()
    counts, _ = worker.process.communicate(timeout=GUARD)
    assert worker.process.returncode == 0, worker.log.read_text()
    assert '"released":1' in counts
    job = worker.client.job(job_id)
    assert (job.status, job.attempts) == ("queued", 0)
    assert "Traceback" not in worker.log.read_text()
    worker.client.healthy()
    if pid != worker.process.pid:
        while not gone(pid):
            pass


@pytest.mark.parametrize("name", HEEDLESS)
def test_a_server_with_a_pool_ends_whatever_its_handlers_do(start: Start, tmp_path: Path, name: str) -> None:
    """Its job is given back, so that it is there, uncounted, when the server starts again."""
    serve = ["serve", "--port", "0", "--pool", HANDLERS, "--drain-timeout", "0", "--data", "jobs.db"]
    server = start(*serve)
    job_id, pid = server.begin(name, tmp_path / "begun")
    server.process.terminate()
    assert server.process.wait(GUARD) == 0, server.log.read_text()
    assert "Traceback" not in server.log.read_text()
    if pid != server.process.pid:
        while not gone(pid):
            pass
    with server_in_thread(data=str(tmp_path / "jobs.db")) as again, Client(again) as client:
        job = client.job(job_id)
    assert (job.status, job.attempts) == ("queued", 0)


@pytest.mark.parametrize("verb", ["work", "serve"])
@pytest.mark.parametrize("name", ["block", "spin"])
def test_a_blocked_loop_does_not_keep_the_process(start: Start, url: str, tmp_path: Path, name: str, verb: str) -> None:
    """It cannot give its jobs back, and says so; the exit code is 1."""
    if verb == "work":
        outside = start("work", HANDLERS, "--url", url, "--grace", "0", url=url, before=STALLED_SOON)
    else:
        outside = start("serve", "--port", "0", "--pool", HANDLERS, "--drain-timeout", "0", before=STALLED_SOON)
    path = tmp_path / "begun"
    outside.client.enqueue(str(path), type=name)
    while not path.exists():
        assert outside.process.poll() is None, outside.log.read_text()
    outside.process.terminate()
    assert outside.process.wait(GUARD) == 1
    assert "the event loop is blocked" in outside.log.read_text()


@pytest.mark.parametrize("verb", ["work", "serve"])
def test_a_second_signal_ends_the_grace_period(start: Start, url: str, tmp_path: Path, verb: str) -> None:
    """The job is given back then, and the process ends."""
    if verb == "work":
        outside = start("work", HANDLERS, "--url", url, "--grace", "1h", url=url)
    else:
        outside = start("serve", "--port", "0", "--pool", HANDLERS, "--drain-timeout", "1h", "--data", "jobs.db")
    job_id, _ = outside.begin("swallow", tmp_path / "begun")
    outside.process.terminate()
    while ("stopping" if verb == "work" else "shutting down") not in outside.log.read_text():
        assert outside.process.poll() is None
    outside.process.send_signal(signal.SIGINT)
    assert outside.process.wait(GUARD) == (0 if verb == "work" else 1)
    client = outside.client if verb == "work" else start("serve", "--port", "0", "--data", "jobs.db").client
    assert (client.job(job_id).status, client.job(job_id).attempts) == ("queued", 0)


@pytest.mark.parametrize("verb", ["work", "serve"])
@pytest.mark.parametrize("name", ["swallow", "spin"])
def test_a_third_signal_ends_the_process_at_once(start: Start, url: str, tmp_path: Path, name: str, verb: str) -> None:
    """Whatever runs, and whether or not the loop turns."""
    if verb == "work":
        outside = start("work", HANDLERS, "--url", url, "--grace", "1h", url=url, before=NOT_SOON)
    else:
        outside = start("serve", "--port", "0", "--pool", HANDLERS, "--drain-timeout", "1h", before=NOT_SOON)
    path = tmp_path / "begun"
    outside.client.enqueue(str(path), type=name)
    while not path.exists():
        assert outside.process.poll() is None, outside.log.read_text()
    outside.process.terminate()
    # Two of one kind at once would be one.
    while f"took {signal.SIGTERM:d};" not in outside.log.read_text():
        assert outside.process.poll() is None
    outside.process.send_signal(signal.SIGINT)
    outside.process.terminate()
    assert outside.process.wait(GUARD) == 1
    assert "third signal" in outside.log.read_text()


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_a_fork_never_becomes_a_second_worker(start: Start, url: str, loop: str) -> None:
    """It ends where it would leave a handler, which is where it awaits too; what `multiprocessing` forks runs through."""
    worker = start("work", HANDLERS, "--url", url, url=url, before=ASYNCIO if loop == "asyncio" else "")
    for name, code in (("fork async", 0), ("fork await", 1), ("fork plain", 0), ("fork wrapped", 0), ("multiprocessing", 5)):
        job = worker.client.job(worker.client.enqueue(None, type=name, max_attempts=1).id, wait=GUARD)
        assert (job.outcome, job.result) == ("succeeded", code), name
    assert "cannot await" in worker.log.read_text()
    worker.process.terminate()
    assert worker.process.wait(GUARD) == 0
