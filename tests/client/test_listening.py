"""Events through both clients: what is chosen, what comes, how a lost stream goes on, and how it ends."""

from __future__ import annotations

import asyncio
import inspect
import ssl
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import trustme

import jobqueue
from jobqueue import Client, Retrying
from jobqueue.api.native.events import HEARTBEAT_SECONDS
from jobqueue.client import listening
from jobqueue.client.servers import Servers
from jobqueue.testing import server

from .conftest import Connect
from .rig import DROP, GUARD, Face, Told, canned, proxied

STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


async def listening_to(api: Face, **asked: Any) -> Told:
    """An iteration that has begun: the server has been asked, and said that it does not know where to go on."""
    told = api.listen(last_event_id="none", **asked)
    first = await told.next()
    assert (first.event, first.queue, first.at) == ("reset", None, None)
    return told


async def test_events_say_what_happened_to_a_job(api: Face) -> None:
    """From its enqueue to its end, in order, with how it stood each time."""
    told = await listening_to(api)
    await api.enqueue({"secret": 1}, id="a", queue="mail", type="letter")
    job = await api.dequeue("mail", wait=0, worker="w")
    await api.extend(job.id, job.lease.token, progress=0.5, message="half")
    await api.conclude(job.id, job.lease.token, "succeeded")
    made, enqueued, dequeued, extended, concluded = [await told.next() for _ in range(5)]
    assert (made.event, made.queue, made.id, made.policy.paused) == ("queue_changed", "mail", None, False)
    assert (enqueued.event, enqueued.id, enqueued.type, enqueued.status) == ("enqueued", "a", "letter", jobqueue.Status.QUEUED)
    assert (dequeued.event, dequeued.worker, dequeued.lease_expires_at) == ("dequeued", "w", job.lease.expires_at)
    assert (extended.event, extended.progress, extended.message) == ("extended", 0.5, "half")
    assert (concluded.event, concluded.outcome, concluded.attempts) == ("concluded", jobqueue.Outcome.SUCCEEDED, 1)
    assert isinstance(made.at, datetime)
    assert made.at.tzinfo is not None
    assert made.at <= enqueued.at <= concluded.at
    assert len({event.event_id for event in (made, enqueued, dequeued, extended, concluded)}) == 5


@pytest.mark.parametrize(
    ("asked", "ids"),
    [
        ({"queue": "a"}, ["1", "3"]),
        ({"queue": ["a", "b"], "type": ["x"]}, ["1", "2"]),
        ({"type": "y & z?"}, ["3"]),
        ({"event": ["enqueued"], "queue": ("b", "c")}, ["2", "4"]),
    ],
)
async def test_filters_choose_events(api: Face, asked: dict[str, Any], ids: list[str]) -> None:
    """By queue, type and event, one or several; all of those given must fit."""
    told = await listening_to(api, **({"event": "enqueued"} | asked))
    for id, queue, type in (("1", "a", "x"), ("2", "b", "x"), ("3", "a", "y & z?"), ("4", "c", None)):
        await api.enqueue(1, id=id, queue=queue, type=type)
    assert [(await told.next()).id for _ in ids] == ids


async def test_what_is_asked_wrongly_is_said_by_name(api: Face) -> None:
    """By the client where it cannot be sent, by the server else; a list of nothing is not taken for everything."""
    for asked, field in (
        ({"queue": []}, "queue"),
        ({"event": ()}, "event"),
        ({"last_event_id": "a\r\nb: c"}, "last_event_id"),
        ({"last_event_id": ""}, "last_event_id"),
    ):
        with pytest.raises(jobqueue.BadRequest) as raised:
            api.listen(**asked)
        assert raised.value.field == field
    with pytest.raises(jobqueue.BadRequest) as raised:
        await api.listen(event="nonsense").next()
    assert raised.value.field == "event[0]"


async def test_a_lost_stream_goes_on_where_it_was(connect: Connect, url: str) -> None:
    """What happens while it is away is told once it is back, each event once; a try that fails in between is followed by another."""
    async with proxied(url) as proxy:
        api, behind = connect(proxy.url), connect(url)
        told = await listening_to(api, event="enqueued")
        seen = []
        for number in range(5):
            await behind.enqueue(1, id=f"{number}")
            seen.append(await told.next())
            proxy.plan += [DROP] * number
            proxy.cut()
        await behind.enqueue(1, id="5")
        seen.append(await told.next())
    assert [event.id for event in seen] == ["0", "1", "2", "3", "4", "5"]
    asked = [request.headers.get("last-event-id") for request in proxy.seen]
    assert asked[0] == "none"
    assert asked[-1] == seen[4].event_id
    # 0.2 s doubled with each failure, anew after each event.
    assert api.pauses == [0.2, 0.2, 0.4, 0.2, 0.4, 0.8, 0.2, 0.4, 0.8, 1.6, 0.2, 0.4, 0.8, 1.6, 3.2]


