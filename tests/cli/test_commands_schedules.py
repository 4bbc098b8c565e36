"""The verb schedule: what it shows, and what it changes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import Result

from jobqueue import Client
from jobqueue.commands.schedules import schedule_command

Run = Callable[..., Result]
PAGE = Path(__file__).parents[2] / "docs/cli.md"


def printed(result: Result) -> list[Any]:
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def fields(result: Result) -> dict[str, str]:
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    return dict(re.split(r"  +", line, maxsplit=1) for line in result.stdout.splitlines())  # type: ignore[arg-type] # two parts each


def test_a_schedule_is_put_and_shown(run: Run, client: Client) -> None:
    """Every option reaches the server; put again as it is, it stays."""
    line = [
        "schedule", "put", "nightly", '{"kind": "daily"}', "--cron", "0 2 * * *", "--timezone", "Europe/Berlin", "--missed", "all",
        "--catch-up", "2h", "--overlap", "queue", "--jitter", "30s", "--starts-at", "2027-01-01T00:00:00Z", "--ends-at",
        "2099-01-01T00:00:00Z", "--queue", "reports", "--type", "pdf", "--key", "k", "--tag", "a", "--tag", "b", "--description", "each",
        "--priority", "2", "--delay", "5s", "--expires-in", "1h", "--max-attempts", "3", "--lease", "90s",
    ]  # fmt: skip
    shown = fields(run(*line))
    assert (shown["name"], shown["state"], shown["when"], shown["missed"]) == (
        "nightly",
        "open",
        "0 2 * * * Europe/Berlin",
        "all, of the last 2h",
    )
    assert (shown["overlap"], shown["jitter"], shown["queue"], shown["payload"]) == ("queue", "30s", "reports", '{"kind":"daily"}')
    made = client.schedules.get("nightly")
    assert (made.job.type, made.job.key, made.job.tags, made.job.priority) == ("pdf", "k", ["a", "b"], 2)
    assert (made.job.delay, made.job.expires_in, made.job.max_attempts, made.job.lease_seconds) == (5, 3_600, 3, 90)
    assert printed(run(*line, "--json"))[0]["begun_at"] == made.begun_at.isoformat().replace("+00:00", "Z")
    assert client.schedules.get("nightly") == made
    assert fields(run("schedule", "show", "nightly"))["last"] if made.last_at else True


def test_some_of_it_is_edited(run: Run, client: Client) -> None:
    """What is not named stays, of the job too; a cron takes the every away; none takes a bound away."""
    run("schedule", "put", "s", '{"a": 1}', "--every", "90s", "--queue", "q", "--ends-at", "2099-01-01T00:00:00Z")
    run("schedule", "edit", "s", "--cron", "@hourly", "--ends-at", "none", "--priority", "1", "--paused")
    edited = client.schedules.get("s")
    assert (edited.cron, edited.every, edited.ends_at, edited.paused) == ("@hourly", None, None, True)
    assert (edited.job.payload, edited.job.queue, edited.job.priority) == ({"a": 1}, "q", 1)
    assert run("schedule", "edit", "s", "plain", "--text").exit_code == 0
    assert client.schedules.get("s").job.payload == "plain"


def test_schedules_are_a_table(run: Run, client: Client) -> None:
    """A row each with its state; --json has a line each; none at all is said on a terminal alone."""
    assert run("schedule", "list").stdout.split() == ["NAME", "STATE", "WHEN", "NEXT", "LAST", "QUEUE", "MADE", "SKIPPED"]
    run("schedule", "put", "b", "1", "--every", "1h", "--paused")
    run("schedule", "put", "a", "1", "--every", "5s", "--queue", "q")
    run("schedule", "run", "a")
    first, second = [line.split() for line in run("schedule", "list").stdout.splitlines()[1:]]
    assert (first[:4], first[-3:]) == (["a", "running", "every", "5s"], ["q", "1", "0"])
    assert second[:4] == ["b", "paused", "every", "1h"]
    assert [(each["name"], "payload" in each["job"]) for each in printed(run("schedule", "list", "--json"))] == [("a", False), ("b", False)]


def test_it_is_run_paused_resumed_and_deleted(run: Run, client: Client) -> None:
    """A run prints the id of its job, which says what made it."""
    run("schedule", "put", "s", "1", "--every", "1h")
    job = run("schedule", "run", "s").stdout.strip()
    assert job == "s@run-1"
    assert fields(run("get", job))["schedule"] == "s, run by hand"
    assert printed(run("schedule", "run", "s", "--json"))[0]["id"] == "s@run-2"
    assert run("schedule", "pause", "s").stdout == "s  paused\n"
    assert run("schedule", "resume", "s").stdout.startswith("s  running  next ")
    assert run("schedule", "delete", "s").stdout == "s  deleted\n"
    unknown = run("schedule", "show", "s")
    assert (unknown.exit_code, unknown.stderr) == (1, "Error: unknown_schedule: there is no schedule named 's'\n")


def test_past_slots_are_run(run: Run, client: Client) -> None:
    """The ids of their jobs are printed, a line each."""
    run("schedule", "put", "s", "1", "--every", "1d", "--starts-at", "2024-01-01T00:00:00Z", "--overlap", "allow")
    line = ["schedule", "backfill", "s", "--from", "2024-01-01T00:00:00Z", "--to", "2024-01-02T00:00:00Z"]
    assert run(*line).stdout.split() == ["s@2024-01-01T00:00:00Z", "s@2024-01-02T00:00:00Z"]
    assert printed(run(*line, "--json")) == [{"id": "s@2024-01-01T00:00:00Z"}, {"id": "s@2024-01-02T00:00:00Z"}]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (["put", "s", "1"], "say when: give --cron or --every"),
        (["put", "s", "1", "--cron", "@daily", "--every", "5s"], "give --cron or --every, not both"),
        (["put", "s", "{", "--cron", "@daily"], "the payload is not JSON"),
        (["put", "s", "1", "--cron", "@daily", "--starts-at", "soon"], "'soon' is not a time"),
        (["put", "s", "1", "--cron", "@daily", "--ends-at", "none"], "leave them out for none"),
        (["put", "s", "--cron", "@daily", "--file", "/no/such"], "cannot be read"),
        (["edit", "s", "--text"], "--text goes with a payload"),
        (["put", "s", "1", "--cron", "61 * * * *"], "bad_request: cron"),
        (["put", "a/b", "1", "--cron", "@daily"], "bad_request: name"),
    ],
)
def test_what_makes_no_sense_is_said_in_one_line(line: list[str], told: str, run: Run, client: Client) -> None:
    """An exit code other than 0, and nothing is changed."""
    result = run("schedule", *line)
    assert result.exit_code != 0
    assert told in result.stderr
    assert client.schedules.list() == []


@pytest.mark.parametrize("name", schedule_command.commands)
def test_each_has_help_and_stands_on_the_page(name: str, run: Run) -> None:
    """Its options are those of docs/cli.md."""
    assert run("schedule", name, "--help").exit_code == 0
    page = PAGE.read_text(encoding="utf-8").partition("### schedule\n")[2].partition("\n### ")[0]
    assert f"jobqueue schedule {name} " in page + " " or f"jobqueue schedule {name}\n" in page
    for option in schedule_command.commands[name].params:
        if isinstance(option, click.Option) and not {"--url", "--token", "--ca-file", "--json"} & set(option.opts):
            assert f"`{option.opts[-1]}" in page, option.opts
