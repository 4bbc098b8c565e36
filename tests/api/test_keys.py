"""A job's key: where it is taken, shown and looked for, what an order by key does to hand-outs, and the operations on keys."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest

from .conftest import Serve
from .flow import conclude, nothing, patch, put, reasons, settle
from .harness import Api, answered, assert_problem, at, check_problem
from .test_events import opened

ODD = ["a/b", "a%2Fb", "?", "#", "a b", "..", ".", "-", "é", "鍵", "🔑", "a\\b", "a;b", "a+b", "a&b=c", "x" * 128, '"', "'"]
"""Names that a path, a query or a proxy may stumble over."""

BAD = ["", "x" * 129, "a\nb", "\x00", "\x7f", "\x9f", "\t"]


# Enqueue, and where a key is shown.


@pytest.mark.parametrize("key", ODD)
async def test_a_key_is_what_it_was_sent_as(api: Api, key: str) -> None:
    """Any 1 to 128 printable characters, byte for byte, alone and in a batch."""
    assert (await api.enqueue(id="a", key=key))["key"] == key
    (made,) = (await api.post("/batch/enqueue", {"jobs": [{"payload": 1, "id": "b", "key": key}]})).json["jobs"]
    assert (made["key"], made["created"]) == (key, True)
    listed = (await api.get(f"/jobs?key={quote(key, safe='')}")).json["jobs"]
    assert [(job["id"], job["key"]) for job in listed] == [("b", key), ("a", key)]


async def test_a_key_is_shown_wherever_its_job_is(api: Api) -> None:
    """To the producer, the worker and whoever looks; alone and in lists and batches."""
    stream = await opened(api, "?event=enqueued&event=concluded")
    assert list(await api.enqueue(id="a", key="acme"))[-1] == "key"
    taken = await api.take()
    assert (taken["key"], "limited" in taken) == ("acme", False)
    released = await api.post("/jobs/a/release", lease=taken["lease"]["token"])
    (again,) = (await api.post("/batch/dequeue", wait=0)).json["jobs"]
    assert [shown["key"] for shown in (released.json, again, await api.job("a"))] == ["acme"] * 3
    cancelled = await api.post("/jobs/a/cancel")
    await conclude(api, again)
    retried = await api.post("/jobs/a/retry")
    assert [shown.json["key"] for shown in (cancelled, retried)] == ["acme"] * 2
    assert [(await stream.event()).data["key"] for _ in range(2)] == ["acme"] * 2


async def test_without_a_key_nothing_is_said_of_one(api: Api) -> None:
    """Answers to plain enqueues and dequeues are what they were; a job as anyone sees it has null."""
    assert "key" not in await api.enqueue(id="a")
    assert "key" not in await api.enqueue(id="a", key=None)
    taken = await api.take()
    assert not {"key", "limited"} & set(taken)
    assert (await api.job("a"))["key"] is None


async def test_a_bad_key_harms_no_other_item(api: Api) -> None:
    """Each item of a batch by itself, naming the field; a bad one makes no job."""
    jobs = [{"payload": 1, "key": key} for key in (*BAD, 5, True, [], {}, "good")]
    *bad, good = (await api.post("/batch/enqueue", {"jobs": jobs})).json["jobs"]
    for item in bad:
        check_problem(item["error"], 400, "bad_request", "key")
    assert good["key"] == "good"
    assert len((await api.get("/jobs")).json["jobs"]) == 1


@pytest.mark.parametrize(("first", "second"), [("a", "b"), (None, "a"), ("a", None)])
async def test_the_same_id_with_another_key_is_a_conflict(api: Api, first: str | None, second: str | None) -> None:
    """409 naming it, alone and in a batch; with the same key it is the same job."""
    await api.enqueue(id="j", key=first)
    before = api.state()
    assert_problem(await api.post("/jobs/enqueue", payload=1, id="j", key=second), 409, "id_conflict", "key")
    (item,) = (await api.post("/batch/enqueue", {"jobs": [{"payload": 1, "id": "j", "key": second}]})).json["jobs"]
    check_problem(item["error"], 409, "id_conflict", "key")
    assert api.state() == before
    assert (await api.post("/jobs/enqueue", payload=1, id="j", key=first)).json["created"] is False


async def test_jobs_are_found_by_key(api: Api) -> None:
    """Alone and with other filters; one that no job has finds none; null is a key like any other."""
    for job_id, queue, key in (("a", "q", "k"), ("b", "p", "k"), ("c", "q", "null"), ("d", "q", None)):
        await api.enqueue(id=job_id, queue=queue, key=key)
    for query, found in (
        ("key=k", "ba"),
        ("key=k&queue=q", "a"),
        ("key=null", "c"),
        ("key=none", ""),
        ("key=", ""),
        ("key=k&limit=1", "b"),
    ):
        assert "".join(job["id"] for job in (await api.get(f"/jobs?{query}")).json["jobs"]) == found
    assert_problem(await api.get("/jobs?key=a&key=b"), 400, "bad_request", "key")


# Order.


async def test_jobs_of_one_key_go_one_after_the_other(api: Api) -> None:
    """In the order in which they came, past which others go; every lease of such a queue is limited."""
    await put(api, per_key={"order": "fifo"})
    for job_id, key in (("a1", "a"), ("a2", "a"), ("b1", "b"), ("free", None)):
        await api.enqueue(id=job_id, queue="q", key=key)
    first, second, third = [await api.take(queue="q") for _ in range(3)]
    assert [job["id"] for job in (first, second, third)] == ["a1", "b1", "free"]
    assert first["limited"] is second["limited"] is True
    await nothing(api)
    assert (await conclude(api, first, "failed"))["status"] == "scheduled"
    await nothing(api)
    (queued,) = await reasons(api, "a2")
    assert (queued["reason"], queued["block"], queued["job"]) == ("key", "order", "a1")


async def test_a_batch_takes_several_of_a_key_for_one_worker(api: Api) -> None:
    """In order; the key is free when all have concluded, and hands the next to who waits for it."""
    await put(api, per_key={"order": "fifo"})
    for number in range(4):
        await api.enqueue(id=f"a{number}", queue="q", key="a")
    taken = (await api.post("/batch/dequeue", queue="q", limit=3, wait=0)).json["jobs"]
    assert [(job["id"], job["key"], job["limited"]) for job in taken] == [(f"a{number}", "a", True) for number in range(3)]
    held = await api.hold("/jobs/dequeue", queue="q")
    for job in taken[:2]:
        await conclude(api, job)
    assert not held.done()
    await conclude(api, taken[2])
    assert (await answered(held)).json["id"] == "a3"


async def test_a_final_failure_halts_its_key_until_somebody_decides(api: Api) -> None:
    """Cancel gives it up, retry puts it to its old place, resume lets the key go on; what it holds says so meanwhile."""
    await put(api, per_key={"order": "halt"})
    for decision in ("/jobs/{id}/cancel", "/jobs/{id}/retry", "/queues/q/keys/a/resume"):
        bad, next_ = f"bad{decision[-5:]}".replace("/", ""), f"next{decision[-5:]}".replace("/", "")
        for job_id in (bad, next_):
            await api.enqueue(id=job_id, queue="q", key="a")
        await conclude(api, await api.take(queue="q"), "failed", retry=False)
        await nothing(api)
        assert await reasons(api, next_) == [{"reason": "key", "key": "a", "block": "halted", "job": bad}]
        assert (await api.get("/queues/q/keys")).json["keys"][0]["holder"] == bad
        assert (await api.post(decision.format(id=bad))).status == 200
        taken = await api.take(queue="q")
        assert taken["id"] == (bad if "retry" in decision else next_)
        await conclude(api, taken)
        if "retry" in decision:
            await conclude(api, await api.take(queue="q"))
        else:
            assert (await api.job(bad))["outcome"] == "failed"


@pytest.mark.parametrize("decision", ["/jobs/bad/cancel", "/jobs/bad/retry", "/queues/q/keys/a/resume"])
async def test_a_failed_job_that_halts_its_key_says_so(api: Api, decision: str) -> None:
    """Alone and in a list, until somebody has decided; no other job has the field."""
    await put(api, per_key={"order": "halt"})
    await api.enqueue(id="bad", queue="q", key="a")
    await conclude(api, await api.take(queue="q"), "failed", retry=False)
    await api.concluded("plain", "failed", queue="plain", key="a")
    assert (await api.job("bad"))["halts"] is True
    listed = (await api.get("/jobs?outcome=failed")).json["jobs"]
    assert {job["id"]: job.get("halts", "none") for job in listed} == {"plain": "none", "bad": True}
    reply = await api.post(decision)
    assert (reply.status, "halts" in reply.json) == (200, False)
    assert "halts" not in await api.job("bad")


# Room.


async def test_a_key_may_hold_so_many_jobs(api: Api) -> None:
    """429 naming the key, alone and in a batch, and nothing changed; other keys, and jobs without one, have their own room."""
    await put(api, per_key={"max_jobs": 2})
    for _ in range(2):
        await api.enqueue(queue="q", key="a")
    before = api.state()
    assert_problem(await api.post("/jobs/enqueue", payload=1, queue="q", key="a"), 429, "queue_full", "key")
    assert api.state() == before
    jobs = [{"payload": 1, "queue": "q", "key": key} for key in ("a", "b", None, None, None)]
    full, *made = (await api.post("/batch/enqueue", {"jobs": jobs})).json["jobs"]
    check_problem(full["error"], 429, "queue_full", "key")
    assert [item["created"] for item in made] == [True] * 4
    await conclude(api, await api.take(queue="q"))
    assert (await api.enqueue(queue="q", key="a"))["created"]


async def test_a_retry_needs_room_in_its_key(api: Api) -> None:
    """As an enqueue does."""
    await put(api, per_key={"max_jobs": 1})
    await api.concluded("old", "failed", queue="q", key="a")
    await api.enqueue(queue="q", key="a")
    assert_problem(await api.post("/jobs/old/retry"), 429, "queue_full", "key")


async def test_a_queue_keeps_count_of_so_many_keys(serve: Serve) -> None:
    """A job of another is refused until one has no jobs any more; where keys do not matter they are not counted."""
    api = await serve(keys_max=2)
    await put(api, per_key={"order": "fifo"})
    for key in ("a", "b"):
        await api.enqueue(queue="q", key=key)
    assert_problem(await api.post("/jobs/enqueue", payload=1, queue="q", key="c"), 429, "queue_full", "key")
    await api.enqueue(queue="q", key="a")
    for key in "abc":
        await api.enqueue(queue="plain", key=key)
    assert ((await api.get("/queues/q")).json["keys"], (await api.get("/queues/plain")).json["keys"]) == (2, 0)


# The list of keys.


async def test_keys_that_hold_most_up_come_first(api: Api) -> None:
    """Then those with most queued, then by name; every field."""
    await put(api, per_key={"order": "fifo"})
    for key, count in (("few", 2), ("many", 4), ("idle", 1), ("also", 1)):
        for number in range(count):
            await api.enqueue(id=f"{key}{number}", queue="q", key=key)
    await api.enqueue(queue="q", key="later", delay=5)
    for _ in range(2):
        await api.take(queue="q")
    reply = await api.get("/queues/q/keys")
    assert (reply.status, reply.json["cursor"]) == (200, None)
    rest = {"paused": False, "paused_at": None, "paused_by": None, "next_at": None}
    assert reply.json["keys"] == [
        {"key": "many", "queued": 3, "scheduled": 0, "in_progress": 1, "block": "order", "holder": "many0", **rest},
        {"key": "few", "queued": 1, "scheduled": 0, "in_progress": 1, "block": "order", "holder": "few0", **rest},
        {"key": "also", "queued": 1, "scheduled": 0, "in_progress": 0, "block": None, "holder": None, **rest},
        {"key": "idle", "queued": 1, "scheduled": 0, "in_progress": 0, "block": None, "holder": None, **rest},
        {"key": "later", "queued": 0, "scheduled": 1, "in_progress": 0, "block": None, "holder": None, **rest},
    ]
    found = (await api.get("/queues/q")).json
    assert (found["held"], found["held_by"], found["keys"]) == (4, {"order": 4}, 5)


async def test_a_thousand_keys_come_in_pages(api: Api) -> None:
    """Each once, in order, whatever is in their names, with any limit; the last page's cursor is null."""
    await put(api, per_key={"order": "fifo"})
    names = sorted([f"{chr(33 + number % 90)}/%?#é {number}" for number in range(1_000)])
    made = await api.post("/batch/enqueue", {"jobs": [{"payload": 1, "queue": "q", "key": name} for name in names]})
    assert all("error" not in item for item in made.json["jobs"])
    for limit in (1_000, 333):
        found: list[str] = []
        cursor = ""
        while True:
            page = (await api.get(f"/queues/q/keys?limit={limit}{cursor}")).json
            found += [key["key"] for key in page["keys"]]
            if page["cursor"] is None:
                break
            cursor = f"&cursor={quote(page['cursor'], safe='')}"
        assert found == names
    assert len((await api.get("/queues/q/keys")).json["keys"]) == 100


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=1001", "limit=x", "limit=null", "limit=1&limit=2", "nope=1", "cursor=1&cursor=2", "after=a"]
    + [f"cursor={quote(text)}" for text in ("x", "1", "[]", "[1,2]", "[1,2,3]", '["a",1,"b"]', '[1,2,"a",4]', "{}", "null", '[1.5,2,"a"]')]
    + [f"cursor={quote(text)}" for text in ("[" * 1_000, '[0,0,"\\ud800"]', "\x00")],
)
async def test_a_wrong_query_of_the_list_is_named(api: Api, query: str) -> None:
    """A cursor is one that the list gave; a limit is as everywhere."""
    await put(api, per_key={"order": "fifo"})
    assert_problem(await api.get(f"/queues/q/keys?{query}"), 400, "bad_request", query.partition("=")[0])


