"""Many jobs at once, edits, redrives and tasks, on the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from click.testing import Result

from jobqueue import Client

Run = Callable[..., Result]


def said(result: Result, code: int = 0) -> str:
    """What was printed."""
    assert result.exit_code == code, result.output
    return result.stdout.strip()


def test_many_jobs_are_cancelled_retried_and_forgotten(run: Run, client: Client) -> None:
    """Those that are all that is said; a dry run says how many, and does nothing."""
    for number in range(3):
        client.enqueue(number, id=f"j-{number}", queue="mail", tags=["x"] if number else [])
    of = ("--queue", "mail", "--tag", "x")
    assert said(run("bulk", "cancel", *of, "--dry-run")) == "2 jobs would be cancelled"
    assert json.loads(said(run("bulk", "cancel", *of, "--dry-run", "--json"))) == {"matched": 2}
    assert said(run("bulk", "cancel", *of)) == "2 jobs cancelled"
    assert [client.job(f"j-{number}").status for number in range(3)] == ["queued", "concluded", "concluded"]
    assert json.loads(said(run("bulk", "retry", *of, "--json"))) == {"matched": 2, "done": 2, "refused": {}}
    assert said(run("bulk", "cancel", "--status", "queued", "--created-after", "1h", "--yes")) == "3 jobs cancelled"
    assert said(run("bulk", "forget", "--outcome", "cancelled")) == "3 jobs forgotten"
    assert list(client.all_jobs()) == []


def test_many_jobs_are_edited(run: Run, client: Client) -> None:
    """By --new-…, which goes with nothing else; what has no room says why."""
    for number in range(2):
        client.enqueue(number, id=f"j-{number}", type="t")
    client.put_queue("small", max_jobs=1)
    edited = run("bulk", "edit", "--type", "t", "--new-queue", "small", "--new-priority", "1", "--new-tag", "a", "--new-payload", "{}")
    assert said(edited) == "1 job edited; 1 left as it was: queue_full"
    job = client.job("j-0")
    assert (job.queue, job.priority, list(job.tags), job.payload) == ("small", 1, ["a"], {})
    assert run("bulk", "edit", "--type", "t").exit_code == 2
    assert run("bulk", "cancel", "--type", "t", "--new-priority", "1").exit_code == 2
    assert run("bulk", "cancel").exit_code == 2
    assert run("bulk", "purge", "--type", "t").exit_code == 2


def test_a_job_is_edited(run: Run, client: Client) -> None:
    """What is not given stays; one that is concluded is refused with its code."""
    client.enqueue({"a": 1}, id="j", tags=["x"])
    assert said(run("edit", "j", "--priority", "0", "--queue", "urgent", "--no-tags", "--delay", "1h")) == "j  scheduled"
    job = client.job("j")
    assert (job.priority, job.queue, list(job.tags), job.payload) == (0, "urgent", [], {"a": 1})
    assert json.loads(said(run("edit", "j", "--payload", "[2]", "--delay", "0", "--json")))["status"] == "queued"
    assert client.job("j").payload == [2]
    client.cancel("j")
    assert "not_in_progress" in run("edit", "j", "--priority", "1").stderr
    for wrong in ((), ("--tag", "a", "--no-tags"), ("--delay", "1", "--run-at", "2027-01-31T08:00:00Z"), ("--payload", "{")):
        assert run("edit", "j", *wrong).exit_code == 2, wrong


def buried(client: Client, count: int) -> None:
    """Dead letters of mail, in mail-dead."""
    client.put_queue("mail", max_attempts=1, dead_letter="mail-dead")
    for number in range(count):
        client.enqueue(number, id=f"d-{number}", queue="mail", type="odd" if number % 2 else "even")
        job = client.dequeue("mail", wait=0)
        assert job is not None
        client.conclude(job.id, job.lease.token, "failed", error="broken")


def test_some_dead_letters_are_moved_by_a_rate(run: Run, client: Client) -> None:
    """To the end of it, or, detached, for others to look at and end."""
    buried(client, 4)
    assert said(run("redrive", "mail-dead", "--type", "odd", "--dry-run")) == "2 dead letters of mail-dead would be moved"
    assert said(run("redrive", "mail-dead", "--type", "odd", "--rate", "1000")) == "2 dead letters of mail-dead moved back"
    task = said(run("redrive", "mail-dead", "--rate", "0.001", "--to", "again", "--detach"))
    shown = said(run("tasks", task)).splitlines()
    assert shown[1].split()[:5] == [task, "redrive", "mail-dead", "again", "running"]
    over = json.loads(said(run("tasks", task, "--cancel", "--json")))
    assert (over["state"], over["total"]) == ("cancelled", 2)
    assert [json.loads(line)["state"] for line in said(run("tasks", "--json")).splitlines()] == ["cancelled", "done"]
    assert run("tasks", "none").exit_code == 1
    assert run("tasks", "--cancel").exit_code == 2
    assert run("redrive", "mail-dead", "--rate", "0").exit_code == 2


def test_on_a_terminal_a_bar_says_how_far_it_is(terminal: Any, client: Client) -> None:
    """Of what is done to many, and of a redrive, how many of how many; in the end there is the one line."""
    for number in range(3):
        client.enqueue(number, queue="many")
    code, written = terminal(100, "bulk", "cancel", "--queue", "many", until=b"Cancel 3 jobs? [y/N]", keys=b"y\n")
    assert (code, "3/3" in written, written.endswith("3 jobs cancelled\r\n")) == (0, True, True), written
    buried(client, 2)
    code, written = terminal(100, "redrive", "mail-dead", "--rate", "1000")
    assert (code, "2/2" in written, written.endswith("2 dead letters of mail-dead moved back\r\n")) == (0, True, True), written
