"""Faults 60 and 61: a data file of many names, one that goes away while it is used, one that cannot be written, and who may read it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jobqueue.backend.loading import CannotOpen
from jobqueue.backend.local import LocalBackend
from jobqueue.engine.engine import Engine
from jobqueue.errors import StorageUnavailable
from jobqueue.process.durable import backup, check

from .datafile import Served, backend_at, spec
from .process import Process
from .test_datafile import cut_in_half, leave, opened
from .wire import PATIENCE_SECONDS, call, until

pytestmark = pytest.mark.long

NOBODY = 65_534


def names(path: Path) -> dict[str, Path]:
    """Other names of a file, by kind."""
    folder = path.parent
    (folder / "elsewhere").mkdir()
    (folder / "folder").symlink_to(folder)
    (folder / "link.db").symlink_to(path.name)
    (folder / "elsewhere" / "chain.db").symlink_to(folder / "folder" / "link.db")
    return {
        "link": folder / "link.db",
        "chain": folder / "elsewhere" / "chain.db",
        "folder": folder / "folder" / path.name,
        "dots": folder / "elsewhere" / ".." / path.name,
    }


def test_60_one_server_whatever_the_name(tmp_path: Path, start: Callable[..., Process], monkeypatch: pytest.MonkeyPatch) -> None:
    """A second server on another name of the same file is refused, in this process and in others, and may start when the first is gone."""
    path = tmp_path / "jobs.db"
    first = start("--data", str(path))
    monkeypatch.chdir(tmp_path)
    others = names(path) | {"relative": Path("jobs.db")}
    for kind, name in others.items():
        found = opened(name)
        assert isinstance(found, str), kind
        assert f"in use by another server (process {first.process.pid} on " in found, kind
    first.process.kill()
    first.wait()
    for kind, name in others.items():
        assert isinstance(opened(name), Engine), kind


async def test_60_a_link_is_no_other_file(tmp_path: Path) -> None:
    """Jobs stored by way of a link are found under the real name and the other way round, and nothing is made beside the link."""
    (tmp_path / "real").mkdir()
    link = tmp_path / "link.db"
    link.symlink_to("real/jobs.db")
    async with backend_at(link) as backend:
        await backend.enqueue(spec("a"))
        assert set(modes(tmp_path)) == {"real", "link.db"}
    async with backend_at(tmp_path / "real" / "jobs.db") as backend:
        assert set(backend.engine.jobs.by_id) == {"a"}
        await backend.enqueue(spec("b"))
    async with backend_at(link) as backend:
        assert set(backend.engine.jobs.by_id) == {"a", "b"}


def test_60_a_cut_log_is_noticed_through_a_link(tmp_path: Path) -> None:
    """After a kill -9 that left half of the log, a start by way of a link is refused as one by the real name is."""
    left = tmp_path / "left"
    asyncio.run(leave(tmp_path / "jobs.db", (left,)))
    cut_in_half(left / "jobs.db-wal")
    (tmp_path / "link.db").symlink_to("left/jobs.db")
    for _ in range(2):
        found = opened(tmp_path / "link.db")
        assert isinstance(found, str)
        assert "damaged or cut" in found


async def test_60_hard_links_are_refused(tmp_path: Path) -> None:
    """A file with two names is refused under either, also while a server uses it, and served again when one name is left."""
    path, other = tmp_path / "jobs.db", tmp_path / "other.db"
    async with backend_at(path) as backend:
        await backend.enqueue(spec("a"))
        other.hardlink_to(path)
        found = await asyncio.to_thread(opened, other)
        assert isinstance(found, str)
        assert "in use by another server (this process)" in found
        await backend.enqueue(spec("b"))
    for name in (path, other):
        found = await asyncio.to_thread(opened, name)
        assert isinstance(found, str)
        assert "hard links" in found
    other.unlink()
    async with backend_at(path) as backend:
        assert set(backend.engine.jobs.by_id) == {"a", "b"}


@contextlib.contextmanager
def mounted(source: Path, target: Path) -> Iterator[None]:
    """The source seen a second time, at the target. Skips where that may not be done."""
    done = subprocess.run(["mount", "--bind", source, target], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", target], check=True)


@pytest.mark.skipif(shutil.which("mount") is None, reason="there is no mount here")
@pytest.mark.parametrize("what", ["file", "folder"])
def test_60_a_mount_seen_twice(tmp_path: Path, start: Callable[..., Process], what: str) -> None:
    """A second server that comes to the file, or to its folder, by another mount is refused."""
    path, again = tmp_path / "jobs.db", tmp_path / "again"
    first = start("--data", str(path))
    if what == "file":
        again.mkdir()
        (again / "other.db").touch()
        source, target, name = path, again / "other.db", again / "other.db"
    else:
        again.mkdir()
        source, target, name = tmp_path, again, again / "jobs.db"
    with mounted(source, target):
        found = opened(name)
        assert isinstance(found, str)
        assert "in use by another server" in found
        first.process.kill()
        first.wait()


@pytest.mark.skipif(shutil.which("mount") is None, reason="there is no mount here")
def test_60_a_file_mounted_by_itself(tmp_path: Path) -> None:
    """No server starts on a file that is mounted without its folder: its log would stand elsewhere, and the jobs in it be lost."""
    path, folder = tmp_path / "jobs.db", tmp_path / "folder"
    folder.mkdir()
    path.touch()
    (folder / "jobs.db").touch()
    with mounted(path, folder / "jobs.db"):
        found = opened(folder / "jobs.db")
        assert isinstance(found, str)
        assert "mounted without its folder" in found
    with mounted(tmp_path, folder):
        assert isinstance(opened(folder / "jobs.db"), Engine)


def linked(path: Path, other: Path) -> contextlib.AbstractContextManager[object]:
    """The file by a second hard link."""
    other.hardlink_to(path)
    return contextlib.nullcontext()


def mounted_alone(path: Path, other: Path) -> contextlib.AbstractContextManager[object]:
    """The file mounted a second time, without its folder."""
    other.touch()
    return mounted(path, other)


@pytest.mark.parametrize("killed", [False, True], ids=["served", "killed"])
@pytest.mark.parametrize("again", [linked, mounted_alone])
async def test_60_a_look_by_another_name(
    tmp_path: Path, start: Callable[..., Process], again: Callable[[Path, Path], contextlib.AbstractContextManager[object]], killed: bool
) -> None:
    """`check` and `backup` of a file by a name that its log does not stand beside are refused; they would not see the jobs in the log."""
    (tmp_path / "folder").mkdir()
    path, other = tmp_path / "jobs.db", tmp_path / "folder" / "other.db"
    process = start("--data", str(path))
    assert (await call(process.port, "POST", "/jobs/enqueue", {"id": "a", "payload": 1})).status == 201
    if killed:
        process.process.kill()
        process.wait()
    with again(path, other):
        for look in (lambda: check(str(other)), lambda: backup(str(other), str(tmp_path / "copy.db"))):
            with pytest.raises(CannotOpen, match="its log"):
                look()
        assert sorted(file.name for file in other.parent.iterdir()) == ["other.db"]
    assert not [name for name in os.listdir(tmp_path) if name.startswith("copy.db")]
    other.unlink()
    backup(str(path), str(tmp_path / "copy.db"))
    (tmp_path / "copy.db").rename(other)
    (tmp_path / "again.db").hardlink_to(other)
    assert check(str(tmp_path / "again.db")).held.startswith("1 job ")


def delete(path: Path) -> None:
    """Delete a data file and all that belongs to it."""
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()


def save(pid: int, folder: Path, into: Path) -> None:
    """Copy what a process still has open of a folder that was emptied."""
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            name = Path(os.readlink(link).removesuffix(" (deleted)"))
            if name.parent == folder and name.suffix != ".lock":
                shutil.copy(link, into / name.name)


HURTS: dict[str, Callable[[Path], object]] = {
    "deleted": lambda path: path.unlink(),
    "moved": lambda path: path.rename(path.with_name("moved.db")),
    "replaced": lambda path: shutil.copy(path, path.with_name("copy.db")) and os.replace(path.with_name("copy.db"), path),
    "log deleted": lambda path: path.with_name("jobs.db-wal").unlink(),
    "index deleted": lambda path: path.with_name("jobs.db-shm").unlink(),
    "folder moved": lambda path: path.parent.rename(path.parent.with_name("moved")),
}


@pytest.mark.parametrize("hurt", HURTS)
async def test_60_a_file_that_is_gone(tmp_path: Path, hurt: str, start: Callable[..., Process]) -> None:
    """When the file or its log is deleted, moved or replaced, not one change more is acknowledged, the server is not ready and says why."""
    (tmp_path / "folder").mkdir()
    path = tmp_path / "folder" / "jobs.db"
    process = start("--data", str(path))
    assert (await call(process.port, "POST", "/jobs/enqueue", {"id": "before", "payload": 1})).status == 201
    HURTS[hurt](path)
    for job_id in ("during", "after"):
        answer = await call(process.port, "POST", "/jobs/enqueue", {"id": job_id, "payload": 1})
        assert (answer.status, answer.code) == (503, "storage_unavailable")
    ready = await call(process.port, "GET", "/readyz")
    assert (ready.status, ready.code) == (503, "storage_unavailable")
    assert "jobs.db" in ready.json["detail"]
    assert (await call(process.port, "GET", "/healthz")).status == 200
    assert (await call(process.port, "GET", "/jobs/before")).json["status"] == "queued"
    process.process.terminate()
    assert await asyncio.to_thread(process.wait) == 0
    log = process.log()
    assert "changes cannot be stored" in log
    assert "while the server used it" in log


async def test_60_a_file_that_is_back(tmp_path: Path) -> None:
    """A file that was moved away and comes back is used again by itself, and has all that was acknowledged."""
    path = tmp_path / "jobs.db"
    async with backend_at(path) as backend:
        await backend.enqueue(spec("before"))
        path.rename(tmp_path / "away.db")
        with pytest.raises(StorageUnavailable):
            await backend.enqueue(spec("during"))
        (tmp_path / "away.db").rename(path)

        async def back() -> bool:
            with contextlib.suppress(StorageUnavailable):
                return (await backend.enqueue(spec("after"))).created
            return False

        await until(back, "the file is used again")
    async with backend_at(path) as again:
        assert {"before", "after"} <= set(again.engine.jobs.by_id)


async def test_60_an_idle_server_notices(tmp_path: Path, start: Callable[..., Process]) -> None:
    """A server that nobody asks for anything stops being ready by itself, says so, and does not spoil the file that replaced its own."""
    path = tmp_path / "jobs.db"
    process = start("--data", str(path))
    delete(path)
    async with backend_at(path) as other:
        await other.enqueue(spec("others"))

        async def unready() -> bool:
            return (await call(process.port, "GET", "/readyz")).status == 503

        await until(unready, "the server is not ready")
        await process.said("jobs.db is a different file now")
        process.process.terminate()
        assert await asyncio.to_thread(process.wait) == 0
        await other.enqueue(spec("more"))
    async with backend_at(path) as other:
        assert set(other.engine.jobs.by_id) == {"others", "more"}


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="there is no /proc here")
async def test_60_a_deleted_file_can_be_saved(tmp_path: Path, start: Callable[..., Process]) -> None:
    """While the server lives, what was deleted can be copied out of it, and everything acknowledged is there, as operations.md says."""
    path = tmp_path / "jobs.db"
    process = start("--data", str(path))
    for number in range(5):
        assert (await call(process.port, "POST", "/jobs/enqueue", {"payload": 1, "id": f"j{number}"})).status == 201
    delete(path)
    assert (await call(process.port, "POST", "/jobs/enqueue", {"payload": 1, "id": "during"})).status == 503
    await process.said("does not exist any more")
    saved = tmp_path / "saved"
    saved.mkdir()
    save(process.process.pid, tmp_path, saved)
    process.process.terminate()
    await asyncio.to_thread(process.wait)
    process.log()
    async with backend_at(saved / "jobs.db") as backend:
        assert {f"j{number}" for number in range(5)} <= set(backend.engine.jobs.by_id)


# A file that can be read but not written.


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that another user may enter."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def serve_as_another(path: Path) -> subprocess.CompletedProcess[str]:
    """Try to serve a file that belongs to us as somebody who may only read it."""
    # Everything is imported first: another user may not be able to read what is installed.
    boot = "import os, encodings.idna, uvloop, jobqueue.process.server, jobqueue.process.config; from jobqueue.cli import main; "
    if os.geteuid() == 0:
        boot += f"os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY}); "
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JOBQUEUE_")}
    return subprocess.run(
        [sys.executable, "-c", boot + "main()", "serve", "--port", "0", "--data", str(path)],
        cwd=path.parent, env=environment, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("readable", ["file", "log", "lock", "folder"])
def test_61_readable_not_writable(public: Path, readable: str) -> None:
    """A data file, log, lock file or folder that can only be read is refused at the start, with one line that says so."""
    path = public / "jobs.db"

    async def make() -> None:
        async with backend_at(path) as backend:
            await backend.enqueue(spec("a"))
            if readable == "log":
                shutil.copy(public / "jobs.db-wal", public / "kept")

    asyncio.run(make())
    public.chmod(0o777)
    for file in public.iterdir():
        file.chmod(0o666)
    if readable == "file":
        path.chmod(0o444)
    elif readable == "log":
        (public / "kept").rename(public / "jobs.db-wal")
        (public / "jobs.db-wal").chmod(0o444)
    elif readable == "lock":
        (public / "jobs.db.lock").chmod(0o444)
    else:
        public.chmod(0o555)
    done = serve_as_another(path)
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    assert "jobs.db" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1


def test_61_a_pipe_is_no_data_file(tmp_path: Path) -> None:
    """What is not a regular file is refused without waiting for anybody at its other end."""
    os.mkfifo(tmp_path / "jobs.db")
    found = opened(tmp_path / "jobs.db")
    assert isinstance(found, str)
    assert "is not a regular file" in found


# Who may read it.


def modes(folder: Path) -> dict[str, str]:
    return {path.name: oct(stat.S_IMODE(path.stat().st_mode)) for path in folder.iterdir()}


async def test_60_for_its_owner_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file that is made, a backup while it is being written included, is its owner's alone from the start, whatever the umask."""
    seen: dict[str, str] = {}
    old = os.umask(0)
    try:
        served = Served(tmp_path / "jobs.db")
        backend = LocalBackend(engine=served.engine, clock=served.clock, journal=served.journal)
        await backend.enqueue(spec("a"))
        monkeypatch.setattr("jobqueue.process.durable.check", lambda path: seen.update(modes(tmp_path)) or check(path))
        await asyncio.to_thread(backup, str(tmp_path / "jobs.db"), str(tmp_path / "copy.db"))
        seen.update(modes(tmp_path))
        await backend.close()
    finally:
        os.umask(old)
    assert set(seen) == {"jobs.db", "jobs.db-wal", "jobs.db-shm", "jobs.db.lock", "copy.db", "copy.db.part"}
    assert set(seen.values()) == {"0o600"}


async def test_60_an_open_file_is_pointed_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The mode of a file that exists is its owner's affair and is kept; the log says so when everybody may read it."""
    async with backend_at(tmp_path / "jobs.db"):
        pass
    assert "every user" not in caplog.text
    (tmp_path / "jobs.db").chmod(0o644)
    async with backend_at(tmp_path / "jobs.db"):
        pass
    assert "every user of this machine can read" in caplog.text
    assert modes(tmp_path)["jobs.db"] == "0o644"
