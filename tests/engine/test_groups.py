"""Groups: members are counted, callbacks are enqueued once, and groups that nobody needs any more go away."""

from __future__ import annotations

import pytest

from jobqueue.engine.engine import Engine
from jobqueue.engine.events import K_GROUP_CONCLUDED
from jobqueue.engine.groups import Group
from jobqueue.errors import BadRequest, GroupClosed, IdConflict, QueueFull, TooManyGroups, UnknownGroup
from jobqueue.group import GroupSpec
from jobqueue.model import JobSpec, Outcome, Status, Verdict
from jobqueue.policy import QueuePolicy
from tests.factories import FINALLY_FAILED, NOW, SUCCEEDED, dequeue, enqueue, make_engine, token_of

from .invariants import fingerprint
from .test_graph import end, look

ALWAYS = JobSpec(payload=b'"always"', queue="after")
ONLY = JobSpec(payload=b'"only"', queue="after")


def create(engine: Engine, group_id: str = "g", **fields: object) -> Group:
    """Make a group with both callbacks."""
    spec = GroupSpec(id=group_id, **{"on_concluded": ALWAYS, "on_succeeded": ONLY, **fields})  # type: ignore[arg-type]
    return engine.groups.create(spec, NOW, lambda: "made-up")[0]


def made(engine: Engine) -> list[str]:
    """The ids of all callbacks there are."""
    return [job.id for job in engine.jobs.all() if job.queue == "after"]


def counts(engine: Engine, group: Group) -> tuple[int, ...]:
    """Live members, and those that ended, by outcome."""
    stats = engine.groups.stats(group)
    return stats.live, stats.succeeded, stats.failed, stats.cancelled_jobs, stats.expired


def test_callbacks_come_in_the_step_of_the_last_end() -> None:
    """Once it is closed, and once each."""
    engine = make_engine()
    group = create(engine)
    for name in ("one", "two"):
        enqueue(engine, id=name, group="g")
    end(engine, "one")
    engine.groups.close("g", NOW)
    assert (counts(engine, group), made(engine)) == ((1, 1, 0, 0, 0), [])
    engine.take_events()
    end(engine, "two")
    assert made(engine) == ["g:concluded", "g:succeeded"]
    assert [event.queue for event in engine.take_events() if event.kind is K_GROUP_CONCLUDED] == ["group/g"]
    engine.groups.close("g", NOW)
    assert len(made(engine)) == 2
    look(engine)


def test_an_open_group_fires_nothing() -> None:
    """More may join, also when all have ended."""
    engine = make_engine()
    create(engine)
    enqueue(engine, id="one", group="g")
    end(engine, "one")
    assert made(engine) == []
    enqueue(engine, id="two", group="g")
    engine.groups.close("g", NOW)
    assert made(engine) == []
    end(engine, "two")
    assert len(made(engine)) == 2
    look(engine)


def test_an_empty_group_fires_at_close() -> None:
    """All of nobody have succeeded."""
    engine = make_engine()
    create(engine)
    engine.groups.close("g", NOW)
    assert made(engine) == ["g:concluded", "g:succeeded"]
    look(engine)


@pytest.mark.parametrize("outcome", list(Outcome))
def test_every_outcome_is_an_end(outcome: Outcome) -> None:
    """Cancelled and expired members count like others (oban#799); on_succeeded comes only where all have succeeded."""
    engine = make_engine()
    group = create(engine)
    enqueue(engine, id="one", group="g", expires_in=5.0)
    engine.groups.close("g", NOW)
    if outcome is Outcome.EXPIRED:
        engine.tick(NOW + 5)
    elif outcome is Outcome.CANCELLED:
        engine.cancel(NOW, "one")
    else:
        end(engine, "one", SUCCEEDED if outcome is Outcome.SUCCEEDED else FINALLY_FAILED)
    assert made(engine) == (["g:concluded", "g:succeeded"] if outcome is Outcome.SUCCEEDED else ["g:concluded"])
    assert sum(counts(engine, group)[1:]) == 1
    look(engine, NOW + 5)


def test_attempts_and_dead_letters_are_no_ends() -> None:
    """Callbacks do not come while a member is to be tried again, or waits as a dead letter (sidekiq#1697, sidekiq#5740)."""
    engine = make_engine()
    engine.put_policy("default", QueuePolicy(lease_seconds=10, max_attempts=2, dead_letter="dead"))
    create(engine)
    enqueue(engine, id="one", group="g")
    engine.groups.close("g", NOW)
    end(engine, "one", Verdict(outcome=Outcome.FAILED, retry_delay=0.0))
    look(engine)
    end(engine, "one", FINALLY_FAILED)
    assert (engine.job("one").queue, made(engine)) == ("dead", [])
    end(engine, "one", queue="dead")
    assert made(engine) == ["g:concluded", "g:succeeded"]
    look(engine)


