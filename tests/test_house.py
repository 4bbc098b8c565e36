"""The house rules (docs/architecture.md), so that they stay true: who may import whom, sizes, what the repository's top level holds.

Each rule is a function from a file to what is wrong with it, and is shown to find something in a bad example before it is trusted to
find nothing in the code.
"""

from __future__ import annotations

import ast
import fnmatch
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]

WORDS = ""
KNOWS: dict[str, str] = {
    WORDS: "",
    "engine": "",
    "backend": "engine",
    "backend.sqlite": "engine backend",
    "backend.store": "engine backend",
    "http": "",
    "client": "",
    "worker": "backend client",
    "api.access.grants": "",
    "api": "engine backend http api.access.grants",
    "api.access": "backend http api.access.grants api",
    "api.native": "engine backend http api.access.grants api",
    "api.observe": "backend http api",
    "api.dashboard": "http api",
    "api.dialects": "http api api.native",
    "api.dialects.sqs": "engine backend http api api.native api.dialects",
    "api.describe": "http api api.native",
    "api.mounts": "api api.native api.observe api.dashboard api.dialects api.dialects.sqs api.describe",
    "api.app": "backend http api api.access.grants api.access api.native api.observe api.mounts",
    "process": "engine backend backend.sqlite backend.store http worker api.access.grants api api.access api.observe api.mounts api.app",
    "commands": "client worker process api.access.grants",
    "programs": "backend backend.sqlite worker process commands",
}
"""The rooms, from the ground up, and which others each may import from; every room may use the words. A room is a folder, or a file that
stands apart from its folder's others. docs/architecture.md draws them."""

WORD_FILES = frozenset(
    {
        "",
        "model",
        "policy",
        "schedule",
        "past",
        "group",
        "joblog",
        "about",
        "unique",
        "errors",
        "limits",
        "clock",
        "ids",
        "partition",
        "histogram",
        "streams",
        "logsink",
        "resuming",
        "reason",
    }
)
PROGRAM_FILES = frozenset({"cli", "__main__", "testing", "pytest_plugin"})
MAY_IMPORT_AIOHTTP = ("http",)

CIRCLES_KEPT: tuple[frozenset[str], ...] = ()
"""Files that may name each other, each with its reason at hand."""

FRONT_DOOR = "jobqueue/__init__.py"
SHOWN_AT_THE_DOOR = ("client", "worker", "testing")
"""What the package offers by its own name. It is loaded when asked for, so the door holds nothing down."""

IMPURE = frozenset({"asyncio", "time", "datetime", "socket", "ssl", "select", "selectors", "signal", "subprocess", "threading", "sqlite3"})
ALLOWED = {
    "clock": frozenset({"asyncio", "time"}),
    "logsink": frozenset({"threading", "select"}),
    "engine.calendar": frozenset({"datetime", "cronsim"}),
}
"""What a word, or a part of the engine, may do all the same: these are about it."""

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


@cache
def nodes_of(text: str) -> tuple[ast.AST, ...]:
    """The nodes of a text that rules look at. Each text is parsed once for all rules, since that is what takes long about them."""
    wanted = ast.Import | ast.ImportFrom | ast.FunctionDef | ast.AsyncFunctionDef | ast.Call
    return tuple(node for node in ast.walk(ast.parse(text)) if isinstance(node, wanted))


class File(NamedTuple):
    """A Python file, by its path from the repository's top."""

    path: str
    text: str

    @property
    def nodes(self) -> Sequence[ast.AST]:
        """What the rules look at in it."""
        return nodes_of(self.text)

    @property
    def module(self) -> str:
        """Its module's name, without the package's: "" for the front door."""
        return ".".join(self.path.removesuffix(".py").removesuffix("/__init__").split("/")[1:])

    def imports(self) -> Iterator[str]:
        """Every module imported anywhere in it, dotted; `from a import b` as a.b."""
        for node in self.nodes:
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                package = self.path.removesuffix(".py").split("/")[: -node.level] if node.level else []
                base = ".".join(package + (node.module.split(".") if node.module else []))
                yield from (f"{base}.{alias.name}" for alias in node.names)


def room_of(module: str) -> str | None:
    """The room of a module, named without the package: the longest name of a room that it begins with."""
    if module in WORD_FILES:
        return WORDS
    if module in PROGRAM_FILES:
        return "programs"
    parts = module.split(".")
    names = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((name for name in names if name in KNOWS), None)


def imported(file: File) -> Iterator[tuple[str, str]]:
    """What a file imports of the package, with the rooms. A name that is no module's is the front door's own."""
    for name in file.imports():
        top, _, rest = name.partition(".")
        if top == "jobqueue":
            yield name, room_of(rest) or WORDS


