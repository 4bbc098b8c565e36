"""The client for Node passes its own tests, by Node's test runner, against a real server process.

They hold what it sends and reads to that server's OpenAPI document.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.process import Process

FOLDER = Path(__file__).parent.parent / "examples/clients/node"
NODE_MIN = (20, 3)
PATIENCE_SECONDS = 240
"""For tests that take five seconds on a machine that has nothing else to do."""


def node() -> str:
    """The program; skips the test where there is none that is new enough."""
    found = shutil.which("node")
    if found is None:
        pytest.skip("there is no program `node` here: install Node 20.3 or newer")
    told = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if tuple(int(part) for part in told.removeprefix("v").split(".")[:2]) < NODE_MIN:
        pytest.skip(f"node is {told} here: install Node 20.3 or newer")
    return found


@pytest.fixture
def server() -> Iterator[Process]:
    # Short waits, so that a wait longer than the server's maximum takes a test no time.
    process = Process("--max-wait", "1", "--default-wait", "1")
    try:
        yield process
    finally:
        process.close()


def run_tests(file: str, server: Process) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JOBQUEUE_")}
    environment["JOBQUEUE_URL"] = f"http://127.0.0.1:{server.port}"
    ran = subprocess.run(
        [node(), "--test", f"test/{file}.test.js"],
        cwd=FOLDER,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert ran.returncode == 0, (ran.stdout + ran.stderr)[-5000:]
    assert "\n# skipped 0\n" in ran.stdout.replace("ℹ", "#")


def test_it_sends_and_reads_what_the_openapi_document_says(server: Process) -> None:
    """Every path, method, field and type that it uses is in the document that the server answers."""
    run_tests("openapi", server)


def test_the_client_does_as_its_readme_says(server: Process) -> None:
    """It enqueues, waits for results, repeats what was lost, and throws errors with the API's code and field."""
    run_tests("client", server)


def test_the_worker_does_as_its_readme_says(server: Process) -> None:
    """It takes, extends and concludes jobs, several at once, and stops without losing one."""
    run_tests("worker", server)
