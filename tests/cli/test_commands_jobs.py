"""The verbs of jobs, and of a worker by hand."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from jobqueue import Client
from jobqueue.commands.output import Column, fitting, plain
from jobqueue.testing import server_in_thread

Run = Callable[..., Result]


def printed(result: Result) -> Any:
    """The JSON of a verb that went well: one value, or a list of the lines' values."""
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    values = [json.loads(line) for line in result.stdout.splitlines()]
    return values[0] if len(values) == 1 else values


def concluded(client: Client, job_id: str, outcome: Any, **fields: Any) -> None:
    job = client.dequeue(wait=0)
    assert job is not None
    assert job.id == job_id
    client.conclude(job.id, job.lease.token, outcome, **fields)


# enqueue.


def test_enqueue_prints_the_id_alone(run: Run, client: Client) -> None:
    """A script gets the id and nothing else, and the job is as the options say."""
    options = [
        "--queue",
        "mail",
        "--type",
        "welcome",
        "--id",
        "a-1",
        "--priority",
        "2",
        "--description",
        "hi",
        "--max-attempts",
        "3",
        "--expires-in",
        "1h",
        "--lease",
        "2m",
    ]
    result = run("enqueue", '{"to": "ada"}', *options)
    assert (result.exit_code, result.stdout) == (0, "a-1\n")
    job = client.job("a-1")
    assert (job.payload, job.queue, job.type, job.priority, job.description) == ({"to": "ada"}, "mail", "welcome", 2, "hi")
    assert job.max_attempts == 3
    assert job.expires_at is not None


def test_enqueue_keeps_the_payload_as_it_was_written(run: Run, client: Client) -> None:
    """The text of a payload is not re-written, so that a repeat with the same id is the same job."""
    assert run("enqueue", ' {"b":  1.50, "a": 1e3} ', "--id", "x").exit_code == 0
    assert bytes(client.job("x").raw_payload) == b'{"b":  1.50, "a": 1e3}'
    assert printed(run("enqueue", '{"b":  1.50, "a": 1e3}', "--id", "x", "--json"))["created"] is False


def test_a_payload_comes_from_a_file_or_from_stdin(run: Run, client: Client) -> None:
    """--file, --file -, - and nothing at all on a pipe are read; --text takes what was read as a string without its line end."""
    Path("order.json").write_text('{"n":\n 1}\n', encoding="utf-8")
    for options, given, payload in (
        (["--file", "order.json"], None, {"n": 1}),
        (["--file", "-"], "[2]\n", [2]),
        (["-"], "3", 3),
        ([], "4\n", 4),
        (["--text"], "two\nlines\n", "two\nlines"),
        (["--text", "{not json"], None, "{not json"),
    ):
        result = run("enqueue", *options, given=given)
        assert client.job(result.stdout.strip()).payload == payload


def test_json_of_a_payload_with_line_ends_is_one_line(run: Run, client: Client) -> None:
    """A payload that was sent in several lines does not break the rule of one line a job."""
    run("enqueue", '{"a":\r\n [1,\n 2]}', "--id", "x")
    assert printed(run("get", "x", "--json"))["payload"] == {"a": [1, 2]}
    assert '{"a":[1,2]}\n' in run("get", "x").stdout


@pytest.mark.parametrize(
    ("options", "given", "words"),
    [(["--file", "none.json"], None, "none.json cannot be read: No such file"), (["--text"], b"\xff", "not UTF-8")],
)
def test_a_payload_that_cannot_be_read_is_told(options: list[str], given: bytes | None, words: str, run: Run, url: str) -> None:
    """A file that is not there, and bytes that are no text, are named."""
    result = run("enqueue", *options, given=given)
    assert result.exit_code in (1, 2)
    assert words in result.stderr


def test_a_delayed_job_is_scheduled(run: Run, client: Client) -> None:
    """--delay takes a time with a unit, --run-at an instant."""
    assert printed(run("enqueue", "1", "--delay", "5m", "--json"))["status"] == "scheduled"
    soon = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    assert printed(run("enqueue", "1", "--run-at", soon, "--json"))["run_at"].startswith(soon[:16])


def test_enqueue_wait_prints_the_result(run: Run, spawn: Any, client: Client) -> None:
    """--wait says the id on stderr at once, holds until the job is concluded, and prints its result as JSON."""
    waiting = spawn("enqueue", "1", "--wait", "forever")
    told = waiting.stderr.readline()
    job = client.dequeue(wait=30)
    assert job is not None
    assert told.decode() == f"job {job.id}\n"
    client.conclude(job.id, job.lease.token, "succeeded", result={"pages": 4})
    assert (waiting.communicate(timeout=30), waiting.returncode) == ((b'{"pages":4}\n', b""), 0)


