from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest

from tests.web import conftest as web
from tests.web.conftest import Serve, api, serve
from tests.web.harness import Api

from .dialogue import Speaker

__all__ = ["Serve", "api", "serve"]


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Every test here that needs a loop runs on each of those the server may run on."""
    return web.LOOPS


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
