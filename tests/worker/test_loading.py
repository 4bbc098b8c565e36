from __future__ import annotations

import functools
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from numbers import Number
from pathlib import Path
from typing import Annotated, Any

import pytest

from jobqueue.worker import handlers as handlers_module
from jobqueue.worker.handlers import HandlersError, Registry, load_handlers
from jobqueue.worker.running import Leased, RunningJob
from jobqueue.worker.worker import Worker

WORKER = """
from jobqueue.worker.worker import Worker

worker = Worker(queues=["mail", "post"])
other = worker.handlers

class nested:
    second = Worker()

@worker.handler("email", timeout=5)
async def send(job): ...

@nested.second.handler("letter")
def post(job): ...
"""
PLAIN = """
from jobqueue.worker.handlers import handler

@handler("resize")
def resize(job): ...
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Writes a module into a folder one stands in; the process-wide registry is empty before and after."""
    empty = Registry()
    monkeypatch.setattr(handlers_module, "HANDLERS", empty)
    monkeypatch.setattr(handlers_module, "handler", empty.handler)
    monkeypatch.chdir(tmp_path)
    before, path = set(sys.modules), list(sys.path)

    def write(text: str, name: str = "somebodys_handlers") -> str:
        (tmp_path / f"{name}.py").write_text(text)
        return name

    yield write
    sys.path[:] = path
    for name in set(sys.modules) - before:
        if name.startswith("somebodys"):
            del sys.modules[name]


def test_a_modules_worker_brings_its_handlers_and_queues(module: Any) -> None:
    """A module that can run as a worker of its own can be a pool too."""
    found = load_handlers(module(WORKER))
    assert (found.names, found.queues) == (["email"], ("mail", "post"))
    assert Worker(handlers=found).queues == ("mail", "post")
    assert Worker(handlers=found, queues=["own"]).queues == ("own",)


@pytest.mark.parametrize(("attribute", "names"), [("other", ["email"]), ("nested.second", ["letter"])])
def test_an_attribute_names_a_worker_or_a_registry(module: Any, attribute: str, names: list[str]) -> None:
    """Dotted, too."""
    assert load_handlers(f"{module(WORKER)}:{attribute}").names == names


def test_a_module_may_register_plain_functions(module: Any) -> None:
    """Without a worker, what `jobqueue.handler` decorated while the module was imported."""
    found = load_handlers(module(PLAIN))
    assert (found.names, found.queues) == (["resize"], None)
    assert Worker(handlers=found).queues == ("default",)


@pytest.mark.parametrize(
    ("text", "attribute", "reason"),
    [
        ("x = 1", "", "somebodys_handlers has no handlers; decorate functions"),
        ("from jobqueue.worker.worker import Worker\nworker = Worker()", "", "has no handlers"),
        (WORKER, ":missing", "somebodys_handlers has no Worker or Registry named missing"),
        (WORKER, ":send", "somebodys_handlers has no Worker or Registry named send"),
        (WORKER, ":", "is not a module"),
        ("import no_such_module_at_all", "", "somebodys_handlers.py, line 1: ModuleNotFoundError: No module named 'no_such_module_at_all'"),
        ("1 / 0", "", "somebodys_handlers.py, line 1: ZeroDivisionError: division by zero"),
        ("def f(:", "", "somebodys_handlers.py, line 1: SyntaxError: "),
    ],
)
def test_a_module_without_handlers_is_refused_saying_why(module: Any, text: str, attribute: str, reason: str) -> None:
    """One sentence for whoever started the process."""
    with pytest.raises(HandlersError) as raised:
        load_handlers(module(text) + attribute)
    assert reason in str(raised.value)


def test_a_module_that_is_not_there_is_named(module: Any) -> None:
    """The error names what was asked for."""
    with pytest.raises(HandlersError, match=r"^nowhere\.at\.all cannot be imported: ModuleNotFoundError"):
        load_handlers("nowhere.at.all")


def _local() -> Any:
    def inner(job: RunningJob) -> None: ...

    return inner


def _two(left: Any, right: Any) -> None: ...


def _yields(job: RunningJob) -> Iterator[int]:
    yield 1


