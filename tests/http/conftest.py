from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest

from tests import ways
from tests.api.conftest import LOOPS, Serve, api, serve


@pytest.fixture
def way() -> str:
    """The way of serving of this run."""
    return ways.current


__all__ = ["Serve", "api", "serve"]


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Every test here that needs a loop runs on each of those the server may run on."""
    return LOOPS
