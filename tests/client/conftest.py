from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from typing import Any

import pytest

from jobqueue import AsyncClient, Client
from jobqueue.testing import server

from .rig import CLIENTS, Face

Connect = Callable[..., Face]


@pytest.fixture(autouse=True)
async def _threads() -> AsyncIterator[None]:
    """A thread for each call of a Client, however few cores there are."""
    with ThreadPoolExecutor(16) as pool:
        asyncio.get_running_loop().set_default_executor(pool)
        yield


@pytest.fixture(autouse=True)
def _no_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("JOBQUEUE_URL", "JOBQUEUE_TOKEN", "REQUEST_METHOD", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
async def url() -> AsyncIterator[str]:
    """An empty server."""
    async with server() as found:
        yield found


@pytest.fixture(params=CLIENTS, ids=lambda kind: kind.__name__)
async def connect(request: pytest.FixtureRequest) -> AsyncIterator[Connect]:
    """Makes clients of the kind in turn, with their arguments; closes them all."""
    kind: type[AsyncClient] | type[Client] = request.param
    async with AsyncExitStack() as stack:

        def made(*where: str, **options: Any) -> Face:
            face = Face(kind, *where, **options)
            stack.push_async_callback(face.close)
            return face

        yield made


@pytest.fixture
def api(connect: Connect, url: str) -> Face:
    """Either client of an empty server."""
    return connect(url)