async def _yields_async(job: RunningJob) -> AsyncIterator[int]:
    yield 1


class _Yields:
    def __call__(self, job: RunningJob) -> Iterator[int]:
        yield 1

    def method(self, payload: int) -> None: ...


def _optional(job: RunningJob | None) -> None: ...


class OwnJob(RunningJob): ...


def _own_job(job: OwnJob) -> None: ...


def _path(path: Path) -> None: ...


@dataclass
class Parcel:
    what: str
    where: Path


def _parcel(parcel: Parcel) -> None: ...


@dataclass
class Letter:
    to: str
    copy: Path | None
    inside: Letter | None = None
    kept: Path = Path("/")


@pytest.mark.parametrize(
    "kind", [object, Any, Letter, Number, list[Path], Annotated[RunningJob, "ours"], Annotated[RunningJob[Letter], "ours"]]
)
def test_a_payload_that_some_json_can_be_read_as_is_taken(kind: Any) -> None:
    """Only what no payload at all would fit is refused."""

    def handler(found: Any) -> None: ...

    handler.__annotations__["found"] = kind
    registry = Registry()
    registry.handler("name")(handler)
    found = registry.find("name")
    assert found is not None
    leased = Leased(id="1", token="1", queue="q", payload=b'{"to": "ann", "copy": null}', attempts=1, created_at=datetime.now(UTC))
    if kind not in (Number, list[Path]):
        found.call(RunningJob(leased, "w", 0.0, found.read))


def _undecorated(function: Any) -> Any:
    def wrapper(*given: Any, **named: Any) -> Any:
        return function(*given, **named)

    return wrapper


def test_a_function_that_cannot_be_a_handler_is_refused_where_it_is_registered() -> None:
    """At the decorator, not when the first job comes."""
    registry = Registry()
    wrong: list[tuple[Any, dict[str, Any], str]] = [
        (lambda: None, {}, "must take the job, its payload or both"),
        (lambda a, b, c: None, {}, "must take the job, its payload or both"),
        (lambda job, *, key: None, {}, "must take the job, its payload or both"),
        (lambda a, b: None, {}, "takes the job twice"),
        (_local(), {"executor": "process"}, "must be a function at the top level of a module"),
        (lambda job: None, {"executor": "process"}, "not a lambda, a nested function or a partial"),
        (functools.partial(_two, 1), {"executor": "process"}, "not a lambda, a nested function or a partial"),
        (_yields, {}, "it is a generator, so calling it would not run it"),
        (_yields_async, {}, "it is a generator, so calling it would not run it"),
        (_yields, {"executor": "process"}, "it is a generator, so calling it would not run it"),
        (functools.partial(_yields), {}, "it is a generator, so calling it would not run it"),
        (_Yields(), {}, "it is a generator, so calling it would not run it"),
        (_Yields, {}, "_Yields is a class; register a function"),
        (_Yields.method, {}, "an unbound method"),
        (classmethod(_two), {}, "cannot be called"),
        (_optional, {}, "no JSON is a RunningJob; the job's own parameter is annotated RunningJob"),
        (_own_job, {}, "no JSON is a OwnJob; the job's own parameter is annotated RunningJob"),
        (_path, {}, "no JSON is a Path$"),
        (_parcel, {}, "no JSON is a Path$"),
        (5, {}, "cannot be called"),
        (max, {}, "its parameters cannot be read"),
        (_undecorated(_two), {}, "it lacks functools.wraps"),
    ]
    for function, options, reason in wrong:
        with pytest.raises(TypeError, match=reason):
            registry.handler("name", **options)(function)

    async def needs_a_process(job: RunningJob) -> None: ...

    with pytest.raises(TypeError, match="is async"):
        registry.handler("name", executor="process")(needs_a_process)

    def unknown(job: Nowhere) -> None: ...  # type: ignore[name-defined] # noqa: F821

    with pytest.raises(TypeError, match="an annotation cannot be read"):
        registry.handler("name")(unknown)

    def raising(job: 1 / 0) -> None: ...  # type: ignore[valid-type]

    with pytest.raises(TypeError, match="an annotation cannot be read: ZeroDivisionError"):
        registry.handler("name")(raising)

    def unreadable(payload: list[int] | set[int]) -> None: ...

    with pytest.raises(TypeError, match="a payload cannot be read"):
        registry.handler("name")(unreadable)
    for options, field in (
        *(({"timeout": odd}, "timeout") for odd in (0, -1, float("nan"), float("inf"), 10**400, "5", Decimal("nan"))),
        ({"executor": "gpu"}, "executor"),
    ):
        with pytest.raises(ValueError, match=f"^{field}: "):
            registry.handler("name", **options)(lambda job: None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="is not a name; write @handler"):
        registry.handler(lambda job: None)  # type: ignore[arg-type]
    assert len(registry) == 0


