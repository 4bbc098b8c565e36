from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest

from tests.api.conftest import LOOPS, Serve, api, serve
from tests.api.harness import Api

from .dialogue import Speaker

__all__ = ["Serve", "api", "serve"]


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """One loop, uvloop where there is one: what differs between loops is tests/api's to show, and a dialect never sees it."""
    name, factory = list(LOOPS.items())[-1]
    return {name: factory}


@pytest.fixture
def classic(api: Api) -> Speaker:
    """A client of classic where it stands by default."""
    return Speaker(api, "/classic")


@pytest.fixture
def simplequeue(api: Api) -> Speaker:
    """A client of simplequeue where it stands by default."""
    return Speaker(api, "/simplequeue")


@pytest.fixture
def workpool(api: Api) -> Speaker:
    """A client of workpool where it stands by default."""
    return Speaker(api, "/workpool")
