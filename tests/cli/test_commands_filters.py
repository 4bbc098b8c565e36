"""Tags and the filters of list, on the command line."""

from __future__ import annotations

import json
from collections.abc import Callable

from click.testing import Result

from jobqueue import Client

Run = Callable[..., Result]


def listed(result: Result) -> list[str]:
    """The ids that were printed, one job a line."""
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    return [json.loads(line)["id"] for line in result.stdout.splitlines()]


def test_tags_are_given_and_found(run: Run, client: Client) -> None:
    """Alone, for each line of a stream, and by the line itself; get shows them."""
    assert run("enqueue", "1", "--id", "t-1", "--tag", "x", "--tag", "y").exit_code == 0
    assert run("enqueue", "--ndjson", "-", "--tag", "y", "--id-prefix", "l-", given="1\n").exit_code == 0
    item = json.dumps({"payload": 1, "id": "i-1", "tags": ["z"]})
    assert run("enqueue", "--ndjson", "-", "--items", "--tag", "y", given=item + "\n").exit_code == 0
    assert listed(run("list", "--tag", "y", "--json")) == ["l-1", "t-1"]
    assert listed(run("list", "--tag", "z", "--json")) == ["i-1"]
    assert "x, y" in run("get", "t-1").stdout


def test_jobs_are_listed_by_worker_error_and_time(run: Run, client: Client) -> None:
    """A time may be so long ago."""
    client.enqueue(1, id="f-1", queue="filtered")
    job = client.dequeue("filtered", worker="w-1", wait=0)
    assert job is not None
    client.conclude(job.id, job.lease.token, "failed", error="it timed out", retry=False)
    client.enqueue(1, id="f-2", queue="filtered")
    of = ("list", "-q", "filtered", "--json")
    assert listed(run(*of, "--worker", "w-1")) == listed(run(*of, "--error", "timed out")) == ["f-1"]
    assert listed(run(*of, "--created-after", "1h")) == ["f-2", "f-1"]
    assert listed(run(*of, "--created-before", "1h")) == listed(run(*of, "--created-before", "2020-01-31T08:00:00Z")) == []
    assert run("list", "--created-after", "yesterday").exit_code == 2


def test_jobs_that_are_retried_are_listed(run: Run, client: Client) -> None:
    """Apart from those that are only delayed; and cancelled together."""
    client.enqueue(1, id="r-tomorrow", queue="retried", delay=86_400)
    client.enqueue(1, id="r-again", queue="retried")
    job = client.dequeue("retried", wait=0)
    assert job is not None
    client.conclude(job.id, job.lease.token, "failed", error="no", retry_delay=600)
    assert listed(run("list", "-q", "retried", "--retrying", "--json")) == ["r-again"]
    assert listed(run("list", "-q", "retried", "--json")) == ["r-again", "r-tomorrow"]
    assert run("bulk", "cancel", "--retrying", "--yes").stdout == "1 job cancelled\n"
    assert run("bulk", "cancel", "--yes").exit_code == 2
