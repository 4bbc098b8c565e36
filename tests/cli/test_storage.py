"""`jobqueue backup` and `jobqueue check`, and what is seen of a start on a large file."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from jobqueue import Client
from jobqueue.backend.local import LocalBackend
from jobqueue.backend.sqlite.open import open_journal
from jobqueue.cli import main
from jobqueue.clock import SystemClock
from jobqueue.engine.engine import Engine
from jobqueue.model import JobSpec
from jobqueue.process import durable
from jobqueue.process.config import Settings

ROOT = Path(__file__).parents[2]
CONTENTS = "contents: {jobs} [0-9a-f]{{16}}, 1 queue [0-9a-f]{{16}}, 0 schedules 0{{16}}, 0 groups 0{{16}}"


def run(*arguments: str, env: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(main, arguments, env=env)


async def filled(path: Path, count: int) -> LocalBackend:
    """A backend on a file, with jobs, that goes on."""
    backend = durable.open_backend(Settings(data=str(path), sync="off"))
    await backend.enqueue_batch([JobSpec(payload=b"12345", id=f"j{number}") for number in range(count)])
    return backend


def known(path: Path) -> set[str]:
    """The ids of the jobs in a file."""
    engine = Engine()

    async def read() -> None:
        await open_journal(str(path), engine, SystemClock()).close()

    asyncio.run(read())
    return set(engine.jobs.by_id)


def test_a_backup_is_taken_while_the_server_serves(tmp_path: Path) -> None:
    """The copy has what was acknowledged when it began, is one file, and can be served; the server goes on with its own."""

    async def serve() -> Result:
        backend = await filled(tmp_path / "jobs.db", 10)
        result = run("backup", str(tmp_path / "copy.db"), "--data", str(tmp_path / "jobs.db"))
        await backend.enqueue(JobSpec(payload=b"1", id="after"))
        await backend.close()
        return result

    result = asyncio.run(serve())
    assert result.exit_code == 0
    held, contents = result.output.splitlines()
    assert held == f"{tmp_path / 'copy.db'}: 10 jobs (10 queued) in 1 queue, 50 bytes in live jobs"
    assert re.fullmatch(CONTENTS.format(jobs="10 jobs"), contents)
    assert sorted(path.name for path in tmp_path.glob("copy*")) == ["copy.db"]
    assert len(known(tmp_path / "copy.db")) == 10
    assert "after" in known(tmp_path / "jobs.db")


def test_a_backup_never_overwrites(tmp_path: Path) -> None:
    """A target that exists is refused and kept, and so is a source that cannot be read; nothing half-made stays."""
    (tmp_path / "copy.db").write_text("precious")
    result = run("backup", str(tmp_path / "copy.db"), "--data", str(tmp_path / "jobs.db"))
    assert (result.exit_code, "exists already" in result.output) == (1, True)
    result = run("backup", str(tmp_path / "other.db"), "--data", str(tmp_path / "jobs.db"))
    assert (result.exit_code, "no such file" in result.output) == (1, True)
    assert [path.name for path in tmp_path.iterdir()] == ["copy.db"]
    assert (tmp_path / "copy.db").read_text() == "precious"


def served(folder: Path, jobs: list[str], *flags: str, umask: int = 0o022) -> str:
    """What a server logs that is asked to enqueue these jobs, concludes none, and is told to stop."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JOBQUEUE_")} | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "jobqueue", "serve", "--port", "0", *flags]
    server = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, umask=umask)
    try:
        assert server.stdout is not None
        with Client(server.stdout.readline().split()[-1]) as client:
            for job in jobs:
                client.enqueue(job)
            modes = {path.name: oct(path.stat().st_mode & 0o777) for path in folder.glob("jobs.db*")}
    finally:
        server.send_signal(signal.SIGTERM)
        errors = server.communicate(timeout=30)[1]
    assert server.returncode == 0
    return errors + json.dumps(modes)


@pytest.mark.parametrize(("jobs", "said"), [(["a"], "1 job is not concluded"), (["a", "b", "c"], "3 jobs are not concluded")])
def test_a_server_that_stops_says_how_many_jobs_are_lost(tmp_path: Path, jobs: list[str], said: str) -> None:
    """In memory they end with it."""
    (line,) = [line for line in served(tmp_path, jobs).splitlines() if "lost" in line]
    assert "WARNING" in line
    assert f"{said} and now lost, because jobs were only in memory; start the server with --data FILE to keep jobs" in line


@pytest.mark.parametrize(("jobs", "flags"), [([], ()), (["a"], ("--data", "jobs.db"))])
def test_a_server_that_loses_no_job_says_nothing_of_it(tmp_path: Path, jobs: list[str], flags: tuple[str, ...]) -> None:
    """Nothing is left, or a file has it."""
    assert "lost" not in served(tmp_path, jobs, *flags)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o277, 0o777])
def test_a_data_file_is_its_owners_alone_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    """So are its log, the index of that and the lock."""
    modes = json.loads(served(tmp_path, ["a"], "--data", "jobs.db", umask=umask).splitlines()[-1])
    assert modes == dict.fromkeys(("jobs.db", "jobs.db-wal", "jobs.db-shm", "jobs.db.lock"), "0o600")


