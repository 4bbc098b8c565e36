"""The servers that users' own tests run against."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import tomllib
from pathlib import Path

import pytest

import jobqueue
from jobqueue import AsyncClient, Client
from jobqueue.limits import Limits
from jobqueue.process.server import CannotListenError
from jobqueue.testing import server, server_in_thread

ROOT = Path(__file__).parents[2]


async def test_a_server_lasts_as_long_as_its_context() -> None:
    """It is empty, answers within, and is gone afterwards."""
    async with jobqueue.testing.server() as url, AsyncClient(url) as client:
        assert await client.enqueue_batch([jobqueue.NewJob(1)])
        async with server() as other, AsyncClient(other) as apart:
            assert other != url
            assert [job async for job in apart.all_jobs()] == []
    async with AsyncClient(url) as client:
        assert not await client.healthy()


def test_a_server_in_a_thread_serves_tests_without_asyncio() -> None:
    """The thread ends with the context, also when the test in it fails."""
    before = threading.active_count()
    with contextlib.suppress(ZeroDivisionError), server_in_thread() as url, Client(url) as client:
        assert client.enqueue(1).created
        raise ZeroDivisionError
    assert threading.active_count() == before
    with Client(url) as client:
        assert not client.healthy()


def test_a_server_in_a_thread_outlives_what_its_handlers_do() -> None:
    """An exit in a callback ends neither it nor the thread."""
    with server_in_thread(pool="tests.worker.processes:handlers") as url, Client(url) as client:
        assert client.enqueue(None, type="exit in a callback", wait=20) == "went on"
        assert client.healthy()


async def test_a_server_is_set_up_by_settings_and_bounds() -> None:
    """Fields of Settings and Limits alike, in their units."""
    async with server(token="secret", max_jobs=1, default_lease=7.0) as url, AsyncClient(url, "secret") as client:
        assert (await client.put_queue("q")).policy.lease_seconds == 7.0
        await client.enqueue(1)
        first, second = await client.enqueue_batch([jobqueue.NewJob(2), jobqueue.NewJob(3)])
        assert isinstance(first, jobqueue.QueueFull)
        assert isinstance(second, jobqueue.QueueFull)


async def test_a_setting_that_is_none_is_refused() -> None:
    """By name; contradicting bounds say how they contradict, an address that is taken says so."""
    with pytest.raises(TypeError, match="most_jobs"):
        async with server(most_jobs=1):
            pass
    with pytest.warns(DeprecationWarning, match="jobs_max: use max_jobs"):
        async with server(jobs_max=1) as url:
            assert url
    with pytest.raises(TypeError, match="jobs_max"), server_in_thread(max_jobs=1, limits=Limits()):
        pass
    with pytest.raises(ValueError, match="wait_seconds_default"), server_in_thread(max_wait=1.0):
        pass
    async with server() as url:
        with pytest.raises(CannotListenError), server_in_thread(port=int(url.rpartition(":")[2])):
            pass


# The pytest fixture, as pytest finds it in an installed package.

USERS_TEST = """
import sys

def test_without():
    assert not {"jobqueue.process.server", "aiohttp", "msgspec"} & set(sys.modules)

def test_with(jobqueue_server):
    import jobqueue
    with jobqueue.Client(jobqueue_server) as client:
        assert client.enqueue(1, id="a").created

def test_with_another(jobqueue_server):
    import jobqueue
    with jobqueue.Client(jobqueue_server) as client:
        assert client.enqueue(1, id="a").created
"""


def test_pytest_finds_the_fixture_where_the_package_is_installed(tmp_path: Path) -> None:
    """Each test has an empty server; a test that asks for none loads nothing of it; nothing warns."""
    entry_points = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]["pytest11"]
    info = tmp_path / "site" / "jobqueue_under_test-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: jobqueue-under-test\nVersion: 1\n")
    (info / "RECORD").write_text("jobqueue/__init__.py,,\njobqueue/pytest_plugin.py,,\n")
    (info / "entry_points.txt").write_text("[pytest11]\n" + "".join(f"{name} = {home}\n" for name, home in entry_points.items()))
    (tmp_path / "test_users.py").write_text(USERS_TEST)
    others = [word for name in ("randomly", "cacheprovider", "aiohttp", "asyncio", "hypothesispytest") for word in ("-p", f"no:{name}")]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "pytest", "-q", "-W", "error", *others, "--rootdir", str(tmp_path), str(tmp_path)],
        cwd=tmp_path,
        env={"PYTHONPATH": f"{tmp_path / 'site'}:{ROOT}", "PATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout
    assert "warning" not in done.stdout
