"""Promise 2: one live lease per job, ever. What its holder may do, what anybody else may not, and how it ends."""

from __future__ import annotations

import pytest

from jobqueue.backend.base import Conclude, Extend
from jobqueue.errors import BadRequest, LeaseLost, LostRace, NotInProgress, TooLarge, UnknownJob
from jobqueue.model import Job, Outcome, Status, Verdict
from jobqueue.policy import Backoff, QueuePolicy

from .conftest import MakeBackend
from .rig import FAILED, FAILED_FOR_GOOD, SUCCEEDED, Rig, raised, token

AT_ONCE = Backoff(base=0, factor=1, cap=0)


async def leased(rig: Rig, job_id: str = "j", lease_seconds: float = 10, **fields: object) -> Job:
    await rig.put(job_id, **fields)
    return await rig.take(lease_seconds=lease_seconds)


async def test_the_holder_concludes_with_a_result(rig: Rig) -> None:
    """A succeeded conclude ends the job with its result, and the job leaves the live counts."""
    job = await leased(rig)
    ended = await rig.backend.conclude("j", token(job), SUCCEEDED)
    assert (ended.status, ended.outcome, ended.lease) == (Status.CONCLUDED, Outcome.SUCCEEDED, None)
    assert ended.conclusion is not None
    assert (ended.conclusion.result, ended.conclusion.concluded_at) == (b'"done"', rig.utc())
    stats = await rig.backend.stats()
    assert (stats.jobs_live, stats.live_bytes, stats.leases) == (0, 0, 0)
    assert stats.history[Outcome.SUCCEEDED][0] == 1


async def test_a_failure_is_retried_after_a_backoff(rig: Rig) -> None:
    """A failed conclude schedules the next attempt within the backoff's ceiling and keeps the error."""
    job = await leased(rig, backoff=Backoff(base=8, factor=1, cap=8))
    failed = await rig.backend.conclude("j", token(job), FAILED)
    assert (failed.status, failed.attempts, failed.error) == (Status.SCHEDULED, 1, b'"broken"')
    assert failed.run_at is not None
    assert rig.utc() <= failed.run_at <= rig.utc() + 8
    await rig.advance(8)
    assert (await rig.take()).attempts == 2


async def test_the_last_attempts_failure_is_final(rig: Rig) -> None:
    """A job fails for good at max_attempts."""
    await rig.put("j", max_attempts=3, backoff=AT_ONCE)
    for attempt in (1, 2, 3):
        await rig.idle()
        job = await rig.take()
        assert job.attempts == attempt
        ended = await rig.backend.conclude("j", token(job), FAILED)
    assert (ended.status, ended.outcome, ended.error) == (Status.CONCLUDED, Outcome.FAILED, b'"broken"')


async def test_a_refused_retry_makes_a_failure_final(rig: Rig) -> None:
    """A failed verdict with retry False ends the job at its first attempt."""
    job = await leased(rig)
    assert (await rig.backend.conclude("j", token(job), FAILED_FOR_GOOD)).outcome is Outcome.FAILED


async def test_a_queues_policy_decides_what_a_job_does_not_say(rig: Rig) -> None:
    """A lease holds as long as the dequeue says, else the job, else the queue; attempts are the job's, else the queue's."""
    await rig.backend.put_policy("default", QueuePolicy(lease_seconds=30, max_attempts=1))
    await rig.put_all("a", "b")
    await rig.put("c", lease_seconds=20, max_attempts=2)
    await rig.put("d", lease_seconds=20)
    jobs = [await rig.take(), await rig.take(), await rig.take(), await rig.take(lease_seconds=10)]
    assert [job.lease and job.lease.expires_at - rig.utc() for job in jobs] == [30, 30, 20, 10]
    assert (await rig.backend.conclude("a", token(jobs[0]), FAILED)).status is Status.CONCLUDED
    assert (await rig.backend.conclude("c", token(jobs[2]), FAILED)).status is Status.SCHEDULED


