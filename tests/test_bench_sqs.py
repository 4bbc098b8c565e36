"""`python -m bench sqs`: what it reads of answers, that its load goes through a server, and that it says what could not be measured."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import pytest

from bench.sqs.measure import QUICK, Found, Way
from bench.sqs.raw import Blocking, Load, make_queue, parse
from bench.sqs.report import markdown
from bench.sqs.servers import PEERS
from jobqueue import Client
from jobqueue.testing import server_in_thread

HEAD = b"HTTP/1.1 200 OK\r\nServer: x\r\n"


@pytest.mark.parametrize(
    ("data", "ended", "closes"),
    [
        (HEAD + b"Content-Length: 2\r\nConnection: keep-alive\r\n\r\n{}", False, False),
        (HEAD + b"Connection: close\r\nContent-Length: 2\r\n\r\n{}", False, True),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n", False, False),
        (HEAD + b"\r\n{}", True, True),
    ],
)
def test_answers_are_read_in_every_shape(data: bytes, ended: bool, closes: bool) -> None:
    """With a length, in chunks, and up to the end of the connection; each is whole with its last byte and not before."""
    answer = parse(data, ended)
    assert answer is not None
    assert (answer.status, answer.body, answer.closes) == (200, b"{}", closes)
    for cut in range(len(data)):
        assert parse(data[:cut], False) is None


@pytest.mark.parametrize(("name", "batch"), [("plain", 1), ("plain", 10), ("line.fifo", 1)])
def test_the_load_sends_receives_and_deletes(name: str, batch: int) -> None:
    """What is said to have gone through has: so many jobs have succeeded, and few are left."""
    with server_in_thread() as url:
        port = urlsplit(url).port
        assert port is not None
        load = Load(make_queue(port, f"{url}/sqs", name), batch, fifo=name.endswith(".fifo"))
        count, seconds = asyncio.run(load.run(3, 0.05))
        assert count >= batch
        assert seconds >= 0.05
        with Client(url) as client:
            assert client.queue(name).totals.succeeded == count


def test_memory_is_of_so_many_messages() -> None:
    """As many are sent as were asked for, rounded up to batches of each connection."""
    with server_in_thread() as url:
        port = urlsplit(url).port
        assert port is not None
        target = make_queue(port, f"{url}/sqs", "filled")
        sent = asyncio.run(Load(target, 10).fill(2, 40, 60.0))
        connection = Blocking(port)
        attributes = target.request("GetQueueAttributes", {"AttributeNames": ["ApproximateNumberOfMessages"]})
        answer = connection.ask(attributes, "GetQueueAttributes")
        connection.close()
        assert answer["Attributes"]["ApproximateNumberOfMessages"] == str(sent) == "40"


def test_what_could_not_be_measured_is_said() -> None:
    """A server that is not installed is named with the reason, and those that are stand beside ours with a ratio."""
    found = Found()
    ways = ("raw, single", "raw, batches of 10")
    for key, rate in (("jobqueue", 2_000.0), ("moto", 100.0)):
        found.ways[key] = {name: [Way(rate, 50.0), Way(rate + 10, 60.0), Way(rate + 20, 70.0)] for name in ways}
        found.pickups[key], found.trips[key], found.bare[key] = [900.0], [700.0], [450.0]
    found.memory["jobqueue"] = (600.0, 100_000)
    found.failures["roto"] = "roto-server is not installed"
    text = markdown(found, QUICK, PEERS)
    assert "| moto_server | 110 (100 to 120), 0.05 × |" in text
    assert "| jobqueue | 0.90 ms, 2.0 × | – | 0.70 ms | 600 bytes (100,000 messages) |" in text
    assert "under 3 round trips: 2.0, met" in text
    assert "roto-aws was not measured at all: roto-server is not installed" in text
