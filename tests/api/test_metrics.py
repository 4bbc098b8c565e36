"""GET /metrics: what is counted, under which names and labels, and what a scrape may cost."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from prometheus_client.samples import Sample

from jobqueue.api.observe.metrics import SLICE, Metrics
from jobqueue.api.observe.metrics_queues import OTHER
from jobqueue.limits import NAME

from .conftest import Serve
from .harness import Api, Reply

Key = tuple[str, frozenset[tuple[str, str]]]


def key(name: str, **labels: str) -> Key:
    return name, frozenset(labels.items())


async def samples(api: Api) -> Mapping[Key, float]:
    """Every line of a scrape, as Prometheus reads it."""
    reply = await api.get("/metrics")
    assert reply.status == 200
    return {(sample.name, frozenset(sample.labels.items())): sample.value for sample in lines(reply)}


def lines(reply: Reply) -> list[Sample]:
    return [sample for family in parse_text(reply.body.decode()) for sample in family.samples]


def show(api: Api, queues: int) -> None:
    """Give so many queues series of their own, and the ages the clock of the queue."""
    route, _ = api.app.router.find("GET", "/metrics")
    route.handler = Metrics([*api.app.router.routes, api.app.unmatched], queues, api.clock.now).scrape


async def test_a_scrape_is_the_text_format(api: Api) -> None:
    """Without an Accept header the answer is version 0.0.4 of the text format, each family headed once."""
    await api.enqueue()

    reply = await api.get("/metrics")

    assert reply.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    headings = re.findall(rb"^# TYPE (\S+)", reply.body, re.MULTILINE)
    assert len(headings) == len(set(headings)) > 30
    assert b"jobqueue_jobs_live 1.0\n" in reply.body


async def test_openmetrics_is_answered_to_those_who_accept_it(api: Api) -> None:
    """What Prometheus asks for first is answered as OpenMetrics, which its strict parser reads to the end mark."""
    await api.enqueue()
    accept = "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.3"

    reply = await api.send("GET", "/metrics", headers={"Accept": accept})

    assert reply.headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert reply.body.endswith(b"\n# EOF\n")
    families = {family.name: family for family in parse_openmetrics(reply.body.decode())}
    assert [sample.value for sample in families["jobqueue_jobs_enqueued"].samples] == [1.0]


@pytest.mark.parametrize("accept", ["application/openmetrics-text;version=x", "text/plain;version=1e9", "*/*", ";;,=", "\xff"])
async def test_no_accept_header_is_a_defect(api: Api, accept: str) -> None:
    """Whatever a client accepts, it is answered in one of the two formats."""
    assert (await api.send("GET", "/metrics", headers={"Accept": accept})).status == 200


async def test_names_follow_the_conventions(api: Api) -> None:
    """Names are ours or a standard collector's, counters end in _total, times in seconds, sizes in bytes."""
    await api.concluded()
    families = list(parse_text((await api.get("/metrics")).body.decode()))

    for family in families:
        assert re.fullmatch(r"(jobqueue|process|python)_[a-z_]+", family.name)
        assert family.type in ("gauge", "counter", "histogram")
        assert family.documentation.strip().endswith(".") or not family.name.startswith("jobqueue")
        for sample in family.samples:
            assert sample.name.endswith("_total") is (family.type == "counter"), sample
            assert not re.search(r"_(ms|millis|kb|mb|minutes)(_|$)", sample.name)


async def test_every_count_is_told_by_queue(api: Api) -> None:
    """Jobs by status, totals by what happened and by outcome stand under the name of their queue."""
    await api.concluded("a", "succeeded", queue="work")
    await api.concluded("b", "failed", queue="work")
    await api.post("/jobs/b/retry")
    await api.post("/jobs/b/cancel")
    await api.enqueue(id="c", queue="work", delay=60)
    await api.enqueue(id="d", queue="work", expires_in=1)
    api.clock.advance(1)
    token = await api.working("e", queue="work")
    await api.post("/jobs/e/release", lease=token)
    await api.take(queue="work")
    api.clock.advance(300)
    await api.take(queue="work")
    await api.enqueue(id="f", queue="other")

    found = await samples(api)

    assert {
        name: found[key(f"jobqueue_jobs_{name}_total", queue="work")] for name in ("enqueued", "dequeued", "redelivered", "retried")
    } == {
        "enqueued": 5,
        "dequeued": 5,
        "redelivered": 1,
        "retried": 1,
    }
    for outcome in ("succeeded", "failed", "cancelled", "expired"):
        assert found[key("jobqueue_jobs_concluded_total", queue="work", outcome=outcome)] == 1
    assert [found[key("jobqueue_jobs", queue="work", status=status)] for status in ("scheduled", "queued", "in_progress")] == [0, 1, 1]
    assert found[key("jobqueue_jobs", queue="other", status="queued")] == 1
    assert found[key("jobqueue_jobs_live")] == 3
    assert found[key("jobqueue_leases")] == 1
    assert found[key("jobqueue_history_jobs", outcome="failed")] == 0
    assert found[key("jobqueue_history_jobs", outcome="succeeded")] == 1