async def test_a_repeated_conclude_answers_as_the_first_did(rig: Rig) -> None:
    """The very conclude that ended a job may be sent again: one effect, the same answer."""
    job = await leased(rig)
    first = await rig.backend.conclude("j", token(job), SUCCEEDED)
    await rig.advance(5)
    again = await rig.backend.conclude("j", token(job), SUCCEEDED)
    assert again.conclusion == first.conclusion
    assert (await rig.backend.queue("default")).succeeded_total == 1


@pytest.mark.parametrize("verdict", [FAILED, FAILED_FOR_GOOD, Verdict(outcome=Outcome.SUCCEEDED, result=b'"other"')])
async def test_the_same_lease_with_another_verdict_is_refused(rig: Rig, verdict: Verdict) -> None:
    """A second conclude that says something else raises NotInProgress and leaves the first one's effect."""
    job = await leased(rig)
    first = await rig.backend.conclude("j", token(job), SUCCEEDED)
    assert isinstance(await raised(rig.backend.conclude("j", token(job), verdict)), NotInProgress)
    assert (await rig.backend.job("j")).conclusion == first.conclusion


async def test_an_extend_pushes_the_expiry_out(rig: Rig) -> None:
    """An extend moves the end of a lease to as much from now as it was given for, or as it says; before that nobody else gets the job."""
    job = await leased(rig)
    waiter = await rig.stand(wait=300)
    await rig.advance(8)
    extended = await rig.backend.extend(Extend("j", token(job)))
    assert extended.lease is not None
    assert (extended.lease.expires_at, token(extended)) == (rig.utc() + 10, token(job))
    await rig.advance(9)
    longer = await rig.backend.extend(Extend("j", token(job), lease_seconds=100))
    assert longer.lease is not None
    assert longer.lease.expires_at == rig.utc() + 100
    await rig.advance(99)
    assert not waiter.answered
    await rig.advance(1)
    assert [job.attempts for job in waiter.jobs] == [2]


async def test_an_extend_may_shorten_a_lease(rig: Rig) -> None:
    """An extend that says less than what is left ends the lease that much sooner, and not later."""
    job = await leased(rig, lease_seconds=100)
    waiter = await rig.stand()
    await rig.backend.extend(Extend("j", token(job), lease_seconds=5))
    await rig.advance(4)
    assert not waiter.answered
    await rig.advance(1)
    assert waiter.ids == ["j"]


async def test_an_extend_carries_progress(rig: Rig) -> None:
    """Progress and message are kept until the next ones, and seen by whoever reads the job."""
    job = await leased(rig)
    await rig.backend.extend(Extend("j", token(job), progress=0.5, message="half"))
    await rig.backend.extend(Extend("j", token(job), progress=0.75))
    lease = (await rig.backend.job("j")).lease
    assert lease is not None
    assert (lease.progress, lease.message) == (0.75, "half")


@pytest.mark.parametrize(
    ("item", "field"),
    [
        (Extend("j", "", progress=1.5), "progress"),
        (Extend("j", "", progress=float("nan")), "progress"),
        (Extend("j", "", message="m" * 1_025), "message"),
        (Extend("j", "", lease_seconds=0.5), "lease_seconds"),
        (Extend("j", "", lease_seconds=1e9), "lease_seconds"),
    ],
)
async def test_a_bad_extend_changes_nothing(rig: Rig, item: Extend, field: str) -> None:
    """An extend with a value out of range raises BadRequest naming it and leaves the lease as it was."""
    job = await leased(rig)
    await rig.advance(5)
    item = Extend("j", token(job), item.lease_seconds, item.progress, item.message)
    error = await raised(rig.backend.extend(item))
    assert isinstance(error, BadRequest)
    assert error.field == field
    assert (await rig.backend.job("j")).lease == job.lease


async def test_a_release_gives_the_job_and_the_attempt_back(rig: Rig) -> None:
    """A released job is at the front again and its attempt does not count."""
    await rig.put_all("a", "b")
    job = await rig.take()
    back = await rig.backend.release("a", token(job), 0)
    assert (back.status, back.attempts, back.lease) == (Status.QUEUED, 0, None)
    assert [(job.id, job.attempts) for job in await rig.take_all(limit=2)] == [("a", 1), ("b", 1)]


