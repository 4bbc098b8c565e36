"""A server for your own tests, in the process that runs them: nothing to install, start or clean up.

With asyncio:

    async with jobqueue.testing.server() as url, jobqueue.AsyncClient(url) as client:
        ...

Without:

    with jobqueue.testing.server_in_thread() as url, jobqueue.Client(url) as client:
        ...

With pytest, the fixture `jobqueue_server` is such a url; it comes with the package. Every server is empty, listens on its own port of
127.0.0.1, requires no token, and loses all jobs when it stops.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
import warnings
from collections.abc import AsyncIterator, Iterator
from typing import Any

from jobqueue.limits import Limits
from jobqueue.process.config import Settings
from jobqueue.process.server import running
from jobqueue.process.settings import SETTINGS
from jobqueue.worker.exits import run_through

_HOST = "127.0.0.1"
_DRAIN_SECONDS = 0.5
"""Requests that are held are answered at once; this time is for clients that do not read their answer."""


_FIELDS = {setting.name: setting.field for setting in SETTINGS}
_NAMES = {field: name for name, field in _FIELDS.items() if name != field}


def _settings(given: dict[str, Any]) -> Settings:
    fields = {}
    for name, value in given.items():
        if name in _NAMES:
            warnings.warn(f"{name}: use {_NAMES[name]}, as the setting is called", DeprecationWarning, stacklevel=4)
        fields[_FIELDS.get(name, name)] = value
    bounds = {name: fields.pop(name) for name in list(fields) if name in Limits.__struct_fields__}
    unknown = fields.keys() - set(Settings.__struct_fields__) - {"limits"}
    if unknown:
        raise TypeError(f"{', '.join(sorted(unknown))}: not a setting of `jobqueue serve`")
    if bounds and "limits" in fields:
        raise TypeError(f"{', '.join(sorted(bounds))}: given in addition to limits; put them into limits")
    return Settings(**{"host": _HOST, "port": 0, "drain_seconds": _DRAIN_SECONDS, "limits": Limits(**bounds), **fields})


@contextlib.asynccontextmanager
async def server(**settings: Any) -> AsyncIterator[str]:
    """Run a server in this event loop for the length of the context; yields its URL. Use an AsyncClient: a Client would block the loop.

    settings: those of `jobqueue serve`, by their names in the environment, in lower case and without JOBQUEUE_ (token, max_jobs,
    default_lease, …); durations in seconds, sizes in bytes. Raises TypeError for an unknown setting, ValueError for bounds that
    contradict each other.
    """
    made = _settings(settings)
    async with running(made) as (_, port):
        yield f"http://{made.host}:{port}"


@contextlib.contextmanager
def server_in_thread(**settings: Any) -> Iterator[str]:
    """The same in a separate thread, for tests without asyncio, and for an AsyncClient in any loop."""
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