def test_a_retry_counts_back_and_success_may_come_then() -> None:
    """on_concluded has come and comes no more; on_succeeded comes when all have succeeded after all."""
    engine = make_engine()
    group = create(engine)
    enqueue(engine, id="one", group="g")
    engine.groups.close("g", NOW)
    end(engine, "one", FINALLY_FAILED)
    assert made(engine) == ["g:concluded"]
    engine.retry(NOW, "one")
    assert (counts(engine, group), group.over) == ((1, 0, 0, 0, 0), False)
    look(engine)
    end(engine, "one")
    assert made(engine) == ["g:concluded", "g:succeeded"]
    assert counts(engine, group) == (0, 1, 0, 0, 0)
    look(engine)


def test_nobody_joins_a_closed_group_or_one_that_is_not_there() -> None:
    """Nothing is changed, and a repeat of an enqueue from before is answered the job."""
    engine = make_engine()
    create(engine)
    job = enqueue(engine, id="one", group="g")
    engine.groups.close("g", NOW)
    before = fingerprint(engine)
    with pytest.raises(GroupClosed) as closed:
        enqueue(engine, group="g")
    with pytest.raises(UnknownGroup) as unknown:
        enqueue(engine, group="h")
    assert closed.value.field == unknown.value.field == "group"
    assert enqueue(engine, id="one", group="g") is job
    with pytest.raises(IdConflict):
        enqueue(engine, id="one")
    assert fingerprint(engine) == before


def test_a_callback_without_room_is_owed() -> None:
    """It comes as soon as its queue has room (celery#4207), and the group says what it waits for."""
    engine = make_engine()
    group = create(engine)
    engine.put_policy("after", QueuePolicy(lease_seconds=10, max_jobs=1))
    engine.groups.close("g", NOW)
    stats = engine.groups.stats(group)
    assert made(engine) == ["g:concluded"]
    assert stats.on_succeeded is not None
    assert (stats.on_succeeded.state, "its limit of" in (stats.on_succeeded.problem or "")) == ("owed", True)
    look(engine)
    end(engine, "g:concluded", queue="after")
    look(engine, NOW + 1)
    assert made(engine) == ["g:concluded", "g:succeeded"]
    assert engine.groups.stats(group).on_succeeded is not None


def test_a_full_server_has_room_for_callbacks() -> None:
    """It is kept from when the group is made."""
    engine = make_engine(jobs_max=3)
    create(engine)
    enqueue(engine, id="one", group="g")
    with pytest.raises(QueueFull):
        enqueue(engine, id="two")
    with pytest.raises(QueueFull):
        create(engine, "h")
    engine.groups.close("g", NOW)
    end(engine, "one")
    assert made(engine) == ["g:concluded", "g:succeeded"]
    look(engine)


def test_another_job_under_a_callbacks_id_is_not_in_its_way() -> None:
    """It gets another id, which the group tells."""
    engine = make_engine()
    group = create(engine, on_succeeded=None)
    enqueue(engine, id="g:concluded")
    engine.groups.close("g", NOW)
    stats = engine.groups.stats(group)
    assert stats.on_concluded is not None
    assert stats.on_concluded.job is not None
    assert stats.on_concluded.job.startswith("g:concluded:")
    assert engine.job(stats.on_concluded.job).payload == ALWAYS.payload
    look(engine)


def test_cancel_closes_it_and_cancels_all_in_slices() -> None:
    """Members that wait at once, those in progress by a request; a member that is retried then runs."""
    engine = make_engine(history_jobs_max=10_000)
    group = create(engine)
    for number in range(1_200):
        enqueue(engine, id=str(number), group="g")
        enqueue(engine, id=f"other-{number}")
    taken = dequeue(engine)
    engine.groups.cancel("g", NOW)
    engine.tick(NOW, 500)
    engine.tick(NOW, 500)
    assert 0 < counts(engine, group)[0] < 1_200
    engine.retry(NOW, "1")
    look(engine)
    assert counts(engine, group) == (2, 0, 0, 1_198, 0)
    assert taken.lease is not None
    assert taken.lease.cancel_requested
    assert engine.job("1").status is Status.QUEUED
    assert engine.queues["default"].queued == 1_201
    engine.cancel(NOW, "1")
    engine.conclude(NOW, "0", token_of(taken), SUCCEEDED)
    assert made(engine) == ["g:concluded"]
    look(engine)


