"""Listening to GET /events: what a client asks, how it reads the stream, and when it comes back. No input or output here.

The stream is that of the HTML standard, section 9.2 (server-sent events), read as it says there, but that `retry` is passed over: the
pauses are those of `Retrying`, which begin shorter and are never the same for all who lost the same server.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from jobqueue.client import sending
from jobqueue.client.exchange import Answer
from jobqueue.client.problems import ConnectionFailed, UnexpectedAnswer, failure
from jobqueue.client.retrying import Retrying
from jobqueue.client.servers import Servers, Way, is_away
from jobqueue.client.types import EventData, JobEvent
from jobqueue.errors import BadRequest, QueueError

SILENCE_SECONDS = 15.0
"""The server says something at least this often. A stream that is silent for the client's time-out longer is lost."""

EVENT_BYTES_MAX = 1 << 20
"""The most that is read of one event: far above what a server sends, and what one that runs wild can make the client hold."""

_DOUBLINGS_MAX = 30
"""Failures are counted up to here: the pauses have long reached their cap."""

_EVENT_ID = re.compile(r"[!-~]{1,64}")
_BOM = b"\xef\xbb\xbf"
_LINE_END = re.compile(rb"\r\n|\n|\r")

_decode = msgspec.json.Decoder(EventData).decode

OneOrMore = str | Sequence[str] | None


def asked(queue: OneOrMore, type: OneOrMore, event: OneOrMore) -> str:
    """Path and query of a listener. Raises BadRequest for a list without a name: it would match everything."""
    wanted: dict[str, OneOrMore] = {"queue": queue, "type": type, "event": event}
    for name, found in wanted.items():
        if found is not None and not isinstance(found, str) and not found:
            raise BadRequest(name, "is an empty list; leave it out to be told of all")
    return sending.query("/events", **wanted)


class Lines:
    """Cuts a stream of bytes into lines, which may end with CR LF, LF or CR."""

    def __init__(self) -> None:
        self._rest = b""

    def of(self, chunk: bytes) -> Iterator[bytes]:
        """The lines that are whole with this chunk, without their ends."""
        *lines, self._rest = _LINE_END.split(self._rest + chunk)
        if lines and self._rest == b"" and chunk.endswith(b"\r"):
            # Its LF may be the first byte to come: not known to be a whole end yet.
            self._rest = lines.pop() + b"\r"
        yield from lines
        if len(self._rest) > EVENT_BYTES_MAX:
            raise UnexpectedAnswer(200, f"an event of more than {EVENT_BYTES_MAX} bytes")


class Listener:
    """One who listens, over as many connections as it takes.

    last_event_id: after which event to begin, None for now. Raises BadRequest.
    """

    def __init__(self, target: str, last_event_id: str | None, retrying: Retrying, servers: Servers) -> None:
        if last_event_id is not None and _EVENT_ID.fullmatch(last_event_id) is None:
            raise BadRequest("last_event_id", "is not the id of an event: 1 to 64 printable ASCII characters without spaces")
        self.target = target
        self._last = last_event_id
        self._retrying = retrying
        self._servers = servers
        self._way: Way | None = None
        self.turn = servers.begin(True)
        """Which server the next connection is to."""
        self._begun = False
        self._failures = 0
        self._fresh()

    def _fresh(self) -> None:
        self._lines = Lines()
        self._first = True
        self._id = self._last
        self._event = ""
        self._data: list[bytes] = []
        self._size = 0

    def headers(self) -> dict[str, str]:
        """What the next connection's request carries beside every request's headers."""
        last = {} if self._last is None else {"Last-Event-ID": self._last}
        return {"Accept": "text/event-stream", "Accept-Encoding": "identity", **last}

    def begin(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """A connection was answered; body: what came if it is no stream. Raises the error it tells of."""
        media = headers.get("content-type", "")
        if status != 200:
            raise failure(Answer(status, headers, body))
        if media.partition(";")[0].strip().lower() != "text/event-stream":
            raise UnexpectedAnswer(status, f"{media or 'an answer without a type'} where a stream of events should be")
        self._fresh()
        self._begun = True
        self._way = None
        if self._servers.shaken:
            self._servers.well(self.turn.at)

    def told(self, chunk: bytes) -> Iterator[JobEvent]:
        """The events that are whole with this chunk. Raises UnexpectedAnswer."""
        for line in self._lines.of(chunk):
            if line:
                self._read(line.removeprefix(_BOM) if self._first else line)
                self._first = False
            else:
                yield from self._whole()

    def _read(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"":
            # The server lives, so the next loss is a new one.
            self._failures = 0
        elif name == b"data":
            self._data.append(value)
            self._size += len(value)
            if self._size > EVENT_BYTES_MAX:
                raise UnexpectedAnswer(200, f"an event of more than {EVENT_BYTES_MAX} bytes")
        elif name == b"event":
            self._event = value.decode("utf-8", "replace")
        elif name == b"id" and _EVENT_ID.fullmatch(found := value.decode("latin-1")):
            self._id = found

    def _whole(self) -> Iterator[JobEvent]:
        """A block has ended. One without data is no event, but its id counts."""
        event, data, self._event, self._data, self._size = self._event, self._data, "", [], 0
        if not data:
            self._last = self._id
            return
        try:
            fields: dict[str, Any] = msgspec.structs.asdict(_decode(b"\n".join(data)))
        except (ValueError, RecursionError) as error:
            raise UnexpectedAnswer(200, f"the event {self._id} cannot be read: {error}") from None
        if event != "reset":
            # A reset is said of itself by a server that may cut each stream right after its beginning.
            self._failures = 0
        # Before it is handed out: one who takes it and goes has seen it.
        self._last = self._id
        yield JobEvent(event=event or "message", event_id=self._id or "", **fields)

    def pause(self, error: QueueError) -> float:
        """Seconds until the next connection, to the server whose `turn` it then is, after this error. Raises it when there is none.

        0 where another server can be asked at once. Before the first stream as for every call. Later it comes back for ever, but after
        what will not get better by itself, and with `tries` of 1.
        """
        if self._servers.several and is_away(error):
            self._way = self._way or Way(self._servers, self._servers.clock())
            following = self._way.after(self.turn, error, isinstance(error, ConnectionFailed) and error.sent)
            if following is not None:
                self.turn = following
                return 0.0
        lasting = self._begun and self._retrying.tries > 1
        retrying = replace(self._retrying, tries=sys.maxsize) if lasting else self._retrying
        pause = retrying.pause(self._failures, error)
        if pause is None:
            if self._way is not None:
                self._way.name_all(error)
            raise error
        if self._way is not None:
            self.turn = self._way.again()
        self._failures = min(self._failures + 1, _DOUBLINGS_MAX)
        return pause

    def ended(self) -> ConnectionFailed:
        """What the end of a stream is, which has none of its own."""
        return ConnectionFailed(f"GET {self.target}: the stream ended")
