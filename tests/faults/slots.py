"""kill -9 around the slots of schedules, and a check that each ran once. `python -m tests.faults.slots --rounds 40`.

A server with a file and schedules of one second each, one for each way in which slots may be missed and overlap. It is killed at random
moments, most of them within milliseconds of a slot, and started again at once. In the end each slot has one job at most, though all jobs
that were made are still there; and by its rule `missed` none is missing: of each time that the server was away, `all` has every slot,
`last` the last one.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import tempfile
import time
from collections import Counter
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from .process import Process
from .wire import call

SCHEDULES = {
    "all": {"missed": "all", "overlap": "allow"},
    "last": {"missed": "last", "overlap": "allow"},
    "skip": {"missed": "skip", "overlap": "allow"},
    "queue": {"missed": "all", "overlap": "queue"},
}
NEAR_SECONDS = 0.03
"""Most kills come so close to a slot, before or after it."""


class Found(NamedTuple):
    """What a run came to: jobs by schedule, and slots that were asked for."""

    jobs: Counter[str]
    kills: int


async def _ask(port: int, method: str, path: str, body: object = None) -> Any:
    answer = await call(port, method, path, body)
    assert answer.status < 300, answer
    return answer.json


async def _jobs(port: int) -> list[Any]:
    found: list[Any] = []
    cursor = None
    while True:
        page = await _ask(port, "GET", "/jobs?limit=1000" + ("" if cursor is None else f"&cursor={cursor}"))
        found += page["jobs"]
        cursor = page["cursor"]
        if cursor is None:
            return found


def _slot(job: Any) -> float:
    return datetime.fromisoformat(job["schedule"]["slot"]).timestamp()


async def kill(rounds: int, seed: int, folder: Path) -> Found:
    """Kill a server so many times around slots, and check what became of these."""
    luck = Random(seed)
    flags = ("--data", str(folder / "jobs.db"), "--history-jobs", "1000000")
    away: list[tuple[float, float]] = []
    process = await asyncio.to_thread(Process, *flags)
    try:
        for name, rules in SCHEDULES.items():
            body = {"every": 1, "job": {"payload": None, "queue": name}, **rules}
            await _ask(process.port, "PUT", f"/schedules/{name}", body)
        for _ in range(rounds):
            # The slots are at whole seconds.
            left = 1.0 - time.time() % 1.0
            if luck.random() < 0.8:
                left += luck.uniform(-NEAR_SECONDS, NEAR_SECONDS)
            else:
                left *= luck.random()
            await asyncio.sleep(max(0.0, left))
            died = time.time()
            process.signal(signal.SIGKILL)
            process.wait()
            process.close()
            if luck.random() < 0.2:
                # Long enough for several slots to be missed.
                await asyncio.sleep(luck.uniform(1.0, 2.5))
            process = await asyncio.to_thread(Process, *flags)
            await _conclude(process.port, "queue")
            away.append((died, time.time()))
        # One more slot of each, so that all that was missed is made up for.
        until = time.time() + 2.0
        while time.time() < until:
            await _conclude(process.port, "queue")
            await asyncio.sleep(0.05)
        schedules = {each["name"]: each for each in (await _ask(process.port, "GET", "/schedules"))["schedules"]}
        jobs = await _jobs(process.port)
        await asyncio.to_thread(process.end)
    finally:
        process.close()
    return _checked(schedules, jobs, away)


async def _conclude(port: int, queue: str) -> None:
    """Finish what is there, so that the next slot may run."""
    while (answer := await call(port, "POST", "/jobs/dequeue", {"queue": queue, "wait": 0})).status == 200:
        job = answer.json
        await _ask(port, "POST", f"/jobs/{job['id']}/conclude", {"lease": job["lease"]["token"], "outcome": "succeeded"})


def _checked(schedules: dict[str, Any], jobs: list[Any], away: list[tuple[float, float]]) -> Found:
    by_name: dict[str, list[float]] = {name: [] for name in SCHEDULES}
    for job in jobs:
        by_name[job["schedule"]["name"]].append(_slot(job))
    for name, slots in by_name.items():
        assert len(slots) == len(set(slots)), f"{name}: a slot ran twice"
        shown = schedules[name]
        assert shown["made"] == len(slots), f"{name}: {shown['made']} were made and {len(slots)} are there"
        assert shown["problem"] is None
        first = datetime.fromisoformat(shown["begun_at"]).timestamp() + 1
        last = datetime.fromisoformat(shown["next"][0]).timestamp()
        wanted = {first + n for n in range(round(last - first))}
        missing = sorted(wanted - set(slots))
        if name in ("all", "queue"):
            waiting = {datetime.fromisoformat(slot).timestamp() for slot in shown["waiting"]}
            assert set(missing) <= waiting, f"{name}: slots {missing} did not run"
        else:
            # Only while the server was away, and not the last one of that time.
            for slot in missing:
                assert any(died - 1.0 <= slot <= up and slot + 1.0 <= up for died, up in away), f"{name}: slot {slot} did not run"
    return Found(Counter({name: len(slots) for name, slots in by_name.items()}), len(away))


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.slots", description="Kill a server around the slots of its schedules.")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(kill(options.rounds, options.seed, Path(folder)))
    print(f"each slot at most once, and none forgotten, after {found.kills} kills: {dict(found.jobs)}")


if __name__ == "__main__":
    main()