async def test_a_release_with_a_delay_schedules_the_job(rig: Rig) -> None:
    """A job released with a delay is not handed out before it has passed."""
    job = await leased(rig)
    back = await rig.backend.release("j", token(job), 20)
    assert (back.status, back.run_at, back.attempts) == (Status.SCHEDULED, rig.utc() + 20, 0)
    await rig.advance(19)
    assert await rig.take_all() == []
    await rig.advance(1)
    assert (await rig.take()).attempts == 1


@pytest.mark.parametrize("delay", [-1.0, 31 * 86_400.0, float("nan")])
async def test_a_release_with_a_bad_delay_changes_nothing(rig: Rig, delay: float) -> None:
    """A delay out of range raises BadRequest and leaves the lease as it was."""
    job = await leased(rig)
    error = await raised(rig.backend.release("j", token(job), delay))
    assert isinstance(error, BadRequest)
    assert error.field == "delay"
    assert (await rig.backend.job("j")).lease == job.lease


async def test_a_lease_that_ends_redelivers_at_the_front(rig: Rig) -> None:
    """Redelivered jobs leave before younger ones, oldest first, the lost attempt counted and the cause told."""
    await rig.put_all("a", "b", "c")
    await rig.take_all(limit=2, lease_seconds=10)
    await rig.advance(10)
    jobs = await rig.take_all(limit=3)
    assert [(job.id, job.attempts) for job in jobs] == [("a", 2), ("b", 2), ("c", 1)]
    assert jobs[0].error == b'"lease_expired"'


async def test_a_poison_job_ends_after_its_attempts(rig: Rig) -> None:
    """A job that is never concluded is concluded as failed, with the error `lease_expired`, when its last lease ends."""
    await rig.put("j", max_attempts=3, lease_seconds=10)
    for attempt in (1, 2, 3):
        assert (await rig.take()).attempts == attempt
        await rig.advance(10)
    job = await rig.backend.job("j")
    assert (job.status, job.outcome, job.error) == (Status.CONCLUDED, Outcome.FAILED, b'"lease_expired"')
    assert await rig.take_all() == []


async def test_a_late_conclude_does_not_touch_the_new_lease(rig: Rig) -> None:
    """After expiry and redelivery the first worker's token is refused for everything, and the second's lease stands."""
    first = await leased(rig)
    await rig.advance(10)
    second = await rig.take()
    for late in (
        rig.backend.conclude("j", token(first), SUCCEEDED),
        rig.backend.extend(Extend("j", token(first))),
        rig.backend.release("j", token(first), 0),
    ):
        assert isinstance(await raised(late), LeaseLost)
    assert (await rig.backend.job("j")).lease == second.lease
    await rig.backend.conclude("j", token(second), SUCCEEDED)


@pytest.mark.parametrize("status", ["scheduled", "queued", "in_progress", "concluded"])
async def test_any_other_token_is_refused_and_changes_nothing(rig: Rig, status: str) -> None:
    """A forged token, another job's and an empty one raise LeaseLost for conclude, extend and release in every status."""
    await rig.put("other")
    others = token(await rig.take())
    await rig.put("j", delay=60 if status == "scheduled" else None)
    if status in ("in_progress", "concluded"):
        mine = await rig.take()
        if status == "concluded":
            await rig.backend.conclude("j", token(mine), SUCCEEDED)
    before = await rig.backend.job("j")
    counts = await rig.backend.queue("default")
    assert str(before.status) == status
    for forged in (others, "0" * 32, "", "ü"):
        assert isinstance(await raised(rig.backend.conclude("j", forged, SUCCEEDED)), LeaseLost)
        assert isinstance(await raised(rig.backend.extend(Extend("j", forged, 60.0))), LeaseLost)
        assert isinstance(await raised(rig.backend.release("j", forged, 0)), LeaseLost)
    after = await rig.backend.job("j")
    assert (after.status, after.attempts, after.lease, after.conclusion) == (
        before.status,
        before.attempts,
        before.lease,
        before.conclusion,
    )
    assert await rig.backend.queue("default") == counts


