"""What users write runs, and type checkers pass it."""

from __future__ import annotations

import ast
import asyncio
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

import jobqueue
from jobqueue.testing import server_in_thread

from . import usage

ROOT = Path(__file__).parents[2]


def test_what_users_write_runs() -> None:
    """The file that mypy reads does what it says."""
    with server_in_thread() as url, jobqueue.Client(url) as client:
        job_id = usage.produce(client)
        assert len(usage.produce_many(client)) == 3
        assert usage.work(client) == 4
        assert usage.look(client, job_id) == usage.Mail("ann", "hello")
        usage.misuse(client)
    assert asyncio.run(usage.main()) == 6


def test_the_docs_examples_run() -> None:
    """The first page of docs/clients.md does what it says."""
    text = (ROOT / "docs/clients.md").read_text(encoding="utf-8").split("\n## ")[1]
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 4
    with server_in_thread() as url:
        names: dict[str, object] = {"jobqueue": jobqueue}
        for block in blocks:
            # Events have no end; tests/client/test_recipes.py runs those.
            if "async with" in block or "client.events" in block:
                compile(block, "docs/clients.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
                continue
            with jobqueue.Client(url) as client:
                exec(block.replace("http://127.0.0.1:8080", url), names | {"client": client})
                assert block.count("enqueue") == 0 or list(client.all_jobs())


def test_the_package_tells_type_checkers_that_it_is_typed() -> None:
    """py.typed lies beside the code."""
    assert (Path(jobqueue.__file__).parent / "py.typed").is_file()


@pytest.mark.skipif(importlib.util.find_spec("mypy") is None, reason="needs mypy, which the extra `dev` installs")
def test_type_checkers_find_misuse(tmp_path: Path) -> None:
    """In strict mode mypy tells a wrong outcome, a listing's payload, what may be None, what is not awaited; and no more."""
    wrong = tmp_path / "wrong.py"
    wrong.write_text(
        "from jobqueue import AsyncClient, Client\n"
        "def f(client: Client) -> None:\n"
        "    client.conclude('a', 'b', 'cancelled')\n"
        "    client.jobs().jobs[0].payload\n"
        "    client.dequeue().id\n"
        "    client.enqueue(1, wiat=3)\n"
        "    done: int = client.enqueue(1)\n"
        "    fine: int = client.enqueue(1, wait=3.5)\n"
        "async def g(client: AsyncClient) -> None:\n"
        "    client.job('a').status\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path), "--config-file", "", str(wrong)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    lines = {int(line.split(":")[1]) for line in done.stdout.splitlines() if ": error:" in line}
    assert lines == {3, 4, 5, 6, 7, 10}, done.stdout + done.stderr
