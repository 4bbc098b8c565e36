"""classic: what its calls do, each rule as one conversation."""

from __future__ import annotations

import asyncio

import pytest

from jobqueue.model import Job, Verdict, Want
from tests.api.harness import Api

from .conftest import Serve
from .dialogue import Speaker

EMPTY = {"Error": "Not Found", "message": "no job is queued"}


async def test_a_job_goes_from_enqueue_to_conclude(classic: Speaker) -> None:
    """The whole life of a job, in the words of the system it comes from."""
    await classic.talk("""
        > POST /jobs/enqueue {"Type": "TIME_CRITICAL"}
        < 200 {"ID": 1}
        > GET /jobs/1
        < 200 {"ID": 1, "Type": "TIME_CRITICAL", "Status": "QUEUED"}
        > GET /jobs/dequeue
          QUEUE_CONSUMER: 7
        < 200 {"ID": 1, "Type": "TIME_CRITICAL", "Status": "IN_PROGRESS"}
        > GET /jobs/1
        < 200 {"ID": 1, "Type": "TIME_CRITICAL", "Status": "IN_PROGRESS"}
        > POST /jobs/1/conclude
          QUEUE_CONSUMER: 7
        < 200 {"ID": 1, "Type": "TIME_CRITICAL", "Status": "CONCLUDED"}
        > GET /jobs/1
        < 200 {"ID": 1, "Type": "TIME_CRITICAL", "Status": "CONCLUDED"}
        > GET /jobs/dequeue
        < 404 {"Error": "Not Found", "message": "no job is queued"}
    """)


async def test_put_enqueues_as_post_does(classic: Speaker) -> None:
    """Both methods of the table, ids counting on."""
    await classic.talk("""
        > POST /jobs/enqueue {"Type": "TIME_CRITICAL"}
        < 200 {"ID": 1}
        > PUT /jobs/enqueue {"Type": "NOT_TIME_CRITICAL"}
        < 200 {"ID": 2}
        > GET /jobs/2
        < 200 {"ID": 2, "Type": "NOT_TIME_CRITICAL", "Status": "QUEUED"}
    """)


async def test_post_dequeues_as_get_does(classic: Speaker) -> None:
    """Both methods of the table; POST with any body or none."""
    await classic.talk("""
        > PUT /jobs/enqueue {"Type": "TIME_CRITICAL"}
        < 200 {"ID": 1}
        > PUT /jobs/enqueue {"Type": "TIME_CRITICAL"}
        < 200 {"ID": 2}
        > POST /jobs/dequeue
        < 200 {"ID": 1, "Type": "TIME_CRITICAL", "Status": "IN_PROGRESS"}
        > POST /jobs/dequeue {"consumer": 7}
        < 200 {"ID": 2, "Type": "TIME_CRITICAL", "Status": "IN_PROGRESS"}
        > POST /jobs/dequeue
        < 404 {"Error": "Not Found", "message": "no job is queued"}
    """)


async def test_an_empty_queue_answers_404_at_once(classic: Speaker) -> None:
    """Without `wait` nobody stands in line, and nothing is changed."""
    await classic.refused("""
        > GET /jobs/dequeue
        < 404 {"Error": "Not Found", "message": "no job is queued"}
          Retry-After:
        > POST /jobs/dequeue
        < 404 {"Error": "Not Found", "message": "no job is queued"}
    """)
    assert classic.api.backend.totals().waiters == 0


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
@pytest.mark.parametrize("place", ["/jobs/1/conclude", "/jobs/conclude/1"])
async def test_conclude_has_three_methods_and_two_places(classic: Speaker, method: str, place: str) -> None:
    """Each of the six ends the job."""
    await classic.talk(f"""
        > POST /jobs/enqueue {{"Type": "NOT_TIME_CRITICAL"}}
        < 200 {{"ID": 1}}
        > GET /jobs/dequeue
        < 200 {{"ID": 1, "Type": "NOT_TIME_CRITICAL", "Status": "IN_PROGRESS"}}
        > {method} {place}
        < 200 {{"ID": 1, "Type": "NOT_TIME_CRITICAL", "Status": "CONCLUDED"}}
        > GET /jobs/1
        < 200 {{"ID": 1, "Type": "NOT_TIME_CRITICAL", "Status": "CONCLUDED"}}
    """)


