"""simplequeue: whatever is refused is refused in its own words, and changes nothing."""

from __future__ import annotations

import json

import pytest

from tests.api.harness import Api

from .conftest import Serve
from .dialogue import Speaker

BODIES = [
    ("[]", "the body must be an object, not …", None),
    ("null", "the body must be an object, not …", None),
    ('"a"', "the body must be an object, not …", None),
    ("{", "the body is not valid JSON: …", None),
    ('{"jobId": "a", "status": "failed"} x', "the body is not valid JSON: …", None),
    ('{"jobId": "a", "status": "failed", "data": {"x": nul}}', "the body is not valid JSON: …", None),
    ("jobId=a&status=failed", "the body is not valid JSON: …", None),
    ('{"jobId": "\udcff", "status": "failed"}', "the body is not UTF-8: …", None),
    ("", "the body is empty; send a JSON object", None),
    ('{"status": "failed"}', "missing field 'jobId'", "jobId"),
    ('{"JobId": "a", "status": "failed"}', "missing field 'jobId'", "jobId"),
    ('{"jobId": null, "status": "failed"}', "jobId: …", "jobId"),
    ('{"jobId": 1, "status": "failed"}', "jobId: …", "jobId"),
    ('{"jobId": ["a"], "status": "failed"}', "jobId: …", "jobId"),
    ('{"jobId": {}, "status": "failed"}', "jobId: …", "jobId"),
    ('{"jobId": "", "status": "failed"}', "jobId: has 0 characters; 1 to 128 are allowed", "jobId"),
    (f'{{"jobId": "{"x" * 129}", "status": "failed"}}', "jobId: has 129 characters; 1 to 128 are allowed", "jobId"),
    (f'{{"jobId": "{"🎈" * 129}", "status": "failed"}}', "jobId: has 129 characters; 1 to 128 are allowed", "jobId"),
]
"""What is wrong in both calls that take a body: the body, the error, the field it names."""


def error(text: str, field: str | None) -> str:
    """The body of an error."""
    return json.dumps({"error": text} if field is None else {"error": text, "field": field}, ensure_ascii=False)


@pytest.mark.parametrize("call", ["submit", "complete"])
@pytest.mark.parametrize(("body", "text", "field"), BODIES)
async def test_a_body_that_is_not_right_is_400(simplequeue: Speaker, call: str, body: str, text: str, field: str | None) -> None:
    """Bad JSON, a missing id or one that is no string of 1 to 128 characters: field and reason are named."""
    await simplequeue.talk("""
        > POST /jobs/submit {"jobId": "a"}
        < 201 {"jobId": "a", "state": "submitted"}
        > GET /jobs/next
        < 200 {"jobId": "a", "state": "running"}
    """)
    await simplequeue.refused(f"""
        > POST /jobs/{call} {body}
        < 400 {error(text, field)}
    """)


@pytest.mark.parametrize("escaped", ["\\u0000", "a\\r\\nb", "\\u007f", "\\u0085"])
async def test_a_control_character_in_an_id_is_400(simplequeue: Speaker, escaped: str) -> None:
    """It could be carried, and would spoil every log and terminal that shows it."""
    await simplequeue.refused(f"""
        > POST /jobs/submit {{"jobId": "{escaped}"}}
        < 400 {{"error":"jobId: contains a control character or a lone surrogate","field":"jobId"}}
        """)


@pytest.mark.parametrize("escaped", ["\\ud800", "\\udc00", "a\\ud83d", "\\ude00\\ud83d", "\\ud800 and more"])
async def test_a_lone_surrogate_is_400(simplequeue: Speaker, escaped: str) -> None:
    """Half a character cannot be an id, since no path can carry it."""
    for call in ("submit", "complete"):
        await simplequeue.refused(f"""
            > POST /jobs/{call} {{"jobId": "{escaped}", "status": "failed"}}
            < 400 {{"error": "the body is not valid JSON: …"}}
        """)
    await simplequeue.refused("""
        > GET /jobs/%ED%A0%80
        < 400 {"error": "path: is not UTF-8…", "field": "path"}
        > GET /jobs/%ff
        < 400 {"error": "path: is not UTF-8…", "field": "path"}
    """)


