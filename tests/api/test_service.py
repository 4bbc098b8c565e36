"""/healthz, /readyz, and what changes when the server drains."""

from __future__ import annotations

import pytest

from jobqueue.errors import StorageUnavailable, Unconfirmed
from tests.backend.journals import GatedJournal

from .conftest import Serve
from .harness import Api, answered, assert_problem


async def test_a_server_that_serves_says_so(api: Api) -> None:
    """Liveness and readiness."""
    for path, body in (("/healthz", {"status": "ok"}), ("/readyz", {"status": "ready"})):
        reply = await api.get(path)
        assert (reply.status, reply.headers["content-type"], reply.json) == (200, "application/json", body)


async def test_no_answer_is_cached_or_sniffed(api: Api) -> None:
    """Every answer carries the headers that forbid it, problems and 204 included."""
    for reply in (await api.get("/healthz"), await api.get("/none"), await api.post("/jobs/dequeue", wait=0)):
        assert reply.headers["cache-control"] == "no-store"
        assert reply.status == 204 or reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["date"].endswith(" GMT")


async def test_a_draining_server_is_alive_and_not_ready(api: Api) -> None:
    """A load balancer takes it out, an orchestrator does not kill it."""
    api.app.drain()
    assert (await api.get("/healthz")).status == 200
    assert_problem(await api.get("/readyz"), 503, "draining")


async def test_a_server_whose_storage_fails_is_alive_and_not_ready(api: Api) -> None:
    """For as long as it lasts: restarting it would not help."""
    journal = api.backend.journal = GatedJournal()
    journal.fail()
    assert (await api.get("/healthz")).status == 200
    assert_problem(await api.get("/readyz"), 503, "storage_unavailable")
    journal.recover()
    assert (await api.get("/readyz")).status == 200


async def test_draining_answers_whoever_is_held(api: Api) -> None:
    """At once, each in its own words for "nothing", with Retry-After and the connection closed."""
    await api.enqueue(id="j", queue="other")
    single, batch = await api.hold("/jobs/dequeue"), await api.hold("/batch/dequeue", limit=2)
    result = await api.hold("/jobs/j?wait=50", method="GET")
    api.app.drain()
    reply = await answered(single)
    assert (reply.status, reply.body) == (204, b"")
    assert (await answered(batch)).json == {"jobs": []}
    assert (await answered(result)).json["status"] == "queued"
    for held in (single, batch, result):
        reply = await answered(held)
        assert (reply.headers["retry-after"], reply.headers["connection"]) == ("1", "close")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/jobs/enqueue", b'{"payload":1}'),
        ("POST", "/jobs/dequeue", b'{"wait":0}'),
        ("POST", "/jobs/j/cancel", None),
        ("POST", "/jobs/j/retry", None),
        ("POST", "/batch/enqueue", b'{"jobs":[]}'),
        ("POST", "/batch/dequeue", b'{"wait":0}'),
        ("PUT", "/queues/q", b"{}"),
        ("DELETE", "/queues/q", None),
        ("POST", "/queues/default/pause", None),
        ("POST", "/queues/default/resume", None),
        ("POST", "/queues/default/purge", None),
        ("POST", "/queues/default/retry", None),
    ],
)
async def test_a_draining_server_takes_no_new_work(api: Api, method: str, path: str, body: bytes | None) -> None:
    """503 with Retry-After, nothing changed."""
    await api.enqueue(id="j")
    before = api.state()
    api.app.drain()
    assert_problem(await api.send(method, path, body), 503, "draining")
    assert api.state() == before


async def test_a_worker_may_hand_in_its_work_while_the_server_drains(api: Api) -> None:
    """Extend, release and conclude, alone and in batches; looking is possible too."""
    tokens = {job_id: await api.working(job_id) for job_id in ("a", "b", "c")}
    api.app.drain()
    assert (await api.post("/jobs/a/extend", lease=tokens["a"])).status == 200
    assert (await api.post("/jobs/a/conclude", lease=tokens["a"], outcome="succeeded")).status == 200
    assert (await api.post("/jobs/b/release", lease=tokens["b"])).status == 200
    item = {"id": "c", "lease": tokens["c"]}
    assert (await api.post("/batch/extend", jobs=[item])).json["jobs"][0]["id"] == "c"
    assert (await api.post("/batch/conclude", jobs=[{**item, "outcome": "succeeded"}])).json["jobs"][0]["outcome"] == "succeeded"
    assert (await api.get("/jobs/a?wait=50")).json["outcome"] == "succeeded"
    assert (await api.get("/queues")).status == 200


async def test_storage_that_fails_is_503(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client may try again."""

    async def fail(*_: object) -> None:
        raise StorageUnavailable("the disk is full")

    monkeypatch.setattr(api.backend, "enqueue", fail)
    assert assert_problem(await api.post("/jobs/enqueue", payload=1), 503, "storage_unavailable") == "the disk is full"


async def test_a_change_that_may_have_been_made_says_so(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its problem has the code of a disk that fails, and `unconfirmed`; without that nothing was changed, and the member is not there."""

    async def fail(*_: object) -> None:
        raise Unconfirmed("the change is not stored yet")

    monkeypatch.setattr(api.backend, "enqueue", fail)
    answer = await api.post("/jobs/enqueue", payload=1)
    assert (answer.status, answer.json["code"], answer.json["unconfirmed"]) == (503, "storage_unavailable", True)
    assert answer.headers["retry-after"] == "1"


async def test_a_defect_is_500_and_says_nothing_of_itself(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The log has the traceback, the client a problem; the server serves on."""
    api = await serve()

    async def fail(*_: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(api.backend, "enqueue", fail)
    reply = await api.post("/jobs/enqueue", payload=1)
    assert "secret" not in assert_problem(reply, 500, "internal_error")
    assert reply.headers["connection"] == "close"
    (record,) = caplog.records
    assert (record.name, record.levelname, record.exc_info is not None) == ("jobqueue.api", "ERROR", True)
    assert (await api.get("/healthz")).status == 200


async def test_every_route_counts_its_answers(api: Api) -> None:
    """By status, for whoever exports them."""
    await api.enqueue()
    await api.post("/jobs/enqueue", {})
    await api.post("/jobs/enqueue", {})
    (route,) = [route for route in api.app.router.routes if route.path == "/jobs/enqueue"]
    assert route.counts == {201: 1, 400: 2}
    assert route.latency.total > 0


async def test_what_matches_no_route_is_counted_too(api: Api) -> None:
    """Unknown paths and methods, and paths that cannot be read, in one place of their own."""
    for method, path in (("GET", "/none"), ("PATCH", "/jobs"), ("GET", "/jobs/%ff"), ("POST", "/none/either")):
        await api.send(method, path)
    assert api.app.unmatched.counts == {404: 2, 405: 1, 400: 1}
    assert api.app.unmatched.latency.total > 0
    assert not any(route.counts for route in api.app.router.routes)