@pytest.mark.parametrize(
    "body",
    [
        '{"type": "TIME_CRITICAL"}',
        '{"TYPE": "TIME_CRITICAL"}',
        '{"tYpE": "TIME_CRITICAL"}',
        '{"Type": "TIME_CRITICAL", "ID": 951, "Status": "CONCLUDED"}',
        '{"id": -1, "type": "TIME_CRITICAL", "status": 5}',
        '{"Type": "TIME_CRITICAL", "Priority": {"any": ["thing"]}}',
        ' {"Type" :"\\u0054IME_CRITICAL" } ',
    ],
)
async def test_keys_come_in_any_case_and_others_are_ignored(classic: Speaker, body: str) -> None:
    """A client's ID and Status are not its to say, whatever they hold."""
    await classic.talk(f"""
        > POST /jobs/enqueue {body}
        < 200 {{"ID": 1}}
        > GET /jobs/1
        < 200 {{"ID": 1, "Type": "TIME_CRITICAL", "Status": "QUEUED"}}
    """)


@pytest.mark.parametrize("kind", ["", "application/x-www-form-urlencoded", "text/plain", "application/json; charset=utf-8", "x"])
async def test_a_body_may_be_of_any_declared_type(classic: Speaker, kind: str) -> None:
    """What `curl -d` and bare sockets send is read as the JSON it is."""
    await classic.talk(f"""
        > POST /jobs/enqueue {{"Type": "TIME_CRITICAL"}}
          Content-Type: {kind}
        < 200 {{"ID": 1}}
    """)


async def test_dequeue_is_first_in_first_out_whatever_the_type(classic: Speaker) -> None:
    """The type is the producer's remark and does not reorder."""
    kinds = ["NOT_TIME_CRITICAL", "TIME_CRITICAL", "NOT_TIME_CRITICAL", "TIME_CRITICAL"]
    for number, kind in enumerate(kinds, 1):
        await classic.talk(f"""
            > POST /jobs/enqueue {{"Type": "{kind}"}}
            < 200 {{"ID": {number}}}
        """)
    for number, kind in enumerate(kinds, 1):
        await classic.talk(f"""
            > GET /jobs/dequeue
            < 200 {{"ID": {number}, "Type": "{kind}", "Status": "IN_PROGRESS"}}
        """)


async def test_conclude_before_dequeue_is_409(classic: Speaker) -> None:
    """A job that nobody holds cannot be finished; it stays queued."""
    await classic.talk("""
        > POST /jobs/enqueue {"Type": "TIME_CRITICAL"}
        < 200 {"ID": 1}
    """)
    await classic.refused("""
        > POST /jobs/1/conclude
        < 409 {"Error": "Conflict", "message": "job '1' is QUEUED; nothing was changed"}
        > PUT /jobs/conclude/1
        < 409 {"Error": "Conflict", "message": "job '1' is QUEUED; nothing was changed"}
        > GET /jobs/1
        < 200 {"ID": 1, "Type": "TIME_CRITICAL", "Status": "QUEUED"}
    """)


async def test_conclude_twice_is_409(classic: Speaker) -> None:
    """The second one is told that the job is concluded."""
    await taken(classic)
    await classic.talk("""
        > POST /jobs/1/conclude
        < 200 {"ID": 1, "Type": "TIME_CRITICAL", "Status": "CONCLUDED"}
    """)
    await classic.refused("""
        > POST /jobs/1/conclude
        < 409 {"Error": "Conflict", "message": "job '1' is CONCLUDED; nothing was changed"}
    """)


async def test_concluding_at_once_twenty_times_succeeds_once(classic: Speaker) -> None:
    """However many send it, one ends the job and the rest are refused."""
    await taken(classic)
    replies = await classic.together("> POST /jobs/1/conclude", 20)
    assert sorted(reply.status for reply in replies) == [200] + [409] * 19


