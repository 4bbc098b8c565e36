"""Servers that cut, drip, say something else or say it wrong: both clients name what was wrong, within their time-out, and repeat where
that is safe. Fault 62 of docs/faults.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import pytest

import jobqueue
from jobqueue import Client, QueueError, Retrying

from .conftest import Connect
from .rig import Face, canned, closed

LATE = 8.0
"""Seconds by which a call must have ended, far more than it takes on a busy machine."""

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
QUEUES = b'{"queues":[]}'
DEEP = b"[" * 100_000 + b"]" * 100_000
ENQUEUED = canned(
    201,
    b'{"id":"a","queue":"default","type":null,"priority":5,"status":"queued","created_at":"2026-11-22T07:30:20.786Z",'
    b'"run_at":null,"expires_at":null,"created":true}',
)


class Says(NamedTuple):
    """What a server says on one connection, once it has a whole request. drip: byte by byte, for ever.

    close: it hangs up after that. timeout: of the client that is to see it; short where there is nothing to see.
    """

    answer: bytes
    close: bool = True
    drip: bool = False
    timeout: float = 5.0


class Server:
    """Says one thing after the other, one a connection, the last of them for ever; and counts the requests."""

    def __init__(self, *sayings: Says) -> None:
        self.sayings = list(sayings)
        self.asked: list[bytes] = []
        self.url = ""
        self.serving: set[asyncio.Task[None]] = set()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.serving.add(asyncio.create_task(self._serve(reader, writer)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        says = self.sayings.pop(0) if len(self.sayings) > 1 else self.sayings[0]
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            try:
                await self._request(reader)
                if says.drip:
                    for at in range(1 << 30):
                        writer.write(says.answer[at : at + 1] or says.answer[-1:])
                        await writer.drain()
                        await asyncio.sleep(0.01)
                writer.write(says.answer)
                await writer.drain()
                while not says.close:
                    await self._request(reader)
                    writer.write(says.answer)
            finally:
                await closed(writer)

    async def _request(self, reader: asyncio.StreamReader) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        lengths = [int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        await reader.readexactly(lengths[0] if lengths else 0)
        self.asked.append(head.split(b"\r\n")[0])


@contextlib.asynccontextmanager
async def serving(*sayings: Says) -> AsyncIterator[Server]:
    server = Server(*sayings)
    listener = await asyncio.start_server(server.accept, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        listener.close()
        for task in server.serving:
            task.cancel()
        await asyncio.gather(*server.serving, return_exceptions=True)


LOST = {
    "hangs up": Says(b""),
    "hangs up within the status line": Says(b"HTTP/1.1 2"),
    "hangs up after the status line": Says(b"HTTP/1.1 200 OK\r\n"),
    "hangs up within the head": Says(OK),
    "hangs up before the head's last byte": Says(OK + b"Content-Length: 0\r\n\r"),
    "hangs up within a 204": Says(b"HTTP/1.1 204 No Content\r\n"),
    "hangs up after a 100": Says(b"HTTP/1.1 100 Continue\r\n\r\n"),
    "hangs up before the body": Says(OK + b"Content-Length: 13\r\n\r\n"),
    "hangs up within the body": Says(OK + b"Content-Length: 13\r\n\r\n" + QUEUES[:-1]),
    "hangs up within a chunk": Says(OK + b"Transfer-Encoding: chunked\r\n\r\nd\r\n" + QUEUES[:-1]),
    "hangs up before the last chunk": Says(OK + b"Transfer-Encoding: chunked\r\n\r\nd\r\n" + QUEUES + b"\r\n"),
    "hangs up before the trailers": Says(OK + b"Transfer-Encoding: chunked\r\n\r\nd\r\n" + QUEUES + b"\r\n0\r\n"),
    "says nothing": Says(b"", close=False, timeout=0.1),
    "stops within the head": Says(OK, close=False, timeout=0.1),
    "stops within the body": Says(OK + b"Content-Length: 13\r\n\r\n" + QUEUES[:-1], close=False, timeout=0.1),
    "drips the head": Says(OK + b"X: ", drip=True, timeout=0.1),
    "drips the body": Says(OK + b"Content-Length: 100000\r\n\r\n", drip=True, timeout=0.1),
    "drips chunks": Says(OK + b"Transfer-Encoding: chunked\r\n\r\n", drip=True, timeout=0.1),
    "drips answers before the last": Says(b"HTTP/1.1 103 Early Hints\r\n", drip=True, timeout=0.1),
    "speaks another protocol": Says(b"SSH-2.0-OpenSSH_9.9\r\n", close=False),
    "speaks TLS": Says(b"\x15\x03\x01\x00\x02\x02\x46", close=False),
    "speaks HTTP/2": Says(b"\x00\x00\x12\x04\x00\x00\x00\x00\x00", close=False),
    "speaks HTTP/0.9": Says(b"<html>it works</html>"),
    "says two lengths": Says(OK + b"Content-Length: 13\r\nContent-Length: 12\r\n\r\n" + QUEUES, close=False),
    "says a length and chunks": Says(OK + b"Content-Length: 13\r\nTransfer-Encoding: chunked\r\n\r\n" + QUEUES, close=False),
    "says a size that is none": Says(OK + b"Transfer-Encoding: chunked\r\n\r\nx\r\n", close=False),
    "says a head without end": Says(OK + b"X: y\r\n" * 20_000, close=False),
    "says answers before the last without end": Says(b"HTTP/1.1 100 Continue\r\n\r\n" * 20_000, close=False),
    "says a body too large to hold": Says(OK + b"Content-Length: 9999999999\r\n\r\n", close=False),
    "changes the protocol": Says(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n", close=False),
    "uses an encoding that nobody asked for": Says(OK + b"Content-Encoding: br\r\nContent-Length: 13\r\n\r\n" + QUEUES, close=False),
}
"""What is no whole answer: the connection is lost, and whether the request was carried out is not known."""

OTHER = {
    "is a page": Says(canned(200, b"<html>welcome to the hotel</html>"), close=False),
    "is empty": Says(canned(200), close=False),
    "is empty, up to the end": Says(OK + b"\r\n"),
    "is cut, up to the end": Says(OK + b"\r\n" + QUEUES[:-1]),
    "is nested deep": Says(canned(200, DEEP), close=False),
    "is nested deep in a field that nobody knows": Says(canned(200, b'{"x":' + DEEP + b"}"), close=False),
    "is a problem that is nested deep": Says(canned(400, b'{"x":' + DEEP + b"}"), close=False),
    "is a redirect": Says(canned(307, b"", "Location: http://127.0.0.1:1/"), close=False),
    "is not UTF-8": Says(canned(200, b'{"queues": "\xff"}'), close=False),
}
"""Whole answers that are none of this protocol."""

SAFE = ("queues", "enqueue", "dequeue", "delete_queue")
UNSAFE = ("cancel", "retry", "purge", "retry_failed")
ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "enqueue": (1,),
    "delete_queue": ("q",),
    "cancel": ("a",),
    "retry": ("a",),
    "purge": ("q",),
    "retry_failed": ("q",),
}


async def raised_by(api: Face, operation: str) -> QueueError:
    """What an operation raises, in time."""
    began = time.monotonic()
    with pytest.raises(QueueError) as raised:
        await getattr(api, operation)(*ARGUMENTS.get(operation, ()), **({"wait": 0} if operation == "dequeue" else {}))
    assert time.monotonic() - began < LATE
    return raised.value


@pytest.mark.parametrize("says", LOST.values(), ids=LOST)
async def test_what_is_no_whole_answer_is_a_lost_connection(connect: Connect, says: Says) -> None:
    """ConnectionFailed, whatever was asked; it is said twice where a repeat is safe, and once where it is not."""
    async with serving(says) as server:
        api = connect(server.url, timeout=says.timeout, retrying=Retrying(tries=2, random=lambda: 0.0))
        for operation in SAFE:
            server.asked.clear()
            error = await raised_by(api, operation)
            assert isinstance(error, jobqueue.ConnectionFailed), operation
            # One that was given up may not have been read by then.
            assert len(server.asked) == 2 or says.timeout < 1, operation
        for operation in UNSAFE[: None if says.timeout > 1 else 1]:
            server.asked.clear()
            assert isinstance(await raised_by(api, operation), jobqueue.ConnectionFailed), operation
            assert len(server.asked) == 1 or (says.timeout < 1 and not server.asked), operation
        assert await api.healthy() is False
        assert await api.ready() is False


@pytest.mark.parametrize("says", [says for says in LOST.values() if not says.drip], ids=[name for name in LOST if "drips" not in name])
async def test_a_lost_answer_is_had_by_asking_again(connect: Connect, says: Says) -> None:
    """On a connection of its own, with the same request."""
    async with serving(says, Says(ENQUEUED, close=False)) as server:
        made = await connect(server.url, timeout=says.timeout).enqueue(1, id="a")
        assert (made.id, made.created) == ("a", True)
        assert len(set(server.asked)) == 1


@pytest.mark.parametrize("says", OTHER.values(), ids=OTHER)
async def test_what_is_none_of_the_protocols_answers_says_so(connect: Connect, says: Says) -> None:
    """UnexpectedAnswer with the status, from every operation, and nothing is sent again or followed."""
    async with serving(says) as server:
        api = connect(server.url, timeout=says.timeout)
        for operation in (*SAFE, *UNSAFE, "healthy", "ready"):
            server.asked.clear()
            error = await raised_by(api, operation)
            assert isinstance(error, jobqueue.UnexpectedAnswer), operation
            assert error.status == int(says.answer.split()[1])
            assert len(server.asked) == 1, operation


@pytest.mark.parametrize("says", [*LOST.values(), *OTHER.values()], ids=[*LOST, *OTHER])
async def test_a_bad_server_has_no_events_to_tell(connect: Connect, says: Says) -> None:
    """Listening raises a named error too."""
    async with serving(says) as server:
        api = connect(server.url, timeout=says.timeout, retrying=Retrying(tries=2, random=lambda: 0.0))
        with pytest.raises((jobqueue.ConnectionFailed, jobqueue.UnexpectedAnswer)):
            await api.listen().next()


STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
RESET = b"event: reset\ndata: {}\n\n"


@pytest.mark.parametrize(
    "says",
    [
        Says(STREAM + b"Content-Length: 100\r\n\r\n" + RESET),
        Says(STREAM + b"Transfer-Encoding: chunked\r\n\r\n17\r\n" + RESET + b"\r\n"),
        Says(STREAM + b"Transfer-Encoding: chunked\r\n\r\n17\r\n" + RESET + b"\r\nx\r\n", close=False),
        Says(STREAM + b"\r\n" + RESET + b"data: " + DEEP + b"\n\n", close=False),
    ],
    ids=["cut by its length", "cut by its chunks", "chunks that are none", "a deep event"],
)
async def test_a_stream_that_breaks_is_named_after_its_events(connect: Connect, says: Says) -> None:
    """What came whole is told, then the error."""
    async with serving(says) as server:
        told = connect(server.url, retrying=Retrying(tries=1)).listen()
        assert (await told.next()).event == "reset"
        with pytest.raises((jobqueue.ConnectionFailed, jobqueue.UnexpectedAnswer)):
            await told.next()


async def test_a_time_out_is_for_the_whole_of_a_try(connect: Connect) -> None:
    """A server that drips is left when the time is up, whatever came in between."""
    async with serving(Says(OK + b"X: ", drip=True, timeout=0.1)) as server:
        api = connect(server.url, timeout=0.2, retrying=Retrying(tries=1))
        with pytest.raises(jobqueue.ConnectionFailed, match="time"):
            await api.dequeue(wait=0.1)


async def test_a_server_that_reads_nothing_is_left_in_time(connect: Connect) -> None:
    """A request that cannot be sent ends as one that is not answered."""

    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        held.append(writer)

    held: list[asyncio.StreamWriter] = []
    listener = await asyncio.start_server(deaf, "127.0.0.1", 0)
    try:
        url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        api = connect(url, timeout=0.2, retrying=Retrying(tries=1))
        with pytest.raises(jobqueue.ConnectionFailed, match="time"):
            await api.enqueue("x" * 20_000_000)
    finally:
        listener.close()
        for writer in held:
            writer.transport.abort()


async def test_an_answer_to_half_a_request_is_taken(connect: Connect) -> None:
    """A server that refuses a body without reading it has its word, and the connection is not used again."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(canned(413, b'{"status":413,"code":"too_large","detail":"too much"}'))
        held.append(writer)

    held: list[asyncio.StreamWriter] = []
    listener = await asyncio.start_server(refuse, "127.0.0.1", 0)
    try:
        api = connect(f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}", retrying=Retrying(tries=1))
        for _ in range(2):
            with pytest.raises(jobqueue.TooLarge):
                await api.enqueue("x" * 20_000_000)
        assert len(held) == 2
    finally:
        listener.close()
        for writer in held:
            writer.transport.abort()


