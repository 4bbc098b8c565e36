"""What others have fallen into with keys, limits and fairness, each trap as a test of its own (the threads: the notes of issue 16)."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import pytest

from jobqueue.backend.rows import decode_job, decode_queue, encode_job, encode_queue
from jobqueue.engine.engine import Engine
from jobqueue.engine.events import Kind
from jobqueue.engine.flow import FlowQueue
from jobqueue.engine.follow import Changes, begin, follow
from jobqueue.engine.follow import end as end_of_following
from jobqueue.engine.restore import restore
from jobqueue.engine.why import waiting_for
from jobqueue.errors import QueueFull
from jobqueue.model import Job, JobFilter, Outcome, Verdict, Want
from jobqueue.policy import Backoff, PerKey, PolicyChange, QueuePolicy, Rate
from tests.factories import NOW, dequeue, drain_ids, enqueue, make_engine, token_of

from .invariants import invariants

DONE = Verdict(outcome=Outcome.SUCCEEDED)
AGAIN = Verdict(outcome=Outcome.FAILED, retry_delay=10.0)
FINAL = Verdict(outcome=Outcome.FAILED, retry=False)
FIFO, HALT = PerKey("fifo"), PerKey("halt")


def engine_with(**policy: Any) -> Engine:
    """An engine whose queue `default` has this policy."""
    engine = make_engine()
    engine.put_policy("default", QueuePolicy(backoff=Backoff(0.0, 1.0, 0.0), **policy))
    ticked(engine, NOW)
    engine.take_events()
    return engine


def change(engine: Engine, now: float = NOW, **fields: Any) -> None:
    """Change the policy, and let the ticker do what comes of it."""
    engine.change_policy("default", PolicyChange(**fields))
    ticked(engine, now)


def ticked(engine: Engine, now: float) -> None:
    """Let the ticker do all that is due."""
    while (due := engine.next_deadline()) is not None and due <= now:
        engine.tick(now)
    invariants(engine)


def restarted(engine: Engine, now: float) -> Engine:
    """A server that goes on from what is stored of this one."""
    other = Engine(engine.limits, engine.ids, engine.random)
    queues = [decode_queue(name, encode_queue(queue)) for name, queue in engine.queues.items()]
    jobs = [decode_job(job.number, encode_job(job, job.number), job.payload) for job in engine.jobs.oldest_first(0)]
    restore(other, queues, jobs, engine.jobs.next_number, engine.jobs.next_number)
    other.resume(now)
    invariants(other)
    return other


def end(engine: Engine, job: Job, verdict: Verdict = DONE, now: float = NOW) -> None:
    """Conclude a job that is in progress."""
    engine.conclude(now, job.id, token_of(job), verdict)
    invariants(engine)


# Keys.


def test_a_future_job_does_not_stall_its_key() -> None:
    """A job that is only delayed holds nothing: those of its key that are ready go before it (procrastinate)."""
    engine = engine_with(per_key=FIFO)
    enqueue(engine, id="later", key="k", delay=100.0)
    enqueue(engine, id="now", key="k")
    first = dequeue(engine)
    assert first.id == "now"
    end(engine, first)
    ticked(engine, NOW + 100)
    assert drain_ids(engine, NOW + 100) == ["later"]


@pytest.mark.parametrize("comes_back", ["failed", "lease lost", "released", "released later"])
def test_a_retry_does_not_turn_abc_into_bca(comes_back: str) -> None:
    """However a job comes back, nobody of its key goes before it, whatever the priority (BullMQ)."""
    engine = engine_with(per_key=FIFO)
    enqueue(engine, id="a", key="k")
    enqueue(engine, id="b", key="k")
    enqueue(engine, id="c", key="k", priority=0)
    enqueue(engine, id="other", key="l")
    taken = dequeue(engine)
    assert taken.id == "c"
    if comes_back == "failed":
        end(engine, taken, AGAIN)
    elif comes_back == "lease lost":
        engine.tick(NOW + 1_000)
    else:
        engine.release(NOW, "c", token_of(taken), 10.0 if comes_back == "released later" else 0.0)
    enqueue(engine, id="urgent", key="k", priority=0)
    now = NOW + 1_000
    ticked(engine, now)
    order = []
    for _ in range(5):
        job = dequeue(engine, now)
        order.append(job.id)
        end(engine, job, now=now)
    assert [name for name in order if name != "other"] == ["c", "urgent", "a", "b"]


def test_nothing_of_the_key_runs_during_a_backoff() -> None:
    """A job that waits for its next attempt holds its key, and the key's next job says which it waits for."""
    engine = engine_with(per_key=FIFO)
    enqueue(engine, id="a", key="k")
    waits = enqueue(engine, id="b", key="k")
    end(engine, dequeue(engine), AGAIN)
    assert drain_ids(engine) == []
    (why,) = waiting_for(engine, waits, 1)
    assert (why.kind, why.key, why.block, why.job, why.until) == ("key", "k", "order", "a", NOW + 10)


