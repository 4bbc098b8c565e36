"""Bugs to be planted in a copy of the server, to see that the simulation finds them: `python -m tests.simulation.plants`.

Each is the kind of mistake that reads well in a review. The copy lies in a temporary folder; the server itself is never touched.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import click

ROOT = Path(__file__).parents[2]


class Plant(NamedTuple):
    """A bug: in which file which text is replaced. first: a seed that finds it; cluster: in a world of several servers; partitions: of a
    store of so many. also: more replacements, where one is not enough since the server looks twice.
    """

    name: str
    what: str
    path: str
    old: str
    new: str
    first: int
    cluster: bool = False
    partitions: int | None = None
    also: tuple[tuple[str, str, str], ...] = ()

    @property
    def how(self) -> list[str]:
        """The options of the simulation."""
        return ["--cluster"] * self.cluster + ([] if self.partitions is None else ["--partitions", str(self.partitions)])


PARTITIONED = (
    Plant(
        "a claim ignored",
        "a job is enqueued under whatever claim its id's home has, also one for another partition",
        "jobqueue/backend/store/claiming.py",
        "                elif claim.partition == entry.index:\n                    entry.number",
        "                elif claim.number:\n                    entry.number",
        0,
        True,
        3,
    ),
    Plant(
        "a void without a floor",
        "a partition says that it has no job of an id, and makes one all the same when an enqueue under that claim arrives late",
        "jobqueue/engine/claims.py",
        "        if not all(known) and self.floors.get(home, 0) < below:\n",
        "        if False:\n",
        0,
        True,
        3,
    ),
    Plant(
        "a second hand-out kept",
        "a dequeue that waits in several partitions keeps what another one hands out in the moment in which it has a job already",
        "jobqueue/backend/store/partitioned_taking.py",
        "            self.quiet = self.quiet or taking.quiet\n",
        "            taking.delivered()\n",
        9,
        True,
        3,
        (
            (
                "jobqueue/backend/store/partitioned_taking.py",
                "            for task in self._tasks:\n                task.cancel()\n",
                "",
            ),
        ),
    ),
    Plant(
        "two partitions moved at once",
        "partitions move whatever the others do, also while one of them moves or has no owner",
        "jobqueue/backend/store/balancing.py",
        "        await asyncio.gather(*(each.check() for each in self._backends))\n",
        "",
        8,
        True,
        3,
        (
            (
                "jobqueue/backend/store/balance.py",
                "        if owner is None or owner not in held:\n            return None\n",
                "        if owner is None or owner not in held:\n            continue\n",
            ),
        ),
    ),
    Plant(
        "a stale place",
        "a front goes on asking the partition where it last saw a job, though the id is another partition's by now",
        "jobqueue/backend/store/finding.py",
        "            if error.field is not None:\n                raise\n",
        "            if error.field is not None or self.places.known(job_id):\n                raise\n",
        2,
        True,
        3,
    ),
)

PLANTS = (
    *PARTITIONED,
    Plant(
        "barging",
        "jobs are handed to waiters in the next turn of the loop, so that a newcomer can take one first",
        "jobqueue/backend/shell.py",
        "                    self._hand_out(event.queue, now)\n",
        "                    import asyncio\n"
        "                    asyncio.get_running_loop().call_soon(lambda name=event.queue: (self._hand_out(name, now), self._act(now)))\n",
        11,
    ),
    Plant(
        "lost wake-up",
        "a waiter that is cancelled in the turn in which it is handed a job keeps it, and the next in line is not woken",
        "jobqueue/backend/taking.py",
        "            if waiter.answer:\n",
        "            if False:\n",
        37,
    ),
    Plant(
        "a pack opened by halves",
        "a pack that is reached by its place in the queue is not replaced in the catalogue, where its jobs go on waiting",
        "jobqueue/engine/packs.py",
        "            self._catalogue.put(jobs, jobs)\n",
        "",
        1,
    ),
    Plant(
        "release without lease check",
        "a release gives a leased job back whatever token it comes with",
        "jobqueue/engine/leases.py",
        "        job, lease = self._held(job_id, token, T_RELEASE)\n",
        "        job = self.job(job_id)\n        lease = job.lease or self._held(job_id, token, T_RELEASE)[1]\n",
        0,
    ),
    Plant(
        "an attempt too many",
        "a job whose answer could not be delivered is put back with the attempt counted",
        "jobqueue/engine/engine.py",
        "        job.attempts -= 1\n        if lease.cancel_requested:\n            self.to_concluded(job, queue, T_UNDELIVERED",
        "        if lease.cancel_requested:\n            self.to_concluded(job, queue, T_UNDELIVERED",
        0,
    ),
    Plant(
        "answer before commit",
        "a conclude is answered while its commit is still to come",
        "jobqueue/backend/local.py",
        "            await self.journal.committed(self.ticket)\n        return reply\n\n    async def conclude_batch(",
        "            pass\n        return reply\n\n    async def conclude_batch(",
        0,
    ),
    Plant(
        "forgetful retry",
        "a commit that failed for want of room is not tried again with the next",
        "jobqueue/backend/group_journal.py",
        "        self._gathering = self._gathering.after(group)\n",
        "        self._gathering = self._gathering\n",
        29,
    ),
    Plant(
        "live job forgotten",
        "a retried job stays in history too, which forgets it later though it lives",
        "jobqueue/engine/admin.py",
        "            self.history.remove(job)\n        job.hold",
        "            pass\n        job.hold",
        5,
    ),
    Plant(
        "resumed in silence",
        "resuming a queue wakes nobody",
        "jobqueue/backend/shell.py",
        "_AVAILABLE = frozenset({K_ENQUEUED, K_QUEUED, K_QUEUE_RESUMED, K_FREED})",
        "_AVAILABLE = frozenset({K_ENQUEUED, K_QUEUED, K_FREED}); _UNUSED = K_QUEUE_RESUMED",
        3,
    ),
    Plant(
        "endless patience",
        "a lease that runs out in a long turn is prolonged each time, so that a dead worker keeps its job while the loop is busy",
        "jobqueue/engine/engine.py",
        "        if lease.expires_at <= stalled and not lease.prolonged and lease.expires_at > lease.started_at:\n",
        "        if lease.expires_at <= stalled and lease.expires_at > lease.started_at:\n",
        137,
    ),
    Plant(
        "owner after its lease",
        "an owner does not look at its clock, and so goes on when it has been deposed",
        "jobqueue/backend/store/lease.py",
        "        return self.renewed_at + self.seconds - MARGIN_SECONDS - self.time(self._clock)\n",
        "        return 1e9\n",
        0,
        True,
    ),
    Plant(
        "answer before the store's commit",
        "an owner answers before the store has told it of the commit",
        "jobqueue/backend/group_journal.py",
        "        if ticket <= self._done:\n            return\n",
        "        if ticket <= self._done or self.sync == 'store':\n            return\n",
        0,
        True,
    ),
    Plant(
        "put-back lost with a front",
        "a server whose client has gone does not tell the owner, which goes on waiting to hear what became of the jobs",
        "jobqueue/backend/store/remote.py",
        "            link.refuse(self._n, self._jobs)\n",
        "            link.taken.discard(self._n)\n",
        0,
        True,
    ),
    Plant(
        "takeover forgets a lease",
        "a new owner takes jobs in progress for queued ones",
        "jobqueue/backend/loading.py",
        "    return offset, reader.change\n",
        "    for job in list(engine.jobs.all()):\n"
        "        if job.lease is not None:\n"
        "            engine.release(clock.now(), job.id, job.lease.token)\n"
        "    engine.take_events()\n"
        "    return offset, reader.change\n",
        0,
        True,
    ),
    Plant(
        "nothing sent again",
        "an owner keeps no commits, so that those which a failover forgets are lost though it lives",
        "jobqueue/backend/store/valkey_writer.py",
        "        self._keep(self._commit)\n",
        "",
        198,
        True,
    ),
    Plant(
        "standby that missed a group",
        "a standby goes on from what it followed without looking whether that is what the store has",
        "jobqueue/backend/following.py",
        "        if counters != self.counters:\n",
        "        if False:\n",
        44,
        True,
    ),
    Plant(
        "no fence",
        "the store takes what comes under an epoch that is over",
        "tests/simulation/valkey_data.py",
        '        if self.owner.get("token") != token.decode():\n',
        "        if False:\n",
        0,
        True,
    ),
    Plant(
        "held over by a deposed owner",
        "a server that does not own the queue any more still answers those who look at a job",
        "jobqueue/backend/store/own.py",
        "        if reign is None or not reign.lease.held():\n",
        "        if reign is None:\n",
        117,
        True,
    ),
    Plant(
        "two of a key",
        "a key that has a job in progress and none that has come back hands out the next one",
        "jobqueue/engine/keys.py",
        "            if self.away or (self.running and not taking):\n",
        "            if self.away or (self.running and not taking and self.away):\n",
        27,
    ),
    Plant(
        "one too many",
        "a queue with as many in progress as it may have hands out one more",
        "jobqueue/engine/flow.py",
        "        if concurrency is not None and self.in_progress >= concurrency:\n            return False\n",
        "        if concurrency is not None and self.in_progress > concurrency:\n            return False\n",
        13,
    ),
    Plant(
        "starved key",
        "a key that has a job in progress is not entered among those that may go, though it may have more",
        "jobqueue/engine/flow.py",
        "            if block is None:\n                self.ready_keys.set(",
        "            if block is None and not state.running:\n                self.ready_keys.set(",
        13,
    ),
    Plant(
        "freed in silence",
        "a lease that ends frees a slot, and nobody who waits for one is told",
        "jobqueue/engine/state.py",
        "            queue.let_go(job)\n            self.freed(queue)\n",
        "            queue.let_go(job)\n",
        13,
    ),
    Plant(
        "slot lost over a crash",
        "a job that was in progress when the server died holds its key, when it is back, as if it had come back too, and so for ever",
        "jobqueue/engine/flow.py",
        "            state.started(job)\n            self.look(state)\n",
        "            state.started(job)\n            state.put_away(job)\n            self.look(state)\n",
        188,
    ),
    Plant(
        "slot lost over a disconnect",
        "a job whose client hung up before it was answered is put back, and counted as in progress all the same",
        "jobqueue/engine/engine.py",
        "            queue.undelivered(job, lease.started_at, now)\n",
        "            queue.undelivered(job, lease.started_at, now)\n            queue.in_progress += 1\n",
        34,
    ),
    Plant(
        "closed is lost",
        "whoever closes its connection after it has read its answer loses the job that this handed over, as if it had never come",
        "jobqueue/http/peers.py",
        "        if handed is not None and self._fd >= 0 and self.server.unacknowledged(self._fd):\n",
        "        if handed is not None:\n",
        0,
    ),
    Plant(
        "full after a restart",
        "a rate begins full when the server is back, whatever it had handed out right before",
        "jobqueue/engine/bucket.py",
        "        self.full_at = now + rate.burst * rate.interval\n        self.low_at = now\n",
        "        self.full_at = now\n        self.low_at = now\n",
        223,
    ),
    Plant(
        "key let go in a backoff",
        "a job that has failed and is to be tried again leaves its key to the next one meanwhile",
        "jobqueue/engine/keys.py",
        "            if self.away or (self.running and not taking):\n",
        "            if self.running and not taking:\n",
        27,
    ),
    Plant(
        "child of a failure",
        "a job that is after another one runs when that has failed, whatever was asked for",
        "jobqueue/engine/graph.py",
        '        if extra.after_failure == "run" or (known is not None and known.outcome is SUCCEEDED):\n',
        '        if extra.after_failure != "cancel" or (known is not None and known.outcome is SUCCEEDED):\n',
        3,
    ),
    Plant(
        "last trigger lost",
        "who waits for a unique key is not told when its holder ends by the holder's own worker",
        "jobqueue/engine/unique.py",
        "        elif self.holders.get(place) is job:\n            del self.holders[place]\n            self._free(place, now)\n",
        "        elif self.holders.get(place) is job:\n            del self.holders[place]\n",
        3,
    ),
    Plant(
        "hasty callback",
        "a group enqueues its job as soon as none of its members lives, though more may join",
        "jobqueue/engine/groups.py",
        "        return self.stored.closed and not self.live\n",
        "        return not self.live\n",
        3,
    ),
    Plant(
        "deduplication lost over a restart",
        "the time for which a unique key is held is not known any more when the server is back",
        "jobqueue/engine/unique.py",
        "            among[place] = job\n        self._open(job, claim)\n",
        "            among[place] = job\n            self._open(job, claim)\n",
        152,
    ),
    Plant(
        "deduplication outlives a purge",
        "a purge ends all messages, and what is enqueued next under a deduplication id of theirs is taken for a duplicate",
        "jobqueue/engine/purging.py",
        "                engine.uniques.forget(item, now)\n",
        "                pass\n",
        62,
    ),
    Plant(
        "late delete lost over a restart",
        "whose lease ran out cannot say any more that it is done, when the server has been started anew",
        "jobqueue/backend/rows.py",
        "    return row if one.token is None else (*row, one.token)\n",
        "    return row\n",
        182,
    ),
    Plant(
        "timeout of nothing that counts nothing",
        "a lease that its holder ends at once is given back, and its attempt does not count",
        "jobqueue/engine/leases.py",
        "            self.expire_lease(job, self.queues[job.queue], now)\n            return job\n",
        "            return self.release(now, job_id, token)\n",
        12,
    ),
    Plant(
        "late delete in order",
        "a message of a FIFO queue is deleted with a handle that has expired, as one of a standard queue may be",
        "jobqueue/api/dialects/sqs/actions/settling.py",
        "        await call.site.backend.conclude(job_id, token, _DONE if fifo else _DONE_LATE)\n",
        "        await call.site.backend.conclude(job_id, token, _DONE_LATE)\n",
        52,
    ),
)


@contextmanager
def planted(plant: Plant) -> Iterator[Path]:
    """A copy of the server with the bug in it. Raises LookupError when the text to be replaced is not there exactly once."""
    with tempfile.TemporaryDirectory(prefix="jobqueue-planted-") as folder:
        copy = Path(folder)
        for part in ("jobqueue", "tests/simulation"):
            shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
        for part in ("tests/__init__.py", "tests/messages.py", "tests/ways.py"):
            shutil.copyfile(ROOT / part, copy / part)
        for name, old, new in ((plant.path, plant.old, plant.new), *plant.also):
            path = copy / name
            text = path.read_text(encoding="utf-8")
            if text.count(old) != 1:
                raise LookupError(f"{plant.name} does not fit {name} any more; write it anew")
            path.write_text(text.replace(old, new), encoding="utf-8")
        yield copy


def hunt(plant: Plant, *how: str) -> subprocess.CompletedProcess[str]:
    """Simulate the copy, with options that say from which seed on and for how long, until the bug is found: exit code 1."""
    with planted(plant) as copy:
        command = [sys.executable, "-m", "tests.simulation", *how, *plant.how]
        return subprocess.run(command, cwd=copy, env={**os.environ, "PYTHONPATH": str(copy)}, capture_output=True, text=True, check=False)


@click.command()
@click.option("--first", type=int, default=0, show_default=True, help="The first seed.")
@click.option("--seconds", type=float, default=120.0, show_default=True, help="How long to look for each bug.")
@click.option("--only", help="The name of one bug.")
def main(first: int, seconds: float, only: str | None) -> None:
    """Plant one bug after the other and see after how many seeds and requests it is found."""
    missed = 0
    for plant in PLANTS:
        if only in (None, plant.name):
            result = hunt(plant, "--first", str(first), "--seconds", str(seconds))
            lines = result.stdout.splitlines()
            missed += result.returncode != 1
            faults = [line for line in lines if line.startswith("  at ")]
            print(f"{plant.name}: {lines[-1] if lines else result.stderr[-500:]}\n{(faults or [''])[0]}", flush=True)
    sys.exit(missed)


if __name__ == "__main__":
    main()