async def test_a_queue_that_minds_no_keys_lists_none(api: Api) -> None:
    """Also one that has a limit of its own; one that begins to mind them knows those it has."""
    await api.enqueue(queue="q", key="a")
    assert (await api.get("/queues/q/keys")).json == {"keys": [], "cursor": None}
    await patch(api, concurrency=3)
    assert (await api.get("/queues/q/keys")).json == {"keys": [], "cursor": None}
    await patch(api, fair=True)
    assert [key["key"] for key in (await api.get("/queues/q/keys")).json["keys"]] == ["a"]


async def test_a_cursor_past_all_keys_is_an_empty_page(api: Api) -> None:
    """However large its numbers are."""
    await put(api, per_key={"order": "fifo"})
    await api.enqueue(queue="q", key="a")
    for cursor in ('[0,0,"b"]', "[" + "9" * 500 + ',0,"a"]'):
        assert (await api.get(f"/queues/q/keys?cursor={quote(cursor)}")).json == {"keys": [], "cursor": None}


# Pause and resume.


def ways(queue: str, key: str, operation: str) -> list[str]:
    """The paths of an operation on a key: by path, where a client can send it so, and by query."""
    quoted = quote(key, safe="").replace(".", "%2E")
    by_path = [] if key == "-" else [f"/queues/{queue}/keys/{quoted}/{operation}"]
    return [*by_path, f"/queues/{queue}/keys/-/{operation}?key={quoted}"]