def test_a_batch_takes_a_key_in_order_and_frees_it_with_the_last() -> None:
    """One request may take several of a key; others of it wait until all have ended, and one that comes back goes first."""
    engine = engine_with(per_key=FIFO)
    for name in "abcd":
        enqueue(engine, id=name, key="k")
    batch = engine.dequeue(NOW, Want(limit=3))
    assert [job.id for job in batch] == ["a", "b", "c"]
    assert drain_ids(engine) == []
    end(engine, batch[0])
    engine.release(NOW, "b", token_of(batch[1]))
    assert drain_ids(engine) == []
    end(engine, batch[2])
    assert drain_ids(engine) == ["b", "d"]


def test_a_backlog_of_one_key_hides_nobody() -> None:
    """A hand-out looks past 20,000 jobs behind a held key without looking at one of them (SQS looks at 120,000 at most)."""
    engine = engine_with(per_key=FIFO)
    for _ in range(20_000):
        enqueue(engine, key="busy")
    held = dequeue(engine)
    enqueue(engine, id="other", key="quiet")
    queue = engine.queues["default"]
    assert isinstance(queue, FlowQueue)
    assert queue.ready_keys.entries <= 3, "a key that is held back is not among those that are looked at"
    assert drain_ids(engine) == ["other"]
    end(engine, held)
    assert queue.ready_keys.live == 1


def test_jobs_that_wait_for_their_key_are_listed_and_counted() -> None:
    """What is held back is queued as any other: listings, counts and a purge find it, and `held` says how much it is (BullMQ)."""
    engine = engine_with(per_key=FIFO)
    for name in "abc":
        enqueue(engine, id=name, key="k")
    dequeue(engine)
    found, _ = engine.page(JobFilter(queue="default", key="k"))
    assert [job.id for job in found] == ["c", "b", "a"]
    stats = engine.queues["default"].stats()
    assert (stats.queued, stats.held, stats.held_by) == (2, 2, {"order": 2})
    assert sum(engine.purge(NOW, "default", jobs) for jobs in engine.waiting("default", 10)) == 2
    invariants(engine)


def test_a_final_failure_halts_its_key_until_somebody_decides() -> None:
    """With `halt` a key stands still for a failure, over a full history and a restart too (Oban took that out, and it was missed)."""
    engine = make_engine(history_jobs_max=1)
    engine.put_policy("default", QueuePolicy(per_key=HALT))
    enqueue(engine, id="bad", key="k")
    enqueue(engine, id="next", key="k")
    end(engine, dequeue(engine), FINAL)
    for _ in range(3):
        other = enqueue(engine)
        end(engine, dequeue(engine), FINAL)
    assert [job.id for job in engine.history.jobs(Outcome.FAILED)] == [other.id], "history is full"
    for each in (restarted(engine, NOW), engine):
        assert drain_ids(each) == []
        (why,) = waiting_for(each, each.job("next"), 1)
        assert (why.kind, why.block, why.job) == ("key", "halted", "bad")
        each.retry(NOW, "bad")
        again = dequeue(each)
        assert again.id == "bad", "in its old place, before those behind it"
        end(each, again)
        assert drain_ids(each) == ["next"]


def test_a_halted_key_goes_on_when_its_job_is_given_up_or_the_key_resumed() -> None:
    """A cancel of the failed job, or a resume of its key, lets the next go, and tells those who wait."""
    for give_up in (lambda engine: engine.cancel(NOW, "bad"), lambda engine: engine.pause_key("default", "k", False)):
        engine = engine_with(per_key=HALT)
        enqueue(engine, id="bad", key="k")
        enqueue(engine, id="next", key="k")
        end(engine, dequeue(engine), FINAL)
        assert not engine.available("default")
        engine.take_events()
        give_up(engine)
        assert Kind.FREED in {event.kind for event in engine.take_events()}
        assert engine.job("bad").outcome is Outcome.FAILED
        assert drain_ids(engine) == ["next"]


