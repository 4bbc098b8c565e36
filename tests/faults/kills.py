"""kill -9 at random moments, and a checker outside that knows every acknowledgement. `python -m tests.faults.kills --rounds 100`.

Clients that never give up: each repeats its request until it is answered, over however many servers, as docs/semantics.md tells clients
to. So in the end every request was answered, and the books of `Api` say what must be there. Leases are longer than the run: a worker that
was handed a job before a kill must still hold it afterwards, and nobody else may be handed it.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import tempfile
from pathlib import Path
from random import Random
from typing import Any

from .ledger import Api
from .process import Process
from .wire import PATIENCE_SECONDS, Answer, call, job_path

PRODUCERS, WORKERS = 6, 6
ALIVE_SECONDS_MAX = 0.15
LEASE_SECONDS = 3_600
BACKLOG_MAX = 400
"""Jobs from which on producers pause: what is left at the end is worked off one by one."""


class Stubborn(Api):
    """Books on a server that dies now and then. repeats: requests that had to be sent again."""

    def __init__(self) -> None:
        super().__init__(0)
        self.repeats = 0
        self.up = asyncio.Event()
        self.answers = 0

    async def ask(self, method: str, path: str, body: object) -> tuple[Answer, bool]:
        """The answer, however long it takes, and whether the request was sent more than once."""
        again = False
        while True:
            await self.up.wait()
            try:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    answer = await call(self.port, method, path, body)
            except OSError:
                # Before the next event loop turn the server may not be known to be down.
                await asyncio.sleep(0.002)
                again = True
                self.repeats += 1
                continue
            self.answers += 1
            return answer, again

    async def call(self, method: str, path: str, body: object = None, headers: str = "") -> Answer:
        return (await self.ask(method, path, body))[0]


async def _produce(api: Stubborn, name: str, luck: Random, stop: asyncio.Event) -> None:
    number = 0
    while not stop.is_set():
        if len(api.acknowledged) - len(api.concluded) > BACKLOG_MAX:
            await asyncio.sleep(0.002)
            continue
        ids = [api.full(f"{name}-{number + n}") for n in range(luck.choice((1, 1, 1, 5, 40)))]
        number += len(ids)
        # Booked at once, since a worker may be handed it before we are answered; we ask until we are.
        api.acknowledged.update(ids)
        items = [{"id": job_id, "queue": api.queue, "payload": {"of": job_id, "fill": "x" * luck.randrange(2_000)}} for job_id in ids]
        if len(items) == 1:
            answer, again = await api.ask("POST", "/jobs/enqueue", items[0])
            assert answer.status == 201 or (again and answer.status == 200), answer
        else:
            answer, again = await api.ask("POST", "/batch/enqueue", {"jobs": items})
            assert answer.status == 200, answer
            assert all(job["created"] or again for job in answer.json["jobs"]), answer


async def _work(api: Stubborn, name: str, luck: Random, stop: asyncio.Event) -> None:
    turn = 0
    while not stop.is_set():
        turn += 1
        asked = {"queue": api.queue, "wait": 0.05, "lease_seconds": LEASE_SECONDS, "worker": name, "attempt_id": f"{name}-{turn}"}
        answer, _ = await api.ask("POST", "/jobs/dequeue", asked)
        if answer.status == 204:
            continue
        assert answer.status == 200, answer
        api.took(answer.json)
        job_id, lease = answer.json["id"], {"lease": answer.json["lease"]["token"]}
        assert answer.json["payload"]["of"] == job_id
        if luck.random() < 0.3:
            answer, _ = await api.ask("POST", job_path(job_id, "extend"), {**lease, "progress": 0.5})
            assert answer.status == 200, answer
        if luck.random() < 0.15:
            # Booked before: it may be handed to someone else before we are answered.
            api.gave_up(job_id)
            answer, again = await api.ask("POST", job_path(job_id, "release"), lease)
            assert answer.status == 200 or (again and answer.code == "lease_lost"), answer
        else:
            answer, _ = await api.ask("POST", job_path(job_id, "conclude"), {**lease, "outcome": "succeeded", "result": turn})
            assert answer.status == 200, answer
            assert answer.json["outcome"] == "succeeded"
            api.over(job_id)


async def kill(rounds: int, seed: int, folder: Path, *flags: str) -> Stubborn:
    """Kill a server so many times and find it intact; the books. flags: more settings of the server."""
    luck = Random(seed)
    api, stop = Stubborn(), asyncio.Event()
    tasks = [asyncio.create_task(_produce(api, f"p{n}", Random(luck.random()), stop)) for n in range(PRODUCERS)]
    tasks += [asyncio.create_task(_work(api, f"w{n}", Random(luck.random()), stop)) for n in range(WORKERS)]
    command = ("--data", str(folder / "jobs.db"), "--history-jobs", "1000000", "--history-bytes", "1GiB", *flags)
    process: Process | None = None
    try:
        for number in range(rounds + 1):
            process = await asyncio.to_thread(Process, *command)
            api.port = process.port
            before = api.answers
            api.up.set()
            while api.answers == before:
                await _alive(tasks, 0.001)
            if number == rounds:
                break
            await _alive(tasks, luck.uniform(0.0, ALIVE_SECONDS_MAX))
            api.up.clear()
            process.signal(signal.SIGKILL)
            process.wait()
            process.close()
        stop.set()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await asyncio.gather(*tasks)
        await api.intact()
        assert process is not None
        await asyncio.to_thread(process.end)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if process is not None:
            process.close()
    return api


async def _alive(tasks: list[asyncio.Task[Any]], seconds: float) -> None:
    """Let clients work; raise what one of them found."""
    done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
    for task in done:
        task.result()


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.kills", description="Kill a durable server at random moments.")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sync", default="always")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        api = asyncio.run(kill(options.rounds, options.seed, Path(folder), "--sync", options.sync))
    print(
        f"intact after {options.rounds} kills: {len(api.acknowledged)} jobs, {api.answers} answers, "
        f"{api.repeats} requests that a kill cut off or kept waiting and that were repeated"
    )


if __name__ == "__main__":
    main()