def full(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of its own process where no file has room for a byte."""
    boot = "import sys; sys.path.insert(0, sys.argv.pop(1)); from faults.disks import Disk; disk = Disk(default=True); disk.full = True; "
    return subprocess.run(
        [sys.executable, "-c", f"{boot}from jobqueue.cli import main; main()", str(Path(__file__).parents[1]), *arguments],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


def test_a_backup_without_room(tmp_path: Path) -> None:
    """A backup onto a full disk says so in one line and leaves nothing behind, not even what an earlier one left that was killed."""

    async def make() -> None:
        await (await filled(tmp_path / "jobs.db", 200)).close()

    asyncio.run(make())
    for name in ("copy.db.part", "copy.db.part-journal", "copy.db.part-wal"):
        (tmp_path / name).write_bytes(b"left")
    done = full("backup", str(tmp_path / "copy.db"), "--data", str(tmp_path / "jobs.db"))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert "copy.db.part: there is no room for it: " in done.stderr
    assert "not an error" not in done.stderr
    assert not list(tmp_path.glob("copy*"))


@pytest.mark.parametrize("blocks", [3, 7, 8, 9])
def test_a_backup_onto_a_real_full_disk(tmp_path: Path, blocks: int) -> None:
    """The same on a disk that ends at any place: in the database, or in the log that is needed to finish it."""
    disk = tmp_path / "disk"
    disk.mkdir()

    async def make() -> None:
        await (await filled(tmp_path / "jobs.db", 1)).close()

    asyncio.run(make())
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={blocks * 4}k", "tmpfs", disk], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("nothing can be mounted here")
    try:
        result = run("backup", str(disk / "copy.db"), "--data", str(tmp_path / "jobs.db"))
        assert (result.exit_code, "there is no room for it" in result.output) == (1, True), result.output
        assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def test_a_backup_wants_to_know_of_what(tmp_path: Path) -> None:
    """The file is found in --data or in JOBQUEUE_DATA; with neither, the command is wrong."""
    result = run("backup", str(tmp_path / "copy.db"))
    assert (result.exit_code, "JOBQUEUE_DATA" in result.output) == (2, True)
    result = run("backup", str(tmp_path / "copy.db"), env={"JOBQUEUE_DATA": str(tmp_path / "missing.db")})
    assert (result.exit_code, "missing.db: no such file" in result.output) == (1, True)


def test_check_says_what_a_file_holds(tmp_path: Path) -> None:
    """A whole file is counted, beside a running server too."""

    async def serve() -> Result:
        backend = await filled(tmp_path / "jobs.db", 3)
        await backend.cancel("j1")
        result = run("check", str(tmp_path / "jobs.db"))
        await backend.close()
        return result

    result = asyncio.run(serve())
    assert result.exit_code == 0
    whole, contents = result.output.splitlines()
    assert whole == f"{tmp_path / 'jobs.db'}: whole; 3 jobs (1 concluded, 2 queued) in 1 queue, 10 bytes in live jobs"
    assert re.fullmatch(CONTENTS.format(jobs="3 jobs"), contents)


def test_check_says_what_is_wrong(tmp_path: Path) -> None:
    """A damaged file, a file of something else and no file: one line, exit code 1."""

    async def make() -> None:
        await (await filled(tmp_path / "jobs.db", 3)).close()

    asyncio.run(make())
    content = (tmp_path / "jobs.db").read_bytes()
    at = content.index(b"12345")
    (tmp_path / "jobs.db").write_bytes(content[:at] + b"9" + content[at + 1 :])
    result = run("check", str(tmp_path / "jobs.db"))
    assert (result.exit_code, "is damaged: the payload of job number" in result.output) == (1, True)
    (tmp_path / "text").write_text("text")
    result = run("check", str(tmp_path / "text"))
    assert (result.exit_code, "is not a database" in result.output) == (1, True)
    result = run("check", str(tmp_path / "missing"))
    assert (result.exit_code, "no such file" in result.output) == (1, True)


def test_a_long_start_is_reported_in_the_log(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Where nobody looks on, each tenth of many jobs is a line; few jobs are not worth one."""
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    caplog.set_level(logging.INFO)
    for total in (1_000_000, 1_000):
        with durable.progress_shown("jobs.db") as progress:
            for done in range(0, total + 1, total // 100):
                progress(done, total)
    assert [record.getMessage() for record in caplog.records] == [f"jobs.db: {n}00000 of 1000000 jobs read" for n in range(1, 10)] + [
        "jobs.db: 1000000 of 1000000 jobs read"
    ]


def test_a_long_start_is_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where someone looks on, a bar grows to the end."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    with durable.progress_shown("jobs.db") as progress:
        for done in range(0, 1_000_001, 50_000):
            progress(done, 1_000_000)
    assert "reading jobs.db" in shown.getvalue()
    assert "1000000/1000000" in shown.getvalue()