@pytest.mark.parametrize("bound", ["server", "queue", "key"])
def test_a_halted_key_that_has_filled_the_queue_can_be_retried(bound: str) -> None:
    """Jobs pile up behind the failure until nothing more may come in: the retry that would free them is not refused for that."""
    engine = make_engine(jobs_max=4) if bound == "server" else make_engine()
    policy = QueuePolicy(per_key=PerKey("halt", max_jobs=3 if bound == "key" else None), max_jobs=3 if bound == "queue" else None)
    engine.put_policy("default", policy)
    enqueue(engine, id="bad", key="k")
    end(engine, dequeue(engine), FINAL)
    for _ in range(3):
        enqueue(engine, key="k")
    with pytest.raises(QueueFull):
        enqueue(engine, key="k")
    engine.retry(NOW, "bad")
    invariants(engine)
    assert dequeue(engine).id == "bad"


def test_a_holder_that_waits_and_ends_wakes_those_behind_it() -> None:
    """A job in its backoff is cancelled, purged or expires: its key is free, and that is said to those who stand and wait."""
    for how in ("cancel", "purge", "expire"):
        engine = engine_with(per_key=FIFO)
        enqueue(engine, id="a", key="k", expires_in=5.0 if how == "expire" else None)
        enqueue(engine, id="b", key="k")
        end(engine, dequeue(engine), AGAIN)
        assert not engine.available("default")
        engine.take_events()
        if how == "cancel":
            engine.cancel(NOW, "a")
        elif how == "purge":
            engine.purge(NOW, "default", [engine.job("a")])
        else:
            engine.tick(NOW + 5)
        assert engine.available("default")
        assert Kind.FREED in {event.kind for event in engine.take_events()}


def test_a_holder_of_low_priority_passes_nobody_but_its_own_key() -> None:
    """A job that comes back goes before all others of its key, and before no more urgent job of another."""
    engine = engine_with(per_key=FIFO)
    enqueue(engine, id="slow", key="k", priority=9)
    engine.release(NOW, "slow", token_of(dequeue(engine)))
    enqueue(engine, id="urgent", key="l", priority=0)
    assert drain_ids(engine) == ["urgent", "slow"]


# Limits.


@pytest.mark.parametrize("lost", ["lease", "crash", "undelivered", "cancel", "policy"])
def test_no_slot_leaks(lost: str) -> None:
    """The lease is the slot: whatever ends it, the slot of the queue and that of the key are free again."""
    engine = engine_with(concurrency=1, per_key=PerKey(concurrency=1), lease_seconds=10.0, max_attempts=9)
    enqueue(engine, id="a", key="k")
    enqueue(engine, id="b", key="k")
    taken, now = dequeue(engine), NOW + 1
    assert drain_ids(engine) == []
    if lost == "crash":
        engine, now = restarted(engine, now), NOW + 11
        assert drain_ids(engine, NOW + 2) == [], "the lease lives on, and so does its slot"
    if lost in ("lease", "crash"):
        now = NOW + 11
        ticked(engine, now)
    elif lost == "undelivered":
        assert engine.put_back(now, "a", token_of(taken))
    elif lost == "cancel":
        engine.cancel(now, "a")
        engine.release(now, "a", token_of(taken))
    else:
        change(engine, now, concurrency=None, per_key=None)
        change(engine, now, concurrency=1, per_key=PerKey(concurrency=1))
        assert drain_ids(engine, now) == [], "what is in progress counts, whenever it was taken"
        end(engine, taken, now=now)
    assert len(drain_ids(engine, now)) == 1
    invariants(engine)


def test_several_limits_never_lock_each_other() -> None:
    """All limits are looked at before any is taken: a job that one refuses takes nothing of the others (Hatchet)."""
    engine = engine_with(concurrency=2, rate=Rate(10, 10.0, 10), per_key=PerKey("none", 1, Rate(10, 10.0, 10)))
    for key in ("k", "k", "k", "l"):
        enqueue(engine, id=None, key=key)
    first = engine.dequeue(NOW, Want(limit=9))
    assert [job.key for job in first] == ["k", "l"]
    queue = engine.queues["default"]
    assert isinstance(queue, FlowQueue)
    before = queue.bucket.full_at
    for _ in range(50):
        assert drain_ids(engine) == []
    assert queue.bucket.full_at == before, "who is refused pays nothing"
    end(engine, first[0])
    assert [engine.job(name).key for name in drain_ids(engine)] == ["k"]


