"""What holds for all tests."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import signal
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import packing, servers

packing.install()
if servers.current != "one":
    servers.install()

# What runs in the background of a script may have been started with SIGINT and SIGQUIT ignored, which every process begun from here would
# inherit: none would heed Ctrl-C. A signal that is handled is at its default in them.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGQUIT) is signal.SIG_IGN:
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
# So does nohup with SIGHUP, which this run goes on to survive.
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda *_: None)

# pip does not compile a package that is used where it lies. With this variable set, as in many images, nobody else would either: each of
# the hundreds of processes that the tests begin would compile all of it, which takes longer than the rest of its start.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# A process of pytest-xdist may carry a terminal's size in its environment, which goes before the size of the terminal that a test opens.
for _name in ("COLUMNS", "LINES"):
    os.environ.pop(_name, None)


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """Undo what a test does to the root logger: a command that sets logging up would drop tracebacks that later tests look for."""
    logger = logging.getLogger()
    handlers, level = logger.handlers[:], logger.level
    yield
    for handler in logger.handlers:
        if handler not in handlers:
            handler.close()
    logger.handlers[:] = handlers
    logger.setLevel(level)


def pytest_xdist_auto_num_workers() -> int:
    """How many processes `-n auto` is: two a core, since a third of the time a test waits for a process, a browser or a disk.

    More would not pay for their start: each collects all tests.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return 2 * cores


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Let each process of pytest-xdist import a share of the test files before it collects all.

    A file is compiled when it is first imported. The first time each process would compile all of them, at the same time as the others.
    """
    here = Path(__file__).parent
    ours: dict[str, Any] | None = getattr(session.config, "workerinput", None)
    if ours is None or [Path(name).resolve() for name in session.config.args] != [here]:
        return
    share = sorted(here.rglob("test_*.py"))[int(ours["workerid"].removeprefix("gw")) :: ours["workercount"]]
    for path in share:
        if (path.parent / "__init__.py").exists():
            # What cannot be imported, or skips itself, is told when it is collected.
            with contextlib.suppress(Exception, pytest.skip.Exception):
                importlib.import_module(".".join(path.relative_to(here.parent).with_suffix("").parts))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give what runs by hand all the time it takes, and leave out what is about one server where there are two."""
    for item in items:
        if item.get_closest_marker("by_hand") is not None:
            item.add_marker(pytest.mark.timeout(0))
    if servers.current != "one":
        for item in items:
            why = servers.why_one_only(item.nodeid)
            if why is not None:
                item.add_marker(pytest.mark.skip(reason=why))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config) -> None:
    """Say how to have the same order again: pytest-randomly says so in a header, which -q leaves out."""
    seed = config.getoption("randomly_seed", None)
    if exitstatus and seed is not None:
        terminalreporter.write_line(f"this order again: --randomly-seed={seed}")


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, Any, Any]:
    """Escape lone surrogates, which tests log and print on purpose, and which pytest-xdist cannot send from one process to another."""
    return _encodable((yield))


def _encodable(data: Any) -> Any:
    if isinstance(data, str):
        return data.encode("utf-8", "backslashreplace").decode()
    if isinstance(data, dict):
        return {_encodable(key): _encodable(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return type(data)(map(_encodable, data))
    return data
