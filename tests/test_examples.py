"""The examples do what they say, as real processes against a real server."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import sysconfig
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
WORDCOUNT = [sys.executable, "examples/wordcount.py"]
PATIENCE_SECONDS = 60
TOKEN = "the-token-of-this-test"
LIBRARY = Path(sysconfig.get_path("stdlib"))


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("JOBQUEUE_")}
    return kept | more


def library(limit: int) -> list[Path]:
    root = Path(sysconfig.get_path("stdlib"))
    return sorted(file for file in root.rglob("*.py") if "site-packages" not in file.parts)[:limit]


@contextlib.contextmanager
def running(command: list[str], env: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def post(url: str, body: dict[str, Any]) -> dict[str, Any]:
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as response:
        return json.loads(response.read())


def test_wordcount_agrees_with_a_count_made_here() -> None:
    """The workers' totals are printed, equal those of the same files counted by the test, and the exit code is 0."""
    files = library(50)
    texts = [file.read_bytes().decode() for file in files]
    ran = subprocess.run(
        [*WORDCOUNT, "--limit", "50"], cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
    )
    assert ran.returncode == 0, ran.stderr
    for what, number in (
        ("lines", sum(text.count("\n") for text in texts)),
        ("words", sum(len(text.split()) for text in texts)),
        ("characters", sum(map(len, texts))),
    ):
        assert f"{what}: workers {number:,}, direct {number:,}\n" in ran.stdout
    assert re.search(r"^50/50 files  [\d,]+ words  [\d,]+ jobs/s$", ran.stdout, re.MULTILINE)
    assert re.search(r"^50 jobs in [\d.]+ s: [\d,]+ jobs/s; the totals agree$", ran.stdout, re.MULTILINE)


def test_ledger_keeps_every_account_in_order_though_workers_are_killed() -> None:
    """Two of four workers are killed, and every account has all of its bookings, one after the other."""
    ran = subprocess.run(
        [sys.executable, "examples/ledger.py", "--accounts", "40", "--bookings", "600"],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE_SECONDS,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.count(" is killed\n") == 2
    assert re.search(r"^600 bookings on 40 accounts, \d+ begun again after a kill: all in order$", ran.stdout, re.MULTILINE)


def test_pipeline_counts_the_library_once_though_a_worker_is_killed() -> None:
    """A schedule begins it, its parts are a group's members, the callback adds them up, and the sum is that of a count made here."""
    ran = subprocess.run(
        [sys.executable, "examples/pipeline.py", "--limit", "120"],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE_SECONDS,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert re.search(r"^the schedule made stocktaking@\S+Z$", ran.stdout, re.MULTILINE)
    assert ran.stdout.count(" is killed\n") == 1
    files = sorted(
        path.relative_to(LIBRARY)
        for path in LIBRARY.rglob("*.py")
        if not {"site-packages", "test", "tests", "idlelib"} & set(path.relative_to(LIBRARY).parts)
    )[:120]
    lines = sum((LIBRARY / file).read_bytes().count(b"\n") for file in files)
    for line in (f"{120:>10,} files", f"{lines:>10,} lines", f"{24:>10,} parts", "the same as without a queue"):
        assert f"{line}\n" in ran.stdout


def test_wordcount_notices_a_worker_that_counts_wrongly() -> None:
    """Against a running server with a token, one wrong result is reported as a difference and the exit code is 1."""
    serve = [sys.executable, "-m", "jobqueue", "serve", "--host", "127.0.0.1", "--port", "0"]
    env = environment(JOBQUEUE_TOKEN=TOKEN)
    with running(serve, env) as server:
        assert server.stdout is not None
        url = server.stdout.readline().split()[-1]
        with running([*WORDCOUNT, "--url", url, "--workers", "0", "--limit", "3"], env) as example:
            for wrong in (0, 0, 1):
                job = post(f"{url}/jobs/dequeue", {"queue": "wordcount", "wait": 50})
                text = job["payload"]["text"]
                counts = {"lines": text.count("\n"), "words": len(text.split()) + wrong, "characters": len(text)}
                verdict = {"lease": job["lease"]["token"], "outcome": "succeeded", "result": counts}
                post(f"{url}/jobs/{job['id']}/conclude", verdict)
            said, _ = example.communicate(timeout=PATIENCE_SECONDS)
    assert example.returncode == 1
    found = re.search(r"^words: workers ([\d,]+), direct ([\d,]+)$", said, re.MULTILINE)
    assert found is not None
    assert int(found[1].replace(",", "")) == int(found[2].replace(",", "")) + 1
    assert "the totals DIFFER" in said


def test_wordcount_says_which_files_it_left_out(tmp_path: Path) -> None:
    """A server that takes only small payloads makes the example skip the larger files, and the totals agree on the rest."""
    files = library(20)
    bound = sorted(file.stat().st_size for file in files)[10]
    ran = subprocess.run(
        [*WORDCOUNT, "--limit", "20", "--workers", "1"],
        cwd=ROOT,
        env=environment(JOBQUEUE_MAX_PAYLOAD_BYTES=str(bound)),
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    found = re.search(r"^skipped (\d+) files: larger than the server takes$", ran.stdout, re.MULTILINE)
    assert found is not None
    left_out = int(found[1])
    assert 9 <= left_out < 20
    assert f"\n{20 - left_out} jobs in " in ran.stdout


def run_example(name: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """An example that starts its own server, with these settings of it."""
    command = [sys.executable, f"examples/{name}.py"]
    env = environment(**settings)
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)


@pytest.mark.parametrize(("name", "checks"), [("classic", 11), ("simplequeue", 8)])
def test_a_dialects_example_holds(name: str, checks: int) -> None:
    """A client of the system itself finds everything as it expects, says each thing it checked, and exits with 0."""
    ran = run_example(name)
    assert ran.returncode == 0, ran.stderr
    *checked, last = ran.stdout.splitlines()
    assert len(checked) == checks
    assert all(line.startswith("ok  ") for line in checked)
    assert last.startswith("everything holds, after ")


@pytest.mark.parametrize(
    ("name", "setting", "said"),
    [
        ("classic", {"JOBQUEUE_TOKEN": TOKEN}, "answered 401"),
        ("classic", {"JOBQUEUE_HISTORY_JOBS": "0"}, "POST /jobs/151/conclude answered 404"),
        ("simplequeue", {"JOBQUEUE_TOKEN": TOKEN}, "answered 401"),
        ("simplequeue", {"JOBQUEUE_HISTORY_JOBS": "0"}, ": found "),
    ],
)
def test_a_dialects_example_notices_what_is_off(name: str, setting: dict[str, str], said: str) -> None:
    """A server that does not do as that system did makes it say what was wrong and exit with 1."""
    ran = run_example(name, **setting)
    assert ran.returncode == 1, ran.stdout
    assert ran.stderr.startswith(f"{name}: ")
    assert said in ran.stderr
