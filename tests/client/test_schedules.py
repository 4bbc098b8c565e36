"""Schedules, by either client."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from jobqueue import BadRequest, ConnectionFailed, NewJob, UnknownSchedule

from .conftest import Connect
from .rig import DROP, SWALLOW, Face, proxied

START = datetime(2024, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


async def test_a_schedule_goes_in_and_comes_out(api: Face) -> None:
    """Every rule reaches the server; what comes out may be put again, and is then as it was."""
    rules = {
        "cron": "0 9 * * mon-fri",
        "timezone": "Europe/Berlin",
        "missed": "all",
        "catch_up": 60.0,
        "overlap": "queue",
        "jitter": 5.0,
        "paused": True,
        "starts_at": START,
        "ends_at": datetime(2100, 1, 1, tzinfo=UTC),
    }
    made = await api.schedules.put("s", NewJob({"n": 1}, queue="q", tags=["nightly"]), **rules)
    assert {rule: getattr(made, rule) for rule in rules} == rules
    assert (made.job.payload, made.job.queue, made.job.tags, made.every, made.next) == ({"n": 1}, "q", ["nightly"], None, ())
    assert await api.schedules.put("s", made.job, **rules) == made
    assert await api.schedules.get("s") == made
    assert len((await api.schedules.resume("s")).next) == 5
    assert (await api.schedules.pause("s")).paused


async def test_rules_are_changed(api: Face) -> None:
    """What is not said stays; None takes a bound away; a wrong one is named and changes nothing."""
    await api.schedules.put("s", NewJob(1), every=60, ends_at=datetime(2100, 1, 1, tzinfo=UTC))
    changed = await api.schedules.change("s", cron="@daily", ends_at=None, job=NewJob(2))
    assert (changed.cron, changed.every, changed.ends_at, changed.job.payload) == ("@daily", None, None, 2)
    assert await api.schedules.change("s") == changed
    naive = START.replace(tzinfo=None)
    for wrong, field in (({"cron": "x"}, "cron"), ({"every": float("inf")}, "every"), ({"starts_at": naive}, "starts_at")):
        with pytest.raises(BadRequest) as refused:
            await api.schedules.change("s", **wrong)
        assert refused.value.field == field
    with pytest.raises(BadRequest) as refused:
        await api.schedules.put("t", NewJob(1, id="x"), every=60)
    assert refused.value.field == "job.id"
    with pytest.raises(BadRequest) as refused:
        await api.schedules.put("t", NewJob(1, delay=float("nan")), every=60)
    assert refused.value.field == "delay"
    assert await api.schedules.get("s") == changed


async def test_all_are_listed_without_their_payloads(api: Face) -> None:
    """Over the pages of a server."""
    for number in range(101):
        await api.schedules.put(f"s{number:03d}", NewJob("large"), every=60)
    found = await api.schedules.list()
    assert [each.name for each in found] == [f"s{number:03d}" for number in range(101)]
    assert (found[0].job.payload, len(found[0].next)) == (msgspec.UNSET, 1)


async def test_it_is_run_filled_in_and_deleted(api: Face) -> None:
    """Jobs say which schedule and slot they are of, to whoever sees them."""
    await api.schedules.put("s", NewJob(1), every=86_400, starts_at=START, overlap="allow")
    assert (await api.schedules.run("s")).id == "s@run-1"
    assert await api.schedules.backfill("s", START, START + DAY) == ["s@2024-01-01T00:00:00Z", "s@2024-01-02T00:00:00Z"]
    assert (await api.job("s@run-1")).schedule.slot is None
    assert [(job.schedule.name, job.schedule.slot) for job in (await api.jobs(limit=2)).jobs] == [("s", START + DAY), ("s", START)]
    assert (await api.dequeue()).schedule.name == "s"
    assert (await api.enqueue(1, id="plain")).created
    assert (await api.job("plain")).schedule is None
    shown = await api.schedules.get("s")
    assert (shown.made, shown.last_job, len(shown.running)) == (3, "s@2024-01-02T00:00:00Z", 3)
    await api.schedules.delete("s")
    for ask in ("get", "delete", "run", "pause", "resume", "change"):
        with pytest.raises(UnknownSchedule):
            await getattr(api.schedules, ask)("s")


async def test_what_was_lost_is_asked_again_but_not_a_run(connect: Connect, url: str) -> None:
    """A run whose answer was lost may have made its job, and a second one would be another."""
    async with proxied(url, SWALLOW) as proxy:
        api = connect(proxy.url)
        await api.schedules.put("s", NewJob(1), every=60)
        proxy.plan[:] = [DROP, SWALLOW]
        assert (await api.schedules.put("s", NewJob(1), every=30)).every == 30.0
        proxy.plan[:] = [SWALLOW]
        with pytest.raises(ConnectionFailed):
            await api.schedules.run("s")
        assert (await api.schedules.get("s")).made == 1
