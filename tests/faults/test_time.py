"""Faults 6, 19, 21 to 23: leases against peers that fall silent, clocks that jump, and a server that stands still."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time

import pytest

from jobqueue.limits import Limits
from jobqueue.model import JobSpec

from .inside import HandClock, on_both_loops, serving, turns
from .ledger import Api, epoch
from .process import Process, go_on, on_each_server, stop
from .wire import job_path, request, until

DAY = 86_400.0

_WORKER = """
import json, sys, time, urllib.error, urllib.request
base, queue = sys.argv[1:]
def post(path, body):
    ask = urllib.request.Request(base + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(ask, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()
job = json.loads(post("/jobs/dequeue", {"queue": queue, "wait": 30, "lease_seconds": 1})[1])
print(json.dumps(job), flush=True)
while True:
    time.sleep(0.1)
    status, _ = post("/jobs/" + job["id"] + "/extend", {"lease": job["lease"]["token"], "lease_seconds": 1})
    if status != 200:
        break
print(status, flush=True)
"""
"""A worker that takes one job and keeps extending its lease until that is refused; it prints the job, then the refusal."""


async def test_06_silent_peer(api: Api) -> None:
    """A worker that is stopped dead, its connection still open, loses its job when the lease ends; woken up, it is told so."""
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _WORKER, f"http://127.0.0.1:{api.port}", api.queue, stdout=subprocess.PIPE
    )
    assert worker.stdout is not None
    try:
        await api.stats()
        await api.put("j")
        assert api.full("j").encode() in await worker.stdout.readline()
        stop(worker.pid)
        job = await api.take(wait=20, lease_seconds=60)
        assert (job["id"], job["attempts"]) == ("j", 2)
        go_on(worker.pid)
        assert await worker.stdout.readline() == b"409\n"
        assert (await api.conclude("j", job["lease"]["token"])).status == 200
    finally:
        if worker.returncode is None:
            worker.kill()
        await worker.wait()


@pytest.mark.parametrize("offset", range(-2, 4))
@on_both_loops
async def test_19_conclude_at_expiry(offset: int) -> None:
    """Forty concludes arrive some turns before (negative), in or after the turn in which all forty leases end: each job ends once.

    Either the conclude is accepted and nobody is handed the job again, or it is refused and someone is.
    """
    clock = HandClock()
    async with serving(clock=clock) as api:
        ids = [f"j{number}" for number in range(40)]
        await api.put_all(ids)
        jobs = await api.take_all(lease_seconds=10)
        clients = [await api.connect() for _ in jobs]
        concludes = [
            request("POST", job_path(api.full(job["id"]), "conclude"), {"lease": job["lease"]["token"], "outcome": "succeeded"})
            for job in jobs
        ]
        if offset > 0:
            clock.advance(10)
            await turns(offset - 1)
        for number, (client, conclude) in enumerate(zip(clients, concludes, strict=True)):
            client.send_now(conclude)
            if number == 20 and offset <= 0:
                await turns(-offset)
                clock.advance(10)
        answers = [await client.answer() for client in clients]
        accepted = {job["id"] for job, answer in zip(jobs, answers, strict=True) if answer.status == 200}
        for job, answer in zip(jobs, answers, strict=True):
            if job["id"] in accepted:
                assert answer.json["outcome"] == "succeeded"
                api.over(job["id"])
            else:
                assert (answer.status, answer.code) == (409, "lease_lost")
                api.gave_up(job["id"])
        again = await api.take_all()
        assert {job["id"] for job in again} == set(ids) - accepted
        assert {job["attempts"] for job in again} <= {2}
        assert (await api.stats())["totals"]["succeeded"] == len(accepted)


@pytest.mark.parametrize("first", ["conclude", "expiry"])
async def test_19_conclude_at_expiry_in_either_order(first: str) -> None:
    """At the very instant of expiry whichever is processed first wins, and the other changes nothing."""
    clock = HandClock()
    async with serving(clock=clock) as api:
        await api.put("j")
        job = await api.take(lease_seconds=10)
        client = await api.connect()
        conclude = request("POST", job_path(api.full("j"), "conclude"), {"lease": job["lease"]["token"], "outcome": "succeeded"})
        if first == "conclude":
            await client.send(conclude)
            assert (await client.answer()).status == 200
            clock.advance(10)
            await turns(3)
            api.over("j")
            assert (await api.job("j"))["outcome"] == "succeeded"
        else:
            clock.advance(10)
            await turns(3)
            await client.send(conclude)
            assert (await client.answer()).code == "lease_lost"
            api.gave_up("j")
            assert await api.counts() == (1, 0)


@pytest.mark.parametrize("jump", [DAY, -DAY], ids=["forward", "back"])
async def test_21_clock_jump(jump: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wall clock jumps a day: leases, delays and waits last as long as they would have, and times shown follow the new clock."""
    async with serving(Limits(lease_seconds_min=0.1)) as api:
        await api.put_all(["short", "long", "dying"])
        await api.take(lease_seconds=0.5)
        long = await api.take(lease_seconds=60)
        await api.take(lease_seconds=0.5)
        await api.put("delayed", delay=0.6)
        await api.put("far", delay=3_600)
        waiter = await api.connect()
        await waiter.send(request("POST", "/jobs/dequeue", {"queue": "nothing", "wait": 0.4}))
        started = time.monotonic()
        wall = time.time
        monkeypatch.setattr(time, "time", lambda: wall() + jump)
        api.use_clock(time.time)

        # Nothing has moved: what is due in half a second is not due now, what is due is not a day away.
        assert (await api.stats())["in_progress"] == 3
        assert (await api.stats())["scheduled"] == 2

        async def shown_by_the_new_clock() -> bool:
            return abs(epoch((await api.job("long"))["lease_expires_at"]) - time.time() - 60) < 30

        await until(shown_by_the_new_clock, "times follow the new clock")
        shown = await api.job("long")
        assert epoch(shown["lease_expires_at"]) - epoch(long["lease"]["expires_at"]) == pytest.approx(jump, abs=1)
        long["lease"]["expires_at"] = shown["lease_expires_at"]
        assert (await waiter.answer()).status == 204
        assert time.monotonic() - started >= 0.3
        api.gave_up("short")
        api.gave_up("dying")
        await api.reach(queued=3, in_progress=1)
        assert time.monotonic() - started >= 0.5
        assert [job["id"] for job in await api.take_all()] == ["short", "dying", "delayed"]
        assert (await api.stats())["scheduled"] == 1
        extended = await api.call("POST", job_path(api.full("long"), "extend"), {"lease": long["lease"]["token"], "lease_seconds": 60})
        assert epoch(extended.json["expires_at"]) - time.time() == pytest.approx(60, abs=20)
        assert (await api.call("POST", job_path(api.full("far"), "cancel"))).status == 200
        api.over("far", "cancelled")


@on_each_server
@pytest.mark.parametrize("late", [0.1, 0.6], ids=["just after the leases ended", "long after"])
async def test_22_loop_stall(process: Process, api: Api, late: float) -> None:
    """The server stands still until after every lease has ended, while its workers extend them in time: all are heard, none has expired."""
    ids = [f"j{number}" for number in range(30)]
    await api.put_all(ids)
    clients = [await api.connect() for _ in ids]
    for client in clients:
        assert (await client.call("GET", "/healthz")).status == 200
    jobs = await api.take_all(lease_seconds=0.7)
    ends = min(epoch(job["lease"]["expires_at"]) for job in jobs)
    stop(process.process.pid)
    try:
        for job, client in zip(jobs, clients, strict=True):
            await client.send(
                request("POST", job_path(api.full(job["id"]), "extend"), {"lease": job["lease"]["token"], "lease_seconds": 60})
            )
        assert time.time() < ends
        # Real time: the leases end while the server hears of nothing.
        await asyncio.sleep(ends - time.time() + late)
    finally:
        go_on(process.process.pid)
    answers = [await client.answer() for client in clients]
    assert [answer.status for answer in answers] == [200] * 30
    stats = await api.stats()
    assert (stats["in_progress"], stats["queued"]) == (30, 0)
    assert stats["totals"]["redelivered"] == 0


@on_each_server
async def test_22_loop_stall_of_the_silent(process: Process, api: Api) -> None:
    """After such a stall a worker that says nothing still loses its lease: it was prolonged once, not for ever."""
    await api.put("j")
    await api.take(lease_seconds=0.5)
    stop(process.process.pid)
    await asyncio.sleep(1.0)
    go_on(process.process.pid)
    api.gave_up("j")
    assert (await api.take(wait=20))["attempts"] == 2


@pytest.mark.parametrize(("turn", "grace"), [(0.05, 0.0), (0.5, 0.5)], ids=["slow turns", "turns like stalls"])
async def test_57_busy_loop_lease(turn: float, grace: float) -> None:
    """While every turn of the loop is long and jobs fall due in each, a dead worker's lease ends once, a few turns after its time."""
    clock = HandClock()
    async with serving(clock=clock) as api:
        await api.put("j", max_attempts=5)
        job = await api.take(lease_seconds=2)
        ends = epoch(job["lease"]["expires_at"])
        while api.backend.totals().leases and clock.now() < ends + 60:
            await api.backend.enqueue(JobSpec(payload=b"1", queue="busy", delay=0.001))
            clock.advance(turn)
            await turns(1)
        assert ends <= clock.now() <= ends + grace + 18 * turn
        api.gave_up("j")
        assert [(again["id"], again["attempts"]) for again in await api.take_all()] == [("j", 2)]
        assert api.backend.totals().leases_expired_total == 1
        await api.call("POST", "/queues/busy/purge")


async def test_23_poison_job(api: Api) -> None:
    """A job that every worker dies of is handed out max_attempts times, then it is concluded as failed and stands in nobody's way."""
    await api.put("poison", max_attempts=3)
    await api.put("after")
    for attempt in (1, 2, 3):
        job = await api.take(wait=20, lease_seconds=0.2)
        assert (job["id"], job["attempts"]) == ("poison", attempt)
        await api.reach(queued=2 if attempt < 3 else 1, in_progress=0)
    api.over("poison", "failed")
    job = await api.job("poison")
    assert (job["status"], job["outcome"], job["attempts"], job["error"]) == ("concluded", "failed", 3, "lease_expired")
    assert (await api.take())["id"] == "after"


async def test_23_poison_job_that_kills_by_failing(api: Api) -> None:
    """The same when workers report the failure: backoff between the attempts, then the end."""
    await api.put("poison", max_attempts=2, backoff={"base": 0.01, "factor": 1, "cap": 0.01})
    for attempt in (1, 2):
        job = await api.take(wait=20)
        assert job["attempts"] == attempt
        answer = await api.conclude("poison", job["lease"]["token"], "failed", error={"why": attempt})
        assert answer.status == 200
        api.gave_up("poison")
    job = await api.job("poison")
    assert (job["outcome"], job["attempts"], job["error"]) == ("failed", 2, {"why": 2})


async def test_23_poison_job_that_crashes_its_clients(api: Api) -> None:
    """Worker processes that are killed with the job in hand spend its attempts one by one."""
    await api.put("poison", max_attempts=2)
    for attempt in (1, 2):
        worker = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _WORKER, f"http://127.0.0.1:{api.port}", api.queue, stdout=subprocess.PIPE
        )
        assert worker.stdout is not None
        assert b'"attempts": %d' % attempt in await worker.stdout.readline()
        worker.send_signal(signal.SIGKILL)
        await worker.wait()
    api.over("poison", "failed")

    async def failed() -> bool:
        return bool((await api.job("poison"))["outcome"] == "failed")

    await until(failed, "the last attempt is spent")
