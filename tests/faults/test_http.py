"""Faults 43 and 44: requests that two servers might read differently, and ids that are not what they seem."""

from __future__ import annotations

import itertools
import re
from collections.abc import AsyncIterator
from urllib.parse import quote

import pytest

from .ledger import Api
from .process import LOG_LINE, Process
from .wire import Answer, Client, job_path, lines_of, request

_HOST = b"Host: localhost\r\n"
_JSON = b"Content-Type: application/json\r\n"
_HIDDEN = b'{"payload": "smuggled"}'
_SECOND = b"POST /jobs/enqueue HTTP/1.1\r\n%b%bContent-Length: %d\r\n\r\n%b" % (_HOST, _JSON, len(_HIDDEN), _HIDDEN)
"""A whole request that must never be read as one when it stands inside or behind a doubtful one."""

_HEAD = b"POST /jobs/enqueue HTTP/1.1\r\n%b" % _JSON
_BODY = b'{"payload": 1}'
_CHUNKED = b"%x\r\n%b\r\n0\r\n\r\n" % (len(_BODY), _BODY)

SMUGGLING: dict[str, bytes] = {
    "CL and TE": _HEAD + _HOST + b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n" + _CHUNKED,
    "TE and CL": _HEAD + _HOST + b"Transfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n" + _CHUNKED,
    "two CL": _HEAD + _HOST + b"Content-Length: 14\r\nContent-Length: 0\r\n\r\n" + _BODY,
    "two CL that agree": _HEAD + _HOST + b"Content-Length: 14\r\nContent-Length: 14\r\n\r\n" + _BODY,
    "a list of CL": _HEAD + _HOST + b"Content-Length: 14, 14\r\n\r\n" + _BODY,
    "two Host": _HEAD + _HOST + b"Host: other\r\nContent-Length: 14\r\n\r\n" + _BODY,
    "two Host that agree": _HEAD + _HOST + _HOST + b"Content-Length: 14\r\n\r\n" + _BODY,
    "no Host": _HEAD + b"Content-Length: 14\r\n\r\n" + _BODY,
    "CL with a sign": _HEAD + _HOST + b"Content-Length: +14\r\n\r\n" + _BODY,
    "negative CL": _HEAD + _HOST + b"Content-Length: -14\r\n\r\n" + _BODY,
    "hexadecimal CL": _HEAD + _HOST + b"Content-Length: 0xe\r\n\r\n" + _BODY,
    "CL with an underscore": _HEAD + _HOST + b"Content-Length: 1_4\r\n\r\n" + _BODY,
    "CL in other digits": _HEAD + _HOST + "Content-Length: ١٤\r\n\r\n".encode() + _BODY,
    "huge CL": _HEAD + _HOST + b"Content-Length: 99999999999999999999\r\n\r\n" + _BODY,
    "empty CL": _HEAD + _HOST + b"Content-Length: \r\n\r\n" + _BODY,
    "space before the colon": _HEAD + _HOST + b"Content-Length : 14\r\n\r\n" + _BODY,
    "folded header": _HEAD + _HOST + b"X: a\r\n b\r\nContent-Length: 14\r\n\r\n" + _BODY,
    "TE that is not known": _HEAD + _HOST + b"Transfer-Encoding: xchunked\r\n\r\n" + _CHUNKED,
    "TE with a tab": _HEAD + _HOST + b"Transfer-Encoding:\tchunked, identity\r\n\r\n" + _CHUNKED,
    "chunked not last": _HEAD + _HOST + b"Transfer-Encoding: chunked, gzip\r\n\r\n" + _CHUNKED,
    "chunked twice": _HEAD + _HOST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n" + _CHUNKED,
    "TE in HTTP/1.0": b"POST /jobs/enqueue HTTP/1.0\r\n"
    + _JSON
    + _HOST
    + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n"
    + _CHUNKED,
    "bare LF in a chunk's size": _HEAD + _HOST + b"Transfer-Encoding: chunked\r\n\r\ne\n" + _BODY + b"\r\n0\r\n\r\n",
    "chunk's size with a sign": _HEAD + _HOST + b"Transfer-Encoding: chunked\r\n\r\n+e\r\n" + _BODY + b"\r\n0\r\n\r\n",
    "chunk longer than its size": _HEAD + _HOST + b"Transfer-Encoding: chunked\r\n\r\n5\r\n" + _BODY + b"\r\n0\r\n\r\n",
    "NUL in a header": _HEAD + _HOST + b"X: a\x00b\r\nContent-Length: 14\r\n\r\n" + _BODY,
    "bare CR in a header": _HEAD + _HOST + b"X: a\rContent-Length: 0\r\nContent-Length: 14\r\n\r\n" + _BODY,
    "no name": _HEAD + _HOST + b": x\r\nContent-Length: 14\r\n\r\n" + _BODY,
    "space in a name": _HEAD + _HOST + b"Content Length: 0\r\nContent-Length: 14\r\n\r\n" + _BODY,
    "no HTTP at all": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 not TLS here\r\n\r\n",
    "a line of 40 KB": _HEAD + _HOST + b"X: " + b"x" * 40_000 + b"\r\n\r\n",
    "300 headers": _HEAD + _HOST + b"".join(b"X%d: y\r\n" % number for number in range(300)) + b"\r\n",
}


