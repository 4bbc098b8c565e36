"""A backend cannot break the edge, whatever it needs and however it fails (`backend/base.py` states the rules)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest

from jobqueue.api.app import build_app
from jobqueue.backend.base import Backend
from jobqueue.backend.local import LocalBackend
from jobqueue.backend.restricted import RestrictedBackend
from jobqueue.clock import ManualClock
from jobqueue.errors import StorageUnavailable
from jobqueue.limits import Limits
from tests import ways
from tests.api.harness import GUARD, Site, Wire, assert_problem, request, until
from tests.conformance.slow import SlowBackend

ENQUEUE = request("POST", "/jobs/enqueue", b'{"id":"j","payload":1}')
DEQUEUE = request("POST", "/jobs/dequeue", b'{"wait":20}')

Started = tuple[SlowBackend, Site]


@pytest.fixture
async def slow() -> AsyncIterator[Started]:
    """A slow backend behind the whole application."""
    backend = SlowBackend(LocalBackend(Limits(), clock=ManualClock()))
    app = build_app(cast(Backend, backend), Limits())
    site = await Site.start(ways.server(app, idle_seconds=60.0, write_seconds=GUARD))
    yield backend, site
    app.drain()
    await site.close()
    await backend.backend.close()


async def test_a_backend_that_needs_a_task_has_one_from_the_start(slow: Started) -> None:
    """Each request its own, one that it may time out and cancel in; the whole life of a job."""
    backend, site = slow
    wire = await site.wire()
    for _ in range(3):
        assert (await wire.ask(request("POST", "/jobs/enqueue", b'{"payload":1}'))).status == 201
        job = (await wire.ask(DEQUEUE)).json
        body = b'{"lease":"%b","outcome":"succeeded"}' % job["lease"]["token"].encode()
        assert (await wire.ask(request("POST", f"/jobs/{job['id']}/conclude", body))).status == 200
    assert len(set(backend.tasks)) == 9
    wire.send(b"".join(request("GET", "/queues") for _ in range(5)))
    assert [(await wire.reply()).status for _ in range(5)] == [200] * 5


FAILURES: dict[str, Callable[[], BaseException]] = {
    "reset": lambda: ConnectionResetError("the database hung up"),
    "refused": lambda: ConnectionRefusedError("no database"),
    "broken pipe": lambda: BrokenPipeError("the database hung up"),
    "time-out": lambda: TimeoutError("the database is late"),
    "os error": lambda: OSError(28, "no space left"),
    "defect": lambda: KeyError("a defect"),
    "stop": StopAsyncIteration,
}


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES.keys())
@pytest.mark.parametrize(("operation", "asked"), [("enqueue", ENQUEUE), ("dequeue", DEQUEUE), ("jobs", request("GET", "/jobs"))])
async def test_what_a_backend_raises_is_never_taken_for_a_client_that_has_gone(
    slow: Started, failure: Callable[[], BaseException], operation: str, asked: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Undocumented errors are answered 500, once, with a traceback in the log; the next request is served."""
    backend, site = slow
    backend.failing[operation] = failure
    wire = await site.wire()
    detail = assert_problem(await wire.ask(asked), 500, "internal_error")
    assert "database" not in detail
    assert len([record for record in caplog.records if record.exc_info]) == 1
    caplog.clear()
    backend.failing.clear()
    assert (await (await site.wire()).ask(request("GET", "/queues"))).status == 200


async def test_a_backend_says_that_its_storage_fails(slow: Started) -> None:
    """By StorageUnavailable: 503, to be tried again."""
    backend, site = slow
    backend.failing["enqueue"] = lambda: StorageUnavailable("the database hung up")
    wire = await site.wire()
    assert_problem(await wire.ask(ENQUEUE), 503, "storage_unavailable")
    assert (await wire.ask(request("GET", "/queues"))).status == 200


async def test_a_backend_that_cancels_itself_ends_one_connection(slow: Started) -> None:
    """And no other; the server serves on."""
    backend, site = slow
    backend.failing["enqueue"] = asyncio.CancelledError
    wire, other = await site.wire(), await site.wire()
    wire.send(ENQUEUE)
    assert await wire.rest() == b""
    assert (await other.ask(request("GET", "/queues"))).status == 200


@pytest.mark.parametrize("turns", range(6))
async def test_a_client_that_goes_while_the_backend_is_slow_takes_nothing(slow: Started, turns: int) -> None:
    """Its dequeue is cancelled wherever it is: on its way to the job, or with it."""
    backend, site = slow
    assert (await (await site.wire()).ask(ENQUEUE)).status == 201
    gone = await site.wire()
    gone.send(DEQUEUE)
    for _ in range(turns):
        await asyncio.sleep(0)
    with contextlib.suppress(ConnectionError):
        await gone.close()
    await until(lambda: len(site.server.open) == 1)
    await until(lambda: backend.backend.totals().waiters == 0)

    async def taken() -> Any:
        wire: Wire = await site.wire()
        return await wire.ask(request("POST", "/jobs/dequeue", b'{"wait":0}'))

    reply = await taken()
    if reply.status == 204:
        # The kernel had taken the answer before the client was seen to go: it is the lease's to bring the job back.
        assert backend.backend.totals().leases == 1
    else:
        assert reply.json["attempts"] == 1


def test_a_restricted_backend_is_as_the_one_it_restricts() -> None:
    """A token for some queues does not change whether a task is needed."""
    for at_once in (True, False):
        backend = SlowBackend(LocalBackend(Limits(), clock=ManualClock()))
        backend.at_once = at_once  # type: ignore[misc]
        assert RestrictedBackend(cast(Backend, backend), "t", lambda _: True).at_once is at_once