def enters_a_room_it_may_not_know(file: File) -> Iterator[str]:
    own = room_of(file.module)
    if own is None:
        yield f"{file.module} is in no room"
        return
    for name, room in imported(file):
        shown = file.path == FRONT_DOOR and name.split(".")[1] in SHOWN_AT_THE_DOOR
        if room not in (own, WORDS, *KNOWS[own].split()) and not shown:
            yield f"imports {name}"


def brings_in_what_is_not_its_business(file: File) -> Iterator[str]:
    room = room_of(file.module)
    modules = {name.split(".")[0] for name in file.imports()}
    if room not in MAY_IMPORT_AIOHTTP:
        yield from (f"imports {name}" for name in modules if name.startswith("aiohttp"))
    if room in (WORDS, "engine"):
        foreign = modules - sys.stdlib_module_names - {"jobqueue", "msgspec"}
        yield from (f"imports {name}" for name in (foreign | modules & IMPURE) - ALLOWED.get(file.module, frozenset()))
    if room == "engine" and any(name.startswith("jobqueue.clock") for name in file.imports()):
        yield "reads a clock"


def circles(modules: Mapping[str, Iterable[str]]) -> list[frozenset[str]]:
    """Groups of modules that import each other, directly or through others, out of what each imports."""
    reached: dict[str, set[str]] = {}
    for start in modules:
        seen: set[str] = set()
        ahead = list(modules[start])
        while ahead:
            name = ahead.pop()
            if name not in seen:
                seen.add(name)
                ahead += modules.get(name, ())
        reached[start] = seen
    groups = {
        frozenset({start} | {name for name in seen if start in reached.get(name, ())}) for start, seen in reached.items() if start in seen
    }
    return sorted(groups, key=sorted)


def import_graph(all_files: Sequence[File]) -> dict[str, set[str]]:
    """Which of the package's files each file imports, those for type checkers only and those inside functions included."""
    known = {file.module for file in all_files}
    graph: dict[str, set[str]] = {}
    for file in all_files:
        names = (name.removeprefix("jobqueue.") for name in file.imports() if name.startswith("jobqueue."))
        found = {name if name in known else name.rpartition(".")[0] for name in names}
        graph[file.module] = (found & known) - {file.module, ""}
    return graph


def functions(file: File) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in file.nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


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
    for node in file.nodes:
        if not isinstance(node, ast.Call) or not node.args:
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name == "sleep":
            seconds = node.args[0].value if isinstance(node.args[0], ast.Constant) else None
            if not isinstance(seconds, int | float) or seconds > SLEEP_SECONDS_MAX:
                yield f"line {node.lineno} sleeps {ast.unparse(node.args[0])} s"


NAMES_A_DOCUMENT = re.compile(r"(?<![\w./:-])((?:[\w.-]+/)*[\w-]+\.md)\b|\b([A-Z]{4,})(?= (?:section|row|rule)s? \d)")


def refers_to_what_is_not_here(file: File) -> Iterator[str]:
    """Documents are named by their path from docs/, or from a folder that the file is in."""
    for name, title in NAMES_A_DOCUMENT.findall(file.text):
        if title or not any((top / name).exists() for top in (ROOT / "docs", *(ROOT / file.path).parents)):
            yield f"names {title or name}, which is not in the repository"


Rule = Callable[[File], Iterator[str]]

RULES: dict[Rule, tuple[str, ...]] = {
    enters_a_room_it_may_not_know: ("jobqueue",),
    brings_in_what_is_not_its_business: ("jobqueue",),
    is_too_long: ("jobqueue", "tests", "examples", "bench"),
    is_unfinished: ("jobqueue", "tests", "examples", "bench"),
    has_a_test_without_a_docstring: ("tests",),
    sleeps: ("tests",),
    refers_to_what_is_not_here: ("jobqueue", "tests", "examples", "bench"),
}

