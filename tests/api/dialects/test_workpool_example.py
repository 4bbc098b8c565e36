"""examples/workpool.py does what it says, as real processes: a server with its pool inside, and a client of the dialect."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
EXAMPLE = [sys.executable, "examples/workpool.py"]
PATIENCE_SECONDS = 60


def environment() -> dict[str, str]:
    """This process's, without settings of a server."""
    return {name: value for name, value in os.environ.items() if not name.startswith("JOBQUEUE_")}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The example, to its end."""
    return subprocess.run(
        [*EXAMPLE, *arguments], cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
    )


@contextlib.contextmanager
def running(*command: str) -> Iterator[subprocess.Popen[str]]:
    """A process for as long as the context lasts."""
    with subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def post(url: str, body: dict[str, Any]) -> Any:
    """What a native call answers."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:
        return json.load(answer)


def test_the_pool_agrees_with_hashlib() -> None:
    """Every file of the package is a job of the server's own pool, every checksum is right, and the exit code is 0."""
    files = [path for path in (ROOT / "jobqueue").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    ran = run()
    assert ran.returncode == 0, ran.stderr
    assert len(files) > 50
    assert re.search(rf"^{len(files)} files in [\d.]+ s: {len(files)} agree, 0 differ, 0 failed$", ran.stdout, re.MULTILINE)


def test_any_folder_will_do(tmp_path: Path) -> None:
    """Names in any script, with spaces and escapes, empty files, folders within folders; a folder without files will not."""
    (tmp_path / "a b" / "größe").mkdir(parents=True)
    for name, content in (("a b/größe/縮小.bin", b"\x00" * 100_000), ("empty", b""), ("%2F?#.txt", b"text")):
        (tmp_path / name).write_bytes(content)
    ran = run(str(tmp_path), "--pool-size", "1")
    assert ran.returncode == 0, ran.stderr
    assert "3 agree, 0 differ, 0 failed" in ran.stdout
    nothing = run(str(tmp_path / "none"))
    assert (nothing.returncode, nothing.stdout) == (1, "")
    assert "has no files" in nothing.stderr


def test_a_wrong_checksum_is_noticed(tmp_path: Path) -> None:
    """One that differs and one job that failed are told by the file's name, and the exit code is 1."""
    for name in ("a", "b", "c"):
        (tmp_path / name).write_text(name)
    with running(sys.executable, "-m", "jobqueue", "serve", "--host", "127.0.0.1", "--port", "0") as server:
        assert server.stdout is not None
        url = server.stdout.readline().split()[-1]
        with running(*EXAMPLE, str(tmp_path), "--url", url) as example:
            for verdict in (
                {"outcome": "succeeded", "result": hashlib.sha256(b"a").hexdigest()},
                {"outcome": "succeeded", "result": hashlib.sha256(b"a").hexdigest()},
                {"outcome": "failed", "error": "no such disk", "retry": False},
            ):
                job = post(f"{url}/jobs/dequeue", {"wait": 50})
                assert job["type"] == "checksum"
                post(f"{url}/jobs/{job['id']}/conclude", {"lease": job["lease"]["token"], **verdict})
            said, _ = example.communicate(timeout=PATIENCE_SECONDS)
    assert example.returncode == 1
    assert f"{tmp_path}/b: the pool says {hashlib.sha256(b'a').hexdigest()}\n" in said
    assert f'{tmp_path}/c: failed: "no such disk"\n' in said
    assert "1 agree, 1 differ, 1 failed" in said
