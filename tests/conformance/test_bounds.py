"""What jobs hold is counted and bounded, live and in answers; and whose an attempt_id is."""

from __future__ import annotations

import pytest

from jobqueue.backend.base import Extend
from jobqueue.errors import QueueFull
from jobqueue.model import JobFilter, Outcome, Status, Verdict

from .conftest import MakeBackend
from .rig import Rig, going_on, raised, spec, token

SMALL: dict[str, float] = {"payload_bytes_max": 100, "payload_total_bytes_max": 1_000, "answer_bytes_max": 250, "jobs_max": 1_000}


async def test_everything_that_live_jobs_hold_is_counted(rig: Rig) -> None:
    """Payload, type, description, the worker's names for itself, its progress message, its error: until the job is concluded."""
    count = rig.backend.stats
    await rig.put("j", payload=b"12345", type="tt", description="dää", max_attempts=9)
    assert (await count()).live_bytes == 5 + 2 + 5
    job = await rig.take(worker="w", attempt_id="aa")
    assert (await count()).live_bytes == 12 + 1 + 2
    await rig.backend.extend(Extend("j", token(job), None, None, "message"))
    assert (await count()).live_bytes == 15 + 7
    await rig.backend.conclude("j", token(job), Verdict(outcome=Outcome.FAILED, error=b'"error"', retry_delay=0.0))
    assert (await count()).live_bytes == 12 + 7 + 7 + 1, "the error of the job, that of its attempt, and who that was"
    await rig.idle()
    job = await rig.take()
    await rig.backend.conclude("j", token(job), Verdict(outcome=Outcome.SUCCEEDED, result=b"[1]"))
    assert (await count()).live_bytes == 0
    assert (await count()).history[Outcome.SUCCEEDED] == (1, 12 + 15 + 3)


async def test_an_error_without_room_is_left_out_and_says_so(make_backend: MakeBackend) -> None:
    """A worker's failure is taken on a full server, its job waits for the next attempt, and shows that the error was left out."""
    rig = await make_backend(**SMALL)
    for n in range(10):
        await rig.put(f"j{n}", payload=b"x" * 100)
    job = await rig.take()
    failed = await rig.backend.conclude(job.id, token(job), Verdict(outcome=Outcome.FAILED, error=b'"why"', retry_delay=60.0))
    assert failed.status is Status.SCHEDULED
    assert b"left out" in ((await rig.backend.job(job.id)).error or b"")
    assert "hold 1000 bytes; 1000 are allowed" in str(await raised(rig.backend.enqueue(spec(payload=b"1"))))
    assert isinstance(await raised(rig.backend.enqueue(spec(payload=b"1"))), QueueFull)


@pytest.mark.one_partition("a batch has jobs of one partition")
async def test_a_batch_is_cut_where_its_jobs_hold_too_much(make_backend: MakeBackend) -> None:
    """A batch has fewer jobs than asked for when these would hold more than an answer may, and at least one; the rest stays in line."""
    rig = await make_backend(**SMALL)
    for n in range(5):
        await rig.put(f"j{n}", payload=b"x" * 100)
    await rig.put("k", queue="other")
    assert [job.id for job in await rig.take_all("default", "other", limit=10)] == ["j0", "j1"]
    assert [job.id for job in await rig.take_all("default", "other", limit=10)] == ["j2", "j3"]
    assert [job.id for job in await rig.take_all("default", "other", limit=10)] == ["j4", "k"]


async def test_a_job_larger_than_an_answer_may_be_is_handed_out_alone(make_backend: MakeBackend) -> None:
    """At least one job is in every batch, whatever it holds; also in one that was held."""
    rig = await make_backend(payload_bytes_max=100, payload_total_bytes_max=1_000, answer_bytes_max=10)
    waiter = await rig.stand(limit=10)
    await rig.backend.enqueue_batch([spec(f"j{n}", payload=b"x" * 100) for n in range(3)])
    await rig.idle()
    assert waiter.ids == ["j0"]
    assert [job.id for job in await rig.take_all(limit=10)] == ["j1"]