async def test_deep_json_in_a_job_is_a_named_error_where_it_is_looked_at(connect: Connect) -> None:
    """A payload that Python cannot follow raises msgspec's DecodeError, not a bare RecursionError."""
    import msgspec

    from jobqueue.client.types import LeasedJob

    shallow = b'{"id":"a","number":1,"queue":"q","type":null,"description":null,"priority":5,"attempts":1,'
    times = b'"created_at":"2026-11-22T07:30:20Z","lease":{"token":"t","expires_at":"2026-11-22T07:30:20Z"},"payload":1}'
    job = msgspec.structs.replace(msgspec.json.decode(shallow + times, type=LeasedJob), raw_payload=msgspec.Raw(DEEP))
    with pytest.raises(msgspec.DecodeError, match="too deeply"):
        _ = job.payload
    with pytest.raises(msgspec.ValidationError):
        job.payload_as(list[Any])
    async with serving(Says(canned(200, b'{"payload":' + DEEP + b"}"), close=False)) as server:
        assert isinstance(await raised_by(connect(server.url), "dequeue"), jobqueue.UnexpectedAnswer)


async def test_threads_see_no_answer_of_another(connect: Connect) -> None:
    """After a server that says too much, the next call has a connection of its own and its own answer."""
    twice = canned(200, QUEUES) + canned(200, b'{"queues":[],"stolen":1}')
    async with serving(Says(twice, close=False), Says(canned(200, QUEUES), close=False)) as server:
        api = connect(server.url)
        for _ in range(2):
            assert await api.queues() == []
        assert len(server.asked) == 2
        assert api.kind is Client or len(server.serving) == 2
