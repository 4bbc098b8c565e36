"""`jobqueue work`: commands and handlers as workers, each a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from jobqueue import Backoff, Client, Job
from jobqueue.commands.executing import OUTPUT_BYTES_MAX
from jobqueue.testing import server_in_thread
from tests.faults.process import Process
from tests.faults.process import stop as halt

GUARD = 30.0
ROOT = Path(__file__).parents[2]
SOON = Backoff(0, 1, 0)

Start = Callable[..., Any]


@pytest.fixture
def doorbell() -> Iterator[Callable[[], bytes]]:
    """A place in the file system that commands ring at: returns what the next that runs RING says."""
    Path("ring.py").write_text(RINGING)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("bell")
        listener.listen()
        listener.settimeout(GUARD)

        def answer() -> bytes:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(GUARD)
                said = b""
                while not said.endswith(b"\n"):
                    piece = connection.recv(1_000)
                    assert piece, said
                    said += piece
                return said.strip()

        yield answer


RING = f"{sys.executable} ring.py"
"""A command that says its argument at the doorbell."""

RINGING = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect('bell'); s.sendall(sys.argv[1].encode() + b'\\n')"


@pytest.fixture
def worker(spawn: Start, url: str, doorbell: Callable[[], bytes]) -> Start:
    """Starts `work`, its log in the file worker.log."""

    def start(*arguments: str, **environ: str) -> Any:
        with Path("worker.log").open("ab") as log:
            return spawn("work", *arguments, stderr=log, env={**os.environ, **environ})

    return start


def ended(client: Client, payload: Any = None, **fields: Any) -> Job:
    """A job, once it is concluded."""
    job = client.job(client.enqueue(payload, **fields).id, wait=GUARD)
    assert job.outcome is not None, job
    return job


def stop(process: Any) -> int:
    process.terminate()
    code: int = process.wait(GUARD)
    return code


def is_gone(pid: int) -> bool:
    """Whether nothing runs under this number; what is dead and waits for its parent to notice does not run."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state in "ZX"


# A command's result. One worker for them all, whose command is what each job's description says.


@pytest.fixture(scope="module")
def evaluator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Client, Path]]:
    """A client of a server with that worker, and the worker's log."""
    folder = tmp_path_factory.mktemp("evaluator")
    environ = {name: value for name, value in os.environ.items() if not name.startswith("JOBQUEUE_")}
    environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), *sys.path]))
    command = [
        sys.executable,
        "-m",
        "jobqueue",
        "work",
        "--exec",
        'eval "$JOBQUEUE_JOB_DESCRIPTION"',
        "--name",
        "me",
        "--token",
        "tell-nobody",
    ]
    with server_in_thread() as url, Client(url) as client, (folder / "worker.log").open("wb") as log:
        process = subprocess.Popen([*command, "--url", url], cwd=folder, env=environ, stderr=log, start_new_session=True)
        try:
            yield client, folder / "worker.log"
        finally:
            code = stop(process)
        assert code == 0


def evaluated(evaluator: tuple[Client, Path], command: str, payload: Any = None, **fields: Any) -> Job:
    """What became of a job with this command."""
    return ended(evaluator[0], payload, description=command, **fields)


@pytest.mark.parametrize(
    ("command", "payload", "result"),
    [
        ("cat", {"a": [1, "ä"]}, {"a": [1, "ä"]}),
        ('read -r line; printf "%s and %s\\n" "$line" "$JOBQUEUE_JOB_TYPE"', 5, "5 and t"),
        ("true", "x" * 200_000, None),
        (r"""printf '\n {"b":\n 1.50}\n\n'""", None, {"b": 1.5}),
        (r"printf '\377 \033[1m'", None, "\ufffd \x1b[1m"),
    ],
)
def test_what_a_command_prints_is_the_result(command: str, payload: Any, result: Any, evaluator: tuple[Client, Path]) -> None:
    """The payload is on stdin, where it need not be read; JSON comes back as JSON, text as a string, nothing as null."""
    assert evaluated(evaluator, command, payload, type="t").result == result