@pytest.mark.parametrize(
    ("more", "text", "field"),
    [
        ('"state": "submitted"', "state: is the server's to say; leave it out", "state"),
        ('"state": "running"', "state: …", "state"),
        ('"state": null', "state: …", "state"),
        ('"data": null', "data: is not an object", "data"),
        ('"data": []', "data: is not an object", "data"),
        ('"data": "{}"', "data: is not an object", "data"),
        ('"data": 1', "data: is not an object", "data"),
        ('"data": true', "data: is not an object", "data"),
        (f'"data": {"[" * 101}{"]" * 101}', "data: is not an object", "data"),
        (f'"data": {{"x": {"[" * 100}{"]" * 100}}}', "data: is nested deeper than 100 levels", "data"),
        ('"description": 1', "description: is not a string", "description"),
        ('"description": {}', "description: is not a string", "description"),
        ('"description": "\\u0000"', "description: contains a control character or a lone surrogate", "description"),
        (f'"description": "{"x" * 1_025}"', "description: has 1025 characters; 0 to 1024 are allowed", "description"),
    ],
)
async def test_a_job_that_is_not_right_is_400(simplequeue: Speaker, more: str, text: str, field: str) -> None:
    """A state that the client says, data that is no object, a description that is no text: for new ids and known ones."""
    await simplequeue.talk("""
        > POST /jobs/submit {"jobId": "known"}
        < 201 {"jobId": "known", "state": "submitted"}
    """)
    await simplequeue.refused(f"""
        > POST /jobs/submit {{"jobId": "a", {more}}}
        < 400 {error(text, field)}
        > POST /jobs/submit {{{more}, "jobId": "known"}}
        < 400 {error(text, field)}
        > GET /jobs/a
        < 404 {{"error": "no job has the id 'a': …"}}
    """)


@pytest.mark.parametrize("status", ['"done"', '"running"', '"Failed"', '""', "null", "1", "true", '["failed"]'])
async def test_another_status_is_400(simplequeue: Speaker, status: str) -> None:
    """A job ends as failed or succeeded; one without a status does not end."""
    await simplequeue.talk("""
        > POST /jobs/submit {"jobId": "a"}
        < 201 {"jobId": "a", "state": "submitted"}
        > GET /jobs/next
        < 200 {"jobId": "a", "state": "running"}
    """)
    await simplequeue.refused(f"""
        > POST /jobs/complete {{"jobId": "a", "status": {status}}}
        < 400 {{"error": "status: …", "field": "status"}}
        > POST /jobs/complete {{"jobId": "a"}}
        < 400 {{"error": "missing field 'status'", "field": "status"}}
        > POST /jobs/complete {{"jobId": "a", "state": "failed"}}
        < 400 {{"error": "missing field 'status'", "field": "status"}}
    """)


async def test_an_unknown_job_is_404(simplequeue: Speaker) -> None:
    """Asked for or completed."""
    await simplequeue.refused("""
        > GET /jobs/a
        < 404 {"error": "no job has the id 'a': it never existed, or history has forgotten it"}
        > POST /jobs/complete {"jobId": "a", "status": "failed"}
        < 404 {"error": "no job has the id 'a': it never existed, or history has forgotten it"}
    """)


async def test_a_bad_id_in_a_path_is_400(simplequeue: Speaker) -> None:
    """Too long is too long there too."""
    await simplequeue.refused(f"""
        > GET /jobs/{"x" * 129}
        < 400 {{"error": "jobId: has 129 characters; 1 to 128 are allowed", "field": "jobId"}}
    """)


