from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping

import pytest

from tests import ways
from tests.api.conftest import LOOPS, Serve, api, serve


@pytest.fixture(params=[ways.current] if ways.current != "auto" else list(ways.WAYS), autouse=True)
def way(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every test here runs on each way of serving."""
    before, ways.current = ways.current, request.param
    yield ways.current
    ways.current = before


__all__ = ["Serve", "api", "serve"]


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Every test here that needs a loop runs on each of those the server may run on."""
    return LOOPS
