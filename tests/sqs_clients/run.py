"""Has real clients of Amazon SQS work on a real server: `python -m tests.sqs_clients.run`, with names of programs to run those alone.

It makes the environments, starts one server that keeps its jobs in a file and asks for a token, and runs all programs side by side, each
against that server. Most of their time they wait, as workers do. A program passes if all of its checks do; the server must not have
answered anything with a 5xx, nor logged an error, and end well.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple
from urllib.request import Request, urlopen

from .environments import NPM, CannotBeHadError, Environments

HERE = Path(__file__).parent
CHECKS = HERE / "checks"
TOKEN = "jq_a-token-for-this-run"
SECONDS_MAX = 400
"""For one program, with an environment made. The longest takes one to two minutes, of which half a minute is at times a stop of Celery's
that waits for a process of its own; this only ends one that hangs."""

LOG_TAIL = 12_000

ROOM_BYTES = 2 * 1024**3
"""The environments take a third of it."""


class Program(NamedTuple):
    """Checks that one process runs. session: the token is sent as session token, and else as access key id."""

    name: str
    environment: str
    checks: tuple[str, ...]
    session: bool = False


PROGRAMS = (
    Program("celery", "current", ("celery_checks.py::test_two_hundred_tasks_through_a_kill_and_a_warm_stop",)),
    Program("celery, idle 20 s", "current", ("celery_checks.py::test_a_task_for_a_worker_that_has_waited_long[20]",), session=True),
    Program("celery, idle 10 s", "current", ("celery_checks.py::test_a_task_for_a_worker_that_has_waited_long[10]",)),
    Program("pages", "current", ("page_checks.py",)),
    Program("boto3", "current", ("boto3_checks.py", "boto3_fifo_checks.py", "boto3_retry_checks.py"), session=True),
    Program("boto3, Query", "query", ("boto3_checks.py", "boto3_fifo_checks.py", "boto3_retry_checks.py")),
    Program("aws-cli", "current", ("awscli_checks.py",)),
    Program("dramatiq", "current", ("dramatiq_checks.py",), session=True),
    Program("aiobotocore", "async", ("aiobotocore_checks.py",), session=True),
    Program("taskiq", "async", ("taskiq_checks.py",)),
    Program("JavaScript", "node", ("sdk.checks.mjs", "consumer.checks.mjs"), session=True),
    Program("JavaScript, Query", "node-query", ("sdk.checks.mjs",)),
)


class Result(NamedTuple):
    passed: int
    failed: int
    skipped: int
    told: str


class Server:
    """`jobqueue serve` on a free port, with a log that is read at the end."""

    def __init__(self, folder: Path) -> None:
        self._log = (folder / "server.log").open("w+")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("JOBQUEUE_")}
        root = str(HERE.parents[1])
        environment |= {"PYTHONPATH": root, "JOBQUEUE_TOKEN": TOKEN}
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "jobqueue", "serve", "--port", "0", "--data", str(folder / "jobs.db")],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line.startswith("jobqueue serves http://"), f"{line!r}: {self.log()}"
        self.address = line.split()[-1]

    def log(self) -> str:
        self._log.seek(0)
        return self._log.read()

    def metrics(self) -> str:
        asked = Request(f"{self.address}/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
        with urlopen(asked, timeout=30) as answer:
            return str(answer.read().decode())

    def end(self) -> list[str]:
        """Stop it; what is wrong with what it answered, logged and ended with."""
        wrong = [f"answered {line}" for line in self.metrics().split("\n") if re.match(r'jobqueue_http_requests_total\{.*status="5', line)]
        self._process.terminate()
        ended = self._process.wait(60)
        wrong += [f"logged {line}" for line in self.log().split("\n") if " ERROR " in line or "Traceback" in line]
        return wrong + ([f"ended with {ended}"] if ended else [])

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._log.close()


def command(program: Program, environments: Environments) -> tuple[list[str], Path, list[Path]]:
    """What to run, where, and what to put in front of the PATH."""
    if program.environment in NPM:
        folder = environments.npm(program.environment)
        for name in program.checks:
            (folder / name).write_text((CHECKS / name).read_text())
        node = environments.node()
        return [str(node / "node"), "--test", "--test-reporter", "tap", *program.checks], folder, [node]
    programs = environments.python(program.environment)
    plain = ("-q", "-c", "/dev/null", "--rootdir", str(CHECKS), "--noconftest", "-p", "kit", "-p", "no:cacheprovider", "--tb", "short")
    before = [programs]
    if program.name == "pages":
        # Without Node, the check of the page that needs it is skipped.
        with contextlib.suppress(CannotBeHadError):
            environments.npm("node")
            before.append(environments.node())
    return [str(programs / "python"), "-m", "pytest", *plain, *program.checks], CHECKS, before


def counted(told: str) -> tuple[int, int, int]:
    """Checks that passed, failed and were skipped, as pytest or Node says at the end."""

    def of(*patterns: str) -> int:
        return sum(int(number) for pattern in patterns for number in re.findall(pattern, told[-2000:]))

    return (
        of(r"\b(\d+) passed", r"(?m)^# pass (\d+)"),
        of(r"\b(\d+) failed", r"\b(\d+) error", r"(?m)^# fail (\d+)", r"(?m)^# cancelled (\d+)"),
        of(r"\b(\d+) skipped", r"(?m)^# skipped (\d+)"),
    )


def run(program: Program, environments: Environments, address: str, folder: Path) -> Result:
    """Run a program to its end. Without its environment it is skipped if that is Node's, and has failed otherwise."""
    try:
        words, where, before = command(program, environments)
    except CannotBeHadError as error:
        skip = program.environment in NPM
        told = f"its environment could not be made, by:\n{error}"
        return Result(0, not skip, skip, told)
    home = folder / f"home of {program.name}"
    home.mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "JOBQUEUE_", "PYTHON", "PYTEST"))}
    keys = {"AWS_ACCESS_KEY_ID": "me", "AWS_SESSION_TOKEN": TOKEN} if program.session else {"AWS_ACCESS_KEY_ID": TOKEN}
    environment = {
        **kept,
        **keys,
        "AWS_SECRET_ACCESS_KEY": "any",
        "AWS_ENDPOINT_URL_SQS": f"{address}/sqs",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "HOME": str(home),
        "PATH": os.pathsep.join([*map(str, before), os.environ["PATH"]]),
        "PYTHONPATH": str(CHECKS),
        "CHECKS_SET": re.sub(r"\W+", "-", program.name),
        "CHECKS_PROTOCOL": "query" if "query" in program.environment else "json",
        "CHECKS_FOLDER": str(home),
        "CHECKS_ENVIRONMENTS": str(folder / "environments"),
        "CHECKS_SERVER_PYTHON": sys.executable,
    }
    with (home / "log").open("w+") as log:
        process = subprocess.Popen(
            words, cwd=where, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
        try:
            code = process.wait(SECONDS_MAX)
        except subprocess.TimeoutExpired:
            code = -signal.SIGKILL
        finally:
            # With it those of its children that stayed in its group.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        log.seek(0)
        told = log.read()
    passed, failed, skipped = counted(told)
    if code and not failed:
        failed = 1
        told += f"\nended with {code}\n"
    return Result(passed, failed, skipped, told)


def roomy() -> str | None:
    """A folder in memory for 25,000 files of clients, which disks that others use take minutes to make and to remove; None without one."""
    try:
        found = os.statvfs("/dev/shm")
    except OSError:
        return None
    return "/dev/shm" if found.f_bavail * found.f_frsize >= ROOM_BYTES and not found.f_flag & os.ST_NOEXEC else None


def main() -> int:
    """Run all programs, or those whose names were given; 0 if all passed and the server is well."""
    asked = [program for program in PROGRAMS if not sys.argv[1:] or program.name in sys.argv[1:]]
    sums = [0, 0, 0]
    began = time.monotonic()
    with tempfile.TemporaryDirectory(dir=roomy()) as name:
        folder = Path(name)
        (folder / "environments").mkdir()
        environments = Environments(folder / "environments")
        server = Server(folder)
        try:
            with concurrent.futures.ThreadPoolExecutor(len(PROGRAMS)) as pool:
                running = {pool.submit(run, program, environments, server.address, folder): program for program in asked}
                for done in concurrent.futures.as_completed(running):
                    program, result = running[done], done.result()
                    sums = [a + b for a, b in zip(sums, result[:3], strict=True)]
                    print(f"{program.name}: {result.passed} passed, {result.failed} failed, {result.skipped} skipped", end="")
                    print(f", by {time.monotonic() - began:.0f} s", flush=True)
                    if result.failed or result.skipped:
                        print(result.told[-LOG_TAIL:])
            wrong = server.end()
            for line in wrong:
                print(f"the server {line}")
            if wrong:
                print(server.log()[-LOG_TAIL:])
                sums[1] += 1
        finally:
            server.kill()
    print(f"{sums[0]} passed, {sums[1]} failed, {sums[2]} skipped")
    return 1 if sums[1] or not sums[0] else 0


if __name__ == "__main__":
    sys.exit(main())
