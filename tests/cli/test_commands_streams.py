"""NDJSON on the command line: batches, bad lines, bounds, slow producers."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from jobqueue import Client
from jobqueue.api.native.wire import EnqueueBody, decode_enqueue
from jobqueue.commands import streaming
from jobqueue.commands.streaming import Line, enqueue_lines, lines
from jobqueue.errors import BadRequest, StorageUnconfirmed
from jobqueue.testing import server_in_thread

Run = Callable[..., Result]


class Noted:
    """A client, and how many jobs each of its batches had."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.batches: list[int] = []

    def enqueue_batch(self, jobs: Any) -> Any:
        self.batches.append(len(jobs))
        return self._client.enqueue_batch(jobs)


def test_each_line_is_a_job_of_the_options_queue(run: Run, client: Client) -> None:
    """Payloads keep their order and text; blank lines are passed over."""
    result = run("enqueue", "--ndjson", "-", "-q", "in", "--priority", "3", given='1\n\n{"a":  2}\r\n"x"')
    assert (result.exit_code, result.stdout) == (0, "3 jobs submitted\n")
    jobs = [client.job(job.id) for job in client.all_jobs(queue="in")]
    assert [bytes(job.raw_payload) for job in reversed(jobs)] == [b"1", b'{"a":  2}', b'"x"']
    assert {job.priority for job in jobs} == {3}


def test_a_bad_line_is_told_with_its_number_and_stops_nothing(run: Run, client: Client) -> None:
    """What cannot be read here, and what the server refuses, are told alike; the rest is submitted, and the exit code is 1."""
    Path("jobs").write_text('{"payload": 1, "id": "a"}\n{bad\n{"payload": 2, "priority": 10, "id": "b"}\n\n{"payload": 3, "id": "c"}\n')
    result = run("enqueue", "--ndjson", "jobs", "--items")
    assert (result.exit_code, result.stdout) == (1, "2 jobs submitted, 2 lines refused\n")
    told = result.stderr.splitlines()
    assert [line.split(": ")[:2] for line in told] == [["line 2", "bad_request"], ["line 3", "bad_request"]]
    assert "priority" in told[1]
    assert [job.id for job in client.all_jobs()] == ["c", "a"]


def test_items_are_whole_jobs_and_options_fill_in(run: Run, client: Client) -> None:
    """An item's own fields win over the options; a field that there is not is refused by its name; --json tells of each."""
    whole = '{"payload": [1], "id": "a", "queue": "x", "type": "t", "max_attempts": 2}'
    given = "\n".join([whole, '{"payload": 2, "id": "b"}', '{"payload": 3, "prio": 1}', "{}"])
    result = run("enqueue", "--ndjson", "-", "--items", "--json", "-q", "y", given=given)
    assert result.exit_code == 1
    told = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(job["id"], job["queue"], job["type"], job["created"]) for job in told] == [("a", "x", "t", True), ("b", "y", None, True)]
    problems = [json.loads(line) for line in result.stderr.splitlines()]
    assert [(problem["line"], problem["code"]) for problem in problems] == [(3, "bad_request"), (4, "bad_request")]
    assert "prio" in problems[0]["detail"]
    assert "payload" in problems[1]["detail"]


def test_a_file_submitted_twice_makes_no_job_twice(run: Run, client: Client) -> None:
    """With ids of their own, items that are there already are found again."""
    for created in (True, False):
        result = run("enqueue", "--ndjson", "-", "--items", "--json", given='{"payload": 1, "id": "a"}\n')
        assert json.loads(result.stdout)["created"] is created


def test_batches_are_bounded_by_count_and_by_bytes(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch has at most 1,000 jobs and so many bytes; a line longer than that goes alone."""
    noted: Any = Noted(client)
    assert len(list(enqueue_lines(noted, lines(io.BytesIO(b"1\n" * 2_500)), False, {}))) == 2_500
    assert noted.batches == [1_000, 1_000, 500]
    noted.batches.clear()
    monkeypatch.setattr(streaming, "BATCH_BYTES_MAX", 10)
    told = list(enqueue_lines(noted, lines(io.BytesIO(b'1234\n5678\n90\n"twelve byte"\n1\n')), False, {}))
    assert noted.batches == [3, 1, 1]
    assert [number for number, _ in told] == [1, 2, 3, 4, 5]


def test_a_server_with_lower_bounds_still_gets_what_fits(run: Run, alone: Path) -> None:
    """A batch that is refused as a whole is halved until it is known which line is at fault."""
    with server_in_thread(max_batch_jobs=3, max_body_bytes=1_024, max_payload_bytes=512) as url, Client(url) as client:
        given = "\n".join(["1", "2", json.dumps("x" * 2_000), "4", "5", "6", "7"])
        result = run("enqueue", "--ndjson", "-", "--url", url, given=given)
        assert (result.exit_code, result.stdout) == (1, "6 jobs submitted, 1 line refused\n")
        assert result.stderr.startswith("line 3: too_large: ")
        assert sorted(client.job(job.id).payload for job in client.all_jobs()) == [1, 2, 4, 5, 6, 7]


def test_a_line_without_end_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line beyond the bound is dropped as it is read; the lines around it keep their numbers."""
    monkeypatch.setattr(streaming, "LINE_BYTES_MAX", 100)
    monkeypatch.setattr(streaming, "CHUNK_BYTES", 64)
    found = list(lines(io.BytesIO(b"1\n" + b"9" * 1_000 + b"\n3\n" + b"8" * 500)))
    assert found == [Line(1, b"1"), Line(2, None), Line(3, b"3"), Line(4, None)]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1_000])
