"""Dead letters on the command line: the policy that makes them, what they say, and the way back."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from click.testing import Result

from jobqueue import Client

Run = Callable[..., Result]


def lines(result: Result) -> list[str]:
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    return result.stdout.splitlines()


def fields(result: Result) -> dict[str, str]:
    return dict(re.split(r"  +", line, maxsplit=1) for line in lines(result))


def test_a_job_moves_there_and_back(run: Run, client: Client) -> None:
    """`policy --dead-letter` sets it, `get` says where the job failed, `redrive` moves it back or elsewhere."""
    shown = fields(run("policy", "mail", "--create", "--max-attempts", "1", "--dead-letter", "mail-dead"))
    assert (shown["dead letter"], shown["max attempts"]) == ("mail-dead", "1")
    client.enqueue(1, id="j", queue="mail")
    job = client.dequeue("mail", wait=0)
    assert job is not None
    client.conclude(job.id, job.lease.token, "failed")
    found = client.job("j")
    assert found.origin is not None
    assert (found.queue, found.origin.queue, found.origin.reason) == ("mail-dead", "mail", "failed")
    assert fields(run("get", "j"))["origin"].startswith("mail, failed there at ")
    assert lines(run("redrive", "mail-dead")) == ["1 dead letter of mail-dead moved back"]
    assert client.job("j").queue == "mail"
    assert json.loads(lines(run("redrive", "mail-dead", "--to", "other", "--as-new", "--json"))[0])["total"] == 0


def test_none_takes_it_away(run: Run, client: Client) -> None:
    """Neither a dead-letter queue nor a bound on attempts."""
    client.put_queue("mail", max_attempts=2, dead_letter="dead")
    shown = fields(run("policy", "mail", "--max-attempts", "none", "--dead-letter", "none"))
    assert shown["max attempts"] == "no bound"
    policy = client.queue("mail").policy
    assert (policy.max_attempts, policy.dead_letter) == (None, None)
    assert client.put_queue("mail").policy.max_attempts == 5
    assert client.put_queue("mail", max_attempts=None).policy.max_attempts is None
