"""No input is a defect: whatever a client sends to a dialect, it is told what is wrong with it."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from jobqueue.api.mounts import Mounts
from jobqueue.api.routes import Route, Scope
from jobqueue.backend.group_journal import unconfirmed
from jobqueue.errors import Unconfirmed
from tests.api.harness import Api, request

ROUTES = [route for route in Mounts().routes() if route.api != "native"]

BODIES = [
    b"",
    b"\xff",
    b"null",
    b"[]",
    b'"x"',
    b"{}",
    b'{"":{}}',
    b"{" * 5_000,
    b"[" * 200_000,
    b'{"name":"\\ud83d","body":1}',
    b'{"name":"a","body":"\\ud83d"}',
    b'{"jobId":"\\udc00","data":{}}',
    b'{"jobId":"\xed\xa0\x80"}',
    b'{"jobId":"a","data":{"a":' + b"[" * 5_000 + b"]" * 5_000 + b"}}",
    b'{"jobId":"a","data":{"a":1e999}}',
    b'{"jobId":' + b"9" * 10_000 + b',"status":"failed"}',
    b'{"name":"a","body":' + b"9" * 10_000 + b"}",
    b'{"Type":' + b"9" * 10_000 + b"}",
    b'{"Type":["TIME_CRITICAL"]}',
    b'{"Type":{"TIME_CRITICAL":1}}',
    b'{"TYPE":"TIME_CRITICAL","type":null}',
    b'{"jobId":"a","status":"running"}',
    b'{"jobId":"a","status":null}',
    b'{"jobId":"\\u0000","description":"\\u0000"}',
]
SEGMENTS = [
    "0",
    "-1",
    "1.0",
    "9" * 20,
    "9" * 5_000,
    "abc",
    "%00",
    "%",
    "%zz",
    "%ff",
    "%F0%9F%92%A9",
    "\u0661",
    "x" * 129,
    "%2e%2e",
    "{id}",
    "*",
]
QUERIES = [
    "?wait=",
    "?wait=1e400",
    "?wait=-0.0",
    "?wait=" + "9" * 5_000,
    "?%ff=%ff",
    "?wait=0&" + "&".join("x" * 70),
    "?",
    "?=&=",
    "?wait=%00",
]
HEADERS = [
    {},
    {"QUEUE_CONSUMER": ""},
    {"QUEUE_CONSUMER": "9" * 400},
    {"QUEUE_CONSUMER": "\u0667".encode().decode("latin-1")},
    {"Origin": "null"},
    {"Content-Type": ";;;,"},
    {"Content-Encoding": "br"},
]


@pytest.mark.parametrize("route", ROUTES, ids=[f"{route.method} {route.path}" for route in ROUTES])
async def test_nothing_that_is_sent_is_a_defect(api: Api, route: Route, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever the path, the query, the headers and the body: an answer below 500, JSON or XML if it is an error."""
    variable = "{" in route.path
    paths = [re.sub("{.*}", segment, route.path) for segment in SEGMENTS] if variable else [route.path]
    asked = [(path, b"", {}) for path in paths]
    asked += [(paths[0] + query, b"", {}) for query in QUERIES]
    asked += [(paths[0], body, {}) for body in BODIES]
    asked += [(paths[0], b"{}", headers) for headers in HEADERS]
    wire = await api.site.wire()
    for path, body, headers in asked:
        lines = [f"{name}: {value}" for name, value in headers.items()] + [f"Content-Length: {len(body)}"]
        wire.send(request(route.method, path, None, *lines) + body)
        reply = await wire.reply(head=False)
        assert reply.status < 500, (path, body[:80], headers, reply)
        if reply.status >= 400:
            assert len(ElementTree.fromstring(reply.body)) if reply.headers["content-type"] == "text/xml" else reply.json, reply
        if reply.headers.get("connection") == "close":
            wire = await api.site.wire()
    assert not caplog.records


SUBMITS = {"classic": b'{"Type":"TIME_CRITICAL"}', "simplequeue": b'{"jobId":"a","data":{"a":1}}', "workpool": b'{"name":"a","body":1}'}


@pytest.mark.parametrize("dialect", SUBMITS)
async def test_a_change_that_may_have_been_made_says_so(api: Api, monkeypatch: pytest.MonkeyPatch, dialect: str) -> None:
    """No dialect has a field for it, so its words say that the job may have been stored all the same."""
    (route,) = [route for route in ROUTES if (route.api, route.method, route.scope) == (dialect, "POST", Scope.ENQUEUE) and route.body]

    async def fail(*_: object) -> None:
        raise Unconfirmed(unconfirmed("no room"))

    monkeypatch.setattr(api.backend, "enqueue", fail)
    answer = await api.send("POST", route.path, SUBMITS[dialect])
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert "is not stored yet, and may or may not be stored later" in answer.body.decode()
