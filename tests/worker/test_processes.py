from __future__ import annotations

import asyncio
import math
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from jobqueue.model import Outcome, Status
from jobqueue.worker.handlers import Registry
from jobqueue.worker.worker import Worker

from .outside import gone, paths, until
from .processes import add, handlers
from .rig import Rig, error_of


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    rig = Rig()
    yield rig
    await rig.close()


def pid_of(path: Path) -> Callable[[], int]:
    return lambda: int(path.read_text()) if path.exists() and path.read_text().endswith("\n") else 0


async def test_a_handler_runs_in_a_process_that_is_kept_for_the_next(rig: Rig) -> None:
    """It is given payload and job as anywhere, and what it raises is its error."""
    await rig.start(handlers)
    first = await rig.succeeded(await rig.put("add", [1, 2, 3]))
    second = await rig.succeeded(await rig.put("add", [4]))
    assert (first["sum"], first["attempts"], second["sum"]) == (6, 1, 4)
    assert first["pid"] == second["pid"] != os.getpid()
    assert (await rig.failed(await rig.put("discard"))) == {"type": "Discard", "message": "never"}
    assert (await rig.failed(await rig.put("add", ["x"])))["type"] == "ValidationError"


async def test_a_process_ends_after_as_many_jobs_as_it_may_do(rig: Rig) -> None:
    """Each does two here, whether they go well or not; the next job finds a fresh process, and the old one is gone."""
    await rig.start(handlers, concurrency=1, max_jobs_per_process=2)
    first = (await rig.succeeded(await rig.put("add", [])))["pid"]
    assert (await rig.failed(await rig.put("discard")))["type"] == "Discard"
    pids = [(await rig.succeeded(await rig.put("add", [])))["pid"] for _ in range(3)]
    assert first != pids[0] == pids[1] != pids[2]
    assert gone(first)
    assert gone(pids[0])


@pytest.mark.parametrize("count", [0, -1, math.nan, 10**10, "two"])
def test_a_count_of_jobs_that_is_none_is_refused(count: object) -> None:
    """The parameter is named."""
    with pytest.raises(ValueError, match="max_jobs_per_process"):
        Worker(max_jobs_per_process=count)  # type: ignore[arg-type]


async def test_what_a_handler_prints_is_written_when_its_job_ends(
    rig: Rig, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Into a file or a pipe too, where Python holds it back: the process is killed when the worker ends."""
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    await rig.start(handlers)
    await rig.succeeded(await rig.put("print", "It was I."))
    assert capfd.readouterr().out == "It was I.\n"


async def test_progress_comes_out_of_a_process(rig: Rig) -> None:
    """It goes to the server with the heartbeats, as any other."""
    await rig.start(handlers)
    job_id = await rig.put("tell", 600)

    def told() -> bool:
        lease = rig.backend.engine.job(job_id).lease
        return lease is not None and (lease.progress, lease.message) == (0.5, "half way")

    await until(told)


async def test_a_process_whose_time_is_up_is_killed_and_replaced(rig: Rig, tmp_path: Path) -> None:
    """Its slot is free at once; the next job finds another process."""
    worker = await rig.start(handlers, timeout=10, concurrency=1)
    job_id = await rig.put("write", str(tmp_path / "pid"), max_attempts=1)
    pid = await until(pid_of(tmp_path / "pid"))
    await rig.advance(10)
    job = await rig.done(job_id)
    assert (job.outcome, error_of(job)["type"]) == (Outcome.FAILED, "TimeoutError")
    await until(lambda: gone(pid))
    again = await rig.succeeded(await rig.put("add", []))
    assert again["pid"] != pid
    assert worker.running == 0


async def test_a_cancelled_job_in_a_process_is_killed(rig: Rig, tmp_path: Path) -> None:
    """A process heeds no flag, and need not."""
    await rig.start(handlers)
    job_id = await rig.put("write", str(tmp_path / "pid"))
    pid = await until(pid_of(tmp_path / "pid"))
    await rig.backend.cancel(job_id)
    await rig.advance(5)
    assert (await rig.done(job_id)).outcome is Outcome.CANCELLED
    await until(lambda: gone(pid))


async def test_a_process_that_dies_fails_its_job_and_no_other(rig: Rig) -> None:
    """The error has the exit code; the attempt counts."""
    await rig.start(handlers, concurrency=1)
    job = await rig.done(await rig.put("die", max_attempts=2))
    assert job.attempts == 2
    assert error_of(job) == {"type": "ProcessDied", "message": "the handler's process ended with exit code 7"}
    assert (await rig.succeeded(await rig.put("add", [1])))["sum"] == 1


async def test_stopping_kills_what_runs_after_the_grace_period_and_gives_it_back(rig: Rig, tmp_path: Path) -> None:
    """No process outlives its worker."""
    worker = await rig.start(handlers)
    job_id = await rig.put("write", str(tmp_path / "pid"))
    pid = await until(pid_of(tmp_path / "pid"))
    idle = (await rig.succeeded(await rig.put("add", [])))["pid"]
    await rig.stop(worker, 1)
    job = await rig.job(job_id)
    assert (job.status, job.attempts) == (Status.QUEUED, 0)
    await until(lambda: gone(pid) and gone(idle))


async def test_a_handler_that_its_process_cannot_find_fails_saying_so(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when a module's name now stands for something else."""
    own = Registry()
    own.handler("add", executor="process")(add)
    await rig.start(own)
    monkeypatch.setattr(sys.modules[add.__module__], "add", None)
    error = await rig.failed(await rig.put("add", [], max_attempts=1))
    assert error["type"] == "PicklingError"
    assert error["message"].startswith("the handler cannot be sent to a process: ")


OWNER = """
import asyncio, sys
from tests.worker.processes import handlers
from jobqueue.backend.local import LocalBackend
from jobqueue.worker.worker import Worker
from jobqueue.model import JobSpec

async def main():
    backend = LocalBackend()
    await backend.enqueue(JobSpec(payload=sys.argv[1].encode(), type="write"))
    await Worker(backend, handlers=handlers).start()
    await asyncio.Event().wait()

if __name__ == "__main__":
    asyncio.run(main())
"""


async def test_a_process_ends_when_its_worker_is_killed(tmp_path: Path) -> None:
    """In the midst of a job, too: nobody wants what it comes to."""
    script = tmp_path / "owner.py"
    script.write_text(OWNER)
    owner = await asyncio.create_subprocess_exec(
        sys.executable,
        str(script),
        f'"{tmp_path / "pid"}"',
        env=paths(),
    )
    try:
        pid = await until(pid_of(tmp_path / "pid"))
        assert not gone(pid)
    finally:
        owner.send_signal(signal.SIGKILL)
        await owner.wait()
    await until(lambda: gone(pid))