def test_a_wait_may_be_longer_than_the_server_holds_a_request(run: Run, client: Client) -> None:
    """The job is in by then, so its result is waited for in pieces, not refused; dequeue and get likewise."""
    client.enqueue(1, id="x")
    concluded(client, "x", "succeeded", result=4)
    for verb in (["enqueue", "1", "--id", "x"], ["get", "x"]):
        assert printed(run(*verb, "--wait", "10m", "--json"))["result"] == 4
    client.enqueue(2)
    assert printed(run("dequeue", "--wait", "10m", "--json"))["payload"] == 2


@pytest.mark.parametrize("line", [("enqueue", "1", "--id", "x"), ("get", "x"), ("dequeue",)], ids=lambda line: line[0])
def test_a_wait_that_the_server_cuts_in_pieces_lasts_as_long_as_was_asked(line: tuple[str, ...], run: Run, alone: Path) -> None:
    """Where the server holds a request 50 ms, a wait of 300 ms is several requests, and ends with exit code 3 once it is over."""
    limits = {"max_wait": 0.05, "default_wait": 0.05}
    with server_in_thread(**limits) as url, Client(url) as client:
        if line[0] == "get":
            client.enqueue(1, id="x")
        began = time.monotonic()
        result = run(*line, "--wait", "0.3", "--url", url)
        assert time.monotonic() - began >= 0.3
        assert "out of range" not in result.stderr
        assert result.exit_code == 3
        if line[0] == "enqueue":
            assert result.stderr == "job x\nError: wait_timeout: job x has not concluded within 0.3 s; it continues\n"


def test_a_token_that_may_not_read_is_told_the_id(run: Run, alone: Path) -> None:
    """The job is in: the refusal to show its result says so beside the id, as text and as a problem."""
    Path("tokens").write_text(f"producer enqueue * {sha256(b'secret').hexdigest()}\n", encoding="utf-8")
    with server_in_thread(token_file="tokens") as url:
        result = run("enqueue", "1", "--id", "x", "--wait", "1", "--url", url, "--token", "secret")
        assert (result.exit_code, result.stdout) == (1, "")
        refused = "its result cannot be shown: the token producer does not have the scope read"
        assert result.stderr == f"job x\nError: forbidden: job x was enqueued and continues, but {refused}\n"
        problem = json.loads(run("enqueue", "1", "--id", "x", "--wait", "1", "--json", "--url", url, "--token", "secret").stderr)
        assert (problem["code"], problem["job_id"]) == ("forbidden", "x")


def test_enqueue_wait_tells_failure_from_time_running_out(run: Run, client: Client) -> None:
    """Exit code 4 with the error of a job that failed, 3 when the wait passed; the message names the job."""
    assert run("enqueue", "1", "--id", "x", "--wait", "0").exit_code == 3
    concluded(client, "x", "failed", error="boom", retry=False)
    result = run("enqueue", "1", "--id", "x", "--wait", "1")
    assert (result.exit_code, result.stdout) == (4, "")
    assert "'x' ended as failed" in result.stderr
    assert "boom" in result.stderr
    both = run("enqueue", "1", "--id", "x", "--wait", "1", "--json")
    assert (json.loads(both.stdout)["error"], json.loads(both.stderr)["code"]) == ("boom", "job_failed")


def test_a_refusal_is_one_line_with_its_code(run: Run, client: Client) -> None:
    """What the server refuses is exit code 1."""
    run("enqueue", "1", "--id", "x")
    result = run("enqueue", "2", "--id", "x")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Error: id_conflict: a different job already has the id 'x': it differs in payload\n"
    assert json.loads(run("enqueue", "2", "--id", "x", "--json").stderr)["field"] == "payload"


# dequeue and conclude.


def test_a_job_is_taken_and_concluded_by_hand(run: Run, client: Client) -> None:
    """dequeue shows the lease, conclude takes it; the job has its result."""
    run("enqueue", "[1]", "--id", "x", "--queue", "b")
    job = printed(run("dequeue", "-q", "a", "-q", "b", "--worker", "me", "--lease", "1m", "--json"))
    assert (job["id"], job["payload"], client.job("x").worker) == ("x", [1], "me")
    result = run("conclude", "x", "--lease", job["lease"]["token"], "--result", '{"ok": true}')
    assert (result.exit_code, result.stdout) == (0, "x  succeeded\n")
    assert client.job("x").result == {"ok": True}