def test_a_command_finds_the_job_in_its_environment(evaluator: tuple[Client, Path]) -> None:
    """Everything about the job, and where the server is, with the token; what a job does not have is empty."""
    program = "import json, os; print(json.dumps({k: v for k, v in os.environ.items() if k.startswith('JOBQUEUE_')}))"
    command = f'{sys.executable} -c "{program}"\ntrue'
    found = evaluated(evaluator, command, 1, id="job é", queue="default", type="t", priority=3).result
    assert found.pop("JOBQUEUE_JOB_CREATED_AT").endswith("+00:00")
    assert repr(evaluator[0]) == f"<Client of {found.pop('JOBQUEUE_URL')}>"
    assert found == {
        "JOBQUEUE_TOKEN": "tell-nobody",
        "JOBQUEUE_JOB_ID": "job é",
        "JOBQUEUE_JOB_QUEUE": "default",
        "JOBQUEUE_JOB_TYPE": "t",
        "JOBQUEUE_JOB_DESCRIPTION": command,
        "JOBQUEUE_JOB_PRIORITY": "3",
        "JOBQUEUE_JOB_ATTEMPT": "1",
        "JOBQUEUE_JOB_WORKER": "me",
    }
    assert evaluated(evaluator, command).result["JOBQUEUE_JOB_TYPE"] == ""


def test_another_exit_code_fails_with_the_end_of_stderr(evaluator: tuple[Client, Path]) -> None:
    """The attempt counts, the next one is told of the error, and stderr's end is the last error; the log has it line by line."""
    command = 'yes "line $JOBQUEUE_JOB_ATTEMPT" | head -2000 >&2; printf "%s" "$JOBQUEUE_JOB_LAST_ERROR" | tail -c 30 >&2; exit 3'
    job = evaluated(evaluator, command, max_attempts=2, backoff=SOON)
    assert (job.outcome, job.attempts, job.error["type"]) == ("failed", 2, "CommandFailed")
    message = job.error["message"]
    assert message.startswith("exit code 3: ")
    assert len(message) < 3_200
    assert message.endswith('line 1\\nline 1\\nline 1"}')
    log = evaluator[1].read_text()
    assert f"{job.id}: line 1" in log
    assert "Traceback" not in log


def test_a_command_that_a_signal_killed_has_failed(evaluator: tuple[Client, Path]) -> None:
    """The error names the signal."""
    assert evaluated(evaluator, "kill -9 $$", max_attempts=1).error["message"] == "killed by signal 9 (Killed)"


def test_too_much_output_fails_for_good(evaluator: tuple[Client, Path]) -> None:
    """What cannot be a result is not tried again, and is not kept in memory."""
    job = evaluated(evaluator, f"yes | head -c {OUTPUT_BYTES_MAX + 1}", max_attempts=5)
    assert (job.outcome, job.attempts) == ("failed", 1)
    assert str(OUTPUT_BYTES_MAX) in job.error["message"]


@pytest.mark.parametrize("child", ["sleep 600 >/dev/null 2>&1 &", "sh -c 'sleep 600 & sleep 600' </dev/stdin >/dev/null 2>&1 &"])
def test_a_child_in_the_background_does_not_hold_the_job(child: str, evaluator: tuple[Client, Path]) -> None:
    """The job is over once nobody holds its outputs, though a child lives on that reads nothing of a long payload."""
    job = evaluated(evaluator, f"{child} echo $!", "x" * 200_000)
    assert job.outcome == "succeeded"
    assert not is_gone(job.result)
    os.killpg(os.getpgid(job.result), signal.SIGKILL)


def test_a_command_is_given_three_open_files_and_no_others(evaluator: tuple[Client, Path]) -> None:
    """Nothing of the worker's is open in it, under no number."""
    assert evaluated(evaluator, "ls /proc/self/fd | tr '\\n' ' '").result == "0 1 2 3 "  # 3 is ls's own