async def test_the_token_that_ended_a_job_can_do_nothing_more(rig: Rig) -> None:
    """Extend and release with the token that concluded the job raise NotInProgress."""
    job = await leased(rig)
    await rig.backend.conclude("j", token(job), SUCCEEDED)
    assert isinstance(await raised(rig.backend.extend(Extend("j", token(job)))), NotInProgress)
    assert isinstance(await raised(rig.backend.release("j", token(job), 0)), NotInProgress)


async def test_an_unknown_job_has_no_lease(rig: Rig) -> None:
    """Conclude, extend and release of an id that no job has raise UnknownJob."""
    assert isinstance(await raised(rig.backend.conclude("no", "0" * 32, SUCCEEDED)), UnknownJob)
    assert isinstance(await raised(rig.backend.extend(Extend("no", "0" * 32))), UnknownJob)
    assert isinstance(await raised(rig.backend.release("no", "0" * 32, 0)), UnknownJob)


async def test_of_a_conclude_and_the_expiry_in_one_instant_exactly_one_wins(rig: Rig) -> None:
    """A conclude in the very moment in which the lease ends either succeeds, or the job is redelivered; never both."""
    job = await leased(rig)
    waiter = await rig.stand()
    await rig.advance(10)
    try:
        await rig.backend.conclude("j", token(job), SUCCEEDED)
        won = True
    except LostRace:
        won = False
    await rig.idle()
    assert waiter.answered is not won
    assert (await rig.backend.job("j")).status is (Status.CONCLUDED if won else Status.IN_PROGRESS)


async def test_a_result_above_the_bound_is_refused(make_backend: MakeBackend) -> None:
    """A result or error of more bytes than a payload may have raises TooLarge, and the job stays in progress."""
    rig = await make_backend(payload_bytes_max=100)
    job = await leased(rig)
    for verdict in (
        Verdict(outcome=Outcome.SUCCEEDED, result=b"1" * 101),
        Verdict(outcome=Outcome.FAILED, error=b"1" * 101),
    ):
        assert isinstance(await raised(rig.backend.conclude("j", token(job), verdict)), TooLarge)
    assert (await rig.backend.job("j")).lease == job.lease


@pytest.mark.parametrize("outcome", [Outcome.CANCELLED, Outcome.EXPIRED])
async def test_a_worker_says_succeeded_or_failed_and_nothing_else(rig: Rig, outcome: Outcome) -> None:
    """A verdict with an outcome that is not a worker's to give raises BadRequest, and the job stays in progress."""
    job = await leased(rig)
    assert isinstance(await raised(rig.backend.conclude("j", token(job), Verdict(outcome=outcome))), BadRequest)
    assert (await rig.backend.job("j")).lease == job.lease


async def test_tokens_are_never_used_twice(rig: Rig) -> None:
    """Every attempt at every job has a token of its own."""
    await rig.put_all("a", "b")
    tokens = []
    for _ in range(10):
        for job in await rig.take_all(limit=2):
            tokens.append(token(job))
            await rig.backend.release(job.id, token(job), 0)
    assert len(tokens) == len(set(tokens)) == 20


LATE = Verdict(outcome=Outcome.SUCCEEDED, result=b'"late"', late=True)


async def test_a_late_success_ends_a_job_that_waits(rig: Rig) -> None:
    """By the token of the lease that ran out, in the answer and for whoever looks; a repeat is answered alike, in a batch too."""
    await rig.put("j")
    job = await rig.take(lease_seconds=10, worker="w")
    await rig.advance(10)
    assert isinstance(await raised(rig.backend.conclude("j", token(job), SUCCEEDED)), LeaseLost)
    ended = await rig.backend.conclude("j", token(job), LATE)
    assert (ended.outcome, ended.attempts) == (Outcome.SUCCEEDED, 1)
    (again,) = await rig.backend.conclude_batch([Conclude("j", token(job), LATE)])
    assert isinstance(again, Job)
    shown = await rig.backend.job("j")
    assert shown.conclusion is not None
    assert shown.conclusion == again.conclusion == ended.conclusion
    assert (shown.conclusion.result, shown.conclusion.worker) == (b'"late"', "w")
    assert await rig.take_all() == []