def test_lifting_all_limits_wakes_those_who_wait() -> None:
    """A queue whose last limit is taken away hands out what it held back, and says so."""
    engine = engine_with(concurrency=1)
    enqueue(engine)
    enqueue(engine)
    dequeue(engine)
    engine.take_events()
    engine.change_policy("default", PolicyChange(concurrency=None))
    assert engine.available("default")
    assert Kind.FREED in {event.kind for event in engine.take_events()}


def test_paused_keys_are_known_after_a_restart() -> None:
    """A key that was paused and has no jobs is counted and shown before and after a restart alike."""
    engine = engine_with()
    engine.pause_key("default", "k", True)
    ticked(engine, NOW)
    other = restarted(engine, NOW)
    assert engine.queues["default"].stats().keys == other.queues["default"].stats().keys == 1


# Fairness.


def served(engine: Engine, count: int, tenants: dict[str, int], now: float = NOW) -> dict[str, int]:
    """One worker takes one job after the other; each of `tenants` has so many at once and sends a new one for each that has ended."""
    got = dict.fromkeys(tenants, 0)
    for key, backlog in tenants.items():
        for _ in range(backlog):
            enqueue(engine, now, key=key)
    for _ in range(count):
        job = dequeue(engine, now)
        assert job.key is not None
        got[job.key] += 1
        engine.conclude(now, job.id, token_of(job), DONE)
        enqueue(engine, now, key=job.key)
    return got


def test_fairness_minds_what_is_running() -> None:
    """A key whose jobs take long has them running: others go first, though it has been served less often."""
    engine = engine_with(fair=True)
    for _ in range(3):
        enqueue(engine, key="slow")
    slow = engine.dequeue(NOW, Want(limit=2))
    for _ in range(3):
        enqueue(engine, key="quick")
    for _ in range(3):
        job = dequeue(engine)
        assert job.key == "quick"
        end(engine, job)
    end(engine, slow[0])
    assert dequeue(engine).key == "slow"


def test_weights_are_kept_to_and_belong_to_the_queue() -> None:
    """Weights 1 and 3 give 1 and 3, and a key has the one that the policy says, from the moment on that it says so."""
    engine = engine_with(fair=True, weights={"big": 3.0})
    got = served(engine, 4_000, {"small": 50, "big": 50})
    assert abs(got["big"] - 3_000) <= 2
    change(engine, weights={"small": 3.0})
    got = served(engine, 4_000, {"small": 0, "big": 0})
    assert abs(got["small"] - 3_000) <= 2


@pytest.mark.parametrize("workers", [1, 2, 3, 4, 5, 10, 33])
@pytest.mark.parametrize("weight", [3.0, 1.5, 0.4])
def test_weights_are_kept_to_however_many_workers_there_are(weight: float, workers: int) -> None:
    """Shares of what is in progress are seldom whole numbers of jobs: of two workers each key had one for ever, whatever its weight."""
    engine = engine_with(fair=True, weights={"weighed": weight})
    enqueue(engine, key="plain")
    running = []
    random = Random(16)
    got = Counter[str]()
    for _ in range(4_000):
        for key in ("plain", "weighed"):
            enqueue(engine, key=key)
        if len(running) == workers:
            ended = running.pop(random.randrange(min(workers, 3)))
            engine.conclude(NOW, ended.id, token_of(ended), DONE)
        running.append(job := dequeue(engine))
        got[str(job.key)] += 1
    assert abs(got["weighed"] / got["plain"] / weight - 1.0) < 0.05


def test_a_queue_that_weighs_no_more_goes_by_age() -> None:
    """What was a line of its own, by its weight, is in the one line of all again."""
    engine = engine_with(fair=True, per_key=FIFO, weights={"b": 3.0})
    for key in "abc":
        enqueue(engine, key=key)
    change(engine, fair=False)
    assert [dequeue(engine).key for _ in range(3)] == ["a", "b", "c"]


@pytest.mark.parametrize(("weights", "expected"), [({}, 500), ({"one": 0.5}, 333), ({"one": 4.0}, 800)])
def test_coming_for_each_job_anew_gains_nothing(weights: dict[str, float], expected: int) -> None:
    """A key that has one job at a time, and is forgotten between two, gets what it would get with a backlog."""
    engine = engine_with(fair=True, weights=weights)
    got = served(engine, 1_000, {"many": 100, "one": 1})
    assert abs(got["one"] - expected) <= 2


