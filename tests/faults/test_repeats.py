"""Faults 14 to 18 and 20: answers that got lost, requests that are sent again, and tokens that are not one's own."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from .ledger import Api
from .wire import job_path, request, until

FORGED = "0123456789abcdef" * 2


async def test_14_response_lost(api: Api) -> None:
    """A worker whose answer got lost asks again with its attempt_id: the same job, the same lease, the same attempt."""
    await api.put("j", payload={"n": 1})
    await api.put("other")
    client = await api.connect()
    await client.send(api.poll(attempt_id="once"))
    await api.reach(queued=1, in_progress=1)
    client.rst()
    again = await api.take(attempt_id="once")
    assert (again["id"], again["attempts"], again["payload"]) == ("j", 1, {"n": 1})
    assert await api.take(attempt_id="once") == again
    assert await api.counts() == (1, 1)


async def test_14_response_lost_of_a_batch(api: Api) -> None:
    """The same jobs and leases of a batch are answered again, also to a dequeue that asks for more."""
    await api.put_all(["a", "b", "c"])
    first = await api.take_all(limit=2, attempt_id="once")
    assert [job["id"] for job in first] == ["a", "b"]
    assert await api.take_all(limit=3, attempt_id="once") == first
    assert await api.counts() == (1, 2)


async def test_14_response_lost_while_held(api: Api) -> None:
    """A newer dequeue with the same attempt_id takes over from the older one that still stands, which is answered 204."""
    older = await api.hold(1, attempt_id="once")
    newer = await api.connect()
    await newer.send(api.poll(attempt_id="once"))
    assert (await older.answer()).status == 204
    await api.stand(1)
    await api.put("j")
    job = await api.handed(newer)
    assert await api.take(attempt_id="once") == job


async def test_14_response_lost_and_concluded(api: Api) -> None:
    """Once its jobs are concluded an attempt_id replays nothing: the next job comes under a new lease."""
    await api.put_all(["a", "b"])
    first = await api.take(attempt_id="once")
    await api.conclude("a", first["lease"]["token"])
    second = await api.take(attempt_id="once")
    assert second["id"] == "b"
    assert second["lease"]["token"] != first["lease"]["token"]


@pytest.mark.parametrize("fields", [{}, {"delay": 0.3, "priority": 2, "type": "t"}], ids=["plain", "delayed"])
async def test_15_enqueue_retry(api: Api, fields: dict[str, Any]) -> None:
    """Fifty enqueues of one id and content in parallel make one job: one is told created, all see the same job."""
    job_id = api.full("j")
    body = {"id": job_id, "queue": api.queue, "payload": {"a": [1, 2]}, **fields}
    clients = [await api.connect() for _ in range(50)]
    for client in clients:
        client.send_now(request("POST", "/jobs/enqueue", body))
    answers = [await client.answer() for client in clients]
    api.acknowledged.add(job_id)
    assert sorted(answer.status for answer in answers) == [200] * 49 + [201]
    assert {answer.json["created_at"] for answer in answers} == {answers[0].json["created_at"]}
    stats = await api.stats()
    assert stats["scheduled"] + stats["queued"] == 1
    assert stats["totals"]["enqueued"] == 1


async def test_15_enqueue_retry_after_the_end(api: Api) -> None:
    """A repeat that comes when the job is long concluded finds it, and queues nothing."""
    await api.put("j")
    job = await api.take()
    await api.conclude("j", job["lease"]["token"])
    answer = await api.call("POST", "/jobs/enqueue", {"id": api.full("j"), "queue": api.queue, "payload": 1})
    assert (answer.status, answer.json["created"], answer.json["status"]) == (200, False, "concluded")
    assert await api.counts() == (0, 0)


@pytest.mark.parametrize(
    "other",
    [
        {"payload": 2},
        {"payload": 1.0},
        {"priority": 1},
        {"type": "t"},
        {"description": "d"},
        {"delay": 1},
        {"max_attempts": 2},
        {"queue": "elsewhere"},
    ],
    ids=str,
)
async def test_16_id_conflict(api: Api, other: dict[str, Any]) -> None:
    """The same id with other content is refused, and the first job is as it was."""
    await api.put("j")
    before = await api.job("j")
    answer = await api.call("POST", "/jobs/enqueue", {"id": api.full("j"), "queue": api.queue, "payload": 1, **other})
    assert (answer.status, answer.code) == (409, "id_conflict")
    assert await api.job("j") == before
    assert await api.counts() == (1, 0)


async def test_16_id_conflict_in_parallel(api: Api) -> None:
    """Of fifty enqueues of one id with different content exactly one wins, and its payload is the one that is delivered."""
    clients = [await api.connect() for _ in range(50)]
    for number, client in enumerate(clients):
        client.send_now(request("POST", "/jobs/enqueue", {"id": api.full("j"), "queue": api.queue, "payload": number}))
    statuses = [(await client.answer()).status for client in clients]
    api.acknowledged.add(api.full("j"))
    assert sorted(statuses) == [201] + [409] * 49
    assert (await api.take())["payload"] == statuses.index(201)


async def test_17_late_conclude(api: Api) -> None:
    """A worker that comes back after its lease ended and the job was handed on is refused; the new lease is as it was."""
    await api.put("j")
    old = await api.take(lease_seconds=0.3, worker="slow")
    new = await api.take(wait=20, lease_seconds=60, worker="quick")
    assert new["attempts"] == 2
    before = await api.job("j")
    for outcome in ("succeeded", "failed"):
        answer = await api.conclude("j", old["lease"]["token"], outcome)
        assert (answer.status, answer.code) == (409, "lease_lost")
    for action in ("extend", "release"):
        answer = await api.call("POST", job_path(api.full("j"), action), {"lease": old["lease"]["token"]})
        assert (answer.status, answer.code) == (409, "lease_lost")
    assert await api.job("j") == before
    assert before["worker"] == "quick"
    assert (await api.conclude("j", new["lease"]["token"])).status == 200


async def test_17_late_conclude_before_redelivery(api: Api) -> None:
    """A lease that ended is lost even while nobody else has the job: it is queued, and stays so."""
    await api.put("j")
    job = await api.take(lease_seconds=0.2)
    await api.reach(queued=1, in_progress=0)
    api.gave_up("j")
    assert (await api.conclude("j", job["lease"]["token"])).code == "lease_lost"
    assert await api.counts() == (1, 0)


@pytest.mark.parametrize(
    "verdict",
    [{"outcome": "succeeded", "result": {"n": 1}}, {"outcome": "failed", "error": "e", "retry": False}],
    ids=["succeeded", "failed"],
)
async def test_18_double_conclude(api: Api, verdict: dict[str, Any]) -> None:
    """The very conclude that ended a job answers 200 again and has one effect; another verdict under that lease is refused."""
    await api.put("j")
    token = (await api.take())["lease"]["token"]
    first = await api.conclude("j", token, **verdict)
    again = await api.conclude("j", token, **verdict)
    assert (first.status, again.status) == (200, 200)
    assert first.json == again.json
    other = await api.conclude("j", token, "succeeded", result="another")
    assert (other.status, other.code) == (409, "not_in_progress")
    totals = (await api.stats())["totals"]
    assert totals["succeeded"] + totals["failed"] == 1


async def test_18_double_conclude_in_parallel(api: Api) -> None:
    """Twenty copies of one conclude at once are all answered 200; the job ends once."""
    await api.put("j")
    token = (await api.take())["lease"]["token"]
    clients = [await api.connect() for _ in range(20)]
    for client in clients:
        client.send_now(request("POST", job_path(api.full("j"), "conclude"), {"lease": token, "outcome": "succeeded"}))
    assert {(await client.answer()).status for client in clients} == {200}
    api.over("j")
    assert (await api.stats())["totals"]["succeeded"] == 1


async def test_18_double_conclude_in_one_batch(api: Api) -> None:
    """The same item twice in one batch: both 200, one effect."""
    await api.put("j")
    item = {"id": api.full("j"), "lease": (await api.take())["lease"]["token"], "outcome": "succeeded"}
    answer = await api.call("POST", "/batch/conclude", {"jobs": [item, item]})
    assert [job["outcome"] for job in answer.json["jobs"]] == ["succeeded", "succeeded"]
    api.over("j")
    assert (await api.stats())["totals"]["succeeded"] == 1


@pytest.mark.parametrize("forge", ["another", "random", "empty", "almost", "upper", "long"])
async def test_20_forged_lease(api: Api, forge: str) -> None:
    """Another worker's token, or one that was never given, changes nothing: not by conclude, extend, release, nor in a batch."""
    await api.put_all(["mine", "theirs"])
    mine, theirs = await api.take(worker="me"), await api.take(worker="them")
    token = theirs["lease"]["token"]
    forged = {
        "another": mine["lease"]["token"],
        "random": FORGED,
        "empty": "",
        "almost": token[:-1] + ("0" if token[-1] != "0" else "1"),
        "upper": token.upper() + " ",
        "long": token * 1_000,
    }[forge]
    before = await api.job("theirs")
    job_id = api.full("theirs")
    for action, fields in (("conclude", {"outcome": "succeeded"}), ("extend", {"lease_seconds": 1}), ("release", {"delay": 1})):
        answer = await api.call("POST", job_path(job_id, action), {"lease": forged, **fields})
        assert (answer.status, answer.code) == (409, "lease_lost")
    for action, fields in (("conclude", {"outcome": "failed"}), ("extend", {"lease_seconds": 1})):
        item = {"id": job_id, "lease": forged, **fields}
        (result,) = (await api.call("POST", f"/batch/{action}", {"jobs": [item]})).json["jobs"]
        assert result["error"]["code"] == "lease_lost"
    assert await api.job("theirs") == before
    assert token not in str(before)


async def test_20_forged_lease_of_an_earlier_attempt(api: Api) -> None:
    """A token that was good for an earlier attempt is as bad as a forged one."""
    await api.put("j")
    token = (await api.take())["lease"]["token"]
    assert (await api.call("POST", job_path(api.full("j"), "release"), {"lease": token})).status == 200
    api.gave_up("j")
    assert (await api.conclude("j", token)).code == "lease_lost"
    await api.take()
    assert (await api.conclude("j", token)).code == "lease_lost"
    assert await api.counts() == (0, 1)


async def test_20_forged_lease_does_not_keep_a_job_alive(api: Api) -> None:
    """Extending with a forged token does not hold up the end of the real lease."""
    await api.put("j")
    await api.take(lease_seconds=0.3)
    client = await api.connect()

    async def refused_until_redelivered() -> bool:
        answer = await client.call("POST", job_path(api.full("j"), "extend"), {"lease": FORGED, "lease_seconds": 60})
        assert answer.code == "lease_lost"
        return await api.counts() == (1, 0)

    await until(refused_until_redelivered, "the lease ends")
    await asyncio.sleep(0)
    assert (await api.take())["attempts"] == 2
