"""Keys and limits on the command line: why a job is not running, what a queue holds back, and how limits are set."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from click.testing import Result

from jobqueue import Client, Keep, PerKey, Queue, Rate, Reason, Totals
from jobqueue.commands.reasons import sentence
from jobqueue.commands.shapes import queue_state
from jobqueue.policy import QueuePolicy

Run = Callable[..., Result]
NOW = datetime(2027, 1, 15, 8, tzinfo=UTC)


def lines(result: Result) -> list[str]:
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    return result.stdout.splitlines()


def printed(result: Result) -> list[Any]:
    return [json.loads(line) for line in lines(result)]


def take(client: Client, queue: str) -> Any:
    """Take a job. A queue that begins to mind keys hands out nothing for a moment."""
    job = client.dequeue(queue, worker="w-1", wait=10)
    assert job is not None
    return job


# why.


def test_why_names_the_job_that_holds_the_key(run: Run, client: Client) -> None:
    """With the worker that has it and the end of its lease; get says the same, and so does --json, as data."""
    client.put_queue("ledger", per_key=PerKey(order="fifo"))
    for number in range(2):
        client.enqueue(1, id=f"l-{number}", queue="ledger", key="acme")
    take(client, "ledger")
    (line,) = lines(run("why", "l-1"))
    assert line.startswith("key acme: waits for job l-0 in progress at worker w-1, lease until ")
    shown = dict(re.split(r"  +", one, maxsplit=1) for one in lines(run("get", "l-1")))
    assert (shown["key"], shown["waits for"]) == ("acme", line)
    (data,) = printed(run("why", "l-1", "--json"))
    assert (data["id"], data["key"], data["status"]) == ("l-1", "acme", "queued")
    (why,) = data["waiting_for"]
    assert (why["reason"], why["block"], why["job"], why["worker"]) == ("key", "order", "l-0", "w-1")


def test_why_names_every_limit(run: Run, client: Client) -> None:
    """A pause, as many in progress as may be, and a rate are a line each."""
    client.put_queue("mail", concurrency=1, rate=Rate(1, 3_600))
    client.enqueue(1, queue="mail")
    client.enqueue(1, id="next", queue="mail")
    take(client, "mail")
    client.pause("mail")
    paused, limit, rate = lines(run("why", "next"))
    assert (paused, limit) == ("queue mail is paused", "limit of queue mail: 1 of 1 in progress")
    assert rate.startswith("rate of queue mail: next slot at ")


def test_why_of_a_plain_job_tells_its_place(run: Run, client: Client) -> None:
    """How many are ahead, and that nobody takes them; of a scheduled job, when it is due."""
    for number in range(3):
        client.enqueue(1, id=f"p-{number}")
    client.enqueue(1, id="later", delay=30)
    assert lines(run("why", "p-2")) == ["2 jobs ahead", "no worker waits for jobs of queue default; none of its jobs is in progress"]
    (due,) = lines(run("why", "later"))
    assert re.fullmatch(r"scheduled: due in [23]\d\.\d s", due)


def test_why_of_a_job_that_runs_or_ended_says_so(run: Run, client: Client) -> None:
    """It is exit code 0 all the same; an unknown job is 3."""
    client.enqueue(1, id="j")
    job = take(client, "default")
    (line,) = lines(run("why", "j"))
    assert line.startswith("in progress at worker w-1 since ")
    client.conclude(job.id, job.lease.token, "succeeded")
    (line,) = lines(run("why", "j"))
    assert re.fullmatch(r"succeeded \d+s ago; it does not run again", line)
    client.enqueue(1, id="k")
    client.cancel("k")
    (line,) = lines(run("why", "k"))
    assert re.fullmatch(r"cancelled \d+s ago; it only runs again if it is retried", line)
    assert run("why", "nobody").exit_code == 3


def test_why_of_a_failed_job_says_that_it_halts_its_key(run: Run, client: Client) -> None:
    """With the commands that let the key go on, quoted for a shell; get says it too, and neither once it is given up."""
    client.put_queue("ledger", per_key=PerKey(order="halt"))
    client.enqueue(1, id="l-0", queue="ledger", key="a b")
    job = take(client, "ledger")
    client.conclude(job.id, job.lease.token, "failed", error="no", retry=False)
    until = (
        "key a b, until `jobqueue retry l-0` runs it again in its old place, "
        "or `jobqueue cancel l-0` or `jobqueue resume ledger --key 'a b'` lets the key continue without it"
    )
    (line,) = lines(run("why", "l-0"))
    assert re.sub(r"\d+s", "0s", line) == f"failed 0s ago, and halts {until}"
    shown = dict(re.split(r"  +", one, maxsplit=1) for one in lines(run("get", "l-0")))
    assert shown["halts"] == until
    assert [printed(run(verb, "l-0", "--json"))[0]["halts"] for verb in ("why", "get")] == [True, True]
    assert lines(run("cancel", "l-0")) == ["l-0  failed"]
    (line,) = lines(run("why", "l-0"))
    assert line.endswith(" ago; it only runs again if it is retried")
    assert not any(one.startswith("halts") for one in lines(run("get", "l-0")))


@pytest.mark.parametrize(
    ("why", "said"),
    [
        (Reason(reason="time", until=NOW + timedelta(seconds=3.24)), "scheduled: due in 3.2 s"),
        (Reason(reason="time"), "scheduled, without a time"),
        (Reason(reason="paused"), "queue q is paused"),
        (Reason(reason="key", key="a", block="paused"), "key a is paused"),
        (
            Reason(reason="key", key="a", block="halted", job="j"),
            "key a: halted because job j failed, until that job is retried or cancelled or the key is resumed",
        ),
        (
            Reason(reason="key", key="a", block="order", job="j", until=NOW + timedelta(seconds=9)),
            "key a: waits for job j, until it runs again or its lease ends, in 9.0 s",
        ),
        (Reason(reason="key", key="a", block="order", job="j"), "key a: job j goes first"),
        (Reason(reason="concurrency", used=10, total=10), "limit of queue q: 10 of 10 in progress"),
        (Reason(reason="concurrency", key="a", used=2, total=2), "limit of key a: 2 of 2 in progress"),
        (Reason(reason="concurrency", used=4, total=2), "limit of queue q: 4 in progress, 2 allowed"),
        (Reason(reason="rate", until=NOW), "rate of queue q: next slot in 0.0 s"),
        (Reason(reason="rate", key="a", until=NOW - timedelta(seconds=5)), "rate of key a: next slot in 0.0 s"),
        (Reason(reason="line", ahead=0), "next in line"),
        (Reason(reason="line", ahead=1), "1 job ahead"),
        (Reason(reason="line", ahead=1_204), "1,204 jobs ahead"),
        (Reason(reason="workers", used=3), "no worker waits for jobs of queue q; 3 jobs are in progress"),
        (Reason(reason="workers", used=1), "no worker waits for jobs of queue q; 1 job is in progress"),
        (Reason(reason="moon"), "moon"),
    ],
)
def test_each_reason_is_a_sentence(why: Reason, said: str) -> None:
    """With its data, and with what a newer server may say."""
    assert sentence("q", why, NOW) == said


# Keys of jobs.


def test_jobs_are_submitted_and_listed_by_key(run: Run, client: Client) -> None:
    """--key goes with one job, with a stream of them as what a line leaves out, and chooses in list."""
    run("enqueue", "1", "--id", "a", "--key", "acme")
    given = '{"payload": 1, "id": "b", "key": "beta"}\n{"payload": 1, "id": "c"}\n{"payload": 1, "id": "d", "key": null}\n'
    assert run("enqueue", "--ndjson", "-", "--items", "--key", "acme", given=given).exit_code == 0
    assert [client.job(name).key for name in "abcd"] == ["acme", "beta", "acme", None]
    assert [job["id"] for job in printed(run("list", "--key", "acme", "--json"))] == ["c", "a"]


# Policies.


def test_a_policy_is_changed_by_flags(run: Run, client: Client) -> None:
    """What no option names stays as it is, none takes a limit away, and parts of what holds for each key stay too."""
    client.put_queue("mail", max_attempts=7)
    shown = dict(re.split(r"  +", one, maxsplit=1) for one in lines(run("policy", "mail", "--concurrency", "10", "--rate", "100/60s:10")))
    assert (shown["concurrency"], shown["rate"], shown["max attempts"]) == ("0 of 10 in progress", "100/60s:10", "7")
    run("policy", "mail", "--per-key-order", "fifo", "--per-key-rate", "5/s")
    run("policy", "mail", "--per-key-max-jobs", "9", "--fair", "--weight", "acme=3", "--weight", "a=b=0.5")
    policy = client.queue("mail").policy
    assert (policy.max_attempts, policy.concurrency, policy.rate) == (7, 10, Rate(100, 60, 10))
    assert policy.per_key == PerKey(order="fifo", rate=Rate(5, 1), max_jobs=9)
    assert (policy.fair, policy.weights) == (True, {"acme": 3, "a=b": 0.5})

    run("policy", "mail", "--rate", "none", "--weight", "acme=none", "--no-fair", "--lease", "2m")
    run("policy", "mail", "--per-key-order", "none", "--per-key-rate", "none", "--per-key-max-jobs", "none")
    policy = client.queue("mail").policy
    assert (policy.rate, policy.weights, policy.fair, policy.lease_seconds) == (None, {"a=b": 0.5}, False, 120)
    assert (policy.per_key, policy.concurrency) == (None, 10)


def test_what_history_remembers_is_set_by_flags(run: Run, client: Client) -> None:
    """A time, a number, or both; none takes it away, and what is neither is a usage error that changes nothing."""
    run("policy", "kept", "--create", "--keep-succeeded", "1h/100", "--keep-failed", "7d")
    policy = client.queue("kept").policy
    assert (policy.keep_succeeded, policy.keep_failed) == (Keep(3_600, 100), Keep(7 * 86_400))
    shown = dict(re.split(r"  +", one, maxsplit=1) for one in lines(run("policy", "kept")))
    assert (shown["keep succeeded"], shown["keep failed"]) == ("for 1h, the last 100", "for 7d")
    for wrong in ("soon", "1h/2h", "5/6", "", "1h/", "1h/5/5"):
        assert run("policy", "kept", "--keep-failed", wrong).exit_code == 2, wrong
    refused = run("policy", "kept", "--keep-failed", "0.5s")
    assert refused.exit_code != 0
    assert "keep_failed.seconds" in refused.stderr
    run("policy", "kept", "--keep-succeeded", "none", "--keep-failed", "0")
    policy = client.queue("kept").policy
    assert (policy.keep_succeeded, policy.keep_failed) == (None, Keep(count=0))


def test_a_policy_without_options_is_shown(run: Run, client: Client) -> None:
    """Nothing is changed; a plain queue shows no limits."""
    client.put_queue("plain", max_jobs=5)
    assert not {"concurrency", "rate", "per key", "fair", "keys", "held"} & {
        re.split(r"  +", one)[0] for one in lines(run("policy", "plain"))
    }
    assert printed(run("policy", "plain", "--json"))[0]["policy"]["max_jobs"] == 5


def test_a_queue_is_made_on_request_alone(run: Run, client: Client) -> None:
    """A name that is mistyped makes no queue; with --create it does, with the limits."""
    unknown = run("policy", "new", "--concurrency", "1")
    assert (unknown.exit_code, unknown.stderr) == (1, "Error: unknown_queue: there is no queue named 'new'; use --create to create it\n")
    assert client.queues() == []
    assert printed(run("policy", "new", "--create", "--concurrency", "1", "--json"))[0]["policy"]["concurrency"] == 1


def test_a_policy_that_is_refused_makes_no_queue(run: Run, client: Client) -> None:
    """What the server does not take leaves nothing behind, with --create too."""
    assert run("policy", "new", "--create", "--rate", "2/60s:3").exit_code == 1
    assert client.queues() == []


@pytest.mark.parametrize(
    "options",
    [
        ["--rate", "often"],
        ["--rate", "1/soon"],
        ["--rate", "/60s"],
        ["--concurrency", "0"],
        ["--concurrency", "many"],
        ["--weight", "acme"],
        ["--weight", "=3"],
        ["--weight", "acme=nan"],
    ],
    ids=" ".join,
)
def test_what_is_no_limit_is_wrong_usage(options: list[str], run: Run, client: Client) -> None:
    """It is told at the option, and nothing is sent."""
    client.put_queue("mail")
    result = run("policy", "mail", *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert options[0] in result.stderr


# Keys of queues.


def test_keys_are_a_table(run: Run, client: Client) -> None:
    """Those that hold most up first, what keeps them back, and the job they wait for."""
    client.put_queue("ledger", per_key=PerKey(order="halt"))
    for number in range(3):
        client.enqueue(1, id=f"l-{number}", queue="ledger", key="acme")
    client.enqueue(1, queue="ledger", key="beta")
    job = take(client, "ledger")
    client.conclude(job.id, job.lease.token, "failed", error="no", retry=False)
    assert lines(run("pause", "ledger", "--key", "beta")) == ["ledger  beta  paused"]
    head, *rows = [line.split() for line in lines(run("keys", "ledger"))]
    assert head == ["KEY", "HELD_BY", "QUEUED", "SCHEDULED", "IN_PROGRESS", "HOLDER"]
    assert rows == [["acme", "halted", "2", "0", "0", "l-0"], ["beta", "paused", "1", "0", "0", "-"]]
    assert [key["key"] for key in printed(run("keys", "ledger", "--limit", "1", "--json"))] == ["acme"]
    assert [line.split()[1] for line in lines(run("queues"))[1:]] == ["halted"]

    assert lines(run("resume", "ledger", "-k", "acme", "-k", "beta")) == ["ledger  acme  open", "ledger  beta  open"]
    assert take(client, "ledger").id == "l-1"


def test_resuming_a_queue_leaves_its_halted_keys(run: Run, client: Client) -> None:
    """The answer says that, and how to find them: it does not call the queue open."""
    client.put_queue("ledger", per_key=PerKey(order="halt"), paused=True)
    for number in range(2):
        client.enqueue(1, id=f"l-{number}", queue="ledger", key="acme")
    assert lines(run("resume", "ledger")) == ["ledger  open"]
    job = take(client, "ledger")
    client.conclude(job.id, job.lease.token, "failed", error="no", retry=False)
    assert lines(run("pause", "ledger")) == ["ledger  paused"]
    result = run("resume", "ledger")
    assert (result.exit_code, result.stdout) == (0, "ledger  halted\n")
    assert result.stderr == "some keys of ledger stay halted by failed jobs; see `jobqueue keys ledger`\n"


def test_a_key_is_one_queues(run: Run, client: Client) -> None:
    """With --key and two queues nothing is paused."""
    for name in "ab":
        client.put_queue(name, fair=True)
    assert run("pause", "a", "b", "--key", "acme").exit_code == 2
    assert client.keys("a") == []


@pytest.mark.parametrize(
    ("held", "queued", "paused", "word"),
    [
        ({}, 5, False, "open"),
        ({"rate": 4}, 10, False, "open"),
        ({"rate": 5}, 10, False, "limited"),
        ({"order": 1, "halted": 1}, 10, False, "halted"),
        ({"rate": 5}, 5, True, "paused"),
    ],
)
def test_a_backlog_that_limits_explain_is_limited(held: dict[str, int], queued: int, paused: bool, word: str) -> None:
    """One word says so in every table."""
    queue = Queue(
        name="q", policy=QueuePolicy(paused=paused), scheduled=0, queued=queued, in_progress=0, waiters=0, oldest_queued_at=None,
        totals=Totals(enqueued=0, dequeued=0, redelivered=0, succeeded=0, failed=0, cancelled=0, expired=0, retried=0),
        held=sum(held.values()), held_by=held,
    )  # fmt: skip
    assert queue_state(queue) == word
