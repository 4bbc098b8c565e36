"""GET /events: what happens to jobs and queues, as server-sent events (the HTML standard, section 9.2).

A stream is an answer without a length that ends when its connection closes. It is written at the speed at which the listener reads: no
events are fetched for it before the kernel has accepted the previous ones. A listener that does not read for the server's write time-out is
disconnected. One that reads too slowly falls behind what the backend remembers, and is then disconnected too. Both can reconnect with their
Last-Event-ID.

docs/decisions/0009 says why this is not aiohttp-sse.
"""

from __future__ import annotations

import asyncio
import logging

from jobqueue.api.native import views, wire
from jobqueue.api.native.event_views import event
from jobqueue.api.site import Site
from jobqueue.backend.base import Listen, Listening, Notice
from jobqueue.engine import checks
from jobqueue.errors import BadRequest, Draining
from jobqueue.http.answers import Answer
from jobqueue.http.request import ClientGone, Request

_logger = logging.getLogger("jobqueue.api")

MEDIA = "text/event-stream"
HEARTBEAT_SECONDS = 15.0
"""A comment line is sent after this much silence: common proxies cut a silent answer after 60 s, and it also detects lost listeners."""

RETRY_MS = 2_000
"""How long a browser waits before it reconnects."""

NOTICES_MAX = 100
"""The most events in one write."""

CURSOR_CHARS_MAX = 4_096

# X-Accel-Buffering: otherwise nginx would buffer the whole stream.
_HEADERS = b"Content-Type: text/event-stream\r\nX-Content-Type-Options: nosniff\r\nX-Accel-Buffering: no\r\n"


async def listen(site: Site, request: Request, _: str) -> Answer:
    """GET /events."""
    wanted, after = _asked(request)
    if site.draining:
        raise Draining("the server is shutting down")
    request.queues = tuple(wanted.queues) or None
    stream = Answer(200, content_type=b"", headers=_HEADERS, close=True)
    async with site.backend.listen(wanted, after) as listening:
        if request.head.method == "HEAD":
            return stream
        try:
            stream.write_now(request)
            await _tell(site, request, stream, listening)
        except asyncio.CancelledError:
            # The stream has begun, so ending it is the only way to answer a token that is no longer valid.
            if not request.revoked:
                raise
        except ClientGone:
            # The client has gone, or was disconnected because it did not read. The answer has begun, so no other one can be sent.
            pass
    return stream


def _asked(request: Request) -> tuple[Listen, str | None]:
    """What a listener wants, and the Last-Event-ID to continue after. Raises BadRequest."""
    asked = wire.EventsQuery()
    if "?" in request.head.path:
        asked = wire.decode_query(wire.query_of(request.head.path), wire.EventsQuery, frozenset({"queue", "type", "event"}))
    for queue in asked.queue:
        checks.name("queue", queue)
    found = request.head.headers.getall("Last-Event-ID", [])
    if len(found) > 1:
        raise BadRequest("Last-Event-ID", "is given more than once")
    # Browsers send an empty one if they have received none.
    after = found[0] if found and found[0] else None
    if after is not None and len(after) > CURSOR_CHARS_MAX:
        raise BadRequest("Last-Event-ID", "is not an event id of this server")
    return Listen(queues=frozenset(asked.queue), types=frozenset(asked.type), kinds=frozenset(asked.event)), after


async def _tell(site: Site, request: Request, stream: Answer, listening: Listening) -> None:
    """Send events until the listener goes or no more events can be sent to it. Raises ClientGone."""
    told = listening.cursor
    opening = b"retry: %d\n" % RETRY_MS
    if listening.missed:
        opening += b"event: reset\ndata: {}\n"
    # The id of the starting point, so that a listener that loses its connection before any event continues from here.
    await send(request, stream, b"%bid: %b\n\n" % (opening, told.encode()))
    while True:
        notices = await listening.notices(NOTICES_MAX, HEARTBEAT_SECONDS)
        if notices is None:
            if not site.draining:
                _logger.info("disconnected a listener of /events that read too slowly")
            return
        if notices:
            chunk = b"".join(map(_encoded, notices))
        else:
            # The id of the current point, so that after filtered-out events a reconnecting listener does not miss later ones.
            chunk = b":\n\n" if listening.cursor == told else b":\nid: %b\n\n" % listening.cursor.encode()
        told = listening.cursor
        await send(request, stream, chunk)


def _encoded(notice: Notice) -> bytes:
    # JSON contains no line ends, and neither do cursors and event names.
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (notice.cursor.encode(), notice.kind.value.encode(), views.encode(event(notice)))


async def send(request: Request, stream: Answer, chunk: bytes) -> None:
    """Write, and wait until the kernel has accepted the bytes. Raises ClientGone."""
    connection = request.connection
    if connection.transport is None or connection.transport.is_closing():
        raise ClientGone("the listener has gone")
    connection.transport.write(chunk)
    if connection.writing_paused:
        await connection.drained()