def test_several_jobs_are_taken_at_once(run: Run, client: Client) -> None:
    """--limit takes up to so many: a JSON line each, or a block each."""
    for payload in "1234":
        run("enqueue", payload)
    assert [job["payload"] for job in printed(run("dequeue", "--limit", "2", "--json"))] == [1, 2]
    blocks = run("dequeue", "--limit", "5").stdout.split("\n\n")
    assert [block.splitlines()[-1].split() for block in blocks] == [["payload", "3"], ["payload", "4"]]


def test_an_empty_queue_is_exit_code_3(run: Run, url: str) -> None:
    """A wait that passed is told by the exit code, and stdout stays empty for a script."""
    for options in ([], ["--limit", "3"], ["--json"]):
        result = run("dequeue", *options)
        assert (result.exit_code, result.stdout) == (3, "")


def test_a_failure_is_tried_again_unless_it_is_final(run: Run, client: Client) -> None:
    """--error fails the attempt, --no-retry the job."""
    run("enqueue", "1", "--id", "x")
    token = printed(run("dequeue", "--json"))["lease"]["token"]
    assert run("conclude", "x", "--lease", token, "--error", "no such file", "--text").stdout.startswith("x  will be retried at 20")
    assert client.job("x").error == "no such file"
    # In a queue of its own: the backoff of the first is a random time, which may be over by now.
    run("enqueue", "1", "--id", "y", "--queue", "other")
    token = printed(run("dequeue", "-q", "other", "--json"))["lease"]["token"]
    assert printed(run("conclude", "y", "--lease", token, "--failed", "--no-retry", "--json"))["outcome"] == "failed"
    late = run("conclude", "y", "--lease", "wrong")
    assert (late.exit_code, late.stderr.split(":")[1]) == (1, " lease_lost")


# get, list, cancel, retry.


def test_get_shows_everything_that_there_is(run: Run, client: Client) -> None:
    """Names and values, a line each, without those that are empty; --json has all as the server tells it."""
    client.enqueue({"a": 1}, id="x", type="t")
    concluded(client, "x", "succeeded", result=[1, 2])
    lines = dict(line.split(None, 1) for line in run("get", "x").stdout.splitlines())
    assert (lines["status"], lines["type"], lines["payload"], lines["result"]) == ("succeeded", "t", '{"a":1}', "[1,2]")
    assert "description" not in lines
    job = printed(run("get", "x", "--json"))
    assert (job["status"], job["outcome"], job["payload"], job["result"], job["description"]) == (
        "concluded",
        "succeeded",
        {"a": 1},
        [1, 2],
        None,
    )


def test_get_tells_by_its_exit_code_how_a_job_stands(run: Run, client: Client) -> None:
    """0 for a look, and for success; with --wait 3 while it goes on and 4 for any other end; 3 for an unknown job."""
    client.enqueue(1, id="x")
    assert run("get", "x").exit_code == 0
    assert run("get", "x", "--wait", "0.01").exit_code == 3
    client.cancel("x")
    assert run("get", "x").exit_code == 0
    assert run("get", "x", "--wait", "1").exit_code == 4
    unknown = run("get", "nope")
    assert (unknown.exit_code, unknown.stdout, unknown.stderr.split(":")[1]) == (3, "", " unknown_job")


def test_list_filters_and_bounds(run: Run, client: Client) -> None:
    """Newest first, a line each; --limit goes beyond a page of the server, --all to the end."""
    client.enqueue_batch([_new(number) for number in range(1_000)])
    client.enqueue_batch([_new(number) for number in range(1_000, 1_005)])
    client.enqueue(1, id="late", queue="other", type="t", delay=60)
    assert len(run("list").stdout.splitlines()) == 101
    jobs = printed(run("list", "--limit", "1003", "--json"))
    assert [job["id"] for job in jobs] == ["late", *(f"job-{number}" for number in range(1_004, 2, -1))]
    assert len(printed(run("list", "--all", "--json"))) == 1_006
    for options in (["--queue", "other"], ["--type", "t"], ["--status", "scheduled"]):
        assert printed(run("list", *options, "--json"))["id"] == "late"
    assert run("list", "--outcome", "failed", "--json").stdout == ""


def _new(number: int) -> Any:
    from jobqueue import NewJob

    return NewJob(number, id=f"job-{number}")


def test_in_a_pipe_a_table_is_plain_and_whole(run: Run, client: Client) -> None:
    """Titles and aligned columns, nothing cut, a dash for what is empty, no colours."""
    client.enqueue(1, id="i" * 128, description="d" * 300)
    head, line = run("list").stdout.splitlines()
    assert head.split() == ["ID", "STATUS", "QUEUE", "TYPE", "AGE", "TRIES", "PRIO", "NOTE"]
    cells = line.split()
    assert (cells[0], cells[1:4], cells[5:]) == ("i" * 128, ["queued", "default", "-"], ["0", "5", "d" * 300])


