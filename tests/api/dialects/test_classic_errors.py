"""classic: whatever is refused is refused in its own words, and changes nothing."""

from __future__ import annotations

import pytest

from tests.api.harness import Api

from .conftest import Serve
from .dialogue import Speaker

IDS = [
    "0",
    "-1",
    "1.0",
    "99999999999999999999",
    "abc",
    "01",
    "+1",
    "%2B1",
    "1e3",
    "0x1",
    "9223372036854775808",
    "%D9%A1",
    "1%20",
    "%00",
    "1%2F2",
]


@pytest.mark.parametrize("number", IDS)
async def test_a_bad_id_is_400(classic: Speaker, number: str) -> None:
    """Ids are whole numbers from 1 on, written plainly; anything else is refused wherever it stands."""
    await classic.talk("""
        > POST /jobs/enqueue {"Type": "TIME_CRITICAL"}
        < 200 {"ID": 1}
    """)
    await classic.refused(f"""
        > GET /jobs/{number}
        < 400 {{"Error": "Bad Request", "message": "id: '…' is not an id; they are whole numbers from 1 on"}}
        > POST /jobs/{number}/conclude
        < 400 {{"Error": "Bad Request", "message": "id: '…' is not an id; they are whole numbers from 1 on"}}
        > PATCH /jobs/conclude/{number}
        < 400 {{"Error": "Bad Request", "message": "id: '…' is not an id; they are whole numbers from 1 on"}}
    """)


async def test_an_id_that_is_not_utf_8_is_400(classic: Speaker) -> None:
    """Half a character, percent-encoded or bare."""
    await classic.refused("""
        > GET /jobs/%C3
        < 400 {"Error": "Bad Request", "message": "path: is not UTF-8…"}
        > GET /jobs/%ED%A0%80
        < 400 {"Error": "Bad Request", "message": "path: is not UTF-8…"}
    """)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("{}", "Type: is missing; send TIME_CRITICAL or NOT_TIME_CRITICAL"),
        ('{"Kind": "TIME_CRITICAL"}', "Type: is missing; …"),
        ('{"Type": "URGENT"}', "Type: is neither TIME_CRITICAL nor NOT_TIME_CRITICAL"),
        ('{"Type": "time_critical"}', "Type: is neither …"),
        ('{"Type": ""}', "Type: is neither …"),
        ('{"Type": null}', "Type: is neither …"),
        ('{"Type": 1}', "Type: is neither …"),
        ('{"Type": ["TIME_CRITICAL"]}', "Type: is neither …"),
        ('{"Type": {"Type": "TIME_CRITICAL"}}', "Type: is neither …"),
        ('{"Type": "\\ud800"}', "the body is not valid JSON: …surrogate"),
        ("[]", "the body must be an object, not an array"),
        ('"TIME_CRITICAL"', "the body must be an object, not a string"),
        ("null", "the body must be an object, not null"),
        ("1", "the body must be an object, not an integer"),
        ("{", "the body is not valid JSON: …"),
        ("{'Type': 'TIME_CRITICAL'}", "the body is not valid JSON: …"),
        ('{"Type": "TIME_CRITICAL"', "the body is not valid JSON: …"),
        ('{"Type": "TIME_CRITICAL"} {}', "the body is not valid JSON: …"),
        ('{"Type": "TIME_CRITICAL", "x": nul}', "the body is not valid JSON: …"),
        ("Type=TIME_CRITICAL", "the body is not valid JSON: …"),
        ('{"Type": "\udcff"}', "the body is not UTF-8: …"),
        ("", "the body is empty; send a JSON object"),
    ],
)
@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_an_enqueue_that_is_not_right_is_400(classic: Speaker, method: str, body: str, message: str) -> None:
    """Bad JSON, no Type or an unknown one: the message says which, and no id is spent."""
    await classic.refused(f"""
        > {method} /jobs/enqueue {body}
        < 400 {{"Error": "Bad Request", "message": "{message}"}}
    """)
    await classic.talk("""
        > POST /jobs/enqueue {"Type": "TIME_CRITICAL"}
        < 200 {"ID": 1}
    """)


async def test_an_enqueue_without_a_body_is_400(classic: Speaker) -> None:
    """Not even an empty one."""
    await classic.refused("""
        > POST /jobs/enqueue
        < 400 {"Error": "Bad Request", "message": "the body is empty; send a JSON object"}
    """)


async def test_deep_and_endless_values_are_400_or_ignored(classic: Speaker) -> None:
    """Nothing that JSON can hold brings an error of the server's own."""
    deep = "[" * 5_000 + "]" * 5_000
    for body in (f'{{"Type": {deep}}}', f'{{"Type": "TIME_CRITICAL", "x": {deep}}}', f'{{"Type": {"9" * 5_000}}}'):
        (reply,) = await classic.together(f"> POST /jobs/enqueue {body}", 1)
        assert reply.status in (200, 400), reply
        assert reply.status == 200 or list(reply.json) == ["Error", "message"]