def test_idle_keys_save_no_credit() -> None:
    """A key that comes back after 1,000 hand-outs to others does not go first for as long."""
    engine = engine_with(fair=True)
    served(engine, 1_000, {"busy": 10})
    for _ in range(100):
        enqueue(engine, key="late")
    got = served(engine, 20, {"busy": 0, "late": 0})
    assert 9 <= got["late"] <= 11


def test_a_key_of_little_weight_sends_newcomers_to_no_backlog() -> None:
    """A hand-out to a key of weight 0.01 counts as a hundred, for that key and for nobody who comes after it."""
    engine = engine_with(fair=True, weights={"light": 0.01})
    for _ in range(300):
        enqueue(engine, key="many")
    held = engine.dequeue(NOW, Want(limit=101))
    enqueue(engine, key="light")
    light = dequeue(engine)
    assert light.key == "light", "it has so little in progress that it goes first, whatever it has had"
    for job in held:
        engine.conclude(NOW, job.id, token_of(job), DONE)
    got = served(engine, 20, {"many": 0, "new": 5})
    assert 9 <= got["new"] <= 11


def test_a_backlog_does_not_overtake_once_fairness_is_enabled() -> None:
    """The jobs that are there when it begins are put in line by key like those that come (Temporal's were not)."""
    engine = engine_with()
    for _ in range(1_500):
        enqueue(engine, key="old")
    for _ in range(10):
        enqueue(engine, key="new")
    engine.change_policy("default", PolicyChange(fair=True))
    assert drain_ids(engine) == [], "nothing is handed out while they are sorted"
    ticked(engine, NOW)
    got = served(engine, 20, {"old": 0, "new": 0})
    assert got == {"old": 10, "new": 10}


def test_a_shared_limit_admits_as_many_as_it_says() -> None:
    """What may go is counted by who is in progress, not by who stands in front, however many ask at once (Hatchet)."""
    engine = engine_with(fair=True, concurrency=3)
    for n in range(30):
        enqueue(engine, key=f"k{n % 10}")
    assert sum(len(engine.dequeue(NOW, Want(limit=2))) for _ in range(20)) == 3
    assert engine.queues["default"].in_progress == 3


def test_jobs_without_a_key_are_one_key() -> None:
    """They starve nobody and nobody starves them: together they get what one key gets."""
    engine = engine_with(fair=True)
    for _ in range(100):
        enqueue(engine)
    for key in ("k", "l"):
        for _ in range(100):
            enqueue(engine, key=key)
    keys = [engine.job(name).key for name in (drain_ids_one(engine) for _ in range(30))]
    assert [keys.count(key) for key in (None, "k", "l")] == [10, 10, 10]


def drain_ids_one(engine: Engine) -> str:
    """Take one job and end it."""
    job = dequeue(engine)
    engine.conclude(NOW, job.id, token_of(job), DONE)
    return job.id


def test_an_undelivered_hand_out_costs_a_key_nothing() -> None:
    """A key whose answers cannot be written is not served less for it."""
    engine = engine_with(fair=True)
    for key in ("k", "l"):
        for _ in range(20):
            enqueue(engine, key=key)
    for _ in range(10):
        job = dequeue(engine)
        assert job.key == "k"
        assert engine.put_back(NOW, job.id, token_of(job))
    assert served(engine, 20, {"k": 0, "l": 0}) == {"k": 10, "l": 10}


# Walks.


@pytest.mark.parametrize("keys", [1, 100_000])
def test_no_turn_of_a_walk_looks_at_more_than_it_may(keys: int) -> None:
    """100,000 jobs are sorted by key, looked at anew, and forgotten again, and no turn of the ticker looks at more than 1,000."""
    engine = engine_with(max_jobs=None)
    for n in range(100_000):
        enqueue(engine, key=str(n % keys))
    looked: list[int] = []
    flow_due = engine._flow_due
    engine._flow_due = lambda item, now: looked.append(flow_due(item, now)) or looked[-1]  # type: ignore[method-assign, func-returns-value]
    for fields in ({"fair": True}, {"weights": {"1": 2.0}}, {"fair": False}):
        engine.change_policy("default", PolicyChange(**fields))
        total = 0
        while (due := engine.next_deadline()) is not None and due <= NOW:
            looked.clear()
            engine.tick(NOW, 500)
            assert sum(looked) <= 1_000
            total += sum(looked)
        assert total >= (100_000 if fields != {"weights": {"1": 2.0}} else keys)


# Over a restart, and where another server follows.


