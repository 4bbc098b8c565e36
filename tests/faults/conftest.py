from __future__ import annotations

import resource
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from .ledger import Api
from .process import Process

CLIENTS_MAX = 6_000
"""File descriptors for the clients of the largest test that has them in this process."""


@pytest.fixture(scope="session", autouse=True)
def descriptors() -> Iterator[None]:
    """Enough file descriptors for thousands of clients."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CLIENTS_MAX if hard == resource.RLIM_INFINITY else min(CLIENTS_MAX, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def start() -> Iterator[Callable[..., Process]]:
    """Starts server processes with settings of the test's own. Each must exit with 0 and a clean log, unless the test ends it."""
    started: list[Process] = []

    def make(*flags: str, **options: str) -> Process:
        process = Process(*flags, **options)
        started.append(process)
        return process

    yield make
    try:
        for process in started:
            if process.process.poll() is None:
                process.end()
            else:
                process.clean()
    finally:
        for process in started:
            process.close()


@pytest.fixture(scope="session")
def uvloop_server() -> Iterator[Process]:
    process = Process("--min-lease", "0.2")
    yield process
    process.end()


@pytest.fixture(scope="session")
def asyncio_server() -> Iterator[Process]:
    process = Process("--min-lease", "0.2", loop="asyncio")
    yield process
    process.end()


@pytest.fixture
def process(request: pytest.FixtureRequest) -> Process:
    """A server process for tests that leave it as they found it; on uvloop, or on what `on_each_server` says."""
    server: Process = request.getfixturevalue(f"{getattr(request, 'param', 'uvloop')}_server")
    return server


@pytest.fixture
async def api(process: Process) -> AsyncIterator[Api]:
    """A queue of the test's own on that server, found intact afterwards, with a clean log."""
    api = Api(process.port)
    try:
        yield api
        await api.intact()
    finally:
        api.close()
        process.clean()


@pytest.fixture
async def on(start: Callable[..., Process]) -> AsyncIterator[Callable[..., Api]]:
    """Makes the books on a server that a test started, which is found intact afterwards. ends: the test ends that server."""
    apis: list[tuple[Api, bool]] = []

    def make(process: Process, ends: bool = False) -> Api:
        api = Api(process.port)
        apis.append((api, ends))
        return api

    yield make
    try:
        for api, ends in apis:
            if not ends:
                await api.intact()
    finally:
        for api, _ in apis:
            api.close()
