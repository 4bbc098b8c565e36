"""From one server with a file to several with a store, and back: `jobqueue restore` and `jobqueue backup --store`, on real servers."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobqueue import Client, Retrying
from jobqueue.client.types import LeasedJob
from jobqueue.errors import QueueError
from tests.faults.process import Process
from tests.postgres import SETTINGS, PostgresServer
from tests.valkey import Node, needs_valkey, until

pytestmark = pytest.mark.long

GUARD = 60.0


def run(*arguments: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """`jobqueue`, as an operator would."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JOBQUEUE_")} | variables
    command = [sys.executable, "-W", "error", "-m", "jobqueue", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=GUARD, check=False, cwd=cwd, env=environment)


def client(*servers: Process) -> Client:
    return Client([f"http://127.0.0.1:{server.port}" for server in servers], retrying=Retrying(tries=50, cap=1.0))


def stopped(server: Process) -> None:
    server.process.terminate()
    server.wait(GUARD)
    server.close()


@pytest.fixture(params=["valkey", "postgres"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """An empty store."""
    if request.param == "valkey":
        needs_valkey()
        node = Node()
        yield node.url
        node.remove()
    else:
        # Servers refuse one that a power cut may rob of what it acknowledged.
        kept = "\n".join(line for line in SETTINGS.splitlines() if not line.startswith(("fsync", "full_page_writes")))
        server = PostgresServer(kept)
        yield server.url()
        server.close()


def filled(data: Path) -> tuple[LeasedJob, list[str]]:
    """A data file of a server that has stopped: a job that is held, and queued ones in order."""
    server = Process("--data", str(data))
    with client(server) as asking:
        asking.enqueue({"n": 0}, id="held", queue="mail")
        held = asking.dequeue("mail", wait=0, lease_seconds=600, worker="w")
        assert held is not None
        asking.enqueue({"n": 1}, id="done", queue="mail")
        done = asking.dequeue("mail", wait=0)
        assert done is not None
        asking.conclude(done.id, done.lease.token, "succeeded", result=[1])
        asking.enqueue({"n": 2}, id="later", queue="mail", delay=3600)
        queued = [asking.enqueue(n, id=f"q{n}", queue="mail").id for n in range(20)]
        asking.enqueue("last", id="last", queue="other")
    stopped(server)
    return held, queued


class Load:
    """Enqueues by a client of its own until it is told to stop; what was acknowledged, in order."""

    def __init__(self, server: Process) -> None:
        self.acknowledged: list[str] = []
        self._stop = threading.Event()
        self._server = server
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stop.set()
        self._thread.join(GUARD)

    def _run(self) -> None:
        with client(self._server) as asking:
            n = 0
            while not self._stop.is_set():
                n += 1
                with contextlib.suppress(QueueError):
                    self.acknowledged.append(asking.enqueue(n, id=f"load-{self._server.port}-{n}", queue="load").id)
                if n % 3 == 0 and (job := asking.dequeue("load", wait=0)) is not None:
                    asking.conclude(job.id, job.lease.token, "succeeded")


def test_a_queue_moves_to_a_store_and_back(url: str, tmp_path: Path) -> None:
    """A worker goes on under its lease on the other side, order and history are kept, and a backup under load misses nothing."""
    data, copy = tmp_path / "jobs.db", tmp_path / "copy.db"
    held, queued = filled(data)
    moved = run("restore", "jobs.db", "--store", url, "--acknowledge", "0", cwd=tmp_path)
    assert (moved.returncode, moved.stderr) == (0, "")
    assert "24 jobs (1 concluded, 1 in_progress, 21 queued, 1 scheduled) in 2 queues, " in moved.stdout

    flags = ("--store", url, "--acknowledge", "0", "--peer-port", "0", "--owner-lease", "2s")
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(contextlib.closing(Process(*flags))) for _ in range(3)]
        with client(*servers) as asking:
            assert asking.conclude(held.id, held.lease.token, "succeeded", result="kept").outcome == "succeeded"
            assert (asking.job("done").result, asking.job("later").status) == ([1], "scheduled")
            first = [asking.dequeue("mail", wait=0, lease_seconds=600) for _ in range(2)]
            assert [job and job.id for job in first] == queued[:2]
            again = run("restore", "jobs.db", "--store", url, "--acknowledge", "0", cwd=tmp_path)
            assert (again.returncode, "is the owner: stop all servers first" in again.stderr) == (1, True), again.stderr
        loads = [stack.enter_context(Load(server)) for server in servers]
        until("there is load", lambda: all(len(load.acknowledged) > 20 for load in loads), GUARD)
        before = [name for load in loads for name in list(load.acknowledged)]
        # The server's own variables do not come between.
        made = run("backup", "copy.db", "--store", url, JOBQUEUE_DATA="elsewhere.db", JOBQUEUE_ACKNOWLEDGE="0", cwd=tmp_path)
        assert (made.returncode, made.stderr) == (0, "")
        for load in loads:
            load.__exit__()
    assert copy.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in tmp_path.glob("copy*")) == ["copy.db"]
    assert run("backup", "copy.db", "--store", url, "--acknowledge", "0", cwd=tmp_path).stderr == "Error: copy.db: exists already\n"

    server = Process("--data", str(copy))
    try:
        with client(server) as asking:
            lost = [name for name in before if asking.job(name).id != name]
            assert lost == []
            assert (asking.job("held").result, asking.job("done").result) == ("kept", [1])
            for job in first:
                assert job is not None
                assert asking.conclude(job.id, job.lease.token, "succeeded").outcome == "succeeded"
            assert [job.id for job in iter(lambda: asking.dequeue("mail", wait=0), None)] == queued[2:]
    finally:
        server.close()


