"""The house rules (docs/architecture.md), so that they stay true: who may import whom, sizes, what the repository's top level holds.

Each rule is a function from a file to what is wrong with it, and is shown to find something in a bad example before it is trusted to
find nothing in the code.
"""

from __future__ import annotations

import ast
import fnmatch
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]

FLOORS: tuple[frozenset[str], ...] = (
    frozenset({"__init__", "model", "errors", "limits", "clock", "ids", "streams"}),
    frozenset({"engine"}),
    frozenset({"backend"}),
    frozenset({"web", "client"}),
    frozenset(
        {
            "config",
            "settings",
            "logs",
            "traces",
            "units",
            "tokens",
            "exposure",
            "durable",
            "server",
            "cli",
            "commands",
            "__main__",
            "testing",
            "pytest_plugin",
        }
    ),
)
"""What may import only from floors below and itself. On the lowest and the highest the files are one party, elsewhere each folder is."""

SHARED_FLOORS = (0, 4)
FRONT_DOOR = "jobqueue/__init__.py"
SHOWN_AT_THE_DOOR = ("client", "testing")
"""What the package offers by its own name. It is loaded when asked for, so the door holds nothing down."""

IMPURE = frozenset({"asyncio", "time", "datetime", "socket", "ssl", "select", "selectors", "signal", "subprocess", "threading", "sqlite3"})
TOP_LEVEL = frozenset(
    {
        ".git",
        ".gitignore",
        ".dockerignore",
        ".ci",
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "LICENSE",
        "Dockerfile",
        "pyproject.toml",
    }
    | {"jobqueue", "tests", "docs", "examples", "bench"}
)
TABLES = frozenset({"native_routes"})
"""Functions that are one literal table, an entry an operation: cutting it in two would not make it easier to read."""

FILE_LINES_MAX = 500
TEST_FILE_LINES_MAX = 600
FUNCTION_LINES_MAX = 75
SLEEP_SECONDS_MAX = 0.05
UNFINISHED = ("TO" + "DO", "FIX" + "ME", "XX" + "X", "NotImplemented" + "Error")