@pytest.mark.parametrize("key", ODD)
async def test_a_key_is_paused_and_resumed(api: Api, key: str) -> None:
    """By path and by query, before it has jobs; what comes waits and says why, and goes at once when the key is resumed."""
    await put(api)
    for number in range(len(ways("q", key, "pause"))):
        paused = await api.post(ways("q", key, "pause")[number])
        assert paused.status == 200, paused
        assert paused.json == {
            "key": key,
            "queued": 0,
            "scheduled": 0,
            "in_progress": 0,
            "block": "paused",
            "paused": True,
            "paused_at": at(0),
            "paused_by": None,
            "holder": None,
            "next_at": None,
        }
        settle(api)
        await api.enqueue(id=f"j{number}", queue="q", key=key)
        assert [shown["key"] for shown in (await api.get("/queues/q/keys")).json["keys"]] == [key]
        assert await reasons(api, f"j{number}") == [{"reason": "key", "key": key, "block": "paused"}]
        held = await api.hold("/jobs/dequeue", queue="q")
        resumed = await api.post(ways("q", key, "resume")[number])
        assert (resumed.status, resumed.json["paused"], resumed.json["key"]) == (200, False, key)
        settle(api)
        assert (await answered(held)).json["id"] == f"j{number}"


async def test_a_dash_is_a_key_too(api: Api) -> None:
    """In the path it stands for itself where the query names none."""
    await put(api)
    assert (await api.post("/queues/q/keys/-/pause")).json["key"] == "-"
    assert (await api.post("/queues/q/keys/-/resume?key=-")).json["paused"] is False


