"""GET /metrics: what queues tell of the jobs that keys and limits hold back."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from jobqueue.api.observe.metrics_queues import OTHER
from jobqueue.engine.flow import FlowQueue

from .harness import Api
from .test_metrics import Key, key, samples, show

BACK = ("jobqueue_jobs_held", "jobqueue_queue_slots", "jobqueue_queue_slots_limit", "jobqueue_queue_keys")


def held(found: Mapping[Key, float], queue: str) -> dict[str, float]:
    """What a queue holds back, by reason."""
    return {dict(labels)["reason"]: value for (name, labels), value in found.items() if name == BACK[0] and dict(labels)["queue"] == queue}


async def put(api: Api, name: str, **policy: object) -> None:
    """Set a queue's policy; back when it hands out by it."""
    assert (await api.put(f"/queues/{name}", **policy)).status == 200
    queue = api.backend.engine.queues[name]
    assert isinstance(queue, FlowQueue)
    while queue.moving:
        api.clock.advance(0)


async def test_a_plain_queue_tells_nothing_of_keys_and_limits(api: Api) -> None:
    """It has no such series, and all that is queued may go, unless the queue is paused."""
    await api.enqueue(queue="plain", key="acme")
    await api.enqueue(queue="stopped")
    await api.post("/queues/stopped/pause")

    found = await samples(api)

    assert [name for name, _ in found if name in BACK] == []
    assert found[key("jobqueue_jobs_ready", queue="plain")] == 1
    assert found[key("jobqueue_jobs_ready", queue="stopped")] == 0


async def test_what_a_key_holds_back_is_told_by_reason(api: Api) -> None:
    """Behind a job in progress, behind a failed one, and of a paused key: each is counted, and none of them may go."""
    await put(api, "work", per_key={"order": "halt"})
    for name in ("runs", "failed", "paused", "free"):
        for number in range(2):
            await api.enqueue(id=f"{name}{number}", queue="work", key=name)
    assert (await api.take(queue="work"))["id"] == "runs0"
    job = await api.take(queue="work")
    await api.post(f"/jobs/{job['id']}/conclude", lease=job["lease"]["token"], outcome="failed", retry=False)
    assert (await api.post("/queues/work/keys/paused/pause")).status == 200

    found = await samples(api)

    assert held(found, "work") == {"order": 1, "halted": 1, "paused": 2}
    assert found[key("jobqueue_jobs_ready", queue="work")] == 2
    assert found[key("jobqueue_queue_keys", queue="work")] == 4


async def test_slots_are_told_beside_their_limit(api: Api) -> None:
    """Used and total stand beside each other; a full queue holds back all it has queued."""
    await put(api, "work", concurrency=2)
    for _ in range(2):
        await api.enqueue(queue="work")
        await api.take(queue="work")
    assert held(await samples(api), "work") == {"concurrency": 0}
    await api.enqueue(queue="work")

    found = await samples(api)

    assert [found[key(name, queue="work")] for name in BACK[1:3]] == [2, 2]
    assert held(found, "work") == {"concurrency": 1}
    assert found[key("jobqueue_jobs_ready", queue="work")] == 0


async def test_what_waits_for_a_rate_is_told(api: Api) -> None:
    """Until the next slot the rate holds the rest back."""
    await put(api, "work", rate={"limit": 1, "per": 60})
    for _ in range(3):
        await api.enqueue(queue="work")
    await api.take(queue="work")

    assert held(await samples(api), "work") == {"rate": 2}
    api.clock.advance(60)
    assert held(await samples(api), "work") == {"rate": 0}


async def test_queues_beyond_the_cap_are_summed(api: Api) -> None:
    """What they hold back, their slots and their keys too; totals are told as ever."""
    show(api, 1)
    for _ in range(5):
        await api.enqueue(queue="busy")
    for name in ("a", "b"):
        await put(api, name, concurrency=1, fair=True)
        for _ in range(2):
            await api.enqueue(queue=name, key="acme")
        await api.take(queue=name)

    found = await samples(api)

    assert held(found, OTHER) == {"paused": 0, "concurrency": 2}
    assert [found[key(name, queue=OTHER)] for name in BACK[1:]] == [2, 2, 2]
    assert found[key("jobqueue_jobs_ready", queue=OTHER)] == 0
    assert found[key("jobqueue_jobs_enqueued_total", queue=OTHER)] == 4


@pytest.mark.parametrize(
    "policy",
    [{"concurrency": 9}, {"rate": {"limit": 9, "per": 1}}, {"fair": True}, {"per_key": {"order": "fifo"}}],
    ids=lambda one: next(iter(one)),
)
async def test_series_do_not_come_and_go(api: Api, policy: dict[str, object]) -> None:
    """A queue that may hold jobs back tells so from the beginning, with 0."""
    await put(api, "work", **policy)

    found = held(await samples(api), "work")

    assert found
    assert set(found.values()) == {0}
