"""Unique jobs on the command line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

from click.testing import Result

from jobqueue import Client

Run = Callable[..., Result]


def lines(result: Result) -> list[str]:
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    return result.stdout.splitlines()


def test_the_job_that_is_there_is_printed(run: Run, client: Client) -> None:
    """By its id, whatever was sent; --json says that none was made."""
    assert lines(run("enqueue", "1", "--id", "a", "--unique", "k")) == ["a"]
    assert lines(run("enqueue", "2", "--unique", "k")) == ["a"]
    shown = json.loads(lines(run("enqueue", "2", "--id", "b", "--unique", "k", "--json"))[0])
    assert (shown["id"], shown["created"]) == ("a", False)


def test_every_term_reaches_the_server(run: Run, client: Client) -> None:
    """And `get` shows the key, `why` whom a job runs after."""
    terms = ("--unique-until", "started", "--unique-for", "1h", "--on-conflict", "replace", "--max-wait", "1m")
    lines(run("enqueue", "1", "--id", "a", "--unique", "k", *terms))
    unique = client.job("a").unique
    assert unique is not None
    assert (unique.key, unique.until, unique.for_, unique.on_conflict, unique.max_wait) == ("k", "started", 3600, "replace", 60)
    assert re.search(r"^unique +k, held by this job, until .* at least$", run("get", "a").stdout, re.MULTILINE)
    client.dequeue(worker="w")
    lines(run("enqueue", "2", "--id", "b", "--unique", "k", "--on-conflict", "follow"))
    assert re.fullmatch(r"unique key k: runs after job a, not before .*", lines(run("why", "b"))[-1])
    lines(run("enqueue", "1", "--id", "c", "--queue", "q", "--unique", "k"))
    client.dequeue("q", worker="w")
    lines(run("enqueue", "2", "--id", "d", "--queue", "q", "--unique", "k", "--on-conflict", "follow"))
    assert lines(run("why", "d"))[-1] == "unique key k: runs after job c in progress at worker w"


def test_a_refusal_is_an_error(run: Run, client: Client) -> None:
    """It names the job, and the terms need a key."""
    lines(run("enqueue", "1", "--id", "a", "--unique", "k"))
    refused = run("enqueue", "2", "--unique", "k", "--on-conflict", "refuse")
    assert refused.exit_code == 1
    assert "'a'" in refused.stderr
    assert run("enqueue", "1", "--unique-for", "1h").exit_code == 2
    assert run("enqueue", "1", "--unique", "k", "--on-conflict", "drop").exit_code == 2


def test_lines_may_have_keys_of_their_own(run: Run, client: Client, tmp_path: Path) -> None:
    """With --items; an unknown term is refused by its line."""
    items = [
        {"payload": 1, "id": "a", "unique": {"key": "k", "for": 60}},
        {"payload": 2, "unique": {"key": "k"}},
        {"payload": 3, "unique": {"nope": 1}},
    ]
    (tmp_path / "jobs").write_text("\n".join(map(json.dumps, items)))
    done = run("enqueue", "--ndjson", str(tmp_path / "jobs"), "--items")
    assert done.stdout == "2 jobs submitted, 1 line refused\n"
    assert [job.id for job in client.all_jobs()] == ["a"]
