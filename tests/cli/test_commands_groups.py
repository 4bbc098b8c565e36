"""The verb group, and what enqueue says of parents and groups."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

from click.testing import Result

from jobqueue import Client

Run = Callable[..., Result]


def said(result: Result) -> str:
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    return result.stdout.strip()


def finish(client: Client, outcome: Any = "succeeded") -> None:
    job = client.dequeue(wait=5)
    assert job is not None
    client.conclude(job.id, job.lease.token, outcome, retry=outcome == "succeeded")


def test_a_group_from_its_making_to_its_end(run: Run, client: Client) -> None:
    """Made, joined, closed and waited for; what it enqueues is there."""
    assert said(run("group", "create", "g", "--on-concluded", '{"of": "g"}', "--on-queue", "reduce", "--on-type", "t")) == "g"
    assert said(run("enqueue", "1", "--id", "one", "--group", "g")) == "one"
    run("enqueue", "2", "--id", "two", "--group", "g", "--after", "one", "--after-failure", "run")
    assert client.job("two").after == ("one",)
    assert "after one" in said(run("why", "two"))
    assert "open" in said(run("group", "list"))
    said(run("group", "close", "g"))
    assert run("group", "wait", "g", "--wait", "0.01s").exit_code == 3
    finish(client)
    finish(client)
    shown = run("group", "wait", "g", "--json")
    assert shown.exit_code == 0
    info = json.loads(shown.stdout)
    assert (info["succeeded"], info["on_concluded"]["job"]) == (2, "g:concluded")
    assert client.job("g:concluded").type == "t"
    assert "2, 2 ended" in said(run("group", "show", "g"))


def test_a_group_some_of_which_failed(run: Run, client: Client) -> None:
    """The exit code says so, and so it does of one that is cancelled."""
    for name in ("g", "h"):
        run("group", "create", name)
        client.enqueue(1, group=name)
    finish(client, "failed")
    run("group", "close", "g")
    assert run("group", "wait", "g").exit_code == 4
    said(run("group", "cancel", "h"))
    assert run("group", "wait", "h").exit_code == 4
    assert run("group", "show", "nobody").exit_code == 1
    assert run("enqueue", "1", "--after-failure", "run").exit_code == 2


def test_on_a_terminal_a_bar_says_how_many_have_ended(terminal: Any, client: Client) -> None:
    """While it waits; then the group is shown."""
    client.groups.create("g")
    for _ in range(2):
        client.enqueue(1, group="g")
    client.groups.close("g")
    finish(client)

    def last() -> None:
        # It ends once the command waits.
        while not client.stats().held.waiters:
            pass
        finish(client)

    ending = threading.Thread(target=last)
    ending.start()
    code, written = terminal(100, "group", "wait", "g")
    ending.join()
    assert (code, "1/2" in written, "2, 2 ended" in written) == (0, True, True), written
