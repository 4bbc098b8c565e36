"""When something was paused, and who did it."""

from __future__ import annotations

import pytest

from jobqueue.backend.requests.schedules import ChangeSchedule, PutSchedule
from jobqueue.model import JobSpec
from jobqueue.policy import Pause, PolicyChange, QueuePolicy
from jobqueue.schedule import Schedule, ScheduleChange

from .rig import Rig


async def test_a_pause_is_kept_with_its_time_and_its_token(rig: Rig) -> None:
    """Until the queue goes on; to pause it once more changes neither, and nor does anything else that happens to its policy."""
    await rig.put("j")
    at = rig.utc()
    assert (await rig.backend.set_paused("default", True, "ann")).pause == Pause(pytest.approx(at, abs=0.01), "ann")
    await rig.advance(10)
    await rig.backend.set_paused("default", True, "ben")
    await rig.backend.change_policy("default", PolicyChange(max_attempts=3), "ben")
    assert (await rig.backend.queue("default")).pause == Pause(pytest.approx(at, abs=0.01), "ann")
    assert (await rig.backend.set_paused("default", False, "ben")).pause is None
    assert (await rig.backend.queue("default")).pause is None


@pytest.mark.parametrize("how", ["put", "patch"])
async def test_a_policy_that_pauses_says_who_it_was(rig: Rig, how: str) -> None:
    """A pause that comes with a policy is one like any other."""
    if how == "put":
        await rig.backend.put_policy("q", QueuePolicy(paused=True), "ann")
    else:
        await rig.backend.put_policy("q", QueuePolicy())
        await rig.backend.change_policy("q", PolicyChange(paused=True), "ann")
    at = rig.utc()
    assert (await rig.backend.queue("q")).pause == Pause(pytest.approx(at, abs=0.01), "ann")
    assert (await rig.backend.put_policy("q", QueuePolicy(), "ben")).pause is None


async def test_a_pause_of_nobody_has_a_time(rig: Rig) -> None:
    """Where nobody is asked for a token there is no name."""
    await rig.put("j")
    pause = (await rig.backend.set_paused("default", True)).pause
    assert pause is not None
    assert pause.by is None


async def test_a_pause_outlasts_a_limit(rig: Rig) -> None:
    """A queue that gets limits, or loses them, was paused by whoever did it."""
    await rig.put("j")
    await rig.backend.set_paused("default", True, "ann")
    for concurrency in (3, None):
        await rig.backend.change_policy("default", PolicyChange(concurrency=concurrency))
        pause = (await rig.backend.queue("default")).pause
        assert pause is not None
        assert pause.by == "ann"


async def test_who_paused_a_key(rig: Rig) -> None:
    """Each key has its own pause, whether it has jobs or not."""
    await rig.put("j", key="a")
    at = rig.utc()
    assert (await rig.backend.set_key_paused("default", "a", True, "ann")).pause == Pause(pytest.approx(at, abs=0.01), "ann")
    await rig.advance(5)
    await rig.backend.set_key_paused("default", "b", True, "ben")
    await rig.backend.set_key_paused("default", "a", True, "ben")
    found, _ = await rig.backend.keys("default", "", 10)
    assert {key.key: key.pause and key.pause.by for key in found} == {"a": "ann", "b": "ben"}
    assert (await rig.backend.set_key_paused("default", "a", False, "ben")).pause is None


async def test_who_paused_a_schedule(rig: Rig) -> None:
    """By whichever operation, until it goes on."""
    rules = Schedule(job=JobSpec(payload=b"1"), every=3600.0, paused=True)
    made = await rig.backend.ask(PutSchedule(name="s", schedule=rules, by="ann"))
    assert made.pause == Pause(pytest.approx(rig.utc(), abs=0.01), "ann")
    other = ChangeSchedule(name="s", change=ScheduleChange(overlap="allow"), by="ben")
    assert (await rig.backend.ask(other)).pause == made.pause
    on = ChangeSchedule(name="s", change=ScheduleChange(paused=False), by="ben")
    assert (await rig.backend.ask(on)).pause is None
    again = await rig.backend.ask(ChangeSchedule(name="s", change=ScheduleChange(paused=True), by="ben"))
    assert again.pause is not None
    assert again.pause.by == "ben"