class File(NamedTuple):
    """A Python file, by its path from the repository's top."""

    path: str
    text: str

    @property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @property
    def part(self) -> str:
        """The file or folder of the package that it is or lies in."""
        return self.path.split("/")[1].removesuffix(".py")

    def imports(self) -> Iterator[str]:
        """Every module imported anywhere in it, dotted; `from a import b` as a.b."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                package = self.path.removesuffix(".py").split("/")[: -node.level] if node.level else []
                base = ".".join(package + (node.module.split(".") if node.module else []))
                yield from (f"{base}.{alias.name}" for alias in node.names)


def floor_of(part: str) -> int | None:
    return next((floor for floor, parts in enumerate(FLOORS) if part in parts), None)


def looks_up_or_sideways(file: File) -> Iterator[str]:
    own = floor_of(file.part)
    if own is None:
        yield f"{file.part} stands on no floor"
        return
    for name in file.imports():
        top, _, rest = name.partition(".")
        if top != "jobqueue":
            continue
        part = rest.partition(".")[0]
        if file.path == FRONT_DOOR and part in SHOWN_AT_THE_DOOR:
            continue
        floor = floor_of(part)
        if floor is None:
            floor, part = 0, "__init__"
        if floor > own or (floor == own and part != file.part and own not in SHARED_FLOORS):
            yield f"imports {name}"


def brings_in_what_is_not_its_business(file: File) -> Iterator[str]:
    own = floor_of(file.part)
    modules = {name.split(".")[0] for name in file.imports()}
    if file.part not in ("web", "client", "server"):
        yield from (f"imports {name}" for name in modules if name.startswith("aiohttp"))
    if own in (0, 1):
        foreign = modules - sys.stdlib_module_names - {"jobqueue", "msgspec"}
        impure = modules & IMPURE - ({"asyncio", "time"} if file.part == "clock" else set())
        yield from (f"imports {name}" for name in foreign | impure)
    if own == 1 and any(name.startswith("jobqueue.clock") for name in file.imports()):
        yield "reads a clock"


def functions(file: File) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(file.tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def is_too_long(file: File) -> Iterator[str]:
    lines = file.text.count("\n")
    if lines > (TEST_FILE_LINES_MAX if file.path.startswith("tests/") else FILE_LINES_MAX):
        yield f"has {lines} lines"
    for function in functions(file):
        assert function.end_lineno is not None
        if (length := function.end_lineno - function.lineno + 1) > FUNCTION_LINES_MAX and function.name not in TABLES:
            yield f"{function.name} has {length} lines"


def is_unfinished(file: File) -> Iterator[str]:
    return (f"says {word}" for word in UNFINISHED if word in file.text)


def has_a_test_without_a_docstring(file: File) -> Iterator[str]:
    return (f"{test.name} has no docstring" for test in functions(file) if test.name.startswith("test_") and not ast.get_docstring(test))


def sleeps(file: File) -> Iterator[str]:
    if file.path.startswith("tests/faults/"):
        return
    for node in ast.walk(file.tree):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name == "sleep":
            seconds = node.args[0].value if isinstance(node.args[0], ast.Constant) else None
            if not isinstance(seconds, int | float) or seconds > SLEEP_SECONDS_MAX:
                yield f"line {node.lineno} sleeps {ast.unparse(node.args[0])} s"


Rule = Callable[[File], Iterator[str]]

RULES: dict[Rule, tuple[str, ...]] = {
    looks_up_or_sideways: ("jobqueue",),
    brings_in_what_is_not_its_business: ("jobqueue",),
    is_too_long: ("jobqueue", "tests", "examples", "bench"),
    is_unfinished: ("jobqueue", "tests", "examples", "bench"),
    has_a_test_without_a_docstring: ("tests",),
    sleeps: ("tests",),
}

BAD: list[tuple[Rule, str, str]] = [
    (looks_up_or_sideways, "jobqueue/model.py", "import jobqueue.engine.ring"),
    (looks_up_or_sideways, "jobqueue/engine/ring.py", "from jobqueue.backend import local"),
    (looks_up_or_sideways, "jobqueue/engine/ring.py", "from jobqueue import backend"),
    (looks_up_or_sideways, "jobqueue/engine/ring.py", "from ..backend.local import LocalBackend"),
    (looks_up_or_sideways, "jobqueue/api/app.py", "from jobqueue.process.config import Settings"),
    (looks_up_or_sideways, "jobqueue/api/app.py", "def f():\n    from jobqueue.client import Client"),
    (looks_up_or_sideways, "jobqueue/worker/worker.py", "import jobqueue.api.native.wire"),
    (looks_up_or_sideways, "jobqueue/utilities.py", ""),
    (looks_up_or_sideways, "jobqueue/__init__.py", "from jobqueue.api.app import App"),
    (looks_up_or_sideways, "jobqueue/model.py", "from jobqueue.client.types import Job"),
    (brings_in_what_is_not_its_business, "jobqueue/backend/local.py", "import aiohttp"),
    (brings_in_what_is_not_its_business, "jobqueue/backend/local.py", "from aiohttp.web import Response"),
    (brings_in_what_is_not_its_business, "jobqueue/engine/ring.py", "import asyncio"),
    (brings_in_what_is_not_its_business, "jobqueue/engine/ring.py", "from time import monotonic"),
    (brings_in_what_is_not_its_business, "jobqueue/engine/ring.py", "from datetime import datetime"),
    (brings_in_what_is_not_its_business, "jobqueue/engine/ring.py", "from jobqueue.clock import SystemClock"),
    (brings_in_what_is_not_its_business, "jobqueue/ids.py", "import time"),
    (brings_in_what_is_not_its_business, "jobqueue/clock.py", "import socket"),
    (brings_in_what_is_not_its_business, "jobqueue/model.py", "import pydantic"),
    (is_too_long, "jobqueue/engine/ring.py", "\n" * 501),
    (is_too_long, "tests/test_a.py", "\n" * 601),
    (is_too_long, "jobqueue/engine/ring.py", "async def f():\n" + "    pass\n" * 75),
    *((is_unfinished, "jobqueue/engine/ring.py", f"# {word}") for word in UNFINISHED),
    (has_a_test_without_a_docstring, "tests/test_a.py", "class TestA:\n    async def test_b(self):\n        assert True"),
    (sleeps, "tests/test_a.py", "time.sleep(0.06)"),
    (sleeps, "tests/test_a.py", "await_ = asyncio.sleep(delay)"),
    (sleeps, "tests/test_a.py", "sleep(1)"),
]

GOOD: list[tuple[Rule, str, str]] = [
    (
        looks_up_or_sideways,
        "jobqueue/engine/ring.py",
        "from jobqueue.engine.lane import Lane\nfrom . import lane\nfrom jobqueue import model, __version__",
    ),
    (looks_up_or_sideways, "jobqueue/__init__.py", "from jobqueue.client.sync_client import Client"),
    (looks_up_or_sideways, "jobqueue/cli.py", "from jobqueue.process.config import load\nfrom jobqueue.api.app import build_app"),
    (brings_in_what_is_not_its_business, "jobqueue/clock.py", "import asyncio, time"),
    (brings_in_what_is_not_its_business, "jobqueue/process/server.py", "import aiohttp, signal"),
    (sleeps, "tests/test_a.py", "asyncio.sleep(0)\ntime.sleep(0.05)"),
    (sleeps, "tests/faults/test_a.py", "time.sleep(5)"),
]


@pytest.mark.parametrize(("rule", "path", "text"), BAD)
def test_a_rule_finds_what_breaks_it(rule: Rule, path: str, text: str) -> None:
    """Each rule finds the fault in an example that has it."""
    assert list(rule(File(path, text)))


@pytest.mark.parametrize(("rule", "path", "text"), GOOD)
def test_a_rule_leaves_alone_what_keeps_it(rule: Rule, path: str, text: str) -> None:
    """No rule forbids what is meant to be allowed."""
    assert not list(rule(File(path, text)))


def files(folder: str) -> list[File]:
    return [File(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")) for path in sorted((ROOT / folder).rglob("*.py"))]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_code_keeps_the_rule(rule: Rule) -> None:
    """No file of the repository breaks the rule."""
    looked_at = [file for folder in RULES[rule] for file in files(folder)]
    assert len(looked_at) > 20
    assert [f"{file.path} {fault}" for file in looked_at for fault in rule(file)] == []


def test_one_file_knows_sqlite() -> None:
    """SQLite is one file's business, so that another journal can take its place."""
    knowing = [file.path for file in files("jobqueue") if {"sqlite3", "apsw"} & {name.split(".")[0] for name in file.imports()}]
    assert len(knowing) <= 1


def test_the_top_level_holds_only_what_belongs_there() -> None:
    """Whatever git does not ignore at the top level is part of the house's plan."""
    ignored = [line.rstrip("/") for line in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines() if line and line[0] != "#"]
    here = {path.name for path in ROOT.iterdir() if not any(fnmatch.fnmatch(path.name, pattern) for pattern in ignored)}
    assert {"jobqueue", "tests", "pyproject.toml"} <= here
    assert here <= TOP_LEVEL