async def test_the_oldest_job_has_an_age(api: Api) -> None:
    """The age is the time since the oldest queued job came, and 0 where none is queued."""
    show(api, 10)
    await api.enqueue(queue="slow")
    await api.working("taken", queue="quick")
    api.clock.advance(90)

    found = await samples(api)

    assert found[key("jobqueue_oldest_queued_age_seconds", queue="slow")] == 90
    assert found[key("jobqueue_oldest_queued_age_seconds", queue="quick")] == 0
    assert found[key("jobqueue_uptime_seconds")] == 90


async def test_bounds_stand_beside_what_they_bound(serve: Serve) -> None:
    """Jobs, bytes, queues, waiters and connections are told with the bound that the server was given."""
    api = await serve(jobs_max=7, queues_max=6, waiters_max=5, payload_total_bytes_max=1 << 21, connections_max=4, history_jobs_max=3)
    await api.enqueue("four")
    await api.hold("/jobs/dequeue", queue="empty")

    found = await samples(api)

    expected = {"jobs_live": (1, 7), "payload_bytes": (6, 1 << 21), "queues": (1, 6), "waiters": (1, 5), "connections": (2, 4)}
    assert {name: (found[key(f"jobqueue_{name}")], found[key(f"jobqueue_{name}_limit")]) for name in expected} == expected
    assert found[key("jobqueue_history_jobs_limit")] == 3


async def test_waiters_and_pauses_are_told_by_queue(api: Api) -> None:
    """A waiter on two queues stands in both; a paused queue says so."""
    await api.put("/queues/a", paused=True)
    await api.put("/queues/b")
    await api.hold("/jobs/dequeue", queue=["a", "b"])

    found = await samples(api)

    assert [found[key("jobqueue_queue_waiters", queue=queue)] for queue in ("a", "b")] == [1, 1]
    assert [found[key("jobqueue_queue_paused", queue=queue)] for queue in ("a", "b")] == [1, 0]
    assert found[key("jobqueue_waiters")] == 1


async def test_requests_are_told_by_route_never_by_path(api: Api) -> None:
    """Answers are counted by method, template and status; no id and no unknown path becomes a label."""
    await api.enqueue(id="secret-id")
    await api.get("/jobs/secret-id")
    await api.get("/jobs/missing-id")
    await api.get("/no-such-path")

    reply = await api.get("/metrics")
    found = {(sample.name, frozenset(sample.labels.items())): sample.value for sample in lines(reply)}

    for status in ("200", "404"):
        assert found[key("jobqueue_http_requests_total", method="GET", route="/jobs/{id}", status=status)] == 1
    assert found[key("jobqueue_http_request_duration_seconds_count", method="GET", route="/jobs/{id}")] == 2
    assert found[key("jobqueue_http_request_duration_seconds_sum", method="GET", route="/jobs/{id}")] > 0
    assert found[key("jobqueue_http_requests_total", method="", route="(unmatched)", status="404")] == 1
    assert b"-id" not in reply.body
    assert b"no-such-path" not in reply.body


async def test_the_server_tells_its_version(api: Api) -> None:
    """One gauge of value 1 has the versions as labels."""
    from jobqueue import __version__

    (info,) = [sample for sample in lines(await api.get("/metrics")) if sample.name == "jobqueue_build_info"]

    assert info.value == 1
    assert info.labels["version"] == __version__
    assert set(info.labels) == {"version", "python", "aiohttp"}


async def test_a_scrape_needs_the_token(serve: Serve) -> None:
    """Counts and queue names are for those who may read."""
    api = await serve(token="secret", send_token=False)

    assert (await api.get("/metrics")).status == 401
    assert (await api.send("GET", "/metrics", headers={"Authorization": "Bearer secret"})).status == 200


# Many queues.


def test_no_queue_can_be_called_like_the_sum_of_the_rest() -> None:
    """The label of the sum is not a queue's name."""
    assert NAME.fullmatch(OTHER) is None


async def test_queues_beyond_the_cap_are_summed(api: Api) -> None:
    """The busiest queues have series of their own, the others one sum, and a gauge says how many are in it."""
    show(api, 2)
    for queue, jobs in (("a", 1), ("b", 3), ("c", 2), ("d", 1)):
        for _ in range(jobs):
            await api.enqueue(queue=queue)
        api.clock.advance(10)

    found = await samples(api)

    named = {dict(labels)["queue"]: value for (name, labels), value in found.items() if name == "jobqueue_jobs_enqueued_total"}
    assert named == {"b": 3, "c": 2, OTHER: 2}
    assert found[key("jobqueue_jobs", queue=OTHER, status="queued")] == 2
    assert found[key("jobqueue_oldest_queued_age_seconds", queue=OTHER)] == 40
    assert found[key("jobqueue_queues_summed")] == 2