def test_an_object_with_an_async_call_is_an_async_handler() -> None:
    """It runs on the loop, not in a thread that would get a coroutine for a result."""

    class Sends:
        async def __call__(self, job: RunningJob) -> None: ...

    registry = Registry()
    registry.handler("send")(Sends())
    found = registry.find("send")
    assert found is not None
    assert found.executor == "loop"


def test_a_name_is_given_once() -> None:
    """Two handlers of one name: which one was meant?"""
    registry = Registry()
    registry.handler("name")(lambda job: None)
    with pytest.raises(ValueError, match=r"^name: there is a handler for 'name' already"):
        registry.handler("name")(lambda job: None)


SECONDS = ("timeout", "lease_seconds", "wait", "grace_seconds", "unhandled_seconds")


def test_a_worker_refuses_options_out_of_range() -> None:
    """Naming the option and what is allowed."""
    wrong: list[tuple[str, Any]] = [
        ("queues", []),
        ("queues", "mail"),
        ("queues", ["not a name"]),
        ("concurrency", 0),
        ("timeout", -1),
        ("lease_seconds", 0.01),
        ("wait", 0),
        ("wait", 1e9),
        ("prefetch", -1),
        ("grace_seconds", -1),
        ("unhandled_seconds", -1),
        *(
            (field, odd)
            for field in SECONDS
            for odd in (float("nan"), float("inf"), 10**400, "1", Decimal("nan"), None if field != "timeout" else "")
        ),
        ("concurrency", float("nan")),
        ("prefetch", float("inf")),
        ("name", ""),
        ("name", "a\nb"),
    ]
    for field, value in wrong:
        with pytest.raises(ValueError, match=f"^{field}: "):
            Worker(**{field: value})


async def test_a_worker_needs_a_source_and_handlers_to_start() -> None:
    """It says which of them is missing."""
    with pytest.raises(ValueError, match=r"^source: "):
        await Worker().start()


def test_a_handler_that_its_process_could_not_find_is_refused_with_its_module(module: Any) -> None:
    """By then every name of the module stands for something: here for what another decorator made of the function."""
    text = """
from jobqueue.worker.handlers import handler

def renamed(job): ...

renamed.__name__ = renamed.__qualname__ = "other"
handler("name", executor="process")(renamed)
"""
    with pytest.raises(HandlersError, match=r"^handler 'name' cannot be sent to a process: "):
        load_handlers(module(text))


@pytest.mark.parametrize(
    ("text", "line", "error"),
    [
        ("import os\n\nimport not_there_at_all\n", 3, "ModuleNotFoundError: No module named 'not_there_at_all'"),
        ("\n1 / 0\n", 2, "ZeroDivisionError: division by zero"),
        ("def f(:\n    pass\n", 1, "SyntaxError: "),
    ],
)
def test_an_import_that_fails_is_told_with_file_and_line(module: Any, tmp_path: Path, text: str, line: int, error: str) -> None:
    """Those of what raised, in the module or in one that it imports."""
    name = module(text)
    with pytest.raises(HandlersError, match="cannot be imported") as raised:
        load_handlers(name)
    assert f"{name} cannot be imported: {tmp_path / name}.py, line {line}: {error}" in str(raised.value)
    outer = module(f"x = 1\nimport {name}\n", "somebodys_outer")
    with pytest.raises(HandlersError) as raised:
        load_handlers(outer)
    assert f"{outer} cannot be imported: {tmp_path / name}.py, line {line}: {error}" in str(raised.value)