async def test_a_late_success_comes_too_late_once_the_job_was_handed_out(rig: Rig) -> None:
    """Also when that one gave it back, or was told late itself; one whose answer was not delivered had it not."""
    job = await leased(rig)
    await rig.advance(10)
    second = await rig.take(lease_seconds=10)
    assert isinstance(await raised(rig.backend.conclude("j", token(job), LATE)), LeaseLost)
    await rig.backend.give_back("j", token(second))
    third = await rig.take(lease_seconds=10)
    await rig.backend.release("j", token(third), 0)
    for late in (job, second, third):
        assert isinstance(await raised(rig.backend.conclude("j", token(late), LATE)), LeaseLost)
    assert (await rig.take()).attempts == 2


async def test_a_hand_out_that_was_not_delivered_takes_nothing_from_a_late_success(rig: Rig) -> None:
    """Nobody has had the job since."""
    job = await leased(rig)
    await rig.advance(10)
    await rig.backend.give_back("j", token(await rig.take()))
    assert (await rig.backend.conclude("j", token(job), LATE)).outcome is Outcome.SUCCEEDED


async def test_a_dead_letter_may_end_late(rig: Rig) -> None:
    """It is found where it waits, and says how often it was tried before."""
    await rig.backend.put_policy("default", QueuePolicy(max_attempts=1, dead_letter="default:dead"))
    job = await leased(rig)
    await rig.advance(10)
    buried = await rig.backend.job("j")
    assert (buried.queue, buried.attempts, buried.received) == ("default:dead", 0, 1)
    ended = await rig.backend.conclude("j", token(job), LATE)
    assert (ended.outcome, ended.queue) == (Outcome.SUCCEEDED, "default:dead")


async def test_extending_by_zero_hands_the_job_to_who_waits(rig: Rig) -> None:
    """At once, the attempt counted; the answer shows the job with no lease. Without anybody who waits it is at its old place."""
    job = await leased(rig)
    await rig.put("other")
    held = await rig.stand("elsewhere", wait=50)
    said = await rig.backend.extend(Extend("j", token(job), 0))
    assert (said.lease, said.attempts, said.past[-1].ended_at) == (None, 1, rig.utc())
    job = await rig.take()
    assert (job.id, job.attempts) == ("j", 2)
    await rig.take()
    waiter = await rig.stand()
    (replied,) = await rig.backend.extend_batch([Extend("j", token(job), 0)])
    assert isinstance(replied, Job)
    await rig.idle()
    assert (waiter.ids, held.answered) == (["j"], False)


async def test_a_lease_of_zero_is_over_at_once(rig: Rig) -> None:
    """By the dequeue, the job or the queue: it is handed out, counted, and had by whoever waits next."""
    await rig.backend.put_policy("default", QueuePolicy(lease_seconds=0, max_attempts=3))
    first, second = await rig.stand(), await rig.stand()
    await rig.put("j")
    await rig.idle()
    await rig.advance(1)
    assert (first.ids, second.ids) == (["j"], ["j"])
    (taken,) = await rig.take_all(lease_seconds=60)
    assert taken.attempts == 3
    await rig.backend.extend(Extend("j", token(taken), 0))
    assert (await rig.backend.job("j")).outcome is Outcome.FAILED


async def test_a_wait_for_a_job_of_no_lease_ends_with_it(rig: Rig) -> None:
    """As many as stand are handed it, one after another, until its attempts are used up; nobody is handed it twice in a row unasked."""
    held = [await rig.stand(lease_seconds=0) for _ in range(4)]
    await rig.put("j", max_attempts=2)
    await rig.idle()
    await rig.advance(1)
    assert [waiter.answered for waiter in held] == [True, True, False, False]
    job = await rig.backend.job("j")
    assert (job.outcome, job.attempts) == (Outcome.FAILED, 2)
