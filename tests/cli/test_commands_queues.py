"""The verbs of queues: what they show, in a pipe and on a terminal, and what they change."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from click.testing import Result

from jobqueue import Backoff, Client, NewJob, Queue, Totals, __version__
from jobqueue.client.server_types import Bound, Disk, Memory, Server, Stats
from jobqueue.commands.servers import server_fields
from jobqueue.commands.shapes import span
from jobqueue.commands.watching import Rates, Sample, rows_of
from jobqueue.policy import QueuePolicy

Run = Callable[..., Result]
NOW = datetime(2027, 1, 15, 8, tzinfo=UTC)


def printed(result: Result) -> list[Any]:
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def table(result: Result) -> list[list[str]]:
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    return [line.split() for line in result.stdout.splitlines()]


def test_queues_are_a_table(run: Run, client: Client) -> None:
    """A row each, with counts and totals; --json has a line each."""
    client.enqueue(1, queue="a")
    client.enqueue(1, queue="a", delay=60)
    client.enqueue(1, queue="b")
    client.dequeue("b", wait=0)
    client.pause("b")
    head, *rows = table(run("queues"))
    assert head[:7] == ["QUEUE", "STATE", "QUEUED", "SCHEDULED", "IN_PROGRESS", "WAITERS", "FAILING"]
    assert head[7:] == ["OLDEST", "ENQUEUED", "SUCCEEDED", "FAILED", "PAUSED"]
    assert [row[:7] + row[8:11] for row in rows] == [
        ["a", "open", "1", "1", "0", "0", "0", "2", "0", "0"],
        ["b", "paused", "0", "0", "1", "0", "0", "1", "0", "0"],
    ]
    assert [(queue["name"], queue["totals"]["enqueued"]) for queue in printed(run("queues", "--json"))] == [("a", 2), ("b", 1)]


def test_what_failed_lately_is_shown(run: Run, client: Client) -> None:
    """Failed attempts in the table, and of one queue and of all: what is retried, jobs and attempts by minutes, and the totals."""
    client.enqueue_batch([NewJob(1, queue="a"), NewJob(2, queue="a"), NewJob(3, queue="b")])
    for queue, retry in (("a", True), ("a", False), ("b", True)):
        job = client.dequeue(queue, wait=0)
        assert job is not None
        client.conclude(job.id, job.lease.token, "failed", retry=retry, retry_delay=600 if retry else None)
    assert [row[6] for row in table(run("queues"))] == ["FAILING", "2", "1"]
    shown = dict(re.split(r"  +", line, maxsplit=1) for line in run("queues", "a").stdout.splitlines())
    assert (shown["retrying"], shown["jobs failed in 1 min"], shown["attempts failed in 60 min"]) == ("1", "1", "2")
    shown = dict(re.split(r"  +", line, maxsplit=1) for line in run("stats").stdout.splitlines())
    assert (shown["retrying"], shown["jobs failed in 5 min"], shown["attempts failed in 5 min"]) == ("2", "1", "3")
    assert (shown["attempts failed in all"], shown["failed jobs forgotten"]) == ("3", "0")
    (found,) = printed(run("stats", "--json"))
    assert (found["failures"]["attempts_60m"], found["totals"]["attempts_failed"], found["failed_jobs_forgotten"]) == (3, 3, 0)


def test_one_queue_is_shown_with_its_policy(run: Run, client: Client) -> None:
    """Policy and totals, a line each; a queue that there is not is exit code 1."""
    client.put_queue("a", lease_seconds=90, max_attempts=7, backoff=Backoff(2, 3, 40), max_jobs=5)
    shown = dict(re.split(r"  +", line, maxsplit=1) for line in run("queues", "a").stdout.splitlines())
    assert (shown["lease"], shown["max attempts"], shown["max jobs"]) == ("90s", "7", "5")
    assert shown["backoff"] == "random, up to 2s, times 3 each attempt, at most 40s"
    assert printed(run("queues", "a", "--json"))[0]["policy"]["max_attempts"] == 7
    unknown = run("queues", "nope")
    assert (unknown.exit_code, unknown.stderr.split(":")[1]) == (1, " unknown_queue")


def test_queues_are_paused_and_resumed(run: Run, client: Client) -> None:
    """Both take several names and say how each queue stands."""
    for name in "ab":
        client.enqueue(1, queue=name)
    assert run("pause", "a", "b").stdout == "a  paused\nb  paused\n"
    assert client.dequeue("a", wait=0) is None
    assert printed(run("resume", "a", "--json"))[0]["policy"]["paused"] is False
    assert client.dequeue("a", wait=0) is not None


def test_when_a_queue_was_paused_is_shown(run: Run, client: Client) -> None:
    """In the table, of one queue, and among all that the server holds, which names those that are paused."""
    for name in "ab":
        client.enqueue(1, queue=name)
    assert run("pause", "a").exit_code == 0
    assert re.search(r"^a +paused .* \d+s? ago$", run("queues").stdout, re.M)
    assert re.search(r"^paused +\S+ ago$", run("queues", "a").stdout, re.M)
    assert re.search(r"^paused +a \S+ ago$", run("stats").stdout, re.M)
    assert printed(run("stats", "--json"))[0]["paused"] == ["a"]
    assert "ago" not in run("queues", "b").stdout.split("created")[0].split("paused")[-1]


def test_stats_say_what_the_server_is(run: Run, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its version and where it keeps jobs; and what is near its bound, which is nothing here."""
    shown = dict(re.split(r"  +", line, maxsplit=1) for line in run("stats").stdout.splitlines())
    assert shown["server"].startswith(f"{__version__}, up for ")
    assert shown["server"].endswith("keeps jobs in memory")
    assert "FULL" not in "".join(shown.values())
    (told,) = printed(run("stats", "--json"))
    assert told["server"]["storage"] == "memory"
    assert {bound["state"] for bound in told["bounds"]} == {"ok"}


