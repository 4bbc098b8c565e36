"""Handlers in processes that fork, start programs, and leave things behind."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from jobqueue.model import Outcome, Status

from .outside import gone, until
from .processes import handlers
from .rig import Rig, error_of


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    rig = Rig()
    yield rig
    await rig.close()


def noted(path: Path, count: int) -> Callable[[], list[int]]:
    """The numbers of processes that a handler noted, once there are so many."""
    return lambda: found if path.exists() and len(found := [int(line) for line in path.read_text().split()]) >= count else []


# Forks.


async def test_each_job_gets_its_own_answer_when_handlers_fork(rig: Rig) -> None:
    """A fork that returns from the handler answers for nobody, so no job is given the answer of the one before."""
    await rig.start(handlers, concurrency=1)
    jobs = [await rig.put("fork", f"job {number}") for number in range(4)]
    assert [await rig.succeeded(job_id) for job_id in jobs] == ["job 0", "job 1", "job 2", "job 3"]


@pytest.mark.parametrize(("how", "code"), [("return", 0), ("raise", 1), ("exit", 3), ("say", 1)])
async def test_a_fork_that_leaves_the_handler_ends(rig: Rig, how: str, code: int) -> None:
    """As a script would, with the exit code of what came out; it does not go on as a second worker."""
    await rig.start(handlers, concurrency=1)
    job_id = await rig.put("fork and end", how)
    assert await rig.succeeded(job_id) == code


async def test_a_process_that_dies_is_noticed_though_its_fork_lives(rig: Rig, tmp_path: Path) -> None:
    """The job fails at once, not when the fork ends; and the fork ends too."""
    await rig.start(handlers, concurrency=1)
    job = await rig.done(await rig.put("fork and die", str(tmp_path / "pids"), max_attempts=1))
    assert error_of(job) == {"type": "ProcessDied", "message": "the handler's process ended with exit code 7"}
    for pid in noted(tmp_path / "pids", 0)():
        await until(lambda pid=pid: gone(pid))


async def test_a_note_of_a_job_before_is_not_taken_for_this_one_s(rig: Rig, tmp_path: Path) -> None:
    """What a thread that was left behind says late is dropped."""
    await rig.start(handlers, concurrency=1)
    assert await rig.succeeded(await rig.put("leave a thread")) == "first"
    job_id = await rig.put("let it speak", str(tmp_path / "pids"))
    await until(noted(tmp_path / "pids", 1))

    def told() -> tuple[float, str] | None:
        lease = rig.backend.engine.job(job_id).lease
        return None if lease is None or lease.progress is None else (lease.progress, lease.message)

    await until(told)
    await rig.advance(5)
    assert told() == (0.1, "in time")


# Signals.


@pytest.mark.parametrize("how", ["program", "fork"])
async def test_what_a_handler_starts_heeds_signals(rig: Rig, how: str) -> None:
    """SIGTERM and SIGINT are neither ignored nor blocked in its programs and forks."""
    await rig.start(handlers, concurrency=1)
    deaf = await rig.succeeded(await rig.put("signals", how))
    assert deaf
    assert not any(deaf.values()), deaf


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_to_all_of_a_service_leaves_running_jobs_to_the_worker(rig: Rig, tmp_path: Path, number: signal.Signals) -> None:
    """The process itself heeds neither, so that its job has the grace period."""
    await rig.start(handlers, concurrency=1)
    path = tmp_path / "pids"
    job_id = await rig.put("hold", str(path))
    (pid,) = await until(noted(path, 1))
    assert os.getpgid(pid) == pid != os.getpgrp()
    os.kill(pid, number)
    path.unlink()
    assert await rig.succeeded(job_id) == "held"


# What is killed with it.


@pytest.mark.parametrize("name", ["family", "fork and stay"])
@pytest.mark.parametrize("why", ["time-out", "cancel", "stop"])
async def test_what_a_job_started_ends_with_it(rig: Rig, tmp_path: Path, name: str, why: str) -> None:
    """Its programs, their children and its forks, though none of them heeds SIGTERM."""
    path = tmp_path / "pids"
    worker = await rig.start(handlers, concurrency=1, timeout=10 if why == "time-out" else None)
    job_id = await rig.put(name, str(path), max_attempts=1)
    pids = await until(noted(path, 2))
    if why == "time-out":
        await rig.advance(10)
        assert error_of(await rig.done(job_id))["type"] == "TimeoutError"
    elif why == "cancel":
        await rig.backend.cancel(job_id)
        await rig.advance(5)
        assert (await rig.done(job_id)).outcome is Outcome.CANCELLED
    else:
        await rig.stop(worker, 1)
        assert (await rig.job(job_id)).status is Status.QUEUED
    for pid in pids:
        await until(lambda pid=pid: gone(pid))


async def test_what_a_process_started_ends_when_it_dies(rig: Rig, tmp_path: Path) -> None:
    """At once, though the programs were given all that was open in it; the next attempt finds nothing of the one before."""
    path = tmp_path / "pids"
    await rig.start(handlers, concurrency=1)
    job = await rig.done(await rig.put("family and die", str(path), max_attempts=1))
    assert error_of(job)["type"] == "ProcessDied"
    for pid in noted(path, 2)():
        await until(lambda pid=pid: gone(pid))