async def test_an_unknown_job_is_404(classic: Speaker) -> None:
    """Asked for or concluded, in either place."""
    await classic.refused("""
        > GET /jobs/5
        < 404 {"Error": "Not Found", "message": "no job has the id '5': …"}
        > POST /jobs/5/conclude
        < 404 {"Error": "Not Found", "message": "no job has the id '5': …"}
        > PATCH /jobs/conclude/9223372036854775807
        < 404 {"Error": "Not Found", "message": "no job has the id '9223372036854775807': …"}
    """)


# Who took it.


async def taken(classic: Speaker, consumer: str = "") -> None:
    """Job 1, in progress with a consumer."""
    await classic.talk(f"""
        > POST /jobs/enqueue {{"Type": "TIME_CRITICAL"}}
        < 200 {{"ID": 1}}
        > GET /jobs/dequeue
          QUEUE_CONSUMER: {consumer}
        < 200 {{"ID": 1, "Type": "TIME_CRITICAL", "Status": "IN_PROGRESS"}}
    """)


async def test_another_consumers_conclude_is_409(classic: Speaker) -> None:
    """Where an id was given at dequeue, another is refused, and the job stays with the first."""
    await taken(classic, "7")
    await classic.refused("""
        > POST /jobs/1/conclude
          QUEUE_CONSUMER: 8
        < 409 {"Error": "Conflict", "message": "job '1' is IN_PROGRESS with another consumer; nothing was changed"}
        > GET /jobs/1
        < 200 {"ID": 1, "Type": "TIME_CRITICAL", "Status": "IN_PROGRESS"}
    """)
    await classic.talk("""
        > POST /jobs/1/conclude
          queue_consumer: 7
        < 200 {"ID": 1, "Type": "TIME_CRITICAL", "Status": "CONCLUDED"}
    """)


@pytest.mark.parametrize(("dequeued", "concluded"), [("", ""), ("", "8"), ("7", "07"), ("-7", "-7"), ("0", "-0")])
async def test_a_consumer_may_leave_its_id_out_of_dequeue(classic: Speaker, dequeued: str, concluded: str) -> None:
    """A job taken without an id is anybody's to conclude; ids are compared as the numbers they are."""
    await taken(classic, dequeued)
    await classic.talk(f"""
        > POST /jobs/1/conclude
          QUEUE_CONSUMER: {concluded}
        < 200 {{"ID": 1, "Type": "TIME_CRITICAL", "Status": "CONCLUDED"}}
    """)


async def test_two_consumers_racing_for_one_job(classic: Speaker) -> None:
    """Exactly one gets it, again and again."""
    for number in range(1, 11):
        await classic.talk(f"""
            > POST /jobs/enqueue {{"Type": "TIME_CRITICAL"}}
            < 200 {{"ID": {number}}}
        """)
        replies = await classic.together("> GET /jobs/dequeue", 2)
        won, lost = sorted(replies, key=lambda reply: reply.status)
        assert (won.status, won.json["ID"]) == (200, number)
        assert (lost.status, lost.json) == (404, EMPTY)


async def test_twenty_consumers_share_ten_jobs(classic: Speaker) -> None:
    """No job goes to two of them, none is left."""
    for _ in range(10):
        assert (await classic.together('> PUT /jobs/enqueue {"Type": "TIME_CRITICAL"}', 1))[0].status == 200
    replies = await classic.together("> POST /jobs/dequeue", 20)
    assert sorted(reply.json["ID"] for reply in replies if reply.status == 200) == list(range(1, 11))


# Time.