async def test_a_stream_that_was_never_opened_is_tried_as_any_call(connect: Connect) -> None:
    """The error is raised after as many tries; once it has begun there is no end to them, but for who wants none."""
    with pytest.raises(jobqueue.ConnectionFailed):
        await (api := connect("http://127.0.0.1:1")).listen().next()
    assert len(api.pauses) == 4
    stream = STREAM + b"id: a-1\nevent: reset\ndata: {}\n\n"
    async with proxied("http://127.0.0.1:1", stream, *[DROP] * 40, canned(401)) as proxy:
        told = (api := connect(proxy.url)).listen()
        assert (await told.next()).event == "reset"
        with pytest.raises(jobqueue.UnexpectedAnswer):
            await told.next()
        assert len(api.pauses) == 41
        assert max(api.pauses) == 10.0
    async with proxied("http://127.0.0.1:1", stream) as proxy:
        told = connect(proxy.url, retrying=Retrying(tries=1)).listen()
        assert (await told.next()).event == "reset"
        with pytest.raises(jobqueue.ConnectionFailed):
            await told.next()


async def test_a_restarted_server_says_reset(connect: Connect) -> None:
    """A server that does not know the id any more says that something was missed, and the events after it are told."""
    async with server() as first, proxied(first) as proxy:
        api = connect(proxy.url)
        told = await listening_to(api, event="enqueued")
        await api.enqueue(1, id="before")
        assert (await told.next()).id == "before"
        async with server() as second:
            proxy.upstream = second
            proxy.cut()
            assert (await told.next()).event == "reset"
            await api.enqueue(1, id="after")
            assert (await told.next()).id == "after"
            proxy.cut()


async def test_last_event_id_tells_what_came_after_it(api: Face) -> None:
    """A second iteration begins where the first was left."""
    told = await listening_to(api, event="enqueued")
    for id in ("a", "b", "c"):
        await api.enqueue(1, id=id)
    first = await told.next()
    again = api.listen(event="enqueued", last_event_id=first.event_id)
    assert [(await again.next()).id for _ in range(2)] == ["b", "c"]


@pytest.mark.parametrize("size", [1, 2, 7, 10_000])
def test_a_stream_is_read_as_the_standard_says(size: int) -> None:
    """In whatever pieces it comes: any line end, comments, ids alone, fields that are not known, data of several lines, a BOM."""
    sent = (
        "\N{ZERO WIDTH NO-BREAK SPACE}retry: 2000\nid: a-0\n\n:\n\n: heartbeat\r\nid: a-4\r\n\r\n"
        'id: a-5\rfuture: x\revent:enqueued\rdata: {"queue":"q",\rdata: "id":"ü"}\r\r'
        "data\nevent: lost\n"
    ).encode()
    listener = listening.Listener("/events", None, Retrying(), Servers(["http://a"], 10.0, lambda: 0.0, lambda: 0.0))
    listener.begin(200, {"content-type": "text/event-stream; charset=utf-8"}, b"")
    found = [event for at in range(0, len(sent), size) for event in listener.told(sent[at : at + size])]
    assert [(event.event, event.event_id, event.queue, event.id) for event in found] == [("enqueued", "a-5", "q", "ü")]
    assert listener.headers()["Last-Event-ID"] == "a-5"


async def test_heartbeats_are_not_told_but_move_on(connect: Connect) -> None:
    """A comment brings nothing, the id beside it is what the next connection goes on from, and the pauses begin anew."""
    beat = STREAM + b"id: a-0\n\n:\nid: a-7\n\n"
    told_at_last = STREAM + b'id: a-8\nevent: concluded\ndata: {"at":"2026-11-22T07:30:20.000Z","queue":"q","new":1}\n\n'
    async with proxied("http://127.0.0.1:1", beat, beat, beat, told_at_last) as proxy:
        api = connect(proxy.url)
        event = await api.listen().next()
    assert (event.event, event.queue, event.at) == ("concluded", "q", datetime(2026, 11, 22, 7, 30, 20, tzinfo=UTC))
    assert [request.headers.get("last-event-id") for request in proxy.seen] == [None, "a-7", "a-7", "a-7"]
    assert api.pauses == [0.2, 0.2, 0.2]
    assert listening.SILENCE_SECONDS == HEARTBEAT_SECONDS