async def test_a_replay_keeps_its_limit(rig: Rig) -> None:
    """A repeat that asks for fewer jobs is answered the first of those that it holds; one that asks for all, all."""
    await rig.put_all("a", "b", "c")
    await rig.take_all(limit=3, attempt_id="x")
    assert [job.id for job in await rig.take_all(limit=1, attempt_id="x")] == ["a"]
    assert [job.id for job in await rig.take_all(limit=2, attempt_id="x")] == ["a", "b"]
    assert [job.id for job in await rig.take_all(limit=9, attempt_id="x")] == ["a", "b", "c"]


async def test_a_replay_is_cut_as_its_batch_was(make_backend: MakeBackend) -> None:
    """The answer to a repeat holds what the first one held, however often an attempt_id was used for more."""
    rig = await make_backend(**SMALL)
    for n in range(4):
        await rig.put(f"j{n}", payload=b"x" * 100, queue="a" if n < 2 else "b")
    first = await rig.take_all("a", limit=10, attempt_id="x")
    await rig.take_all("b", limit=10, attempt_id="x")
    again = await rig.take_all("a", "b", limit=10, attempt_id="x")
    assert [job.id for job in again] == [job.id for job in first] == ["j0", "j1"]


async def test_a_page_is_cut_where_its_jobs_show_too_much(make_backend: MakeBackend) -> None:
    """A page that shows long texts is short and has a next one; all pages together have every job once."""
    rig = await make_backend(**SMALL)
    for n in range(5):
        await rig.put(f"j{n}", description="d" * 100)
    pages, cursor = [], None
    while True:
        found, cursor = await rig.backend.jobs(JobFilter(limit=10, **going_on(cursor)))
        pages.append([job.id for job in found])
        if cursor is None:
            break
    assert pages == [["j4", "j3"], ["j2", "j1"], ["j0"]]


async def test_payloads_cut_a_page_only_where_they_are_shown(make_backend: MakeBackend) -> None:
    """A listing without payloads has as many jobs as it asks for, one with payloads as many as an answer may hold."""
    rig = await make_backend(**SMALL)
    for n in range(5):
        await rig.put(f"j{n}", payload=b"x" * 100)
    assert len((await rig.backend.jobs(JobFilter(limit=10)))[0]) == 5
    assert len((await rig.backend.jobs(JobFilter(limit=10, payloads=True)))[0]) == 2


async def test_two_tokens_do_not_meet_in_one_attempt_id(rig: Rig) -> None:
    """One token's attempt_id, under the same worker's name, is not the other's: neither is answered the other's jobs."""
    await rig.put_all("a", "b")
    assert (await rig.take(attempt_id="x", worker="w", who="one")).id == "a"
    assert (await rig.take(attempt_id="x", worker="w", who="two")).id == "b"
    assert (await rig.take(attempt_id="x", worker="w", who="one")).id == "a"
    assert (await rig.take(attempt_id="x", worker="w", who="two")).id == "b"
    assert await rig.take_all(attempt_id="x", worker="w") == []


async def test_a_token_does_not_end_anothers_wait(rig: Rig) -> None:
    """A dequeue that names the attempt_id and worker of another token's waiter leaves it standing, whatever queue it asks for."""
    first = await rig.stand("mail.x", attempt_id="x", worker="w", who="one")
    second = await rig.stand("sms.x", attempt_id="x", worker="w", who="two")
    assert not first.answered
    await rig.put("m", queue="mail.x")
    await rig.put("s", queue="sms.x")
    await rig.idle()
    assert (first.ids, second.ids) == (["m"], ["s"])


async def test_one_attempt_id_of_many_workers_is_many(rig: Rig) -> None:
    """Three hundred workers that chose one attempt_id each hold their own job, and each gives back its own."""
    await rig.backend.enqueue_batch([spec(f"j{n}") for n in range(250)])
    held = [await rig.take(attempt_id="x", worker=f"w{n}") for n in range(250)]
    for n, job in enumerate(held[:5]):
        assert (await rig.take(attempt_id="x", worker=f"w{n}")).id == job.id
        await rig.backend.release(job.id, token(job), 60.0)
        assert await rig.take_all(attempt_id="x", worker=f"w{n}") == []
    assert (await rig.backend.stats()).leases == 245