async def test_a_job_not_concluded_in_five_minutes_returns_to_the_queue(classic: Speaker) -> None:
    """The lease's end is exact: not a moment before, ahead of younger jobs, and the late consumer is refused."""
    await taken(classic, "7")
    await classic.talk("""
        > POST /jobs/enqueue {"Type": "NOT_TIME_CRITICAL"}
        < 200 {"ID": 2}
    """)
    classic.api.clock.advance(299.999)
    await classic.talk("""
        > GET /jobs/1
        < 200 {"ID": 1, "Type": "TIME_CRITICAL", "Status": "IN_PROGRESS"}
    """)
    classic.api.clock.advance(0.001)
    await classic.talk("""
        > POST /jobs/1/conclude
          QUEUE_CONSUMER: 7
        < 409 {"Error": "Conflict", "message": "job '1' is QUEUED; nothing was changed"}
        > GET /jobs/dequeue
          QUEUE_CONSUMER: 8
        < 200 {"ID": 1, "Type": "TIME_CRITICAL", "Status": "IN_PROGRESS"}
        > POST /jobs/1/conclude
          QUEUE_CONSUMER: 7
        < 409 {"Error": "Conflict", "message": "job '1' is IN_PROGRESS with another consumer; nothing was changed"}
        > POST /jobs/1/conclude
          QUEUE_CONSUMER: 8
        < 200 {"ID": 1, "Type": "TIME_CRITICAL", "Status": "CONCLUDED"}
    """)


async def test_the_lease_is_a_setting(serve: Serve) -> None:
    """A server with shorter leases gives jobs back sooner."""
    classic = Speaker(await serve(lease_seconds_default=2.0), "/classic")
    await taken(classic)
    classic.api.clock.advance(2)
    await classic.talk("""
        > GET /jobs/1
        < 200 {"ID": 1, "Type": "TIME_CRITICAL", "Status": "QUEUED"}
    """)


