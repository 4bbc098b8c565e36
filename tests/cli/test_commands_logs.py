"""Jobs' logs and workers, on the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from click.testing import Result

from jobqueue import About, Client, LogLine

Run = Callable[..., Result]


def test_a_log_is_printed(run: Run, client: Client) -> None:
    """As text without colours, as JSON a line each, and to its end with --follow."""
    client.enqueue(1, id="l-1", queue="logged")
    job = client.dequeue("logged", wait=0)
    assert job is not None
    client.log("l-1", job.lease.token, ["begins", LogLine("of two\nlines", "warning")])
    result = run("logs", "l-1")
    assert result.exit_code == 0
    first, second, third = result.stdout.splitlines()
    assert first.endswith("Z begins")
    assert second.endswith("Z WARNING of two")
    assert third == "    lines"
    lines = [json.loads(line) for line in run("logs", "l-1", "--json", "--after", "1").stdout.splitlines()]
    assert [(line["number"], line["level"], line["text"]) for line in lines] == [(2, "warning", "of two\nlines")]
    client.conclude("l-1", job.lease.token, "succeeded", log=["ends"])
    assert run("logs", "-f", "l-1").stdout.splitlines()[-1].endswith("Z ends")
    assert run("logs", "none").exit_code == 3


def test_workers_are_listed_and_made_quiet(run: Run, client: Client) -> None:
    """By the group itself and by its verbs."""
    client.dequeue("worked", wait=0, worker="cli/1", about=About(host="alpha", concurrency=4, version="1.2"))
    assert "alpha" in run("workers").stdout
    (worker,) = [json.loads(line) for line in run("workers", "list", "-q", "worked", "--json").stdout.splitlines()]
    assert (worker["name"], worker["state"], worker["concurrency"]) == ("cli/1", "idle", 4)
    assert run("workers", "quiet", "cli/1").stdout == "cli/1 takes no jobs; it has 0 jobs\n"
    assert "quiet" in run("workers").stdout
    assert json.loads(run("workers", "resume", "cli/1", "--json").stdout)["quiet"] is False
    assert run("workers", "quiet", "none").exit_code == 1


def test_a_log_is_followed_as_it_comes(spawn: Any, client: Client) -> None:
    """Each line is printed while the job runs, the last with its end, which ends the command."""
    client.enqueue(1, id="l-2", queue="followed")
    job = client.dequeue("followed", wait=0)
    assert job is not None
    following = spawn("logs", "--follow", "l-2")
    for text in ("begins", "goes on"):
        client.log("l-2", job.lease.token, [text])
        assert following.stdout.readline().decode().endswith(f"Z {text}\n")
        assert following.poll() is None
    client.conclude("l-2", job.lease.token, "succeeded", log=["ends"])
    assert following.communicate(timeout=30)[0].decode().endswith("Z ends\n")
    assert following.returncode == 0