@pytest.mark.parametrize("consumer", ["abc", "1.5", "7 8", "7, 8", "0x7", "12345678901234567890", "+7", "٧"])
async def test_a_consumer_that_is_no_whole_number_is_400(classic: Speaker, consumer: str) -> None:
    """At dequeue and at conclude; the job stays where it was."""
    await classic.talk("""
        > POST /jobs/enqueue {"Type": "TIME_CRITICAL"}
        < 200 {"ID": 1}
    """)
    await classic.refused(f"""
        > GET /jobs/dequeue
          QUEUE_CONSUMER: {consumer}
        < 400 {{"Error": "Bad Request", "message": "QUEUE_CONSUMER: '…' is not one whole number"}}
    """)
    await classic.talk("""
        > GET /jobs/dequeue
        < 200 {"ID": 1, "Type": "TIME_CRITICAL", "Status": "IN_PROGRESS"}
    """)
    await classic.refused(f"""
        > POST /jobs/1/conclude
          QUEUE_CONSUMER: {consumer}
        < 400 {{"Error": "Bad Request", "message": "QUEUE_CONSUMER: '…' is not one whole number"}}
    """)


async def test_two_consumer_headers_are_400(classic: Speaker) -> None:
    """Neither wins silently; nor does a header of spaces count as a number."""
    await classic.refused("""
        > GET /jobs/dequeue
          QUEUE_CONSUMER: 7
          Queue_Consumer: 7
        < 400 {"Error": "Bad Request", "message": "QUEUE_CONSUMER: '7, 7' is not one whole number"}
    """)


@pytest.mark.parametrize(
    "path", ["/", "", "/jobs", "/jobs/", "/job", "/jobs/1/2", "/jobs/conclude/1/2", "/jobs/1/conclude/", "/JOBS/stats", "/jobs//conclude"]
)
async def test_an_unknown_path_is_404(classic: Speaker, path: str) -> None:
    """In this system's shape, since it stands below its prefix."""
    await classic.refused(f"""
        > GET {path}?x
        < 404 {{"Error": "Not Found", "message": "no such path: '/classic{path}'"}}
    """)


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/jobs/1/conclude", "PATCH, POST, PUT"),
        ("DELETE", "/jobs/conclude/1", "PATCH, POST, PUT"),
        ("PATCH", "/jobs/enqueue", "GET, HEAD, POST, PUT"),
        ("PUT", "/jobs/dequeue", "GET, HEAD, POST"),
        ("POST", "/jobs/stats", "GET, HEAD"),
        ("DELETE", "/jobs/1", "GET, HEAD"),
        ("OPTIONS", "/jobs/1", "GET, HEAD"),
        ("PROPFIND", "/jobs/1", "GET, HEAD"),
    ],
)
async def test_another_method_is_405(classic: Speaker, method: str, path: str, allow: str) -> None:
    """Allow names those there are; GET /jobs/enqueue and HEAD /jobs/dequeue lead to the job of that id, which is a bad one."""
    await classic.refused(f"""
        > {method} {path}
        < 405 {{"Error": "Method Not Allowed", "message": "{method} is not allowed here; allowed: {allow}"}}
          Allow: {allow}
    """)


async def test_head_never_takes_a_job(classic: Speaker) -> None:
    """HEAD of what GET would take is no dequeue, and HEAD of what only looks is answered without a body."""
    await classic.talk("""
        > POST /jobs/enqueue {"Type": "TIME_CRITICAL"}
        < 200 {"ID": 1}
    """)
    await classic.refused("""
        > HEAD /jobs/dequeue
        < 400
        > HEAD /jobs/dequeue?wait=20
        < 400
        > HEAD /jobs/1
        < 200
        > HEAD /jobs/stats
        < 200
        > GET /jobs/1
        < 200 {"ID": 1, "Type": "TIME_CRITICAL", "Status": "QUEUED"}
    """)


# What the server refuses whatever the call.


async def test_without_the_token_every_call_is_401(serve: Serve) -> None:
    """With a token set, in this system's shape; with it sent, the call is served."""
    classic = Speaker(await serve(token="secret"), "/classic")
    for call in (
        'POST /jobs/enqueue {"Type": "TIME_CRITICAL"}',
        "GET /jobs/dequeue",
        "POST /jobs/1/conclude",
        "PUT /jobs/conclude/1",
        "GET /jobs/1",
        "GET /jobs/stats",
    ):
        await classic.refused(f"""
            > {call}
            < 401 {{"Error": "Unauthorized", "message": "send the header Authorization: Bearer TOKEN"}}
              WWW-Authenticate: Bearer realm="jobqueue"
            > {call}
              Authorization: Bearer wrong
            < 401 {{"Error": "Unauthorized", "message": "the server does not know this token"}}
        """)
    await classic.talk("""
        > POST /jobs/enqueue {"Type": "TIME_CRITICAL"}
          Authorization: Bearer secret
        < 200 {"ID": 1}
    """)