EVIL = "\x1b[2J\x07a\u202eb\nc\x9b[bold]d[/bold]"
EVIL_ID = "a\u202eb[red]c"


def test_text_of_jobs_cannot_rewrite_the_terminal(run: Run, client: Client, terminal: Any) -> None:
    """Control characters and markup in ids, descriptions, payloads and errors are shown, not obeyed."""
    client.enqueue("\x1b[2J", id=EVIL_ID)
    concluded(client, EVIL_ID, "failed", error=EVIL, retry=False)
    for verb in (["list"], ["get", EVIL_ID]):
        written = run(*verb).stdout
        assert plain(EVIL) in written
        assert r"a\u202eb[red]c" in written
        assert not set(written) & set("\x1b\x07\x9b\u202e")
        code, shown = terminal(200, *verb)
        assert code == 0
        shown = _uncoloured(shown)
        assert r"\x1b[2J\x07a\u202eb\nc\x9b[bold]d[/bold]" in shown
        assert not set(shown) & set("\x1b\x07\x9b\u202e")


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_on_a_terminal_a_table_fits_and_ids_are_whole(columns: int, client: Client, terminal: Any) -> None:
    """No line is wider than the terminal, each id stands whole, and statuses have colours."""
    for number in range(3):
        client.enqueue(1, id=f"01a206bc-89ae-76f8-a1be-8a705b76c07{number}", queue="q" * 40, type="t" * 30, description="note " * 30)
    code, written = terminal(columns, "list")
    assert code == 0
    assert "\x1b[34mqueued" in written
    lines = _uncoloured(written).splitlines()
    assert len(lines) == 4
    assert max(map(len, lines)) <= columns
    assert [line.split()[0] for line in lines] == ["ID", *(f"01a206bc-89ae-76f8-a1be-8a705b76c07{number}" for number in (2, 1, 0))]


def _uncoloured(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def test_no_color_is_honoured(client: Client, terminal: Any) -> None:
    """With NO_COLOR a terminal gets a table without colours."""
    client.enqueue(1)
    _, written = terminal(80, "list", NO_COLOR="1")
    assert "queued" in written
    assert "\x1b[3" not in written


def test_columns_go_by_what_they_are_worth() -> None:
    """What does not fit leaves, the least worth first; what may be cut gives way before; what is left over is shared out."""
    columns = (Column("ID"), Column("A", keep=1), Column("B", keep=2, cut=4), Column("C", keep=3))
    widths = (10, 5, 20, 5)
    assert fitting(columns, widths, 100) == {0: 10, 1: 5, 2: 20, 3: 5}
    assert fitting(columns, widths, 30) == {0: 10, 1: 5, 2: 4, 3: 5}
    assert fitting(columns, widths, 29) == {0: 10, 2: 10, 3: 5}
    assert fitting(columns, widths, 17) == {0: 10, 3: 5}
    assert fitting(columns, widths, 5) == {0: 10}


def test_cancel_and_retry_take_several_jobs(run: Run, client: Client) -> None:
    """Each job is told of; one that is refused does not keep the others, and makes the exit code 1."""
    for name in "abc":
        client.enqueue(1, id=name)
    result = run("cancel", "a", "nope", "b")
    assert (result.exit_code, result.stdout) == (1, "a  cancelled\nb  cancelled\n")
    assert result.stderr.startswith("Error: unknown_job: ")
    assert [job["status"] for job in printed(run("retry", "a", "b", "--json"))] == ["queued", "queued"]
    alone = run("retry", "c")
    assert (alone.exit_code, alone.stderr.split(":")[1]) == (1, " not_retryable")
    assert run("cancel", "nope").exit_code == 3


def test_cancel_says_that_a_worker_has_to_heed_it(run: Run, client: Client) -> None:
    """A job in progress is told to be cancelling, since its worker has yet to stop."""
    client.enqueue(1, id="x")
    client.dequeue(wait=0)
    assert run("cancel", "x").stdout == "x  cancelling\n"


def test_retry_failed_queues_them_all(run: Run, client: Client) -> None:
    """--failed takes every failed job of a queue back."""
    for name in "ab":
        client.enqueue(1, id=name)
        concluded(client, name, "failed", retry=False)
    assert printed(run("retry", "--failed", "default", "--json")) == {"retried": 2}
    assert client.job("a").status == "queued"
    assert run("retry", "--failed", "default").stdout == "0 jobs of default queued again\n"
