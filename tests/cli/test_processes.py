"""`jobqueue serve --processes N`: several servers on one port, which start, drain and end together."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from jobqueue.process import tokens
from jobqueue.process.config import BadSetting, Settings, load
from jobqueue.process.processes import listeners, settings_of
from tests.faults.process import Process, stop
from tests.valkey import Node, needs_valkey

GUARD = 30.0
COUNT = 3
ROOT = Path(__file__).parents[2]

Serve = Callable[..., Process]


@pytest.fixture(scope="module")
def valkey() -> Iterator[Node]:
    needs_valkey()
    node = Node()
    yield node
    node.remove()


@pytest.fixture
def serve(valkey: Node) -> Iterator[Serve]:
    """Starts processes on an empty store."""
    valkey.tell("FLUSHALL")
    with contextlib.ExitStack() as stack:

        def start(*flags: str, store: str | None = None, before: str = "") -> Process:
            where = ("--store", store or valkey.url, "--acknowledge", "0", "--peer-port", "0", "--owner-lease", "2s")
            return stack.enter_context(contextlib.closing(Process(*where, "--processes", str(COUNT), *flags, before=before)))

        yield start


def parts(process: Process) -> list[int]:
    """The processes that it has started."""
    return [int(pid) for pid in Path(f"/proc/{process.process.pid}/task/{process.process.pid}/children").read_text().split()]


def until(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + GUARD
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def asked(process: Process, method: str, path: str, body: object = None, **headers: str) -> tuple[int, str]:
    """An answer, over a connection of its own: of any of the processes."""
    connection = http.client.HTTPConnection("127.0.0.1", process.port, timeout=GUARD)
    try:
        given = None if body is None else json.dumps(body)
        connection.request(method, path, given, {"Content-Type": "application/json", **headers} if given else headers)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def metric(process: Process, name: str) -> float | None:
    for line in asked(process, "GET", "/metrics")[1].splitlines():
        if line.startswith(f"{name} "):
            return float(line.rpartition(" ")[2])
    return None


def name_of(process: Process) -> str:
    """Of whichever of its processes is asked."""
    name: str = json.loads(asked(process, "GET", "/stats")[1])["cluster"]["name"]
    return name


def logged(process: Process, text: str, times: int) -> None:
    """Wait until the log has a text so often."""
    found = ""

    def there() -> bool:
        nonlocal found
        found += process.log()
        return found.count(text) == times

    until(there, f"{text!r} is not in the log {times} times")


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_whichever_process_is_asked_the_queue_and_the_metrics_are_the_same(serve: Serve) -> None:
    """A job of one is dequeued at another, and each scrape tells what all of them have counted."""
    process = serve()
    assert len(parts(process)) == COUNT
    for at in range(30):
        status, _ = asked(process, "POST", "/jobs/enqueue", {"id": f"j{at}", "payload": at})
        assert status == 201
    taken = [json.loads(asked(process, "POST", "/jobs/dequeue", {"wait": 0})[1])["id"] for _ in range(30)]
    assert taken == [f"j{at}" for at in range(30)]
    name = 'jobqueue_http_requests_total{method="POST",route="/jobs/enqueue",status="201"}'
    assert {metric(process, name) for _ in range(12)} == {30.0}
    until(lambda: metric(process, "jobqueue_servers") == COUNT, "not all have said that they are there")
    text = asked(process, "GET", "/metrics")[1].splitlines()
    assert f"jobqueue_processes {COUNT}.0" in text
    assert "jobqueue_owner 1.0" in text
    assert len([line for line in text if line.startswith("process_resident_memory_bytes")]) == 1
    # The kernel spreads connections: that one process had all of these by chance does not happen.
    until(lambda: len({name_of(process) for _ in range(20)}) > 1, "one has them all")


def test_a_process_that_dies_is_started_again_and_nobody_is_refused(serve: Serve) -> None:
    """Whoever connects meanwhile is answered, by another or by the next one."""
    process = serve()
    before = parts(process)
    os.kill(before[0], signal.SIGKILL)
    for _ in range(40):
        assert asked(process, "GET", "/healthz")[0] == 200
    until(lambda: len(set(parts(process)) - set(before)) == 1, "it was not started again")
    until(lambda: metric(process, "jobqueue_processes") == COUNT, "it does not tell of itself")
    assert "ended with exit code -9; starting another one" in process.log()


@pytest.mark.parametrize("group", [False, True])
def test_all_drain_together(serve: Serve, group: bool) -> None:
    """Held requests are answered and the exit code is 0, also where every process of a group is sent the signal, as systemd does."""
    process = serve()
    until(lambda: metric(process, "jobqueue_owner_known") == 1.0, "nobody owns the queue")
    pids = parts(process)
    held = [http.client.HTTPConnection("127.0.0.1", process.port, timeout=GUARD) for _ in range(12)]
    for connection in held:
        connection.request("POST", "/jobs/dequeue", '{"wait": 50}', {"Content-Type": "application/json"})
    until(lambda: metric(process, "jobqueue_waiters") == 12.0, "not all are held")
    for pid in [*(pids if group else []), process.process.pid]:
        os.kill(pid, signal.SIGTERM)
    for connection in held:
        response = connection.getresponse()
        assert (response.status, response.read()) == (204, b"")
        connection.close()
    assert process.wait() == 0
    assert not [pid for pid in pids if alive(pid)]
    assert "second signal" not in process.log()


def test_a_second_signal_is_for_all_of_them(serve: Serve) -> None:
    """What is under way is not waited for, and the exit code says so."""
    process = serve()
    slow = http.client.HTTPConnection("127.0.0.1", process.port, timeout=GUARD)
    slow.putrequest("POST", "/jobs/enqueue")
    slow.putheader("Content-Length", "100")
    slow.endheaders(b"{")
    until(lambda: metric(process, "jobqueue_unread_bytes") != 0.0, "the slow request has not come")
    process.signal(signal.SIGTERM)
    logged(process, "shutting down", COUNT)
    process.signal(signal.SIGTERM)
    assert process.wait() == 1
    slow.close()


def test_a_signal_while_they_start_ends_them_well(valkey: Node, tmp_path: Path) -> None:
    """The first is told as soon as it can listen to that, and no other is started."""
    process = started(tmp_path, "", "--store", valkey.url, "--acknowledge", "0", "--peer-port", "0", "--processes", "3")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    until(lambda: bool(children.read_text().split()), "nothing is started")
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=GUARD)
    assert (process.returncode, log.count(b"one of the servers")) == (0, 1)


def started(folder: Path, first: str, *flags: str, python: Sequence[str] = (), **variables: str) -> subprocess.Popen[bytes]:
    """Processes in a folder, by a start that says nothing yet. first: Python to run before."""
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    run = [sys.executable, *python, "-c", f"{first}from jobqueue.cli import main; main()", "serve", "--port", "0", *flags]
    pipe = subprocess.PIPE
    return subprocess.Popen(run, cwd=folder, env={**os.environ, "PYTHONPATH": paths, **variables}, stdout=pipe, stderr=pipe)


def test_one_that_stands_still_at_its_start_is_killed_after_a_signal(valkey: Node, tmp_path: Path) -> None:
    """As one that does not end later is."""
    first = "from jobqueue.process import processes; processes.KILL_SECONDS = 0.1; "
    flags = ("--store", valkey.url, "--acknowledge", "0", "--peer-port", "0", "--processes", "2", "--drain-timeout", "0.1s")
    process = started(tmp_path, first, *flags)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    until(lambda: bool(children.read_text().split()), "nothing is started")
    pid = int(children.read_text())
    stop(pid)
    process.send_signal(signal.SIGTERM)
    try:
        _, log = process.communicate(timeout=GUARD)
    finally:
        process.kill()
        process.wait()
        if alive(pid):
            os.kill(pid, signal.SIGKILL)
    assert (process.returncode, log.count(b"1 processes do not end, and are killed")) == (1, 1)


def test_one_that_is_killed_at_its_start_ends_them_all(valkey: Node, tmp_path: Path) -> None:
    """It could not complain, so the one that started it does."""
    process = started(tmp_path, "", "--store", valkey.url, "--acknowledge", "0", "--peer-port", "0", "--processes", "2")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    until(lambda: bool(children.read_text().split()), "nothing is started")
    os.kill(int(children.read_text()), signal.SIGKILL)
    _, log = process.communicate(timeout=GUARD)
    assert (process.returncode, log.count(b"process 1 ended with exit code -9 before it served")) == (1, 1)


def test_a_signal_before_one_that_died_is_started_again_ends_them_well(serve: Serve) -> None:
    """The drain went well, and the death was told of when it came."""
    process = serve(before="from jobqueue.process import processes; processes.PAUSE_SECONDS = 600.0; ")
    os.kill(parts(process)[1], signal.SIGKILL)
    logged(process, "starting another one in 600 s", 1)
    process.signal(signal.SIGTERM)
    assert process.wait() == 0


def test_what_lies_in_the_current_folder_is_not_run(valkey: Node, tmp_path: Path) -> None:
    """The processes find the modules that the first one does, whose command does not look there."""
    (tmp_path / "msgspec.py").write_text("raise SystemExit('a module of the current folder was run')")
    flags = ("--store", valkey.url, "--acknowledge", "0", "--peer-port", "0", "--processes", "2")
    with started(tmp_path, "", *flags, python=["-P"]) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        process.terminate()
        _, log = process.communicate(timeout=GUARD)
    assert (said[:16], process.returncode) == (b"jobqueue serves ", 0), log


@pytest.mark.parametrize("name", ["missing", "long" * 30])
def test_without_a_folder_for_them_none_is_started(tmp_path: Path, name: str) -> None:
    """One line says why."""
    folder = tmp_path / name
    if name != "missing":
        folder.mkdir()
    first = f"import tempfile; tempfile.tempdir = {str(folder)!r}; "
    with started(tmp_path, first, "--store", "valkey://127.0.0.1:1", "--processes", "2") as process:
        _, log = process.communicate(timeout=GUARD)
    assert (process.returncode, log.count(b"\n"), str(folder).encode() in log or b"a folder" in log) == (1, 1, True), log


def test_a_port_on_which_others_listen_is_not_shared_with_them() -> None:
    """Processes share theirs among themselves alone."""
    taken = listeners("127.0.0.1", 0, 2)
    try:
        with pytest.raises(OSError, match="Address already in use"):
            listeners("127.0.0.1", taken[0][0].getsockname()[1], 2)
    finally:
        for own in taken:
            own[0].close()


def test_none_outlives_the_one_that_started_them(serve: Serve) -> None:
    """Though that one had no chance to tell them."""
    process = serve()
    pids = parts(process)
    process.signal(signal.SIGKILL)
    process.wait()
    until(lambda: not [pid for pid in pids if alive(pid)], "one goes on")


def test_a_sighup_is_for_all_of_them(serve: Serve, tmp_path: Path) -> None:
    """A token that was added to the file is known at whichever is asked."""
    file = tmp_path / "tokens"
    tokens.make(str(file), "ops", ["admin"], [])
    process = serve("--token-file", str(file))
    token, _ = tokens.make(str(file), "more", ["read"], [])
    process.signal(signal.SIGHUP)
    logged(process, "2 tokens known", COUNT)
    for _ in range(10):
        assert asked(process, "GET", "/queues", Authorization=f"Bearer {token}")[0] == 200


def test_what_the_first_cannot_do_ends_them_all(serve: Serve) -> None:
    """With one complaint, not one of each."""
    with pytest.raises(AssertionError) as told:
        serve(store="valkey://127.0.0.1:1")
    assert str(told.value).count("valkey://127.0.0.1:1") == 1


def test_each_has_a_port_of_its_own_for_other_servers() -> None:
    """One after the other from the one that is set, under the same name."""
    settings = Settings(store="valkey://a", processes=3, peer_port=9000, peer_address="queue-1.internal:9100")
    made = [settings_of(settings, number) for number in (1, 2, 3)]
    assert [one.peer_port for one in made] == [9000, 9001, 9002]
    assert [one.peer_address for one in made] == [f"queue-1.internal:{port}" for port in (9100, 9101, 9102)]
    assert {one.processes for one in made} == {1}
    free = settings_of(Settings(store="valkey://a", processes=3, peer_port=0), 3)
    assert free.peer_port == 0


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({}, "--processes: several processes share their jobs through a store; set --store too"),
        ({"store": "valkey://a", "processes": "65"}, "--processes: must be 64 or fewer"),
        (
            {"store": "valkey://a", "peer_port": "65534"},
            "--peer-port: 3 processes need as many ports, starting with this one; choose a lower port",
        ),
        (
            {"store": "valkey://a", "peer_port": "8079"},
            "--peer-port: 3 processes use the ports from this one to 8081, but the port for clients is one",
        ),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, flags: dict[str, str | None], said: str) -> None:
    """Before anything is started, by the setting's name."""
    given: dict[str, str | None] = {"processes": "3"}
    with pytest.raises(BadSetting) as error:
        load(given | flags, {}, tmp_path / ".env")
    assert str(error.value).startswith(said)
