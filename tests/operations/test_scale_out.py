"""docs/operations/scale-out, run: a Valkey cluster formed by the file's own command, three servers, nginx in front, clients at work."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from jobqueue import Client, Retrying
from tests.operations.load import Load
from tests.operations.stack import PATIENCE_SECONDS, VARIABLES, Stack, needs_all
from tests.valkey import until

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("scale-out")]
"""14 processes, and elections that take the file's own seconds: about a minute on two idle cores."""


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    needs_all()
    stack = Stack()
    try:
        stack.up()
        yield stack
    finally:
        stack.close()


def patient(stack: Stack) -> Callable[[], Client]:
    """Makes clients that ask nginx, and for as long as an election takes on a slow machine."""
    return lambda: Client(stack.url, token=VARIABLES["JOBQUEUE_TOKEN"], retrying=Retrying(tries=100, cap=1.0))


def owner(stack: Stack) -> str:
    """The server that says it owns the queue."""
    for name in stack.named("jobqueue"):
        with Client(f"http://{stack.address(name)}:8080", token=VARIABLES["JOBQUEUE_TOKEN"]) as asking:
            if "jobqueue_owner 1" in asking.metrics():
                return name
    raise AssertionError("nobody owns the queue")


def whole(stack: Stack, load: Load) -> None:
    """Nothing acknowledged is lost or done twice, and no client saw an error."""
    assert load.errors == [], stack.log("nginx")
    assert load.done == load.made
    assert set(load.made.values()) == {1}


def get(url: str) -> tuple[int, Any]:
    """What a GET is answered, past any proxy of the environment."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {VARIABLES['JOBQUEUE_TOKEN']}"})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
        body = answer.read()
        return answer.status, json.loads(body) if body else None


def test_it_outlives_an_owner_and_a_primary(stack: Stack) -> None:
    """The owner is killed, then the primary that holds the queue: clients behind nginx go on, and nothing is lost."""
    load = Load(patient(stack))
    with load.running():
        load.goes_on()
        killed = owner(stack)
        stack.kill(killed)
        load.goes_on()
        stack.start(killed)
        stack.healthy(killed)
        primary = stack.primary("{jq0}:o")
        stack.kill(primary)
        load.goes_on()
        assert stack.primary("{jq0}:o") != primary
        stack.back(primary)
        load.goes_on()
    whole(stack, load)


def test_a_rolling_restart_is_not_noticed(stack: Stack) -> None:
    """The servers are restarted one after the other: clients that retry as they do by default see no error."""
    load = Load(lambda: Client(stack.url, token=VARIABLES["JOBQUEUE_TOKEN"]))
    with load.running():
        for name in stack.named("jobqueue"):
            load.goes_on()
            stack.restart(name)
        load.goes_on()
    whole(stack, load)


def test_restarting_the_store_is_not_noticed(stack: Stack) -> None:
    """As docs/scale-out.md says it: the replicas of the primary that has the queue, then a failover, then who was the primary."""
    load = Load(lambda: Client(stack.url, token=VARIABLES["JOBQUEUE_TOKEN"]))
    with load.running():
        load.goes_on()
        primary = stack.primary("{jq0}:o")
        replicas = stack.replicas(primary)
        assert len(replicas) == 2
        for name in replicas:
            stack.again(name)
            load.goes_on()
        assert stack.cli(replicas[0], "cluster", "failover") == "OK"
        until("the replica is the primary", lambda: stack.primary("{jq0}:o") == replicas[0], PATIENCE_SECONDS)
        load.goes_on()
        stack.again(primary)
        load.goes_on()
    whole(stack, load)


def test_a_dequeue_that_is_a_get_comes_through(stack: Stack) -> None:
    """nginx has a way of its own for those, which it never repeats: a job comes by it, and "there is none"."""
    queue = f"{stack.url}/simplequeue/jobs"
    with patient(stack)() as client:
        sent = client.enqueue({"n": 1}).id
    assert get(f"{queue}/next") == (200, {"jobId": sent, "state": "running", "data": {"n": 1}})
    assert get(f"{queue}/next") == (204, None)


def test_every_server_ends_when_asked(stack: Stack) -> None:
    """The last one too, when the others have gone; and what they kept is there when they are back."""
    with patient(stack)() as client:
        sent = client.enqueue(1, queue="kept").id
        for name in stack.named("jobqueue"):
            assert stack.stop(name) == 0, stack.log(name)
        for name in stack.named("jobqueue"):
            stack.start(name)
        for name in stack.named("jobqueue"):
            stack.healthy(name)
        assert client.job(sent).payload == 1
