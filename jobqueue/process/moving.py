"""Copying jobs from a store to a file and back: `jobqueue backup --store` and `jobqueue restore`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable

from jobqueue.backend.group import Fatal, Group, NotNow
from jobqueue.backend.loading import CannotOpen
from jobqueue.backend.sqlite import file as sqlite
from jobqueue.backend.sqlite.lock import nobody_serves
from jobqueue.backend.store.filling import copy, fill
from jobqueue.backend.store.store import Store
from jobqueue.process import durable
from jobqueue.process.cluster import open_store
from jobqueue.process.config import Settings


def backup(settings: Settings, target: str) -> str:
    """Copy a store as it is at one moment, whether or not servers use it, and check the copy. Returns a line that says what it holds.

    Raises CannotOpen.
    """

    def made(part: str) -> None:
        file = sqlite.Store.make(part)
        try:

            def write(group: Group) -> None:
                try:
                    file.write(group)
                except NotNow as error:
                    raise CannotOpen(f"{target}: there is no room for it: {error}") from error

            async def copied(store: Store) -> None:
                jobs = await copy(store, write)
                if file.count() != jobs:
                    raise CannotOpen(f"{store.path}: is damaged: it should have {jobs} jobs, and {file.count()} could be read")

            _with_store(settings, copied)
        except BaseException:
            file.close(tidy=False)
            raise
        file.finish()

    return durable.made(target, made)


def restore(settings: Settings, source: str) -> str:
    """Fill an empty store from a file that no server uses. Returns a line that says what it holds. Raises CannotOpen."""
    if not os.path.isfile(source):
        raise CannotOpen(f"{source}: no such file")
    with nobody_serves(source) as idle:
        if not idle:
            raise CannotOpen(f"{source}: a server uses it, and goes on to change it: stop that first, or restore a backup of it")
        held = durable.check(source)
        file = sqlite.Store.read_only(os.path.abspath(source))
        path = ""

        async def filled(store: Store) -> None:
            nonlocal path
            path = store.path
            with durable.progress_shown(path, "writing", "written") as progress:
                await fill(store, file, progress)

        try:
            _with_store(settings, filled)
        finally:
            file.close(tidy=False)
    return f"{path}: {held}"


def _with_store(settings: Settings, use: Callable[[Store], Awaitable[object]]) -> None:
    """Open the store, use it and close it, in a loop of its own."""

    async def run() -> None:
        stores = open_store(settings)
        try:
            await stores.open(1)
            await use(stores[0])
        except (NotNow, Fatal) as error:
            said = str(error)
            raise CannotOpen(said if said.startswith(stores.path) else f"{stores.path}: {said}") from error
        finally:
            await stores.close()

    asyncio.run(run())
