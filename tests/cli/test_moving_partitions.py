"""From one number of partitions to another, by the commands: a file, Valkey with three partitions and with eight, PostgreSQL with one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobqueue import Client, Retrying
from jobqueue.backend.rows import decode_job
from jobqueue.backend.sqlite import file as sqlite
from jobqueue.errors import IdConflict
from jobqueue.partition import home_of, partition_of
from jobqueue.policy import QueuePolicy
from tests.faults.process import Process
from tests.moving import Life, contents, lived
from tests.postgres import SETTINGS, PostgresServer
from tests.valkey import Node, needs_valkey

GUARD = 60.0
LONG_AGO = 1_700_000_000.0
"""Before any time at which a test runs, so that no clock has been set back since."""

STEPS = 5_500
"""Enough for 2,000 jobs of all kinds."""


def run(*arguments: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """`jobqueue`, as an operator would."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JOBQUEUE_")} | variables
    command = [sys.executable, "-W", "error", "-m", "jobqueue", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=GUARD, check=False, cwd=cwd, env=environment)


def done(*arguments: str, cwd: Path) -> list[str]:
    """The lines that a command prints which succeeds."""
    result = run(*arguments, cwd=cwd)
    assert (result.returncode, result.stderr) == (0, ""), result.stderr
    return result.stdout.splitlines()


@pytest.fixture
def node() -> Iterator[Node]:
    needs_valkey()
    made = Node()
    yield made
    made.remove()


def numbers(path: Path) -> str:
    """What a file holds, in numbers that can be compared."""
    file = sqlite.Store.read_only(str(path))
    try:
        return str(contents(file))
    finally:
        file.close(tidy=False)


def test_a_store_is_moved_to_other_numbers_of_partitions(node: Node, tmp_path: Path) -> None:
    """A file, Valkey with three partitions, a file, Valkey with eight, a file, PostgreSQL, a file: each prints the same numbers before and
    after, and they are those of the first file.
    """
    rows = lived(11, STEPS, start=LONG_AGO)
    assert rows.count() > 2_000
    rows.file(tmp_path / "first.db")
    expected = numbers(tmp_path / "first.db")
    kept = "\n".join(line for line in SETTINGS.splitlines() if not line.startswith(("fsync", "full_page_writes")))
    server = PostgresServer(kept)
    try:
        source = "first.db"
        for name, where, count in (("three.db", node.url, 3), ("eight.db", node.url, 8), ("one.db", server.url(), 1)):
            if where == node.url:
                node.tell("FLUSHALL")
            there = ("--store", where, "--acknowledge", "0")
            told, before, after = done("restore", source, *there, "--partitions", str(count), cwd=tmp_path)
            assert (before, after) == (f"before: {expected}", f"after: {expected}")
            assert told.endswith(f"; in {count} partitions") == (count > 1)
            checked = done("check", *there, cwd=tmp_path)
            assert checked[1] == f"contents: {expected}"
            if count > 1:
                assert [line.partition(":")[0] for line in checked[2:]] == [*(f"partition {n}" for n in range(count)), "ids", "servers"]
                found = re.fullmatch(
                    r"ids: (\d+) of jobs outside of their home, (\d+) of them claimed; 0 claims of jobs that are gone; "
                    r"0 claims for another partition than the job's; 0 ids in two partitions",
                    checked[-2],
                )
                assert found is not None, checked[-2]
                assert int(found[1]) == int(found[2]) > 1_000
            held, made = done("backup", name, *there, cwd=tmp_path)
            assert made == f"contents: {expected}"
            assert held.endswith(f"; from {count} partitions") == (count > 1)
            assert numbers(tmp_path / name) == expected
            source = name
    finally:
        server.close()


def test_what_would_span_partitions_is_refused_before_anything_is_written(node: Node, tmp_path: Path) -> None:
    """The refusal names the queue and the field, and the store is as it was: it can still get another number of partitions."""
    life = Life(0, start=LONG_AGO)
    dead = next(f"dead{n}" for n in range(99) if partition_of(f"dead{n}", 3) != partition_of("mail", 3))
    life.engine.put_policy("mail", QueuePolicy(dead_letter=dead), 0.0)
    asyncio.run(life.live(0)).file(tmp_path / "jobs.db")
    there = ("--store", node.url, "--acknowledge", "0")
    refused = run("restore", "jobs.db", *there, "--partitions", "3", cwd=tmp_path)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert (
        f"jobs.db: cannot be divided into 3 partitions: queue 'mail': dead_letter: {dead!r} is in another partition. "
        "Queues are in one partition if their names are the same up to a colon"
    ) in refused.stderr
    assert node.tell("KEYS", "*") == []
    assert done("restore", "jobs.db", *there, cwd=tmp_path)[0].startswith(f"{node.url}: 0 jobs")


