"""The verb history."""

from __future__ import annotations

import json
from collections.abc import Callable

from click.testing import Result

from jobqueue import Client

Run = Callable[..., Result]


def test_history_prints_a_row_for_each_step_with_samples(run: Run, client: Client) -> None:
    """With --json it is one line; a queue that is not there is refused."""
    client.enqueue(1, queue="mail")
    whole = json.loads(run("history", "--json", "--limit", "2").stdout)
    assert (whole["queue"], whole["span"], len(whole["queued"])) == (None, "hour", 2)
    day = json.loads(run("history", "mail", "--day", "--json").stdout)
    assert (day["queue"], day["span"], day["step_seconds"], len(day["failed"])) == ("mail", "day", 300, 30)
    shown = run("history", "mail").stdout.splitlines()
    assert shown[0].split()[:3] == ["TIME", "IN", "OUT"]
    refused = run("history", "none")
    assert (refused.exit_code, refused.stderr.split(":")[1]) == (1, " unknown_queue")
