"""`python -m bench load`, which works in a queue of its own on a server that is running."""

from __future__ import annotations

import json

import pytest

from bench.running import main, percentile
from jobqueue import Client
from jobqueue.testing import server_in_thread


def test_it_measures_and_cleans_up(capsys: pytest.CaptureFixture[str]) -> None:
    """All jobs are concluded, latencies are told, and the queue it made is gone."""
    with server_in_thread() as url, Client(url) as client:
        for batch in ("7", "1"):
            assert main(["--url", url, "--jobs", "40", "--concurrency", "3", "--batch", batch, "--json"]) == 0
            measured = json.loads(capsys.readouterr().out)
            assert (measured["jobs"], measured["pickups"], measured["batch"]) == (40, 40, int(batch))
            assert measured["jobs_per_second"] > 0
            assert 0 < measured["pickup_p50_ms"] <= measured["pickup_p99_ms"]
            assert client.queues() == []
        jobs = list(client.all_jobs(outcome="succeeded"))
        assert len(jobs) == 160
        assert all(job.queue.startswith("bench-") for job in jobs)
        assert main(["--url", url, "--jobs", "5"]) == 0
        shown = capsys.readouterr().out.splitlines()
        assert [line.split("  ")[0] for line in shown] == ["jobs", "throughput", "time", "pickup p50", "pickup p99"]


def test_when_it_is_refused_it_cleans_up_too(capsys: pytest.CaptureFixture[str]) -> None:
    """When the server has no room, the refusal is told, and the queue is gone all the same."""
    with server_in_thread(max_jobs=5) as url, Client(url) as client:
        for number in range(3):
            client.enqueue(number)
        assert main(["--jobs", "5000", "--batch", "500", "--url", url]) == 1
        written = capsys.readouterr()
        assert written.out == ""
        assert written.err.startswith("Error: queue_full: ")
        assert [found.name for found in client.queues()] == ["default"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--url", "nonsense"], "must be http://HOST:PORT"),
        (["--jobs", "0"], "0 is not in the range"),
        (["--jobs", "many"], "invalid number"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An argument that cannot be is told in one line, before anything is sent."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert words in capsys.readouterr().err


def test_percentiles_are_of_what_was_measured() -> None:
    """The nearest rank: half of the values do not exceed the median, and one value is every percentile."""
    values = [float(value) for value in range(100, 0, -1)]
    assert (percentile(values, 0.5), percentile(values, 0.99), percentile([7.0], 0.99)) == (50.0, 99.0, 7.0)