def test_no_server_starts_on_a_cut_restore(node: Node, tmp_path: Path) -> None:
    """A restore that was killed while it completed the partitions leaves a store that servers and backups refuse; the same command, again,
    ends it.
    """
    lived(12, 300, start=LONG_AGO).file(tmp_path / "jobs.db")
    expected = numbers(tmp_path / "jobs.db")
    there = ("--store", node.url, "--acknowledge", "0")
    killed = (
        "import os, sys; from jobqueue.backend.store import filling; complete = filling._Partition.complete\n"
        "async def cut(self):\n"
        "    await complete(self)\n"
        "    os._exit(9)\n"
        "filling._Partition.complete = cut\n"
        "from jobqueue.cli import main; main()"
    )
    ended = subprocess.run(
        [sys.executable, "-c", killed, "restore", "jobs.db", *there, "--partitions", "3"], cwd=tmp_path, timeout=GUARD, check=False
    )
    assert ended.returncode == 9
    for command in (("serve", "--port", "0", "--peer-port", "0"), ("check",), ("backup", "copy.db")):
        refused = run(*command, *there, cwd=tmp_path)
        assert (refused.returncode, "a restore into it is running, or was interrupted" in refused.stderr) == (1, True), refused.stderr
    other = run("restore", "jobs.db", *there, "--partitions", "4", cwd=tmp_path)
    assert (other.returncode, "was made with --partitions 3" in other.stderr) == (1, True), other.stderr
    for index in range(3):
        # As when its lease has passed.
        node.tell("HSET", f"{{jq{index}}}:o", "until", "0")
    assert done("restore", "jobs.db", *there, cwd=tmp_path)[1:] == [f"before: {expected}", f"after: {expected}"]
    assert done("backup", "copy.db", *there, cwd=tmp_path)[1] == f"contents: {expected}"


def test_the_steps_of_the_docs_lead_there(node: Node, tmp_path: Path) -> None:
    """The commands that docs/scale-out.md gives for moving, in their order, with two stores of those addresses."""
    page = (Path(__file__).parents[2] / "docs/scale-out.md").read_text()
    section = page.partition("## Moving to another number of partitions\n")[2].partition("\n## ")[0]
    commands = re.findall(r"^ +jobqueue (.*)$", section, re.MULTILINE)
    assert [command.split()[0] for command in commands] == ["backup", "restore", "check"]
    other = Node()
    try:
        lived(12, 300, start=LONG_AGO).file(tmp_path / "first.db")
        done("restore", "first.db", "--store", node.url, "--acknowledge", "0", "--partitions", "2", cwd=tmp_path)
        expected = numbers(tmp_path / "first.db")
        for command in commands:
            words = command.replace("valkey://10.0.0.1:6379", node.url).replace("valkey://10.0.0.2:6379", other.url).split()
            assert done(*words, "--acknowledge", "0", cwd=tmp_path)[1].partition(": ")[2] == expected
    finally:
        other.remove()


def test_servers_find_every_job_after_the_move(node: Node, tmp_path: Path) -> None:
    """By its id, wherever the id's home is; an id that is taken stays taken, and new jobs come behind the old ones."""
    rows = lived(13, 400, start=LONG_AGO)
    rows.file(tmp_path / "jobs.db")
    jobs = [decode_job(number, state, b"").job for number, state, _ in rows.jobs()]
    there = ("--store", node.url, "--acknowledge", "0")
    done("restore", "jobs.db", *there, "--partitions", "3", cwd=tmp_path)
    with (
        contextlib.closing(Process(*there, "--peer-port", "0")) as server,
        Client(f"http://127.0.0.1:{server.port}", retrying=Retrying(tries=50, cap=1.0)) as client,
    ):
        for job in jobs:
            found = client.job(job.id)
            # Its lease may end meanwhile, and it become a dead letter.
            assert found.queue.partition(":")[0] == job.queue.partition(":")[0]
            assert (found.number, found.payload) == (job.number, json.loads(rows.payloads[job.number]))
        name = next(job.id for job in jobs if home_of(job.id, 3) != partition_of(job.queue, 3))
        other = next(f"other{n}" for n in range(99) if partition_of(f"other{n}", 3) == home_of(name, 3))
        with pytest.raises(IdConflict):
            client.enqueue("another", id=name, queue=other)
        new = client.job(client.enqueue("new", queue="new").id)
        assert new.number > max(job.number for job in jobs)