@pytest.mark.parametrize(("state", "mark"), [("ok", ""), ("near", "NEARLY FULL; "), ("full", "FULL; ")])
def test_what_is_near_its_bound_is_marked(state: str, mark: str) -> None:
    """A disk and memory always have their line, a bound only where it needs a look."""
    server = Server(
        version="1",
        started_at=NOW,
        uptime_seconds=90,
        storage="file",
        place="/data/jobs.db",
        disk=Disk(file_bytes=3 << 20, free_bytes=1 << 30, total_bytes=100 << 30, state=state),
        memory=Memory(used_bytes=5 << 20, limit_bytes=None, state=state),
    )
    stats = Stats(draining=False, unavailable=None, held=None, storage=None, cluster=None, server=server)
    stats.bounds.append(Bound(name="jobs_live", used=900, limit=1_000, state=state))
    assert server_fields(stats) == [
        ("server", "1, up for 1m 30s, keeps jobs in /data/jobs.db"),
        ("disk", f"{mark}1.0 GiB of 100 GiB free, the file has 3.0 MiB"),
        ("memory", f"{mark}5.0 MiB"),
        *([("jobs live", f"{mark}900 of 1,000")] if mark else []),
    ]


def test_purge_cancels_what_waits(run: Run, client: Client) -> None:
    """In a pipe it does not ask; it says how many jobs it cancelled."""
    for _ in range(3):
        client.enqueue(1)
    assert run("purge", "default").stdout == "3 jobs of default cancelled\n"
    assert printed(run("purge", "default", "--json")) == [{"purged": 0}]


@pytest.mark.parametrize(("keys", "code", "left"), [(b"n\n", 1, 1), (b"y\n", 0, 0)])
def test_on_a_terminal_purge_asks(keys: bytes, code: int, left: int, client: Client, terminal: Any) -> None:
    """A person is told how many jobs it is about, and may still say no."""
    client.enqueue(1)
    assert terminal(80, "purge", "default", until=b"Cancel 1 job of default? [y/N]", keys=keys)[0] == code
    assert client.queue("default").queued == left


def test_stats_sums_over_queues(run: Run, client: Client) -> None:
    """One object with what is held and what was done; for people a line each."""
    for name in "ab":
        client.enqueue(1, queue=name)
    client.dequeue("a", wait=0)
    (stats,) = printed(run("stats", "--json"))
    assert (stats["queues"], stats["queued"], stats["in_progress"], stats["totals"]["enqueued"]) == (2, 1, 1, 2)
    assert ["queues", "2"] in table(run("stats"))
    assert ["enqueued", "in", "all", "2"] in table(run("stats"))


@pytest.mark.parametrize("verb", ["list", "queues"])
def test_nothing_at_all_is_said_so(verb: str, run: Run, url: str, terminal: Any) -> None:
    """An empty server gives titles alone in a pipe, no JSON lines, and words on a terminal."""
    assert len(table(run(verb))) == 1
    assert printed(run(verb, "--json")) == []
    assert f"no {'jobs' if verb == 'list' else 'queues'}" in terminal(80, verb)[1]


