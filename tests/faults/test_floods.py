"""Faults 38 and 39: more queue names, and more history, than anyone may leave behind."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .ledger import Api
from .process import Process
from .wire import Client, request, until

MIB = 1024 * 1024
NAMES = 4_000
QUEUES_MAX = 50


async def _flood(api: Api, tag: str) -> None:
    """Name thousands of queues in every way there is. None of it is taken in, but what is sent to queues that exist."""
    client = await api.connect()
    names = [f"{tag}.{number}.{'n' * 40}" for number in range(NAMES)]
    for start in range(0, NAMES, 1_000):
        jobs = [{"payload": 1, "queue": name} for name in names[start : start + 1_000]]
        answer = await client.call("POST", "/batch/enqueue", {"jobs": jobs})
        assert {job["error"]["code"] for job in answer.json["jobs"]} == {"too_many_queues"}
        for first in range(start, start + 1_000, 32):
            answer = await client.call("POST", "/jobs/dequeue", {"queue": names[first : first + 32], "wait": 0})
            assert answer.status == 204
    for name in names[::40]:
        answer = await client.call("PUT", f"/queues/{name}", {"max_jobs": 1})
        assert (answer.status, answer.code, answer.headers["retry-after"]) == (429, "too_many_queues", "1")
        answer = await client.call("POST", "/jobs/enqueue", {"payload": 1, "queue": name})
        assert (answer.status, answer.code, answer.headers["retry-after"]) == (429, "too_many_queues", "1")
        assert (await client.call("GET", f"/queues/{name}")).code == "unknown_queue"
    # Held dequeues may name queues that do not exist yet; what they leave behind must be nothing.
    waiting = [await api.connect() for _ in range(NAMES // 32)]
    for number, waiter in enumerate(waiting):
        await waiter.send(request("POST", "/jobs/dequeue", {"queue": [*names[number * 32 : number * 32 + 31], "full0"], "wait": 30}))
    await _stand(client, len(waiting))
    for waiter in waiting:
        waiter.rst()
    await _stand(client, 0)
    client.fin()


async def _stand(client: Client, count: int) -> None:
    async def standing() -> bool:
        return bool((await client.call("GET", "/queues/full0")).json["waiters"] == count)

    await until(standing, f"{count} waiters in line")


async def test_38_queue_flood(start: Callable[..., Process], on: Callable[..., Api]) -> None:
    """Once there are as many queues as may be, further names are refused with 429, held for nobody, and leave no memory behind."""
    process = start("--max-queues", str(QUEUES_MAX))
    api = on(process)
    await api.put("mine")
    for number in range(QUEUES_MAX - 1):
        assert (await api.call("PUT", f"/queues/full{number}", {})).status == 200
    for tag in "abcde":
        await _flood(api, tag)
    before = process.rss()
    for tag in "fghij":
        await _flood(api, tag)
    grown = process.rss() - before
    print(f"grew by {grown / MIB:.2f} MiB")
    # An empty line of waiters, or a queue, for each of the 20,000 names would be 12 MiB or more; the allocator settles within 4.
    assert grown < 8 * MIB
    queues = (await api.call("GET", "/queues")).json["queues"]
    assert len(queues) == QUEUES_MAX
    assert await api.counts() == (1, 0)


async def test_38_queue_flood_leaves_room_when_queues_go(start: Callable[..., Process], on: Callable[..., Api]) -> None:
    """A deleted queue makes room for another."""
    process = start("--max-queues", "2")
    api = on(process)
    await api.put("mine")
    assert (await api.call("PUT", "/queues/other", {})).status == 200
    assert (await api.call("PUT", "/queues/third", {})).status == 429
    assert (await api.call("DELETE", f"/queues/{api.queue}")).code == "queue_not_empty"
    assert (await api.call("DELETE", "/queues/other")).status == 204
    assert (await api.call("PUT", "/queues/third", {})).status == 200


HISTORY_BYTES = 2 * MIB
LARGE = "x" * (256 * 1024 - 2)


@pytest.mark.parametrize(("outcome", "count"), [("succeeded", 150), ("failed", 20), ("cancelled", 20)])
async def test_39_history_flood(start: Callable[..., Process], on: Callable[..., Api], outcome: str, count: int) -> None:
    """Of concluded jobs of the greatest size history keeps as many of the newest as its bytes allow; memory stays, and so do live jobs."""
    process = start("--history-bytes", "2MiB")
    api = on(process)
    api.forgets = True
    await api.put("live", LARGE)
    await api.put("leased", LARGE, priority=0)
    leased = await api.take()
    assert leased["id"] == "leased"
    before = process.rss()
    highest = 0
    for number in range(count):
        job_id = f"j{number}"
        await api.put(job_id, LARGE, priority=1)
        if outcome == "cancelled":
            assert (await api.call("POST", f"/jobs/{api.full(job_id)}/cancel")).status == 200
            api.over(job_id, outcome)
        else:
            job = await api.take()
            assert job["id"] == job_id
            said = {"result": LARGE} if outcome == "succeeded" else {"error": LARGE, "retry": False}
            assert (await api.conclude(job_id, job["lease"]["token"], outcome, **said)).status == 200
        highest = max(highest, process.rss())
    each = len(LARGE) + 2 if outcome == "cancelled" else 2 * len(LARGE) + 4
    kept = HISTORY_BYTES // each
    answer = await api.call("GET", f"/jobs?queue={api.queue}&status=concluded")
    assert [job["id"] for job in answer.json["jobs"]] == [api.full(f"j{number}") for number in range(count - 1, count - 1 - kept, -1)]
    assert (await api.call("GET", f"/jobs/{api.full('j0')}")).code == "unknown_job"
    assert (await api.job(f"j{count - 1}"))["payload"] == LARGE
    assert (await api.job("live"))["payload"] == LARGE
    assert (await api.conclude("leased", leased["lease"]["token"])).status == 200
    print(f"grew by {(highest - before) / MIB:.1f} MiB")
    # 150 jobs are 75 MiB. The allocator keeps some 30 MiB of what large bodies and answers leave behind, however many they are.
    assert highest - before < 48 * MIB


async def test_39_history_flood_of_one_outcome_keeps_the_others(start: Callable[..., Process], on: Callable[..., Api]) -> None:
    """A flood of successes does not push out the one failure, and one that alone exceeds the bytes is not remembered at all."""
    process = start("--history-bytes", "400KiB", "--history-jobs", "10")
    api = on(process)
    api.forgets = True
    await api.put("failed")
    await api.conclude("failed", (await api.take())["lease"]["token"], "failed", retry=False)
    ids = [f"j{number}" for number in range(200)]
    await api.put_all(ids)
    for job in await api.take_all():
        assert (await api.conclude(job["id"], job["lease"]["token"])).status == 200
    answer = await api.call("GET", f"/jobs?queue={api.queue}")
    assert [job["id"] for job in answer.json["jobs"]] == [api.full(job_id) for job_id in [*reversed(ids[-10:]), "failed"]]
    await api.put("huge", LARGE)
    assert (await api.conclude("huge", (await api.take())["lease"]["token"], result=LARGE)).status == 200
    assert (await api.call("GET", f"/jobs/{api.full('huge')}")).code == "unknown_job"


async def test_56_live_errors(start: Callable[..., Process], on: Callable[..., Api]) -> None:
    """One-byte jobs that wait for a retry with errors of 250 kB count as large as they are, and stay within the server's bound."""
    process = start("--max-payload-total-bytes", "4MiB")
    api = on(process)
    client = await api.connect()
    for number in range(60):
        await api.put(f"j{number}")
        job = await api.take()
        body = {"lease": job["lease"]["token"], "outcome": "failed", "error": "e" * 250_000, "retry_delay": 600}
        assert (await client.call("POST", f"/jobs/{api.full(f'j{number}')}/conclude", body)).status == 200
        api.gave_up(f"j{number}")
    text = (await client.call("GET", "/metrics")).body.decode()
    held = {name: float(value) for name, value in (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))}
    assert 3.5 * MIB < held["jobqueue_payload_bytes"] <= 4 * MIB == held["jobqueue_payload_bytes_limit"]
    assert held['jobqueue_texts_left_out_total{what="error"}'] == 60 - 16
    whole = await client.call("GET", f"/jobs/{api.full('j0')}")
    left_out = await client.call("GET", f"/jobs/{api.full('j59')}")
    assert (len(whole.json["error"]), "left out" in left_out.json["error"]) == (250_000, True)
    for number in range(60):
        assert (await client.call("POST", f"/jobs/{api.full(f'j{number}')}/cancel")).status == 200
        api.over(f"j{number}", "cancelled")
    client.fin()
