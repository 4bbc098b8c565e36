"""Copying jobs from a store to a file and back: `jobqueue backup --store` and `jobqueue restore`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable, Sequence

from jobqueue.backend.contents import Contents
from jobqueue.backend.group import Fatal, Group, NotNow
from jobqueue.backend.joining import Joining
from jobqueue.backend.loading import CannotOpen, JobRows
from jobqueue.backend.splitting import split
from jobqueue.backend.sqlite import file as sqlite
from jobqueue.backend.sqlite.lock import nobody_serves
from jobqueue.backend.store.filling import copy, fill, join
from jobqueue.backend.store.stores import StoreSet
from jobqueue.process import durable
from jobqueue.process.cluster import open_store
from jobqueue.process.config import Settings


class _File:
    """The file of a backup. A Target."""

    def __init__(self, path: str, target: str) -> None:
        self.file = sqlite.Store.make(path)
        self._target = target

    def write(self, group: Group) -> None:
        """See Target.write."""
        try:
            self.file.write(group)
        except NotNow as error:
            raise CannotOpen(f"{self._target}: there is no room for it: {error}") from error

    def these(self, numbers: Sequence[int]) -> Iterable[JobRows]:
        """See Target.these."""
        return self.file.these(numbers)


def backup(settings: Settings, target: str) -> str:
    """Copy a store, whether or not servers use it, and check the copy. Each partition is copied as it is at one moment. Returns lines that
    say what the file holds.

    Raises CannotOpen.
    """
    more = ""

    def made(part: str) -> Contents | None:
        file = _File(part, target)
        contents: Contents | None = None

        async def copied(stores: StoreSet) -> None:
            nonlocal contents, more
            if stores.partitions == 1:
                _check_count(stores.path, await copy(stores[0], file.write), file.file.count())
                return
            joining = Joining(stores.path, file, stores.partitions)
            with durable.progress_shown(target, "joining", "joined") as progress:
                await join(list(stores), joining, progress)
            contents = joining.contents
            _check_count(stores.path, contents.counts["jobs"], file.file.count())
            more = f"; from {stores.partitions} partitions"
            if joining.left_out:
                more += f", without {joining.left_out} ended jobs whose ids were used anew meanwhile"

        try:
            _with_store(settings, copied)
        except BaseException:
            file.file.close(tidy=False)
            raise
        file.file.finish()
        return contents

    checked = durable.made(target, made)
    return str(checked._replace(held=checked.held + more))


def _check_count(path: str, expected: int, found: int) -> None:
    if found != expected:
        raise CannotOpen(f"{path}: is damaged: it should have {expected} jobs, and {found} could be read")


def restore(settings: Settings, source: str) -> str:
    """Fill an empty store from a file that no server uses. Returns lines that say what it holds. Raises CannotOpen."""
    partitions = settings.partitions
    if not os.path.isfile(source):
        raise CannotOpen(f"{source}: no such file")
    with nobody_serves(source) as idle:
        if not idle:
            raise CannotOpen(f"{source}: a server uses it, and goes on to change it: stop that first, or restore a backup of it")
        checked = durable.check(source)
        file = sqlite.Store.read_only(os.path.abspath(source))
        said = ""

        async def filled(stores: StoreSet) -> None:
            nonlocal said
            with durable.progress_shown(stores.path, "writing", "written") as progress:
                found = await fill(list(stores), parts or split(file, stores.partitions), checked.contents, progress)
            divided = f"; in {stores.partitions} partitions" if stores.partitions > 1 else ""
            said = f"{stores.path}: {checked.held}{divided}\nbefore: {checked.contents}\nafter: {found}"

        try:
            # Before the store is made, since it keeps its number of partitions from then on.
            parts = None if partitions is None else split(file, partitions)
            _with_store(settings, filled, partitions)
        finally:
            file.close(tidy=False)
    return said


def _with_store(settings: Settings, use: Callable[[StoreSet], Awaitable[object]], partitions: int | None = None) -> None:
    """Open the store, use it and close it, in a loop of its own. partitions: how many a new store gets."""

    async def run() -> None:
        stores = open_store(settings)
        try:
            await stores.open(partitions)
            await use(stores)
        except (NotNow, Fatal) as error:
            said = str(error)
            raise CannotOpen(said if said.startswith(stores.path) else f"{stores.path}: {said}") from error
        finally:
            await stores.close()

    asyncio.run(run())
