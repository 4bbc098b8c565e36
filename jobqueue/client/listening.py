"""Listening to GET /events: what a client requests, how it reads the stream, and when it reconnects. No input or output here.

The stream follows the HTML standard, section 9.2 (server-sent events), except that `retry` is ignored. The pauses are those of `Retrying`,
which start shorter and are random, so that clients that lost the same server do not all reconnect at once.
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
"""The server sends something at least this often. A stream that is silent for this plus the client's time-out is lost."""

EVENT_BYTES_MAX = 1 << 20
"""The most bytes read of one event: far more than a server sends, and a limit on memory if a server misbehaves."""

_DOUBLINGS_MAX = 30
"""Failures are counted up to this number: the pauses have reached their maximum long before."""

_EVENT_ID = re.compile(r"[!-~]{1,4096}")
_BOM = b"\xef\xbb\xbf"
_LINE_END = re.compile(rb"\r\n|\n|\r")

_decode = msgspec.json.Decoder(EventData).decode

OneOrMore = str | Sequence[str] | None


def asked(queue: OneOrMore, type: OneOrMore, event: OneOrMore) -> str:
    """Path and query of a listener's request. Raises BadRequest for an empty list of names, which would match everything."""
    wanted: dict[str, OneOrMore] = {"queue": queue, "type": type, "event": event}
    for name, found in wanted.items():
        if found is not None and not isinstance(found, str) and not found:
            raise BadRequest(name, "is an empty list; leave it out for all")
    return sending.query("/events", **wanted)


class Lines:
    """Splits a stream of bytes into lines, which can end with CR LF, LF or CR."""

    def __init__(self) -> None:
        self._rest = b""

    def of(self, chunk: bytes) -> Iterator[bytes]:
        """The lines that this chunk completes, without their line ends."""
        *lines, self._rest = _LINE_END.split(self._rest + chunk)
        if lines and self._rest == b"" and chunk.endswith(b"\r"):
            # The next byte can be the LF of this line end, so the end is not known to be complete.
            self._rest = lines.pop() + b"\r"
        yield from lines
        if len(self._rest) > EVENT_BYTES_MAX:
            raise UnexpectedAnswer(200, f"an event of more than {EVENT_BYTES_MAX} bytes")


class Listener:
    """One listener, over as many connections as it needs.

    last_event_id: the event to continue after, None to begin now. Raises BadRequest.
    """

    def __init__(self, target: str, last_event_id: str | None, retrying: Retrying, servers: Servers) -> None:
        if last_event_id is not None and _EVENT_ID.fullmatch(last_event_id) is None:
            raise BadRequest("last_event_id", "is not the id of an event: 1 to 4096 printable ASCII characters without spaces")
        self.target = target
        self._last = last_event_id
        self._retrying = retrying
        self._servers = servers
        self._way: Way | None = None
        self.turn = servers.begin(True)
        """Which server the next connection goes to."""
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
        """The headers of the next connection's request, in addition to those of every request."""
        last = {} if self._last is None else {"Last-Event-ID": self._last}
        return {"Accept": "text/event-stream", "Accept-Encoding": "identity", **last}

    def begin(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """A connection was answered; body: what arrived, if it is not a stream. Raises the error that the answer reports."""
        media = headers.get("content-type", "")
        if status != 200:
            raise failure(Answer(status, headers, body))
        if media.partition(";")[0].strip().lower() != "text/event-stream":
            raise UnexpectedAnswer(status, f"{media or 'an answer without a type'} instead of a stream of events")
        self._fresh()
        self._begun = True
        self._way = None
        if self._servers.shaken:
            self._servers.well(self.turn.at)

    def told(self, chunk: bytes) -> Iterator[JobEvent]:
        """The events that this chunk completes. Raises UnexpectedAnswer."""
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
            # The server works, so the next loss counts as a new one.
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
        """A block has ended. A block without data is not an event, but its id counts."""
        event, data, self._event, self._data, self._size = self._event, self._data, "", [], 0
        if not data:
            self._last = self._id
            return
        try:
            fields: dict[str, Any] = msgspec.structs.asdict(_decode(b"\n".join(data)))
        except (ValueError, RecursionError) as error:
            raise UnexpectedAnswer(200, f"the event {self._id} cannot be read: {error}") from None
        if event != "reset":
            # A server sends a reset by itself, even if it cuts each stream soon after its beginning; so a reset does not count as recovery.
            self._failures = 0
        # Set before the event is yielded: a caller that takes it and stops has seen it.
        self._last = self._id
        yield JobEvent(event=event or "message", event_id=self._id or "", **fields)

    def pause(self, error: QueueError) -> float:
        """Seconds until the next connection after this error; it goes to the server in `turn`. Raises the error if there is no next one.

        The result is 0 if another server can be asked at once. Before the first stream, the rules are those of any call. Later it
        reconnects without limit, except after an error that will not go away by itself, and with `tries` of 1.
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
        """The error for a stream that ended without one."""
        return ConnectionFailed(f"GET {self.target}: the stream ended")
