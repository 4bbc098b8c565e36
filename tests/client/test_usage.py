"""What users write runs, and type checkers pass it."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import importlib.util
import re
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import jobqueue
from jobqueue.testing import server_in_thread

from . import usage

ROOT = Path(__file__).parents[2]

PREAMBLE = """import jobqueue
import jobqueue.testing
client: jobqueue.Client
worker: jobqueue.Worker
"""
"""What the pages' text has brought about before a block."""


def test_what_users_write_runs() -> None:
    """The file that mypy reads does what it says."""
    with server_in_thread() as url, jobqueue.Client(url) as client:
        job_id = usage.produce(client)
        assert len(usage.produce_many(client)) == 3
        assert usage.work(client) == 4
        assert usage.look(client, job_id) == usage.Mail("ann", "hello")
        usage.misuse(client)
    assert asyncio.run(usage.main()) == 6


@contextlib.contextmanager
def worked_off(url: str) -> Iterator[None]:
    """Have somebody conclude every job of the queue default, for who waits for that."""
    done = threading.Event()

    def work() -> None:
        with jobqueue.Client(url) as client:
            while not done.is_set():
                for job in client.dequeue_batch(limit=9, wait=0.05):
                    client.conclude(job.id, job.lease.token, "succeeded")

    with ThreadPoolExecutor() as pool:
        working = pool.submit(work)
        try:
            yield
        finally:
            done.set()
            working.result()


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
            with jobqueue.Client(url) as client, worked_off(url) if "client.group(" in block else contextlib.nullcontext():
                exec(block.replace("http://127.0.0.1:8080", url), names | {"client": client})
                assert block.count("enqueue") == 0 or list(client.all_jobs())


def documented() -> Iterator[tuple[str, str]]:
    """Each Python block of the README and of docs/, as a module: its name, by page and line, and its text.

    Before each stands PREAMBLE, of what the pages take as given. A block that awaits outside of a function becomes one's body. No block
    goes on where another ended.
    """
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        text = page.read_text(encoding="utf-8")
        for found in re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            block = found[1]
            try:
                compile(block, page.name, "exec", dont_inherit=True)
            except SyntaxError:
                block = "async def block() -> None:\n" + textwrap.indent(block, "    ")
            name = page.relative_to(ROOT).with_suffix("").as_posix().replace("/", "_").replace("-", "_")
            yield f"{name}_{text.count(chr(10), 0, found.start()) + 1}", PREAMBLE + block


needs_mypy = pytest.mark.skipif(importlib.util.find_spec("mypy") is None, reason="needs mypy, which the extra `dev` installs")


@needs_mypy
def test_type_checkers_pass_what_the_docs_show(tmp_path: Path) -> None:
    """Every Python block of the README and of docs/ passes mypy --strict. boto3 and celery have no types of their own."""
    blocks = dict(documented())
    sqs = ",".join(name for name in blocks if name.startswith("docs_sqs_"))
    settings = tmp_path / "mypy.ini"
    settings.write_text(
        "[mypy]\nstrict = True\n[mypy-boto3,celery]\nfollow_imports = skip\nignore_missing_imports = True\n"
        f"[mypy-{sqs}]\ndisallow_untyped_decorators = False\n"
    )
    assert {name.rpartition("_")[0] for name in blocks} >= {"README", "docs_clients", "docs_coming_from", "docs_dialects", "docs_sqs"}
    for name, text in blocks.items():
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--cache-dir", str(tmp_path), "--config-file", str(settings), *map(str, tmp_path.glob("*.py"))],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_package_tells_type_checkers_that_it_is_typed() -> None:
    """py.typed lies beside the code."""
    assert (Path(jobqueue.__file__).parent / "py.typed").is_file()


@needs_mypy
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