def test_a_command_heeds_signals(evaluator: tuple[Client, Path]) -> None:
    """No signal is ignored or blocked in it, SIGPIPE neither, which Python itself ignores. From 32 on they are the C library's own."""
    told = evaluated(evaluator, "grep -E 'Sig(Ign|Blk)' /proc/self/status").result.split()
    assert (told[0], told[2]) == ("SigBlk:", "SigIgn:")
    assert [int(mask, 16) & 0x7FFF_FFFF for mask in told[1::2]] == [0, 0]


# How a command is ended.

FAMILY = f"""
trap '' TERM
sh -c "trap '' TERM; {RING} \\$\\$; while :; do sleep 0.05; done" &
wait; wait
"""
"""A command with a child that says its number, both of which do not heed SIGTERM. The child goes on for ever, with children of its own."""


def test_time_running_out_kills_the_whole_group(worker: Start, client: Client, doorbell: Callable[[], bytes]) -> None:
    """After --timeout neither the command nor its child is left, though both ignore SIGTERM, and the attempt failed."""
    process = worker("--exec", FAMILY, "--timeout", "0.5")
    job_id = client.enqueue(1, max_attempts=1).id
    grandchild = int(doorbell())
    job = client.job(job_id, wait=GUARD)
    assert (job.outcome, job.error["type"]) == ("failed", "TimeoutError")
    assert is_gone(grandchild)
    assert stop(process) == 0


def test_a_cancel_kills_the_whole_group(worker: Start, client: Client, doorbell: Callable[[], bytes]) -> None:
    """A job that is cancelled while it runs ends as cancelled, with nothing left of it."""
    process = worker("--exec", FAMILY, "--lease", "1")
    job_id = client.enqueue(1).id
    grandchild = int(doorbell())
    client.cancel(job_id)
    assert client.job(job_id, wait=GUARD).outcome == "cancelled"
    assert is_gone(grandchild)
    assert stop(process) == 0


def test_a_command_that_heeds_sigterm_may_clean_up(worker: Start, client: Client, doorbell: Callable[[], bytes]) -> None:
    """SIGTERM comes first, so that a command can put things in order."""
    process = worker("--exec", f"trap 'echo bye > said; exit 1' TERM; {RING} hello; while :; do sleep 0.05; done", "--lease", "1")
    job_id = client.enqueue(1).id
    assert doorbell() == b"hello"
    client.cancel(job_id)
    assert client.job(job_id, wait=GUARD).outcome == "cancelled"
    assert Path("said").read_text() == "bye\n"
    assert stop(process) == 0


def test_the_lease_is_extended_while_a_command_runs(worker: Start, client: Client, doorbell: Callable[[], bytes]) -> None:
    """A command may run for longer than the lease holds, and its job stays its own."""
    process = worker("--exec", f"{RING} started; read -r _ < go; echo done", "--lease", "1")
    os.mkfifo("go")
    job_id = client.enqueue(1).id
    assert doorbell() == b"started"
    first = client.job(job_id)
    assert first.lease_expires_at is not None
    # Until the lease's first end is past and the job is still the same attempt's.
    assert client.job(job_id, wait=1.5).outcome is None
    later = client.job(job_id)
    assert later.lease_expires_at is not None
    assert later.lease_expires_at > first.lease_expires_at
    Path("go").write_text("\n")
    job = client.job(job_id, wait=GUARD)
    assert (job.result, job.attempts) == ("done", 1)
    assert stop(process) == 0


@pytest.mark.parametrize("signals", [[signal.SIGTERM], [signal.SIGHUP, signal.SIGHUP]], ids=["sigterm", "a closed terminal"])
def test_a_signal_lets_a_command_finish_within_the_grace_period(
    signals: list[signal.Signals], worker: Start, client: Client, doorbell: Callable[[], bytes]
) -> None:
    """The running job is concluded, the one that waits is not taken, and the exit code is 0."""
    process = worker("--exec", f"{RING} started; read -r _ < go; echo done")
    os.mkfifo("go")
    running, waiting = client.enqueue(1).id, client.enqueue(2).id
    assert doorbell() == b"started"
    for number in signals:
        process.send_signal(number)
        while "stopping" not in Path("worker.log").read_text():
            assert process.poll() is None
    Path("go").write_text("\n")
    assert client.job(running, wait=GUARD).result == "done"
    assert process.wait(GUARD) == 0
    assert (client.job(waiting).status, client.job(waiting).attempts) == ("queued", 0)