async def test_pausing_twice_is_the_same_as_once(api: Api) -> None:
    """So is resuming; other keys go on; what a queue that minds no keys had to keep of them is gone in the end."""
    await put(api)
    for key in ("a", "b"):
        await api.enqueue(id=key, queue="q", key=key)
    for operation, paused in (("pause", True), ("pause", True), ("resume", False), ("resume", False)):
        reply = await api.post(f"/queues/q/keys/a/{operation}")
        assert (reply.status, reply.json["paused"]) == (200, paused)
        settle(api)
        if paused:
            assert [key["key"] for key in (await api.get("/queues/q/keys")).json["keys"] if key["block"]] == ["a"]
    assert (await api.get("/queues/q/keys")).json["keys"] == []
    assert [(await api.take(queue="q"))["id"] for _ in range(2)] == ["a", "b"]


@pytest.mark.parametrize("operation", ["pause", "resume"])
async def test_what_is_no_key_is_400(api: Api, operation: str) -> None:
    """By path and by query, naming it, and nothing changed; a query that gives two, or another parameter, is refused."""
    await put(api)
    before = api.state()
    for key in BAD:
        for path in ways("q", key, operation):
            if key or "?" in path:
                assert_problem(await api.post(path), 400, "bad_request", "key")
    for path, field in (
        (f"/queues/q/keys/%ff/{operation}", "path"),
        (f"/queues/q/keys/-/{operation}?key=%ff", "path"),
        (f"/queues/q/keys/-/{operation}?key=a&key=b", "key"),
        (f"/queues/q/keys/a/{operation}?key=b", "key"),
        (f"/queues/q/keys/a/{operation}?nope=1", "nope"),
    ):
        assert_problem(await api.post(path), 400, "bad_request", field)
    assert_problem(await api.post(f"/queues/q/keys/a/{operation}", {"force": True}), 400, "bad_request", "force")
    assert_problem(await api.post(f"/queues/q/keys//{operation}"), 404, "not_found")
    assert api.state() == before
    assert (await api.post(f"/queues/q/keys/a/{operation}", b"{}")).status == 200


