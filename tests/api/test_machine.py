"""What /stats says of the server that was asked: where it keeps jobs, its disk and memory, and what is near its bound."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from jobqueue import Client, __version__
from jobqueue.api import bounds, machine
from jobqueue.api.access.access import Access
from jobqueue.api.access.auth import Keys
from jobqueue.api.access.grants import Scope, digest_of, grant
from jobqueue.limits import Limits
from jobqueue.testing import server_in_thread

from .conftest import Serve
from .harness import Api, assert_problem

GIB = 1 << 30
MIB = 1 << 20


class Usage(NamedTuple):
    """As shutil gives it."""

    total: int
    used: int
    free: int


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Says how much is free of a disk of 100 GiB."""

    def say(count: int) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(100 * GIB, 100 * GIB - count, count))

    return say


@pytest.fixture
def on_file(tmp_path: Path) -> Iterator[Client]:
    """A client of a server on a file."""
    with server_in_thread(data=str(tmp_path / "jobs.db")) as url, Client(url, token="") as client:
        yield client


def used(found: Any, name: str) -> tuple[int, int, str]:
    (bound,) = (bound for bound in found["bounds"] if bound["name"] == name)
    return bound["used"], bound["limit"], bound["state"]


async def test_a_server_in_memory_says_so(api: Api) -> None:
    """There is no file and no disk; its version, since when it runs, and the limits in force are there."""
    found = (await api.get("/stats")).json
    server = found["server"]
    assert (server["version"], server["storage"], server["place"], server["disk"]) == (__version__, "memory", None, None)
    assert found["limits"]["jobs_max"] == api.app.site.limits.jobs_max
    assert set(found["limits"]) == set(Limits.__struct_fields__)


async def test_what_is_used_stands_against_its_bound(serve: Serve) -> None:
    """From nine tenths on it is near, and full when nothing more may come."""
    api = await serve(jobs_max=10)
    for number, state in ((8, "ok"), (9, "near"), (10, "full")):
        while used(found := (await api.get("/stats")).json, "jobs_live")[0] < number:
            await api.enqueue()
        assert used(found, "jobs_live") == (number, 10, state)
    assert used(found, "listeners")[2] == "ok"


@pytest.mark.parametrize(
    ("count", "state"), [(50 * GIB, "ok"), (5 * GIB, "ok"), (5 * GIB - 1, "near"), (64 * MIB, "near"), (64 * MIB - 1, "full"), (0, "full")]
)
def test_a_disk_that_fills_up_is_seen(free: Callable[[int], None], on_file: Client, tmp_path: Path, count: int, state: str) -> None:
    """With the file's path and size, by the client's types too."""
    free(count)
    server = on_file.stats().server
    assert server is not None
    assert (server.storage, server.place) == ("file", str(tmp_path / "jobs.db"))
    assert server.disk is not None
    assert server.disk.file_bytes >= (tmp_path / "jobs.db").stat().st_size > 0
    assert (server.disk.free_bytes, server.disk.total_bytes, server.disk.state) == (count, 100 * GIB, state)


def test_the_last_commit_is_told(on_file: Client) -> None:
    """When it was and how long it took."""
    on_file.enqueue(1)
    storage = on_file.stats().storage
    assert storage is not None
    assert storage.last_at is not None
    assert storage.last_seconds is not None
    assert storage.last_seconds >= 0


@pytest.mark.parametrize(("total", "count", "state"), [(2 * GIB, 2 * GIB, "ok"), (GIB, GIB // 2 - 1, "near"), (1000 * GIB, 11 * GIB, "ok")])
def test_small_and_large_disks(total: int, count: int, state: str) -> None:
    """An empty small disk is well, and so is a large one with ten gibibytes free."""
    assert bounds.state_of_disk(count, total) == state


def test_a_disk_that_cannot_be_read_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer has all the rest."""

    def gone(path: str) -> Usage:
        raise OSError("stale file handle")

    monkeypatch.setattr(shutil, "disk_usage", gone)
    found = machine.used("/nowhere/jobs.db")
    assert found.disk is None
    assert found.memory_bytes is None or found.memory_bytes > 0


async def test_a_token_for_some_queues_sees_nothing_of_the_server(serve: Serve) -> None:
    """Neither its path nor its disk nor its limits."""
    access = Access(Keys([grant(name, digest_of(name), [Scope.ADMIN], queues) for name, queues in (("ops", ()), ("mail", ("mail*",)))]))
    api = await serve(access=access)
    assert_problem(await api.send("GET", "/stats", headers={"Authorization": "Bearer mail"}), 403, "forbidden")
    assert (await api.send("GET", "/stats", headers={"Authorization": "Bearer ops"})).json["server"]["version"] == __version__
