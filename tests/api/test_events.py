"""GET /events: the stream's form, what it says, how it resumes and how it ends."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from typing import Any, NamedTuple

import pytest

from jobqueue.api.access.access import Access
from jobqueue.api.access.auth import Keys
from jobqueue.api.access.grants import Scope, digest_of, grant
from jobqueue.api.describe.examples import STREAM
from jobqueue.api.native.events import HEARTBEAT_SECONDS

from .conftest import Serve
from .harness import GUARD, NOW, Api, Wire, assert_problem, at, request, until


class Event(NamedTuple):
    """One block of a stream."""

    id: str
    event: str
    data: Any


class Stream:
    """A listener, reading block by block."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.headers: dict[str, str] = {}
        self.cursor = ""

    async def open(self) -> list[str]:
        """Read the head and the first block, which is the stream's opening; its lines."""
        status, self.headers = await self.wire.head()
        assert status == "HTTP/1.1 200 OK", status
        return await self.block()

    async def block(self) -> list[str]:
        """The lines up to the next empty one."""
        lines = []
        while line := (await self.wire.line()).decode():
            lines.append(line)
            if line.startswith("id: "):
                self.cursor = line[4:]
        return lines

    async def event(self) -> Event:
        """The next block, which must be an event."""
        fields = dict(line.split(": ", 1) for line in await self.block())
        assert list(fields) == ["id", "event", "data"]
        return Event(fields["id"], fields["event"], json.loads(fields["data"]))

    async def events(self, count: int) -> list[tuple[str, str]]:
        """The next events by name and what they are of."""
        found = [await self.event() for _ in range(count)]
        return [(event.event, event.data.get("id", event.data["queue"])) for event in found]


async def listening(api: Api, query: str = "", *lines: str) -> Stream:
    """A listener whose stream has begun."""
    wire = await api.site.wire()
    wire.send(request("GET", f"/events{query}", None, *lines))
    return Stream(wire)


async def opened(api: Api, query: str = "", *lines: str) -> Stream:
    stream = await listening(api, query, *lines)
    opening = await stream.open()
    assert opening == ["retry: 2000", f"id: {stream.cursor}"]
    return stream


async def test_a_stream_says_what_happens(api: Api) -> None:
    """Its head lets nobody store, guess or collect it; each event has an id, a name and an object."""
    stream = await opened(api)
    assert {name: stream.headers[name] for name in ("content-type", "cache-control", "x-content-type-options", "x-accel-buffering")} == {
        "content-type": "text/event-stream",
        "cache-control": "no-store",
        "x-content-type-options": "nosniff",
        "x-accel-buffering": "no",
    }
    assert "content-length" not in stream.headers
    await api.put("/queues/q", max_attempts=3)
    await api.enqueue({"secret": 1}, id="j", queue="q", type="mail")
    # Made first, then given its policy, in one step.
    made, changed = await stream.event(), await stream.event()
    backoff = {"base": 1.0, "factor": 2.0, "cap": 300.0}
    policy: dict[str, Any] = {"lease_seconds": 300.0, "max_attempts": 3, "backoff": backoff, "max_jobs": None, "paused": False}
    policy |= {
        "concurrency": None,
        "rate": None,
        "per_key": None,
        "fair": False,
        "weights": {},
        "dead_letter": None,
        "keep_succeeded": None,
        "keep_failed": None,
        "delay": None,
        "expires_in": None,
        "tags": {},
        "attributes": {},
    }
    assert made[1:] == changed[1:] == ("queue_changed", {"at": NOW, "queue": "q", "policy": policy})
    enqueued = await stream.event()
    assert enqueued == (
        stream.cursor,
        "enqueued",
        {
            "at": NOW,
            "queue": "q",
            "id": "j",
            "number": 1,
            "type": "mail",
            "priority": 5,
            "status": "queued",
            "outcome": None,
            "attempts": 0,
            "run_at": None,
            "lease_expires_at": None,
            "worker": None,
            "progress": None,
            "message": None,
            "cancel_requested": False,
            "key": None,
        },
    )


async def test_a_worker_is_followed(api: Api) -> None:
    """Who has the job, how far it is, what it says and how it ended; line ends in its message do not end the event."""
    stream = await opened(api, "?event=dequeued&event=extended&event=concluded")
    token = await api.working(queue="q")
    api.clock.advance(1)
    assert (await api.post("/jobs/job/extend", lease=token, progress=0.5, message="half\n\ndata: no")).status == 200
    assert (await api.post("/jobs/job/conclude", lease=token, outcome="failed", retry=False, error="why")).status == 200
    taken, extended, concluded = [await stream.event() for _ in range(3)]
    assert (taken.event, taken.data["status"], taken.data["attempts"], taken.data["lease_expires_at"]) == (
        "dequeued",
        "in_progress",
        1,
        at(300),
    )
    assert (extended.data["at"], extended.data["progress"], extended.data["message"]) == (at(1), 0.5, "half\n\ndata: no")
    assert (concluded.data["status"], concluded.data["outcome"]) == ("concluded", "failed")
    assert token not in str((taken, extended, concluded))