# top.


def queue(name: str, *, queued: int = 0, paused: bool = False, oldest: float | None = None, **totals: int) -> Queue:
    return Queue(
        name=name,
        policy=QueuePolicy(paused=paused),
        scheduled=0,
        queued=queued,
        in_progress=0,
        waiters=0,
        oldest_queued_at=None if oldest is None else NOW - timedelta(seconds=oldest),
        totals=Totals(**{**dict.fromkeys(Totals.__struct_fields__, 0), **totals}),
    )


def test_rates_come_from_the_totals_of_two_looks() -> None:
    """Jobs a second since the look before; unknown for a queue that was not there then, and after a restart of the server."""
    before = Sample(10.0, NOW, [queue("a", enqueued=5), queue("b", enqueued=500, failed=3)])
    after = Sample(12.0, NOW, [queue("a", enqueued=25, succeeded=4), queue("b", enqueued=1, failed=3), queue("new", enqueued=9)])
    rows, total = rows_of(after, before)
    assert {row.queue: row.rates for row in rows} == {
        "a": Rates(10.0, 0.0, 2.0, 0.0),
        "b": Rates(None, 0.0, 0.0, 0.0),
        "new": Rates(None, None, None, None),
    }
    assert total.rates == Rates(10.0, 0.0, 2.0, 0.0)


def test_the_busiest_queues_come_first() -> None:
    """More jobs first, then more traffic, then by name; all of them together have the oldest age of any."""
    rows, total = rows_of(Sample(0, NOW, [queue("b"), queue("a"), queue("c", queued=2, oldest=5), queue("d", queued=3, oldest=-1)]), None)
    assert [row.queue for row in rows] == ["d", "c", "a", "b"]
    assert [row.oldest for row in rows] == [0.0, 5.0, None, None]
    assert (total.queued, total.oldest, total.cells[0]) == (5, 5.0, "all")


def test_top_in_a_pipe_is_one_snapshot(run: Run, client: Client) -> None:
    """Two looks, one table with a sum; --json has a line for each queue and one for all."""
    client.enqueue(1, queue="a")
    head, first, total = table(run("top", "--interval", "0.1"))
    assert head[-4:] == ["IN/S", "OUT/S", "OK/S", "FAIL/S"]
    assert (first[:3], total[:3]) == (["a", "open", "1"], ["all", "-", "1"])
    rows = printed(run("top", "--interval", "0.1", "--json"))
    assert [(row["queue"], row["queued"], row["rates"]["enqueued"]) for row in rows] == [("a", 1, 0), ("all", 1, 0)]


@pytest.mark.parametrize(("columns", "keys"), [(80, b"q"), (120, b"\x03")], ids=["80 columns, q", "120 columns, Ctrl-C"])
def test_top_is_live_until_q_or_ctrl_c(columns: int, keys: bytes, client: Client, terminal: Any) -> None:
    """One screen of its own, left as it was found, with lines that fit and room for all queues but the least busy."""
    for number in range(30):
        client.enqueue(1, queue=f"queue-with-a-long-name-{number:02}")
    code, written = terminal(columns, "top", until=b"queues less busy", keys=keys)
    assert code == 0
    paints = written.partition("\x1b[?1049h")[2].partition("\x1b[?1049l")[0].split("\x1b[H")
    screen = next(paint for paint in paints if "queues less busy" in paint)
    lines = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line) for line in screen.split("\n")][:24]
    assert max(len(line.rstrip("\r")) for line in lines) <= columns
    shown = sum("queue-with" in line for line in lines)
    assert shown < 30
    assert f"and {30 - shown} queues less busy" in screen
    assert written.rstrip().endswith("\x1b[?1049l")


def test_top_ends_with_its_terminal(client: Client, terminal: Any) -> None:
    """A terminal that goes away without a signal, as under nohup, does not leave it running."""
    client.enqueue(1, queue="a")
    code, written = terminal(80, "top", "--interval", "0.1", until=b"q ends")
    assert code >= 0, "it ended by itself, not by a signal"
    assert "q ends" in written


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-3, "0s"), (59.9, "59s"), (60, "1m"), (61, "1m 1s"), (3_600, "1h"), (7_500, "2h 5m"), (86_400, "1d"), (273_600, "3d 4h")],
)
def test_time_spans_have_two_units_at_most(seconds: float, text: str) -> None:
    """Short enough for a column, exact enough to act on."""
    assert span(seconds) == text