def test_a_group_is_cancelled_without_a_walk_over_all_jobs_at_once() -> None:
    """What came after its members is looked at in slices too."""
    engine = make_engine(history_jobs_max=10_000)
    create(engine)
    enqueue(engine, id="first", group="g")
    for _ in range(8_000):
        enqueue(engine)
    enqueue(engine, id="last", group="g")
    engine.groups.cancel("g", NOW)
    engine.tick(NOW, 1)
    assert engine.job("last").status is Status.QUEUED
    turns = 0
    while engine.next_deadline() is not None:
        engine.tick(NOW, 1)
        turns += 1
    assert turns > 4
    assert engine.job("first").outcome is engine.job("last").outcome is Outcome.CANCELLED
    look(engine)


def test_what_history_forgets_stays_counted() -> None:
    """A group may be larger than history."""
    engine = make_engine(history_jobs_max=2)
    group = create(engine)
    for number in range(5):
        enqueue(engine, id=str(number), group="g")
        end(engine, str(number), SUCCEEDED if number else FINALLY_FAILED)
    enqueue(engine, id="last")
    end(engine, "last", FINALLY_FAILED)
    end_two = enqueue(engine, id="last-2")
    engine.cancel(NOW, end_two.id)
    assert counts(engine, group) == (0, 4, 1, 0, 0)
    engine.groups.close("g", NOW)
    assert made(engine) == ["g:concluded"]
    look(engine)


def test_groups_that_have_concluded_are_forgotten_oldest_first() -> None:
    """Those that are not are as many as may be, and no more; members of one that is forgotten belong to none made anew."""
    engine = make_engine(groups_max=2, groups_kept_max=1)
    create(engine, "a")
    enqueue(engine, id="a-1", group="a")
    create(engine, "b")
    before = fingerprint(engine)
    with pytest.raises(TooManyGroups):
        create(engine, "c")
    assert fingerprint(engine) == before
    engine.groups.close("a", NOW)
    end(engine, "a-1", FINALLY_FAILED)
    engine.groups.close("b", NOW)
    assert [*engine.groups.groups] == ["b"]
    again = create(engine, "a")
    engine.retry(NOW, "a-1")
    assert counts(engine, again) == (0, 0, 0, 0, 0)
    end(engine, "a-1")
    look(engine)


def test_groups_that_owe_a_job_are_bounded() -> None:
    """They count as those that have not concluded, or each would be tried every second for ever; once paid, they are forgotten in turn."""
    engine = make_engine(groups_max=3, groups_kept_max=1)
    enqueue(engine, id="full", queue="after")
    engine.put_policy("after", QueuePolicy(lease_seconds=10, max_jobs=1))
    for name in "abc":
        create(engine, name, on_succeeded=None)
        engine.groups.close(name, NOW)
    with pytest.raises(TooManyGroups):
        create(engine, "d")
    look(engine)
    engine.put_policy("after", QueuePolicy(lease_seconds=10))
    look(engine, NOW + 1)
    assert len(engine.groups.groups) == 1
    assert len(made(engine)) == 4
    create(engine, "d")


def test_a_group_that_is_asked_for_again() -> None:
    """The same is answered the group, another is refused; without an id there is a new one."""
    engine = make_engine()
    group = create(engine)
    assert create(engine) is group
    with pytest.raises(IdConflict) as conflict:
        create(engine, on_succeeded=None)
    assert conflict.value.field == "on_succeeded"
    assert create(engine, None).stored.id == "made-up"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"id": "a b"}, "id"),
        ({"queue": "a b"}, "queue"),
        ({"on_concluded": JobSpec(payload=b"1", id="x")}, "on_concluded.id"),
        ({"on_concluded": JobSpec(payload=b"1", run_at=NOW)}, "on_concluded.run_at"),
        ({"on_succeeded": JobSpec(payload=b"1", after=("x",))}, "on_succeeded.after"),
        ({"on_succeeded": JobSpec(payload=b"1", group="g")}, "on_succeeded.group"),
        ({"on_succeeded": JobSpec(payload=b"1", queue="a b")}, "on_succeeded.queue"),
        ({"on_succeeded": JobSpec(payload=b"1", priority=10)}, "on_succeeded.priority"),
    ],
)
def test_a_bad_group_is_refused(fields: dict[str, object], field: str) -> None:
    """The field is named."""
    engine = make_engine()
    with pytest.raises(BadRequest) as caught:
        engine.groups.create(GroupSpec(**fields), NOW, lambda: "x")  # type: ignore[arg-type]
    assert caught.value.field == field
    assert not engine.groups.groups


def test_a_failure_that_cancels_other_members_ends_the_group_once() -> None:
    """Members may be after each other."""
    engine = make_engine()
    group = create(engine)
    enqueue(engine, id="one", group="g")
    enqueue(engine, id="two", group="g", after=("one",))
    enqueue(engine, id="three", group="g", after=("two",))
    engine.groups.close("g", NOW)
    end(engine, "one", FINALLY_FAILED)
    assert counts(engine, group) == (0, 0, 1, 2, 0)
    assert made(engine) == ["g:concluded"]
    look(engine)
