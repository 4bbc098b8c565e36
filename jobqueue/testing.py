"""A server for your own tests, in the process that runs them: nothing to install, start or clean up.

With asyncio:

    async with jobqueue.testing.server() as url, jobqueue.AsyncClient(url) as client:
        ...

Without:

    with jobqueue.testing.server_in_thread() as url, jobqueue.Client(url) as client:
        ...

With pytest, the fixture `jobqueue_server` is such a url; it comes with the package. Every server is empty, listens on 127.0.0.1 on a
port of its own, asks for no token, and forgets all when it is left.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

from jobqueue.limits import Limits
from jobqueue.process.config import Settings
from jobqueue.process.server import running
from jobqueue.worker.exits import run_through

_HOST = "127.0.0.1"
_DRAIN_SECONDS = 0.5
"""What is held is answered at once; this is for who does not read its answer."""


def _settings(given: dict[str, Any]) -> Settings:
    bounds = {name: given.pop(name) for name in list(given) if name in Limits.__struct_fields__}
    unknown = given.keys() - set(Settings.__struct_fields__) - {"limits"}
    if unknown:
        raise TypeError(f"{', '.join(sorted(unknown))}: no field of jobqueue.process.config.Settings or jobqueue.limits.Limits")
    if bounds and "limits" in given:
        raise TypeError(f"{', '.join(sorted(bounds))}: given beside limits; put them into it")
    return Settings(**{"host": _HOST, "port": 0, "drain_seconds": _DRAIN_SECONDS, "limits": Limits(**bounds), **given})


@contextlib.asynccontextmanager
async def server(**settings: Any) -> AsyncIterator[str]:
    """A server in this event loop for as long as the context lasts; its URL. Use an AsyncClient: a Client would block the loop.

    settings: fields of `jobqueue.process.config.Settings` (token, …) and of `jobqueue.limits.Limits` (jobs_max, lease_seconds_default, …),
    in their units: durations in seconds. Raises TypeError for a setting that is none, ValueError for bounds that contradict each other.
    """
    made = _settings(settings)
    async with running(made) as (_, port):
        yield f"http://{made.host}:{port}"


@contextlib.contextmanager
def server_in_thread(**settings: Any) -> Iterator[str]:
    """The same in a thread of its own, for tests without asyncio, and for an AsyncClient in any loop."""
    made = _settings(settings)
    started: concurrent.futures.Future[tuple[str, asyncio.AbstractEventLoop, asyncio.Event]] = concurrent.futures.Future()

    async def serve() -> None:
        leave = asyncio.Event()
        async with running(made) as (_, port):
            started.set_result((f"http://{made.host}:{port}", asyncio.get_running_loop(), leave))
            await leave.wait()

    def run() -> None:
        try:
            run_through(serve())
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)

    thread = threading.Thread(target=run, name="jobqueue-server", daemon=True)
    thread.start()
    url, loop, leave = started.result()
    try:
        yield url
    finally:
        loop.call_soon_threadsafe(leave.set)
        thread.join()