async def test_no_sum_stands_where_every_queue_has_series(api: Api) -> None:
    """Below the cap there is no queue called (other)."""
    await api.enqueue()

    queues = {sample.labels.get("queue") for sample in lines(await api.get("/metrics"))}
    assert queues == {"default", None}


async def test_the_sum_of_the_rest_never_falls(api: Api) -> None:
    """A queue that is deleted, made again, or gets series of its own takes nothing away from what the rest has counted."""
    show(api, 1)
    sums = []

    async def scrape() -> None:
        sums.append((await samples(api))[key("jobqueue_jobs_enqueued_total", queue=OTHER)])

    for queue in ("a", "a", "a", "b", "b", "c"):
        await api.enqueue(queue=queue)
    await scrape()
    await api.post("/queues/c/purge")
    assert (await api.send("DELETE", "/queues/c")).status == 204
    await scrape()
    await api.enqueue(queue="c")
    await scrape()
    for _ in range(5):
        await api.enqueue(queue="c")
    await scrape()
    await api.enqueue(queue="a")
    await scrape()

    assert sums == [3, 3, 4, 4, 5]


async def test_a_long_scrape_lets_others_run(api: Api) -> None:
    """The lines of many queues are written in slices, with a turn of the loop between them."""
    queues = 2 * SLICE
    reply = await api.post("/batch/enqueue", jobs=[{"payload": 1, "queue": f"q{n}"} for n in range(queues)])
    assert b"error" not in reply.body
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    found = await samples(api)
    counting.cancel()

    assert sum(name == "jobqueue_jobs" for name, _ in found) == 3 * queues
    assert turns > 14 * queues / SLICE


async def test_reading_changes_nothing(api: Api) -> None:
    """Two scrapes in a row tell the same of the queue."""
    await api.concluded()

    def of_jobs(found: Mapping[Key, float], matches: Callable[[str], bool] = lambda name: name.startswith("jobqueue_jobs")) -> object:
        return {at: value for at, value in found.items() if matches(at[0])}

    first = of_jobs(await samples(api))

    assert first
    assert of_jobs(await samples(api)) == first


async def test_groups_edges_logs_workers_and_dead_letters_are_told(api: Api) -> None:
    """Groups that are open, jobs that others are after, workers by what they do, jobs' logs, and what moved between queues."""
    await api.put("/queues/mail", max_attempts=1, dead_letter="dead")
    for group in ("open", "closed"):
        await api.post("/groups", id=group)
    await api.post("/groups/closed/close")
    await api.enqueue(id="parent", queue="other")
    await api.enqueue(id="child", queue="other", after=["parent"])
    for name in ("lost", "kept"):
        await api.enqueue(id=name, queue="mail")
        job = await api.take(queue="mail", worker="w/1", host="alpha")
        await api.post(f"/jobs/{name}/log", lease=job["lease"]["token"], lines=["one", "two"])
        await api.post(f"/jobs/{name}/conclude", lease=job["lease"]["token"], outcome="failed")
    await api.send("PATCH", "/jobs/kept", b'{"queue": "other"}')
    await api.take(queue="other", worker="w/2", host="beta")
    await api.post("/workers/w%2F1/quiet")

    found = await samples(api)

    assert [found[key(f"jobqueue_{name}")] for name in ("groups", "edges", "job_logs", "job_log_lines_total")] == [1, 1, 2, 4]
    assert {state: found[key("jobqueue_workers", state=state)] for state in ("busy", "idle", "quiet", "silent")} == {
        "busy": 1,
        "idle": 0,
        "quiet": 1,
        "silent": 0,
    }
    moves = {
        (queue, name): found[key(f"jobqueue_jobs_{name}_total", queue=queue)]
        for queue in ("mail", "dead", "other")
        for name in ("dead_lettered", "moved_in", "moved_out")
    }
    assert {place: count for place, count in moves.items() if count} == {
        ("mail", "dead_lettered"): 2,
        ("dead", "moved_in"): 2,
        ("dead", "moved_out"): 1,
        ("other", "moved_in"): 1,
    }
    assert found[key("jobqueue_dead_letters_refused_total")] == 0


async def test_failures_that_history_forgets_are_counted_and_the_first_is_logged(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """What was pushed out by a later failure, once in the log; a success that is pushed out is no matter."""
    api = await serve(history_jobs_max=1)
    for number, outcome in enumerate(["succeeded", "succeeded", "failed"]):
        await api.concluded(f"a{number}", outcome)
    assert (await samples(api))[key("jobqueue_failed_jobs_forgotten_total")] == 0
    assert not caplog.messages
    for name in ("b", "c"):
        await api.concluded(name, "failed")
    assert (await samples(api))[key("jobqueue_failed_jobs_forgotten_total")] == 2
    assert (await api.get("/stats")).json["held"]["failed_jobs_forgotten"] == 2
    assert caplog.messages == [
        "history is full of failed jobs: it forgets the oldest, a2 of the queue default, and one more with each failure; "
        "jobqueue_failed_jobs_forgotten_total counts them"
    ]