@pytest.mark.parametrize("path", ["/jobs/", "/job", "/jobs/a/b", "/jobs//", "/Jobs", "//", "/x"])
async def test_an_unknown_path_is_404(simplequeue: Speaker, path: str) -> None:
    """In this system's shape, since it stands below its prefix."""
    await simplequeue.refused(f"""
        > GET {path}?x
        < 404 {{"error": "no such path: '/simplequeue{path}'"}}
    """)


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PUT", "/jobs/submit", "GET, HEAD, POST"),
        ("DELETE", "/jobs/complete", "GET, HEAD, POST"),
        ("POST", "/jobs/next", "GET, HEAD"),
        ("POST", "/jobs", "GET, HEAD"),
        ("DELETE", "/jobs/a", "GET, HEAD"),
        ("POST", "/", "GET, HEAD"),
        ("POST", "", "GET, HEAD"),
    ],
)
async def test_another_method_is_405(simplequeue: Speaker, method: str, path: str, allow: str) -> None:
    """Allow names those there are."""
    await simplequeue.refused(f"""
        > {method} {path}
        < 405 {{"error": "{method} is not allowed here; allowed: {allow}"}}
          Allow: {allow}
    """)


async def test_head_never_takes_a_job(simplequeue: Speaker) -> None:
    """HEAD of what GET would take looks for the job `next` instead."""
    await simplequeue.talk("""
        > POST /jobs/submit {"jobId": "a"}
        < 201 {"jobId": "a", "state": "submitted"}
    """)
    await simplequeue.refused("""
        > HEAD /jobs/next
        < 404
        > HEAD /jobs/next?wait=20
        < 404
        > HEAD /jobs
        < 200
        > HEAD /jobs/a
        < 200
        > GET /jobs/a
        < 200 {"jobId": "a", "state": "submitted"}
    """)


# What the server refuses whatever the call.


async def test_without_the_token_every_call_is_401(serve: Serve) -> None:
    """With a token set, in this system's shape; the page alone, which holds nothing, is shown to anybody."""
    simplequeue = Speaker(await serve(token="secret", send_token=False), "/simplequeue")
    for call in (
        'POST /jobs/submit {"jobId": "a"}',
        "GET /jobs",
        "GET /jobs/next",
        "GET /jobs/a",
        'POST /jobs/complete {"jobId": "a", "status": "failed"}',
    ):
        await simplequeue.refused(f"""
            > {call}
            < 401 {{"error": "send the header Authorization: Bearer TOKEN"}}
              WWW-Authenticate: Bearer realm="jobqueue"
            > {call}
              Authorization: Bearer wrong
            < 401 {{"error": "the server does not know this token"}}
        """)
    assert (await simplequeue.api.get("/simplequeue/")).status == 200
    await simplequeue.talk("""
        > POST /jobs/submit {"jobId": "a"}
          Authorization: Bearer secret
        < 201 {"jobId": "a", "state": "submitted"}
    """)


async def test_a_body_that_is_late_is_408(serve: Serve) -> None:
    """The connection is closed, since the rest would be taken for a request."""
    simplequeue = Speaker(await serve(body_seconds=0.01), "/simplequeue")
    for call in ("submit", "complete"):
        await simplequeue.refused(f"""
            > POST /jobs/{call}
              Content-Length: 50
            < 408 {{"error": "the request did not arrive completely within 0.01 seconds of its first byte"}}
              Connection: close
        """)


