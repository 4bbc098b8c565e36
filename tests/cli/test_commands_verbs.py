"""The verbs of a worker by hand, of a job's attempts, of time and of events."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from click.testing import Result

from jobqueue import Client

Run = Callable[..., Result]

GUARD = 30.0


def printed(result: Result) -> list[Any]:
    """The JSON values of a verb that went well, a line each."""
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def taken(client: Client, **options: Any) -> Any:
    """A job, taken."""
    job = client.dequeue(wait=GUARD, **options)
    assert job is not None
    return job


def test_a_lease_is_extended_by_hand(run: Run, client: Client) -> None:
    """--for says how long it holds from now on; progress and message are shown with the job; a wrong token is refused."""
    client.enqueue(1, id="j")
    token = taken(client, lease_seconds=30).lease.token
    (found,) = printed(run("extend", "j", "--lease", token, "--for", "1h", "--progress", "0.5", "--message", "page 2", "--json"))
    assert datetime.fromisoformat(found["expires_at"]) - datetime.now(UTC) > timedelta(minutes=59)
    job = client.job("j")
    assert (job.progress, job.message) == (0.5, "page 2")
    assert run("extend", "j", "--lease", token).stdout.startswith("j  lease until ")
    client.cancel("j")
    assert run("extend", "j", "--lease", token).stdout.endswith("  cancelling\n")
    refused = run("extend", "j", "--lease", "wrong")
    assert (refused.exit_code, refused.stderr.split(":")[1]) == (1, " lease_lost")


def test_a_job_is_given_back_by_hand(run: Run, client: Client) -> None:
    """At once, or with --delay later; the attempt does not count."""
    client.enqueue(1, id="j")
    assert run("release", "j", "--lease", taken(client).lease.token).stdout == "j  queued\n"
    assert client.job("j").attempts == 0
    (found,) = printed(run("release", "j", "--lease", taken(client).lease.token, "--delay", "1h", "--json"))
    assert (found["status"], found["attempts"]) == ("scheduled", 0)
    lost = run("release", "j", "--lease", "wrong")
    assert (lost.exit_code, lost.stdout) == (1, "")


def test_the_attempts_at_a_job_are_listed(run: Run, client: Client) -> None:
    """Those that failed with their errors, then the one in progress, and in the end the one that succeeded."""
    client.enqueue(1, id="j")
    assert (run("attempts", "j").stdout.split(), run("attempts", "j", "--json").stdout) == (
        ["ATTEMPT", "STATE", "WORKER", "STARTED", "TOOK", "ERROR"],
        "",
    )
    job = taken(client, worker="w-1")
    client.conclude("j", job.lease.token, "failed", error={"type": "Timeout", "message": "no answer"}, retry_delay=0)
    job = taken(client, worker="w-2")
    first, second = (line.split() for line in run("attempts", "j").stdout.splitlines()[1:])
    assert (first[:3], first[-3:]) == (["1", "failed", "w-1"], ["Timeout:", "no", "answer"])
    assert (second[:3], second[-1]) == (["2", "in_progress", "w-2"], "-")
    client.conclude("j", job.lease.token, "succeeded")
    found = printed(run("attempts", "j", "--json"))
    assert [(one["attempt"], one["state"], one["worker"]) for one in found] == [(1, "failed", "w-1"), (2, "succeeded", "w-2")]
    assert found[0]["error"] == {"type": "Timeout", "message": "no answer"}
    assert None not in (found[1]["started_at"], found[1]["ended_at"])
    assert run("attempts", "nope").exit_code == 3


def test_a_final_failure_is_one_attempt(run: Run, client: Client) -> None:
    """It is not listed a second time as the job's end."""
    client.enqueue(1, id="j")
    client.conclude("j", taken(client).lease.token, "failed", error="boom", retry=False)
    assert [(one["attempt"], one["state"], one["error"]) for one in printed(run("attempts", "j", "--json"))] == [(1, "failed", "boom")]


def test_tracebacks_are_printed_on_request(run: Run, client: Client) -> None:
    """Each below the table, line by line, and nothing in it moves the terminal's cursor; --json has it always."""
    client.enqueue(1, id="j")
    trace = 'Traceback:\n  File "a.py"\nValueError: \x1b[31m'
    client.conclude("j", taken(client).lease.token, "failed", error="boom", retry=False, traceback=trace)
    assert "a.py" not in run("attempts", "j").stdout
    lines = run("attempts", "j", "--traceback").stdout.splitlines()
    assert lines[-4:] == ["Attempt 1:", "Traceback:", '  File "a.py"', "ValueError: \\x1b[31m"]
    assert [one["traceback"] for one in printed(run("attempts", "j", "--json"))] == [trace]


def test_a_job_that_waits_for_its_time_is_run_now(run: Run, client: Client) -> None:
    """One that is delayed and one that backs off are queued at once, and keep their attempts; a concluded one is refused."""
    client.enqueue(1, id="late", delay=3600)
    client.enqueue(2, id="again")
    client.conclude("again", taken(client).lease.token, "failed", retry_delay=3600)
    assert client.job("again").status == "scheduled"
    assert run("run", "late", "again").stdout == "late  queued\nagain  queued\n"
    job = client.job("again")
    assert (job.status, job.attempts) == ("queued", 1)
    client.cancel("late")
    refused = run("run", "late")
    assert (refused.exit_code, refused.stderr.split(":")[1]) == (1, " not_in_progress")
    assert run("run", "nope").exit_code == 3


