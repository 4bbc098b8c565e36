"""Errors: one table, one shape, for whatever goes wrong; what HTTP itself can get wrong included."""

from __future__ import annotations

import json

import pytest

from jobqueue.api import problems  # noqa: F401 # every module that may define an error is loaded
from jobqueue.api.problems import PROBLEMS, problem
from jobqueue.errors import Full, QueueError, Unavailable
from jobqueue.http.plain import FIELD_BYTES_MAX

from .conftest import Serve
from .harness import Api, Reply, assert_problem, check_problem, request, until


def leaves(kind: type[QueueError]) -> set[type[QueueError]]:
    """The classes of an error's tree that have no subclass."""
    below = kind.__subclasses__()
    return {kind} if not below else set().union(*(leaves(child) for child in below))


def test_every_error_has_an_entry_and_every_entry_an_error() -> None:
    """The tree and the table agree, and no two errors share a code."""
    server = ("jobqueue.errors", "jobqueue.api.", "jobqueue.http.")
    kinds = [kind for kind in leaves(QueueError) if kind.__module__.startswith(server) and ".dialects." not in kind.__module__]
    assert sorted(kind.code for kind in kinds) == sorted(PROBLEMS)


def test_titles_and_statuses_are_those_of_errors() -> None:
    """An entry is a client or a server error with a title."""
    for status, title in PROBLEMS.values():
        assert 400 <= status <= 599
        assert title


def test_trying_again_is_offered_where_it_makes_sense() -> None:
    """429 and 503 are exactly what comes of Full and Unavailable, and each has a Retry-After."""
    for kind in leaves(QueueError):
        if kind.code not in PROBLEMS:
            continue
        worth_a_retry = PROBLEMS[kind.code].status in (429, 503)
        assert issubclass(kind, Full | Unavailable) is worth_a_retry, kind
        if worth_a_retry:
            assert b"Retry-After: 1\r\n" in problem(kind("full")).headers


def test_a_lone_surrogate_in_a_detail_can_be_sent() -> None:
    """What a client sent must not make its own error unencodable."""
    described = json.loads(problem(QueueErrorOf("bad_request", "\ud800")).content)
    check_problem({**described, "detail": "long enough"}, 400, "bad_request")


