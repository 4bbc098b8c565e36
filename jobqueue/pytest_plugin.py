"""The fixture that pytest finds if jobqueue is installed. It imports nothing of the server before a test requests it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture
def jobqueue_server() -> Iterator[str]:
    """The URL of an empty jobqueue server that runs for one test. For your own settings use jobqueue.testing."""
    from jobqueue.testing import server_in_thread

    with server_in_thread() as url:
        yield url