async def test_what_is_too_large_is_413(serve: Serve) -> None:
    """A body, or data alone, which is named as this system names it; for a new id and a known one."""
    simplequeue = Speaker(await serve(body_bytes_max=100, payload_bytes_max=20), "/simplequeue")
    await simplequeue.talk("""
        > POST /jobs/submit {"jobId": "a"}
        < 201 {"jobId": "a", "state": "submitted"}
    """)
    body = '{"jobId": "a", "status": "failed"}'.ljust(101)
    await simplequeue.refused(f"""
        > POST /jobs/submit {body}
        < 413 {{"error": "the body has 101 bytes or more; 100 are allowed"}}
        > POST /jobs/complete {body}
        < 413 {{"error": "the body has 101 bytes or more; 100 are allowed"}}
        > POST /jobs/submit {{"jobId": "a", "data": {{"x": "{"x" * 20}"}}}}
        < 413 {{"error": "data: has 29 bytes; 20 are allowed", "field": "data"}}
        > POST /jobs/submit {{"jobId": "b", "data": {{"x": "{"x" * 20}"}}}}
        < 413 {{"error": "data: has 29 bytes; 20 are allowed", "field": "data"}}
    """)


async def test_a_pages_form_is_415(simplequeue: Speaker) -> None:
    """A browser names the page's origin: such a body must be application/json, for which browsers ask first."""
    origin = "http://test"
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""):
        for call in ("submit", "complete"):
            await simplequeue.refused(f"""
                > POST /jobs/{call} {{"jobId": "a", "status": "failed"}}
                  Origin: {origin}
                  Content-Type: {kind}
                < 415 {{"error": "Content-Type is …; send application/json"}}
            """)
    await simplequeue.talk(f"""
        > POST /jobs/submit {{"jobId": "a"}}
          Origin: {origin}
        < 201 {{"jobId": "a", "state": "submitted"}}
    """)


async def test_an_encoded_body_is_415(simplequeue: Speaker) -> None:
    """Compressed bodies are not read."""
    await simplequeue.refused("""
        > POST /jobs/submit {"jobId": "a"}
          Content-Encoding: gzip
        < 415 {"error": "Content-Encoding 'gzip' is not supported; send the body uncompressed"}
    """)


async def test_a_full_queue_is_429(serve: Serve) -> None:
    """Nothing is taken in beyond the bound; a job that is known is still shown."""
    simplequeue = Speaker(await serve(jobs_max=1), "/simplequeue")
    await simplequeue.talk("""
        > POST /jobs/submit {"jobId": "a"}
        < 201 {"jobId": "a", "state": "submitted"}
    """)
    await simplequeue.refused("""
        > POST /jobs/submit {"jobId": "b"}
        < 429 {"error": "…"}
          Retry-After: 1
        > POST /jobs/submit {"jobId": "a"}
        < 200 {"jobId": "a", "state": "submitted"}
        > POST /jobs/submit {"jobId": "a", "data": {}}
        < 200 {"jobId": "a", "state": "submitted"}
    """)


async def test_a_crowd_of_connections_is_429(serve: Serve) -> None:
    """One connection too many is told so in this system's shape."""
    simplequeue = Speaker(await serve(connections_max=1), "/simplequeue")
    first = await simplequeue.api.site.wire()
    assert (await first.ask(b"GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n")).status == 200
    await simplequeue.talk("""
        > GET /jobs
        < 429 {"error": "the server has reached its limit of connections"}
          Retry-After: 1
    """)


async def test_a_draining_server_takes_nothing_new_and_lets_work_be_handed_in(api: Api, simplequeue: Speaker) -> None:
    """Submit and next are 503 and say when to come back; complete and looking still work."""
    await simplequeue.talk("""
        > POST /jobs/submit {"jobId": "a"}
        < 201 {"jobId": "a", "state": "submitted"}
        > GET /jobs/next
        < 200 {"jobId": "a", "state": "running"}
    """)
    api.app.drain()
    for call in ('POST /jobs/submit {"jobId": "b"}', "GET /jobs/next"):
        await simplequeue.refused(f"""
            > {call}
            < 503 {{"error": "the server is shutting down"}}
              Retry-After: 1
              Connection: close
        """)
    await simplequeue.talk("""
        > GET /jobs
        < 200 [{"jobId": "a", "state": "running"}]
    """)
    await simplequeue.talk("""
        > POST /jobs/complete {"jobId": "a", "status": "failed"}
        < 200 {"jobId": "a", "state": "failed"}
    """)