def test_what_waits_for_other_jobs_waits_on(run: Run, client: Client) -> None:
    """It is said that its time was not all that it waited for."""
    client.enqueue(1, id="first")
    client.enqueue(2, id="then", after=["first"], delay=3600)
    result = run("run", "then")
    assert (result.exit_code, result.stdout) == (0, "then  scheduled\n")
    assert result.stderr == "then also waits for something else; see `jobqueue why then`\n"


def test_failed_jobs_are_retried_by_type_and_error(run: Run, client: Client) -> None:
    """A job must match all that is given; what is not failed stays."""
    for job_id, queue, kind, error in (
        ("a", "mail", "welcome", "timed out"),
        ("b", "mail", "bill", "timed out"),
        ("c", "mail", "welcome", "no such user"),
        ("d", "other", "welcome", "timed out"),
    ):
        client.enqueue(1, id=job_id, queue=queue, type=kind)
        client.conclude(job_id, taken(client, queue=queue).lease.token, "failed", error=error, retry=False)
    client.enqueue(1, id="e", queue="mail", type="welcome")
    client.cancel("e")
    assert run("retry", "--failed", "mail", "--type", "welcome", "--error", "timed out").stdout == "1 job of mail queued again\n"
    assert printed(run("retry", "--error", "timed out", "--json")) == [{"retried": 2}]
    assert {job.id: job.status for job in client.all_jobs()} == {
        "a": "queued", "b": "queued", "c": "concluded", "d": "queued", "e": "concluded",
    }  # fmt: skip
    client.put_queue("mail", max_jobs=1)
    assert run("retry", "--type", "welcome").stdout == "0 jobs queued again; 1 left as it was: queue_full\n"


def test_events_are_printed_as_they_happen(spawn: Any, client: Client) -> None:
    """A line each, as JSON or for people, until as many came as were asked for; those not asked for are left out."""
    plain = spawn("events", "--queue", "mail", "--after", "none", "--limit", "4")
    assert plain.stdout.readline() == b"reset\n"
    listening = spawn("events", "--type", "t", "--event", "concluded", "--after", "none", "--limit", "2", "--json")
    assert json.loads(listening.stdout.readline())["event"] == "reset"
    client.enqueue(0, queue="other")
    client.enqueue(1, id="j", queue="mail", type="t")
    client.conclude("j", taken(client, queue="mail", worker="w").lease.token, "succeeded")
    lines = plain.communicate(timeout=GUARD)[0].decode().splitlines()
    assert [line.split()[1:4] for line in lines] == [["queue_changed", "mail"], ["enqueued", "mail", "j"], ["dequeued", "mail", "j"]]
    assert lines[2].endswith("  attempt 1, worker w")
    event = json.loads(listening.communicate(timeout=GUARD)[0])
    assert (event["event"], event["id"], event["outcome"]) == ("concluded", "j", "succeeded")
    assert (plain.returncode, listening.returncode) == (0, 0)


def test_jobs_are_forgotten(run: Run, client: Client) -> None:
    """Each that is concluded; one that is not stays, with a reason and exit code 1."""
    for job_id in ("a", "b", "c"):
        client.enqueue(1, id=job_id)
    client.cancel("a")
    client.cancel("b")
    assert run("forget", "a").stdout == "a  forgotten\n"
    done = run("forget", "b", "c")
    assert (done.exit_code, done.stdout) == (1, "b  forgotten\n")
    assert "job 'c' is queued, and only a concluded job can be forgotten" in done.stderr
    assert [job.id for job in client.all_jobs()] == ["c"]
    assert run("forget", "a").exit_code == 3


def test_failures_are_counted_by_error_and_retried_by_it(run: Run, client: Client) -> None:
    """errors shows the groups; list, retry and bulk take the jobs of one, and no others."""
    for job_id, message in (("a", "after 31 s"), ("b", "after 32 s"), ("c", "no such host \x1b[31m")):
        client.enqueue(1, id=job_id, queue="mail")
        error = {"type": "Timeout", "message": message}
        client.conclude(job_id, taken(client, queue="mail").lease.token, "failed", error=error, retry=False)
    found = printed(run("errors", "mail", "--json"))
    assert [(one["line"], one["attempts"], one["jobs"], one["last_job"]) for one in found] == [
        ("no such host \x1b[<n>m", 1, 1, "c"),
        ("after <n> s", 2, 2, "b"),
    ]
    lines = run("errors").stdout.splitlines()
    assert lines[0].split() == ["GROUP", "QUEUE", "ATTEMPTS", "JOBS", "FIRST", "LAST", "ERROR"]
    assert lines[1].endswith("Timeout: no such host \\x1b[<n>m")
    group = found[1]["id"]
    assert {one["id"] for one in printed(run("list", "--error-group", group, "--json"))} == {"a", "b"}
    assert [one["id"] for one in printed(run("list", "--outcome", "failed", "--order", "concluded", "--json"))] == ["c", "b", "a"]
    assert printed(run("bulk", "retry", "--queue", "mail", "--error-group", group, "--dry-run", "--json")) == [{"matched": 2}]
    assert run("retry", "--failed", "mail", "--error-group", group).stdout == "2 jobs of mail queued again\n"
    assert (client.job("a").status, client.job("c").status) == ("queued", "concluded")
    for refused, code in (
        (run("errors", "none"), "unknown_queue"),
        (run("list", "--order", "concluded", "--status", "queued"), "bad_request"),
    ):
        assert refused.exit_code != 0
        assert code in refused.stderr