@pytest.mark.parametrize("hurry", [False, True], ids=["no grace", "a second signal"])
def test_without_grace_a_command_is_killed_and_its_job_given_back(
    hurry: bool, worker: Start, client: Client, doorbell: Callable[[], bytes]
) -> None:
    """What does not finish in time is released without its attempt being counted, and nothing of it is left."""
    process = worker("--exec", FAMILY, "--json", *([] if hurry else ["--grace", "0"]))
    job_id = client.enqueue(1).id
    grandchild = int(doorbell())
    process.send_signal(signal.SIGTERM)
    if hurry:
        while "stopping" not in Path("worker.log").read_text():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
    counts = json.loads(process.communicate(timeout=GUARD)[0])
    assert process.returncode == 0
    assert (counts["taken"], counts["released"]) == (1, 1)
    job = client.job(job_id)
    assert (job.status, job.attempts) == ("queued", 0)
    assert is_gone(grandchild)
    lines = [json.loads(line) for line in Path("worker.log").read_text().splitlines()]
    assert {line["level"] for line in lines} <= {"info", "warning"}
    assert all(line["logger"] and line["time"].endswith("Z") for line in lines)


def test_a_third_signal_kills_commands(worker: Start, doorbell: Callable[[], bytes]) -> None:
    """The worker ends at once, though the server does not answer, and nothing of a command is left."""
    with contextlib.closing(Process()) as server, Client(url := f"http://127.0.0.1:{server.port}") as client:
        process = worker("--exec", FAMILY, "--url", url)
        client.enqueue(1)
        grandchild = int(doorbell())
        # Or the worker gives the job back after the second signal, and ends by itself.
        halt(server.process.pid)
        for number, answer in [(signal.SIGTERM, "stopping"), (signal.SIGINT, "second signal")]:
            process.send_signal(number)
            while answer not in Path("worker.log").read_text():
                assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(GUARD) == 1
        assert "third signal" in Path("worker.log").read_text()
        while not is_gone(grandchild):
            pass


def test_commands_run_side_by_side(worker: Start, client: Client, doorbell: Callable[[], bytes]) -> None:
    """--concurrency commands run at once, and --queue says whose jobs they are."""
    process = worker("--exec", f"{RING} started; read -r _ < go-$JOBQUEUE_JOB_ID", "--concurrency", "3", "-q", "a", "-q", "b")
    for name in "abc":
        os.mkfifo(f"go-{name}")
        client.enqueue(1, id=name, queue="a" if name == "a" else "b")
    assert [doorbell() for _ in "abc"] == [b"started"] * 3
    for name in "abc":
        Path(f"go-{name}").write_text("\n")
        assert client.job(name, wait=GUARD).outcome == "succeeded"
    assert stop(process) == 0


# Handlers of a module.

TASKS = """
import os
import jobqueue.worker.worker

worker = jobqueue.worker.worker.Worker("http://127.0.0.1:1", queues=["mail"], concurrency=2, timeout=9, name="own")

@worker.handler("where")
def where(job):
    return [job.worker, os.environ["JOBQUEUE_URL"], VERSION]

VERSION = 1
"""


def test_a_module_s_worker_keeps_its_settings_unless_told_otherwise(worker: Start, client: Client, url: str) -> None:
    """Queues and name are those of the Worker in the module; the URL is the one on the command line."""
    Path("tasks.py").write_text(TASKS)
    process = worker("tasks", "--url", url)
    assert ended(client, queue="mail", type="where").result == ["own", url, 1]
    assert stop(process) == 0
    process = worker("tasks:worker", "--url", url, "--queue", "other", "--name", "told")
    assert ended(client, queue="other", type="where").result == ["told", url, 1]
    assert stop(process) == 0