def _answers(data: bytes) -> list[int]:
    """The statuses in what a connection sent until it was closed."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", data)]


_marks = itertools.count(1)


async def logged(process: Process) -> list[str]:
    """The new lines of the log. Lines are written a little after their answers, so one of ours, asked for last, is waited for."""
    mark = f"mark-{next(_marks)}.example"
    client = await Client.connect(process.port)
    await client.send(b"GET /queues HTTP/1.1\r\nHost: %b\r\nConnection: close\r\n\r\n" % mark.encode())
    assert (await client.answer()).status == 403
    await client.closed()
    client.fin()
    lines = list(lines_of(await process.said(mark)))
    assert [line for line in lines if LOG_LINE.fullmatch(line) is None] == []
    return [line for line in lines if "mark-" not in line]


@pytest.fixture
async def watched(process: Process, api: Api) -> AsyncIterator[Client]:
    """A connection on whose behalf the default queue must not get a job."""
    before = (await api.call("PUT", "/queues/default", {})).json["totals"]
    await logged(process)
    yield await api.connect()
    assert (await api.call("GET", "/queues/default")).json["totals"] == before
    # One line at most, and well-formed, for whatever it was.
    assert len(await logged(process)) <= 1


@pytest.mark.parametrize("doubtful", SMUGGLING.values(), ids=SMUGGLING.keys())
async def test_43_smuggling(watched: Client, doubtful: bytes) -> None:
    """A request whose end could be read in two ways is answered 400 and the connection closed: what follows it is never a request."""
    await watched.send(doubtful + _SECOND)
    data = await watched.closed()
    assert _answers(data) == [400], data
    assert b"Connection: close\r\n" in data
    assert b"application/problem+json" in data


async def test_43_smuggling_behind_a_good_request(watched: Client) -> None:
    """Behind a good request the doubtful one is refused just so, and the rest dropped."""
    await watched.send(request("GET", "/healthz") + SMUGGLING["CL and TE"] + _SECOND)
    # When both arrive in one piece, aiohttp's parser drops the good one too; it was not acknowledged, so it may be sent again.
    assert _answers(await watched.closed()) in ([400], [200, 400])


async def test_43_smuggling_after_a_good_request(watched: Client) -> None:
    """A good request that was answered stays so; the doubtful one after it ends the connection."""
    assert (await watched.call("GET", "/healthz")).status == 200
    await watched.send(SMUGGLING["CL and TE"] + _SECOND)
    assert _answers(await watched.closed()) == [400]


async def test_43_smuggling_in_an_unread_body(watched: Client) -> None:
    """A body that is refused without being read is not taken for the next request."""
    body = _SECOND * 100
    head = b"POST /jobs/enqueue HTTP/1.1\r\n%bContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % (_HOST, len(body))
    await watched.send(head + body)
    assert (await watched.answer()).status == 415
    head = b"POST /nowhere HTTP/1.1\r\n%bContent-Length: %d\r\n\r\n" % (_HOST, len(body))
    await watched.send(head + body)
    assert (await watched.answer()).status == 404
    assert (await watched.call("GET", "/healthz")).status == 200


async def test_43_smuggling_in_a_path(watched: Client) -> None:
    """A request within an encoded path stays within it."""
    path = "/jobs/x%20HTTP/1.1%0d%0aHost:%20faults%0d%0a%0d%0aPOST%20/jobs/enqueue"
    answer = await watched.call("GET", path)
    assert answer.status in (400, 404)
    assert (await watched.call("GET", "/healthz")).status == 200


@pytest.mark.parametrize("version", [b"HTTP/0.9", b"HTTP/2.0", b"HTTP/3.0", b"HTTP/1.2", b"HTTP/11.1", b"HTCPCP/1.0", b""])
async def test_43_smuggling_by_version(watched: Client, version: bytes) -> None:
    """A version that is not spoken here is refused, and the connection closed."""
    await watched.send(b"POST /jobs/enqueue %b\r\n%b%bContent-Length: 14\r\n\r\n%b" % (version, _HOST, _JSON, _BODY) + _SECOND)
    data = await watched.closed()
    if version == b"HTTP/1.2":
        # A later minor version is compatible (RFC 9110, section 2.5); whether this server reads it or not, it does so once.
        assert _answers(data) in ([400], [505])
    else:
        assert len(_answers(data)) == 1
        assert _answers(data)[0] in (400, 505), data


BAD_IDS: dict[str, str] = {
    "NUL": "%00",
    "NUL inside": "a%00b",
    "line end": "%0d%0aSet-Cookie:%20a=b",
    "tab": "%09",
    "DEL": "%7f",
    "C1": "%c2%85",
    "lone surrogate": "%ed%a0%80",
    "not UTF-8": "%ff",
    "overlong": "%c0%af",
    "cut off": "%e2%82",
    "129 characters": "x" * 129,
    "129 characters of unicode": "%c3%a9" * 129,
    "8,000 characters": "x" * 8_000,
    "10 KB": "x" * 10_240,
}
"""What no id may be, as it stands in a path."""

GOOD_IDS: dict[str, tuple[str, str]] = {
    "dots": ("../../etc/passwd", "..%2f..%2fetc%2fpasswd"),
    "one dot": (".", "."),
    "two dots": ("..", "%2e%2e"),
    "next": ("next", "next"),
    "next, encoded": ("next!", "%6Eext!"),
    "the name of a route": ("enqueue", "%65nqueue"),
    "another": ("dequeue", "dequeu%65"),
    "an operation": ("conclude", "conclude"),
    "unicode": ("日本語 é", "%E6%97%A5%E6%9C%AC%E8%AA%9E%20%C3%A9"),
    "emoji": ("\U0001f600", "%f0%9f%98%80"),
    "spaces": (" a  b ", "%20a%20%20b%20"),
    "plus": ("a+b", "a+b"),
    "percent": ("100%", "100%25"),
    "encoded twice": ("%2e", "%252e"),
    "question mark": ("a?b#c", "a%3Fb%23c"),
    "semicolon": ("a;b=c", "a;b=c"),
    "quotes": ("\"'<script>", "%22%27%3Cscript%3E"),
    "backslash": ("a\\b", "a%5Cb"),
    "128 characters": ("x" * 128, "x" * 128),
    "128 of unicode": ("é" * 128, "%C3%A9" * 128),
    "zero": ("0", "0"),
    "null": ("null", "null"),
    "braces": ("{id}", "%7Bid%7D"),
    "line separator": ("a\u2028b", "a%E2%80%A8b"),
}
"""Ordinary ids: what they are, and how they may stand in a path."""


def _raw(method: str, path: str, body: bytes = b"") -> bytes:
    kind = _JSON if body else b""
    return b"%b %b HTTP/1.1\r\n%b%bContent-Length: %d\r\n\r\n%b" % (method.encode(), path.encode(), _HOST, kind, len(body), body)


async def _ask(api: Api, method: str, path: str, body: bytes = b"") -> Answer:
    client = await api.connect()
    await client.send(_raw(method, path, body))
    return await client.answer()


OPERATIONS = [
    ("GET", "", b""),
    ("POST", "/conclude", b'{"lease": "x", "outcome": "succeeded"}'),
    ("POST", "/extend", b'{"lease": "x"}'),
    ("POST", "/release", b'{"lease": "x"}'),
    ("POST", "/cancel", b""),
    ("POST", "/retry", b""),
]


@pytest.mark.parametrize("segment", BAD_IDS.values(), ids=BAD_IDS.keys())
async def test_44_bad_id(process: Process, api: Api, segment: str) -> None:
    """What no id may be is answered 400 by every operation on a job, without showing it raw, with one log line each at most."""
    for method, action, body in OPERATIONS:
        await logged(process)
        answer = await _ask(api, method, f"/jobs/{segment}{action}", body)
        assert (answer.status, answer.code) == (400, "bad_request")
        assert len(answer.body) < 1_000
        assert not any(byte < 0x20 or byte == 0x7F for byte in answer.body)
        assert "set-cookie" not in answer.headers
        assert len(await logged(process)) <= 1


@pytest.mark.parametrize(("job_id", "segment"), GOOD_IDS.values(), ids=GOOD_IDS.keys())
async def test_44_bad_id_that_is_an_ordinary_one(process: Process, api: Api, job_id: str, segment: str) -> None:
    """An id that looks odd is an id: unknown before its job exists, and the job afterwards, by every operation."""
    # What other tests had this server say is none of this one's business.
    await logged(process)
    for method, action, body in OPERATIONS:
        answer = await _ask(api, method, f"/jobs/{segment}{action}", body)
        assert (answer.status, answer.code) == (404, "unknown_job"), (method, action, answer)
    created = await api.call("POST", "/jobs/enqueue", {"id": job_id, "queue": api.queue, "payload": 1})
    assert created.status == 201
    api.acknowledged.add(job_id)
    location = created.headers["location"]
    assert location.isascii()
    # An id that a proxy might undo stands in the query.
    odd = job_id in (".", "..") or re.search(r"[/\\%?#;]", job_id) is not None
    assert location == (f"/jobs/-?id={quote(job_id, safe='')}" if odd else job_path(job_id))
    for path in (f"/jobs/{segment}", location):
        assert (await _ask(api, "GET", path)).json["id"] == job_id
    job = await api.take(lease_seconds=60)
    token = job["lease"]["token"].encode()
    extended = await _ask(api, "POST", f"/jobs/{segment}/extend", b'{"lease": "%b"}' % token)
    assert (extended.status, extended.json["id"]) == (200, job_id)
    ended = await _ask(api, "POST", f"/jobs/{segment}/conclude", b'{"lease": "%b", "outcome": "failed", "retry": false}' % token)
    assert ended.status == 200
    again = await _ask(api, "POST", f"/jobs/{segment}/retry")
    assert (again.status, again.json["status"]) == (200, "queued")
    api.gave_up(job_id)
    cancelled = await _ask(api, "POST", f"/jobs/{segment}/cancel")
    assert (cancelled.status, cancelled.json["outcome"]) == (200, "cancelled")
    api.over(job_id, "cancelled")
    assert await logged(process) == []


@pytest.mark.parametrize(
    "path",
    [
        "/jobs/",
        "/jobs//conclude",
        "/jobs/a/b",
        "/jobs/a/b/conclude",
        "/jobs/../queues",
        "/jobs/%2e%2e/queues/x",
        "//jobs",
        "/jobs/x/",
        "/Jobs",
        "/jobs%2fenqueue",
    ],
)
async def test_44_bad_id_that_is_no_path(process: Process, api: Api, path: str) -> None:
    """Paths are taken as they are: no dots are resolved, no slashes merged, so what is no route is 404."""
    await logged(process)
    answer = await _ask(api, "GET", path)
    assert answer.status in (404, 405)
    assert len(await logged(process)) <= 1


@pytest.mark.parametrize("name", ["%00", "a%2fb", "%ff", "a%20b", "%C3%A9", "x" * 81, "%0d%0ax"])
async def test_44_bad_id_of_a_queue(process: Process, api: Api, name: str) -> None:
    """A queue that cannot exist is not found or refused, and is not made."""
    for method, body in (("GET", b""), ("DELETE", b""), ("PUT", b"{}")):
        await logged(process)
        answer = await _ask(api, method, f"/queues/{name}", body)
        assert answer.status in (400, 404)
        assert answer.status == 400 or method != "PUT"
        assert len(await logged(process)) <= 1