BAD: list[tuple[Rule, str, str]] = [
    (enters_a_room_it_may_not_know, "jobqueue/model.py", "import jobqueue.engine.ring"),
    (enters_a_room_it_may_not_know, "jobqueue/engine/ring.py", "from jobqueue.backend import local"),
    (enters_a_room_it_may_not_know, "jobqueue/engine/ring.py", "from jobqueue import backend"),
    (enters_a_room_it_may_not_know, "jobqueue/engine/ring.py", "from ..backend.local import LocalBackend"),
    (enters_a_room_it_may_not_know, "jobqueue/api/app.py", "from jobqueue.process.config import Settings"),
    (enters_a_room_it_may_not_know, "jobqueue/api/app.py", "def f():\n    from jobqueue.client import Client"),
    (enters_a_room_it_may_not_know, "jobqueue/worker/worker.py", "import jobqueue.api.native.wire"),
    (enters_a_room_it_may_not_know, "jobqueue/http/body.py", "from jobqueue.api.problems import problem"),
    (enters_a_room_it_may_not_know, "jobqueue/http/serving.py", "from jobqueue.backend.base import Backend"),
    (enters_a_room_it_may_not_know, "jobqueue/client/calls.py", "from jobqueue.worker.worker import Worker"),
    (enters_a_room_it_may_not_know, "jobqueue/client/calls.py", "from jobqueue.engine.checks import number"),
    (enters_a_room_it_may_not_know, "jobqueue/api/routes.py", "if TYPE_CHECKING:\n    from jobqueue.api.app import App"),
    (enters_a_room_it_may_not_know, "jobqueue/api/native/native.py", "from jobqueue.api.dialects.classic import CLASSIC"),
    (enters_a_room_it_may_not_know, "jobqueue/api/dialects/classic.py", "from jobqueue.backend.local import LocalBackend"),
    (enters_a_room_it_may_not_know, "jobqueue/backend/local.py", "from jobqueue.backend.sqlite.file import Store"),
    (enters_a_room_it_may_not_know, "jobqueue/commands/jobs.py", "from jobqueue.api.native import views"),
    (enters_a_room_it_may_not_know, "jobqueue/utilities.py", ""),
    (enters_a_room_it_may_not_know, "jobqueue/__init__.py", "from jobqueue.api.app import App"),
    (enters_a_room_it_may_not_know, "jobqueue/model.py", "from jobqueue.client.types import Job"),
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
    (refers_to_what_is_not_here, "tests/test_a.py", '"""As the plan says (docs/plan-of-old{})."""'.format(".md")),
    (refers_to_what_is_not_here, "tests/test_a.py", '"""Fast enough (PLAN {} 7)."""'.format("section")),
]

GOOD: list[tuple[Rule, str, str]] = [
    (
        enters_a_room_it_may_not_know,
        "jobqueue/engine/ring.py",
        "from jobqueue.engine.lane import Lane\nfrom . import lane\nfrom jobqueue import model, __version__",
    ),
    (enters_a_room_it_may_not_know, "jobqueue/__init__.py", "from jobqueue.client.sync_client import Client"),
    (enters_a_room_it_may_not_know, "jobqueue/cli.py", "from jobqueue.process.config import load\nfrom jobqueue.commands.lazy import Lazy"),
    (brings_in_what_is_not_its_business, "jobqueue/clock.py", "import asyncio, time"),
    (brings_in_what_is_not_its_business, "jobqueue/process/server.py", "import signal"),
    (sleeps, "tests/test_a.py", "asyncio.sleep(0)\ntime.sleep(0.05)"),
    (sleeps, "tests/faults/test_a.py", "time.sleep(5)"),
    (refers_to_what_is_not_here, "tests/test_a.py", "# docs/semantics.md, semantics.md and README.md; https://example.org/page.md"),
]


@pytest.fixture(scope="module", autouse=True)
def trees() -> Iterator[None]:
    """What was parsed is let go again: a collector would walk it in every test that this process runs later."""
    yield
    nodes_of.cache_clear()


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


def test_pages_refer_to_what_is_here() -> None:
    """Nor does a page name a document that is not in the repository."""
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("bench/*.md")]
    found = [File(page.relative_to(ROOT).as_posix(), page.read_text(encoding="utf-8")) for page in pages]
    assert [f"{page.path} {fault}" for page in found for fault in refers_to_what_is_not_here(page)] == []


def test_rooms_know_only_those_below_them() -> None:
    """No two rooms may know each other, not even through others: the plan itself runs downhill."""
    rooms = list(KNOWS)
    assert [(room, known) for room in rooms for known in KNOWS[room].split() if rooms.index(known) >= rooms.index(room)] == []


def test_every_room_is_there() -> None:
    """The plan names no room that the package does not have."""
    built = {room_of(file.module) for file in files("jobqueue")}
    assert built == set(KNOWS)


def test_circles_are_found() -> None:
    """Files that import each other are found, through a third file and for type checkers only too."""
    texts = {
        "a": "from jobqueue import b",
        "b": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from jobqueue.c import C",
        "c": "def f():\n    import jobqueue.a",
        "d": "from jobqueue.a import A",
    }
    graph = import_graph([File(f"jobqueue/{name}.py", text) for name, text in texts.items()])
    assert circles(graph) == [frozenset("abc")]


def test_no_files_import_each_other() -> None:
    """There is no circle of imports but those that are defended here."""
    found = circles(import_graph([file for file in files("jobqueue") if file.module]))
    assert [sorted(circle) for circle in found if circle not in CIRCLES_KEPT] == []


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