async def test_the_example_of_the_document_has_the_fields_of_a_true_stream(api: Api) -> None:
    """Block by block: the opening, an event of a job, an event of a queue."""
    stream = await listening(api, "?event=enqueued&event=queue_paused")
    blocks = [block.split("\n") for block in STREAM.removesuffix("\n\n").split("\n\n")]
    assert [line.partition(": ")[0] for line in await stream.open()] == [line.partition(": ")[0] for line in blocks[0]]
    await api.enqueue(id="1", queue="q")
    assert (await api.post("/queues/q/pause")).status == 200
    for _, name, data in blocks[1:]:
        event = await stream.event()
        told = json.loads(data.removeprefix("data: "))
        assert list(event.data) == list(told)
        assert name in ("event: extended", f"event: {event.event}")
        if told.get("policy"):
            assert list(event.data["policy"]) == list(told["policy"])


async def test_queue_type_and_event_choose(api: Api) -> None:
    """Each may be repeated; together they narrow."""
    stream = await opened(api, "?queue=a&queue=b&type=mail&type=sms&event=enqueued")
    for job_id, queue, kind in (("1", "a", "mail"), ("2", "c", "mail"), ("3", "b", "sms"), ("4", "b", "fax")):
        await api.enqueue(id=job_id, queue=queue, type=kind)
    await api.enqueue(id="5", queue="a", type="sms")
    assert await stream.events(3) == [("enqueued", "1"), ("enqueued", "3"), ("enqueued", "5")]


async def test_silence_is_broken_by_a_comment(api: Api) -> None:
    """After 15 s a line that is no event; it carries the place, if events that were not wanted moved that."""
    stream = await opened(api, "?queue=elsewhere")
    start = stream.cursor

    async def beat() -> list[str]:
        await until(lambda: bool(len(api.backend.listeners.waiting)))
        api.clock.advance(HEARTBEAT_SECONDS)
        return await stream.block()

    assert await beat() == [":"]
    await api.enqueue()
    lines = await beat()
    assert lines == [":", f"id: {stream.cursor}"]
    assert stream.cursor != start
    assert await beat() == [":"]


async def test_a_stream_goes_on_after_the_last_event(api: Api) -> None:
    """With Last-Event-ID, what happened since is told first, also when nobody listened for a while."""
    first = await opened(api)
    await api.enqueue(id="1")
    assert await first.events(2) == [("queue_changed", "default"), ("enqueued", "1")]
    await first.wire.close()
    await until(lambda: api.backend.totals().listeners == 0)
    await api.enqueue(id="2")
    again = await opened(api, "", f"Last-Event-ID: {first.cursor}")
    assert await again.events(1) == [("enqueued", "2")]


async def test_what_is_not_known_any_more_is_said(api: Api) -> None:
    """After a minute without listeners, and for any id that is not the server's, the stream begins with `reset`."""
    first = await opened(api)
    await first.wire.close()
    await until(lambda: api.backend.totals().listeners == 0)
    api.clock.advance(61)
    await api.enqueue(id="1")
    for last in (first.cursor, "x", "1", "é"):
        stream = await listening(api, "", f"Last-Event-ID: {last}")
        assert await stream.open() == ["retry: 2000", "event: reset", "data: {}", f"id: {stream.cursor}"]
    await api.enqueue(id="2")
    assert await stream.events(1) == [("enqueued", "2")]


async def test_an_empty_last_event_id_is_none(api: Api) -> None:
    """A browser that was told no id may send it empty."""
    await opened(api, "", "Last-Event-ID: ")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("?queue=no%20name", "queue"),
        ("?event=nonsense", "event[0]"),
        ("?event=reset", "event[0]"),
        ("?wait=1", "wait"),
        ("?queue=", "queue"),
    ],
)
async def test_a_filter_that_can_match_nothing_is_refused(api: Api, query: str, field: str) -> None:
    """The field is named; nobody listens then."""
    assert_problem(await api.get(f"/events{query}"), 400, "bad_request", field)
    assert api.backend.totals().listeners == 0


async def test_a_last_event_id_that_no_server_gave_is_refused(api: Api) -> None:
    """Too long, or twice."""
    assert_problem(await api.send("GET", "/events", headers={"Last-Event-ID": "1" * 4_097}), 400, "bad_request", "Last-Event-ID")
    wire = await api.site.wire()
    reply = await wire.ask(request("GET", "/events", None, "Last-Event-ID: 1", "Last-Event-ID: 2"))
    assert_problem(reply, 400, "bad_request", "Last-Event-ID")


async def test_as_many_listen_as_may(serve: Serve) -> None:
    """One more is answered 429; when one goes there is room."""
    api = await serve(listeners_max=1)
    stream = await opened(api)
    assert_problem(await api.get("/events"), 429, "too_many_listeners")
    await stream.wire.close()
    await until(lambda: api.backend.totals().listeners == 0)
    await opened(api)