async def test_a_lease_that_ends_during_a_conclude_is_409(classic: Speaker, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the job changes hands between the look at it and its conclude, the new consumer keeps it."""
    await taken(classic)
    backend = classic.api.backend
    conclude = backend.conclude

    async def later(job_id: str, token: str, verdict: Verdict) -> Job:
        classic.api.clock.advance(300)
        taking = backend.dequeue(Want(worker="8"), 0)
        async with taking:
            taking.delivered()
        return await conclude(job_id, token, verdict)

    monkeypatch.setattr(backend, "conclude", later)
    await classic.talk("""
        > POST /jobs/1/conclude
        < 409 {"Error": "Conflict", "message": "job '1' is no longer held by you; nothing was changed"}
        > GET /jobs/1
        < 200 {"ID": 1, "Type": "TIME_CRITICAL", "Status": "IN_PROGRESS"}
    """)


async def test_a_job_forgotten_during_its_conclude_is_404(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Concluded by another way between the look at it and its conclude, in a server without history: it is named by its number."""
    classic = Speaker(await serve(history_jobs_max=0), "/classic")
    await taken(classic)
    conclude = classic.api.backend.conclude

    async def later(job_id: str, token: str, verdict: Verdict) -> Job:
        await conclude(job_id, token, verdict)
        return await conclude(job_id, token, verdict)

    monkeypatch.setattr(classic.api.backend, "conclude", later)
    await classic.talk("""
        > POST /jobs/1/conclude
        < 404 {"Error": "Not Found", "message": "no job has the id '1': …"}
    """)


async def test_a_job_that_was_never_concluded_in_five_leases_is_given_up(classic: Speaker) -> None:
    """The queue's policy of attempts holds here too: a job that brings down every consumer ends, and the native API says why."""
    await classic.together('> POST /jobs/enqueue {"Type": "TIME_CRITICAL"}', 1)
    for _ in range(5):
        await classic.talk("""
            > GET /jobs/dequeue
            < 200 {"ID": 1, "Type": "TIME_CRITICAL", "Status": "IN_PROGRESS"}
        """)
        classic.api.clock.advance(300)
    await classic.refused("""
        > GET /jobs/dequeue
        < 404 {"Error": "Not Found", "message": "no job is queued"}
        > GET /jobs/1
        < 200 {"ID": 1, "Type": "TIME_CRITICAL", "Status": "CONCLUDED"}
    """)
    (job,) = (await classic.api.get("/jobs?outcome=failed")).json["jobs"]
    assert (job["number"], job["error"]["code"] if isinstance(job["error"], dict) else job["error"]) == (1, "lease_expired")


# Ids.


async def test_ids_are_never_given_again(serve: Serve) -> None:
    """Unique and increasing, although history forgets all concluded jobs but one; what is forgotten is 404."""
    classic = Speaker(await serve(history_jobs_max=1), "/classic")
    for number in range(1, 6):
        await classic.talk(f"""
            > POST /jobs/enqueue {{"Type": "TIME_CRITICAL"}}
            < 200 {{"ID": {number}}}
            > GET /jobs/dequeue
            < 200 {{"ID": {number}, "Type": "TIME_CRITICAL", "Status": "IN_PROGRESS"}}
            > POST /jobs/{number}/conclude
            < 200 {{"ID": {number}, "Type": "TIME_CRITICAL", "Status": "CONCLUDED"}}
        """)
    await classic.refused("""
        > GET /jobs/4
        < 404 {"Error": "Not Found", "message": "no job has the id '4': it never existed, or history has forgotten it"}
        > POST /jobs/4/conclude
        < 404 {"Error": "Not Found", "message": "no job has the id '4': it never existed, or history has forgotten it"}
        > GET /jobs/5
        < 200 {"ID": 5, "Type": "TIME_CRITICAL", "Status": "CONCLUDED"}
    """)


async def test_ids_are_unique_among_fifty_at_once(classic: Speaker) -> None:
    """Fifty producers, fifty ids, 1 to 50."""
    replies = await classic.together('> POST /jobs/enqueue {"Type": "TIME_CRITICAL"}', 50)
    assert sorted(reply.json["ID"] for reply in replies) == list(range(1, 51))


# Between dialects.


async def test_a_native_job_has_an_id_and_a_type_here(api: Api, classic: Speaker) -> None:
    """Every job has a number; a type this system does not know is shown as NOT_TIME_CRITICAL."""
    await api.enqueue({"to": "x"}, id="mine", type="mail")
    await classic.talk("""
        > GET /jobs/1
        < 200 {"ID": 1, "Type": "NOT_TIME_CRITICAL", "Status": "QUEUED"}
        > GET /jobs/dequeue
          QUEUE_CONSUMER: 3
        < 200 {"ID": 1, "Type": "NOT_TIME_CRITICAL", "Status": "IN_PROGRESS"}
    """)
    assert (await api.job("mine"))["worker"] == "3"
    await classic.talk("""
        > POST /jobs/1/conclude
          QUEUE_CONSUMER: 3
        < 200 {"ID": 1, "Type": "NOT_TIME_CRITICAL", "Status": "CONCLUDED"}
    """)
    assert (await api.job("mine"))["outcome"] == "succeeded"


async def test_a_job_that_was_cancelled_natively_may_still_be_concluded(api: Api, classic: Speaker) -> None:
    """A consumer here cannot be told to stop: its conclude is accepted, and the job ends as cancelled."""
    await api.enqueue(id="j", type="TIME_CRITICAL")
    await classic.together("> GET /jobs/dequeue", 1)
    assert (await api.post("/jobs/j/cancel")).json["cancel_requested"] is True
    await classic.talk("""
        > GET /jobs/1
        < 200 {"ID": 1, "Type": "TIME_CRITICAL", "Status": "IN_PROGRESS"}
        > POST /jobs/1/conclude
        < 200 {"ID": 1, "Type": "TIME_CRITICAL", "Status": "CONCLUDED"}
    """)
    assert (await api.job("j"))["outcome"] == "cancelled"


async def test_parallel_conclude_and_lease_end_have_one_winner(classic: Speaker) -> None:
    """A conclude that arrives as the lease ends either ends the job or changes nothing."""
    await taken(classic)
    concluding = asyncio.create_task(classic.together("> POST /jobs/1/conclude", 1))
    await asyncio.sleep(0)
    classic.api.clock.advance(300)
    (reply,) = await concluding
    job = await classic.api.backend.numbered(1)
    assert reply.status == (200 if job.conclusion else 409)
