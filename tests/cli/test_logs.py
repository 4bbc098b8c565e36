"""Logs: lines of JSON, tracebacks that do not flood, and what a request leaves behind."""

from __future__ import annotations

import io
import json
import logging
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from jobqueue.process import logs, traces

ROOT = Path(__file__).parents[2]
SECRET = "s3cret-token"


@pytest.fixture
def root() -> None:
    """The root logger without handlers; tests/conftest.py gives it back as it was."""
    logging.getLogger().handlers[:] = []


def broken() -> None:
    raise RuntimeError("two\nlines")


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.mark.usefixtures("root")
def test_an_event_is_one_line_of_json() -> None:
    """Time in UTC, level, logger, message and the event's own fields; line ends are escaped, and a lone surrogate costs nothing."""
    stream = io.StringIO()
    logs.set_up("info", "json", stream)
    logging.getLogger("jobqueue.test").warning("a\nb %s", "\udc80", extra={"fields": {"status": 503, "message": "not this"}})

    (line,) = lines(stream)
    assert line.pop("time").endswith("Z")
    assert line == {"level": "warning", "logger": "jobqueue.test", "message": "a\nb ?", "status": 503}


@pytest.mark.usefixtures("root")
def test_a_traceback_is_part_of_its_line() -> None:
    """An exception's traceback is a field, not further lines."""
    stream = io.StringIO()
    logs.set_up("info", "json", stream)
    try:
        broken()
    except RuntimeError:
        logging.getLogger("jobqueue.test").exception("a defect")

    (line,) = lines(stream)
    assert line["traceback"].endswith("RuntimeError: two\nlines")


@pytest.mark.usefixtures("root")
def test_the_console_is_for_people() -> None:
    """Without asking for JSON a line is plain text, and what is below the level is left out."""
    stream = io.StringIO()
    logs.set_up("warning", "console", stream)
    logging.getLogger("jobqueue.test").info("quiet")
    logging.getLogger("jobqueue.test").warning("loud")

    assert stream.getvalue().endswith(" WARNING jobqueue.test loud\n")
    assert stream.getvalue().count("\n") == 1


def record(error: Exception) -> logging.LogRecord:
    caught = (type(error), error, error.__traceback__)
    return logging.LogRecord("jobqueue.test", logging.ERROR, __file__, 1, "internal error: %s", ("GET",), caught)


def raised() -> Exception:
    try:
        broken()
    except RuntimeError as error:
        return error
    raise AssertionError


def test_tracebacks_of_one_place_are_limited() -> None:
    """After a few of one place within a minute its lines come without, saying so; a minute later there are some again."""
    now = 0.0
    limit = logs.TracebackLimit(lambda: now)

    def told() -> bool:
        given = record(raised())
        assert limit.filter(given)
        assert given.exc_info is not None or given.getMessage() == "internal error: GET: RuntimeError, as before; its traceback is left out"
        return given.exc_info is not None

    assert [told() for _ in range(logs.TRACEBACKS_MAX + 2)] == [True] * logs.TRACEBACKS_MAX + [False] * 2
    now += logs.TRACEBACK_SECONDS
    assert told()


def test_another_place_has_tracebacks_of_its_own() -> None:
    """A defect that floods hides no other."""
    limit = logs.TracebackLimit(lambda: 0.0)
    for _ in range(logs.TRACEBACKS_MAX + 1):
        limit.filter(record(raised()))
    try:
        raise RuntimeError("elsewhere")
    except RuntimeError as error:
        other = record(error)
    limit.filter(other)

    assert other.exc_info is not None


# The server.


def test_a_server_logs_its_requests_as_json_and_no_secret(tmp_path: Path) -> None:
    """Every line of standard error is one event; neither the token nor the payload is in any of them."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JOBQUEUE_")}
    environment |= {"JOBQUEUE_TOKEN": SECRET, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "jobqueue", "serve", "--port", "0", "--log-format", "json", "--access-log", "on"]
    server = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        url = server.stdout.readline().split()[-1]
        headers = {"Authorization": f"Bearer {SECRET}", "Content-Type": "application/json", "X-Request-ID": "mine-1"}
        request = urllib.request.Request(f"{url}/jobs/enqueue", b'{"payload": "private"}', headers)
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.headers["X-Request-ID"] == "mine-1"
    finally:
        server.send_signal(signal.SIGTERM)
        errors = server.communicate(timeout=30)[1]
    events = [json.loads(line) for line in errors.splitlines()]

    (access,) = [event for event in events if event["logger"] == "jobqueue.access"]
    assert (access["request_id"], access["route"], access["status"]) == ("mine-1", "/jobs/enqueue", 201)
    assert SECRET not in errors
    assert "private" not in errors
    assert server.returncode == 0


def test_traces_without_opentelemetry_are_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked for spans that it cannot make, the server does not start, and says what is missing."""
    monkeypatch.setitem(sys.modules, "opentelemetry", None)

    with pytest.raises(traces.CannotTrace, match=r"^--trace needs the extra otel, pip install '\.\[otel\]' .*$"):
        traces.spans()