async def test_head_is_answered_without_listening(api: Api) -> None:
    """The head alone; then the connection ends."""
    wire = await api.site.wire()
    wire.send(request("HEAD", "/events"))
    answer = await wire.rest()
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\n")
    assert answer.count(b"\r\n\r\n") == 1
    assert api.backend.totals().listeners == 0


async def test_http_1_0_is_served(api: Api) -> None:
    """The stream needs nothing of 1.1."""
    wire = await api.site.wire()
    wire.send(request("GET", "/events", version="1.0"))
    stream = Stream(wire)
    await stream.open()
    await api.enqueue(id="1")
    assert await stream.events(2) == [("queue_changed", "default"), ("enqueued", "1")]


async def test_draining_ends_every_stream(api: Api) -> None:
    """What happened is told, then the connection ends; one that comes then is refused."""
    streams = [await opened(api) for _ in range(3)]
    wire = await api.site.wire()
    await api.enqueue(id="1")
    api.app.drain()
    for stream in streams:
        rest = await stream.wire.rest()
        assert b"event: enqueued" in rest
        assert rest.endswith(b"}\n\n")
    assert api.backend.totals().listeners == 0
    assert_problem(await wire.ask(request("GET", "/events")), 503, "draining")


async def test_a_listener_that_does_not_read_is_cut(serve: Serve) -> None:
    """Nothing is kept for it but its place: once what is remembered has gone past that, its connection ends."""
    api = await serve(notices_max=50)
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    client.setblocking(False)
    loop = asyncio.get_running_loop()
    with client:
        await loop.sock_connect(client, (api.site.host, api.site.port))
        await loop.sock_sendall(client, request("GET", "/events"))
        await until(lambda: api.backend.totals().listeners == 1)
        (connection,) = (each for each in api.site.server.open if not each.idle)
        transport = connection.transport
        assert transport is not None
        jobs = json.dumps({"jobs": [{"payload": 1, "type": "t" * 128} for _ in range(10)]}).encode()
        while not connection.writing_paused:
            assert (await api.post("/batch/enqueue", jobs)).status == 200
        for _ in range(20):
            assert (await api.post("/batch/enqueue", jobs)).status == 200
            assert transport.get_write_buffer_size() < 100_000
        received = b""
        async with asyncio.timeout(GUARD):
            while chunk := await loop.sock_recv(client, 1 << 16):
                received += chunk
    # It had everything up to where it was let go, and not the rest.
    numbers = [int(number) for number in re.findall(rb'"number":(\d+)', received)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) < api.backend.engine.jobs.next_number - 1
    assert api.backend.totals().listeners == 0


async def test_a_listener_needs_the_scope_and_sees_its_queues_alone(serve: Serve) -> None:
    """Without `read` it is refused; a token for some queues is told of these, and refused when it names another."""
    keys = Keys(
        [
            grant("mail", digest_of("mail"), [Scope.READ], ["mail.*"]),
            grant("blind", digest_of("blind"), [Scope.ENQUEUE]),
            grant("root", digest_of("root"), [Scope.ADMIN]),
        ]
    )
    api = await serve(access=Access(keys))

    def bearer(name: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {name}"}

    assert_problem(await api.get("/events"), 401, "unauthorized")
    assert_problem(await api.send("GET", "/events", headers=bearer("blind")), 403, "forbidden")
    assert_problem(await api.send("GET", "/events?queue=mail.a&queue=sms", headers=bearer("mail")), 403, "forbidden", "queue")
    stream = await opened(api, "", "Authorization: Bearer mail")
    for queue in ("sms", "mail.a"):
        body = json.dumps({"id": queue, "payload": 1, "queue": queue}).encode()
        sent = {**bearer("root"), "Content-Type": "application/json"}
        assert (await api.send("POST", "/jobs/enqueue", body, sent)).status == 201
    assert await stream.events(2) == [("queue_changed", "mail.a"), ("enqueued", "mail.a")]


async def test_nobody_listening_costs_an_event_nothing(api: Api) -> None:
    """No ring is kept before the first listener, nor a minute after the last."""
    await api.enqueue()
    assert api.backend.listeners.ring is None
    stream = await opened(api)
    assert api.backend.listeners.ring is not None
    await stream.wire.close()
    await until(lambda: api.backend.totals().listeners == 0)
    api.clock.advance(61)
    await api.enqueue()
    assert api.backend.listeners.ring is None


async def test_listeners_are_told_the_same_in_the_same_order(api: Api) -> None:
    """Twenty listeners, thirty jobs."""
    streams = [await opened(api, "?event=enqueued") for _ in range(20)]
    async with asyncio.timeout(GUARD):
        for number in range(30):
            await api.enqueue(id=str(number))
        found = [await stream.events(30) for stream in streams]
    assert found == [[("enqueued", str(number)) for number in range(30)]] * 20
