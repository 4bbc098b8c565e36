"""The verbs that end what lives in a queue, and late successes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import Result

from jobqueue import Client, UnknownQueue

Run = Callable[..., Result]


def test_purge_all_ends_what_is_in_progress(run: Run, client: Client) -> None:
    """And says how many that were."""
    client.enqueue(1)
    client.enqueue(1)
    client.dequeue(wait=0)
    assert run("purge", "default").stdout == "1 job of default cancelled\n"
    assert run("purge", "default", "--all").stdout == "1 job of default cancelled\n"
    assert json.loads(run("purge", "default", "--all", "--json").stdout) == {"purged": 0}


def test_delete_wants_an_empty_queue_or_force(run: Run, client: Client) -> None:
    """With its jobs only if that is said."""
    for _ in range(2):
        client.enqueue(1)
    client.dequeue(wait=0)
    refused = run("delete", "default")
    assert (refused.exit_code, "queue_not_empty" in refused.stderr) == (1, True)
    assert run("delete", "default", "--force").stdout == "default deleted, 2 jobs cancelled\n"
    with pytest.raises(UnknownQueue):
        client.queue("default")
    client.put_queue("q")
    assert run("delete", "q").stdout == "q deleted\n"
    client.put_queue("q")
    assert json.loads(run("delete", "q", "--force", "--json").stdout) == {"purged": 0}


@pytest.mark.parametrize(("keys", "code", "there"), [(b"y", 0, False), (b"n", 1, True)])
def test_on_a_terminal_delete_asks(keys: bytes, code: int, there: bool, client: Client, terminal: Any) -> None:
    """How many jobs would go with it; no is no."""
    client.enqueue(1)
    client.dequeue(wait=0)
    question = b"Cancel 1 job of default, and delete it? [y/N]"
    assert terminal(100, "delete", "default", "--force", until=question, keys=keys + b"\n")[0] == code
    assert ("default" in [queue.name for queue in client.queues()]) is there


def test_a_late_success_counts_if_that_is_said(run: Run, client: Client) -> None:
    """Not without the option, and not for a failure."""
    client.enqueue(1, id="j")
    job = client.dequeue(wait=0)
    assert job is not None
    client.extend("j", job.lease.token, lease_seconds=0)
    lost = run("conclude", "j", "--lease", job.lease.token)
    assert (lost.exit_code, "lease_lost" in lost.stderr) == (1, True)
    assert run("conclude", "j", "--lease", job.lease.token, "--failed", "--late").exit_code == 2
    assert run("conclude", "j", "--lease", job.lease.token, "--late").stdout == "j  succeeded\n"


def test_a_key_held_from_the_enqueue_on_needs_its_time(run: Run, client: Client) -> None:
    """Given that, a second like it is answered the first."""
    refused = run("enqueue", "1", "--unique", "k", "--unique-until", "enqueued")
    assert (refused.exit_code, "unique.for" in refused.stderr) == (1, True)
    first, second = (run("enqueue", "1", "--unique", "k", "--unique-until", "enqueued", "--unique-for", "5m") for _ in range(2))
    assert first.exit_code == second.exit_code == 0
    assert first.stdout == second.stdout
    assert client.queue("default").queued == 1