class QueueErrorOf(QueueError):
    """An error of any code."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code  # type: ignore[misc]


@pytest.mark.parametrize("path", ["/none", "//", "/jobs/", "/Jobs", "/jobs/a/none", "/jobs/a/b/conclude", "/queues//pause", "/healthz/x"])
async def test_an_unknown_path_is_404(api: Api, path: str) -> None:
    """Paths are exact: case, trailing and empty segments count."""
    assert repr(path) in assert_problem(await api.get(path), 404, "not_found")
    assert_problem(await api.post(path, payload=1), 404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("POST", "/jobs", "GET, HEAD"),
        ("DELETE", "/jobs/j", "GET, HEAD, PATCH"),
        ("GET", "/jobs/j/conclude", "POST"),
        ("PUT", "/jobs/dequeue", "GET, HEAD, PATCH, POST"),
        ("POST", "/queues/q", "DELETE, GET, HEAD, PATCH, PUT"),
        ("PATCH", "/queues/q/keys", "GET, HEAD"),
        ("GET", "/queues/q/keys/k/pause", "POST"),
        ("DELETE", "/queues/q/keys/-/resume?key=a", "POST"),
        ("GET", "/batch/enqueue", "POST"),
        ("OPTIONS", "/healthz", "GET, HEAD"),
        ("TRACE", "/queues", "GET, HEAD"),
    ],
)
async def test_an_unknown_method_is_405_with_what_is_allowed(api: Api, method: str, path: str, allow: str) -> None:
    """Allow lists what the path does serve (RFC 9110, section 15.5.6)."""
    wire = await api.site.wire()
    reply = await wire.ask(request(method, path))
    assert allow in assert_problem(reply, 405, "method_not_allowed")
    assert reply.headers["allow"] == allow


async def test_a_head_of_an_error_has_its_length_and_no_body(api: Api) -> None:
    """HEAD is GET without the body, on problems too, and the connection stays in step."""
    wire = await api.site.wire()
    wire.send(request("HEAD", "/jobs/none"))
    head = await wire.reply(head=True)
    got = await wire.ask(request("GET", "/jobs/none"))
    assert (head.status, head.headers["content-length"]) == (404, str(len(got.body)))
    assert_problem(got, 404, "unknown_job")


# Bodies.


async def test_a_body_that_is_announced_too_large_is_413_before_it_is_read(serve: Serve) -> None:
    """Content-Length is enough to refuse it; the connection closes, since the rest is not read."""
    api = await serve(body_bytes_max=1_000, payload_bytes_max=1_000)
    wire = await api.site.wire()
    wire.send(request("POST", "/jobs/enqueue", None, "Content-Type: application/json", "Content-Length: 1001") + b"{")
    reply = await wire.reply()
    assert "1001" in assert_problem(reply, 413, "too_large")
    assert reply.headers["connection"] == "close"
    wire.send(b" " * 1_000)
    assert await wire.rest() == b""


async def test_a_body_of_the_largest_size_is_read(serve: Serve) -> None:
    """The bound itself is allowed, one byte more is not, both arriving whole with their head."""
    api = await serve(body_bytes_max=1_000, payload_bytes_max=1_000)
    body = b'{"payload":1' + b" " * 987 + b"}"
    assert (await api.post("/jobs/enqueue", body)).status == 201
    assert_problem(await api.post("/jobs/enqueue", body + b" "), 413, "too_large")


async def test_a_chunked_body_is_413_once_it_is_too_large(serve: Serve) -> None:
    """It has no length to refuse it by, so its bytes are counted as they come."""
    api = await serve(body_bytes_max=1_000, payload_bytes_max=1_000)
    wire = await api.site.wire()
    wire.send(request("POST", "/jobs/enqueue", None, "Content-Type: application/json", "Transfer-Encoding: chunked"))
    chunk = b"%x\r\n%b\r\n" % (600, b" " * 600)
    wire.send(chunk)
    wire.send(chunk)
    reply = await wire.reply()
    assert_problem(reply, 413, "too_large")
    assert reply.headers["connection"] == "close"
    wire.send(b"0\r\n\r\n")
    assert await wire.rest() == b""


async def test_a_chunked_body_of_an_acceptable_size_is_read(api: Api) -> None:
    """In whatever pieces."""
    wire = await api.site.wire()
    wire.send(request("POST", "/jobs/enqueue", None, "Content-Type: application/json", "Transfer-Encoding: chunked"))
    for piece in (b'{"pay', b'load"', b":[1]}"):
        wire.send(b"%x\r\n%b\r\n" % (len(piece), piece))
    wire.send(b"0\r\n\r\n")
    assert (await wire.reply()).status == 201


async def test_who_expects_100_continue_gets_it_for_an_acceptable_size(api: Api) -> None:
    """100 first, then the answer."""
    wire = await api.site.wire()
    body = b'{"payload":1}'
    head = ("Content-Type: application/json", f"Content-Length: {len(body)}", "Expect: 100-continue")
    wire.send(request("POST", "/jobs/enqueue", None, *head))
    assert (await wire.line(), await wire.line()) == (b"HTTP/1.1 100 Continue", b"")
    wire.send(body)
    assert (await wire.reply()).status == 201


async def test_who_expects_100_continue_with_too_much_gets_413(api: Api) -> None:
    """And no 100, so the body is never sent."""
    wire = await api.site.wire()
    head = ("Content-Type: application/json", "Content-Length: 5000000", "Expect: 100-continue")
    wire.send(request("POST", "/jobs/enqueue", None, *head))
    reply = await wire.reply()
    assert_problem(reply, 413, "too_large")
    assert reply.headers["connection"] == "close"


async def test_a_body_that_does_not_come_is_408(serve: Serve) -> None:
    """Within the bound on time, then the connection closes."""
    api = await serve(body_seconds=0.01)
    wire = await api.site.wire()
    wire.send(request("POST", "/jobs/enqueue", None, "Content-Type: application/json", "Content-Length: 13") + b'{"pay')
    reply = await wire.reply()
    assert "0.01 seconds" in assert_problem(reply, 408, "request_timeout")
    assert reply.headers["connection"] == "close"


@pytest.mark.parametrize(
    "kind", [None, "", "text/plain", "application/x-www-form-urlencoded", "application/json5", "application/problem+json"]
)
async def test_a_body_of_another_type_is_415(api: Api, kind: str | None) -> None:
    """JSON must say that it is: a form of a foreign site cannot. The message says what to send."""
    before = api.state()
    wire = await api.site.wire()
    lines = [] if kind is None else [f"Content-Type: {kind}"]
    reply = await wire.ask(request("POST", "/jobs/enqueue", None, *lines, "Content-Length: 13") + b'{"payload":1}')
    assert "send application/json" in assert_problem(reply, 415, "unsupported_media_type")
    assert api.state() == before


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", 'Application/JSON;charset="UTF-8"', "application/json ; x=y"])
async def test_a_json_type_is_recognised_however_it_is_written(api: Api, kind: str) -> None:
    """Case, spaces, quotes and parameters do not matter."""
    assert (await api.send("POST", "/jobs/enqueue", b'{"payload":1}', {"Content-Type": kind})).status == 201


async def test_another_charset_is_400(api: Api) -> None:
    """JSON is UTF-8."""
    kind = {"Content-Type": "application/json; charset=latin-1"}
    detail = assert_problem(await api.send("POST", "/jobs/enqueue", b'{"payload":1}', kind), 400, "bad_request", "Content-Type")
    assert "latin-1" in detail


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate, gzip"])
async def test_an_encoded_body_is_415(api: Api, encoding: str) -> None:
    """Nothing is decompressed, so nothing can blow up."""
    headers = {"Content-Type": "application/json", "Content-Encoding": encoding}
    assert_problem(await api.send("POST", "/jobs/enqueue", b'{"payload":1}', headers), 415, "unsupported_media_type")
    headers["Content-Encoding"] = "identity"
    assert (await api.send("POST", "/jobs/enqueue", b'{"payload":1}', headers)).status == 201


# What is no HTTP request.

BROKEN = {
    "an invented method": b"FROBNICATE /queues HTTP/1.1\r\nHost: test\r\n\r\n",
    "no request": b"NONSENSE\r\n\r\n",
    "words behind the version": b"GET / HTTP/1.1 x\r\nHost: test\r\n\r\n",
    "a version without a number": b"GET / HTTP/x\r\nHost: test\r\n\r\n",
    "a header without a colon": b"GET /healthz HTTP/1.1\r\nHost: test\r\nBad Header\r\n\r\n",
    "a control character in a header": b"GET /healthz HTTP/1.1\r\nHost: test\r\nX: a\0b\r\n\r\n",
    "a length that is none": b"POST /jobs/enqueue HTTP/1.1\r\nHost: test\r\nContent-Length: x\r\n\r\n",
    "two lengths": b"POST /jobs/enqueue HTTP/1.1\r\nHost: test\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    "a length and chunks": b"POST /jobs/enqueue HTTP/1.1\r\nHost: test\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "no host": b"GET /healthz HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "a raw byte in the path": b"GET /jobs/\xff HTTP/1.1\r\nHost: test\r\n\r\n",
    "a long header": b"GET /healthz HTTP/1.1\r\nHost: test\r\nX: " + b"a" * (FIELD_BYTES_MAX + 1) + b"\r\n\r\n",
    "a long path": b"GET /jobs/" + b"a" * 8_200 + b" HTTP/1.1\r\nHost: test\r\n\r\n",
    "many headers": b"GET /healthz HTTP/1.1\r\nHost: test\r\n" + b"X: 1\r\n" * 200 + b"\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01",
}


@pytest.mark.parametrize("name", sorted(BROKEN))
async def test_what_is_no_request_is_400(api: Api, name: str, caplog: pytest.LogCaptureFixture) -> None:
    """One problem, no traceback, and nothing of what follows on that connection is served."""
    wire = await api.site.wire()
    reply = await wire.ask(BROKEN[name])
    assert_problem(reply, 400, "bad_request")
    assert not [record for record in caplog.records if record.exc_info or record.levelname not in ("DEBUG", "INFO")]
    assert reply.headers["connection"] == "close"
    assert await wire.rest() == b""


async def test_an_http_2_preface_is_505(api: Api) -> None:
    """It is a request of a version that is not spoken here, whatever the parser makes of it; nothing after it is served."""
    wire = await api.site.wire()
    reply = await wire.ask(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + request("GET", "/healthz"))
    assert_problem(reply, 505, "http_version")
    assert reply.headers["connection"] == "close"
    assert await wire.rest() == b""


async def test_a_head_of_the_documented_size_is_read(api: Api) -> None:
    """A target of 8,190 bytes, a header line of 16,384, 128 header lines."""
    wire = await api.site.wire()
    target = "/jobs?queue=" + "a" * (8_190 - len("/jobs?queue="))
    assert (await wire.ask(request("GET", target, None, "X: " + "a" * (FIELD_BYTES_MAX - 3), *["X: a"] * 126))).status == 200


@pytest.mark.parametrize("chunk", [b"zz\r\n", b"-1\r\n"])
async def test_a_broken_chunk_is_400(api: Api, chunk: bytes) -> None:
    """One answer, then the end."""
    wire = await api.site.wire()
    wire.send(request("POST", "/jobs/enqueue", None, "Content-Type: application/json", "Transfer-Encoding: chunked") + chunk)
    reply = await wire.reply()
    assert_problem(reply, 400, "bad_request")
    assert reply.headers["connection"] == "close"
    assert await wire.rest() == b""


async def test_a_chunk_that_breaks_while_the_body_is_read_is_400(api: Api) -> None:
    """It is refused as soon as it has come: one answer, then the end."""
    wire = await api.site.wire()
    wire.send(request("POST", "/jobs/enqueue", None, "Content-Type: application/json", "Transfer-Encoding: chunked") + b"3\r\n{ }\r\n")
    await until(lambda: api.site.server.requests_count == 1)
    wire.send(b"zz\r\n")
    assert "chunks" in assert_problem(await wire.reply(), 400, "bad_request")
    wire.finish()
    assert await wire.rest() == b""
    assert (await api.get("/jobs")).json["jobs"] == []


async def test_a_body_that_breaks_off_does_nothing(api: Api) -> None:
    """Whole JSON in half a body is not enqueued: the client may have meant to send more. The log stays quiet."""
    wire = await api.site.wire()
    wire.send(request("POST", "/jobs/enqueue", None, "Content-Type: application/json", "Content-Length: 20") + b'{"payload":1}')
    await until(lambda: api.site.server.requests_count == 1)
    wire.finish()
    assert await wire.rest() == b""
    assert (await api.get("/jobs")).json["jobs"] == []


@pytest.mark.parametrize("version", ["0.9", "2.0"])
async def test_another_version_of_http_is_505(api: Api, version: str) -> None:
    """And the connection closes, since the client means something else by what follows."""
    wire = await api.site.wire()
    reply = await wire.ask(request("GET", "/healthz", version=version))
    assert_problem(reply, 505, "http_version")
    assert reply.headers["connection"] == "close"
    assert await wire.rest() == b""


async def test_a_path_that_is_not_utf8_is_400(api: Api) -> None:
    """Percent-encoding must encode UTF-8; a surrogate is none."""
    for path in ("/jobs/%ff", "/jobs/%ED%A0%80", "/queues/%C3/pause"):
        reply: Reply = await api.send("POST" if "pause" in path else "GET", path)
        assert_problem(reply, 400, "bad_request", "path")
