"""traceparent: from the enqueue, by whatever way it came, to the worker and the span around its handler."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jobqueue.backend.base import Backend
from jobqueue.backend.local import LocalBackend
from jobqueue.backend.sqlite.open import open_journal
from jobqueue.clock import ManualClock
from jobqueue.engine.engine import Engine
from jobqueue.model import JobSpec, Want
from jobqueue.worker.worker import Worker

from .harness import Api, assert_problem, until

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"
OTHER = "00-11111111111111111111111111111111-2222222222222222-00"
BAD = (
    "",
    "00",
    PARENT.upper(),
    "ff" + PARENT[2:],
    f"00-{'0' * 32}-b7ad6b7169203331-01",
    f"00-{TRACE}-{'0' * 16}-01",
    PARENT + "-00",
    PARENT + "\n",
)


async def test_a_header_travels_with_the_job(api: Api) -> None:
    """The traceparent of the enqueue's request is in the dequeue's answer, byte for byte."""
    await api.send("POST", "/jobs/enqueue", b'{"payload": 1}', {"Content-Type": "application/json", "traceparent": PARENT})

    assert (await api.take())["traceparent"] == PARENT


async def test_a_field_travels_and_wins_over_the_header(api: Api) -> None:
    """What stands in the body is meant for this job; the header may be a proxy's."""
    body = b'{"payload": 1, "traceparent": "%s"}' % PARENT.encode()
    await api.send("POST", "/jobs/enqueue", body, {"Content-Type": "application/json", "Traceparent": OTHER})

    assert (await api.take())["traceparent"] == PARENT


async def test_a_job_without_one_has_no_such_field(api: Api) -> None:
    """Who traces nothing pays for nothing on the wire."""
    await api.enqueue()

    assert "traceparent" not in await api.take()


@pytest.mark.parametrize("bad", [text for text in BAD if text.isprintable()])
async def test_a_header_that_cannot_be_read_is_as_none(api: Api, bad: str) -> None:
    """A bad header never costs a job (W3C Trace Context, section 3.3)."""
    reply = await api.send("POST", "/jobs/enqueue", b'{"payload": 1}', {"Content-Type": "application/json", "traceparent": bad})

    assert reply.status == 201
    assert "traceparent" not in await api.take()


@pytest.mark.parametrize("bad", BAD)
async def test_a_field_that_cannot_be_read_is_refused(api: Api, bad: str) -> None:
    """Whoever writes the field is told what is wrong with it, and nothing is enqueued."""
    assert_problem(await api.post("/jobs/enqueue", payload=1, traceparent=bad), 400, "bad_request", "traceparent")
    assert api.backend.totals().jobs_live == 0


async def test_items_of_a_batch_have_their_own_or_the_requests(api: Api) -> None:
    """The request's header is for the items that say nothing; a bad item harms no other."""
    items = b'{"jobs": [{"payload": 1, "traceparent": "%s"}, {"payload": 2}, {"payload": 3, "traceparent": "x"}]}' % OTHER.encode()
    reply = await api.send("POST", "/batch/enqueue", items, {"Content-Type": "application/json", "traceparent": PARENT})

    assert reply.json["jobs"][2]["error"]["field"] == "traceparent"
    jobs = (await api.post("/batch/dequeue", limit=9, wait=0)).json["jobs"]
    assert [job["traceparent"] for job in jobs] == [OTHER, PARENT]


async def test_a_repeated_enqueue_may_come_in_another_span(api: Api) -> None:
    """The same job in another trace is the same job, and stays in the first."""
    await api.enqueue(id="a", traceparent=PARENT)

    assert (await api.enqueue(id="a", traceparent=OTHER))["created"] is False
    assert (await api.take())["traceparent"] == PARENT


async def test_it_outlives_a_restart(tmp_path: Path) -> None:
    """A durable server hands the trace on after it was started again, and with every further attempt."""
    clock, path = ManualClock(), str(tmp_path / "jobs.db")
    for expected in ([], [PARENT]):
        engine = Engine()
        backend = LocalBackend(engine=engine, clock=clock, journal=open_journal(path, engine, clock))
        async with backend.dequeue(Want(), 0) as jobs:
            assert [job.traceparent for job in jobs] == expected
        if not expected:
            await backend.enqueue(JobSpec(payload=b"1", traceparent=PARENT))
        await backend.close()


# The worker's span.


class Spans:
    """Spans that ended, in this process's one provider."""

    def __init__(self) -> None:
        self.exporter: Any = None

    def ended(self) -> list[Any]:
        return list(self.exporter.get_finished_spans())


_spans = Spans()


@pytest.fixture
def spans() -> Spans:
    trace = pytest.importorskip("opentelemetry.trace", reason="needs the extra otel: pip install 'jobqueue[otel]'")
    sdk = pytest.importorskip("opentelemetry.sdk.trace", reason="needs opentelemetry-sdk, of the extra test")
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    if _spans.exporter is None:
        # A process has one provider, which can be set once.
        _spans.exporter = InMemorySpanExporter()
        provider = sdk.TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(_spans.exporter))
        trace.set_tracer_provider(provider)
    _spans.exporter.clear()
    return _spans


async def worked(backend: Backend, worker: Worker, jobs: int) -> None:
    await worker.start()
    await until(lambda: worker.counts.taken == jobs and backend.totals().leases == 0)
    await worker.stop()


async def test_the_worker_goes_on_with_the_trace(api: Api, spans: Spans) -> None:
    """The handler runs in a span of the producer's trace, whose parent is the producer's span, in the loop and in threads."""
    from opentelemetry import trace

    worker = Worker(api.backend)
    seen = []

    @worker.handler("mail")
    async def mail(job: Any) -> None:
        seen.append(trace.get_current_span().get_span_context().trace_id)

    @worker.handler("page")
    def page(job: Any) -> None:
        seen.append(trace.get_current_span().get_span_context().trace_id)

    await api.enqueue(id="a", type="mail", traceparent=PARENT)
    await api.enqueue(id="b", type="page", traceparent=PARENT)
    await worked(api.backend, worker, 2)

    assert seen == [int(TRACE, 16)] * 2
    assert sorted(span.name for span in spans.ended()) == ["process mail", "process page"]
    for span in spans.ended():
        assert f"{span.parent.span_id:016x}" == "b7ad6b7169203331"
        assert span.kind is trace.SpanKind.CONSUMER
        assert span.attributes["messaging.message.id"] in ("a", "b")


async def test_a_failed_attempt_is_a_failed_span(api: Api, spans: Spans) -> None:
    """What the handler raised is in the span, and the job fails as it would without one."""
    worker = Worker(api.backend)

    @worker.handler("mail")
    async def mail(job: Any) -> None:
        raise ValueError("no such address")

    await api.enqueue(type="mail", max_attempts=1, traceparent=PARENT)
    await worked(api.backend, worker, 1)

    (span,) = spans.ended()
    assert not span.status.is_ok
    assert (await api.get("/queues/default")).json["totals"]["failed"] == 1


async def test_a_job_without_a_trace_has_no_span(api: Api, spans: Spans) -> None:
    """Nothing is made for jobs whose producer traces nothing."""
    worker = Worker(api.backend)

    @worker.handler("mail")
    async def mail(job: Any) -> None:
        pass

    await api.enqueue(type="mail")
    await worked(api.backend, worker, 1)

    assert spans.ended() == []