@pytest.mark.parametrize(("options", "done"), [(["--burst"], 3), (["--max-jobs", "2"], 2)])
def test_a_worker_ends_by_itself(spawn: Start, client: Client, url: str, options: list[str], done: int) -> None:
    """When the queue is empty, or after so many jobs: the exit code is 0, and what it did is printed."""
    queue = f"ends-{done}"
    for _ in range(3):
        client.enqueue(None, queue=queue)
    process = spawn("work", "--exec", "true", "--json", "--url", url, "--queue", queue, *options)
    output, _ = process.communicate(timeout=GUARD)
    assert process.returncode == 0
    assert json.loads(output)["succeeded"] == done


def test_functions_registered_with_the_package_are_handlers(worker: Start, client: Client) -> None:
    """A module that has no Worker has registered its functions by jobqueue's own decorator, and JOBQUEUE_URL says where jobs are."""
    Path("tasks.py").write_text(
        "from jobqueue.worker.handlers import handler\n\n@handler('add')\ndef add(payload: list[int]):\n    return sum(payload)\n"
    )
    process = worker("tasks")
    assert ended(client, [1, 2], type="add").result == 3
    assert stop(process) == 0


def test_a_worker_of_several_servers_hands_them_on(worker: Start, client: Client, url: str) -> None:
    """It takes jobs where one answers, and what it runs finds all of them."""
    urls = f"http://127.0.0.1:1,{url}"
    process = worker("--exec", 'printf "%s" "$JOBQUEUE_URL"', "--url", urls)
    assert ended(client).result == urls
    assert stop(process) == 0


def test_a_worker_that_is_refused_says_why(spawn: Start, url: str) -> None:
    """A wrong token ends it with one line of the log and exit code 6."""
    with server_in_thread(token="secret") as guarded:
        process = spawn("work", "--exec", "true", "--url", guarded, "--token", "wrong")
        _, errors = process.communicate(timeout=GUARD)
    assert process.returncode == 6
    (line,) = [line for line in errors.decode().splitlines() if "ERROR" in line.upper()]
    assert "the server does not accept the token: " in line
    assert "Traceback" not in errors.decode()


def test_a_url_where_no_server_is_ends_it(spawn: Start, url: str) -> None:
    """A 404 that no jobqueue server answers with is told as a wrong URL, with exit code 6 and, with --json, as a problem."""

    class Elsewhere(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            self.send_error(404)

        do_GET = do_POST

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with HTTPServer(("127.0.0.1", 0), Elsewhere) as elsewhere:
        threading.Thread(target=elsewhere.serve_forever, daemon=True).start()
        process = spawn("work", "--exec", "true", "--json", "--url", f"http://127.0.0.1:{elsewhere.server_port}/nowhere")
        _, errors = process.communicate(timeout=GUARD)
        elsewhere.shutdown()
    assert process.returncode == 6
    assert "no jobqueue server answers at this URL" in errors.decode()
    assert json.loads(errors.decode().splitlines()[-1])["code"] == "unexpected_answer"
    assert "Traceback" not in errors.decode()


def test_the_documented_line_starts_again_when_a_file_changes(client: Client, url: str) -> None:
    """The next job is done by the new code; one that cannot be imported is waited out; SIGTERM ends all."""
    (line,) = (line for line in (ROOT / "docs/cli.md").read_text().splitlines() if line.startswith("watchfiles "))
    tasks = TASKS.replace("http://127.0.0.1:1", url)
    Path("shop").mkdir()
    Path("shop/tasks.py").write_text(tasks)
    environ = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    with Path("worker.log").open("wb") as log:
        process = subprocess.Popen(f"exec {line}", shell=True, env=environ, stderr=log, stdout=log, start_new_session=True)
    try:
        assert ended(client, queue="mail", type="where").result[2] == 1
        # Each time of another length: bytecode is good for a source of the same length and the same second.
        Path("shop/tasks.py").write_text(tasks.replace("VERSION = 1", "VERSION = ((("))
        while "cannot be imported" not in Path("worker.log").read_text():
            assert process.poll() is None
        Path("shop/tasks.py").write_text(tasks.replace("VERSION = 1", "VERSION = 22"))
        assert ended(client, queue="mail", type="where").result[2] == 22
        assert stop(process) == 0
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(GUARD)
