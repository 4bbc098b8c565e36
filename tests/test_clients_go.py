"""The client for Go passes its own tests, by `go test`, against a real server process.

They hold what it sends and reads to that server's OpenAPI document.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.faults.process import Process

FOLDER = Path(__file__).parent.parent / "examples/clients/go"
GO_MIN = (1, 19)
PATIENCE_SECONDS = 280
"""For tests that take five seconds, and a standard library that may have to be compiled first."""


def go() -> str:
    """The program; skips the test where there is none that is new enough."""
    found = shutil.which("go")
    if found is None:
        pytest.skip("there is no program `go` here: install Go 1.19 or newer")
    told = subprocess.run([found, "env", "GOVERSION"], capture_output=True, text=True, check=True).stdout.strip()
    version = re.match(r"go(\d+)\.(\d+)", told)
    if version is None or (int(version[1]), int(version[2])) < GO_MIN:
        pytest.skip(f"go is {told} here: install Go 1.19 or newer")
    return found


def test_it_does_as_its_readme_says_and_as_the_openapi_document_does() -> None:
    """Its fields and types are the document's, and client and worker do their work on a server without losing a job."""
    program = go()
    # Short waits, so that a wait longer than the server's maximum takes a test no time.
    server = Process("--max-wait", "1", "--default-wait", "1")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JOBQUEUE_")}
    settings = {"JOBQUEUE_URL": f"http://127.0.0.1:{server.port}", "GOPROXY": "off", "GOTOOLCHAIN": "local"}
    try:
        ran = subprocess.run(
            [program, "test", "-count", "1", "-timeout", "240s", "./..."],
            cwd=FOLDER,
            env=environment | settings,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
    finally:
        server.close()
    assert ran.returncode == 0, (ran.stdout + ran.stderr)[-5000:]
    assert ran.stdout.startswith("ok ")
