from __future__ import annotations

import pytest

from tests.api.dialects.conftest import Serve, api, pytest_asyncio_loop_factories, serve
from tests.api.harness import Api

from .speech import PROTOCOLS, Sqs

__all__ = ["Serve", "api", "pytest_asyncio_loop_factories", "serve"]


@pytest.fixture(params=PROTOCOLS)
def sqs(api: Api, request: pytest.FixtureRequest) -> Sqs:
    """A client where the dialect stands by default, in each protocol."""
    return Sqs(api, request.param)