@pytest.mark.parametrize(
    "answer",
    [
        canned(200, b"<html>", "Content-Type: text/html"),
        canned(302, b"", "Location: /"),
        STREAM + b"data: nonsense\n\n",
        STREAM + b'event: concluded\ndata: {"attempts":"many"}\n\n',
        STREAM + b"data: " + b"x" * (listening.EVENT_BYTES_MAX + 1),
        STREAM + b"data: xxxxxxxxxxxxxxxx\n" * (listening.EVENT_BYTES_MAX // 16 + 1),
    ],
    ids=["a page", "a redirect", "not JSON", "a wrong type", "a line without an end", "an event without an end"],
)
async def test_what_is_no_stream_of_events_is_said(connect: Connect, answer: bytes) -> None:
    """An answer of something else is an error at once, and nothing makes the client collect without bound."""
    async with proxied("http://127.0.0.1:1", answer) as proxy:
        with pytest.raises(jobqueue.UnexpectedAnswer):
            await connect(proxy.url).listen().next()
        assert len(proxy.seen) == 1


async def test_a_full_server_is_asked_again(connect: Connect) -> None:
    """429 too_many_listeners is raised after the tries of any call; the pauses are its Retry-After and some more."""
    async with server(max_listeners=1) as url:
        first = await listening_to(connect(url))
        api = connect(url)
        with pytest.raises(jobqueue.TooManyListeners):
            await api.listen().next()
        assert len(api.pauses) == 4
        await api.enqueue(1)
        assert (await first.next()).event == "queue_changed"


async def test_close_ends_the_iteration(connect: Connect, url: str) -> None:
    """While it waits for an event, from another task or thread; and one who is between two events is told of no more."""
    async with proxied(url) as proxy:
        api = connect(proxy.url)
        waiting, between = await listening_to(api), await listening_to(api)
        held = asyncio.create_task(waiting.next())
        await api.enqueue(1)
        assert (await held).event == "queue_changed"
        assert (await waiting.next()).event == "enqueued"
        held = asyncio.create_task(waiting.next())
        await api.queues()
        await api.close()
        assert await held is None
        assert await waiting.next() is None
        assert await between.next() is None
        with pytest.raises(RuntimeError, match="closed"):
            await api.listen().next()


async def test_close_ends_an_iteration_over_https(connect: Connect, tmp_path: Path) -> None:
    """A thread or task that waits in TLS is woken too."""
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "pem"))
    context = ssl.create_default_context()
    authority.configure_trust(context)
    async with server(tls_cert=str(tmp_path / "pem"), tls_key=str(tmp_path / "pem")) as url:
        api = connect(url.replace("http:", "https:"), ssl_context=context)
        told = await listening_to(api)
        held = asyncio.create_task(told.next())
        await api.enqueue(1)
        assert (await held).event == "queue_changed"
        assert (await told.next()).event == "enqueued"
        held = asyncio.create_task(told.next())
        await api.close()
        assert await held is None


async def test_close_cuts_a_pause_short(connect: Connect) -> None:
    """A client that waits to come back does not keep a program from ending."""
    pausing = threading.Event()

    def most() -> float:
        pausing.set()
        return 1.0

    long = Retrying(base=GUARD * 10, cap=GUARD * 10, random=most)
    async with proxied("http://127.0.0.1:1", STREAM + b"event: reset\ndata: {}\n\n") as proxy:
        kind = connect().kind
        api = connect(proxy.url, retrying=long, sleep=inspect.signature(kind).parameters["sleep"].default)
        told = await listening_to(api)
        held = asyncio.create_task(told.next())
        assert await asyncio.to_thread(pausing.wait, GUARD)
        await api.close()
        assert await held is None


async def test_leaving_an_iteration_lets_go_of_its_connection(connect: Connect) -> None:
    """Who breaks out makes room for the next listener."""
    async with server(max_listeners=1) as url:
        api = connect(url)
        for _ in range(3):
            told = await listening_to(api)
            if api.kind is Client:
                told.events.close()
            else:
                await told.events.aclose()
