"""Round by round: all is whole, one thing fails, all is whole again. In the end everything is drained and judged."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from random import Random
from statistics import median

from jobqueue import Client, Retrying
from jobqueue.client.types import JobInfo

from .book import Book, median_and_worst
from .load import Load, load_on
from .stands import Stand, stand_on

WHOLE_SECONDS = 90.0
DRAIN_SECONDS = 180.0
QUIET = "nothing (the seconds before each)"


@dataclass
class Case:
    """What one kind of fault did, a number a round. lasted: until who was killed was started again, or who stood still went on; silence: no
    enqueue was acknowledged for so long; longest: one enqueue took so long."""

    lasted: list[float] = field(default_factory=list)
    silence: list[float] = field(default_factory=list)
    longest: list[float] = field(default_factory=list)

    def add(self, book: Book, since: float, lasted: float, until: float) -> None:
        """Note a round."""
        self.lasted.append(lasted)
        self.silence.append(book.silence(since, until))
        self.longest.append(book.longest(since, until))


@dataclass
class Outcome:
    """What a run came to. lost, undone, double: in words, empty when all is well; faults: whatever else was wrong."""

    book: Book
    cases: dict[str, Case]
    lost: list[str]
    undone: list[str]
    double: list[str]
    faults: list[str]
    checked: str

    @property
    def well(self) -> bool:
        """Whether nothing was wrong."""
        return not (self.lost or self.undone or self.double or self.faults)

    def table(self) -> str:
        """In Markdown; what is not called worst is the median of the rounds."""
        headings = "| what fails | rounds | it lasts, s | no enqueue answered, s | worst | one enqueue takes, s | worst |"
        lines = [headings, "|---" * headings.count(" | ") + "|---|"]
        for name, case in self.cases.items():
            times = " | ".join((f"{median(case.lasted):.1f}", median_and_worst(case.silence), median_and_worst(case.longest)))
            lines.append(f"| {name} | {len(case.silence)} | {times} |")
        return "\n".join(lines)

    def summary(self) -> str:
        """In one sentence, and what is wrong."""
        book = self.book
        first = (
            f"{len(book.acknowledged)} enqueues and {len(book.concluded)} concludes were acknowledged, {len(book.held)} leases handed out, "
            f"{book.extended} extended, {book.released} released, {book.failed} failed, {book.late} given up too late. "
            f"Lost: {len(self.lost)}. Undone: {len(self.undone)}. Double live leases: {len(self.double)}."
        )
        wrong = [f"lost: {name}" for name in self.lost] + [f"undone: {name}" for name in self.undone] + self.double + self.faults
        return "\n".join([first, *wrong[:50]])


def bag(names: list[str], rounds: int, luck: Random) -> list[str]:
    """So many names in any order, each as often as any other, or once less."""
    drawn: list[str] = []
    while len(drawn) < rounds:
        drawn += luck.sample(names, len(names))
    return drawn[:rounds]


def run(
    store: str,
    rounds: int,
    seed: int,
    say: Callable[[str], None] = print,
    only: str = "",
    logs: Path | None = None,
    partitions: int = 1,
) -> Outcome:
    """Strike so many times. only: what the names of the cases must have in them; logs: a folder for what the servers log."""
    luck = Random(seed)
    with stand_on(store, logs, partitions) as stand:
        book = Book()
        cases: dict[str, Case] = {QUIET: Case()}
        with load_on([server.url for server in stand.servers], book, luck.randrange(1 << 30), partitions) as load:
            _wait_until_whole(stand, load)
            names = [name for name in stand.cases if only in name]
            for number, name in enumerate(bag(names, rounds, luck), 1):
                since = time.monotonic()
                time.sleep(luck.uniform(1.0, 3.0))
                struck = time.monotonic()
                cases[QUIET].add(book, since, struck - since, struck)
                stand.cases[name](luck)
                lasted = time.monotonic() - struck
                _wait_until_whole(stand, load)
                case = cases.setdefault(name, Case())
                case.add(book, struck, lasted, time.monotonic())
                took = f"{case.silence[-1]:.2f} s, one enqueue {case.longest[-1]:.2f} s, whole after {time.monotonic() - struck:.1f} s"
                say(f"{number:3} {datetime.now().astimezone():%H:%M:%S} {name}: {took}")
            load.drain()
            _wait("the queue is worked off", DRAIN_SECONDS, lambda: _live(stand) == 0, load)
        found = _all_jobs(stand)
        checked = stand.checked()
        lost, undone = book.lost(found)
        for server in stand.servers:
            server.close()
        # A defect of the server is logged as one.
        tracebacks = [line for server in stand.servers for line in server.log.splitlines() if "Traceback" in line or "Error:" in line]
        order = {QUIET: cases.pop(QUIET)} | {name: cases[name] for name in stand.cases if name in cases}
    ids = Counter(job.id for job in found)
    book.faults += [f"{count} jobs have the id {job_id}" for job_id, count in ids.items() if count > 1]
    strangers = [f"{job.id} is there, and nobody enqueued it" for job in found if job.id not in book.submitted]
    return Outcome(book, order, lost, undone, book.double_leases(), [*book.faults, *strangers, *tracebacks], checked.splitlines()[0])


def _wait(what: str, seconds: float, met: Callable[[], bool], load: Load) -> None:
    deadline = time.monotonic() + seconds
    while not met():
        load.check()
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        time.sleep(0.1)


def _wait_until_whole(stand: Stand, load: Load) -> None:
    """Also until an enqueue was acknowledged since: whoever is whole serves."""
    try:
        _wait("all is whole", WHOLE_SECONDS, stand.whole, load)
    except AssertionError as error:
        seen = [server.sees() for server in stand.servers]
        raise AssertionError(f"{error}; the servers see {seen} servers; the store says:\n{stand.told()}") from None
    count = len(load.book.acknowledged)
    _wait("it serves", WHOLE_SECONDS, lambda: len(load.book.acknowledged) > count, load)


def _asking(stand: Stand) -> Client:
    return Client([server.url for server in stand.servers], retrying=Retrying(tries=50, cap=1.0))


def _live(stand: Stand) -> int:
    with _asking(stand) as client:
        return sum(queue.scheduled + queue.queued + queue.in_progress for queue in client.queues())


def _all_jobs(stand: Stand) -> list[JobInfo]:
    with _asking(stand) as client:
        return list(client.all_jobs())