def test_a_store_with_jobs_is_not_filled(tmp_path: Path) -> None:
    """What is there already is named, and the exit code says that nothing was done; so is a store or file that is not there."""
    needs_valkey()
    node = Node()
    try:
        filled(tmp_path / "jobs.db")
        where = ("--store", node.url, "--acknowledge", "0")
        assert run("restore", "jobs.db", *where, cwd=tmp_path).returncode == 0
        again = run("restore", "jobs.db", *where, cwd=tmp_path)
        expected = (
            f"Error: {node.url}: has jobs already, and only an empty store can be filled: use another store, or empty this one first\n"
        )
        assert (again.returncode, again.stdout, again.stderr) == (1, "", expected)
        missing = run("restore", "missing.db", *where, cwd=tmp_path)
        assert (missing.returncode, missing.stderr) == (1, "Error: missing.db: no such file\n")
        node.tell("FLUSHALL")
        empty = run("backup", "copy.db", *where, cwd=tmp_path)
        assert (empty.returncode, empty.stderr) == (1, f"Error: {node.url}: holds nothing yet\n")
        assert not list(tmp_path.glob("copy*"))
        server = Process("--data", str(tmp_path / "jobs.db"))
        used = run("restore", "jobs.db", *where, cwd=tmp_path)
        server.close()
        assert (used.returncode, "jobs.db: a server uses it" in used.stderr) == (1, True)
    finally:
        node.remove()


def test_no_server_starts_on_half_of_a_restore(tmp_path: Path) -> None:
    """After a restore was killed, a server refuses and says what to do; running it again is enough."""
    needs_valkey()
    node = Node()
    try:
        filled(tmp_path / "jobs.db")
        where = ("--store", node.url, "--acknowledge", "0")
        killed = (
            "import os; from jobqueue.backend.store import filling; "
            "filling._Comparison = lambda source: os._exit(9); from jobqueue.cli import main; main()"
        )
        done = subprocess.run([sys.executable, "-c", killed, "restore", "jobs.db", *where], cwd=tmp_path, timeout=GUARD, check=False)
        assert done.returncode == 9
        started = run("serve", "--port", "0", "--peer-port", "0", *where, cwd=tmp_path)
        assert (started.returncode, "a restore into it is running, or was interrupted" in started.stderr) == (1, True), started.stderr
        copied = run("backup", "copy.db", *where, cwd=tmp_path)
        assert (copied.returncode, "was interrupted" in copied.stderr) == (1, True)
        waits = run("restore", "jobs.db", *where, cwd=tmp_path)
        assert (waits.returncode, "another restore is filling it" in waits.stderr) == (1, True)
        # As when its lease has passed.
        node.tell("HSET", "{jq0}:o", "until", "0")
        assert run("restore", "jobs.db", *where, cwd=tmp_path).returncode == 0
        assert run("backup", "copy.db", *where, cwd=tmp_path).returncode == 0
    finally:
        node.remove()


def test_the_steps_of_the_docs_lead_there_and_back(tmp_path: Path) -> None:
    """Each command that docs/scale-out.md gives for moving does what it says, in its order, on a store of that address."""
    needs_valkey()
    page = (Path(__file__).parents[2] / "docs/scale-out.md").read_text()
    section = page.partition("## Moving to a store, and back\n")[2].partition("\n## ")[0]
    commands = re.findall(r"^ +jobqueue (.*)$", section, re.MULTILINE)
    assert [command.split()[0] for command in commands] == ["restore", "check", "backup", "serve"]
    node = Node()
    try:
        held, _ = filled(tmp_path / "jobs.db")
        for command in commands[:-1]:
            words = command.replace("valkey://10.0.0.1:6379", node.url).split()
            done = run(*words, cwd=tmp_path, JOBQUEUE_ACKNOWLEDGE="0")
            assert done.returncode == 0, done.stderr
            assert "24 jobs" in done.stdout
    finally:
        node.remove()
    server = Process("--data", str(tmp_path / commands[-1].split()[-1]))
    try:
        with client(server) as asking:
            assert asking.conclude(held.id, held.lease.token, "succeeded").outcome == "succeeded"
    finally:
        server.close()


def test_a_restore_wants_to_know_where_to(tmp_path: Path) -> None:
    """Without a store there is nothing to do, and with two sources a backup is wrong usage."""
    for arguments, said in (
        (("restore", "jobs.db"), "no store given: use --store URL"),
        (("backup", "copy.db", "--store", "valkey://h:1", "--data", "jobs.db"), "give either --data or --store, not both"),
    ):
        done = run(*arguments, cwd=tmp_path)
        assert (done.returncode, said in done.stderr) == (2, True), done.stderr