async def test_so_many_keys_may_be_paused(serve: Serve) -> None:
    """429 naming the key, and nothing changed; one that is paused may be paused again, and one less makes room."""
    api = await serve(paused_keys_max=2)
    await put(api)
    for key in ("a", "b"):
        assert (await api.post(f"/queues/q/keys/{key}/pause")).status == 200
    settle(api)
    before = api.state()
    assert_problem(await api.post("/queues/q/keys/c/pause"), 429, "queue_full", "key")
    assert api.state() == before
    assert (await api.post("/queues/q/keys/a/pause")).status == 200
    assert (await api.post("/queues/q/keys/a/resume")).status == 200
    assert (await api.post("/queues/q/keys/c/pause")).status == 200


async def test_paused_keys_outlast_a_policy(api: Api) -> None:
    """PUT says nothing of keys: what was paused stays so, with an order or without."""
    await put(api, per_key={"order": "fifo"})
    await api.post("/queues/q/keys/a/pause")
    await put(api)
    await api.enqueue(queue="q", key="a")
    await nothing(api)
    assert (await api.post("/queues/q/keys/a/resume")).json["paused"] is False
    settle(api)
    assert (await api.take(queue="q"))["key"] == "a"


async def test_listeners_are_told_that_a_key_was_paused(api: Api) -> None:
    """As of a change of its queue."""
    await put(api)
    stream = await opened(api, "?event=queue_changed")
    for operation in ("pause", "resume"):
        await api.post(f"/queues/q/keys/a/{operation}")
        assert (await stream.event()).data["queue"] == "q"


async def test_dialects_know_no_keys(api: Api) -> None:
    """What they answer of a job that has one is what they answer of one that has none, byte for byte."""
    shown: list[Any] = []
    for number, key in enumerate((None, "acme"), 1):
        await api.enqueue("x", id=f"job-{number}", type="TIME_CRITICAL", key=key)
        replies = [
            await api.get(path) for path in (f"/classic/jobs/{number}", f"/simplequeue/jobs/job-{number}", f"/workpool/status/job-{number}")
        ]
        taken = await api.get("/classic/jobs/dequeue")
        replies += [taken, await api.post(f"/classic/jobs/{number}/conclude")]
        shown.append([(reply.status, reply.body.replace(str(number).encode(), b"N")) for reply in replies])
    assert shown[0] == shown[1]
    assert b"acme" not in json.dumps([str(body) for _, body in shown[1]]).encode()