async def test_a_body_that_is_late_is_408(serve: Serve) -> None:
    """The connection is closed, since the rest would be taken for a request."""
    classic = Speaker(await serve(body_seconds=0.01), "/classic")
    await classic.refused("""
        > POST /jobs/enqueue
          Content-Length: 50
        < 408 {"Error": "Request Timeout", "message": "the request did not arrive completely within 0.01 seconds of its first byte"}
          Connection: close
    """)


async def test_a_body_that_is_too_large_is_413(serve: Serve) -> None:
    """Wherever a body may be sent."""
    classic = Speaker(await serve(body_bytes_max=100, payload_bytes_max=100), "/classic")
    body = '{"Type": "TIME_CRITICAL"}'.ljust(101)
    for call in ("POST /jobs/enqueue", "POST /jobs/dequeue", "POST /jobs/1/conclude", "PATCH /jobs/conclude/1"):
        await classic.refused(f"""
            > {call} {body}
            < 413 {{"Error": "…", "message": "the body has 101 bytes or more; 100 are allowed"}}
        """)


async def test_a_pages_form_is_415(classic: Speaker) -> None:
    """A browser names the page's origin: such a body must be application/json, for which browsers ask first."""
    origin = "http://test"
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""):
        await classic.refused(f"""
            > POST /jobs/enqueue {{"Type": "TIME_CRITICAL"}}
              Origin: {origin}
              Content-Type: {kind}
            < 415 {{"Error": "Unsupported Media Type", "message": "Content-Type is …; send application/json"}}
        """)
    await classic.talk(f"""
        > POST /jobs/enqueue {{"Type": "TIME_CRITICAL"}}
          Origin: {origin}
        < 200 {{"ID": 1}}
    """)


async def test_an_encoded_body_is_415(classic: Speaker) -> None:
    """Compressed bodies are not read."""
    await classic.refused("""
        > POST /jobs/enqueue {"Type": "TIME_CRITICAL"}
          Content-Encoding: gzip
        < 415 {"Error": "Unsupported Media Type", "message": "Content-Encoding 'gzip' is not supported; send the body uncompressed"}
    """)


async def test_a_full_queue_is_429(serve: Serve) -> None:
    """Nothing is taken in beyond the bound, and no id is spent."""
    classic = Speaker(await serve(jobs_max=1), "/classic")
    await classic.talk("""
        > POST /jobs/enqueue {"Type": "TIME_CRITICAL"}
        < 200 {"ID": 1}
    """)
    await classic.refused("""
        > POST /jobs/enqueue {"Type": "TIME_CRITICAL"}
        < 429 {"Error": "Too Many Requests", "message": "…"}
          Retry-After: 1
    """)
    await classic.talk("""
        > GET /jobs/dequeue
        < 200 {"ID": 1, "Type": "TIME_CRITICAL", "Status": "IN_PROGRESS"}
        > POST /jobs/1/conclude
        < 200 {"ID": 1, "Type": "TIME_CRITICAL", "Status": "CONCLUDED"}
        > POST /jobs/enqueue {"Type": "TIME_CRITICAL"}
        < 200 {"ID": 2}
    """)


async def test_a_crowd_of_connections_is_429(serve: Serve) -> None:
    """One connection too many is told so in this system's shape."""
    classic = Speaker(await serve(connections_max=1), "/classic")
    first = await classic.api.site.wire()
    assert (await first.ask(b"GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n")).status == 200
    await classic.talk("""
        > GET /jobs/stats
        < 429 {"Error": "Too Many Requests", "message": "the server has reached its limit of connections"}
          Retry-After: 1
    """)


async def test_a_draining_server_takes_nothing_new_and_lets_work_be_handed_in(api: Api, classic: Speaker) -> None:
    """Enqueue and dequeue are 503 and say when to come back; conclude and looking still work."""
    await classic.talk("""
        > POST /jobs/enqueue {"Type": "TIME_CRITICAL"}
        < 200 {"ID": 1}
        > POST /jobs/enqueue {"Type": "TIME_CRITICAL"}
        < 200 {"ID": 2}
        > GET /jobs/dequeue
        < 200 {"ID": 1, "Type": "TIME_CRITICAL", "Status": "IN_PROGRESS"}
    """)
    api.app.drain()
    await classic.refused("""
        > POST /jobs/enqueue {"Type": "TIME_CRITICAL"}
        < 503 {"Error": "Service Unavailable", "message": "…"}
          Retry-After: 1
          Connection: close
    """)
    await classic.refused("""
        > GET /jobs/dequeue
        < 503 {"Error": "Service Unavailable", "message": "…"}
          Retry-After: 1
    """)
    await classic.talk("""
        > GET /jobs/2
        < 200 {"ID": 2, "Type": "TIME_CRITICAL", "Status": "QUEUED"}
    """)
    await classic.talk("""
        > POST /jobs/1/conclude
        < 200 {"ID": 1, "Type": "TIME_CRITICAL", "Status": "CONCLUDED"}
    """)
