"""Request ids, the access log and server spans: what a request leaves behind where someone asked for it."""

from __future__ import annotations

import logging
import re
from typing import Any

import pytest

from jobqueue.api.observe.observing import AccessLog, Spans

from .conftest import Serve
from .harness import Api

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def broken(api: Api) -> None:
    """Make GET /queues a defect."""

    async def handler(*_: Any) -> Any:
        raise RuntimeError("broken")

    route, _ = api.app.router.find("GET", "/queues")
    route.handler = handler


async def test_an_id_that_was_sent_comes_back(api: Api) -> None:
    """The answer carries the client's own id, also when it is an error, and when a job answers it that was waited for."""
    sent = {"X-Request-ID": "abc-123"}
    held = await api.hold("/jobs/dequeue")
    assert (await api.send("GET", "/queues", headers=sent)).headers["x-request-id"] == "abc-123"
    assert (await api.send("GET", "/jobs/none", headers=sent)).headers["x-request-id"] == "abc-123"
    await api.send("POST", "/jobs/enqueue", b'{"payload": 1}', {"Content-Type": "application/json"})
    assert "x-request-id" not in (await held).headers
    await api.enqueue()
    taken = await api.send("POST", "/jobs/dequeue", b"{}", {"Content-Type": "application/json", **sent})
    assert (taken.status, taken.headers["x-request-id"]) == (200, "abc-123")


@pytest.mark.parametrize("bad", ["", "a b", 'quote"', "x" * 129, "semi;colon"])
async def test_an_id_that_is_not_sane_is_replaced(api: Api, bad: str) -> None:
    """What could spoil a log is not repeated: the answer has an id of ours."""
    reply = await api.send("GET", "/queues", headers={"X-Request-ID": bad})

    assert re.fullmatch("[0-9a-f]{16}", reply.headers["x-request-id"])


async def test_no_id_is_made_where_nobody_asked(api: Api) -> None:
    """A plain request pays for no id."""
    assert "x-request-id" not in (await api.get("/queues")).headers


async def test_a_server_error_has_an_id_that_is_in_the_log(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    """What the client sees of a defect is enough to find its traceback."""
    broken(api)
    reply = await api.get("/queues")

    assert reply.status == 500
    (record,) = [record for record in caplog.records if record.exc_info]
    assert record.fields == {"request_id": reply.headers["x-request-id"]}  # type: ignore[attr-defined]


async def test_the_access_log_tells_route_status_and_time(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """One event a request, with its id and the token's name, and nothing of its payload, query or token."""
    caplog.set_level(logging.INFO, "jobqueue.access")
    api = await serve(token="s3cret-token")
    api.app.observers = (AccessLog(),)
    reply = await api.send("POST", "/jobs/enqueue", b'{"payload": "private"}', {"Content-Type": "application/json"})
    await api.get("/jobs?queue=hidden")

    first, second = [record.fields for record in caplog.records if record.name == "jobqueue.access"]  # type: ignore[attr-defined]
    assert first.pop("milliseconds") > 0
    assert first == {
        "request_id": reply.headers["x-request-id"],
        "method": "POST",
        "route": "/jobs/enqueue",
        "path": "/jobs/enqueue",
        "status": 201,
        "address": "127.0.0.1",
        "token": "--token",
    }
    assert second["path"] == "/jobs"
    for word in ("private", "hidden", "s3cret-token"):
        assert word not in f"{first}{second}{caplog.text}"


async def test_a_sampled_log_tells_one_in_so_many_and_every_failure(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    """Of ten requests with a rate of five two are logged, and a defect besides."""
    caplog.set_level(logging.INFO, "jobqueue.access")
    api.app.observers = (AccessLog(5),)
    for _ in range(10):
        await api.get("/jobs")
    broken(api)
    await api.get("/queues")

    logged = [record.fields["status"] for record in caplog.records if record.name == "jobqueue.access"]  # type: ignore[attr-defined]
    assert logged == [200, 200, 500]


async def test_a_held_request_is_logged_when_it_is_answered(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    """A dequeue that was held has its id still, though its headers were let go."""
    caplog.set_level(logging.INFO, "jobqueue.access")
    api.app.observers = (AccessLog(),)
    held = await api.hold("/jobs/dequeue")
    await api.enqueue()
    reply = await held

    logged = {record.fields["request_id"]: record.fields for record in caplog.records if record.name == "jobqueue.access"}  # type: ignore[attr-defined]
    assert logged[reply.headers["x-request-id"]]["route"] == "/jobs/dequeue"


# Spans.


@pytest.fixture
def exported(api: Api) -> Any:
    """The spans of the server's requests."""
    sdk = pytest.importorskip("opentelemetry.sdk.trace", reason="needs the extra otel: pip install 'jobqueue[otel]'")
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, provider = InMemorySpanExporter(), sdk.TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    api.app.observers = (Spans(provider),)
    return exporter


async def test_a_request_is_a_server_span_of_its_callers_trace(api: Api, exported: Any) -> None:
    """Name and attributes follow the conventions for HTTP servers; the parent is the caller's span."""
    await api.send("GET", "/jobs/some-id", headers={"traceparent": PARENT})

    (span,) = exported.get_finished_spans()
    assert span.name == "GET /jobs/{id}"
    assert span.kind.name == "SERVER"
    assert f"{span.context.trace_id:032x}" == PARENT.split("-")[1]
    assert f"{span.parent.span_id:016x}" == PARENT.split("-")[2]
    expected = {"http.request.method": "GET", "http.route": "/jobs/{id}", "http.response.status_code": 404, "url.scheme": "http"}
    assert expected.items() <= dict(span.attributes).items()
    assert span.status.is_unset
    assert span.start_time < span.end_time


async def test_a_held_dequeue_is_one_span(api: Api, exported: Any) -> None:
    """A request begun outside a task and ended in one has its span, in the caller's trace."""
    headers = {"Content-Type": "application/json", "traceparent": PARENT}
    await api.enqueue()
    await api.take()
    held = await api.hold("/jobs/dequeue")
    await api.send("POST", "/jobs/enqueue", b'{"payload": 1}', headers)
    assert (await held).status == 200

    names = [span.name for span in exported.get_finished_spans()]
    assert sorted(names) == ["POST /jobs/dequeue"] * 2 + ["POST /jobs/enqueue"] * 2


async def test_a_defect_is_a_failed_span_and_a_probe_is_none(api: Api, exported: Any) -> None:
    """Status 500 and above is an error of the server's; health checks leave no spans."""
    broken(api)
    await api.get("/queues")
    await api.get("/healthz")

    (span,) = exported.get_finished_spans()
    assert not span.status.is_ok
    assert span.status.status_code.name == "ERROR"