def test_lines_are_the_same_whatever_the_chunks(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """How a stream is cut into reads changes nothing, CR LF and a missing last line end included."""
    monkeypatch.setattr(streaming, "CHUNK_BYTES", size)
    found = list(lines(io.BytesIO('"ä"\r\n\r\n  {"a": 1}\n\n"no end"'.encode())))
    assert found == [Line(1, '"ä"'.encode()), Line(3, b'{"a": 1}'), Line(5, b'"no end"')]


def test_a_slow_producers_line_does_not_wait_for_the_next(spawn: Any, client: Client) -> None:
    """A line is a job as soon as the stream pauses, long before a batch is full or the stream ends."""
    process = spawn("enqueue", "--ndjson", "-")
    for number in (1, 2):
        process.stdin.write(b"%d\n" % number)
        process.stdin.flush()
        job = client.dequeue(wait=30)
        assert job is not None
        assert job.payload == number
    assert process.communicate(timeout=30) == (b"2 jobs submitted\n", b"")


def test_a_server_that_goes_away_in_the_middle_is_exit_code_5(run: Run, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says how many jobs were submitted before, and of which lines that is not known."""
    from jobqueue.client.problems import AnswerLost

    whole = Client.enqueue_batch

    def failing(self: Client, jobs: Any) -> Any:
        given = list(jobs)
        if len(given) < 1_000:
            raise AnswerLost("gone")
        return whole(self, given)

    monkeypatch.setattr(Client, "enqueue_batch", failing)
    result = run("enqueue", "--ndjson", "-", given="1\n" * 1_005)
    assert (result.exit_code, result.stdout) == (5, "")
    told = "Error: connection_failed: gone; lines 1001 to 1005 may have been submitted all the same; 1000 jobs were submitted before. "
    assert result.stderr.startswith(told)
    assert result.stderr.count("\n") == 1


def test_on_a_terminal_there_is_a_progress_bar(terminal: Any, client: Client) -> None:
    """The bar counts jobs and tells their rate on standard error; in the end there is one line."""
    Path("jobs").write_text("1\n" * 3_000)
    code, written = terminal(100, "enqueue", "--ndjson", "jobs")
    assert code == 0
    assert "3,000 jobs" in written
    assert "/s" in written
    assert written.endswith("3000 jobs submitted\r\n")


def test_a_file_that_is_not_there_is_told(run: Run, url: str) -> None:
    """The file is named."""
    result = run("enqueue", "--ndjson", "none")
    assert (result.exit_code, result.stderr) == (1, "Error: unreadable: none cannot be read: No such file or directory\n")


def test_what_pauses_is_noticed() -> None:
    """A stream that has nothing for now says so before it is read from, and not otherwise."""
    import os

    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as stream:
        os.write(writing, b"1\n2")
        found: Iterator[Any] = lines(stream)
        assert next(found) == Line(1, b"1")
        assert next(found) is None
        os.write(writing, b"3\n")
        assert next(found) == Line(2, b"23")
        os.close(writing)
        assert list(found) == []


class Doubtful:
    """A client whose server does what it is asked and then says that it does not know, for one batch."""

    def __init__(self, client: Client, at: int) -> None:
        self._client = client
        self._left = at

    def enqueue_batch(self, jobs: Any) -> Any:
        answers = self._client.enqueue_batch(jobs)
        self._left -= 1
        if self._left == 0:
            raise StorageUnconfirmed("the change is not stored yet")
        return answers


def test_what_ended_halfway_can_be_repeated(run: Run, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """When it is not known whether a batch was submitted, the error names its lines and the prefix with which no job is made twice."""
    monkeypatch.setattr(streaming, "BATCH_JOBS_MAX", 3)
    given = "\n".join(f'{{"n": {number}}}' for number in range(8))
    real = streaming.enqueue_lines
    monkeypatch.setattr(streaming, "enqueue_lines", lambda client, *rest: real(Doubtful(client, 2), *rest))  # type: ignore[arg-type]
    result = run("enqueue", "--ndjson", "-", "--json", given=given)
    assert result.exit_code == 1
    problem = json.loads(result.stderr)
    assert (problem["code"], problem["unconfirmed"]) == ("storage_unavailable", True)
    assert "lines 4 to 6 may have been submitted all the same; 3 jobs were submitted before" in problem["detail"]
    assert len(list(client.all_jobs())) == 6
    monkeypatch.setattr(streaming, "enqueue_lines", real)
    prefix = problem["detail"].partition("--id-prefix ")[2].split()[0]
    assert run("enqueue", "--ndjson", "-", "--id-prefix", prefix, given=given).stdout == "8 jobs submitted\n"
    jobs = [client.job(job.id) for job in client.all_jobs()]
    assert sorted(bytes(job.raw_payload) for job in jobs) == [b'{"n": %d}' % number for number in range(8)]


def test_a_prefix_makes_the_ids_of_lines_that_have_none(run: Run, client: Client) -> None:
    """Line N has the prefix and N, an item its own id where it has one; created says whether the job was there."""
    given = '{"payload": 1}\n\n{"payload": 2, "id": "mine"}\n{"payload": 3}\n'
    for created in (True, False):
        result = run("enqueue", "--ndjson", "-", "--items", "--json", "--id-prefix", "run-", given=given)
        told = [json.loads(line) for line in result.stdout.splitlines()]
        assert [(job["id"], job["created"]) for job in told] == [("run-1", created), ("mine", created), ("run-4", created)]
    assert run("enqueue", "1", "--id-prefix", "run-").exit_code == 2


BOM = b"\xef\xbb\xbf"


@pytest.mark.parametrize("chunk", [1, 2, 3, 4, 100])
def test_a_byte_order_mark_is_passed_over(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the beginning of a file, as some programs write it, and nowhere else; a file that holds nothing more has no line."""
    monkeypatch.setattr(streaming, "CHUNK_BYTES", chunk)
    for text, found in (
        (BOM + b"1\n2", [Line(1, b"1"), Line(2, b"2")]),
        (BOM + b" 1 ", [Line(1, b"1")]),
        (BOM, []),
        (BOM + b"\n1", [Line(2, b"1")]),
        (b"1\n" + BOM + b"2", [Line(1, b"1"), Line(2, BOM + b"2")]),
    ):
        assert [line for line in lines(io.BytesIO(text)) if line is not None] == found


def test_a_payload_may_begin_with_a_byte_order_mark(run: Run, client: Client) -> None:
    """From a file and from stdin, as NDJSON's first line may."""
    Path("payload").write_bytes(BOM + b'{"a": 1}')
    for arguments, given in ((("--file", "payload"), None), ((), BOM + b'{"a": 1}')):
        result = run("enqueue", *arguments, "-q", "marked", given=given)
        assert result.exit_code == 0, result.output
    assert {bytes(client.job(job.id).raw_payload) for job in client.all_jobs(queue="marked")} == {b'{"a": 1}'}


TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

VALUES: dict[str, list[Any]] = {
    "id": ["a", None, "", 1],
    "queue": ["q", None, "a b", 1],
    "type": ["t", None, "", 1],
    "description": ["d", None, 1],
    "priority": [0, None, 10, "1", 1.5, True],
    "delay": [1, 0.5, None, -1, "1"],
    "run_at": ["2027-01-15T08:00:05Z", None, "2027-01-15T08:00:05", 5],
    "expires_in": [1, None, 0, "1"],
    "max_attempts": [1, None, 0, 1.5],
    "backoff": [{"base": 1}, {}, None, 1, {"base": 1, "more": 2}],
    "lease_seconds": [30, None, 0, "1"],
    "traceparent": [TRACE, None, "x", 1],
    "key": ["k", None, "", 1, "a\n"],
    "tags": [["t"], [], None, "t", [1], ["a", "a"]],
    "unique": [None, {"key": "k"}, {"key": "k", "for": 5, "until": "started"}, {}, {"key": 5}, {"key": "k", "nope": 1}, "k"],
    "after": [[], None, "id", [1], ["nobody"], ["a", "a"]],
    "after_failure": ["run", "hold", None, "wait", 1],
    "group": [None, "nobody", "", 1],
    "headers": [
        {},
        {"h": "v"},
        {"n": {"type": "Number", "value": "5"}},
        None,
        "h",
        {"h": 1},
        {"h": ""},
        {"a b": "v"},
        {"h": {"type": "x"}},
    ],
    "payload": [1, None, {"a": [1]}],
    "unknown": [1, None],
}


def test_an_item_is_whatever_the_api_takes(client: Client) -> None:
    """For each field of an enqueue: a value that the API takes makes a job from a line too, and one that it refuses does not."""
    struct = set(streaming.Item.__struct_fields__)
    assert struct | {"unknown"} == set(VALUES)
    assert struct == set(EnqueueBody.__struct_fields__)
    for field, values in VALUES.items():
        for value in values:
            item = json.dumps({"payload": 1, field: value}).encode()
            try:
                decode_enqueue(item).spec()
                read = True
            except BadRequest:
                read = False
            told = next(iter(enqueue_lines(client, [Line(1, item)], True, {})))
            taken = not isinstance(told.answer, BadRequest)
            if not read:
                assert not taken, (field, value)
            elif not taken:
                assert isinstance(told.answer, BadRequest)
                assert (told.answer.field or "").startswith(field), (field, value, told.answer)
