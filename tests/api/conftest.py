from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

import pytest

from tests import ways

from . import harness
from .harness import Api

try:
    import uvloop
except ImportError:  # Windows, PyPy: the server runs on asyncio's loop there
    LOOPS: Mapping[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
else:
    LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}

Serve = Callable[..., Awaitable[Api]]


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """One loop, uvloop where there is one; each that the server may run on where a way of serving was chosen, as CI does.

    What differs between loops is how connections behave, and tests/http always runs on each.
    """
    return LOOPS if ways.current != "auto" else dict(list(LOOPS.items())[-1:])


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Serves applications made with the arguments of `harness.start`; closes them all."""
    running: list[Api] = []

    async def start(**options: object) -> Api:
        running.append(await harness.start(**options))  # type: ignore[arg-type]
        return running[-1]

    yield start
    for api in running:
        await api.close()


@pytest.fixture
async def api(serve: Serve) -> Api:
    """The application with the default bounds, nobody asked for a token."""
    return await serve()