def test_a_failure_that_halts_nothing_more_does_not_halt_again() -> None:
    """A queue minds keys no more, the server ends before that is written of its failed job, and later the queue minds keys again."""
    engine = engine_with(per_key=HALT)
    enqueue(engine, id="bad", key="k")
    end(engine, dequeue(engine), FINAL)
    engine.change_policy("default", PolicyChange(per_key=None))
    other = restarted(engine, NOW)
    assert [(event.kind, event.job and event.job.id) for event in other.take_events()] == [(Kind.CHANGED, "bad")], "it is to be written"
    other.change_policy("default", PolicyChange(per_key=HALT))
    enqueue(other, id="next", key="k")
    ticked(other, NOW)
    assert drain_ids(restarted(other, NOW)) == ["next"]


def followed(follower: Engine, engine: Engine, *names: str) -> None:
    """Tell one engine of the jobs of another, all or these."""
    queues = [decode_queue(name, encode_queue(queue)) for name, queue in engine.queues.items()]
    jobs = [decode_job(job.number, encode_job(job, job.number), job.payload) for job in engine.jobs.oldest_first(0)]
    told = [stored for stored in jobs if not names or stored.job.id in names]
    for _ in follow(follower, Changes(told, [], queues, [], engine.jobs.next_number)):
        pass
    invariants(follower)


def test_a_follower_sorts_each_job_once() -> None:
    """A queue begins to mind keys in the very commit in which its jobs have changed."""
    engine = engine_with(max_attempts=5)
    follower = make_engine()
    begin(follower)
    for name in "abc":
        enqueue(engine, id=name, key="k")
    followed(follower, engine)
    engine.release(NOW, "a", token_of(dequeue(engine)), 5.0)
    change(engine, per_key=FIFO)
    followed(follower, engine)
    queue = follower.queues["default"]
    assert isinstance(queue, FlowQueue)
    assert (queue.states["k"].live, queue.states["k"].queued) == (3, 2)


def test_a_follower_takes_a_changed_job_that_stands_behind_others_of_its_key() -> None:
    """Its old place in the key's line is still there, beside the new one: two jobs of one place, of which a heap asks which is less."""
    engine = engine_with(per_key=PerKey("none", 5), max_attempts=9)
    follower = make_engine()
    begin(follower)
    for name in "abc":
        enqueue(engine, id=name, key="k")
    followed(follower, engine)
    first, _ = engine.dequeue(NOW, Want(limit=2))
    engine.put_back(NOW, first.id, token_of(first))
    ticked(engine, NOW + 1_000)
    assert [job.attempts for job in engine.queues["default"].jobs()] == [0, 1, 0]
    followed(follower, engine, "b")
    end_of_following(follower)
    follower.resume(NOW + 1_000)
    assert drain_ids(follower, NOW + 1_000) == ["a", "b", "c"]


def test_resuming_a_key_is_not_lost_while_its_queue_is_sorted() -> None:
    """A key is resumed before the walk has come to the failed job that halts it: it goes on all the same."""
    engine = engine_with(per_key=HALT)
    enqueue(engine, id="bad", key="k")
    enqueue(engine, id="next", key="k")
    end(engine, dequeue(engine), FINAL)
    engine.change_policy("default", PolicyChange(per_key=None))
    engine.change_policy("default", PolicyChange(per_key=HALT))
    engine.pause_key("default", "k", False)
    ticked(engine, NOW)
    assert drain_ids(engine) == ["next"]


def test_a_follower_leaves_it_to_the_other_to_give_up_what_halts_nothing() -> None:
    """What no longer halts comes into history when the other engine says so, or, if that never did, when this one goes on in its place."""
    for told in (True, False):
        engine = engine_with(per_key=HALT)
        follower = make_engine()
        begin(follower)
        enqueue(engine, id="bad", key="k")
        end(engine, dequeue(engine), FINAL)
        engine.change_policy("default", PolicyChange(per_key=None))
        enqueue(engine, id="other")
        end(engine, dequeue(engine), FINAL)
        followed(follower, engine)
        assert [job.id for job in follower.pinned] == ["bad"]
        if told:
            ticked(engine, NOW)
            followed(follower, engine, "bad")
            assert not follower.pinned
        assert not follower.events, "a standby lives for months, and nobody takes its events"
        end_of_following(follower)
        assert [job.id for job in follower.history.jobs(Outcome.FAILED)] == ["other", "bad"]
        assert [event.kind for event in follower.events] == ([] if told else [Kind.CHANGED])
        invariants(follower)
